"""Landing: the user's checkout gets the whole patch, or stays as it is and hears why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from poolcli import landing, sandbox, workspace
from poolcli.errors import Exit
from poolcli.git import find_repository
from poolcli.landing import Landed, LandingError
from poolcli.workspace import Workspace
from tests.repositories import commit, content, lock, make, private_state, put, sh


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("HOME", str(tmp_path))


def start(top: Path, tmp_path: Path) -> Workspace:
    return workspace.create(
        find_repository(top), run_id="landing-1", state=tmp_path / "st", sandbox=sandbox.default()
    )


def land(space: Workspace, start_in: Path | None = None, **options: str) -> Landed:
    repo = find_repository(start_in or space.repo.top)
    return landing.apply(repo, space.patch(), run_dir=space.run_dir, base=space.base, **options)


def refused(space: Workspace, **options: str) -> LandingError:
    """The landing is refused, and nothing at all has changed."""
    top = space.repo.top
    before, git_before = content(top), private_state(top / ".git")
    with pytest.raises(LandingError) as caught:
        land(space, **options)
    assert content(top) == before and private_state(top / ".git") == git_before
    assert not (space.run_dir / landing.STAGE).exists()
    assert caught.value.exit_code == Exit.USAGE and "\n" not in str(caught.value)
    return caught.value


def every_kind(root: Path) -> None:
    put(root, {"f0": "changed\n", "new ü\t.py": "n\n", "deep/new.bin": b"\0\xff", "bin": b"\0\2" * 50})
    (root / "f1").unlink()
    (root / "f2").rename(root / "moved")
    (root / "f3").chmod(0o755)
    (root / "f4").unlink()
    (root / "f4").symlink_to("f0")
    (root / "f5").unlink()
    put(root, {"f5/inside": "i\n"})
    shutil.rmtree(root / "d")
    put(root, {"d": "a file now\n"})
    shutil.rmtree(root / "e")
    (root / "e").symlink_to("deep")
    (root / "link").unlink()
    put(root, {"link/x": "x\n"})
    (root / "empty").touch()
    shutil.rmtree(root / "only")


def every_shape(top: Path) -> Path:
    files: dict[str, str | bytes] = {f"f{i}": f"line {i}\n" * 9 for i in range(6)}
    make(
        top,
        files | {"bin": b"\0\1\2" * 99, "d/x": "x\n", "d/y/z": "z\n", "e/x": "x\n", "only/one/file": "o\n"},
    )
    (top / "link").symlink_to("d")
    commit(top)
    return top


def test_every_kind_of_change_lands_from_a_subfolder(tmp_path: Path) -> None:
    top = every_shape(tmp_path / "r")
    put(top, {"f0": "uncommitted\n", "untracked": "u\n", "sub/x": "x\n"})
    space = start(top, tmp_path)
    every_kind(space.root)
    before = private_state(top / ".git")
    landed = land(space, top / "sub")
    assert content(top) == content(space.root)
    assert not (top / "only").exists()
    assert private_state(top / ".git") == before, "the index is the user's"
    assert set(landed.files) >= {"f0", "f1", "f2", "moved", "new ü\t.py", "f5", "f5/inside", "d", "d/x"}
    assert not (space.run_dir / landing.STAGE).exists()


def test_nothing_to_land(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    assert land(space).files == () and "nothing" in land(space).note


def test_other_places_of_the_same_file_may_have_changed(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "".join(f"{i}\n" for i in range(30))})
    space = start(top, tmp_path)
    put(space.root, {"a.py": (top / "a.py").read_text().replace("25\n", "agent\n")})
    put(top, {"a.py": "user\n" + (top / "a.py").read_text()})
    (top / "a.py").chmod(0o640)
    land(space)
    text = (top / "a.py").read_text()
    assert text.startswith("user\n0\n") and "agent\n" in text
    assert (top / "a.py").stat().st_mode & 0o777 == 0o640


def test_the_same_places_have_changed(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "one\ntwo\n", "b.py": "b\n", "c.py": "c\n"})
    space = start(top, tmp_path)
    put(space.root, {"a.py": "one\nagent\n", "b.py": "agent\n", "c.py": "agent\n", "new.py": "n\n"})
    put(top, {"a.py": "one\nuser\n", "new.py": "user's own\n"})
    (top / "c.py").unlink()
    error = refused(space)
    assert str(error).endswith("at the same places: a.py, c.py, new.py")
    assert "--branch" in error.hint


def test_landing_twice(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    put(space.root, {"a.py": "agent\n", "n.py": "n\n"})
    land(space)
    assert "in your checkout already" in str(refused(space))


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"d/x": "x\n", "a.py": "a\n"})
    space = start(top, tmp_path)
    shutil.rmtree(space.root / "d")
    put(space.root, {"d": "file\n"})
    put(top, {"d/mine": "precious\n"})
    assert "d/mine" in str(refused(space))


def test_a_link_in_the_way(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"d/x": "x\n"})
    space = start(top, tmp_path)
    put(space.root, {"d/x": "agent\n", "d/y": "y\n"})
    shutil.move(top / "d", tmp_path / "outside")
    (top / "d").symlink_to(tmp_path / "outside")
    assert "d is not a folder" in str(refused(space))
    assert (tmp_path / "outside/x").read_text() == "x\n"


@pytest.mark.parametrize("autocrlf", ["true", "input", "false"])
def test_line_ends(tmp_path: Path, autocrlf: str) -> None:
    top = make(tmp_path / "r", {"crlf": "1\r\n2\r\n3\r\n", "lf": "1\n2\n", "mixed": "1\r\n2\n"})
    sh(top, "config", "core.autocrlf", autocrlf)
    sh(top, "config", "apply.whitespace", "fix")
    sh(top, "config", "core.whitespace", "trailing-space,space-before-tab")
    sh(top, "config", "apply.ignoreWhitespace", "change")
    if autocrlf == "true":
        put(top, {"converted": "1\r\n2\r\n"})
        commit(top)  # stored with LF, CRLF in the checkout
    space = start(top, tmp_path)
    put(space.root, {"crlf": "1\r\ntwo  \r\n3\r\n", "mixed": "1\r\n2 \t\n", "new.bin": b"\0\r\n\n"})
    if autocrlf == "true":
        put(space.root, {"converted": "1\r\ntwo \r\n"})
    expected = content(space.root)
    landed = land(space)
    assert {"crlf", "mixed", "new.bin"} <= set(landed.files)
    assert {f: content(top)[f] for f in landed.files} == {f: expected[f] for f in landed.files}
    assert content(top)["lf"] == ("file", b"1\n2\n")


def test_trailing_whitespace_and_no_line_end(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a": "x  \n\n\ny"})
    sh(top, "config", "apply.whitespace", "error")
    space = start(top, tmp_path)
    put(space.root, {"a": "x \t \n\n\n\nz\n\n\n", "b": " \t \n\n\n", "c": "no end", "f\f": "\f\x0b\x85\n"})
    land(space)
    assert content(top) == content(space.root)


def test_a_patch_that_is_none(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    with pytest.raises(LandingError, match="not a patch"):
        landing.apply(space.repo, b"garbage\n", run_dir=space.run_dir, base=space.base)


@pytest.mark.parametrize("path", ["../outside", ".git/hooks/post-commit", "/abs", "sub/../../outside"])
def test_a_patch_that_leads_outside(tmp_path: Path, path: str) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    head = f"diff --git a/{path} b/{path}\nnew file mode 100755\n"
    patch = f"{head}--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
    before, outside = private_state(space.repo.git_dir), sorted(tmp_path.iterdir())
    with pytest.raises(LandingError):
        landing.apply(space.repo, patch.encode(), run_dir=space.run_dir, base=space.base)
    assert private_state(space.repo.git_dir) == before
    assert sorted(tmp_path.iterdir()) == outside
    assert not (space.run_dir / "outside").exists() and not (space.run_dir / landing.STAGE).exists()


def test_a_commit_of_exactly_the_patch(tmp_path: Path) -> None:
    top = every_shape(tmp_path / "r")
    put(top, {"staged": "s\n", "other": "unstaged\n"})
    sh(top, "add", "staged")
    space = start(top, tmp_path)
    every_kind(space.root)
    landed = land(space, commit_message="Fix it\n\nBecause.")
    assert content(top) == content(space.root)
    assert landed.branch == "" and landed.commit == sh(top, "rev-parse", "main").decode().strip()
    assert sh(top, "log", "-1", "--format=%an|%B").decode().strip() == "Ada|Fix it\n\nBecause."
    assert sh(top, "status", "--porcelain").decode().splitlines() == ["A  staged", "?? other"]
    shown = (
        sh(top, "show", "--name-only", "--no-renames", "--format=", "-z", "HEAD").decode().split("\0")[:-1]
    )
    assert set(shown) == set(landed.files)
    assert sh(top, "fsck", "--strict").decode() == ""


def test_a_commit_leaves_the_users_edits_of_the_same_file_uncommitted(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "".join(f"{i}\n" for i in range(30))})
    put(top, {"a.py": "user\n" + (top / "a.py").read_text()})
    space = start(top, tmp_path)
    put(space.root, {"a.py": (top / "a.py").read_text().replace("25\n", "agent\n")})
    land(space, commit_message="agent's part")
    assert b"user" not in sh(top, "show", "HEAD:a.py") and b"agent" in sh(top, "show", "HEAD:a.py")
    assert sh(top, "diff", "-U0").decode().splitlines()[-1] == "+user"


def test_a_commit_that_builds_on_uncommitted_changes(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    put(top, {"a.py": "uncommitted\n"})
    space = start(top, tmp_path)
    put(space.root, {"a.py": "agent\n"})
    assert "uncommitted changes" in str(refused(space, commit_message="m"))


def test_when_there_can_be_no_commit(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    space = start(top, tmp_path)
    put(space.root, {"a.py": "agent\n"})
    (top / ".git/index.lock").touch()
    assert "holds your index" in str(refused(space, commit_message="m"))
    (top / ".git/index.lock").unlink()
    put(top, {"a.py": "one\ntwo\nthree\nuser\n"})
    sh(top, "add", "a.py")
    put(top, {"a.py": "one\ntwo\nthree\n"})
    assert "staged changes in a.py" in str(refused(space, commit_message="m"))
    sh(top, "reset", "-q", "--hard")
    sh(top, "config", "--unset", "user.name")
    sh(top, "config", "--unset", "user.email")
    sh(top, "config", "user.useConfigOnly", "true")
    assert "user.email" in refused(space, commit_message="m").hint
    sh(top, "checkout", "-q", "--detach")
    assert "detached" in str(refused(space, commit_message="m"))


# --branch


def test_a_branch_leaves_the_checkout_alone(tmp_path: Path) -> None:
    top = every_shape(tmp_path / "r")
    put(top, {"f0": "uncommitted\n", "untracked": "u\n"})
    space = start(top, tmp_path)
    every_kind(space.root)
    put(top, {"f0": "changed meanwhile\n"})
    before, head, index = content(top), (top / ".git/HEAD").read_text(), (top / ".git/index").read_bytes()
    landed = land(space, branch="pool/fix")
    assert content(top) == before
    assert ((top / ".git/HEAD").read_text(), (top / ".git/index").read_bytes()) == (head, index)
    assert sh(top, "rev-parse", "pool/fix^{tree}").decode().strip() == space.tree()
    assert sh(top, "rev-parse", "pool/fix^").decode().strip() == space.base
    assert "uncommitted" in landed.note and landed.branch == "pool/fix"


def test_branches_that_cannot_be(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    space = start(top, tmp_path)
    put(space.root, {"a.py": "agent\n"})
    sh(top, "branch", "taken")
    assert "already" in str(refused(space, branch="taken"))
    for name in ("a..b", "-x", "x y", "", "@{-1}"):
        assert "not a name" in str(refused(space, branch=name))
    patch = space.patch()
    with pytest.raises(LandingError, match="no longer in the repository"):
        landing.apply(space.repo, patch, run_dir=space.run_dir, base="1" * 40, branch="fine")


# Killed on the way


KILLED = """
import os, signal, sys
from pathlib import Path
from poolcli import landing
from poolcli.git import find_repository
top, run_dir, base, message, after = sys.argv[1:]
place, remove, publish, count = landing._place, landing._remove, landing._publish, 0
def counted(function):
    def call(*args):
        global count
        function(*args)
        count += 1
        if count > int(after):
            os.kill(os.getpid(), signal.SIGKILL)
    return call
