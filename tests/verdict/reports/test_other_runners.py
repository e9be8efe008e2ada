"""The runners of other languages, really run where the machine has them: results equal to their own counts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.verdict.projects import write
from tests.verdict.reports.running import counts, outcomes, run

NODE = {
    "test/a.test.js": """\
const test = require('node:test'); const {describe, it} = test; const assert = require('node:assert');
test('adds', () => { assert.equal(1, 1) });
test('fails', () => { assert.equal(1, 2) });
test('later', {todo: true}, () => { assert.equal(1, 2) });
test('skipped # one', {skip: 'why not'}, () => {});
describe('suite', () => { it('same', () => {}); it('same', () => { throw new Error('boom') });
  describe('deep', () => { it('x', () => { console.log('ok 1 - noise') }) }) });
test('parent', async t => { await t.test('child', () => {}) });
""",
    "test/b.test.js": "require('node:test')('adds', () => {});\n",
    "test/c.test.js": "throw new Error('at load');\n",
}
NODE_EXPECTED = {
    "adds": "passed",
    "fails": "failed",
    "later": "xfailed",
    "skipped # one": "skipped",
    "suite > same": "passed",
    "suite > same (2)": "failed",
    "suite > deep > x": "passed",
    "parent > child": "passed",
    "parent": "passed",
    "adds (2)": "passed",
    "test/c.test.js": "failed",
}


def test_node_in_tap_junit_and_for_people(tmp_path):
    write(tmp_path, NODE)
    reporters = [
        part
        for kind, file in (("tap", "r.tap"), ("junit", "r.xml"), ("spec", "stdout"))
        for part in (f"--test-reporter={kind}", f"--test-reporter-destination={file}")
    ]
    done = run(tmp_path, "node", "--test", *reporters, "test/a.test.js", "test/b.test.js", "test/c.test.js")
    tap = done.report("tap", "r.tap")
    # In the other two a test that has tests inside cannot be told from a suite.
    without = {name: outcome for name, outcome in NODE_EXPECTED.items() if name != "parent"}
    assert outcomes(tap) == NODE_EXPECTED
    assert outcomes(done.report("junit", "r.xml")) == without
    log = done.log("node-test")
    assert outcomes(log) == without and log.problem == ""
    said = dict(re.findall(r"^# (\w+) ([0-9]+)$", (tmp_path / "r.tap").read_text(), re.M))
    assert int(said["pass"]) == counts(tap)["passed"] and int(said["fail"]) == counts(tap)["failed"]
    assert "boom" in tap.cases["suite > same (2)"].text and "duration" not in tap.cases["fails"].text
    assert str(tmp_path) not in str(tap) + str(log)


def test_a_hang_in_node_is_no_success(tmp_path):
    write(tmp_path, {"a.test.js": "const t=require('node:test'); t('a',()=>{}); t('hangs',()=>{for(;;);});"})
    done = run(tmp_path, "node", "--test", "--test-reporter=tap", "a.test.js", seconds=2)
    results = done.log("node-test")
    assert done.timed_out and not results.judged and "time was over" in results.problem


GO = {
    "go.mod": "module example.com/demo\ngo 1.19\n",
    "a_test.go": """\
package demo
import ("fmt"; "testing")
func TestOk(t *testing.T) { fmt.Print("no line end") }
func TestBad(t *testing.T) { t.Errorf("want %d", 1) }
func TestSkip(t *testing.T) { t.Skip("later") }
func TestSub(t *testing.T) { t.Run("one", func(t *testing.T) {})
  t.Run("two words", func(t *testing.T) { t.Fatal("no") }) }
