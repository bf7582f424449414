"""The bytes of HTTP/1.1, with h11 as the oracle, and what else pages and redirects are read by."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Sequence
from email.utils import formatdate

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import net
from service_precheck.codecs import http1, json_path, location
from service_precheck.codecs.http1 import Place, Response
from service_precheck.dns import Names
from service_precheck.errors import NotReady
from service_precheck.stream import Attempt, Stream

TOKENS = st.text(alphabet=sorted(http1.TOKEN), min_size=1, max_size=12)
VALUES = st.text(
    alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20
)
FRAMING = frozenset(("content-length", "transfer-encoding", "connection", "upgrade"))
HEADERS = st.lists(
    st.tuples(TOKENS.filter(lambda name: name.lower() not in FRAMING), VALUES), max_size=6
)


class Scripted(Stream):
    """A stream that is given what the other end sends, piece by piece, and then its end."""

    __slots__ = ("_pieces",)

    def __init__(self, pieces: Sequence[bytes]) -> None:
        sock = net.Socket()
        super().__init__(sock, "peer", Attempt(net.monotonic() + 60, Names()))
        sock.close()
        self._pieces = [piece for piece in pieces if piece]

    def _recv(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def cut(raw: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut `raw` into pieces of these sizes, the last one being the rest."""
    pieces = []
    for size in sizes:
        pieces.append(raw[:size])
        raw = raw[size:]
    return [*pieces, raw]


def read(pieces: Sequence[bytes], method: str = "GET") -> tuple[Response, bytes]:
    stream = Scripted(pieces)
    head = http1.read_head(stream, method)
    return head, b"".join(http1.body(stream, head))


def cause(raw: bytes, method: str = "GET") -> str | None:
    with pytest.raises(NotReady) as raised:
        read([raw], method)
    return raised.value.verdict.cause


