"""Never beat a negative cache: what denials say of their own age (RFC 2308 section 5).

A denial's SOA tells how long it lives, in whole seconds, rounded up, down or by the clock. Three
questions, a second apart in all, tell whether that counts down, so that somebody caches it: then no
question is useful until its last second, and one each 100 ms from then on.
"""

from __future__ import annotations

from . import message

# Denials that live shorter than this are polled through.
SHORT_DENIAL = 3
# Between the three questions that tell a cached denial from a fresh one. Together more than a second,
# since a TTL counts whole seconds.
LEARNING = (0.3, 0.75)
# A TTL is rounded, up or down, so the end of a denial is known to a second.
ROUNDING = 1.0
SLACK = 0.1
# How long before its end to ask again, and how often from then on. A denial whose beginning was seen
# is known better: caches that count by the clock's seconds then begin and end with one of them.
EARLY = 1.0
EARLY_WHEN_SEEN = 0.5
NEAR_EXPIRY = 0.1
# Caches get flushed: no denial is trusted for longer.
TRUST = 60.0


class Denials:
    """What the denials of one name and type said of their own age, and when asking again is useful."""

    __slots__ = ("_asked", "_cached", "_end", "_full", "_latest", "_off", "_seen", "last", "useful")

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._asked = 0.0
        # The end of the present denial by its first TTL, and the latest that any TTL gave.
        self._end = 0.0
        self._latest = 0.0
        self._full = 0
        self._cached = False
        self._off = False
        # A `monotonic()` time; in the past where nothing is known.
        self.useful = 0.0
        # The rcode and the end of the CNAME chain of the last denial.
        self.last = (message.NXDOMAIN, "")

    def clear(self) -> None:
        """A question was answered otherwise: the next denial is a new one."""
        self._seen.clear()
        self._cached = False
        self.useful = 0.0

    def note(self, now: float, ttl: int | None) -> None:
        """A denial arrived whose SOA leaves it `ttl` seconds."""
        if now < self.useful:
            # Another target asked for the same name in the same moment.
            return
        before, self._asked = self._asked, now
        self.useful = 0.0
        if self._off or ttl is None:
            return
        if self._cached:
            self._follow(now, ttl, before)
        elif self._seen:
            self._compare(now, ttl)
        else:
            self._begin(now, ttl)

    def _begin(self, now: float, ttl: int) -> None:
        self._seen.clear()
        if ttl >= SHORT_DENIAL:
            self._seen.append((now, ttl))
            self.useful = now + LEARNING[0]

    def _compare(self, now: float, ttl: int) -> None:
        first, first_ttl = self._seen[0]
        self._seen.append((now, ttl))
        ends = [time + left for time, left in self._seen]
        if ttl >= first_ttl and now - first > first_ttl - ROUNDING - SLACK:
            # It may have expired since: this is a new one, or cannot be told from one.
            self._begin(now, ttl)
        elif max(ends) - min(ends) > ROUNDING + SLACK:
            # It jumps: several caches behind one address.
            self._off = True
        elif len(self._seen) <= len(LEARNING):
            self.useful = now + LEARNING[len(self._seen) - 1]
        elif ttl < first_ttl:
            self._cached = True
            self._full = first_ttl
            self._end, self._latest = ends[0], max(ends)
            self._sleep(now, EARLY)
        else:
            # It stood still for over a second: nobody caches this.
            self._off = True

    def _follow(self, now: float, ttl: int, before: float) -> None:
        end = now + ttl
        overdue = now - self._latest
        if abs(end - self._end) <= ROUNDING + SLACK:
            self._latest = max(self._latest, end)
            self._sleep(now, EARLY)
        elif overdue >= -ROUNDING - SLACK and ttl >= self._full - ROUNDING - max(0.0, overdue):
            self._full = max(self._full, ttl)
            self._end = self._latest = end
            self._sleep(now, EARLY_WHEN_SEEN if now - before <= 2 * NEAR_EXPIRY else EARLY)
        else:
            # A new denial before the old one can have expired, or one that is older than it can be:
            # several caches behind one address.
            self._off = True

    def _sleep(self, now: float, early: float) -> None:
        self.useful = max(now + NEAR_EXPIRY, min(self._latest - early, now + TRUST))
