"""Names to answers, with as few questions as it takes.

What is remembered from poll to poll is how often a name was asked and what its denials said of
their own age; an answer is never remembered. RFC 2308 for negative caching.
"""

from __future__ import annotations

from .. import net
from ..errors import NotReady, blocked
from ..model import Frozen
from ..net import os
from . import message
from .config import Config, Files
from .exchange import Server, Servers, shown
from .plan import EACH, FOURTH, SWEEP, Candidate, plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Between two questions for one name.
SPACING = 0.025
# A name that is not expected here is asked for this long at most, so that it does not hold up the others.
ASIDE = 1.0
# From one sweep over unlikely names to the next.
SWEEP_EVERY = 30.0
# Denials that live shorter than this are polled through.
SHORT_DENIAL = 3
# Between the three questions that tell a cached denial from a fresh one. Together more than a second,
# since a TTL counts whole seconds.
LEARNING = (0.3, 0.75)
# A TTL is rounded, up or down, so the end of a denial is known to a second.
ROUNDING = 1.0
SLACK = 0.1
# How long before its end to ask again, and how often from then on. A denial whose beginning was seen
# is known better: caches that count by the clock's seconds then begin and end with one of them.
EARLY = 1.0
EARLY_WHEN_SEEN = 0.5
NEAR_EXPIRY = 0.1
# Caches get flushed: no denial is trusted for longer.
TRUST = 60.0


class Found(Frozen):
    """What a name gave. `name` is the candidate that answered, `via` the end of its CNAME chain;
    `source` is "/etc/hosts" or the word "DNS"."""

    __slots__ = ("name", "source", "values", "via")
    name: str
    values: tuple[str, ...]
    via: str
    source: str

    def __init__(self, name: str, values: tuple[str, ...], via: str, source: str = "DNS") -> None:
        self._set(name=name, values=values, via=via, source=source)


class _Denials:
    """What the denials of one name and type said of their own age, and when asking again is useful."""

    __slots__ = ("_asked", "_cached", "_end", "_full", "_latest", "_off", "_seen", "last", "useful")

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._asked = 0.0
        # The end of the present denial by its first TTL, and the latest that any TTL gave.
        self._end = 0.0
        self._latest = 0.0
        self._full = 0
        self._cached = False
        self._off = False
        # A `monotonic()` time; in the past where nothing is known.
        self.useful = 0.0
        # The rcode and the end of the CNAME chain of the last denial.
        self.last = (message.NXDOMAIN, "")

    def clear(self) -> None:
        """A question was answered otherwise: the next denial is a new one."""
        self._seen.clear()
        self._cached = False
        self.useful = 0.0

    def note(self, now: float, ttl: int | None) -> None:
        """A denial arrived whose SOA leaves it `ttl` seconds."""
        before, self._asked = self._asked, now
        self.useful = 0.0
        if self._off or ttl is None:
            return
        if self._cached:
            self._follow(now, ttl, before)
        elif self._seen:
            self._compare(now, ttl)
        else:
            self._begin(now, ttl)

    def _begin(self, now: float, ttl: int) -> None:
        self._seen.clear()
        if ttl >= SHORT_DENIAL:
            self._seen.append((now, ttl))
            self.useful = now + LEARNING[0]

    def _compare(self, now: float, ttl: int) -> None:
        first, first_ttl = self._seen[0]
        self._seen.append((now, ttl))
        ends = [time + left for time, left in self._seen]
        if ttl >= first_ttl and now - first > first_ttl - ROUNDING - SLACK:
            # It may have expired since: this is a new one, or cannot be told from one.
            self._begin(now, ttl)
        elif max(ends) - min(ends) > ROUNDING + SLACK:
            # It jumps: several caches behind one address.
            self._off = True
        elif len(self._seen) <= len(LEARNING):
            self.useful = now + LEARNING[len(self._seen) - 1]
        elif ttl < first_ttl:
            self._cached = True
            self._full = first_ttl
            self._end, self._latest = ends[0], max(ends)
            self._sleep(now, EARLY)
        else:
            # It stood still for over a second: nobody caches this.
            self._off = True

    def _follow(self, now: float, ttl: int, before: float) -> None:
        end = now + ttl
        overdue = now - self._latest
        if abs(end - self._end) <= ROUNDING + SLACK:
            self._latest = max(self._latest, end)
            self._sleep(now, EARLY)
        elif overdue >= -ROUNDING - SLACK and ttl >= self._full - ROUNDING - max(0.0, overdue):
            self._full = max(self._full, ttl)
            self._end = self._latest = end
            self._sleep(now, EARLY_WHEN_SEEN if now - before <= 2 * NEAR_EXPIRY else EARLY)
        else:
            # A new denial before the old one can have expired, or one that is older than it can be:
            # several caches behind one address.
            self._off = True

    def _sleep(self, now: float, early: float) -> None:
        self.useful = max(now + NEAR_EXPIRY, min(self._latest - early, now + TRUST))


