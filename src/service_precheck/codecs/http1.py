"""HTTP/1.1, the client's side of one request: RFC 9112 for the framing, RFC 9110 for the words.

- A head is at most 64 KiB, interim responses included; a body is handed out as it comes, so that its
  reader says how much is enough. Nothing is ever decompressed.
- What decides where a body ends is read strictly, the rest leniently.
- What is no HTTP is `protocol`, and shown; an end before its time is `closed-early`.
"""

from __future__ import annotations

import time

from ..errors import NotReady, blocked
from ..model import Frozen, epoch, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..stream import Stream

PORTS = {"http": 80, "https": 443}
MOST_HEAD = 65_536
# A chunk's line: its length, and extensions that nobody uses.
_MOST_CHUNK_LINE = 256
# How many characters of what is no HTTP are shown.
_SHOWN = 60

TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

# RFC 9110 section 15; the server's own words are shown where it sends any.
_REASONS = {
    301: "Moved Permanently",
    302: "Found",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Place(Frozen):
    """Where a request goes. `path` begins with `/` and holds the query too."""

    __slots__ = ("host", "path", "port", "scheme")
    scheme: str
    host: str
    port: int
    path: str

    def __init__(self, scheme: str, host: str, port: int, path: str) -> None:
        self._set(scheme=scheme, host=host, port=port, path=path)

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials belong to (RFC 9110 section 4.3.1)."""
        return self.scheme, self.host.lower(), self.port

    @property
    def authority(self) -> str:
        """The host as the Host header has it: with its port where that is not the scheme's own."""
        # A zone means something on this machine only (RFC 6874 section 4).
        bare = self.host.partition("%")[0]
        host = f"[{bare}]" if ":" in bare else bare
        return host if PORTS.get(self.scheme) == self.port else f"{host}:{self.port}"

    @property
    def tunnel(self) -> str:
        """The host and port as CONNECT names them."""
        host = self.host.partition("%")[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def shown_path(self) -> str:
        """The path for people: without the query, which may hold a secret."""
        path, mark, _ = self.path.partition("?")
        return f"{path}?..." if mark else path

    def __str__(self) -> str:
        """For people."""
        return f"{self.scheme}://{self.authority}{self.shown_path}"


class Response(Frozen):
    """The head of a response: names of `headers` in lower case, in the order in which they came.

    `length` of the body is -1 when only the end of the connection tells, None when it is chunked.
    """

    __slots__ = ("headers", "length", "reason", "status")
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    length: int | None

    def __init__(
        self, status: int, reason: str, headers: tuple[tuple[str, str], ...], length: int | None
    ) -> None:
        self._set(status=status, reason=reason, headers=headers, length=length)

    def header(self, name: str) -> str:
        """The first value of a header (its name in lower case), empty if it was not sent."""
        return next((value for key, value in self.headers if key == name), "")

    def __str__(self) -> str:
        """`404 Not Found`."""
        return f"{self.status} {self.reason or _REASONS.get(self.status, '')}".rstrip()

    def retry_after(self) -> float | None:
        """Seconds until asking again is useful (RFC 9110 section 10.2.3), None if it does not say."""
        text = self.header("retry-after")
        if text.isascii() and text.isdecimal():
            return float(text[:9])
        try:
            # "Mon, 23 Nov 2026 04:15:00 GMT", the one form that senders may still use.
            _, day, month, year, clock, zone = text.split()
            if zone != "GMT":
                return None
            return max(0.0, epoch(int(year), month, int(day), clock) - time.time())
        except ValueError:
            return None


def request(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The bytes of a request without a body. Values must hold no line break (`check_header`)."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if method in ("POST", "PUT", "PATCH"):
        lines.append("Content-Length: 0")
    return "\r\n".join((*lines, "", "")).encode()


def check_header(name: str, value: str) -> str:
    """What is wrong with a header that is to be sent, empty if nothing. The value is not repeated."""
    if not name or not TOKEN.issuperset(name):
        return f"{name!r} is no name of a header"
    if any((c < " " and c != "\t") or c == "\x7f" for c in value):
        return f"the value of {name} holds a line break or another control character"
    return ""


def read_head(stream: Stream, method: str) -> Response:
    """The final response to a request of that method; interim ones (1xx) are skipped. Raises NotReady."""
    left = MOST_HEAD
    while True:
        status, reason, left = _status_line(stream, left)
        headers, left = _headers(stream, left)
        if status >= 200 or status == 101:
            return Response(status, reason, headers, _length(stream.peer, method, status, headers))


def body(stream: Stream, response: Response) -> Iterator[bytes]:
    """The body in pieces as they come. Raises NotReady where it ends before its time."""
    if response.length is None:
        yield from _chunks(stream)
    elif response.length < 0:
        while piece := stream.read_some():
            yield piece
    else:
        yield from _counted(stream, response.length, "the whole body")


def _counted(stream: Stream, length: int, what: str) -> Iterator[bytes]:
    while length:
        piece = stream.read_some(min(length, 16_384))
        if not piece:
            raise blocked(
                "closed-early", f"{stream.peer} closed the connection before it sent {what}"
            )
        length -= len(piece)
        yield piece


def _chunks(stream: Stream) -> Iterator[bytes]:
    """RFC 9112 section 7.1; extensions and trailers are read and dropped."""
    while True:
        line = stream.read_until(b"\n", _MOST_CHUNK_LINE, "a chunk's length")
        digits = line.partition(b";")[0].strip()
        if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise blocked("protocol", f"{stream.peer} sent {_said(digits)} for a chunk's length")
        length = int(digits, 16)
        if not length:
            _headers(stream, MOST_HEAD)
            return
        yield from _counted(stream, length, "the whole chunk")
        if stream.read_until(b"\n", 2, "a chunk").strip():
            raise blocked("protocol", f"{stream.peer} sent a chunk that is longer than it says")


def _status_line(stream: Stream, left: int) -> tuple[int, str, int]:
    start = stream.read_some(5)
    while 0 < len(start) < 5 and b"HTTP/".startswith(start):
        more = stream.read_some(5 - len(start))
        if not more:
            break
        start += more
    if not start:
        raise blocked("closed-early", f"{stream.peer} closed the connection without an answer")
    if start != b"HTTP/":
        raise _no_http(stream, start)
    line = _line(stream, left, "the status line")
    version, _, rest = line.partition(" ")
    code, _, reason = rest.partition(" ")
    if not version.startswith("1.") or len(code) != 3 or not (code.isascii() and code.isdecimal()):
        raise _no_http(stream, start + line.encode("latin-1"))
    if code < "100":
        raise _no_http(stream, start + line.encode("latin-1"))
    return int(code), reason.strip(), left - len(line) - 7


def _no_http(stream: Stream, said: bytes) -> NotReady:
    from . import another_protocol

    return another_protocol.explain(stream, said, "HTTP", "https:// asks in TLS")


def _said(raw: bytes) -> str:
    return f"'{printable(raw.decode('utf-8', 'replace'), _SHOWN)}'"


def _line(stream: Stream, left: int, what: str) -> str:
    """One line without its end, which may be a bare LF (RFC 9112 section 2.2)."""
    if left <= 0:
        raise blocked("protocol", f"{stream.peer} sent more than {MOST_HEAD >> 10} KiB of headers")
    try:
        raw = stream.read_until(b"\n", left, what)
    except NotReady as error:
        if error.verdict.cause != "protocol":
            raise
        size = f"{MOST_HEAD >> 10} KiB"
        raise blocked("protocol", f"{stream.peer} sent more than {size} of headers") from error
    return raw[:-1].removesuffix(b"\r").decode("latin-1")


def _headers(stream: Stream, left: int) -> tuple[tuple[tuple[str, str], ...], int]:
    """Header lines up to the empty one, and how much of the head's bound is left."""
    headers: list[tuple[str, str]] = []
    while line := _line(stream, left, "the headers"):
        left -= len(line) + 2
        if line[0] in " \t" and headers:
            # Obsolete folding (RFC 9112 section 5.2).
            name, value = headers[-1]
            headers[-1] = name, " ".join((value, line.strip(" \t"))).strip()
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or not TOKEN.issuperset(name):
            raise blocked(
                "protocol", f"{stream.peer} sent {_said(line.encode())} among its headers"
            )
        headers.append((name.lower(), value.strip(" \t")))
    return tuple(headers), left - 2


def _length(
    peer: str, method: str, status: int, headers: tuple[tuple[str, str], ...]
) -> int | None:
    """Where the body ends (RFC 9112 section 6.3), as `Response.length` has it."""
    if method == "HEAD" or status in (101, 204, 304) or (method == "CONNECT" and status < 300):
        return 0
    codings = ",".join(value for name, value in headers if name == "transfer-encoding").lower()
    if codings:
        return None if codings.rpartition(",")[2].strip() == "chunked" else -1
    lengths = ",".join(value for name, value in headers if name == "content-length")
    if not lengths:
        return -1
    values = {value.strip() for value in lengths.split(",")}
    value = values.pop()
    if values or not (value.isascii() and value.isdecimal()) or len(value) > 18:
        raise blocked("protocol", f"{peer} sent {_said(lengths.encode())} for Content-Length")
    return int(value)
