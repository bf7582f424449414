"""Against the servers of the field: what they say is read as dnspython reads it, and their caches are
not beaten."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from service_precheck import net, schedule
from service_precheck.dns import message
from service_precheck.dns.resolver import Found, Resolver
from service_precheck.errors import NotReady
from service_precheck.model import Verdict
from tests.bed.fixtures import Enter
from tests.bed.names import ScriptedDNS
from tests.bed.nameservers import Authoritative, Bind, CoreDNS, Dnsmasq, Knot, NameServer, Unbound
from tests.dns.simulated import Set

SERVERS = [Bind, Knot, CoreDNS]
# BIND takes no more than a hundred.
MANY = [f"192.0.2.{i}" for i in range(1, 100)]
NAME = "db.example."


def looks(server: NameServer | ScriptedDNS, *search: str) -> Resolver:
    return Resolver(Set(*search, servers=(server.address,)))


def find(resolver: Resolver, name: str, *rtypes: str, within: float = 20.0) -> Found:
    types = tuple(message.TYPES[one] for one in rtypes or ("A", "AAAA"))
    return resolver.find(name, types, net.monotonic() + within)


def verdict(resolver: Resolver, name: str, *rtypes: str, within: float = 20.0) -> Verdict:
    with pytest.raises(NotReady) as raised:
        find(resolver, name, *rtypes, within=within)
    return raised.value.verdict


@pytest.mark.parametrize("kind", SERVERS)
def test_each_type_is_read(enter: Enter, kind: type[Authoritative]) -> None:
    """Each type's values are those that dnspython gets from the same server."""
    server = enter(kind())
    records = {
        "A": ["192.0.2.1", "192.0.2.2"],
        "AAAA": ["2001:db8::1", "::ffff:0:1"],
        "TXT": ['"one two"', '"three"'],
        "SRV": ["0 10 5432 db-0.example.", "1 0 5432 db-1.example."],
        "NS": ["ns1.example.", "ns2.example."],
    }
    for rtype, values in records.items():
        server.add(f"{rtype.lower()}.example", rtype, *values)
    server.add("alias.example", "CNAME", "a.example.")
    resolver = looks(server)
    for rtype, values in records.items():
        if rtype == "NS":
            continue
        plain = sorted(value.strip('"').removesuffix(".") for value in values)
        assert sorted(find(resolver, f"{rtype.lower()}.example.", rtype).values) == plain
        assert len(server.values(f"{rtype.lower()}.example", rtype)) == len(plain)
    assert find(resolver, "example.", "NS").values == ("ns.invalid",)
    assert find(resolver, "alias.example.", "CNAME").values == ("a.example",)
    found = find(resolver, "alias.example.")
    assert (sorted(found.values), found.via) == (records["A"], "a.example")


@pytest.mark.parametrize("kind", SERVERS)
def test_denials_are_told_apart(enter: Enter, kind: type[Authoritative]) -> None:
    """No such name, and a name without addresses, each with the SOA that says how long."""
    server = enter(kind(negative_ttl=17))
    server.add("bare.example", "TXT", '"here"')
    resolver = looks(server)
    assert verdict(resolver, "none.example.").cause == "name-not-found"
    assert verdict(resolver, "bare.example.").cause == "no-addresses"
    answer = resolver._servers.ask(
        "none.example", message.A, (server.address,), net.monotonic() + 20
    )
    assert answer.denial_ttl() == 17


@pytest.mark.parametrize("kind", SERVERS)
def test_an_answer_too_long_for_a_datagram(enter: Enter, kind: type[Authoritative]) -> None:
    """Ninety-nine addresses come by TCP, and all of them count (fault 29)."""
    server = enter(kind())
    server.add("many.example", "A", *MANY)
    found = find(looks(server), "many.example.")
    assert sorted(found.values) == sorted(MANY)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_wildcard_of_a_real_zone(enter: Enter, kind: type[Authoritative]) -> None:
    """A wildcard in a search domain is found out at a real server; a name of its own beside it counts."""
    server = enter(kind())
    server.add("*.corp.example", "A", "203.0.113.1")
    server.add("real.shop.corp.example", "A", "192.0.2.1")
    resolver = looks(server, "corp.example")
    assert verdict(resolver, "db").cause == "wildcard"
    assert find(resolver, "real.shop").values == ("192.0.2.1",)


def test_a_zone_that_is_not_served(enter: Enter) -> None:
    """REFUSED from a server without recursion is a failure of the resolver (fault 25)."""
    server = enter(Bind())
    seen = verdict(looks(server), "www.other.test.")
    assert seen.cause == "resolver-failure"
    assert "answered REFUSED" in seen.seen


