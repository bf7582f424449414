"""The gate: waits until its dependencies hold, on a fresh view, then opens.

One loop in the main thread: ask what is due, take the verdicts, judge the tree. Probes run in
`workers`; when to ask again is `schedule`'s; what people see is the report's. A leaf that holds is
not polled while others are awaited, so before the gate opens, what was seen more than a second ago
is asked once more.
"""

from __future__ import annotations

from . import net, schedule, signals
from .dns.resolver import Resolver
from .errors import NotReady
from .model import Frozen, Verdict
from .net import os
from .stream import Attempt
from .target import Group, Node
from .workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from .options import Target

    class Report(Protocol):
        """What the gate tells, and to whom.

        `wake` is when it wants `tick`, a `monotonic()` time; `verbose` whether it wants every attempt.
        """

        @property
        def wake(self) -> float: ...
        @property
        def verbose(self) -> bool: ...

        def begin(self, gate: Gate) -> None: ...
        def changed(self, state: State) -> None: ...
        def attempted(self, state: State) -> None: ...
        def tick(self, now: float) -> None: ...
        def end(self, outcome: Outcome) -> None: ...


OPEN, FAILED, MISTAKE, TIMED_OUT = 0, 1, 2, 124

# Before the gate opens, a verdict older than this is asked for again.
FRESH = 1.0
# Woken this much later than planned, we were stopped, and judge nothing before asking again.
STOPPED = 1.0
# While a refused login is repeated rarely, its credential file is looked at this often.
CREDENTIAL_LOOK = 1.0


class State(Frozen):
    """How a dependency, or a group of them, stands.

    `name` and `target` are masked text. `verdict` is the last one, None before the first. `waited` is
    when it was given, in seconds since the gate began; `asks_in` the seconds until it is asked again,
    None while it is being asked or need not be. `over` says that it can no longer hold.
    """

    __slots__ = (
        "asks_in",
        "attempts",
        "holds",
        "members",
        "name",
        "over",
        "target",
        "verdict",
        "waited",
    )
    name: str
    target: str
    holds: bool
    over: bool
    verdict: Verdict | None
    waited: float
    attempts: int
    asks_in: float | None
    members: tuple[State, ...]

    def __init__(
        self,
        name: str,
        target: str,
        *,
        holds: bool,
        over: bool = False,
        verdict: Verdict | None = None,
        waited: float = 0.0,
        attempts: int = 0,
        asks_in: float | None = None,
        members: tuple[State, ...] = (),
    ) -> None:
        self._set(
            name=name,
            target=target,
            holds=holds,
            over=over,
            verdict=verdict,
            waited=waited,
            attempts=attempts,
            asks_in=asks_in,
            members=members,
        )

    @property
    def cause(self) -> str | None:
        """The cause that keeps it from holding, None when it holds or was not asked yet."""
        return self.verdict.cause if self.verdict is not None and not self.holds else None


class Outcome(Frozen):
    """How a gate ended: its exit status, the seconds it took, and the state of each dependency."""

    __slots__ = ("states", "status", "waited")
    status: int
    waited: float
    states: tuple[State, ...]

    def __init__(self, status: int, waited: float, states: tuple[State, ...]) -> None:
        self._set(status=status, waited=waited, states=states)

    @property
    def ready(self) -> bool:
        """Whether everything held."""
        return self.status == OPEN

    def __bool__(self) -> bool:
        return self.ready


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