def oracle(raw: bytes, method: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """What h11 reads. Raises h11.RemoteProtocolError."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    client.receive_data(b"")
    body = b""
    response = None
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError("an end before its time")
    assert response is not None
    headers = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
    return response.status_code, headers, body


@given(
    method=st.sampled_from(("GET", "HEAD", "POST")),
    status=st.integers(200, 599),
    headers=HEADERS,
    body=st.lists(st.binary(min_size=1, max_size=200), max_size=5),
    framing=st.sampled_from(("length", "chunked", "close")),
    interim=st.integers(0, 2),
    sizes=st.lists(st.integers(1, 40), max_size=20),
)
def test_reads_what_a_server_writes(
    method: str,
    status: int,
    headers: list[tuple[str, str]],
    body: list[bytes],
    framing: str,
    interim: int,
    sizes: list[int],
) -> None:
    """Whatever h11 writes as a server is read back, however the network cuts it."""
    server = h11.Connection(h11.SERVER)
    version = b"1.0" if framing == "close" else b"1.1"
    server.receive_data(b"%b / HTTP/%b\r\nHost: x\r\n\r\n" % (method.encode(), version))
    server.next_event()
    server.next_event()
    bodiless = method == "HEAD" or status in (204, 304)
    if bodiless:
        body = []
    if framing == "length" and not bodiless:
        headers = [*headers, ("Content-Length", str(sum(map(len, body))))]
    raw = b""
    if version == b"1.1":
        for _ in range(interim):
            raw += server.send(h11.InformationalResponse(status_code=103, headers=[("Link", "x")]))
    raw += server.send(h11.Response(status_code=status, headers=headers, reason="Fine"))
    for part in body:
        raw += server.send(h11.Data(data=part))
    raw += server.send(h11.EndOfMessage())
    head, got = read(cut(raw, sizes), method)
    assert head.status == status
    assert got == b"".join(body)
    expected = [(name.lower(), value) for name, value in headers]
    assert [pair for pair in head.headers if pair[0] not in FRAMING] == [
        pair for pair in expected if pair[0] not in FRAMING
    ]


LINES = st.one_of(
    st.tuples(TOKENS, st.sampled_from((":", ": ", ":\t ")), VALUES).map("".join),
    st.integers(0, 12).map(lambda n: f"Content-Length: {n}"),
    st.sampled_from(
        ("Transfer-Encoding: chunked", "Content-Length: 3, 3", "Content-Length: -1", "A: b\r\n  c")
    ),
)
BODIES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from((b"3\r\nabc\r\n0\r\n\r\n", b"3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n", b"0\r\n\r\n")),
)


@given(
    method=st.sampled_from(("GET", "HEAD")),
    status=st.sampled_from(("200 OK", "204", "304 Not Modified", "404 ", "503 x y")),
    lines=st.lists(LINES, max_size=4),
    body=BODIES,
)
def test_agrees_with_the_oracle_on_what_is_well_formed(
    method: str, status: str, lines: list[str], body: bytes
) -> None:
    """What h11 accepts is read the same way: status, headers, and where the body ends."""
    raw = "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode() + body
    try:
        expected = oracle(raw, method)
    except h11.RemoteProtocolError:
        return
    head, got = read([raw], method)
    assert head.status == expected[0]
    assert got == expected[2]
    assert [pair for pair in head.headers if pair[0] not in FRAMING] == [
        pair for pair in expected[1] if pair[0] not in FRAMING
    ]


@given(
    raw=st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda at, noise: (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n3\r\nabc"[:at]
                + noise
            ),
            st.integers(0, 70),
            st.binary(max_size=60),
        ),
    ),
    sizes=st.lists(st.integers(1, 9), max_size=9),
)
def test_no_bytes_surprise_it(raw: bytes, sizes: list[int]) -> None:
    """Any bytes are a response, `protocol` or `closed-early`: nothing else is ever raised."""
    try:
        read(cut(raw, sizes))
    except NotReady as error:
        found = error.verdict
        assert found.cause in ("protocol", "closed-early")
        assert found.seen.isprintable()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 300 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/3 200 OK\r\n\r\n",
        b"220 mail.example ESMTP\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        b"\x15\x03\x03\x00\x02\x02\x50",
    ],
)
def test_what_is_no_http_is_protocol(raw: bytes) -> None:
    """Framing that can be read in two ways, and what is no HTTP at all, is refused."""
    assert cause(raw) == "protocol"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HT",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nA: b\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_end_before_its_time_is_closed_early(raw: bytes) -> None:
    """A response that stops in the middle is not taken for a whole one, wherever it stops."""
    expected = "protocol" if raw == b"HT" else "closed-early"
    assert cause(raw) == expected


def test_interim_responses_count_against_the_bound() -> None:
    """Fault 22: a server that says 100 for ever is left after 64 KiB."""
    assert cause(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000) == "protocol"


def test_switching_protocols_is_an_answer() -> None:
    """101 ends the conversation in HTTP: nothing is read after it."""
    head, body = read([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nother bytes"])
    assert (head.status, body) == (101, b"")


def test_lines_may_end_in_a_bare_line_feed() -> None:
    """Servers written in an afternoon are read, too (RFC 9112 section 2.2)."""
    head, body = read([b"HTTP/1.0 200 OK\nA: b\n\nhello"])
    assert (head.status, head.headers, body) == (200, (("a", "b"),), b"hello")


def test_a_coding_that_does_not_end_in_chunked_lasts_until_the_end() -> None:
    """RFC 9112 section 6.3: then only the end of the connection tells, whatever else is said."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nabcd"
    assert read([raw])[1] == b"abcd"


@given(
    method=st.sampled_from(("GET", "POST")),
    headers=st.lists(st.tuples(TOKENS, VALUES), max_size=5),
    path=st.text(alphabet="abc/%20?&=", max_size=20),
)
def test_a_server_reads_what_it_is_asked(
    method: str, headers: list[tuple[str, str]], path: str
) -> None:
    """h11 as a server understands a request, its target and each of its headers."""
    headers = [
        ("Host", "x"),
        *(pair for pair in headers if pair[0].lower() not in {*FRAMING, "host"}),
    ]
    server = h11.Connection(h11.SERVER)
    server.receive_data(http1.request(method, f"/{path}", headers))
    event = server.next_event()
    assert isinstance(event, h11.Request)
    assert event.target.decode() == f"/{path}"
    seen = [(name.decode(), value.decode()) for name, value in event.headers]
    assert seen[: len(headers)] == [(name.lower(), value) for name, value in headers]
    assert isinstance(server.next_event(), h11.EndOfMessage)


@given(name=st.text(max_size=5), value=st.text(max_size=10))
def test_headers_that_would_break_the_request_are_found(name: str, value: str) -> None:
    """What passes the check is one line of one header; a value is never repeated in what is wrong."""
    # No word of ours has this in it.
    value = f"q7Z{value}"
    fault = http1.check_header(name, value)
    if not fault:
        assert name.isascii()
        assert not set(value) & set("\r\n\0")
    elif name and value not in name:
        assert "q7Z" not in fault.replace(name, "")


def test_retry_after() -> None:
    """Seconds and dates are understood, nonsense is as if nothing was said."""

    def after(text: str) -> float | None:
        return Response(503, "", (("retry-after", text),), 0).retry_after()

    assert after("120") == 120
    assert after("0") == 0
    soon = after(formatdate(time.time() + 100, usegmt=True))
    assert soon is not None
    assert 90 < soon <= 100
    assert after("Sun, 06 Nov 1994 08:49:37 GMT") == 0
    for nonsense in (
        "",
        "-1",
        "soon",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nof 1994 8:4:3 GMT",
        f"Sun, 06 Nov {'9' * 400} 08:49:37 GMT",
        f"Sun, 06 Nov 1994 {'9' * 400}:49:37 GMT",
    ):
        assert after(nonsense) is None


# urllib drops empty segments, which RFC 3986 keeps.
SEGMENTS = st.text(alphabet="ab.", min_size=1, max_size=3)
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda parts: "/" + "/".join(parts))


