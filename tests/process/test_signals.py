"""Signals end the gate in every phase, whatever it is stuck in; as process 1 too.

The moments are random, and the bound is generous: what it excludes is the 20 s of a resolver that
hangs. The distribution against 200 ms is the benchmark's matter.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.bed.limits import PID1
from tests.bed.names import Reply, ScriptedDNS
from tests.bed.process import Gate, Wrapper, run
from tests.bed.recording import Recording, all_recordings, at, play
from tests.bed.sockets import Full, Server, hang
from tests.bed.tls import Authority
from tests.bed.world import Etc, World, resolv_conf

MOMENTS = 20
# Seconds from a signal to the end, on a busy machine.
SOON = 5.0
SIGNALS = [
    pytest.param(signal.SIGTERM, 143, id="fault 38"),
    pytest.param(signal.SIGINT, 130, id="fault 39"),
]

Start = Callable[[ExitStack], Gate]
# Starts a server for a recording's target, and gives the target.
Way = Callable[[Recording, Authority, ExitStack], str]


def held_up(arguments: list[str], **options: object) -> Start:
    """A gate with these arguments that never ends by itself."""
    return lambda stack: stack.enter_context(Gate(*arguments, **options))  # type: ignore[arg-type]


def stuck_pipe() -> int:
    """The writing end of a pipe that is full and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(writing, True)
    # The reading end has to stay open, or a write would fail instead of block.
    _kept.append(reading)
    return writing


_kept: list[int] = []


@pytest.fixture(autouse=True)
def pipes() -> Iterator[None]:
    """Close what `stuck_pipe` keeps open."""
    yield
    while _kept:
        os.close(_kept.pop())


def never_ending_input(stack: ExitStack) -> Gate:
    return stack.enter_context(Gate("--from", "-", stdin=subprocess.PIPE))


def busy_parsing(stack: ExitStack) -> Gate:
    folder = stack.enter_context(Targets())
    return stack.enter_context(Gate("--from", str(folder / "targets"), "--output=json"))


class Targets:
    """A folder with as many targets as are allowed, none of which comes."""

    def __enter__(self) -> Path:
        self.folder = Path(f"/tmp/precheck-targets-{os.getpid()}-{random.getrandbits(32):x}")
        self.folder.mkdir()
        lines = (f"tcp://127.0.0.1:1#name=n{n}#expect=x\n" for n in range(9000))
        (self.folder / "targets").write_text("".join(lines))
        return self.folder

    def __exit__(self, *_: object) -> None:
        (self.folder / "targets").unlink()
        self.folder.rmdir()


def silent_resolver(stack: ExitStack) -> Gate:
    names = stack.enter_context(ScriptedDNS())
    names.script("*", Reply(silent=True))
    return stack.enter_context(Gate(f"dns://db.shop#server=127.0.0.1:{names.port}"))


def silent_host(stack: ExitStack) -> Gate:
    full = stack.enter_context(Full())
    return stack.enter_context(Gate(f"127.0.0.1:{full.port}"))


def hanging(target: str) -> Start:
    def start(stack: ExitStack) -> Gate:
        server = stack.enter_context(Server(hang))
        return stack.enter_context(Gate(target.format(port=server.port)))

    return start


def running_child(stack: ExitStack) -> Gate:
    return stack.enter_context(Gate("exec:///bin/sleep#arg=1000#attempt-timeout=200ms"))


def stuck_output(stream: str, *arguments: str) -> Start:
    def start(stack: ExitStack) -> Gate:
        writing = stuck_pipe()
        _kept.append(writing)
        options = {stream: writing}
        return stack.enter_context(Gate("127.0.0.1:1", *arguments, **options))  # type: ignore[arg-type]

    return start


PHASES: dict[str, Start] = {
    "reading targets": never_ending_input,
    "parsing": busy_parsing,
    "resolving": silent_resolver,
    "connecting": silent_host,
    "TLS handshake": hanging("tls://127.0.0.1:{port}"),
    "reading": hanging("http://127.0.0.1:{port}/"),
    "awaiting a banner": hanging("tcp://127.0.0.1:{port}#expect=SSH"),
    "running a child": running_child,
    "between attempts": held_up(["127.0.0.1:1", "--interval=10s"]),
    "printing to a stuck stderr": stuck_output("stderr", "-v"),
    "printing to a stuck stdout": stuck_output("stdout", "-v", "--output=json"),
}


