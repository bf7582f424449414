"""Names as targets: what each option asks for, and the words of each verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from service_precheck import net, target
from service_precheck.dns import Names
from service_precheck.dns.resolver import Resolver
from service_precheck.errors import NotReady, OperatorError
from service_precheck.model import Verdict
from service_precheck.options import Target
from service_precheck.stream import Attempt
from tests.bed.fixtures import Enter
from tests.bed.names import Reply, ScriptedDNS
from tests.dns.simulated import Set

SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example")
DB = "db.shop.svc.cluster.local"


def probe(text: str, dns: ScriptedDNS, timeout: float = 5.0, hosts: Path | None = None) -> Verdict:
    """One attempt as a pod with this server would make it."""
    files = Set(*SEARCH, servers=(dns.address,))
    if hosts is not None:
        files.hosts_path = str(hosts)
    leaf = target.parse(text)
    assert isinstance(leaf, Target)
    try:
        attempt = Attempt(net.monotonic() + timeout, Names(Resolver(files)))
        return leaf.scheme.probe(leaf, attempt)
    except NotReady as error:
        return error.verdict


def test_a_bare_name(names: ScriptedDNS) -> None:
    """A name that resolves is ready, and says to what."""
    names.add(DB, "A", "10.22.0.9")
    assert probe("db.shop", names) == Verdict(None, "resolves to 10.22.0.9")
    assert probe("dns://db.shop", names).ready


def test_a_bare_name_with_ipv6_alone(names: ScriptedDNS) -> None:
    """AAAA alone is enough (fault 34)."""
    names.add(DB, "AAAA", "fd00::9")
    assert probe("db.shop", names).seen == "resolves to fd00::9"
    assert probe("dns://db.shop#type=A", names).cause == "no-addresses"


def test_a_headless_service_without_ready_pods(names: ScriptedDNS) -> None:
    """No such name, or a name without addresses, according to the server: waits on (fault 36)."""
    assert probe("zk-headless.shop", names).cause == "name-not-found"
    names.add("_client._tcp.zk-headless.shop.svc.cluster.local", "SRV", "0 1 2181 zk-0.example.")
    assert probe("zk-headless.shop", names).cause == "no-addresses"


def test_min(names: ScriptedDNS) -> None:
    """`min` counts distinct addresses, and says how many there are."""
    names.add(DB, "A", "10.0.0.1", "10.0.0.2")
    names.script(
        "twice.shop.svc.cluster.local",
        Reply(records=[("A", "10.0.0.1"), ("A", "10.0.0.2")]),
    )
    assert probe("dns://db.shop#min=2", names).seen == "resolves to 10.0.0.1, 10.0.0.2"
    verdict = probe("dns://db.shop#min=3", names)
    assert (verdict.cause, verdict.seen) == (
        "too-few",
        f"{DB} has 2 of 3 addresses: 10.0.0.1, 10.0.0.2",
    )
    names.add(DB, "A", *[f"10.0.0.{i}" for i in range(1, 8)])
    assert probe("dns://db.shop#min=7", names).seen == (
        "resolves to 10.0.0.1, 10.0.0.2, 10.0.0.3 and 4 more"
    )
    assert probe("dns://db.shop#type=A#min=8", names).cause == "too-few"


@pytest.mark.parametrize(
    ("rtype", "value", "shown"),
    [
        ("A", "192.0.2.1", "resolves to 192.0.2.1"),
        ("AAAA", "2001:db8::1", "resolves to 2001:db8::1"),
        ("CNAME", "other.example.", "has CNAME other.example"),
        ("NS", "ns1.example.", "has NS ns1.example"),
        ("SRV", "0 10 5432 db-0.example.", "has SRV 0 10 5432 db-0.example"),
        ("TXT", '"Some Text"', "has TXT Some Text"),
    ],
)
def test_types(names: ScriptedDNS, rtype: str, value: str, shown: str) -> None:
    """Each type is asked for by its name, alone."""
    assert probe(f"dns://db.shop#type={rtype}", names).cause == "name-not-found"
    names.add(DB, rtype, value)
    names.queries.clear()
    assert probe(f"dns://db.shop#type={rtype}", names).seen == shown
    assert {query.rdtype for query in names.queries} == {rtype}


def test_expect(names: ScriptedDNS) -> None:
    """Every expected value must be among the answers, whatever its case and final dot."""
    names.add(DB, "A", "10.0.0.1", "10.0.0.2")
    names.add(DB, "AAAA", "fd00::9")
    assert probe("dns://db.shop#expect=10.0.0.1", names).ready
    assert probe("dns://db.shop#expect=10.0.0.1#expect=10.0.0.2", names).ready
    verdict = probe("dns://db.shop#expect=10.0.0.1#expect=10.0.0.3", names)
    assert (verdict.cause, verdict.seen) == (
        "missing-object",
        f"{DB} has 10.0.0.1, 10.0.0.2, but not 10.0.0.3",
    )
    names.add("alias.shop.svc.cluster.local", "CNAME", "Other.Example.")
    assert probe("dns://alias.shop#type=CNAME#expect=OTHER.example.", names).ready
    names.add("text.example", "TXT", '"v=Spf1"')
    assert probe("dns://text.example#type=TXT#expect=v=Spf1", names).ready
    assert probe("dns://text.example#type=TXT#expect=v=spf1", names).cause == "missing-object"


def test_expect_of_the_other_family(names: ScriptedDNS) -> None:
    """An expected IPv6 address is looked for where A was found first."""
    names.add(DB, "A", "10.0.0.1")
    names.add(DB, "AAAA", "fd00::9")
    assert probe("dns://db.shop#expect=FD00::9", names).ready
    assert probe("dns://db.shop#expect=fd00::9#expect=10.0.0.1", names).ready
    verdict = probe("dns://db.shop#expect=fd00::8", names)
    assert verdict.cause == "missing-object"
    assert "fd00::9, but not fd00::8" in verdict.seen


def test_server(names: ScriptedDNS, enter: Enter) -> None:
    """`server` is asked for the name as written; an address, or one with a port."""
    other = enter(ScriptedDNS())
    other.add("db.shop", "A", "10.0.0.1")
    host, port = other.address
    assert probe(f"dns://db.shop#server={host}:{port}", names).ready
    assert names.count() == 0
    six = enter(ScriptedDNS(host="::1"))
    six.add("db.shop", "A", "10.0.0.1")
    assert probe(f"dns://db.shop#server=[::1]:{six.port}", names).ready


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("10.0.0.1", "10.0.0.1:53"),
        ("10.0.0.1:5353", "10.0.0.1:5353"),
        ("fd00::1", "[fd00::1]:53"),
        ("[fd00::1]", "[fd00::1]:53"),
        ("[fd00::1]:54", "[fd00::1]:54"),
    ],
)
def test_spellings_of_a_server(text: str, spelled: str) -> None:
    """A server is an address with or without a port."""
    assert target.parse(f"dns://a#server={text}").spelled() == f"dns://a#server={spelled}"


@pytest.mark.parametrize(
    "text",
    [
        "dns.example",
        "10.0.0.1:0",
        "10.0.0.1:000000053000",
        "10.0.0.1:x",
        "[fd00::1",
        "[fd00::1]x",
        ":53",
    ],
)
def test_what_is_no_server(text: str) -> None:
    """A name and a port out of range are told as mistakes."""
    with pytest.raises(OperatorError, match="no server"):
        target.parse(f"dns://a#server={text}")


def test_absolute(names: ScriptedDNS) -> None:
    """`absolute` leaves the search list out, as a final dot does."""
    names.add(DB, "A", "10.0.0.1")
    assert probe("dns://db.shop#absolute", names).cause == "name-not-found"
    assert probe("db.shop.", names).cause == "name-not-found"
    assert probe(f"dns://{DB}#absolute", names).ready


def test_wildcard(names: ScriptedDNS) -> None:
    """A wildcard search domain does not count, unless `wildcard=ok` says so."""
    names.add("*.corp.example", "A", "203.0.113.1")
    verdict = probe("db.shop", names)
    assert verdict.cause == "wildcard"
    assert "#wildcard=ok" in verdict.hint
    assert probe("dns://db.shop#wildcard=ok", names).seen == "resolves to 203.0.113.1"
    assert probe("x.corp.example.", names).ready


def test_hosts(names: ScriptedDNS, tmp_path: Path) -> None:
    """What /etc/hosts gives says so (fault 33)."""
    hosts = tmp_path / "hosts"
    hosts.write_text("10.9.0.1 db.shop\n")
    assert probe("db.shop", names, hosts=hosts).seen == f"10.9.0.1 by {hosts}"


def test_by_way_of_an_alias(names: ScriptedDNS) -> None:
    """A verdict tells the end of a CNAME chain."""
    names.add(DB, "CNAME", "db.prod.example")
    names.add("db.prod.example", "A", "192.0.2.7")
    assert probe("db.shop", names).seen == "resolves to 192.0.2.7 by way of db.prod.example"


def test_a_dead_resolver_costs_one_attempt(names: ScriptedDNS) -> None:
    """Silence ends at the attempt's time and names the server (fault 28)."""
    names.script("*", Reply(silent=True))
    verdict = probe("db.shop", names, timeout=0.4)
    assert verdict.cause == "resolver-timeout"
    assert str(names.port) in verdict.seen


def test_text_of_a_server_is_shown_escaped(names: ScriptedDNS) -> None:
    """Control characters in a record are escaped where they are shown (fault 67)."""
    names.add("text.example", "TXT", '"\\027[31m\\000\\226\\128\\174"')
    seen = probe("dns://text.example#type=TXT", names).seen
    assert seen.isprintable()
    assert "\\x1b[31m\\x00\\u202e" in seen
