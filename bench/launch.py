"""Starts programs from a small parent and measures them: cpu, peak memory, when they ended.

A child starts at the peak memory of whoever made it, and the benchmark itself is large, so a small
process inside the namespaces of a scene does the starting. It forks: a child that is spawned without
a copy would start at all of its parent's peak. `FLOOR` is the program that shows what remains of
that, and what starting itself costs.

Times are those of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.process import Wrapper

# A program that needs next to nothing: its peak is what the meter adds.
FLOOR = ["/bin/true"]
PYTHON = "/usr/bin/python3"

PARENT = r"""
import _signal, os, select, time
log = os.open(os.environ.pop("LOG"), os.O_WRONLY | os.O_APPEND)
null = os.open("/dev/null", os.O_RDONLY)
wake, waker = os.pipe()
os.set_blocking(wake, False)
os.set_blocking(waker, False)
_signal.set_wakeup_fd(waker)
_signal.signal(_signal.SIGCHLD, lambda *_: None)
tokens = {}

def start(token, argv, env, groups):
    env = {**os.environ, **env}
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        try:
            for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
                _signal.signal(number, _signal.SIG_DFL)
            for group in groups:
                with open(group, "w") as file:
                    file.write(str(os.getpid()))
            os.dup2(null, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.execve(argv[0], argv, env)
        finally:
            os._exit(127)
    tokens[pid] = token
    os.write(1, b"start %d %d %.6f\n" % (token, pid, began))

os.write(1, b"ready\n")
poll = select.poll()
poll.register(0, select.POLLIN)
poll.register(wake, select.POLLIN)
buffer = b""
while True:
    ready = [fd for fd, _ in poll.poll()]
    if wake in ready:
        now = time.monotonic()
        os.read(wake, 4096)
        while tokens:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                break
            cpu = usage.ru_utime + usage.ru_stime
            line = b"end %d %d %.6f %d %.6f\n"
            os.write(1, line % (tokens.pop(pid), status, cpu, usage.ru_maxrss, now))
    if 0 in ready:
        data = os.read(0, 1 << 20)
        if not data:
            os._exit(0)
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            start(*eval(line))
"""


class Failed(Exception):
    """Something could not be measured, and why."""


class Run:
    """A program that was started. `cpu` in seconds, `peak` in bytes, `began` and `ended` monotonic."""

    __slots__ = ("argv", "began", "cpu", "ended", "peak", "pid", "status")

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = argv
        self.pid = 0
        self.began = 0.0
        self.status: int | None = None
        self.cpu = 0.0
        self.peak = 0
        self.ended = 0.0


class Launcher:
    """The small parent, inside what is given. Whatever it started ends with it."""

    def __init__(self, *inside: Wrapper) -> None:
        self._inside = sorted(inside, key=lambda wrapper: wrapper.rank)
        self._runs: list[Run] = []
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._log = tempfile.NamedTemporaryFile(prefix="bench-log-")
        words = [word for wrapper in self._inside for word in wrapper.prefix]
        self._popen = subprocess.Popen(
            [*words, PYTHON, "-I", "-S", "-c", PARENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "LOG": self._log.name},
            start_new_session=True,
        )
        assert self._popen.stdout is not None
        # Namespaces and mounts take their time on a busy machine, and what is asked for has to start
        # when it is asked for.
        if not self._popen.stdout.readline():
            raise Failed(f"no parent process could be started: {self.tail()}")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._reader.join()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self._log.close()

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        groups: Sequence[Path] = (),
    ) -> Run:
        """Start a program; with `groups`, cgroups that it enters before it is executed."""
        program = argv[0] if "/" in argv[0] else shutil.which(argv[0])
        if program is None:
            raise Failed(f"there is no {argv[0]}")
        words = [program, *argv[1:]]
        run = Run(words)
        files = [str(group / "cgroup.procs") for group in groups]
        with self._changed:
            token = len(self._runs)
            self._runs.append(run)
            request = (token, words, dict(env or {}), files)
            assert self._popen.stdin is not None
            self._popen.stdin.write(repr(request).encode() + b"\n")
            self._popen.stdin.flush()
        return run

    def started(self, run: Run, timeout: float = 60.0) -> Run:
        """Wait until the program has been started."""
        return self._until(run, lambda: run.pid > 0, timeout)

    def ended(self, run: Run, timeout: float = 120.0) -> Run:
        """Wait until the program has ended."""
        return self._until(run, lambda: run.status is not None, timeout)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        groups: Sequence[Path] = (),
        timeout: float = 120.0,
    ) -> Run:
        """Start a program and wait for its end, which must be a good one."""
        return self.good(self.start(argv, env=env, groups=groups), timeout)

    def good(self, run: Run, timeout: float = 120.0) -> Run:
        """Wait for the program's end; what did not exit 0 is no measurement."""
        self.ended(run, timeout)
        if run.status != 0:
            raise Failed(f"{' '.join(run.argv)[:200]} ended with {run.status}: {self.tail()}")
        return run

    def kill(self, run: Run, number: int = signal.SIGKILL) -> float:
        """Send the program a signal; gives the time it was sent."""
        at = time.monotonic()
        if run.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.pid, number)
        return at

    def tail(self) -> str:
        """The last that programs wrote."""
        return Path(self._log.name).read_text(errors="replace")[-500:]

    def _until(self, run: Run, holds: object, timeout: float) -> Run:
        assert callable(holds)
        with self._changed:
            if not self._changed.wait_for(holds, timeout):
                raise Failed(f"{' '.join(run.argv)[:200]}: still waiting after {timeout:.0f} s")
        return run

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            kind, token, *rest = line.split()
            run = self._runs[int(token)]
            with self._changed:
                if kind == b"start":
                    run.pid, run.began = int(rest[0]), float(rest[1])
                else:
                    run.cpu, run.peak = float(rest[1]), int(rest[2]) * 1024
                    run.ended = float(rest[3])
                    run.status = os.waitstatus_to_exitcode(int(rest[0]))
                self._changed.notify_all()
