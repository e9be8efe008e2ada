"""Every protection twice: without the sandbox the attack works, in it the attack does not."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poolcli.errors import RefusedError
from poolcli.sandbox import Confinement, Overlay, Sandbox, bubblewrap, private, surroundings, wrap
from poolcli.sandbox.bubblewrap import Machine, Mounts, arguments
from tests.sandbox.inside import PYTHON, Place, why_not

needs_bubblewrap = pytest.mark.skipif(bool(why_not()), reason=why_not() or "runs")
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(
    not ROOT, reason="only root can do this without a sandbox, so nothing is shown"
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def at_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=".pool-test-", dir=Path.home()) as name:
        yield Path(name)


GOLDEN = """\
--unshare-user --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup-try --unshare-net
--disable-userns --die-with-parent --new-session --cap-drop ALL --hostname localhost --uid 1500 --gid 1501
--ro-bind / / --dev /dev --size 1000 --perms 1777 --tmpfs /dev/shm --proc /proc
--ro-bind /proc/sys /proc/sys --ro-bind /dev/null /proc/kcore
--size 16777216 --perms 0755 --tmpfs /home --size 16777216 --perms 0755 --tmpfs /run
--size 1000 --perms 1777 --tmpfs /tmp
--ro-bind /dev/null /srv/service.sock
--ro-bind /home/ada/.pyenv /home/ada/.pyenv
--bind /srv/state/wt /home/ada/code
--bind /srv/state/git /run/pool/git --bind /srv/state/home /run/pool/home
--ro-bind /home/ada/code/.git/objects /run/pool/objects --bind /tmp/proxy /run/pool/proxy
--ro-bind-data 7 /home/ada/code/.git --bind /srv/state/up/merged /home/ada/code/.venv
--ro-bind /home/ada/code/node_modules /home/ada/code/node_modules
--size 16777216 --perms 0755 --tmpfs /home/ada/.pyenv/private
--bind /home/ada/.cache/x /home/ada/.cache/x
--clearenv --args 8 --seccomp 9 --chdir /home/ada/code
"""


def test_the_arguments_are_these() -> None:
    ada, state, code = Path("/home/ada"), Path("/srv/state"), Path("/home/ada/code")
    confinement = Confinement(
        root=state / "wt",
        seen=code,
        home=state / "home",
        git_dir=state / "git",
        objects=code / ".git/objects",
        overlays=(
            Overlay(code / ".venv", code / ".venv", state / "up"),
            Overlay(code / "node_modules", code / "node_modules", state / "up2"),
        ),
        readable=(ada / ".pyenv", code / "tool"),
        writable=(ada / ".cache/x",),
        proxy=Path("/tmp/proxy"),
    )
    machine = Machine(
        folders=(Path("/run"), Path("/tmp"), Path("/home"), ada, code / ".git", ada / ".pyenv/private"),
        files=(Path("/srv/service.sock"), Path("/tmp/other.sock")),
        proc_read_only=("/proc/sys",),
        proc_hidden=("/proc/kcore",),
        uid=1500,
        gid=1501,
    )
    import msgspec

    limits = msgspec.structs.replace(confinement.limits, tmp=1000)
    args = arguments(
        msgspec.structs.replace(confinement, limits=limits),
        machine,
        git_file=7,
        environment=8,
        seccomp_filter=9,
        mounts=Mounts({}, {code / ".venv": state / "up/merged"}),
    )
    # Mounts come by depth, and by name where that is the same.
    assert sorted(" ".join(args).split(" --")) == sorted(" ".join(GOLDEN.split()).split(" --"))
    order = [
        " ".join(args).index(f" {path} ") for path in ("/home", f"{ada}/.pyenv", f"{ada}/.pyenv/private")
    ]
    assert order == sorted(order)
    assert str(code / "tool") not in args and str(code / ".git") in args


def test_an_older_bubblewrap_is_not_asked_for_what_it_cannot_do(place: Place) -> None:
    assert "--disable-userns" not in arguments(place.confinement, Machine(disable_userns=False))


@pytest.mark.parametrize("program", ["", "bwrap", "./bwrap"])
def test_a_program_that_path_would_find_is_refused(program: str, place: Place) -> None:
    with pytest.raises(RefusedError):
        wrap(Sandbox("bubblewrap", "", program), ["true"], place.confinement, {})


def test_the_environment_is_not_on_the_command_line(place: Place) -> None:
    launch = wrap(
        Sandbox("bubblewrap", "", "/usr/bin/bwrap"), ["true"], place.confinement, {"TOKEN": "s3cret"}
    )
    try:
        assert "s3cret" not in " ".join(launch.argv) and "TOKEN" not in launch.env
        assert "HOME" not in launch.env
    finally:
        launch.close()


def test_other_paths_to_the_same_files_are_found(tmp_path: Path) -> None:
    for name in ("home/ada", "alias/ada", "second", "else"):
        (tmp_path / name).mkdir(parents=True)
    table = "\n".join(
        f"{number} 1 {device} {inner} {tmp_path}{point} rw - ext4 /dev/x rw"
        for number, (device, inner, point) in enumerate(
            [
                ("8:1", "/", ""),
                ("8:2", "/", "/home"),
                ("8:2", "/", "/alias"),
                ("8:2", "/ada/code", "/second"),
                ("8:3", "/", "/else"),
            ]
        )
    )
    found = surroundings.aliases([tmp_path / "home/ada"], table)
    assert found == [tmp_path / "alias/ada", tmp_path / "second"]


# Each prints REACHED when it gets through. $OUTSIDE, $SECRET (in HOME) and so on are of the fixture.
ATTACKS = {
    "write to a folder of the user": 'echo x > "$OUTSIDE/new" && echo REACHED',
    "read a file in HOME": 'grep -q canary "$SECRET" && echo REACHED',
    "read it through a process": 'for p in /proc/[0-9]*; do grep -qs canary "$p/root$SECRET" && echo REACHED; done',
    "read an ignored file of the checkout": 'grep -q canary "$MAIN/.env" && echo REACHED',
    "read the user's git configuration": 'grep -q canary "$MAIN/.git/config" && echo REACHED',
    "plant a hook in the user's repository": (
        'echo x > "$MAIN/.git/hook" && [ -e "$MAIN/.git/objects" ] && echo REACHED'
    ),
    "reach the worktree by its own path": 'ls "$STATE"/worktrees/run/file && echo REACHED',
    "read the state of runs": 'grep -q canary "$STATE/events" && echo REACHED',
    "leave something in /dev/shm": 'echo x > "/dev/shm/$MARK" && [ -e "/proc/$HOST/root" ] && echo REACHED',
    "signal a process of the user": 'kill -0 "$HOST" && echo REACHED',
    "read the environment of a process": (
        'cat /proc/[0-9]*/environ | tr "\\0" "\\n" | grep -q ^POOL_TEST_SECRET= && echo REACHED'
    ),
    "connect to a server on this machine": '(exec 3<>"/dev/tcp/127.0.0.1/$PORT") && echo REACHED',
    "connect to a socket in /tmp": '"$PYTHON" -c "$CONNECT" "$SOCKET" && echo REACHED',
    "connect to an abstract socket": '"$PYTHON" -c "$CONNECT" "@$MARK" && echo REACHED',
    "make a file that runs as its owner": "cp /bin/true s && chmod 4755 s && echo REACHED",
    "make one at once": "install -m 4755 /bin/true s && echo REACHED",
    "read another kind of socket's messages": '"$PYTHON" -c "import socket; socket.socket(16, 3, 15)" && echo REACHED',
    "get a user namespace": "unshare --user true && echo REACHED",
}
ROOTS_ATTACKS = {
    "write to the system": 'touch "/usr/lib/$MARK" && echo REACHED',
    "change a setting of the host": (
        "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern && echo REACHED"
    ),
    "read the passwords": "grep -q root: /etc/shadow && echo REACHED",
    "mount something": "mkdir -p m && unshare --mount mount -t tmpfs x m && echo REACHED",
    "make a device": "mknod device b 254 0 && echo REACHED",
    "load a key": (
        '"$PYTHON" -c "import ctypes,sys; sys.exit(ctypes.CDLL(None).syscall(250, 0, -3, 0) < 0)" && echo REACHED'
    ),
    "have capabilities": "grep -q 'CapEff:.*[1-9a-f]' /proc/self/status && echo REACHED",
    "connect to a socket of a service": '"$PYTHON" -c "$CONNECT" "$SERVICE" && echo REACHED',
}
CONNECT = """
import socket, sys
path = sys.argv[1]
socket.socket(socket.AF_UNIX).connect("\\0" + path[1:] if path[0] == "@" else path)
"""


@pytest.fixture
def hostile(place: Place, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("POOL_TEST_SECRET", "canary")
    (at_home / "secret").write_text("canary")
    (place.main / ".env").write_text("canary")
    (place.main / ".git/config").write_text("canary")
    (place.state / "events").write_text("canary")
    (place.root / "file").write_text("")
    mark = f"pool-test-{os.getpid()}-{time.monotonic_ns()}"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pool-test-", dir="/tmp")))
        listening = [str(folder / "socket"), f"\0{mark}"]
        if ROOT:
            services = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="pool-test-", dir="/var/lib"))
            )
            listening.append(str(services / "socket"))
        for address in listening:
            service = stack.enter_context(socket.socket(socket.AF_UNIX))
            service.bind(address)
            service.listen()
        user = stack.enter_context(
            subprocess.Popen(["sleep", "600"], env={**os.environ, "POOL_TEST_SECRET": "canary"})
        )
        stack.callback(user.kill)
        surroundings._sockets.cache_clear()
        place.variables = {
            "OUTSIDE": str(place.outside),
            "SECRET": str(at_home / "secret"),
            "MAIN": str(place.main),
            "STATE": str(place.state),
            "HOST": str(user.pid),
            "PORT": str(server.getsockname()[1]),
            "SOCKET": listening[0],
            "SERVICE": listening[-1] if ROOT else "",
            "MARK": mark,
            "CONNECT": CONNECT,
        }
        yield place
        surroundings._sockets.cache_clear()
        for leftover in (Path("/dev/shm") / mark, Path("/usr/lib") / mark):
            leftover.unlink(missing_ok=True)


@needs_bubblewrap
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str, hostile: Place) -> None:
    assert "REACHED" in hostile.plain(ATTACKS[name]).output
    (hostile.root / "s").unlink(missing_ok=True)
    assert "REACHED" not in hostile.inside(ATTACKS[name]).output


@needs_bubblewrap
@needs_root
@pytest.mark.parametrize("name", ROOTS_ATTACKS)
def test_attacks_of_root(name: str, hostile: Place) -> None:
    assert "REACHED" in hostile.plain(ROOTS_ATTACKS[name]).output
    (hostile.root / "device").unlink(missing_ok=True)
    assert "REACHED" not in hostile.inside(ROOTS_ATTACKS[name]).output


@needs_bubblewrap
def test_what_is_written_outside_the_worktree_stays_inside(hostile: Place) -> None:
    command = (
        'mkdir -p "$OUTSIDE" && echo x > "$OUTSIDE/new";'
        'echo x > "/dev/shm/$MARK"; echo x > "/tmp/$MARK"; echo x > made'
    )
    done = hostile.inside(command)
    assert done.exit_code == 0, done.output
    assert not list(hostile.outside.iterdir())
    assert not (Path("/dev/shm") / hostile.variables["MARK"]).exists()
    assert not (Path("/tmp") / hostile.variables["MARK"]).exists()
    assert (hostile.root / "made").read_text() == "x\n"
    assert not (hostile.main / "made").exists()


@needs_bubblewrap
def test_nothing_hidden_is_laid_open_again(hostile: Place) -> None:
    """Without capabilities no mount can be undone, and the masks of HOME and the state cannot be lifted."""
    command = (
        'umount -l "$HOME_OF_USER"; umount /proc/sys; mount -o remount,rw /; unshare -Urm umount -l "$HOME_OF_USER";'
        'cat "$SECRET"; "$PYTHON" -c "import os; os.setns(os.open(\'/proc/1/ns/mnt\', 0))"; true'
    )
    hostile.variables["HOME_OF_USER"] = str(Path.home())
    done = hostile.inside(command)
    assert "canary" not in done.output
    assert done.exit_code == 0


@needs_bubblewrap
def test_typing_into_a_terminal_is_refused(place: Place) -> None:
    program = f"""
