"""The shipped file in the real server: what the template lets through, and that it does its trade."""

import math
from random import Random

import pytest

from poolcli import paths

pytest.importorskip("xllamacpp")
httpx = pytest.importorskip("httpx")

from training.checks import first_message, still_failing  # noqa: E402
from training.evaluate import TOOLS, Attempt, serve  # noqa: E402
from training.family import make_instance  # noqa: E402


@pytest.fixture(scope="module")
def client():
    server = serve(paths.data_dir("models") / "pool-demo.gguf")
    with httpx.Client(base_url=server.listening_address, timeout=60) as client:
        yield client


class Red:
    """A report, as far as messages need one."""

    status = "failed"
    text = (
        "FAIL test_add (test_calc.TestCalc.test_add)\n"
        "test_calc.py:7: self.assertEqual(add([2], [3]), [5])\n"
        "AssertionError: Lists differ: [-1] != [5]\n"
        "First differing element 0:\n-1\n5\n- [-1]\n+ [5]\n"
        "1 failed, 3 passed"
    )


def rendered(client, messages):
    body = {"messages": [{"role": "system", "content": "You are pool."}, *messages], "tools": TOOLS}
    return client.post("/apply-template", json=body).json()["prompt"]


def call(name, arguments):
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": "Hm.",
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
    }


def result(text):
    return {"role": "tool", "tool_call_id": "c", "content": text}


START = (
    "<|im_start|>user\nfix it\nFAIL test_add\ntest_calc.py:7: self.assertEqual(add([2], [3]), [5])\n"
    "AssertionError: Lists differ: [-1] != [5]\n1 failed, 3 passed\n<|im_end|>"
)


def test_the_template_keeps_the_task_and_three_lines_of_evidence(client):
    first = first_message(Red, "fix it")
    first["content"] = "<repository>\ncalc.py\n</repository>\n\n" + first["content"]
    assert rendered(client, [first]) == START + "<|im_start|>assistant\n"


def test_the_template_keeps_the_function_that_the_failing_test_calls(client):
    source = "1\tdef sub(a, b):\n2\t    return a\n3\t\n4\t\n5\tdef add(a, b):\n6\t    return a - b\n7\t\n8\t\n9\tx = 1"
    read = [first_message(Red, "fix it"), call("read", '{"path": "calc.py"}'), result(source)]
    assert rendered(client, read) == (
        START
        + "<|im_start|>assistant\nHm.<tool_call>\n<function=read>\n<parameter=path>\ncalc.py\n</parameter>\n"
        "</function>\n</tool_call><|im_end|><|im_start|>tool\ndef add(a, b):\n    return a - b\n<|im_end|>"
        "<|im_start|>assistant\n"
    )


def test_the_template_shows_one_failing_function_at_a_time(client):
    class Two(Red):
        text = (
            "FAIL test_add (test_calc.TestCalc.test_add)\ntest_calc.py:7: self.assertEqual(add(2, 3), 5)\n"
            "AssertionError: -1 != 5\nERROR test_sub (test_calc.TestCalc.test_sub)\n"
            "test_calc.py:9: self.assertEqual(sub(2, 3), 5)\ncalc.py:2: return a\nNameError: name 'a' is not defined\n"
            "FAIL test_add_2 (test_calc.TestCalc.test_add_2)\ntest_calc.py:11: self.assertEqual(add(1, 1), 2)\n"
            "AssertionError: 0 != 2\n3 failed"
        )

    assert rendered(client, [first_message(Two, "fix it")]) == (
        "<|im_start|>user\nfix it\nFAIL test_add\ntest_calc.py:7: self.assertEqual(add(2, 3), 5)\n"
        "AssertionError: -1 != 5\nFAIL test_add_2\ntest_calc.py:11: self.assertEqual(add(1, 1), 2)\n"
        "AssertionError: 0 != 2\n3 failed\n<|im_end|><|im_start|>assistant\n"
    )


def test_the_template_shortens_other_results(client):
    texts = {
        "edited calc.py at line 5": "edited",
        "error: old text not found in calc.py; nearest is line 2: '    return a'; copy it exactly as read shows it": (
            "error: old text not found\nreturn a"
        ),
        "4 passed": "4 passed\n",
        "1\timport os\n2\tprint(os)": "import os\nprint(os)\n",
    }
    for text, short in texts.items():
        messages = [first_message(Red, "fix it"), call("edit", "{}"), result(text)]
        assert rendered(client, messages).endswith(
            f"<|im_start|>tool\n{short}<|im_end|><|im_start|>assistant\n"
        )


def test_a_round_of_red_checks_is_evidence_again(client):
    messages = [first_message(Red, "fix it"), {"role": "assistant", "content": "Done."}, still_failing(Red)]
    evidence = START.replace("fix it\n", "")
    assert rendered(client, messages).endswith(f"Done.<|im_end|>{evidence}<|im_start|>assistant\n")


@pytest.mark.slow
def test_it_repairs_most_unseen_instances(client):
    random = Random("slow test")
    attempts = [Attempt(client, make_instance(random, "iid")) for _ in range(40)]
    rate = sum(attempt.run() for attempt in attempts) / len(attempts)
    assert rate > 0.8 - 3 * math.sqrt(0.8 * 0.2 / 40)
