"""`precheck check`: every verdict once, as a table and as JSON, and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from service_precheck.options import quoted
from tests.bed.fixtures import Enter
from tests.bed.names import ScriptedDNS
from tests.bed.process import TOOLBOX, Finished, Gate, run
from tests.bed.sockets import Server, close, hang


def check(*arguments: str, env: dict[str, str] | None = None) -> Finished:
    return run("check", *arguments, command=TOOLBOX, env=env)


def test_all_ready_is_exit_0(enter: Enter) -> None:
    """Each line says what was proven, and the last one how many hold."""
    one, two = enter(Server(hang)), enter(Server(hang))
    done = check(one.address, f"{two.address}#name=second")
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"ready      {one.address}")
    assert lines[0].endswith(f"{one.address} accepts connections")
    assert lines[1].startswith("ready      second ")
    assert lines[2:] == ["2 of 2 hold"]
    assert done.stderr == ""


def test_all_verdicts_are_given_and_exit_1(enter: Enter) -> None:
    """A failure hides none of the others; causes stand in brackets, hints below."""
    good = enter(Server(hang))
    closing = enter(Server(close))
    shut = enter(Server(hang, opened=False))
    done = check(shut.address, closing.address, good.address)
    assert done.status == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("not ready ")
    assert lines[0].endswith("[refused]")
    assert lines[1].endswith("[closed-early]")
    assert lines[2].lstrip().startswith("hint: ")
    assert lines[3].startswith("ready ")
    assert lines[4] == "1 of 3 hold"


def test_members_stand_below_their_group(enter: Enter) -> None:
    """A group's line says how many hold, its members' lines why."""
    good = enter(Server(hang))
    shut = enter(Server(hang, opened=False))
    done = check(f"all({good.address}, not({good.address}), {shut.address})#name=world")
    assert done.status == 1
    marks = [line[:15].rstrip() for line in done.stdout.splitlines()]
    assert marks[0] == "not ready  worl"
    assert [mark.split("  ")[0] for mark in marks[1:5]] == [
        "ready",
        "not ready",
        "ready",
        "not ready",
    ]
    assert "1 of 3 holds" in done.stdout
    assert "is still there" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 of 1 holds"


def test_each_is_asked_once(names: ScriptedDNS) -> None:
    """One question for one look, whatever the number of successes asked for."""
    names.add("db.example.", "A", "192.0.2.1")
    done = check(f"dns://db.example#type=A#successes=5#server={names.host}:{names.port}")
    assert done.status == 0, done.stdout
    assert len(names.queries) == 1


def test_json_is_one_object_with_all_of_it(enter: Enter) -> None:
    """The document has each dependency and its members, in the words of the other outputs."""
    good = enter(Server(hang))
    shut = enter(Server(hang, opened=False))
    done = check("--output", "json", f"any({good.address}, {shut.address})", shut.address)
    assert done.status == 1
    document = json.loads(done.stdout)
    assert document["v"] == 1
    assert document["ready"] is False
    assert document["waited"] >= 0
    group, single = document["dependencies"]
    assert group["ready"] is True
    assert group["cause"] is None
    assert [member["cause"] for member in group["members"]] == [None, "refused"]
    assert single["name"] == single["target"] == shut.address
    assert single["seen"] == f"{shut.address} refused the connection"
    assert single["hint"] is None
    page = (Path(__file__).parents[2] / "docs/toolbox.md").read_text()
    for field in document.keys() | single.keys():
        assert f"\n| `{field}` |" in page


def test_targets_come_from_everywhere(enter: Enter, tmp_path: Path) -> None:
    """Arguments, a file and the variable are taken together; the gate's own variables do not matter."""
    servers = [enter(Server(hang)) for _ in range(3)]
    file = tmp_path / "targets"
    file.write_text(f"# needed\n{servers[1].address}\n")
    variables = {"PRECHECK_TARGETS": servers[2].address, "PRECHECK_OUTPUT": "live"}
    done = check(servers[0].address, "--from", str(file), env=variables)
    assert done.status == 0, done.stderr
    assert [server.address in done.stdout for server in servers] == [True] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no target"),
        (("db:0",), "'0' is no port"),
        (("--timeout", "1s", "db:1"), "no such option"),
        (("db:1", "--", "true"), "the gate does"),
        (("--output", "live", "db:1"), "none of text, json"),
    ],
)
def test_mistakes_are_exit_2(arguments: tuple[str, ...], said: str) -> None:
    """What is wrong is told on standard error, and nothing is asked."""
    done = check(*arguments)
    assert done.status == 2
    assert done.stdout == ""
    assert "precheck check: " in done.stderr
    assert "nothing was asked" in done.stderr
    assert said in done.stderr


def test_secrets_are_masked(enter: Enter) -> None:
    """A password in a target is in no output of either form."""
    shut = enter(Server(hang, opened=False))
    target = f"http://user:hunter22@{shut.address}/?key=hunter33"
    for output in ("text", "json"):
        done = check("--output", output, target)
        assert done.status == 1
        assert "hunter" not in done.stdout + done.stderr
        assert "***" in done.stdout


def test_closed_output_is_no_crash(enter: Enter) -> None:
    """Piped into something that reads nothing, it ends without a traceback."""
    server = enter(Server(hang))
    words = " ".join(f"'{word}'" for word in [*TOOLBOX, "check", server.address])
    done = subprocess.run(
        ["bash", "-c", f"{words} | true"], capture_output=True, text=True, timeout=50
    )
    assert "Traceback" not in done.stderr


def test_help_names_its_options() -> None:
    """`--help` says what it does, its options and its exit statuses."""
    done = check("--help")
    assert done.status == 0
    for word in ("TARGET...", "--output text|json", "--from PATH", "exit status: 0"):
        assert word in done.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_no_command_outlives_it(tmp_path: Path, number: int, status: int) -> None:
    """Told to end in the middle of a look, it kills the commands that it had started."""
    script = quoted(f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 1000")
    target = f"exec:///bin/sh#arg=-c#arg={script}#attempt-timeout=1h"
    with Gate("check", target, command=TOOLBOX) as gate:
        until = time.monotonic() + 20
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        gate.signal(number)
        assert gate.wait(20).status == status
    group = int((tmp_path / "pid").read_text())
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < until
        time.sleep(0.01)
