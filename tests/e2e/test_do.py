"""Points 1, 2 and 9 of the main job: the task's sources, the loop, budgets, exit codes and the result."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import CALC, FIX, REPAIR, Pool, call, git, reply, snapshot


def test_red_to_green_is_exit_0_and_the_checkout_is_untouched(pool: Pool) -> None:
    before = snapshot(pool.repo)
    done = pool.do("fix the failing test")
    assert done.returncode == 0, done.stderr + done.stdout
    assert snapshot(pool.repo) == before
    result = pool.result()
    assert result["status"] == "verified"
    assert result["verdict"]["before"]["status"] == "failed"
    assert result["verdict"]["after"]["status"] == "passed"
    assert result["patch"]["files"] == 1
    assert (result["patch"]["added"], result["patch"]["removed"]) == (1, 1)
    assert result["usage"]["turns"] == len(REPAIR)
    assert pool.worktrees() == []


def test_a_model_that_only_claims_success_is_not_believed(pool: Pool) -> None:
    done = pool.do("fix it", replies=(reply("All tests pass now."), reply("They really do."), reply("Yes.")))
    assert done.returncode == 4, done.stderr  # gave up: red, and no further attempt
    assert pool.result()["verdict"]["verified"] is False


def test_red_evidence_goes_back_until_green(pool: Pool) -> None:
    wrong = {**FIX, "new": "return a * b"}
    replies = (
        reply("", call("edit", **wrong)),
        reply("Done."),
        reply("", call("edit", path="calc.py", old="return a * b", new="return a + b")),
        reply("Now it adds."),
    )
    done = pool.do("fix it", replies=replies)
    assert done.returncode == 0, done.stderr
    steered = [e for e in pool.events() if e["type"] == "steered"]
    assert len(steered) == 1
    assert steered[0]["data"]["text"].startswith("The checks still fail.")
    assert "6 != 5" in steered[0]["data"]["text"]


def test_rounds_end_the_run_unverified(pool: Pool) -> None:
    replies = tuple(
        item for n in range(6) for item in (reply("", call("shell", command=f"echo try {n}")), reply("Done."))
    )
    done = pool.do("fix it", "--max-rounds", "2", replies=replies)
    assert done.returncode == 3, done.stderr
    assert sum(e["type"] == "checks.done" and e["data"]["phase"] == "round" for e in pool.events()) == 2


def test_turn_budget_is_exit_5_and_keeps_the_work(pool: Pool) -> None:
    replies = (
        reply("", call("write", path="note.txt", content="half\n")),
        *(reply("", call("list")) for _ in range(5)),
    )
    done = pool.do("fix it", "--max-turns", "2", replies=replies)
    assert done.returncode == 5, done.stderr
    assert "note.txt" in pool("diff").stdout


def test_turn_budget_that_ends_on_green_is_verified(pool: Pool) -> None:
    done = pool.do("fix it", "--max-turns", "1", replies=(reply("", call("edit", **FIX)),))
    assert done.returncode == 0, done.stderr


def test_token_budget(pool: Pool) -> None:
    done = pool.do("fix it", "--max-tokens", "10", replies=(reply("", call("list")), reply("", call("list"))))
    assert done.returncode == 5, done.stderr


def test_time_budget_ends_a_hanging_command(pool: Pool) -> None:
    done = pool.do("fix it", "--timeout", "3", replies=(reply("", call("shell", command="sleep 300")),))
    assert done.returncode == 5, done.stderr
    last = [e for e in pool.events() if e["type"] == "tool.done"][-1]["data"]
    assert last["why"] == "interrupted"


def test_checks_that_are_given_win(pool: Pool) -> None:
    done = pool.do(
        "say hello",
        "--test",
        "test -f hello.txt",
        replies=(reply("", call("write", path="hello.txt", content="hi\n")), reply("Wrote it.")),
    )
    assert done.returncode == 0, done.stderr
    started = pool.events()[0]["data"]
    assert started["checks"]["command"] == "test -f hello.txt"
    assert "--test" in started["checks"]["source"]


def test_checks_from_the_project_file(pool: Pool) -> None:
    (pool.repo / ".pool").mkdir()
    (pool.repo / ".pool" / "config.toml").write_text('test = "test -f hello.txt"\n')
    assert pool("trust", "--yes").returncode == 0
    done = pool.do(
        "say hello", replies=(reply("", call("write", path="hello.txt", content="hi\n")), reply("Wrote it."))
    )
    assert done.returncode == 0, done.stderr
    assert ".pool/config.toml" in pool.events()[0]["data"]["checks"]["source"]


def test_nothing_to_verify_is_exit_3_unless_that_is_fine(make_pool) -> None:
    pool = make_pool({"notes.txt": "a\n"})
    replies = (reply("", call("write", path="b.txt", content="b\n")), reply("Done."))
    assert pool.do("add b", replies=replies).returncode == 3
    assert pool.do("add b", "--no-checks", replies=replies).returncode == 0
    assert pool.result()["verdict"]["verified"] is False


def test_checks_command_not_found_is_a_usage_error(pool: Pool) -> None:
    done = pool.do("fix it", "--test", "no-such-program --all")
    assert done.returncode == 2, done.stderr + done.stdout
    assert "no-such-program" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_from_a_subfolder(make_pool) -> None:
    from tests.e2e.conftest import TEST_CALC

    pool = make_pool({"calc.py": CALC, "test_calc.py": TEST_CALC, "deep/er/note.txt": "x\n"})
    done = pool.do("fix it", cwd=pool.repo / "deep" / "er")
    assert done.returncode == 0, done.stderr


def test_uncommitted_work_is_carried_over_and_the_patch_is_relative_to_it(pool: Pool) -> None:
    (pool.repo / "calc.py").write_text(CALC.replace("x * 2", "x * 2  # mine"))
    (pool.repo / "new.txt").write_text("mine\n")
    done = pool.do("fix it")
    assert done.returncode == 0, done.stderr
    first = next(e for e in pool.events() if e["type"] == "turn.started")["data"]["text"]
    assert "<changes>" in first and "new.txt" in first
    patch = pool("diff").stdout
    assert "return a + b" in patch and "mine\n" not in patch.replace("# mine", "")
    assert pool("apply").returncode == 0
    text = (pool.repo / "calc.py").read_text()
    assert "return a + b" in text and "# mine" in text


# ---- where the task comes from


def asked(pool: Pool) -> str:
    return pool.events()[0]["data"]["task"]


def first_message(pool: Pool) -> str:
    return next(e for e in pool.events() if e["type"] == "turn.started")["data"]["text"]


def test_task_from_a_file(pool: Pool) -> None:
    (pool.home / "task.md").write_text("repair add\n")
    assert pool.do("-f", str(pool.home / "task.md")).returncode == 0
    assert asked(pool) == "repair add"


@pytest.mark.parametrize("args", [(), ("-",)])
def test_task_from_stdin(pool: Pool, args: tuple[str, ...]) -> None:
    assert pool.do(*args, input="repair add\n").returncode == 0
    assert asked(pool) == "repair add"


def test_text_beside_a_task_is_quoted(pool: Pool) -> None:
    assert pool.do("fix this", input="ImportError: no module\n").returncode == 0
    assert asked(pool) == "fix this"
    assert "ImportError: no module" in first_message(pool)


def test_an_open_silent_stdin_is_not_waited_for(pool: Pool) -> None:
    read, write = os.pipe()  # held open, never written
    try:
        assert pool.do("fix it", stdin=read).returncode == 0
    finally:
        os.close(read)
        os.close(write)


def test_no_task_at_all(pool: Pool) -> None:
    done = pool("do", stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "task" in done.stderr


def test_empty_task(pool: Pool) -> None:
    assert pool("do", "  ").returncode == 2


# ---- the result and the prompt


def test_result_file_and_its_fields(pool: Pool) -> None:
    out = pool.home / "result.json"
    assert pool.do("fix it", "--result", str(out)).returncode == 0
    result = json.loads(out.read_text())
    assert result == pool.result()
    for key in (
        "run",
        "status",
        "exit_code",
        "verdict",
        "patch",
        "usage",
        "seconds",
        "model",
        "versions",
        "log",
    ):
        assert key in result
    assert result["verdict"]["tests"]["test_calc.TestCalc.test_add"] == {
        "before": "failed",
        "after": "passed",
    }
    assert "return a + b" in Path(result["patch"]["file"]).read_text()


def test_the_prompt_names_no_path_of_this_machine_and_no_clock(pool: Pool) -> None:
    pool.do("fix it")
    for event in pool.events():
        if event["type"] in ("turn.started", "steered"):
            assert str(pool.home.parent) not in event["data"]["text"]
        if event["type"] == "tool.done":
            assert str(pool.state) not in event["data"]["text"]
    system = pool.events()[0]["data"]["system"]
    assert "20" + "26" not in system and str(pool.home) not in system


def test_agents_md_is_quoted(pool: Pool) -> None:
    (pool.repo / "AGENTS.md").write_text("Use tabs.\n")
    pool.do("fix it")
    message = first_message(pool)
    assert '<instructions file="AGENTS.md">' in message and "Use tabs." in message


def test_two_runs_at_once_in_one_repository(pool: Pool) -> None:
    model = pool.scripted(*REPAIR)
    running = [pool.start("do", f"fix it {n}", "--model", model) for n in range(3)]
    codes = [(p.wait(90), p.stderr.read()) for p in running]
    for p in running:
        p.stdout.close()
        p.stderr.close()
    assert [c for c, _ in codes] == [0, 0, 0], codes
    assert len(pool.runs()) == 3
    assert git(pool.repo, "worktree", "list").count("\n") == 1


def test_repetition_ends_the_run(pool: Pool) -> None:
    done = pool.do("fix it", replies=tuple(reply("", call("shell", command="true")) for _ in range(30)))
    assert done.returncode == 4, done.stderr
    assert len([e for e in pool.events() if e["type"] == "tool.done"]) < 20


def test_empty_replies_are_asked_again_then_given_up(pool: Pool) -> None:
    done = pool.do("fix it", replies=tuple(reply(think="hmm") for _ in range(6)))
    assert done.returncode == 4, done.stderr


def test_every_call_gets_one_result(pool: Pool) -> None:
    replies = (
        reply(
            "",
            call("no_such_tool", x=1),
            call("read", path="../outside"),
            call("read"),
            call("read", path="calc.py"),
        ),
        reply("", call("edit", **FIX)),
        reply("Fixed."),
    )
    done = pool.do("fix it", replies=replies)
    assert done.returncode == 0, done.stderr
    results = [e["data"] for e in pool.events() if e["type"] == "tool.done"]
    assert [r["ok"] for r in results] == [False, False, False, True, True]
    assert len({r["id"] for r in results}) == 5


def test_green_before_and_broken_off_proves_nothing(pool: Pool) -> None:
    done = pool.do("add a feature", "--test", "true", "--max-turns", "1", replies=(reply("", call("list")),))
    assert done.returncode == 5, done.stdout
    empty = tuple(reply(think="hmm") for _ in range(6))
    assert pool.do("add a feature", "--test", "true", replies=empty).returncode == 4


def test_a_same_length_edit_right_after_the_baseline_is_judged_by_its_own_code(pool: Pool) -> None:
    """Byte code that the baseline wrote within the same second would hide the edit."""
    for _ in range(3):
        assert pool.do("fix it", replies=(reply("", call("edit", **FIX)), reply("Done."))).returncode == 0


def test_a_command_too_long_to_start_ends_the_run_in_good_order(pool: Pool) -> None:
    (pool.repo / ".pool").mkdir()
    (pool.repo / ".pool" / "config.toml").write_text('test = "true ' + "x" * 140_000 + '"\n')
    assert pool("trust", "--yes").returncode == 0
    done = pool.do("fix it")
    assert done.returncode == 2, done.stderr
    assert pool.events()[-1]["type"] == "run.ended"
    assert pool.worktrees() == [] and "Traceback" not in done.stderr
