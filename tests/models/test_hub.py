"""What is meant by the argument of `pool models get`, and which files of a repository that is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.errors import UsageError
from poolcli.models import hub, sources
from poolcli.models.hub import HubFile, choose
from poolcli.models.sources import Hub, Listed, Local, Web, parse
from tests.models.file_server import serving

LISTED = ("qwen2.5-coder-7b", "qwen2.5-coder-14b", "gpt-oss-20b")


@pytest.mark.parametrize(
    ("what", "source"),
    [
        ("gpt-oss-20b", Listed("gpt-oss-20b")),
        ("a/b", Hub("a/b")),
        ("a/b:Q8_0", Hub("a/b", "Q8_0")),
        ("a/b:dir/x.gguf", Hub("a/b", "dir/x.gguf")),
        ("huggingface.co/a/b", Hub("a/b")),
        ("https://huggingface.co/a/b/", Hub("a/b")),
        ("https://huggingface.co/a/b/tree/main", Hub("a/b")),
        ("hf.co/a/b:IQ2_M", Hub("a/b", "IQ2_M")),
        (
            "https://huggingface.co/a/b/blob/main/x.gguf?download=true#top",
            Web("https://huggingface.co/a/b/resolve/main/x.gguf?download=true"),
        ),
        ("http://127.0.0.1:8000/x.gguf", Web("http://127.0.0.1:8000/x.gguf")),
        ("HTTPS://files.example/blob.gguf", Web("https://files.example/blob.gguf")),
    ],
)
def test_what_is_meant(what: str, source: sources.Source) -> None:
    assert parse(what, LISTED) == source


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "m.gguf"
    with pytest.raises(UsageError, match=r"no file m\.gguf"):
        parse("m.gguf", LISTED)
    file.write_bytes(b"GGUF")
    assert parse("m.gguf", LISTED) == parse("./m.gguf", LISTED) == parse(str(file), LISTED) == Local(file)
    with pytest.raises(UsageError, match="no file"):
        parse("./nothing", LISTED)


@pytest.mark.parametrize(
    "what",
    ["", "nothing", "ftp://x/y.gguf", "a/b/c", "a b", "-x", "a/../b", "../a", "s3://a/b", "~0", "a\0.gguf"],
)
def test_what_is_nothing(what: str) -> None:
    with pytest.raises(UsageError):
        parse(what, LISTED)


def test_a_slip_is_met_with_what_comes_near() -> None:
    with pytest.raises(UsageError) as caught:
        parse("qwen2.5-coder7b", LISTED)
    assert "did you mean qwen2.5-coder-7b" in caught.value.hint


@given(st.text(max_size=80))
def test_no_text_crashes_it(what: str) -> None:
    try:
        source = parse(what, LISTED)
    except UsageError:
        return
    if isinstance(source, Hub):
        assert re.fullmatch(
            r"[\w.-]+/[\w.-]+", source.repository, re.ASCII
        ) and ".." not in source.repository.split("/")


@given(st.text(max_size=200))
def test_foreign_names_become_plain_ones(text: str) -> None:
    name = sources.model_name(text)
    assert sources.NAME.fullmatch(name) and name == name.lower()
    try:
        file = sources.file_name(text)
    except UsageError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9._+-]*\.gguf", file) and len(file) < 130


def test_secrets_are_not_shown() -> None:
    assert sources.plain("https://me:pw@files.example:1/x.gguf?sig=1#f") == "https://files.example:1/x.gguf"
    assert "pw" not in sources.plain("https://me:pw@[files/x.gguf?sig=1")


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("qwen2.5-coder-7b-instruct-q4_k_m-00001-of-00002.gguf", "Q4_K_M"),
        ("GLM-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("model.IQ2_XXS.gguf", "IQ2_XXS"),
        ("Q8_0/model.gguf", ""),
        ("Qwen3-8B-BF16.gguf", "BF16"),
        ("Llama-3.2-1B.gguf", ""),
        ("f16-to-Q5_K_S.gguf", "Q5_K_S"),
    ],
)
def test_quantisations(name: str, quant: str) -> None:
    assert sources.quantisation(name) == quant


# Which files ------------------------------------------------------------------------------------------------------


def files(*names: str) -> list[HubFile]:
    return [HubFile(name, 1_000_000_000) for name in names]


BOTH = files("README.md", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-F16.gguf", "m.imatrix.gguf")
SPLIT = files(*(f"m-q8_0-0000{n}-of-00003.gguf" for n in (1, 2, 3)))


@pytest.mark.parametrize(
    ("there", "wanted", "name"),
    [
        (BOTH, "", "m-Q4_K_M.gguf"),
        (BOTH, "q8_0", "m-Q8_0.gguf"),
        (BOTH, "Q4-K-M", "m-Q4_K_M.gguf"),
        (BOTH, "m-Q8_0.gguf", "m-Q8_0.gguf"),
        (files("m.gguf"), "", "m.gguf"),
        (files("m-mxfp4.gguf", "m-bf16.gguf"), "", "m-mxfp4.gguf"),
        (files("m-UD-Q4_K_XL.gguf", "m-Q4_K_M.gguf"), "ud-q4_k_xl", "m-UD-Q4_K_XL.gguf"),
        (files("m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"), "", "m-Q4_K_M.gguf"),
        (files("Q4_K_M/m-part.gguf", "Q8_0/m-part.gguf"), "Q8_0", "Q8_0/m-part.gguf"),
        (files("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"), "b-", "b-Q4_K_M.gguf"),
    ],
)
def test_the_file_that_is_meant(there: list[HubFile], wanted: str, name: str) -> None:
    assert choose("a/b", there, wanted).name == name


@pytest.mark.parametrize("wanted", ["", "q8_0", "m-q8_0-00002-of-00003.gguf"])
def test_parts_belong_together(wanted: str) -> None:
    choice = choose("a/b", list(reversed(SPLIT)), wanted)
    assert [file.path for file in choice.files] == [file.path for file in SPLIT]
    assert choice.size == 3_000_000_000 and choice.quant == "Q8_0"


def test_one_file_is_better_than_parts_of_the_same() -> None:
    there = [*SPLIT, *files("m-Q8_0.gguf")]
    assert choose("a/b", there, "q8_0").name == "m-Q8_0.gguf"
    assert len(choose("a/b", [*SPLIT, *files("other-Q4_K_M.gguf")], "q8_0").files) == 3


@pytest.mark.parametrize(
    ("there", "wanted", "said"),
    [
        (files("m-Q3_K_S.gguf", "m-Q8_0.gguf"), "", "several models; say which"),
        (files("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"), "Q4_K_M", "several models; say which"),
        (BOTH, "q2_k", "no file for `q2_k`"),
        (files("README.md", "model.safetensors"), "", "no GGUF file"),
        (SPLIT[:2], "", "no GGUF file"),  # a repository that is still being filled
        ([], "", "no GGUF file"),
    ],
)
def test_what_cannot_be_chosen(there: list[HubFile], wanted: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose("a/b", there, wanted)


def test_what_there_is_is_listed_within_reason() -> None:
    with pytest.raises(UsageError) as caught:
        choose("a/b", files("x-Q3_K_S.gguf", "x-Q8_0.gguf"))
    assert "1.0 GB  x-Q3_K_S.gguf" in str(caught.value) and "1.0 GB  x-Q8_0.gguf" in str(caught.value)
    assert caught.value.hint == "for example: pool models get a/b:Q3_K_S"
    with pytest.raises(UsageError) as caught:
        choose("a/b", files(*(f"m{n}-Q4_K_M.gguf" for n in range(500))))
    assert len(str(caught.value).splitlines()) == hub.MAX_LISTED + 2 and "460 more" in str(caught.value)


@given(
    st.lists(st.text(alphabet="aQ48_KM-0123of./guf\\\n", max_size=30).map(lambda t: t + ".gguf"), max_size=8),
    st.text(max_size=8),
)
def test_no_list_of_files_crashes_the_choice(names: list[str], wanted: str) -> None:
    try:
        choice = choose("a/b", [HubFile(name, 1) for name in names], wanted)
    except UsageError:
        return
    assert {file.path for file in choice.files} <= set(names)


# Asking a hub -----------------------------------------------------------------------------------------------------

LOOK = """
import json, sys
from poolcli.errors import PoolError
from poolcli.models import hub
try:
    found = hub.look(*sys.argv[1:])
    print(json.dumps([found.commit, found.licence, [[f.path, f.size, f.sha256] for f in found.files],
                      sorted(found.headers.items()), found.url("a b/x.gguf")]))
