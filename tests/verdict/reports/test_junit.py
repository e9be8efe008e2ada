"""JUnit XML of every dialect, and as an attacker or a dying runner would leave it."""

from __future__ import annotations

import os

import pytest

from poolcli.verdict.reports import read_report
from poolcli.verdict.results import Results, holds
from tests.verdict.reports.running import outcomes


def read(tmp_path, text: str | bytes) -> Results:
    path = tmp_path / "r.xml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    results = read_report("junit", path, root=str(tmp_path))
    assert results is not None
    return results


DIALECTS = {
    "gradle": (
        '<testsuite name="demo.CalcTest" tests="2"><properties/>'
        '<testcase name="adds()" classname="demo.CalcTest" time="1,234.5"/>'
        '<testcase name="adds(int)[1]" classname="demo.CalcTest"><failure message="no">no\n at x</failure></testcase>'
        "<system-out><![CDATA[<testcase name='fake'/>]]></system-out></testsuite>",
        {"demo.CalcTest.adds": "passed", "demo.CalcTest.adds(int)[1]": "failed"},
    ),
    "surefire": (
        '<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="demo.CalcTest">'
        '<testcase name="a" classname="demo.CalcTest"><error type="X">boom</error><system-out>o</system-out></testcase>'
        '<testcase name="b" classname="demo.CalcTest"><flakyFailure message="f"/></testcase>'
        '<testcase name="" classname="demo.Broken"><error>init</error></testcase>'
        '<testcase name="c" classname="demo.CalcTest"><skipped message="later"/></testcase></testsuite>',
        {
            "demo.CalcTest.a": "error",
            "demo.CalcTest.b": "passed",
            "demo.Broken": "error",
            "demo.CalcTest.c": "skipped",
        },
    ),
    "nextest": (
        '<testsuites name="nextest-run"><testsuite name="demo"><testcase name="tests::ok" classname="demo"/>'
        '<testcase name="tests::bad" classname="demo"><failure type="test failure">x</failure><rerunFailure>y'
        "</rerunFailure></testcase></testsuite></testsuites>",
        {"demo.tests::ok": "passed", "demo.tests::bad": "failed"},
    ),
    "vitest": (
        '<testsuites name="vitest tests"><testsuite name="t/a.test.ts">'
        '<testcase classname="t/a.test.ts" name="suite &gt; ok"/>'
        '<testcase classname="t/a.test.ts" name="suite &gt; ok"/>'
        '<testcase classname="t/a.test.ts" name="sk"><skipped/></testcase></testsuite></testsuites>',
        {
            "t/a.test.ts > suite > ok": "passed",
            "t/a.test.ts > suite > ok (2)": "passed",
            "t/a.test.ts > sk": "skipped",
        },
    ),
    "jest-junit": (
        '<testsuites name="jest tests"><testsuite name="suite">'
        '<testcase classname="suite ok" name="suite ok"/><testcase classname=" top" name=" top"/>'
        "</testsuite></testsuites>",
        {"suite ok": "passed", "top": "passed"},
    ),
    "mocha": (
        'what a test printed\n<testsuite name="Mocha Tests">'
        '<testcase classname="suite" name="ok" file="{root}/m/a.js"/>'
        '<testcase classname="" name="top" file="{root}/m/a.js"/></testsuite>',
        {"m/a.js > suite > ok": "passed", "m/a.js > top": "passed"},
    ),
    "rspec": (
        '<testsuite name="rspec"><testcase classname="spec.a_spec" name="Calc adds" '
        'file="./spec/a_spec.rb"/></testsuite>',
        {"spec/a_spec.rb > Calc adds": "passed"},
    ),
    "phpunit risky": (
        '<testsuites><testsuite name="CalcTest" file="{root}/t/CalcTest.php"><testcase name="testR" class="CalcTest" '
        'classname="CalcTest" file="{root}/t/CalcTest.php"><error type="PHPUnit\\Framework\\RiskyTestError">none'
        "</error></testcase></testsuite></testsuites>",
        {"CalcTest.testR": "passed"},
    ),
    "ctest": (
        '<testsuite name="(empty)"><testcase name="a" classname="a" status="fail"><system-out>why</system-out>'
        "</testcase>"
        '<testcase name="b" classname="b" status="disabled"/><testcase name="c" classname="c" status="notrun">'
        '<skipped message="Unable to find executable"/></testcase></testsuite>',
        {"a": "failed", "b": "skipped", "c": "error"},
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(tmp_path, dialect):
    text, expected = DIALECTS[dialect]
    results = read(tmp_path, text.replace("{root}", str(tmp_path)))
    assert outcomes(results) == expected and results.problem == ""
    assert str(tmp_path) not in str(results)


def test_pytest_without_its_files_at_hand(tmp_path):
    text = (
        '<testsuites name="pytest tests"><testsuite name="pytest">'
        '<testcase classname="tests.test_a.TestB" name="test_c[x.y]"/>'
        '<testcase classname="" name="tests.test_broken"><error message="collection failure">E</error></testcase>'
        "</testsuite></testsuites>"
    )
    assert outcomes(read(tmp_path, text)) == {
        "tests/test_a.py::TestB::test_c[x.y]": "passed",
        "tests/test_broken.py": "error",
    }


def test_a_folder_is_read_in_order_and_links_are_left_alone(tmp_path):
    for folder, name in (
        ("b", "TEST-x.xml"),
        ("a", "TEST-x.xml"),
        ("a", "other.xml"),
        (".git", "TEST-y.xml"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        case = f'<testsuite name="s"><testcase classname="{folder}" name="t"/></testsuite>'
        (tmp_path / folder / name).write_text(case)
    (tmp_path / "link").symlink_to("/")
    results = read_report("junit", tmp_path, root=str(tmp_path))
    assert results is not None and list(results.cases) == ["a.t", "b.t"]
    assert read_report("junit", tmp_path / "absent", root=str(tmp_path)) is None


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">' + "".join(
    f'<!ENTITY {chr(n + 1)} "{f"&{chr(n)};" * 8}">' for n in range(98, 118)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB + ']><testsuite><testcase name="&v;"/></testsuite>', "document type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuite/>', "document type"),
        ("<testsuite>" * 200 + "</testsuite>" * 200, "nested"),
        ("<html><body/></html>", "no JUnit report"),
        ('<?xml version="1.0" encoding="nonsense"?><testsuite/>', "encoding"),
        ("not xml", "broken"),
        ("<testsuite><testcase name='a'>&undefined;</testcase></testsuite>", "broken"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    results = read(tmp_path, text)
    assert not results.cases and words in results.problem and not results.judged


def test_a_broken_document_gives_the_cases_that_are_whole(tmp_path):
    whole = (
        '<testsuite name="s">'
        + "".join(f'<testcase classname="c" name="t{n}"/>' for n in range(9))
        + '<testcase classname="c" name="last"><failure>x</failure></testcase></testsuite>'
    )
    for end in range(len(whole)):
        results = read_report_of(tmp_path, whole[:end])
        if results is not None:
            # A self-closed case counts from its last character on.
            assert len(results.cases) == whole[:end].count("/>") + whole[:end].count("</testcase>")
            assert results.problem
    assert read(tmp_path, whole).problem == ""


def read_report_of(tmp_path, text):
    (tmp_path / "r.xml").write_text(text)
    return read_report("junit", tmp_path / "r.xml", root=str(tmp_path))


def test_forbidden_characters_and_colours_do_not_end_a_report(tmp_path):
    text = (
        b'<testsuite name="s"><testcase classname="c" name="a\x00b"><failure message="\x1b[31mred\x1b[0m">'
        b"\x1b[1mbold\x1b[0m &#x1b;[32mgreen&#27;[0m &#x0;\x08</failure></testcase></testsuite>"
    )
    results = read(tmp_path, text)
    assert results.problem == "" and outcomes(results) == {"c.a?b": "failed"}
    assert results.cases["c.a?b"].text == "red\nbold green ??"


def test_texts_are_bounded_and_without_the_root(tmp_path):
    body = "\n".join(f"{tmp_path}/src/a.py:{n}: {'x' * 1000}" for n in range(500))
    text = f'<testsuite name="s"><testcase classname="c" name="{"n" * 9000}"><failure>{body}</failure></testcase>'
    text += "</testsuite>"
    (case,) = read(tmp_path, text).cases.values()
    assert len(case.text) < 40 * 300 and "more lines" in case.text and str(tmp_path) not in case.text
    assert len(case.id) <= 1000


def test_what_stands_for_a_file_that_could_not_be_loaded():
    assert holds("tests/test_a.py", "tests/test_a.py::test_b")
    assert holds("example.com/a [build failed]", "example.com/a.TestB")
    assert not holds("tests/test_a.py", "tests/test_a.py")
    assert not holds("tests/test_a.py", "tests/test_abc.py::test_b")


@pytest.mark.parametrize("made", ["fifo", "link", "file"])
def test_a_report_that_is_no_file(tmp_path, made):
    report, whole = tmp_path / "report", tmp_path / "whole"
    whole.write_text('<testsuite name="s"><testcase classname="a" name="t"/></testsuite>')
    if made == "fifo":
        os.mkfifo(report)
    elif made == "link":
        report.symlink_to(whole)
    else:
        whole.rename(report)
    assert (read_report("junit", report, root=str(tmp_path)) is not None) == (made == "file")
