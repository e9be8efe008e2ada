"""How a run judges: results per test from reports, chosen tests first, unsteady ones left out, the grade."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.e2e.conftest import CALC, FIX, REPAIR, TEST_CALC, Pool, call, git, reply

PYTEST = f"{sys.executable} -m pytest -q -p no:cacheprovider"
DONE = reply("It is done.")


def checks(pool: Pool) -> list[dict[str, Any]]:
    return [e["data"] for e in pool.events() if e["type"] == "checks.done"]


def result(pool: Pool) -> dict[str, Any]:
    return json.loads((pool.runs()[-1] / "result.json").read_text())


def commit(pool: Pool, files: dict[str, str]) -> None:
    for name, text in files.items():
        (pool.repo / name).write_text(text)
    git(pool.repo, "add", "-A")
    git(pool.repo, "commit", "-q", "-m", "more")


def test_results_per_test_and_the_grade_are_in_the_result(pool: Pool) -> None:
    assert pool.do("fix add", "--test", PYTEST).returncode == 0
    add, double = "test_calc.py::TestCalc::test_add", "test_calc.py::TestCalc::test_double"
    assert checks(pool)[0]["tests"] == {add: "failed", double: "passed"}
    grade = result(pool)["grade"]
    assert (grade["label"], grade["valid"], grade["reward"]) == ("FULL", True, 0.9)
    assert (grade["fail_to_pass"], grade["pass_to_pass"]) == ([add], [double])
    assert pool.events()[-1]["data"]["grade"] == grade


def test_the_evidence_is_that_of_the_plain_command(pool: Pool) -> None:
    assert pool.do("fix add", "--test", PYTEST).returncode == 0
    texts = [data["text"] for data in checks(pool)]
    assert texts[0].endswith("1 failed, 1 passed") and texts[-1] == "2 passed"
    assert "xml" not in "".join(texts)


def test_a_report_says_that_a_green_command_is_red(pool: Pool) -> None:
    """A script that ends with 0 although a test failed: the results per test know better."""
    commit(pool, {"conftest.py": "def pytest_sessionfinish(session):\n    session.exitstatus = 0\n"})
    done = pool.do("fix add", "--test", PYTEST, replies=(DONE, DONE, DONE))
    assert done.returncode != 0
    assert checks(pool)[0]["status"] == "failed"


def test_a_test_that_is_unsteady_on_the_base_does_not_count(pool: Pool) -> None:
    # Fails every second time, whatever the code says; the count survives in the folder that is given.
    counter = pool.repo.parent / "count"
    counter.write_text("0")
    flaky = (
        "from pathlib import Path\n\n\ndef test_now_and_then():\n"
        f"    file = Path({str(counter)!r})\n    count = int(file.read_text()) + 1\n"
        "    file.write_text(str(count))\n    assert count % 2\n"
    )
    commit(pool, {"test_flaky.py": flaky})
    fixed = reply("", call("edit", **FIX))
    done = pool.do("fix add", "--test", PYTEST, "--sandbox", "none", replies=(fixed, DONE, DONE, DONE))
    assert done.returncode == 0, done.stdout + done.stderr
    told = [data for data in checks(pool) if data["flaky"]]
    assert told and told[0]["flaky"] == ["test_flaky.py::test_now_and_then"]
    assert result(pool)["grade"]["label"] == "FULL"
    assert any(e["type"] == "notice" and e["data"]["code"] == "flaky" for e in pool.events())


def test_a_regression_is_not_taken_for_an_unsteady_test(pool: Pool) -> None:
    broken = CALC.replace("a - b", "a + b").replace("x * 2", "x * 3")
    done = pool.do(
        "fix add",
        "--test",
        PYTEST,
        replies=(reply("", call("write", path="calc.py", content=broken)), DONE, DONE),
    )
    assert done.returncode != 0
    assert not any(data["flaky"] for data in checks(pool))
    assert result(pool)["grade"]["pass_to_fail"] == ["test_calc.py::TestCalc::test_double"]


def test_a_task_about_tests_is_judged_by_both_versions(pool: Pool) -> None:
    more = TEST_CALC + "\n    def test_more(self):\n        self.assertEqual(add(1, 1), 2)\n"
    replies = (
        reply("", call("write", path="test_calc.py", content=more), call("edit", **FIX)),
        DONE,
        DONE,
        DONE,
    )
    done = pool.do("add a test for add, and fix it", "--test", PYTEST, replies=replies)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = [data for data in checks(pool) if data["phase"] == "verdict"]
    assert [len(data["tests"]) for data in verdicts] == [2, 3]
    assert any(e["type"] == "notice" and e["data"]["code"] == "both-tests" for e in pool.events())


@pytest.mark.slow
def test_a_slow_suite_runs_what_failed_first_and_everything_for_the_verdict(pool: Pool) -> None:
    slow = "import time\n\n\ndef test_slow():\n    time.sleep(6)\n"
    quick = "".join(f"def test_{n}():\n    pass\n\n\n" for n in range(20))
    commit(pool, {"test_slow.py": slow, "test_many.py": quick})
    assert pool.do("fix add", "--test", PYTEST, replies=REPAIR).returncode == 0
    done = checks(pool)
    first = done[0]
    assert first["phase"] == "baseline" and first["chosen"] == 0 and len(first["tests"]) == 23
    tools = [data for data in done if data["phase"] == "tool"]
    assert tools and all(0 < data["chosen"] < 23 and data["seconds"] < 5 for data in tools)
    assert "tests ran: those that failed" in tools[0]["text"]
    assert [data["chosen"] for data in done if data["phase"] == "verdict"] == [0]

    # What the base says is known the next time.
    assert pool.do("fix add", "--test", PYTEST, replies=REPAIR).returncode == 0
    assert [data["kept"] for data in checks(pool) if data["phase"] == "baseline"] == [True]
    assert result(pool)["grade"]["label"] == "FULL"


def test_checks_beside_the_tests_are_compared_with_the_base(pool: Pool) -> None:
    # One complaint about a line of the base, which the change rewrites.
    lint = "! grep -n 'return a' calc.py | sed -E 's/^([0-9]+):.*/calc.py:\\1:5: E1 too short/' | grep ."
    user = pool.home / ".config" / "pool" / "config.toml"
    user.parent.mkdir(parents=True, exist_ok=True)
    user.write_text(f"[checks]\nlint = {json.dumps(lint)}\n")
    assert pool.do("fix add", "--test", PYTEST).returncode == 0
    beside = [data for data in checks(pool) if data["phase"] == "extra"]
    assert [(data["name"], data["ok"]) for data in beside] == [("lint", True)]
    assert result(pool)["grade"]["reward"] == pytest.approx(0.92)


def test_what_is_to_be_built_is_built_before_the_tests(pool: Pool) -> None:
    user = pool.home / ".config" / "pool" / "config.toml"
    user.parent.mkdir(parents=True, exist_ok=True)
    user.write_text("[checks]\nbuild = 'test ! -e stray.txt && touch built.txt'\n")
    commit(pool, {"test_built.py": "import os\n\n\ndef test_it():\n    assert os.path.exists('built.txt')\n"})
    stray = reply("", call("write", path="stray.txt", content="x"), call("edit", **FIX))
    away = reply("", call("shell", command="rm stray.txt"))
    done = pool.do("fix add", "--test", PYTEST, replies=(stray, DONE, away, DONE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_built.py::test_it" in checks(pool)[0]["tests"]
    assert [data["built"] for data in checks(pool)] == [True, False, True, True]
    assert any("The build fails" in e["data"]["text"] for e in pool.events() if e["type"] == "steered")
    assert result(pool)["grade"]["label"] == "FULL"


def test_what_cannot_be_built_is_worth_nothing(pool: Pool) -> None:
    user = pool.home / ".config" / "pool" / "config.toml"
    user.parent.mkdir(parents=True, exist_ok=True)
    user.write_text("[checks]\nbuild = 'test ! -e stray.txt'\n")
    stray = reply("", call("write", path="stray.txt", content="x"), call("edit", **FIX))
    assert pool.do("fix add", "--test", PYTEST, replies=(stray, DONE, DONE, DONE)).returncode == 4
    grade = result(pool)["grade"]
    assert (grade["label"], grade["valid"], grade["reward"]) == ("NO", True, 0.0)


def test_only_the_base_chooses_what_judges(pool: Pool) -> None:
    """A change that breaks what pytest loads first does not get to be judged by another runner."""
    commit(pool, {"conftest.py": "import calc\n\nassert calc.double\n", "pytest.ini": "[pytest]\n"})
    broken = CALC.replace("a - b", "a + b") + "\nimport no_such_module\n"
    green = TEST_CALC.replace("add(2, 3), 5", "1, 1")
    replies = (reply("", call("write", path="calc.py", content=broken)), DONE, DONE, DONE)
    done = pool.do("fix add", replies=replies)
    assert green and done.returncode != 0, done.stdout
    assert all(not data["note"] for data in checks(pool))


def test_tests_that_vanish_are_told_of(pool: Pool) -> None:
    commit(
        pool,
        {
            "test_cases.py": "import calc\nimport pytest\n\n\n@pytest.mark.parametrize('x', calc.CASES)\n"
            "def test_case(x):\n    assert calc.double(x) == 2 * x\n",
            "calc.py": CALC + "\n\nCASES = [1, 2, 3]\n",
        },
    )
    fewer = CALC.replace("a - b", "a + b") + "\n\nCASES = [1]\n"
    replies = (reply("", call("write", path="calc.py", content=fewer)), DONE, DONE, DONE, DONE)
    done = pool.do("fix add", "--test", PYTEST, replies=replies)
    assert done.returncode != 0
    told = [e["data"]["text"] for e in pool.events() if e["type"] == "steered"]
    assert "do not run any more" in told[0] and "test_cases.py::test_case[2]" in told[0]


def test_a_test_that_hangs_on_another_is_not_unsteady(pool: Pool) -> None:
    """Alone it fails on the base, too, and each time: that says nothing about a regression among others."""
    state = "state = []\n\n\ndef test_first():\n    state.append(1)\n\n\n"
    second = "def test_second():\n    import calc\n    assert state and calc.double(4) == 8\n"
    commit(pool, {"test_order.py": state + second})
    broken = CALC.replace("a - b", "a + b").replace("x * 2", "x * 3")
    # The other test of `double` is taken back, so that this one alone is red.
    commit(pool, {"test_calc.py": TEST_CALC.replace("double(4), 8", "8, 8")})
    replies = (reply("", call("write", path="calc.py", content=broken)), DONE, DONE, DONE)
    done = pool.do("fix add", "--test", PYTEST, replies=replies)
    assert done.returncode != 0
    assert not any(data["flaky"] for data in checks(pool))


def test_what_breaks_outside_buys_no_forgiveness(pool: Pool) -> None:
    outside = pool.repo.parent / "busy"
    test = (
        "import os, calc\n\n\ndef test_it():\n"
        f"    assert not os.path.exists({str(outside)!r})\n    assert calc.double(4) == 8\n"
    )
    commit(pool, {"test_outside.py": test, "test_calc.py": TEST_CALC.replace("double(4), 8", "8, 8")})
    broken = CALC.replace("a - b", "a + b").replace("x * 2", "x * 3")
    replies = (
        reply("", call("write", path="calc.py", content=broken), call("shell", command=f"touch {outside}")),
        DONE,
        DONE,
        DONE,
    )
    done = pool.do("fix add", "--test", PYTEST, "--sandbox", "none", replies=replies)
    assert done.returncode != 0 and outside.exists()
    assert not any(data["flaky"] for data in checks(pool))


def test_a_session_that_ends_badly_is_no_full_grade(pool: Pool) -> None:
    ending = "\n\nimport atexit, os\natexit.register(lambda: os._exit(3))\n"
    fixed = CALC.replace("a - b", "a + b") + ending
    replies = (reply("", call("write", path="calc.py", content=fixed)), DONE, DONE, DONE)
    assert pool.do("fix add", "--test", PYTEST, replies=replies).returncode != 0
    grade = result(pool)["grade"]
    assert not grade["valid"] and grade["reward"] == 0.0
    assert not result(pool)["verdict"]["verified"]


@pytest.mark.slow
def test_a_slow_suite_whose_failing_test_is_renamed_goes_on_to_everything(pool: Pool) -> None:
    slow = "import time\n\n\ndef test_slow():\n    time.sleep(6)\n"
    commit(pool, {"test_slow.py": slow})
    move = reply("", call("shell", command="git mv test_calc.py test_sums.py"), call("edit", **FIX))
    done = pool.do(
        "rename test_calc.py to test_sums.py and fix add", "--test", PYTEST, replies=(move, DONE, DONE)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_sums.py::TestCalc::test_add" in checks(pool)[-1]["tests"]
