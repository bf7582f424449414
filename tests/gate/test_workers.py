"""The threads that ask, and the queue between them and the gate: real threads, no mocks but of a kernel
that has none left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from service_precheck import net
from service_precheck.workers import Workers
from tests.bed.process import own_threads


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def taken(workers: Workers) -> tuple[object, object]:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if (done := workers.take(1.0)) is not None:
            return done
    raise AssertionError("nothing was done")


def test_queue_keeps_the_order() -> None:
    """What is put first is got first, by whoever asks first."""
    queue = net.Queue()
    for number in range(5):
        queue.put(number)
    assert [queue.get() for _ in range(5)] == list(range(5))
    assert queue.empty()


def test_queue_gives_up_in_time() -> None:
    """A `get` with a timeout raises, not before it, and leaves nothing behind that would swallow an item."""
    queue = net.Queue()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        queue.get(0.05)
    assert time.monotonic() - began >= 0.05
    queue.put("kept")
    assert queue.get(1.0) == "kept"


def test_queue_between_many_threads() -> None:
    """Eight threads that put and eight that get, with timeouts that pass: each item is got exactly once."""
    queue = net.Queue()
    got: list[int] = []

    def consume() -> None:
        while True:
            try:
                item = queue.get(0.0005)
            except TimeoutError:
                continue
            if item is None:
                return
            got.append(item)

    def produce(first: int) -> None:
        for number in range(first, first + 500):
            queue.put(number)

    consumers = [threading.Thread(target=consume) for _ in range(8)]
    producers = [threading.Thread(target=produce, args=(n * 500,)) for n in range(8)]
    for thread in (*consumers, *producers):
        thread.start()
    for thread in producers:
        thread.join()
    for _ in consumers:
        queue.put(None)
    for thread in consumers:
        thread.join()
    assert sorted(got) == list(range(4000))


def test_threads_are_made_when_needed_and_used_again() -> None:
    """One after the other takes one thread; three at once take three; closing ends them all."""
    workers = Workers()
    before = len(own_threads())
    for number in range(10):
        workers.submit(number, lambda: "done")
        assert taken(workers) == (number, "done")
    assert len(own_threads()) == before + 1
    gate = threading.Event()
    for number in range(3):
        workers.submit(number, gate.wait)
    until(lambda: len(own_threads()) == before + 3)
    gate.set()
    assert {taken(workers)[0] for _ in range(3)} == {0, 1, 2}
    workers.close()
    until(lambda: len(own_threads()) == before)


def test_more_work_than_threads_takes_turns() -> None:
    """With room for two threads, twenty pieces of work are done by two."""
    workers = Workers(most=2)
    before = len(own_threads())
    for number in range(20):
        workers.submit(number, lambda: time.sleep(0.001))
    assert len(own_threads()) <= before + 2
    assert {taken(workers)[0] for _ in range(20)} == set(range(20))
    workers.close()


def test_what_was_raised_is_handed_over() -> None:
    """An exception of the work comes as it is, and its thread goes on."""
    workers = Workers()
    for _ in range(3):
        workers.submit("token", lambda: 1 / 0)
        token, raised = taken(workers)
        assert (token, type(raised)) == ("token", ZeroDivisionError)
    workers.close()


def test_without_any_thread_the_caller_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """fault 10b: where none can be started, `take` does the work itself, in order, and says why."""

    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(net, "spawn", none_left)
    workers = Workers()
    for number in range(3):
        workers.submit(number, threading.get_ident)
    assert workers.busy_here
    assert workers.shortage == "0 threads could be started, no more (can't start new thread)"
    assert [workers.take(0.01) for _ in range(3)] == [(n, threading.get_ident()) for n in range(3)]
    assert workers.take(0.01) is None


def test_waking_ends_a_wait() -> None:
    """`wake` makes a `take` return, and costs no later verdict."""
    workers = Workers()
    workers.wake()
    assert workers.take(30.0) is None
    workers.submit("token", lambda: 1)
    assert taken(workers) == ("token", 1)
    workers.close()
