"""`Daemon(argv)`: a server program, its output in `log`, stopped with all of its children.

`pause()` makes any server hang and `resume()` lets it go on, `stop()` and `start()` take it down and
bring it back, `wait_until(check)` fails with its log when it ends or does not come.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.bed.process import Wrapper, need

if TYPE_CHECKING:
    from types import TracebackType


class Daemon:
    """A server program: its output in `log`, stopped with all of its children."""

    def __init__(
        self,
        *argv: str,
        inside: Sequence[Wrapper] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = argv
        self._inside = sorted(inside, key=lambda wrapper: wrapper.rank)
        self._env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | dict(env or {})
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile(prefix="bed-log-")
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._log.close()

    def start(self) -> None:
        """Start the program, again after a `stop`."""
        words = [need("setpriv", "util-linux"), "--pdeathsig", "KILL"]
        for wrapper in self._inside:
            words += wrapper.prefix
        self._popen = subprocess.Popen(
            [*words, *self.argv],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def wait_end(self, timeout: float = 30.0) -> None:
        """Return once the program has ended by itself."""
        assert self._popen is not None, "not started"
        self._popen.wait(timeout)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the program, by force if it does not go."""
        popen, self._popen = self._popen, None
        if popen is None:
            return
        for each in (number, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, each)
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait(30)

    def signal(self, number: int) -> None:
        """Send the program and its children a signal."""
        assert self._popen is not None, "not started"
        os.killpg(self._popen.pid, number)

    def pause(self) -> None:
        """Make it hang: it accepts nothing and answers nothing once this has returned."""
        self.signal(signal.SIGSTOP)
        # The signal takes effect thread by thread, and one more answer may slip out meanwhile.
        self.wait_until(lambda: self._states() == {"T"})

    def resume(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def _states(self) -> set[str]:
        assert self._popen is not None, "not started"
        states = set()
        for path in glob.iglob("/proc/[0-9]*/task/[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _parent, group = Path(path).read_text().rpartition(")")[2].split()[:3]
                if int(group) == self._popen.pid:
                    states.add(state)
        return states

    @property
    def log(self) -> str:
        """What the program wrote so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode("utf-8", "backslashreplace")

    def wait_until(self, holds: Callable[[], bool], timeout: float = 30.0) -> None:
        """Return once `holds()`; fail when the program ends or `timeout` seconds are over."""
        end = time.monotonic() + timeout
        while not holds():
            ended = None if self._popen is None else self._popen.poll()
            told = f"{shlex.join(self.argv)}: {self.log[-4000:]}"
            assert ended is None, f"ended with {ended}: {told}"
            assert time.monotonic() < end, f"not there within {timeout} s: {told}"
            time.sleep(0.01)
