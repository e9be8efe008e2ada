"""`pool models get`, `list` and `rm` as they are typed, against a server that plays a hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.models.file_server import FileServer, Served, serving

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "models" / "pool-demo.gguf"
#: A real model file, so that what is read from its header is real too; and another version of it.
CONTENT = DEMO.read_bytes()
NEWER = CONTENT + bytes(1000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
#: What our list calls qwen2.5-coder-1.5b, as the hub has it: also with files that are not meant.
REPOSITORY = "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF"
FILE = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
NAME = "qwen2.5-coder-1.5b"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


class Pool:
    """Runs `pool models …` in a process of its own."""

    def __init__(self, server: FileServer, models: Path, home: Path) -> None:
        self.models, self.home = models, home
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "POOL_MODELS": str(models),
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": "hf_secret",
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
        }
        self.argv = [sys.executable, "-m", "poolcli", "models"]

    def __call__(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.argv, *args],
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def begin(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.argv, *args],
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def terminal(self, *args: str, columns: int = 60) -> pexpect.spawn:
        return pexpect.spawn(
            self.argv[0],
            [*self.argv[1:], *args],
            env=self.env,
            cwd=str(self.home),
            dimensions=(24, columns),
            encoding="utf-8",
            timeout=60,
        )

    def listed(self) -> dict[str, dict]:
        return {model["name"]: model for model in json.loads(self("list", "--json").stdout)["models"]}


@pytest.fixture
def pool(server: FileServer, models: Path, tmp_path: Path) -> Pool:
    return Pool(server, models, tmp_path)


def files(server: FileServer) -> list[str]:
    """Which files were fetched, by the end of their checksum's address."""
    return [asked.path.split("?")[0] for asked in server.asked if asked.path.startswith("/cdn/")]


def until(path: Path, size: int) -> None:
    """Wait until a file has as many bytes."""
    end = time.monotonic() + 60
    while not path.exists() or path.stat().st_size != size:
        assert time.monotonic() < end, f"{path.name} never had {size} bytes"
        time.sleep(0.02)


# get --------------------------------------------------------------------------------------------------------------


def test_a_name_of_the_list(server: FileServer, pool: Pool, models: Path) -> None:
    commit = server.hub(REPOSITORY, {"README.md": b"x", FILE: CONTENT, FILE.replace("q4_k_m", "q8_0"): NEWER})
    done = pool("get", NAME)
    assert done.returncode == 0, done.stderr
    assert (models / NAME / FILE).read_bytes() == CONTENT
    first, *progress = done.stderr.splitlines()
    assert re.fullmatch(rf"{NAME}: 5.8 MB to .*/{NAME}, licence apache-2.0; [\d.]+ [GMT]B free", first)
    assert [line[:4] for line in progress] == [f"{n * 10:3}%" for n in range(1, 11)]
    assert done.stdout.splitlines()[1:] == [
        f'  pool do "fix the failing test" --model {NAME}',
        f"  pool models use {NAME}",
    ]
    model = pool.listed()[NAME]
    assert model["revision"] == commit and model["sha256"] == [SHA256] and model["family"] == "qwen2.5-coder"
    assert model["quantisation"] == "Q4_K_M" and model["licence"] == "apache-2.0" and model["whole"]
    assert [path.name for path in sorted((models / NAME).iterdir())] == ["model.json", FILE]
    # The second time there is nothing to do, and the file is not asked for.
    server.asked.clear()
    again = pool("get", NAME)
    assert again.returncode == 0 and "is here already" in again.stdout and files(server) == []


def test_the_key_stays_with_the_hub(server: FileServer, pool: Pool) -> None:
    with serving() as cdn:
        server.hub(REPOSITORY, {FILE: CONTENT})
        cdn.files = {path: server.files.pop(path) for path in list(server.files)}
        for path, (status, body, headers) in server.json.items():
            if status == 302:
                server.json[path] = (status, body, {**headers, "Location": cdn.url + headers["Location"]})
        assert pool("get", NAME).returncode == 0
        assert {asked.headers.get("authorization") for asked in server.asked} == {"Bearer hf_secret"}
        assert [asked.headers.get("authorization") for asked in cdn.asked] == [None]
    for file in (pool.models / NAME).iterdir():
        assert b"signature" not in file.read_bytes()[:5000] and b"hf_secret" not in file.read_bytes()[:5000]


