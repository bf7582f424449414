"""The library face: what it gives, what it raises and by whose fault, and what it leaves behind."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

import service_precheck
from service_precheck import (
    DependencyError,
    DependencyFailed,
    OperatorError,
    PrecheckError,
    WaitTimeout,
    check,
    wait,
    wait_async,
)
from service_precheck.options import Scheme
from service_precheck.target import parse
from tests.bed.process import SOURCE, own_threads
from tests.bed.sockets import Full, Server, hang

if TYPE_CHECKING:
    from service_precheck.options import Target
    from service_precheck.stream import Attempt
    from tests.bed.fixtures import Enter

LIMIT = 30.0


def until_gone(limit: float = LIMIT) -> list[str]:
    """Our threads, once there are none or the limit has passed."""
    end = time.monotonic() + limit
    while (left := own_threads()) and time.monotonic() < end:
        time.sleep(0.01)
    return left


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code with the package in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=50
    )


def test_wait_returns_the_outcome_once_all_hold(enter: Enter) -> None:
    """A port that opens while it is waited for, and one that is open, give one true outcome."""
    early = enter(Server(hang))
    late = enter(Server(hang, opened=False))
    late.open_after(0.2)
    outcome = wait(early.address, f"{late.address}#name=late", timeout=LIMIT)
    assert outcome
    assert outcome.ready
    assert outcome.status == 0
    assert [state.name for state in outcome.states] == [early.address, "late"]
    assert all(state.holds and state.cause is None for state in outcome.states)
    assert outcome.states[1].attempts > 1
    assert late.opened_at is not None
    assert own_threads() == [] or until_gone() == []


def test_timeout_is_raised_with_what_blocks(enter: Enter) -> None:
    """When time runs out the error names the dependency and the cause, and has the whole outcome."""
    closed = enter(Server(hang, opened=False))
    with pytest.raises(WaitTimeout) as caught:
        wait(closed.address, timeout=0.2)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert isinstance(error, DependencyError)
    assert error.exit_status == 124
    assert not error.outcome
    (state,) = error.outcome.states
    assert state.cause == "refused"
    assert closed.address in str(error)
    assert "[refused]" in str(error)


def test_what_can_never_hold_is_raised_at_once(
    enter: Enter, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A final verdict ends the wait without a time limit; `keep_waiting` goes on until one."""
    from service_precheck import schemes
    from service_precheck.model import Verdict

    def probe(_target: Target, _attempt: Attempt) -> Verdict:
        return Verdict("failed", "the job failed", "look at its log", final=True)

    job = Scheme("job", "path", probe, proves="", not_proves="", example="")
    load = schemes.load
    monkeypatch.setattr(schemes, "load", lambda name: job if name == "job" else load(name))
    with pytest.raises(DependencyFailed) as caught:
        wait("job:///migrate")
    assert caught.value.exit_status == 1
    assert "the job failed [failed]" in str(caught.value)
    assert "hint: look at its log" in str(caught.value)
    with pytest.raises(WaitTimeout):
        wait("job:///migrate", timeout=0.2, keep_waiting=True)


def test_mistakes_are_the_operators_and_all_told(enter: Enter) -> None:
    """Nothing is asked when a target is wrong; each mistake says which target it stands in."""
    server = enter(Server(hang))
    with pytest.raises(OperatorError) as caught:
        wait(server.address, "db:0", "tpc://db:1")
    assert isinstance(caught.value, PrecheckError)
    assert not isinstance(caught.value, DependencyError)
    assert [mistake.place for mistake in caught.value.mistakes] == ["target 2", "target 3"]
    assert "tcp://" in caught.value.mistakes[1].right
    assert server.connections == []


@pytest.mark.parametrize(
    ("targets", "options", "said"),
    [
        ((), {}, "no target"),
        (("db:1",), {"timeout": 0}, "timeout=0"),
        (("db:1",), {"interval": -1.0}, "interval=-1.0"),
        (("db:1",), {"timeout": float("nan")}, "timeout=nan"),
    ],
)
def test_impossible_waits_are_mistakes(
    targets: tuple[str, ...], options: dict[str, float], said: str
) -> None:
    """No target, and a time that is not longer than nothing, are refused before anything is asked."""
    with pytest.raises(OperatorError, match=said):
        wait(*targets, timeout=options.get("timeout"), interval=options.get("interval"))


