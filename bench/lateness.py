"""How soon a gate notices, and what its waiting costs others."""

from __future__ import annotations

import contextlib
import functools
import heapq
import random
import threading
import time
from collections.abc import Callable, Iterator

from bench.launch import Failed, Launcher, Run
from bench.results import MILLI, Goal, Row
from bench.rivals import GATE, GETADDRINFO, NAME, NSLOOKUP, PORT, WAIT4X, WAIT_FOR_IT, Field
from bench.scene import DEAD, RESOLVER, SEARCH, UPSTREAM, ZONE, Pod, Ports, pod
from tests.bed.nameservers import Unbound

NAMED = (GATE, WAIT4X, NSLOOKUP, GETADDRINFO)
PORTED = (GATE, WAIT4X, WAIT_FOR_IT)
HELD = "db-0.db.shop"

Steps = list[tuple[float, Callable[[], None]]]


def play(steps: Steps) -> None:
    """Do each step at its time, in seconds from now."""
    origin = time.monotonic()
    queue = [(at, place, step) for place, (at, step) in enumerate(steps)]
    heapq.heapify(queue)
    while queue:
        at, _, step = heapq.heappop(queue)
        time.sleep(max(0.0, origin + at - time.monotonic()))
        step()


class Moment:
    """One thing that comes up `after` so many seconds of waiting, and those that wait for it."""

    __slots__ = ("after", "at", "runs")

    def __init__(self, after: float) -> None:
        self.after = after
        self.at = 0.0
        self.runs: dict[str, Run] = {}

    def was_waited_for(self) -> bool:
        """Whether all began about when they were meant to, and not after what they waited for."""
        return all(self.at - run.began > 0.9 * self.after for run in self.runs.values())


def lateness(field: Field, *, quick: bool) -> Iterator[Row]:
    """From a name or a port coming up to the exit, for waits from 2 s to almost 5 minutes."""
    draw = random.Random()
    short = [draw.uniform(2, 8) for _ in range(10 if quick else 40)]
    middle = [] if quick else [draw.uniform(8, 60) for _ in range(16)]
    long = [] if quick else [draw.uniform(60, 299) for _ in range(6)]
    kinds = {NAME: field.of(NAME, *NAMED), PORT: field.of(PORT, *PORTED)}
    found: dict[str, list[Moment]] = {NAME: [], PORT: []}
    with contextlib.ExitStack() as stack:
        scene = stack.enter_context(pod())
        count = len(short) + len(middle) + len(long)
        ports = stack.enter_context(Ports(scene.world, count))
        steps: Steps = []
        # The long ones first, the short ones in waves, so that few things start at once.
        for place, after in enumerate([*long, *middle, *short]):
            wave = max(0, place - len(long) - len(middle)) // 8
            begins = 0.2 * (place % 8) + 10.0 * wave + draw.uniform(0, 0.2)
            name = f"db-{place}.db.shop"
            for kind, target, up in (
                (NAME, name, lambda name=name: scene.publish(name)),
                (PORT, ports.address(place), lambda place=place: ports.open(place)),
            ):
                moment = Moment(after)
                found[kind].append(moment)
                steps += _moment(scene.launcher, kinds[kind], target, moment, begins, up, draw)
        field.set_up()
        play(steps)
        for moments in found.values():
            for moment in moments:
                for run in moment.runs.values():
                    scene.launcher.good(run)
    early = Goal(0.15, WAIT4X)
    for kind, moments in found.items():
        for low, high, text in ((2, 8, "2 to 8 s"), (8, 60, "8 to 60 s"), (60, 300, "60 to 299 s")):
            drawn = [moment for moment in moments if low <= moment.after < high]
            chosen = [moment for moment in drawn if moment.was_waited_for()]
            late = len(drawn) - len(chosen)
            note = (
                f"{late} of {len(drawn)} left out: the machine was too busy to start them on time."
            )
            if chosen:
                goals = [early] if low == 2 else []
                goals.append(Goal(1000.0, subject=GATE, figure="max"))
                yield Row(
                    f"lateness/{kind}/{low}",
                    f"lateness after {text}, a {kind}",
                    "ms",
                    {
                        rival: [(m.runs[rival].ended - m.at) * MILLI for m in chosen]
                        for rival in kinds[kind]
                    },
                    *goals,
                    paired=False,
                    note=note if late else "",
                )


