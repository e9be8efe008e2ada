"""Git: the user's repository, hostile repositories, what comes back from a run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.repositories import commit, make, put, sh
from tests.security.case import CANARY, Field, Group

GROUP = Group("Git")
case, shell = GROUP.case, GROUP.shell


def users_git(folder: Path, *args: str, **env: str) -> str:
    """Git as a user calls it, without any of our pins."""
    done = subprocess.run(["git", *args], cwd=folder, env={**os.environ, **env}, capture_output=True)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def all_of_pool(field: Field) -> None:
    """All that pool asks git about a worktree."""
    space = field.space(True)
    patch = space.patch()
    assert space.tree() and (space.changed() or not patch)
    space.surprises(patch)


@case("GIT-02", "A hook planted in the user's repository", "no sandbox", needs=("bubblewrap",))
def hook(field: Field, protected: bool) -> bool:
    field.shell(
        f'cp {field.evil()} "$MAIN/.git/hooks/post-checkout" || '
        f"printf '#!/bin/sh\\n: > {field.mark}\\n' > \"$MAIN/.git/hooks/post-checkout\"; "
        'chmod +x "$MAIN/.git/hooks/post-checkout"',
        protected,
    )
    users_git(field.main, "checkout", "-q", "other")
    return field.mark.exists()


@case(
    "GIT-03",
    "The file .git of the worktree replaced by a repository of the model's",
    "git asked by where it stands",
)
def pointer(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    field.shell(
        "rm -rf .git; mkdir -p .evil; git init -q .evil/r; "
        f"git --git-dir=.evil/r/.git config core.fsmonitor {field.evil()}; "
        'echo "gitdir: $PWD/.evil/r/.git" > .git; touch x',
        protected,
    )
    if protected:
        assert (space.root / ".git").read_text() == "gitdir: /run/pool/git\n"
        all_of_pool(field)
    else:
        users_git(space.root, "status")
    return field.mark.exists()


@case(
    "GIT-05",
    "Settings of the worktree alone, put into the user's repository",
    "no sandbox",
    needs=("bubblewrap",),
)
def worktree_settings(field: Field, protected: bool) -> bool:
    field.shell(
        'git --git-dir="$MAIN/.git" config extensions.worktreeConfig true; '
        f'printf "[core]\\n\\tfsmonitor = {field.evil()}\\n" > "$MAIN/.git/config.worktree"',
        protected,
    )
    users_git(field.main, "status")
    return field.mark.exists()


@case(
    "GIT-06",
    "A repository inside the worktree, with a setting that runs a program",
    "git run in it, nothing said",
    tests=("tests/test_shadow.py::test_a_hostile_repository_runs_nothing_on_the_host",),
)
def nested(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    field.shell(f"git init -q s && cd s && git config core.fsmonitor {field.evil()} && echo x > x", protected)
    if not protected:
        users_git(space.root / "s", "status")
        return field.mark.exists()
    patch = space.patch()
    told = any(line.startswith("s/ holds a git repository") for line in space.surprises(patch))
    return field.mark.exists() or not told or b"s/.git" in patch


@case("GIT-08", "A folder with the names that make it a repository", "git run in it, nothing said")
def bare_shape(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    field.shell(
        "mkdir -p docs/objects docs/refs; echo ref: refs/heads/x > docs/HEAD; touch docs/objects/x docs/refs/x;"
        f'printf "[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = .\\n'
        f'\\tfsmonitor = {field.evil()}\\n" > docs/config',
        protected,
    )
    if not protected:
        users_git(space.root / "docs", "status")
        return field.mark.exists()
    told = any("docs" in line and "git folder" in line for line in space.surprises(space.patch()))
    all_of_pool(field)
    return field.mark.exists() or not told


def refs(field: Field) -> bytes:
    return sh(field.main, "for-each-ref", "refs/heads", "refs/tags", "refs/stash")


@case("GIT-09", "Branches and tags of the user deleted and moved", "no sandbox", needs=("bubblewrap",))
def branches(field: Field, protected: bool) -> bool:
    field.space(protected)
    before = refs(field)
    field.shell(
        'cd "$MAIN"; git branch -D other; git update-ref -d refs/heads/main; git tag -f v1 HEAD~1;'
        " rm -f .git/packed-refs",
        protected,
    )
    return refs(field) != before


@case("GIT-10", "The user's stash dropped", "no sandbox", needs=("bubblewrap",))
def stash(field: Field, protected: bool) -> bool:
    field.space(protected)
    field.shell('cd "$MAIN"; git stash drop; git stash pop; git stash clear', protected)
    return sh(field.main, "stash", "list") == b""


@case("GIT-11", "The user's objects overwritten", "no sandbox", needs=("bubblewrap",))
def objects(field: Field, protected: bool) -> bool:
    field.space(protected)
    field.shell(
        'for place in "$MAIN/.git/objects" /run/pool/objects; do chmod -R u+w $place;'
        " find $place -type f -exec sh -c 'echo x > {}' \\;; done",
        protected,
    )
    done = subprocess.run(["git", "fsck"], cwd=field.main, capture_output=True)
    return done.returncode != 0


@case(
    "GIT-12", "Attributes and borrowed stores of the user's repository", "no sandbox", needs=("bubblewrap",)
)
def attributes(field: Field, protected: bool) -> bool:
    field.space(protected)
    field.shell(
        'mkdir -p "$MAIN/.git/info"; echo "* filter=x" > "$MAIN/.git/info/attributes";'
        ' echo /tmp > "$MAIN/.git/objects/info/alternates"; echo /tmp > /run/pool/objects/info/alternates',
        protected,
    )
    inner = field.main / ".git"
    return (inner / "info/attributes").exists() or (inner / "objects/info/alternates").exists()


HOSTILE_TREE = (
    "blob=$(printf '#!/bin/sh\\n' | git hash-object -w --stdin);"
    " inner=$(printf '100755 blob %s\\tpost-checkout\\n' $blob | git mktree);"
    " hooks=$(printf '040000 tree %s\\thooks\\n' $inner | git mktree);"
    " tree=$(printf '040000 tree %s\\t.git\\n' $hooks | git mktree);"
    " git commit-tree -m evil $tree > commit.id; git reset -q --soft $(cat commit.id)"
)


@case("GIT-13", "A commit whose tree holds a .git folder", "commits are fetched from the run's repository")
def hostile_tree(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    field.shell(HOSTILE_TREE, protected)
    made = (space.root / "commit.id").read_text().strip()
    assert len(made) == 40
    (space.root / "commit.id").unlink()
    if protected:
        assert b".git/hooks" not in space.patch()
    else:
        sh(field.main, "fetch", "-q", str(space.run_dir / "git"), f"{made}:refs/heads/taken", check=False)
    done = subprocess.run(["git", "cat-file", "-e", made], cwd=field.main, capture_output=True)
    return done.returncode == 0


@case(
    "GIT-14",
    "A link out of the tree among the changes",
    "the patch is applied, nothing is said",
    tests=(
        "tests/test_surprises.py::test_links",
        "tests/e2e/test_landing.py::test_what_runs_later_is_named_at_the_end_and_by_apply",
    ),
)
def link_out(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    field.shell("ln -s ../../../etc/passwd link", protected)
    patch = space.patch()
    assert b"120000" in patch
    if protected:
        return not any(line.startswith("link is a link out of") for line in space.surprises(patch))
    sh(field.main, "apply", input=patch)
    return (field.main / "link").is_symlink()


@case("GIT-15", "Hooks that the repository brings along, at the start of a run", "plain git worktree add")
def brought_hooks(field: Field, protected: bool) -> bool:
    hooks = field.main / ".husky"
    for name in ("post-checkout", "post-index-change", "reference-transaction"):
        put(hooks, {name: f"#!/bin/sh\n: > {field.mark}\n"})
        (hooks / name).chmod(0o755)
    commit(field.main)
    sh(field.main, "config", "core.hooksPath", ".husky")
    field.mark.unlink(missing_ok=True)
    if protected:
        field.space(True)
    else:
        users_git(field.main, "worktree", "add", "-q", "--detach", str(field.tmp / "wt"))
    return field.mark.exists()


@case("GIT-16", "Attributes that name programs of the user's settings", "plain git diff and log")
def named_programs(field: Field, protected: bool) -> bool:
    evil = field.evil()
    for setting in (
        "diff.sqlite3.textconv",
        "diff.sqlite3.command",
        "filter.lfs.clean",
        "filter.lfs.process",
        "diff.external",
    ):
        sh(field.main, "config", setting, str(evil))
    field.mark.unlink(missing_ok=True)
    space = field.space(protected)
    field.shell('echo "* filter=lfs diff=sqlite3" > .gitattributes; echo changed > a.py', protected)
    if protected:
        all_of_pool(field)
    else:
        sh(field.main, "apply", input=space.patch())
        field.mark.unlink(missing_ok=True)
        users_git(field.main, "diff")
    return field.mark.exists()


@case("GIT-17", "Variables of git in the environment of pool", "git with that environment")
def variables(field: Field, protected: bool) -> bool:
    evil, other = field.evil(), make(field.tmp / "another")
    top = field.main
    put(top, {"a.py": "changed\n"})
    for name, value in {
        "GIT_EXTERNAL_DIFF": str(evil), "GIT_SSH_COMMAND": str(evil), "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": str(evil), "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": str(other / ".git/index"),
    }.items():  # fmt: skip
        field.setenv(name, value)
    if not protected:
        users_git(top, "diff")
        return field.mark.exists() or "another" in users_git(top, "rev-parse", "--show-toplevel")
    space = field.space(True)
    all_of_pool(field)
    return field.mark.exists() or "sub/b.py" not in [name for name, _ in space.files()]


@case(
    "GIT-18",
    "Names of branches that are options or commands",
    "a command line made of the name",
    tests=("tests/test_landing.py::test_branches_that_cannot_be",),
)
def branch_names(field: Field, protected: bool) -> bool:
    from poolcli import landing
    from poolcli.errors import PoolError

    names = (f"x;touch${{IFS}}{field.mark}", f"$(touch${{IFS}}{field.mark})", f"`touch${{IFS}}{field.mark}`")
    for name in names:
        sh(field.main, "update-ref", f"refs/heads/{name}", "HEAD")
        sh(field.main, "symbolic-ref", "HEAD", f"refs/heads/{name}")
        if not protected:
            subprocess.run(f"git log -1 {name}", shell=True, cwd=field.main, capture_output=True)  # noqa: S602
            continue
        space = field.space(True)
        put(space.root, {"a.py": f"{name}\n"})
        patch = space.patch()
        for branch in (name, f"--upload-pack=touch {field.mark}", "-x", "a\nb", "a\x1b]0;x\x07"):
            try:
                landing.apply(space.repo, patch, run_dir=space.run_dir, base=space.base, branch=branch)
            except PoolError as error:
                assert "Traceback" not in str(error)
    return field.mark.exists()


@case("GIT-19", "Addresses of submodules that run a program", "git submodule update --init")
def submodules(field: Field, protected: bool) -> bool:
    url = f"ext::sh -c touch% {field.mark}"
    put(field.main, {".gitmodules": f'[submodule "lib"]\n\tpath = lib\n\turl = {url}\n'})
    head = sh(field.main, "rev-parse", "HEAD").decode().strip()
    sh(field.main, "update-index", "--add", "--cacheinfo", f"160000,{head},lib")
    sh(field.main, "add", ".gitmodules")
    sh(field.main, "commit", "-qm", "submodule")
    if protected:
        field.space(True)
        all_of_pool(field)
    else:
        users_git(field.main, "-c", "protocol.ext.allow=always", "submodule", "update", "--init")
    return field.mark.exists()


@case("GIT-20", "Large files fetched while the worktree is made", "plain git worktree add")
def large_files(field: Field, protected: bool) -> bool:
    put(field.main, {".gitattributes": "*.bin filter=lfs\n", "x.bin": "pointer\n"})
    commit(field.main)
    sh(field.main, "config", "filter.lfs.smudge", str(field.evil()))
    field.mark.unlink(missing_ok=True)
    if protected:
        field.space(True)
    else:
        users_git(field.main, "worktree", "add", "-q", "--detach", str(field.tmp / "wt"))
    return field.mark.exists()


@case(
    "GIT-21",
    "A push from the model's shell, and the token in the address",
    "no sandbox",
    needs=("bubblewrap",),
)
def push(field: Field, protected: bool) -> bool:
    came = field.listen(("127.0.0.1", 0))
    sh(field.main, "remote", "set-url", "origin", f"http://ada:{CANARY}@127.0.0.1:{field.port}/x.git")
    said = field.shell('cd "$MAIN"; git remote -v; git push origin HEAD 2>&1; git config --list', protected)
    return CANARY in said or bool(came)


shell(
    "GIT-22",
    "The user's password asked from git's own store",
    'HOME="$HOME_OF_USER"; printf "protocol=https\\nhost=example.com\\n\\n" | GIT_TERMINAL_PROMPT=0 git credential fill'
    ' | grep -q "=$CANARY" && echo REACHED',
)


@case(
    "GIT-23",
    "The run's own repository made hostile before its work is taken over",
    "git asked in that repository",
    tests=("tests/test_shadow.py::test_a_hostile_repository_runs_nothing_on_the_host",),
)
def hostile_shadow(field: Field, protected: bool) -> bool:
    from tests.test_shadow import poison

    space = field.space(protected)
    field.shell("echo agent > a.py", protected)
    poison(space.root, space.run_dir / "git", str(field.evil()))
    field.mark.unlink(missing_ok=True)
    if protected:
        all_of_pool(field)
    else:
        users_git(space.root, "status")
    return field.mark.exists()


@case("GIT-24", "History below the base written anew", "the model's branch is fetched")
def history(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    field.shell("git checkout -q -b mine; echo x > x; git add x; git commit -q --amend -m other", protected)
    if protected:
        sh(
            field.main, "apply", "--check", input=space.patch()
        )  # relative to the base, whatever the history says
    else:
        sh(field.main, "fetch", "-q", str(space.run_dir / "git"), "mine:refs/heads/taken")
    done = subprocess.run(
        ["git", "merge-base", "--is-ancestor", "main", "taken"], cwd=field.main, capture_output=True
    )
    return done.returncode == 1
