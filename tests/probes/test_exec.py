"""`exec:` against real programs that end well, badly, late or never."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service_precheck import signals, target
from service_precheck.errors import OperatorError
from service_precheck.options import quoted
from tests.probes.conftest import Ask


def command(*words: str) -> str:
    """Return the target of a command: its absolute path, and its arguments."""
    return f"exec://{quoted(words[0])}" + "".join(f"#arg={quoted(word)}" for word in words[1:])


def shell(script: str) -> str:
    return command("/bin/sh", "-c", script)


def python(script: str) -> str:
    return command(sys.executable, "-c", script)


def alive(pid: int) -> bool:
    """Whether a process is there and not just waiting to be taken away."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_exit_status_0_is_ready(ask: Ask) -> None:
    """A command that ends well is ready; the last line of what it says goes with it."""
    assert ask("exec:///bin/true").seen == "/bin/true ended with exit status 0"
    verdict = ask(shell("echo starting; echo; echo 'accepting connections' >&2; echo"))
    assert verdict.ready
    assert verdict.seen == "/bin/sh ended with exit status 0: accepting connections"


@pytest.mark.parametrize("status", [1, 3, 126, 255])
def test_another_exit_status_is_not_ready(status: int, ask: Ask) -> None:
    """The status and the last line of what was said are the cause, made harmless and kept short."""
    verdict = ask(shell(f"echo one; printf 'no \\033[31mroute'; exit {status}"))
    assert verdict.cause == "not-ready"
    assert verdict.seen == rf"/bin/sh ended with exit status {status}: no \x1b[31mroute"
    verdict = ask(shell(f"head -c 5000 /dev/zero | tr '\\0' x; exit {status}"))
    assert len(verdict.seen) < 600


def test_a_signal_is_named(ask: Ask) -> None:
    """A command that crashes is told apart from one that says no."""
    verdict = ask(shell("kill -SEGV $$"))
    assert verdict.cause == "not-ready"
    assert verdict.seen == "/bin/sh was killed by signal 11 (Segmentation fault)"


def test_arguments_are_passed_as_they_are(ask: Ask) -> None:
    """Nothing is split, expanded or interpreted on the way."""
    words = ["a b", "$HOME", "*", "x;y", "#,)%", "ü", "'\"", "-h"]
    script = "import sys; print(sys.argv[1:])"
    verdict = ask(command(sys.executable, "-c", script, *words))
    assert verdict.ready
    assert verdict.seen.endswith(f": {words}")