import fcntl, os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, {0x5412}, b"x")
    print("REACHED", flush=True)
    os._exit(0)
try:
    while piece := os.read(fd, 1024):
        sys.stdout.buffer.write(piece)
except OSError:
    pass
"""
    control = place.plain([PYTHON, "-c", program])
    if "REACHED" not in control.output:
        pytest.skip("this kernel refuses it to everybody")
    done = place.inside([PYTHON, "-c", program])
    assert "REACHED" not in done.output and "PermissionError" in done.output


@needs_bubblewrap
def test_the_user_s_repository_is_the_run_s_inside(place: Place) -> None:
    """`.git` leads to the run's own repository; objects are readable; the pointer cannot be replaced."""
    git = ["git", "-C", str(place.main), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(place.main)], check=True)
    (place.main / "a").write_text("one")
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    shadow = place.state / "git"
    subprocess.run(["git", "init", "-q", "--bare", str(shadow)], check=True)
    (shadow / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n")
    (shadow / "objects/info/alternates").write_text("/run/pool/objects\n")
    (shadow / "HEAD").write_text(head + "\n")
    before = {path: path.stat().st_mtime_ns for path in sorted(place.main.rglob("*"))}
    done = place.inside(
        "git reset -q --hard && cat a && echo two > a && git commit -qam second && git log --oneline | wc -l;"
        "rm -f .git; echo x > .git; mv .git .old; cat .git; git stash list; ls /run/pool/objects | head -1;"
        "touch /run/pool/objects/x",
        git_dir=shadow,
        objects=place.main / ".git/objects",
    )
    assert done.output.startswith("one2\n"), done.output
    assert "gitdir: /run/pool/git" in done.output and "Read-only file system" in done.output
    assert {path: path.stat().st_mtime_ns for path in sorted(place.main.rglob("*"))} == before
    assert (place.root / "a").read_text() == "two\n"


@needs_bubblewrap
def test_a_link_where_something_is_mounted_is_refused(place: Place) -> None:
    (place.root / ".venv").symlink_to("/oldroot/etc")
    overlay = Overlay(place.outside, place.main / ".venv", place.state / "upper")
    with pytest.raises(RefusedError, match="link"):
        place.inside("true", overlays=(overlay,))


@pytest.mark.parametrize("seen", ["/", "/run", "/run/pool", "/proc", "/dev", "LINK"])
def test_places_where_no_worktree_can_be_are_refused(seen: str, place: Place) -> None:
    (place.tmp / "link").symlink_to(place.main)
    with pytest.raises(RefusedError):
        place.inside("true", seen=place.tmp / "link" if seen == "LINK" else Path(seen))


@needs_bubblewrap
def test_the_first_process_is_held_like_the_others(place: Place) -> None:
    """Commands may trace it, so it must have nothing that they do not have."""
    lines = place.inside(
        "grep -E '^(Seccomp|Cap(Prm|Eff|Bnd)|NoNewPrivs):' /proc/1/status"
    ).output.splitlines()
    values = {name: int(value, 16) for name, value in (line.split(":") for line in lines)}
    assert values == {"Seccomp": 2, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "NoNewPrivs": 1}


@needs_bubblewrap
@pytest.mark.parametrize("works", [True, False])
def test_packages_of_the_user_are_seen_and_not_changed(
    works: bool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = place.main / ".venv"
    packages.mkdir()
    (packages / "package").write_text("theirs")
    overlay = Overlay(packages, packages, place.state / "upper")
    if not works:
        monkeypatch.setattr(surroundings, "overlays_work", lambda folder: False)
    elif not surroundings.overlays_work(place.state / "upper"):
        pytest.skip("no overlay can be mounted here")
    first = place.inside(
        "cat .venv/package; echo ours > .venv/package; echo new > .venv/new", overlays=(overlay,)
    )
    assert first.output.startswith("theirs")
    second = place.inside("cat .venv/package .venv/new", overlays=(overlay,))
    if works:
        assert second.output == "ours\nnew\n" and first.exit_code == 0
        removed = place.inside("rm -r .venv/* && mkdir .venv/package && ls -A .venv", overlays=(overlay,))
        assert removed.output == "package\n"
    else:
        assert second.output.startswith("theirs") and "Read-only" in first.output
    assert (packages / "package").read_text() == "theirs"
    assert [path.name for path in packages.iterdir()] == ["package"]


@needs_bubblewrap
@pytest.mark.parametrize("where", ["/var/tmp", "/tmp", "/run", "HOME", "/dev/shm"])
def test_a_repository_may_lie_in_a_hidden_folder(where: str, tmp_path: Path) -> None:
    parent = Path.home() if where == "HOME" else Path(where)
    if not os.access(parent, os.W_OK):
        pytest.skip(f"{parent} cannot be written")
    with tempfile.TemporaryDirectory(prefix=".pool-test-", dir=parent) as name:
        place = Place(Path(name))
        (place.main / "theirs").write_text("")
        (place.root / "ours").write_text("")
        (Path(name) / "beside").write_text("")
        done = place.inside(f"pwd; ls; touch made; ls -A {name}")
        assert done.output.split() == [str(place.main), "ours", "main"]
        assert (place.root / "made").exists()


@needs_bubblewrap
def test_a_worktree_seen_at_its_own_path(place: Place) -> None:
    done = place.inside("pwd; touch made", seen=place.root, hidden=())
    assert done.output.strip() == str(place.root) and (place.root / "made").exists()


@needs_bubblewrap
@needs_root
def test_root_works_on_another_user_s_checkout_as_that_user(place: Place) -> None:
    """Also where that user cannot enter the folders around the worktree."""
    from poolcli.sandbox import ownership

    place.tmp.chmod(0o700)
    packages = place.main / ".venv"
    packages.mkdir()
    (place.root / "file").write_text("x")
    upper = place.state / "upper"
    upper.mkdir()
    ownership.give([place.main, place.root, place.home, upper], (1234, 1235))
    assert ownership.foreign_owner(place.main) == (1234, 1235)
    overlay = Overlay(packages, packages, upper)
    done = place.inside(
        "id -u; id -g; cat file; touch made ~/made .venv/made && cat /proc/sys/kernel/core_pattern >"
        " /proc/sys/kernel/core_pattern; cat /etc/shadow; stat -c %u . file",
        overlays=(overlay,),
    )
    lines = done.output.splitlines()
    assert lines[:2] == ["1234", "1235"] and lines[2].startswith("x"), done.output
    assert "root:" not in done.output and lines[-2:] == ["1234", "1234"]
    assert (place.root / "made").stat().st_uid == 1234 and (place.home / "made").stat().st_uid == 1234
    assert not (packages / "made").exists()


@needs_bubblewrap
def test_all_ends_with_the_command(place: Place) -> None:
    """A daemon that left its session is killed when the command ends: the kernel takes some milliseconds."""
    mark = f"86400.{os.getpid()}"
    command = f"setsid sh -c 'setsid sleep {mark} & ' </dev/null >/dev/null 2>&1 & sleep 0.1; echo done"
    assert place.inside(command).output.startswith("done")
    assert _comes(lambda: not _running(mark))


@needs_bubblewrap
def test_all_ends_with_pool(place: Place) -> None:
    """Nobody is left to clean up after SIGKILL, so the kernel does."""
    mark = f"86401.{os.getpid()}"
    launch = wrap(
        Sandbox("bubblewrap", "", "/usr/bin/bwrap"),
        ["/bin/sh", "-c", f"setsid sleep {mark} & wait"],
        place.confinement,
        {"PATH": "/usr/bin:/bin"},
    )
    program = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen({launch.argv!r}, pass_fds={launch.fds!r})\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], pass_fds=launch.fds, stdin=subprocess.DEVNULL
    ) as pool:
        launch.close()
        try:
            assert _comes(lambda: _running(mark))
        finally:
            pool.kill()
        assert _comes(lambda: not _running(mark))


