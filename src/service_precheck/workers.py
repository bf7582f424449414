"""Threads that ask: made on demand, at most 128, and fewer where no more can be had.

Probes block, because blocking code is readable. With more work than threads, targets take turns;
without any thread at all (a pids limit), the caller of `take` does the work itself. What stands, and
tells again and again, has a thread of its own, so that nobody waits for it to end.
"""

from __future__ import annotations

from . import net

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 128
# Of what stands, beside them.
MOST_STANDING = 64

if TYPE_CHECKING:
    # A token, and the work or what came of it.
    Job = tuple[object, Callable[[], object]]
    Done = tuple[object, object]


class Told:
    """What standing work tells while it goes on; None where it stands, and has said nothing new."""

    __slots__ = ("what",)

    def __init__(self, what: object) -> None:
        self.what = what


class Workers:
    """Runs work in threads and hands out what came of it, in the order in which it was done."""

    __slots__ = (
        *("_idle", "_jobs", "_most", "_results", "_standing", "_started"),
        *("closed", "shortage"),
    )

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._started = 0
        # Threads that wait for work, less the work that waits for threads.
        self._idle = 0
        self._jobs = net.Queue()
        self._results = net.Queue()
        self._standing = 0
        self.closed = False
        self.shortage = ""

    def submit(self, token: object, work: Callable[[], object], *, here: bool = False) -> None:
        """Have `work` done soon, or before this returns with `here`; `take` gives the token and what came of it."""
        if here:
            self._idle -= 1
            self._results.put(((token, _done(work)), 1, 0))
            return
        if self._idle <= 0 and self._started < self._most and not self.shortage:
            try:
                net.spawn(self._run, str(self._started))
                self._started += 1
                self._idle += 1
            except (RuntimeError, MemoryError) as error:
                self.shortage = f"{self._started} threads could be started, no more ({error})"
        self._idle -= 1
        self._jobs.put((token, work))

    def stand(self, token: object, work: Callable[[Callable[[object], None]], object]) -> bool:
        """Have `work` done that stands, in a thread of its own; False where there is none to be had.

        It is given what to call with each thing that it tells meanwhile: `take` gives that as `Told`.
        """
        if self._standing >= MOST_STANDING or self.shortage:
            return False
        results = self._results

        def run() -> None:
            came = _done(lambda: work(lambda what: results.put(((token, Told(what)), 0, 0))))
            results.put(((token, came), 0, 1))

        try:
            net.spawn(run, f"watch-{self._standing}")
        except (RuntimeError, MemoryError):
            return False
        self._standing += 1
        return True

    def take(self, timeout: float) -> Done | None:
        """The next finished work as (token, what came of it), None at `wake`, or when the timeout passes or
        a tenth of a second.

        What was raised comes as the exception itself.
        """
        if not self._started and not self._jobs.empty():
            job: Job = self._jobs.get()
            self._idle += 1
            return job[0], _done(job[1])
        try:
            # A timeout of zero would not let go of the interpreter.
            done: Done | None
            done, freed, ended = self._results.get(min(max(timeout, 0.0001), net.LOOK))
        except TimeoutError:
            return None
        self._idle += freed
        self._standing -= ended
        return done

    @property
    def busy_here(self) -> bool:
        """Whether there is no thread at all, so that `take` does the work itself."""
        return not self._started and bool(self.shortage)

    def wake(self) -> None:
        """Make `take` return at once. From any thread."""
        self._results.put((None, 0, 0))

    def close(self) -> None:
        """Let the threads end: idle ones now, each other one after its attempt, what stands within a second.

        Nothing is asked any more.
        """
        self.closed = True
        for _ in range(self._started):
            self._jobs.put(None)

    def _run(self) -> None:
        while True:
            job: Job | None = self._jobs.get()
            if job is None or self.closed:
                return
            self._results.put(((job[0], _done(job[1])), 1, 0))


def _done(work: Callable[[], object]) -> object:
    try:
        return work()
    except BaseException as error:
        return error
