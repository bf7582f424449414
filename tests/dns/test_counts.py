"""How many questions a wait costs, and which: exact, by simulation of the minute it takes."""

from __future__ import annotations

import itertools

import pytest

from service_precheck.dns import message
from service_precheck.dns.message import Answer
from tests.dns.simulated import Clock, Wait, Zone, denial, found, resolver, wait

SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example")


def missing(_name: str, _rtype: int, _now: float) -> Answer:
    """An authoritative server's denial, as CoreDNS without its cache gives it."""
    return denial(30)


def polled(went: Wait, zone: Zone) -> float:
    """The mean of questions a poll."""
    return len(zone.asked) / len(went.polls)


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("ttl", [None, 5, 30])
@pytest.mark.parametrize(("name", "most"), [("db", 1.3), ("db-0.db.shop", 1.3), ("db.shop", 2.3)])
def test_a_missing_name_costs_one_or_two_questions_a_poll(
    monkeypatch: pytest.MonkeyPatch, name: str, most: float, ttl: int | None, draw: float
) -> None:
    """In a wait of a minute with four search suffixes: at most 1.3 for `a` and `a.b.c`, 2.3 for `a.b`,
    and each question for A alone, since NXDOMAIN makes AAAA pointless."""
    clock = Clock(monkeypatch)
    zone = Zone(clock, lambda *_: denial(ttl))
    went = wait(clock, resolver(zone, *SEARCH), name, 60, draw=draw)
    assert len(went.polls) > 150
    assert polled(went, zone) <= most
    assert {one.rtype for one in zone.asked} == {"A"}


