"""DNS messages on the wire: one question out, one answer in.

RFC 1035 section 4 (messages, compression), RFC 2782 (SRV), RFC 3596 (AAAA), RFC 6891 (EDNS). A
decoder of what strangers send: every length is checked, every loop is bounded, and whatever does
not parse raises `BadMessage` and nothing else.
"""

from __future__ import annotations

from ..model import Frozen

A, NS, CNAME, SOA, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 16, 28, 33, 41
TYPES = {"A": A, "AAAA": AAAA, "CNAME": CNAME, "NS": NS, "SRV": SRV, "TXT": TXT}
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")

# What fits the smallest IPv6 MTU without fragments (RFC 9715 recommends 1232 and up to 1400).
UDP_SIZE = 1232
MOST_RECORDS = 4096
# As many as a name can have labels.
MOST_POINTERS = 127


class BadMessage(ValueError):
    """The bytes are not a DNS message, or not one that answers our question."""


class Record(Frozen):
    """One resource record. `value` is its data as text: an address, a name, SRV's four fields, TXT's text.

    `minimum` is the last field of an SOA (seconds), 0 for every other type.
    """

    __slots__ = ("minimum", "name", "rtype", "ttl", "value")
    name: str
    rtype: int
    ttl: int
    value: str
    minimum: int

    def __init__(self, name: str, rtype: int, ttl: int, value: str, minimum: int = 0) -> None:
        self._set(name=name, rtype=rtype, ttl=ttl, value=value, minimum=minimum)


class Answer(Frozen):
    """A decoded response. Names are lower-case and without the final dot."""

    __slots__ = ("answers", "authority", "rcode", "truncated")
    rcode: int
    truncated: bool
    answers: tuple[Record, ...]
    authority: tuple[Record, ...]

    def __init__(
        self,
        rcode: int,
        truncated: bool,
        answers: tuple[Record, ...],
        authority: tuple[Record, ...],
    ) -> None:
        self._set(rcode=rcode, truncated=truncated, answers=answers, authority=authority)

    def denial_ttl(self) -> int | None:
        """How long this denial may be cached, in seconds: the lesser of the SOA's TTL and its MINIMUM
        (RFC 2308 section 5). None without an SOA."""
        for record in self.authority:
            if record.rtype == SOA:
                return min(record.ttl, record.minimum)
        return None

    def values(self, name: str, rtype: int) -> tuple[tuple[str, ...], str]:
        """The values of `rtype` at the end of the CNAME chain that starts at `name`, and that end.

        A chain longer than 16, or a loop, ends where it is cut (RFC 1034 section 3.6.2 asks for a bound).
        """
        for _ in range(16):
            here = [r for r in self.answers if r.name == name]
            found = tuple(r.value for r in here if r.rtype == rtype)
            if found:
                return found, name
            alias = next((r.value for r in here if r.rtype == CNAME), None)
            if alias is None:
                break
            name = alias
        return (), name


def encode_name(name: str) -> bytes:
    """A name as length-prefixed labels. Raises ValueError if it can't be one (RFC 1035 section 3.1)."""
    wire = bytearray()
    for label in name.rstrip(".").split(".") if name.rstrip(".") else ():
        raw = label.encode("ascii")
        if not 0 < len(raw) < 64:
            raise ValueError(f"a label of {len(raw)} bytes in {name!r}")
        wire.append(len(raw))
        wire += raw
    wire.append(0)
    if len(wire) > 255:
        raise ValueError(f"a name of {len(wire)} bytes")
    return bytes(wire)


def encode_query(ident: int, name: str, rtype: int, edns: bool = True) -> bytes:
    """A recursive query for one name and type of class IN. Raises ValueError for an impossible name."""
    header = b"%c%c\x01\x00\x00\x01\x00\x00\x00\x00\x00%c" % (ident >> 8, ident & 255, edns)
    query = header + encode_name(name) + b"%c%c\x00\x01" % (rtype >> 8, rtype & 255)
    if edns:
        query += b"\x00\x00%c%c%c\x00\x00\x00\x00\x00\x00" % (OPT, UDP_SIZE >> 8, UDP_SIZE & 255)
    return query


def decode(wire: bytes, ident: int, name: str, rtype: int) -> Answer:
    """The answer in `wire` to the query `ident` for `name` and `rtype`.

    Raises BadMessage if it is not a response, carries another id or another question (RFC 5452
    section 9.1), or does not parse.
    """
    try:
        return _decode(wire, ident, name.rstrip(".").lower(), rtype)
    except IndexError:
        raise BadMessage("the message ends before its end") from None


def _decode(wire: bytes, ident: int, name: str, rtype: int) -> Answer:
    if len(wire) < 12:
        raise BadMessage("shorter than a header")
    if _u16(wire, 0) != ident:
        raise BadMessage("another query's id")
    flags = _u16(wire, 2)
    if not flags & 0x8000 or flags & 0x7800:
        raise BadMessage("not a response to a query")
    questions, answers, authorities = _u16(wire, 4), _u16(wire, 6), _u16(wire, 8)
    rcode = flags & 15
    if questions != 1:
        # Some servers leave the question out when they refuse; nothing else may.
        if questions or rcode in (NOERROR, NXDOMAIN):
            raise BadMessage(f"{questions} questions")
        return Answer(rcode, False, (), ())
    asked, at = _name(wire, 12)
    if asked != name or _u16(wire, at) != rtype or _u16(wire, at + 2) != 1:
        raise BadMessage("another question")
    at += 4
    truncated = bool(flags & 0x0200)
    if truncated:
        return Answer(rcode, True, (), ())
    if answers + authorities > MOST_RECORDS:
        raise BadMessage(f"{answers + authorities} records")
    found, at = _records(wire, at, answers)
    denied, at = _records(wire, at, authorities)
    return Answer(rcode, False, found, denied)