class Leaf:
    """A target while the gate waits for it."""

    __slots__ = (
        "above",
        "asked",
        "attempts",
        "credentials",
        "dead",
        "deadline",
        "due",
        "good",
        "last",
        "needed",
        "refusals",
        "running",
        "target",
        "told",
        "verdict",
        "wanted",
    )

    def __init__(self, target: Target, wanted: bool, begun: float, once: bool) -> None:
        self.target = target
        # How many good verdicts in a row it takes; a single look can give one.
        self.needed = 1 if once else target.number("successes") or 1
        # What its place in the tree asks of it: to hold, or below `not` to be gone.
        self.wanted = wanted
        timeout = target.number("timeout")
        self.deadline = None if timeout is None else begun + timeout
        self.verdict: Verdict | None = None
        self.asked = begun
        self.due = begun
        self.attempts = 0
        self.good = 0
        self.refusals = 0
        self.credentials: object = None
        self.running = False
        # Its own time has passed.
        self.dead = False
        self.told: object = None
        self.above: Branch | None = None
        # The value that the group above has counted.
        self.last: bool | None = None

    def value(self) -> bool | None:
        """True when it holds, False when it was seen not to, None when nobody knows."""
        verdict = self.verdict
        if verdict is None or self.dead:
            return None
        if verdict.ready:
            return True if self.good >= self.needed else None
        return False if verdict.definite else None

    def settled(self) -> bool:
        """Whether it is as wanted, so that it need not be asked while others are awaited."""
        return self.value() is self.wanted

    def outlook(self, timeless: bool) -> tuple[bool, bool]:
        """Whether it can still become true, and false; `timeless` as if its own time had not passed."""
        if self.verdict is not None and self.verdict.final:
            return False, True
        alive = timeless or not self.dead
        return alive, alive

    def credential_stamp(self) -> object:
        """What tells that a credential file was changed."""
        stamps = []
        for name, value in self.target.given:
            if name.endswith("-file") and isinstance(value, str):
                try:
                    status = os.stat(value[value.find("/") :])
                    stamps.append((status.st_mtime_ns, status.st_ino, status.st_size))
                except OSError:
                    stamps.append(None)
        return tuple(stamps)


class Branch:
    """A group while the gate waits for it."""

    __slots__ = ("above", "counts", "dead", "deadline", "group", "last", "members", "told")

    def __init__(self, group: Group, members: tuple[Leaf | Branch, ...], begun: float) -> None:
        self.group = group
        self.members = members
        self.deadline = None if group.timeout is None else begun + group.timeout
        self.dead = False
        self.told: object = None
        self.above: Branch | None = None
        self.last: bool | None = None
        # How many members have each value. Kept up to date by the gate, since a look at a thousand
        # members for each verdict would cost more than the probes.
        self.counts: dict[bool | None, int] = {True: 0, False: 0, None: len(members)}
        for member in members:
            member.above = self

    def value(self) -> bool | None:
        """Three-valued: None while too little is known."""
        if self.dead:
            return None
        if self.group.kind == "not":
            return True if self.counts[False] else False if self.counts[True] else None
        if self.counts[True] >= self.group.need:
            return True
        return None if self.counts[True] + self.counts[None] >= self.group.need else False

    def outlook(self, timeless: bool) -> tuple[bool, bool]:
        """As for a leaf."""
        if self.dead and not timeless:
            return False, False
        outlooks = [member.outlook(timeless) for member in self.members]
        can, cannot = (sum(one[side] for one in outlooks) for side in (0, 1))
        if self.group.kind == "not":
            return bool(cannot), bool(can)
        return can >= self.group.need, cannot > len(outlooks) - self.group.need


Place = Leaf | Branch


