#!/bin/bash
# Two single-threaded workers that average their gradients over loopback; arguments are train.py's.
# The MALLOC settings keep freed memory: giving it back to the system and faulting it in again costs half the time.
set -eu
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=1000000000 OMP_NUM_THREADS=1
export MASTER_ADDR=127.0.0.1 MASTER_PORT="${PORT:-29611}" WORLD_SIZE=2
python="${PYTHON:-python3}"
RANK=1 "$python" -m training.train "$@" >/dev/null 2>&1 &
other=$!
trap 'kill "$other" 2>/dev/null || true' EXIT
RANK=0 "$python" -m training.train "$@"
wait "$other"
