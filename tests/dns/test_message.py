"""The wire format, with dnspython as the oracle in both directions."""

from __future__ import annotations

import ipaddress
import struct

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service_precheck.dns import message
from service_precheck.dns.message import Answer, BadMessage, decode, encode_name, encode_query

IDENTS = st.integers(0, 0xFFFF)
TYPES = st.sampled_from(sorted(message.TYPES.items()))
HOST_LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)
WIRE_LABELS = st.binary(min_size=1, max_size=63)


def short_enough(labels: list[str]) -> bool:
    return sum(len(label) + 1 for label in labels) < 255


HOSTS = st.lists(HOST_LABELS, min_size=1, max_size=30).filter(short_enough).map(".".join)


@st.composite
def wire_names(draw: st.DrawFn) -> dns.name.Name:
    """Any name a message can hold: every byte in a label, up to 255 bytes."""
    labels: list[bytes] = []
    for label in draw(st.lists(WIRE_LABELS, max_size=130)):
        if sum(len(other) + 1 for other in labels) + len(label) + 2 > 255:
            break
        labels.append(label)
    return dns.name.Name((*labels, b""))


def from_labels(*labels: bytes) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


@st.composite
def rdata(draw: st.DrawFn) -> dns.rdata.Rdata:
    """A record's data of any type we read, and of some that we pass over."""
    kind = draw(
        st.sampled_from(("A", "AAAA", "CNAME", "NS", "SRV", "TXT", "SOA", "CAA", "TYPE999"))
    )
    name = st.one_of(HOSTS.map(lambda host: f"{host}."), st.just("."))
    u16 = st.integers(0, 0xFFFF)
    if kind == "A":
        text = str(draw(st.ip_addresses(v=4)))
    elif kind == "AAAA":
        text = str(draw(st.ip_addresses(v=6)))
    elif kind in ("CNAME", "NS"):
        text = draw(name)
    elif kind == "SRV":
        text = f"{draw(u16)} {draw(u16)} {draw(u16)} {draw(name)}"
    elif kind == "TXT":
        strings = draw(st.lists(st.binary(max_size=255), min_size=1, max_size=4))
        wire = b"".join(bytes((len(one),)) + one for one in strings)
        return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, wire, 0, len(wire))
    elif kind == "SOA":
        text = f"{draw(name)} {draw(name)} 1 2 3 4 {draw(st.integers(0, 2**31 - 1))}"
    elif kind == "CAA":
        text = '0 issue "ca.example"'
    else:
        text = "\\# 4 01020304"
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)


@st.composite
def responses(draw: st.DrawFn) -> dns.message.Message:
    """A response as a server would make it, compressed."""
    query = dns.message.make_query(
        draw(HOSTS) + ".", draw(TYPES)[0], use_edns=draw(st.booleans()), id=draw(IDENTS)
    )
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.Rcode(draw(st.sampled_from((0, 1, 2, 3, 4, 5, 9)))))
    for section in (response.answer, response.authority, response.additional):
        for data in draw(st.lists(rdata(), max_size=5)):
            name = draw(st.one_of(st.just(query.question[0].name), wire_names()))
            ttl = draw(st.integers(0, 2**31 - 1))
            section.append(dns.rrset.from_rdata(name, ttl, data))
    return response


def decoded(response: dns.message.Message, wire: bytes | None = None) -> Answer:
    question = response.question[0]
    packet = response.to_wire(max_size=65535, want_shuffle=False) if wire is None else wire
    return decode(packet, response.id, question.name.to_text(), question.rdtype)


def as_name(text: str) -> dns.name.Name:
    return dns.name.from_text(text or ".")


def as_oracle(data: dns.rdata.Rdata) -> str:
    """The value as our documentation words it, made from dnspython's fields."""
    kind = dns.rdatatype.to_text(data.rdtype)
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(data.address).compressed  # type: ignore[attr-defined]
    if kind == "TXT":
        joined: bytes = b"".join(data.strings)  # type: ignore[attr-defined]
        return joined.decode("utf-8", "backslashreplace")
    return ""


