"""Rules and modes: a table, and what holds for all tables."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli import config, paths
from poolcli.errors import ConfigError
from poolcli.policy import CHECKS, MODES, VERDICTS, Decision, Deed, Rule, decide, effective, forbidding, rule

TOOLS = sorted(path.stem for path in paths.data_dir("tools").glob("*.toml"))
KINDS = config.TOOL_KINDS


def rules(*texts: str) -> list[Rule]:
    """`deny shell:git push *` and the like, each with its own place."""
    split = [text.partition(" ") for text in texts]
    return [
        rule(verdict, text, f"config.toml:{n}", TOOLS, KINDS) for n, (verdict, _, text) in enumerate(split, 1)
    ]  # type: ignore[arg-type]


def shell(command: str) -> Deed:
    return Deed("shell", "execute", command)


def edit(*names: str, tool: str = "edit") -> Deed:
    return Deed(tool, "edit", paths=names)


def of(deed: Deed, *texts: str, mode: str = "", confined: bool = True) -> str:
    return decide(deed, rules(*texts), mode, confined=confined).verdict


READ = Deed("read", "read", paths=("a.py",))
CHECK = Deed(CHECKS, "execute")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".env", "ask"), ("app/.env.local", "ask"), ("config/secrets.yml", "ask"), ("tls/server.PEM", "ask"),
        ("id_ed25519", "ask"), (".env.example", "allow"), ("id_rsa.pub", "allow"), ("secrets.py", "allow"),
        ("environment.md", "allow"), ("keys.py", "allow"),
    ],
)  # fmt: skip
def test_files_of_secrets_are_asked_about(path: str, expected: str) -> None:
    """SEC-10"""
    deed = Deed("read", "read", paths=(path,))
    for mode in MODES:
        assert of(deed, mode=mode) == expected
    assert of(deed, f"allow read:{path}") == "allow"
    assert of(Deed("read", "read", paths=("notes.txt", path))) == expected, "also behind a link"


def test_what_may_not_be_read_may_not_be_searched() -> None:
    for verdict in ("deny", "ask"):
        said = f"{verdict} read:src/*.txt"
        assert of(Deed("search", "search", paths=("src/a.txt",)), said) == verdict
        assert of(Deed("search", "search", paths=("src/b.py",)), said) == "allow"
    assert of(Deed("search", "search", paths=(".env",)), "allow read:.env") == "ask"


@pytest.mark.parametrize(
    ("mode", "confined", "looking", "editing", "running"),
    [
        ("", True, "allow", "allow", "allow"),
        ("", False, "allow", "allow", "ask"),
        ("auto", True, "allow", "allow", "allow"),
        ("auto", False, "allow", "allow", "allow"),
        ("edits", True, "allow", "allow", "ask"),
        ("edits", False, "allow", "allow", "ask"),
        ("ask", True, "allow", "ask", "ask"),
        ("ask", False, "allow", "ask", "ask"),
        ("plan", True, "allow", "deny", "deny"),
        ("plan", False, "allow", "deny", "deny"),
    ],
)
def test_modes(mode: str, confined: bool, looking: str, editing: str, running: str) -> None:
    for deed, expected in (
        (READ, looking),
        (CHECK, looking),
        (Deed("terminal", "execute"), looking),
        (edit("a.py"), editing),
        (shell("make"), running),
        (Deed("terminal", "execute", "python3"), running),
        (Deed("thing", "other"), running),
    ):
        assert of(deed, mode=mode, confined=confined) == expected, deed
    assert set(MODES) >= {effective(mode, confined=confined)}


@pytest.mark.parametrize(
    ("deed", "texts", "expected"),
    [
        # Deny beats ask beats allow.
        (shell("git push"), ("allow shell", "ask shell", "deny shell:git push"), "deny"),
        (shell("git pull"), ("allow shell", "ask shell", "deny shell:git push"), "ask"),
        (shell("git pull"), ("allow shell:git pull", "deny shell:git push"), "allow"),
        # Kinds and tools.
        (shell("x"), ("deny kind:execute",), "deny"),
        (CHECK, ("deny kind:execute",), "deny"),
        (CHECK, ("ask run_tests",), "ask"),
        (READ, ("deny kind:execute",), "allow"),
        (READ, ("deny read:a.py",), "deny"),
        (edit("a"), ("deny write",), "allow"),
        (edit("a", tool="write"), ("deny write",), "deny"),
        # What a pattern is about.
        (shell("git push origin main"), ("deny shell:git push *",), "deny"),
        (shell("git push"), ("deny shell:git push *",), "deny"),
        (shell("git push origin"), ("deny shell:git push",), "deny"),
        (shell("git -C /x -c a=b push"), ("deny shell:git push",), "deny"),
        (shell("git --no-pager push"), ("deny shell:git push",), "deny"),
        (shell("git log --grep push"), ("deny shell:git push",), "allow"),
        (shell("git pushy"), ("deny shell:git push",), "allow"),
        (shell("gitx push"), ("deny shell:git push",), "allow"),
        (shell("pip3 install x"), ("deny shell:pip* install",), "deny"),
        (shell("rm -f -r /"), ("deny shell:rm * /",), "deny"),
        (shell("/usr/bin/curl x"), ("deny shell:curl",), "deny"),
        (shell("a; b | curl x"), ("deny shell:curl",), "deny"),
        (shell("echo $(curl x)"), ("deny shell:curl",), "deny"),
        (shell("bash -c 'a; curl x'"), ("deny shell:curl",), "deny"),
        (shell("timeout 3 env X=1 curl x"), ("deny shell:curl",), "deny"),
        (shell('"cu"rl x'), ("deny shell:curl",), "deny"),
        (shell("c\\url x"), ("deny shell:curl",), "deny"),
        (shell("true;" * 50 + "curl x"), ("deny shell:curl",), "deny"),
        (shell("cat <<END\ncurl x\nEND"), ("deny shell:curl",), "allow"),
        (shell("echo curl"), ("deny shell:curl",), "allow"),
        # What cannot be told for certain is asked about.
        (shell("$X y"), ("deny shell:curl",), "ask"),
        (shell("git $X"), ("deny shell:git push",), "ask"),
        (shell("git add *.py"), ("deny shell:git push",), "allow"),
        (shell("echo Y3VybA== | base64 -d | sh"), ("deny shell:curl",), "ask"),
        (shell("xargs git < x"), ("deny shell:git push",), "ask"),
        (shell("true 'x"), ("deny shell:curl",), "ask"),
        (shell("x" * 1_000_000), ("deny shell:curl",), "ask"),
        (shell("case x in x) a;; esac"), ("ask shell:curl",), "ask"),
        (shell("case x in x) a;; esac"), (), "allow"),
        # The same by another tool.
        (Deed("terminal", "execute", "git push"), ("deny shell:git push",), "deny"),
        (shell("git push"), ("deny terminal:git push",), "deny"),
        (edit(".github/w.yml", tool="write"), ("deny edit:.github/**",), "deny"),
        # Paths.
        (edit("src/a/b.py"), ("deny edit:src/**",), "deny"),
        (edit("lib/src/b.py"), ("deny edit:src/**",), "allow"),
        (edit("./x/../src/b.py"), ("deny edit:src/**",), "deny"),
        (edit("src"), ("deny edit:src",), "deny"),
        (edit("src/a"), ("deny edit:src/",), "deny"),
        (edit("SRC/b.py"), ("deny edit:src/**",), "deny"),
        (edit("a/b/c.lock"), ("deny kind:edit:*.lock",), "deny"),
        (edit("src/a/b.py"), ("deny edit:src/*.py",), "allow"),
        (edit("src/b.py"), ("deny edit:src/*.py",), "deny"),
        (edit("link/w.yml", ".github/w.yml"), ("deny edit:.github/**",), "deny"),
    ],
)
def test_rules(deed: Deed, texts: tuple[str, ...], expected: str) -> None:
    assert of(deed, *texts) == expected


@pytest.mark.parametrize(
    ("deed", "texts", "expected"),
    [
        (shell("ls"), ("allow shell:ls",), "allow"),
        (shell("ls -l"), ("allow shell:ls",), "ask"),
        (shell("ls -l"), ("allow shell:ls *",), "allow"),
        (shell("ls"), ("allow shell:ls *",), "allow"),
        (shell("./ls"), ("allow shell:ls *",), "ask"),
        (shell("ls | wc -l"), ("allow shell:ls *", "allow shell:wc *"), "allow"),
        (shell("ls | wc -l"), ("allow shell:ls *",), "ask"),
        (shell("ls 2>&1 >/dev/null"), ("allow shell:ls *",), "allow"),
        (shell("make > log"), ("allow shell:make *",), "ask"),
        (shell("make > log"), ("allow shell",), "allow"),
        (shell("make -C x"), ("allow kind:execute:make *",), "allow"),
        (Deed("terminal", "execute", "ls"), ("allow shell:ls",), "ask"),
        (edit("src/a"), ("allow edit:src/**",), "allow"),
        (edit("src/a", tool="write"), ("allow edit:src/**",), "ask"),
        (edit("src/../x"), ("allow edit:src/**",), "ask"),
        (edit("src/l", "etc/l"), ("allow edit:src/**",), "ask"),
        (edit("Src/a"), ("allow edit:src/**",), "ask"),
    ],
)
def test_what_an_allow_spares(deed: Deed, texts: tuple[str, ...], expected: str) -> None:
    assert of(deed, *texts, mode="ask") == expected


#: Shapes of the kind that get past a list of allowed first words (APR-01, APR-02, APR-03).
SHAPES = (
    "ls\ntouch PWN", "ls; touch PWN", "ls && touch PWN", "ls | touch PWN", "ls & touch PWN", "ls $(touch PWN)",
    "ls `touch PWN`", "ls <(touch PWN)", "ls ${x:=$(touch PWN)}", "ls > PWN", "ls 2> PWN", "ls &> PWN",
    "ls\r\ntouch PWN",
    "ls # x\ntouch PWN", "cat <<E > PWN\nx\nE", "ls() { touch PWN; }; ls", "alias x=y; touch PWN",
    "ls $((`touch PWN`))",
    "trap 'touch PWN' EXIT; ls", "PATH=.:$PATH; ls", "if ls; then touch PWN; fi", "ls || ls; { touch PWN; }",
    "test -v 'a[$(touch PWN)]'", "export X=1; touch PWN", "BASH_ENV=./payload bash -c ls", "eval 'touch PWN'",
)  # fmt: skip


@pytest.mark.parametrize("command", SHAPES)
def test_shapes_that_run_more_than_their_first_word(command: str, tmp_path: Path) -> None:
    for name in ("ls", "payload"):
        (tmp_path / name).write_text("#!/bin/sh\ntouch PWN\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True)
    assert (tmp_path / "PWN").exists(), done  # the control: it does run, or write
    allowing = ("allow shell:ls *", "allow shell:cat *", "allow shell:test")
    assert of(shell("ls -l"), *allowing, mode="edits") == "allow"
    assert of(shell(command), *allowing, mode="edits") == "ask"


def test_without_a_sandbox_an_allow_spares_no_question_about_a_command() -> None:
    for allow in ("allow shell:find *", "allow shell", "allow kind:execute"):
        assert of(shell("find . -exec x ;"), allow, mode="edits") == "allow"
        assert of(shell("find . -exec x ;"), allow, mode="edits", confined=False) == "ask"
        assert of(shell("find . -exec x ;"), allow, confined=False) == "ask"
    assert of(shell("find . -exec x ;"), confined=False, mode="auto") == "allow"
    assert of(edit("a"), "allow edit", mode="ask", confined=False) == "allow"


def test_a_decision_says_which_rule_and_where_it_stands() -> None:
    found = decide(shell("git push"), rules("ask kind:execute", "deny shell:git push"), confined=True)
    assert found.rule is not None and found.rule.text == "shell:git push"
    assert found.why == "the rule `shell:git push` forbids it (config.toml:2)"
    asked = decide(shell("ls"), rules("ask kind:execute"), confined=True)
    assert asked.why == "the rule `ask kind:execute` (config.toml:1) asks about it"
    assert decide(shell("ls"), [], confined=True) == Decision("allow", "mode auto")


def test_the_old_option_names_tools_and_kinds() -> None:
    denied = forbidding(["edit", "shell"], "POOL_DENY")
    for deed in (edit("a"), edit("a", tool="write"), shell("x")):
        found = decide(deed, denied, "auto", confined=True)
        assert found.verdict == "deny" and "POOL_DENY" in found.why
    assert decide(READ, denied, confined=True).verdict == "allow"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shel:x", "`shel`, which is no tool"),
        ("kind:exec", "`exec`, which is no kind"),
        ("execute", "`kind:execute` means all tools of that kind"),
        ("shell:", "has no pattern"),
        ("kind:edit: ", "has no pattern"),
        ("", "no tool"),
        ("shell:a\0b", "pattern"),
    ],
)
def test_a_rule_that_means_nothing_is_an_error(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        rule("deny", text, "config.toml:7", TOOLS, KINDS)
    assert said in str(error.value) and "config.toml:7" in str(error.value)


# What holds for all tables

NAMES = st.sampled_from(["ls", "git", "push", "curl", "*", "-x", "g*", "rm"])
COMMAND_RULES = st.lists(NAMES, min_size=1, max_size=3).map(lambda words: "shell:" + " ".join(words))
PATH_RULES = st.lists(st.sampled_from(["src", "**", "*", "a.py", "*.py"]), min_size=1, max_size=3).map(
    lambda parts: "edit:" + "/".join(parts)
)
RULES = st.lists(
    st.builds(
        lambda verdict, text, n: rule(verdict, text, f"file:{n}", TOOLS, KINDS),
        st.sampled_from(VERDICTS),
        st.one_of(st.sampled_from([*TOOLS, *(f"kind:{kind}" for kind in KINDS)]), COMMAND_RULES, PATH_RULES),
        st.integers(1, 9),
    ),
    max_size=6,
)
LINES = st.lists(
    st.sampled_from(
        ["ls", "git", "push", "curl", "-x", "$x", ";", "|", "'", "$(", ")", ">", "\n", "rm", "bash -c"]
    ),
    max_size=8,
).map(" ".join)
DEEDS = st.one_of(
    st.builds(Deed, st.sampled_from(["shell", "terminal"]), st.just("execute"), LINES),
    st.builds(lambda t, p: Deed(t, "edit", paths=(p,)), st.sampled_from(["edit", "write"]),
              st.sampled_from(["a.py", "src/a.py", "src/x/a.py", "../x", "b"])),
    st.sampled_from([READ, CHECK, Deed("thing", "other")]),
)  # fmt: skip
CONTEXT = (st.sampled_from(["", *MODES]), st.booleans())
STRICT = {"allow": 0, "ask": 1, "deny": 2}


@given(DEEDS, RULES, *CONTEXT)
def test_a_rule_that_denies_wins_over_everything(
    deed: Deed, table: list[Rule], mode: str, confined: bool
) -> None:
    alone = [one for one in table if decide(deed, [one], "auto", confined=True).verdict == "deny"]
    if alone:
        assert decide(deed, table, mode, confined=confined).verdict == "deny"


@given(DEEDS, RULES, RULES, *CONTEXT)
def test_more_deny_and_ask_rules_never_make_it_looser(
    deed: Deed, table: list[Rule], project: list[Rule], mode: str, confined: bool
) -> None:
    added = [one for one in project if one.verdict != "allow"]
    before = decide(deed, table, mode, confined=confined).verdict
    assert STRICT[decide(deed, [*table, *added], mode, confined=confined).verdict] >= STRICT[before]


@given(DEEDS, RULES, *CONTEXT, st.randoms())
def test_the_order_of_rules_does_not_matter(
    deed: Deed, table: list[Rule], mode: str, confined: bool, chance: random.Random
) -> None:
    other = list(table)
    chance.shuffle(other)
    assert decide(deed, table, mode, confined=confined) == decide(deed, other, mode, confined=confined)


@given(DEEDS, RULES)
def test_plan_changes_and_runs_nothing_whatever_is_allowed(deed: Deed, table: list[Rule]) -> None:
    if decide(deed, table, "plan", confined=True).verdict != "deny":
        assert deed.kind in ("read", "search") or deed.tool == CHECKS or not deed.command.strip()


@given(DEEDS, RULES, st.sampled_from(["", "ask", "edits", "plan"]))
def test_without_a_sandbox_no_command_runs_unasked(deed: Deed, table: list[Rule], mode: str) -> None:
    if deed.command:
        assert decide(deed, table, mode, confined=False).verdict != "allow"


def test_every_order_of_three_overlapping_rules() -> None:
    three = rules("allow shell:git *", "ask shell:git push", "deny shell:git push --force")
    for order in itertools.permutations(three):
        for command, expected in (("git log", "allow"), ("git push", "ask"), ("git push --force", "deny")):
            assert decide(shell(command), order, "ask", confined=True).verdict == expected


def test_no_line_takes_long_to_decide_on() -> None:
    """A rule is matched in one pass: stars do not multiply."""
    table = rules("deny shell:" + "a* * " * 12 + "b", "ask edit:" + "**/*a" * 12)
    decide(shell("a " * 40_000), table, confined=True)
    decide(edit("a" * 3000), rules("deny edit:" + "*a" * 6 + "b"), confined=True)
