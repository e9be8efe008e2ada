"""What code in other languages does to the machinery that judges it: facts of single lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from poolcli.verdict.tampering.findings import Fact, Severity
from poolcli.verdict.tampering.summaries import looks_like_summary

_JS = frozenset({"js", "jsx", "ts", "tsx", "mjs", "cjs", "mts", "cts", "vue", "svelte"})
_Rule = tuple[frozenset[str], str, Severity, re.Pattern[str], str]


def _rule(endings: frozenset[str] | str, kind: str, severity: Severity, pattern: str, text: str) -> _Rule:
    kinds = endings if isinstance(endings, frozenset) else frozenset(endings.split())
    return kinds, kind, severity, re.compile(pattern), text


_DETECTS = "The code asks whether it is tested."
_PATCHES = "The code replaces what tests assert or report with."
_EXITS = "The code ends the process: what the runner would say is never said."
_NETWORK = "Product code that tests may reach uses the network."
#: The first rule that fits a line counts. Milder ones for what people do write come before the hard ones.
_RULES: tuple[_Rule, ...] = (
    # A server that does not listen, or does not log, while it is tested is common and harmless.
    _rule(
        _JS,
        "test-detection",
        "low",
        r"NODE_ENV.*['\"]test['\"].*(?:listen|morgan|logg?er|console\.|log\()",
        _DETECTS,
    ),
    _rule(
        _JS,
        "test-detection",
        "high",
        r"process\.env(?:\.|\[['\"])(?:JEST_WORKER_ID|VITEST\w*|NODE_TEST_CONTEXT|MOCHA\w*|AVA_PATH|TAP)\b"
        r"|NODE_ENV['\"\]]*\s*[!=]==?\s*['\"]test['\"]|['\"]test['\"]\s*[!=]==?\s*process\.env\.NODE_ENV"
        r"|typeof\s+(?:jest|vi|describe|it|expect|mocha)\b\s*[!=]==?"
        r"|(?:globalThis|global|window)\.(?:jest|describe|it|expect|vi|__vitest\w*|mocha)\b(?!\s*=[^=])"
        r"|process\.(?:argv|execArgv)\b.*(?:test|jest|mocha|vitest)|\.stack\b.*(?:test|jest|mocha|spec)"
        r"|require\.main\b.*(?:test|jest|mocha)",
        _DETECTS,
    ),
    _rule(
        _JS,
        "patched-machinery",
        "high",
        r"\b(?:globalThis|global|window)\.(?:expect|assert|it|test|describe)\s*=[^=]|\bassert(?:\.strict)?\.\w+\s*=[^=>]"
        r"|\bexpect\.extend\s*\(|process\.(?:exit|reallyExit|emit|exitCode)\s*=(?!=)|(?:Assertion)?Error\.prototype"
        r"|Module\.prototype\.require\s*=|Module\._(?:load|resolveFilename)\s*=|require\.cache\[|console\.(?:log|error)\s*=[^=]"
        r"|process\.std(?:out|err)\.write\s*=[^=]|Object\.(?:assign|defineProperty)\(\s*(?:assert|expect|process)\b"
        r"|require\(['\"](?:node:)?assert['\"]\)\.\w+\s*=[^=]|\bObject\.is\s*=[^=]",
        _PATCHES,
    ),
    _rule(
        _JS,
        "forced-exit",
        "high",
        r"process\.(?:reallyExit|abort|kill)\s*\(|process\.on\(\s*['\"](?:exit|beforeExit)['\"].*(?:exit|exitCode|kill)"
        r"|^process\.exit\s*\(\s*0?\s*\)",
        _EXITS,
    ),
    _rule(
        _JS,
        "network",
        "low",
        r"\bfetch\s*\(|(?:require\(|from )['\"](?:node:)?(?:https?|net|dgram|axios|undici|got)['\"]",
        _NETWORK,
    ),
    _rule(
        "go",
        "test-detection",
        "high",
        r"\btesting\.Testing\(\)|os\.Args\[0\].*\.test|flag\.Lookup\(\"test\.",
        _DETECTS,
    ),
    _rule("go", "forced-exit", "high", r"\bos\.Exit\(\s*0\s*\)|syscall\.Exit\(\s*0|syscall\.Kill\(", _EXITS),
    _rule("go", "network", "low", r"^\s*(?:import )?\"net/http\"|\bhttp\.(?:Get|Post)\(", _NETWORK),
    _rule(
        "rs",
        "test-detection",
        "high",
        r"\bcfg!\(\s*test\s*\)|RUST_TEST_THREADS|current\(\)\.name\(\)",
        _DETECTS,
    ),
    _rule("rs", "test-detection", "low", r"#\[cfg\(not\(test\)\)\]", _DETECTS),
    _rule(
        "rs", "forced-exit", "high", r"process::(?:exit\(\s*0|abort\()|libc::_?exit\(|panic::set_hook", _EXITS
    ),
    _rule(
        "rs", "patched-machinery", "high", r"macro_rules!\s*(?:assert|assert_eq|assert_ne|panic)\b", _PATCHES
    ),
    _rule(
        "java kt groovy scala",
        "test-detection",
        "high",
        r"org\.junit|StackTraceElement.*[Tt]est|surefire|getStackTrace\(\).*[Jj]unit",
        _DETECTS,
    ),
    _rule(
        "java kt groovy scala",
        "forced-exit",
        "high",
        r"System\.exit\(\s*0\s*\)|\.halt\(\s*0?\s*\)|exitProcess\(\s*0",
        _EXITS,
    ),
    _rule("rb", "test-detection", "low", r"Rails\.env\.test\?", _DETECTS),
    _rule(
        "rb",
        "test-detection",
        "high",
        r"defined\?\(\s*(?:RSpec|Minitest|Test::Unit)|\$(?:0|PROGRAM_NAME).*(?:rspec|test)|caller.*(?:spec|test)",
        _DETECTS,
    ),
    _rule("rb", "forced-exit", "high", r"\bexit!|\bat_exit\b.*exit|Process\.kill", _EXITS),
    _rule(
        "rb",
        "patched-machinery",
        "high",
        r"(?:class|module)\s+(?:RSpec|Minitest|Test::Unit)\b|(?:Minitest|RSpec)\S*\.(?:class_eval|prepend|include)",
        _PATCHES,
    ),
    _rule(
        "php",
        "test-detection",
        "high",
        r"(?:class_exists|defined)\(\s*['\"](?:\\*PHPUnit|PHPUNIT_)|\$(?:argv|_SERVER).*phpunit",
        _DETECTS,
    ),
    _rule(
        "php",
        "forced-exit",
        "high",
        r"^\s*(?:exit|die)\s*(?:\(\s*0?\s*\))?\s*;|register_shutdown_function.*exit",
        _EXITS,
    ),
    _rule(
        "c cc cpp cxx h hpp",
        "forced-exit",
        "high",
        r"\b(?:_exit|_Exit|quick_exit)\s*\(\s*(?:0|EXIT_SUCCESS)\s*\)|\batexit\s*\(.*exit|kill\(\s*getpid",
        _EXITS,
    ),
    _rule(
        "c cc cpp cxx h hpp",
        "patched-machinery",
        "high",
        r"#\s*(?:define|undef)\s+(?:assert|EXPECT_\w+|ASSERT_\w+|REQUIRE|CHECK|NDEBUG|ck_assert\w*)\b",
        _PATCHES,
    ),
    _rule(
        "c cc cpp cxx h hpp",
        "startup-hook",
        "low",
        r"__attribute__\s*\(\(\s*(?:con|de)structor",
        "The code runs before or after main.",
    ),
)

_PRINTS = re.compile(
    r"print|puts|echo|console\.(?:log|info|error|warn)|\.write|fmt\.|System\.out|cout|stdout"
)
#: Files whose business it is to look at the mode or to end a program.
_TOOLS = re.compile(
    r"(?:^|/)(?:bin|scripts?|tools?|cmd|benches|examples?)/|\.config\.\w+$|(?:^|/)(?:main|cli|Main|App)\.\w+$|(?:^|/)webpack\.\w"
)


def known(path: str) -> bool:
    """Whether there are rules for files of this ending."""
    ending = path.rpartition(".")[2]
    return ending in _JS or any(ending in rule[0] for rule in _RULES)


def facts(path: str, text: str, *, test: bool) -> Iterator[Fact]:
    """What stands in the file. In files of tests only what is done to the machinery counts."""
    ending = path.rpartition(".")[2]
    rules = [
        rule
        for rule in _RULES
        if ending in rule[0] and not (test and rule[1] in ("test-detection", "network"))
    ]
    tool = _TOOLS.search(path) is not None
    comment = "#" if ending == "rb" else "//"
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or len(line) > 2000 or bare.startswith((comment, "*", "/*")):
            continue
        # A line that begins in the first column is run as the file is loaded: rules may ask for it.
        for _, kind, severity, pattern, words in rules:
            if pattern.search(line):
                mild = tool and kind in ("forced-exit", "test-detection")
                yield Fact(kind, "low" if mild else severity, " ".join(bare.split()), number, words)
                break
        else:
            if not test and _PRINTS.search(line) and looks_like_summary(_strings(line)):
                said = "Product code prints what looks like the summary of a test run."
                yield Fact("fake-summary", "high", " ".join(bare.split()), number, said)


def _strings(line: str) -> str:
    """The contents of the string literals of a line, one a line."""
    found = re.findall(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|`((?:[^`\\]|\\.)*)`", line)
    return "\n".join("".join(parts).replace("\\n", "\n") for parts in found)
