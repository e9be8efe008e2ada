"""The repository that commands see: all of git works in it, and nothing done to it reaches the user or the host."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolcli import fresh, process, sandbox, shadow, snapshot, workspace, worktrees
from poolcli.errors import WorkspaceError
from poolcli.git import find_repository
from poolcli.sandbox import Sandbox, bubblewrap, detect
from poolcli.sandbox.surroundings import overlays_work
from poolcli.tools import registry
from poolcli.tools.base import Ctx, Output
from poolcli.workspace import Workspace
from tests.repositories import commit, content, lock, make, private_state, put, sh

BUBBLEWRAP = detect.bubblewrap()
NONE = sandbox.default()


def boxes() -> list[object]:
    found: list[object] = [pytest.param(NONE, id="none")]
    value = Sandbox("bubblewrap", "", str(BUBBLEWRAP.program)) if BUBBLEWRAP.works else None
    skip = pytest.mark.skipif(value is None, reason=BUBBLEWRAP.reason or "no bubblewrap")
    return [*found, pytest.param(value, id="bubblewrap", marks=skip)]


needs_bubblewrap = pytest.mark.skipif(not BUBBLEWRAP.works, reason=BUBBLEWRAP.reason or "no bubblewrap")


def box() -> Sandbox:
    return Sandbox("bubblewrap", "", str(BUBBLEWRAP.program))


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)


def start(top: Path, tmp_path: Path, confined: Sandbox, run_id: str = "shadow-1") -> Workspace:
    return workspace.create(find_repository(top), run_id=run_id, state=tmp_path / "st", sandbox=confined)


def run(space: Workspace, command: str, code: int | None = 0) -> str:
    done = asyncio.run(space.run(command, timeout=60))
    assert code is None or done.exit_code == code, done.output
    return done.output.strip()


def refs(top: Path) -> bytes:
    return sh(top, "for-each-ref", "refs/heads", "refs/tags", "refs/stash", "refs/remotes")


# All of git works


EVERYDAY = """
set -e
git status --porcelain
test -z "$(git status --porcelain)"
echo two >> a.py; echo new > new.py
git add -A && git commit -qm 'first of the model'
git log --oneline | cat
echo three >> a.py
git stash && git stash pop && git diff --stat && git stash -q && git stash drop -q
git checkout -q -b topic && echo t > t.py && git add t.py && git commit -qm topic
git checkout -q main && git log -1 --format=%s
git checkout -q topic && git branch --list
git rebase -q main && git log --format=%s
git reset -q --hard HEAD~1
git merge -q --no-edit topic@{1}
git tag mine && git describe --tags
git cherry-pick --abort 2>/dev/null || true
git gc -q && git fsck --no-dangling
git worktree list | wc -l
git config --get user.name
"""


@pytest.mark.parametrize("confined", boxes())
def test_everyday_git_works_and_the_users_repository_does_not_change(
    tmp_path: Path, confined: Sandbox
) -> None:
    top = make(tmp_path / "r")
    sh(top, "branch", "old")
    sh(top, "tag", "-a", "-m", "tag", "v1")
    put(top, {"a.py": "stashed\n"})
    sh(top, "stash")
    put(top, {"a.py": "uncommitted\n"})
    sh(top, "add", "a.py")
    space = start(top, tmp_path, confined)
    before, kept = private_state(top / ".git"), refs(top)
    files = content(top)
    out = run(space, EVERYDAY)
    assert "first of the model" in out and out.endswith("pool")
    assert private_state(top / ".git") == before and refs(top) == kept
    assert content(top) == files
    # The user's branches and tags are there; the stash is not, and no place to fetch from.
    seen = run(space, "git for-each-ref --format='%(refname)'")
    assert "refs/heads/old" in seen and "refs/tags/v1" in seen and "refs/stash" not in seen
    assert run(space, "git remote; git config --list | grep -c url || true") == "0"
    assert space.changed() == ["a.py", "new.py", "t.py"]


@pytest.mark.parametrize("confined", boxes())
def test_nothing_has_to_be_read_again(tmp_path: Path, confined: Sandbox) -> None:
    """The index keeps what it knows of the files: status after start hashes none of them."""
    top = make(tmp_path / "r", {f"f{n}": f"{n}\n" for n in range(50)})
    space = start(top, tmp_path, confined)
    # Raw: lists every file whose times or owner differ from the index, changed or not.
    assert run(space, "git diff-files") == ""
    assert run(space, "touch -d 2001-01-01 f1; git diff-files --raw | cut -f 2") == "f1"


@pytest.mark.parametrize("confined", boxes())
def test_git_works_in_odd_folders(tmp_path: Path, confined: Sandbox) -> None:
    """FLT-41: colons, quotes, line breaks in the path of the repository and of the state."""
    for number, name in enumerate(("co:lon", 'quo"te', "with\nnewline", "#hash ü")):
        odd = tmp_path / name
        top = make(odd / "r")
        space = workspace.create(
            find_repository(top), run_id=f"shadow-{number}", state=odd / "st", sandbox=confined
        )
        assert run(space, "git log --format=%s && git status --porcelain && pwd").startswith("change")
        put(space.root, {"a.py": "agent\n"})
        assert run(space, "git add -A && git commit -qm x && git show --stat --format=%s | head -1") == "x"
        assert b"+agent" in space.patch()
        space.remove()


def shapes(tmp_path: Path) -> dict[str, Path]:
    """FLT-41: repositories of every kind."""
    top = make(tmp_path / "plain")
    put(top, {"a.py": "second\n"})
    commit(top)
    sh(tmp_path, "clone", "-q", "--depth=1", f"file://{top}", "shallow")
    sh(tmp_path, "clone", "-q", "--shared", str(top), "shared")
    sh(tmp_path, "clone", "-q", "--shared", str(tmp_path / "shared"), "twice")
    sh(top, "worktree", "add", "-q", "--detach", "../linked")
    make(tmp_path / "sha256", None, "--object-format=sha256")
    sparse = make(tmp_path / "sparse", {"in/a.py": "a\n", "out/b.py": "b\n", "a.py": "t\n"})
    sh(sparse, "sparse-checkout", "set", "in")
    sh(top, "config", "uploadpack.allowFilter", "true")
    sh(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{top}", "partial")
    outer = make(tmp_path / "outer")
    sh(outer, "submodule", "--quiet", "add", f"file://{top}", "lib")
    commit(outer)
    names = ("shallow", "shared", "twice", "linked", "sha256", "sparse", "partial", "outer", "outer/lib")
    return {name: tmp_path / name for name in names}


@pytest.mark.parametrize("confined", boxes())
def test_shapes_of_repositories(tmp_path: Path, confined: Sandbox) -> None:
    """FLT-41"""
    for number, (name, top) in enumerate(shapes(tmp_path).items()):
        repo = find_repository(top)
        before = private_state(repo.git_dir)
        space = start(top, tmp_path, confined, f"shadow-{number}")
        assert run(space, "git status --porcelain; git diff HEAD --stat") == "", name
        # Links of git to what the sandbox does not show would be told of on every call.
        out = run(
            space, "git log --format=%s; echo agent > a.py; git add -A; git commit -qm mine; git log -1 -p"
        )
        assert out.startswith("change") and "+agent" in out and "error" not in out, (name, out)
        assert run(space, "git stash list; git checkout -q -b b; git rev-parse --abbrev-ref HEAD") == "b", (
            name
        )
        assert b"+agent" in space.patch(), name
        assert private_state(repo.git_dir) == before, name
        space.remove()


@pytest.mark.parametrize("confined", boxes())
def test_settings_that_decide_about_content(tmp_path: Path, confined: Sandbox) -> None:
    """FLT-40: line ends, modes; nothing else of the user's configuration comes along."""
    top = make(tmp_path / "r", {"a.txt": "one\ntwo\n", "run.sh": "#!/bin/sh\n"})
    sh(top, "config", "core.autocrlf", "true")
    sh(top, "config", "core.fileMode", "false")
    sh(top, "config", "core.eol", "lf\n[alias]\n\tst = !touch ran")
    sh(top, "config", "remote.origin.url", "https://ada:secret@example.org/r")
    sh(top, "config", "url.https://token@example.org/.insteadOf", "x:")
    put(top, {".git/info/exclude": "mine-only\n"})
    (top / "a.txt").unlink()
    sh(top, "checkout", "a.txt")
    space = start(top, tmp_path, confined)
    assert (space.root / "a.txt").read_bytes() == b"one\r\ntwo\r\n"
    config = (space.run_dir / "git/config").read_text()
    assert "autocrlf = true" in config and "filemode = false" in config
    assert "secret" not in config and "token" not in config and "alias" not in config
    assert run(space, "chmod +x run.sh; touch mine-only; git status --porcelain") == ""
    assert run(space, "printf 'one\\r\\n3\\r\\n' > a.txt; git diff --numstat") == "1\t1\ta.txt"


