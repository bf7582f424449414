"""The gate: waits until its dependencies hold, on a fresh view, then opens.

One loop in the main thread: ask what is due, take the verdicts, judge the tree. Probes run in
`workers`; when to ask again is `schedule`'s; what people see is the report's. A leaf that holds is
not polled while others are awaited, so before the gate opens, what was seen more than a second ago
is asked once more. What is watched is not asked at all: it tells.
"""

from __future__ import annotations

from . import net, schedule, schemes, signals
from .dns import Names
from .errors import NotReady
from .model import NOT_REACHED, Frozen, Verdict
from .net import os
from .places import Branch, Leaf, deadline_of
from .state import FAILED, OPEN, TIMED_OUT, Outcome, State, group_verdict
from .stream import Attempt
from .target import Group, Node
from .workers import Told, Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from .places import Place

    class Report(Protocol):
        """What the gate tells, and to whom."""

        @property
        def wake(self) -> float:
            """When it wants `tick`, a `monotonic()` time."""

        @property
        def verbose(self) -> bool:
            """Whether it wants every attempt."""

        def begin(self, gate: Gate) -> None:
            """The gate is about to ask."""

        def changed(self, state: State) -> None:
            """A dependency holds now, or no longer, or for another cause not."""

        def attempted(self, state: State) -> None:
            """A verdict came, if `verbose`."""

        def tick(self, now: float) -> None:
            """It is `wake`, or later."""

        def end(self, outcome: Outcome) -> None:
            """Nothing comes after this."""


# Before the gate opens, a verdict older than this is asked for again.
FRESH = 1.0
# Woken this much later than planned, we were stopped, and judge nothing before asking again.
STOPPED = 1.0
# While a refused login is repeated rarely, its credential file is looked at this often.
CREDENTIAL_LOOK = 1.0
# When time has run out, how long is waited for an attempt that ends with it and is the first of its target.
LAST_WORD = 0.1
# The time that each target takes for itself: a thousand attempts a second in all, a fifth of a cpu.
SHARE = 0.001


class Settings(Frozen):
    """How to wait. Durations in seconds; None is no limit, and our own ceiling."""

    __slots__ = ("interval", "keep_waiting", "once", "timeout")
    timeout: float | None
    interval: float | None
    keep_waiting: bool
    once: bool

    def __init__(
        self,
        timeout: float | None = None,
        interval: float | None = None,
        keep_waiting: bool = False,
        once: bool = False,
    ) -> None:
        self._set(timeout=timeout, interval=interval, keep_waiting=keep_waiting, once=once)


