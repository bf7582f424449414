"""What people and programs see of a gate: plain lines, a live table, JSON lines, the termination log.

Progress goes to standard error, so that `-- COMMAND` has standard output to itself; JSON goes to
standard output, since it is what was asked for. Nothing here can hold the gate up or change its
exit status: what cannot be written at once is left out.
"""

from __future__ import annotations

import os

from .. import net
from .termination import TerminationLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..gate import Gate, Outcome, Report, State

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
    reports: list[Report] = []
    if wanted == "auto":
        wanted = "live" if _is_terminal() else "plain"
    if wanted == "json":
        from .jsonlines import JsonLines

        reports.append(JsonLines(STDOUT, verbose))
    elif wanted == "live" and not quiet:
        from .live import Live

        reports.append(Live(STDERR, verbose))
    else:
        from .plain import Plain

        reports.append(Plain(STDERR, verbose, quiet))
    if termination_log:
        reports.append(TerminationLog(termination_log))
    return Several(reports)


def _is_terminal() -> bool:
    return os.isatty(STDERR) and os.environ.get("TERM", "dumb") != "dumb"


def write(descriptor: int, text: str) -> None:
    """Write text if that takes no waiting: a full pipe, a closed or a full file must not hold the gate up."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        # A pipe that polls as writable takes this much without blocking.
        for start in range(0, len(data), 4096):
            if not net.accepts(descriptor):
                return
            os.write(descriptor, data[start : start + 4096])
    except OSError:
        return
