"""Names looked up at real servers as a pod would: candidates, causes, hosts, wildcards, families."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from service_precheck import net
from service_precheck.dns import message
from service_precheck.dns.exchange import Server
from service_precheck.dns.resolver import Found, Resolver
from service_precheck.errors import NotReady
from service_precheck.model import Verdict
from tests.bed.fixtures import Enter
from tests.bed.names import Reply, ScriptedDNS
from tests.bed.ports import free_port
from tests.bed.world import World
from tests.dns.simulated import Set

POD = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")
BOTH = (message.A, message.AAAA)


def pod(
    *servers: ScriptedDNS | Server, search: tuple[str, ...] = POD, hosts: Path | None = None
) -> Resolver:
    """A resolver with a pod's settings for these servers."""
    addresses = tuple(one.address if isinstance(one, ScriptedDNS) else one for one in servers)
    files = Set(*search, servers=addresses)
    if hosts is not None:
        files.hosts_path = str(hosts)
    return Resolver(files)


def find(looks: Resolver, name: str, within: float = 10.0, rtypes: tuple[int, ...] = BOTH) -> Found:
    return looks.find(name, rtypes, net.monotonic() + within)


def verdict(
    looks: Resolver, name: str, within: float = 10.0, rtypes: tuple[int, ...] = BOTH
) -> Verdict:
    with pytest.raises(NotReady) as raised:
        find(looks, name, within, rtypes)
    return raised.value.verdict


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("db", "db.shop.svc.cluster.local"),
        ("db.shop", "db.shop.svc.cluster.local"),
        ("db-0.db", "db-0.db.shop.svc.cluster.local"),
        ("db-0.db.shop", "db-0.db.shop.svc.cluster.local"),
        ("db.shop.svc", "db.shop.svc.cluster.local"),
        ("db.shop.svc.cluster.local", "db.shop.svc.cluster.local"),
        ("db.shop.svc.cluster.local.", "db.shop.svc.cluster.local"),
        ("DB.Shop", "db.shop.svc.cluster.local"),
        ("db.other.example.com", "db.other.example.com"),
        ("www.example.com", "www.example.com"),
    ],
)
def test_each_form_of_name_is_found_at_the_first_look(
    names: ScriptedDNS, name: str, full: str
) -> None:
    """However a service, a pod or an external name is written, the first poll finds it."""
    names.add(full, "A", "10.0.0.9")
    found = find(pod(names), name)
    assert (found.name, found.values, found.via) == (full, ("10.0.0.9",), full)


def test_no_such_name(names: ScriptedDNS) -> None:
    """What exists nowhere is `name-not-found`; the words name the likely candidate and the server (fault 26)."""
    seen = verdict(pod(names), "db-0.db.shop")
    assert seen.cause == "name-not-found"
    host, port = names.address
    assert seen.seen == f"no such name: db-0.db.shop.svc.cluster.local (asked {host}:{port})"


def test_a_name_without_addresses(names: ScriptedDNS) -> None:
    """A name that exists with other records only is `no-addresses` (faults 27, 36)."""
    names.add("db.shop.svc.cluster.local", "SRV", "0 0 80 x.example.")
    seen = verdict(pod(names), "db.shop")
    assert seen.cause == "no-addresses"
    assert seen.seen == "db.shop.svc.cluster.local exists, without addresses"
    wanted = verdict(pod(names), "db.shop", rtypes=(message.TXT,))
    assert wanted.seen == "db.shop.svc.cluster.local exists, without TXT records"


def test_servers_that_fail(names: ScriptedDNS) -> None:
    """SERVFAIL is `resolver-failure` and names the server (fault 25)."""
    names.script("*", Reply("SERVFAIL"))
    seen = verdict(pod(names), "db.shop")
    assert seen.cause == "resolver-failure"
    assert "answered SERVFAIL" in seen.seen
    assert str(names.port) in seen.seen


def test_a_dead_resolver(names: ScriptedDNS) -> None:
    """Silence is `resolver-timeout` within the attempt's time, names the server, and the other
    candidates are not waited for (fault 28)."""
    names.script("*", Reply(silent=True))
    begun = time.monotonic()
    seen = verdict(pod(names), "db.shop", within=0.5)
    assert time.monotonic() - begun < 5
    assert seen.cause == "resolver-timeout"
    assert f"127.0.0.1:{names.port} did not answer" in seen.seen
    assert "network policies" in seen.hint
    assert names.count() == 1


