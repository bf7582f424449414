"""The termination log: what blocks now, for `kubectl describe pod`.

The kubelet reads `/dev/termination-log` when the container ends, however it ends: at a time limit,
by the OOM killer, at an eviction. So it always holds what blocks now, at most 1 KiB, rewritten at a
change (at most every 10 s), and nothing once the gate is open.
"""

from __future__ import annotations

from .. import net
from ..net import os
from .words import reasons, sentence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..gate import Gate
    from ..state import Outcome, State

MOST = 1024
EVERY = 10.0
DEFAULT = "/dev/termination-log"


class TerminationLog:
    """Keeps the file at `path`. What cannot be written is left out."""

    __slots__ = ("_gate", "_next", "_path", "verbose", "wake")

    def __init__(self, path: str) -> None:
        self._path = path
        self._gate: Gate | None = None
        self._next = 0.0
        self.verbose = False
        self.wake = float("inf")

    def begin(self, gate: Gate) -> None:
        self._gate = gate

    def changed(self, state: State) -> None:
        # At the next turn of the gate, when all verdicts of this moment are in.
        self.wake = min(self.wake, max(self._next, net.monotonic()))

    def attempted(self, state: State) -> None:
        """Changes are enough."""

    def tick(self, now: float) -> None:
        assert self._gate is not None
        self.wake = float("inf")
        self._next = now + EVERY
        self._write("\n".join(reasons(self._gate.states(), "")))

    def end(self, outcome: Outcome) -> None:
        self._write(
            "" if outcome.ready else "\n".join((sentence(outcome), *reasons(outcome.states, "")))
        )

    def _write(self, text: str) -> None:
        write_bounded(self._path, text)


def write_bounded(path: str, text: str) -> None:
    """Replace the file's content with at most 1 KiB of text; a file that is not there is not made."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > MOST:
        data = data[: MOST - 4].decode("utf-8", "ignore").encode() + b"...\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if data:
            os.write(descriptor, data)
    except OSError:
        pass
    finally:
        os.close(descriptor)