def test_a_repository_and_what_of_it(server: FileServer, pool: Pool) -> None:
    server.hub("a/Some-GGUF", {"some-Q8_0.gguf": CONTENT, "some-Q2_K.gguf": NEWER})
    unclear = pool("get", "a/Some-GGUF")
    assert unclear.returncode == 2 and unclear.stdout == ""
    assert "5.8 MB  some-Q2_K.gguf" in unclear.stderr and "pool models get a/Some-GGUF:Q2_K" in unclear.stderr
    assert files(server) == []
    for args, name in (
        (["a/Some-GGUF:q8_0"], "some-q8_0"),
        (["a/Some-GGUF", "--file", "some-Q2_K.gguf"], "some-q2_k"),
        (["a/Some-GGUF:Q8_0", "--name", "mine", "--revision", "main", "--sha256", SHA256], "mine"),
    ):
        done = pool("get", *args)
        assert done.returncode == 0, done.stderr
        assert f"--model {name}" in done.stdout
    assert sorted(pool.listed()) == ["mine", "some-q2_k", "some-q8_0"]
    other = pool("get", "a/Some-GGUF:Q8_0", "--sha256", "0" * 64)
    assert other.returncode == 2 and SHA256 in other.stderr


def test_all_parts_of_a_split_model_and_only_what_is_missing(server: FileServer, pool: Pool) -> None:
    parts = {f"Q4_K_M/big-Q4_K_M-0000{n}-of-00003.gguf": CONTENT[: -n * 1000] + bytes(n) for n in (1, 2, 3)}
    server.hub("a/big", parts)
    digests = [hashlib.sha256(content).hexdigest() for content in parts.values()]
    server.files[f"/cdn/{digests[1]}"].cuts = [3_000_000]
    server.files[f"/cdn/{digests[1]}"].hold = hold = threading.Event()
    with pool.begin("get", "a/big") as process:
        until(pool.models / "big-q4_k_m" / "big-Q4_K_M-00002-of-00003.gguf.part", 3_000_000)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    hold.set()
    assert process.returncode == 130 and out == ""
    assert "8.8 MB are kept" in err and "pool models get a/big" in err
    begun = pool("list").stdout
    assert re.search(r"big-q4_k_m +8\.8 MB +begun", begun)
    server.asked.clear()
    done = pool("get", "a/big")
    assert done.returncode == 0, done.stderr
    assert "8.8 MB of it here" in done.stderr
    assert files(server) == [f"/cdn/{digests[1]}", f"/cdn/{digests[2]}"]
    assert [asked.headers.get("range") for asked in server.asked if asked.path.startswith("/cdn/")] == [
        "bytes=3000000-",
        None,
    ]
    model = pool.listed()["big-q4_k_m"]
    assert model["sha256"] == digests
    assert model["path"].endswith("big-q4_k_m/big-Q4_K_M-00001-of-00003.gguf")


def test_a_damaged_part_that_was_thought_whole_is_fetched_again(server: FileServer, pool: Pool) -> None:
    parts = {f"x-0000{n}-of-00002.gguf": CONTENT + bytes(n) for n in (1, 2)}
    server.hub("a/x", parts)
    (pool.models / "x").mkdir(parents=True)
    (pool.models / "x" / "x-00001-of-00002.gguf").write_bytes(CONTENT + b"\1")
    done = pool("get", "a/x")
    assert done.returncode == 0 and "x-00001-of-00002.gguf is damaged" in done.stderr
    assert (pool.models / "x" / "x-00001-of-00002.gguf").read_bytes() == CONTENT + b"\0"


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_and_gone_on_with(server: FileServer, pool: Pool, how: signal.Signals, code: int) -> None:
    server.hub(REPOSITORY, {FILE: CONTENT})
    file = server.files[f"/cdn/{SHA256}"]
    file.cuts, file.hold = [3_000_000], threading.Event()
    with pool.begin("get", NAME) as process:
        until(pool.models / NAME / f"{FILE}.part", 3_000_000)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    file.hold.set()
    assert process.returncode == code
    assert err.splitlines()[-2:] == [
        "stopped; 3.0 MB are kept",
        f"  the same command goes on from there: pool models get {NAME}",
    ]
    part = pool.models / NAME / f"{FILE}.part"
    assert part.read_bytes() == CONTENT[:3_000_000]
    assert pool.listed() == {}
    done = pool("get", NAME)
    assert done.returncode == 0 and "3.0 MB are here already" in done.stderr
    assert server.asked[-1].headers["range"] == "bytes=3000000-"
    assert (pool.models / NAME / FILE).read_bytes() == CONTENT


def test_a_wrong_checksum(server: FileServer, pool: Pool) -> None:
    server.hub(REPOSITORY, {FILE: CONTENT}, **{FILE: "1" * 64})
    done = pool("get", NAME)
    assert done.returncode == 1 and "wrong checksum" in done.stderr and done.stdout == ""
    assert not (pool.models / NAME).exists()


