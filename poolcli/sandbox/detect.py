"""What this machine can confine commands with, and why not more: each question is asked once per process.

The trial of bubblewrap is a real start, 5 ms on an idle machine; nothing about it is stored between runs, since a
stored success would be wrong on the day when somebody changes the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct

#: The system's own program comes first: profiles of AppArmor allow namespaces to this path only.
SYSTEM_BWRAP = "/usr/bin/bwrap"
SEATBELT = "/usr/bin/sandbox-exec"
#: Seconds for one trial. It takes milliseconds; longer means a machine in trouble.
PATIENCE = 10.0
#: Bytes of a message or of a file in /proc that are read.
MUCH = 4096
#: What confined commands need of it.
OLDEST_BWRAP = "0.6"
#: Came with 0.8, and is left out before: the filter of system calls forbids namespaces as well.
NEWER = "--disable-userns"

#: The namespaces, mounts and privileges that every confined command is started with.
TRIAL = (
    "--unshare-user --unshare-pid --unshare-ipc --unshare-uts --unshare-net --die-with-parent --new-session "
    "--cap-drop ALL --hostname localhost --ro-bind / / --dev /dev --proc /proc --size 1048576 --tmpfs /tmp"
).split()
COMMAND = ("--", "/bin/true")

USERNS_CLONE = "/proc/sys/kernel/unprivileged_userns_clone"
MAX_USERNS = "/proc/sys/user/max_user_namespaces"
APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"

#: The command that installs a package, by the names of distributions in /etc/os-release.
INSTALL: Mapping[str, str] = {
    "debian": "apt install bubblewrap",
    "ubuntu": "apt install bubblewrap",
    "fedora": "dnf install bubblewrap",
    "rhel": "dnf install bubblewrap",
    "arch": "pacman -S bubblewrap",
    "suse": "zypper install bubblewrap",
    "alpine": "apk add bubblewrap",
    "void": "xbps-install bubblewrap",
    "gentoo": "emerge sys-apps/bubblewrap",
    "nixos": "nix-env -iA nixos.bubblewrap",
}


class Bubblewrap(Struct, frozen=True):
    """Whether bubblewrap starts here. `program` is its path, '' when it is missing.

    `reason` says in one line why it does not start, `fix` what to do; both are '' where it does.
    """

    program: str = ""
    reason: str = ""
    fix: str = ""

    @property
    def works(self) -> bool:
        """It was started with everything that confined commands are started with."""
        return bool(self.program) and not self.reason


class Machine(Struct, frozen=True):
    """What there is to confine commands with, as plain values."""

    #: "linux", "darwin" or another of `sys.platform`.
    system: str
    bubblewrap: Bubblewrap = Bubblewrap(reason="bubblewrap is not installed")
    #: Version of Landlock; 0 for none, None where it was not asked because bubblewrap works.
    landlock: int | None = 0
    #: Path of the program for Seatbelt, '' without it.
    seatbelt: str = ""
    #: What looks like a container here, '' for nothing. A hint for the wording, never a reason to trust it.
    container: str = ""
    #: pool runs as root.
    root: bool = False


def machine(*, thorough: bool = False) -> Machine:
    """What this machine can do. `thorough` asks about Landlock even where bubblewrap works."""
    from poolcli.sandbox import landlock

    wrap = bubblewrap() if sys.platform == "linux" else Bubblewrap(reason="bubblewrap is for Linux only")
    return Machine(
        sys.platform,
        wrap,
        landlock.available() if thorough or not wrap.works else None,
        SEATBELT if sys.platform == "darwin" and os.access(SEATBELT, os.X_OK) else "",
        container(),
        os.geteuid() == 0,
    )


@cache
def bubblewrap() -> Bubblewrap:
    """Whether the bubblewrap of this machine starts. Asked once."""
    program = find_bubblewrap(SYSTEM_BWRAP, os.environ.get("PATH", ""))
    if not program:
        return Bubblewrap("", "bubblewrap is not installed", install(_read("/etc/os-release")))
    return try_bubblewrap(program)


def find_bubblewrap(system: str, path: str) -> str:
    """The program: the system's own, else the first on `path`; '' for none.

    Only absolute entries count: a relative one may be a folder of the repository.
    """
    if os.path.isfile(system) and os.access(system, os.X_OK):  # noqa: PTH113 (on the way to every run)
        return system
    absolute = os.pathsep.join(entry for entry in path.split(os.pathsep) if os.path.isabs(entry))  # noqa: PTH117
    return (shutil.which("bwrap", path=absolute) or "") if absolute else ""


def try_bubblewrap(program: str) -> Bubblewrap:
    """Start it once, really, and recognise why it fails."""
    try:
        done = _start([program, NEWER, *TRIAL, *COMMAND])
        if done.returncode != 0 and f"option {NEWER}".encode() in done.stderr:
            done = _start([program, *TRIAL, *COMMAND])
    except (OSError, subprocess.TimeoutExpired) as error:
        text = "it did not end" if isinstance(error, subprocess.TimeoutExpired) else str(error.strerror)
        return Bubblewrap(program, f"{program} cannot be started: {text}", "install it again")
    if done.returncode == 0:
        return Bubblewrap(program)
    message = done.stderr[:MUCH].decode(errors="replace")
    reason, fix = explain(message, {name: _read(name).strip() for name in SETTINGS}, container())
    return Bubblewrap(program, reason, fix)


def _start(argv: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        timeout=PATIENCE,
        check=False,
    )


#: Files whose content tells why there are no namespaces.
SETTINGS = (USERNS_CLONE, MAX_USERNS, APPARMOR)

_EXTERNAL = "or, if the container is all that you want to protect you, --sandbox=external"


def explain(message: str, settings: Mapping[str, str], container: str) -> tuple[str, str]:
    """Why bubblewrap did not start, from its message and the values of SETTINGS; and the fix, each in one line."""
    said = message.lower()
    inside = f" in this container ({container})" if container else ""
    if "unknown option" in said:
        return f"bubblewrap is older than {OLDEST_BWRAP}", f"install bubblewrap {OLDEST_BWRAP} or newer"
    if "mount proc" in said:
        fix = "start the container with --security-opt systempaths=unconfined (Podman: --security-opt unmask=ALL), "
        return f"a new /proc cannot be mounted{inside}: parts of the one here are masked", fix + _EXTERNAL
    if settings.get(MAX_USERNS) == "0":
        return (
            "user namespaces are turned off: user.max_user_namespaces is 0",
            "sudo sysctl -w user.max_user_namespaces=15000",
        )
    if settings.get(USERNS_CLONE) == "0":
        return (
            "user namespaces are for root only: kernel.unprivileged_userns_clone is 0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if "enospc" in said or "max_*_namespaces" in said:
        return (
            "no further user namespaces may be made: pool runs inside another sandbox",
            "run pool outside of it, or use --sandbox=landlock or --sandbox=external",
        )
    restricted = settings.get(APPARMOR) == "1"
    if restricted and ("uid map" in said or "rtm_newaddr" in said or "permi" in said):
        return (
            "AppArmor keeps bubblewrap from its namespaces (Ubuntu 23.10 and newer)",
            "sudo apt install apparmor-profiles && "
            "sudo cp /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && "
            "sudo apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict",
        )
    if "namespace" in said or "uid map" in said or "rtm_newaddr" in said:
        fix = (
            "start it with a seccomp profile that allows user namespaces (--security-opt seccomp=FILE), "
            + _EXTERNAL
            if container
            else "allow user namespaces to your user, or run pool in a virtual machine"
        )
        return f"user namespaces cannot be made{inside}: {_first_line(message)}", fix
    return f"bubblewrap does not start: {_first_line(message)}", "`bwrap --ro-bind / / true` shows the error"


def _first_line(message: str) -> str:
    from poolcli.sanitize import clean

    line = next((line for line in message.splitlines() if line.strip()), "it said nothing")
    return clean(line.removeprefix("bwrap: "), keep_newlines=False)[:200]


def install(os_release: str) -> str:
    """The command that installs bubblewrap on the distribution that /etc/os-release describes."""
    values = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    names = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".replace('"', "").split()
    command = next((INSTALL[name] for name in names if name in INSTALL), "")
    if command.startswith("nix-env"):
        return command
    return f"sudo {command}" if command else "install the package bubblewrap"


def version(program: str) -> str:
    """What bubblewrap says its version is; '' when it says nothing."""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[:MUCH].decode(errors="replace").strip().removeprefix("bubblewrap ")


@cache
def container() -> str:
    """What looks like a container around pool, '' for nothing."""
    for file, name in (("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman")):
        if os.path.exists(file):  # noqa: PTH110 (on the way to every run)
            return name
    groups = _read("/proc/1/cgroup")
    return next((word for word in ("docker", "kubepods", "containerd", "lxc") if word in groups), "")


def _read(path: str) -> str:
    """The beginning of a small file, '' when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MUCH).decode(errors="replace")
    except OSError:
        return ""
