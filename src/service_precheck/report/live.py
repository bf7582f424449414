"""A live table for a terminal, redrawn in place, on the ordinary screen; what it leaves is a summary.

Never waits for the terminal and never leaves it changed: the cursor comes back at the end, at a
signal, and while we are stopped. Escape sequences are those of ECMA-48 and DEC's terminals that
every emulator knows: cursor up, erase, hide the cursor, no automatic wrapping while a frame is drawn.
"""

from __future__ import annotations

import _signal
import time

from .. import net, signals
from ..model import seconds
from ..net import environment, os
from . import reopened, restores
from .table import Style, Table
from .words import closing, ended_by, sentence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..gate import Gate
    from ..state import Outcome, State

# A gate that opens sooner than this leaves only its summary.
FIRST = 0.15
GAP = 0.125
# A frame may take this share of the time: a thousand targets make long work.
SHARE = 0.05
# How long the summary waits for a terminal that is behind. One that is stopped must not hold us up.
PATIENCE = 0.1

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
ERASE, BELOW = "\x1b[2K", "\x1b[J"
# Ends a sequence that was cut off in the middle.
CANCEL = "\x18"


class Live:
    """Draws on the terminal behind a descriptor. `verbose` shows how often each was asked."""

    __slots__ = (
        "_drawn",
        "_due",
        "_gate",
        "_held",
        "_hidden",
        "_own",
        "_pending",
        "_style",
        "_widths",
        "verbose",
        "wake",
    )

    def __init__(self, descriptor: int, verbose: bool) -> None:
        own = reopened(descriptor)
        # Below 0 there is nobody to show it to.
        self._own = own if own >= 0 else descriptor
        self._style = Style(environment(), verbose)
        self._gate: Gate | None = None
        # What the terminal has not taken yet.
        self._pending = b""
        # The frame that stands on the screen, and how wide its lines are.
        self._drawn: list[str] = []
        self._widths: list[int] = []
        self._held: dict[tuple[str, str], float] = {}
        self._hidden = False
        self._due = 0.0
        self.verbose = verbose
        self.wake = float("inf")

    def begin(self, gate: Gate) -> None:
        self._gate = gate
        self._due = self.wake = net.monotonic() + FIRST
        signals.last_words.append(self._ended_by)
        restores.append(self._leave)
        if _signal.getsignal(_signal.SIGTSTP) == _signal.SIG_DFL:
            _signal.signal(_signal.SIGTSTP, self._stopped)

    def changed(self, state: State) -> None:
        assert self._gate is not None
        if state.holds:
            self._held[state.name, state.target] = self._gate.waited()
        self.wake = min(self.wake, self._due)

    def attempted(self, state: State) -> None:
        self.wake = min(self.wake, self._due)

    def tick(self, now: float) -> None:
        assert self._gate is not None
        before = time.thread_time()
        self._draw()
        self._due = net.monotonic() + max(GAP, (time.thread_time() - before) / SHARE)
        next_second = self._gate.begun + int(self._gate.waited()) + 1.0
        self.wake = max(self._due, next_second)

    def end(self, outcome: Outcome) -> None:
        said = [sentence(outcome)]
        if not outcome.ready:
            said += closing(outcome)
        self._finish(outcome.states, outcome.waited, said)
        # Not before: a signal meanwhile has to give the terminal back as well.
        signals.last_words.remove(self._ended_by)
        restores.remove(self._leave)

    def _draw(self) -> None:
        """Bring the frame on the screen up to date, in place."""
        self._flush()
        if self._pending:
            return
        columns, rows = self._size()
        assert self._gate is not None
        table = Table(self._gate.states(), self._gate.waited(), self._held, columns, self._style)
        lines = table.frame(rows, self._gate.settings.timeout)
        drawn = [line.rendered(self._style) for line in lines]
        if drawn == self._drawn:
            return
        # Erased before it is written: at the right edge the cursor stays on the last character.
        body = "".join(f"{ERASE}{line}\r\n" for line in drawn[:-1])
        # An echoed ^C must not fold the last line.
        text = f"{self._up(columns)}{NO_WRAP}{body}{BELOW}{drawn[-1]}{WRAP}\r"
        self._drawn, self._widths = drawn, [line.width for line in lines]
        hide = "" if self._hidden else HIDE
        # Noted before it is sent: a signal's handler may run in between.
        self._hidden = True
        self._send(hide + text)

    def _finish(self, states: tuple[State, ...], waited: float, said: list[str]) -> None:
        """Put the summary in the frame's place, and give the terminal back."""
        columns, _ = self._size()
        table = Table(states, waited, self._held, columns, self._style)
        lines = [line.rendered(self._style) for line in table.summary(said)]
        self._flush(PATIENCE)
        start = CANCEL if self._pending else ""
        self._pending = b""
        text = start + self._up(columns) + BELOW + "\r\n".join(lines) + "\r\n"
        self._send(text + (WRAP + SHOW if self._hidden else ""), PATIENCE)
        self._hidden = False
        self._drawn, self._widths = [], []

    def _leave(self) -> None:
        """Give the terminal back with the frame as it stands."""
        if self._hidden:
            self._pending = b""
            self._send(f"{CANCEL}{WRAP}{SHOW}\r\n", PATIENCE)
            self._hidden = False
            self._drawn, self._widths = [], []

    def _ended_by(self, number: int) -> None:
        assert self._gate is not None
        after = seconds(self._gate.waited())
        said = f"{ended_by(number)} after {after}"
        self._finish(self._gate.states(), self._gate.waited(), [said])

    def _stopped(self, _number: int, _frame: object) -> None:
        """At Ctrl-Z: give the terminal back to the shell; go on below what it wrote."""
        self._leave()
        os.kill(os.getpid(), _signal.SIGSTOP)
        # The gate sees it at its next turn. Waking it would take a lock that it may hold just now.
        self._due = self.wake = net.monotonic()

    def _up(self, columns: int) -> str:
        """To the start of the first line of the frame that stands: a narrower terminal has folded its lines."""
        rows = sum(max(1, -(-width // columns)) for width in self._widths)
        return f"\r\x1b[{rows - 1}A" if rows > 1 else "\r"

    def _size(self) -> tuple[int, int]:
        """Columns and rows, asked each time: no signal is needed to learn of a change."""
        try:
            columns, rows = os.get_terminal_size(self._own)
        except OSError:
            columns, rows = 80, 24
        return max(20, columns or 80), max(4, rows or 24)

    def _send(self, text: str, patience: float = 0.0) -> None:
        self._pending += text.encode("utf-8", "backslashreplace")
        self._flush(patience)

    def _flush(self, patience: float = 0.0) -> None:
        """Write what the terminal takes now, or within `patience` seconds."""
        if self._own < 0:
            self._pending = b""
        until = net.monotonic() + patience
        while self._pending:
            try:
                if net.accepts(self._own):
                    self._pending = self._pending[os.write(self._own, self._pending[:4096]) :]
                    continue
            except BlockingIOError:
                pass
            except OSError:
                self._pending = b""
                return
            if net.monotonic() >= until:
                return
            net.sleep(0.002)