def test_the_command_gets_our_environment_and_folder(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the command needs to know stands where it would stand for us."""
    monkeypatch.setenv("SOMETHING", "to know")
    monkeypatch.chdir(tmp_path)
    assert ask(shell('echo "$SOMETHING in $PWD"')).seen.endswith(f": to know in {tmp_path}")


def test_standard_input_is_empty(ask: Ask) -> None:
    """A command that reads meets the end at once and does not wait for a terminal."""
    assert ask("exec:///bin/cat").seen == "/bin/cat ended with exit status 0"


def test_the_command_starts_with_clean_signals_and_descriptors(ask: Ask) -> None:
    """Nothing of ours is inherited: no open file, no ignored or blocked signal."""
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        # By programs that change no signal themselves.
        blocked = ask(command("/bin/sed", "-n", "s/SigBlk:.//p", "/proc/self/status"))
        ignored = ask(command("/bin/sed", "-n", "s/SigIgn:.//p", "/proc/self/status"))
        opened = ask(shell("echo /proc/self/fd/*"))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1, signal.SIGTERM})
        signal.signal(signal.SIGTERM, before)
        for each in held:
            os.close(each)
    assert int(blocked.seen.rpartition(" ")[2], 16) == 0
    # The C library's own signals, 32 and 33, are left ignored by posix_spawn(3) itself.
    assert int(ignored.seen.rpartition(" ")[2], 16) & ~(3 << 31) == 0
    # The shell's own look at the folder is one of them, and what our parent gave us to pass on.
    passed_on = {n for n in map(int, os.listdir("/proc/self/fd")) if inheritable(n)}
    numbers = {int(path.rpartition("/")[2]) for path in opened.seen.rpartition(": ")[2].split()}
    assert numbers - passed_on <= {0, 1, 2, 3, 4}
    assert len(numbers - passed_on) <= 4
    assert not numbers & set(held) - passed_on - {3, 4}


def test_a_command_that_hangs_is_killed_at_the_deadline(ask: Ask, tmp_path: Path) -> None:
    """The whole process group goes, also what ignores signals, and its last words are told."""
    pids = tmp_path / "pids"
    script = (
        f"trap '' TERM INT HUP; sleep 1000 & echo $$ $! > {pids}; echo connecting to db; sleep 1000"
    )
    verdict = ask(shell(script), timeout=1.0)
    assert verdict.cause == "no-reply"
    assert verdict.seen == "/bin/sh did not end within 1 s; its last words: connecting to db"
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: not alive(int(pid)))  # type: ignore[misc]
    assert not signals.children


def test_a_command_that_is_stopped_is_killed_too(ask: Ask, tmp_path: Path) -> None:
    """A process in the stopped state cannot hold the probe up."""
    verdict = ask(shell(f"echo $$ > {tmp_path}/pid; kill -STOP $$"), timeout=0.5)
    assert verdict.cause == "no-reply"
    assert not alive(int((tmp_path / "pid").read_text()))


def test_what_a_command_leaves_behind_is_killed(ask: Ask, tmp_path: Path) -> None:
    """A child in the background neither holds the verdict up nor stays, though it holds the output."""
    began = time.monotonic()
    verdict = ask(shell(f"sleep 1000 & echo $! > {tmp_path}/pid; echo done"), timeout=30)
    assert verdict.seen == "/bin/sh ended with exit status 0: done"
    assert time.monotonic() - began < 15
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_a_command_that_closes_its_output_is_waited_for(ask: Ask) -> None:
    """The end of the output is not the end of the command, and waiting costs next to nothing."""
    before = time.process_time()
    verdict = ask(shell("exec >&- 2>&-; sleep 1; exit 4"), timeout=30)
    assert verdict.seen == "/bin/sh ended with exit status 4"
    assert time.process_time() - before < 0.5


def test_output_without_end_is_bounded(ask: Ask) -> None:
    """A command that never stops talking costs neither memory nor much of the processor."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = time.process_time()
    verdict = ask("exec:///usr/bin/yes", timeout=1.0)
    assert verdict.cause == "no-reply"
    assert verdict.seen == "/usr/bin/yes did not end within 1 s; its last words: y"
    assert time.process_time() - before < 0.8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 8 << 10


def test_much_output_does_not_block_the_command(ask: Ask) -> None:
    """More than a pipe holds is read and thrown away; its end is kept."""
    verdict = ask(shell("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end"), timeout=30)
    assert verdict.seen == "/bin/sh ended with exit status 0: the end"


def test_programs_that_cannot_be_run_are_ours(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, not executable, without an interpreter, a folder: `local`, and said which."""
    text = tmp_path / "text"
    text.write_text("echo hi\n")
    lost = tmp_path / "lost"
    lost.write_text("#!/no/such/shell\n")
    lost.chmod(0o755)
    for path, words in (
        (tmp_path / "none", "there is no program {}"),
        (text, "{} cannot be run: Permission denied"),
        (lost, "{} names a program in its first line that is not there"),
        (tmp_path, "{} cannot be run: Permission denied"),
    ):
        verdict = ask(f"exec://{path}")
        assert (verdict.cause, verdict.seen) == ("local", words.format(path))
    assert "#arg=" in ask(f"exec://{tmp_path}/none at all").hint
    text.chmod(0o755)
    verdict = ask(f"exec://{text}")
    assert (verdict.cause, verdict.seen) == ("local", f"{text} is no program")
    monkeypatch.setenv("TOO_MUCH", "x" * (1 << 18))
    assert "Argument list too long" in ask("exec:///bin/true").seen


def test_too_few_descriptors_are_ours(ask: Ask) -> None:
    """Fault 10: without a descriptor left nothing is run, `local` says so, and nothing leaks."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = descriptors()
    ask("exec:///bin/true")
    # Between those in use others may be free: take them too, then one more is one too many.
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    filled: list[int] = []
    while not filled or filled[-1] <= highest:
        filled.append(os.open("/dev/null", os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (filled[-1] + 1, limits[1]))
    try:
        verdict = ask("exec:///bin/true")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in filled:
            os.close(descriptor)
    assert verdict.cause == "local"
    assert "Too many open files" in verdict.seen
    assert descriptors() <= before


def test_without_pidfd_it_works_the_same(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """On kernels that cannot give a descriptor for a process the end is looked for instead."""
    from service_precheck.codecs import command as program

    class Without:
        """The functions of the system, less one."""

        def __getattr__(self, name: str) -> object:
            if name == "pidfd_open":
                raise AttributeError(name)
            return getattr(os, name)

    monkeypatch.setattr(program, "os", Without())
    assert ask(shell("sleep 0.1; echo fine; exit 7")).seen.endswith("exit status 7: fine")
    assert ask(shell("exec >&- 2>&-; sleep 0.1; exit 8")).seen.endswith("exit status 8")
    assert ask(command("/bin/sleep", "100"), timeout=0.3).cause == "no-reply"


def test_running_commands_are_known_to_whoever_ends_the_gate(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a command runs its process group is among those that a signal's handler kills; after
    that none is started, which would stay behind."""
    import threading

    monkeypatch.setattr(signals, "ended", False)
    verdicts = []
    asking = threading.Thread(
        target=lambda: verdicts.append(ask(shell(f"echo $$ > {tmp_path}/pid; sleep 1000"), 60))
    )
    asking.start()
    wait_until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    # The command may say its number before we are told of it.
    wait_until(lambda: not signals.starting)
    assert signals.children == {int((tmp_path / "pid").read_text())}
    signals.kill_children()
    asking.join(30)
    assert verdicts[0].seen == "/bin/sh was killed by signal 9 (Killed)"
    assert not signals.children
    assert ask(shell(f"touch {tmp_path}/late")).seen == "/bin/sh was not started: the gate ends"
    assert not (tmp_path / "late").exists()
    assert not signals.starting


def test_an_exit_status_that_somebody_took_is_ours(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SIGCHLD ignored by whoever uses the library the kernel keeps no status: `local`."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        verdict = ask("exec:///bin/true")
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert verdict.cause == "local"
    assert verdict.seen == "the exit status of /bin/true was taken by somebody else"


def test_orphans_are_reaped_and_commands_are_not(ask: Ask) -> None:
    """What reaps as PID 1 leaves alone what a probe waits for, also before it knows its number."""
    child = os.posix_spawn("/bin/true", ["true"], {})
    signals.starting.add(child)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        signals.reap()
        assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        signals.children.add(child)
        signals.starting.discard(child)
        signals.reap()
        assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    finally:
        signals.starting.discard(child)
        signals.children.discard(child)
    signals.reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, 0)


def test_nothing_is_left(ask: Ask) -> None:
    """No descriptor, zombie or remembered process stays after any way a command can end."""
    ask("exec:///bin/true")
    before = descriptors()
    for text in ("exec:///bin/true", "exec:///bin/false", "exec:///none", shell("kill -9 $$")):
        ask(text)
    ask(command("/bin/sleep", "100"), timeout=0.1)
    assert descriptors() == before
    assert not signals.children
    assert not signals.starting
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exec://bin/true", "not absolute"),
        ("exec:///bin/true#arg=", "empty"),
        ("exec:///bin/true#args=x", "no option 'args'"),
        ("exec:///bin/true#arg=a%00b", "NUL"),
    ],
)
def test_mistakes_are_found_before_anything_is_run(text: str, words: str) -> None:
    """What cannot be meant is the operator's to mend."""
    with pytest.raises(OperatorError, match=words):
        target.parse(text)
