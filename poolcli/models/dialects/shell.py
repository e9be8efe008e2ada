"""The dialect of last resort: one fenced block of shell commands per reply, for models that can do no more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from poolcli.messages import Call, Message, Part, Text, Think
from poolcli.models.dialects import blocks
from poolcli.models.dialects.native import arguments

#: The tool that a block is a call of, and the parameter that it is.
TOOL, PARAMETER = "shell", "command"

GUIDE = """# How to act

The only tool here is a bash shell in the repository root. You use it by writing one fenced block:

```bash
grep -rn "def area" src
sed -n '1,40p' src/area.py
```

- Write one block per reply, then stop. Of several only the last is run. Its output comes in the next message, as \
<result tool="shell">…</result>. Never write output yourself.
- Write a file with a heredoc, which needs no escaping:

```bash
cat > src/area.py <<'EOF'
def area(width, height):
    return width * height
EOF
```

- Change part of a file with a short program, `python3 - <<'EOF'`, or with `sed -i`; then look at the result.
- There is no run_tests here: run the checks' own command, or say that you are done.
- A reply without a block says that the work is done; pool then runs the checks."""

#: Stands in a reply for a block that was not run, so that the model does not take it for done.
NOT_RUN = "(A block stood here. It was not run: only the last block of a reply is.)"
#: Stands for one that was not whole.
CUT_OFF = "(A block stood here. It was not run: it was not whole.)"

#: The beginning of any fenced block; its mark and the word behind it.
_OPEN = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([\w.+-]*)[^`]*")
_SHELLS = frozenset({"bash", "sh", "shell"})
#: The beginning of a heredoc: whether tabs before its end count, and the word that ends it. `<<<` is none.
_HEREDOC = re.compile(r"(?<!<)<<(?!<)(-?)[ \t]*(['\"\\]?)([A-Za-z_]\w*)")


class Block(Struct, frozen=True):
    """A fenced block: its first and last line in the text, what it holds, whether it ends at all."""

    first: int
    last: int
    shell: bool
    text: str
    closed: bool = True


def fenced(text: str, *, cut: bool = False) -> list[Block]:
    """The fenced blocks of a text. A fence inside of a heredoc belongs to the file that is being written.

    `cut` says that the text goes on behind its end, where a heredoc may have its own.
    """
    lines = text.split("\n")
    found: list[Block] = []
    at, heredocs = 0, True
    while at < len(lines):
        opened = _OPEN.fullmatch(lines[at])
        if not opened:
            at += 1
            continue
        shell = opened[2].lower() in _SHELLS
        end = _end(lines, at + 1, opened[1], heredocs=shell and heredocs)
        if end is None and shell and heredocs and not cut:
            # What looked like a heredoc was none (`1 << n`). Said once, so that this stays linear.
            heredocs = False
            end = _end(lines, at + 1, opened[1], heredocs=False)
        last = len(lines) if end is None else end
        found.append(Block(at, last, shell, "\n".join(lines[at + 1 : last]), end is not None))
        at = last + 1
    return found


def _end(lines: Sequence[str], at: int, mark: str, *, heredocs: bool) -> int | None:
    """The line that closes a block, None when there is none."""
    waiting: list[tuple[bool, str]] = []
    for number in range(at, len(lines)):
        line = lines[number]
        if waiting:
            tabs, word = waiting[0]
            if (line.lstrip("\t") if tabs else line) == word:
                waiting.pop(0)
            continue
        bare = line.strip()
        if bare and bare.startswith(mark) and set(bare) == {mark[0]}:
            return number
        if heredocs:
            waiting = [(found[1] == "-", found[3]) for found in _HEREDOC.finditer(line)]
    return None


def block(command: str) -> str:
    """A command as the model is asked to write it."""
    mark = "```"
    while mark in command:
        mark += "`"
    return f"{mark}bash\n{command}\n{mark}"


def written(message: Message) -> str:
    """A reply as the model is asked to write it; one without calls as it was."""
    if not message.calls:
        return blocks.prose(message)
    said = [blocks.thought(message)]
    called = False
    for part in message.parts:
        if isinstance(part, Call):
            called = True
            said.append(_call(part))
        elif isinstance(part, Text) and not called:  # what follows a block is mostly output that was made up
            said.append(part.text.strip())
    return "\n\n".join(text for text in said if text)


def _call(call: Call) -> str:
    if call.name != TOOL:  # from a higher rung
        return f"(used the tool {call.name} with {arguments(call)})"
    command = (call.args or {}).get(PARAMETER)
    return block(command) if isinstance(command, str) else CUT_OFF


class Fenced:
    """A fenced block of shell commands is a call of `shell`; a reply without one is the last."""

    name = "shell"
    streamed = True
    guide = GUIDE

    def __init__(self, *, system_role: bool = True, reasoning_back: bool = True) -> None:
        self.system_role = system_role
        self.heard: Message | None = None
        self._reasoning_back = reasoning_back

    def constants(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def render(self, message: Message) -> Iterator[dict[str, Any]]:
        """One message each; results as a message of the user."""
        yield blocks.rendered(message, written, reasoning_back=self._reasoning_back)

    def read(self, message: Message, *, cut: bool = False) -> Message:
        """The last block as a call; one that was cut off as a call without arguments, which is not run."""
        self.heard = message
        text = message.text
        found = [one for one in fenced(text, cut=cut) if one.shell and (one.text.strip() or not one.closed)]
        if not found:
            return message
        last = found[-1]
        lines = text.split("\n")
        before, at = [], 0
        for one in found[:-1]:
            before += [*lines[at : one.first], NOT_RUN]
            at = one.last + 1
        before += lines[at : last.first]
        after = "\n".join(lines[last.last + 1 :]).strip()
        parts: list[Part] = [part for part in message.parts if isinstance(part, Think)]
        if said := "\n".join(before).strip():
            parts.append(Text(said))
        args = {PARAMETER: last.text} if last.closed else None
        parts.append(Call("call_1", TOOL, args, "" if last.closed else last.text))
        if after:
            parts.append(Text(f"\n\n{after}"))
        return Message(message.role, tuple(parts))
