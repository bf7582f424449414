"""`-- COMMAND` replaces the gate, and nothing of the gate is left: what the command sees is compared
with what it sees when it is started without us."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.bed.limits import PID1
from tests.bed.process import GATE, PIP, Gate, run
from tests.bed.sockets import Server, hang
from tests.bed.tls import TLS, Authority

# As Debian's image starts it: nothing between the kernel and the gate.
START = [sys.executable, "-IS", "-c", GATE[-1]]
FIELDS = (
    *("Umask", "Uid", "Gid", "Groups", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"),
    *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"),
)


def both(
    *command: str, start: list[str] = GATE, env: dict[str, str] | None = None
) -> tuple[str, str]:
    """What a command prints without the gate before it, and with it."""
    alone = run(command=command, env=env)
    gated = run("-q", "localhost", "--", *command, command=start, env=env)
    assert (alone.status, gated.status) == (0, 0), gated.stderr
    return alone.stdout, gated.stdout


def fields(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in lines if name in FIELDS}


@pytest.mark.parametrize("start", [START, PIP], ids=["lean", "pip"])
def test_signals_threads_and_rights_are_as_before(start: list[str]) -> None:
    """One thread, no signal ignored, blocked or handled, the same umask, ids and capabilities."""
    alone, gated = both("cat", "/proc/self/status", start=start)
    assert fields(gated) == fields(alone)
    assert fields(gated)["Threads"] == "1"
    assert len(fields(gated)) == len(FIELDS)


@pytest.mark.parametrize("start", [START, PIP], ids=["lean", "pip"])
def test_environment_is_as_before(start: list[str]) -> None:
    """Byte for byte: what is no UTF-8, what is empty, and no LC_CTYPE that the interpreter would add."""
    env = {"LANG": "C", "EMPTY": "", "ODD": os.fsdecode(b"\xff\xfe=x"), "PRECHECK_QUIET": "true"}
    alone, gated = both("cat", "/proc/self/environ", env=env, start=start)
    assert gated == alone
    assert "LC_CTYPE" not in gated
    assert "EMPTY=\0" in gated


@pytest.mark.parametrize(
    "file", ["limits", "oom_score_adj", "personality", "timerslack_ns", "coredump_filter", "cgroup"]
)
def test_other_traits_are_as_before(file: str) -> None:
    """Limits, the place in the OOM killer's order, and the like are untouched."""
    alone, gated = both("cat", f"/proc/self/{file}")
    assert gated == alone


def test_descriptors_are_as_before() -> None:
    """No socket, file or pipe of ours is left, whatever the gate had open when it opened."""
    with Server(hang) as one, Server(hang, opened=False) as other:
        targets = [
            f"any(127.0.0.1:{one.port}, http://127.0.0.1:{one.port}/, 127.0.0.1:{other.port})",
            "any(localhost, exec:///bin/sleep#arg=9)",
        ]
        done = run("-q", *targets, "--", "ls", "/proc/self/fd")
    assert done.stdout == run(command=["ls", "/proc/self/fd"]).stdout


def test_descriptors_given_to_us_reach_the_command(tmp_path: Path) -> None:
    """A descriptor that our parent hands down (a lock, a socket) is not ours to close."""
    script = f'exec 7>{tmp_path}/lock; exec "$@"'
    done = run(command=["sh", "-c", script, "sh", *GATE, "localhost", "--", "ls", "/proc/self/fd"])
    assert "7" in done.stdout.split()


def test_folder_and_umask_are_as_before(tmp_path: Path) -> None:
    """The command starts where we were started."""
    script = 'umask 027; exec "$@"'
    words = [*GATE, "localhost", "--", "sh", "-c", "pwd; umask"]
    done = run(command=["sh", "-c", script, "sh", *words], cwd=tmp_path)
    assert done.stdout.split() == [str(tmp_path), "0027"]


def test_process_is_the_same(tmp_path: Path) -> None:
    """The command has our process id: a supervisor keeps watching the right one."""
    with Gate("localhost", "--", "sleep", "1000") as gate:
        end = time.monotonic() + 30
        while gate.status_line("Name") != "sleep":
            assert time.monotonic() < end
            time.sleep(0.001)
        assert gate.threads() == ["sleep"]
        # Its loader has a library open for a moment.
        while set(gate.fds()) != {0, 1, 2}:
            assert time.monotonic() < end, gate.fds()
            time.sleep(0.001)


def test_standard_streams_are_the_commands() -> None:
    """What the gate says goes to standard error: standard output is the command's alone."""
    done = run("localhost", "--", "echo", "mine")
    assert done.stdout == "mine\n"
    assert "127.0.0.1" in done.stderr


def test_ignored_signals_stay_ignored() -> None:
    """`nohup service-precheck ... -- COMMAND` keeps ignoring SIGHUP, SIGINT too."""
    script = 'trap "" HUP INT QUIT; exec "$@"'
    command = ["cat", "/proc/self/status"]
    alone = run(command=["sh", "-c", script, "sh", *command])
    gated = run(command=["sh", "-c", script, "sh", *GATE, "localhost", "--", *command])
    assert fields(gated.stdout)["SigIgn"] == fields(alone.stdout)["SigIgn"]
    mask = int(fields(gated.stdout)["SigIgn"], 16)
    assert all(
        mask >> (number - 1) & 1 for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    )


@pytest.mark.parametrize("inside", [[], [PID1]], ids=["child", "process 1"])
def test_no_child_is_left_to_the_command(inside: list[object], tmp_path: Path) -> None:
    """A command that still ran when the gate opened is dead, and taken away: no zombie, no orphan."""
    mark = tmp_path / "runs"
    child = f"exec:///bin/sh#arg=-c#arg=echo > {mark}; sleep 1000 & sleep 1000"
    script = 'read children < /proc/$$/task/$$/children; echo "[$children]"'
    target = f"any({child}, file://{mark})"
    done = run("-q", target, "--", "sh", "-c", script, inside=inside)
    assert (done.status, done.stdout) == (0, "[]\n")


def test_path_is_searched_as_the_shell_does(tmp_path: Path) -> None:
    """A program is sought along PATH; one that cannot be run does not hide a later one."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, mode in ((first, 0o644), (second, 0o755)):
        folder.mkdir()
        (folder / "tool").write_text("#!/bin/sh\necho found\n")
        (folder / "tool").chmod(mode)
    env = {"PATH": f"/nonexistent:{first}:{second}:{os.environ['PATH']}"}
    assert run("localhost", "--", "tool", env=env).stdout == "found\n"
    env = {"PATH": f"/nonexistent:{first}"}
    assert run("localhost", "--", "tool", env=env, command=START).status == 126


def test_without_path_there_is_a_default() -> None:
    """Without PATH the folders are those that execvp(3) takes."""
    done = run(command=["env", "-u", "PATH", *START, "localhost", "--", "echo", "here"])
    assert (done.status, done.stdout) == (0, "here\n")


def test_after_a_tls_page(authority: Authority) -> None:
    """After TLS was loaded, and its threads ended, the command is as untouched."""
    with Server(hang, tls=TLS(authority.issue())) as server:
        target = f"tls://localhost:{server.port}#ca={authority.file}"
        done = run("-q", target, "--", "cat", "/proc/self/status")
    assert done.status == 0, done.stderr
    assert fields(done.stdout) == fields(run(command=["cat", "/proc/self/status"]).stdout)