def _records(wire: bytes, at: int, count: int) -> tuple[tuple[Record, ...], int]:
    records = []
    for _ in range(count):
        name, at = _name(wire, at)
        rtype, rclass, ttl, length = (
            _u16(wire, at),
            _u16(wire, at + 2),
            _u16(wire, at + 4) << 16 | _u16(wire, at + 6),
            _u16(wire, at + 8),
        )
        at += 10
        end = at + length
        if end > len(wire):
            raise BadMessage("a record longer than the message")
        # A TTL with the top bit set counts as zero (RFC 2181 section 8).
        ttl = ttl if ttl < 0x80000000 else 0
        if rclass == 1:
            value, minimum = _value(wire, at, end, rtype)
            if value is not None:
                records.append(Record(name, rtype, ttl, value, minimum))
        at = end
    return tuple(records), at


def _value(wire: bytes, at: int, end: int, rtype: int) -> tuple[str | None, int]:
    if rtype == A and end - at == 4:
        return ".".join(str(byte) for byte in wire[at:end]), 0
    if rtype == AAAA and end - at == 16:
        return _ipv6(wire[at:end]), 0
    if rtype in (CNAME, NS):
        return _name_to(wire, at, end), 0
    if rtype == SRV:
        target = _name_to(wire, at + 6, end)
        return f"{_u16(wire, at)} {_u16(wire, at + 2)} {_u16(wire, at + 4)} {target}", 0
    if rtype == TXT:
        texts = []
        while at < end:
            after = at + 1 + wire[at]
            if after > end:
                raise BadMessage("a text longer than its record")
            texts.append(wire[at + 1 : after])
            at = after
        return b"".join(texts).decode("utf-8", "backslashreplace"), 0
    if rtype == SOA:
        if end - at < 22:
            raise BadMessage("an SOA too short")
        return "", _u16(wire, end - 4) << 16 | _u16(wire, end - 2)
    if rtype in (A, AAAA):
        raise BadMessage("an address of a wrong length")
    return None, 0


def _name_to(wire: bytes, at: int, end: int) -> str:
    name, after = _name(wire, at)
    if after != end:
        raise BadMessage("a name that does not fill its record")
    return name or "."


def _u16(wire: bytes, at: int) -> int:
    return wire[at] << 8 | wire[at + 1]


def _name(wire: bytes, at: int) -> tuple[str, int]:
    """The name at an offset, and the offset after it. Each pointer points to before where the last
    one led, so that none can loop; a message may hold thousands of them in a row, and names by the
    thousand that begin there, so that a name takes a bounded number."""
    labels: list[str] = []
    after = -1
    start = at
    size = 1
    pointers = 0
    while True:
        length = wire[at]
        if length == 0:
            break
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | wire[at + 1]
            if target >= start:
                raise BadMessage("a compression pointer that does not point back")
            pointers += 1
            if pointers > MOST_POINTERS:
                raise BadMessage(f"a name of more than {MOST_POINTERS} pointers")
            if after < 0:
                after = at + 2
            at = start = target
            continue
        if length >= 0x40:
            raise BadMessage("a label of an unknown kind")
        raw = wire[at + 1 : at + 1 + length]
        if len(raw) < length:
            raise BadMessage("a label longer than the message")
        size += length + 1
        if size > 255:
            raise BadMessage("a name longer than 255 bytes")
        labels.append(_label(raw))
        at += 1 + length
    return ".".join(labels), at + 1 if after < 0 else after


def _label(raw: bytes) -> str:
    """One label as text; a dot, a backslash or a byte that is not printable ASCII escaped (RFC 4343 section 2.1)."""
    if raw.isalnum():
        return raw.decode("ascii").lower()
    return "".join(
        f"\\{byte:03d}"
        if byte < 33 or byte > 126
        else f"\\{byte:c}"
        if byte in b".\\"
        else f"{byte:c}"
        for byte in raw
    ).lower()


def _ipv6(raw: bytes) -> str:
    """An IPv6 address as RFC 5952 writes it: lower-case, the longest run of zeros as `::`."""
    groups = [_u16(raw, at) for at in range(0, 16, 2)]
    best, best_length = 0, 0
    at = 0
    while at < 8:
        length = 0
        while at + length < 8 and groups[at + length] == 0:
            length += 1
        if length > best_length:
            best, best_length = at, length
        at += length or 1
    if best_length < 2:
        return ":".join(f"{group:x}" for group in groups)
    head = ":".join(f"{group:x}" for group in groups[:best])
    tail = ":".join(f"{group:x}" for group in groups[best + best_length :])
    return f"{head}::{tail}"