@given(IDENTS, HOSTS, TYPES, st.booleans(), st.booleans())
def test_our_queries_are_what_dnspython_reads(
    ident: int, host: str, rtype: tuple[str, int], edns: bool, final_dot: bool
) -> None:
    """dnspython reads the id, one question, recursion desired, and EDNS with our size and no flag."""
    query = dns.message.from_wire(
        encode_query(ident, host + "." * final_dot, rtype[1], edns), raise_on_truncation=True
    )
    assert query.id == ident
    assert query.flags == dns.flags.RD
    assert query.opcode() == 0
    (question,) = query.question
    assert question.name == dns.name.from_text(host)
    assert dns.rdatatype.to_text(question.rdtype) == rtype[0]
    assert question.rdclass == dns.rdataclass.IN
    assert query.edns == (0 if edns else -1)
    if edns:
        assert query.payload == message.UDP_SIZE
        assert query.ednsflags == 0
        assert query.options == ()
    assert not query.answer
    assert not query.authority


@given(HOSTS)
def test_our_names_are_dnspythons(host: str) -> None:
    """A name is encoded as dnspython encodes it."""
    assert encode_name(host) == dns.name.from_text(host).to_wire()


@given(responses())
def test_what_dnspython_writes_is_read(response: dns.message.Message) -> None:
    """Every record of a compressed response arrives: name, type, TTL and value, in its order."""
    answer = decoded(response)
    assert answer.rcode == response.rcode()
    assert not answer.truncated
    kinds = {*message.TYPES.values(), message.SOA}
    for ours, section in (
        (answer.answers, response.answer),
        (answer.authority, response.authority),
    ):
        theirs = [
            (rrset.name, rrset.ttl, data)
            for rrset in section
            for data in rrset
            if data.rdtype in kinds
        ]
        assert len(ours) == len(theirs)
        for record, (name, ttl, data) in zip(ours, theirs, strict=True):
            assert as_name(record.name) == name
            assert record.name == record.name.lower()
            assert (record.rtype, record.ttl) == (data.rdtype, ttl)
            kind = dns.rdatatype.to_text(data.rdtype)
            if kind in ("A", "TXT"):
                assert record.value == as_oracle(data)
            elif kind == "AAAA":
                assert ipaddress.ip_address(record.value).packed == data.to_wire()
            elif kind in ("CNAME", "NS"):
                assert as_name(record.value) == data.target
            elif kind == "SRV":
                *numbers, target = record.value.split(" ")
                fields = data.priority, data.weight, data.port
                assert tuple(map(int, numbers)) == fields
                assert as_name(target) == data.target
            else:
                assert record.minimum == data.minimum


@given(st.binary(min_size=16, max_size=16))
@example(bytes(16))
@example(bytes(15) + b"\1")
@example(bytes(10) + b"\xff\xff\1\2\3\4")
@example(b"\0\1\0\0\0\0\0\1\0\0\0\0\0\0\0\1")
@example(b"\0\1\0\0\0\1\0\1\0\0\0\1\0\0\0\1")
def test_ipv6_text_is_the_standard_librarys(raw: bytes) -> None:
    """An address reads as `ipaddress` writes it (RFC 5952); mapped IPv4 stays hexadecimal."""
    address = ipaddress.IPv6Address(raw)
    if address.ipv4_mapped is None:
        assert message._ipv6(raw) == address.compressed
    assert ipaddress.IPv6Address(message._ipv6(raw)) == address


@given(wire_names())
def test_every_name_is_read(name: dns.name.Name) -> None:
    """Names with any bytes, and of up to 255, are read as dnspython would."""
    wire = name.to_wire()
    assert wire is not None
    text, after = message._name(wire + b"rest", 0)
    assert after == len(wire)
    assert as_name(text) == name


