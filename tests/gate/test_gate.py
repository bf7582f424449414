"""The gate's judgement in simulated time: when it asks, when it opens, when it gives up and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_precheck.model import INDEFINITE, Verdict, ready
from service_precheck.places import Leaf
from service_precheck.schedule import ceiling
from service_precheck.state import FAILED, OPEN, TIMED_OUT
from service_precheck.target import leaves, parse
from tests.gate.simulated import DOWN, UP, Simulation

FINAL = Verdict("failed", "can never come", final=True)
NOWHERE = Verdict("resolver-timeout", "nobody answered")


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation() as made:
        yield made


def causes(sim: Simulation, name: str) -> list[str | None]:
    return [told.state.cause for told in sim.record.changes if told.state.target == name]


def test_what_holds_is_asked_once(sim: Simulation) -> None:
    """A gate whose only dependency holds asks once and opens at once."""
    sim.says("a", UP)
    assert sim.run("x://a").status == OPEN
    assert sim.asked == {"a": [0.0]}


def test_holding_dependency_is_not_polled(sim: Simulation) -> None:
    """While b is awaited for 30 s, a is asked once at the start and once before opening."""
    sim.says("a", UP)
    sim.up("b", 30.0)
    outcome = sim.run("x://a", "x://b")
    assert outcome.status == OPEN
    assert len(sim.asked["a"]) == 2
    assert 30.0 <= sim.asked["a"][1] == outcome.waited < 30.7


def test_fresh_view_is_not_asked_again(sim: Simulation) -> None:
    """A verdict of less than a second is fresh."""
    sim.says("a", UP)
    sim.up("b", 0.9)
    assert sim.run("x://a", "x://b").status == OPEN
    assert sim.asked["a"] == [0.0]


def test_own_interval_makes_a_view_stale_sooner(sim: Simulation) -> None:
    """A dependency with a shorter interval than a second counts as fresh for that long only."""
    sim.says("a", UP)
    sim.up("b", 0.9)
    assert sim.run("x://a#interval=100ms", "x://b").status == OPEN
    assert len(sim.asked["a"]) == 2


def test_held_then_lost(sim: Simulation) -> None:
    """fault 46c: a held, then is lost while b comes up: the gate does not open, and says so."""
    sim.up("a", 0.0, 20.0, 40.0)
    sim.up("b", 30.0)
    outcome = sim.run("x://a", "x://b")
    assert outcome.status == OPEN
    assert 40.0 <= outcome.waited < 41.0
    assert causes(sim, "x://a") == [None, "lost", "refused", None]
    lost = next(told.state for told in sim.record.changes if told.state.cause == "lost")
    assert lost.verdict is not None
    assert lost.verdict.seen == "held, then lost: refused the connection"


def test_lost_during_the_last_look(sim: Simulation) -> None:
    """A view that takes five seconds to confirm still opens on what the confirmation says."""
    sim.takes = 5.0
    sim.up("a", 0.0, 8.0, 30.0)
    sim.up("b", 9.0)
    outcome = sim.run("x://a", "x://b")
    assert (outcome.status, outcome.waited >= 30.0) == (OPEN, True)


def test_successes_are_consecutive(sim: Simulation) -> None:
    """`successes=3` takes three good verdicts in a row, and counts from the start after a bad one."""
    sim.says("a", UP, UP, DOWN, UP, UP, UP)
    assert sim.run("x://a#successes=3").status == OPEN
    assert len(sim.asked["a"]) == 6
    cause = causes(sim, "x://a#successes=3")
    assert cause == ["not-ready", "refused", "not-ready", None]
    told = sim.record.changes[0].state.verdict
    assert told is not None
    assert told.seen == "accepts connections, 1 of 3 times in a row"


@pytest.mark.parametrize("cause", sorted(INDEFINITE))
def test_not_needs_a_definite_answer(sim: Simulation, cause: str) -> None:
    """A cause that teaches nothing about the dependency does not prove that it is gone."""
    sim.says("a", Verdict(cause, "nothing learnt"))
    assert sim.run("not(x://a)", timeout=10.0).status == TIMED_OUT


def test_not_opens_when_gone(sim: Simulation) -> None:
    """`not(a)` waits while a is there or unknown, and opens once it is seen to be gone."""
    sim.script("a", lambda t: UP if t < 5 else NOWHERE if t < 10 else DOWN)
    outcome = sim.run("not(x://a)")
    assert outcome.status == OPEN
    assert 10.0 <= outcome.waited < 10.3
    assert outcome.states[0].verdict == ready("x://a is gone: refused the connection")


def test_not_says_what_is_still_there(sim: Simulation) -> None:
    """What holds `not` back is that its member is up, and the member itself is not told as ready."""
    sim.says("a", UP)
    outcome = sim.run("not(x://a)", timeout=3.0)
    assert (outcome.status, outcome.states[0].cause) == (TIMED_OUT, "not-ready")
    assert [told.state.target for told in sim.record.changes] == ["not(x://a)"]
    assert outcome.states[0].verdict is not None
    assert "x://a is still there" in outcome.states[0].verdict.seen


@pytest.mark.parametrize(
    ("text", "opens"),
    [
        ("any(x://a, x://b, x://c)", 10.0),
        ("atleast(2, x://a, x://b, x://c)", 20.0),
        ("quorum(x://a, x://b, x://c)", 20.0),
        ("all(x://a, x://b, x://c)", 30.0),
        ("any(all(x://a, x://c), quorum(x://a, x://b, x://never))", 20.0),
        ("not(all(x://a, x://leaves))", 7.0),
        ("not(not(x://b))", 20.0),
        ("all(not(x://leaves), any(x://never, x://a))", 10.0),
    ],
)
def test_groups(sim: Simulation, text: str, opens: float) -> None:
    """Each kind of group opens when its members say so, to 2% of the wait."""
    for name, when in (("a", 10.0), ("b", 20.0), ("c", 30.0)):
        sim.up(name, when)
    sim.says("never", DOWN)
    sim.up("leaves", 0.0, 7.0)
    if text == "not(all(x://a, x://leaves))":
        sim.says("a", UP)
    outcome = sim.run(text)
    assert outcome.status == OPEN
    assert opens <= outcome.waited <= opens * 1.02 + 0.03


def test_group_names_what_holds_it_back(sim: Simulation) -> None:
    """A group's verdict counts what holds and names each member that does not, with its cause."""
    sim.says("a", UP)
    sim.says("b", DOWN)
    sim.says("c", NOWHERE)
    outcome = sim.run("quorum(x://a, x://b, x://c)#name=brokers", timeout=1.0)
    (state,) = outcome.states
    assert (state.name, state.cause) == ("brokers", "too-few")
    assert state.verdict is not None
    assert state.verdict.seen == (
        "1 of 3 hold, 2 needed: x://b: refused the connection; x://c: nobody answered"
    )
    assert [member.cause for member in state.members] == [None, "refused", "resolver-timeout"]


