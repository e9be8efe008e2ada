"""What a GGUF file says of itself, read from its header alone: kilobytes of a file of gigabytes.

Files come from strangers. Every count and length in one is a claim that is checked against the file's size and
our limits before anything is read or kept for it, so that no header makes this allocate more than it holds.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from msgspec import Struct

from poolcli.errors import UsageError

#: Limits of a header. The largest models in use have about 60 keys, 2,500 tensors, 130 layers, 260,000 tokens.
MAX_KEYS = 10_000
MAX_TENSORS = 200_000
MAX_LAYERS = 4_096
MAX_ARRAY = 20_000_000
#: Bytes of a string: some files carry a whole tokenizer as one, which takes about 10 MB.
MAX_STRING = 64_000_000
#: Bytes of a key or of a tensor's name (ggml itself keeps 63 of the latter).
MAX_NAME = 1_024
#: What is longer is passed over: no value that we use is a longer text, or a list of more numbers.
MAX_KEPT = 4_096
#: Parts of one model. The largest published are about 50.
MAX_PARTS = 1_000
#: Bytes read at once. A vocabulary takes several MB, the rest of a header a few hundred kB.
CHUNK = 1 << 20

#: Types of values: struct codes by number; 8 is a string, 9 an array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9

#: Types of tensors by number: name, elements of a block, bytes of a block.
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
#: Mixtures by the number in `general.file_type`; anything else is named after the type of most of its bytes.
MIXTURES = {
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    21: "Q2_K_S",
    22: "IQ3_XS",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
}

#: Every how many layers one sees the whole context, the others only a sliding window, for architectures whose
#: files give the window but not the pattern. One that is missing here is taken to see all: more memory, never less.
FULL_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "olmo2": 4}

PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)$", re.IGNORECASE)
LAYER = re.compile(r"blk\.(\d{1,5})\.")
#: Tensors of the input and of the output; the latter may be the former once more.
INPUT, OUTPUT = "token_embd.weight", "output.weight"


class Gguf(Struct, frozen=True):
    """A model's facts. Sizes are bytes, lengths are numbers; 0 and '' where the file does not say."""

    #: The file, or all parts of a split one in their order.
    parts: tuple[Path, ...]
    #: Of all files together.
    size: int
    architecture: str
    name: str
    #: Such as `Q4_K_M`, or the type of most of the weights.
    quantisation: str
    #: Context in tokens that it was trained for.
    trained_context: int
    embedding: int
    vocabulary: int
    heads: int
    #: Elements of a key and of a value of one head.
    key_length: int
    value_length: int
    #: For each layer its heads that have keys and values: 0 for one without attention.
    kv_heads: tuple[int, ...]
    #: For each layer whether it sees only the last `window` tokens.
    sliding: tuple[bool, ...]
    window: int
    #: Values are part of the keys and take no memory of their own (latent attention).
    shared_values: bool
    #: Bytes that each conversation needs for layers without attention, whatever its length.
    state: int
    experts: int
    #: Weights: all, those of each layer, of the input and of the output.
    weights: int
    layer_weights: tuple[int, ...]
    input_weights: int
    output_weights: int
    chat_template: bool
    tokenizer: str

    @property
    def layers(self) -> int:
        """How many layers it has."""
        return len(self.kv_heads)


class Header(Struct, frozen=True):
    """One file's header: values by key (long ones left out), lengths of arrays, tensors by name."""

    values: dict[str, Any]
    lengths: dict[str, int]
    #: For each tensor its type and its bytes.
    tensors: dict[str, tuple[int, int]]


def read(path: Path) -> Gguf:
    """What the file says, all its parts included. Raises UsageError for what is no whole GGUF file."""
    first = read_header(path)
    parts = _parts(path, first)
    headers = [first, *(read_header(part) for part in parts[1:])]
    tensors = {name: found for header in headers for name, found in header.tensors.items()}
    try:
        size = sum(part.stat().st_size for part in parts)
    except OSError as error:
        raise _unreadable(path, error) from error
    return summary(parts, size, first, tensors)


