"""The folder of models: what is found, what is not believed, what is deleted and what never is."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.errors import PoolError, UsageError
from poolcli.models import catalogue, library
from poolcli.models.library import Entry, Stored


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POOL_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def put(name: str, *files: str, content: bytes = b"GGUF data") -> Entry:
    """A fetched model."""
    place = library.prepare(name)
    files = files or (f"{name}.gguf",)
    for file in files:
        (place / file).write_bytes(content)
    return library.add(Entry(name, tuple(Stored(file, len(content)) for file in files), source="hub:a/b"))


def test_where_models_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library.folder() == tmp_path / "models"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("POOL_MODELS", "~/mine")
    assert library.folder() == tmp_path / "mine"
    monkeypatch.delenv("POOL_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if sys.platform == "linux":
        assert library.folder() == tmp_path / "data" / "pool" / "models"
        monkeypatch.setenv("XDG_DATA_HOME", "relative")  # which the specification says to ignore
        assert library.folder() == tmp_path / ".local" / "share" / "pool" / "models"


def test_what_was_added_is_found() -> None:
    entry = put("qwen-7b")
    assert library.find("qwen-7b") == entry
    assert library.entries() == [entry]
    assert entry.path.read_bytes() == b"GGUF data" and entry.whole and entry.added > 0


def test_a_beginning_is_enough_when_it_is_the_only_one() -> None:
    entry, other = put("qwen-7b"), put("qwen-14b")
    assert library.find("qwen-7") == entry
    with pytest.raises(UsageError, match="could be qwen-14b, qwen-7b"):
        library.find("qwen")
    longer = put("qwen-7b-q8")
    assert library.find("qwen-7b") == entry  # exactly that one, though another begins so
    assert library.find("qwen-7b-") == longer
    assert library.find("qwen-1") == other
    assert library.find("llama") is None


@pytest.mark.parametrize(
    "name",
    ["", "..", ".", "a/b", "../x", "/etc", "-x", "a b", "a\nb", "x.gguf", "X.GGUF", "demo", "a" * 81, "ä"],
)
def test_what_cannot_be_a_name(name: str, folder: Path) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        library.home(name)
    assert library.find(name) is None
    for action in (library.prepare, library.remove):
        with pytest.raises(UsageError):
            action(name)
    assert not folder.exists()


@given(st.text(max_size=100))
def test_a_name_never_leads_out_of_the_folder(name: str) -> None:
    try:
        place = library.home(name)
    except UsageError:
        return
    assert place.parent == library.folder() and place.name == name


@pytest.mark.parametrize(
    "change",
    [
        lambda note: {**note, "name": "another"},
        lambda note: {**note, "files": []},
        lambda note: {**note, "files": [{"name": "../../secret", "size": 1}]},
        lambda note: {**note, "files": [{"name": "/etc/passwd", "size": 1}]},
        lambda note: {**note, "files": [{"name": "", "size": 1}]},
        lambda note: {**note, "files": [{"name": "a.gguf"}]},
        lambda note: {**note, "reference": True},  # whose files have whole paths
        lambda note: [note],
        lambda note: {**note, "licence": "x" * library.MAX_NOTE},
    ],
)
def test_a_note_that_was_tampered_with_is_not_believed(change: object, folder: Path) -> None:
    put("a")
    note = folder / "a" / library.NOTE
    note.write_text(json.dumps(change(json.loads(note.read_text()))))  # type: ignore[operator]
    assert library.load("a") is None and library.entries() == []


@given(st.binary(max_size=200))
def test_no_note_crashes_the_list(data: bytes) -> None:
    place = library.folder() / "strange"
    place.mkdir(parents=True, exist_ok=True)
    (place / library.NOTE).write_bytes(data)
    assert library.load("strange") is None
    assert library.entries() == [] and library.unfinished() == []


def test_what_a_newer_version_writes_is_still_read(folder: Path) -> None:
    put("a")
    note = folder / "a" / library.NOTE
    note.write_text(json.dumps({**json.loads(note.read_text()), "new": 1}))
    assert library.load("a") is not None


def test_a_split_model(folder: Path) -> None:
    entry = put("big", "x-00001-of-00002.gguf", "x-00002-of-00002.gguf")
    assert entry.path.name == "x-00001-of-00002.gguf" and entry.size == 18
    (folder / "big" / "x-00002-of-00002.gguf").unlink()
    assert not entry.whole


def test_removing_leaves_what_is_not_ours(folder: Path) -> None:
    put("a")
    put("b")
    (folder / "a" / "my notes.txt").write_text("keep")
    assert library.remove("a") > 9
    assert [path.name for path in (folder / "a").iterdir()] == ["my notes.txt"]
    library.remove("b")
    assert not (folder / "b").exists()
    assert library.entries() == []


def test_a_registered_file_is_never_deleted(tmp_path: Path, folder: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"GGUF mine")
    entry = library.register("mine", mine)
    assert entry.path == mine and entry.reference and entry.whole
    assert library.find("mine") == entry
    library.remove("mine")
    assert mine.read_bytes() == b"GGUF mine"
    assert library.find("mine") is None and not (folder / "mine").exists()


def test_registering_a_split_model_takes_all_parts(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    for part in parts[:2]:
        part.write_bytes(b"GGUF")
    with pytest.raises(UsageError, match=r"missing: m-00003-of-00003\.gguf"):
        library.register("m", parts[1])
    parts[2].write_bytes(b"GGUF")
    assert list(library.register("m", parts[1]).paths) == parts


def test_a_linked_folder_is_neither_written_nor_emptied(tmp_path: Path, folder: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.gguf").write_bytes(b"GGUF")
    folder.mkdir()
    (folder / "a").symlink_to(elsewhere)
    with pytest.raises(PoolError, match="link"):
        library.prepare("a")
    with pytest.raises(UsageError, match="link"):
        library.remove("a")
    assert (elsewhere / "x.gguf").exists()


def test_downloads_that_did_not_end(folder: Path) -> None:
    place = library.prepare("half")
    (place / "x.gguf.part").write_bytes(bytes(1000))
    (place / "x.gguf.part.json").write_text("{}")
    (place / "w.gguf").write_bytes(bytes(500))  # the first part of a split model, whole
    assert [(item.name, item.done) for item in library.unfinished()] == [("half", 1502)]
    assert library.entries() == []
    with (place / "x.gguf.part").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="being fetched"):
            library.remove("half")
    assert (place / "x.gguf.part").exists()
    assert library.remove("half") == 1502
    assert not place.exists()


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    folder.parent.joinpath("models").write_text("in the way")
    with pytest.raises(PoolError, match="cannot be made") as caught:
        library.prepare("a")
    assert "POOL_MODELS" in caught.value.hint
    assert library.entries() == []


def test_two_processes_add_at_once(folder: Path) -> None:
    code = (
        "from poolcli.models import library as l\n"
        "for _ in range(50): l.add(l.Entry('a', (l.Stored('a.gguf', 1),), source='x'))\n"
    )
    many = [subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ)) for _ in range(3)]
    assert [process.wait(60) for process in many] == [0, 0, 0]
    assert library.load("a") is not None
    assert [path.name for path in (folder / "a").iterdir()] == [library.NOTE]


# The list ---------------------------------------------------------------------------------------------------------


def test_the_list_is_plausible() -> None:
    known = catalogue.known()
    assert 8 <= len(known) <= 20
    assert [model.size for model in known.values()] == sorted(model.size for model in known.values())
    for model in known.values():
        assert library.checked(model.name) == model.name == model.name.lower()
        assert model.repository.count("/") == 1
        assert model.size < model.memory < 1.2 * model.size + 3, model.name
        assert model.context >= 32_768
        assert model.licence in ("Apache-2.0", "MIT"), "others need a look before they are recommended"
        assert model.good_for and len(model.good_for) <= 100


def test_the_list_names_known_families() -> None:
    from poolcli.models.families import family_of

    for model in catalogue.known().values():
        assert family_of(model.repository).name == model.family, model.name
        assert family_of(model.name).name == model.family, model.name


def test_the_documentation_has_the_list() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "local-models.md").read_text()
    for model in catalogue.known().values():
        row = (
            f"| `{model.name}` | {model.repository}, {model.file} | {model.size:g} GB | {model.memory:g} GB "
            f"| {model.context // 1024}k | {model.licence} | {model.good_for} |"
        )
        assert row in page.splitlines()