def test_group_of_many_is_told_in_short(sim: Simulation) -> None:
    """A sentence about a thousand members names a few and counts the rest."""
    names = [f"x://n{number}" for number in range(1000)]
    for name in names:
        sim.says(name[4:], DOWN)
    outcome = sim.run(f"any({', '.join(names)})", timeout=0.5)
    assert outcome.states[0].verdict is not None
    assert outcome.states[0].verdict.seen.endswith("and 992 more")


def test_no_time_limit_by_default(sim: Simulation) -> None:
    """Without a limit a gate waits for as long as it takes, here eight hours."""
    sim.up("a", 8 * 3600.0)
    outcome = sim.run("x://a")
    assert outcome.status == OPEN
    assert outcome.waited - 8 * 3600.0 <= ceiling(8 * 3600.0)


def test_time_limit_is_exact(sim: Simulation) -> None:
    """`--timeout` ends the wait with 124 at that moment, also while attempts are under way."""
    sim.takes = 7.0
    sim.says("a", DOWN)
    outcome = sim.run("x://a", timeout=10.0)
    assert (outcome.status, outcome.waited) == (TIMED_OUT, 10.0)


def test_own_time_limit_ends_the_gate(sim: Simulation) -> None:
    """A dependency whose own time has passed is not ready for good: 124 at once."""
    sim.says("a", UP)
    sim.says("b", DOWN)
    outcome = sim.run("x://a", "x://b#timeout=5s")
    assert (outcome.status, outcome.waited) == (TIMED_OUT, 5.0)
    assert [state.over for state in outcome.states] == [False, True]


