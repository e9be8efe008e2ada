"""Text that poses as the last lines of a test runner."""

from __future__ import annotations

import re

_NUMBER = r"(?:\d+|%[ds]|\{[^{}]*\}|\$\{[^{}]*\})"
_SUMMARY = re.compile(
    rf"""
      {_NUMBER}\ passed(?:,\ {_NUMBER}\ \w+)*(?:,?\ \d+\ warnings?)?\ in\ {_NUMBER}      # pytest
    | =+\ {_NUMBER}\ passed
    | \bRan\ {_NUMBER}\ tests?\ in\b                                                  # unittest
    | ^\s*\#\ (?:pass|fail|tests)\ {_NUMBER}                                         # TAP, node
    | ^\s*1\.\.{_NUMBER}\s*$ | ^\s*ok\ \d+\ -?
    | ^\s*ℹ\ (?:pass|fail)\ {_NUMBER}
    | \bTests:\s+(?:{_NUMBER}\ \w+,\ )*{_NUMBER}\ passed | \bTest\ Suites:\s+{_NUMBER} # jest, vitest
    | ^\s*{_NUMBER}\ passing\b                                                        # mocha
    | \btest\ result:\ ok\b                                                          # cargo
    | ^\s*---\ PASS: | ^\s*(?:ok|PASS)\s+\S+\s+{_NUMBER}(?:\.\d+)?s                   # go
    | \bOK\ \({_NUMBER}\ tests?,\ {_NUMBER}\ assert | \bTests\ run:\ {_NUMBER},\ Failures:\ 0
    | {_NUMBER}\ (?:examples?|runs),\ 0\ failures | \b100%\ tests\ passed
    """,
    re.X | re.M,
)


def looks_like_summary(text: str) -> bool:
    """Whether the text holds a line that a reader of test results would take for a result."""
    return _SUMMARY.search(text) is not None
