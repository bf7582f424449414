"""A program that runs beside us: it is started, heard, and ended with all that it began.

posix_spawn(3), without a shell: each argument is one, and a name without a `/` is looked for on the
PATH. It has our working directory, an empty standard input and default signals. It runs in a process
group of its own, of which nothing is left once it was ended.
"""

from __future__ import annotations

import _signal
import errno

from .. import net, signals
from ..errors import NotReady, blocked
from ..net import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Of what it says the end is kept. A program that never stops talking is heard out slowly.
KEPT = 65_536
MOST_QUICK, PAUSE = 1 << 20, 0.01
# The pieces read at once: as much as a pipe can be made to hold.
MOST_PIECES = 16
# Without pidfd_open(2) (Linux before 5.3, some sandboxes): how often to look.
LOOK = 0.02
# A killed process goes at once, unless it hangs in the kernel.
GRACE = 1.0


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


class _Output(_Descriptor):
    """One pipe's end. `said` is the end of what came through, `total` how much that was; not `talking`
    where nothing comes any more."""

    __slots__ = ("said", "talking", "total")

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.said = b""
        self.total = 0
        self.talking = True

    def read(self) -> None:
        """Take what is there now."""
        for _ in range(MOST_PIECES if self.talking else 0):
            try:
                got = os.read(self.number, KEPT)
            except BlockingIOError:
                return
            self.talking = bool(got)
            self.total += len(got)
            self.said = (self.said + got)[-KEPT:]


class Command:
    """A program that was started. Whoever starts it ends it; its methods are for one thread at a time.

    Raises NotReady (`local`) where it cannot be run; `hint` says more of one that is not there. With
    `apart` what it says on standard error is kept apart.
    """

    __slots__ = ("_child", "_outputs", "_process")

    def __init__(
        self,
        path: str,
        arguments: tuple[str, ...],
        environment: Mapping[str, str],
        hint: str = "",
        *,
        apart: bool = False,
    ) -> None:
        self._outputs: list[_Output] = []
        writing: list[int] = []
        try:
            for _ in range(2 if apart else 1):
                reading, to = os.pipe()
                writing.append(to)
                self._outputs.append(_Output(reading))
                os.set_blocking(reading, False)
            self._child = _spawn(path, arguments, environment, writing[0], writing[-1])
        except (OSError, ValueError) as error:
            self._close()
            raise _not_run(path, error, hint) from error
        except BaseException:
            self._close()
            raise
        finally:
            for each in writing:
                os.close(each)
        try:
            self._process = _Descriptor(os.pidfd_open(self._child))
        except (OSError, AttributeError):
            self._process = _Descriptor(-1)

    @property
    def said(self) -> bytes:
        """The end of what it has said so far."""
        return self._outputs[0].said

    @property
    def complained(self) -> bytes:
        """The end of what it has said on standard error so far."""
        return self._outputs[-1].said

    def listen(self, deadline: float) -> bool:
        """Hear it until it ends: whether it did before the deadline. It may be heard again after that."""
        while (now := net.monotonic()) < deadline:
            pipes = [each for each in self._outputs if each.talking]
            watched: list[_Descriptor] = [*pipes]
            if self._process.number >= 0:
                watched.append(self._process)
            look = deadline if self._process.number >= 0 else min(deadline, now + LOOK)
            net.wait(watched, (), look)
            ended = _has_ended(self._child)
            # What it said before it ended is in the pipe by now. Others may still write to it.
            for pipe in pipes:
                pipe.read()
            if ended:
                return True
            if any(pipe.total > MOST_QUICK for pipe in pipes):
                net.sleep(PAUSE)
        return False

    def end(self) -> int | None:
        """Kill what is left of the process group, then take the exit status: None if it cannot be had.

        In this order, since the number of a process that was taken away may be given anew.
        """
        try:
            for kill in (os.killpg, os.kill):
                try:
                    kill(self._child, _signal.SIGKILL)
                except OSError:
                    continue
            until = net.monotonic() + GRACE
            try:
                while not _has_ended(self._child) and net.monotonic() < until:
                    net.sleep(0.001)
                taken, status = os.waitpid(self._child, os.WNOHANG)
            except OSError:
                return None
            return os.waitstatus_to_exitcode(status) if taken else None
        finally:
            signals.children.discard(self._child)
            self._process.close()
            self._close()

    def _close(self) -> None:
        for each in self._outputs:
            each.close()


def _spawn(
    path: str, arguments: tuple[str, ...], environment: Mapping[str, str], output: int, errors: int
) -> int:
    """The process id of the program, which is its process group's, too."""
    actions = (
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, errors, 2),
    )
    try:
        if not signals.begin_start():
            raise blocked("local", f"{path} was not started: the gate ends")
        child = os.posix_spawnp(
            path,
            (path, *arguments),
            environment,
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
    finally:
        signals.end_start()
    return child


def _has_ended(child: int) -> bool:
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except OSError:
        return True


def _not_run(path: str, error: Exception, hint: str) -> NotReady:
    code = error.errno or 0 if isinstance(error, OSError) else 0
    if code == errno.ENOENT and "/" in path and os.access(path, os.F_OK):
        return blocked("local", f"{path} names a program in its first line that is not there")
    if code == errno.ENOENT:
        return blocked("local", f"there is no program {path}", hint)
    if code == errno.ENOEXEC:
        return blocked("local", f"{path} is no program", "a script begins with #! and its program")
    why = os.strerror(code) if code else str(error)
    return blocked("local", f"{path} cannot be run: {why}")