except PoolError as error:
    print(json.dumps([type(error).__name__, int(error.exit_code), str(error), error.hint]))
"""


def look(url: str, *args: str, **environment: str) -> list[object]:
    """`hub.look` in a process of its own: the library reads its environment once."""
    import json

    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "HF_ENDPOINT": url, **environment}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *args], capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL
    )
    assert done.stdout, done.stderr
    assert done.stderr == ""
    found: list[object] = json.loads(done.stdout)
    return found


def test_the_real_library_against_a_hub() -> None:
    with serving() as server:
        commit = server.hub("a/b", {"README.md": b"x", "m-Q4_K_M.gguf": b"GGUF" * 9}, licence="apache-2.0")
        found = look(server.url, "a/b", HF_TOKEN="hf_secret")
        assert found[:2] == [commit, "apache-2.0"]
        assert [entry[:2] for entry in found[2]] == [["README.md", 1], ["m-Q4_K_M.gguf", 36]]  # type: ignore
        assert ["authorization", "Bearer hf_secret"] in found[3]  # type: ignore[operator]
        assert found[4] == f"{server.url}/a/b/resolve/{commit}/a%20b/x.gguf"
        assert [(asked.method, asked.path) for asked in server.asked] == [
            ("GET", "/api/models/a/b?blobs=true")
        ]
        # It says who asks, and nothing about the machine.
        assert re.fullmatch(
            r"poolcli/[\w.]+; hf_hub/[\w.]+; python/[\d.]+", server.asked[0].headers["user-agent"]
        )


def test_a_revision() -> None:
    with serving() as server:
        commit = server.hub("a/b", {"m.gguf": b"GGUF"})
        assert look(server.url, "a/b", "main")[0] == commit
        assert server.asked[-1].path == "/api/models/a/b/revision/main?blobs=true"
        server.json["/api/models/a/b/revision/no"] = (
            404,
            {"error": "x"},
            {"X-Error-Code": "RevisionNotFound"},
        )
        assert look(server.url, "a/b", "no")[:3] == ["UsageError", 2, "a/b has no revision `no`"]


def test_refusals_are_told_apart() -> None:
    with serving() as server:
        kind, code, said, hint = look(server.url, "a/b")
        assert (
            (kind, code) == ("UsageError", 2) and "no repository a/b" in str(said) and "HF_TOKEN" in str(hint)
        )
        server.json["/api/models/a/b"] = (403, {"error": "x"}, {"X-Error-Code": "GatedRepo"})
        kind, code, said, hint = look(server.url, "a/b")
        assert (kind, code) == ("UsageError", 2) and "agreed to its licence" in str(said)
        assert f"{server.url}/a/b" in str(hint) and "HF_TOKEN" in str(hint)
        server.json["/api/models/a/b"] = (500, {"error": "broken"}, {})
        kind, code, said, hint = look(server.url, "a/b")
        assert (kind, code) == ("PoolError", 1) and "does not answer as a hub does" in str(said)


def test_a_hub_out_of_reach() -> None:
    with serving() as server:
        url = server.url
    kind, code, said, hint = look(url, "a/b")
    assert (kind, code) == ("PoolError", 1)
    assert f"the hub {url} cannot be reached" in str(said)
    assert "HF_ENDPOINT" in str(hint) and "pool models get FILE" in str(hint)


def test_offline_mode_asks_nobody() -> None:
    with serving() as server:
        server.hub("a/b", {"m.gguf": b"GGUF"})
        kind, code, said, _ = look(server.url, "a/b", HF_HUB_OFFLINE="1")
        assert (kind, code) == ("PoolError", 1) and "HF_HUB_OFFLINE is set" in str(said)
        assert server.asked == []


def test_no_library() -> None:
    """As when the extra is not installed: `-I -S` leaves the installed packages out."""
    code = (
        "import sys, builtins\n"
        "sys.modules['huggingface_hub'] = None\n" + LOOK  # which is how Python itself says that there is none
    )
    done = subprocess.run([sys.executable, "-c", code, "a/b"], capture_output=True, text=True)
    assert "huggingface_hub is not installed" in done.stdout and "poolcli[hub]" in done.stdout, done.stderr


def test_a_token_is_not_sent_in_the_clear() -> None:
    from poolcli.models.hub import _safe

    assert _safe("https://mirror.example") and _safe("http://127.0.0.1:9") and _safe("http://localhost")
    assert not _safe("http://mirror.lan") and not _safe("http://127.0.0.1.evil.example")