def test_an_address(server: FileServer, pool: Pool) -> None:
    server.files["/dir/Tiny%20Model.F16.gguf"] = Served(CONTENT)
    url = f"{server.url}/dir/Tiny%20Model.F16.gguf"
    done = pool("get", f"{url}?token=secret")
    assert done.returncode == 0, done.stderr
    assert "plain http and no checksum" in done.stderr and "licence not stated" in done.stderr
    model = pool.listed()["tiny-model.f16"]
    assert model["source"] == url and model["sha256"] == [SHA256] and model["quantisation"] == "F16"
    assert (pool.models / "tiny-model.f16" / "Tiny-Model.F16.gguf").read_bytes() == CONTENT
    assert (
        "secret"
        not in done.stdout + done.stderr + (pool.models / "tiny-model.f16" / "model.json").read_text()
    )
    wrong = pool("get", url, "--name", "other", "--sha256", "0" * 64)
    assert wrong.returncode == 1 and "wrong checksum" in wrong.stderr
    assert not (pool.models / "other").exists()
    assert "plain http" not in wrong.stderr  # the checksum is the protection


def test_what_is_cut_off_at_its_source(server: FileServer, pool: Pool) -> None:
    """Its length is as announced and there is no checksum; its own header says that something is missing."""
    server.files["/x.gguf"] = Served(CONTENT[:2_000_000])
    done = pool("get", f"{server.url}/x.gguf")
    assert done.returncode == 1 and "cut off" in done.stderr and "deleted" in done.stderr
    assert not (pool.models / "x").exists()