@pytest.mark.parametrize("kind", SERVERS)
def test_a_loop_at_a_real_server(enter: Enter, kind: type[Authoritative]) -> None:
    """A CNAME loop is no name that holds, whether the server gives up or gives it back (fault 30)."""
    server = enter(kind())
    server.add("a.example", "CNAME", "b.example.")
    server.add("b.example", "CNAME", "a.example.")
    cache = enter(Unbound(upstream=server.address))
    for asked in (server, cache):
        cause = verdict(looks(asked), "a.example.").cause
        assert cause in ("no-addresses", "resolver-failure")


def test_a_hosts_file_of_dnsmasq(enter: Enter) -> None:
    """What dnsmasq has from its hosts file is found, and denied without an SOA before."""
    server = enter(Dnsmasq("example"))
    resolver = looks(server)
    seen = verdict(resolver, NAME)
    assert (seen.cause, seen.again) == ("name-not-found", None)
    server.add("db.example", "A", "192.0.2.1")
    assert find(resolver, NAME).values == ("192.0.2.1",)


TTL = 6


def unbound(enter: Enter) -> tuple[Authoritative, NameServer]:
    authority = enter(Bind(negative_ttl=TTL))
    return authority, enter(Unbound(upstream=authority.address))


def coredns(enter: Enter) -> tuple[Authoritative, NameServer]:
    server = enter(CoreDNS(negative_ttl=TTL, cache=30))
    return server, server


def dnsmasq(enter: Enter) -> tuple[Authoritative, NameServer]:
    authority = enter(Bind(negative_ttl=TTL))
    return authority, enter(Dnsmasq("other", upstream=authority.address))


class Waited:
    """A wait for a name as the gate makes it, on the real clock."""

    def __init__(
        self, resolver: Resolver, count: Callable[[], int], appear: Callable[[], None]
    ) -> None:
        begun = time.monotonic()
        self.learnt = 0
        self.slept = 0.0
        self.asleep = 0
        attempts = 0
        while True:
            attempts += 1
            try:
                find(resolver, NAME, "A", within=2.0)
            except NotReady as error:
                again = error.verdict.again or 0.0
            else:
                break
            pause = schedule.next_wait(time.monotonic() - begun, attempts, 0.025, 0.5)
            if again > 2 and not self.slept:
                until = time.monotonic() + again
                appear()
                # A server writes its log when it likes.
                time.sleep(0.5)
                self.learnt = count()
                self.slept = again
                time.sleep(max(0.0, until - time.monotonic()))
                self.asleep = count() - self.learnt
            else:
                time.sleep(max(pause, again))
            assert time.monotonic() - begun < 40
        self.waited = time.monotonic() - begun
        self.asked = count()


@pytest.mark.parametrize("cached", [unbound, coredns, dnsmasq])
def test_a_real_negative_cache_is_slept_through(
    enter: Enter, cached: Callable[[Enter], tuple[Authoritative, NameServer]]
) -> None:
    """The caches of Unbound, CoreDNS and dnsmasq: three questions learn of the denial, none is sent while it lasts
    but for its last two seconds, and the name is found at its end (fault 36e)."""
    authority, cache = cached(enter)
    went = Waited(
        looks(cache),
        lambda: cache.count(NAME, "A"),
        lambda: authority.add("db.example", "A", "192.0.2.1"),
    )
    assert went.learnt == 3
    assert went.slept > TTL - 1.1 - 2.2
    assert went.asleep == 0
    # Ten questions a second for the two seconds at most that a TTL leaves open.
    assert went.asked <= 3 + 25
    # The denial began before the wait or with it; the rest is for a noisy machine.
    assert went.waited < TTL + 1.2 + 2


@pytest.mark.parametrize("kind", [CoreDNS, Knot])
def test_an_authoritative_server_is_no_cache(enter: Enter, kind: type[Authoritative]) -> None:
    """Where the TTL stands still the schedule alone holds: a name is found as soon as it is there
    (fault 36e)."""
    server = enter(kind(negative_ttl=30))
    resolver = looks(server)
    agains = []
    for _ in range(3):
        agains.append(verdict(resolver, NAME, "A").again)
        time.sleep(agains[-1] or 0.0)
    assert agains[-1] is None
    server.add("db.example", "A", "192.0.2.1")
    assert find(resolver, NAME, "A").values == ("192.0.2.1",)