def test_a_variable_must_be_set_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that names a variable is one; a call needs the variable."""
    text = "mysql://app@127.0.0.1:1#password-env=DB_WORD"
    monkeypatch.delenv("DB_WORD", raising=False)
    assert str(parse(text)).endswith("#password-env=DB_WORD")
    with pytest.raises(OperatorError, match="DB_WORD is not set, or empty"):
        check(text)
    monkeypatch.setenv("DB_WORD", "some-word")
    assert not check(text).ready


def test_a_list_is_no_target() -> None:
    """Forgetting the star is told as what it is."""
    with pytest.raises(TypeError, match="a target is a str, not list"):
        wait(["db:1", "db:2"])  # type: ignore[arg-type]


def test_check_asks_once_and_gives_every_verdict(enter: Enter) -> None:
    """One connection for each target, whatever `successes` says, and no error for what is not ready."""
    good = enter(Server(hang))
    bad = enter(Server(hang, opened=False))
    outcome = check(f"{good.address}#successes=3", bad.address, f"not({bad.address})")
    assert not outcome
    assert outcome.status == 1
    assert [state.holds for state in outcome.states] == [True, False, True]
    assert [state.cause for state in outcome.states] == [None, "refused", None]
    assert [state.attempts for state in outcome.states] == [1, 1, 1]
    assert all(state.asks_in is None for state in outcome.states)
    good.wait_connections(1)
    assert len(good.connections) == 1


def test_results_are_immutable(enter: Enter) -> None:
    """No part of an outcome can be changed, and equal outcomes are equal."""
    outcome = check(enter(Server(hang)).address)
    with pytest.raises(AttributeError, match="immutable"):
        outcome.status = 1
    with pytest.raises(AttributeError, match="immutable"):
        outcome.states[0].holds = False
    verdict = outcome.states[0].verdict
    assert verdict is not None
    with pytest.raises(AttributeError, match="immutable"):
        del verdict.seen
    assert verdict == verdict.but()


def test_waits_run_in_any_thread_at_the_same_time(enter: Enter) -> None:
    """Eight threads wait at once, each with its own outcome, and none of ours is left."""
    servers = [enter(Server(hang, opened=False)) for _ in range(8)]
    outcomes: dict[str, bool] = {}

    def one(server: Server) -> None:
        outcomes[server.address] = bool(wait(server.address, timeout=LIMIT))

    threads = [threading.Thread(target=one, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for server in servers:
        server.open()
    for thread in threads:
        thread.join(LIMIT)
    assert outcomes == {server.address: True for server in servers}
    assert until_gone() == []


def test_nothing_of_the_callers_process_is_changed(enter: Enter) -> None:
    """Signal handlers, the size of new threads' stacks and the switch interval stay as they were."""
    server = enter(Server(hang))

    def settings() -> tuple[object, ...]:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
        handlers = tuple(signal.getsignal(number) for number in numbers)
        return *handlers, threading.stack_size(), sys.getswitchinterval()

    before = settings()
    wait(server.address, timeout=LIMIT)
    assert settings() == before


def test_interrupt_ends_a_wait(enter: Enter) -> None:
    """Control-C in the main thread raises KeyboardInterrupt out of `wait`, and our threads end."""
    closed = enter(Server(hang, opened=False))
    killer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    killer.start()
    with pytest.raises(KeyboardInterrupt):
        wait(closed.address, timeout=LIMIT)
    killer.join()
    assert until_gone() == []