def test_own_time_limit_does_not_end_what_can_do_without(sim: Simulation) -> None:
    """In `any`, the others go on; the dead one is not asked again."""
    sim.up("a", 6.0)
    sim.up("b", 20.0)
    outcome = sim.run("any(x://a#timeout=5s, x://b)")
    assert outcome.status == OPEN
    assert 20.0 <= outcome.waited < 21.0
    assert max(sim.asked["a"]) <= 5.0


def test_time_limit_of_what_holds_is_no_matter(sim: Simulation) -> None:
    """What holds when its own time passes goes on holding."""
    sim.says("a", UP)
    sim.up("b", 20.0)
    assert sim.run("x://a#timeout=5s", "x://b").status == OPEN


def test_lost_after_its_own_time(sim: Simulation) -> None:
    """What held when its time passed, and is lost at the last look, cannot hold any more."""
    sim.up("a", 0.0, 10.0)
    sim.up("b", 20.0)
    outcome = sim.run("x://a#timeout=5s", "x://b")
    assert outcome.status == TIMED_OUT
    assert outcome.waited < 21.0


def test_group_has_its_own_time(sim: Simulation) -> None:
    """A group's `timeout` is over for the group, whatever its members do later."""
    sim.up("a", 6.0)
    sim.says("b", UP)
    outcome = sim.run("any(x://a)#timeout=5s", "x://b")
    assert (outcome.status, outcome.waited) == (TIMED_OUT, 5.0)


def test_group_below_not_may_take_its_time(sim: Simulation) -> None:
    """A group that is to be gone, and is when its time passes, holds its place."""
    sim.says("a", DOWN)
    sim.up("b", 20.0)
    assert sim.run("not(any(x://a)#timeout=5s)", "x://b").status == OPEN


def test_what_can_never_come_ends_at_once(sim: Simulation) -> None:
    """A permanent failure is exit 1 at once, though others are awaited and time is left."""
    sim.says("a", DOWN)
    sim.says("b", FINAL)
    outcome = sim.run("x://a", "x://b", timeout=60.0)
    assert (outcome.status, outcome.waited) == (FAILED, 0.0)


def test_permanent_failure_that_matters_not(sim: Simulation) -> None:
    """`any` goes on without a member that can never come, and does not ask it again."""
    sim.up("a", 10.0)
    sim.says("b", FINAL)
    assert sim.run("any(x://a, x://b)").status == OPEN
    assert sim.asked["b"] == [0.0]


def test_keep_waiting_makes_nothing_permanent(sim: Simulation) -> None:
    """`--keep-waiting` asks on, and opens should it come after all."""
    sim.up("a", 10.0, down=FINAL)
    assert sim.run("x://a", keep_waiting=True).status == OPEN
    assert len(sim.asked["a"]) > 10


def test_time_alone_decides(sim: Simulation) -> None:
    """124 if the root could hold but for time; 1 if it could not even so."""
    sim.says("a", DOWN)
    sim.says("b", FINAL)
    assert sim.run("any(x://a#timeout=5s, x://b)").status == TIMED_OUT
    assert sim.run("atleast(2, x://a#timeout=5s, x://b)").status == FAILED


def test_refused_login_backs_off(sim: Simulation) -> None:
    """A refused login is repeated after 1, 2, 4 and so on to 30 s: accounts get locked."""
    sim.says("a", Verdict("auth-refused", "login refused"))
    sim.run("x://a", timeout=130.0)
    assert sim.asked["a"] == pytest.approx([0, 1, 3, 7, 15, 31, 61, 91, 121])


