"""Makes text of unknown origin safe to show in a terminal.

Whatever a model, a tool or a file name says, it must not move the cursor, set the window title, write the
clipboard, hide itself or look like something else. Sequences never reach over a line end here, so cleaning
line by line gives the same as cleaning the whole: that is what lets a view clean text while it streams.
"""

from __future__ import annotations

import re

#: Characters of one line that are shown; a minified file or a progress bar should not fill the screen.
MAX_LINE = 2000

#: Marks on one letter that are drawn. Languages need up to four or five; a hundred cover the lines above.
MAX_MARKS = 6

# Everything that is not plainly printable: the quick test that nearly all text passes.
_SUSPECT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\ufffe\uffff\U00013430-\U0001343f\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff]"
)

# Marks that are drawn over or under the letter before, in the scripts where many fit on one; and the variation
# selectors of emoji, of which there is never more than one.
_MARK = (
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0730-\u074a\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f71-\u0f84\u1ab0-\u1ace\u1dc0-\u1dff\u20d0-\u20f0\u302a-\u302f\ufe0e\ufe0f"
    "\ufe20-\ufe2f]"
)
_FLOOD = re.compile(f"(?<={_MARK * MAX_MARKS}){_MARK}")

# Each alternative consumes by negated classes without overlap, so a match never backtracks: linear time also
# for a file of unterminated introducers. ESC ends a string, as it does in a real terminal.
_SEQUENCE = re.compile(
    "(?:\x1b[\\]PX^_]|[\x90\x98\x9d\x9e\x9f])"  # OSC, DCS, SOS, PM, APC, in 7 and 8 bits …
    "[^\x07\x18\x1a\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c|\x18|\x1a)?"  # … to BEL, ST, CAN, SUB or the line's end
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI
    "|\x1b[ -/]*[0-~]?"  # any other escape, also a lone one
    "|\x9c"  # a string terminator without its string
)


#: How people write the characters that have a name of their own.
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b"}


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code <= 0xFF and code != 0xAD else f"\\u{{{code:x}}}"


def _named(match: re.Match[str]) -> str:
    return _NAMED.get(match.group()) or _visible(match)


def _line(line: str, resolve: bool = True) -> str:
    """One line without its end: carriage returns resolved, what is left made visible, the length capped."""
    if "\r" in line and resolve:
        # What a terminal shows in the end is (but for leftovers) the last thing written over the line.
        line = next((part for part in reversed(line.split("\r")) if part), "")
    # Cut before escaping, so that the work is bounded by what is shown.
    more = len(line) - MAX_LINE
    if more > 0:
        line = line[:MAX_LINE]
    line = _SUSPECT.sub(_visible if resolve else _named, line)
    if not line.isascii():
        line = _FLOOD.sub(_visible, line)
    return f"{line}… (+{more} characters)" if more > 0 else line


def clean(text: str, *, keep_newlines: bool = True) -> str:
    """The text as it may be written to a terminal: printable characters, tabs and (if kept) newlines.

    Escape sequences are removed, other control characters shown as `\\x..`, invisible and direction-changing
    ones as `\\u{..}`; a carriage return keeps what was written last; long lines are capped. With
    `keep_newlines=False` the result is one line: each line end becomes ` ↵ `, tabs become spaces, and carriage
    returns are shown, as a name or a value has none that is meant.
    """
    if _SUSPECT.search(text) or (not text.isascii() and _FLOOD.search(text)):
        lines = _SEQUENCE.sub("", text).split("\n")
        if not keep_newlines:
            lines = [line.removesuffix("\r") for line in lines]
        text = "\n".join([_line(line, keep_newlines) for line in lines])
    elif len(text) > MAX_LINE:
        text = "\n".join([_line(line) for line in text.split("\n")])
    if not keep_newlines and ("\n" in text or "\t" in text):
        text = " ↵ ".join(text.strip("\n").split("\n")).replace("\t", " ")
    return text


def shown(text: str, *, keep: str = "\n") -> str:
    """The whole text with everything that a terminal would act on or hide made visible.

    For what a person decides about (a command, a file's change): unlike `clean` it removes, resolves and cuts
    nothing. Of tab and newline those in `keep` stay, the others are shown as `\\t` and `\\n`.
    """
    text = _SUSPECT.sub(_named, text)
    if not text.isascii():
        text = _FLOOD.sub(_visible, text)
    for char in "\t\n":
        if char not in keep:
            text = text.replace(char, _NAMED[char])
    return text


def in_json(text: str) -> str:
    """JSON text with the characters that a terminal would act on or hide written as escapes: the same values.

    JSON escapes of itself only what is below U+0020.
    """
    return _SUSPECT.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    char = match.group()
    code = ord(char)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"