""",
    "sub/b_test.go": 'package sub\nimport "testing"\nfunc TestPanic(t *testing.T) { panic("x") }\n',
    "broken/c_test.go": 'package broken\nimport "testing"\nfunc TestX(t *testing.T) { undefined() }\n',
    "dies/d_test.go": 'package dies\nimport ("os"; "testing")\nfunc TestExit(t *testing.T) { os.Exit(0) }\n',
    "none/n.go": "package none\n",
}
GO_EXPECTED = {
    "example.com/demo.TestOk": "passed",
    "example.com/demo.TestBad": "failed",
    "example.com/demo.TestSkip": "skipped",
    "example.com/demo.TestSub": "failed",
    "example.com/demo.TestSub/one": "passed",
    "example.com/demo.TestSub/two_words": "failed",
    "example.com/demo/sub.TestPanic": "failed",
    "example.com/demo/broken [build failed]": "error",
    "example.com/demo/dies.TestExit": "failed",
}


@pytest.mark.slow
def test_go_in_json_and_for_people(tmp_path):
    write(tmp_path, GO)
    done = run(tmp_path, "go", "test", "-json", "./...")
    (tmp_path / "r.json").write_text(done.output)
    results = done.report("go-json", "r.json")
    assert outcomes(results) == GO_EXPECTED and results.problem == ""
    assert "a_test.go:4: want 1" in results.cases["example.com/demo.TestBad"].text
    log = run(tmp_path, "go", "test", "-v", "./...").log("go")
    assert outcomes(log) == GO_EXPECTED and log.problem == ""
    shutil.rmtree(tmp_path / "sub")
    write(tmp_path, {"sub/b_test.go": 'package sub\nimport "testing"\nfunc TestA(t *testing.T) {}\n'})
    assert "names failed tests only" in run(tmp_path, "go", "test", "./sub", ".").log("go").problem


@pytest.mark.slow
def test_go_says_which_test_hangs(tmp_path):
    write(
        tmp_path,
        {
            "go.mod": GO["go.mod"],
            "a_test.go": 'package demo\nimport ("testing"; "time")\nfunc TestOk(t *testing.T) {}\n'
            "func TestHang(t *testing.T) { time.Sleep(time.Hour) }\n",
        },
    )
    run(tmp_path, "go", "vet", ".")
    done = run(tmp_path, "go", "test", "-json", "-timeout=1s", ".")
    (tmp_path / "r.json").write_text(done.output)
    results = done.report("go-json", "r.json")
    assert outcomes(results)["example.com/demo.TestOk"] == "passed"
    assert outcomes(results)["example.com/demo.TestHang"] in ("failed", "error")
    lines = [line for line in done.output.split("\n") if '"Action":"' in line]
    cut = next(at for at, line in enumerate(lines) if "test timed out" in line)
    (tmp_path / "cut.json").write_text("\n".join(lines[:cut]))  # as our own time limit would have left it
    from poolcli.verdict.reports import checked, read_report

    cut_off = read_report("go-json", tmp_path / "cut.json", root=str(tmp_path))
    assert cut_off is not None
    assert checked(cut_off, None, timed_out=True).hung == "example.com/demo.TestHang"


@pytest.mark.slow
def test_cargo_by_binary(tmp_path):
    write(
        tmp_path,
        {
            "Cargo.toml": '[package]\nname = "demo"\nversion = "0.1.0"\nedition = "2021"\n',
            "src/lib.rs": """\
/// ```
/// assert_eq!(demo::add(1, 2), 3);
/// ```
pub fn add(a: i32, b: i32) -> i32 { a + b }
#[cfg(test)]
mod tests {
    use super::*;
    #[test] fn ok() { println!("test fake ... ok"); assert_eq!(add(1, 1), 2); }
    #[test] fn bad() { println!("out of bad"); assert_eq!(add(1, 1), 3); }
    #[test] #[ignore = "slow"] fn ign() {}
    #[test] #[should_panic] fn pan() { panic!("x") }
    #[test] #[should_panic(expected = "y")] fn pan2() { panic!("x") }
}
""",
            "tests/it.rs": "#[test] fn ok() { assert_eq!(demo::add(1, 1), 2); }\n",
            "tests/dies.rs": "#[test] fn a() {}\n#[test] fn boom() { std::process::abort() }\n",
        },
    )
    done = run(tmp_path, "cargo", "test", "--offline", "--no-fail-fast", "--lib", "--test", "it")
    results = done.log("cargo")
    assert outcomes(results) == {
        "demo::tests::ok": "passed",
        "demo::tests::bad": "failed",
        "demo::tests::ign": "skipped",
        "demo::tests::pan": "passed",
        "demo::tests::pan2": "failed",
        "it::ok": "passed",
    }
    assert results.problem == "" and "out of bad" in results.cases["demo::tests::bad"].text
    assert results.cases["it::ok"].file == "tests/it.rs"
    dead = run(tmp_path, "cargo", "test", "--offline", "--test", "dies", "--", "--test-threads=1").log(
        "cargo"
    )
    assert "SIGABRT" in dead.crashed and not dead.judged
    (tmp_path / "src/lib.rs").write_text("pub fn add( {")
    broken = run(tmp_path, "cargo", "test", "--offline", "--lib").log("cargo")
    assert (
        outcomes(broken) == {"[build failed]": "error"}
        and "src/lib.rs" in broken.cases["[build failed]"].text
    )


@pytest.mark.slow
def test_ctest_in_junit_and_for_people(tmp_path):
    write(
        tmp_path,
        {
            "CMakeLists.txt": """\