def await_handlers(gate: Gate) -> None:
    """Return once ours stand: before, the interpreter's own for SIGINT ends its start with status 1."""
    end = time.monotonic() + 30
    while not {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} <= gate.signals("SigCgt"):
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("phase", PHASES)
def test_any_moment(phase: str, number: int, status: int) -> None:
    """fault 38, fault 39: at twenty random moments a phase, SIGTERM from the interpreter's start on."""
    with ExitStack() as stack:
        gates = [PHASES[phase](stack) for _ in range(MOMENTS)]
        now = time.monotonic()
        due = sorted(((now + random.uniform(0.0, 0.8), gate) for gate in gates), key=lambda d: d[0])
        for moment, gate in due:
            time.sleep(max(0.0, moment - time.monotonic()))
            if number != signal.SIGTERM:
                await_handlers(gate)
            gate.signal(number)
        for _, gate in due:
            assert gate.wait(SOON).status == status


def silent(recording: Recording, authority: Authority, stack: ExitStack) -> str:
    """A target of a service that accepts and says nothing."""
    server = stack.enter_context(Server(hang))
    return at(recording.target, server.address, authority)


def slow(recording: Recording, authority: Authority, stack: ExitStack) -> str:
    """A target of a service that is in the middle of its answers for long."""
    return stack.enter_context(play(recording, authority, every=0.02))


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("way", [silent, slow], ids=["silent", "slow"])
@pytest.mark.parametrize("recording", all_recordings(), ids=lambda recording: recording.name)
def test_any_moment_of_a_service(
    recording: Recording, way: Way, number: int, status: int, authority: Authority
) -> None:
    """fault 38, fault 39: whatever a service is being asked, in TLS too, and however slowly it answers."""
    with ExitStack() as stack:
        gates = [stack.enter_context(Gate(way(recording, authority, stack))) for _ in range(5)]
        for gate in gates:
            await_handlers(gate)
            time.sleep(random.uniform(0.0, 0.1))
            gate.signal(number)
        for gate in gates:
            assert gate.wait(SOON).status == status


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("phase", [name for name in PHASES if name != "parsing"])
def test_as_process_1(phase: str, number: int, status: int) -> None:
    """fault 46b: process 1 gets no signal without a handler; from the handler's first moment on, ours ends."""
    plain = Gate.__init__

    def inside(self: Gate, *arguments: str, **options: object) -> None:
        plain(self, *arguments, inside=[PID1], **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(Gate, "__init__", inside)
        gates = [PHASES[phase](stack) for _ in range(3)]
        for gate, wait in zip(gates, (0.0, 0.02, 0.3), strict=True):
            await_handlers(gate)
            time.sleep(random.uniform(wait / 2, wait))
            gate.signal(number)
            assert gate.wait(SOON).status == status


def test_dead_resolver_of_the_machine(world: World) -> None:
    """fault 38: with the machine's own resolver silent, as behind a broken network policy."""
    world.drop("10.53.0.2")
    with Etc(resolv_conf("10.53.0.2")) as etc:
        inside: list[Wrapper] = [world, etc]
        for moment in (0.05, 0.5, 1.5):
            with Gate("db.shop", "db.shop:3306", inside=inside) as gate:
                while "service_precheck" not in gate.proc("cmdline").read_text():
                    time.sleep(0.001)
                time.sleep(moment)
                gate.signal(signal.SIGTERM)
                assert gate.wait(SOON).status == 143


def alive(group: int) -> bool:
    """Whether a process of the group still runs."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_the_child_and_its_group_are_dead(number: int, status: int, tmp_path: Path) -> None:
    """fault 38, fault 39: what a command started goes with it, at any moment of its life."""
    script = f"echo > {tmp_path}/$$; sleep 1000 & sleep 1000 & wait"
    target = f"exec:///bin/sh#arg=-c#arg={script}#attempt-timeout=100ms"
    with ExitStack() as stack:
        gates = [stack.enter_context(Gate(target)) for _ in range(8)]
        for gate in gates:
            await_handlers(gate)
            time.sleep(random.uniform(0.0, 0.15))
            gate.signal(number)
        for gate in gates:
            assert gate.wait(SOON).status == status
    # One that was just being started would show itself now.
    time.sleep(0.3)
    groups = [int(path.name) for path in tmp_path.iterdir()]
    assert groups
    assert not any(map(alive, groups))


def started(gate: Gate) -> bool:
    """Whether one of its threads has a child."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{gate.pid}/task"):
            with open(f"/proc/{gate.pid}/task/{thread}/children", "rb") as children:
                if children.read():
                    return True
    return False


