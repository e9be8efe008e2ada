"""Confinement on macOS: the text of a Seatbelt profile, and the command that applies it.

The profile is made and tested as text only. It was never run on a Mac by those who wrote it, so nothing is
promised of it: it counts as reduced, a person is told so, and a program has to name it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from poolcli import paths
from poolcli.errors import RefusedError
from poolcli.sandbox.base import Confinement, Launch, Sandbox, tools

#: Folders that hold other people's or other programs' things. Paths as the kernel resolves them: /tmp and /var are
#: links into /private.
HIDDEN = (
    "/Users",
    "/Volumes",
    "/private/tmp",
    "/private/var/folders",
    "/private/var/tmp",
    "/private/var/root",
)

#: What every process needs and Landlock's list has, too.
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/dtracehelper", "/dev/fd")


def profile(confinement: Confinement, *, home: Path, temp: Path, hidden: Iterable[Path] = ()) -> str:
    """The profile. The last rule that matches decides, so what is allowed within what is denied comes after it.

    `home` is the user's, `temp` the folder for temporary files, `hidden` further folders of the user's.
    """
    away = [*map(Path, HIDDEN), home, *hidden, *confinement.hidden]
    write = [confinement.root, confinement.home, temp, *confinement.writable]
    if confinement.git_dir is not None:
        write.append(confinement.git_dir)
    hidden = tuple(hidden)
    read = [
        *tools(confinement, hidden),
        *confinement.given,
        *(overlay.lower for overlay in confinement.overlays),
    ]
    if confinement.objects is not None:
        read.append(confinement.objects)
    # What is hidden within something that was named stays so; the worktree may itself lie in a hidden folder.
    inner = [path for path in (*hidden, *confinement.hidden) if any(path.is_relative_to(one) for one in read)]
    lines = [
        "(version 1)",
        "(deny default)",
        "(allow process-fork process-exec)",
        "(allow signal (target same-sandbox))",
        "(allow process-info* (target same-sandbox))",
        "(allow sysctl-read)",
        "(allow ipc-posix-sem ipc-posix-shm*)",
        "(allow pseudo-tty)",
        # Without these two no program finds its user's name or its libraries.
        '(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))',
        '(allow mach-lookup (global-name "com.apple.system.logger"))',
        # Looking up names on the way to a file; contents and folders are further down.
        "(allow file-read-metadata)",
        "(allow file-read*)",
        *_rule("deny", "file-read-data", away),
        *_rule("allow", "file-read*", read),
        *_rule("deny", "file-read-data", inner),
        *_rule("allow", "file-read* file-write*", write),
        *(f'(allow file-read* file-write-data file-ioctl (literal "{device}"))' for device in DEVICES),
        # A network of one's own is not to be had here; unix sockets only in folders that can be written.
        "(deny network*)",
        *_rule("allow", "network*", write),
        *_rule("deny", "file-write-setugid", [Path("/")]),
    ]
    return "\n".join(lines) + "\n"


def _rule(verdict: str, what: str, places: Iterable[Path]) -> list[str]:
    filters = [f"(subpath {quoted(os.path.realpath(path))})" for path in dict.fromkeys(places)]
    return [f"({verdict} {what}", *(f"    {one}" for one in filters), ")"] if filters else []


def quoted(path: str) -> str:
    """A path as a string of the profile's language. Raises RefusedError for one that cannot be written there."""
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in path):
        raise RefusedError(f"the path {path!r} cannot be part of a sandbox profile", "rename the folder")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def environment(env: Mapping[str, str], confinement: Confinement, temp: Path) -> dict[str, str]:
    """The command's environment: as under Landlock, with a folder of the run for temporary files."""
    from poolcli.sandbox import landlock

    folder = str(temp)
    return {**landlock.environment(env, confinement), "TMPDIR": folder, "TMP": folder, "TEMP": folder}


def launch(sandbox: Sandbox, argv: Sequence[str], confinement: Confinement, env: Mapping[str, str]) -> Launch:
    """What to start so that `argv` runs confined. Raises RefusedError where Seatbelt cannot do what is wanted."""
    if not sandbox.program:
        raise RefusedError("Seatbelt is part of macOS and is not here", "leave --sandbox out")
    if confinement.proxy is not None:
        raise RefusedError(
            "the network cannot be opened for single hosts under Seatbelt",
            "use a Linux machine, or go without",
        )
    temp = confinement.home / "tmp"
    temp.mkdir(mode=0o700, exist_ok=True)
    text = profile(confinement, home=paths.home(), temp=temp, hidden=(paths.state_dir(), paths.config_dir()))
    start = [sandbox.program, "-p", text, *argv]
    return Launch(start, environment(env, confinement, temp))
