"""The corpus: no case is ever applied wrongly, and most are applied."""

from collections import Counter

from tests.edits.corpus_cases import cases, outcome


def test_nothing_is_applied_wrongly_and_most_is_applied():
    all_cases = list(cases())
    results = [(case, *outcome(case)) for case in all_cases]
    assert len(all_cases) >= 200
    wrong = [case.name for case, result, _ in results if result == "wrong"]
    assert wrong == []
    counted = Counter(result for _, result, _ in results)
    assert counted["landed"] > 0.8 * len(all_cases), counted
    # Each step of the ladder is needed by some case.
    steps = {step for _, result, step in results if result == "landed"}
    assert {
        "exact",
        "line_ends",
        "indentation",
        "lookalikes",
        "escapes",
        "line_numbers",
        "blank_lines",
    } <= steps
    assert {"elided", "similar"} <= steps
