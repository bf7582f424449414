"""Names to answers, with as few questions as it takes.

What is remembered from poll to poll is how often a name was asked and what its denials said of
their own age; an answer is never remembered. RFC 2308 for negative caching.
"""

from __future__ import annotations

import os

from .. import net
from ..errors import NotReady, blocked
from ..model import Frozen
from . import message
from .config import Config, Files
from .exchange import Server, Servers, shown
from .plan import EACH, FOURTH, Candidate, plan

# Between two questions for one name.
SPACING = 0.025
# A name that is not expected here is asked for this long at most, so that it does not hold up the others.
ASIDE = 1.0
# From one sweep over unlikely names to the next.
SWEEP_EVERY = 30.0
# Denials that live shorter than this are polled through.
SHORT_DENIAL = 2
# Between the three questions that tell a cached denial from a fresh one. Together more than a second,
# since a TTL counts whole seconds.
LEARNING = (0.3, 0.75)
# Near the end of a cached denial: begin a second before, since its TTL was rounded, and ask this often.
EARLY = 1.0
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
    """What a candidate's denials said of their own age, and when asking again can be useful."""

    __slots__ = ("_cached", "_expires", "_full", "_off", "_seen", "last", "useful")

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._expires = 0.0
        self._full = 0
        self._cached = False
        self._off = False
        self.useful = 0.0
        # The rcode and the end of the CNAME chain of the last denial.
        self.last = (message.NXDOMAIN, "")

    def clear(self) -> None:
        """A question was answered otherwise: the next denial is a new one."""
        self._seen.clear()
        self.useful = 0.0

    def note(self, now: float, ttl: int | None) -> None:
        """A denial arrived whose SOA leaves it `ttl` seconds."""
        self.useful = 0.0
        if self._off or ttl is None or (ttl < SHORT_DENIAL and not self._cached):
            return
        if self._cached:
            self._follow(now, ttl)
            return
        self._seen.append((now, ttl))
        self._full = max(self._full, ttl)
        first, first_ttl = self._seen[0]
        counted = ttl < first_ttl and abs(now + ttl - first - first_ttl) <= EARLY + 0.1
        if counted:
            self._cached = True
            self._expires = min(time + left for time, left in self._seen)
            self._sleep(now)
        elif ttl == first_ttl and len(self._seen) <= len(LEARNING):
            self.useful = now + LEARNING[len(self._seen) - 1]
        else:
            # It stands still for over a second (nobody caches this), or it jumps (several caches).
            self._off = True

    def _follow(self, now: float, ttl: int) -> None:
        if now + ttl <= self._expires + EARLY + 0.5:
            self._expires = min(self._expires, now + ttl)
        elif now < self._expires - EARLY or ttl < self._full - 1:
            # A new denial before the old one can have expired, or one that is not new:
            # several caches behind one address.
            self._off = True
            return
        else:
            self._full = max(self._full, ttl)
            self._expires = now + ttl
        self._sleep(now)

    def _sleep(self, now: float) -> None:
        self.useful = max(now + NEAR_EXPIRY, min(self._expires - EARLY, now + TRUST))


class _Name:
    """What is remembered of a target's name from poll to poll."""

    __slots__ = ("denials", "last_query", "polls", "swept")

    def __init__(self) -> None:
        self.polls = 0
        self.swept = 0.0
        self.last_query = 0.0
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
        poll = _Poll(self, self._servers, config, name, rtypes, deadline, wildcard)
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

    def remembered(self, key: object) -> _Name:
        """What is remembered under a key, made on first use."""
        return self._names.setdefault(key, _Name())


