"""The moment at which a gate opens, held against what a driver experiences: never early, and not stuck."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bed.process import Gate

PAUSE = 0.005
# How late a gate is, the benchmark says; this only tells that it does not hang.
LATE = 5.0


def opened(gate: Gate, works: Callable[[], bool]) -> set[str]:
    """Wait until the gate opens; gives the causes that it saw before, if it tells them in JSON.

    `works` is one attempt of a driver, which does not try again by itself. It is made again and again:
    one that begins after the gate has ended has to succeed.
    """
    began = time.monotonic()
    while True:
        ended = not gate.running()
        if works():
            break
        assert not ended, f"opened early: {gate.stdout}{gate.stderr}"
        assert time.monotonic() < began + 90, f"never works: {gate.stdout}{gate.stderr}"
        time.sleep(PAUSE)
    worked = time.monotonic()
    done = gate.wait()
    assert done.status == 0, f"{done.stdout}{done.stderr}"
    assert works(), "it worked, and works no more"
    late = gate.started_at + done.seconds - worked
    print(f"open {late * 1000:.0f} ms after the driver first worked")
    assert late < LATE
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return {event["cause"] for event in events if event.get("cause")}
