"""The scripted DNS server says exactly what it was told, seen through dnspython's own client."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.bed.names import RECORDS, Reply, ScriptedDNS


def ask(
    server: ScriptedDNS,
    name: str,
    rdtype: str = "A",
    *,
    timeout: float = 30.0,
    tcp: bool = False,
    edns: int = 1232,
    patient: bool = False,
) -> dns.message.Message:
    """Return what the server answers to one question."""
    query = dns.message.make_query(name, rdtype, use_edns=0 if edns else -1, payload=edns)
    host, port = server.address
    if tcp:
        return dns.query.tcp(query, host, timeout, port)
    return dns.query.udp(
        query, host, timeout, port, ignore_unexpected=patient, ignore_errors=patient
    )


def values(response: dns.message.Message) -> list[str]:
    """Return the data of all answers."""
    return [rdata.to_text() for rrset in response.answer for rdata in rrset]


def test_records_are_answered_over_both_transports_and_counted(names: ScriptedDNS) -> None:
    """A record is answered over UDP and TCP, and each query is on record with its transport."""
    names.add("db.example", "A", "192.0.2.1", "192.0.2.2", ttl=7)
    response = ask(names, "DB.example")
    assert values(response) == ["192.0.2.1", "192.0.2.2"]
    assert response.answer[0].ttl == 7
    assert values(ask(names, "db.example", tcp=True)) == ["192.0.2.1", "192.0.2.2"]
    assert [query.transport for query in names.queries] == ["udp", "tcp"]
    assert names.count("db.example", "A") == 2
    assert names.count("db.example", "AAAA") == 0
    names.remove("db.example")
    assert ask(names, "db.example").rcode() == dns.rcode.NXDOMAIN


def test_two_denials_are_told_apart(names: ScriptedDNS) -> None:
    """A name that is not there and a name without such data differ (fault 26, fault 27)."""
    names.add("a.b.example", "A", "192.0.2.1")
    missing = ask(names, "c.example")
    assert missing.rcode() == dns.rcode.NXDOMAIN
    assert missing.authority[0].ttl == 30
    for name, rdtype in (("a.b.example", "AAAA"), ("b.example", "A")):
        empty = ask(names, name, rdtype)
        assert empty.rcode() == dns.rcode.NOERROR
        assert not empty.answer
        assert empty.authority[0][0].minimum == 30


def test_aliases_are_followed_and_loops_bounded(names: ScriptedDNS) -> None:
    """A chain comes whole, a dangling one is denied, a loop does not hang the server (fault 30)."""
    names.add("www.example", "CNAME", "web.example")
    assert ask(names, "www.example").rcode() == dns.rcode.NXDOMAIN
    names.add("web.example", "A", "192.0.2.9")
    assert values(ask(names, "www.example")) == ["web.example.", "192.0.2.9"]
    assert values(ask(names, "www.example", "CNAME")) == ["web.example."]
    names.add("one.example", "CNAME", "two.example")
    names.add("two.example", "CNAME", "one.example")
    assert values(ask(names, "one.example")) == ["two.example.", "one.example."]


def test_wildcards_answer_what_is_not_there(names: ScriptedDNS) -> None:
    """A wildcard record answers any name below it but those that exist."""
    names.add("*.corp.example", "A", "192.0.2.1")
    names.add("db.corp.example", "A", "192.0.2.2")
    assert values(ask(names, "x.y.corp.example")) == ["192.0.2.1"]
    assert values(ask(names, "db.corp.example")) == ["192.0.2.2"]
    assert ask(names, "x.corp.example", "AAAA").rcode() == dns.rcode.NOERROR


def test_scripts_are_taken_in_turn_and_by_rank(names: ScriptedDNS) -> None:
    """Replies follow one another; a name beats a suffix, a type beats any (fault 25, fault 36c)."""
    names.add("a.example", "A", "192.0.2.1")
    names.script("*.example", Reply("REFUSED"))
    names.script("a.example", Reply("SERVFAIL"), RECORDS)
    names.script("a.example", Reply("NOTIMP"), rdtype="TXT")
    assert ask(names, "b.c.example").rcode() == dns.rcode.REFUSED
    assert ask(names, "a.example").rcode() == dns.rcode.SERVFAIL
    assert values(ask(names, "a.example")) == ["192.0.2.1"]
    assert values(ask(names, "a.example")) == ["192.0.2.1"]
    assert ask(names, "a.example", "TXT").rcode() == dns.rcode.NOTIMP
    names.unscript("a.example", "TXT")
    assert ask(names, "a.example", "TXT").rcode() == dns.rcode.NOERROR


def test_silence_and_delay(names: ScriptedDNS) -> None:
    """A silent reply is none; a late one holds up nobody else (fault 28, fault 31)."""
    names.script("silent.example", Reply(silent=True))
    names.script("late.example", Reply("SERVFAIL", delay=0.2))
    with pytest.raises(dns.exception.Timeout):
        ask(names, "silent.example", timeout=0.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        begun = time.monotonic()
        for name in ("late.example", "other.example"):
            client.sendto(dns.message.make_query(name, "A").to_wire(), names.address)
        first, second = (dns.message.from_wire(client.recv(4096)) for _ in range(2))
        assert time.monotonic() - begun >= 0.2
    assert (first.rcode(), second.rcode()) == (dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL)


def test_truncation_when_asked_and_when_too_long(names: ScriptedDNS) -> None:
    """A truncated answer is whole over TCP, and a long one truncates by itself (fault 29)."""
    names.script("cut.example", Reply(records=[("A", "192.0.2.1")], truncated=True))
    names.add("long.example", "A", *(f"192.0.2.{number}" for number in range(60)))
    for name, count in (("cut.example", 1), ("long.example", 60)):
        cut = ask(names, name, edns=0)
        assert cut.flags & dns.flags.TC
        assert not cut.answer
        assert len(values(ask(names, name, tcp=True))) == count
    assert len(values(ask(names, "long.example"))) == 60


@pytest.mark.parametrize(
    "forgery",
    [
        Reply(id_off=1),
        Reply(question="evil.example"),
        Reply(source="port"),
        Reply(source="address"),
        Reply(raw=b"garbage"),
        Reply(edit=lambda wire, query: wire[:5]),
    ],
)
def test_forgeries_come_before_the_truth(names: ScriptedDNS, forgery: Reply) -> None:
    """A strict client refuses each forgery, a patient one gets the truth after it (fault 36b)."""
    forged = replace(forgery, records=[("A", "6.6.6.6")])
    names.script("x.example", replace(forged, then=Reply(records=[("A", "192.0.2.1")])))
    assert values(ask(names, "x.example", patient=True)) == ["192.0.2.1"]
    with pytest.raises(dns.exception.DNSException):
        ask(names, "x.example")


def test_edns_is_echoed_unless_told_otherwise(names: ScriptedDNS) -> None:
    """A response has an OPT record exactly when the query had one, or never."""
    assert ask(names, "a.example").edns == 0
    assert ask(names, "a.example", edns=0).edns == -1
    names.script("a.example", Reply("FORMERR", edns=False))
    response = ask(names, "a.example")
    assert (response.rcode(), response.edns) == (dns.rcode.FORMERR, -1)


def test_tcp_can_hang_up(names: ScriptedDNS) -> None:
    """A scripted end of the connection comes instead of an answer."""
    names.script("a.example", Reply(hang_up=True))
    with pytest.raises(EOFError):
        ask(names, "a.example", tcp=True)


def test_one_cache_counts_down_and_hides_what_comes(names: ScriptedDNS) -> None:
    """A cached denial loses seconds, hides a new record, and ends with its TTL (fault 36e)."""
    names.caches = 1
    names.negative_ttl = 1
    begun = time.monotonic()
    assert ask(names, "a.example").authority[0].ttl == 1
    names.add("a.example", "A", "192.0.2.1")
    hidden = ask(names, "a.example")
    assert hidden.rcode() == dns.rcode.NXDOMAIN
    assert hidden.authority[0].ttl == 0
    while ask(names, "a.example").rcode() == dns.rcode.NXDOMAIN:
        assert time.monotonic() - begun < 30
    assert time.monotonic() - begun >= 1


def test_several_caches_jump(names: ScriptedDNS) -> None:
    """Caches asked in turn learn of a denial one after another, each with a TTL of its own."""
    names.caches = 2
    names.negative_ttl = 100
    ttls = [ask(names, "a.example").authority[0].ttl for _ in range(4)]
    assert ttls[:2] == [100, 100]
    assert all(ttl < 100 for ttl in ttls[2:])


def test_what_is_no_query_is_kept_apart(names: ScriptedDNS) -> None:
    """Garbage from a client is neither counted nor fatal."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"nonsense", names.address)
    ask(names, "a.example")
    assert names.malformed == [b"nonsense"]
    assert names.count() == 1


def test_server_answers_on_ipv6() -> None:
    """The same server stands on ::1."""
    with ScriptedDNS(host="::1") as server:
        assert ask(server, "a.example").rcode() == dns.rcode.NXDOMAIN
