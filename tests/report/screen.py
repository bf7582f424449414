"""A terminal's screen, just enough of one to see what the live table does to it.

It knows the sequences that the table may use and fails at any other. Lines are kept as they stand;
what leaves at the top is counted in `scrolled`.
"""

from __future__ import annotations

import re

# ECMA-48: CSI, private marker, parameters, final byte.
SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    """Feed it what a program wrote; `lines` is what is to be seen."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells: list[list[str]] = [[] for _ in range(rows)]
        self.row = self.column = 0
        self.cursor = self.wraps = True
        self.scrolled = 0
        # The longest line that was ever written, and how often text met the right edge.
        self.folded = 0
        self.frames: list[list[str]] = []

    @property
    def lines(self) -> list[str]:
        """What stands there, without the empty lines at the end."""
        text = "\n".join("".join(cells).rstrip() for cells in self.cells).rstrip()
        return text.split("\n")

    def feed(self, text: str) -> None:
        """Take what was written."""
        at = 0
        while at < len(text):
            character = text[at]
            if character == "\x1b":
                match = SEQUENCE.match(text, at)
                assert match, f"no sequence we know: {text[at : at + 12]!r}"
                self._control(*match.groups())
                at = match.end()
                continue
            at += 1
            if character == "\r":
                self.column = 0
            elif character == "\n":
                self._down()
            elif character != "\x18":
                assert character.isprintable(), f"{character!r} on a terminal"
                self._put(character)

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self.folded += 1
            if self.wraps:
                self.column = 0
                self._down()
            else:
                self.column -= 1
        cells = self.cells[self.row]
        cells.extend(" " * (self.column + 1 - len(cells)))
        cells[self.column] = character
        self.column += 1

    def _down(self) -> None:
        if self.row == self.rows - 1:
            self.cells = [*self.cells[1:], []]
            self.scrolled += 1
        else:
            self.row += 1

    def _control(self, private: str, parameters: str, final: str) -> None:
        known = (private, final, parameters)
        if final == "m" and not private:
            return
        if final == "A" and not private:
            assert int(parameters or 1) <= self.row, "above what is ours"
            self.row -= int(parameters or 1)
        elif known == ("", "K", "2"):
            self.cells[self.row] = []
        elif known == ("", "J", ""):
            # As terminals do: at the right edge the cursor stands on the last character.
            edge = min(self.column, self.columns - 1)
            self.cells[self.row] = self.cells[self.row][:edge]
            for row in range(self.row + 1, self.rows):
                self.cells[row] = []
        elif private and parameters == "25":
            self.cursor = final == "h"
        elif private and parameters == "7":
            if final == "h" and not self.wraps:
                self.frames.append(self.lines)
            self.wraps = final == "h"
        else:
            raise AssertionError(f"no sequence we know: {known}")
