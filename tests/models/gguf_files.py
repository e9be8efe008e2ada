"""GGUF files made for tests: real headers, and weights as holes that take no space on the disk."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ALIGN = 32
#: Elements and bytes of a block of the types used here: F32, F16, Q8_0, Q4_K.
BLOCKS = {0: (1, 4), 1: (1, 2), 8: (32, 34), 12: (256, 144)}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(item: Any) -> bytes:
    """A value with its type in front: text, bool, whole number, number or a list of one of them."""
    match item:
        case str():
            return struct.pack("<I", 8) + text(item)
        case bool():
            return struct.pack("<IB", 7, item)
        case int():
            return struct.pack("<IQ", 10, item)
        case float():
            return struct.pack("<If", 6, item)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(item)) + b"".join(map(text, item))
        case [bool(), *_]:
            return struct.pack("<IIQ", 9, 7, len(item)) + bytes(item)
        case _:
            return struct.pack(f"<IIQ{len(item)}I", 9, 4, len(item), *item)


def header(
    values: Mapping[str, Any], tensors: Sequence[tuple[str, int, tuple[int, ...]]]
) -> tuple[bytes, int]:
    """The header, and how many bytes of weights have to follow it."""
    out = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(values))]
    out += [text(key) + value(item) for key, item in values.items()]
    offset = 0
    for name, kind, shape in tensors:
        elements, size = BLOCKS[kind]
        amount = size
        for extent in shape:
            amount *= extent
        amount //= elements
        out.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        offset += -(-amount // ALIGN) * ALIGN
    data = b"".join(out)
    return data + b"\0" * (-len(data) % ALIGN), offset


def write(
    path: Path, values: Mapping[str, Any], tensors: Sequence[tuple[str, int, tuple[int, ...]]] = ()
) -> Path:
    data, weights = header(values, tensors)
    with path.open("wb") as file:
        file.write(data)
        file.truncate(len(data) + weights)
    return path


def model(path: Path, *, layers: int = 4, arch: str = "llama", **more: Any) -> Path:
    """A small Llama: 512 wide, 8 heads of which 2 have keys and values, 1,000 tokens of vocabulary."""
    values = {
        "general.architecture": arch,
        "general.name": "A small one",
        "general.file_type": 15,
        f"{arch}.block_count": layers,
        f"{arch}.context_length": 32768,
        f"{arch}.embedding_length": 512,
        f"{arch}.attention.head_count": 8,
        f"{arch}.attention.head_count_kv": 2,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"t{n}" for n in range(1000)],
        "tokenizer.chat_template": "{{ messages }}",
        **{key.replace("__", "."): item for key, item in more.items()},
    }
    tensors = [("token_embd.weight", 8, (512, 1000)), ("output_norm.weight", 0, (512,))]
    for n in range(layers):
        tensors += [(f"blk.{n}.attn_q.weight", 12, (512, 512)), (f"blk.{n}.ffn_up.weight", 12, (512, 2048))]
    return write(path, values, tensors)
