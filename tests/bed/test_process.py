"""Programs under test are seen, measured, limited and ended as promised."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bed.daemon import Daemon
from tests.bed.limits import PID1, Cgroup
from tests.bed.process import Gate

PYTHON = [sys.executable, "-I", "-S", "-c"]
WAITER = ["/bin/sh", "-c", 'trap "exit 7" TERM; echo up; while :; do sleep 0.01; done']


def test_output_and_status_are_captured() -> None:
    """Both streams and the exit status come back."""
    with Gate(command=["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]) as gate:
        done = gate.wait()
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_environment_is_small() -> None:
    """A child has PATH, LANG and what the test gives it."""
    with Gate(command=["env"], env={"A": "b"}) as gate:
        names = {line.partition("=")[0] for line in gate.wait().stdout.splitlines()}
    assert names - {name for name in os.environ if "COVERAGE" in name} == {"PATH", "LANG", "A"}


def test_signals_reach_the_program() -> None:
    """A signal is handled by the program, an unhandled one is told as a shell tells it."""
    with Gate(command=WAITER) as gate:
        gate.wait_output("up")
        assert signal.SIGTERM in gate.signals("SigCgt")
        gate.signal(signal.SIGTERM)
        assert gate.wait().status == 7
    with Gate(command=["sleep", "1000"]) as gate:
        gate.signal(signal.SIGTERM)
        assert gate.wait().status == 143


def test_nothing_outlives_the_block() -> None:
    """A program and its children are gone when the block is left, also by an error."""
    with pytest.raises(ZeroDivisionError), Gate(command=WAITER) as gate:
        gate.wait_output("up")
        raise ZeroDivisionError
    assert not gate.running()
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < gate.started_at + 30:  # until process 1 reaped the orphans
            os.killpg(gate.pid, 0)


def test_child_starts_without_our_signals_and_descriptors() -> None:
    """Nothing is ignored or blocked, only the three streams are open."""
    for metered in (False, True):
        with Gate(command=["sleep", "1000"], metered=metered) as gate:
            # Until it sleeps it opens its libraries and locales, one after the other.
            while gate.status_line("Name") != "sleep" or gate.status_line("State")[0] != "S":
                time.sleep(0.001)
            assert set(gate.fds()) == {0, 1, 2}
            assert gate.signals("SigIgn") == gate.signals("SigBlk") == set()
            assert gate.threads() == ["sleep"]


def test_input_is_a_pipe_when_asked() -> None:
    """A test can write to the child's standard input."""
    with Gate(command=["cat"], stdin=subprocess.PIPE) as gate:
        gate.stdin.write(b"hello")
        gate.stdin.close()
        assert gate.wait().stdout == "hello"


def test_terminal_has_the_size_asked_for() -> None:
    """Both streams are one terminal of that size."""
    script = "import os, sys; print(os.get_terminal_size(1), sys.stderr.isatty())"
    with Gate(script, command=PYTHON, tty=(50, 10)) as gate:
        assert "columns=50, lines=10) True" in gate.wait().stdout


def test_meter_tells_the_child_apart() -> None:
    """Memory and cpu are the child's own: a small one is small, a large one is large."""
    measured = {}
    for name, script in {
        "small": "pass",
        "large": "b'x' * (64 << 20)",
        "busy": "import time\nwhile time.process_time() < 0.3: pass",
    }.items():
        with Gate(script, command=PYTHON, metered=True) as gate:
            measured[name] = gate.wait()
    assert measured["small"].status == 0
    assert 1 << 20 < measured["small"].peak < 32 << 20
    assert measured["large"].peak > 64 << 20
    assert measured["busy"].cpu >= 0.3 > measured["small"].cpu
    with Gate(command=["/bin/true"], metered=True) as gate:
        assert gate.wait().peak < measured["small"].peak


def test_meter_passes_on_the_status() -> None:
    """A metered program's exit status and death by a signal are its own."""
    with Gate("raise SystemExit(5)", command=PYTHON, metered=True) as gate:
        assert gate.wait().status == 5
    with Gate(command=["sleep", "1000"], metered=True) as gate:
        gate.signal(signal.SIGKILL)
        assert gate.wait().status == 137


