"""Reads the output of Perl's `prove`: a TAP stream per file with `-v`, else only how each file ended."""

from __future__ import annotations

import re

from poolcli.verdict.reports import tap
from poolcli.verdict.reports.collecting import Collector
from poolcli.verdict.results import BAD, Results

#: `t/a.t .. ok`, `t/a.t .. ` before its stream.
_FILE = re.compile(r"([^\s(]\S*[./]\S*) \.{2,} ?(.*)\Z")
_END = re.compile(r"^Files=[0-9]+, Tests=([0-9]+),", re.M)
_PARSE_ERROR = re.compile(r"^(\S.*) \(Wstat: ([0-9]+)", re.M)
_DONE = re.compile(r"(?:ok|Dubious, test returned .*|Failed [0-9]+/[0-9]+ subtests|skipped: .*)\s*\Z")


def parse(output: str, root: str) -> Results | None:
    """The cases, or None when this is not prove's output."""
    if "\nResult: " not in output and not _END.search(output) and " .." not in output:
        return None
    collector = Collector(root, "prove")
    running = ""
    current = ""
    body: list[str] = []
    sections: list[tuple[str, str, list[str]]] = []
    for line in output.split("\n"):
        if line.startswith("Test Summary Report"):
            break
        if (
            " .." in line
            and len(line) < 2000
            and (match := _FILE.match(line))
            and not line.startswith((" ", "#"))
        ):
            current, body = match[1], []
            sections.append((current, match[2].strip(), body))
        elif current:
            body.append(line)
    if not sections:
        return None
    died = {name: int(state[:9]) for name, state in _PARSE_ERROR.findall(output)}
    for name, state, body in sections:
        while body and not body[-1].strip():
            body.pop()
        # The file as a whole is a case too: its plan can be missed and its exit code be bad without a failed test.
        last = next((line for line in [state, *body] if _DONE.match(line)), "")
        if "ok" in body:  # prove's own word on the file; what the next one says on stderr can stand below it
            body = [line for line in body if line != "ok"]
            last = "ok"
        found = tap.parse("\n".join(body), root, prefix=name, source="prove")
        bad = 0
        for case in found.cases.values() if found else ():
            collector.add(case.id, case.outcome, case.text, case.seconds, name)
            bad += case.outcome in BAD
        why = [line for line in body if not line.startswith(("ok ", "1.."))]
        if last.startswith("skipped"):
            collector.add(name, "skipped", last, file=name)
        elif last == "ok":
            collector.add(name, "passed", file=name)
        elif last or name in died:
            signal = died.get(name, 0) & 127
            if signal:
                why.append(f"killed by signal {signal}")
            broken = signal or (found is not None and found.problem)
            collector.add(name, "error" if broken else "failed", "\n".join(why), file=name)
        else:
            running = (found and found.hung) or name
    ended = "\nResult: " in output or _END.search(output) is not None
    problem = "" if ended else "prove did not get to its summary: the run broke off"
    return collector.results(problem, "" if ended else running)
