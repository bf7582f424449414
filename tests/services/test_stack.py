"""One gate in front of a usual stack, whose servers start in any order; the drivers are the oracle."""

from __future__ import annotations

import json
import os
import random
import select
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bed.process import Gate
from tests.bed.services.stack import Stack

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

# `make bench` measures twenty, and how late each was.
ROUNDS = int(os.environ.get("PRECHECK_TEST_ROUNDS", "5"))
MEMORY = 16 << 20


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Return the servers, which are down, with what the targets ask for in their data."""
    with Stack() as made:
        yield made


def ended(gate: Gate) -> float:
    """Wait until it ends; the moment."""
    descriptor = os.pidfd_open(gate.pid)
    try:
        assert select.select([descriptor], [], [], 90)[0], gate.stdout
        return time.monotonic()
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_opens_after_the_last_and_never_before(stack: Stack, tmp_path: Path, number: int) -> None:
    """Fault 40: started in random order, no driver fails after the gate opened; one process, 16 MiB."""
    seed = random.randrange(1 << 32)
    targets = stack.targets(tmp_path)
    words = ("--from", str(targets), "--output", "json", "--timeout", "90s")
    began = time.monotonic()
    with ThreadPoolExecutor(1) as threads, Gate(*words, metered=True) as gate:
        gate.wait_output('"refused"')
        children = gate.proc(f"task/{gate.pid}/children").read_text()
        end = threads.submit(ended, gate)
        stack.begin(random.Random(seed))
        opened = end.result()
        seen = stack.seen()
        done = gate.wait()
    stack.stop()
    events = [json.loads(line) for line in done.stdout.splitlines()]
    causes = {event["cause"] for event in events if event.get("cause")}
    last = max(seen, key=lambda name: seen[name].begun)
    late = opened - max(one.begun for one in seen.values())
    print(
        f"round {number}, seed {seed}: {last} last, late by {late * 1000:.0f} ms, "
        f"{done.peak / (1 << 20):.1f} MiB, {done.cpu * 1000:.0f} ms of cpu, {sorted(causes)}, "
        f"{time.monotonic() - began:.1f} s",
        {
            name: (round(s.begun - began, 3), round(s.ended - s.begun, 3))
            for name, s in seen.items()
        },
    )
    assert done.status == 0, done.stdout
    assert {name for name, one in seen.items() if one.failed > opened} == set()
    # How late it is, the benchmark says; this only tells that it is not stuck.
    assert late < 5
    assert done.peak < MEMORY
    assert children == ""
    assert "refused" in causes
