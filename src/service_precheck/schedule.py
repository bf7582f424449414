"""When to ask again: a pure function.

At once; then 2% of the time already waited, never less than the probe's own floor (where the attempt
reached somebody whom it cost something), never more than a ceiling: a second for the first five
minutes, less what an attempt may take; from then on a three-hundredth of the wait, at most 30 s. So a
gate notices within 2% of its wait (and within a second in the first five minutes), for at most 520
probes in five minutes and 1,300 in an hour.
"""

from __future__ import annotations

SHARE = 0.02
# No scheme's floor counts below this one: with it the bounds hold.
LEAST = 0.025
STEADY = 300.0
# With the attempt that follows, a second.
SHORTEST_CEILING = 0.95
SLOWEST = 30.0
# Jitter takes at most this much off a wait: the bounds on probes hold with all of it.
JITTER = 0.03

# A refused login is repeated ever more rarely: accounts get locked.
REFUSED_FIRST, REFUSED_MOST = 1.0, 30.0


def ceiling(waited: float) -> float:
    """The longest wait between two attempts, in seconds, after `waited` seconds."""
    return min(SLOWEST, max(SHORTEST_CEILING, waited / STEADY))


def next_wait(
    waited: float, attempts: int, floor: float, draw: float, interval: float | None = None
) -> float:
    """Seconds from the end of an attempt to the next one.

    `waited` is the time since the gate began, `attempts` how many were made (at least 1), `floor` the
    scheme's or none, `draw` a random number in [0, 1), `interval` the ceiling asked for instead of ours.

    The first wait is between one floor and two: drawn once, it spreads gates that started together
    over the whole grid and keeps them apart, because each later wait is the same share of the time.
    """
    floor = max(floor, LEAST)
    if attempts == 1:
        return floor * (1 + draw)
    longest = ceiling(waited) if interval is None else interval
    return max(floor, min(SHARE * waited, longest) * (1 - JITTER * draw))


def refused_wait(refusals: int) -> float:
    """Seconds to wait after the n-th refused login in a row: 1, 2, 4 and so on to 30."""
    return min(REFUSED_MOST, REFUSED_FIRST * 2.0 ** min(refusals - 1, 10))
