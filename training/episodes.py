"""Demonstrations: whole conversations as `pool do` has them, with an expert in the model's place.

Messages are in the chat-completions dialect plus one key, `trained`: whether the network learns from what
the assistant said there. Some demonstrations begin with a mistake that is not learnt, so that the network
learns to go on from a red run, from a refused edit, and from a task given up too early.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from keyword import iskeyword
from pathlib import Path
from random import Random
from typing import Any

from poolcli.tools.base import ToolError
from poolcli.tools.edit import edited_text, replace
from poolcli.tools.read import numbered
from poolcli.verdict.evidence import Report
from training.checks import first_message, run_checks, still_failing
from training.family import Bug, Instance, misspelt

Message = dict[str, Any]
TEMPLATE = (Path(__file__).parent / "template.jinja").read_text()


@dataclass(frozen=True)
class Mistakes:
    """How often a demonstration shows each kind of mistake at a bug.

    `wrong`: another line than the right one; `misspelt`: the right line with a name spelt wrongly; `refused`:
    an edit whose old text does not exist or that changes nothing; `early`: the share of red states in which
    the work is called done.
    """

    wrong: float
    misspelt: float
    refused: float
    early: float


MISTAKES = Mistakes(wrong=0.2, misspelt=0.05, refused=0.08, early=0.1)


@cache
def _template() -> Any:  # jinja2 comes with torch; what needs no rendering does without
    import jinja2

    return jinja2.Environment(keep_trailing_newline=False).from_string(TEMPLATE)


def render(messages: list[Message], *, generate: bool = False) -> str:
    """The conversation as the model reads it, through the template that the GGUF file carries."""
    return _template().render(messages=messages, add_generation_prompt=generate)


def segments(messages: list[Message]) -> Iterator[tuple[str, bool]]:
    """The rendered conversation in pieces, each with whether the network is trained to produce it."""
    start = "<|im_start|>assistant\n"
    before: list[Message] = []
    for message in messages:
        # What the template shows of a file depends on the evidence before it, and on nothing else.
        text = render([*before, message])[len(render(before)) :] if before else render([message])
        if message["role"] == "user" or message.get("evidence"):
            before = [message]
        if message["role"] == "assistant":
            yield start, False
            yield text.removeprefix(start), message.get("trained", True)
        else:
            yield text, False


def say(text: str, name: str = "", *, trained: bool = True, **arguments: str) -> Message:
    """What the assistant says, with one call if `name` is given."""
    message: Message = {"role": "assistant", "content": text, "trained": trained}
    if name:
        message["tool_calls"] = [
            {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
        ]
    return message


def result(text: str) -> Message:
    """A tool's result."""
    return {"role": "tool", "tool_call_id": "c", "content": text}


def snippet(source: str, line: int) -> tuple[int, int] | None:
    """First and last line of the shortest piece around `line` that occurs once, None when there is none.

    The piece begins after the first line's indentation, as in `old` of an edit.
    """
    lines = source.split("\n")
    for first, last in ((line, line), (line - 1, line), (line, line + 1), (line - 2, line)):
        if first >= 0 and source.count(piece(lines, first, last)) == 1:
            return first, last
    return None


def piece(lines: list[str], first: int, last: int) -> str:
    """Lines `first` to `last` without the first one's indentation."""
    return "\n".join(lines[first : last + 1]).strip()