def test_refused_login_may_be_final(sim: Simulation) -> None:
    """With `on-auth-refused=fail` the first refusal ends the gate, unless it is told to keep waiting."""
    sim.says("a", DOWN, Verdict("auth-refused", "login refused"))
    assert sim.run("x://a#on-auth-refused=fail", timeout=60.0).status == FAILED
    assert len(sim.asked["a"]) == 2
    sim.says("a", Verdict("auth-refused", "login refused"), UP)
    text = "x://a#on-auth-refused=fail"
    assert sim.run(text, timeout=60.0, keep_waiting=True).status == OPEN
    sim.says("a", Verdict("auth-refused", "login refused"), UP)
    assert sim.run("x://a#on-auth-refused=wait", timeout=60.0).status == OPEN


def test_refused_login_starts_over_with_a_new_credential(sim: Simulation, tmp_path: Path) -> None:
    """When the credential file changes, the login is tried within a second, from 1 s on again."""
    secret = tmp_path / "password"
    secret.write_text("old")
    sim.says("a", Verdict("auth-refused", "login refused"))
    sim.at(40.0, lambda: secret.write_text("another"))
    sim.run(f"x://a#password-file={secret}", timeout=50.0)
    assert sim.asked["a"] == pytest.approx([0, 1, 3, 7, 15, 31, 40, 41, 43, 47], abs=1.0)
    assert 40.0 <= sim.asked["a"][6] <= 41.0


@pytest.mark.parametrize(
    "text",
    [
        "http://web#user=me#password-file=secret",
        "http://web#header-file=X-Key=secret",
        "grpc://web:1#metadata-file=x-api-key=secret",
        "https://web#cert=secret",
        "https://web#cert=other#key=secret",
        "etcd://etcd#cert=secret",
        "etcd://etcd#cert=other#cert-key=secret",
    ],
)
def test_credential_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A credential file that is named from the working directory is seen to change, too."""
    monkeypatch.chdir(tmp_path)
    (target,) = leaves(parse(text))
    stamps = set()
    for secret in ("old", "newer"):
        (tmp_path / "secret").write_text(secret)
        stamps.add(Leaf(target, wanted=True, begun=0.0, once=False).credential_stamp())
    assert len(stamps) == 2


def test_credential_that_changes_during_an_attempt_counts(sim: Simulation, tmp_path: Path) -> None:
    """A file that is replaced after the attempt read it is news, though its verdict comes later."""
    secret = tmp_path / "password"
    secret.write_text("old")
    sim.takes = 0.5
    sim.says("a", *[Verdict("auth-refused", "login refused")] * 6)
    sim.at(9.2, lambda: secret.write_text("another"))
    sim.run(f"x://a#password-file={secret}", timeout=12.0)
    # Attempts end at 0.5, 2, 4.5 and 9; the one that begins at 9 would be followed by one at 25.
    later = [moment for moment in sim.asked["a"] if moment > 9.2]
    assert later
    assert later[0] <= 11.0


def test_again_is_honoured(sim: Simulation) -> None:
    """A verdict that says when asking again is useful is not asked before, and a wait is a wait."""
    sim.says(
        "a", Verdict("overloaded", "busy", again=7.5), Verdict("overloaded", "busy", again=9.0), UP
    )
    assert sim.run("x://a").status == OPEN
    assert sim.asked["a"] == pytest.approx([0.0, 7.5, 16.5])


def test_a_floor_is_for_what_was_reached() -> None:
    """What refuses costs nobody anything and is asked soon; who answered is left alone for the floor."""
    with Simulation(floor=1.0) as sim:
        sim.says("a", DOWN, DOWN, Verdict("starting", "soon"), Verdict("starting", "soon"), UP)
        assert sim.run("x://a").status == OPEN
        assert sim.asked["a"] == pytest.approx([0.0, 0.025, 0.05, 1.05, 2.05])


def test_interval_is_the_ceiling(sim: Simulation) -> None:
    """`--interval` sets the longest wait, a dependency's own one wins over it."""
    sim.says("a", DOWN)
    sim.says("b", DOWN)
    sim.run("x://a", "x://b#interval=2s", interval=10.0, timeout=3000.0)
    for name, longest in (("a", 10.0), ("b", 2.0)):
        moments = sim.asked[name]
        waits = [later - earlier for earlier, later in pairwise(moments)]
        assert max(waits) == pytest.approx(longest)