def test_the_four_causes_are_four(names: ScriptedDNS) -> None:
    """No name, no addresses, failure and silence are told apart (faults 25 to 28)."""
    names.add("bare.example", "TXT", '"here"')
    names.script("sick.example", Reply("SERVFAIL"))
    names.script("mute.example", Reply(silent=True))
    looks = pod(names)
    causes = [
        verdict(looks, f"{name}.example.", within=0.4).cause
        for name in ("none", "bare", "sick", "mute")
    ]
    assert causes == ["name-not-found", "no-addresses", "resolver-failure", "resolver-timeout"]


def test_a_failure_on_the_first_suffix_does_not_hide_the_second(names: ScriptedDNS) -> None:
    """SERVFAIL for one candidate: the next one is asked and counts (fault 36c)."""
    names.script("db.shop.shop.svc.cluster.local", Reply("SERVFAIL"))
    names.add("db.shop.svc.cluster.local", "A", "10.0.0.9")
    assert find(pod(names), "db.shop").values == ("10.0.0.9",)
    names.remove("db.shop.svc.cluster.local")
    assert verdict(pod(names), "db.shop").cause == "resolver-failure"


def test_one_of_two_servers_is_dead(names: ScriptedDNS, enter: Enter) -> None:
    """With the first server silent the name is there within a second, in an init container too (fault 36d)."""
    names.script("*", Reply(silent=True))
    good = enter(ScriptedDNS())
    good.add("db.shop.svc.cluster.local", "A", "10.0.0.9")
    looks = pod(names, good)
    begun = time.monotonic()
    assert find(looks, "db.shop").values == ("10.0.0.9",)
    # A quarter of a second a silent server; the rest is for a noisy machine.
    assert time.monotonic() - begun < 1.5


def test_a_cname_chain(names: ScriptedDNS) -> None:
    """An alias leads to its addresses, and the verdict can say by way of what."""
    names.add("db.shop.svc.cluster.local", "CNAME", "db.prod.example")
    names.add("db.prod.example", "A", "192.0.2.7")
    found = find(pod(names), "db.shop")
    assert (found.name, found.values, found.via) == (
        "db.shop.svc.cluster.local",
        ("192.0.2.7",),
        "db.prod.example",
    )


def test_a_cname_loop(names: ScriptedDNS) -> None:
    """A loop ends as a name without addresses (fault 30)."""
    names.add("a.example", "CNAME", "b.example")
    names.add("b.example", "CNAME", "a.example")
    assert verdict(pod(names), "a.example.").cause == "no-addresses"


def test_an_alias_for_nothing(names: ScriptedDNS) -> None:
    """An alias whose end does not exist is told with both names (fault 26)."""
    names.script(
        "a.example", Reply("NXDOMAIN", records=[("a.example", "CNAME", "b.example")], soa=30)
    )
    seen = verdict(pod(names), "a.example.")
    assert seen.cause == "name-not-found"
    assert "a.example (an alias for b.example)" in seen.seen


def test_hosts_come_first(names: ScriptedDNS, tmp_path: Path) -> None:
    """What /etc/hosts gives is not asked of DNS, and a family it lacks is (fault 33)."""
    hosts = tmp_path / "hosts"
    hosts.write_text("10.9.0.1 db db.shop\n")
    looks = pod(names, hosts=hosts)
    assert find(looks, "db.shop").source == str(hosts)
    assert find(looks, "DB").values == ("10.9.0.1",)
    assert names.count() == 0
    names.add("db.shop.svc.cluster.local", "AAAA", "fd00::9")
    assert find(looks, "db", rtypes=(message.AAAA,)).values == ("fd00::9",)
    hosts.write_text("10.9.0.2 db\n")
    assert find(looks, "db").values == ("10.9.0.2",)
    assert looks.addresses("db", net.monotonic() + 5) == ("10.9.0.2",)


def test_ipv6_only(names: ScriptedDNS) -> None:
    """A name with AAAA alone holds (fault 34)."""
    names.add("db.shop.svc.cluster.local", "AAAA", "fd00::9")
    looks = pod(names)
    assert find(looks, "db.shop").values == ("fd00::9",)
    assert looks.addresses("db.shop", net.monotonic() + 5) == ("fd00::9",)


