"""Reads JUnit XML: pytest, surefire and failsafe, gradle, jest-junit, vitest, node, ctest, phpunit, nextest, rspec.

There is no standard, only habits: a `<testcase>` with a name, perhaps a class and a file, inside suites that may be
nested. XML is untrusted here: a document type is refused (entities can grow without bounds), size and depth are
bounded, and a document that breaks off still gives the cases that were whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from msgspec import Struct

from poolcli.verdict.reports.collecting import LOOKED_AT, Collector, number, read_bytes, relative
from poolcli.verdict.results import Results

#: Elements inside one another: suites nest as deep as people indent code.
DEEPEST = 64
#: Files of one folder of reports; surefire writes one per class.
MOST_FILES = 10_000

#: What XML 1.0 forbids and runners write all the same. Colours are kept, in disguise, to be taken out as colours.
_FORBIDDEN = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f]|&#(?:x0*(?:1a|1[cdef]|[0-8bcef]|1[0-9])|[0-8]);", re.I
)
_ESCAPE = re.compile(rb"\x1b|&#(?:x0*1b|0*27);", re.I)
_DISGUISE = "\ue01b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
#: File names that say "the tests are named as in JavaScript": file > suites > test.
_SCRIPT = re.compile(r"\.[cm]?[jt]sx?\Z")
_PRUNED = frozenset({".git", "node_modules", ".venv", "venv"})
#: Elements whose text says why a case did not pass.
_WHY = ("failure", "error", "skipped", "rerunFailure", "rerunError")
#: PHPUnit calls a test without assertions an error in its report, and passed in its exit code.
_RISKY = "RiskyTestError"
#: How ctest says in its report, under `skipped`, that a test could not even start.
_NO_PROGRAM = ("Unable to find executable", "Unable to find required file", "Failed to start")


class _Refused(Exception):
    """The document is not read on: it could do harm."""


class _Raw(Struct):
    """A `<testcase>` as it stands there."""

    attributes: dict[str, str]
    suites: tuple[str, ...]
    suite_file: str
    failure: str | None = None
    error: str | None = None
    skipped: str | None = None
    kind: str = ""
    output: str = ""


def read(path: Path, *, root: str) -> Results | None:
    """The cases of a report, or of all reports below a folder; None when there is no report.

    A test that two documents name is two tests. Never raises for what stands in a document.
    """
    documents: list[tuple[list[_Raw], str]] = []
    for document in _files(path):
        data = read_bytes(document)
        if data is not None:
            documents.append(_parse(data))
    if not documents:
        return None
    raws = [raw for found, _ in documents for raw in found]
    problem = next((why for _, why in documents if why), "")
    pytest = any(raw.suites[:1] in (("pytest",), ("pytest tests",)) for raw in raws)
    collector = Collector(root, "junit", merge=pytest)
    known: dict[str, str] = {}
    for raw in raws:
        name = _pytest_id(raw, collector.root, known) if pytest else _name(raw, collector.root)
        outcome, text = _outcome(raw)
        file = raw.attributes.get("file", "") or (name.partition("::")[0] if pytest else raw.suite_file)
        collector.add(name, outcome, text, number(raw.attributes.get("time", "0")), file)
    return collector.results(problem)


def _files(path: Path) -> Iterator[Path]:
    """The report itself, or those in a folder, in a stable order; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    left = MOST_FILES
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in _PRUNED)
        xml = [name for name in sorted(names) if name.endswith(".xml")]
        # Surefire's folder also holds summaries that name tests a second time.
        xml = [name for name in xml if name.startswith("TEST-")] or [
            name for name in xml if "summary" not in name
        ]
        for name in xml[:left]:
            yield Path(folder, name)
        left -= len(xml)
        if left <= 0:
            return


def _parse(data: bytes) -> tuple[list[_Raw], str]:
    """The whole cases of a document, and what was wrong with it."""
    if not data.startswith(_UTF16):
        if not data.lstrip().startswith(b"<"):  # what tests printed, where the report goes to the output
            data = data[max(data.find(b"<?xml"), 0) or max(data.find(b"<testsuite"), 0) :]
        data = _FORBIDDEN.sub(b"?", _ESCAPE.sub(_DISGUISE.encode(), data))
    reader = _Reader()
    try:
        reader.parse(data)
    except _Refused as refused:
        return reader.raws, f"the report was not read to its end: {refused}"
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        return reader.raws, f"the report breaks off or is broken in line {error.lineno}: {reason}"
    except (ValueError, LookupError):  # an encoding that is not known
        return reader.raws, "the report's encoding cannot be read"
    if not reader.is_report:
        return reader.raws, "the file is XML, but no JUnit report"
    return reader.raws, ""


