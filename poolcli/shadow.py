"""The repository that a run's commands see: private to the run, on top of the user's objects, which are only read.

A linked worktree would share branches, stash, configuration and hooks with the user. Here HEAD is detached at
the base, branches and tags are copies, the configuration is ours, and objects of the user's are borrowed. Commands
may do with it what they like: pool itself never calls git in it (workspace.py reads the files), so nothing that is
written here can make pool run a program.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from poolcli.git import IDENTITY, Repository, git
from poolcli.snapshot import copy_index
from poolcli.worktrees import remove_tree

#: Where commands see the repository and the user's objects when the sandbox can mount them there.
SEEN = Path("/run/pool/git")
SEEN_OBJECTS = Path("/run/pool/objects")

#: Settings of the user's that decide what a file's content is, or which files there are. No others are taken over.
_CONTENT = (
    "core.autocrlf",
    "core.checkstat",
    "core.eol",
    "core.filemode",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
    "core.symlinks",
    "core.trustctime",
)
#: Their values are words: anything else would be a way to write more than a value.
_WORD = re.compile(r"[A-Za-z0-9]{1,20}")

#: Longest file of the user's (ignore rules, sparse patterns, alternates, shallow commits) that is read, in bytes.
_LONGEST = 4_000_000

#: How deep git follows object stores that borrow from others.
_DEPTH = 5

_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tbare = false
\tlogAllRefUpdates = true
\thooksPath = /dev/null
\tfsmonitor = false
\tpager = cat
\teditor = :
[user]
\tname = {name}
\temail = {email}
[commit]
\tgpgSign = false
[tag]
\tgpgSign = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[advice]
\tdetachedHead = false
[submodule]
\trecurse = false
[filter "lfs"]
\tclean =
\tsmudge =
\tprocess =
\trequired = false
"""


def make(
    repo: Repository,
    folder: Path,
    *,
    commit: str,
    index: Path,
    objects: Sequence[Path],
    ignored: Sequence[str] = (),
) -> None:
    """Make the repository at `folder`, which takes the place of one that is there.

    `index` is the index of the worktree as checked out; `objects` are the object stores as commands see them
    (`stores`); `ignored` are patterns that git is to ignore beside the user's own. Raises OSError or GitError.
    """
    # Made aside: what stands at `folder` is the commands', and a write could follow a link of theirs.
    fresh = folder.with_name(f"{folder.name}.new")
    _clear(fresh)
    fresh.mkdir(mode=0o700)
    for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
        (fresh / name).mkdir(parents=True)
    settings = _settings(repo)
    (fresh / "HEAD").write_text(f"{commit}\n")
    (fresh / "config").write_text(_config(repo, settings))
    (fresh / "packed-refs").write_bytes(_refs(repo))
    (fresh / "objects/info/alternates").write_bytes(b"".join(_quoted(path) + b"\n" for path in objects))
    (fresh / "info/exclude").write_bytes(_excluded(repo, settings, ignored))
    for source, target in (
        (repo.common_dir / "info/attributes", "info/attributes"),
        (repo.git_dir / "info/sparse-checkout", "info/sparse-checkout"),
        (repo.common_dir / "shallow", "shallow"),
    ):
        if content := _content(source):
            (fresh / target).write_bytes(content)
    copy_index(index, fresh / "index")
    if os.path.lexists(folder):
        old = folder.with_name(f"{folder.name}.old")
        _clear(old)
        folder.rename(old)
        fresh.rename(folder)
        _clear(old)
    else:
        fresh.rename(folder)


def whole(folder: Path) -> bool:
    """Whether there is a repository as far as git needs one: commands may have removed it."""
    try:
        return all(
            stat.S_ISREG((folder / name).lstat().st_mode) for name in ("HEAD", "objects/info/alternates")
        )
    except OSError:
        return False


def link(root: Path, target: Path) -> None:
    """Make `.git` in a worktree the file that names `target` as its repository, whatever stood there."""
    file = root / ".git"
    wanted = b"gitdir: " + os.fsencode(target) + b"\n"
    with contextlib.suppress(OSError):
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as there:  # noqa: PTH123 (a descriptor)
            if stat.S_ISREG(os.fstat(fd).st_mode) and there.read(len(wanted) + 1) == wanted:
                return
    _clear(file)
    # Exclusively: never through a link that appears meanwhile.
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(fd, "wb") as made:  # noqa: PTH123 (a descriptor)
        made.write(wanted)


