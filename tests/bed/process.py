"""Programs under test and programs that serve them, as child processes that never outlive a test.

`Gate(*arguments)` runs the gate with everything captured:

    with Gate("127.0.0.1:1", "--timeout", "1s") as gate:
        gate.wait_output("refused")
        done = gate.wait()                      # Finished(status, stdout, stderr, seconds, ...)

| argument of `Gate`         | what it does                                                         |
|----------------------------|----------------------------------------------------------------------|
| `command=PIP`, `TOOLBOX`   | pip's script, or `precheck`, in place of the lean start (`GATE`)     |
| `command=[...]`            | any program                                                          |
| `inside=[world, cgroup]`   | in a `World`, with an `Etc`, under a `Cgroup`, as `PID1`             |
| `env={...}`                | further variables; the child starts with PATH and LANG only          |
| `stdin=`, `stdout=`, `...` | a descriptor or file; without, empty input and captured output       |
| `tty=(80, 24)`             | stdout and stderr are one terminal of that size                      |
| `user=12345`               | under that user and group id                                         |
| `metered=True`             | cpu and peak memory of the child alone, in `Finished`                |

| on a started gate                                   | |
|------------------------------------------|-------------------------------------------------------|
| `gate.pid`, `gate.signal(SIGTERM)`       | of the gate itself, also in a namespace               |
| `gate.stdout`, `gate.stderr`             | what was written so far                               |
| `wait_output(text)`, `wait(timeout)`     | fail with all output when it does not come            |
| `fds()`, `threads()`, `signals("SigIgn")`| from /proc: descriptors, thread names, a set of signals|

What it can be `inside` of stands in `limits` and `world`; server programs stand in `daemon`.
`need("knotd", "knot")` finds a program or skips.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, Self

import pytest

if TYPE_CHECKING:
    from types import TracebackType

SOURCE = Path(__file__).parents[2] / "src"
# Coverage of children hooks into `site`, which the lean start leaves out.
LEAN = [] if "COVERAGE_PROCESS_CONFIG" in os.environ else ["-IS"]
START = (
    "import sys; sys.path.insert(0, {path!r}); sys.argv[0] = {name!r}; "
    "from service_precheck.{module} import main; sys.exit(main())"
)
GATE = shlex.split(os.environ.get("PRECHECK_TEST_GATE", "")) or [
    sys.executable,
    *LEAN,
    "-c",
    START.format(path=str(SOURCE), name="service-precheck", module="start"),
]
TOOLBOX = [
    sys.executable,
    "-c",
    START.format(path=str(SOURCE), name="precheck", module="toolbox"),
]
PIP = [str(Path(sys.executable).with_name("service-precheck"))]

# A child starts at the peak of the process that forked it, so that one is kept small.
METER = """
import os, sys, _signal
report = int(sys.argv[1])
child = os.fork()
if not child:
    os.close(report)
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    os.execvp(sys.argv[2], sys.argv[2:])
_signal.signal(_signal.SIGTERM, lambda *_: os.kill(child, _signal.SIGKILL))
os.write(report, b"%d\\n" % child)
_, status, usage = os.wait4(child, 0)
line = "%d %f %d\\n" % (status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
os.write(report, line.encode())
os._exit(0)
"""


Stream = int | IO[bytes]


class Wrapper(Protocol):
    """Something a program can run inside; the lower rank is the outer one."""

    rank: int
    numbers_anew: bool  # a pid namespace, where pids are others

    @property
    def prefix(self) -> list[str]:
        """The words before the program's own."""
        ...


def need(program: str, package: str) -> str:
    """Return the path of a program, or skip the test naming the Debian package that has it."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"needs {program} (Debian package {package})")
    return path


def need_root(why: str) -> None:
    """Skip the test unless it runs as root."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root ({why})")


@dataclass(frozen=True)
class Finished:
    """How a program ended: `status` as its parent's shell has it (128+N for a signal).

    `seconds` is the time from start to end; `cpu` (seconds) and `peak` (bytes) only when metered.
    """

    status: int
    stdout: str
    stderr: str
    seconds: float
    cpu: float = 0.0
    peak: int = 0


