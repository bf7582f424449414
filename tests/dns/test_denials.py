"""Never beat a negative cache, and never trust one that is none (fault 36e), by simulation."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_precheck.dns import message
from service_precheck.dns.denials import Denials
from service_precheck.dns.message import Answer
from tests.dns.simulated import Cache, Clock, Wait, Zone, denial, found, resolver, wait

# As the pod's `dns://db.example.`: one candidate, so that every question is for it.
NAME = "db.example."
STYLES = st.sampled_from(Cache.STYLES)
PHASES = st.floats(0, 0.999)
per_example = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None
)


def ask(clock: Clock, zone: Zone, duration: float, draw: float = 0.0) -> Wait:
    return wait(clock, resolver(zone), NAME, duration, rtypes=(message.A,), draw=draw)


@per_example
@given(STYLES, st.integers(5, 59), PHASES, st.floats(0, 1), st.floats(3, 200), st.floats(0, 0.999))
def test_a_cached_denial_is_slept_through(
    monkeypatch: pytest.MonkeyPatch,
    style: str,
    ttl: int,
    phase: float,
    age: float,
    appears: float,
    draw: float,
) -> None:
    """Three questions at most to learn of it, none until its last seconds, and the name is seen within
    150 ms of the denial's end, however the cache rounds and however old the denial is (fault 36e)."""
    clock = Clock(monkeypatch)
    cache = Cache(style, ttl, phase, lambda now: now >= 1000 + appears)
    if age:
        # At least four seconds are left of it.
        cache.fill(clock.now - age * (ttl - 4))
    ends: list[float] = []

    def answer(name: str, rtype: int, now: float) -> Answer:
        given = cache.answer(name, rtype, now)
        if not ends or ends[-1] != cache.expires():
            ends.append(cache.expires())
        return given

    zone = Zone(clock, answer)
    went = ask(clock, zone, appears + 2 * ttl + 5, draw)
    assert went.found is not None
    # The first end of a denial after the name had appeared is when it could first be seen.
    visible = min((end for end in ends if end >= 1000 + appears), default=1000 + appears)
    assert clock.now - visible <= 0.150
    times = [one.at for one in zone.asked]
    begins = 1000.0
    for place, end in enumerate(ends):
        mine = [at for at in times if begins <= at < end]
        early = [at for at in mine if at < end - 2.0]
        assert len(early) <= (3 if place == 0 else 1)
        begins = end
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.1 - 1e-9


@per_example
@given(STYLES, st.integers(90, 3600), PHASES, st.floats(0, 300))
def test_no_denial_is_trusted_for_more_than_a_minute(
    monkeypatch: pytest.MonkeyPatch, style: str, ttl: int, phase: float, flushed: float
) -> None:
    """A cache that is flushed while it denies is found out within a minute."""
    clock = Clock(monkeypatch)
    cache = Cache(style, ttl, phase, lambda now: now >= 1000 + flushed)

    def answer(name: str, rtype: int, now: float) -> Answer:
        if now >= 1000 + flushed:
            return found(name)
        return cache.answer(name, rtype, now)

    zone = Zone(clock, answer)
    went = ask(clock, zone, flushed + 100)
    assert went.found is not None
    assert clock.now - 1000 - flushed <= 60.2
    # Three to learn, then one a minute, but for the seconds near its end.
    assert len([one for one in zone.asked if one.at < 1000 + ttl - 2]) <= 4 + flushed / 60


@per_example
@given(
    STYLES,
    st.integers(10, 60),
    PHASES,
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
    st.floats(2, 100),
)
def test_several_caches_behind_one_address_turn_it_off(
    monkeypatch: pytest.MonkeyPatch,
    style: str,
    ttl: int,
    phase: float,
    ages: list[float],
    appears: float,
) -> None:
    """Where the TTL jumps, questions go on by the schedule: the name is seen as soon as the schedule
    meets a cache that knows it (fault 36e)."""
    clock = Clock(monkeypatch)
    caches = [Cache(style, ttl, phase, lambda now: now >= 1000 + appears) for _ in ages]
    for cache, age in zip(caches, ages, strict=True):
        cache.fill(clock.now - age * (ttl - 4))
    ends = [cache.expires() for cache in caches]
    first = [ends[turn % len(caches)] for turn in (1, 2, 3)]
    turns = 0

    def answer(name: str, rtype: int, now: float) -> Answer:
        nonlocal turns
        turns += 1
        return caches[turns % len(caches)].answer(name, rtype, now)

    zone = Zone(clock, answer)
    went = ask(clock, zone, appears + 2 * ttl + 5)
    assert went.found is not None
    if max(first) - min(first) > 2.5:
        # Three questions told, so no pause is longer than the schedule's.
        times = [one.at for one in zone.asked]
        assert all(b - a <= 1.1 for a, b in itertools.pairwise(times))


