"""Landlock on this kernel: each attack works without it and fails with it; ordinary work goes on under it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from poolcli import process
from poolcli.errors import RefusedError
from poolcli.sandbox import NONE, Confinement, Limits, Sandbox, landlock, wrap

pytestmark = pytest.mark.skipif(
    landlock.available() < landlock.LEAST, reason="this kernel has no Landlock that is new enough"
)
#: The interpreter of these tests, wherever it was installed.
TOOLS = tuple({Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent})


class Place:
    """A worktree, a home for commands, a home of the user, and something outside; and ways to run commands."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root, self.home, self.user, self.outside = (top / n for n in ("tree", "home", "user", "outside"))
        for folder in (self.root, self.home, self.user, self.outside):
            folder.mkdir()
        self.confinement = Confinement(root=self.root, seen=self.root, home=self.home, readable=TOOLS)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.user), "LANG": "C.UTF-8"}

    def run(
        self, sandbox: Sandbox, *argv: str, confinement: Confinement | None = None
    ) -> subprocess.CompletedProcess[str]:
        launch = wrap(sandbox, argv, confinement or self.confinement, self.env)
        return subprocess.run(
            launch.argv,
            env=launch.env,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def confined(
        self, command: str, confinement: Confinement | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.run(SANDBOX, "/bin/bash", "-c", command, confinement=confinement)

    def python(self, code: str, confinement: Confinement | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(SANDBOX, sys.executable, "-c", textwrap.dedent(code), confinement=confinement)

    def attack(self, code: str, *args: str) -> tuple[bool, bool]:
        """Whether the Python `code` succeeds without, and with, confinement."""
        words = (sys.executable, "-c", textwrap.dedent(code), *args)
        return self.run(NONE, *words).returncode == 0, self.run(SANDBOX, *words).returncode == 0


SANDBOX = landlock.sandbox(landlock.available())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setenv("HOME", str(made.user))
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    return made


# What it stops


@pytest.mark.parametrize(
    "code",
    [
        "import sys; open(sys.argv[1], 'w')",
        "import os, sys; os.truncate(sys.argv[1], 0)",
        "import os, sys; os.remove(sys.argv[1])",
        "import os, sys; os.rename(sys.argv[1], 'mine')",
        "import os, sys; os.link(sys.argv[1], 'mine')",
        "import os, sys; os.symlink(sys.argv[1], 'link'); open('link', 'a').write('x')",
        "import sys; open(sys.argv[1]).read()",
    ],
)
def test_a_file_outside_is_neither_written_nor_read(place: Place, code: str) -> None:
    victim = place.outside / "victim"
    words = (sys.executable, "-c", code, str(victim))
    victim.write_text("kept")
    assert place.run(SANDBOX, *words).returncode != 0
    assert victim.read_text() == "kept" and not (place.root / "mine").exists()
    for made in place.root.iterdir():
        made.unlink()
    assert place.run(NONE, *words).returncode == 0


def test_the_home_of_the_user_stays_closed_in_a_folder_that_is_open(place: Place) -> None:
    (place.user / "canary").write_text("secret")
    (place.user / "tool").mkdir()
    (place.user / "tool" / "run").write_text("a tool")
    (place.outside / "notes").write_text("notes")
    opened = Confinement(
        root=place.root, seen=place.root, home=place.home, readable=(place.top, place.user / "tool")
    )
    done = place.confined(f"cat {place.outside}/notes {place.user}/tool/run {place.user}/canary", opened)
    assert done.stdout == "notesa tool" and "Permission denied" in done.stderr
    assert place.run(NONE, "cat", f"{place.user}/canary").stdout == "secret"


def test_what_the_confinement_hides_stays_closed(place: Place) -> None:
    (place.outside / ".git").mkdir()
    (place.outside / ".git" / "config").write_text("secret")
    (place.outside / "notes").write_text("notes")
    opened = Confinement(
        root=place.root,
        seen=place.root,
        home=place.home,
        readable=(place.outside,),
        hidden=(place.outside / ".git",),
    )
    done = place.confined(f"cat {place.outside}/notes {place.outside}/.git/config", opened)
    assert done.stdout == "notes" and "Permission denied" in done.stderr


@pytest.mark.parametrize("where", ["equal", "inside", "around", "linked"])
def test_what_is_hidden_is_not_laid_open_by_what_is_readable(place: Place, where: str) -> None:
    kept = place.outside / "kept"
    (kept / "inner").mkdir(parents=True)
    file = kept / "inner" / "events"
    file.write_text("secret")
    (place.top / "link").symlink_to(kept)
    path = {"equal": kept, "inside": kept / "inner", "around": place.outside, "linked": place.top / "link"}[
        where
    ]
    opened = msgspec.structs.replace(place.confinement, readable=(*TOOLS, path))
    assert place.confined(f"cat {file}", opened).stdout == "secret"  # the control
    closed = landlock.rules(opened, home=place.user, hidden=(kept,)).read
    assert not any(str(file).startswith(f"{allowed}/") or allowed == str(file) for allowed in closed)
    hidden = msgspec.structs.replace(opened, hidden=(kept,))
    assert place.confined(f"cat {file}", hidden).stdout == ""
    # What pool lays out for the run may lie there.
    given = msgspec.structs.replace(hidden, given=(kept / "inner",))
    assert place.confined(f"cat {file}", given).stdout == "secret"


def test_no_tcp(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        attack = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
        assert place.attack(attack, port) == (True, False)


def test_no_udp(place: Place) -> None:
    attack = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', int(sys.argv[1])))"
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        assert place.attack(attack, str(server.getsockname()[1])) == (True, False)
        assert server.recv(10) == b"x"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(10)


@pytest.mark.skipif(landlock.available() < landlock.SCOPED, reason="this kernel does not scope them")
def test_no_abstract_socket_of_others(place: Place) -> None:
    name = "\0pool-test-" + os.urandom(6).hex()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        attack = "import socket, sys; socket.socket(socket.AF_UNIX).connect(chr(0) + sys.argv[1])"
        assert place.attack(attack, name[1:]) == (True, False)


@pytest.mark.skipif(landlock.available() < landlock.SCOPED, reason="this kernel does not scope them")
def test_no_signal_to_other_processes(place: Place) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        attack = "import os, sys; os.kill(int(sys.argv[1]), 0)"
        assert place.attack(attack, str(other.pid)) == (True, False)
        # The process that waits for the command is outside, too.
        done = place.python("import os; os.kill(os.getppid(), 9)")
        assert "PermissionError" in done.stderr
        other.kill()


@pytest.mark.parametrize("file", ["environ", "mem", "maps", "root/etc/passwd"])
def test_other_processes_are_not_looked_into(place: Place, file: str) -> None:
    with subprocess.Popen(["sleep", "60"], env={"CANARY": "secret"}) as other:
        attack = "import sys; open(f'/proc/{sys.argv[1]}/' + sys.argv[2], 'rb')"
        assert place.attack(attack, str(other.pid), file) == (True, False)
        other.kill()


def test_nothing_is_typed_into_a_terminal(place: Place) -> None:
    # The filter answers before it is asked whether there is a terminal at all.
    attack = (
        "import fcntl, sys\ntry: fcntl.ioctl(0, 0x5412, b'x')\nexcept OSError as e: sys.exit(e.errno != 25)"
    )
    assert place.attack(attack) == (True, False)


def test_no_rights_come_back(place: Place) -> None:
    status = place.confined("cat /proc/self/status").stdout
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert values["NoNewPrivs"] == "1" and values["Seccomp"] == "2"
    assert {int(values[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}


def test_settings_of_the_kernel_are_not_written(place: Place) -> None:
    done = place.confined("echo x > /proc/sys/kernel/core_pattern; echo 1 > /proc/self/oom_score_adj")
    assert done.stderr.count("Permission denied") == 2


def test_no_new_namespaces(place: Place) -> None:
    attack = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000) != 0)"
    without, confined = place.attack(attack)
    assert not confined
    assert without or os.geteuid() != 0  # a user may be refused by the machine itself


def test_daemons_end_with_the_command(place: Place) -> None:
    # Two forks and a session of its own, with nothing of the command's left open.
    code = """
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for fd in range(3): os.close(fd)
                open('daemon', 'w').write(str(os.getpid()))
                time.sleep(60)
            os._exit(0)
        while not (os.path.exists('daemon') and os.path.getsize('daemon')): time.sleep(0.01)
    """
    assert place.python(code).returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int((place.root / "daemon").read_text()), 0)


def test_all_ends_when_pool_is_killed(place: Place) -> None:
    code = """
        import subprocess, sys, time
        from pathlib import Path
        from poolcli.sandbox import Confinement, landlock, wrap
        tree, home = Path(sys.argv[1]), Path(sys.argv[2])
        script = "echo $$ > pid; sleep 60"
        words, env = ["/bin/bash", "-c", script], {"PATH": "/usr/bin:/bin"}
        launch = wrap(landlock.sandbox(7), words, Confinement(tree, tree, home), env)
        subprocess.run(launch.argv, env=launch.env, cwd=tree)
    """
    words = [sys.executable, "-c", textwrap.dedent(code), str(place.root), str(place.home)]
    with subprocess.Popen(words, cwd=Path(__file__).parents[2]) as pool:
        file = place.root / "pid"
        while not (file.exists() and file.read_text().strip()):
            assert pool.poll() is None
            time.sleep(0.01)
        pool.kill()
    inner = int(file.read_text())
    assert _ended(inner)


def test_a_timeout_ends_all(place: Place) -> None:
    script = "trap '' TERM; echo $TMPDIR > temp; (setsid sleep 60 & echo $! > pid); sleep 60"
    launch = wrap(SANDBOX, ["/bin/bash", "-c", script], place.confinement, place.env)
    done = asyncio.run(process.run(launch.argv, cwd=place.root, env=launch.env, timeout=2))
    assert done.timed_out
    assert _ended(int((place.root / "pid").read_text()))
    assert not Path((place.root / "temp").read_text().strip()).exists()


def _ended(pid: int) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


# What goes on working


def test_the_end_of_the_command_is_passed_on(place: Place) -> None:
    assert place.confined("echo out; echo err >&2; exit 7").returncode == 7
    done = place.confined("echo out; echo err >&2; kill -TERM $$")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "out\n", "err\n")
    assert place.confined("kill -KILL $$").returncode == -signal.SIGKILL
    done = place.run(SANDBOX, "/no/such/program")
    assert done.returncode == 126 and "not started" in done.stderr


def test_signals_reach_the_command(place: Place) -> None:
    script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    launch = wrap(SANDBOX, ["/bin/bash", "-c", script], place.confinement, place.env)
    with subprocess.Popen(
        launch.argv,
        env=launch.env,
        cwd=place.root,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as started:
        assert started.stdout is not None and started.stdout.readline() == "ready\n"
        os.killpg(started.pid, signal.SIGTERM)
        assert started.stdout.read() == "caught\n"
    assert started.returncode == 3


def test_temporary_files_have_a_folder_that_goes(place: Place) -> None:
    done = place.confined(
        'mktemp -d; echo "$TMPDIR"; mkdir -p "$TMPDIR/a/b"; touch "$TMPDIR/a/b/c"; chmod 0 "$TMPDIR/a"'
    )
    made, folder = done.stdout.split()
    assert made.startswith(folder + "/")
    assert not Path(folder).exists()


def test_a_folder_that_a_kill_left_is_removed_by_the_next_command(place: Place) -> None:
    first = Path(place.confined('echo "$TMPDIR"').stdout.strip())
    name, namespace, pid, _ = first.name.split("-")
    dead = first.with_name(f"{name}-{namespace}-{pid}-0")
    living = first.with_name(f"{name}-{namespace}-{os.getpid()}-0")
    living.mkdir()
    try:
        (dead / "sub").mkdir(parents=True)
        place.confined("true")
        assert living.exists() and not dead.exists()
    finally:
        living.rmdir()


def test_bash_can_do_what_it_does(place: Place) -> None:
    done = place.confined(
        "cat <(echo one) > out; echo two >> out; cat out 2>/dev/null | tee copy; cd ~ && touch kept"
    )
    assert done.stdout == "one\ntwo\n" and done.returncode == 0
    assert (place.home / "kept").exists()


WORK = {
    "processes": """
        import multiprocessing as m
        for way in ("fork", "spawn", "forkserver"):
            c = m.get_context(way)
            with c.Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]
            with c.Manager() as manager: manager.dict()[1] = c.Lock
    """,
    "shared memory": """
        from multiprocessing import shared_memory as s
        block = s.SharedMemory(create=True, size=100); block.buf[0] = 1; block.close(); block.unlink()
    """,
    "sqlite": """
        import sqlite3
        db = sqlite3.connect("x.db"); db.execute("pragma journal_mode=wal"); db.execute("create table t (a)")
        db.execute("insert into t values (1)"); db.commit()
        assert db.execute("select a from t").fetchall() == [(1,)]
    """,
    "asyncio on a unix socket": """
        import asyncio
        async def main():
            async def answer(r, w):
                w.write((await r.readline()).upper()); w.close()
            async with await asyncio.start_unix_server(answer, "s.sock"):
                r, w = await asyncio.open_unix_connection("s.sock")
                w.write(b"hello\\n")
                assert await r.readline() == b"HELLO\\n"
            await asyncio.create_subprocess_exec("true")
        asyncio.run(main())
    """,
    "an abstract socket of its own": """
        import socket
        server = socket.socket(socket.AF_UNIX); server.bind("\\0pool-own-" + str(__import__("os").getpid()))
        server.listen(); socket.socket(socket.AF_UNIX).connect(server.getsockname())
    """,
    "files between folders": """
        import os, pathlib, tempfile
        os.makedirs("a/b"); pathlib.Path("a/f").write_text("x"); os.rename("a/f", "a/b/f"); os.link("a/b/f", "g")
        os.symlink("g", "h"); os.mkfifo("p"); os.replace("g", os.path.expanduser("~/g"))
        with tempfile.NamedTemporaryFile() as f: f.write(b"x")
    """,
    "the names of this machine": """
        import getpass, os, platform, socket
        socket.gethostname(); platform.platform(); os.cpu_count(); os.getloadavg(); open("/proc/self/status").read()
    """,
    "debugging its own": """
        import ctypes, os, signal, time
        child = os.fork()
        if child == 0: time.sleep(60)
        assert ctypes.CDLL(None).ptrace(16, child, 0, 0) == 0
        os.kill(child, signal.SIGKILL)
    """,
}


@pytest.mark.parametrize("work", WORK)
def test_work_goes_on(place: Place, work: str) -> None:
    script = "if __name__ == '__main__':\n" + textwrap.indent(textwrap.dedent(WORK[work]), "    ")
    (place.root / "work.py").write_text(script)
    done = place.run(SANDBOX, sys.executable, "work.py")
    assert done.returncode == 0, done.stderr


def git(*args: str, cwd: Path) -> str:
    words = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *args]
    return subprocess.run(words, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("led_by", ["file", "variable"])
def test_git_works_in_the_repository_of_the_run(place: Place, led_by: str) -> None:
    """The user's objects are borrowed and stay as they are; what is new is in the run's own repository."""
    main, shadow = place.top / "main", place.top / "shadow"
    main.mkdir()
    git("init", "-q", "-b", "trunk", cwd=main)
    (main / "a.txt").write_text("a\n")
    git("add", "-A", cwd=main)
    git("commit", "-q", "-m", "first", cwd=main)
    before = {path: path.stat().st_mtime_ns for path in (main / ".git").rglob("*")}
    git("init", "-q", "--bare", str(shadow), cwd=place.top)
    git("config", "core.bare", "false", cwd=shadow)
    (shadow / "refs" / "heads" / "work").write_text(git("rev-parse", "HEAD", cwd=main) + "\n")
    (shadow / "HEAD").write_text("ref: refs/heads/work\n")
    (place.root / "a.txt").write_text("a\nb\n")
    if led_by == "file":
        (place.root / ".git").write_text(f"gitdir: {shadow}\n")
    confinement = Confinement(
        root=place.root,
        seen=place.root,
        home=place.home,
        git_dir=shadow,
        objects=main / ".git" / "objects",
        readable=TOOLS,
    )
    script = """
        git config --global user.name t && git config --global user.email t@localhost &&
        git add a.txt && git commit -qm second && git stash list && git checkout -qb other && git log --format=%s &&
        git status --short
    """
    done = place.confined(script, confinement)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "second\nfirst\n"
    assert {path: path.stat().st_mtime_ns for path in (main / ".git").rglob("*")} == before
    if led_by == "file":  # a repository that a test makes is another one
        assert (
            place.confined("git init -q new && git -C new rev-parse --git-dir", confinement).stdout
            == ".git\n"
        )


# Bounds


def test_files_and_memory_are_bounded(place: Place) -> None:
    small = Confinement(
        root=place.root,
        seen=place.root,
        home=place.home,
        readable=TOOLS,
        limits=Limits(memory=200 << 20, file_size=1 << 20),
    )
    done = place.python("open('big', 'wb').write(bytes(2 << 20))", small)
    assert done.returncode != 0 and (place.root / "big").stat().st_size <= 1 << 20
    assert "MemoryError" in place.python("bytearray(400 << 20)", small).stderr
    assert place.python("bytearray(400 << 20)").returncode == 0


def test_control_groups_are_entered(place: Place) -> None:
    group = place.outside / "group"
    group.mkdir()
    (group / "cgroup.procs").write_text("")
    grouped = Confinement(root=place.root, seen=place.root, home=place.home, groups=(group,))
    assert place.confined("echo $$", grouped).stdout.strip() == (group / "cgroup.procs").read_text()


def test_a_group_that_cannot_be_entered_keeps_the_command_from_starting(place: Place) -> None:
    grouped = Confinement(root=place.root, seen=place.root, home=place.home, groups=(place.outside,))
    done = place.confined("touch ran", grouped)
    assert done.returncode == 126 and not (place.root / "ran").exists()


def test_a_worktree_that_is_gone_keeps_the_command_from_starting(place: Place) -> None:
    place.root.rename(place.top / "moved")
    launch = wrap(SANDBOX, ["/bin/true"], place.confinement, place.env)
    done = subprocess.run(launch.argv, env=launch.env, cwd=place.top, capture_output=True, text=True)
    assert done.returncode == 126 and "not started" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets worktrees of others")
def test_root_does_not_work_on_the_worktree_of_another(place: Place) -> None:
    os.chown(place.root, 1, 1)
    with pytest.raises(RefusedError, match="another user"):
        wrap(SANDBOX, ["true"], place.confinement, place.env)


def test_single_hosts_are_refused_rather_than_all_opened(place: Place) -> None:
    wished = Confinement(root=place.root, seen=place.root, home=place.home, proxy=place.top / "proxy.sock")
    with pytest.raises(RefusedError):
        wrap(SANDBOX, ["true"], wished, place.env)


# The rules as values


def test_rules_cover_everything_but_what_is_hidden(tmp_path: Path) -> None:
    home = tmp_path / "user"
    (home / ".pyenv").mkdir(parents=True)
    made = landlock.rules(
        Confinement(tmp_path / "tree", tmp_path / "tree", tmp_path / "home", readable=(home / ".pyenv",)),
        home=home,
    )
    hidden = [str(home), "/home", "/root", "/run", "/tmp", "/dev", "/etc/shadow"]
    for path in made.read:
        if not path.startswith(f"{home}/.pyenv"):
            assert not any(
                place == path or place.startswith(path + "/") for place in hidden if Path(place).exists()
            )
    assert {"/usr", "/proc", str(home / ".pyenv")} <= set(made.read)
    assert str(tmp_path / "tree") in made.write


def test_a_folder_with_very_many_names_is_left_out(tmp_path: Path) -> None:
    many = tmp_path / "many"
    (many / "secret").mkdir(parents=True)
    for number in range(landlock.LARGEST_FOLDER):
        (many / str(number)).touch()
    confinement = Confinement(tmp_path, tmp_path, tmp_path, readable=(many,), hidden=(many / "secret",))
    assert not [path for path in landlock.rules(confinement, home=Path("/nowhere")).read if str(many) in path]
