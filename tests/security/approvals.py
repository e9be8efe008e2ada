"""Rules, questions and answers."""

from __future__ import annotations

import itertools
import shlex
import subprocess

from poolcli.policy import Deed, decide
from tests.security.case import Field, Group, box
from tests.security.networks import CONNECT

GROUP = Group("Approvals", boxed=False)
case = GROUP.case

#: First words that people allow without a thought, and what was run by each of them.
SHAPES = (
    "find . -maxdepth 0 -exec ./payload ;", "find . -maxdepth 0 -fprint PWN", "git -c core.fsmonitor=./payload status",
    "git -c alias.x=!./payload x", "git grep -O./payload one", "sort -o PWN a.py", "sed -n 1w\\ PWN a.py",
    "sed 1e./payload a.py",
    "tar cf /dev/null a.py --checkpoint=1 --checkpoint-action=exec=./payload", "split --filter=./payload a.py",
    'awk BEGIN{system("./payload")}', "env ./payload", "xargs -a a.py ./payload", "make -f mk", "python3 -m json.tool",
    "dd if=a.py of=PWN status=none", "tee PWN", "git diff --output=PWN", "git config --file PWN a.b c", "uniq a.py PWN",
    "timeout 5 ./payload", "nice ./payload",
)  # fmt: skip
ALLOWED = ("find", "git", "sort", "sed", "tar", "split", "awk", "env", "xargs", "make", "python3", "dd", "tee", "uniq",
           "ls",
           "test", "cat", "timeout", "nice", "echo", "true")  # fmt: skip


def rules(*texts: str):
    from tests.test_policy import rules as made

    return made(*texts)


def first_word(command: str) -> bool:
    """A list of allowed words, as it is written when nobody thinks of attacks."""
    try:
        return shlex.split(command)[0] in ALLOWED
    except (ValueError, IndexError):
        return False


@case(
    "APR-01",
    "Commands whose first word people allow, which run or write something else",
    "the first word is looked up in a list",
    tests=(
        "tests/test_policy.py::test_what_an_allow_spares",
        "tests/test_policy.py::test_without_a_sandbox_an_allow_spares_no_question_about_a_command",
    ),
)
def allowed_words(field: Field, protected: bool) -> bool:
    """With the rule, they run inside the sandbox or are asked about; outside of it, without being asked, none does."""
    allowing = rules(*(f"allow shell:{word} *" for word in ALLOWED))
    reached = 0
    for command in SHAPES:
        deed = Deed("shell", "execute", command)
        if protected:
            reached += decide(deed, allowing, "edits", confined=False).verdict == "allow"
            continue
        if not first_word(command):
            continue
        place = field.tmp / f"shape{reached}-{len(list(field.tmp.iterdir()))}"
        place.mkdir()
        (place / "a.py").write_text("one\n")
        (place / "mk").write_text("all:\n\t./payload\n")
        (place / "json.py").write_text("open('PWN', 'w')\n")
        (place / "payload").write_text("#!/bin/sh\n: > PWN\n")
        (place / "payload").chmod(0o755)
        subprocess.run(["git", "init", "-q"], cwd=place)
        subprocess.run(["git", "add", "a.py"], cwd=place)
        # As a shell would split it; quoting is not what this is about.
        subprocess.run(
            shlex.split(command), cwd=place, capture_output=True, stdin=subprocess.DEVNULL, timeout=20
        )
        reached += (place / "PWN").exists()
    assert protected or reached > len(SHAPES) // 2, reached
    return reached > 0


@case(
    "APR-02",
    "More commands behind an allowed one, by every way that bash has",
    "the first word is looked up in a list",
    tests=("tests/test_policy.py::test_shapes_that_run_more_than_their_first_word",),
)
def more_commands(field: Field, protected: bool) -> bool:
    from tests.test_policy import SHAPES as COMPOUND

    allowing = rules("allow shell:ls *", "allow shell:cat *", "allow shell:test")
    for command in COMPOUND:
        deed = Deed("shell", "execute", command)
        allowed = (
            decide(deed, allowing, "edits", confined=True).verdict == "allow"
            if protected
            else first_word(command)
        )
        if allowed:
            return True
    return False


@case(
    "APR-03",
    "A call that prepares the shell of the next one",
    "one shell for all calls",
    needs=("bubblewrap",),
)
def poisoned_shell(field: Field, protected: bool) -> bool:
    evil = field.evil()
    first = (
        f"shopt -s expand_aliases; ls() {{ {evil}; }}; export -f ls; alias cat={evil}; trap {evil} EXIT;"
        f" export BASH_ENV={evil} PATH=$PWD:$PATH; cp {evil} ls 2>/dev/null"
    )
    if not protected:
        subprocess.run(["bash", "-c", f"{first}\nls; cat a.py"], cwd=field.tmp, capture_output=True)
        return field.mark.exists()
    # Each mark that its own call may leave is removed before the call that must not leave one.
    first = first.replace(str(evil), "./evil")
    field.space(True)
    field.shell("printf '#!/bin/sh\\n: > ran\\n' > evil; chmod +x evil; " + first, True)
    field.shell("rm -f ran; ls > /dev/null; cat a.py; test -e ran && echo RAN > result; true", True)
    return (field.space(True).root / "result").exists()