@pytest.mark.parametrize("confined", boxes())
def test_partial_clones_fetch_nothing(tmp_path: Path, confined: Sandbox) -> None:
    """FLT-41: an object that the user's repository does not have is an error in words."""
    top = make(tmp_path / "plain", {"a.py": "old\n"})
    put(top, {"a.py": "new\n"})
    commit(top)
    sh(top, "config", "uploadpack.allowFilter", "true")
    sh(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{top}", "partial")
    space = start(tmp_path / "partial", tmp_path, confined)
    out = run(space, "git show HEAD~1:a.py", None)
    assert "fatal" in out and "old" not in out
    assert run(
        space, "git status --porcelain; echo x > b; git add b; git commit -qm b; git log --format=%s"
    ) == ("b\nchange\nchange")


# What is broken is mended


@pytest.mark.parametrize("confined", boxes())
def test_a_removed_repository_is_there_again(tmp_path: Path, confined: Sandbox) -> None:
    space = start(make(tmp_path / "r"), tmp_path, confined)
    put(space.root, {"a.py": "agent\n"})
    run(space, f"rm -rf .git {shadow.SEEN}/* {space.run_dir}/git", None)
    assert run(space, "git status --porcelain") == "M a.py"
    run(space, "rm -rf .git; mkdir .git; git init -q . ", None)
    assert run(space, "git log --format=%s") == "change"


def test_without_its_repository_a_worktree_is_none_of_the_folders_around(tmp_path: Path) -> None:
    """A HOME that is a repository must not take the model's commits."""
    sh(tmp_path, "init", "-q")
    space = start(make(tmp_path / "r"), tmp_path, NONE)
    assert "not a git repository" in run(space, "rm .git; git status", 128)


def test_a_linked_way_out_of_the_repository_is_not_written_through(tmp_path: Path) -> None:
    """A command leaves links where pool would make the repository again."""
    space = start(make(tmp_path / "r"), tmp_path, NONE)
    victim = tmp_path / "victim"
    put(victim, {"config": "mine\n", "info/alternates": "mine\n"})
    git_dir = space.run_dir / "git"
    run(
        space,
        f"cd {git_dir}; rm -rf objects config HEAD; ln -s {victim} objects; ln -s {victim}/config config",
    )
    run(space, f"rm {space.root}/.git; ln -s {victim}/config {space.root}/.git")
    assert run(space, "git log --format=%s") == "change"
    assert content(victim) == {"config": ("file", b"mine\n"), "info/alternates": ("file", b"mine\n")}


# Hostile repositories


def canary(tmp_path: Path) -> tuple[str, Path]:
    """A program that leaves a mark where it was run."""
    mark = tmp_path / "ran"
    program = tmp_path / "evil"
    program.write_text(f'#!/bin/sh\necho "$0 $PWD" >> {mark}\ncat 2>/dev/null\n')
    program.chmod(0o755)
    return str(program), mark


def poison(folder: Path, git_dir: Path, evil: str) -> None:
    """Everything that makes git run a program, by configuration, hooks and attributes."""
    settings = (
        "core.fsmonitor",
        "core.sshCommand",
        "diff.external",
        "core.pager",
        "core.editor",
        "core.askPass",
    )
    for setting in (
        *settings,
        "filter.x.clean",
        "filter.x.smudge",
        "diff.x.textconv",
        "diff.x.command",
        "alias.st",
    ):
        value = f"!{evil}" if setting.startswith("alias") else evil
        subprocess.run(["git", f"--git-dir={git_dir}", "config", setting, value], check=True)
    subprocess.run(
        ["git", f"--git-dir={git_dir}", "config", "core.hooksPath", str(git_dir / "hooks")], check=True
    )
    for hook in (
        "post-checkout",
        "post-index-change",
        "reference-transaction",
        "pre-commit",
        "post-applypatch",
    ):
        (git_dir / "hooks").mkdir(exist_ok=True)
        shutil.copy(evil, git_dir / "hooks" / hook)
    put(folder, {".gitattributes": "* filter=x diff=x\n"})


def ask_everything(space: Workspace, tmp_path: Path) -> None:
    """All that pool does with a worktree on the host, to its end."""
    patch = space.patch()
    assert space.tree() and space.changed() and patch
    space.surprises(patch)

    async def look(place: fresh.Place) -> None:
        place.space.patch()

    state = tmp_path / "st"
    asyncio.run(fresh.judge(space.repo, look, base=space.base, patch=patch, state=state, sandbox=NONE))
    (space.run_dir / workspace.PATCH).write_bytes(patch)
    again = workspace.reopen(
        space.repo, run_id=space.run_dir.name, state=state, base=space.base, sandbox=space.sandbox
    )
    assert again.patch() == patch
    assert len(workspace.collect(space.repo, state)) == 1
    assert not space.root.exists()


@pytest.mark.parametrize("where", ["worktree", "shadow", "gitlink", "nested"])
def test_a_hostile_repository_runs_nothing_on_the_host(tmp_path: Path, where: str) -> None:
    """With each positive control: plain git in the same folder does run the canary."""
    evil, mark = canary(tmp_path)
    top = make(tmp_path / "r")
    space = start(top, tmp_path, NONE)
    root = space.root
    put(root, {"a.py": "agent\n"})
    if where == "shadow":
        poison(root, space.run_dir / "git", evil)
        plain = root
    elif where == "worktree":
        (root / ".git").unlink()
        sh(root, "init", "-q")
        poison(root, root / ".git", evil)
        plain = root
    else:
        make(root / "lib", {"x.py": "x\n"})
        if where == "gitlink":
            sh(root, "add", "lib")
            sh(root, "commit", "-qm", "gitlink", "--", "lib")
        poison(root / "lib", root / "lib/.git", evil)
        put(root / "lib", {"x.py": "changed\n"})
        # Only a recorded submodule is entered by git itself; else it is who goes there that is caught.
        plain = root if where == "gitlink" else root / "lib"
    before, kept = private_state(top / ".git"), refs(top)
    subprocess.run(["git", "status"], cwd=plain, capture_output=True)
    assert mark.exists(), "the control: git without pins runs the canary"
    mark.unlink()
    ask_everything(space, tmp_path)
    assert not mark.exists(), mark.read_text()
    assert private_state(top / ".git") == before and refs(top) == kept


@needs_bubblewrap
def test_inside_nothing_of_the_users_repository_can_be_written(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    put(top, {"a.py": "stash\n"})
    sh(top, "stash")
    space = start(top, tmp_path, box())
    before = private_state(top / ".git")
    objects = sorted(p.name for p in (top / ".git/objects").rglob("*"))
    for attempt in (
        f"touch {shadow.SEEN_OBJECTS}/x",
        f"rm -f {shadow.SEEN_OBJECTS}/*/*",
        "rm .git",
        "mv .git g",
        "echo gitdir: /tmp > .git",
        f"git --git-dir={top}/.git stash drop; git update-ref refs/heads/main HEAD; git config core.fsmonitor x; false",
    ):
        assert asyncio.run(space.run(attempt, timeout=30)).exit_code != 0, attempt
    run(
        space,
        "git branch -D main; git tag -d v1; git reflog expire --expire=now --all; git gc --prune=now -q",
        None,
    )
    assert private_state(top / ".git") == before
    assert sorted(p.name for p in (top / ".git/objects").rglob("*")) == objects
    assert run(space, f"ls {tmp_path}/st {tmp_path}/state 2>/dev/null; echo done") == "done"


def test_commits_of_the_model_are_not_taken_over_but_files_are(tmp_path: Path) -> None:
    """What comes back is content: a commit with a hostile tree never gets near the user's repository."""
    top = make(tmp_path / "r")
    space = start(top, tmp_path, NONE)
    run(space, "echo x > x.py; git add -A; git commit -qm mine; git rm -q --cached x.py; git commit -qm away")
    sha = run(space, "git rev-parse HEAD")
    assert b"x.py" in space.patch()
    with pytest.raises(AssertionError):
        sh(top, "cat-file", "-e", sha)


# Two runs, the user at work, leftovers


def test_the_user_amends_and_collects_garbage_under_a_clean_run(tmp_path: Path) -> None:
    """FLT-33: the base of a run is kept by a ref, and by nothing else when the user's branch moves away."""
    top = make(tmp_path / "r")
    base = find_repository(top).head
    space = start(top, tmp_path, NONE)
    put(space.root, {"a.py": "agent\n"})
    put(top, {"a.py": "amended\n"})
    sh(top, "commit", "-qa", "--amend", "-m", "amended")
    sh(top, "reflog", "expire", "--expire=now", "--all")
    sh(top, "gc", "-q", "--prune=now")
    assert run(space, "git log --format=%s && git diff --stat && git fsck") != ""
    assert b"+agent" in space.patch()
    space.remove()
    sh(top, "gc", "-q", "--prune=now")
    with pytest.raises(AssertionError):  # the control: without the ref git does collect it
        sh(top, "cat-file", "-e", base)


def test_the_user_switches_branches_during_the_run(tmp_path: Path) -> None:
    """FLT-33"""
    top = make(tmp_path / "r")
    space = start(top, tmp_path, NONE)
    sh(top, "checkout", "-q", "-b", "other")
    put(top, {"a.py": "other\n"})
    commit(top)
    sh(top, "branch", "-D", "main")
    put(space.root, {"a.py": "agent\n"})
    assert run(space, "git diff --stat | tail -1").startswith("1 file changed")
    assert b"-one" in space.patch()


def test_eight_at_once_with_commands(tmp_path: Path) -> None:
    """FLT-28"""
    top = make(tmp_path / "r")
    before = private_state(top / ".git")

    async def one(number: int) -> bytes:
        space = await asyncio.to_thread(start, top, tmp_path, NONE, f"shadow-{number}")
        command = f"echo {number} > a.py; git add -A; git commit -qm {number}; git checkout -q -b same"
        done = await space.run(command, timeout=60)
        assert done.exit_code == 0, done.output
        return space.patch()

    async def all_of_them() -> list[bytes]:
        return await asyncio.gather(*(one(number) for number in range(8)))

    patches = asyncio.run(all_of_them())
    assert all(f"+{number}\n".encode() in patch for number, patch in enumerate(patches))
    assert private_state(top / ".git") == before
    assert sh(top, "for-each-ref", "refs/pool").count(b"\n") == 8


KILLED = """
import os, sys, time
from pathlib import Path
from poolcli import sandbox, workspace, worktrees
from poolcli.git import find_repository
top, state, run_id, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
(state / "runs" / run_id).mkdir(parents=True)
target, name = {
    "held": (worktrees, "hold"), "added": (worktrees, "add"), "shadowed": (workspace, "_make_shadow"),
    "taken": (workspace.snapshot, "take"),
}[step]
real = getattr(target, name)
def then_die(*args, **more):
    real(*args, **more)
    os.kill(os.getpid(), 9)
setattr(target, name, then_die)
workspace.create(find_repository(top), run_id=run_id, state=state, sandbox=sandbox.default())
"""


def test_twenty_killed_starts_leave_nothing(tmp_path: Path) -> None:
    """FLT-07, FLT-08, FLT-35: killed after each step of the start, with a git killed on the ref as well."""
    top = make(tmp_path / "r", {f"d{i % 5}/f{i}": "x\n" for i in range(40)})
    before = private_state(top / ".git")
    repo, state = find_repository(top), tmp_path / "st"
    running = []
    for number in range(20):
        if number == 8:
            put(top, {"d1/f1": "uncommitted\n"})
        step = ("held", "added", "shadowed", "taken")[number % 4]
        argv = [sys.executable, "-c", KILLED, str(top), str(state), f"shadow-{number}", step]
        running.append(subprocess.Popen(argv, cwd=Path(__file__).parent.parent))
        if number % 4 == 3:
            assert [process.wait() for process in running] == [-9] * 4
            running.clear()
    (top / ".git/refs/pool/base").mkdir(parents=True, exist_ok=True)
    (top / ".git/refs/pool/base/shadow-1.lock").touch()
    busy = lock(state / "runs/shadow-2")
    lines = workspace.collect(repo, state)
    assert all("nothing of it had to be saved" in line for line in lines) and len(lines) == 19
    assert [path.name for path in (state / "worktrees").iterdir()] == ["shadow-2"], "it is alive"
    os.close(busy)
    assert len(workspace.collect(repo, state)) == 1
    assert list((state / "worktrees").iterdir()) == []
    assert private_state(top / ".git") == before
    assert not (top / ".git/refs/pool/base/shadow-1.lock").exists() and not (top / ".git/worktrees").exists()
    for folder in (state / "runs").iterdir():
        assert not {"git", "git.new", "index", "objects"} & {path.name for path in folder.iterdir()}
    assert sh(top, "for-each-ref", "refs/pool") == b"", "also of those killed just after the ref was made"
    assert sh(top, "fsck", "--no-dangling") == b""


@pytest.mark.parametrize("confined", boxes())
def test_the_worktree_is_deleted_during_the_run(tmp_path: Path, confined: Sandbox) -> None:
    """FLT-34: a clear stop, nothing left."""
    top = make(tmp_path / "r")
    space = start(top, tmp_path, confined)
    shutil.rmtree(space.root)
    with pytest.raises(WorkspaceError, match="is gone"):
        run(space, "true")
    assert not space.root.exists(), "it is not made again by a command"
    space.remove()
    assert sh(top, "for-each-ref", "refs/pool") == b""


@pytest.mark.parametrize("doing", ["merge", "rebase"])
@needs_bubblewrap
def test_the_user_is_in_the_middle_of_something(tmp_path: Path, doing: str) -> None:
    """FLT-31, FLT-32"""
    top = make(tmp_path / "r")
    sh(top, "checkout", "-q", "-b", "other")
    put(top, {"a.py": "theirs\n"})
    commit(top)
    sh(top, "checkout", "-q", "main")
    put(top, {"a.py": "ours\n"})
    commit(top)
    sh(top, doing, "other", check=False)
    (top / ".git/index.lock").touch()
    before = private_state(top / ".git")
    space = start(top, tmp_path, box())
    assert run(space, "git status --porcelain") == "", "the conflict's text is the base; no merge is going on"
    run(
        space,
        "echo resolved > a.py; git add -A; git commit -qm resolved; git checkout -q other; git rebase main",
        None,
    )
    assert private_state(top / ".git") == before


# Packages and build output of the user's


def venv(top: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(top / ".venv")], check=True)
    (packages,) = (top / ".venv/lib").glob("python3*/site-packages")
    return packages


@needs_bubblewrap
def test_an_editable_install_tests_the_worktrees_code(tmp_path: Path) -> None:
    """SAFETY decision 4: no mapping, no PYTHONPATH; the path at which it was installed is the worktree's."""
    top = make(
        tmp_path / "r",
        {"src/mine/__init__.py": "WHOSE = 'user'\n", ".gitignore": ".venv/\n", "test_it.py": "import mine\n"},
    )
    packages = venv(top)
    put(packages, {"mine.pth": f"{top}/src\n"})
    script = top / ".venv/bin/mine"
    script.write_text(f"#!{top}/.venv/bin/python\nimport mine; print(mine.WHOSE)\n")
    script.chmod(0o755)
    asked = "python -c 'import mine, sys; print(mine.WHOSE, sys.prefix)'"
    plain = subprocess.run(
        [top / ".venv/bin/python", "-c", "import mine; print(mine.WHOSE)"], capture_output=True
    )
    assert plain.stdout == b"user\n"
    space = start(top, tmp_path, box())
    put(space.root, {"src/mine/__init__.py": "WHOSE = 'agent'\n"})
    assert run(space, asked) == f"agent {top}/.venv"
    assert (
        run(space, "mine; echo ${PYTHONPATH-none}; pwd; echo $VIRTUAL_ENV")
        == f"agent\nnone\n{top}\n{top}/.venv"
    )
    # As pip would: a package of the run's own, which the user never gets.
    run(space, "cp -r src/mine $(python -c 'import site; print(site.getsitepackages()[0])')/other")
    if overlays_work(space.run_dir / "overlays"):
        assert run(space, "python -c 'import other; print(other.WHOSE)'") == "agent"
    assert not (packages / "other").exists()
    assert space.changed() == ["src/mine/__init__.py"]
    assert run(space, "git status --porcelain") == "M src/mine/__init__.py"


@needs_bubblewrap
def test_a_program_on_a_terminal_is_confined_too(tmp_path: Path) -> None:
    """Its descriptors (filter, environment) reach it through pexpect."""
    top = make(tmp_path / "r")
    put(tmp_path, {"secret": "the user's\n"})
    space = start(top, tmp_path, box())
    outputs = tmp_path / "outputs"
    outputs.mkdir()

    async def checks() -> Output:
        return Output("")

    async def talk() -> str:
        ctx = Ctx(space, checks, lambda text: None, outputs)
        tool = registry.load()["terminal"]
        said = await tool.run(
            ctx, action="start", name="sh", text=f"cat {tmp_path}/secret; pwd; tty; cat", timeout=10
        )
        more = await tool.run(ctx, action="send", name="sh", text="echoed", timeout=10)
        await tool.run(ctx, action="close", name="sh")
        return said.text + more.text

    said = asyncio.run(talk())
    assert str(top) in said and "/dev/" in said and "echoed" in said
    assert "No such file" in said and "the user's" not in said


@needs_bubblewrap
def test_tools_ask_git_past_what_commands_wrote(tmp_path: Path) -> None:
    """With its control: git by discovery obeys the model's index and finds nothing, or no repository at all."""
    evil, mark = canary(tmp_path)
    for confined in (NONE, box()):
        space = start(make(tmp_path / f"r-{confined.name}"), tmp_path, confined, f"shadow-{confined.name}")
        run(
            space,
            f"git rm -q --cached a.py; git config core.fsmonitor {evil}",
        )
        outputs = tmp_path / f"out-{confined.name}"
        outputs.mkdir()

        async def checks() -> Output:
            return Output("")

        ctx = Ctx(space, checks, lambda text: None, outputs)
        tools = registry.load()
        assert "a.py" in asyncio.run(tools["list"].run(ctx)).text
        assert "a.py:2: two" in asyncio.run(tools["search"].run(ctx, pattern="two")).text
    assert not mark.exists()
    subprocess.run(["git", "status"], cwd=tmp_path / "st/worktrees/shadow-none", capture_output=True)
    assert mark.exists(), "the control"


@needs_bubblewrap
def test_a_fresh_place_sees_the_same_paths(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"src/mine/__init__.py": "WHOSE = 'user'\n", ".gitignore": ".venv/\n"})
    put(venv(top), {"mine.pth": f"{top}/src\n"})
    space = start(top, tmp_path, box())
    put(space.root, {"src/mine/__init__.py": "WHOSE = 'agent'\n"})
    finished = asyncio.run(
        fresh.run(
            space.repo,
            ["python -c 'import mine; print(mine.WHOSE)'; pwd; git status --porcelain; git log --format=%s"],
            base=space.base,
            patch=space.patch(),
            state=tmp_path / "st",
            sandbox=box(),
            timeout=60,
            log=tmp_path / "log.txt",
        )
    )
    assert finished[0].output == f"agent\n{top}\n M src/mine/__init__.py\nchange\n"


