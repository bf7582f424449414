"""Plain lines, for logs: one at each change, and every 30 s one that says what still blocks and why.

What to do about it stands below the first of those: in a pod a gate waits for ever, and has no end at
which it could be told.
"""

from __future__ import annotations

import time

from .. import net, signals
from ..model import seconds
from ..state import blocking
from . import write
from .words import closing, ended_by, leaves, name, reasons, sentence, told, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..gate import Gate
    from ..state import Outcome, State

STILL = 30.0
# Named in a line; the others are counted.
MOST = 5


class Plain:
    """Writes lines to a descriptor. `quiet` leaves all out but what is said at a failure."""

    __slots__ = ("_descriptor", "_gate", "_hinted", "_quiet", "verbose", "wake")

    def __init__(self, descriptor: int, verbose: bool, quiet: bool) -> None:
        self._descriptor = descriptor
        self._quiet = quiet
        self._gate: Gate | None = None
        # What was told what to do about: names and causes.
        self._hinted: set[tuple[str, str | None]] = set()
        self.verbose = verbose and not quiet
        self.wake = float("inf")

    def begin(self, gate: Gate) -> None:
        self._gate = gate
        self.wake = net.monotonic() + STILL
        signals.last_words.append(self._ended_by)

    def changed(self, state: State) -> None:
        # An attempt's line says it already, but not for a group, nor when a dependency's own time is over.
        if not self.verbose or state.members or state.over:
            self._line(f"{word(state)}: {told(state, short=True)}")
        if state.cause in ("forbidden", "local"):
            # That will not pass by itself, as what is seen while others start does.
            self._hint(state)

    def attempted(self, state: State) -> None:
        self._line(f"{word(state)}: {told(state)} (attempt {state.attempts})")

    def tick(self, now: float) -> None:
        self.wake = now + STILL
        assert self._gate is not None
        states = self._gate.states()
        back = blocking(states)
        after = seconds(self._gate.waited())
        if not back:
            self._line(f"still looking after {after}: all hold, and are asked once more")
            return
        each = "; ".join(told(state) for state in back[:MOST])
        self._line(
            f"still waiting after {after} for {len(back)} of {len(states)}: {each}{_more(back)}"
        )
        for state in leaves(tuple(back[:MOST])):
            self._hint(state)

    def end(self, outcome: Outcome) -> None:
        signals.last_words.remove(self._ended_by)
        if outcome.ready:
            self._line(sentence(outcome))
            return
        lines = [f"{_clock()} {sentence(outcome)}", *reasons(outcome.states)]
        lines += [f"  {line}" for line in closing(outcome)]
        write(self._descriptor, "\n".join(lines) + "\n")

    def _hint(self, state: State) -> None:
        hint = "" if state.verdict is None else state.verdict.hint
        about = (state.name, state.cause)
        if hint and about not in self._hinted:
            self._hinted.add(about)
            self._line(f"  hint for {name(state)}: {hint}")

    def _line(self, text: str) -> None:
        if not self._quiet:
            write(self._descriptor, f"{_clock()} {text}\n")

    def _ended_by(self, number: int) -> None:
        assert self._gate is not None
        back = blocking(self._gate.states())
        names = ", ".join(name(state) for state in back[:MOST])
        after = seconds(self._gate.waited())
        self._line(
            f"{ended_by(number)} after {after}, waiting for {names or 'a last look'}{_more(back)}"
        )


def _more(states: list[State]) -> str:
    return f"; and {len(states) - MOST} more" if len(states) > MOST else ""


def _clock() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