class _Name:
    """What is remembered of a target's name from poll to poll."""

    __slots__ = ("answered", "denials", "last_query", "polls", "swept", "wildcard")

    def __init__(self) -> None:
        self.polls = 0
        self.swept = 0.0
        self.last_query = 0.0
        # The candidate that answered last.
        self.answered = ""
        # What the last sweep said of a wildcard.
        self.wildcard: NotReady | None = None
        self.denials: dict[tuple[str, int], _Denials] = {}


class Resolver:
    """Looks names up as the pod's own resolver would, for one gate. Safe to use from many threads."""

    __slots__ = ("_names", "_servers", "files")

    def __init__(self, files: Files | None = None) -> None:
        self.files = files or Files()
        self._servers = Servers()
        self._names: dict[object, _Name] = {}

    def find(
        self,
        name: str,
        rtypes: tuple[int, ...],
        deadline: float,
        *,
        server: Server | None = None,
        absolute: bool = False,
        wildcard: bool = False,
    ) -> Found:
        """The values for `name`, of the first of `rtypes` that the first candidate with any has.

        With `server`, that one is asked for the name as written. `wildcard` counts answers that a
        wildcard in the search list gives. Raises NotReady: `name-not-found`, `no-addresses`,
        `wildcard`, `resolver-failure`, `resolver-timeout` or `local`.
        """
        if server is None:
            listed = tuple(
                address
                for address in self.files.addresses(name)
                if (message.AAAA if ":" in address else message.A) in rtypes
            )
            if listed:
                return Found(name, listed, name, self.files.hosts_path)
        config = self.files.config() if server is None else Config((server,))
        key = name, rtypes, config.servers, absolute, wildcard
        memory = self._names.setdefault(key, _Name())
        poll = _Poll(memory, self._servers, config, rtypes, deadline, wildcard)
        return poll.run(plan(name, config, absolute))

    def addresses(self, name: str, deadline: float, hold: float = 0.05) -> tuple[str, ...]:
        """All addresses to connect to: IPv6 and IPv4 in turn (RFC 8305 section 4). Raises as `find` does.

        A literal address is its own answer. Where A is good, AAAA holds it up for `hold` seconds at
        the most (RFC 8305 section 3).
        """
        if net.is_address(name):
            return (name,)
        found = self.find(name, (message.A, message.AAAA), deadline)
        if found.source != "DNS" or ":" in found.values[0] or not _has_ipv6():
            return found.values
        config = self.files.config()
        limit = min(deadline, net.monotonic() + hold)
        try:
            answer = self._servers.ask(
                found.name, message.AAAA, config.servers, limit, rounds=1, tcp=config.tcp
            )
        except NotReady:
            return found.values
        return _alternate(answer.values(found.name, message.AAAA)[0], found.values)


