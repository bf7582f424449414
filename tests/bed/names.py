"""`ScriptedDNS`: a real DNS server over UDP and TCP whose every answer a test decides.

It listens on 127.0.0.1, one port for both transports, and answers from two tables. A script wins
over a record; of scripts the exact name wins over `*.suffix` (the longest first) and over `*`, a
script for one type over one for any. What is in neither is denied as a server of everything would:
NXDOMAIN, or no data where the name has other types or names below it, with a SOA.

    with ScriptedDNS() as dns:
        dns.add("db.ns.svc.cluster.local", "A", "10.0.0.1", "10.0.0.2", ttl=5)
        dns.add("www.example", "CNAME", "web.example")        # followed, loops bounded
        dns.script("x.example", Reply("SERVFAIL"))            # every type
        dns.script("x.example", Reply(silent=True), rdtype="AAAA")
        dns.script("*.local", Reply("SERVFAIL"), RECORDS)     # first so, from then on by records
        dns.address                                           # ("127.0.0.1", 40001)
        dns.count("x.example", "A")                           # exact, 0 when never asked

| `Reply(...)`                 | what goes out                                                    |
|------------------------------|------------------------------------------------------------------|
| `Reply("REFUSED")`           | that rcode, empty                                                |
| `Reply(records=[...])`       | `("A", "192.0.2.1")` or `("other.example", "CNAME", "x.example")`|
| `Reply("NXDOMAIN", soa=30)`  | a SOA with that TTL and minimum; `soa=(20, 30)` TTL 20, min. 30  |
| `silent=True`                | nothing                                                          |
| `delay=0.3`                  | the same, later (other questions are not held up)                |
| `truncated=True`             | over UDP: TC and nothing else; over TCP the whole                |
| `id_off=1`                   | another id                                                       |
| `question="evil.example"`    | another question                                                 |
| `source="port"`, `"address"` | over UDP: from another port; from 127.0.0.2                      |
| `raw=b"..."`                 | these bytes (over TCP with their length before them)             |
| `edit=function`              | the finished bytes, changed by `function(wire, query)`           |
| `edns=False`                 | no OPT record though the query had one                           |
| `hang_up=True`               | over TCP: the connection closed instead                          |
| `then=Reply(...)`            | a further packet for the same query (a forgery, then the truth)  |
| `RECORDS`                    | what the records say                                             |

Successive queries for one script take its replies in turn; the last one stays.

A cache in front: `dns.caches = 1` remembers each denial for its SOA's minimum, counts its TTL down
in whole seconds and is blind to what `add` brings before it expires. `dns.caches = 3` are three
such caches asked in turn, behind one address. `dns.negative_ttl` is the minimum in its denials.

`dns.queries` lists every query seen (`Query`), scripted or not, in order; `dns.malformed` what was
none.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.bed.ports import free_port
from tests.bed.sockets import Connection, Place, Server, make_socket

if TYPE_CHECKING:
    from types import TracebackType

Record = tuple[str, str] | tuple[str, str, str]
LONGEST_CHAIN = 16


@dataclass(frozen=True)
class Query:
    """One query as it came: when, what, how and from where."""

    at: float
    name: str
    rdtype: str
    transport: str
    client: tuple[str, int]
    id: int
    wire: bytes
    message: dns.message.Message


@dataclass(frozen=True)
class Reply:
    """One packet to send back; the module's table tells each field."""

    rcode: str = "NOERROR"
    records: Sequence[Record] = ()
    soa: int | tuple[int, int] | None = None
    ttl: int = 60
    silent: bool = False
    delay: float = 0.0
    truncated: bool = False
    id_off: int = 0
    question: str | None = None
    source: str | None = None
    raw: bytes | None = None
    edit: Callable[[bytes, Query], bytes] | None = None
    edns: bool = True
    hang_up: bool = False
    then: Reply | None = None


RECORDS = Reply()


def absolute(name: str) -> str:
    """Return the name in lower case with its final dot."""
    return name.lower().rstrip(".") + "."


def parsed(rdtype: str, text: str) -> dns.rdata.Rdata:
    """Return the record's data; a mistake in a test fails where the test made it."""
    kind = dns.rdatatype.from_text(rdtype)
    return dns.rdata.from_text(
        dns.rdataclass.IN, kind, text, origin=dns.name.root, relativize=False
    )