@case(
    "APR-04",
    "A forbidden command behind fifty others, and in lines that cannot be read",
    "fifty commands are looked at",
)
def many_commands(field: Field, protected: bool) -> bool:
    lines = ("true; " * 60 + "curl http://x", "true; " * 60 + "curl 'http://x", "echo " + "x" * 1_000_000 + "; curl http://x",
             "if true; then " * 40 + "curl x" + "; fi" * 40)  # fmt: skip
    if not protected:
        first_fifty = [part.split()[0] for part in lines[0].split(";")[:50] if part.split()]
        return "curl" not in first_fifty
    verdicts = [
        decide(
            Deed("shell", "execute", line), rules("deny shell:curl", "allow shell"), "auto", confined=True
        ).verdict
        for line in lines
    ]
    return verdicts[0] != "deny" or "allow" in verdicts


@case(
    "APR-05",
    "A forbidden program under other names and behind other programs",
    "no sandbox",
    needs=("bubblewrap",),
)
def wrappers(field: Field, protected: bool) -> bool:
    came = field.listen(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{field.port}/"
    field.variables["CONNECT"] = CONNECT
    field.shell(
        f"bash -c 'curl -sm 3 {url}'; env curl -sm 3 {url}; c\\url -sm 3 {url}; $(echo curl) -sm 3 {url};"
        f" echo {url} | xargs curl -sm 3; echo 'curl -sm 3 {url}' | base64 | base64 -d | sh;"
        f" cp $(command -v curl) ./own 2>/dev/null; ./own -sm 3 {url};"
        f' "$PYTHON" -c "$CONNECT" inet 127.0.0.1 {field.port}',
        protected,
    )
    return bool(came)


@case(
    "APR-06",
    "Rules that contradict each other, in every order",
    "the last rule that fits decides",
    tests=(
        "tests/test_policy.py::test_every_order_of_three_overlapping_rules",
        "tests/test_policy.py::test_a_rule_that_denies_wins_over_everything",
    ),
)
def orders(field: Field, protected: bool) -> bool:
    deed = Deed("shell", "execute", "git push origin")
    texts = ("allow shell:git *", "ask shell:git push", "deny shell:git push origin")
    for order in itertools.permutations(texts):
        verdict = (
            decide(deed, rules(*order), "auto", confined=True).verdict if protected else order[-1].split()[0]
        )
        if verdict != "deny":
            return True
    return False


@case(
    "APR-07",
    "A command whose end is not seen by who allows it",
    "the beginning is shown as it is",
    tests=(
        "tests/e2e/test_approvals.py::test_nothing_of_a_hostile_command_is_hidden",
        "tests/e2e/test_approvals.py::test_a_long_one_is_paged_and_cannot_be_answered_before_its_end",
        "tests/e2e/test_approvals.py::test_one_that_nobody_can_read_is_refused_unasked",
        "tests/e2e/test_approvals.py::test_yes_once",
    ),
)
def hidden_end(field: Field, protected: bool) -> bool:
    from poolcli.person import Question, _rows

    command = "ls" + " " * 5000 + "; touch PWN"
    shown = "".join(_rows(Question("?", (("command", command),)), 80)) if protected else command[:2000]
    return "touch PWN" not in shown.replace("\n  : ", "")


@case(
    "APR-10",
    "An answer that was remembered, used for a longer command and in another place",
    "the beginning of the command is remembered",
    tests=(
        "tests/e2e/test_approvals.py::test_yes_in_this_project_is_kept_outside_of_it_and_can_be_forgotten",
    ),
)
def remembered(field: Field, protected: bool) -> bool:
    import asyncio

    from poolcli.approvals import Approver, Remembered
    from poolcli.person import Question, Reply
    from poolcli.run import Run
    from tests.test_gate import Memory

    first, later = "git diff x", "git diff x --output=/tmp/x"
    if not protected:
        return later.startswith(first)

    class Person:
        async def ask(self, question: Question) -> Reply:
            return Reply("project")

    run = Run("r", field.tmp, Memory())
    run.emit("run.started", system="s")
    kept = field.tmp / "state.json"

    def settled(command: str, person: Person | None, sandbox: str = box().name) -> bool:
        it = Approver(mode="edits", sandbox=sandbox, person=person, remembered=Remembered(kept))
        args = {"command": command}
        return asyncio.run(
            it.settle(run, "1", "shell", "execute", args, it.decide("shell", "execute", args))
        ).yes

    assert settled(first, Person()) and settled(first, None)
    assert kept.stat().st_mode & 0o777 == 0o600
    return settled(later, None) or settled(first, None, "none")


GROUP.shown(
    "APR-14",
    "Who allowed what, missing from the log",
    "tests/e2e/test_approvals.py::test_yes_once",
    "tests/e2e/test_approvals.py::test_where_nobody_is_nothing_waits_and_the_run_goes_on",
    off="none: the log is looked at",
)