def _moment(
    launcher: Launcher,
    rivals: dict[str, Callable[[str], list[str]]],
    target: str,
    moment: Moment,
    begins: float,
    up: Callable[[], float],
    draw: random.Random,
) -> Steps:
    def begin() -> None:
        names = list(rivals)
        draw.shuffle(names)
        for name in names:
            moment.runs[name] = launcher.start(rivals[name](target))

    def rise() -> None:
        moment.at = up()

    return [(begins, begin), (begins + moment.after, rise)]


def queries(field: Field, *, quick: bool) -> Iterator[Row]:
    """DNS queries and connections of one that waits for what never comes."""
    seconds = 30 if quick else 300
    goals = [Goal(0.85, NSLOOKUP), Goal(0.22, GETADDRINFO)]
    names = {"a.b.c": "db-0.db.shop", "a.b": "db.shop"}
    asked: dict[str, dict[str, list[float]]] = {text: {} for text in names}
    connected: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        scenes = {
            rival: stack.enter_context(pod())
            for rival in dict.fromkeys((*NAMED, *PORTED))
            if field.of(NAME, rival) or field.of(PORT, rival)
        }
        field.set_up()
        waiting = []
        for rival, scene in scenes.items():
            ports = stack.enter_context(Ports(scene.world, 1))
            runs = [
                scene.launcher.start(command(name))
                for command in field.of(NAME, rival).values()
                for name in names.values()
            ]
            runs += [
                scene.launcher.start(command(ports.address(0)))
                for command in field.of(PORT, rival).values()
            ]
            waiting.append((rival, scene, runs))
        time.sleep(seconds)
        for rival, scene, runs in waiting:
            for run in runs:
                if run.status is not None:
                    raise Failed(f"{' '.join(run.argv)} ended: {scene.launcher.tail()}")
            if field.of(NAME, rival):
                for text, name in names.items():
                    asked[text][rival] = [float(scene.queries(name))]
            if field.of(PORT, rival):
                connected[rival] = [float(connections(runs[-1].pid))]
                # A loop's children are not in its own count before they end; those are few.
                spent[rival] = [cpu_so_far(runs[-1].pid) * MILLI]
    period = f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds} s"
    for text, counts in asked.items():
        yield Row(
            f"queries/{text}",
            f"DNS queries in {period}, missing {text}",
            "queries",
            counts,
            *(goals if text == "a.b.c" and not quick else ()),
            paired=False,
        )
    yield Row("connects", f"connects in {period}, closed port", "connects", connected, paired=False)
    yield Row("waiting-cpu", f"cpu in {period}, closed port", "ms", spent, paired=False)


def connections(pid: int) -> int:
    """How many TCP connections were begun in the network of a process."""
    with open(f"/proc/{pid}/net/snmp") as file:
        head, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(values[head.index("ActiveOpens")])


