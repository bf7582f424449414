"""Threads that ask: made on demand, at most 128, and fewer where no more can be had.

Probes block, because blocking code is readable. With more work than threads, targets take turns;
without any thread at all (a pids limit), the caller of `take` does the work itself.
"""

from __future__ import annotations

from . import net

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 128


class Workers:
    """Runs work in threads and hands out what came of it, in the order in which it was done."""

    __slots__ = ("_idle", "_jobs", "_most", "_results", "_started", "shortage")

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._started = 0
        # Threads that wait for work, less the work that waits for threads.
        self._idle = 0
        self._jobs: net.SimpleQueue[tuple[object, Callable[[], object]]] = net.SimpleQueue()
        self._results: net.SimpleQueue[tuple[object, object]] = net.SimpleQueue()
        self.shortage = ""

    def submit(self, token: object, work: Callable[[], object]) -> None:
        """Have `work` done soon; `take` gives the token and what came of it."""
        if self._idle <= 0 and self._started < self._most and not self.shortage:
            try:
                net.spawn(self._run, f"precheck-{self._started}")
                self._started += 1
                self._idle += 1
            except (RuntimeError, MemoryError) as error:
                self.shortage = f"{self._started} threads could be started, no more ({error})"
        self._idle -= 1
        self._jobs.put((token, work))

    def take(self, timeout: float) -> tuple[object, object] | None:
        """The next finished work as (token, what came of it), None when the timeout passes.

        What was raised comes as the exception itself.
        """
        if not self._started and not self._jobs.empty():
            token, work = self._jobs.get()
            self._idle += 1
            return token, _done(work)
        try:
            # A timeout of zero would not let go of the interpreter.
            token, outcome = self._results.get(timeout=max(timeout, 0.0001))
        except net.Empty:
            return None
        self._idle += 1
        return token, outcome

    def _run(self) -> None:
        while True:
            token, work = self._jobs.get()
            self._results.put((token, _done(work)))


def _done(work: Callable[[], object]) -> object:
    try:
        return work()
    except BaseException as error:
        return error