class Expert:
    """Plays the assistant on one instance, with the sources as they change."""

    def __init__(self, instance: Instance, random: Random, mistakes: Mistakes) -> None:
        self.instance, self.random, self.mistakes = instance, random, mistakes
        self.lines = instance.source.split("\n")
        self.messages: list[Message] = []
        self.edits = 0

    @property
    def source(self) -> str:
        """The module as it is now."""
        return "\n".join(self.lines)

    def checks(self) -> Report:
        """The report on the module as it is now."""
        files = {self.instance.module: self.source, self.instance.test: self.instance.tests}
        return run_checks(files, self.instance.module, self.instance.test)

    def edit(self, bug: Bug, line: str, *, trained: bool = True) -> bool:
        """Put `line` at the bug's place. False when no piece of the source around it is unique."""
        span = snippet(self.source, bug.line)
        if span is None:
            return False
        first, last = span
        old = piece(self.lines, first, last)
        changed = [*self.lines]
        changed[bug.line] = line
        new = piece(changed, first, last)
        done = replace(self.source, old, new)
        assert done.text == "\n".join(changed)
        self._say_edit(bug, old, new, trained=trained)
        self.messages.append(result(edited_text(self.instance.module, *done.lines)))
        self.lines = changed
        self.edits += 1
        return True

    def _say_edit(self, bug: Bug, old: str, new: str, *, trained: bool) -> None:
        path, text = self.instance.module, f"The bug is in `{bug.function}`."
        self.messages.append(say(text, "edit", path=path, old=old, new=new, trained=trained))

    def read(self, text: str = "") -> None:
        """Read the module."""
        self.messages += [say(text, "read", path=self.instance.module), result(numbered(self.source))]

    def refused_edit(self, bug: Bug) -> None:
        """An edit whose old text is misspelt, or that changes nothing; pool refuses it."""
        old = self.lines[bug.line].strip()
        if self.source.count(old) > 1:
            good = bug.good.strip()
        else:
            good = bug.good.strip() if self.random.random() < 0.5 else old
        names = list(re.finditer(r"[a-z_]{3,}", old))
        if good == old or self.source.count(old) > 1:
            wrong = old
        elif names and self.random.random() < 0.6:
            name = self.random.choice(names)
            wrong = old[: name.start()] + misspelt(name.group(), self.random) + old[name.end() :]
        else:
            place = self.random.randrange(len(old))
            wrong = old[:place] + old[place + 1 :]
        try:
            replace(self.source, wrong, good, path=self.instance.module)
        except ToolError as error:
            self._say_edit(bug, wrong, good, trained=False)
            self.messages.append(result(f"error: {error}"))

    def run_tests(self) -> str:
        """Call run_tests and give its evidence."""
        evidence = self.checks().text
        self.messages += [say("", "run_tests"), result(evidence) | {"evidence": True}]
        return evidence

    def end(self, *, trained: bool = True) -> None:
        """Say that the work is done."""
        names = [f"`{bug.function}`" for bug in self.instance.bugs]
        self.messages.append(say(f"Fixed {' and '.join(names)} in {self.instance.module}.", trained=trained))

    def _wrong_line(self, bug: Bug) -> str | None:
        choice = self.random.random()
        if choice < self.mistakes.wrong:
            return self.random.choice(bug.others) if bug.others else None
        names = [m for m in re.finditer(r"[a-z_]{5,}", bug.good) if not iskeyword(m.group())]
        if choice < self.mistakes.wrong + self.mistakes.misspelt and names:
            name = self.random.choice(names)
            return bug.good[: name.start()] + misspelt(name.group(), self.random) + bug.good[name.end() :]
        return None

    def mistake(self, bug: Bug) -> bool:
        """Perhaps a wrong edit of the bug's line and the red run after it. False: the instance is unfit."""
        wrong = self._wrong_line(bug)
        if wrong is None or wrong == self.lines[bug.line]:
            return True
        before = self.source
        if not self.edit(bug, wrong, trained=False):
            return False
        if self.random.random() < self.mistakes.early:
            self.end(trained=False)
            report = self.checks()
            self.messages.append(still_failing(report))
            evidence = report.text
        else:
            evidence = self.run_tests()
        self.read(f"Still failing: `{bug.function}`.")
        return f"{bug.function}(" in evidence and self.source != before


def demonstrate(instance: Instance, random: Random, mistakes: Mistakes = MISTAKES) -> list[Message] | None:
    """One conversation that ends green, or None when the instance is unfit for one."""
    expert = Expert(instance, random, mistakes)
    report = expert.checks()
    evidence = report.text
    expert.messages = [first_message(report, instance.task)]
    left = list(instance.bugs)
    while left:
        # The first failure that the evidence names is repaired first.
        left.sort(key=lambda bug: _position(evidence, bug.function))
        bug = left.pop(0)
        expert.read(f"Still failing: `{bug.function}`." if expert.edits else "")
        if not (expert.mistake(bug) and (random.random() > 0.2 or expert.mistake(bug))):
            return None
        if random.random() < mistakes.refused or (
            expert.source.count(expert.lines[bug.line].strip()) > 1 and random.random() < 0.7
        ):
            expert.refused_edit(bug)
        if not expert.edit(bug, bug.good):
            return None
        evidence = expert.run_tests()
    if " failed" in evidence or " passed" not in evidence or expert.source != instance.fixed:
        return None
    expert.end()
    return expert.messages


def _position(evidence: str, function: str) -> int:
    place = re.search(rf"(?<!\w){function}\(", evidence)
    return place.start() if place else len(evidence)
