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
from .denials import NEAR_EXPIRY, Denials
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
        self.denials: dict[tuple[str, int], Denials] = {}


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
        denials = self.memory.denials.setdefault((candidate.name, rtype), Denials())
        if denials.useful > net.monotonic():
            raise self._denied(candidate, denials)
        early = self.memory.last_query + SPACING - net.monotonic()
        if early > 0:
            net.sleep(early)
        answer = self._question(candidate.name, rtype, limit)
        values, via = answer.values(candidate.name, rtype)
        if values:
            denials.clear()
            self._not_wildcard(candidate, rtype, values, via)
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

    def _not_wildcard(
        self, candidate: Candidate, rtype: int, values: tuple[str, ...], via: str
    ) -> None:
        """Raise `wildcard` if a random sibling of a name completed by the search list gets its answer too:
        one of its values, or an alias for the same name, whose addresses may come in turn."""
        if self.wildcard or not candidate.suffix or candidate.cluster:
            return
        _, dot, rest = candidate.name.partition(".")
        sibling = f"precheck-{os.urandom(5).hex()}{dot}{rest}"
        if len(sibling) > 253:
            return
        try:
            answer = self._question(sibling, rtype, self.deadline)
        except NotReady:
            return
        others, end = answer.values(sibling, rtype)
        if not set(values).isdisjoint(others) or (others and via == end):
            raise blocked(
                "wildcard",
                f"{candidate.name} answers, but so does any name under {rest}",
                f"a wildcard in the search domain {candidate.suffix} answers for names that do not "
                f"exist; write the full name with a final dot, or #wildcard=ok",
            )

    def _denied(self, candidate: Candidate, denials: Denials) -> NotReady:
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
        likely candidate; a plain denial only where all deny, and the last sweep's wildcard before it."""
        rank = ("wildcard", "no-addresses", "resolver-failure", "resolver-timeout", "local")
        likely = [pair for pair in obstacles if pair[0].when is EACH] or obstacles
        now = net.monotonic()
        useful = min(self._useful(one) for one in candidates if one.when is not SWEEP)
        again = useful - now if useful > now else None
        for cause in rank:
            for _, error in obstacles if cause in rank[:2] else likely:
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
