"""Makes text of unknown origin safe to show in a terminal.

Whatever a model, a tool or a file name says, it must not move the cursor, set the window title, write the
clipboard, hide itself or look like something else. Sequences never reach over a line end here, so cleaning
line by line gives the same as cleaning the whole: that is what lets a view clean text while it streams.
"""

from __future__ import annotations

import re

#: Characters of one line that are shown; a minified file or a progress bar should not fill the screen.
MAX_LINE = 2000

# Everything that is not plainly printable: the quick test that nearly all text passes.
_SUSPECT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff]"
)

# Each alternative consumes by negated classes without overlap, so a match never backtracks: linear time also
# for a file of unterminated introducers. ESC ends a string, as it does in a real terminal.
_SEQUENCE = re.compile(
    "(?:\x1b[\\]PX^_]|[\x90\x98\x9d\x9e\x9f])"  # OSC, DCS, SOS, PM, APC, in 7 and 8 bits …
    "[^\x07\x18\x1a\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c|\x18|\x1a)?"  # … to BEL, ST, CAN, SUB or the line's end
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI
    "|\x1b[ -/]*[0-~]?"  # any other escape, also a lone one
    "|\x9c"  # a string terminator without its string
)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code <= 0xFF and code != 0xAD else f"\\u{{{code:x}}}"


def _line(line: str) -> str:
    """One line without its end: carriage returns resolved, what is left made visible, the length capped."""
    if "\r" in line:
        # What a terminal shows in the end is (but for leftovers) the last thing written over the line.
        line = next((part for part in reversed(line.split("\r")) if part), "")
    # Cut before escaping, so that the work is bounded by what is shown.
    more = len(line) - MAX_LINE
    if more > 0:
        line = line[:MAX_LINE]
    line = _SUSPECT.sub(_visible, line)
    return f"{line}… (+{more} characters)" if more > 0 else line


def clean(text: str, *, keep_newlines: bool = True) -> str:
    """The text as it may be written to a terminal: printable characters, tabs and (if kept) newlines.

    Escape sequences are removed, other control characters shown as `\\x..`, invisible and direction-changing
    ones as `\\u{..}`; a carriage return keeps what was written last; long lines are capped. With
    `keep_newlines=False` the result is one line: each line end becomes ` ↵ ` and tabs become spaces.
    """
    if _SUSPECT.search(text):
        lines = [_line(line) for line in _SEQUENCE.sub("", text).split("\n")]
        text = "\n".join(lines)
    elif len(text) > MAX_LINE:
        text = "\n".join([_line(line) for line in text.split("\n")])
    if not keep_newlines and ("\n" in text or "\t" in text):
        text = " ↵ ".join(text.strip("\n").split("\n")).replace("\t", " ")
    return text
