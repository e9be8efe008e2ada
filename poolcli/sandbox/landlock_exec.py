"""Run one command confined by Landlock, and end everything that it started.

    python -I -S landlock_exec.py NAME=VALUE… -- COMMAND…

The names are those of `Spec`; `landlock.py` writes them. This process stays outside of the confinement: it makes
a private folder for temporary files, waits for the command, ends what the command left behind, removes the
folder, and ends as the command did. Whatever cannot be set up keeps the command from starting (exit code 126).

It is a program of its own because the rules bind the process that sets them, and pool must stay unbound. It
starts once per command: it imports nothing but what the interpreter has loaded anyway, and ctypes.
"""

# pathlib and contextlib would double what this program imports.
# ruff: noqa: PTH102, PTH110, PTH112, PTH116, PTH118, PTH123, PTH208, SIM105

from __future__ import annotations

import binascii
import ctypes
import errno
import os
import resource
import signal
import sys
import time

# Types are for the reader: the module that has them costs 5 ms, and annotations are never evaluated.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

#: Numbers of the system calls; the same on every architecture since they came in one block.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
#: First argument of a rule for everything beneath a path.
PATH_BENEATH = 1
#: Flag of CREATE_RULESET: tell the version instead.
VERSION = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK = 1 << 6, 1 << 11
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
#: Every right there is up to and with TRUNCATE, and with IOCTL_DEV (from version 5).
UP_TO_TRUNCATE, UP_TO_IOCTL = (1 << 15) - 1, (1 << 16) - 1
#: What a file can have; a rule for a file that asks for more is refused by the kernel.
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = UP_TO_TRUNCATE & ~(MAKE_CHAR | MAKE_BLOCK)
DEVICE = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV | READ_DIR
#: Binding and connecting of TCP sockets (version 4); no rule allows a port.
TCP = 3
#: Abstract unix sockets and signals of processes outside (version 6).
SCOPES = 3

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2
#: Version 3 of the kernel's structure for capabilities: two words of each of the three sets.
CAPABILITY_VERSION = 0x20080522
#: Above every capability there is (41 in Linux 6.18); unknown numbers answer EINVAL.
CAPABILITIES = 64

#: Seconds for what ends by itself just after the command: resource trackers, test workers.
GRACE = 0.2
#: Seconds at most for killing what is left. Dying processes need milliseconds; one hung in the kernel is left.
PATIENCE = 2.0
#: Seconds that a command has after SIGTERM. Pool kills everything after 1 s, this process too, which then could not
#: remove the folder for temporary files.
TERM_GRACE = 0.8
#: The command was not started: what shells answer for something that cannot be run.
NOT_STARTED = 126

libc = ctypes.CDLL(None, use_errno=True)


class Spec:
    """What the command may do, as the arguments say it."""

    def __init__(self, words: list[str]) -> None:
        values: dict[str, list[str]] = {}
        for word in words:
            name, _, value = word.partition("=")
            values.setdefault(name, []).append(value)
        #: Folders and files to read and run.
        self.read = values.get("read", [])
        #: Folders to write, too.
        self.write = values.get("write", [])
        #: Devices to read and write.
        self.device = values.get("device", [])
        #: Where the folder for temporary files is made: the first of these that can be written.
        self.temp = values.get("temp", [])
        #: Control groups to enter.
        self.groups = values.get("group", [])
        #: The process that must live: pool.
        self.parent = int(values["parent"][0])
        #: Bytes of data of one process, bytes of one file, processes beyond those that this user has.
        self.data, self.file = int(values["data"][0]), int(values["file"][0])
        self.processes = int(values["processes"][0])
        #: Programs for seccomp; each refuses what it refuses.
        self.filters = [binascii.a2b_base64(text) for text in values["filter"]]


class Over(Exception):
    """Nothing may go on: pool is gone, or the command did not end when it was told to. Holds the signal."""


