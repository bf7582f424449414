"""A gate in simulated time: its clock moves only when it waits, and a script says what is up when.

    with Simulation() as sim:
        sim.up("a", 5.0)                      # down before
        sim.says("b", Verdict("refused", "no"))
        ran = sim.run("all(x://a, x://b)", timeout=10)
        ran.status, ran.waited, sim.asked["a"]

The scheme `x` stands for any: its probe gives what the script has for the host at that moment, after
`sim.takes` seconds. The scheme `w` is watched: `sim.watch("a", (0.0, DOWN), (5.0, UP))` is told of each
change at its moment, `sim.watched["a"]` has when a watch was begun. The scheduler, the judgement and
the report's calls are the real ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, cast

import pytest

from service_precheck import gate, net, schemes, state
from service_precheck.access import ON_AUTH_REFUSED
from service_precheck.errors import NotReady
from service_precheck.model import Verdict, ready
from service_precheck.options import TEXT, Option, Scheme, Target
from service_precheck.target import Group, parse_all
from service_precheck.workers import Told as TellsMore
from service_precheck.workers import Workers

if TYPE_CHECKING:
    from service_precheck.stream import Attempt

DOWN = Verdict("refused", "refused the connection")
UP = ready("accepts connections")
Script = Callable[[float], Verdict]


@dataclass
class Told:
    """One call of the report: when, and of what."""

    at: float
    state: state.State


@dataclass
class Record:
    """A report that keeps what it is told."""

    sim: Simulation
    wake: float = float("inf")
    verbose: bool = True
    changes: list[Told] = field(default_factory=list)
    attempts: list[Told] = field(default_factory=list)
    outcome: state.Outcome | None = None

    def begin(self, one: gate.Gate) -> None:
        """Nothing to do."""

    def changed(self, state: state.State) -> None:
        """Keep it."""
        self.changes.append(Told(self.sim.now - self.sim.begun, state))

    def attempted(self, state: state.State) -> None:
        """Keep it."""
        self.attempts.append(Told(self.sim.now - self.sim.begun, state))

    def tick(self, now: float) -> None:
        """Nothing to do."""

    def end(self, outcome: state.Outcome) -> None:
        """Keep it."""
        self.outcome = outcome


class _EndlessError(Exception):
    """A watch's script is over, and it stands for ever."""


