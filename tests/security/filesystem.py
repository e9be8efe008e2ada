"""Files: links, races, names, special files, mounts."""

from __future__ import annotations

import os
import subprocess
import threading

from tests.repositories import commit, put
from tests.security.case import CANARY, Field, Group, comes, flipping

GROUP = Group("Files")
case, shell = GROUP.case, GROUP.shell


@case("FS-03", "A link in the repository that leads to a key file, written by a tool", "a plain open")
def committed_link(field: Field, protected: bool) -> bool:
    target = field.home / ".ssh/authorized_keys"
    (field.main / "link").symlink_to(target)
    commit(field.main)
    field.tool("write", protected, path="link", content="theirs\n")
    said = field.tool("edit", protected, path="link", old="mine", new="theirs")
    assert not protected or (said.startswith("error") and "link" in said)
    return target.read_text() != "mine\n"


@case(
    "FS-04",
    "A link made by a command, written by a tool",
    "no sandbox and a plain open",
    needs=("bubblewrap",),
)
def made_link(field: Field, protected: bool) -> bool:
    field.shell('ln -s "$HOME_OF_USER" d', protected)
    field.tool("write", protected, path="d/.bashrc", content="theirs\n")
    return (field.home / ".bashrc").read_text() != "# mine\n"


@case(
    "FS-05",
    "A folder that turns into a link to elsewhere while files in it are written",
    "the path is checked, then opened",
    tests=("tests/tools/test_attacks.py::test_searches_while_a_folder_flips",),
)
def flip(field: Field, protected: bool) -> bool:
    outside = field.tmp / "outside"
    put(outside, {"f": "theirs\n"})
    space = field.space(protected)
    with flipping(space.root, outside):
        if protected:
            for turn in range(100):
                field.gate("write", path="d/f", content=f"{turn}\n")
                with space.folder() as folder:  # the same way, as fast as it goes
                    for _ in range(20):
                        try:
                            folder.replace("d/f", b"inside\n")
                        except (OSError, ValueError):
                            continue
        else:

            def written() -> bool:
                path = space.root / "d/f"
                try:
                    if os.path.realpath(path).startswith(f"{space.root}/"):
                        path.write_text("inside\n")
                except OSError:  # it was a folder and a link at once
                    pass
                return (outside / "f").read_text() != "theirs\n"

            comes(written, 60, pause=0)
    return (outside / "f").read_text() != "theirs\n"


@case(
    "FS-07",
    "Spellings of paths that lead outside, in every file tool",
    "the path is joined and opened",
    tests=(
        "tests/tools/test_attacks.py::test_spellings_of_outside",
        "tests/test_workspace.py::test_paths_refused",
    ),
)
def spellings(field: Field, protected: bool) -> bool:
    root = field.space(protected).root
    field.file("state/worktrees/secret", CANARY)
    secret = "../secret"
    reached = False
    for path in (secret, f"sub/../{secret}", str(field.home / ".aws/credentials"), "~/.aws/credentials",
                 "$HOME/.aws/credentials", f"{root}/{secret}", "./.././secret", f"{root}/../secret"):  # fmt: skip
        reached |= CANARY in field.tool("read", protected, path=path)
        reached |= CANARY in field.tool("search", protected, path=path, pattern=CANARY[:6]).replace(path, "")
        field.tool("write", protected, path=f"{path}.new", content="x")
        field.tool("edit", protected, path=path, old=CANARY, new=CANARY + "!")
    made = [*root.parent.glob("secret.new"), *field.home.glob(".aws/*.new")]
    return reached or bool(made) or (root.parent / "secret").read_text() != CANARY


@case(
    "FS-11",
    "The ignored secrets of the checkout, by path",
    "no sandbox and a plain open",
    needs=("bubblewrap",),
)
def ignored_secret(field: Field, protected: bool) -> bool:
    said = field.shell('cat "$MAIN/.env"; cat "$TMP/main/.env"', protected)
    for path in (f"{field.main}/.env", "../../../main/.env", ".env"):
        said += field.tool("read", protected, path=path)
    return CANARY in said


@case("FS-12", "A named pipe, a device behind a link, a file of a terabyte, read by a tool", "a plain open")
def special(field: Field, protected: bool) -> bool:
    root = field.space(protected).root
    os.mkfifo(root / "pipe")
    (root / "zero").symlink_to("/dev/zero")
    with open(root / "holes", "wb") as file:
        file.truncate(1 << 40)
    if protected:
        said = [field.tool("read", True, path=path) for path in ("pipe", "zero", "holes")]
        said.append(field.tool("search", True, pattern="x"))
        return not all(len(text) < 10_000 for text in said)
    thread = threading.Thread(target=field.tool, args=("read", False), kwargs={"path": "pipe"}, daemon=True)
    thread.start()
    thread.join(0.5)
    hung = thread.is_alive()
    with open(root / "pipe", "wb"):  # lets the reader go
        pass
    thread.join()
    return hung


shell(
    "FS-14",
    "Mounting over, unmounting and new user namespaces",
    'unshare -Urm sh -c "mount -t tmpfs none /mnt && echo REACHED"; unshare -U true && echo REACHED',
    tests=("tests/sandbox/test_bubblewrap.py::test_nothing_hidden_is_laid_open_again",),
)
shell(
    "FS-15",
    "Capabilities of a root that runs pool: a mount made writable again",
    "grep -q 'CapEff:.*[1-9a-f]' /proc/self/status && echo REACHED;"
    " unshare -m mount -o remount,rw,bind / 2>/dev/null && echo REACHED",
    needs=("root",),
    tests=("tests/sandbox/test_bubblewrap.py::test_attacks_of_root",),
)
shell(
    "FS-16",
    "Settings of the host's kernel, written by root (the same value again)",
    "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern && echo REACHED",
    needs=("root",),
)


@case(
    "FS-21",
    "Programs planted in the worktree, with PATH looking there first",
    "programs are found by PATH",
    tests=("tests/tools/test_attacks.py::test_programs_planted_in_the_worktree_are_not_run",),
)
def planted(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    program = f"#!/bin/sh\n: > {field.mark}\nexit 1\n"
    for place in (space.root, field.main):
        for name in ("git", "rg", "bwrap", "prlimit", "bash", "sh"):
            for folder in (place, place / "node_modules/.bin"):
                put(folder, {name: program})
                (folder / name).chmod(0o755)
    path = os.environ["PATH"]
    for first in (".", "node_modules/.bin", "", str(field.main / "node_modules/.bin")):
        field.setenv("PATH", f"{first}:{path}")
        if not protected:
            subprocess.run(["git", "status"], cwd=space.root, capture_output=True)
            continue
        put(space.root, {"a.py": f"changed {first}\n"})
        assert space.patch() and space.tree() and space.changed()
        for name, args in {"search": {"pattern": "one"}, "list": {}, "shell": {"command": "true"}}.items():
            field.gate(name, **args)
    return field.mark.exists()


shell(
    "FS-23",
    "Files that run as their owner, device files",
    "cp /bin/true s; chmod 4755 s && echo REACHED; mknod dev b 254 0 && echo REACHED",
)


@case("FS-24", "The folder of git in other letters, as some file systems read it", "a plain open")
def other_letters(field: Field, protected: bool) -> bool:
    root = field.space(protected).root
    for path in (".GIT/config", ".g\u200cit/config", ".POOL/config.toml"):
        field.tool("write", protected, path=path, content="theirs\n")
    return any((root / path).exists() for path in (".GIT", ".g\u200cit", ".POOL"))