def test_process_ends_while_an_attempt_is_stuck(enter: Enter) -> None:
    """A thread in a call that nothing answers does not hold the interpreter's exit."""
    full = enter(Full())
    done = run_python(
        "import service_precheck as s, time\n"
        f"try: s.wait('{full.host}:{full.port}#attempt-timeout=1h', timeout=0.2)\n"
        "except s.WaitTimeout: print('timeout')\n"
        "print(time.monotonic())\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("timeout")
    assert time.monotonic() - float(done.stdout.split()[1]) < LIMIT


def test_children_of_a_pid_1_caller_stay_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the caller is process 1, a wait does not take the exit status of its children away."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    end = time.monotonic() + LIMIT
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    with pytest.raises(WaitTimeout):
        wait("127.0.0.1:1", timeout=0.2)
    assert child.wait(LIMIT) == 7


def test_faults_of_a_probe_propagate_and_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a probe raises by our own fault reaches the caller as it is, in all three forms."""
    from service_precheck import schemes

    def probe(_target: Target, _attempt: Attempt) -> NoReturn:
        raise ZeroDivisionError("ours")

    broken = Scheme("broken", "path", probe, proves="", not_proves="", example="")
    load = schemes.load
    monkeypatch.setattr(schemes, "load", lambda name: broken if name == "broken" else load(name))
    with pytest.raises(ZeroDivisionError, match="ours"):
        wait("broken:///x")
    with pytest.raises(ZeroDivisionError, match="ours"):
        check("broken:///x")
    with pytest.raises(ZeroDivisionError, match="ours"):
        asyncio.run(wait_async("broken:///x"))
    assert until_gone() == []


def test_awaited_wait_lets_the_loop_go_on(enter: Enter) -> None:
    """While a wait is awaited other tasks run; one of them opens the port it waits for."""
    late = enter(Server(hang, opened=False))

    async def main() -> bool:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while turns < 5:
                await asyncio.sleep(0.01)
                turns += 1
            late.open()

        outcome, _ = await asyncio.gather(wait_async(late.address, timeout=LIMIT), other())
        assert turns == 5
        return bool(outcome)

    assert asyncio.run(main())
    assert until_gone() == []


def test_awaited_wait_raises_like_the_other(enter: Enter) -> None:
    """Mistakes, the end of time and its outcome are the same when awaited."""
    closed = enter(Server(hang, opened=False))

    async def main() -> None:
        with pytest.raises(OperatorError):
            await wait_async("db:0")
        with pytest.raises(WaitTimeout) as caught:
            await wait_async(closed.address, timeout=0.2)
        assert caught.value.outcome.states[0].cause == "refused"

    asyncio.run(main())


def test_cancelling_returns_at_once() -> None:
    """Cancelled behind a silent host, the task ends while the attempt is still stuck; the threads follow."""

    async def main(target: str) -> None:
        task = asyncio.create_task(wait_async(target))
        await asyncio.sleep(0.1)
        assert {"precheck-gate", "precheck-0"} <= set(own_threads())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "precheck-0" in own_threads()

    with Full() as full:
        asyncio.run(main(f"{full.host}:{full.port}#attempt-timeout=1h"))
    # Nothing listens any more: the kernel's next SYN is refused, which ends the attempt.
    assert until_gone() == []


def test_importing_the_package_loads_nothing() -> None:
    """`import service_precheck` brings one module, its own, beside what each module brings."""
    done = run_python(
        "import sys; before = set(sys.modules)\n"
        "import service_precheck\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    assert done.stdout.strip() == "['__future__', 'service_precheck']", done.stderr


def test_using_it_stays_lean(enter: Enter) -> None:
    """A wait for a port loads no more of the standard library than the gate does."""
    server = enter(Server(hang))
    done = run_python(
        "import sys; before = set(sys.modules)\n"
        "import service_precheck\n"
        f"service_precheck.wait('{server.address}', timeout=30)\n"
        "print(' '.join(sorted(set(sys.modules) - before)))\n"
    )
    assert done.returncode == 0, done.stderr
    heavy = {"re", "socket", "threading", "signal", "ssl", "enum", "dataclasses", "typing"}
    heavy |= {"logging", "argparse", "urllib", "json", "asyncio", "random", "queue", "heapq"}
    assert heavy.isdisjoint(done.stdout.split())


def test_every_public_name_is_there_and_known_to_type_checkers() -> None:
    """What `__all__` lists can be had, is what type checkers are told, and nothing else is."""
    for name in service_precheck.__all__:
        assert getattr(service_precheck, name).__module__.startswith("service_precheck")
    told = {
        alias.name
        for node in ast.walk(ast.parse((SOURCE / "service_precheck/__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert told - {"library"} == set(service_precheck.__all__)
    code = "import service_precheck; print(*dir(service_precheck))"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(service_precheck.__all__) <= set(fresh.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        service_precheck.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_no_thread_is_left_when_the_interpreter_ends(enter: Enter) -> None:
    """Fifty threads whose attempts in TLS end with the call are gone before what they used is freed."""
    silent = enter(Server(hang))
    target = f"https://{silent.address}#attempt-timeout=200ms"
    done = run_python(
        "import atexit, os, service_precheck\n"
        "def names():\n"
        "    for task in os.listdir('/proc/self/task'):\n"
        "        try:\n"
        "            yield open(f'/proc/self/task/{task}/comm').read().strip()\n"
        "        except OSError: pass\n"
        # What was registered first is called last.
        "@atexit.register\n"
        "def left():\n"
        "    print([name for name in names() if name.startswith('precheck-')])\n"
        f"service_precheck.check(*('{target}#name=%d' % n for n in range(50)))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]"]
