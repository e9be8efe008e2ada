"""Bounds on what commands use, each with and without."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolcli.sandbox import Limits, limits
from tests.sandbox.inside import PYTHON, Place, why_not

needs_bubblewrap = pytest.mark.skipif(bool(why_not()), reason=why_not() or "runs")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def groups() -> Iterator[tuple[Path, ...]]:
    made = limits.open_group(Limits(processes=64, memory=256 << 20))
    if not made and os.geteuid() == 0:
        pytest.skip("no control group can be made here")
    yield made
    limits.close_group(made)
    assert not any(group.exists() for group in made)


#: Makes up to 300 processes that wait, and says how many there were.
FORKS = """
import os, signal, time
children = []
try:
    while len(children) < 300:
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
            os._exit(0)
        children.append(pid)
except OSError:
    pass
print(len(children))
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


@needs_bubblewrap
def test_processes(place: Place, groups: tuple[Path, ...]) -> None:
    assert int(place.inside([PYTHON, "-c", FORKS]).output) == 300
    done = place.inside([PYTHON, "-c", FORKS], limits=Limits(processes=64), groups=groups)
    assert 0 < int(done.output) < 64


@needs_bubblewrap
def test_a_fork_bomb_ends_and_the_next_command_runs(place: Place, groups: tuple[Path, ...]) -> None:
    bomb = "bomb() { bomb | bomb & }; bomb; sleep 0.5"
    place.inside(bomb, limits=Limits(processes=64), groups=groups, timeout=5)
    assert place.inside("echo still", limits=Limits(processes=64), groups=groups).output == "still\n"


@needs_bubblewrap
def test_memory_of_one_process(place: Place) -> None:
    hog = [PYTHON, "-c", "print(len(bytearray(400 << 20)))"]
    assert place.inside(hog).output == f"{400 << 20}\n"
    done = place.inside(hog, limits=Limits(memory=200 << 20))
    assert done.exit_code == 1 and "MemoryError" in done.output


@needs_bubblewrap
def test_memory_of_all_together(place: Place, groups: tuple[Path, ...]) -> None:
    if not any(
        (group / name).exists() for group in groups for name in ("memory.limit_in_bytes", "memory.max")
    ):
        pytest.skip("no control group for memory here")
    # Each below the limit of one process, and /tmp counts too.
    hog = "head -c 150M /dev/zero > /tmp/a; head -c 150M /dev/zero > /dev/shm/b; echo whole"
    room = Limits(tmp=1 << 30, memory=256 << 20)
    assert place.inside(hog, limits=room).output == "whole\n"
    done = place.inside(hog, limits=room, groups=groups)
    assert done.output != "whole\n"
    assert limits.out_of_memory(groups) >= 1
    assert place.inside("echo still", limits=room, groups=groups).output == "still\n"


@needs_bubblewrap
def test_size_of_a_file(place: Place) -> None:
    hog = "head -c 20M /dev/zero > big; stat -c %s big"
    assert place.inside(hog).output == f"{20 << 20}\n"
    assert place.inside(hog, limits=Limits(file_size=1 << 20)).output.endswith(f"{1 << 20}\n")


@needs_bubblewrap
@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp", "/dev/shm"])
def test_size_of_temporary_folders(folder: str, place: Place) -> None:
    hog = f"head -c 20M /dev/zero > {folder}/big; echo $?"
    assert place.inside(hog).output == "0\n"
    assert "No space left" in place.inside(hog, limits=Limits(tmp=4 << 20)).output
    assert "big" not in place.inside(f"ls {folder}").output


@needs_bubblewrap
@pytest.mark.parametrize("folder", ["/run", "/home", "$HOME_OF_USER"])
def test_folders_that_only_hide_are_small(folder: str, place: Place) -> None:
    if folder == "$HOME_OF_USER" and Path.home().is_relative_to("/tmp"):
        pytest.skip("HOME lies in /tmp here, which is private and larger")
    place.variables["HOME_OF_USER"] = str(Path.home())
    done = place.inside(f'head -c 40M /dev/zero > "{folder}/big"')
    # Inside another hidden folder it is not there at all.
    assert "No space left" in done.output or "No such file" in done.output


@needs_bubblewrap
def test_endless_output(place: Place) -> None:
    done = place.inside("yes", timeout=1)
    assert done.timed_out and done.truncated and done.size > 1_000_000 and len(done.output) < 40_000


@needs_bubblewrap
def test_a_hundred_thousand_files(place: Place) -> None:
    program = (
        "import os; os.mkdir('/var/tmp/many')\n"
        "for i in range(100_000): os.close(os.open(f'/var/tmp/many/{i}', os.O_CREAT))\n"
        "print(len(os.listdir('/var/tmp/many')))"
    )
    assert place.inside([PYTHON, "-c", program]).output == "100000\n"
    assert "many" not in place.inside("ls -A /var/tmp").output


def test_no_core_file_is_left(place: Place) -> None:
    command = [
        *limits.prefix(Limits()),
        sys.executable,
        "-c",
        "import resource; print(resource.getrlimit(4))",
    ]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "(0, 0)\n"


def test_groups_of_a_pool_that_was_killed_are_removed() -> None:
    program = (
        "import os\nfrom poolcli.sandbox import Limits, limits\n"
        "made = limits.open_group(Limits())\n"
        "print(*made, sep='\\n', flush=True)\nos.kill(os.getpid(), 9)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    made = [Path(line) for line in out.split()]
    if not made:
        pytest.skip("no control group can be made here")
    ours = limits.open_group(Limits())
    try:
        assert all(group.is_dir() for group in made)
        # A process that outlived its pool is ended with its group.
        with subprocess.Popen(["sleep", "600"]) as left:
            try:
                (made[0] / "cgroup.procs").write_text(str(left.pid))
                assert limits.collect() >= 1
                assert left.wait(10) == -9
            finally:
                left.kill()
        assert not any(group.exists() for group in made)
        assert all(group.is_dir() for group in ours), "a living pool's groups stay"
    finally:
        limits.close_group(ours)


def test_control_groups_are_read_from_what_the_kernel_says() -> None:
    text = (
        "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
        "27 1 254:0 / / rw - ext4 /dev/vda rw\n"
    )
    memory, unified = limits._hierarchies(text)
    assert memory[0] == Path("/sys/fs/cgroup/memory") and "memory" in (memory[1] or ())
    assert unified == (Path("/sys/fs/cgroup/unified"), None)
    assert limits._own_groups("4:cpu,memory:/a\n0::/b\n") == {"cpu": "/a", "memory": "/a", "": "/b"}


def test_version_2_makes_the_group_beside_pool_s_own(tmp_path: Path) -> None:
    own = tmp_path / "service"
    own.mkdir()
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("pids\n")
    assert list(limits._version_2(tmp_path, "/service")) == [(tmp_path, frozenset({"memory", "pids"}))]
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert list(limits._version_2(tmp_path / "service", "/service")) == []