def cpu_so_far(pid: int) -> float:
    """CPU seconds of a process and of its children that ended."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(int(fields[place]) for place in (11, 12, 13, 14)) / 100


class Watch:
    """Asks a cache, once its denial must be about over, until it knows better; that changes nothing
    that anybody else could see."""

    def __init__(self, scene: Pod, cache: Unbound, name: str, moment: Moment, keeps: float) -> None:
        self.asked = 0
        self._seen = 0.0
        denied = [query.at for query in scene.dns.asked(name) if query.at < moment.at]
        self._begins = max([moment.at, *(at + keeps - 0.2 for at in denied)])
        self._cache = cache
        self._name = name
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        time.sleep(max(0.0, self._begins - time.monotonic()))
        while time.monotonic() < self._begins + 10:
            self.asked += 1
            if self._cache.values(self._name):
                self._seen = time.monotonic()
                return
            time.sleep(0.01)

    def seen(self) -> float:
        """When the cache first knew."""
        self._thread.join()
        if not self._seen:
            raise Failed(f"the cache never learnt of {self._name}")
        return self._seen


def negative_cache(field: Field, *, quick: bool) -> Iterator[Row]:
    """A real caching resolver remembers that a name was missing; how soon after that is over?"""
    keeps = 6 if quick else 30
    rounds = 2 if quick else 4
    draw = random.Random()
    rivals = field.of(NAME, *NAMED)
    late: dict[str, list[float]] = {rival: [] for rival in rivals}
    sent: dict[str, list[float]] = {rival: [] for rival in rivals}
    with contextlib.ExitStack() as stack:
        waiting: list[tuple[str, Pod, Unbound, str, Moment]] = []
        steps: Steps = []
        for place in range(rounds):
            after = draw.uniform(0.2 * keeps, 0.9 * keeps)
            for rival, command in rivals.items():
                # Of its own, as each look may be the one that fills the cache.
                scene = stack.enter_context(pod(resolver=UPSTREAM))
                scene.dns.negative_ttl = keeps
                cache = Unbound(
                    (UPSTREAM, 53), negative_ttl=keeps, host=RESOLVER, port=53, place=scene.world
                )
                stack.enter_context(cache)
                name = f"db-{place}.db.shop"
                moment = Moment(after)
                waiting.append((rival, scene, cache, name, moment))
                steps += _moment(
                    scene.launcher,
                    {rival: command},
                    name,
                    moment,
                    0.3 * place,
                    functools.partial(scene.publish, name),
                    draw,
                )
        field.set_up()
        play(steps)
        watches = [
            (
                Watch(scene, cache, f"{name}.{ZONE}", moment, keeps),
                rival,
                scene,
                cache,
                name,
                moment,
            )
            for rival, scene, cache, name, moment in waiting
        ]
        for watch, rival, scene, cache, name, moment in watches:
            run = scene.launcher.good(moment.runs[rival], 4 * keeps + 60)
            # It looks every 10 ms, so one that is quicker than it is not late at all.
            late[rival].append(max(0.0, run.ended - watch.seen()) * MILLI)
            # As the gate's own resolver saw them: with each suffix.
            told = [f"{name}.{suffix}" for suffix in SEARCH]
            count = sum(cache.count(one) for one in [*told, name])
            sent[rival].append(float(count - watch.asked))
    text = f"{keeps} s"
    yield Row(
        "cached/late",
        f"lateness after a negative cache of {text} has expired, a name",
        "ms",
        late,
        paired=False,
        note="Lateness is counted from when the cache first tells another client of the name.",
    )
    yield Row(
        "cached/queries", "queries until then, behind that cache", "queries", sent, paired=False
    )


def dead_resolver(field: Field, *, quick: bool) -> Iterator[Row]:
    """The first of two resolvers is dead; then all are, for a while."""
    rounds = 3 if quick else 7
    rivals = field.of(NAME, *NAMED)
    took: dict[str, list[float]] = {rival: [] for rival in rivals}
    late: dict[str, list[float]] = {rival: [] for rival in rivals}
    draw = random.Random()
    with contextlib.ExitStack() as stack:
        half = stack.enter_context(pod(servers=(DEAD, RESOLVER)))
        half.world.drop(DEAD)
        half.publish(HELD)
        scenes = [stack.enter_context(pod()) for _ in range(rounds)]
        field.set_up()
        for _ in range(2 if quick else rounds):
            # All at once: they only wait.
            runs = {rival: half.launcher.start(command(HELD)) for rival, command in rivals.items()}
            for rival, run in runs.items():
                half.launcher.good(run)
                took[rival].append((run.ended - run.began) * MILLI)
        yield Row(
            "dead/first",
            "start to exit, first of two resolvers dead, a name that holds",
            "ms",
            took,
        )
        moments: list[tuple[Pod, Moment]] = []
        steps: Steps = []
        for place, scene in enumerate(scenes):
            scene.world.drop(RESOLVER)
            scene.publish(HELD)
            moment = Moment(draw.uniform(5, 10) if quick else draw.uniform(8, 30))
            up = functools.partial(_revived, scene)
            steps += _moment(scene.launcher, rivals, HELD, moment, 0.5 * place, up, draw)
            moments.append((scene, moment))
        play(steps)
        for scene, moment in moments:
            for rival, run in moment.runs.items():
                scene.launcher.good(run)
                late[rival].append((run.ended - moment.at) * MILLI)
    yield Row(
        "dead/all", "lateness after the only resolver comes back, a name that holds", "ms", late
    )


def _revived(scene: Pod) -> float:
    scene.world.clear()
    return time.monotonic()
