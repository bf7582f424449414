"""What people and programs see of a gate: plain lines, a live table, JSON lines, the termination log.

Progress goes to standard error, so that `-- COMMAND` has standard output to itself; JSON goes to
standard output, since it is what was asked for. Nothing here can hold the gate up or change its
exit status: what cannot be written at once is left out.
"""

from __future__ import annotations

from .. import net
from ..net import os
from .termination import TerminationLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..gate import Gate, Report
    from ..state import Outcome, State

STDOUT, STDERR = 1, 2
FORMATS = ("plain", "json", "live", "auto")


class Several:
    """Several reports as one."""

    __slots__ = ("_reports", "verbose")

    def __init__(self, reports: list[Report]) -> None:
        self._reports = reports
        self.verbose = any(report.verbose for report in reports)

    @property
    def wake(self) -> float:
        return min(report.wake for report in self._reports)

    def begin(self, gate: Gate) -> None:
        for report in self._reports:
            report.begin(gate)

    def changed(self, state: State) -> None:
        for report in self._reports:
            report.changed(state)

    def attempted(self, state: State) -> None:
        for report in self._reports:
            if report.verbose:
                report.attempted(state)

    def tick(self, now: float) -> None:
        for report in self._reports:
            if report.wake <= now:
                report.tick(now)

    def end(self, outcome: Outcome) -> None:
        for report in self._reports:
            report.end(outcome)


def choose(wanted: str, verbose: bool, quiet: bool, termination_log: str) -> Report:
    """The report for `--output`, `-v`, `-q` and `--termination-log` (empty: none)."""
    for descriptor in (STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            _closed.add(descriptor)
    reports: list[Report] = []
    if wanted == "auto":
        wanted = "live" if _is_terminal() else "plain"
    if wanted == "json":
        from .jsonlines import JsonLines

        reports.append(JsonLines(STDOUT, verbose, quiet))
    elif wanted == "live" and not quiet:
        from .live import Live

        reports.append(Live(-1 if STDERR in _closed else STDERR, verbose))
    else:
        from .plain import Plain

        reports.append(Plain(STDERR, verbose, quiet))
    if termination_log:
        reports.append(TerminationLog(termination_log))
    return Several(reports)


def _is_terminal() -> bool:
    return os.isatty(STDERR) and net.environment().get("TERM", "dumb") != "dumb"


# What a pipe that polls as writable takes at once and whole (PIPE_BUF of pipe(7)).
ATOMIC = 4096

# Closed when we started: the next socket or file may get that number, and must not get our text.
_closed: set[int] = set()
# The last line written there was cut off, by a disk that filled up.
_torn: set[int] = set()


def write(descriptor: int, text: str) -> None:
    """Write lines if that takes no waiting: a full pipe, a closed or a full file must not hold the gate up.

    A line of at most 4 KiB is written whole or not at all, as far as the kernel has a say: a pipe's
    reader never meets half of one, nor one with another process's text inside.
    """
    if descriptor in _closed:
        return
    data = text.encode("utf-8", "backslashreplace")
    own = reopened(descriptor)
    if descriptor in _torn:
        data = b"\n" + data
    start = 0
    try:
        while start < len(data):
            end = len(data)
            if end - start > ATOMIC:
                end = data.rfind(b"\n", start, start + ATOMIC) + 1 or start + ATOMIC
            if not net.accepts(descriptor):
                break
            start += os.write(descriptor if own < 0 else own, data[start:end])
            _torn.discard(descriptor)
    except OSError:
        pass
    finally:
        if own >= 0:
            os.close(own)
    if start and data[start - 1 : start] != b"\n":
        _torn.add(descriptor)


def reopened(terminal: int) -> int:
    """A descriptor of our own for a terminal, which never waits; -1 if none can be had, or for others.

    A terminal that polls as writable may have room for a single character and wait for the rest; the
    flag that turns that off would be everybody's who shares the descriptor.
    """
    if not os.isatty(terminal):
        return -1
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{terminal}", flags)
    except OSError:
        return -1


# What gives a terminal back as it was found, whatever ends the gate.
restores: list[Callable[[], None]] = []


def restore() -> None:
    """Give the terminal back as it was found."""
    for each in restores:
        each()