@pytest.mark.parametrize("confined", boxes())
def test_a_folder_that_pool_and_commands_share(tmp_path: Path, confined: Sandbox) -> None:
    space = start(make(tmp_path / "r"), tmp_path, confined)
    with space.scratch() as folder:
        (folder / "in").write_text("in\n")
        assert run(space, f"cat {folder}/in; echo out > {folder}/out") == "in"
        assert (folder / "out").read_text() == "out\n"
    assert not folder.exists() and space.changed() == []


@needs_bubblewrap
def test_build_output_is_the_users_at_first_and_never_written(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {".gitignore": "target/\nnode_modules\n", "pkg/x.js": "x\n"})
    put(
        top,
        {"target/debug/x": "user\n", "node_modules/left/i.js": "left\n", "pkg/node_modules/r/i.js": "r\n"},
    )
    before = content(top)
    space = start(top, tmp_path, box())
    works = overlays_work(space.run_dir / "overlays")
    assert set(space.record.borrowed) == {"node_modules", "pkg/node_modules", "target"}
    assert run(space, "cat node_modules/left/i.js pkg/node_modules/r/i.js") == "left\nr"
    run(
        space,
        "rm -rf node_modules/left target/debug; mkdir -p target/new node_modules/.cache",
        0 if works else None,
    )
    if works:
        assert run(space, "ls -A node_modules target") == "node_modules:\n.cache\n\ntarget:\nnew", (
            "kept between calls"
        )
    assert content(top) == before
    assert space.changed() == []
    space.remove()
    assert not (space.run_dir / "overlays").exists()


