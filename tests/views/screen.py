"""A terminal small enough to trust: knows just what the views may send, and fails on anything else."""

import re
import unicodedata

TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\x00-\x1f\x7f-\x9f])|([^\x00-\x1f\x7f-\x9f]+)")


class Screen:
    """Rows without a lower end: what has scrolled away is still there to be looked at."""

    def __init__(self, columns):
        self.columns, self.rows, self.x, self.y, self.cursor_hidden = columns, [""], 0, 0, False

    def feed(self, text):
        position = 0
        while position < len(text):
            token = TOKEN.match(text, position)
            assert token, f"not understood: {text[position : position + 20]!r}"
            position = token.end()
            numbers, letter, control, words = token.groups()
            if words:
                for char in words:
                    self._put(char)
            elif control:
                self._control(control)
            else:
                self._sequence(numbers, letter)
        return self

    def _put(self, char):
        if self.x >= self.columns:
            self._control("\r")
            self._control("\n")
        row = self.rows[self.y].ljust(self.x)
        self.rows[self.y] = row[: self.x] + char + row[self.x + 1 :]
        self.x += 2 if unicodedata.east_asian_width(char) in "WF" else 1

    def _control(self, char):
        assert char in "\r\n", f"control character {char!r}"
        if char == "\r":
            self.x = 0
        else:
            self.y += 1
            if self.y == len(self.rows):
                self.rows.append("")

    def _sequence(self, numbers, letter):
        count = int(numbers) if numbers.isdigit() else 1
        if letter == "A":
            assert count <= self.y
            self.y -= count
        elif letter in "KJ" and not numbers:
            self.rows[self.y] = self.rows[self.y][: self.x]
            if letter == "J":
                del self.rows[self.y + 1 :]
        elif letter in "hl" and numbers in ("?25", "?2026"):
            if numbers == "?25":
                self.cursor_hidden = letter == "l"
        else:
            assert letter == "m", f"sequence {numbers}{letter}"

    @property
    def text(self):
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n")
