"""Plain lines: what a log shows of a gate, read by someone who has never seen it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import Any, cast

import pytest

from service_precheck.report.plain import Plain
from service_precheck.report.words import closing, reasons, sentence, told
from service_precheck.state import FAILED, OPEN, TIMED_OUT, Outcome, State
from tests.bed.process import Gate, run
from tests.bed.sockets import Server, hang
from tests.report.states import group, leaf, unasked

CLOCK = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


def test_dependency_that_holds_is_two_lines() -> None:
    """A line says what was proven, and one that the gate is open; each begins with the time."""
    with Server(hang) as server:
        done = run(server.address, "--output", "plain")
    lines = done.stderr.splitlines()
    assert all(CLOCK.match(line) for line in lines)
    said = [CLOCK.sub("", line) for line in lines]
    assert said[0] == f"ready: {server.address} accepts connections"
    assert re.fullmatch(f"open (at once|after .*): {server.address} accepts connections", said[1])
    assert (len(said), done.status, done.stdout) == (2, 0, "")


def test_failure_explains_itself() -> None:
    """The last lines say what gave up, on what, why, what this is, and where to read on."""
    with Server(hang, opened=False) as server:
        done = run(server.address, "localhost", "--timeout", "300ms", "--output", "plain")
    assert done.status == 124
    end = done.stderr[done.stderr.index("gave up") :].splitlines()
    about = "service-precheck holds a workload back until what it depends on can be used"
    assert end == [
        f"gave up after 0.3 s, still waiting for 1 of 2: {server.address}",
        f"  {server.address} refused the connection [refused]",
        f"  {about} (exit status 124: time ran out).",
        "  What [refused] means and what to do: precheck causes refused",
    ]


def test_one_line_a_change_and_not_an_attempt() -> None:
    """Dozens of refused attempts are one line; -v shows each with its number."""
    with Server(hang, opened=False) as server:
        quiet = run(server.address, "--timeout", "1s", "--output", "plain")
        loud = run(server.address, "--timeout", "1s", "--output", "plain", "-v")
    assert quiet.stderr.count("waiting: ") == 1
    attempts = [int(number) for number in re.findall(r"\(attempt (\d+)\)", loud.stderr)]
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) > 5


def test_quiet_says_nothing_until_it_fails() -> None:
    """-q is silent about success and explains a failure in full."""
    with Server(hang) as server:
        assert run(server.address, "-q").stderr == ""
        server.shut()
        failed = run(server.address, "-q", "--timeout", "200ms")
    assert "refused the connection [refused]" in failed.stderr
    assert "waiting: " not in failed.stderr


def test_signal_is_told_with_what_was_awaited(gate: Callable[..., Gate]) -> None:
    """The last line after SIGTERM names the signal and what blocked."""
    with Server(hang, opened=False) as server:
        waiting = gate(server.address, "--output", "plain")
        waiting.wait_output("waiting: ")
        waiting.signal(signal.SIGTERM)
        done = waiting.wait()
    assert done.status == 143
    last = CLOCK.sub("", done.stderr.splitlines()[-1])
    assert re.fullmatch(f"ended by SIGTERM after .*, waiting for {server.address}", last)


def test_group_is_told_with_its_members() -> None:
    """A group that does not hold counts its members, and each says why below it."""
    cache = group("cache", leaf("a:1", "refused", "a:1 refused the connection"), unasked("b:1"))
    assert told(cache, short=True) == "cache: none of 2 holds [too-few]"
    assert reasons((cache, leaf("c"))) == [
        "  cache: none of 2 holds [too-few]",
        "    a:1 refused the connection [refused]",
        "    b:1: no answer yet",
    ]


def test_hints_stand_below_what_they_are_about() -> None:
    """What to do is said where it is known."""
    blocked = leaf("db", "tls-name", "the certificate is not for db", hint="#server-name= sets it")
    assert reasons((blocked,))[1] == "    hint: #server-name= sets it"


def test_what_to_do_is_said_while_it_waits() -> None:
    """A gate that waits for ever tells its hints, too: once each, below the line that says what blocks."""
    members = leaf("a", "refused", "a refused"), leaf("b", "no-reply", "b is silent", hint="#tls")
    states: tuple[State, ...] = (
        group("cache", *members),
        leaf("db", "tls-name", "not for db", hint="ask"),
        leaf("c"),
    )

    class Waiting:
        def states(self) -> tuple[State, ...]:
            return states

        def waited(self) -> float:
            return 30.0

    reading, writing = os.pipe()
    report = Plain(writing, verbose=False, quiet=False)
    report.begin(cast("Any", Waiting()))
    report.tick(0.0)
    states = (*states[:1], leaf("db", "refused", "db refused"))
    report.tick(30.0)
    report.end(Outcome(OPEN, 61.0, (leaf("c"),)))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = [CLOCK.sub("", line) for line in pipe.read().splitlines()]
    assert [line.partition(" after")[0] for line in said] == [
        "still waiting",
        "  hint for b: #tls",
        "  hint for db: ask",
        "still waiting",
        "open",
    ]


def test_what_does_not_pass_by_itself_has_its_hint_at_once() -> None:
    """What is wrong here, or not allowed, is told with what to do; what others may yet mend, later."""
    reading, writing = os.pipe()
    report = Plain(writing, verbose=False, quiet=False)
    for cause in ("forbidden", "local", "refused"):
        report.changed(leaf("db", cause, "it is so", hint=f"do this at {cause}"))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = [CLOCK.sub("", line) for line in pipe.read().splitlines()]
    assert said == [
        "waiting: db: it is so [forbidden]",
        "  hint for db: do this at forbidden",
        "waiting: db: it is so [local]",
        "  hint for db: do this at local",
        "waiting: db: it is so [refused]",
    ]


def test_names_cannot_break_out_of_a_line() -> None:
    """Fault 67: control characters in a name are escaped, and a name of any length is cut."""
    strange = leaf("a\x1b[31m\nb" + "c" * 1000, "refused", "refused")
    (line,) = reasons((strange,))
    assert line.isprintable()
    assert "\\x1b[31m\\x0ab" in line
    assert len(line) < 200


def test_sentences_for_every_end() -> None:
    """Each end is one sentence; a duration that would read as zero is not shown."""
    held, back = leaf("a"), leaf("b", "refused", "b refused")
    assert sentence(Outcome(OPEN, 0.01, (held,))) == "open at once: a: accepts connections"
    assert sentence(Outcome(OPEN, 75.0, (held, held))) == (
        "open after 1 min 15 s: all 2 dependencies hold"
    )
    assert sentence(Outcome(OPEN, 0.0, ())) == "open at once: no target was named"
    late = sentence(Outcome(TIMED_OUT, 2.0, (held, back, back, back, back)))
    assert late == "gave up after 2 s, still waiting for 4 of 5: b, b, b and 1 more"
    failed = Outcome(FAILED, 2.0, (held, back))
    assert sentence(failed) == "failed after 2 s: 1 of 2 can never hold: b"
    assert "(exit status 1: a dependency failed for good)" in closing(failed)[0]


@pytest.mark.parametrize("more", [[], ["-v"]])
def test_dependency_whose_own_time_is_over_says_so(more: list[str]) -> None:
    """A target's own timeout is told as such, not just as what was seen last."""
    with Server(hang, opened=False) as server:
        done = run(f"{server.address}#timeout=300ms", "--output", "plain", *more)
    assert done.status == 124
    said = f"{server.address} refused the connection, and its own time is over [refused]"
    assert f"failed: {said}\n" in done.stderr
    assert f"\n  {said}\n" in done.stderr


def test_reasons_of_very_many_are_few() -> None:
    """Of a thousand that block the first are told and the others counted."""
    told_lines = reasons(tuple(leaf(f"n{n}", "refused", "refused") for n in range(1000)))
    assert told_lines[0].startswith("  n0")
    assert told_lines[-1] == "  and 960 more"
    assert len(told_lines) == 41