def test_user_is_another() -> None:
    """A program can run under an id that no passwd file knows."""
    with Gate(command=["id", "-u"], user=54321) as gate:
        assert gate.wait().stdout == "54321\n"


def test_pid_1_ignores_what_it_does_not_handle() -> None:
    """As PID 1 an unhandled SIGTERM is dropped by the kernel, a handled one is not (fault 46b)."""
    with Gate(command=["sleep", "1000"], inside=[PID1]) as gate:
        assert gate.status_line("NSpid").split()[-1] == "1"
        while gate.status_line("Name") != "sleep":
            time.sleep(0.001)
        assert gate.signals("SigBlk") == set()
        gate.signal(signal.SIGTERM)
        with pytest.raises(AssertionError, match="still runs"):
            gate.wait(0.2)
    with Gate(command=WAITER, inside=[PID1]) as gate:
        gate.wait_output("up")
        gate.signal(signal.SIGTERM)
        assert gate.wait().status == 7


def test_memory_limit_kills() -> None:
    """A program over its memory limit is killed, one below it is not (fault 40)."""
    for size, status in ((4 << 20, 0), (64 << 20, 137)):
        with Cgroup(memory=32 << 20) as group:
            with Gate(f"b'x' * {size}", command=PYTHON, inside=[group]) as gate:
                assert gate.wait().status == status
            assert group.peak >= min(size, 32 << 20)
        assert not any(folder.exists() for folder in group.folders.values())


def test_cpu_limit_throttles() -> None:
    """A busy program under a tenth of a cpu takes about ten times as long (fault 41)."""
    script = "import time\nwhile time.process_time() < 0.1: pass"
    with Cgroup(cpu=0.1) as group, Gate(script, command=PYTHON, inside=[group]) as gate:
        assert gate.wait().seconds > 0.4
        assert group.stat("cpu", "cpu.stat", "nr_throttled") > 0


def test_process_limit_refuses_threads() -> None:
    """Beyond the limit no thread can be started (fault 10b)."""
    script = "import _thread, time\nfor _ in range(9): _thread.start_new_thread(time.sleep, (9,))"
    with Cgroup(pids=4) as group, Gate(script, command=PYTHON, inside=[group]) as gate:
        done = gate.wait()
    assert done.status == 1
    assert "can't start new thread" in done.stderr


def test_daemon_is_watched_and_stopped() -> None:
    """A daemon's log is read, its early end is told, and it is gone afterwards."""
    with Daemon("/bin/sh", "-c", "echo hello; exec sleep 1000") as daemon:
        daemon.wait_until(lambda: "hello" in daemon.log)
        daemon.stop()
        daemon.start()
        daemon.wait_until(lambda: daemon.log.count("hello") == 2)
    with Daemon("/bin/sh", "-c", "echo broken; exit 9") as daemon:
        with pytest.raises(AssertionError, match="ended with 9"):
            daemon.wait_until(lambda: False)


def test_fixture_starts_and_ends_gates(gate: Callable[..., Gate], folder: Path) -> None:
    """The fixture gives a started gate, and a folder short enough for unix sockets."""
    started = gate(command=WAITER, cwd=folder)
    started.wait_output("up")
    assert started.proc("cwd").readlink() == folder.resolve()
    assert len(str(folder / "some-longer-name.sock")) < 80


@pytest.mark.parametrize("metered", [False, True])
def test_programs_die_with_killed_tests(metered: bool) -> None:
    """When the tests themselves are killed, the programs that they started go too."""
    script = (
        "import os, signal\nfrom tests.bed.process import Gate\n"
        f"gate = Gate(command=['sleep', '1000'], metered={metered}).__enter__()\n"
        # The link to the tests' life is made by the program before it.
        "while b'setpriv' in gate.proc('cmdline').read_bytes(): pass\n"
        "print(gate.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with Gate(command=[sys.executable, "-c", script], env=env) as tests:
        done = tests.wait()
    assert done.status == 137
    stat = Path(f"/proc/{int(done.stdout)}/stat")
    with contextlib.suppress(FileNotFoundError):  # the best end; a zombie awaits process 1
        while ") Z " not in stat.read_text():
            assert time.monotonic() < tests.started_at + 30
            time.sleep(0.01)
