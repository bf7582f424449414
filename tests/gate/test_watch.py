"""What is watched, in simulated time: it is never asked, it tells; and in real threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from service_precheck import net
from service_precheck.errors import NotReady, blocked
from service_precheck.model import Verdict
from service_precheck.state import FAILED, OPEN, TIMED_OUT
from service_precheck.workers import MOST_STANDING, Told, Workers
from tests.gate.simulated import DOWN, UP, Simulation

AWAY = NotReady(Verdict("refused", "the API server refused", stale=True))
FINAL = Verdict("failed", "can never come", final=True)


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation() as made:
        yield made


def causes(sim: Simulation, name: str) -> list[str | None]:
    return [told.state.cause for told in sim.record.changes if told.state.target == name]


def test_what_is_watched_opens_the_moment_it_changes(sim: Simulation) -> None:
    """One watch is begun, nothing is asked, and the gate opens at the very change."""
    sim.watch("a", (0.0, DOWN), (312.0, UP))
    assert sim.run("w://a").waited == 312.0
    assert sim.watched == {"a": [0.0]}
    assert not sim.asked


def test_what_is_watched_is_fresh(sim: Simulation) -> None:
    """A watched leaf that held for an hour is not asked once more before the gate opens."""
    sim.watch("a", (0.0, UP))
    sim.up("b", 3600.0)
    assert sim.run("w://a", "x://b").status == OPEN
    assert sim.watched == {"a": [0.0]}
    assert list(sim.asked) == ["b"]


def test_what_is_watched_is_known_to_be_lost(sim: Simulation) -> None:
    """fault 46c: a watched leaf tells that it is lost long before anybody would have asked."""
    sim.watch("a", (0.0, UP), (20.0, DOWN), (40.0, UP))
    sim.up("b", 30.0)
    assert sim.run("w://a", "x://b").waited == 40.0
    assert causes(sim, "w://a") == [None, "refused", None]


def test_a_watch_that_breaks_is_begun_anew_on_the_schedule(sim: Simulation) -> None:
    """What it raises is a verdict like any other; the schedule says when the next watch begins."""
    sim.watch("a", (0.0, DOWN), (10.0, AWAY), (30.0, UP))
    assert sim.run("w://a").waited == 30.0
    first, second = sim.watched["a"]
    assert (first, 10.0 < second < 11.0) == (0.0, True)


def test_what_is_stale_proves_no_absence(sim: Simulation) -> None:
    """`not` does not hold because nobody can say; nor because the one who could say refuses."""
    sim.watch("a", (0.0, UP), (5.0, AWAY), (5.0, Verdict("refused", "no API server", stale=True)))
    assert sim.run("not(w://a)", timeout=60).status == TIMED_OUT


def test_absence_opens_not(sim: Simulation) -> None:
    """`not` of a watched leaf opens the moment it is gone."""
    sim.watch("a", (0.0, UP), (5.0, Verdict("missing-object", "there is none")))
    assert sim.run("not(w://a)").waited == 5.0


def test_successes_are_counted_while_nothing_is_said_against_it(sim: Simulation) -> None:
    """Three good looks are taken on the schedule of a watch that stands, without asking."""
    sim.watch("a", (0.0, UP), (0.03, DOWN), (100.0, UP))
    outcome = sim.run("w://a#successes=3")
    assert outcome.status == OPEN
    assert 101.0 < outcome.waited < 103.0
    assert sim.watched == {"a": [0.0]}
    assert not sim.asked


def test_a_planned_look_at_a_watch_that_ended_counts_nothing(sim: Simulation) -> None:
    """When a watch ends between the plan of another good look and that look, it is begun anew, and stands
    no more until then."""
    sim.watch("a", (0.0, UP), (50.0, AWAY))
    sim.run("w://a#successes=100", timeout=2)
    assert sim.gate is not None
    (leaf,) = sim.gate._leaves
    good, stood = leaf.good, leaf.standing
    sim.gate._take((leaf, AWAY.verdict))
    sim.gate._take((leaf, Told(None)))
    assert (leaf.standing, leaf.running, leaf.good) == (False, False, 0)
    assert good > 1
    assert stood


def test_a_final_verdict_ends_the_gate(sim: Simulation) -> None:
    """What a watch tells for good ends the gate, unless it keeps waiting."""
    sim.watch("a", (0.0, DOWN), (7.0, FINAL), (9.0, UP))
    outcome = sim.run("w://a")
    assert (outcome.status, outcome.waited) == (FAILED, 7.0)


def test_keep_waiting_goes_on_watching(sim: Simulation) -> None:
    """With --keep-waiting the same watch tells of the better end."""
    sim.watch("a", (0.0, DOWN), (7.0, FINAL), (9.0, UP))
    outcome = sim.run("w://a", keep_waiting=True)
    assert (outcome.status, outcome.waited) == (OPEN, 9.0)
    assert sim.watched == {"a": [0.0]}


def test_a_single_look_asks(sim: Simulation) -> None:
    """`check` looks once, and watches nothing."""
    sim.watch("a", (0.0, UP))
    assert sim.run("w://a", once=True).status == OPEN
    assert sim.asked == {"a": [0.0]}
    assert not sim.watched


def test_without_a_thread_it_is_asked(sim: Simulation) -> None:
    """What gets no thread of its own is asked on the schedule, like all else."""
    sim.watch("a", (0.0, DOWN), (10.0, UP))
    sim.threads = 0
    assert 10.0 <= sim.run("w://a").waited < 10.5
    assert len(sim.asked["a"]) > 5
    assert not sim.watched


def test_a_time_limit_of_its_own_holds(sim: Simulation) -> None:
    """A watched dependency whose own time has passed is not ready for good."""
    sim.watch("a", (0.0, DOWN), (10.0, UP))
    outcome = sim.run("w://a#timeout=5s")
    assert (outcome.status, outcome.waited) == (TIMED_OUT, 5.0)


def test_standing_work_tells_and_ends() -> None:
    """What stands hands out each thing as it comes, then what came of it; other work passes it by."""
    workers = Workers()
    go_on = threading.Event()

    def stands(tell: object) -> object:
        assert callable(tell)
        tell("first")
        go_on.wait(10)
        tell("second")
        raise blocked("refused", "no")

    def next_one() -> tuple[object, object]:
        while (done := workers.take(5.0)) is None:
            pass
        return done

    assert workers.stand("w", stands)
    token, told = next_one()
    assert token == "w"
    assert isinstance(told, Told)
    assert told.what == "first"
    workers.submit("x", lambda: 1)
    assert next_one() == ("x", 1)
    go_on.set()
    _, told = next_one()
    assert isinstance(told, Told)
    token, end = next_one()
    assert token == "w"
    assert isinstance(end, NotReady)
    workers.close()


def test_standing_threads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many stand at once, none where no thread can be had; one that ends makes room."""
    workers = Workers()
    started: list[object] = []
    monkeypatch.setattr(net, "spawn", lambda run, _: started.append(run))
    assert all(workers.stand(n, lambda _: 0) for n in range(MOST_STANDING))
    assert not workers.stand("one more", lambda _: 0)
    first = started[0]
    assert callable(first)
    first()
    assert workers.take(1.0) is not None
    assert workers.stand("one more", lambda _: 0)

    def no_thread(run: object, name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(net, "spawn", no_thread)
    assert not Workers().stand("none", lambda _: 0)
