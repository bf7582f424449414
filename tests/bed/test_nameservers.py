"""Each real server is there, changes when told, and denies as its kind does."""

from __future__ import annotations

import time

import dns.exception
import dns.rcode
import pytest

from tests.bed.fixtures import Enter
from tests.bed.names import Reply, ScriptedDNS
from tests.bed.nameservers import Authoritative, Bind, CoreDNS, Dnsmasq, Knot, NameServer, Unbound
from tests.bed.process import need, run
from tests.bed.world import Etc, World, resolv_conf

Zoned = Authoritative | Dnsmasq


@pytest.mark.parametrize("kind", [Bind, Knot, CoreDNS])
def test_zone_changes_at_once_and_denies_with_its_soa(
    enter: Enter, kind: type[Authoritative]
) -> None:
    """A name is denied with the TTL asked for, answered once added, denied once removed."""
    server = enter(kind("ns.svc.cluster.local", negative_ttl=17))
    name = "db.ns.svc.cluster.local"
    missing = server.ask(name)
    assert missing.rcode() == dns.rcode.NXDOMAIN
    assert missing.authority[0].ttl == missing.authority[0][0].minimum == 17
    server.add(name, "A", "192.0.2.1", "192.0.2.2", ttl=5)
    assert server.values(name) == ["192.0.2.1", "192.0.2.2"]
    empty = server.ask(name, "AAAA")
    assert (empty.rcode(), empty.answer) == (dns.rcode.NOERROR, [])
    server.add(name, "A", "192.0.2.3")
    assert server.values(name) == ["192.0.2.3"]
    server.remove(name)
    assert server.ask(name).rcode() == dns.rcode.NXDOMAIN


def test_dnsmasq_denies_without_soa(enter: Enter) -> None:
    """dnsmasq's own denials carry no SOA, and a hosts file brings names up."""
    server = enter(Dnsmasq("example"))
    missing = server.ask("db.example")
    assert (missing.rcode(), missing.authority) == (dns.rcode.NXDOMAIN, [])
    server.add("db.example", "A", "192.0.2.1")
    server.add("db.example", "AAAA", "2001:db8::1")
    assert server.values("db.example") == ["192.0.2.1"]
    assert server.values("db.example", "AAAA") == ["2001:db8::1"]
    server.remove("db.example", "A")
    assert server.values("db.example") == []


@pytest.mark.parametrize("kind", [Bind, CoreDNS, Dnsmasq])
def test_logged_queries_are_counted(enter: Enter, kind: type[Bind | CoreDNS | Dnsmasq]) -> None:
    """A server's own log tells how often a name was asked for."""
    server: NameServer = enter(kind("example"))
    for rdtype in ("A", "A", "AAAA"):
        server.ask("a.example", rdtype)
    server.daemon.wait_until(lambda: server.count("a.example") == 3)
    assert server.count("a.example", "A") == 2
    assert server.count("b.example") == 0


def test_knot_counts_types(enter: Enter) -> None:
    """Knot tells how many queries of a type it got."""
    server = enter(Knot("example"))
    for rdtype in ("A", "A", "AAAA"):
        server.ask("a.example", rdtype)
    assert (server.count_type("A"), server.count_type("AAAA")) == (2, 1)


def test_unbound_caches_denials_and_counts_down(enter: Enter, names: ScriptedDNS) -> None:
    """Unbound asks once, answers from its cache with a falling TTL, then asks anew (fault 36e)."""
    server = enter(Unbound(names.address))
    names.script("late.example", Reply("NXDOMAIN", soa=3), Reply(records=[("A", "192.0.2.1")]))
    begun = time.monotonic()
    ttls = []
    while (answer := server.ask("late.example")).rcode() == dns.rcode.NXDOMAIN:
        ttls.append(answer.authority[0].ttl)
        assert time.monotonic() - begun < 30
        time.sleep(0.05)
    assert time.monotonic() - begun >= 2
    assert len(set(ttls)) >= 2
    assert ttls == sorted(ttls, reverse=True)
    assert names.count("late.example") == 2
    assert server.count("late.example") == len(ttls) + 1


def test_dnsmasq_forwards_and_caches(enter: Enter, names: ScriptedDNS) -> None:
    """dnsmasq passes on what is not its own, once."""
    names.add("a.elsewhere", "A", "192.0.2.1", ttl=300)
    server = enter(Dnsmasq("example", upstream=names.address))
    for _ in range(3):
        assert server.values("a.elsewhere") == ["192.0.2.1"]
    assert names.count("a.elsewhere") == 1
    assert names.count("x.example") == 0


def test_coredns_caches_denials(enter: Enter) -> None:
    """With a cache, CoreDNS keeps a denial for its TTL though the name is there by now."""
    server = enter(CoreDNS("example", cache=30, negative_ttl=30))
    assert server.ask("a.example").rcode() == dns.rcode.NXDOMAIN
    server.add("a.example", "A", "192.0.2.1")
    assert server.ask("a.example").rcode() == dns.rcode.NXDOMAIN


def test_any_server_can_hang(enter: Enter) -> None:
    """A stopped server says nothing, and answers when it is continued (fault 28)."""
    server = enter(Bind("example"))
    server.daemon.pause()
    with pytest.raises(dns.exception.Timeout):
        server.ask("a.example", timeout=0.2)
    server.daemon.resume()
    assert server.ask("a.example").rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("kind", [Bind, Knot, CoreDNS, Dnsmasq])
def test_server_in_a_world_serves_its_programs(
    enter: Enter, world: World, kind: type[Bind | Knot | CoreDNS | Dnsmasq]
) -> None:
    """On port 53 of a world each server is the resolver of the programs there."""
    server: Zoned = kind("example", host="10.53.0.2", port=53, place=world)
    enter(server)
    server.add("db.example", "A", "192.0.2.8")
    etc = enter(Etc(resolv_conf("10.53.0.2", search=["example"])))
    command = [need("getent", "libc-bin")]
    assert "192.0.2.8" in run("ahostsv4", "db", command=command, inside=[world, etc]).stdout


def test_unbound_in_a_world(enter: Enter, world: World) -> None:
    """A forwarder and its upstream stand in the same world, also over IPv6."""
    upstream = enter(ScriptedDNS(host="fd00:53::2", port=5353, place=world))
    upstream.add("db.example", "A", "192.0.2.8")
    server = enter(Unbound(upstream.address, host="fd00:53::2", port=53, place=world))
    assert server.values("db.example") == ["192.0.2.8"]
