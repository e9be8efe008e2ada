"""What a machine has: parsed from texts as the tools print them. Only the memory of this machine is looked at."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.models import hardware
from poolcli.models.hardware import MIB, Gpu

#: As nvidia-smi answers `--query-gpu=name,memory.total,memory.free --format=csv,noheader,nounits`.
NVIDIA = "NVIDIA GeForce RTX 4090, 24564, 23010\nNVIDIA RTX A6000, 49140, 48669\n"
#: As `llama-server --list-devices` answers, the lines of its libraries included.
LISTED = """ggml_cuda_init: found 1 CUDA devices:
  Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9, VMM: yes
Available devices:
  CUDA0: NVIDIA GeForce RTX 4090 (24217 MiB, 23500 MiB free)
  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24000 MiB free)
  RPC[10.0.0.2:50052]: RPC[10.0.0.2:50052] (11000 MiB, 10000 MiB free)
"""
MEMINFO = (
    "MemTotal:       24684084 kB\nMemFree:        12308552 kB\nMemAvailable:   13063244 kB\nBuffers: 1 kB\n"
)
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            400000.
Pages inactive:                          200000.
Pages speculative:                         3000.
Pages wired down:                        100000.
Pages purgeable:                           7000.
"Translation faults":                 123456789.
"""


def device(name: str, kind: str, total: int, free: int) -> dict[str, object]:
    """One entry of xllamacpp's `get_device_info()`, its type as text."""
    return {
        "name": name,
        "description": f"the {name}",
        "memory_free": free,
        "memory_total": total,
        "type": f"ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_{kind}",
        "device_id": "",
        "caps": None,
    }


def test_nvidia() -> None:
    assert hardware.nvidia_gpus(NVIDIA) == (
        Gpu("NVIDIA GeForce RTX 4090", "CUDA", 24564 * MIB, 23010 * MIB),
        Gpu("NVIDIA RTX A6000", "CUDA", 49140 * MIB, 48669 * MIB),
    )
    for other in ("", "No devices were found\n", "NVIDIA-SMI has failed because it couldn't communicate\n"):
        assert hardware.nvidia_gpus(other) == ()
    assert hardware.nvidia_gpus("NVIDIA GB10, [N/A], [N/A]\n") == (), "a machine whose memory is shared"


def test_amd(tmp_path: Path) -> None:
    for name, total in (("card0", "17163091968\n"), ("card1", "")):
        folder = tmp_path / name / "device"
        folder.mkdir(parents=True)
        if total:
            (folder / "mem_info_vram_total").write_text(total)
            (folder / "mem_info_vram_used").write_text("163091968\n")
            (folder / "product_name").write_text("Radeon RX 7800 XT\n")
    (tmp_path / "card0-DP-1" / "device").mkdir(parents=True)
    (tmp_path / "card0-DP-1" / "device" / "mem_info_vram_total").write_text("1\n")
    assert hardware.amd_gpus(tmp_path) == (Gpu("Radeon RX 7800 XT", "ROCm", 17163091968, 17000000000),)
    assert hardware.amd_gpus(tmp_path / "none") == ()


def test_what_a_build_of_llama_server_lists() -> None:
    assert hardware.listed_gpus(LISTED) == (
        Gpu("NVIDIA GeForce RTX 4090", "CUDA", 24217 * MIB, 23500 * MIB),
        Gpu("AMD Radeon RX 7900 XTX (RADV NAVI31)", "Vulkan", 24560 * MIB, 24000 * MIB),
    )
    assert hardware.listed_gpus("Available devices:\n") == ()
    assert hardware.listed_gpus("error: invalid argument: --list-devices\n") == ()


