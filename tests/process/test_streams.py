"""Output that cannot be written never changes the exit status, nor holds the gate up."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from service_precheck.model import Verdict
from service_precheck.report.termination import EVERY, MOST, TerminationLog
from tests.bed.process import GATE, Gate, run
from tests.bed.sockets import Server, hang
from tests.gate.simulated import DOWN, UP, Simulation

OUTPUTS = (["--output=plain"], ["--output=plain", "-v"], ["--output=json", "-v"], ["--output=live"])


def full_pipe() -> int:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    os.set_inheritable(reading, False)
    _held.append(reading)
    return writing


def broken_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full_device() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def read_only() -> int:
    return os.open("/dev/null", os.O_RDONLY)


_held: list[int] = []


@pytest.fixture(autouse=True)
def pipes() -> Iterator[None]:
    """Close what has to stay open while a test runs."""
    yield
    while _held:
        os.close(_held.pop())


@pytest.mark.parametrize("output", OUTPUTS, ids=" ".join)
@pytest.mark.parametrize("make", [full_pipe, broken_pipe, full_device, read_only])
def test_output_that_cannot_be_written(make: Callable[[], int], output: list[str]) -> None:
    """fault 44: a full or broken pipe, a full disk, a descriptor for reading: 0 stays 0, 124 stays 124, 2 stays 2."""
    stream = make()
    _held.append(stream)
    for arguments, status in (
        (["localhost"], 0),
        (["127.0.0.1:1", "--timeout=300ms"], 124),
        (["htp://x"], 2),
        (["--help"], 0),
        (["localhost", "--", "false"], 1),
    ):
        words = [*output, *arguments]
        done = run(*words, stdout=stream, stderr=stream)
        assert done.status == status, words
        assert done.seconds < 20


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("output", OUTPUTS, ids=" ".join)
def test_streams_that_are_closed(closed: str, output: list[str]) -> None:
    """fault 44: streams that are closed from the start; no socket of a probe takes their place as output."""
    received = []
    with Server(hang) as server:
        for arguments, status in (
            ([f"tcp://127.0.0.1:{server.port}#expect=x", "localhost", "--timeout=500ms"], 124),
            (["localhost"], 0),
            (["--help"], 0),
            (["htp://x"], 2),
        ):
            words = [*GATE, *output, *arguments]
            done = run(command=["sh", "-c", f'exec "$@" {closed}', "sh", *words])
            assert done.status == status, done.stderr
        received = [bytes(connection.received) for connection in server.connections]
    assert not any(received)


def test_command_keeps_closed_streams_closed() -> None:
    """fault 44: a command started with standard output closed finds it closed, as without us."""
    look = "[ -e /proc/$$/fd/1 ] || echo closed >&2"
    words = [*GATE, "-q", "localhost", "--", "bash", "-c", look]
    done = run(command=["sh", "-c", 'exec "$@" >&-', "sh", *words])
    assert done.stderr == "closed\n"


def test_json_lines_are_whole_or_not_there(tmp_path: Path) -> None:
    """A reader slower than the gate never meets half an object."""
    reading, writing = os.pipe()
    with Gate("127.0.0.1:1", "-v", "--output=json", "--timeout=1500ms", stdout=writing) as gate:
        done = gate.wait()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    assert done.status == 124
    assert all(line.startswith(b"{") and line.endswith(b"}") for line in data.splitlines())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A termination log as the kubelet makes it: there, and empty."""
    path = tmp_path / "termination-log"
    path.touch()
    return path


def test_termination_log_says_what_blocks(log: Path) -> None:
    """It holds what blocks and why while the gate waits, and how it ended when it gives up."""
    with Gate("127.0.0.1:1#name=database", f"--termination-log={log}") as gate:
        gate.wait_output("[refused]")
        end = time.monotonic() + 10
        while "database" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.01)
        assert "refused the connection [refused]" in log.read_text()
        gate.signal(9)
        gate.wait()
    assert "database" in log.read_text()
    run("127.0.0.1:1#name=database", "--timeout=200ms", f"--termination-log={log}")
    assert log.read_text().startswith("gave up after 0.2 s")


