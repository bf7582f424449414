"""The table of a live view: how the dependencies stand, laid out for any width from 20 columns up.

Wide terminals get a row for each dependency, narrow ones a second row for what blocks it. A frame
fits the screen: what holds is counted first, then what is last.
"""

from __future__ import annotations

from ..model import seconds
from .words import MOST_TOLD, in_short, name, shown_members, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..state import State

# From this width on there is room for columns.
WIDE = 64
MARKS = {"ready": "✓", "waiting": "•", "failed": "✗"}
ASCII_MARKS = {"ready": "+", "waiting": ".", "failed": "x"}
COLOURS = {"ready": "32", "waiting": "33", "failed": "31", "faint": "2"}
# Mark, space, the longest word, space.
LEAD = 10


class Style:
    """What a terminal can show, by its environment: NO_COLOR, and the locale's encoding.

    Without a locale it is UTF-8, as for the interpreter itself (PEP 538).
    """

    __slots__ = ("colours", "cut", "marks", "verbose")

    def __init__(self, environment: Mapping[str, str], verbose: bool) -> None:
        locale = (environment.get(key) for key in ("LC_ALL", "LC_CTYPE", "LANG"))
        encoding = next(filter(None, locale), "UTF-8").upper().replace("-", "")
        unicode = "UTF8" in encoding
        self.marks = MARKS if unicode else ASCII_MARKS
        self.cut = "…" if unicode else "..."
        self.colours = {} if environment.get("NO_COLOR") else COLOURS
        self.verbose = verbose


class Line:
    """Pieces of text, each in a style, cut to a width."""

    __slots__ = ("_pieces", "width")

    def __init__(self, pieces: list[tuple[str, str]], columns: int, cut: str) -> None:
        self._pieces: list[tuple[str, str]] = []
        self.width = 0
        for style, text in pieces:
            text = shortened(text, columns - self.width, cut)
            if text:
                self._pieces.append((style, text))
                self.width += len(text)

    def rendered(self, style: Style) -> str:
        """The line with its colours."""
        return "".join(
            f"\x1b[{style.colours[name]}m{text}\x1b[m" if name in style.colours else text
            for name, text in self._pieces
        )