def _comes(condition: Callable[[], bool]) -> bool:
    """Whether something becomes true; seconds are only the end of waiting for what never will."""
    until = time.monotonic() + 30
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _running(mark: str) -> bool:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                    return True
    return False


@needs_bubblewrap
def test_at_its_timeout_all_of_it_ends(place: Place) -> None:
    mark = f"86402.{os.getpid()}"
    done = place.inside(f"trap '' TERM; echo begun; setsid sleep {mark} & sleep 600", timeout=1)
    assert done.timed_out and done.exit_code is None and "begun" in done.output
    assert _comes(lambda: not _running(mark))


@needs_bubblewrap
def test_calls_at_the_same_time_do_not_meet(place: Place) -> None:
    """Each has its own /tmp, process numbers and loopback; descriptors are not mixed up."""
    outputs: dict[int, str] = {}

    def one(number: int) -> None:
        outputs[number] = place.inside(f"echo {number} > /tmp/mine; sleep 0.2; cat /tmp/mine").output.strip()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {number: str(number) for number in range(4)}


def test_home_that_is_the_root_of_the_machine_is_not_hidden() -> None:
    assert Path("/") not in bubblewrap.masked(Path("/"))


@needs_bubblewrap
@pytest.mark.parametrize("where", ["equal", "inside", "around", "linked"])
def test_what_is_hidden_is_not_laid_open_by_what_is_readable(where: str, place: Place) -> None:
    kept = place.tmp / "kept"
    (kept / "inner").mkdir(parents=True)
    (kept / "inner/events").write_text("canary")
    (place.tmp / "link").symlink_to(kept)
    path = {"equal": kept, "inside": kept / "inner", "around": place.tmp, "linked": place.tmp / "link"}[where]
    command = f"cat {kept}/inner/events {path}/inner/events {path}/events; ls /run/pool/home && echo RUNS"
    readable = (*place.confinement.readable, path)
    assert "canary" in place.inside(command, readable=readable).output  # the control
    done = place.inside(command, readable=readable, hidden=(place.state, kept))
    assert "canary" not in done.output and "RUNS" in done.output
    # What pool lays out for the run may lie there.
    assert "canary" in place.inside(command, given=(kept / "inner",), hidden=(place.state, kept)).output


