"""The schedule as a model: how late a wait can be, how often it asks, and that gates keep apart."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck.schedule import SLOWEST, ceiling, next_wait, refused_wait

FLOORS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0]
# The shortest first pause and the shortest later ones, and the other way round.
WORST: dict[str, Callable[[int], float]] = {
    "most": lambda attempt: 0.0 if attempt == 1 else 0.999999,
    "least": lambda attempt: 0.999999 if attempt == 1 else 0.0,
    "all low": lambda _: 0.0,
    "all high": lambda _: 0.999999,
}


def probes(
    duration: float,
    floor: float,
    draw: Callable[[int], float],
    interval: float | None = None,
    takes: float = 0.0,
) -> list[float]:
    """The moments at which a wait asks when an attempt `takes` so long."""
    now, asked = 0.0, []
    while now < duration:
        asked.append(now)
        now += takes
        now += next_wait(now, len(asked), floor, draw(len(asked)), interval)
    return asked


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("draw", WORST)
def test_bounds_on_probes(floor: float, draw: str) -> None:
    """At most 520 probes in five minutes and 1,300 in an hour, with the worst jitter, for every floor."""
    assert len(probes(300, floor, WORST[draw])) <= 520
    assert len(probes(3600, floor, WORST[draw])) <= 1300


@given(st.floats(0.0001, 5), st.integers(), st.floats(0, 0.05))
def test_bounds_on_probes_by_chance(floor: float, seed: int, takes: float) -> None:
    """The same with random jitter, any floor, and attempts that take time."""
    source = random.Random(seed)
    asked = probes(3600, floor, lambda _: source.random(), takes=takes)
    assert sum(moment < 300 for moment in asked) <= 520
    assert len(asked) <= 1300


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("draw", WORST)
def test_bounds_on_lateness(floor: float, draw: str) -> None:
    """No pause is longer than 2% of the wait or the floor, nor than a second in the first five minutes,
    a three-hundredth of the wait later, and 30 s ever."""
    asked = probes(7200, floor, WORST[draw])
    least = max(floor, 0.025)
    for place, (before, after) in enumerate(itertools.pairwise(asked)):
        pause = after - before
        assert pause <= max(least * (2 if place == 0 else 1), 0.02 * before) + 1e-9
        if before < 300:
            assert pause <= max(1.0, 2 * least) + 1e-9
        else:
            assert pause <= max(least, before / 300) + 1e-9
        assert pause <= SLOWEST + 1e-9


@given(
    st.floats(0, 1e7),
    st.integers(1, 10**6),
    st.floats(0, 60),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0.001, 3600),
)
def test_any_pause_is_within_its_bounds(
    waited: float, attempts: int, floor: float, draw: float, interval: float | None
) -> None:
    """Never shorter than the floor, never longer than the ceiling where the floor is not, never zero."""
    pause = next_wait(waited, attempts, floor, draw, interval)
    least = max(floor, 0.025)
    most = ceiling(waited) if interval is None else interval
    assert pause >= least
    assert pause <= max(2 * least, most)


def test_the_ceiling() -> None:
    """A second for five minutes, less what an attempt takes, then a three-hundredth of the wait, at most 30 s."""
    moments = (0, 1, 285, 300, 600, 9000, 10**6)
    assert [ceiling(waited) for waited in moments] == [0.95, 0.95, 0.95, 1, 2, 30, 30]


def test_the_interval_is_a_ceiling() -> None:
    """`--interval` replaces the ceiling in both directions; 2% of the wait and the floor still hold."""
    quick = probes(60, 0.025, WORST["least"], interval=0.1)
    assert max(b - a for a, b in itertools.pairwise(quick)) <= 0.1 + 1e-9
    slow = probes(7200, 0.025, WORST["least"], interval=60)
    pauses = [b - a for a, b in itertools.pairwise(slow)]
    assert max(pauses) == pytest.approx(60)
    assert all(pause <= 0.05 + 0.02 * at for at, pause in zip(slow, pauses, strict=False))
    assert next_wait(100, 5, 2.0, 0.0, interval=0.1) == 2.0


def shares(moments: list[float], grid: float, width: float) -> list[float]:
    """The share of moments in each bin of a grid."""
    bins = [0] * round(grid / width)
    for moment in moments:
        bins[int(moment % grid / width) % len(bins)] += 1
    return [count / len(moments) for count in bins]


def test_gates_that_start_together_ask_apart() -> None:
    """Of a thousand gates started in the same moment no millisecond has more than a few per cent, after
    the first question, in the first second, and at every later time."""
    source = random.Random(7)
    waits = [probes(310, 0.025, lambda _: source.random()) for _ in range(1000)]
    assert max(shares([wait[1] for wait in waits], 0.025, 0.001)) < 0.08
    for moment in (0.5, 1.0, 5.0, 30.0, 100.0, 300.0):
        after = [next(at for at in wait if at >= moment) - moment for wait in waits]
        span = max(0.025, min(1.0, 0.02 * moment))
        # 25 bins of the present pause: 4% each if all were even.
        assert max(shares(after, span, span / 25)) < 0.08


def test_refused_logins() -> None:
    """A refused login waits a second, then twice as long each time, up to 30 s: accounts get locked."""
    assert [refused_wait(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert refused_wait(10**9) == 30
