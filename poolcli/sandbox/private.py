"""What only root may read outside of the hidden folders: left out of every sandbox where pool runs as root.

A list of what is known, and a look at /etc for what is not: there only its rights say that something is a secret.
"""

from __future__ import annotations

import functools
import itertools
import os
import stat
from collections.abc import Iterator

#: Files and folders with keys, passwords, other programs' data and doors to the kernel.
KNOWN = (
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/krb5.keytab",
    "/etc/ssh/ssh_host_rsa_key",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/ssh_host_dsa_key",
    "/etc/ssl/private",
    "/etc/letsencrypt",
    "/etc/wireguard",
    "/etc/NetworkManager",
    "/etc/kubernetes",
    "/etc/rancher",
    "/var/backups",
    "/var/cache/debconf/passwords.dat",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/lib/NetworkManager",
    "/var/lib/private",
    "/var/lib/sudo",
    "/var/lib/cloud",
    "/var/log",
    "/var/mail",
    "/var/spool/cron",
    "/boot",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
    "/sys/fs/bpf",
    "/sys/firmware",
)
#: Without these no program finds its libraries, users or hosts. An image that was built with a strict umask may
#: have them closed, and none holds a secret.
_NEEDED = frozenset(
    f"/etc/{name}"
    for name in (
        "passwd",
        "group",
        "hosts",
        "resolv.conf",
        "nsswitch.conf",
        "ld.so.cache",
        "ld.so.conf",
        "ssl",
    )
)
#: Entries of /etc that are looked at: a large server has 2500 in two levels, and 20 000 take 50 ms, once.
_ENTRIES = 20_000
#: Closed entries that are left out at most. Each is a mount of every command; a usual machine has ten.
_CLOSED = 200


@functools.cache
def of_root() -> tuple[str, ...]:
    """Real paths that exist: the known ones, and what only root can read in /etc. Looked for once: 5 ms."""
    known = (os.path.realpath(path) for path in KNOWN if os.path.exists(path))  # noqa: PTH110
    return tuple(dict.fromkeys((*known, *closed(os.path.realpath("/etc")))))


def closed(folder: str) -> list[str]:
    """Root's own files that others cannot read, and folders that they cannot enter, two levels deep."""
    found: list[str] = []
    for entry in itertools.islice(_entries(folder), _ENTRIES):
        if len(found) == _CLOSED:
            break
        if _is_closed(entry) and entry.path not in _NEEDED:
            found.append(entry.path)
    return found


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, then those of the folders in it. Links are not followed."""
    inner: list[str] = []
    for entry in _listed(folder):
        yield entry
        if entry.is_dir(follow_symlinks=False):
            inner.append(entry.path)
    for path in inner:
        yield from _listed(path)


def _listed(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:  # it went away
        return


def _is_closed(entry: os.DirEntry[str]) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    if status.st_uid != 0:
        return False
    if stat.S_ISDIR(status.st_mode):
        return not status.st_mode & stat.S_IXOTH
    return stat.S_ISREG(status.st_mode) and not status.st_mode & stat.S_IROTH