@needs_bubblewrap
@needs_root
def test_files_that_only_root_can_read_are_not_there(place: Place) -> None:
    with tempfile.TemporaryDirectory(prefix="pool-test-", dir="/etc") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "key").write_text("canary")
        (folder / "key").chmod(0o600)
        (folder / "closed").mkdir(0o700)
        (folder / "closed/file").write_text("canary")
        (folder / "open").write_text("everybody's")
        (folder / "open").chmod(0o644)
        private.of_root.cache_clear()
        try:
            command = f"cat {name}/key {name}/closed/file {name}/open"
            assert place.plain(command).output.count("canary") == 2
            done = place.inside(command)
            assert "canary" not in done.output and "everybody's" in done.output
        finally:
            private.of_root.cache_clear()


def test_what_is_closed_in_a_folder_is_found_two_levels_deep(tmp_path: Path) -> None:
    if not ROOT:
        pytest.skip("only root's own files count")
    for name in ("a", "d/b", "d/e/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "link").symlink_to("a")
    for folder in ("d", "d/e"):
        (tmp_path / folder).chmod(0o755)
    assert sorted(private.closed(str(tmp_path))) == [f"{tmp_path}/a", f"{tmp_path}/d/b"]
    (tmp_path / "d").chmod(0o700)
    assert f"{tmp_path}/d" in private.closed(str(tmp_path))