def _parts(path: Path, header: Header) -> tuple[Path, ...]:
    count = _number(header.values.get("split.count"))
    if count <= 1:
        return (path,)
    match = PART.fullmatch(path.name)
    if match is None or int(match[3]) != count or count > MAX_PARTS:
        _fail(path, f"is one of {count} parts, but its name does not say which", "keep the parts' own names")
    parts = tuple(
        path.with_name(f"{match[1]}-{number:05}-of-{count:05}{match[4]}") for number in range(1, count + 1)
    )
    if int(match[2]) != 1:
        _fail(path, f"is part {int(match[2])} of {count}", f"name the first: {parts[0]}")
    if missing := [part.name for part in parts if not part.is_file()]:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        _fail(path, f"lacks {len(missing)} of its {count} parts: {some}", "fetch them into the same folder")
    return parts


def summary(parts: tuple[Path, ...], size: int, header: Header, tensors: dict[str, tuple[int, int]]) -> Gguf:
    """The facts in a header and a list of tensors. Raises UsageError for a file without the least of them."""
    values, path = header.values, parts[0]
    architecture = _text(values.get("general.architecture"))
    if not architecture:
        _fail(path, "does not say which architecture it has", "it may be an adapter or an old file")

    def number(key: str) -> int:
        return _number(values.get(f"{architecture}.{key}"))

    layers = number("block_count")
    if layers > MAX_LAYERS:
        _fail(path, f"claims {layers:,} layers", "it is damaged, or not what it says")
    embedding = number("embedding_length")
    heads = max(_list(values.get(f"{architecture}.attention.head_count"), 1) or [0])
    per_head = embedding // heads if heads else 0
    key_length = number("attention.key_length") or per_head
    kv_heads = _per_layer(values.get(f"{architecture}.attention.head_count_kv"), layers, heads)
    if every := number("full_attention_interval"):
        kv_heads = tuple(n if (i + 1) % every == 0 else 0 for i, n in enumerate(kv_heads))
    by_layer: Counter[int] = Counter()
    by_type: Counter[int] = Counter()
    for name, (kind, amount) in tensors.items():
        by_type[kind] += amount
        if match := LAYER.match(name):
            by_layer[int(match[1])] += amount
    weights = sum(by_type.values())
    input_weights = tensors.get(INPUT, (0, 0))[1]
    return Gguf(
        parts=parts,
        size=size,
        architecture=architecture,
        name=_text(values.get("general.name")) or path.stem,
        quantisation=_quantisation(_number(values.get("general.file_type"), -1), by_type),
        trained_context=number("context_length"),
        embedding=embedding,
        vocabulary=header.lengths.get("tokenizer.ggml.tokens", 0) or number("vocab_size"),
        heads=heads,
        key_length=key_length,
        value_length=number("attention.value_length") or per_head,
        kv_heads=kv_heads,
        sliding=_sliding(values, architecture, layers),
        window=number("attention.sliding_window"),
        shared_values=bool(number("attention.kv_lora_rank")) and set(kv_heads) <= {0, 1},
        state=_state(number, kv_heads),
        experts=number("expert_count"),
        weights=weights,
        layer_weights=tuple(by_layer[i] for i in range(layers)),
        input_weights=input_weights,
        output_weights=tensors.get(OUTPUT, (0, 0))[1] or input_weights,
        chat_template=any(k.startswith("tokenizer.chat_template") for k in header.lengths),
        tokenizer=_text(values.get("tokenizer.ggml.model")),
    )


def _per_layer(value: object, layers: int, default: int) -> tuple[int, ...]:
    """One number for each layer, from one for all, from a list, or the default."""
    given = _list(value, default)
    if len(given) == 1:
        given = given * layers
    return tuple([*given, *[default] * layers][:layers])