def test_the_longest_name_and_one_byte_more() -> None:
    """255 bytes are a name, 256 are none, in both directions."""
    longest = [b"a" * 63] * 3 + [b"b" * 61]
    assert len(from_labels(*longest)) == 255
    text = b".".join(longest).decode()
    assert encode_name(text) == from_labels(*longest)
    assert message._name(from_labels(*longest), 0) == (text, 255)
    too_long = [b"a" * 63] * 3 + [b"b" * 62]
    with pytest.raises(ValueError, match="256"):
        encode_name(b".".join(too_long).decode())
    with pytest.raises(BadMessage, match="255"):
        message._name(from_labels(*too_long), 0)


@pytest.mark.parametrize("name", ["a..b", "a" * 64, ".a", "ä.example"])
def test_what_is_no_name_is_not_sent(name: str) -> None:
    """An empty label, one of 64 bytes and one that is not ASCII raise ValueError."""
    with pytest.raises(ValueError, match=r"label|ascii"):
        encode_query(1, name, message.A)


def with_question(
    rest: bytes, counts: tuple[int, int, int] = (1, 0, 0), flags: int = 0x8180
) -> bytes:
    question = encode_name("x.example") + struct.pack("!HH", message.A, 1)
    return struct.pack("!HHHHHH", 7, flags, 1, *counts) + question + rest


def pointer(to: int) -> bytes:
    return struct.pack("!H", 0xC000 | to)


AFTER_QUESTION = len(with_question(b""))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(pointer(AFTER_QUESTION), id="to itself"),
        pytest.param(pointer(AFTER_QUESTION + 2) + pointer(AFTER_QUESTION), id="round in two"),
        pytest.param(pointer(AFTER_QUESTION + 40), id="forward"),
        pytest.param(b"\1a" + pointer(AFTER_QUESTION), id="to its own start"),
        pytest.param(pointer(0x3FFF), id="beyond the end"),
        pytest.param(b"\x40abc\0", id="label kind 01"),
        pytest.param(b"\x80abc\0", id="label kind 10"),
        pytest.param(b"\x3fabc", id="label beyond the end"),
        pytest.param(b"\xc0", id="half a pointer"),
    ],
)
def test_names_that_loop_or_leave_the_message_are_refused(name: bytes) -> None:
    """A compression loop of any shape ends in BadMessage (RFC 1035 section 4.1.4)."""
    with pytest.raises(BadMessage):
        decode(with_question(name + bytes(10)), 7, "x.example", message.A)


def test_a_chain_of_pointers_that_lead_back_is_read() -> None:
    """Pointers to pointers are fine as long as each leads to before the last."""
    host = AFTER_QUESTION
    record = struct.pack("!HHIH", message.A, 1, 60, 4) + b"\x0a\0\0\1"
    first = b"\1a" + pointer(12) + record
    second = b"\1b" + pointer(host) + record
    third = pointer(host + len(first)) + record
    answer = decode(with_question(first + second + third, (3, 0, 0)), 7, "x.example", message.A)
    assert [one.name for one in answer.answers] == ["a.x.example", "b.a.x.example", "b.a.x.example"]


def test_a_long_chain_of_pointers_is_refused() -> None:
    """A name of thousands of pointers, and thousands of such names, would take seconds to read."""
    chain, data = b"", AFTER_QUESTION + len(pointer(12)) + 10
    for place in range(1000):
        chain += pointer(data + 2 * (place - 1) if place else 12)
    record = pointer(12) + struct.pack("!HHIH", 999, 1, 60, len(chain)) + chain
    last = pointer(data + 2 * 999) + struct.pack("!HHIH", message.A, 1, 60, 4) + b"\x0a\0\0\1"
    with pytest.raises(BadMessage, match="pointers"):
        decode(with_question(record + last, (2, 0, 0)), 7, "x.example", message.A)


