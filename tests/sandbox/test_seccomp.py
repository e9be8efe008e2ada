"""The filter, in real processes: each call without it and with it."""

from __future__ import annotations

import errno
import json
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from poolcli.errors import RefusedError
from poolcli.sandbox import seccomp

here = platform.machine()
runs_here = pytest.mark.skipif(
    sys.platform != "linux" or here not in ("x86_64", "aarch64"), reason="no filter for this machine"
)

#: Installs the filter given as hex (none: ''), makes each call in a child, prints its errno (0: it worked).
CHILD = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
code, calls = bytes.fromhex(sys.argv[1]), json.loads(sys.argv[2])
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
results = []
for call in calls:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if code:
            buffer = ctypes.create_string_buffer(code, len(code))
            program = Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
            assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
        arguments = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a.encode()) for a in call]
        value = libc.syscall(*arguments)
        os.write(writer, str(ctypes.get_errno() if value == -1 else 0).encode())
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 20)
    os.close(reader)
    status = os.waitpid(pid, 0)[1]
    results.append(int(answer) if answer else -os.WTERMSIG(status))
print(json.dumps(results))
"""


def call(calls: list[list[int | str]], filtered: bool, cwd: Path) -> list[int]:
    code = seccomp.program(here).hex() if filtered else ""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CHILD, code, json.dumps(calls)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    answers: list[int] = json.loads(done.stdout)
    return answers


def number(name: str) -> int:
    found = seccomp._CALLS[name][0 if here == "x86_64" else 1]
    assert found is not None
    return found


@runs_here
def test_every_refused_call_gives_its_error(tmp_path: Path) -> None:
    """All arguments -1: nothing can come of one that gets through."""
    names = [
        name
        for name, numbers in seccomp._CALLS.items()
        if name not in seccomp._LOOKED_AT and numbers[0 if here == "x86_64" else 1] is not None
    ]
    answers = call([[number(name), -1, -1, -1, -1, -1, -1] for name in names], True, tmp_path)
    expected = {name: errno.ENOSYS if name in seccomp._ABSENT else errno.EPERM for name in names}
    assert dict(zip(names, answers, strict=True)) == expected


NEWUSER, NEWNET = 0x10000000, 0x40000000
#: Works for everybody (or fails for another reason), and is refused with the filter: (call, arguments, error).
DANGEROUS: list[tuple[str, list[int | str], int]] = [
    ("unshare", [NEWUSER], errno.EPERM),
    ("unshare", [NEWUSER | NEWNET], errno.EPERM),
    ("clone", [NEWUSER | 17, 0, 0, 0, 0], errno.EPERM),
    ("clone3", [0, 0], errno.ENOSYS),
    ("keyctl", [0, -3, 0], errno.EPERM),
    ("personality", [0x400000], errno.EPERM),
    ("ioctl", [0, 0x5412, 0], errno.EPERM),
    ("ioctl", [0, 0x5412 | 1 << 40, 0], errno.EPERM),
    ("ioctl", [0, 0x541C, 0], errno.EPERM),
    ("ioctl", [0, 0x5423, 0], errno.EPERM),
    ("socket", [38, 5, 0], errno.EAFNOSUPPORT),  # AF_ALG
    ("socket", [16, 3, 15], errno.EPROTONOSUPPORT),  # AF_NETLINK, events of devices
    ("socket", [16 | 1 << 40, 3, 15], errno.EPROTONOSUPPORT),
    ("fchmodat", [-100, "file", 0o4755], errno.EPERM),
    ("openat", [-100, "made", 0o102, 0o4755], errno.EPERM),
    ("mknodat", [-100, "node", 0o104755, 0], errno.EPERM),
    ("openat2", [-100, 0, 0, 0], errno.ENOSYS),
]


@runs_here
@pytest.mark.parametrize(("name", "arguments", "error"), DANGEROUS)
def test_dangerous_arguments(name: str, arguments: list[int | str], error: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    [control] = call([[number(name), *arguments]], False, tmp_path)
    for made in ("made", "node"):
        (tmp_path / made).unlink(missing_ok=True)
    [confined] = call([[number(name), *arguments]], True, tmp_path)
    assert confined == error
    if control == error:
        pytest.skip("this machine refuses it without the filter, too")


#: Must work as without the filter.
USEFUL: list[tuple[str, list[int | str]]] = [
    ("unshare", [0x400]),  # CLONE_FILES
    ("personality", [0xFFFFFFFF]),
    ("personality", [0x40000]),  # what debuggers set
    ("socket", [1, 1, 0]),
    ("socket", [2, 1, 0]),
    ("socket", [10, 2, 0]),
    ("socket", [16, 3, 0]),
    ("fchmodat", [-100, "file", 0o2755]),
    ("openat", [-100, "made", 0o102, 0o644]),
    ("openat", [-100, "file", 0, 0o4000]),  # the mode of an open that makes nothing is not read
    ("mknodat", [-100, "node", 0o10644, 0]),
]


@runs_here
@pytest.mark.parametrize(("name", "arguments"), USEFUL)
def test_useful_arguments(name: str, arguments: list[int | str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert call([[number(name), *arguments]], True, tmp_path) == [0]


@runs_here
@pytest.mark.skipif(here != "x86_64", reason="other numbers only on x86_64")
def test_the_numbers_of_another_kind_of_call_are_no_way_around(tmp_path: Path) -> None:
    assert call([[seccomp._X32 | 39]], True, tmp_path) == [errno.ENOSYS]
    # int 0x80 with the 32-bit number of getpid, from a page of our own: the process ends with SIGSYS.
    program = """
import ctypes, mmap, sys
code = b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3"
page = mmap.mmap(-1, 4096, prot=7)
page.write(code)
enter = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
libc = ctypes.CDLL(None)
raw = bytes.fromhex(sys.argv[1])
if raw:
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    buffer = ctypes.create_string_buffer(raw, len(raw))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(Program(len(raw) // 8, ctypes.cast(buffer, ctypes.c_void_p))), 0, 0) == 0
print(enter() > 0)
"""
    run = [sys.executable, "-I", "-S", "-c", program]
    control = subprocess.run([*run, ""], capture_output=True, text=True)
    if control.stdout != "True\n":
        pytest.skip("this kernel takes no 32-bit calls")
    assert (
        subprocess.run([*run, seccomp.program(here).hex()], capture_output=True).returncode == -31
    )  # SIGSYS


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_lands_inside(machine: str) -> None:
    code = [struct.unpack("=HBBI", chunk) for chunk in zip_bytes(seccomp.program(machine))]
    assert len(code) < 4096  # the kernel's limit
    for place, (operation, yes, no, _) in enumerate(code):
        if operation in (seccomp._JEQ, seccomp._JGE, seccomp._JSET):
            assert place + 1 + max(yes, no) < len(code)
    assert code[-1][0] == seccomp._RET and code[1][3] == seccomp._ARCHITECTURES[machine]


def zip_bytes(program: bytes) -> list[bytes]:
    return [program[at : at + 8] for at in range(0, len(program), 8)]


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "x86_64-linux-gnu/asm/unistd_64.h"), (1, "asm-generic/unistd.h")],
)
def test_the_numbers_are_the_kernel_s(column: int, header: str) -> None:
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip("no headers of the kernel here")
    known = {m[1]: int(m[2]) for m in re.finditer(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text())}
    ours = {name: numbers[column] for name, numbers in seccomp._CALLS.items() if name in known}
    assert len(ours) > 30
    assert ours == {name: known[name] for name in ours}


def test_another_machine_is_refused() -> None:
    with pytest.raises(RefusedError, match="riscv64"):
        seccomp.program("riscv64")
