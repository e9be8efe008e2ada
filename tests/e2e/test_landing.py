"""Point 4: landing is a step of its own."""

from __future__ import annotations

import subprocess

from tests.e2e.conftest import CALC, REPAIR, Pool, call, git, reply, snapshot


def test_apply_lands_the_patch_and_nothing_else(pool: Pool) -> None:
    pool.do("fix it")
    done = pool("apply")
    assert done.returncode == 0, done.stderr
    assert (pool.repo / "calc.py").read_text() == CALC.replace("a - b", "a + b")
    assert git(pool.repo, "status", "--porcelain").split() == ["M", "calc.py"]


def test_apply_to_a_branch_leaves_the_checkout(pool: Pool) -> None:
    git(pool.repo, "config", "user.name", "me")
    git(pool.repo, "config", "user.email", "me@localhost")
    pool.do("fix it")
    before = snapshot(pool.repo)
    assert pool("apply", "--branch", "fix/add").returncode == 0
    after = snapshot(pool.repo)
    assert {k: v for k, v in after.items() if k != "refs"} == {k: v for k, v in before.items() if k != "refs"}
    assert "return a + b" in git(pool.repo, "show", "fix/add:calc.py")
    assert git(pool.repo, "rev-parse", "fix/add^") == git(pool.repo, "rev-parse", "HEAD")


def test_apply_with_a_commit(pool: Pool) -> None:
    git(pool.repo, "config", "user.name", "me")
    git(pool.repo, "config", "user.email", "me@localhost")
    pool.do("fix the sign in add")
    assert pool("apply", "--commit").returncode == 0
    assert git(pool.repo, "log", "-1", "--format=%s").strip() == "fix the sign in add"
    assert git(pool.repo, "status", "--porcelain") == ""


def test_apply_refuses_what_does_not_fit_and_changes_nothing(pool: Pool) -> None:
    pool.do("fix it")
    (pool.repo / "calc.py").write_text(CALC.replace("a - b", "b - a"))
    before = snapshot(pool.repo)
    done = pool("apply")
    assert done.returncode != 0
    assert "calc.py" in done.stderr and "Traceback" not in done.stderr
    assert snapshot(pool.repo) == before


def test_what_runs_later_is_named_at_the_end_and_by_apply(pool: Pool) -> None:
    make = reply("", call("write", path="Makefile", content="all:\n"))
    link = reply("", call("shell", command="ln -s /etc/passwd notes"))
    assert pool.do("fix it", replies=(make, link, *REPAIR)).returncode == 0
    notices = [
        e.get("data", e)["text"]
        for e in pool.events()
        if e["type"] == "notice" and e.get("data", e).get("code") == "look-at"
    ]
    assert notices == ["notes is a link out of the repository, to /etc/passwd", "Makefile: a build runs it"]
    said = pool("apply").stderr
    assert "look at: Makefile: a build runs it" in said and "look at: notes is a link out" in said


def test_applying_what_is_not_verified_says_so(pool: Pool) -> None:
    wrong = reply("", call("write", path="x.txt", content="x\n"))
    assert pool.do("fix it", replies=(wrong, reply("Done."), reply("Done."), reply("Done."))).returncode == 4
    done = pool("apply")
    assert done.returncode == 0 and "not verified" in done.stderr
    assert pool.do("fix it").returncode == 0
    assert "not verified" not in pool("apply").stderr


def test_do_apply_lands_only_when_verified(pool: Pool) -> None:
    done = pool.do(
        "fix it",
        "--apply",
        replies=(
            reply("", call("write", path="x.txt", content="x\n")),
            reply("Done."),
            reply("Done."),
            reply("Done."),
        ),
    )
    assert done.returncode == 4
    assert not (pool.repo / "x.txt").exists()
    assert pool.do("fix it", "--apply").returncode == 0
    assert "a + b" in (pool.repo / "calc.py").read_text()


def test_patch_goes_to_stdout_and_applies_through_a_pipe(pool: Pool) -> None:
    done = pool.do("fix it", "--patch")
    assert done.returncode == 0
    assert done.stdout.startswith("diff --git ")
    assert "verified" in done.stderr.lower()
    subprocess.run(["git", "-C", str(pool.repo), "apply"], input=done.stdout, text=True, check=True)
    assert "a + b" in (pool.repo / "calc.py").read_text()


def test_diff_names_runs_and_discard_removes_them(pool: Pool) -> None:
    pool.do("fix it")
    run = pool.runs()[-1].name
    assert "a + b" in pool("diff", run).stdout
    assert pool("discard", run).returncode == 0
    gone = pool("diff", run)
    assert gone.returncode == 2 and "discarded" in gone.stderr
    assert pool("show", run).returncode == 0
    assert git(pool.repo, "for-each-ref", "refs/pool").strip() == ""
    assert pool("discard", run, "--log").returncode == 0
    assert pool.runs() == []


def test_hooks_of_the_user_do_not_run(pool: Pool) -> None:
    hook = pool.repo / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\ntouch " + str(pool.home / "hooked") + "\n")
    hook.chmod(0o755)
    assert pool.do("fix it").returncode == 0
    assert not (pool.home / "hooked").exists()


def test_each_linked_worktree_lands_in_itself(pool: Pool) -> None:
    other = pool.home / "other"
    git(pool.repo, "worktree", "add", "-q", str(other), "-b", "other")
    assert pool.do("fix it", cwd=other).returncode == 0
    before = snapshot(pool.repo)
    assert pool("apply", cwd=other).returncode == 0
    assert "a + b" in (other / "calc.py").read_text()
    assert snapshot(pool.repo) == before


def test_a_result_file_in_no_folder_is_refused_before_anything_is_done(pool: Pool) -> None:
    done = pool.do("fix it", "--result", str(pool.home / "nowhere" / "r.json"))
    assert done.returncode == 2 and pool.runs() == []


def test_a_patch_that_is_not_verified_is_not_printed(pool: Pool) -> None:
    done = pool.do(
        "fix it", "--patch", "--max-turns", "1", replies=(reply("", call("write", path="x", content="x\n")),)
    )
    assert done.returncode == 5 and done.stdout == "" and "pool diff" in done.stderr
    assert "+x" in pool("diff").stdout