def main(argv: list[str]) -> int:
    """Run the command; returns how it ended, as os.waitpid tells it."""
    mark = argv.index("--")
    spec, command = Spec(argv[:mark]), argv[mark + 1 :]
    # A caught signal is back to its default in the command; an ignored one would stay ignored.
    signal.signal(signal.SIGUSR1, over)
    signal.signal(signal.SIGALRM, over)
    signal.signal(signal.SIGTERM, told_to_end)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, wait_on)
    own = os.getpid()
    temp = ""
    try:
        checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGUSR1, 0, 0, 0), "die with pool")
        if os.getppid() != spec.parent:
            raise Over(signal.SIGUSR1)
        checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "adopt what the command leaves behind")
        temp = make_folder(spec.temp)
        child = os.fork()
        if child == 0:
            start(spec, command, temp, own)
        _, status = os.waitpid(child, 0)
        settle(GRACE)
        return status
    except Over as reason:
        return signal.SIGTERM if reason.args[0] == signal.SIGALRM else signal.SIGKILL
    except OSError as error:
        say(error)
        return NOT_STARTED << 8
    finally:
        signal.signal(signal.SIGUSR1, wait_on)
        signal.signal(signal.SIGALRM, wait_on)
        if os.getpid() == own:
            end_all()
            if temp:
                remove(temp)


def start(spec: Spec, command: list[str], temp: str, parent: int) -> NoReturn:
    """In the child: confine it and become the command. Never returns."""
    try:
        signal.signal(
            signal.SIGPIPE, signal.SIG_DFL
        )  # Python ignores these two, and commands would inherit it
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "die with the parent")
        if os.getppid() != parent:
            os._exit(NOT_STARTED)
        limit(spec)
        drop_capabilities()
        checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up privileges")
        restrict(spec, temp)
        for program in spec.filters:
            install(program)
        os.execvpe(command[0], command, {**os.environ, "TMPDIR": temp, "TMP": temp, "TEMP": temp})
    except BaseException as error:
        say(error)
    finally:
        os._exit(NOT_STARTED)


def say(error: BaseException) -> None:
    """Why there was no command, for whoever reads its output."""
    os.write(2, f"pool: the confined command was not started: {error}\n".encode(errors="backslashreplace"))


def limit(spec: Spec) -> None:
    """Bounds of one process, and the control groups that bound all together."""
    for group in spec.groups:
        write(f"{group}/cgroup.procs", str(os.getpid()))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lower(resource.RLIMIT_DATA, spec.data)
    lower(resource.RLIMIT_FSIZE, spec.file)
    # The kernel counts all of the user's processes, those outside too; it does not count root's at all.
    if os.getuid() != 0:
        lower(resource.RLIMIT_NPROC, count_tasks(os.getuid()) + spec.processes)


def lower(which: int, value: int) -> None:
    """Set a limit, never above the one there is."""
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def count_tasks(user: int) -> int:
    """Threads of this user, as RLIMIT_NPROC counts them."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:  # gone
                pass
    return count


def write(path: str, text: str) -> None:
    """Write a file of the kernel's in one piece."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def drop_capabilities() -> None:
    """None now and none after an exec: root without them is an ordinary owner of root's files."""
    for number in range(CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # EPERM for who has none to drop, EINVAL above the last
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "drop capabilities")


def abi() -> int:
    """The kernel's version of Landlock; 0 without."""
    version: int = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    return max(0, version)


def restrict(spec: Spec, temp: str) -> None:
    """Only the named paths, no TCP, nothing abstract and no signals outwards from here on."""
    version = abi()
    rights = UP_TO_IOCTL if version >= 5 else UP_TO_TRUNCATE
    handled = (ctypes.c_uint64 * 3)(rights, TCP if version >= 4 else 0, SCOPES if version >= 6 else 0)
    size = ctypes.c_size_t(ctypes.sizeof(handled))
    ruleset = checked(libc.syscall(CREATE_RULESET, handled, size, 0), "make rules")
    for path in spec.read:
        allow(ruleset, path, READ, missing=True)
    for path in spec.device:
        allow(ruleset, path, DEVICE & rights, missing=True)
    for path in (*spec.write, temp):
        allow(ruleset, path, WRITE)
    checked(libc.syscall(RESTRICT_SELF, ruleset, 0), "apply rules")
    os.close(ruleset)