@pytest.mark.parametrize(("length", "most"), [(300.0, 520), (3600.0, 1300)])
def test_number_of_probes_is_bounded(sim: Simulation, length: float, most: int) -> None:
    """Each of several dependencies is asked at most 520 times in five minutes, 1,300 in an hour."""
    for name in "abc":
        sim.says(name, DOWN)
    sim.run("x://a", "x://b", "x://c", timeout=length)
    for name in "abc":
        assert most * 0.5 < len(sim.asked[name]) <= most


def test_stopped_past_its_time(sim: Simulation) -> None:
    """fault 46: stopped for a minute, past its limit, then continued: it asks before it judges."""
    sim.up("a", 30.0)
    sim.stop(5.0, 60.0)
    outcome = sim.run("x://a", timeout=10.0)
    assert outcome.status == OPEN
    assert 65.0 <= outcome.waited < 65.1


def test_stopped_past_its_time_and_still_down(sim: Simulation) -> None:
    """fault 46: what is still down after the stop is given up within the time of one attempt."""
    sim.says("a", DOWN)
    sim.stop(5.0, 60.0)
    outcome = sim.run("x://a", timeout=10.0)
    assert outcome.status == TIMED_OUT
    assert any(65.0 <= moment < 65.1 for moment in sim.asked["a"])
    assert 65.0 <= outcome.waited <= 70.1


def test_stopped_past_a_dependencys_own_time(sim: Simulation) -> None:
    """fault 46: the same for a dependency's own limit, and a group's."""
    sim.up("a", 30.0)
    sim.up("b", 30.0)
    sim.stop(5.0, 60.0)
    assert sim.run("x://a#timeout=10s", "any(x://b)#timeout=11s").status == OPEN


def test_stop_within_its_time_changes_nothing(sim: Simulation) -> None:
    """fault 46: a stop that ends before the limit leaves the limit where it is."""
    sim.says("a", DOWN)
    sim.stop(5.0, 60.0)
    outcome = sim.run("x://a", timeout=100.0)
    assert (outcome.status, outcome.waited) == (TIMED_OUT, 100.0)


def test_once_asks_each_exactly_once(sim: Simulation) -> None:
    """A single look asks each dependency once, those behind `not` and in groups too."""
    for name in "abcd":
        sim.says(name, UP if name != "d" else DOWN)
    outcome = sim.run("x://a#successes=3", "any(x://b, x://c)", "not(x://d)", once=True)
    assert outcome.status == OPEN
    assert {name: len(moments) for name, moments in sim.asked.items()} == dict.fromkeys("abcd", 1)


def test_once_fails_with_every_verdict(sim: Simulation) -> None:
    """A single look that finds something missing is exit 1, and each state has its verdict."""
    sim.says("a", UP)
    sim.says("b", DOWN)
    outcome = sim.run("x://a", "x://b", once=True)
    assert outcome.status == FAILED
    assert [state.verdict for state in outcome.states] == [UP, DOWN]


def test_calling_off_ends_the_wait(sim: Simulation) -> None:
    """`call_off` ends a wait as if its time had run out."""
    sim.says("a", DOWN)

    def call_off() -> None:
        assert sim.gate is not None
        sim.gate.call_off()

    sim.at(5.0, call_off)
    outcome = sim.run("x://a")
    assert (outcome.status, outcome.waited) == (TIMED_OUT, 5.0)


def test_nothing_to_wait_for_opens(sim: Simulation) -> None:
    """A gate without dependencies opens at once."""
    assert sim.run().status == OPEN


def test_own_faults_are_not_hidden(sim: Simulation) -> None:
    """An exception that is no obstacle is ours, and propagates."""

    def broken(_: float) -> Verdict:
        raise ZeroDivisionError

    sim.script("a", broken)
    with pytest.raises(ZeroDivisionError):
        sim.run("x://a")


def test_no_memory_is_a_local_cause(sim: Simulation) -> None:
    """fault 40: an attempt that finds no memory is retried, not fatal."""
    calls = []

    def starved(_: float) -> Verdict:
        calls.append(1)
        if len(calls) < 3:
            raise MemoryError
        return UP

    sim.script("a", starved)
    assert sim.run("x://a").status == OPEN
    assert causes(sim, "x://a") == ["local", None]