class Gate:
    """One wait. `run` it once."""

    def __init__(
        self,
        root: Group,
        settings: Settings,
        report: Report,
        *,
        workers: Workers | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.settings = settings
        self.begun = net.monotonic()
        self._report = report
        self._workers = workers or Workers()
        self._resolver = resolver or Resolver()
        self._leaves: list[Leaf] = []
        self._root = Branch(
            root, tuple(self._grow(member, True) for member in root.members), self.begun
        )
        self._heap: list[tuple[float, int, Leaf]] = []
        self._pushed = 0
        self._deadline = None if settings.timeout is None else self.begun + settings.timeout
        self._timed = [place for place in self._places() if place.deadline is not None]
        self._stopped = False
        self._called_off = False
        self._unsettled = len(self._leaves)
        self._unasked = len(self._leaves)
        # Something died: whether the root can still hold has to be looked at.
        self._died = False
        # The leaves that are asked once more before the gate opens; None while not about to open.
        self._confirming: set[Leaf] | None = None

    def _grow(self, node: Node, wanted: bool) -> Place:
        if isinstance(node, Group):
            inside = wanted if node.kind != "not" else not wanted
            return Branch(node, tuple(self._grow(m, inside) for m in node.members), self.begun)
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
        while True:
            now = net.monotonic()
            status = self._judge(now)
            if status is not None:
                break
            self._dispatch(now)
            if self._report.wake <= now:
                self._report.tick(now)
            until = self._until(now)
            done = self._workers.take(until - net.monotonic())
            woken = net.monotonic()
            if woken - until > STOPPED and not self._stopped:
                self._after_stop(until, woken)
            if done is not None:
                self._take(done)
            if reaping:
                signals.reap()
        outcome = Outcome(status, self.waited(), self.states())
        self._report.end(outcome)
        return outcome

    def _until(self, now: float) -> float:
        """When there is something to do without a verdict."""
        times = [now + 60.0, self._report.wake]
        if self._heap:
            times.append(self._heap[0][0])
        if self._deadline is not None:
            times.append(self._deadline)
        for place in self._timed:
            if place.deadline is not None and place.deadline > now:
                times.append(place.deadline)
        return min(times)

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
            if leaf.running or leaf.dead or due != leaf.due or (leaf.settled() and not confirming):
                continue
            if leaf.refusals and not confirming and self._still_refused(leaf, now):
                continue
            leaf.running = True
            alone = self._unsettled - (not leaf.settled()) == 0
            self._workers.submit(leaf, self._work(leaf.target, alone))
            if self._workers.shortage and leaf.verdict is None:
                leaf.verdict = Verdict("local", f"waits for its turn: {self._workers.shortage}")
                self._tell(leaf)

    def _still_refused(self, leaf: Leaf, now: float) -> bool:
        """Whether a refused login must wait on; it starts over when its credential file changes."""
        stamp = leaf.credential_stamp()
        until = leaf.asked + schedule.refused_wait(leaf.refusals)
        if stamp != leaf.credentials:
            leaf.refusals = 0
            return False
        if now >= until:
            return False
        self._push(leaf, min(until, now + CREDENTIAL_LOOK))
        return True

    def _work(self, target: Target, alone: bool):  # type: ignore[no-untyped-def]
        resolver = self._resolver

        def work() -> Verdict:
            limit = target.number("attempt-timeout") or target.scheme.attempt_timeout
            attempt = Attempt(net.monotonic() + limit, resolver, alone)
            try:
                return target.scheme.probe(target, attempt)
            except NotReady as error:
                return error.verdict
            except MemoryError:
                return Verdict("local", "no memory is left for an attempt")

        return work

    def _take(self, done: tuple[object, object]) -> None:
        """Note a verdict and when to ask again. What a probe raised by our own fault is raised here."""
        leaf, verdict = done
        assert isinstance(leaf, Leaf)
        if isinstance(verdict, BaseException):
            raise verdict
        assert isinstance(verdict, Verdict)
        held = leaf.settled() and leaf.attempts > 0
        leaf.running = False
        self._unasked -= not leaf.attempts
        leaf.attempts += 1
        leaf.asked = net.monotonic()
        leaf.good = leaf.good + 1 if verdict.ready else 0
        if verdict.final and self.settings.keep_waiting:
            verdict = verdict.but(final=False)
        leaf.verdict = verdict
        self._died = self._died or verdict.final
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
            leaf.credentials = leaf.credential_stamp()
            wait = min(CREDENTIAL_LOOK, schedule.refused_wait(leaf.refusals))
        else:
            leaf.refusals = 0
            interval = leaf.target.number("interval") or self.settings.interval
            wait = schedule.next_wait(
                leaf.asked - self.begun, leaf.attempts, leaf.target.scheme.floor, _draw(), interval
            )
        if verdict.again is not None:
            wait = max(wait, verdict.again)
        if not verdict.final and not self.settings.once:
            self._push(leaf, leaf.asked + wait)

    def _after_stop(self, planned: float, now: float) -> None:
        """We were stopped past a deadline: ask again before it counts, once."""
        for place in (self, *self._timed):
            deadline = place._deadline if isinstance(place, Gate) else place.deadline
            if deadline is None or not planned <= deadline <= now:
                continue
            self._stopped = True
            later = now + max(leaf.target.scheme.attempt_timeout for leaf in self._leaves)
            if isinstance(place, Gate):
                place._deadline = later
            else:
                place.deadline = later
        if self._stopped:
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
        for place in self._timed:
            if place.deadline is not None and now >= place.deadline and not place.dead:
                wanted = place.wanted if isinstance(place, Leaf) else True
                if place.value() is not wanted:
                    place.dead = self._died = True
                    self._count(place)
                    self._tell(place)
        if self._died and not self._root.outlook(timeless=False)[0]:
            return TIMED_OUT if self._root.outlook(timeless=True)[0] else FAILED
        if self._deadline is not None and now >= self._deadline:
            return TIMED_OUT
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
        own = leaf.target.number("interval") or self.settings.interval or FRESH
        return now - leaf.asked > min(FRESH, own)

    def _tell(self, place: Place) -> None:
        """Report a leaf whose cause changed, and each group around it that changed with it."""
        one: Place | None = place
        while one is not None and one is not self._root:
            if isinstance(one, Branch) or one.wanted:
                state = self._state(one)
                now = (state.holds, state.over, state.cause)
                if now == one.told:
                    return
                one.told = now
                if state.verdict is not None or state.over:
                    self._report.changed(state)
            one = one.above

    def _state(self, place: Place) -> State:
        now = net.monotonic()
        if isinstance(place, Leaf):
            stays = place.running or place.settled() or place.dead or self.settings.once
            return State(
                place.target.name,
                str(place.target),
                holds=place.value() is True,
                over=place.dead or (place.verdict is not None and place.verdict.final),
                verdict=place.verdict,
                waited=place.asked - self.begun,
                attempts=place.attempts,
                asks_in=max(0.0, place.due - now) if place.attempts and not stays else None,
            )
        members = tuple(self._state(member) for member in place.members)
        holds = place.value() is True
        return State(
            place.group.name,
            str(place.group),
            holds=holds,
            over=not place.outlook(timeless=False)[0],
            verdict=_group_verdict(place.group, holds, members),
            waited=max(member.waited for member in members),
            attempts=sum(member.attempts for member in members),
            asks_in=min((m.asks_in for m in members if m.asks_in is not None), default=None),
            members=members,
        )


def _group_verdict(group: Group, holds: bool, members: tuple[State, ...]) -> Verdict | None:
    """What is said of a group: who holds it up, or who holds it back and why."""
    known = [member for member in members if member.verdict is not None]
    if not known:
        return None
    if group.kind == "not":
        member = members[0]
        assert member.verdict is not None
        if holds:
            return Verdict(None, f"{member.name} is gone: {member.verdict.seen}")
        if member.holds:
            return Verdict("not-ready", f"{member.name} is still there: {member.verdict.seen}")
        return member.verdict
    good = [member.name for member in members if member.holds]
    if holds:
        return Verdict(None, f"{len(good)} of {len(members)} hold: {', '.join(good)}")
    back = [
        f"{m.name}: {m.verdict.seen if m.verdict is not None else 'not asked yet'}"
        for m in members
        if not m.holds
    ]
    return Verdict("too-few", f"{len(good)} of {group.need} needed hold; {'; '.join(back)}")


def _draw() -> float:
    """A random number in [0, 1), without the cost of importing `random`."""
    return int.from_bytes(os.urandom(4), "big") / 0x1_0000_0000


def blocking(states: tuple[State, ...]) -> list[State]:
    """The dependencies that hold the gate back."""
    return [state for state in states if not state.holds]