def shell_status(code: int) -> int:
    """Return the exit status as a shell tells it, from `Popen.returncode`."""
    return 128 - code if code < 0 else code


class Gate:
    """A program under test; see the module's tables."""

    def __init__(
        self,
        *arguments: str,
        command: Sequence[str] = GATE,
        inside: Sequence[Wrapper] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.PIPE,
        stderr: Stream = subprocess.PIPE,
        tty: tuple[int, int] | None = None,
        user: int | None = None,
        metered: bool = False,
    ) -> None:
        self.argv = [*command, *arguments]
        self._inside = sorted(inside, key=lambda wrapper: wrapper.rank)
        self._env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        self._env |= {key: value for key, value in os.environ.items() if "COVERAGE" in key}
        self._env |= env or {}
        self._cwd = cwd
        self._streams: tuple[Stream, Stream, Stream] = (stdin, stdout, stderr)
        self._tty = tty
        self._user = user
        self._metered = metered
        self._written = {"stdout": bytearray(), "stderr": bytearray()}
        self._changed = threading.Condition()
        self._readers: list[threading.Thread] = []
        self._ended_at = 0.0
        self.pid = 0

    def __enter__(self) -> Self:
        # The meter, told to end when the tests are killed, takes its child along.
        last = "TERM" if self._metered else "KILL"
        anew = any(wrapper.numbers_anew for wrapper in self._inside)
        assert not (anew and self._metered), "the meter would be process 1, not the program"
        words = [need("setpriv", "util-linux"), "--pdeathsig", last]
        for wrapper in self._inside:
            words += wrapper.prefix
        if self._user is not None:
            need_root("another user")
            words += ["setpriv", f"--reuid={self._user}", f"--regid={self._user}"]
            words += ["--clear-groups", "--pdeathsig", last]
        report, pass_fds = -1, []
        if self._metered:
            report, writer = os.pipe()
            pass_fds = [writer]
            words += [sys.executable, "-I", "-S", "-c", METER, str(writer)]
        stdin, stdout, stderr = self._streams
        ours, theirs = {}, list(pass_fds)
        if self._tty is not None:
            ours["stdout"], terminal = self._open_terminal(*self._tty)
            stdout = stderr = terminal
            theirs.append(terminal)
        self.started_at = time.monotonic()
        self._popen: subprocess.Popen[bytes] = subprocess.Popen(
            [*words, *self.argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=self._env,
            cwd=self._cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        for fd in theirs:
            os.close(fd)
        self._report = os.fdopen(report) if self._metered else None
        ours |= {
            name: pipe.fileno()
            for name, pipe in (("stdout", self._popen.stdout), ("stderr", self._popen.stderr))
            if pipe is not None
        }
        self._ours = ours
        for name, fd in ours.items():
            reader = threading.Thread(target=self._read, args=(name, fd), daemon=True)
            reader.start()
            self._readers.append(reader)
        self.pid = self._find_pid()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(30)
        for reader in self._readers:
            reader.join(30)
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr, self._report):
            if stream is not None:
                stream.close()
        if self._tty is not None:
            os.close(self._ours["stdout"])

    def _open_terminal(self, columns: int, lines: int) -> tuple[int, int]:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._env.setdefault("TERM", "xterm-256color")
        return ours, theirs

    def _find_pid(self) -> int:
        pid = self._popen.pid
        if any(wrapper.numbers_anew for wrapper in self._inside):
            while self._popen.poll() is None and pid == self._popen.pid:
                pid = self._child_in_namespace() or pid
                time.sleep(0.001)
        if self._report is None:
            return pid
        line = self._report.readline()
        assert line, f"did not start: {self._popen.wait(30)} {self._told()}"
        return int(line)

    def _child_in_namespace(self) -> int | None:
        """Return its pid as seen from here; the wrappers before it have other children too."""
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self._popen.pid}/task/{self._popen.pid}/children")
            for child in children.read_text().split():
                status = Path(f"/proc/{child}/status").read_text()
                numbers = status.partition("\nNSpid:")[2].partition("\n")[0].split()
                if len(numbers) > 1 and numbers[-1] == "1":
                    return int(child)
        return None

    def _read(self, name: str, fd: int) -> None:
        # A terminal whose other side is closed reads as EIO.
        with contextlib.suppress(OSError):
            while data := os.read(fd, 65536):
                with self._changed:
                    self._written[name] += data
                    self._changed.notify_all()

    @property
    def stdout(self) -> str:
        """What it wrote there so far."""
        with self._changed:
            return self._written["stdout"].decode("utf-8", "backslashreplace")

    @property
    def stderr(self) -> str:
        """What it wrote there so far."""
        with self._changed:
            return self._written["stderr"].decode("utf-8", "backslashreplace")

    @property
    def stdin(self) -> IO[bytes]:
        """Its standard input, when made with `stdin=subprocess.PIPE`."""
        assert self._popen.stdin is not None
        return self._popen.stdin

    def running(self) -> bool:
        """Say whether it has not ended yet."""
        return self._popen.poll() is None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.running(), f"has ended: {self._told()}"
        os.kill(self.pid, number)

    def _told(self) -> str:
        return f"{shlex.join(self.argv)}\nstdout:\n{self.stdout}\nstderr:\n{self.stderr}"

    def wait_output(self, text: str, timeout: float = 30.0, *, after: int = 0) -> None:
        """Return once it has written text to either stream, behind its first `after` characters; fail
        after `timeout` seconds."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: text in self.stdout[after:] or text in self.stderr[after:], timeout
            )
        assert found, f"no {text!r} within {timeout} s from {self._told()}"

    def wait(self, timeout: float = 50.0) -> Finished:
        """Return how it ended; fail after `timeout` seconds."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout} s: {self._told()}") from None
        seconds = time.monotonic() - self.started_at
        for reader in self._readers:
            reader.join(30)
        if self._report is None:
            return Finished(shell_status(code), self.stdout, self.stderr, seconds)
        status, cpu, peak = self._report.readline().split()
        code = os.waitstatus_to_exitcode(int(status))
        return Finished(
            shell_status(code), self.stdout, self.stderr, seconds, float(cpu), int(peak) * 1024
        )

    def proc(self, name: str) -> Path:
        """Return a path below its /proc."""
        return Path(f"/proc/{self.pid}/{name}")

    def fds(self) -> dict[int, str]:
        """Return its open descriptors and what they are open on."""
        found = {}
        for link in self.proc("fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[int(link.name)] = str(link.readlink())
        return found

    def threads(self) -> list[str]:
        """Return the names of its threads."""
        names = []
        for task in self.proc("task").iterdir():
            with contextlib.suppress(OSError):
                names.append((task / "comm").read_text().rstrip("\n"))
        return names

    def status_line(self, field: str) -> str:
        """Return a field of /proc/PID/status, such as `VmHWM`."""
        lines = self.proc("status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(field))

    def signals(self, field: str) -> set[int]:
        """Return the signals in `SigBlk` (blocked), `SigIgn` (ignored) or `SigCgt` (handled).

        Without 32 and 33: the C library keeps them for itself and leaves them ignored in what
        posix_spawn starts, so that all that GNU make runs has inherited it.
        """
        mask = int(self.status_line(field), 16)
        return {number for number in range(1, 65) if mask >> (number - 1) & 1} - {32, 33}


def own_threads() -> list[str]:
    """Return the names of this process's threads that are the gate's, as the kernel has them."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            names.append((task / "comm").read_text().rstrip("\n"))
    return [name for name in names if name.startswith("precheck-")]


def run(*arguments: str, timeout: float = 50.0, **options: object) -> Finished:
    """Run the gate to its end; takes what `Gate` takes."""
    with Gate(*arguments, **options) as gate:  # type: ignore[arg-type]
        return gate.wait(timeout)