def test_a_command_that_is_just_being_started_is_killed(tmp_path: Path) -> None:
    """fault 39: a signal that comes while the kernel starts a command does not leave it behind."""
    program = tmp_path / "slow-to-leave"
    program.symlink_to("/bin/sleep")
    for _ in range(10):
        with Gate(f"exec://{program}#arg=1000") as gate:
            # A busy look at each thread: what is to be met takes less than a millisecond.
            until = time.monotonic() + SOON
            while not started(gate):
                assert time.monotonic() < until
            gate.signal(signal.SIGTERM)
            assert gate.wait(SOON).status == 143
    left = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if process.read_bytes().startswith(bytes(program)):
                left.append(int(process.parent.name))
    for number in left:
        os.kill(number, signal.SIGKILL)
    assert not left


def test_each_ending_signal_has_its_status() -> None:
    """128 plus the signal's number, and the last line says which signal and what was awaited."""
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
        with Gate("127.0.0.1:1#name=database") as gate:
            gate.wait_output("[refused]")
            gate.signal(number)
            done = gate.wait(SOON)
        assert done.status == status
        last = done.stderr.splitlines()[-1]
        assert signal.Signals(number).name in last
        assert "database" in last


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ignored_signal_stays_ignored(number: int) -> None:
    """What a parent had ignored (nohup, a shell's background job) does not end the gate."""
    name = signal.Signals(number).name.removeprefix("SIG")
    ignoring = ["sh", "-c", f'trap "" {name}; exec "$@"', "sh"]
    with Gate("127.0.0.1:1", command=[*ignoring, *Gate().argv]) as gate:
        gate.wait_output("[refused]")
        assert number in gate.signals("SigIgn")
        gate.signal(number)
        time.sleep(0.2)
        assert gate.running()
        gate.signal(signal.SIGTERM)
        assert gate.wait(SOON).status == 143


def test_second_signal_does_no_harm() -> None:
    """A signal that comes while another is being handled changes nothing."""
    for _ in range(10):
        with Gate("127.0.0.1:1", "exec:///bin/sleep#arg=1000") as gate:
            gate.wait_output("[refused]")
            os.kill(gate.pid, signal.SIGTERM)
            os.kill(gate.pid, signal.SIGTERM)
            assert gate.wait(SOON).status == 143


def test_stopped_and_continued() -> None:
    """fault 46: stopped past its limit, and what it waits for comes up meanwhile: exit 0, not 124."""
    with Server(hang, opened=False) as server:
        with Gate(f"127.0.0.1:{server.port}", "--timeout=1500ms") as gate:
            gate.wait_output("[refused]")
            gate.signal(signal.SIGSTOP)
            time.sleep(3.5)
            server.open()
            gate.signal(signal.SIGCONT)
            assert gate.wait().status == 0


def test_stopped_and_continued_in_vain() -> None:
    """fault 46: stopped past its limit, and nothing came: it has asked once more, then gives up."""
    with Server(hang, opened=False) as server:
        with Gate(f"127.0.0.1:{server.port}", "-v", "--timeout=1500ms") as gate:
            gate.wait_output("[refused]")
            gate.signal(signal.SIGSTOP)
            time.sleep(3.5)
            before = gate.stderr.count("(attempt ")
            gate.signal(signal.SIGCONT)
            done = gate.wait()
    assert done.status == 124
    assert done.stderr.count("(attempt ") > before


def test_signal_of_the_commands_own() -> None:
    """After `-- COMMAND` a signal is the command's, at once."""
    with Gate("localhost", "--", "sleep", "1000") as gate:
        while gate.status_line("Name") != "sleep":
            time.sleep(0.001)
        gate.signal(signal.SIGTERM)
        assert gate.wait(SOON).status == 143
    assert run("localhost", "--", "sh", "-c", "kill -9 $$").status == 137