class _Poll:
    """One look at all candidates of a name that are due."""

    __slots__ = ("config", "deadline", "memory", "rtypes", "servers", "wildcard")

    def __init__(
        self,
        memory: _Name,
        servers: Servers,
        config: Config,
        rtypes: tuple[int, ...],
        deadline: float,
        wildcard: bool,
    ) -> None:
        self.memory = memory
        self.servers = servers
        self.config = config
        self.rtypes = rtypes
        self.deadline = deadline
        self.wildcard = wildcard

    def run(self, candidates: tuple[Candidate, ...]) -> Found:
        due: Iterable[Candidate] = self._due(candidates)
        while True:
            obstacles: list[tuple[Candidate, NotReady]] = []
            for candidate in due:
                if obstacles and net.monotonic() >= self.deadline:
                    break
                try:
                    found = self._ask(candidate)
                except NotReady as error:
                    obstacles.append((candidate, error))
                    cause = error.verdict.cause
                    # A server that fails on one name may know the next; silence will be the same for both.
                    if cause == "resolver-timeout":
                        break
                    if cause != "resolver-failure" and self.memory.answered == candidate.name:
                        self.memory.answered = ""
                    if cause == "wildcard":
                        self.memory.wildcard = error
                else:
                    self.memory.answered = candidate.name
                    return found
            # Near the end of a cached denial it is worth staying for the next question.
            now = net.monotonic()
            each = [candidate for candidate in candidates if candidate.when is EACH]
            soon = min(self._useful(candidate) for candidate in each)
            if not now < soon <= now + NEAR_EXPIRY or soon >= self.deadline:
                raise self._summary(obstacles, candidates)
            net.sleep(soon - now)
            due = each

    def _due(self, candidates: tuple[Candidate, ...]) -> Iterator[Candidate]:
        """The candidates to ask now: those the cluster can hold first, then the name as written, then the rest.

        What answered last comes before all, whatever it is: once it is denied, all are asked.
        """
        memory = self.memory
        now = net.monotonic()
        known = [candidate for candidate in candidates if candidate.name == memory.answered]
        yield from known
        lost = bool(known) and not memory.answered
        sweep = lost or memory.polls == 0 or now - memory.swept >= SWEEP_EVERY
        fourth = lost or memory.polls % 4 == 0
        memory.polls += 1
        each = [candidate for candidate in candidates if candidate.when is EACH]
        # Where the likely ones are known to be cached denials, nothing speaks against the other.
        fourth = fourth or all(self._useful(candidate) > now for candidate in each)
        for candidate in each:
            if candidate not in known:
                yield candidate
        for candidate in candidates:
            if candidate.when is FOURTH and fourth and candidate not in known:
                yield candidate
        if sweep:
            memory.swept = now
            memory.wildcard = None
            for candidate in candidates:
                if candidate.when is SWEEP and candidate not in known:
                    yield candidate

    def _useful(self, candidate: Candidate) -> float:
        """When asking for a candidate can be useful: a `monotonic()` time, in the past if at once."""
        useful = []
        for rtype in self.rtypes:
            denials = self.memory.denials.get((candidate.name, rtype))
            if denials is None:
                return 0.0
            useful.append(denials.useful)
            if denials.last[0] == message.NXDOMAIN:
                break
        return min(useful)

    def _ask(self, candidate: Candidate) -> Found:
        """What a candidate has, of the first type it has any of; NXDOMAIN makes the next type pointless."""
        limit = self.deadline
        if candidate.when is not EACH and candidate.name != self.memory.answered:
            limit = min(limit, net.monotonic() + ASIDE)
        obstacle: NotReady | None = None
        for rtype in self.rtypes:
            try:
                return self._ask_type(candidate, rtype, limit)
            except NotReady as error:
                if error.verdict.cause != "no-addresses":
                    raise
                obstacle = obstacle or error
        assert obstacle is not None
        raise obstacle

    def _ask_type(self, candidate: Candidate, rtype: int, limit: float) -> Found:
        denials = self.memory.denials.setdefault((candidate.name, rtype), _Denials())
        if denials.useful > net.monotonic():
            raise self._denied(candidate, denials)
        early = self.memory.last_query + SPACING - net.monotonic()
        if early > 0:
            net.sleep(early)
        answer = self._question(candidate.name, rtype, limit)
        values, via = answer.values(candidate.name, rtype)
        if values:
            denials.clear()
            self._not_wildcard(candidate, rtype)
            return Found(candidate.name, values, via)
        denials.last = (answer.rcode, via)
        denials.note(net.monotonic(), answer.denial_ttl())
        raise self._denied(candidate, denials)

    def _question(self, name: str, rtype: int, deadline: float) -> message.Answer:
        config = self.config
        try:
            return self.servers.ask(
                name, rtype, config.servers, deadline, rounds=config.attempts, tcp=config.tcp
            )
        except NotReady as error:
            if not config.note:
                raise
            raise NotReady(
                error.verdict.but(seen=f"{error.verdict.seen} ({config.note})")
            ) from error
        finally:
            self.memory.last_query = net.monotonic()

    def _not_wildcard(self, candidate: Candidate, rtype: int) -> None:
        """Raise `wildcard` if a random sibling of a name completed by the search list exists as well."""
        if self.wildcard or not candidate.suffix or candidate.cluster:
            return
        _, dot, rest = candidate.name.partition(".")
        sibling = f"precheck-{os.urandom(5).hex()}{dot}{rest}"
        try:
            answer = self._question(sibling, rtype, self.deadline)
        except NotReady:
            return
        if answer.values(sibling, rtype)[0]:
            raise blocked(
                "wildcard",
                f"{candidate.name} answers, but so does any name under {rest}",
                f"a wildcard in the search domain {candidate.suffix} answers for names that do not "
                f"exist; write the full name with a final dot, or #wildcard=ok",
            )

    def _denied(self, candidate: Candidate, denials: _Denials) -> NotReady:
        rcode, via = denials.last
        alias = f"{candidate.name} (an alias for {via})" if via != candidate.name else via
        if rcode == message.NXDOMAIN:
            return blocked("name-not-found", f"no such name: {alias}")
        return blocked("no-addresses", f"{alias} exists, without {self._wanted()}")

    def _wanted(self) -> str:
        if message.A in self.rtypes or message.AAAA in self.rtypes:
            return "addresses"
        return next(
            f"{name} records" for name, rtype in message.TYPES.items() if rtype in self.rtypes
        )

    def _summary(
        self, obstacles: list[tuple[Candidate, NotReady]], candidates: tuple[Candidate, ...]
    ) -> NotReady:
        """The one obstacle to tell of. A name that exists says most; then a server that failed on a
        likely candidate; a wildcard or a plain denial only where all deny."""
        rank = ("no-addresses", "resolver-failure", "resolver-timeout", "local")
        likely = [pair for pair in obstacles if pair[0].when is EACH] or obstacles
        now = net.monotonic()
        useful = min(self._useful(one) for one in candidates if one.when is not SWEEP)
        again = useful - now if useful > now else None
        for cause in rank:
            for _, error in obstacles if cause == "no-addresses" else likely:
                if error.verdict.cause == cause:
                    return NotReady(error.verdict.but(again=again))
        if self.memory.wildcard is not None:
            return NotReady(self.memory.wildcard.verdict.but(again=again))
        names = [error.verdict.seen.removeprefix("no such name: ") for _, error in likely]
        servers = ", ".join(shown(server) for server in self.config.servers)
        return blocked(
            "name-not-found", f"no such name: {' or '.join(names)} (asked {servers})", again=again
        )


def _alternate(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    both: list[str] = []
    for place in range(max(len(first), len(second))):
        both += first[place : place + 1]
        both += second[place : place + 1]
    return tuple(both)


def _has_ipv6() -> bool:
    """Whether there is an IPv6 address other than `::1` (what AI_ADDRCONFIG asks)."""
    try:
        with open("/proc/thread-self/net/if_inet6", "rb") as file:
            return any(not line.startswith(b"0" * 31 + b"1 ") for line in file)
    except OSError:
        return False
