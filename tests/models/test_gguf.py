"""Headers of GGUF files: facts of good ones, one clear sentence for bad ones, bounded work for hostile ones."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolcli.errors import UsageError
from poolcli.models import gguf
from poolcli.models.local import demo_model
from tests.models import gguf_files

LAYER = 512 * 512 * 144 // 256 + 512 * 2048 * 144 // 256


def said(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        gguf.read(path)
    assert str(path) in str(caught.value) and caught.value.hint
    return str(caught.value)


def test_the_demonstration_model() -> None:
    found = gguf.read(demo_model())
    assert (found.architecture, found.quantisation, found.tokenizer) == ("llama", "F16", "rwkv")
    assert found.layers == 6 and found.heads == 6 and found.key_length == found.value_length == 32
    assert found.trained_context == 4096 and found.chat_template
    assert found.size == demo_model().stat().st_size
    assert sum(found.layer_weights) + found.input_weights < found.weights < found.size
    assert found.output_weights == found.input_weights, "it has no output of its own"


def test_what_a_file_says(tmp_path: Path) -> None:
    found = gguf.read(gguf_files.model(tmp_path / "m.gguf"))
    assert found.name == "A small one" and found.quantisation == "Q4_K_M"
    assert (found.embedding, found.vocabulary, found.trained_context) == (512, 1000, 32768)
    assert found.kv_heads == (2, 2, 2, 2) and found.key_length == 64
    assert found.layer_weights == (LAYER,) * 4
    assert found.input_weights == 512 * 1000 * 34 // 32
    assert found.weights == 4 * LAYER + found.input_weights + 4 * 512
    assert found.sliding == (False,) * 4 and not found.window


def test_lengths_of_heads_are_taken_as_said(tmp_path: Path) -> None:
    path = gguf_files.model(
        tmp_path / "m.gguf", llama__attention__key_length=128, llama__attention__value_length=96
    )
    assert (gguf.read(path).key_length, gguf.read(path).value_length) == (128, 96)


def test_layers_that_differ(tmp_path: Path) -> None:
    by_layer = gguf_files.model(tmp_path / "1.gguf", llama__attention__head_count_kv=[4, 0, 4, 0])
    assert gguf.read(by_layer).kv_heads == (4, 0, 4, 0)
    window = gguf_files.model(
        tmp_path / "2.gguf", arch="gemma3", layers=7, gemma3__attention__sliding_window=1024
    )
    assert gguf.read(window).sliding == (True, True, True, True, True, False, True)
    unknown = gguf_files.model(tmp_path / "3.gguf", arch="new", new__attention__sliding_window=1024)
    assert gguf.read(unknown).sliding == (False,) * 4, "rather too much memory than too little"
    listed = gguf_files.model(
        tmp_path / "4.gguf",
        arch="new",
        new__attention__sliding_window=512,
        new__attention__sliding_window_pattern=[True, False, True, False],
    )
    assert gguf.read(listed).sliding == (True, False, True, False)
    hybrid = gguf_files.model(
        tmp_path / "5.gguf",
        arch="qwen3next",
        layers=8,
        qwen3next__full_attention_interval=4,
        qwen3next__ssm__inner_size=64,
        qwen3next__ssm__state_size=16,
        qwen3next__ssm__conv_kernel=4,
        qwen3next__ssm__group_count=2,
    )
    assert gguf.read(hybrid).kv_heads == (0, 0, 0, 2, 0, 0, 0, 2)
    assert gguf.read(hybrid).state == 6 * 4 * (3 * (64 + 2 * 2 * 16) + 64 * 16)


def test_a_type_that_is_newer_than_our_table_is_measured_by_its_place(tmp_path: Path) -> None:
    data, weights = gguf_files.header({"general.architecture": "llama"}, [("a", 0, (64,)), ("b", 0, (64,))])
    kind = struct.pack("<I", 0)
    first = data.index(b"a" + struct.pack("<IQ", 1, 64)) + 1 + 4 + 8
    assert data[first : first + 4] == kind
    path = tmp_path / "new.gguf"
    path.write_bytes(data[:first] + struct.pack("<I", 99) + data[first + 4 :] + b"\0" * weights)
    found = gguf.read_header(path)
    assert found.tensors == {"a": (99, 256), "b": (0, 256)}


def split(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        path = folder / f"big-{number + 1:05}-of-{count:05}.gguf"
        values = {"split.count": count, "split.no": number}
        if number == 0:
            values |= {"general.architecture": "llama", "llama.block_count": count}
        paths.append(gguf_files.write(path, values, [(f"blk.{number}.w", 0, (1024,))]))
    return paths


def test_parts_of_a_split_model_count_together(tmp_path: Path) -> None:
    parts = split(tmp_path, 3)
    found = gguf.read(parts[0])
    assert found.parts == tuple(parts) and found.layer_weights == (4096, 4096, 4096)
    assert found.size == sum(part.stat().st_size for part in parts)
    assert "part 2 of 3" in said(parts[1])
    parts[2].unlink()
    assert parts[2].name in said(parts[0])
    renamed = parts[0].rename(tmp_path / "mine.gguf")
    assert "one of 3 parts" in said(renamed)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "cut off"),
        (b"GGUF", "cut off"),
        (b"PK\3\4 and so on", "is not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "does not say which architecture"),
        # One key: a name, a text, a list that claim far more than there is; a type that does not exist.
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62), "claims a name"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + gguf_files.text("k") + struct.pack("<IQ", 8, 1 << 62),
            "claims",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + gguf_files.text("k") + struct.pack("<IQ", 8, 60_000_000),
            "cut off",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQ", 3, 0, 1)
            + gguf_files.text("k")
            + struct.pack("<IIQ", 9, 8, 1 << 40),
            "claims",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQ", 3, 0, 1)
            + gguf_files.text("k")
            + struct.pack("<IIQ", 9, 4, 19_000_000),
            "cut",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + gguf_files.text("k") + struct.pack("<I", 77),
            "unknown type 77",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + gguf_files.text("k") + struct.pack("<IIQ", 9, 9, 1),
            "unknown type 9",
        ),
    ],
)
def test_what_is_no_whole_gguf_file(tmp_path: Path, data: bytes, word: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    assert word in said(path)


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    assert "No such file" in said(tmp_path / "none.gguf")
    assert "cannot be read" in said(tmp_path)


def test_an_unfinished_download_is_told_from_a_whole_file(tmp_path: Path) -> None:
    whole = gguf_files.model(tmp_path / "m.gguf")
    size = whole.stat().st_size
    with whole.open("r+b") as file:
        file.truncate(size - 100)
    assert "is cut off: " in said(whole)


def test_impossible_layers_and_shapes(tmp_path: Path) -> None:
    many = gguf_files.write(
        tmp_path / "1.gguf", {"general.architecture": "llama", "llama.block_count": 4_000_000_000}
    )
    assert "4,000,000,000 layers" in said(many)
    data, _ = gguf_files.header({"general.architecture": "llama"}, [("t", 0, (64, 64))])
    vast = data.replace(struct.pack("<QQ", 64, 64), struct.pack("<QQ", 1 << 63, 1 << 63))
    path = tmp_path / "2.gguf"
    path.write_bytes(vast)
    assert "impossible size" in said(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_an_answer_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "m.gguf"
    whole = gguf_files.header(
        {
            "general.architecture": "llama",
            "llama.block_count": 2,
            "llama.attention.head_count": [4, 4],
            "tokenizer.ggml.tokens": ["a", "b"],
            "x": 1.5,
        },
        [("blk.0.w", 12, (256, 2)), ("blk.1.w", 0, (3, 3))],
    )
    content = bytearray(whole[0] + b"\0" * whole[1])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 8))
        content[at : at + 8] = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.integers(0, 2**64 - 1).map(lambda n: n.to_bytes(8, "little")),
            )
        )
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = gguf.read(path)
    except UsageError as error:
        assert str(path) in str(error)
    else:
        assert found.layers <= gguf.MAX_LAYERS
    path.unlink()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_behind_the_magic(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "m.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + tail)
    with pytest.raises(UsageError):
        gguf.read(path)
    path.unlink()


def test_lies_take_no_memory(tmp_path: Path) -> None:
    """A list that claims all that the limits allow, in a file that is as long as it says: read in little memory."""
    path = tmp_path / "m.gguf"
    head = (
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 1)
        + gguf_files.text("k")
        + struct.pack("<IIQ", 9, 10, 19_000_000)
    )
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 8 * 19_000_000)
    code = (
        "import resource, sys; from pathlib import Path; from poolcli.models import gguf\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(len(gguf.read_header(Path(sys.argv[1])).values))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    root = str(Path(gguf.__file__).parents[2])
    out = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={**os.environ},
    ).stdout.split()
    unit = 1 if sys.platform == "darwin" else 1024
    assert out[0] == "0" and int(out[1]) * unit < 30_000_000


def test_a_vocabulary_longer_than_a_chunk(tmp_path: Path) -> None:
    words = ["x" * 90] * 30_000  # about three chunks, with texts across their borders
    path = gguf_files.write(
        tmp_path / "m.gguf",
        {
            "general.architecture": "llama",
            "tokenizer.ggml.tokens": words,
            "llama.block_count": 1,
            "z": "w" * 2_000_000,
        },
    )
    found = gguf.read(path)
    assert found.vocabulary == 30_000 and found.layers == 1
