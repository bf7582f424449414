"""A hundred and a thousand targets: lateness after the last of them, cpu and peak memory."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Iterator

from bench.lateness import Steps, play
from bench.launch import Run
from bench.results import MEBI, MILLI, Goal, Row
from bench.rivals import GATE, PORT, WAIT4X, Field
from bench.scene import SILENT, Pod, Ports, pod

FROM, TO = 2.0, 6.0


def many(field: Field, *, quick: bool) -> Iterator[Row]:
    """Ports that come up one after another; and a thousand of which most do not even refuse."""
    rounds = 1 if quick else 4
    rivals = field.of(PORT, GATE, WAIT4X)
    for count, silent in ((100, 0), (1000, 0), (1000, 900)):
        late: dict[str, list[float]] = {rival: [] for rival in rivals}
        after: dict[str, list[float]] = {rival: [] for rival in rivals}
        cpu: dict[str, list[float]] = {rival: [] for rival in rivals}
        peak: dict[str, list[float]] = {rival: [] for rival in rivals}
        for _ in range(rounds):
            for rival, command in rivals.items():
                with (
                    pod() as scene,
                    Ports(scene.world, count - silent) as ports,
                    Ports(scene.world, silent, SILENT) as mute,
                ):
                    words = command(mute.address(0) if silent else ports.address(0))
                    place = words.index(mute.address(0) if silent else ports.address(0))
                    targets = [ports.address(i) for i in range(count - silent)]
                    targets += [mute.address(i) for i in range(silent)]
                    words[place : place + 1] = targets
                    up, seen, run = _one(scene, ports, mute, words)
                    late[rival].append((run.ended - up) * MILLI)
                    after[rival].append((run.ended - seen) * MILLI)
                    cpu[rival].append(run.cpu * MILLI)
                    peak[rival].append(run.peak * MEBI)
        text = f"{count} ports" + (f", {silent} of them silent" if silent else "")
        key = f"many/{count}" + ("-silent" if silent else "")
        yield Row(f"{key}/late", f"lateness after the last comes up, {text}", "ms", late)
        if not silent:
            goals = [Goal(100.0, subject=GATE)] if count == 100 else []
            title = f"exit after the first look at the last, {text}"
            yield Row(f"{key}/exit", title, "ms", after, *goals)
        yield Row(f"{key}/cpu", f"cpu, {text}", "ms", cpu)
        yield Row(f"{key}/memory", f"peak memory, {text}", "MiB", peak)


def _one(scene: Pod, ports: Ports, mute: Ports, words: list[str]) -> tuple[float, float, Run]:
    """When the last came up, when it was first looked at, and how it went for who waited."""
    last = [0.0]

    def up(place: int) -> None:
        last[0] = ports.open(place)

    def speak() -> None:
        scene.world.clear()
        last[0] = time.monotonic()

    for place in range(len(mute.ports)):
        mute.open(place)
    if mute.ports:
        scene.world.drop(SILENT)
    run = scene.launcher.start(words)
    times = sorted(random.uniform(FROM, TO) for _ in ports.ports)
    steps: Steps = [(at, functools.partial(up, place)) for place, at in enumerate(times)]
    if mute.ports:
        steps.append((TO + 0.1, speak))
    play(steps)
    seen = ports.looked_at(len(times) - 1)
    scene.launcher.good(run, 300)
    return last[0], seen, run
