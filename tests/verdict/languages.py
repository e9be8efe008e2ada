"""A tiny project for each runner: one test that passes, one that fails, one more in a file of its own."""

from __future__ import annotations

from msgspec import Struct


class Example(Struct, frozen=True):
    """`passing` and `failing` are ids as `Recipe.selecting` takes them; `names` what the report calls every test.

    `file` holds the tests `in_file` and can be asked for as a whole; '' where the runner has no files.
    """

    runner: str
    program: str
    files: dict[str, str]
    passing: str
    failing: str
    names: frozenset[str]
    alone: str
    file: str = ""
    in_file: frozenset[str] = frozenset()
    slow: bool = False
    needs: str = ""


NODE_IMPORTS = 'import { test, describe } from "node:test";\nimport assert from "node:assert";\n'
NODE_TESTS = """\
describe("calc (all)", () => {
  test("adds", () => { assert.equal(1 + 1, 2); });
  test("adds more", () => { assert.equal(1 + 1, 3); });
});
"""
JS_TESTS = """\
const assert = require("node:assert");
describe("calc (all)", () => {
  it("adds", () => { assert.equal(1 + 1, 2); });
  it("adds more", () => { assert.equal(1 + 1, 3); });
});
"""
JS_OTHER = 'const assert = require("node:assert");\nit("is other", () => { assert.ok(true); });\n'


def _javascript(runner: str, script: str, imports: str = "") -> Example:
    ending = "mjs" if imports else "js"
    tests, other = JS_TESTS, JS_OTHER
    if imports:
        tests = imports + tests.replace('const assert = require("node:assert");\n', "")
        other = imports + other.replace('const assert = require("node:assert");\n', "")
    return Example(
        runner,
        "node",
        {
            "package.json": f'{{"name": "x", "version": "1.0.0", "scripts": {{"test": "{script}"}}}}',
            f"test/calc.test.{ending}": tests,
            f"test/other.test.{ending}": other,
        },
        passing=f"test/calc.test.{ending} > calc (all) > adds",
        failing=f"test/calc.test.{ending} > calc (all) > adds more",
        names=frozenset({"adds", "adds more", "is other"}),
        alone="adds",
        file=f"test/other.test.{ending}",
        in_file=frozenset({"is other"}),
        slow=True,
        needs=runner,
    )


VITEST = 'import { describe, it } from "vitest";\nimport assert from "node:assert";\n'

