"""What it saves to run the affected tests first, on the suites of real projects.

    python -m benchmarks.affected [--project sqlparse|packaging] [--python INTERPRETER]

An edit goes as edits go: the project is broken in one place, two attempts do not mend it, the third does. *Always
everything* runs the whole suite after each attempt; the last of these is the verdict. *Affected first* runs after
each attempt the stages of `poolcli.verdict.affected`, each only when the one before passed, and the whole suite once
at the end. Seconds are user + system time, so that another job on the machine does not count; the whole suite is
measured on the mended project, three times where it is quick, and counts as the median. What it takes to find the
order (reading the imports anew after each edit) is in.

The sources come from the package index; INTERPRETER needs pytest and what the suite imports.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from poolcli.verdict.affected import order, start_of
from poolcli.verdict.imports import ImportCache, build

#: Seconds for one run of a suite: a broken parser may never end.
LIMIT = 900
#: More than these ids are given to pytest as their files: a command has an end.
IDS = 300


@dataclass(frozen=True)
class Edit:
    """What the file says when it is right, and what it said before and after the attempts that did not help."""

    name: str
    path: str
    right: str
    broken: tuple[str, str, str]


@dataclass(frozen=True)
class Project:
    """A source release with its tests. `repeat` is how often the whole suite is measured.

    `without` are test files that are left out of everything.
    """

    version: str
    path: str
    repeat: int
    edits: tuple[Edit, ...]
    without: tuple[str, ...] = ()


PROJECTS = {
    "sqlparse": Project(
        "0.5.1",
        "",
        3,
        (
            Edit(
                "CASE in a BEGIN block splits the statement (0.5.1)",
                "sqlparse/engine/statement_splitter.py",
                "            if unified == 'CASE':\n                self._in_case = True\n",
                (
                    "",
                    "            if unified == 'CASE':\n                self._in_case = False\n",
                    "            if unified == 'case':\n                self._in_case = True\n",
                ),
            ),
            Edit(
                "a comment's following whitespace is grouped with it (0.5.1)",
                "sqlparse/engine/grouping.py",
                "lambda tk: imt(tk, t=T.Comment) or tk.is_newline, idx=tidx)",
                (
                    "lambda tk: imt(tk, t=T.Comment) or tk.is_whitespace, idx=tidx)",
                    "lambda tk: imt(tk, t=T.Comment) or tk.is_group, idx=tidx)",
                    "lambda tk: imt(tk, t=T.Comment) or tk.is_whitespace or tk.is_newline, idx=tidx)",
                ),
            ),
            Edit(
                "quoted names keep their quotes",
                "sqlparse/utils.py",
                "if val[0] in ('\"', \"'\", '`') and val[0] == val[-1]:",
                (
                    'if val[0] in ("\'",) and val[0] == val[-1]:',
                    "if val[0] in (\"'\", '`') and val[0] == val[-1]:",
                    "if val[0] in ('\"', \"'\") and val[0] != val[-1]:",
                ),
            ),
        ),
    ),
    "packaging": Project(
        "26.3",
        "src",
        1,
        (
            Edit(
                "a marker's `and` binds tighter than `or`",
                "src/packaging/markers.py",
                "return any(all(item) for item in groups)",
                (
                    "return all(any(item) for item in groups)",
                    "return any(any(item) for item in groups)",
                    "return all(all(item) for item in groups)",
                ),
            ),
            Edit(
                "names are normalised: runs of -, _ and . become one -",
                "src/packaging/utils.py",
                'value = name.lower().replace("_", "-").replace(".", "-")',
                (
                    'value = name.lower().replace("_", "-")',
                    'value = name.lower().replace(".", "-")',
                    'value = name.replace("_", "-").replace(".", "-")',
                ),
            ),
            Edit(
                "platform names are normalised",
                "src/packaging/tags.py",
                'return string.replace(".", "_").replace("-", "_").replace(" ", "_")',
                (
                    'return string.replace(".", "_").replace(" ", "_")',
                    'return string.replace("-", "_").replace(" ", "_")',
                    'return string.replace(".", "-").replace(" ", "_")',
                ),
            ),
        ),
        # 51,523 cases of versions and as many of what is built on them: minutes, and no edit here touches them.
        ("tests/test_version.py", "tests/test_specifiers.py", "tests/test_ranges.py", "tests/property"),
    ),
}


def cpu() -> float:
    """User and system time of this process and of all that it waited for, in seconds."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Suite:
    """A project's tests, and what running them costs."""

    def __init__(self, root: Path, path: str, python: str, without: tuple[str, ...]) -> None:
        self.root, self.path, self.python, self.without = root, path, python, without
        self.seconds: dict[str, float] = {}
        self.start = self.clock = 0.0

    def run(self, tests: Sequence[str] = ()) -> tuple[dict[str, str], float]:
        """The outcomes of these tests (all: none given), and the seconds. Exits when nothing ran.

        Sets what `stages` goes by: the wall time of each test, and what came before the first.
        """
        chosen = list(tests)
        if len(chosen) > IDS:
            chosen = list(dict.fromkeys(test.partition("::")[0] for test in chosen))
        report = self.root / ".report.xml"
        report.unlink(missing_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": self.path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
        }
        argv = [self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
        argv += [f"--ignore={path}" for path in self.without]
        argv += ["-o", "junit_family=xunit1", f"--junitxml={report}", *(chosen or ["tests"])]
        start, clock = cpu(), time.perf_counter()
        done = subprocess.run(
            argv, cwd=self.root, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT
        )
        seconds, clock = cpu() - start, time.perf_counter() - clock
        if not report.exists():
            sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
        outcomes, self.seconds = {}, {}
        for case in ElementTree.parse(report).iter("testcase"):
            file, classes = case.get("file", ""), case.get("classname", "").split(".")
            inside = classes[len(Path(file).parts) :]
            bad = case.find("failure") is not None or case.find("error") is not None
            test = "::".join((file, *inside, case.get("name", "")))
            outcomes[test] = "failed" if bad else "passed"
            self.seconds[test] = float(case.get("time", 0))
        self.clock = clock
        self.start = start_of(clock, sum(self.seconds.values()), few=bool(tests))
        if not outcomes:
            sys.exit(done.stdout[-2000:])
        return outcomes, seconds


def files(root: Path) -> list[str]:
    """The project's files, as git would list them."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.suffix == ".py")


def loop(suite: Suite, edit: Edit, whole: float) -> tuple[float, list[str]]:
    """The seconds of the loop with affected tests first, and a word on each attempt."""
    path = suite.root / edit.path
    right = path.read_text()
    if right.count(edit.right) != 1:
        sys.exit(f"{edit.path} does not hold once: {edit.right}")
    path.write_text(right.replace(edit.right, edit.broken[0]))
    outcomes, _ = suite.run()
    tests, seconds, start, clock = list(outcomes), suite.seconds, suite.start, suite.clock
    failed = [test for test, outcome in outcomes.items() if outcome == "failed"]
    if not failed:
        sys.exit(f"{edit.name}: no test notices")
    cache, total, said = ImportCache(), 0.0, []
    build(suite.root, files(suite.root), cache)  # the first message of a run is made with it at hand
    for text in (*edit.broken[1:], edit.right):
        path.write_text(right.replace(edit.right, text))
        began = cpu()
        graph = build(suite.root, files(suite.root), cache)
        stages = order(tests, [edit.path], failed, graph).stages(seconds=seconds, start=start, whole=clock)
        total += cpu() - began
        ran, failed_now = [], []
        for stage in stages:
            outcomes, took = suite.run(stage)
            total += took
            start = suite.start
            ran.append(str(len(stage)))
            failed_now = [test for test, outcome in outcomes.items() if outcome == "failed"]
            if failed_now:
                # What failed since everything ran stays suspect, also when it passes in between.
                failed = list(dict.fromkeys((*failed, *failed_now)))
                break
        if not stages:
            # Not worth it here: everything is run, and on the last attempt that is the verdict.
            ran.append("all")
            total += whole if text != edit.right else 0
        elif text != edit.right and not failed_now:
            # Everything near passes, and it is wrong all the same: the verdict finds that out.
            ran.append("all red")
            total += whole
        said.append("+".join(ran) + (" red" if failed_now else ""))
    return total + whole, said


def fetch(name: str, version: str, folder: Path) -> Path:
    """The unpacked source release."""
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    subprocess.run([*argv, "--no-binary", name, "--dest", str(folder), f"{name}=={version}"], check=True)
    with tarfile.open(next(folder.glob(f"{name}-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"{name}-{version}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", choices=PROJECTS, default="sqlparse")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--sources", type=Path, help="an unpacked source release, instead of fetching it")
    options = parser.parse_args()
    project = PROJECTS[options.project]
    with tempfile.TemporaryDirectory() as folder:
        if options.sources:
            import shutil

            root = Path(folder, options.project)
            shutil.copytree(options.sources, root)
        else:
            root = fetch(options.project, project.version, Path(folder))
        suite = Suite(root, project.path, options.python, project.without)
        runs = [suite.run() for _ in range(project.repeat)]
        whole = statistics.median(seconds for _, seconds in runs)
        print(f"{options.project} {project.version}: {len(runs[0][0])} tests, {whole:.2f} s")
        print(f"{'edit':60} {'everything':>10} {'affected':>9} {'ratio':>6}  tests run by attempt")
        ratios = []
        for edit in project.edits:
            took, said = loop(suite, edit, whole)
            everything = whole * len(edit.broken)
            ratios.append(took / everything)
            print(f"{edit.name:60} {everything:8.2f} s {took:7.2f} s {ratios[-1]:6.2f}  {', '.join(said)}")
        print(f"{'all':60} {'':10} {'':9} {statistics.mean(ratios):6.2f}")


if __name__ == "__main__":
    main()