def test_each_attempt_is_reported_once(sim: Simulation) -> None:
    """Who wants every attempt gets exactly as many as were made, and changes only at changes."""
    sim.up("a", 5.0)
    sim.run("x://a")
    assert len(sim.record.attempts) == len(sim.asked["a"])
    assert [told.state.attempts for told in sim.record.attempts][-1] == len(sim.asked["a"])
    assert causes(sim, "x://a") == ["refused", None]


NAMES = ("a", "b", "c", "d")
LEAF = st.sampled_from(NAMES).map(lambda name: f"x://{name}")


def _group(members: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(members, min_size=1, max_size=4)
    return st.one_of(
        st.tuples(st.sampled_from(("all", "any", "quorum")), several).map(
            lambda pair: f"{pair[0]}({', '.join(pair[1])})"
        ),
        members.map(lambda member: f"not({member})"),
        several.flatmap(
            lambda one: st.integers(1, len(one)).map(lambda n: f"atleast({n}, {', '.join(one)})")
        ),
    )


TREES = st.recursive(LEAF, _group, max_leaves=8)
TIMES = st.floats(0.0, 60.0).map(lambda value: round(value, 2))


TARGET = re.compile(r"x://([a-z]+)")


def truth(text: str, up: list[bool]) -> bool:
    """What the tree is worth, by Python's own evaluation of its text; `up` has a value for each target."""

    def atleast(need: int, *members: bool) -> bool:
        return sum(members) >= need

    environment: dict[str, object] = {
        "all": lambda *members: sum(members) == len(members),
        "any": lambda *members: any(members),
        "quorum": lambda *members: sum(members) > len(members) // 2,
        "atleast": atleast,
        "up": iter(up).__next__,
    }
    expression = TARGET.sub("up()", text.replace("not(", "(not "))
    return bool(eval(expression, environment))  # the text is the strategy's own


@settings(max_examples=150, deadline=None)
@given(
    TREES, st.fixed_dictionaries({name: st.lists(TIMES, max_size=5).map(sorted) for name in NAMES})
)
def test_model(text: str, changes: dict[str, list[float]]) -> None:
    """Whatever the tree and whatever comes and goes: it opens only on what was seen within the last
    second, and when the tree stays true it opens within the bound on lateness."""
    with Simulation() as sim:
        for name, moments in changes.items():
            sim.up(name, *moments)

        def values(name: str, since: float, until: float) -> set[bool]:
            within = [since, *(m for m in changes[name] if since <= m <= until)]
            return {sum(moment >= m for m in changes[name]) % 2 == 1 for moment in within}

        def possible(since: float, until: float) -> bool:
            # A target that stands twice is asked twice, at moments of its own.
            each = [values(name, max(0.0, since), until) for name in TARGET.findall(text)]
            return any(truth(text, list(up)) for up in product(*each))

        last = max((m for ms in changes.values() for m in ms), default=0.0)
        outcome = sim.run(text, timeout=200.0)
        # What each was seen to be is a second old at the most.
        if outcome.status == OPEN:
            assert possible(outcome.waited - 1.01, outcome.waited)
        if possible(100.0, 100.0):
            assert outcome.status == OPEN
            assert outcome.waited <= last + 2 * (0.02 * last + 0.05) + 0.01


def test_many_share_what_a_few_may_take(sim: Simulation) -> None:
    """A hundred targets together are asked about a thousand times a second at most, and the last one
    that is awaited as often as if it were alone."""
    names = [f"n{number}" for number in range(100)]
    for name in names[:-1]:
        sim.up(name, 1.0)
    sim.up(names[-1], 3.0)
    outcome = sim.run(*[f"x://{name}" for name in names])
    assert outcome.status == OPEN
    early = sum(moment < 1.0 for name in names for moment in sim.asked[name])
    assert 500 < early <= 100 + 1000
    assert 3.0 <= outcome.waited <= 3.0 * 1.02 + 0.03
