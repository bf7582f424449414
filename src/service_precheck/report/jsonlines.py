"""JSON lines, for programs: one object a line on standard output, as docs/schemas/events-v1.json has it.

Each line fits what a pipe takes whole (4 KiB), so that a reader never meets half an object: texts
are cut and lists shortened until it does. Written without `json`, which costs the gate 9 ms.
"""

from __future__ import annotations

import time
from _json import encode_basestring_ascii as quote

from .. import net, signals
from ..model import printable
from ..state import FAILED, OPEN, TIMED_OUT, blocking
from . import ATOMIC, write
from .words import ended_by, sentence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..gate import Gate
    from ..state import Outcome, State

VERSION = 1
WAITING = 30.0
RESULTS = {OPEN: "open", FAILED: "failed", TIMED_OUT: "timed-out"}
# Characters of a text and items of a list: the first pair whose line fits is taken. An escaped
# character has up to 12 bytes, so with the last any line does.
SIZES = ((500, 50), (250, 10), (100, 5), (20, 2))


class JsonLines:
    """Writes events to a descriptor. `quiet` leaves all out but the end that is a failure."""

    __slots__ = ("_count", "_descriptor", "_gate", "_quiet", "verbose", "wake")

    def __init__(self, descriptor: int, verbose: bool, quiet: bool) -> None:
        self._descriptor = descriptor
        self._quiet = quiet
        # A gap tells a reader that lines were left out, because it was too slow to take them.
        self._count = 0
        self._gate: Gate | None = None
        self.verbose = verbose and not quiet
        self.wake = float("inf")

    def begin(self, gate: Gate) -> None:
        self._gate = gate
        self.wake = net.monotonic() + WAITING
        signals.last_words.append(self._ended_by)
        if not self._quiet:
            states = gate.states()
            self._event(
                "start",
                lambda text, items: {
                    "dependencies": len(states),
                    "names": [printable(state.name, text) for state in states[:items]],
                    "timeout": gate.settings.timeout,
                },
            )

    def changed(self, state: State) -> None:
        if not self._quiet:
            self._event("change", lambda text, items: _dependency(state, text, items))

    def attempted(self, state: State) -> None:
        self._event("attempt", lambda text, items: _dependency(state, text, items))

    def tick(self, now: float) -> None:
        self.wake = now + WAITING
        assert self._gate is not None
        if not self._quiet:
            waited, states = self._gate.waited(), self._gate.states()
            self._event("waiting", lambda text, items: _blocking(states, waited, text, items))

    def end(self, outcome: Outcome) -> None:
        signals.last_words.remove(self._ended_by)
        if not (self._quiet and outcome.ready):
            self._end(outcome.states, outcome.waited, outcome.status, sentence(outcome))

    def _end(self, states: tuple[State, ...], waited: float, status: int, said: str) -> None:
        self._event(
            "end",
            lambda text, items: {
                "status": status,
                "result": RESULTS.get(status, "signal"),
                "seen": printable(said, text),
                **_blocking(states, waited, text, items),
            },
        )

    def _ended_by(self, number: int) -> None:
        assert self._gate is not None
        if not self._quiet:
            said = ended_by(number)
            self._end(self._gate.states(), self._gate.waited(), 128 + number, said)

    def _event(self, event: str, fields: Callable[[int, int], dict[str, object]]) -> None:
        self._count += 1
        start = {"v": VERSION, "event": event, "n": self._count, "time": _now()}
        for text, items in SIZES:
            line = encode(start | fields(text, items)) + "\n"
            if len(line) <= ATOMIC:
                write(self._descriptor, line)
                return


def _dependency(state: State, text: int, items: int) -> dict[str, object]:
    """The fields of a dependency; of a group also its members."""
    verdict = state.verdict
    fields = _brief(state, text) | {
        "target": printable(state.target, text),
        "hint": printable(verdict.hint, text) or None if verdict is not None else None,
        "attempts": state.attempts,
        "waited": round(state.waited, 3),
        "asks_in": None if state.asks_in is None else round(state.asks_in, 3),
    }
    if state.members:
        fields["members"] = [_brief(member, text) for member in state.members[:items]]
        fields["more_members"] = max(0, len(state.members) - items)
    return fields


def _brief(state: State, text: int) -> dict[str, object]:
    verdict = state.verdict
    return {
        "name": printable(state.name, text),
        "ready": state.holds,
        "failed": state.over and not state.holds,
        "cause": state.cause,
        "seen": None if verdict is None else printable(verdict.seen, text),
    }


def _blocking(states: tuple[State, ...], waited: float, text: int, items: int) -> dict[str, object]:
    """How far the gate is, and what blocks it."""
    back = blocking(states)
    return {
        "waited": round(waited, 3),
        "dependencies": len(states),
        "holding": len(states) - len(back),
        "blocking": [_brief(state, text) for state in back[:items]],
        "more_blocking": max(0, len(back) - items),
    }


def encode(value: object) -> str:
    """JSON of None, booleans, numbers, texts, lists and dictionaries of these (RFC 8259), in ASCII."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{quote(key)}:{encode(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else repr(value)


def _now() -> str:
    """RFC 3339, in UTC, with milliseconds."""
    now = time.time()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{whole}.{int(now % 1 * 1000):03d}Z"