class Gate:
    """One wait. `run` it once."""

    def __init__(
        self,
        root: Group,
        settings: Settings,
        report: Report,
        *,
        workers: Workers | None = None,
        names: Names | None = None,
    ) -> None:
        self.settings = settings
        self.begun = net.monotonic()
        self._report = report
        self._workers = workers or Workers()
        self._names = names or Names()
        self._leaves: list[Leaf] = []
        self._root = Branch(
            root, tuple(self._grow(member, True) for member in root.members), True, self.begun
        )
        self._heap: list[tuple[float, int, Leaf]] = []
        self._pushed = 0
        self._deadline = None if settings.timeout is None else self.begun + settings.timeout
        # What has a time limit of its own, members before their group: the next to pass stands last.
        self._timed = [place for place in self._places() if place.deadline is not None]
        self._timed.sort(key=deadline_of, reverse=True)
        # Those whose time has passed.
        self._passed: list[Place] = []
        self._stopped = False
        self._called_off = self._ended = False
        self._unsettled = len(self._leaves)
        self._unasked = len(self._leaves)
        # Something died: whether the root can still hold has to be looked at. And something ever did.
        self._died = False
        self._any_died = False
        # The leaves that are all but ready, and only look whether it stays so. Added to by any thread.
        self._lingering: set[Leaf] = set()
        # The leaves that are asked once more before the gate opens; None while not about to open.
        self._confirming: set[Leaf] | None = None

    def _grow(self, node: Node, wanted: bool) -> Place:
        if isinstance(node, Group):
            inside = wanted if node.kind != "not" else not wanted
            members = tuple(self._grow(member, inside) for member in node.members)
            return Branch(node, members, wanted, self.begun)
        leaf = Leaf(node, wanted, self.begun, self.settings.once)
        self._leaves.append(leaf)
        return leaf

    def _count(self, place: Place) -> None:
        """Take a place's new value into account in the groups around it."""
        while True:
            value, last = place.value(), place.last
            if value is last:
                return
            place.last = value
            if isinstance(place, Leaf):
                self._unsettled += (last is place.wanted) - (value is place.wanted)
            if place.above is None:
                return
            place.above.counts[last] -= 1
            place.above.counts[value] += 1
            place = place.above

    def waited(self) -> float:
        """Seconds since the gate began."""
        return net.monotonic() - self.begun

    def states(self) -> tuple[State, ...]:
        """How each dependency stands, as it was given."""
        return tuple(self._state(member) for member in self._root.members)

    def call_off(self) -> None:
        """End the wait soon, as if its time had run out. From any thread."""
        self._called_off = True
        self._workers.wake()

    def run(self) -> Outcome:
        """Wait. Gives the outcome; nothing of the dependencies' doing is raised."""
        self._report.begin(self)
        # A library's caller has children of its own.
        reaping = os.getpid() == 1 and signals.held()
        for leaf in self._leaves:
            self._push(leaf, self.begun)
        until = float("inf")
        while True:
            now = net.monotonic()
            if now - until > STOPPED and not self._stopped:
                self._after_stop(until, now)
            status = self._judge(now)
            if status is not None:
                break
            self._dispatch(now)
            if self._report.wake <= now:
                self._report.tick(now)
            until = self._until(now)
            done = self._workers.take(until - net.monotonic())
            if done is not None:
                self._take(done)
            if self._workers.busy_here:
                # It was no stop but an attempt that took the time: there is no thread for it.
                until = float("inf")
            if reaping:
                signals.reap()
        outcome = Outcome(status, self.waited(), self.states())
        self._ended = True
        for leaf in self._leaves:
            leaf.drop()
        self._report.end(outcome)
        return outcome

    def _until(self, now: float) -> float:
        """When there is something to do without a verdict."""
        times = [now + 60.0, self._report.wake]
        if self._heap:
            times.append(self._heap[0][0])
        if self._deadline is not None:
            times.append(self._deadline)
        if self._timed:
            times.append(deadline_of(self._timed[-1]))
        # What is past is waited for only as long as somebody may have a last word.
        return min(at if at > now else at + LAST_WORD for at in times)

    def _places(self) -> Iterator[Place]:
        """All leaves and groups, members before their group."""

        def below(place: Place) -> Iterator[Place]:
            if isinstance(place, Branch):
                for member in place.members:
                    yield from below(member)
            yield place

        return below(self._root)

    def _push(self, leaf: Leaf, due: float) -> None:
        leaf.due = due
        self._pushed += 1
        net.heappush(self._heap, (due, self._pushed, leaf))

    def _dispatch(self, now: float) -> None:
        """Ask what is due."""
        while self._heap and self._heap[0][0] <= now:
            due, _, leaf = net.heappop(self._heap)
            confirming = self._confirming is not None and leaf in self._confirming
            if leaf.standing and due == leaf.due:
                # Nothing was said against it since: that is another good look.
                self._workers.submit(leaf, lambda: Told(None), here=True)
            if leaf.running or leaf.dead or due != leaf.due or (leaf.settled() and not confirming):
                continue
            stamp = leaf.credential_stamp()
            if leaf.refusals and not confirming and self._still_refused(leaf, stamp, now):
                continue
            # As it is before it is read: a change in the middle of an attempt counts as one after it.
            leaf.credentials = stamp
            leaf.running = True
            if leaf.target.scheme.watch is not None and not self.settings.once:
                leaf.standing = self._workers.stand(leaf, self._watch(leaf))
                if leaf.standing:
                    continue
            # A lone target's first look is made here, where it holds nothing else up: a thread for it
            # would cost a twentieth of the whole start.
            here = (
                len(self._leaves) == 1
                and not leaf.attempts
                and signals.held()
                and not leaf.target.reads_files()
                and self._until(now) > now + leaf.limit
            )
            self._workers.submit(leaf, self._work(leaf), here=here)
            if self._workers.shortage and leaf.verdict is None:
                leaf.verdict = Verdict("local", f"waits for its turn: {self._workers.shortage}")
                self._tell(leaf)

    def _still_refused(self, leaf: Leaf, stamp: object, now: float) -> bool:
        """Whether a refused login must wait on; it starts over when its credential file changes."""
        until = leaf.asked + schedule.refused_wait(leaf.refusals)
        if stamp != leaf.credentials:
            leaf.refusals = 0
            return False
        if now >= until:
            return False
        self._push(leaf, min(until, now + CREDENTIAL_LOOK))
        return True

    def _work(self, leaf: Leaf) -> Callable[[], Verdict]:
        target = leaf.target
        ends = float("inf")
        if leaf.verdict is None:
            # Nothing is known of it yet: when time runs out, it is told how far it came.
            ends = min(end or ends for end in (self._deadline, leaf.deadline))

        def ask(attempt: Attempt) -> Verdict:
            attempt.deadline = min(attempt.deadline, ends)
            return target.scheme.probe(target, attempt)

        return self._asking(leaf, ask)

    def _watch(self, leaf: Leaf) -> Callable[[Callable[[object], None]], Verdict]:
        target, workers = leaf.target, self._workers

        def tell_all(attempt: Attempt, tell: Callable[[object], None]) -> Verdict:
            assert target.scheme.watch is not None
            attempt.called_off = lambda: workers.closed
            for verdict in target.scheme.watch(target, attempt):
                tell(verdict)
            return Verdict("closed-early", "the watch ended", stale=True)

        return lambda tell: self._asking(leaf, lambda attempt: tell_all(attempt, tell))()

    def _asking(self, leaf: Leaf, ask: Callable[[Attempt], Verdict]) -> Callable[[], Verdict]:
        """What a thread does about a leaf: `ask`, and whatever that raises taken for what it is."""
        names, target, limit = self._names, leaf.target, leaf.limit

        def alone() -> bool:
            if not leaf.settled():
                self._lingering.add(leaf)
            return self._unsettled <= len(self._lingering)

        def work() -> Verdict:
            attempt = Attempt(net.monotonic() + limit, names, alone)
            attempt.kept = leaf.kept
            try:
                return ask(attempt)
            except NotReady as error:
                return error.verdict
            except ImportError as error:
                if target.scheme.name in schemes.BUILT_IN:
                    raise
                wrong = f"{target.scheme.name}:// needs a module that is not here: {error}"
                return Verdict("local", wrong)
            except MemoryError:
                return Verdict("local", "no memory is left for an attempt")
            finally:
                leaf.kept = attempt.kept
                if self._ended:
                    leaf.drop()

        return work

    def _take(self, done: tuple[object, object]) -> None:
        """Note a verdict and when to ask again. What a probe raised by our own fault is raised here."""
        leaf, verdict = done
        assert isinstance(leaf, Leaf)
        standing = isinstance(verdict, Told)
        if isinstance(verdict, Told):
            verdict = verdict.what
            if verdict is None:
                verdict = leaf.verdict
                # It may have changed, or ended, since that look was planned.
                if not leaf.standing or verdict is None or not verdict.ready:
                    return
        leaf.standing = leaf.running = standing
        if isinstance(verdict, BaseException):
            raise verdict
        assert isinstance(verdict, Verdict)
        held = leaf.settled() and leaf.attempts > 0
        self._lingering.discard(leaf)
        self._unasked -= not leaf.attempts
        leaf.attempts += 1
        leaf.asked = net.monotonic()
        leaf.good = leaf.good + 1 if verdict.ready else 0
        if verdict.cause == "auth-refused" and leaf.final_refusal:
            verdict = verdict.but(final=True)
        if verdict.final and self.settings.keep_waiting:
            verdict = verdict.but(final=False)
        leaf.verdict = verdict
        if verdict.final:
            self._died = self._any_died = True
        if self._confirming is not None:
            self._confirming.discard(leaf)
            if held and leaf.wanted and not verdict.ready and not verdict.final:
                leaf.verdict = verdict.but(cause="lost", seen=f"held, then lost: {verdict.seen}")
        self._count(leaf)
        self._again(leaf, verdict)
        if self._report.verbose:
            self._report.attempted(self._state(leaf))
        self._tell(leaf)

    def _again(self, leaf: Leaf, verdict: Verdict) -> None:
        if verdict.cause == "auth-refused":
            leaf.refusals += 1
            wait = min(CREDENTIAL_LOOK, schedule.refused_wait(leaf.refusals))
        else:
            leaf.refusals = 0
            waited = leaf.asked - self.begun
            interval = leaf.interval or self.settings.interval
            floor = 0.0 if verdict.cause in NOT_REACHED else leaf.target.scheme.floor
            wait = schedule.next_wait(waited, leaf.attempts, floor, _draw(), interval)
            # The many share what a few may take.
            share = min(interval or schedule.ceiling(waited), SHARE * self._unsettled)
            wait = max(wait, share)
        if verdict.again is not None:
            wait = max(wait, verdict.again)
        if leaf.standing and not (verdict.ready and leaf.good < leaf.needed):
            return
        if not verdict.final and not self.settings.once:
            self._push(leaf, leaf.asked + wait)

    def _after_stop(self, planned: float, now: float) -> None:
        """We were stopped past a deadline: ask again before it counts, once."""
        later = now + max((leaf.limit for leaf in self._leaves), default=0.0)
        if self._deadline is not None and planned <= self._deadline <= now:
            self._deadline = later
            self._stopped = True
        for place in self._timed:
            if planned <= deadline_of(place) <= now:
                place.deadline = later
                self._stopped = True
        if self._stopped:
            self._timed.sort(key=deadline_of, reverse=True)
            for leaf in self._leaves:
                if not leaf.settled() and not leaf.running:
                    self._push(leaf, now)

    def _judge(self, now: float) -> int | None:
        """The exit status if it is decided."""
        if self._called_off:
            return TIMED_OUT
        if self.settings.once and self._unasked:
            return None
        if self._root.value() is not True:
            self._confirming = None
        elif self._confirmed(now):
            return OPEN
        while self._timed and (passed := deadline_of(self._timed[-1])) <= now:
            if now < passed + LAST_WORD and _has_last_word(self._timed[-1]):
                break
            self._passed.append(self._timed.pop())
        for place in self._passed:
            if not place.dead and place.value() is not place.wanted:
                place.dead = self._died = self._any_died = True
                self._count(place)
                self._tell(place)
        if self._died:
            self._died = False
            if not self._root.outlook(timeless=False)[0]:
                return TIMED_OUT if self._root.outlook(timeless=True)[0] else FAILED
        if self._deadline is not None and now >= self._deadline:
            last = now < self._deadline + LAST_WORD
            return None if last and any(map(_has_last_word, self._leaves)) else TIMED_OUT
        return FAILED if self.settings.once else None

    def _confirmed(self, now: float) -> bool:
        """Whether the view is fresh. What is not is asked once more, all of it at once."""
        if self._confirming is None:
            stale = {leaf for leaf in self._leaves if leaf.settled() and self._is_stale(leaf, now)}
            self._confirming = set() if self.settings.once else stale
            for leaf in self._confirming:
                if not leaf.running:
                    self._push(leaf, now)
        return not self._confirming

    def _is_stale(self, leaf: Leaf, now: float) -> bool:
        if leaf.standing:
            # Whatever changes is told; that the connection stands, the kernel sees to.
            return False
        own = leaf.interval or self.settings.interval or FRESH
        return now - leaf.asked > min(FRESH, own)

    def _tell(self, place: Place) -> None:
        """Report a leaf whose cause changed, and each group around it that changed with it."""
        one: Place | None = place
        while one is not None and one is not self._root:
            if isinstance(one, Branch) or one.wanted:
                # A group's sentence is long, so whether it changed is found without it.
                now = (one.value() is True, self._over(one), one.cause())
                if now == one.told:
                    return
                one.told = now
                state = self._state(one)
                if state.verdict is not None or state.over:
                    self._report.changed(state)
            one = one.above

    def _over(self, place: Place) -> bool:
        """Whether it can no longer hold."""
        return self._any_died and not place.outlook(timeless=False)[0]

    def _state(self, place: Place) -> State:
        now = net.monotonic()
        if isinstance(place, Leaf):
            stays = place.running or place.settled() or place.dead or self.settings.once
            return State(
                place.name,
                place.text,
                holds=place.value() is True,
                over=self._over(place),
                verdict=place.shown(),
                waited=place.asked - self.begun,
                attempts=place.attempts,
                asks_in=max(0.0, place.due - now) if place.attempts and not stays else None,
            )
        members = tuple(self._state(member) for member in place.members)
        holds = place.value() is True
        return State(
            place.name,
            place.text,
            holds=holds,
            over=self._over(place),
            verdict=group_verdict(place.group, holds, members),
            waited=max(member.waited for member in members),
            attempts=sum(member.attempts for member in members),
            asks_in=min((m.asks_in for m in members if m.asks_in is not None), default=None),
            members=members,
        )


def _has_last_word(place: Place) -> bool:
    """Whether it is being asked for the first time, so that nothing is known of it yet."""
    return isinstance(place, Leaf) and place.running and place.verdict is None


def _draw() -> float:
    """A random number in [0, 1), without the cost of importing `random`."""
    return int.from_bytes(os.urandom(4), "big") / 0x1_0000_0000
