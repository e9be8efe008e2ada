"""A model that knows nothing: the demonstration model's file with random numbers for its weights."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import BinaryIO

#: Types of metadata values: struct formats of the plain ones; 8 is a string, 9 an array.
PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
F16 = 1
#: Half-precision numbers keep their sign and fraction and get this exponent: ±(1 to 2)/64, so that the network
#: stays finite and its choice among the vocabulary nearly even.
KEEP, EXPONENT = 0x83FF, (15 - 6) << 10


def random_weights(source: Path, target: Path, seed: int) -> Path:
    """Write `source` to `target` with every half-precision matrix replaced; metadata and norms stay."""
    data = bytearray(source.read_bytes())
    for start, size in _matrices(source):
        data[start : start + size] = _halves(Random(seed), size)
        seed += 1
    target.write_bytes(data)
    return target


def tokens(file: Path) -> list[bytes]:
    """The tokens by number, as the file has them: bytes that are no ASCII are written out (`\\x80`)."""
    with file.open("rb") as gguf:
        assert gguf.read(4) == b"GGUF"
        _, _, pairs = _read(gguf, "IQQ")
        for _ in range(pairs):
            key, (kind,) = _string(gguf), _read(gguf, "I")
            if key == b"tokenizer.ggml.tokens":
                _, count = _read(gguf, "IQ")
                return [_string(gguf) for _ in range(count)]
            _value(gguf, kind)
    raise ValueError(f"{file} has no tokens")


def _halves(random: Random, size: int) -> bytes:
    """`size` bytes of random halves, made as one large number: a loop over millions would take seconds."""
    count = size // 2
    keep = int.from_bytes(struct.pack("<H", KEEP) * count, "little")
    exponent = int.from_bytes(struct.pack("<H", EXPONENT) * count, "little")
    return (int.from_bytes(random.randbytes(size), "little") & keep | exponent).to_bytes(size, "little")


def _matrices(file: Path) -> list[tuple[int, int]]:
    """Where each half-precision matrix begins, and how many bytes it has."""
    found: list[tuple[int, int]] = []
    with file.open("rb") as gguf:
        assert gguf.read(4) == b"GGUF"
        _, tensors, pairs = _read(gguf, "IQQ")
        alignment = 32
        for _ in range(pairs):
            key = _string(gguf)
            value = _value(gguf, *_read(gguf, "I"))
            alignment = value if key == b"general.alignment" else alignment
        for _ in range(tensors):
            _string(gguf)
            (dimensions,) = _read(gguf, "I")
            count = 1
            for length in _read(gguf, f"{dimensions}Q"):
                count *= length
            kind, offset = _read(gguf, "IQ")
            if kind == F16:
                found.append((offset, 2 * count))
        begin = -(-gguf.tell() // alignment) * alignment
    return [(begin + offset, size) for offset, size in found]


def _read(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))


def _string(file: BinaryIO) -> bytes:
    return file.read(*_read(file, "Q"))


def _value(file: BinaryIO, kind: int) -> int:
    """Skip a value; a plain one is given back."""
    if kind == STRING:
        _string(file)
        return 0
    if kind == ARRAY:
        kind, count = _read(file, "IQ")
        for _ in range(count):
            _value(file, kind)
        return 0
    return _read(file, PLAIN[kind])[0]
