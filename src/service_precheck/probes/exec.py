"""Commands: does a program end with exit status 0.

posix_spawn(3), without a shell: each `arg` is one argument. The command gets our environment and
working directory, an empty standard input and default signals. It runs in a process group of its own,
and of that group nothing is left when the probe ends, at the deadline or before.
"""

from __future__ import annotations

import _signal
import errno

from .. import net, signals
from ..errors import NotReady, blocked
from ..model import Verdict, printable, ready
from ..net import environment, os
from ..options import TEXT, Option, Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt

# Of the output its end is kept. A command that never stops talking is heard out slowly.
KEPT = 65_536
MOST_QUICK, PAUSE = 1 << 20, 0.01
# The pieces read at once: as much as a pipe can be made to hold.
MOST_PIECES = 16
LONGEST_LINE = 300
# Without pidfd_open(2) (Linux before 5.3, some sandboxes): how often to look.
LOOK = 0.02
# A killed process goes at once, unless it hangs in the kernel.
GRACE = 1.0

_OPTIONS = (Option("arg", TEXT, "an argument; nothing in it is split or expanded", many=True),)


class _Descriptor:
    """A descriptor that is closed once, and can be waited for."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number

    def close(self) -> None:
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the command ends with exit status 0 before the deadline."""
    path = target.path
    try:
        reading, writing = os.pipe()
    except OSError as error:
        raise _not_run(path, error) from error
    output = _Descriptor(reading)
    try:
        try:
            child = _start(path, target.texts("arg"), writing)
        finally:
            os.close(writing)
        try:
            said, ended = _listen(child, output, attempt.deadline)
            status = _end(child)
        finally:
            signals.children.discard(child)
    finally:
        output.close()
    line = _last_line(said)
    if not ended:
        told = f"; its last words: {line}" if line else ""
        raise blocked("no-reply", f"{path} did not end within {attempt.limit()}{told}")
    told = f": {line}" if line else ""
    if status is None:
        raise blocked("local", f"the exit status of {path} was taken by somebody else")
    if status < 0:
        name = _signal.strsignal(-status) or "unknown"
        raise blocked("not-ready", f"{path} was killed by signal {-status} ({name}){told}")
    if status:
        raise blocked("not-ready", f"{path} ended with exit status {status}{told}")
    return ready(f"{path} ended with exit status 0{told}")


def _start(path: str, arguments: tuple[str, ...], output: int) -> int:
    """The process id of the command, which is its process group's, too."""
    actions = (
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    )
    try:
        if not signals.begin_start():
            raise blocked("local", f"{path} was not started: the gate ends")
        child = os.posix_spawn(
            path,
            (path, *arguments),
            environment(),
            file_actions=actions,
            setpgroup=0,
            setsigmask=(),
            # The interpreter ignores the first two, a parent may have had the others ignored.
            setsigdef=(
                _signal.SIGPIPE,
                _signal.SIGXFSZ,
                _signal.SIGHUP,
                _signal.SIGINT,
                _signal.SIGQUIT,
                _signal.SIGTERM,
                _signal.SIGCHLD,
            ),
        )
        signals.children.add(child)
    except (OSError, ValueError) as error:
        raise _not_run(path, error) from error
    finally:
        signals.end_start()
    return child


def _listen(child: int, output: _Descriptor, deadline: float) -> tuple[bytes, bool]:
    """The end of what the command says until it ends, and whether it ended before the deadline."""
    os.set_blocking(output.number, False)
    try:
        process = _Descriptor(os.pidfd_open(child))
    except (OSError, AttributeError):
        process = _Descriptor(-1)
    said = bytearray()
    total = 0
    talking = True
    try:
        while (now := net.monotonic()) < deadline:
            watched = [each for each in (output, process) if each.number >= 0]
            look = deadline if process.number >= 0 else min(deadline, now + LOOK)
            if not talking:
                watched.remove(output)
            net.wait(watched, (), look)
            ended = _has_ended(child)
            # What it said before it ended is in the pipe by now. Others may still write to it.
            for _ in range(MOST_PIECES if talking else 0):
                got = _read(output)
                if not got:
                    talking = got is None
                    break
                total += len(got)
                said = (said + got)[-KEPT:]
            if not ended and total > MOST_QUICK:
                net.sleep(PAUSE)
            if ended:
                return bytes(said), True
    finally:
        process.close()
    return bytes(said), False


def _read(output: _Descriptor) -> bytes | None:
    """What is in the pipe: None if nothing now, empty if nothing will come."""
    try:
        return os.read(output.number, KEPT)
    except BlockingIOError:
        return None


def _has_ended(child: int) -> bool:
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except OSError:
        return True


def _end(child: int) -> int | None:
    """Kill what is left of the process group, then take the exit status: None if it cannot be had.

    In this order, since the number of a process that was taken away may be given anew.
    """
    for kill in (os.killpg, os.kill):
        try:
            kill(child, _signal.SIGKILL)
        except OSError:
            continue
    until = net.monotonic() + GRACE
    try:
        while not _has_ended(child) and net.monotonic() < until:
            net.sleep(0.001)
        taken, status = os.waitpid(child, os.WNOHANG)
    except OSError:
        return None
    return os.waitstatus_to_exitcode(status) if taken else None


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").rstrip().splitlines()
    return printable(lines[-1].strip(), LONGEST_LINE) if lines else ""


def _not_run(path: str, error: Exception) -> NotReady:
    code = error.errno or 0 if isinstance(error, OSError) else 0
    if code == errno.ENOENT and os.access(path, os.F_OK):
        return blocked("local", f"{path} names a program in its first line that is not there")
    if code == errno.ENOENT:
        hint = "nothing is split: each argument is an #arg= of its own" if " " in path else ""
        return blocked("local", f"there is no program {path}", hint)
    if code == errno.ENOEXEC:
        return blocked("local", f"{path} is no program", "a script begins with #! and its program")
    why = os.strerror(code) if code else str(error)
    return blocked("local", f"{path} cannot be run: {why}")


SCHEMES = (
    Scheme(
        "exec",
        "path",
        probe,
        proves="the command ends with exit status 0",
        not_proves="more than the command itself looks at",
        example="exec:///usr/bin/pg_isready#arg=-h#arg=db.shop",
        options=_OPTIONS,
        floor=0.25,
    ),
)
