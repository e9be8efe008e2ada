"""What a run may do without asking, and the questions about the rest: policy on one side, a person on the other."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from poolcli import policy
from poolcli.person import Question, Reply
from poolcli.policy import Decision, Deed, Rule
from poolcli.run import Run

#: Names of sandboxes that confine nothing.
UNCONFINED = frozenset({"", "none", "ask"})
#: Characters of a question; nobody reads more before saying yes.
LONGEST = 200_000
#: Bytes of the file of remembered answers that are read; an entry is a line.
LARGEST = 1_000_000

NOBODY = "nobody is here to be asked; go on without it"
TOO_LONG = "it is too long to be shown to a person; write it to a file in smaller steps"

_WORDS = {
    "once": "yes",
    "run": "yes, for this run",
    "project": "yes, in this project",
    "no": "no",
}


class Person(Protocol):
    """Somebody who answers."""

    async def ask(self, question: Question) -> Reply:
        """Their answer, however long it takes."""


class Answer(Struct, frozen=True):
    """Whether a call may run. `text` is what allowed it, or else its result for the model."""

    yes: bool
    text: str


class Remembered:
    """Answers that hold for a project: exact commands, exact files, in a file of the user's state folder.

    A file that cannot be read holds nothing, and one that cannot be written remembers nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, key: Mapping[str, str]) -> bool:
        return any(all(entry.get(name) == key[name] for name in key) for entry in self.read())

    def read(self) -> list[Mapping[str, str]]:
        """Every remembered answer: {tool, sha256, sandbox, what}; `what` is for people."""
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(LARGEST))
        except (OSError, ValueError, RecursionError):
            return []
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    def add(self, key: Mapping[str, str], what: str) -> None:
        """Remember an answer; `what` says to people what it was about."""
        import tempfile

        with contextlib.suppress(OSError):
            handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".approvals-")  # mode 0600
            try:
                with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
                    json.dump([*self.read(), {**key, "what": what}], out, ensure_ascii=True, indent=1)
                Path(temporary).replace(self._path)
            finally:
                Path(temporary).unlink(missing_ok=True)

    def forget(self) -> bool:
        """Remember nothing any more; whether there was anything."""
        found = bool(self.read())
        self._path.unlink(missing_ok=True)
        return found


class Approver:
    """Decides on the calls of one run, and asks about those that are to be asked about.

    `real` gives the real path, relative to the root, of a path that a model wrote; None for one that is not inside.
    `person` is None where nobody can be asked: then a question is a refusal, and nothing waits.
    """

    def __init__(
        self,
        rules: Collection[Rule] = (),
        *,
        mode: str = "",
        sandbox: str = "",
        person: Person | None = None,
        remembered: Remembered | None = None,
        real: Callable[[str], str | None] = lambda path: path,
    ) -> None:
        self._rules, self._mode, self._sandbox = tuple(rules), mode, sandbox
        self._person, self._remembered, self._real = person, remembered, real
        self._this_run: list[Mapping[str, str]] = []
        self._asked = 0

    @property
    def confined(self) -> bool:
        """Whether commands run inside a sandbox."""
        return self._sandbox not in UNCONFINED

    def decide(self, tool: str, kind: str, args: Mapping[str, Any]) -> Decision:
        """What the rules and the mode say about a call."""
        decision = policy.decide(
            self._deed(tool, kind, args), self._rules, self._mode, confined=self.confined
        )
        path = args.get("path")
        unasked = decision.verdict == "ask" and decision.rule is None and kind in policy.LOOKING
        if unasked and isinstance(path, str) and self._real(path) is None:
            # Nobody is asked for what the tool refuses whatever they say. Not allowed either: a link may have
            # been turned until the tool looks.
            return Decision("deny", f"{path} is no path inside the worktree")
        return decision

    async def settle(
        self, run: Run, call: str, tool: str, kind: str, args: Mapping[str, Any], decision: Decision
    ) -> Answer:
        """Whether a call that was not denied may run, after asking a person where that is to be asked."""
        if decision.verdict != "ask":
            return Answer(decision.verdict == "allow", decision.why)
        about = what(tool, args)
        # By its hash: exact, also where a secret in it is not to be written down.
        digest = hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest()
        key = {"tool": tool, "sha256": digest, "sandbox": self._sandbox}
        if key in self._this_run:
            return Answer(True, "a person said yes to it, for this run")
        if self._remembered is not None and key in self._remembered:
            return Answer(True, "a person said yes to it, in this project")
        self._asked += 1
        question = f"{call}?{self._asked}"
        risk = self._risk(kind)
        run.emit(
            "asked",
            id=question,
            text=f"{tool}: {about}",
            call=call,
            name=tool,
            args=args,
            why=decision.why,
            risk=risk,
        )
        reply, refusal = await self._reply(tool, args, decision.why, risk)
        text = refusal or _WORDS[reply.choice] + (f": {reply.message}" if reply.message else "")
        by = "nobody" if self._person is None or refusal else "person"
        run.emit("answered", id=question, text=text, answer=reply.choice, by=by)
        if refusal:
            return Answer(False, f"refused: {decision.why}; {refusal}")
        if reply.choice == "no":
            said = f": {reply.message}" if reply.message else "; go on without it"
            return Answer(False, f"refused: the user said no{said}")
        if reply.choice != "once":
            self._this_run.append(key)
        if reply.choice == "project" and self._remembered is not None:
            self._remembered.add(key, run.redactor.text(about))
        return Answer(True, f"a person said {_WORDS[reply.choice]}")

    async def _reply(self, tool: str, args: Mapping[str, Any], why: str, risk: str) -> tuple[Reply, str]:
        """The answer; and, where nobody gave it, the reason for the `no`."""
        if self._person is None:
            return Reply("no"), NOBODY
        parts = tuple((name, _text(value)) for name, value in args.items())
        if sum(len(text) for _, text in parts) > LONGEST:
            return Reply("no"), TOO_LONG
        facts = (("why", why), ("risk", risk))
        return await self._person.ask(Question(f"May the model use {tool}?", parts, facts)), ""

    def _deed(self, tool: str, kind: str, args: Mapping[str, Any]) -> Deed:
        if tool in policy.COMMANDS:
            runs = args.get("action", "start") in ("start", "send")
            return Deed(tool, kind, str(args.get("command") or args.get("text") or "") if runs else "")
        path = args.get("path")
        if not isinstance(path, str):
            return Deed(tool, kind)
        names: list[str] = []
        for one in (path, *_further(tool, args)):
            real = self._real(one)
            names += (one,) if real is None or real == one else (one, real)
        return Deed(tool, kind, paths=tuple(names))

    def _risk(self, kind: str) -> str:
        if kind in ("edit", "move"):
            return "it changes a file of the worktree; your checkout stays as it is"
        if kind in policy.LOOKING:
            return "it reads files of the worktree"
        if self.confined:
            return f"it runs inside the sandbox ({self._sandbox})"
        return "it runs with your rights, without a sandbox: it can reach your files and the network"


def _further(tool: str, args: Mapping[str, Any]) -> tuple[str, ...]:
    """The files besides its `path` that a call changes: a patch names them."""
    if tool not in ("edit", "write"):
        return ()
    from poolcli.tools import patched

    return patched.paths(args)


def what(tool: str, args: Mapping[str, Any]) -> str:
    """What an answer is about, exactly: the command, the file, else all arguments."""
    if tool == "shell" and isinstance(args.get("command"), str):
        return str(args["command"])
    if isinstance(args.get("path"), str):
        return ", ".join((str(args["path"]), *_further(tool, args)))
    return json.dumps(args, sort_keys=True, ensure_ascii=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