def test_a_file_is_registered_and_never_touched(server: FileServer, pool: Pool, tmp_path: Path) -> None:
    mine = tmp_path / "My Model.gguf"
    mine.write_bytes(CONTENT)
    done = pool("get", "./My Model.gguf", "--sha256", SHA256)
    assert done.returncode == 0, done.stderr
    assert "my-model is registered" in done.stdout and "stays where it is" in done.stdout
    model = pool.listed()["my-model"]
    assert model["path"] == str(mine) and model["registered"] and model["quantisation"] == "F16"
    assert "(registered)" in pool("list").stdout
    removed = pool("rm", "my-model")  # nothing is lost, so nobody is asked
    assert removed.returncode == 0 and "its file stays" in removed.stdout
    assert mine.read_bytes() == CONTENT and pool.listed() == {} and server.asked == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"PK\3\4", "not a GGUF"), (b"version https://git-lfs", "Git LFS pointer")],
)
def test_what_is_no_model_is_not_registered(pool: Pool, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    done = pool("get", "m.gguf")
    assert done.returncode == 2 and said in done.stderr and pool.listed() == {}


def test_a_newer_version_takes_the_place_of_the_old(server: FileServer, pool: Pool) -> None:
    server.hub(REPOSITORY, {FILE: CONTENT})
    assert pool("get", NAME).returncode == 0
    server.hub(REPOSITORY, {FILE: NEWER})
    assert pool("get", NAME).returncode == 0
    assert (pool.models / NAME / FILE).read_bytes() == NEWER
    assert pool.listed()[NAME]["sha256"] == [hashlib.sha256(NEWER).hexdigest()]


def test_two_models_of_one_name(server: FileServer, pool: Pool) -> None:
    server.hub("a/x", {"x-Q8_0.gguf": CONTENT})
    server.hub("b/x", {"x-Q8_0.gguf": NEWER})
    assert pool("get", "a/x").returncode == 0
    taken = pool("get", "b/x")
    assert (
        taken.returncode == 2 and "another model called x-q8_0" in taken.stderr and "--name" in taken.stderr
    )
    assert pool.listed()["x-q8_0"]["sha256"] == [SHA256]
    assert pool("get", "b/x", "--name", "x-of-b").returncode == 0


def test_too_large_for_the_disk(server: FileServer, pool: Pool) -> None:
    server.hub("a/huge", {"huge.gguf": CONTENT})
    about = server.json["/api/models/a/huge"][1]
    about["siblings"][0]["lfs"]["size"] = 9_000_000_000_000_000  # type: ignore[index]
    done = pool("get", "a/huge")
    assert done.returncode == 1
    assert re.search(
        r"9000000 GB are still to be fetched and 1\.0 GB should stay free, but .* has [\d.]+ GB", done.stderr
    )
    assert files(server) == [] and not (pool.models / "huge").exists()


@pytest.mark.parametrize(
    "path", ["../../evil.gguf", "/etc/evil.gguf", "a/.hidden/..evil.gguf", "\x1b[2Jevil.gguf"]
)
def test_a_foreign_path_stays_in_the_folder(server: FileServer, pool: Pool, path: str) -> None:
    server.hub("a/x", {path: CONTENT}, licence="\x1b]0;title\x07mit")
    done = pool("get", "a/x", "--name", "x")
    assert "\x1b" not in done.stdout + done.stderr
    there = sorted(str(p.relative_to(pool.home)) for p in pool.home.rglob("*") if p.is_file())
    # Some of them cannot even be asked for; none of them leads anywhere else.
    assert all(re.fullmatch(r"models/x/(model\.json|[A-Za-z0-9-]*evil\.gguf)", p) for p in there), there


def test_usage(server: FileServer, pool: Pool) -> None:
    for args, said in (
        (["nothing"], "no model `nothing` in the list"),
        (["demo"], "comes with pool"),
        (["a/b"], "no repository a/b"),
        ([f"{server.url}/none.gguf"], "status 404"),
        ([NAME, "--sha256", "xyz"], "64 hexadecimal digits"),
        ([f"{server.url}/x.gguf", "--file", "Q8_0"], "--file goes with a repository"),
        ([str(DEMO), "--revision", "main"], "--revision goes with a repository"),
        ([str(DEMO), "--name", "../x"], "cannot be called"),
    ):
        done = pool("get", *args)
        assert done.returncode in (1, 2) and said in done.stderr and done.stdout == "", args
    assert not pool.models.exists()


# Asking -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def large(server: FileServer) -> FileServer:
    """A hub that announces more than is fetched without a question (and then turns out to have less)."""
    server.hub(REPOSITORY, {FILE: CONTENT})
    for path in (f"/api/models/{REPOSITORY}",):
        server.json[path][1]["siblings"][0]["lfs"]["size"] = 1_100_000_000  # type: ignore[index]
    return server


def test_at_a_terminal_a_large_download_is_asked_about(large: FileServer, pool: Pool) -> None:
    for answer in ("n\n", "\x04"):
        child = pool.terminal("get", NAME)
        child.expect(r"1\.1 GB to")
        child.expect(r"Fetch it\? \[Y/n\] ")
        child.send(answer)
        child.expect("nothing was fetched")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
    assert files(large) == [] and not pool.models.exists()
    child = pool.terminal("get", NAME)
    child.expect(r"Fetch it\? \[Y/n\] ")
    child.send("\n")
    child.expect("were announced")  # it was fetched, and found to be shorter than the hub says
    child.expect(pexpect.EOF)
    assert len(files(large)) == 1


def test_elsewhere_the_command_is_the_answer(large: FileServer, pool: Pool) -> None:
    done = pool("get", NAME)
    assert "Fetch it?" not in done.stderr and len(files(large)) == 1
    child = pool.terminal("get", NAME, "--yes")
    child.expect("were announced")
    assert "Fetch it?" not in child.before


def test_a_bar_at_a_terminal(server: FileServer, pool: Pool) -> None:
    server.hub(REPOSITORY, {FILE: CONTENT})
    child = pool.terminal("get", NAME, columns=60)
    child.expect("100%")
    child.expect(pexpect.EOF)
    assert "--model qwen2.5-coder-1.5b" in child.before
    assert child.before.rfind("\x1b[?25h") >= child.before.rfind("\x1b[?25l")  # the cursor is back


def test_deleting_is_asked_about(server: FileServer, pool: Pool) -> None:
    server.hub(REPOSITORY, {FILE: CONTENT})
    pool("get", NAME)
    silent = pool("rm", NAME)
    assert silent.returncode == 2 and "--yes" in silent.stderr
    for answer in ("\n", "n\n", "\x04"):
        child = pool.terminal("rm", NAME)
        child.expect(r"Delete qwen2.5-coder-1.5b \(5\.8 MB\)\? \[y/N\] ")
        child.send(answer)
        child.expect("nothing was deleted")
        child.expect(pexpect.EOF)
    assert (pool.models / NAME / FILE).exists()
    child = pool.terminal("rm", NAME)
    child.expect(r"\[y/N\] ")
    child.send("y\n")
    child.expect(r"5\.8 MB are free again")
    child.expect(pexpect.EOF)
    assert not (pool.models / NAME).exists()


# list and rm ------------------------------------------------------------------------------------------------------


def test_an_empty_list(server: FileServer, pool: Pool) -> None:
    done = pool("list")
    assert done.returncode == 0 and "no models here yet" in done.stdout
    assert re.search(r"^. qwen3-coder-30b +~18\.6 GB +~22 GB +256k +Apache-2\.0  ", done.stdout, re.MULTILINE)
    found = json.loads(pool("list", "--json").stdout)
    assert found["models"] == [] and len(found["catalogue"]) > 8
    assert all(model["fits"] == (found["memory"] >= model["memory"] * 1e9) for model in found["catalogue"])
    assert server.asked == [] and not pool.models.exists()


@pytest.mark.parametrize("columns", [60, 80])
def test_the_list_fits_a_terminal(pool: Pool, tmp_path: Path, columns: int) -> None:
    (tmp_path / "a.gguf").write_bytes(CONTENT)
    assert pool("get", "a.gguf").returncode == 0
    (tmp_path / "a.gguf").unlink()
    child = pool.terminal("list", columns=columns)
    child.expect(pexpect.EOF)
    rows = [re.sub(r"\x1b\[[0-9;]*m", "", row) for row in child.before.splitlines()]
    table = [row for row in rows if str(tmp_path)[:20] not in row and "/" not in row]
    assert max(map(len, table)) < columns and len(table) > 20
    assert any("missing or changed" in row for row in rows)


def test_without_colours_and_without_unicode(pool: Pool) -> None:
    pool.env["NO_COLOR"] = "1"
    child = pool.terminal("list", columns=80)
    child.expect(pexpect.EOF)
    assert "\x1b" not in child.before
    pool.env |= {
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    done = pool("list")
    assert done.returncode == 0 and done.stdout.isascii()


def test_removing_what_is_not_here(server: FileServer, pool: Pool) -> None:
    server.hub(REPOSITORY, {FILE: CONTENT})
    pool("get", NAME)
    for name, said in (
        ("none", "no model called `none`"),
        ("qwen2.5", f"did you mean {NAME}"),
        ("../x", "no model"),
    ):
        done = pool("rm", name, "--yes")
        assert done.returncode == 2 and said in done.stderr
    assert (pool.models / NAME / FILE).exists()  # a beginning is enough to use a model, not to delete one


def test_removing_what_was_begun(server: FileServer, pool: Pool) -> None:
    (pool.models / "half").mkdir(parents=True)
    (pool.models / "half" / "x.gguf.part").write_bytes(bytes(5000))
    done = pool("rm", "half", "--yes")
    assert done.returncode == 0 and not (pool.models / "half").exists()


IMPORTED = """
import sys
from poolcli.commands import model_files
with open(sys.argv[1], "w") as report:
    sys.stdout = sys.stderr = open("/dev/null", "w")
    model_files.get(sys.argv[2])
    model_files.list_files()
    model_files.rm("pool-demo")
    report.write(" ".join(sys.modules))
"""


def test_nothing_that_speaks_to_a_network_is_loaded_for_local_things(pool: Pool, tmp_path: Path) -> None:
    report = tmp_path / "report"
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, str(report), str(DEMO)], env=pool.env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = set(report.read_text().split())
    assert not loaded & {"httpx", "huggingface_hub", "rich", "httpcore", "pydantic"}


def test_a_full_disk_in_the_middle(server: FileServer, pool: Pool, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: any user can set one."""
    server.hub(REPOSITORY, {FILE: CONTENT})
    limited = ["bash", "-c", 'ulimit -f 2000; trap "" XFSZ; exec "$@"', "-", *pool.argv, "get", NAME]
    done = subprocess.run(limited, env=pool.env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "is full at 2.0 MB of 5.8 MB" in done.stderr, done.stderr
    assert not (pool.models / NAME / FILE).exists()
    with contextlib.suppress(FileNotFoundError):
        assert CONTENT.startswith((pool.models / NAME / f"{FILE}.part").read_bytes())
    assert pool("get", NAME).returncode == 0
    assert (pool.models / NAME / FILE).read_bytes() == CONTENT


def test_with_a_server_configured_the_next_step_names_the_file(pool: Pool, tmp_path: Path) -> None:
    """`--model NAME` would be asked of that server."""
    file = tmp_path / "my model.gguf"
    shutil.copy(DEMO, file)
    pool.env["POOL_BASE_URL"] = "http://127.0.0.1:9/v1"
    done = pool("get", str(file))
    assert done.returncode == 0, done.stderr
    assert f"--model 'local:{file}'" in done.stdout and "pool models use my-model" in done.stdout


def test_an_address_where_nobody_is(pool: Pool) -> None:
    pool.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    for what in ("http://127.0.0.1:9/x.gguf", "a/b"):
        done = pool("get", what)
        assert done.returncode == 1 and "onnection refused" in done.stderr and "Errno" not in done.stderr