@pytest.mark.parametrize("ttl", [3, 5, 30, 900])
def test_a_ttl_that_stands_still_turns_it_off(monkeypatch: pytest.MonkeyPatch, ttl: int) -> None:
    """An authoritative server gives the same TTL each time: three questions tell, then the schedule
    alone holds (CoreDNS without its cache, fault 36e)."""
    clock = Clock(monkeypatch)
    zone = Zone(clock, lambda name, _, now: found(name) if now >= 1020 else denial(ttl))
    went = ask(clock, zone, 60)
    times = [one.at - 1000 for one in zone.asked]
    assert times[1] == pytest.approx(0.3, abs=0.03)
    assert times[2] == pytest.approx(1.05, abs=0.03)
    # Two per cent of the time waited, and the round trips.
    assert all(b - a <= 0.025 + 0.02 * b + 0.01 for a, b in itertools.pairwise(times[2:]))
    assert went.found is not None
    assert clock.now - 1020 < 0.5


@pytest.mark.parametrize("ttl", [None, 0, 1, 2])
def test_denials_without_a_useful_age_are_polled_through(
    monkeypatch: pytest.MonkeyPatch, ttl: int | None
) -> None:
    """Without an SOA (dnsmasq), or with less than three seconds left, the schedule alone holds."""
    clock = Clock(monkeypatch)
    zone = Zone(clock, lambda name, _, now: found(name) if now >= 1001 else denial(ttl))
    went = ask(clock, zone, 10)
    assert went.found is not None
    assert len(zone.asked) > 30
    assert clock.now - 1001 < 0.06


@per_example
@given(STYLES, st.integers(3, 60), PHASES, st.floats(0, 4), st.floats(0, 0.999))
def test_a_denial_that_ends_while_it_is_learnt(
    monkeypatch: pytest.MonkeyPatch, style: str, ttl: int, phase: float, left: float, draw: float
) -> None:
    """A denial near its end, met by chance, is followed by a new one without a wrong conclusion: the
    name is seen within 150 ms of the second one's end, or by the schedule."""
    clock = Clock(monkeypatch)
    cache = Cache(style, ttl, phase, lambda now: now >= 1006)
    cache.fill(clock.now - ttl + min(left, ttl))
    zone = Zone(clock, cache.answer)
    went = ask(clock, zone, 2 * ttl + 20, draw)
    assert went.found is not None
    assert cache.stored is not None
    assert clock.now - max(1006, cache.expires()) <= 0.35


def test_what_was_found_starts_the_next_denial_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an answer, an old denial's end is forgotten: held, then lost is noticed as at the start."""
    clock = Clock(monkeypatch)
    cache = Cache("up", 30, 0.0, lambda _: False)
    there = False
    zone = Zone(clock, lambda *asked: found(asked[0]) if there else cache.answer(*asked))
    looks = resolver(zone)
    first = wait(clock, looks, NAME, 10, rtypes=(message.A,))
    assert first.verdicts[-1].again is not None
    assert first.verdicts[-1].again > 20
    there = True
    clock.now += 30
    assert wait(clock, looks, NAME, 1, rtypes=(message.A,)).found is not None
    there = False
    clock.now += 1
    asked = len(zone.asked)
    lost = wait(clock, looks, NAME, 20, rtypes=(message.A,))
    assert lost.found is None
    assert 2 <= len(zone.asked) - asked <= 3


@pytest.mark.parametrize("style", Cache.STYLES)
def test_two_targets_of_one_name_learn_as_one(style: str) -> None:
    """Answers that come in pairs, for two targets of one host, tell no more and no less than one does."""
    cache = Cache(style, 30, 0.4, lambda _: False)
    cache.fill(1000.0)
    denials = Denials()
    now = 1000.0
    for _ in range(3):
        for at in (now, now + 0.001):
            denials.note(at, cache.left(at))
        assert denials.useful > now + 0.2
        now = denials.useful
    assert now > 1025
