"""`pool setup`, and runs that have what it made: a package of an index of this machine, never of the network."""

from __future__ import annotations

import http.server
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poolcli.sandbox import detect
from tests.e2e.conftest import CALC, FIX, Pool, call, git, reply, snapshot
from tests.e2e.test_interrupt import marked, wait_for

pytestmark = pytest.mark.skipif(
    not detect.bubblewrap().works, reason="needs bubblewrap: a setup is made and used in it alone"
)

TEST = """import unittest

import tidy_demo
from calc import add


class TestCalc(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(tidy_demo.VALUE, 1), tidy_demo.VALUE + 1)
"""
CHECK = ".venv/bin/python -m unittest -q"
REPLIES = (reply("", call("edit", **FIX)), reply("It adds now."))


def wheel(folder: Path, version: str, value: int) -> None:
    file = folder / f"tidy_demo-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tidy_demo.py", f"VALUE = {value}\n")
        info = f"tidy_demo-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tidy-demo\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        names = ("tidy_demo.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A package index with one package in two versions; what it was asked for."""
    asked: list[str] = []
    place = tmp_path / "index" / "simple" / "tidy-demo"
    place.mkdir(parents=True)
    wheel(place, "1.0", 42)
    wheel(place, "2.0", 43)
    names = sorted(path.name for path in place.iterdir())
    (place / "index.html").write_text("".join(f'<a href="{name}">{name}</a>' for name in names))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "index"))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    # Not 127.0.0.1, which programs ask without a proxy.
    server = http.server.ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.2:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def project(make_pool: Callable[[dict[str, str]], Pool], index: tuple[str, list[str]]) -> Pool:
    """A repository whose tests import the package of the index, and an environment that names the index."""
    pool = make_pool({"calc.py": CALC, "test_calc.py": TEST, "requirements.txt": "tidy-demo==1.0\n"})
    pool.env |= {
        "POOL_SANDBOX": "bubblewrap",
        "PIP_INDEX_URL": f"http://{index[0]}/simple/",
        # The interpreter itself and no shim of a version manager.
        "PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin",
        "CI": "",
    }
    return pool


def made(pool: Pool) -> list[Path]:
    return sorted(path.parent for path in pool.state.glob("*/setup/*/folders"))


def leftovers(pool: Pool) -> list[Path]:
    parts = [*pool.state.glob("*/setup/*.part"), *pool.state.glob("*/setup/*.log")]
    return [*parts, *pool.worktrees(), *pool.state.glob("*/runs/*.verdict")]


def test_a_setup_and_a_run_that_has_it(project: Pool, index: tuple[str, list[str]]) -> None:
    before = snapshot(project.repo)
    # The control: without it the tests cannot pass, and the run says what to do.
    bare = project.do("Fix add", "--test", "python3 -m unittest -q", replies=REPLIES)
    assert bare.returncode != 0 and "`pool setup` installs them in the sandbox" in bare.stderr + bare.stdout
    assert "No module named 'tidy_demo'" in bare.stderr + bare.stdout and index[1] == []

    done = project("setup", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "run    python3 -m venv .venv" in done.stdout
        and re.search(
            rf"reach  \S+\.\S+, .*{re.escape(index[0])}", done.stdout
        )  # pip's own, and the environment's
    )
    assert "keep   .venv" in done.stdout and "done: .venv" in done.stdout
    assert any(path.endswith(".whl") for path in index[1])
    assert len(made(project)) == 1 and leftovers(project) == []

    index[1].clear()
    again = project("setup", "--yes")
    assert again.returncode == 0 and "it is made: .venv" in again.stdout and index[1] == []

    for command in (CHECK, "python3 -m unittest -q"):  # by its path, and by PATH
        run = project.do("Fix add", "--test", command, replies=REPLIES)
        assert run.returncode == 0, run.stdout + run.stderr
    assert index[1] == [] and project.result()["status"] == "verified"
    verify = project("verify", "last")
    assert verify.returncode == 0, verify.stdout + verify.stderr
    assert snapshot(project.repo) == before

    # What a run writes there stays in it.
    spoil = (
        reply("", call("shell", command="rm -r .venv/lib; echo gone"), call("edit", **FIX)),
        reply("Done."),
    )
    project.do("Fix add", "--test", CHECK, replies=spoil)
    assert list(made(project)[0].glob("folders/.venv/lib/*/site-packages/tidy_demo.py"))
    run = project.do("Fix add", "--test", CHECK, replies=REPLIES)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_changed_lock_file_makes_another(project: Pool) -> None:
    assert project("setup", "--yes").returncode == 0
    (project.repo / "requirements.txt").write_text("tidy-demo==2.0\n")  # not committed
    shown = project("setup", "--show")
    assert shown.returncode == 0 and "not made yet" in shown.stdout
    assert project("setup", "--yes").returncode == 0
    assert len(made(project)) == 2
    (project.repo / "test_calc.py").write_text(TEST.replace("tidy_demo.VALUE, 1", "43, 1"))
    run = project.do("Fix add", "--test", CHECK, replies=REPLIES)
    assert run.returncode == 0, run.stdout + run.stderr
    git(project.repo, "checkout", "-q", "requirements.txt")
    assert "it is made" in project("setup", "--show").stdout


def test_the_users_own_wins(project: Pool) -> None:
    assert project("setup", "--yes").returncode == 0
    subprocess.run(
        [f"{sys.base_prefix}/bin/python3", "-m", "venv", "--without-pip", ".venv"],
        cwd=project.repo,
        check=True,
    )
    assert "your checkout has .venv itself" in project("setup", "--show").stdout
    run = project.do("Fix add", "--test", CHECK, replies=REPLIES)
    assert run.returncode not in (0, 1, 2), run.stdout + run.stderr  # without the package


def test_nobody_is_asked_without_a_terminal(project: Pool, index: tuple[str, list[str]]) -> None:
    done = project("setup")
    assert done.returncode == 2 and "nobody is here" in done.stderr and "pool setup --yes" in done.stderr
    assert "run    python3 -m venv .venv" in done.stdout and index[1] == [] and not made(project)


def test_other_sandboxes_are_refused(project: Pool) -> None:
    done = project("setup", "--yes", "--sandbox", "none")
    assert done.returncode == 8 and "made and used in bubblewrap" in done.stderr and not made(project)


def test_nothing_to_install(pool: Pool) -> None:
    done = pool("setup")
    assert done.returncode == 0 and "nothing to install" in done.stdout


def test_a_failure_says_where_its_output_is(project: Pool) -> None:
    (project.repo / "requirements.txt").write_text("no-such-package==1\n")
    done = project("setup", "--yes")
    assert done.returncode == 1 and "no-such-package" in done.stderr
    (log,) = project.state.glob("*/setup/*.log")
    assert str(log) in done.stderr and "no-such-package" in log.read_text()
    log.unlink()
    assert not made(project) and leftovers(project) == []


def test_an_untrusted_project_names_no_commands(project: Pool) -> None:
    (project.repo / ".pool").mkdir()
    (project.repo / ".pool" / "config.toml").write_text(
        '[setup]\nrun = ["mkdir -p kept && echo x > kept/x"]\nkeep = ["kept"]\ncache_key = ["requirements.txt"]\n'
    )
    shown = project("setup", "--show").stdout
    assert "kept" not in shown and "found requirements.txt" in shown
    # The control, which also has a folder that no rule of git's ignores.
    assert project("trust", "--yes").returncode == 0
    assert "run    mkdir -p kept" in project("setup", "--show").stdout
    done = project("setup", "--yes")
    assert done.returncode == 0 and "done: kept" in done.stdout, done.stdout + done.stderr
    status = (reply("", call("shell", command="cat kept/x; echo y > kept/y; git status --short")), *REPLIES)
    project.do("Fix add", "--test", "cat kept/x", replies=status)
    (said, _) = [e["data"]["text"] for e in project.events() if e["type"] == "tool.done"]
    assert "x" in said.split() and "kept/" not in said.replace("cat kept/x", "")
    assert project.result()["status"] == "verified" and "kept" not in project("diff").stdout


def test_a_signal_leaves_nothing(project: Pool) -> None:
    project.home.joinpath(".config/pool").mkdir(parents=True)
    project.home.joinpath(".config/pool/config.toml").write_text(
        '[setup]\nrun = ["mkdir .venv; (setsid sleep 300 &) ; sleep 300"]\n'
    )
    process = project.start("setup", "--yes")
    wait_for(lambda: bool(project.runs()) and len(marked(project.runs()[-1].name)) >= 2)
    name = project.runs()[-1].name
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and "nothing was left behind" in said
    assert marked(name) == [] and not made(project)
    assert leftovers(project) == []
    assert "refs/pool" not in git(project.repo, "for-each-ref")


def test_a_kill_is_swept_up_later(project: Pool) -> None:
    project.home.joinpath(".config/pool").mkdir(parents=True)
    project.home.joinpath(".config/pool/config.toml").write_text('[setup]\nrun = ["sleep 300"]\n')
    (project.repo / "calc.py").write_text(CALC + "# not committed\n")  # a base of its own
    process = project.start("setup", "--yes")
    wait_for(lambda: bool(project.runs()) and len(marked(project.runs()[-1].name)) >= 2)
    name = project.runs()[-1].name
    process.kill()
    process.communicate(timeout=20)
    assert project("log").returncode == 0
    project.do("Fix add", "--test", "true", replies=REPLIES)
    assert marked(name) == [] and name not in [
        place.name for place in (*project.worktrees(), *project.runs())
    ]
    assert name not in git(project.repo, "for-each-ref")


def test_a_person_is_asked(project: Pool) -> None:
    """At a narrow terminal: what is shown fits it, and a line break in a command makes no line."""
    project.home.joinpath(".config/pool").mkdir(parents=True)
    project.home.joinpath(".config/pool/config.toml").write_text(
        f'[setup]\nrun = ["""true {"x" * 80}\n  reach  nothing\x1b[2J"""]\nallow_net = ["a.example"]\n'.replace(
            "\x1b", "\\u001b"
        )
    )
    child, fd = pty.fork()
    if child == 0:
        os.chdir(project.repo)
        os.execve(
            sys.executable, project.argv("setup"), {**project.environment(), "TERM": "xterm", "COLUMNS": "60"}
        )
    said = ""
    end = time.monotonic() + 30
    while "[y]es" not in said and time.monotonic() < end:
        if select.select([fd], [], [], 0.5)[0]:
            said += os.read(fd, 65536).decode()
    os.write(fd, b"n\n")
    while True:
        try:
            said += os.read(fd, 65536).decode()
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8, said
    shown = said.split("Run this")[0].splitlines()
    assert all(len(line) < 60 for line in shown) and "\x1b" not in "".join(shown)
    assert [line for line in shown if line.startswith("  reach")] == ["  reach  a.example"]
    assert "nothing was installed" in said and not made(project)


def test_doctor_says_it(project: Pool) -> None:
    def line() -> str:
        return next(row for row in project("doctor").stdout.splitlines() if " packages " in row)

    assert "`pool setup`" in line() and "none installed" in line()
    assert project("setup", "--yes").returncode == 0
    assert "installed by `pool setup`" in line()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root works in another user's checkout")
def test_root_in_another_users_checkout(project: Pool, tmp_path: Path) -> None:
    """Commands have that user's rights: the caches, the way out and what was made are within its reach."""
    (project.home / ".gitconfig").write_text(f"[safe]\n\tdirectory = {project.repo}\n")
    subprocess.run(["chown", "-R", "nobody", str(project.repo)], check=True)
    done = project("setup", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    run = project.do("Fix add", "--test", CHECK, replies=REPLIES)
    assert run.returncode == 0, run.stdout + run.stderr
