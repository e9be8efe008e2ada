"""The last word: a green run is confirmed in a fresh checkout with the tests of the base, and cannot be faked."""

from __future__ import annotations

import json

from tests.e2e.conftest import CALC, FIX, REPAIR, TEST_CALC, Pool, call, git, reply

WEAK = TEST_CALC.replace("self.assertEqual(add(2, 3), 5)", "self.assertTrue(True)")
NEVER = reply("It is done.")


def phases(pool: Pool) -> list[tuple[str, bool]]:
    return [(e["data"]["phase"], e["data"]["ok"]) for e in pool.events() if e["type"] == "checks.done"]


def told(pool: Pool) -> list[str]:
    return [e["data"]["text"] for e in pool.events() if e["type"] == "steered"]


def test_a_green_run_is_confirmed_in_a_fresh_checkout(pool: Pool) -> None:
    assert pool.do("fix add").returncode == 0
    assert phases(pool)[-2:] == [("round", True), ("verdict", True)]
    assert git(pool.repo, "worktree", "list").count("\n") == 1
    result = json.loads((pool.runs()[-1] / "result.json").read_text())
    assert result["verdict"]["verified"] and result["verdict"]["tampering"] == []


def test_a_test_that_was_made_to_pass_is_tampering_and_exit_7(pool: Pool) -> None:
    assert WEAK != TEST_CALC
    weakened = reply("", call("write", path="test_calc.py", content=WEAK))
    done = pool.do("fix add", replies=(weakened, NEVER, NEVER, NEVER))
    assert done.returncode == 7, done.stdout + done.stderr
    assert "tampers with the checks" in done.stdout + done.stderr
    result = json.loads((pool.runs()[-1] / "result.json").read_text())
    assert result["status"] == "tampered" and not result["verdict"]["verified"]
    assert any(
        f["severity"] == "high" and f["path"] == "test_calc.py" for f in result["verdict"]["tampering"]
    )


def test_what_was_taken_back_is_forgiven(pool: Pool) -> None:
    weakened = reply("", call("write", path="test_calc.py", content=WEAK))
    back = reply("", call("write", path="test_calc.py", content=TEST_CALC), call("edit", **FIX))
    done = pool.do("fix add", replies=(weakened, NEVER, back, reply("Mended in calc.py.")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Take this back" in told(pool)[0] and "test_calc.py" in told(pool)[0]
    result = json.loads((pool.runs()[-1] / "result.json").read_text())
    assert result["verdict"]["verified"] and result["verdict"]["tampering"] == []


def test_what_passes_only_beside_an_ignored_file_is_red_and_goes_back(pool: Pool) -> None:
    (pool.repo / ".gitignore").write_text("local.py\n")
    git(pool.repo, "add", "-A")
    git(pool.repo, "commit", "-q", "-m", "ignore")
    hidden = reply(
        "",
        call("write", path="local.py", content="def add(a, b):\n    return a + b\n"),
        call("write", path="calc.py", content="from local import add\n" + CALC.split("\n\n\n", 1)[1]),
    )
    done = pool.do("fix add", replies=(hidden, NEVER, reply("", call("write", path="calc.py", content=CALC)),
                                       reply("", call("edit", **FIX)), REPAIR[-1]))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("verdict", False) in phases(pool) and phases(pool)[-1] == ("verdict", True)
    assert "not in a clean checkout" in told(pool)[0]