class ScriptedDNS:
    """The server; see the module's docstring."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int | None = None, place: Place | None = None
    ) -> None:
        self.host = host
        self.port = free_port(host, place) if port is None else port
        self.queries: list[Query] = []
        self.malformed: list[bytes] = []
        self.negative_ttl = 30
        self.caches = 0
        self._place = place
        self._records: dict[tuple[str, str], tuple[list[str], int]] = {}
        self._scripts: dict[tuple[str, str], list[Reply]] = {}
        self._denied: dict[tuple[int, str, str], float] = {}
        self._turns = itertools.count()
        self._changed = threading.Condition(threading.RLock())
        self._exit = contextlib.ExitStack()
        self._timers: list[threading.Timer] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where it answers."""
        return self.host, self.port

    def __enter__(self) -> Self:
        self._udp = self._datagram_socket(self.host, self.port)
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._exit.callback(self._udp.close)
        reader, writer = os.pipe()
        self._exit.callback(os.close, reader)
        try:
            tcp = Server(self._stream, host=self.host, port=self.port, place=self._place)
            self._exit.enter_context(tcp)
        except BaseException:
            os.close(writer)
            self._exit.close()
            raise
        thread = threading.Thread(target=self._datagrams, args=(reader,), daemon=True)
        thread.start()
        self._exit.callback(thread.join, 30)
        self._exit.callback(os.close, writer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        self._exit.close()

    def add(self, name: str, rdtype: str, *values: str, ttl: int = 60) -> None:
        """Set the records of a name and type; `*.suffix` stands for all names below it."""
        for value in values:
            parsed(rdtype, value)
        with self._changed:
            self._records[absolute(name), rdtype] = (list(values), ttl)

    def remove(self, name: str, rdtype: str | None = None) -> None:
        """Drop the records of a name, all or of one type."""
        with self._changed:
            for key in list(self._records):
                if key[0] == absolute(name) and rdtype in (None, key[1]):
                    del self._records[key]

    def script(self, name: str, *replies: Reply, rdtype: str = "*") -> None:
        """Answer this name (`*.suffix`, `*`) by these replies in turn, the last one for good."""
        assert replies, "a script needs a reply"
        for reply in replies:
            for record in reply.records:
                parsed(record[-2], record[-1])
        with self._changed:
            self._scripts[name if name == "*" else absolute(name), rdtype] = list(replies)

    def unscript(self, name: str, rdtype: str = "*") -> None:
        """Forget what `script` set for this name and type."""
        with self._changed:
            del self._scripts[name if name == "*" else absolute(name), rdtype]

    def asked(self, name: str | None = None, rdtype: str | None = None) -> list[Query]:
        """Return the queries for this name and type, None standing for any."""
        with self._changed:
            return [
                query
                for query in self.queries
                if (name is None or query.name == absolute(name)) and rdtype in (None, query.rdtype)
            ]

    def count(self, name: str | None = None, rdtype: str | None = None) -> int:
        """Return how many queries came for this name and type, None standing for any."""
        return len(self.asked(name, rdtype))

    def wait_queries(
        self,
        count: int,
        name: str | None = None,
        rdtype: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Return once so many such queries came; fail after `timeout` seconds."""
        with self._changed:
            come = self._changed.wait_for(lambda: self.count(name, rdtype) >= count, timeout)
            seen = self.count(name, rdtype)
        assert come, f"{seen} of {count} queries for {name or 'anything'} within {timeout} s"

    def _datagram_socket(self, host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        channel = make_socket(self._place, family, socket.SOCK_DGRAM)
        try:
            channel.bind((host, port))
        except OSError:
            channel.close()
            raise
        return channel

    def _datagrams(self, wake: int) -> None:
        poll = select.poll()
        poll.register(self._udp, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while all(fd != wake for fd, _ in poll.poll()):
            try:
                wire, client = self._udp.recvfrom(65535)
            except OSError:
                continue
            query = self._note(wire, "udp", client[:2])
            if query is not None:
                self._send_datagram(query, self._choose(query))

    def _stream(self, connection: Connection) -> None:
        buffer = bytearray()
        while data := connection.read():
            buffer += data
            while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
                size = 2 + int.from_bytes(buffer[:2], "big")
                wire = bytes(buffer[2:size])
                del buffer[:size]
                query = self._note(wire, "tcp", connection.peer)
                reply = None if query is None else self._choose(query)
                while query is not None and reply is not None:
                    connection.wait(reply.delay)
                    if reply.hang_up:
                        return
                    packet = self._build(query, reply)
                    if packet is not None:
                        connection.write(struct.pack("!H", len(packet)) + packet)
                    reply = reply.then

    def _send_datagram(self, query: Query, reply: Reply) -> None:
        if reply.delay:
            at_once = replace(reply, delay=0.0)
            timer = threading.Timer(reply.delay, self._send_datagram, (query, at_once))
            timer.daemon = True
            self._timers.append(timer)
            timer.start()
            return
        packet = self._build(query, reply)
        if packet is not None:
            # The server may be gone by the time of a late answer.
            with contextlib.suppress(OSError):
                if reply.source is None:
                    self._udp.sendto(packet, query.client)
                else:
                    host = "127.0.0.2" if reply.source == "address" else self.host
                    port = self.port if reply.source == "address" else 0
                    with self._datagram_socket(host, port) as elsewhere:
                        elsewhere.sendto(packet, query.client)
        if reply.then is not None:
            self._send_datagram(query, reply.then)

    def _note(self, wire: bytes, transport: str, client: tuple[str, int]) -> Query | None:
        at = time.monotonic()
        try:
            message = dns.message.from_wire(wire)
            question = message.question[0]
        except (dns.exception.DNSException, IndexError):
            with self._changed:
                self.malformed.append(wire)
            return None
        query = Query(
            at,
            question.name.to_text().lower(),
            dns.rdatatype.to_text(question.rdtype),
            transport,
            client,
            message.id,
            wire,
            message,
        )
        with self._changed:
            self.queries.append(query)
            self._changed.notify_all()
        return query

    def _choose(self, query: Query) -> Reply:
        """Return the scripted reply of highest rank, taken from its script, or the records'."""
        labels = query.name.rstrip(".").split(".")
        names = [
            query.name,
            *(absolute(".".join(("*", *labels[i:]))) for i in range(1, len(labels))),
        ]
        with self._changed:
            for name in (*names, "*"):
                for kind in (query.rdtype, "*"):
                    replies = self._scripts.get((name, kind))
                    if replies is not None:
                        reply = replies[0] if len(replies) == 1 else replies.pop(0)
                        return self._look_up(query) if reply is RECORDS else reply
            return self._look_up(query)

    def _look_up(self, query: Query) -> Reply:
        cache = next(self._turns) % self.caches if self.caches else -1
        for kind, rcode in (("*", "NXDOMAIN"), (query.rdtype, "NOERROR")):
            left = self._denied.get((cache, query.name, kind), 0.0) - query.at
            if left > 0:
                return Reply(rcode, soa=(int(left), self.negative_ttl))
        records: list[Record] = []
        name, lowest = query.name, 1 << 31
        while len(records) < LONGEST_CHAIN:
            owner = self._owner(name)
            aliases, ttl = self._records.get((owner, "CNAME"), ([], 0))
            values, own_ttl = self._records.get((owner, query.rdtype), ([], 0))
            if values:
                records += [(name, query.rdtype, value) for value in values]
                return Reply(records=records, ttl=min(lowest, own_ttl))
            if not aliases:
                break
            records.append((name, "CNAME", aliases[0]))
            name, lowest = absolute(aliases[0]), min(lowest, ttl)
        else:
            return Reply(records=records, ttl=lowest)
        exists = any(owner == name or owner.endswith(f".{name}") for owner, _ in self._records)
        exists = exists or self._owner(name) != name
        if cache >= 0:
            kind = query.rdtype if exists else "*"
            self._denied[cache, query.name, kind] = query.at + self.negative_ttl
        rcode = "NOERROR" if exists else "NXDOMAIN"
        return Reply(rcode, records=records, ttl=min(lowest, 60), soa=self.negative_ttl)

    def _owner(self, name: str) -> str:
        """Return the name whose records answer for `name`: itself, or a wildcard above it."""
        owners = {owner for owner, _ in self._records}
        if name in owners:
            return name
        labels = name.rstrip(".").split(".")
        wildcards = (absolute(".".join(("*", *labels[i:]))) for i in range(1, len(labels)))
        return next((wildcard for wildcard in wildcards if wildcard in owners), name)

    def _build(self, query: Query, reply: Reply) -> bytes | None:
        if reply.silent:
            return None
        if reply.raw is not None:
            return reply.raw
        message = dns.message.make_response(query.message, recursion_available=True)
        message.set_rcode(dns.rcode.from_text(reply.rcode))
        question = query.message.question[0]
        for record in reply.records:
            owner = record[0] if len(record) == 3 and absolute(record[0]) != query.name else None
            name = question.name if owner is None else dns.name.from_text(owner)
            rdtype = dns.rdatatype.from_text(record[-2])
            rrset = message.find_rrset(message.answer, name, dns.rdataclass.IN, rdtype, create=True)
            rrset.add(parsed(record[-2], record[-1]), reply.ttl)
        if reply.soa is not None:
            ttl, minimum = reply.soa if isinstance(reply.soa, tuple) else (reply.soa, reply.soa)
            apex = question.name.parent() if len(question.name) > 1 else question.name
            text = f"ns.invalid. admin.invalid. 1 3600 600 86400 {minimum}"
            message.authority.append(dns.rrset.from_text(apex, ttl, "IN", "SOA", text))
        if not reply.edns:
            message.use_edns(-1)
        if reply.question is not None:
            other = dns.name.from_text(reply.question)
            message.question = [dns.rrset.RRset(other, question.rdclass, question.rdtype)]
        message.id = (message.id + reply.id_off) & 0xFFFF
        wire = message.to_wire(max_size=65535, want_shuffle=False)
        limit = max(512, query.message.payload) if query.message.edns >= 0 else 512
        if query.transport == "udp" and (reply.truncated or len(wire) > limit):
            message.answer = []
            message.authority = []
            message.flags |= dns.flags.TC
            wire = message.to_wire(max_size=65535, want_shuffle=False)
        return wire if reply.edit is None else reply.edit(wire, query)