class _Poll:
    """One look at all candidates of a name that are due."""

    __slots__ = ("config", "deadline", "memory", "name", "rtypes", "servers", "wildcard")

    def __init__(
        self,
        resolver: Resolver,
        servers: Servers,
        config: Config,
        name: str,
        rtypes: tuple[int, ...],
        deadline: float,
        wildcard: bool,
    ) -> None:
        self.servers = servers
        self.config = config
        self.name = name
        self.rtypes = rtypes
        self.deadline = deadline
        self.wildcard = wildcard
        self.memory = resolver.remembered((name, rtypes, config.servers))

    def run(self, candidates: tuple[Candidate, ...]) -> Found:
        obstacles: list[tuple[Candidate, NotReady]] = []
        for candidate in self._due(candidates):
            if obstacles and net.monotonic() >= self.deadline:
                break
            try:
                return self._ask(candidate)
            except NotReady as error:
                obstacles.append((candidate, error))
                # A server that fails on one name may know the next; silence will be the same for both.
                if error.verdict.cause == "resolver-timeout":
                    break
        raise self._summary(obstacles)

    def _due(self, candidates: tuple[Candidate, ...]) -> list[Candidate]:
        """The candidates to ask now: those the cluster can hold first, then the name as written, then the rest."""
        memory = self.memory
        now = net.monotonic()
        due = [candidate for candidate in candidates if candidate.when is EACH]
        if memory.polls % 4 == 0:
            due += [candidate for candidate in candidates if candidate.when is FOURTH]
        if memory.polls == 0 or now - memory.swept >= SWEEP_EVERY:
            memory.swept = now
            due += [c for c in candidates if c.when is not EACH and c.when is not FOURTH]
        memory.polls += 1
        return due

    def _ask(self, candidate: Candidate) -> Found:
        """What a candidate has, of the first type it has any of; NXDOMAIN makes the next type pointless."""
        limit = self.deadline
        if candidate.when is not EACH:
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
        while True:
            now = net.monotonic()
            if denials.useful > now:
                # Only near the end of a cached denial is it worth staying for the next question.
                if denials.useful - now > NEAR_EXPIRY or denials.useful >= limit:
                    raise self._denied(candidate, denials)
                net.sleep(denials.useful - now)
            net.sleep(max(0.0, self.memory.last_query + SPACING - net.monotonic()))
            answer = self._question(candidate.name, rtype, limit)
            values, via = answer.values(candidate.name, rtype)
            if values:
                denials.clear()
                self._not_wildcard(candidate, rtype)
                return Found(candidate.name, values, via)
            now = net.monotonic()
            denials.last = (answer.rcode, via)
            denials.note(now, answer.denial_ttl())
            if not now < denials.useful <= now + NEAR_EXPIRY:
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
        useful = denials.useful - net.monotonic()
        again = useful if useful > 0 else None
        rcode, via = denials.last
        if rcode == message.NXDOMAIN:
            return blocked("name-not-found", f"no such name: {candidate.name}", again=again)
        alias = f" (an alias for {via})" if via != candidate.name else ""
        return blocked(
            "no-addresses", f"{candidate.name}{alias} exists, without addresses", again=again
        )

    def _summary(self, obstacles: list[tuple[Candidate, NotReady]]) -> NotReady:
        """The one obstacle to tell of. A name that exists says most; then a server that failed on a
        likely candidate; a plain denial only where all deny."""
        rank = ("wildcard", "no-addresses", "resolver-failure", "resolver-timeout", "local")
        likely = [pair for pair in obstacles if pair[0].when is EACH] or obstacles
        for cause in rank:
            for _, error in obstacles if cause in ("wildcard", "no-addresses") else likely:
                if error.verdict.cause == cause:
                    return error
        agains = [error.verdict.again for _, error in likely]
        known = [again for again in agains if again is not None]
        names = [candidate.name for candidate, _ in likely]
        servers = ", ".join(shown(server) for server in self.config.servers)
        return blocked(
            "name-not-found",
            f"no such name: {' or '.join(names)} (asked {servers})",
            again=min(known) if len(known) == len(likely) else None,
        )


def _alternate(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    both = []
    for place in range(max(len(first), len(second))):
        both += first[place : place + 1]
        both += second[place : place + 1]
    return tuple(both)


def _has_ipv6() -> bool:
    """Whether an interface other than loopback has an IPv6 address (what AI_ADDRCONFIG asks)."""
    try:
        with open("/proc/net/if_inet6", "rb") as file:
            return any(not line.rstrip().endswith(b" lo") for line in file)
    except OSError:
        return False