class Beneath(ctypes.Structure):
    """A rule: the rights, and the folder or file that they are for."""

    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("file", ctypes.c_int32))


def allow(ruleset: int, path: str, rights: int, missing: bool = False) -> None:
    """Allow `rights` beneath `path`; `missing`: nothing is wrong if it is not there."""
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        if missing:
            return
        raise
    try:
        if not os.path.isdir(f"/proc/self/fd/{file}"):
            rights &= OF_FILES
        rule = Beneath(rights, file)
        checked(libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0), f"allow {path}")
    finally:
        os.close(file)


def install(program: bytes) -> None:
    """Load the filter of system calls: 8 bytes an instruction."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    loaded = Program(len(program) // 8, program)
    done = libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(loaded), 0, 0)
    checked(done, "filter system calls")


def checked(result: int, what: str) -> int:
    """The result of a call to libc, or its error."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}")
    return result


def make_folder(places: list[str]) -> str:
    """A new folder that only this user can enter, in the first place that takes it."""
    # The number of a process means something in one namespace only, and others may share /tmp.
    prefix = f"pool-{os.stat('/proc/self/ns/pid').st_ino}-"
    for place in places:
        path = os.path.join(place, f"{prefix}{os.getpid()}-{os.urandom(6).hex()}")
        try:
            os.mkdir(path, 0o700)
        except OSError:
            continue
        attempt(collect, place, prefix)
        return path
    raise OSError(errno.EACCES, "no folder for temporary files can be made in " + " or ".join(places))


def collect(place: str, prefix: str) -> None:
    """Remove the folders of processes like this one that were killed."""
    for name in os.listdir(place):
        pid = name[len(prefix) :].partition("-")[0] if name.startswith(prefix) else ""
        path = os.path.join(place, name)
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}") and os.lstat(path).st_uid == os.getuid():
            remove(path)


def settle(seconds: float) -> None:
    """Wait until everything that the command started has ended, at most so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            time.sleep(0.002)


def end_all() -> None:
    """Kill every process that the command started, daemons too: without a parent they are children of this one."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for pid in children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def children() -> list[int]:
    """The processes whose parent this one is."""
    own = str(os.getpid())
    try:
        with open(f"/proc/self/task/{own}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:  # a kernel without this list
        found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                if name.isdigit() and file.read().rpartition(b")")[2].split()[1] == own.encode():
                    found.append(int(name))
        except (OSError, IndexError):
            continue
    return found


def remove(folder: str) -> None:
    """Remove a folder and all in it. What cannot be removed stays: the command's result is what counts."""
    closed: list[OSError] = []
    for _ in range(
        2
    ):  # folders that the command closed to itself are met in the first round, opened for the next
        for path, folders, files in os.walk(folder, topdown=False, onerror=closed.append):
            for name in files:
                attempt(os.unlink, os.path.join(path, name))
            for name in folders:
                attempt(os.rmdir, os.path.join(path, name))
                attempt(os.unlink, os.path.join(path, name))  # a link to a folder
        attempt(os.rmdir, folder)
        if not closed:
            return
        for error in closed:
            attempt(os.chmod, error.filename, 0o700)


def attempt(do: Callable[..., object], *args: object) -> None:
    """Do it if it can be done."""
    try:
        do(*args)
    except OSError:
        pass


def over(number: int, frame: FrameType | None) -> NoReturn:
    """The kernel's signal at the death of pool, or the alarm after SIGTERM."""
    raise Over(number)


def told_to_end(number: int, frame: FrameType | None) -> None:
    """The command, in the same group, was told as well; it has some time for its own end."""
    signal.setitimer(signal.ITIMER_REAL, TERM_GRACE)


def wait_on(number: int, frame: FrameType | None) -> None:
    """Signals are for the command, which is in the same group; this process ends when the command has."""


def end_as(status: int) -> NoReturn:
    """End as the command did: with its exit code or by its signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    end_as(main(sys.argv[1:]))