@pytest.mark.parametrize(
    ("rtype", "data"),
    [
        (message.A, b"\1\2\3"),
        (message.A, b"\1\2\3\4\5"),
        (message.AAAA, bytes(15)),
        (message.CNAME, b"\1a\0\0"),
        (message.CNAME, b"\1a"),
        (message.NS, b""),
        (message.SRV, b"\0\1\0\1\0"),
        (message.SRV, b"\0\1\0\1\0\1\1a\0\0"),
        (message.TXT, b"\5abc"),
        (message.SOA, b"\0\0" + bytes(19)),
    ],
)
def test_data_that_does_not_fill_its_record_is_refused(rtype: int, data: bytes) -> None:
    """A record whose data is too short or too long for its type is no answer, nor half of one."""
    record = pointer(12) + struct.pack("!HHIH", rtype, 1, 60, len(data)) + data
    with pytest.raises(BadMessage):
        decode(with_question(record), 7, "x.example", message.A)


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (with_question(b"", (0, 0, 0), 0x0100), "not a response"),
        (with_question(b"", (0, 0, 0), 0x8980), "not a response"),
        (with_question(b"", (1, 0, 0)), "before its end"),
        (with_question(b"", (0xFFFF, 0xFFFF, 0)), "131070 records"),
        (struct.pack("!HHHHHH", 7, 0x8180, 0, 0, 0, 0), "0 questions"),
        (struct.pack("!HHHHHH", 7, 0x8183, 0, 0, 0, 0), "0 questions"),
        (struct.pack("!HHHHHH", 7, 0x8182, 2, 0, 0, 0), "2 questions"),
        (with_question(b"")[:11], "shorter"),
        (b"", "shorter"),
    ],
)
def test_what_is_no_response_is_refused(wire: bytes, said: str) -> None:
    """A query, another opcode, cut messages and missing questions are refused by name."""
    with pytest.raises(BadMessage, match=said):
        decode(wire, 7, "x.example", message.A)


def test_a_refusal_may_leave_the_question_out() -> None:
    """Some servers answer FORMERR or REFUSED with a header and nothing else."""
    wire = struct.pack("!HHHHHH", 7, 0x8185, 0, 0, 0, 0)
    assert decode(wire, 7, "x.example", message.A).rcode == message.REFUSED


@given(responses(), IDENTS, HOSTS, TYPES)
def test_an_answer_to_another_query_is_refused(
    response: dns.message.Message, ident: int, host: str, rtype: tuple[str, int]
) -> None:
    """Another id, another name or another type is BadMessage (RFC 5452 section 9.1, fault 36b)."""
    wire = response.to_wire(max_size=65535, want_shuffle=False)
    question = response.question[0]
    name, asked = question.name.to_text(), int(question.rdtype)
    for query in ((ident, name, asked), (response.id, host, asked), (response.id, name, rtype[1])):
        same = query[0] == response.id and as_name(query[1]) == question.name and query[2] == asked
        if same:
            decode(wire, *query)
        else:
            with pytest.raises(BadMessage):
                decode(wire, *query)


@given(HOSTS.filter(lambda host: host.upper() != host))
def test_case_does_not_matter(host: str) -> None:
    """A server may give the question back in other letters; names are compared without case."""
    response = dns.message.make_response(dns.message.make_query(host.upper() + ".", "A", id=5))
    response.answer.append(dns.rrset.from_text(host.upper() + ".", 60, "IN", "A", "192.0.2.1"))
    answer = decode(response.to_wire(), 5, host, message.A)
    assert answer.values(host, message.A) == (("192.0.2.1",), host)


@given(st.binary(max_size=600))
def test_random_bytes_raise_nothing_else(wire: bytes) -> None:
    """Whatever is not an answer raises BadMessage (fuzz without structure)."""
    ident = int.from_bytes(wire[:2], "big")
    with pytest.raises(BadMessage):
        decode(wire, ident, "x.example", message.A)