def stores(repo: Repository) -> tuple[Path, ...]:
    """The user's object store and those it borrows from: absolute, without links, each once."""
    found: list[Path] = []
    waiting = [((repo.common_dir / "objects").resolve(), 0)]
    while waiting:
        place, depth = waiting.pop(0)
        if place in found or not place.is_dir():
            continue
        found.append(place)
        if depth < _DEPTH:
            waiting += [(path, depth + 1) for path in _alternates(place)]
    return tuple(found)


def _alternates(objects: Path) -> Iterator[Path]:
    for line in _content(objects / "info/alternates").split(b"\n"):
        if line and not line.startswith(b"#"):
            with contextlib.suppress(OSError, ValueError):
                yield (objects / os.fsdecode(_unquoted(line))).resolve()


_LETTERS = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}


def _unquoted(line: bytes) -> bytes:
    """A path as it stands in a file of alternates: in C style when it begins with a quotation mark."""
    if not (line.startswith(b'"') and line.endswith(b'"') and len(line) > 1):
        return line

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 255]) if len(code) == 3 else _LETTERS.get(code, code)

    return re.sub(rb"\\([0-7]{3}|.)", plain, line[1:-1], flags=re.S)


def _quoted(path: Path) -> bytes:
    text = os.fsencode(path)
    if b"\n" not in text and not text.startswith((b'"', b"#")):
        return text
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def _settings(repo: Repository) -> dict[str, str]:
    """The user's settings for this checkout, all files and includes of theirs read; the last value of each."""
    out = git([*repo.pin(), "config", "--list", "-z"], cwd=repo.top)
    found: dict[str, str] = {}
    for entry in out.decode("utf-8", "surrogateescape").split("\0"):
        name, _, value = entry.partition("\n")
        found[name.lower()] = value
    return found


def _config(repo: Repository, settings: Mapping[str, str]) -> str:
    extensions = []
    if settings.get("extensions.objectformat", "sha1").lower() == "sha256":
        extensions.append("\tobjectFormat = sha256\n")
    if "extensions.partialclone" in settings or any(
        name.startswith("remote.") and name.endswith((".promisor", ".partialclonefilter"))
        for name in settings
    ):
        # Objects may be missing. There is no remote of this name: nothing can be fetched.
        extensions.append("\tpartialClone = none\n")
    text = _CONFIG.format(
        version=1 if extensions else 0,
        name=IDENTITY["GIT_AUTHOR_NAME"],
        email=IDENTITY["GIT_AUTHOR_EMAIL"],
    )
    if extensions:
        text += "[extensions]\n" + "".join(extensions)
    taken = [
        f"\t{name.partition('.')[2]} = {settings[name]}\n"
        for name in _CONTENT
        if _WORD.fullmatch(settings.get(name, ""))
    ]
    return text + ("[core]\n" + "".join(taken) if taken else "")


def _refs(repo: Repository) -> bytes:
    """Branches, tags and remote-tracking branches, in the format of packed-refs. Stash and notes stay the user's."""
    out = git(
        [
            *repo.pin(),
            "for-each-ref",
            "--format=%(objectname) %(refname)",
            "refs/heads",
            "refs/tags",
            "refs/remotes",
        ],
        cwd=repo.top,
    )
    return b"# pack-refs with: sorted \n" + out


def _excluded(repo: Repository, settings: Mapping[str, str], ignored: Sequence[str]) -> bytes:
    """Ignore rules from outside of the tree, and ours."""
    given = settings.get("core.excludesfile", "")
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    rules = [_content(repo.common_dir / "info/exclude")]
    with contextlib.suppress(RuntimeError):  # no home folder
        rules.append(_content(repo.top / Path(given or f"{base}/git/ignore").expanduser()))
    rules.append("".join(f"{pattern}\n" for pattern in ignored).encode("utf-8", "surrogateescape"))
    return b"\n".join(rule.removesuffix(b"\n") for rule in rules if rule) + b"\n"


def _content(file: Path) -> bytes:
    """A small file of the user's; empty where there is none or where it is no plain file."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as there:  # noqa: PTH123 (a descriptor)
            return there.read(_LONGEST) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""


def _clear(path: Path) -> None:
    """Remove whatever a command may have left at a path. Never through a link."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


__all__ = ["SEEN", "SEEN_OBJECTS", "link", "make", "stores", "whole"]