class Simulation:
    """The clock, the workers and the script; see the module's docstring."""

    def __init__(self, takes: float = 0.0, floor: float = 0.025) -> None:
        self.begun = self.now = 1000.0
        self.takes = takes
        self.record = Record(self)
        self.asked: dict[str, list[float]] = {}
        self.gate: gate.Gate | None = None
        self._scripts: dict[str, Script] = {}
        self._running: list[tuple[float, int, object, Callable[[], object]]] = []
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self.watched: dict[str, list[float]] = {}
        self.threads = 64
        self._changes: dict[str, tuple[tuple[float, Verdict | NotReady], ...]] = {}
        self._patched = pytest.MonkeyPatch()
        self._scheme = Scheme(
            "x",
            "name",
            self._probe,
            proves="what the script says",
            not_proves="anything else",
            example="x://a",
            options=(Option("password-file", TEXT, "a file"), ON_AUTH_REFUSED),
            floor=floor,
        )
        self._watched = Scheme(
            "w",
            "name",
            self._probe,
            proves="what the script says",
            not_proves="anything else",
            example="w://a",
            floor=floor,
            watch=self._watch,
        )

    def __enter__(self) -> Self:
        self._patched.setattr(net, "monotonic", lambda: self.now)
        self._patched.setattr(schemes, "load", {"x": self._scheme, "w": self._watched}.get)
        self._patched.setattr(gate, "_draw", float)
        return self

    def __exit__(self, *_: object) -> None:
        self._patched.undo()

    def script(self, name: str, script: Script) -> None:
        """Say what a host gives at each moment since the gate began."""
        self._scripts[name] = script

    def says(self, name: str, *verdicts: Verdict) -> None:
        """Let a host give these in turn, then the last one for ever."""
        left = list(verdicts)
        self.script(name, lambda _: left.pop(0) if len(left) > 1 else left[0])

    def up(self, name: str, *changes: float, down: Verdict = DOWN) -> None:
        """Let a host come up at the first moment, go at the second, and so on."""
        self.script(name, lambda t: UP if sum(t >= change for change in changes) % 2 else down)

    def watch(self, name: str, *changes: tuple[float, Verdict | NotReady]) -> None:
        """Let a watched host be so from each moment on; an exception ends the watches that stand then."""
        self._changes[name] = changes
        seen = [(at, one) for at, one in changes if isinstance(one, Verdict)]
        self.script(name, lambda t: [one for at, one in seen if at <= t][-1])

    def at(self, moment: float, event: Callable[[], object]) -> None:
        """Have something happen at a moment since the gate began."""
        self._count += 1
        heapq.heappush(self._events, (self.begun + moment, self._count, event))

    def stop(self, moment: float, seconds: float) -> None:
        """Stop the process at a moment for so long, as SIGSTOP does."""

        def jump() -> None:
            self.now += seconds

        self.at(moment, jump)

    def run(self, *texts: str, **settings: object) -> state.Outcome:
        """Run a gate to its end."""
        root = parse_all([(text, "") for text in texts])
        return self.run_tree(root, **settings)

    def run_tree(self, root: Group, **settings: object) -> state.Outcome:
        """Run a gate on a parsed tree to its end."""
        self.gate = gate.Gate(
            root,
            gate.Settings(**settings),  # type: ignore[arg-type]
            self.record,
            workers=cast("Workers", self),
        )
        return self.gate.run()

    def _probe(self, target: Target, attempt: Attempt) -> Verdict:
        since = self.now - self.begun
        self.asked.setdefault(target.host, []).append(since)
        return self._scripts[target.host](since)

    def _watch(self, target: Target, attempt: Attempt) -> Iterator[Verdict]:
        since = self.now - self.begun
        self.watched.setdefault(target.host, []).append(since)
        yield self._scripts[target.host](since)
        for moment, what in self._changes[target.host]:
            if moment > since:
                self._moment = self.begun + moment
                if isinstance(what, NotReady):
                    raise what
                yield what
        raise _EndlessError

    # What follows is what the gate knows of `Workers`.

    shortage = ""
    busy_here = False
    closed = False

    def stand(self, token: object, work: Callable[[Callable[[object], None]], object]) -> bool:
        """Have all that the work tells told at its moment, if there is a thread left."""
        if not self.threads:
            return False
        self.threads -= 1
        self._moment = self.now

        def tell(what: object) -> None:
            self._count += 1
            heapq.heappush(self._running, (self._moment, self._count, token, lambda: what))

        try:
            end = work(lambda what: tell(TellsMore(what)))
        except _EndlessError:
            return True
        tell(end)
        return True

    def submit(self, token: object, work: Callable[[], object], *, here: bool = False) -> None:
        """Have the work done `takes` seconds from now, at once where it is the gate's own."""
        takes = 0.0 if here else self.takes
        self._count += 1
        heapq.heappush(self._running, (self.now + takes, self._count, token, work))

    def take(self, timeout: float) -> tuple[object, object] | None:
        """Go on to the next thing that happens."""
        until = self.now + max(timeout, 0.0001)
        done = self._running[0][0] if self._running else until + 1
        if self._events and self._events[0][0] <= min(done, until):
            moment, _, event = heapq.heappop(self._events)
            self.now = max(self.now, moment)
            event()
            return None
        if done > until:
            self.now = until
            return None
        self.now = max(self.now, done)
        _, _, token, work = heapq.heappop(self._running)
        try:
            return token, work()
        except Exception as error:
            return token, error

    def wake(self) -> None:
        """Nothing waits here."""