EXAMPLES = (
    Example(
        "pytest",
        "python3",
        {
            "tests/test_calc.py": "import pytest\n\n\nclass TestCalc:\n"
            "    @pytest.mark.parametrize('n', [1, 'a b'])\n    def test_add(self, n):\n        assert n != 'a b'\n",
            "tests/test_other.py": "def test_other():\n    pass\n",
        },
        passing="tests/test_calc.py::TestCalc::test_add[1]",
        failing="tests/test_calc.py::TestCalc::test_add[a b]",
        names=frozenset({"test_add[1]", "test_add[a b]", "test_other"}),
        alone="test_add[1]",
        file="tests/test_other.py",
        in_file=frozenset({"test_other"}),
    ),
    Example(
        "unittest",
        "python3",
        {
            "tests/test_calc.py": "import unittest\n\n\nclass TestCalc(unittest.TestCase):\n"
            "    def test_add(self):\n        pass\n\n    def test_add_more(self):\n        self.fail()\n",
            "tests/test_other.py": "import unittest\n\n\nclass TestOther(unittest.TestCase):\n"
            "    def test_other(self):\n        pass\n",
        },
        passing="test_other.TestOther.test_other",
        failing="test_calc.TestCalc.test_add_more",
        names=frozenset({"test_add", "test_add_more", "test_other"}),
        alone="test_other",
        file="tests/test_other.py",
        in_file=frozenset({"test_other"}),
    ),
    Example(
        "node-test",
        "node",
        {
            "package.json": '{"name": "x", "scripts": {"test": "node --test test/"}}',
            "test/calc.test.mjs": NODE_IMPORTS + NODE_TESTS,
            "test/other.test.mjs": NODE_IMPORTS + 'test("is other", () => {});\n',
        },
        passing="test/calc.test.mjs > calc (all) > adds",
        failing="test/calc.test.mjs > calc (all) > adds more",
        names=frozenset({"adds", "adds more", "is other"}),
        alone="adds",
        file="test/other.test.mjs",
        in_file=frozenset({"is other"}),
    ),
    _javascript("jest", "jest"),
    _javascript("mocha", "mocha"),
    _javascript("vitest", "vitest run", VITEST),
    Example(
        "go",
        "go",
        {
            "go.mod": "module example.com/m\n\ngo 1.19\n",
            "calc/calc_test.go": 'package calc\n\nimport "testing"\n\nfunc TestAdd(t *testing.T) {}\n\n'
            'func TestAddMore(t *testing.T) { t.Fatal("no") }\n',
            "other/other_test.go": 'package other\n\nimport "testing"\n\nfunc TestOther(t *testing.T) {}\n',
        },
        passing="example.com/m/calc.TestAdd",
        failing="example.com/m/calc.TestAddMore",
        names=frozenset({"TestAdd", "TestAddMore", "TestOther"}),
        alone="TestAdd",
        file="other/other_test.go",
        in_file=frozenset({"TestOther"}),
    ),
    Example(
        "cargo",
        "cargo",
        {
            "Cargo.toml": '[package]\nname = "calc"\nversion = "0.1.0"\nedition = "2021"\n',
            "src/lib.rs": "#[cfg(test)]\nmod tests {\n    #[test]\n    fn adds() {}\n\n"
            "    #[test]\n    fn more() { panic!() }\n}\n",
            "tests/other.rs": "#[test]\nfn other() {}\n",
        },
        passing="tests::adds",
        failing="tests::more",
        names=frozenset({"tests::adds", "tests::more", "other"}),
        alone="tests::adds",
    ),
    Example(
        "maven",
        "mvn",
        {
            "pom.xml": """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>x</groupId><artifactId>calc</artifactId><version>1</version>
  <properties>
    <maven.compiler.source>17</maven.compiler.source><maven.compiler.target>17</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies><dependency>
    <groupId>org.junit.jupiter</groupId><artifactId>junit-jupiter</artifactId>
    <version>5.10.2</version><scope>test</scope>
  </dependency></dependencies>
  <build><plugins><plugin>
    <groupId>org.apache.maven.plugins</groupId><artifactId>maven-surefire-plugin</artifactId>
    <version>3.2.5</version>
  </plugin><plugin>
    <groupId>org.apache.maven.plugins</groupId><artifactId>maven-compiler-plugin</artifactId>
    <version>3.13.0</version>
  </plugin><plugin>
    <groupId>org.apache.maven.plugins</groupId><artifactId>maven-resources-plugin</artifactId>
    <version>3.3.1</version>
  </plugin></plugins></build>
</project>
""",
            ".mvn/maven.config": "-o\n",
            "src/test/java/x/CalcTest.java": "package x;\n\nimport org.junit.jupiter.api.*;\n\nclass CalcTest {\n"
            "    @Test void adds() {}\n    @Test void addsMore() { Assertions.fail(); }\n}\n",
            "src/test/java/x/OtherTest.java": "package x;\n\nimport org.junit.jupiter.api.*;\n\nclass OtherTest {\n"
            "    @Test void other() {}\n}\n",
        },
        passing="x.CalcTest.adds",
        failing="x.CalcTest.addsMore",
        names=frozenset({"adds", "addsMore", "other"}),
        alone="adds",
        file="src/test/java/x/OtherTest.java",
        in_file=frozenset({"other"}),
        slow=True,
        needs="maven",
    ),
    Example(
        "rspec",
        "rspec",
        {
            "spec/calc_spec.rb": 'RSpec.describe "Calc" do\n  it("adds") { }\n'
            '  it("adds more") { expect(1).to eq 2 }\nend\n',
            "spec/other_spec.rb": 'RSpec.describe "Other" do\n  it("is other") { }\nend\n',
        },
        passing="./spec/calc_spec.rb[1:1]",
        failing="./spec/calc_spec.rb[1:2]",
        names=frozenset({"adds", "adds more", "is other"}),
        alone="adds",
        file="spec/other_spec.rb",
        in_file=frozenset({"is other"}),
    ),
    Example(
        "minitest",
        "ruby",
        {
            "test/calc_test.rb": 'require "minitest/autorun"\n\nclass CalcTest < Minitest::Test\n'
            "  def test_add; end\n  def test_add_more; flunk; end\nend\n",
            "test/test_other.rb": 'require "minitest/autorun"\n\nclass OtherTest < Minitest::Test\n'
            "  def test_other; end\nend\n",
        },
        passing="CalcTest#test_add",
        failing="CalcTest#test_add_more",
        names=frozenset({"test_add", "test_add_more", "test_other"}),
        alone="test_add",
        file="test/test_other.rb",
        in_file=frozenset({"test_other"}),
    ),
    Example(
        "phpunit",
        "phpunit",
        {
            "tests/CalcTest.php": "<?php\nuse PHPUnit\\Framework\\TestCase;\n\nclass CalcTest extends TestCase {\n"
            "    function testAdd() { $this->assertTrue(true); }\n"
            "    function testAddMore() { $this->fail(); }\n}\n",
            "tests/OtherTest.php": "<?php\nuse PHPUnit\\Framework\\TestCase;\n\nclass OtherTest extends TestCase {\n"
            "    function testOther() { $this->assertTrue(true); }\n}\n",
        },
        passing="CalcTest::testAdd",
        failing="CalcTest::testAddMore",
        names=frozenset({"testAdd", "testAddMore", "testOther"}),
        alone="testAdd",
    ),
    Example(
        "ctest",
        "ctest",
        {
            "CMakeLists.txt": "cmake_minimum_required(VERSION 3.21)\nproject(calc NONE)\nenable_testing()\n"
            "add_test(NAME adds COMMAND true)\nadd_test(NAME adds.more COMMAND false)\n",
        },
        passing="adds",
        failing="adds.more",
        names=frozenset({"adds", "adds.more"}),
        alone="adds",
    ),
    Example(
        "prove",
        "prove",
        {
            "t/calc.t": 'use Test::More;\nok(1, "adds");\nok(0, "adds more");\ndone_testing;\n',
            "t/other.t": 'use Test::More;\nok(1, "is other");\ndone_testing;\n',
        },
        passing="t/other.t > is other",
        failing="t/calc.t > adds more",
        names=frozenset({"adds", "adds more", "is other"}),
        alone="is other",
        file="t/other.t",
        in_file=frozenset({"is other"}),
    ),
)
