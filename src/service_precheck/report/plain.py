"""Plain lines, for logs: one at each change, and every 30 s one that says what still blocks and why."""

from __future__ import annotations

import time

from .. import net, signals
from ..gate import blocking, sentence
from ..model import seconds
from . import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..gate import Gate, Outcome, State

STILL = 30.0


class Plain:
    """Writes lines to a descriptor. `quiet` leaves all out but what is said at a failure."""

    __slots__ = ("_descriptor", "_gate", "_quiet", "verbose", "wake")

    def __init__(self, descriptor: int, verbose: bool, quiet: bool) -> None:
        self._descriptor = descriptor
        self._quiet = quiet
        self._gate: Gate | None = None
        self.verbose = verbose and not quiet
        self.wake = float("inf")

    def begin(self, gate: Gate) -> None:
        self._gate = gate
        self.wake = net.monotonic() + STILL
        signals.last_words.append(self._ended_by)

    def changed(self, state: State) -> None:
        if not self.verbose:
            self._line(_told(state))

    def attempted(self, state: State) -> None:
        self._line(f"{_told(state)} (attempt {state.attempts})")

    def tick(self, now: float) -> None:
        self.wake = now + STILL
        assert self._gate is not None
        states = self._gate.states()
        back = blocking(states)
        told = "; ".join(f"{state.name}: {_why(state)}" for state in back[:5])
        more = f"; and {len(back) - 5} more" if len(back) > 5 else ""
        self._line(
            f"still waiting after {seconds(self._gate.waited())} for {len(back)} of {len(states)}: {told}{more}"
        )

    def end(self, outcome: Outcome) -> None:
        if outcome.ready:
            self._line(sentence(outcome))
            return
        lines = [f"{_clock()} {sentence(outcome)}"]
        for state in blocking(outcome.states):
            lines.append(f"  {state.name}: {_why(state)}")
            if state.verdict is not None and state.verdict.hint:
                lines.append(f"    hint: {state.verdict.hint}")
        write(self._descriptor, "\n".join(lines) + "\n")

    def _line(self, text: str) -> None:
        if not self._quiet:
            write(self._descriptor, f"{_clock()} {text}\n")

    def _ended_by(self, number: int) -> None:
        assert self._gate is not None
        names = ", ".join(state.name for state in blocking(self._gate.states())[:5])
        self._line(f"ended by signal {number} after {seconds(self._gate.waited())}, waiting for {names}")


def _clock() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _told(state: State) -> str:
    word = "ready" if state.holds else "failed" if state.over else "waiting"
    return f"{word}: {state.name}: {_why(state)}"


def _why(state: State) -> str:
    verdict = state.verdict
    if verdict is None:
        return "not asked yet"
    if verdict.cause is None:
        return verdict.seen
    return f"{verdict.seen} [{verdict.cause}]"