class _Reader:
    """Expat's events, gathered into cases."""

    def __init__(self) -> None:
        self.raws: list[_Raw] = []
        self.is_report = False
        self._depth = 0
        self._suites: list[tuple[str, str]] = []
        self._case: _Raw | None = None
        self._case_depth = 0
        self._text: list[str] = []
        self._room = 0

    def parse(self, data: bytes) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype
        parser.Parse(data, True)

    def _doctype(self, *_: object) -> None:
        raise _Refused("it declares a document type, and entities can grow without bounds")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _Refused(f"its elements are nested more than {DEEPEST} deep")
        tag = tag.rpartition("}")[2].rpartition(":")[2]
        self._text, self._room = [], LOOKED_AT
        if tag in ("testsuites", "testsuite"):
            self.is_report = True
            file = (
                attributes.get("file")
                or attributes.get("filepath")
                or (self._suites[-1][1] if self._suites else "")
            )
            # The outermost element names a tool, not a suite, unless there is nothing else.
            self._suites.append((attributes.get("name", "") if tag == "testsuite" else "", file))
        elif tag == "testcase" and self._case is None:
            self.is_report = True
            names = tuple(name for name, _ in self._suites if name)
            attributes = {key: _undisguised(value) for key, value in attributes.items()}
            self._case = _Raw(attributes, names, self._suites[-1][1] if self._suites else "")
            self._case_depth = self._depth
        elif tag in _WHY and self._case is not None:
            kind = attributes.get("type", "")
            self._case.kind = self._case.kind or kind
            message = attributes.get("message", "")[:LOOKED_AT]
            self._text = [message + "\n"] if message else []

    def _characters(self, text: str) -> None:
        if self._case is not None and self._room > 0:
            self._text.append(text[: self._room])
            self._room -= len(text)

    def _end(self, tag: str) -> None:
        depth, self._depth = self._depth, self._depth - 1
        tag = tag.rpartition("}")[2].rpartition(":")[2]
        if tag in ("testsuites", "testsuite"):
            if self._suites:
                self._suites.pop()
            return
        case = self._case
        if case is None:
            return
        if tag == "testcase" and depth == self._case_depth:
            self.raws.append(case)
            self._case = None
            return
        text, self._text = _undisguised("".join(self._text)), []
        if tag == "failure":
            case.failure = _joined(case.failure, text)
        elif tag == "error":
            case.error = _joined(case.error, text)
        elif tag == "skipped":
            case.skipped = _joined(case.skipped, text)
        elif tag in ("system-out", "system-err"):
            case.output = (case.output + text)[-LOOKED_AT:]


def _undisguised(text: str) -> str:
    return text.replace(_DISGUISE, "\x1b")


def _joined(before: str | None, text: str) -> str:
    """The message, and the body where it says more."""
    first, _, rest = text.partition("\n")
    text = rest if first and first in rest else text
    return f"{before}\n{text}" if before else text.strip("\n")


def _outcome(raw: _Raw) -> tuple[str, str]:
    """The outcome of a case and the text that explains it."""
    status = raw.attributes.get("status", "").lower()
    todo = raw.skipped is not None and raw.kind in ("todo", "pytest.xfail")
    if raw.skipped is not None and raw.skipped.startswith(_NO_PROGRAM):
        return "error", raw.skipped
    if todo and raw.kind == "todo":  # node: the failure of a test that is still to be written
        return ("xfailed", raw.failure) if raw.failure is not None else ("xpassed", "")
    if raw.error is not None and raw.kind.endswith(_RISKY):
        return "passed", raw.error
    if raw.error is not None:
        return "error", raw.error or raw.output
    if raw.failure is not None:
        return "failed", raw.failure or raw.output
    if raw.skipped is not None:
        return ("xfailed" if todo else "skipped"), raw.skipped
    if status in ("disabled", "notrun", "skipped", "ignored"):
        return "skipped", ""
    if status in ("fail", "failed", "error"):
        return "failed", raw.output
    return "passed", ""


def _pytest_id(raw: _Raw, root: str, known: dict[str, str]) -> str:
    """The node id: `tests/test_a.py::TestB::test_c[1]`."""
    name, dotted, file = (raw.attributes.get(key, "") for key in ("name", "classname", "file"))
    if not dotted:  # a file that could not be collected has its path, with dots, as its name
        return _module(name, root, known)
    if file:  # xunit1
        module = file.removesuffix(".py").replace("/", ".")
        classes = dotted[len(module) + 1 :] if dotted.startswith(module) else ""
    else:
        file = _module(dotted, root, known)
        classes = dotted[len(file.removesuffix(".py")) + 1 :]
    return "::".join([file, *filter(None, classes.split(".")), name])


def _module(dotted: str, root: str, known: dict[str, str]) -> str:
    """The file that a dotted name begins with: the longest that exists, or the likeliest."""
    if dotted in known:
        return known[dotted]
    parts = dotted[:LOOKED_AT].split(".")[:DEEPEST]
    found = ""
    if root and not any(part in ("", "..") or "\0" in part or "/" in part for part in parts):
        for end in range(len(parts), 0, -1):
            path = "/".join(parts[:end]) + ".py"
            if len(path) < 1000 and os.path.lexists(f"{root}/{path}"):
                found = path
                break
    if not found:
        # Classes begin with a capital letter, modules seldom do.
        end = next((at for at, part in enumerate(parts) if at and part[:1].isupper()), len(parts))
        found = "/".join(parts[:end]) + ".py"
    known[dotted] = found
    return found


def _name(raw: _Raw, root: str) -> str:
    """`package.TestClass.test`, or `file > suite > test` for JavaScript and for nested suites without classes."""
    name = raw.attributes.get("name", "").strip()
    owner = (raw.attributes.get("classname") or raw.attributes.get("class") or "").strip()
    file = relative(raw.attributes.get("file") or raw.suite_file, root)
    if (
        owner == "test"
        or _SCRIPT.search(owner)
        or _SCRIPT.search(file)
        or (file and not owner)
        or file.endswith(".rb")
    ):
        # Node's own reporter calls every class "test"; vitest has the file there.
        first = file or (relative(owner, root) if _SCRIPT.search(owner) else "")
        module = file.rpartition(".")[0].replace("/", ".")  # what RSpec's formatter has for a class
        titles = (
            raw.suites if owner == "test" else (owner,) if owner not in ("", module) and first == file else ()
        )
        return " > ".join(part for part in (first, *titles, relative(name, root)) if part)
    if not owner or owner == name:
        return name
    if owner == "(empty)" or name.startswith((owner + ".", owner + " ")):  # jest-junit writes both in both
        return name
    # Gradle writes `adds()` where Maven writes `adds`.
    return f"{owner}.{name.removesuffix('()')}" if name else owner