def _sliding(values: dict[str, Any], architecture: str, layers: int) -> tuple[bool, ...]:
    if not _number(values.get(f"{architecture}.attention.sliding_window")):
        return (False,) * layers
    pattern = values.get(f"{architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, tuple) and pattern:
        return tuple([bool(p) for p in pattern] + [False] * layers)[:layers]
    every = _number(pattern) or FULL_EVERY.get(architecture, 1)
    return tuple((i + 1) % every != 0 for i in range(layers))


def _state(number: Callable[[str], int], kv_heads: Sequence[int]) -> int:
    """Bytes of the state of layers without attention (Mamba and its kin), of 4-byte numbers."""
    inner, state, groups = number("ssm.inner_size"), number("ssm.state_size"), number("ssm.group_count")
    convolution = max(number("ssm.conv_kernel") - 1, 0) * (inner + 2 * groups * state)
    return 4 * (convolution + inner * state) * sum(n == 0 for n in kv_heads)


def _quantisation(file_type: int, by_type: Counter[int]) -> str:
    if file_type in MIXTURES:
        return MIXTURES[file_type]
    if not by_type:
        return ""
    kind = by_type.most_common(1)[0][0]
    return TENSOR_TYPES[kind][0] if kind in TENSOR_TYPES else f"type {kind}"


def _number(value: object, default: int = 0) -> int:
    """A number that is not negative; the largest of a list."""
    if isinstance(value, tuple):
        return max((_number(v, default) for v in value), default=default)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _list(value: object, default: int) -> list[int]:
    if isinstance(value, tuple):
        return [_number(v) for v in value]
    return [_number(value, default)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def read_header(path: Path) -> Header:
    """One file's header. Raises UsageError for what is no GGUF file, is damaged or is cut off."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _header(_Reader(path, file, size))
    except OSError as error:
        raise _unreadable(path, error) from error


def _header(reader: _Reader) -> Header:
    path = reader.path
    magic = reader.take(8)
    if magic == b"version ":
        _fail(path, "is only a Git LFS pointer", "fetch it: git lfs pull")
    if magic[:4] != b"GGUF":
        _fail(path, "is not a GGUF file", "llama.cpp reads only GGUF files")
    version = int.from_bytes(magic[4:], "little")
    if version not in (2, 3):
        swapped = int.from_bytes(magic[4:], "big") in (2, 3)
        what = "is a big-endian GGUF file" if swapped else f"is GGUF of version {version}"
        _fail(path, what, "convert it again with a current llama.cpp")
    tensors, keys = reader.unpack("QQ")
    if keys > MAX_KEYS or tensors > MAX_TENSORS:
        _fail(path, f"claims {keys:,} keys and {tensors:,} tensors", "it is damaged")
    values: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for _ in range(keys):
        key = reader.text(MAX_NAME)
        (kind,) = reader.unpack("I")
        value, length = reader.value(kind)
        lengths[key] = length
        if value is not None:
            values[key] = value
    found = [_tensor(reader) for _ in range(tensors)]
    align = _number(values.get("general.alignment"), 32) or 32
    return Header(values, lengths, _sizes(reader, found, align))


def _tensor(reader: _Reader) -> tuple[str, int, int, int]:
    """A tensor's name, type, number of bytes (-1 when its type is unknown) and place behind the header."""
    name = reader.text(MAX_NAME)
    (dimensions,) = reader.unpack("I")
    if dimensions > 8:  # ggml knows 4
        _fail(reader.path, f"claims a tensor of {dimensions} dimensions", "it is damaged")
    shape = reader.unpack("Q" * dimensions)
    kind, offset = reader.unpack("IQ")
    if kind not in TENSOR_TYPES:
        return name, kind, -1, offset
    _, elements, size = TENSOR_TYPES[kind]
    amount = 1
    for extent in shape:
        amount *= extent
    return name, kind, -(-amount // elements) * size, offset


def _sizes(reader: _Reader, found: list[tuple[str, int, int, int]], align: int) -> dict[str, tuple[int, int]]:
    """Type and bytes of each tensor. Raises UsageError when the file ends before one of them does."""
    start = -(-reader.position // align) * align
    end = reader.size - start
    sizes: dict[str, tuple[int, int]] = {}
    behind = end
    for name, kind, amount, offset in sorted(found, key=lambda t: t[3], reverse=True):
        # A type that is newer than our table reaches up to the next tensor.
        amount = max(behind - offset, 0) if amount < 0 else amount
        if offset + amount > end:
            missing = offset + amount - end
            _fail(
                reader.path,
                f"is cut off: {missing:,} bytes of {name!r} are missing"
                if missing < 1 << 50
                else f"claims a tensor {name!r} of impossible size",
                "was it fetched to its end? fetch it again",
            )
        sizes[name] = (kind, amount)
        behind = offset
    return sizes


class _Reader:
    """A file read from front to back in chunks. Raises UsageError where it ends too early."""

    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self.path = path
        self.size = size
        self._file = file
        self._chunk = b""
        self._at = 0  # in the chunk
        self._start = 0  # of the chunk in the file

    @property
    def position(self) -> int:
        return self._start + self._at

    def _need(self, count: int) -> None:
        """Have at least `count` bytes in the chunk."""
        if len(self._chunk) - self._at >= count:
            return
        if count > self.size - self.position:
            _fail(self.path, "is cut off in its header", "was it fetched to its end? fetch it again")
        rest = self._chunk[self._at :]
        self._start, self._at = self.position, 0
        self._chunk = rest + self._file.read(max(CHUNK, count) - len(rest))
        if len(self._chunk) < count:
            _fail(self.path, "became shorter while it was read", "try again when it is whole")

    def take(self, count: int) -> bytes:
        self._need(count)
        self._at += count
        return self._chunk[self._at - count : self._at]

    def skip(self, count: int) -> None:
        if count <= len(self._chunk) - self._at:
            self._at += count
            return
        if count > self.size - self.position:
            _fail(self.path, "is cut off in its header", "was it fetched to its end? fetch it again")
        self._start, self._at, self._chunk = self.position + count, 0, b""
        self._file.seek(self._start)

    def unpack(self, codes: str) -> tuple[Any, ...]:
        form = struct.Struct(f"<{codes}")
        return form.unpack(self.take(form.size))

    def text(self, limit: int) -> str:
        (length,) = self.unpack("Q")
        if length > limit:
            _fail(self.path, f"claims a name of {length:,} bytes", "it is damaged")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> tuple[Any, int]:
        """A value, None for one too long to keep, and its length (1 for a number)."""
        if kind in SCALARS:
            return self.unpack(SCALARS[kind])[0], 1
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array()
        _fail(self.path, f"holds a value of the unknown type {kind}", "it is damaged, or newer than pool")

    def _string(self) -> tuple[str | None, int]:
        (length,) = self.unpack("Q")
        if length > MAX_STRING:
            _fail(self.path, f"claims a text of {length:,} bytes", "it is damaged")
        if length > MAX_KEPT:
            self.skip(length)
            return None, length
        return self.take(length).decode("utf-8", "replace"), length

    def _array(self) -> tuple[tuple[Any, ...] | None, int]:
        kind, count = self.unpack("IQ")
        if count > MAX_ARRAY:
            _fail(self.path, f"claims a list of {count:,} values", "it is damaged")
        if kind == STRING:
            self._skip_strings(count)
            return None, count
        if kind not in SCALARS:
            _fail(self.path, f"holds a list of the unknown type {kind}", "it is damaged, or newer than pool")
        width = struct.calcsize(f"<{SCALARS[kind]}")
        if count > MAX_KEPT:
            self.skip(count * width)
            return None, count
        return self.unpack(SCALARS[kind] * count), count

    def _skip_strings(self, count: int) -> None:
        # The one place where a header has hundreds of thousands of values: a loop over the chunk itself.
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if len(self._chunk) - self._at < 8:
                self._need(8)
            (length,) = unpack(self._chunk, self._at)
            self._at += 8
            if length <= len(self._chunk) - self._at:
                self._at += length
            elif length > MAX_STRING:
                _fail(self.path, f"claims a text of {length:,} bytes", "it is damaged")
            else:
                self.skip(length)


def _fail(path: Path, what: str, hint: str) -> NoReturn:
    raise UsageError(f"the model file {path} {what}", hint)


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"the model file {path} cannot be read: {error.strerror}", "check the path")