@given(st.binary(max_size=200), st.tuples(*[st.integers(0, 6)] * 2), st.sampled_from((0, 2, 3)))
def test_random_records_raise_nothing_else(
    rest: bytes, counts: tuple[int, int], rcode: int
) -> None:
    """Random bytes behind a right question are an answer or BadMessage (fuzz behind the question)."""
    try:
        answer = decode(
            with_question(rest, (*counts, 0), 0x8180 | rcode), 7, "x.example", message.A
        )
    except BadMessage:
        return
    assert len(answer.answers) <= counts[0]
    assert len(answer.authority) <= counts[1]


@given(responses(), st.data())
def test_mutated_responses_raise_nothing_else(
    response: dns.message.Message, data: st.DataObject
) -> None:
    """A real response with bytes changed, cut or added is an answer or BadMessage (fuzz, mutations)."""
    wire = bytearray(response.to_wire(max_size=65535, want_shuffle=False))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(wire) - 1))
        wire[at] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(wire)))
    packet = bytes(wire[:kept]) + data.draw(st.binary(max_size=20))
    try:
        answer = decoded(response, packet)
    except BadMessage:
        return
    answer.values("x.example", message.A)
    answer.denial_ttl()


def test_truncation_is_told_and_nothing_of_it_believed() -> None:
    """A truncated answer carries no records, whatever it holds (fault 29)."""
    record = pointer(12) + struct.pack("!HHIH", message.A, 1, 60, 4) + b"\x0a\0\0\1"
    answer = decode(with_question(record, (1, 0, 0), 0x8380), 7, "x.example", message.A)
    assert answer == Answer(0, True, (), ())


def made(*records: tuple[str, str, str]) -> Answer:
    query = dns.message.make_query("x.example.", "A", id=7)
    response = dns.message.make_response(query)
    for name, rtype, value in records:
        response.answer.append(dns.rrset.from_text(name, 60, "IN", rtype, value))
    return decode(response.to_wire(), 7, "x.example", message.A)


def test_a_cname_chain_is_followed_in_any_order() -> None:
    """The chain leads to its end, whatever the order of its records, and that end is told."""
    answer = made(
        ("z.example.", "A", "192.0.2.1"),
        ("y.example.", "CNAME", "z.example."),
        ("x.example.", "CNAME", "y.example."),
        ("stray.example.", "A", "192.0.2.9"),
    )
    assert answer.values("x.example", message.A) == (("192.0.2.1",), "z.example")
    assert answer.values("x.example", message.CNAME) == (("y.example",), "x.example")


def test_a_cname_loop_ends() -> None:
    """A loop and a chain without end give no values (fault 30)."""
    loop = made(("x.example.", "CNAME", "y.example."), ("y.example.", "CNAME", "x.example."))
    assert loop.values("x.example", message.A)[0] == ()
    own = made(("x.example.", "CNAME", "x.example."))
    assert own.values("x.example", message.A) == ((), "x.example")
    links = [("x.example.", "CNAME", "c0.example.")]
    links += [(f"c{i}.example.", "CNAME", f"c{i + 1}.example.") for i in range(20)]
    endless = made(*links, ("c20.example.", "A", "192.0.2.1"))
    assert endless.values("x.example", message.A)[0] == ()


@pytest.mark.parametrize(
    ("ttl", "minimum", "expected"), [(30, 5, 5), (5, 30, 5), (0, 30, 0), (2**31, 30, 0)]
)
def test_a_denials_age_is_the_lesser_of_two(ttl: int, minimum: int, expected: int) -> None:
    """The SOA's TTL or its MINIMUM, whichever is less (RFC 2308 section 5); the top bit means zero."""
    soa = b"\0\0" + struct.pack("!IIIII", 1, 2, 3, 4, minimum)
    record = pointer(12) + struct.pack("!HHIH", message.SOA, 1, ttl, len(soa)) + soa
    answer = decode(with_question(record, (0, 1, 0), 0x8183), 7, "x.example", message.A)
    assert answer.denial_ttl() == expected


def test_a_denial_without_soa_has_no_age() -> None:
    """Where no SOA stands nothing is known."""
    assert decode(with_question(b"", (0, 0, 0), 0x8183), 7, "x.example", 1).denial_ttl() is None