def test_what_the_package_lists() -> None:
    devices = [
        device("CPU", "CPU", 24 << 30, 24 << 30),
        device("BLAS", "ACCEL", 0, 0),
        device("Vulkan1", "IGPU", 12 << 30, 11 << 30),
        device("CUDA0", "GPU", 24 << 30, 23 << 30),
    ]
    assert hardware.package_gpus(json.dumps(devices)) == (Gpu("the CUDA0", "CUDA", 24 << 30, 23 << 30),)
    assert hardware.package_gpus(json.dumps(devices[:3]))[0].backend == "Vulkan"
    assert hardware.package_gpus(json.dumps([device("MTL0", "GPU", 1, 1)]))[0].backend == "Metal"
    assert hardware.package_gpus(json.dumps(devices[:2])) == ()
    for other in ("", "{}", "[1, null]", '[{"type": "GPU", "memory_total": "x"}]', "[" * 100_000):
        assert all(gpu.total == 0 for gpu in hardware.package_gpus(other))


def test_the_packages_own_list_is_read_here() -> None:
    pytest.importorskip("xllamacpp")
    assert hardware._seen_by_package() == (), "the wheel from the package index knows the CPU alone"


def test_memory_of_linux_and_macos() -> None:
    assert hardware.meminfo_available(MEMINFO) == 13063244 * 1024
    assert hardware.meminfo_available("MemFree: 1 kB\n") == 0
    assert hardware.darwin_available(VM_STAT) == 16384 * (10000 + 200000 + 3000 + 7000)
    assert hardware.darwin_available("vm_stat: command not found") == 0


@pytest.mark.parametrize(
    ("limit", "usage", "stat", "room"),
    [
        ("max\n", "5000\n", "", 0),
        ("9223372036854771712\n", "5000\n", "", 0),
        ("8000000000\n", "3000000000\n", "anon 5\ninactive_file 1000000000\n", 6_000_000_000),
        ("8000000000\n", "3000000000\n", "inactive_file 7\ntotal_inactive_file 500000000\n", 5_000_000_007),
        ("1000\n", "2000\n", "", 1),
        ("", "", "", 0),
    ],
)
def test_the_room_in_a_control_group(limit: str, usage: str, stat: str, room: int) -> None:
    assert hardware.group_room(limit, usage, stat) == room


def test_the_groups_of_a_process() -> None:
    mount = Path("/m")
    assert hardware.group_folders("0::/user.slice/a.scope\n", mount) == [
        (mount / "user.slice" / "a.scope", 2),
        (mount / "user.slice", 2),
        (mount, 2),
    ]
    assert hardware.group_folders("4:memory,hugetlb:/docker/x\n3:cpu:/\n", mount) == [
        (mount / "memory" / "docker" / "x", 1),
        (mount / "memory" / "docker", 1),
        (mount / "memory", 1),
    ]
    assert hardware.group_folders("0::/../../etc\n", mount)[0] == (mount / "etc", 2), (
        "never outside of the mount"
    )


@given(st.text(max_size=300))
def test_no_text_makes_a_parser_fail(text: str) -> None:
    hardware.nvidia_gpus(text)
    hardware.listed_gpus("Available devices" + text)
    hardware.package_gpus(text)
    hardware.meminfo_available(text)
    hardware.darwin_available(text)
    hardware.group_room(text, text, text)
    hardware.group_folders(text)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine_has_memory() -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < hardware.available_memory() <= whole


def program(folder: Path, name: str, text: str) -> str:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def test_a_gpu_that_the_build_cannot_use_is_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "nvidia-smi", "echo 'NVIDIA L4, 23034, 22000'")
    plain = program(tmp_path / "bin", "plain-server", "echo 'error: invalid argument'; exit 1")
    able = program(tmp_path / "bin", "cuda-server", f"cat <<'END'\n{LISTED}END")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    found = hardware.look([plain])
    assert found.gpus == () and [gpu.name for gpu in found.idle] == ["NVIDIA L4"] and not found.gpu_memory
    found = hardware.look([able])
    assert len(found.gpus) == 2 and found.idle == () and found.gpu_memory == (23500 + 24000) * MIB


def test_a_tool_that_hangs_or_floods_is_given_up(tmp_path: Path) -> None:
    hanging = program(tmp_path / "bin", "hanging", "sleep 60")
    assert hardware._ask([hanging], 0.2) == ""
    assert hardware._ask([str(tmp_path / "none")]) == ""
    flood = program(tmp_path / "bin", "flood", "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end")
    assert len(hardware._ask([flood])) <= hardware.MAX_ANSWER