landing._place, landing._remove, landing._publish = counted(place), counted(remove), counted(publish)
patch = (Path(run_dir) / "patch.diff").read_bytes()
repo, run_dir = find_repository(Path(top)), Path(run_dir)
landing.apply(repo, patch, run_dir=run_dir, base=base, commit_message=message or None)
"""


@pytest.mark.parametrize(("after", "message"), [(0, ""), (4, ""), (9, "m"), (99, "m")])
def test_a_landing_that_is_killed_is_finished_by_the_next(tmp_path: Path, after: int, message: str) -> None:
    top = every_shape(tmp_path / "r")
    put(top, {"untracked": "u\n"})
    space = start(top, tmp_path)
    every_kind(space.root)
    before, expected, patch = content(top), content(space.root), space.patch()
    (space.run_dir / "patch.diff").write_bytes(patch)
    arguments = [str(top), str(space.run_dir), space.base, message, str(after)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parent.parent)
    if after == 99:
        assert done.returncode == 0
    else:
        assert done.returncode == -9
        half = content(top)
        assert half not in (before, expected)
        for name, value in half.items():
            assert value in (before.get(name), expected.get(name)), "no file is ever half written"
    line = landing.recover(space.repo, tmp_path / "st")
    assert ("interrupted" in line) == (after != 99)
    assert content(top) == expected
    assert landing.recover(space.repo, tmp_path / "st") == ""
    if message:
        assert sh(top, "status", "--porcelain").decode().splitlines() == ["?? untracked"]
        assert sh(top, "rev-list", "--count", "HEAD").strip() == b"3"


def test_finishing_leaves_alone_what_was_changed_since(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "a\n", "b.py": "b\n"})
    space = start(top, tmp_path)
    put(space.root, {"a.py": "agent\n", "b.py": "agent\n"})
    (space.run_dir / "patch.diff").write_bytes(space.patch())
    arguments = [str(top), str(space.run_dir), space.base, "", "0"]
    subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parent.parent)
    assert (top / "a.py").read_text() == "agent\n" and (top / "b.py").read_text() == "b\n"
    put(top, {"b.py": "user\n"})
    assert "b.py" in landing.recover(space.repo, tmp_path / "st")
    assert (top / "b.py").read_text() == "user\n"


def test_a_branch_that_moved_before_the_landing_was_finished(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "a\n", "b.py": "b\n"})
    space = start(top, tmp_path)
    put(space.root, {"a.py": "agent\n", "b.py": "agent\n"})
    (space.run_dir / "patch.diff").write_bytes(space.patch())
    arguments = [str(top), str(space.run_dir), space.base, "message", "0"]
    subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parent.parent)
    sh(top, "commit", "-q", "--allow-empty", "-m", "the user's")
    with pytest.raises(LandingError, match="branch moved"):
        landing.recover(space.repo, tmp_path / "st")
    assert landing.recover(space.repo, tmp_path / "st") == "", "it does not fail for ever"


LANDING = """
import sys
from pathlib import Path
from poolcli import landing
from poolcli.git import find_repository
top, run, base, patch = sys.argv[1:]
try:
    landing.apply(find_repository(Path(top)), Path(patch).read_bytes(), run_dir=Path(run), base=base)