class Table:
    """The rows for `states` after `waited` seconds, at most `columns` wide.

    `held` has the seconds after which those that hold came to do so, by name and target.
    """

    __slots__ = ("_columns", "_held", "_states", "_style", "_waited")

    def __init__(
        self,
        states: tuple[State, ...],
        waited: float,
        held: Mapping[tuple[str, str], float],
        columns: int,
        style: Style,
    ) -> None:
        self._states = states
        self._held = held
        self._waited = waited
        self._columns = columns
        self._style = style

    def frame(self, rows: int, timeout: float | None) -> list[Line]:
        """The table while the gate waits, in at most `rows` lines."""
        head = self._line([("", self._heading(timeout))])
        every = _flattened(self._states)
        lines = [head, *self._rows(every)]
        if len(lines) <= rows:
            return lines
        ready = sum(state.holds for state in self._states)
        back = [row for row in every if row[0] or not row[1].holds]
        lines = [head, *self._rows(back), *self._count(ready)]
        if len(lines) <= rows:
            return lines
        # Even what blocks is too much: as much of it as there is room for, members left out.
        back = [row for row in back if not row[0]]
        below = self._count(ready)
        fits = min(len(back), rows)
        while True:
            lines = [head, *self._rows(back[:fits]), *self._more(len(back) - fits), *below]
            if len(lines) <= rows or not fits:
                return lines[:rows]
            fits -= 1

    def summary(self, said: list[str]) -> list[Line]:
        """What stays on the screen: how each ended, with reasons in full, and what is said of it all."""
        every, ready = _flattened(self._states), 0
        if len(every) > MOST_TOLD:
            every = [row for row in every if row[0] or not row[1].holds]
            ready = sum(state.holds for state in self._states)
        lines = self._rows(every[:MOST_TOLD], whole=True)
        lines += self._more(len(every) - MOST_TOLD) if len(every) > MOST_TOLD else []
        lines += self._count(ready)
        for text in said:
            lines += [self._line([("", part)]) for part in wrapped(text, self._columns)]
        return lines

    def _heading(self, timeout: float | None) -> str:
        good = sum(state.holds for state in self._states)
        waited = seconds(int(self._waited))
        if self._columns < 50:
            return f"{good} of {len(self._states)} hold, {waited}"
        told = f"{good} of {len(self._states)} hold after {waited}"
        left = (
            ""
            if timeout is None
            else f", gives up in {seconds(max(0, round(timeout - self._waited)))}"
        )
        return f"service-precheck: {told}{left}"

    def _rows(self, every: list[tuple[int, State]], *, whole: bool = False) -> list[Line]:
        longest = max((2 * depth + len(name(state)) for depth, state in every), default=0)
        width = max(10, min(longest, self._columns * 2 // 5 - 4))
        wait = max((len(self._wait(state, whole)) for _, state in every), default=0)
        lines = []
        if self._columns >= WIDE and every and not whole:
            heads = (
                f"{'  state':{LEAD}}{'dependency':{width}}  {'wait':>{wait}}  next  what was seen"
            )
            lines.append(self._line([("faint", heads)]))
        for depth, state in every:
            lines += self._row(depth, state, width, wait, whole)
        return lines

    def _wait(self, state: State, whole: bool) -> str:
        if state.holds:
            return seconds(self._held.get((state.name, state.target), state.waited))
        return seconds(self._waited if whole else int(self._waited))

    def _row(self, depth: int, state: State, width: int, most: int, whole: bool) -> list[Line]:
        """A dependency's lines; `whole` once it has ended, with its reason in full and no next probe."""
        how, indent = word(state), "  " * depth
        lead = [(how, f"{self._style.marks[how]} {how:7} ")]
        called = indent + name(state)
        wait = self._wait(state, whole)
        following = "" if whole else _next(state)
        said = self._said(state, whole)
        if self._columns >= WIDE:
            fixed = f"{shortened(called, width, self._style.cut):{width}}  {wait:>{most}}  "
            if not whole:
                fixed += f"{following:4}  "
            parts = wrapped(said, self._columns - LEAD - len(fixed)) if whole else [said]
            lines = [self._line([*lead, ("", fixed), ("", parts[0])])]
            offset = " " * (LEAD + len(fixed))
            lines += [self._line([("", offset + part)]) for part in parts[1:]]
        else:
            room = self._columns - LEAD - len(wait) - 1
            if room >= 12:
                called = f"{shortened(called, room, self._style.cut):{room}} {wait}"
            lines = [self._line([*lead, ("", called)])]
            if not state.holds or whole:
                under = f"  {indent}"
                after = f"next {following}: " if following and room >= 12 else ""
                parts = wrapped(said, self._columns - len(under)) if whole else [f"{after}{said}"]
                lines += [self._line([("", under + part)]) for part in parts]
        hint = state.verdict.hint if state.verdict is not None else ""
        if whole and hint and not state.holds and not shown_members(state):
            hints = wrapped(f"hint: {hint}", self._columns - 4)
            lines += [self._line([("", f"    {part}")]) for part in hints]
        return lines

    def _said(self, state: State, whole: bool) -> str:
        reason = in_short(state)
        if state.cause is not None and not whole:
            # The end is what gets cut.
            reason = f"{state.cause}: {reason.removesuffix(f' [{state.cause}]')}"
        if self._style.verbose:
            reason = f"(attempt {state.attempts}) {reason}"
        return reason

    def _count(self, ready: int) -> list[Line]:
        if not ready:
            return []
        text = f"{self._style.marks['ready']} ready   "
        return [
            self._line([("ready", text), ("", f"{ready} {'other' if ready == 1 else 'others'}")])
        ]

    def _more(self, left: int) -> list[Line]:
        if not left:
            return []
        return [
            self._line([("faint", f"  and {left} more that {'waits' if left == 1 else 'wait'}")])
        ]

    def _line(self, pieces: list[tuple[str, str]]) -> Line:
        return Line(pieces, self._columns, self._style.cut)


def _flattened(states: tuple[State, ...], depth: int = 0) -> list[tuple[int, State]]:
    """Each dependency with its depth, members below their group where they say more than it does."""
    rows = []
    for state in states:
        rows.append((depth, state))
        rows += _flattened(shown_members(state), depth + 1)
    return rows


def _next(state: State) -> str:
    """When it is asked again."""
    if state.holds or state.over:
        return ""
    if state.asks_in is None:
        return "now"
    return "<1 s" if state.asks_in < 1 else seconds(round(state.asks_in))


def shortened(text: str, columns: int, cut: str) -> str:
    """`text` in at most `columns` characters, its end cut off."""
    if len(text) <= columns:
        return text
    return text[: max(0, columns - len(cut))] + cut[: max(0, columns)]


def wrapped(text: str, columns: int) -> list[str]:
    """`text` in lines of at most `columns` characters, broken at spaces where there are any."""
    lines = []
    while len(text) > columns:
        end = text.rfind(" ", columns // 3, columns + 1)
        end = columns if end < 0 else end
        lines.append(text[:end])
        text = text[end:].lstrip(" ")
    return [*lines, text] if text or not lines else lines
