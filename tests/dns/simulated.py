"""Time and name servers that a test invents, for what takes minutes: the resolver's own clock is theirs.

`Clock` replaces `net.monotonic` and `net.sleep`; `Zone` replaces the exchange with servers: it
counts every question, and answers by a function of name, type and time. `wait` asks as the gate
does. The caches are the ways in which real ones count a TTL down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from service_precheck import net, schedule
from service_precheck.dns import message
from service_precheck.dns.config import Config, Files
from service_precheck.dns.exchange import Server
from service_precheck.dns.message import Answer, Record
from service_precheck.dns.resolver import Found, Resolver
from service_precheck.errors import NotReady
from service_precheck.model import Verdict

ROUND_TRIP = 0.002
TYPES = {number: text for text, number in message.TYPES.items()}


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, start: float = 1000.0) -> None:
        self.now = start
        monkeypatch.setattr(net, "monotonic", lambda: self.now)
        monkeypatch.setattr(net, "sleep", self.sleep)

    def sleep(self, duration: float) -> None:
        assert duration >= 0
        self.now += duration


class Set(Files):
    """A resolv.conf that a test sets, without a hosts file."""

    def __init__(
        self, *search: str, servers: tuple[Server, ...] = (("192.0.2.53", 53),), ndots: int = 5
    ) -> None:
        super().__init__("/nonexistent", "/nonexistent")
        self.set = Config(servers, search, ndots)

    def config(self) -> Config:
        return self.set


def denial(ttl: int | None, rcode: int = message.NXDOMAIN) -> Answer:
    soa = () if ttl is None else (Record("example", message.SOA, ttl, "", 1 << 30),)
    return Answer(rcode, False, (), soa)


def found(name: str, rtype: int = message.A, value: str = "192.0.2.1") -> Answer:
    return Answer(message.NOERROR, False, (Record(name, rtype, 60, value),), ())


@dataclass
class Asked:
    """One question."""

    at: float
    name: str
    rtype: str


class Zone:
    """Servers that answer by a function, after a round trip, and count what they are asked."""

    def __init__(self, clock: Clock, answer: Callable[[str, int, float], Answer]) -> None:
        self.clock = clock
        self.answer = answer
        self.asked: list[Asked] = []

    def ask(self, name: str, rtype: int, *_: object, **__: object) -> Answer:
        self.asked.append(Asked(self.clock.now, name, TYPES[rtype]))
        self.clock.now += ROUND_TRIP / 2
        answer = self.answer(name, rtype, self.clock.now)
        self.clock.now += ROUND_TRIP / 2
        return answer

    def names(self) -> list[str]:
        return [one.name for one in self.asked]


@dataclass
class Wait:
    """How a wait went: when each poll began, its verdicts, and what was found in the end."""

    polls: list[float] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    found: Found | None = None


def resolver(zone: Zone, *search: str, ndots: int = 5) -> Resolver:
    made = Resolver(Set(*search, ndots=ndots))
    made._servers = zone  # type: ignore[assignment]
    return made


def wait(
    clock: Clock,
    looks: Resolver,
    name: str,
    duration: float,
    *,
    rtypes: tuple[int, ...] = (message.A, message.AAAA),
    draw: float = 0.0,
    floor: float = 0.025,
    limit: float = 2.0,
) -> Wait:
    """Ask for a name as the gate would, until it is there or the time is up."""
    begun = clock.now
    went = Wait()
    while clock.now - begun < duration:
        went.polls.append(clock.now)
        try:
            went.found = looks.find(name, rtypes, clock.now + limit)
        except NotReady as error:
            went.verdicts.append(error.verdict)
        else:
            return went
        pause = schedule.next_wait(clock.now - begun, len(went.polls), floor, draw)
        clock.now += max(pause, went.verdicts[-1].again or 0.0)
    return went


class Cache:
    """A cache of one denial. `style` says how it counts, `phase` where its clock's seconds begin."""

    def __init__(
        self, style: str, ttl: int, phase: float, authority: Callable[[float], bool]
    ) -> None:
        self.style = style
        self.ttl = ttl
        self.phase = phase
        self.authority = authority
        self.stored: float | None = None

    def fill(self, at: float) -> None:
        self.stored = at

    def _second(self, at: float) -> int:
        return math.floor(at + self.phase)

    def expires(self) -> float:
        """When what is stored can no longer be given."""
        assert self.stored is not None
        if self.style == "seconds":
            return self._second(self.stored) + self.ttl - self.phase
        if self.style == "seconds and one":
            return self._second(self.stored) + self.ttl + 1 - self.phase
        return self.stored + self.ttl

    def left(self, now: float) -> int:
        """The TTL that it tells."""
        assert self.stored is not None
        if self.style in ("seconds", "seconds and one"):
            return self._second(self.stored) + self.ttl - self._second(now)
        age = now - self.stored
        if self.style == "up":
            return self.ttl - math.floor(age)
        return self.ttl - (math.ceil(age) if self.style == "down" else round(age))

    def answer(self, name: str, _rtype: int, now: float) -> Answer:
        if self.stored is None or now >= self.expires():
            if self.authority(now):
                return found(name)
            self.stored = now
        return denial(self.left(now))

    STYLES = ("down", "up", "nearest", "seconds", "seconds and one")