@needs_bubblewrap
def test_a_link_in_place_of_a_mount_point_mounts_nothing_elsewhere(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {".gitignore": "node_modules\n", "pkg/x.js": "x\n"})
    put(top, {"pkg/node_modules/r/i.js": "r\n"})
    space = start(top, tmp_path, box())
    shutil.rmtree(space.root / "pkg")
    (space.root / "pkg").symlink_to("/etc")
    assert run(space, "ls /etc/node_modules 2>&1 | tail -1; echo still here").endswith("still here")


@needs_bubblewrap
def test_another_sandbox_at_resuming(tmp_path: Path) -> None:
    """Where objects are found differs: the worktree is made again, the work is not lost."""
    top = make(tmp_path / "r")
    space = start(top, tmp_path, NONE)
    put(space.root, {"a.py": "agent\n"})
    patch = space.patch()
    for other in (box(), NONE):
        space = workspace.reopen(
            space.repo, run_id="shadow-1", state=tmp_path / "st", base=space.base, sandbox=other
        )
        assert space.patch() == patch
        assert run(space, "git status --porcelain") == "M a.py"


def test_what_commands_see_in_the_two_sandboxes(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    space = start(top, tmp_path, NONE)
    assert space.seen == space.root and space.confinement.overlays == ()
    space.sandbox = Sandbox("bubblewrap", "", "/usr/bin/bwrap")
    confinement = space.confinement
    assert space.seen == top and confinement.seen == top and confinement.root == space.root
    assert confinement.git_dir == space.run_dir / "git" and confinement.objects == top / ".git/objects"
    assert (shadow.SEEN, shadow.SEEN_OBJECTS) == (bubblewrap.GIT, bubblewrap.OBJECTS)
    assert str(bubblewrap.HOME) == workspace._SEEN_HOME
    space.confine = lambda given: given.__class__(root=given.root, seen=given.seen, home=given.home)
    assert space.confinement.git_dir is None
    assert space.resolve(f"{top}/a.py") == space.root / "a.py"


def test_object_stores_that_borrow_from_others(tmp_path: Path) -> None:
    first = make(tmp_path / "first")
    sh(tmp_path, "clone", "-q", "--shared", str(first), "second")
    odd = tmp_path / 'o"dd\nplace'
    sh(tmp_path, "clone", "-q", "--bare", str(first), str(odd))
    alternates = tmp_path / "second/.git/objects/info/alternates"
    quoted = str(odd).replace('"', '\\"').replace("\n", "\\n")
    alternates.write_text(f'# a comment\n../../../first/.git/objects\n"{quoted}/objects"\n/nowhere\n')
    found = shadow.stores(find_repository(tmp_path / "second"))
    assert found == tuple(p / "objects" for p in (tmp_path / "second/.git", tmp_path / "first/.git", odd))
    (first / ".git/objects/info").mkdir(exist_ok=True)
    (first / ".git/objects/info/alternates").write_text("../../../second/.git/objects\n")
    assert shadow.stores(find_repository(tmp_path / "second")) == found, "in a circle"


def test_litter_is_ignored_by_the_models_git_as_by_pools(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path, NONE)
    put(space.root, {"__pycache__/a.pyc": "x", "b.pyc": "x", ".tox/x": "x", "node_modules/a": "x"})
    assert run(space, "git status --porcelain") == "" and space.changed() == []
    assert set(snapshot.LITTER_PATTERNS) > snapshot.LITTER


def test_the_index_as_checked_out_is_not_the_commands(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path, NONE)
    pristine = (space.run_dir / worktrees.INDEX).read_bytes()
    run(space, "echo x > x; git add -A; git rm -q --cached a.py")
    assert (space.run_dir / worktrees.INDEX).read_bytes() == pristine


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() != 0, reason="only root works in the folders of others")
def test_root_in_the_checkout_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands have the owner's rights, and everything that they need is the owner's."""
    trusting = tmp_path / "gitconfig"
    trusting.write_text("[safe]\n\tdirectory = *\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(trusting))
    top = make(tmp_path / "r", {"a.py": "one\n", ".gitignore": "node_modules\n"})
    put(top, {"node_modules/a/i.js": "a\n"})
    for place, _, names in os.walk(top):
        for path in (place, *(os.path.join(place, name) for name in names)):
            os.chown(path, 12345, 12345)
    space = start(top, tmp_path, box())
    assert run(space, "id -u; git diff-files") == "12345", "nor does anything have to be read again"
    assert run(
        space, "echo two >> a.py; git add -A; git commit -qm x; git log --format=%s; touch $HOME/x"
    ) == ("x\nchange")
    with space.scratch() as folder:
        run(space, f"touch {folder}/x")
    run(space, "rm -rf /run/pool/git/*", None)
    assert run(space, "git log --format=%s") == "change"
    assert b"+two" in space.patch()
    space.remove()
    assert list(space.run_dir.iterdir()) == []


@needs_bubblewrap
def test_memory_that_ran_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a command just ends by SIGKILL, and a model tries it again."""
    from poolcli.sandbox import Limits, limits

    made = limits.open_group(Limits(memory=64 << 20))
    try:
        if not any(
            (group / name).exists() for group in made for name in ("memory.oom_control", "memory.events")
        ):
            pytest.skip("no control group for memory here")
        monkeypatch.setattr(limits, "own_groups", lambda: made)
        space = start(make(tmp_path / "r"), tmp_path, box())
        assert workspace.OUT_OF_MEMORY in run(space, "head -c 150M /dev/zero > /tmp/a; echo whole", None)
        assert run(space, "echo no; false", 1) == "no"
    finally:
        limits.close_group(made)


