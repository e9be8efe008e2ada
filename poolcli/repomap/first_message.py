"""The first message of a run: what the model is given before it has asked for anything.

The layout is part of what the demonstration model's template relies on; tests pin it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from poolcli.repomap.names import shown

#: Names of changed files that are written out.
CHANGES = 12
#: Characters of piped text, about 6,000 tokens: longer logs are cut in the middle.
QUOTED = 21_000


def first_message(
    *,
    overview: str,
    instructions: tuple[str, str] | None,
    changes: Sequence[str],
    checks_section: str,
    task: str,
    quoted: str = "",
) -> str:
    """The message, its sections in a fixed order; sections without content are left out.

    `instructions` is (path, text), `changes` the paths of uncommitted files, `checks_section` the finished
    `<checks>` block, `quoted` what came through a pipe beside the task. What is quoted cannot end its section.
    """
    sections = []
    if overview:
        sections.append(_section("repository", "", overview))
    if instructions:
        path, text = instructions
        sections.append(_section("instructions", f' file="{shown(path).strip(chr(34))}"', text))
    if changes:
        sections.append(f"<changes>{_changes(changes)}</changes>")
    if checks_section:
        sections.append(checks_section)
    if quoted.strip():
        sections.append(_section("input", "", _middle_cut(quoted.strip("\n"))))
    return "\n\n".join([*sections, _section("task", "", task.strip())])


#: What could begin or end a section of ours inside of quoted text.
_TAGS = re.compile(r"<(/?\s*(?:repository|instructions|changes|checks|input|task)\b)", re.IGNORECASE)
#: What a server may read as the end of a message and the beginning of another: marks of models' chat templates.
_MARKS = re.compile(
    r"<(?=\||｜|/?(?:start_of_turn|end_of_turn|s|system|assistant|bos|eos)>)|\[(?=/?(?:INST|SYSTEM_PROMPT)\])",
    re.I,
)
#: Terminal sequences, and characters that no text needs: a piped log is full of them.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f\U000e0000-\U000e007f]"
)


def _section(tag: str, attributes: str, body: str) -> str:
    inert = _TAGS.sub(r"<\\\1", _CONTROL.sub("", body))
    if tag != "task":  # the user's own words may be about such marks
        inert = _MARKS.sub(lambda found: found[0] + "\\", inert)
    return f"<{tag}{attributes}>\n{inert}\n</{tag}>"


def _changes(paths: Sequence[str]) -> str:
    files = "file" if len(paths) == 1 else "files"
    names = ", ".join(map(shown, paths[:CHANGES]))
    more = f" and {len(paths) - CHANGES} more" if len(paths) > CHANGES else ""
    return f"{len(paths)} uncommitted {files} carried over: {names}{more}"


def _middle_cut(text: str) -> str:
    if len(text) <= QUOTED:
        return text
    head, tail = text[: QUOTED // 2], text[-(QUOTED // 2) :]
    return f"{head}\n… {len(text) - QUOTED} characters left out …\n{tail}"
