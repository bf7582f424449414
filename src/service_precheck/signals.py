"""Signals that ask us to end, from the first moment on, and nothing of us left after `exec`.

The kernel drops a signal for a PID 1 that has no handler, so this is the first module the gate
imports, and it imports next to nothing. A handler ends the process where it stands: 128 plus the
signal's number, in every phase, whatever other threads do.
"""

from __future__ import annotations

import _signal
import _thread
import posix as os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ENDING = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)

# Process groups of commands that run now: they are killed when we are told to end.
children: set[int] = set()
# Threads between starting a command and naming it among `children`: nothing is reaped meanwhile, since
# what has ended could be theirs.
starting: set[int] = set()
# The signal that came to a thread while it was starting one, by thread.
_put_off: dict[int, int] = {}
# Set once the end has begun: no command is started any more, since nobody would kill it.
ended = False
# Called with the signal's number before the end. They must not block.
last_words: list[Callable[[int], None]] = []

_inherited: dict[int, object] = {}


def hold() -> None:
    """End at SIGTERM, SIGINT and SIGHUP from now on; not at those our parent told us to ignore."""
    for number in ENDING:
        _inherited[number] = _signal.getsignal(number)
        if _inherited[number] != _signal.SIG_IGN:
            _signal.signal(number, _end)


def held() -> bool:
    """Whether this process is the gate's own, and not one that uses the library."""
    return bool(_inherited)


def _end(number: int, _frame: object) -> None:
    here = _thread.get_ident()
    if here in starting:
        # It is this very thread that has to name the command, so that it can be killed.
        _put_off.setdefault(here, number)
        return
    try:
        for say in last_words:
            say(number)
    finally:
        kill_children()
        os._exit(128 + number)  # noqa: SLF001 the name means: without the interpreter's own end


def begin_start() -> bool:
    """This thread is about to start a command: False if none may be, since we end. `end_start` must follow."""
    starting.add(_thread.get_ident())
    return not ended


def end_start() -> None:
    """This thread has named its command among `children`, or has none. A signal that came meanwhile counts now."""
    here = _thread.get_ident()
    starting.discard(here)
    number = _put_off.pop(here, None)
    if number is not None:
        _end(number, None)


def kill_children() -> None:
    """Kill the process groups of all commands that run now, and of those being started; no more are started."""
    global ended  # noqa: PLW0603 it is the process that ends
    ended = True
    for _ in range(100):
        if not starting:
            break
        time.sleep(0.001)
    for group in tuple(children):
        try:
            os.killpg(group, _signal.SIGKILL)
        except OSError:
            continue


def end_children() -> None:
    """Kill them, and take them away, so that who comes after us has no dead ones to look after."""
    kill_children()
    groups = tuple(children)
    first = os.getpid() == 1
    for _ in range(1000):
        for child in groups:
            try:
                os.waitpid(child, os.WNOHANG)
            except OSError:
                continue
        if first:
            # What they had started is ours, too.
            children.clear()
            reap()
        if not any(_is_there(group, first) for group in groups):
            return
        time.sleep(0.001)


def _is_there(child: int, with_group: bool) -> bool:
    try:
        if with_group:
            os.killpg(child, 0)
        else:
            os.kill(child, 0)
    except OSError:
        return False
    return True


def release() -> None:
    """Undo what `hold` and the interpreter's own start changed."""
    for number in ENDING:
        ignored = _inherited.get(number) == _signal.SIG_IGN
        _signal.signal(number, _signal.SIG_IGN if ignored else _signal.SIG_DFL)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def reap() -> None:
    """As PID 1: take away what others' orphans leave behind, never a command that a probe waits for."""
    while True:
        try:
            gone = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except OSError:
            return
        # In this order: what has ended was started before, so it is named by now unless it is starting.
        if gone is None or starting or gone.si_pid in children:
            return
        try:
            os.waitpid(gone.si_pid, os.WNOHANG)
        except OSError:
            return
