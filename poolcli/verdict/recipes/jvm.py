"""Maven and Gradle: both leave one XML file per test class somewhere below each module.

The report is a folder here. Copies get the module's path into their names: two modules may test a class of one name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from poolcli.verdict.recipes.shell import Way, quoted


def _collected(command: str, report: str, found: str) -> str:
    """The command, then the files that `find` is told about copied into the folder; the exit code is kept."""
    copy = 'cp "$1" "$0/$(printf %s "$1" | tr / _)"'
    # A file written within the same tick of the clock would not count as newer than the mark.
    return (
        f"mkdir -p {report} && touch {report}/.began; sleep 0.1; {command}; code=$?; "
        f"find . {found} -exec sh -c '{copy}' {report} {{}} \\;; (exit $code)"
    )


def _maven_report(command: str, report: str) -> str:
    # Only what this run wrote: classes that are gone leave their files of earlier runs behind.
    where = (
        "-type f \\( -path '*/surefire-reports/TEST-*.xml' -o -path '*/failsafe-reports/TEST-*.xml' \\) "
        f"-newer {report}/.began"
    )
    return _collected(f"{command} --fail-at-end", report, where)


def _gradle_report(command: str, report: str) -> str:
    # Gradle removes stale files itself, and writes none when nothing changed.
    return _collected(f"{command} --continue", report, "-type f -path '*/build/test-results/*/TEST-*.xml'")


def _classes(tests: Sequence[str]) -> list[tuple[str, str]]:
    """Class and method of each test, '' for a whole class. Files stand for their classes."""
    found = []
    for test in tests:
        if test.endswith((".java", ".kt", ".groovy")):
            path = re.sub(r"^.*?src/[^/]+/(?:java|kotlin|groovy)/", "", test)
            found.append((path.rpartition(".")[0].replace("/", "."), ""))
            continue
        name = re.sub(r"[(\[{].*$", "", test).strip()  # parameters are chosen by the method as a whole
        owner, _, method = name.replace(" > ", ".").replace("#", ".").rpartition(".")
        # `package.TestClass` alone is a class: methods begin with a small letter.
        found.append((name, "") if method[:1].isupper() or not owner else (owner, method))
    return sorted(set(found))


def _maven_select(command: str, tests: Sequence[str]) -> str:
    methods: dict[str, list[str]] = {}
    for owner, method in _classes(tests):
        methods.setdefault(owner, []).append(method)
    names = [owner if "" in mine else f"{owner}#{'+'.join(mine)}" for owner, mine in sorted(methods.items())]
    # Modules without any of them must not fail for it; the property was renamed in Surefire 3.
    calm = "-DfailIfNoTests=false -Dsurefire.failIfNoSpecifiedTests=false"
    return f"{command} -Dtest={quoted(','.join(names))} {calm}"


def _gradle_select(command: str, tests: Sequence[str]) -> str:
    names = [f"{owner}.{method}" if method else owner for owner, method in _classes(tests)]
    return " ".join([command, *(f"--tests {quoted(name)}" for name in names)])


WAYS = {
    "maven": Way(_maven_report, _maven_select),
    "gradle": Way(_gradle_report, _gradle_select),
}
