"""A real project's suite, and the JavaScript runners from their registry: report and log agree, and with the counts."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.e2e.test_real_project import FIXED, PARTS, source
from tests.verdict.projects import write
from tests.verdict.reports.running import counts, outcomes, python, run

pytestmark = pytest.mark.slow


def test_sqlparse_the_report_equals_the_log(tmp_path):
    unpacked, folder = source(FIXED, tmp_path / "downloads"), tmp_path / "sqlparse"
    folder.mkdir()
    for name in PARTS:
        part = unpacked / name
        (shutil.copytree if part.is_dir() else shutil.copy)(part, folder / name)
    # A fault, so that failures are compared too.
    module = folder / "sqlparse/engine/statement_splitter.py"
    module.write_text(module.read_text().replace("self._is_create = True", "self._is_create = False"))
    done = python(folder, "pytest", "-v", "--junitxml=r.xml")
    report, log = done.report("junit", "r.xml"), done.log("pytest")
    assert report.problem == log.problem == ""
    # In pytest's report a test that passed although it was expected to fail has just passed.
    assert outcomes(report) == {
        name: "passed" if outcome == "xpassed" else outcome for name, outcome in outcomes(log).items()
    }
    found = re.search(r"(\d+) failed, (\d+) passed, (\d+) xfailed, (\d+) xpassed", done.output)
    assert found is not None, done.output[-500:]
    failed, passed, xfailed, xpassed = (int(number) for number in found.groups())
    assert counts(log) == {"failed": failed, "passed": passed, "xfailed": xfailed, "xpassed": xpassed}
    assert passed > 400 and failed > 0
    for name in report.bad:
        assert report.cases[name].text and log.cases[name].text
        assert report.cases[name].file == log.cases[name].file


JS = {
    "package.json": '{"name": "d", "version": "1.0.0", "private": true}\n',
    "jest/a.test.js": """\
describe('suite', () => { test('ok', () => {}); test('bad', () => { expect(1).toBe(2) }); test.skip('sk', () => {});
  test.todo('td'); describe('deep', () => { test('x', () => { console.log('  ✓ noise') }) }) });
test('top', () => {}); test('top', () => {});
""",
    "jest/b.test.js": "throw new Error('load')\n",
    "mocha/a.js": """\
const assert = require('assert');
describe('suite', () => { it('ok', () => {}); it('bad', () => { assert.equal(1, 2) }); it.skip('sk', () => {});
  it('pending'); describe('deep', () => { it('x', () => {}) }) });
describe('hook', () => { before(() => { throw new Error('h') }); it('never', () => {}) });
it('top', () => {});
""",
    "vitest/a.test.mjs": """\
import {describe, test, expect} from 'vitest';
describe('suite', () => { test('ok', () => {}); test('bad', () => { expect(1).toBe(2) }); test.skip('sk', () => {});
  describe('deep', () => { test('x', () => {}) }) });
test('top', () => {});
""",
}


def test_jest_vitest_and_mocha(tmp_path):
    write(tmp_path, JS)
    packages = ("jest@29", "mocha@10", "vitest@1", "jest-junit@16")
    installed = run(tmp_path, "npm", "install", "--silent", "--no-audit", "--no-fund", *packages)
    assert installed.exit_code == 0, installed.output

    done = run(tmp_path, "npx", "jest", "jest", "--verbose", "--json", "--outputFile=j.json")
    report, log = done.report("jest-json", "j.json"), done.log("jest")
    said = json.loads((tmp_path / "j.json").read_text())
    assert report.count("passed") == said["numPassedTests"] == 4
    assert report.count("failed") == said["numFailedTests"] and report.count("error") == 1
    assert outcomes(report) == outcomes(log) and report.problem == log.problem == ""
    assert "toBe" in report.cases["jest/a.test.js > suite > bad"].text
    assert "toBe" in log.cases["jest/a.test.js > suite > bad"].text

    done = run(tmp_path, "npx", "mocha", "mocha", "--reporter", "json", "--reporter-option", "output=m.json")
    report = done.report("mocha-json", "m.json")
    assert counts(report) == {"passed": 3, "failed": 1, "skipped": 2, "error": 1}
    assert counts(run(tmp_path, "npx", "mocha", "mocha").log("mocha")) == {
        "passed": 3,
        "failed": 2,
        "skipped": 2,
    }
    assert counts(run(tmp_path, "npx", "mocha", "mocha", "--reporter", "xunit").log("mocha")) == {}

    vitest = ("npx", "vitest", "run", "--reporter=verbose", "--reporter=json", "--reporter=junit")
    done = run(tmp_path, *vitest, "--outputFile.json=v.json", "--outputFile.junit=v.xml", "vitest")
    report, xml = done.report("vitest-json", "v.json"), done.report("junit", "v.xml")
    assert outcomes(report) == outcomes(xml) and report.problem == xml.problem == ""
    assert counts(report) == {"passed": 3, "failed": 1, "skipped": 1}
    log = done.log("vitest")
    assert outcomes(log).items() <= outcomes(report).items()
    assert log.problem  # its output leaves out what was skipped