except landing.LandingError as error:
    print(error)
"""


def test_landings_wait_for_each_other(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    put(space.root, {"a.py": "agent\n"})
    patch = tmp_path / "p"
    patch.write_bytes(space.patch())
    command = [sys.executable, "-c", LANDING, str(space.repo.top), str(space.run_dir), space.base, str(patch)]
    children = [
        subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = sorted(child.communicate()[0] for child in children)
    assert said[0] == "" and all("already" in line for line in said[1:])
    assert (space.repo.top / "a.py").read_text() == "agent\n"


# Discarding


def test_discard(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    put(top, {"a.py": "uncommitted\n"})
    space = start(top, tmp_path)
    (space.run_dir / "patch.diff").write_bytes(b"x")
    (space.run_dir / "events.jsonl").write_bytes(b"{}\n")
    file = lock(space.run_dir)
    with pytest.raises(LandingError, match="still running"):
        landing.discard(space.repo, space.run_dir)
    os.close(file)
    landing.discard(space.repo, space.run_dir)
    landing.discard(space.repo, space.run_dir)
    assert not space.root.exists()
    assert sh(top, "for-each-ref", "refs/pool") == b""
    assert (top / "a.py").read_text() == "uncommitted\n"
    assert (space.run_dir / "events.jsonl").exists() and not (space.run_dir / "patch.diff").exists()