def test_termination_log_is_emptied_at_success(log: Path) -> None:
    """Once the gate is open nothing blocks."""
    log.write_text("left by an earlier try")
    assert run("localhost", f"--termination-log={log}").status == 0
    assert log.read_text() == ""


def test_termination_log_names_mistakes(log: Path) -> None:
    """What the operator got wrong is in the pod's status, by option or by variable."""
    assert run("htp://x", "--termination-log", str(log)).status == 2
    assert "did you mean http://?" in log.read_text()
    log.write_text("")
    assert run("htp://x", env={"PRECHECK_TERMINATION_LOG": str(log)}).status == 2
    assert "did you mean http://?" in log.read_text()


def test_termination_log_is_never_longer_than_a_kibibyte(log: Path) -> None:
    """A hundred dependencies that block do not make it longer."""
    names = [f"127.0.0.1:1#name=dependency-number-{n}-\u00fc" for n in range(100)]
    assert run(*names, "--timeout=300ms", f"--termination-log={log}").status == 124
    data = log.read_bytes()
    assert 900 < len(data) <= MOST
    data.decode()


def test_termination_log_that_cannot_be_written(tmp_path: Path) -> None:
    """fault 45: full, read-only, missing, a folder, a pipe without a reader: the status is what it was."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    missing = tmp_path / "missing"
    for path in ("/dev/full", "/proc/version", str(missing), str(tmp_path), str(fifo), "/a/b/c"):
        assert run("localhost", f"--termination-log={path}").status == 0, path
        arguments = ["127.0.0.1:1", "--timeout=200ms", f"--termination-log={path}"]
        assert run(*arguments).status == 124, path
        assert run("htp://x", f"--termination-log={path}").status == 2, path
    assert not missing.exists()


def test_termination_log_is_rewritten_rarely(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dependency that flaps five times a second rewrites it at most every ten seconds."""
    written: list[float] = []
    with Simulation() as sim:
        report = TerminationLog(str(log))
        monkeypatch.setattr(
            TerminationLog,
            "_write",
            lambda self, text: written.append(sim.now - sim.begun),
        )
        refused, timeout = DOWN, Verdict("connect-timeout", "no answer")
        sim.script("a", lambda t: refused if int(t * 5) % 2 else timeout)
        sim.says("b", UP)
        sim.record = report  # type: ignore[assignment]
        sim.run("x://a", "x://b", timeout=60.0)
    *changes, _last = written
    assert len(changes) == 6
    assert all(b - a >= EVERY for a, b in pairwise(changes))


def test_input_that_is_closed_is_no_source() -> None:
    """`--from -` with standard input closed is a mistake, not a crash."""
    words = [*GATE, "--from", "-"]
    done = run(command=["sh", "-c", 'exec "$@" <&-', "sh", *words])
    assert done.status == 2
    assert "standard input" in done.stderr or "Bad file" in done.stderr


def test_output_to_a_reader_that_leaves() -> None:
    """`service-precheck ... | head -1` ends as it would have."""
    with Gate("127.0.0.1:1", "-v", "--timeout=600ms", stderr=subprocess.PIPE) as gate:
        gate.wait_output("(attempt 1)")
        assert gate.wait().status == 124
    script = '"$@" 2>&1 >/dev/null | head -1 >/dev/null; echo "${PIPESTATUS[0]}"'
    words = [*GATE, "127.0.0.1:1", "-v", "--timeout=600ms"]
    done = run(command=["bash", "-c", script, "bash", *words])
    assert done.stdout == "124\n"
    with Server(hang) as server:
        words = [*GATE, f"127.0.0.1:{server.port}", "-v"]
        assert run(command=["bash", "-c", script, "bash", *words]).stdout == "0\n"
