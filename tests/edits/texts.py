"""Texts, edits of them, and the damage that models do to edits."""

import difflib

from hypothesis import strategies as st

#: Few words, so that lines repeat and places become ambiguous.
WORDS = ["x = 1", "y = 2", "return x", "}", "", "if x:", "-- note", "++ more", "café", "# …", "a\tb", "@@ z"]
INDENTS = ["", "    ", "        ", "\t", "\t\t"]
LINE = st.builds(
    lambda indent, word: indent + word if word else "", st.sampled_from(INDENTS), st.sampled_from(WORDS)
)
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n"])


@st.composite
def texts(draw, most=14):
    """A text of repeating lines, mostly with a last line end, sometimes with mixed line ends."""
    lines = draw(st.lists(LINE, max_size=most))
    end = draw(ENDS)
    text = end.join(lines)
    return text + end if lines and draw(st.integers(0, 3)) else text


@st.composite
def changed(draw, text):
    """A text with a few lines taken away, put in or replaced."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines)))
        count = draw(st.integers(0, 2))
        lines[at : at + count] = draw(st.lists(LINE, max_size=2))
    return "\n".join(lines)


def unified(before, after, context=3, names=("a/f", "b/f")):
    """A correct unified diff, with the marks for a missing last line end."""
    old, new = _lines(before), _lines(after)
    out = [f"--- {names[0]}\n", f"+++ {names[1]}\n"]
    for line in list(difflib.unified_diff(old, new, n=context))[2:]:
        out.append(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n")
    return "".join(out)


def _lines(text):
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
