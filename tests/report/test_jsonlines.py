"""JSON lines: every line of real runs is valid by the schema, documented, and whole."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck.model import CAUSES
from service_precheck.report.jsonlines import JsonLines, encode
from service_precheck.state import TIMED_OUT, Outcome
from tests.bed.process import Gate, run
from tests.bed.sockets import Server, hang
from tests.report import states

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/events-v1.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def known(schema: dict[str, Any]) -> set[str]:
    """Every field that a part of the schema names."""
    names = set(schema.get("properties", {}))
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ())):
        names |= known(SCHEMA["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part)
    return names


def events(text: str) -> list[dict[str, Any]]:
    """The events of a run, each held against the schema and numbered without a gap."""
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        VALIDATOR.validate(event)
        assert set(event) <= known(SCHEMA)
    assert [event["n"] for event in found] == list(range(1, len(found) + 1))
    return found


def test_schema_is_a_schema() -> None:
    """The file itself is valid, and lists the causes that there are."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["brief"]["properties"]["cause"]["enum"] == [None, *CAUSES]


def test_schema_refuses_what_is_not_an_event() -> None:
    """The schema can fail: without a field, with another type, with an unknown cause."""
    with Server(hang) as server:
        done = run(server.address, "--output", "json")
    change = next(event for event in events(done.stdout) if event["event"] == "change")
    for wrong in ({"ready": "yes"}, {"cause": "bad-luck"}, {"event": "start"}, {"v": 2}):
        assert not VALIDATOR.is_valid(change | wrong)
    assert not VALIDATOR.is_valid({key: change[key] for key in change if key != "seen"})


def test_run_that_opens() -> None:
    """start, one change for each dependency, end with status 0; standard error stays empty."""
    with Server(hang) as server:
        done = run(server.address, "localhost#name=here", "--output", "json")
    first, *changes, last = events(done.stdout)
    assert (done.status, done.stderr) == (0, "")
    assert (first["event"], first["names"]) == ("start", [server.address, "here"])
    assert {(event["event"], event["name"], event["ready"]) for event in changes} == {
        ("change", server.address, True),
        ("change", "here", True),
    }
    assert (last["event"], last["status"], last["result"]) == ("end", 0, "open")
    assert (last["holding"], last["blocking"]) == (2, [])


def test_run_that_gives_up() -> None:
    """With -v each attempt is an event; the end names what blocks, members stand in their group."""
    with Server(hang, opened=False) as server:
        target = f"any({server.address}, file:///nowhere#name=file)#name=one of them"
        done = run(target, "--output", "json", "-v", "--timeout", "500ms")
    found = events(done.stdout)
    attempts = [e for e in found if e["event"] == "attempt" and e["name"] == server.address]
    assert [event["attempts"] for event in attempts] == list(range(1, len(attempts) + 1))
    change = next(event for event in found if "members" in event)
    assert [member["name"] for member in change["members"]] == [server.address, "file"]
    last = found[-1]
    assert (last["status"], last["result"], done.status) == (124, "timed-out", 124)
    assert [(each["name"], each["cause"]) for each in last["blocking"]] == [
        ("one of them", "too-few")
    ]


def test_signal_ends_with_an_event(gate: Callable[..., Gate]) -> None:
    """A signal's exit status is told like any other."""
    with Server(hang, opened=False) as server:
        waiting = gate(server.address, "--output", "json")
        waiting.wait_output('"change"')
        waiting.signal(signal.SIGTERM)
        done = waiting.wait()
    last = events(done.stdout)[-1]
    assert (done.status, last["status"], last["result"]) == (143, 143, "signal")
    assert last["seen"] == "ended by SIGTERM"
    assert last["blocking"][0]["cause"] == "refused"


def test_quiet_is_silent_unless_it_fails() -> None:
    """-q leaves the one line of a failure."""
    with Server(hang) as server:
        assert run(server.address, "--output", "json", "-q").stdout == ""
        server.shut()
        failed = run(server.address, "--output", "json", "-q", "--timeout", "200ms")
    (end,) = events(failed.stdout)
    assert end["status"] == 124


def written(tell: Callable[[JsonLines], None]) -> bytes:
    """What a report writes to a pipe."""
    reading, writing = os.pipe()
    try:
        tell(JsonLines(writing, True, False))
        os.set_blocking(reading, False)
        return os.read(reading, 1 << 20)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("character", ["x", '"', "\U0001f600", "\x1b", "\u202e"])
def test_line_never_exceeds_what_a_pipe_takes_whole(character: str) -> None:
    """A thousand members with endless names and texts still make one valid line of at most 4 KiB."""
    long = character * 5000
    members = [states.leaf(long, "refused", long, hint=long) for _ in range(1000)]
    crowd = states.group(long, *members, seen=long)
    gate = states.Gate(crowd, *members)

    def tell(report: JsonLines) -> None:
        report.begin(gate)  # type: ignore[arg-type]
        report.changed(crowd)
        report.changed(members[0])
        report.tick(0.0)
        report.end(Outcome(TIMED_OUT, 1.0, gate.states()))

    lines = written(tell).splitlines(keepends=True)
    assert all(len(line) <= 4096 and line.endswith(b"\n") for line in lines)
    start, change, _, waiting, _ = events(b"".join(lines).decode())
    assert start["dependencies"] == 1001
    assert len(change["members"]) + change["more_members"] == 1000
    assert len(waiting["blocking"]) + waiting["more_blocking"] == 1001


def test_reader_that_sleeps_meets_whole_objects_and_a_gap() -> None:
    """With the pipe full, lines are left out whole, and the numbers tell."""
    reading, writing = os.pipe()
    try:
        report = JsonLines(writing, True, False)
        back = states.leaf("a", "refused", "b" * 400)
        report.begin(states.Gate(back))  # type: ignore[arg-type]
        for _ in range(400):
            report.changed(back)
        got = b""
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            while True:
                got += os.read(reading, 65536)
        report.end(Outcome(TIMED_OUT, 1.0, (back,)))
        got += os.read(reading, 65536)
    finally:
        os.close(reading)
        os.close(writing)
    found = [json.loads(line) for line in got.decode().splitlines()]
    numbers = [event["n"] for event in found]
    assert numbers[:-1] == list(range(1, len(numbers)))
    assert numbers[-1] == 402
    assert len(numbers) < 402


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_encoding_is_json(value: object) -> None:
    """What we write without `json` is what `json` reads back, on one line of ASCII."""
    text = encode(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert "\n" not in text