cmake_minimum_required(VERSION 3.19)
project(demo NONE)
enable_testing()
add_test(NAME ok COMMAND true)
add_test(NAME "with space" COMMAND true)
add_test(NAME bad COMMAND sh -c "echo why; exit 3")
add_test(NAME seg COMMAND sh -c "kill -SEGV $$")
add_test(NAME slow COMMAND sleep 5)
set_tests_properties(slow PROPERTIES TIMEOUT 1)
add_test(NAME skipped COMMAND sh -c "exit 77")
set_tests_properties(skipped PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME nope COMMAND /nonexistent/x)
add_test(NAME dis COMMAND true)
set_tests_properties(dis PROPERTIES DISABLED TRUE)
"""
        },
    )
    run(tmp_path, "cmake", "-S", ".", "-B", "b")
    expected = {
        "ok": "passed",
        "with space": "passed",
        "bad": "failed",
        "seg": "failed",
        "slow": "failed",
        "skipped": "skipped",
        "nope": "error",
        "dis": "skipped",
    }
    report = str(tmp_path / "r.xml")
    for style in ("--output-on-failure", "-V", "-j2"):
        done = run(tmp_path, "ctest", "--test-dir", "b", "--output-junit", report, style)
        results, log = done.report("ctest-junit", "r.xml"), done.log("ctest")
        assert outcomes(results) == expected and results.problem == ""
        assert outcomes(log) == expected and log.problem == ""
        assert "why" in results.cases["bad"].text
        assert style == "-j2" or "why" in log.cases["bad"].text


def test_prove_by_file_and_test(tmp_path):
    write(
        tmp_path,
        {
            "t/a.t": "use Test::More tests => 5; ok(1,'one'); is(1,2,'two'); SKIP: { skip 'later',1; ok(1) }\n"
            "TODO: { local $TODO='not yet'; ok(0,'todo') } subtest 'sub' => sub { plan tests=>1; ok(1,'in') };\n",
            "t/b.t": "use Test::More; ok(1,'fine'); ok(1); done_testing;\n",
            "t/c.t": "use Test::More tests=>3; ok(1,'fine'); exit 0;\n",
            "t/d.t": "use Test::More tests=>3; ok(1,'fine'); kill 9,$$;\n",
        },
    )
    files = {"t/a.t": "failed", "t/b.t": "passed", "t/c.t": "error", "t/d.t": "error"}
    done = run(tmp_path, "prove", "-v", "t")
    results = done.log("prove")
    assert outcomes(results) == {
        "t/a.t > one": "passed",
        "t/a.t > two": "failed",
        "t/a.t > later": "skipped",
        "t/a.t > todo": "xfailed",
        "t/a.t > sub > in": "passed",
        "t/a.t > sub": "passed",
        "t/b.t > fine": "passed",
        "t/b.t > test 2": "passed",
        "t/c.t > fine": "passed",
        "t/d.t > fine": "passed",
        **files,
    }
    assert results.problem == "" and "signal 9" in results.cases["t/d.t"].text
    plain = outcomes(run(tmp_path, "prove", "t").log("prove"))
    assert plain.keys() == files.keys() and plain["t/b.t"] == "passed" and plain["t/c.t"] != "passed"


def test_rspec(tmp_path):
    write(
        tmp_path,
        {
            "spec/a_spec.rb": """\
RSpec.describe "Calc" do
  it("adds") { expect(1).to eq 1 }
  it("bad") { expect(1).to eq 2 }
  it("raises") { raise "boom" }
  xit("skipped") {}
  context("deep") { it { expect(1).to eq 1 }; it { expect(1).to eq 1 } }
end
"""
        },
    )
    done = run(tmp_path, "rspec", "-f", "json", "-o", "r.json", "-f", "progress")
    results = done.report("rspec-json", "r.json")
    file = "spec/a_spec.rb > Calc"
    assert outcomes(results) == {
        f"{file} adds": "passed",
        f"{file} bad": "failed",
        f"{file} raises": "error",
        f"{file} skipped": "skipped",
        f"{file} deep is expected to eq 1": "passed",
        f"{file} deep is expected to eq 1 (2)": "passed",
    }
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert summary["example_count"] == len(results.cases)
    assert summary["failure_count"] == results.count("failed", "error")
    (tmp_path / "spec/a_spec.rb").write_text("nonsense(")
    broken = run(tmp_path, "rspec", "-f", "json", "-o", "r.json").report("rspec-json", "r.json")
    assert outcomes(broken) == {"[outside of examples]": "error"}


def test_phpunit(tmp_path):
    write(
        tmp_path,
        {
            "tests/CalcTest.php": r"""<?php use PHPUnit\Framework\TestCase;