def test_addresses_of_both_families_in_turn(names: ScriptedDNS, world: World) -> None:
    """To connect, IPv6 and IPv4 alternate (RFC 8305 section 4); a literal is its own answer."""
    names.add("db.example", "A", "192.0.2.1", "192.0.2.2", "192.0.2.3")
    names.add("db.example", "AAAA", "fd00::1")
    with ScriptedDNS(host="10.53.0.2", place=world) as inside:
        inside.add("db.example", "A", "192.0.2.1", "192.0.2.2", "192.0.2.3")
        inside.add("db.example", "AAAA", "fd00::1")
        both = world.inside(
            lambda: pod(inside).addresses("db.example.", net.monotonic() + 5, hold=3)
        )
        assert both[0] == "fd00::1"
        assert sorted(both[1:]) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert pod().addresses("fe80::1%eth0", 0.0) == ("fe80::1%eth0",)
    assert pod().addresses("192.0.2.1", 0.0) == ("192.0.2.1",)


def test_without_ipv6_here_nobody_asks_for_it(names: ScriptedDNS) -> None:
    """Where this machine has no IPv6 address but `::1`, the second question is left out."""
    with World("10.53.0.2") as world, ScriptedDNS(host="10.53.0.2", place=world) as inside:
        inside.add("db.example", "A", "192.0.2.1")
        found = world.inside(lambda: pod(inside).addresses("db.example.", net.monotonic() + 5))
        assert found == ("192.0.2.1",)
        assert inside.count(rdtype="AAAA") == 0


def test_aaaa_dropped(world: World) -> None:
    """A question for AAAA that vanishes does not hold up the good A, nor discredit its server (fault 31)."""
    with (
        ScriptedDNS(host="10.53.0.2", place=world) as inside,
        ScriptedDNS(host="10.53.0.2", place=world) as other,
    ):
        inside.add("db.example", "A", "192.0.2.1")
        inside.script("db.example", Reply(silent=True), rdtype="AAAA")
        looks = pod(inside, other)
        begun = time.monotonic()
        for _ in range(3):
            found = world.inside(lambda: looks.addresses("db.example.", net.monotonic() + 5))
            assert found == ("192.0.2.1",)
        assert time.monotonic() - begun < 3
        assert inside.count(rdtype="AAAA") == 3
        assert other.count() == 0


def test_addresses_are_never_remembered(names: ScriptedDNS) -> None:
    """An address that changes between two looks is seen at the second, whatever its TTL (fault 35)."""
    looks = pod(names)
    names.add("db.example", "A", "192.0.2.1", ttl=3600)
    assert find(looks, "db.example.").values == ("192.0.2.1",)
    names.add("db.example", "A", "192.0.2.2", ttl=3600)
    assert find(looks, "db.example.").values == ("192.0.2.2",)


def test_a_wildcard_in_the_search_list_does_not_count(names: ScriptedDNS) -> None:
    """A search domain that answers for anything is told as `wildcard`, unless it is asked for; a name
    that stands there by itself counts, and so does the name as written."""
    names.add("*.corp.example", "A", "203.0.113.1")
    looks = pod(names, search=(*POD, "corp.example"))
    seen = verdict(looks, "db.shop")
    assert seen.cause == "wildcard"
    assert "any name under shop.corp.example" in seen.seen
    assert "corp.example" in seen.hint
    assert looks.find("db.shop", BOTH, net.monotonic() + 5, wildcard=True).values == (
        "203.0.113.1",
    )
    assert find(looks, "x.corp.example.").values == ("203.0.113.1",)
    names.add("db.shop.svc.cluster.local", "A", "10.0.0.9")
    assert find(looks, "db.shop").values == ("10.0.0.9",)


def test_a_real_name_beside_a_wildcard_counts(names: ScriptedDNS) -> None:
    """Below a name that really exists the wildcard does not reach (RFC 4592)."""
    names.add("*.corp.example", "A", "203.0.113.1")
    names.script("*.shop.corp.example", Reply("NXDOMAIN", soa=30))
    names.script("db.shop.corp.example", Reply(records=[("A", "192.0.2.1")]))
    looks = pod(names, search=("corp.example",))
    assert find(looks, "db.shop").values == ("192.0.2.1",)


