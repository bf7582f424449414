"""Waiting and looking from Python, with the gate's own engine.

Works in any thread. Installs no signal handler, prints nothing, and leaves nothing behind: the
threads that ask are daemonic and end with the call, one that is stuck in an attempt when that attempt
ends. Mistakes are raised before anything is asked.
"""

from __future__ import annotations

import atexit

from . import net, signals
from .errors import Mistake, OperatorError, PrecheckError
from .gate import Gate, Settings
from .model import Verdict
from .net import os
from .report.words import reasons, sentence
from .state import TIMED_OUT, Outcome, State
from .target import Group, parse_all
from .workers import Workers

__all__ = [
    "DependencyError",
    "DependencyFailed",
    "Mistake",
    "OperatorError",
    "Outcome",
    "PrecheckError",
    "State",
    "Verdict",
    "WaitTimeout",
    "check",
    "wait",
    "wait_async",
]

# Seconds that the interpreter's end waits for threads that are about to end.
FAREWELL = 0.2


class DependencyError(PrecheckError):
    """A dependency did not come to hold. `outcome` has the state of each; the text names what blocks."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(told(outcome))
        self.outcome = outcome


class DependencyFailed(DependencyError):
    """It can never hold: waiting longer is of no use."""


class WaitTimeout(DependencyError, TimeoutError):
    """Time ran out: the call's own, or that of a target (`#timeout=30s`)."""

    exit_status = 124


def told(outcome: Outcome) -> str:
    """How a wait ended, in a sentence, and a line for each dependency that blocks, with its hint."""
    return "\n".join((sentence(outcome), *reasons(outcome.states)))


def wait(
    *targets: str,
    timeout: float | None = None,
    interval: float | None = None,
    keep_waiting: bool = False,
) -> Outcome:
    """Block until all targets hold, on a fresh view of them.

    `timeout` and `interval` are seconds: when to give up (never, by default), and the longest wait
    between two attempts. `keep_waiting` waits even for what can never come. Raises `OperatorError`
    (what was asked for is a mistake), `WaitTimeout` or `DependencyFailed`; the latter two have the
    `outcome`.
    """
    settings = _settings(timeout, interval, keep_waiting)
    workers = Workers()
    gate = Gate(_tree(targets), settings, _Silent(), workers=workers)
    try:
        return _held(gate.run())
    finally:
        workers.close()


def check(*targets: str) -> Outcome:
    """Ask each target once, all at the same time, and give every verdict.

    Not being ready raises nothing: look at `outcome.ready` and `outcome.states`. `#successes=` does
    not matter here, since one look gives one verdict. Raises `OperatorError`.
    """
    return look(_tree(targets))


def look(root: Group) -> Outcome:
    """As `check`, for targets that are parsed already."""
    workers = Workers()
    try:
        return Gate(root, Settings(once=True), _Silent(), workers=workers).run()
    finally:
        workers.close()


async def wait_async(
    *targets: str,
    timeout: float | None = None,  # noqa: ASYNC109 it is the gate's, which then says what blocked
    interval: float | None = None,
    keep_waiting: bool = False,
) -> Outcome:
    """As `wait`, for asyncio: the loop goes on meanwhile, and cancelling returns at once."""
    import asyncio

    settings = _settings(timeout, interval, keep_waiting)
    workers = Workers()
    gate = Gate(_tree(targets), settings, _Silent(), workers=workers)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Outcome] = loop.create_future()

    def settle(outcome: Outcome | None, fault: BaseException | None) -> None:
        if ended.done():
            return
        if fault is not None:
            ended.set_exception(fault)
        elif outcome is not None:
            ended.set_result(outcome)

    def in_thread() -> None:
        outcome, fault = None, None
        try:
            outcome = gate.run()
        except BaseException as error:
            fault = error
        workers.close()
        try:
            loop.call_soon_threadsafe(settle, outcome, fault)
        except RuntimeError:
            # The loop was closed: nobody waits for the outcome any more.
            return

    net.spawn(in_thread, "gate")
    try:
        return _held(await ended)
    finally:
        gate.call_off()


def _held(outcome: Outcome) -> Outcome:
    if outcome.ready:
        return outcome
    raise WaitTimeout(outcome) if outcome.status == TIMED_OUT else DependencyFailed(outcome)


def _settings(timeout: float | None, interval: float | None, keep_waiting: bool) -> Settings:
    mistakes = tuple(
        Mistake(f"{name}={value!r}", "is not longer than nothing", "a number of seconds, or None")
        for name, value in (("timeout", timeout), ("interval", interval))
        if value is not None and not value > 0
    )
    if mistakes:
        raise OperatorError(mistakes)
    return Settings(timeout, interval, keep_waiting)


def _tree(targets: tuple[str, ...]) -> Group:
    if not targets:
        raise OperatorError((Mistake("", "no target was given", 'wait("db:5432", ...)'),))
    for target in targets:
        if not isinstance(target, str):
            raise TypeError(f"a target is a str, not {type(target).__name__}: {target!r}")
    texts = ((text, f"target {place}") for place, text in enumerate(targets, 1))
    return parse_all(texts, net.environment())


def _end_threads() -> None:
    """Kill the commands that still run, and give the threads of a call that has just ended the moment they
    need, before the interpreter ends.

    A thread that used OpenSSL frees what it had of it when it ends, and so does the end of the process:
    both at once would be the end of neither ("double free").
    """
    signals.kill_children()
    until = net.monotonic() + FAREWELL
    while _threads_left() and net.monotonic() < until:
        net.sleep(0.001)


def _threads_left() -> bool:
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm", "rb", 0) as comm:
                if comm.read().startswith(net.THREADS):
                    return True
        except OSError:
            continue
    return False


atexit.register(_end_threads)
# What a fork of its caller finds there is not its own.
os.register_at_fork(after_in_child=signals.children.clear)


class _Silent:
    """A report to nobody."""

    __slots__ = ()
    wake = float("inf")
    verbose = False

    def begin(self, gate: Gate) -> None: ...

    def changed(self, state: State) -> None: ...

    def attempted(self, state: State) -> None: ...

    def tick(self, now: float) -> None: ...

    def end(self, outcome: Outcome) -> None: ...