final class CalcTest extends TestCase {
  public function testOk(): void { $this->assertSame(1, 1); }
  public function testBad(): void { $this->assertSame(1, 2); }
  public function testErr(): void { throw new RuntimeException('boom'); }
  public function testSkip(): void { $this->markTestSkipped('later'); }
  /** @dataProvider d */ public function testP(int $a): void { $this->assertSame(1, $a); }
  public static function d(): array { return [[1], 'two' => [2]]; }
}
"""
        },
    )
    results = run(tmp_path, "phpunit", "--log-junit", "r.xml", "tests").report("junit", "r.xml")
    assert outcomes(results) == {
        "CalcTest.testOk": "passed",
        "CalcTest.testBad": "failed",
        "CalcTest.testErr": "error",
        "CalcTest.testSkip": "skipped",
        "CalcTest.testP with data set #0": "passed",
        'CalcTest.testP with data set "two"': "failed",
    }
    assert results.cases["CalcTest.testBad"].file == "tests/CalcTest.php"
    assert str(tmp_path) not in str(results)


def test_minitest(tmp_path):
    write(
        tmp_path,
        {
            "a_test.rb": """\
require 'minitest/autorun'
class CalcTest < Minitest::Test
  def test_ok; assert true; end
  def test_bad; assert_equal 1,2; end
  def test_err; raise 'boom'; end
  def test_skip; skip 'later'; end
end
""",
        },
    )
    expected = {
        "CalcTest#test_ok": "passed",
        "CalcTest#test_bad": "failed",
        "CalcTest#test_err": "error",
        "CalcTest#test_skip": "skipped",
    }
    results = run(tmp_path, "ruby", "a_test.rb", "-v").log("minitest")
    assert outcomes(results) == expected and results.problem == ""
    assert "Actual: 2" in results.cases["CalcTest#test_bad"].text
    quiet = run(tmp_path, "ruby", "a_test.rb").log("minitest")
    assert "counts 4 tests" in quiet.problem


@pytest.mark.slow
def test_surefire(tmp_path):
    write(
        tmp_path,
        {
            "pom.xml": """\
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>demo</groupId><artifactId>demo</artifactId><version>1</version>
<properties><maven.compiler.source>11</maven.compiler.source><maven.compiler.target>11</maven.compiler.target>
<project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>
<dependencies><dependency><groupId>org.junit.jupiter</groupId><artifactId>junit-jupiter</artifactId>
<version>VERSION</version><scope>test</scope></dependency></dependencies>
<build><plugins>
<plugin><artifactId>maven-surefire-plugin</artifactId><version>3.2.5</version></plugin>
<plugin><artifactId>maven-compiler-plugin</artifactId><version>3.13.0</version></plugin>
<plugin><artifactId>maven-resources-plugin</artifactId><version>3.3.1</version></plugin>
</plugins></build>
</project>
""".replace("VERSION", jupiter()),
            "src/test/java/demo/CalcTest.java": """\
package demo;
import org.junit.jupiter.api.*;
import org.junit.jupiter.params.*;
import org.junit.jupiter.params.provider.*;
import static org.junit.jupiter.api.Assertions.*;
class CalcTest {
  @Test void ok() {}
  @Test void bad() { assertEquals(1, 2); }
  @Test void err() { throw new RuntimeException("boom"); }
  @Test @Disabled("later") void skip() {}
  @ParameterizedTest @ValueSource(ints = {1, 2}) void p(int n) { assertEquals(1, n); }
  @Nested class In { @Test void inner() {} }
}
""",
        },
    )
    done = run(tmp_path, "mvn", "-B", "-o", "test")
    results = done.report("junit", "target/surefire-reports")
    said = re.search(
        r"^\[ERROR\] Tests run: (\d+), Failures: (\d+), Errors: (\d+), Skipped: (\d+)$", done.output, re.M
    )
    assert said is not None, done.output
    assert [
        len(results.cases),
        results.count("failed"),
        results.count("error"),
        results.count("skipped"),
    ] == [int(number) for number in said.groups()]
    assert outcomes(results)["demo.CalcTest.bad"] == "failed"
    assert outcomes(results)["demo.CalcTest$In.inner"] == "passed"
    assert results.problem == "" and str(tmp_path) not in str(results)


def jupiter() -> str:
    """A version that the local repository has: Maven is asked to work offline."""
    folder = Path("~/.m2/repository/org/junit/jupiter/junit-jupiter").expanduser()
    versions = sorted(path.parent.name for path in folder.glob("5.*/*.jar")) if shutil.which("mvn") else []
    if not versions:
        pytest.skip("no JUnit in Maven's local repository")
    return versions[0]