def test_a_wildcard_alias_whose_addresses_take_turns(names: ScriptedDNS) -> None:
    """A wildcard that is an alias is known by its end, though each look gives another address."""
    turns = [Reply(records=[("lb.example", "A", f"203.0.113.{i}")]) for i in (1, 2)]
    for name, reply in zip(("db.corp.example", "*.corp.example"), turns, strict=True):
        alias = (name, "CNAME", "lb.example") if name[0] != "*" else ("CNAME", "lb.example")
        names.script(name, Reply(records=[alias, *reply.records]))
    assert verdict(pod(names, search=("corp.example",)), "db").cause == "wildcard"


def test_a_name_too_long_for_a_sibling(names: ScriptedDNS) -> None:
    """Where no longer name can be asked for, nothing speaks against the name."""
    domain = ".".join(["x" * 59] * 4)
    names.add(f"db.{domain}", "A", "192.0.2.1")
    assert find(pod(names, search=(domain,)), "db").values == ("192.0.2.1",)


def test_a_wildcard_is_told_between_sweeps(names: ScriptedDNS) -> None:
    """What the last sweep said of a wildcard stays the cause until the next, instead of flickering."""
    names.add("*.corp.example", "A", "203.0.113.1")
    looks = pod(names, search=(*POD, "corp.example"))
    assert [verdict(looks, "db.shop").cause for _ in range(3)] == ["wildcard"] * 3


@pytest.mark.parametrize("reply", [Reply("SERVFAIL"), Reply(silent=True)])
def test_no_proof_of_a_wildcard(names: ScriptedDNS, reply: Reply) -> None:
    """Where the question for a sibling is not answered, nothing speaks against the name."""
    names.script("*.corp.example", reply)
    names.script("db.corp.example", Reply(records=[("A", "192.0.2.1")]))
    assert find(pod(names, search=("corp.example",)), "db", within=0.6).values == ("192.0.2.1",)


def test_a_wildcard_does_not_hide_the_clusters_own(names: ScriptedDNS) -> None:
    """In the cluster's own zone no sibling is asked for: one question finds the service."""
    names.add("db.shop.svc.cluster.local", "A", "10.0.0.9")
    find(pod(names), "db")
    assert names.count() == 1


def test_a_server_of_its_own(names: ScriptedDNS, enter: Enter) -> None:
    """With `server` the name as written is asked there, without hosts file and search list."""
    other = enter(ScriptedDNS())
    other.add("db.shop", "A", "192.0.2.1")
    found = pod(names).find("db.shop", BOTH, net.monotonic() + 5, server=other.address)
    assert found.values == ("192.0.2.1",)
    assert names.count() == 0
    assert other.count() == 1


def test_absolute(names: ScriptedDNS) -> None:
    """With `absolute` nothing is appended."""
    names.add("db.shop.svc.cluster.local", "A", "10.0.0.9")
    with pytest.raises(NotReady):
        pod(names).find("db.shop", BOTH, net.monotonic() + 5, absolute=True)
    assert [query.name for query in names.queries] == ["db.shop."]


def test_a_missing_file_is_told_with_the_obstacle(tmp_path: Path, world: World) -> None:
    """Without resolv.conf the verdict says that loopback was asked in its place (fault 32)."""
    path = tmp_path / "resolv.conf"
    from service_precheck.dns.config import Files

    looks = Resolver(Files(str(path), str(tmp_path / "hosts")))
    seen = world.inside(lambda: verdict(looks, "db.shop"))
    assert seen.cause == "resolver-failure"
    assert f"{path} cannot be read, so 127.0.0.1 was asked" in seen.seen


def test_nothing_listens(names: ScriptedDNS) -> None:
    """A resolver address without a server is told with its address (fault 28)."""
    port = free_port()
    seen = verdict(pod(("127.0.0.1", port)), "db.shop")
    assert seen.cause == "resolver-failure"
    assert f"127.0.0.1:{port} has nothing that listens for DNS" in seen.seen


def test_real_time_pace_of_a_short_wait(names: ScriptedDNS) -> None:
    """On a real clock: three questions learn that a denial stands still, 25 ms apart at least."""
    looks = pod(names, search=())
    until = time.monotonic() + 1.6
    while time.monotonic() < until:
        again = verdict(looks, "db.example.", within=2.0).again
        time.sleep(max(0.025, again or 0.0))
    times = [query.at for query in names.queries]
    assert times[1] - times[0] >= 0.29
    assert times[2] - times[1] >= 0.74
    assert all(b - a >= 0.024 for a, b in itertools.pairwise(times))
    assert len(times) >= 4