@given(
    base=PATHS,
    reference=st.one_of(
        PATHS,
        st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join),
        st.just("?a=b"),
        st.just("http://other.example:81/x?y"),
        st.just("//other.example/x"),
        st.just("https://other.example"),
    ),
)
def test_redirects_lead_where_the_standard_library_says(base: str, reference: str) -> None:
    """urllib agrees about where a reference leads (RFC 3986 section 5.2)."""
    found = location.follow(Place("http", "here.example", 80, base), reference)
    expected = urllib.parse.urlsplit(urllib.parse.urljoin(f"http://here.example{base}", reference))
    assert found is not None
    assert found.host == expected.hostname
    assert found.port == (expected.port or {"http": 80, "https": 443}[expected.scheme])
    query = f"?{expected.query}" if expected.query else ""
    assert found.path == (expected.path or "/") + query


@pytest.mark.parametrize(
    "text",
    [
        "ftp://x/",
        "javascript:alert(1)",
        "http://",
        "http://a b/",
        "http://x:0/",
        "http://x:99999/",
        "http://[::1/",
        "http://[zz]/",
        "http:relative",
        "mailto:x",
        "http://x:8a/",
        "http://x:000000080808080/",
        "http://a..b/",
        "http://./",
        f"http://{'a' * 64}.example/",
        f"http://{'a.' * 127}b/",
        "//",
    ],
)
def test_addresses_that_are_not_of_http_are_not_followed(text: str) -> None:
    """A Location that names no place is told apart from one that does."""
    assert location.follow(Place("http", "x", 80, "/"), text) is None


def test_a_location_cannot_break_the_next_request() -> None:
    """Spaces, controls and other scripts are encoded, a fragment and a user are dropped."""
    found = location.follow(Place("http", "x", 80, "/"), "http://u:p@y/a b\tc\x01ü?q#frag")
    assert found is not None
    assert (found.host, found.path) == ("y", "/a%20b%09c%01%C3%BC?q")


def test_places_that_a_location_names() -> None:
    """An IPv6 address, with and without a port, the scheme's own port, and the page itself."""
    here = Place("http", "x", 80, "/a?b")
    assert location.follow(here, "http://[::1]/") == Place("http", "::1", 80, "/")
    assert location.follow(here, "HTTPS://[::1]:81?q") == Place("https", "::1", 81, "/?q")
    assert location.follow(here, "#top") == here
    assert location.follow(here, "http://[::1]x/") is None


def test_places_are_written_as_servers_want_them() -> None:
    """The port where it is not the usual one, brackets around IPv6, no zone."""
    assert Place("http", "x", 80, "/").authority == "x"
    assert Place("https", "x", 80, "/").authority == "x:80"
    assert Place("http", "fe80::1%eth0", 81, "/").authority == "[fe80::1]:81"
    assert Place("https", "x", 443, "/").tunnel == "x:443"
    assert Place("https", "::1", 443, "/").tunnel == "[::1]:443"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=JSON, indent=st.sampled_from((None, 2)))
def test_json_is_read_as_the_standard_library_reads_it(value: object, indent: int | None) -> None:
    """Any value survives, with and without white space around it."""
    raw = f" \n{json.dumps(value, indent=indent)}\r\n".encode()
    assert json_path.parse(raw) == value
    assert json_path.parse(b"\xef\xbb\xbf" + raw) == value


@given(
    raw=st.one_of(
        st.binary(max_size=20), st.text(alphabet='{}[]",:0123456789.eE+-tfn ').map(str.encode)
    )
)
def test_what_is_no_json_is_a_value_error(raw: bytes) -> None:
    """The standard library and we agree on what is JSON at all."""
    try:
        expected = json.loads(raw.decode())
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            json_path.parse(raw)
    else:
        assert repr(json_path.parse(raw)) == repr(expected)


def test_deep_json_is_refused() -> None:
    """A text that would exhaust the stack is no JSON to us."""
    for raw in (b"[" * 60_000, b'{"a":' * 10_000):
        with pytest.raises(ValueError, match=r"."):
            json_path.parse(raw)


@pytest.mark.parametrize("length", [40, 41, 4300, 60_000])
def test_a_long_number_can_be_shown_and_counted_with(length: int) -> None:
    """CPython neither reads nor writes an integer of more than 4300 digits: none comes near (fault 67)."""
    value = json_path.parse(b"9" * length)
    assert isinstance(value, int if length == 40 else float)
    assert json_path.shown(value + value)
    assert float(value)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b[0].c", "x"),
        ("a.b[1]", "1.5"),
        ("a.t", "true"),
        ("a.n", "null"),
        ("[0]", None),
        ("a.b", "a list"),
        ("a", "an object"),
        ("a.b[2]", None),
        ("a.x", None),
        ("a.t.x", None),
        ("a.b.c", None),
        ("a[0]", None),
    ],
)
def test_paths_into_json(path: str, found: str | None) -> None:
    """Names and indexes lead to a value, or there is none."""
    top = {"a": {"b": [{"c": "x"}, 1.5], "t": True, "n": None}}
    if found is None:
        with pytest.raises(LookupError):
            json_path.look(top, path)
    else:
        assert json_path.shown(json_path.look(top, path)) == found


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a.[0]", "a[0"]
)
def test_paths_that_lead_nowhere_are_found_out(path: str) -> None:
    """A path with a hole in it is the operator's mistake."""
    with pytest.raises(ValueError, match=r"."):
        json_path.steps(path)