def test_a_filter_of_the_users_is_not_run_on_files_that_a_command_chose(tmp_path: Path, monkeypatch) -> None:
    """A model may write `.gitattributes`; what it names runs in the user's settings, not in the sandbox."""
    mark, settings = tmp_path / "mark", tmp_path / "settings"
    settings.write_text(f'[filter "evil"]\n\tclean = "touch {mark}; cat"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    top = make(tmp_path / "top", {"a.txt": "a\n"})
    space = start(top, tmp_path, NONE)
    run(space, "mkdir d; echo '* filter=evil' > d/.gitattributes; echo new > d/b.txt; echo more >> a.txt")
    assert b"d/b.txt" in space.patch() and space.tree() and space.changed()
    assert not mark.exists()
    with fresh.place(
        space.repo, base=space.base, patch=space.patch(), state=tmp_path / "st", sandbox=NONE
    ) as place:
        assert not place.problem
    assert not mark.exists()
    subprocess.run(["git", "add", "-A"], cwd=space.root, check=True)  # the control: git by itself runs it
    assert mark.exists()


def test_a_filter_that_the_user_chose_goes_on_working(tmp_path: Path, monkeypatch) -> None:
    settings = tmp_path / "settings"
    settings.write_text('[filter "upper"]\n\tclean = "tr a-z A-Z"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    top = make(tmp_path / "top", {".gitattributes": "*.up filter=upper\n", "a.up": "text\n"})
    space = start(top, tmp_path, NONE)
    run(space, "echo more >> a.up")
    assert b"+MORE" in space.patch()


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes", "d/.gitignore", "d/.gitattributes"])
def test_a_pipe_that_git_would_read_does_not_hang_pool(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.setattr(workspace, "_PATIENCE", 1.0)
    space = start(make(tmp_path / "top", {"a.txt": "a\n"}), tmp_path, NONE)
    run(space, f"mkdir -p d; echo b > d/b; mkfifo {name}")
    with pytest.raises(subprocess.TimeoutExpired):  # the control
        subprocess.run(["git", "add", "-A"], cwd=space.root, timeout=1, capture_output=True, check=False)
    assert b"d/b" in space.patch()


@pytest.mark.parametrize("confined", boxes())
def test_nothing_of_a_run_moves_while_pool_looks(tmp_path: Path, confined: Sandbox) -> None:
    space = start(make(tmp_path / "top", {"a.txt": "a\n"}), tmp_path, confined)
    launch = space.launch("exec env -i /bin/sh -c 'while :; do echo x >> moving; done'" if confined != NONE else
                          "while :; do echo x >> moving; done")  # fmt: skip
    running = subprocess.Popen(launch.argv, cwd=space.root, env=launch.env, pass_fds=launch.fds)
    launch.close()
    moving = space.root / "moving"
    try:
        until = time.monotonic() + 20
        while not moving.exists() and time.monotonic() < until:
            time.sleep(0.01)
        with process.stilled(space.run_dir.name):
            size = moving.stat().st_size
            time.sleep(0.3)
            assert moving.stat().st_size == size
        until = time.monotonic() + 20
        while moving.stat().st_size == size and time.monotonic() < until:
            time.sleep(0.01)
        assert moving.stat().st_size > size
    finally:
        running.kill()
        process.kill_marked(space.run_dir.name)
        running.wait()
