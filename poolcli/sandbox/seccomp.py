"""The system calls that commands are refused: a classic BPF program for the kernel, built here.

What is refused is what reaches past a mount namespace, gives new ones, or is a large part of the kernel that
tests and builds do not need. Everything else is allowed: a debugger works, and so does every kind of server
on the loopback. Calls that libraries try first and do without get ENOSYS, all others EPERM.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Iterable

from poolcli.errors import RefusedError

#: struct seccomp_data: number, architecture, instruction pointer, six arguments of 8 bytes (low half first).
_NUMBER, _ARCH, _ARGS = 0, 4, 16

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
#: BPF: load a word; compare equal, at least, any bit; return. All with a constant.
_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06

#: AUDIT_ARCH_*: the only kind of call that is let through. 32-bit calls have other numbers for everything.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: Set in the number of every x32 call, which x86_64 kernels may take beside their own.
_X32 = 0x40000000

#: Numbers on (x86_64, aarch64); None where the call does not exist.
_CALLS: dict[str, tuple[int | None, int | None]] = {
    # Mounts, other roots, and files by handle, which no mount hides.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "setns": (308, 268),
    # Keys of the user's session are not in any namespace.
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    # Parts of the kernel that faults are found in every year.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "lookup_dcookie": (212, 18),
    "vhangup": (153, 58),
    # The machine itself.
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    # With arguments that are looked at.
    "clone": (56, 220),
    "unshare": (272, 97),
    "ioctl": (16, 29),
    "personality": (135, 92),
    "socket": (41, 198),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "open": (2, None),
    "creat": (85, None),
    "openat": (257, 56),
    "mknod": (133, None),
    "mknodat": (259, 33),
    # Arguments in memory cannot be looked at; every library does without these.
    "clone3": (435, 435),
    "openat2": (437, 437),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
_ABSENT = ("clone3", "openat2", "io_uring_setup", "io_uring_enter", "io_uring_register")
_LOOKED_AT = frozenset(
    "clone unshare ioctl personality socket chmod fchmod fchmodat fchmodat2 open creat openat mknod mknodat".split()
)

#: CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET. CLONE_NEWTIME is a bit of the signal number in clone().
_NEW_NAMESPACE, _NEW_TIME = 0x7E020000, 0x80
#: TIOCSTI types into the terminal, TIOCLINUX pastes, TIOCSETD loads line disciplines.
_IOCTLS = (0x5412, 0x541C, 0x5423)
#: No change, 32-bit names, no address randomisation (debuggers), and the question which it is.
_PERSONALITIES = (0, 0x8, 0x40000, 0xFFFFFFFF)
#: AF_UNIX, AF_INET, AF_INET6: without them no test server and no worker pool.
_FAMILIES = (1, 2, 10)
#: AF_NETLINK only for NETLINK_ROUTE: listing interfaces, which resolvers and node do.
_NETLINK, _ROUTE = 16, 0
#: A program with this bit runs with its owner's rights for everyone on the machine.
_SETUID = 0o4000
#: O_CREAT and the bit of O_TMPFILE: only then `open` reads its mode.
_CREATES = 0o100 | 0o20000000
#: Which argument is the mode, counted from 0.
_MODE_AT = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "mknod": 1, "mknodat": 2}
#: (flags, mode) of the calls that open.
_FLAGS_AT = {"open": (1, 2), "openat": (2, 3)}

_Code = list[bytes]


def _op(code: int, constant: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One struct sock_filter; jumps count instructions to skip."""
    return struct.pack("=HBBI", code, if_true, if_false, constant)


def _refuse(number: int) -> bytes:
    return _op(_RET, _ERRNO | number)


def _argument(index: int) -> bytes:
    """Load the low half of an argument. The kernel reads these as 32 bits: a high half must not matter."""
    return _op(_LOAD, _ARGS + 8 * index)


_PASS = _op(_RET, _ALLOW)


def _any_bit(index: int, bits: int, error: int) -> _Code:
    return [_argument(index), _op(_JSET, bits, 0, 1), _refuse(error), _PASS]


def _only(index: int, values: Iterable[int], error: int) -> _Code:
    code = [_argument(index)]
    for value in values:
        code += [_op(_JEQ, value, 0, 1), _PASS]
    return [*code, _refuse(error)]


def _body(name: str) -> _Code:
    """What decides on a call by its arguments. Always ends with a return."""
    if name == "clone":
        return _any_bit(0, _NEW_NAMESPACE, errno.EPERM)
    if name == "unshare":
        return _any_bit(0, _NEW_NAMESPACE | _NEW_TIME, errno.EPERM)
    if name == "personality":
        return _only(0, _PERSONALITIES, errno.EPERM)
    if name == "ioctl":
        code = [_argument(1)]
        for request in _IOCTLS:
            code += [_op(_JEQ, request, 0, 1), _refuse(errno.EPERM)]
        return [*code, _PASS]
    if name == "socket":
        # A netlink socket's protocol is its third argument.
        netlink = _only(2, [_ROUTE], errno.EPROTONOSUPPORT)
        code = _only(0, _FAMILIES, errno.EAFNOSUPPORT)[:-1]
        return [*code, _op(_JEQ, _NETLINK, 0, len(netlink)), *netlink, _refuse(errno.EAFNOSUPPORT)]
    if name in _FLAGS_AT:
        flags, mode = _FLAGS_AT[name]
        return [_argument(flags), _op(_JSET, _CREATES, 1, 0), _PASS, *_any_bit(mode, _SETUID, errno.EPERM)]
    return _any_bit(_MODE_AT[name], _SETUID, errno.EPERM)


def program(machine: str) -> bytes:
    """The filter for a kind of machine as `platform.machine()` names it. Raises RefusedError for others."""
    if machine not in _ARCHITECTURES:
        raise RefusedError(
            f"pool has no system call filter for {machine} machines, and the sandbox needs one",
            "run pool in a container or a machine of its own with --sandbox external",
        )
    column = list(_ARCHITECTURES).index(machine)
    code = [
        _op(_LOAD, _ARCH),
        _op(_JEQ, _ARCHITECTURES[machine], 1, 0),
        _op(_RET, _KILL),
        _op(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        code += [_op(_JGE, _X32, 0, 1), _refuse(errno.ENOSYS)]
    for name, numbers in _CALLS.items():
        number = numbers[column]
        if number is None:
            continue
        if name in _LOOKED_AT:
            body = _body(name)
        else:
            body = [_refuse(errno.ENOSYS if name in _ABSENT else errno.EPERM)]
        code += [_op(_JEQ, number, 0, len(body)), *body]
    return b"".join([*code, _PASS])


def memfd(content: bytes, name: str) -> int:
    """A descriptor from which `content` is read once, for the `pass_fds` of one start."""
    fd = os.memfd_create(name)
    os.write(fd, content)  # whole: memory files take everything below their limit at once
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def filter_fd() -> int:
    """The filter of this machine on a descriptor for one start."""
    global _built
    if not _built:
        _built = program(platform.machine())
    return memfd(_built, "seccomp")


_built = b""