@pytest.mark.parametrize("name", ["db", "db.shop", "db-0.db.shop", "db.eu.example.com", "db."])
def test_questions_for_a_name_keep_apart(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """There are 25 ms at least between two questions for one target, in a sweep too."""
    clock = Clock(monkeypatch)
    zone = Zone(clock, lambda *_: denial(None, message.NOERROR))
    wait(clock, resolver(zone, *SEARCH), name, 40)
    times = [one.at for one in zone.asked]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.025 - 1e-9


def test_the_first_poll_sweeps_and_later_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The likely candidate first, then the name as written, then the rest of the list; from then on
    the likely one alone, the name as written at every fourth poll, a sweep after 30 s."""
    clock = Clock(monkeypatch)
    zone = Zone(clock, lambda *_: denial(None))
    looks = resolver(zone, *SEARCH)
    wait(clock, looks, "db-0.db.shop", 0.001)
    likely = "db-0.db.shop.svc.cluster.local"
    rest = [
        "db-0.db.shop.shop.svc.cluster.local",
        "db-0.db.shop.cluster.local",
        "db-0.db.shop.corp.example",
    ]
    assert zone.names() == [likely, "db-0.db.shop", *rest]
    for expected in ([likely], [likely], [likely], [likely, "db-0.db.shop"], [likely]):
        zone.asked.clear()
        wait(clock, looks, "db-0.db.shop", 0.001)
        assert zone.names() == expected
    clock.now += 30
    zone.asked.clear()
    wait(clock, looks, "db-0.db.shop", 0.001)
    assert zone.names() == [likely, *rest]


def test_no_data_asks_for_the_other_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without A is asked for AAAA, and that is two questions and no more."""
    clock = Clock(monkeypatch)
    zone = Zone(clock, lambda *_: denial(None, message.NOERROR))
    wait(clock, resolver(zone), "db.", 0.001)
    assert [(one.name, one.rtype) for one in zone.asked] == [("db", "A"), ("db", "AAAA")]


def test_a_name_that_holds_costs_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answered last is asked first, and alone, wherever in the list it stands: an external name
    and one in an unlikely search domain do not flicker between polls."""
    for holds in ("db.eu.example", "db.eu.example.corp.example", "db.eu.example.svc.cluster.local"):
        clock = Clock(monkeypatch)

        def answer(name: str, rtype: int, now: float, holds: str = holds) -> Answer:
            real = name == holds and rtype == message.A
            return found(name) if real else denial(30)

        zone = Zone(clock, answer)
        looks = resolver(zone, *SEARCH)
        assert wait(clock, looks, "db.eu.example", 1).found is not None
        for _ in range(6):
            zone.asked.clear()
            again = wait(clock, looks, "db.eu.example", 0.001)
            assert again.found is not None
            assert [name for name in zone.names() if not name.startswith("precheck-")] == [holds]
            clock.now += 0.5


def test_what_answered_and_is_denied_starts_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the candidate that held is gone, all others are asked in the same poll."""
    clock = Clock(monkeypatch)
    holds = "db.svc.cluster.local"
    zone = Zone(clock, lambda name, *_: found(name) if name == holds else denial(None))
    looks = resolver(zone, *SEARCH)
    assert wait(clock, looks, "db", 1).found is not None
    holds = "db.cluster.local"
    zone.asked.clear()
    clock.now += 1
    assert wait(clock, looks, "db", 0.001).found is not None
    assert zone.names()[0] == "db.svc.cluster.local"
    assert zone.names()[-1] == "db.cluster.local"


def test_behind_a_cache_the_name_as_written_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the cluster's denials sleep in a cache, an external name of three labels is asked at each
    poll, so that it is seen by the schedule and not at every fourth waking."""
    clock = Clock(monkeypatch)
    ends = {"at": 1000.0}

    def answer(name: str, rtype: int, now: float) -> Answer:
        if name == "db.example.com":
            return found(name) if now >= 1047.3 else denial(None)
        if now >= ends["at"]:
            ends["at"] = now + 30
        return denial(int(ends["at"] - now))

    zone = Zone(clock, answer)
    went = wait(clock, resolver(zone, *SEARCH), "db.example.com", 100)
    assert went.found is not None
    assert clock.now - 1047.3 < 1.1
    assert polled(went, zone) <= 1.3


def test_behind_a_cache_of_all_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the denials of all likely candidates sleep, so does the wait; the verdict says how long."""
    clock = Clock(monkeypatch)
    ends: dict[str, float] = {}

    def answer(name: str, rtype: int, now: float) -> Answer:
        if now >= ends.get(name, 0):
            ends[name] = now + 30
        return denial(int(ends[name] - now))

    zone = Zone(clock, answer)
    went = wait(clock, resolver(zone, *SEARCH), "db-0.db.shop", 28)
    assert went.verdicts[-1].again is not None
    assert went.verdicts[-1].again > 20
    # Five to sweep, two more of the likely one and of the name as written.
    assert len(zone.asked) <= 9


@pytest.mark.parametrize("name", ["db", "db.shop", "db-0.db.shop"])
def test_ready_soon_after_a_cached_denial_of_several_candidates(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With more than one likely candidate, each is asked near the end of its own denial (fault 36e)."""
    for place in ("shop.svc.cluster.local", "svc.cluster.local"):
        if (name, place) in (
            ("db", "svc.cluster.local"),
            ("db-0.db.shop", "shop.svc.cluster.local"),
        ):
            continue
        clock = Clock(monkeypatch)
        ends: dict[str, float] = {}
        seen: list[float] = []

        def answer(
            asked: str,
            rtype: int,
            now: float,
            place: str = place,
            ends: dict[str, float] = ends,
            seen: list[float] = seen,
        ) -> Answer:
            if now >= ends.get(asked, 0):
                if now > 1010 and asked == f"{name}.{place}":
                    seen.append(max(1010.0, ends[asked]))
                    return found(asked)
                ends[asked] = now + 20
            return denial(int(ends[asked] - now))

        zone = Zone(clock, answer)
        went = wait(clock, resolver(zone, *SEARCH), name, 100)
        assert went.found is not None
        assert clock.now - seen[0] <= 0.150


def test_no_question_is_sent_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the attempt's time is up, the candidates that are left wait for the next poll."""
    clock = Clock(monkeypatch)
    zone = Zone(clock, lambda *_: denial(None))
    wait(clock, resolver(zone, *SEARCH), "db.shop", 0.001, limit=0.001)
    assert zone.names() == ["db.shop.shop.svc.cluster.local"]
