"""gRPC, one unary call after the other on a connection: "gRPC over HTTP/2" (grpc/grpc,
doc/PROTOCOL-HTTP2.md), statuses as in doc/statuscodes.md and, for answers of proxies, in
doc/http-grpc-status-mapping.md.

What is asked and answered are the bytes of messages; `protobuf` writes and reads them.
"""

from __future__ import annotations

from .. import net
from ..errors import NotReady, blocked
from ..model import Verdict, percent_decoded, printable
from ..options import place
from . import http2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Stream
    from ..tls import Settings

Metadata = tuple[tuple[str, str], ...]

CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 1, 2, 3, 4, 5
PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 7, 8, 9
UNIMPLEMENTED, UNAVAILABLE, UNAUTHENTICATED = 12, 14, 16
# Each status by its number: its name, and the cause that it is where a probe knows no better.
_STATUSES = (
    ("OK", "protocol"),
    ("CANCELLED", "not-ready"),
    ("UNKNOWN", "not-ready"),
    ("INVALID_ARGUMENT", "unsupported"),
    ("DEADLINE_EXCEEDED", "no-reply"),
    ("NOT_FOUND", "missing-object"),
    ("ALREADY_EXISTS", "not-ready"),
    ("PERMISSION_DENIED", "forbidden"),
    ("RESOURCE_EXHAUSTED", "overloaded"),
    ("FAILED_PRECONDITION", "not-ready"),
    ("ABORTED", "not-ready"),
    ("OUT_OF_RANGE", "not-ready"),
    ("UNIMPLEMENTED", "unsupported"),
    ("INTERNAL", "not-ready"),
    ("UNAVAILABLE", "not-ready"),
    ("DATA_LOSS", "not-ready"),
    ("UNAUTHENTICATED", "auth-required"),
)
_BEHIND = "a proxy answers, the service behind it does not"
# The status that an answer which is no gRPC stands for, by HTTP's; others are `protocol`.
_HTTP = {
    401: (UNAUTHENTICATED, ""),
    403: (PERMISSION_DENIED, ""),
    404: (UNIMPLEMENTED, "nothing speaks gRPC under this name and path"),
    429: (RESOURCE_EXHAUSTED, ""),
    502: (UNAVAILABLE, _BEHIND),
    503: (UNAVAILABLE, _BEHIND),
    504: (UNAVAILABLE, _BEHIND),
}
# How many characters of a server's words are shown.
_SHOWN = 300


class Refused(NotReady):
    """A call that was answered by another status than OK: `code`, and the server's `words` for it."""

    def __init__(self, verdict: Verdict, code: int, words: str) -> None:
        super().__init__(verdict)
        self.code = code
        self.words = words


class Channel:
    """A connection that calls are made on. Raises NotReady from every method that talks.

    `settings` asks for TLS. `authority` names the server to itself, where it is known by another name
    than `host` and `port`. `hint` is what to do where it hangs up, or speaks something else.
    """

    __slots__ = ("_authority", "_connection", "_scheme", "_stream", "peer")

    def __init__(
        self,
        stream: Stream,
        host: str,
        port: int,
        settings: Settings | None,
        *,
        authority: str = "",
        hint: str = "",
    ) -> None:
        self.peer = stream.peer
        self._stream = stream
        # A zone means something on this machine only (RFC 6874 section 4).
        self._authority = authority or place(host.partition("%")[0], port)
        self._scheme = "http" if settings is None else "https"
        if settings is not None:
            session = stream.upgrade(settings, host)
            if session.alpn != "h2":
                chosen = f"only {session.alpn}" if session.alpn else "no protocol"
                seen = f"{self.peer} speaks {session.version} and chose {chosen}, h2 is expected"
                raise blocked("protocol", seen, "gRPC is HTTP/2: a proxy may have it switched off")
        self._connection = http2.Connection(stream, hint)

    def call(
        self, path: str, message: bytes, metadata: Metadata = (), within: float | None = None
    ) -> bytes:
        """The message that answers `message` at `path` (`/package.Service/Method`).

        It takes until the attempt's deadline, or `within` seconds; the server is told so. Further calls
        can be made after one that failed. Raises Refused, and what a connection raises.
        """
        stream = self._stream
        deadline = stream.attempt.deadline
        stream.deadline = deadline if within is None else min(deadline, net.monotonic() + within)
        left = max(1, int((stream.deadline - net.monotonic()) * 1000))
        headers = (
            (":method", "POST"),
            (":scheme", self._scheme),
            (":path", path),
            (":authority", self._authority),
            ("te", "trailers"),
            ("grpc-timeout", f"{min(left, 99_999_999):08}m"),
            ("content-type", "application/grpc"),
            ("user-agent", "service-precheck"),
        )
        body = b"\0" + len(message).to_bytes(4, "big") + message
        try:
            answer = self._connection.request(_encoded(headers), _encoded(metadata), body)
        except NotReady as error:
            stream.deadline = deadline
            if error.verdict.cause == "no-reply" and net.monotonic() < deadline:
                self._connection.cancel()
            raise
        stream.deadline = deadline
        return self._message(answer)

    def goodbye(self) -> None:
        """End the conversation in order; the stream is still to be closed."""
        self._connection.goodbye()

    def _message(self, answer: http2.Answer) -> bytes:
        """The one message of an answer. Raises Refused, `protocol`, `unsupported`."""
        said = answer.fields.get("grpc-status", "")
        kind = answer.fields.get("content-type", "")
        if answer.status != 200 and not said:
            raise self._no_grpc(answer.status)
        if not kind.startswith("application/grpc"):
            shown = f"'{printable(kind, 60)}'" if kind else "nothing"
            raise self._odd(f"an answer of type {shown}, gRPC is expected")
        if not (said.isascii() and said.isdecimal() and len(said) < 4):
            raise self._odd("an answer without a status of gRPC")
        if code := int(said):
            raise self._refused(code, answer.fields.get("grpc-message", ""))
        body = answer.body
        if body[:1] == b"\1":
            raise blocked("unsupported", f"{self.peer} compresses what was asked for plain (gRPC)")
        if len(body) < 5 or int.from_bytes(body[1:5], "big") != len(body) - 5:
            raise self._odd("not one whole message (gRPC)")
        return body[5:]

    def _refused(self, code: int, message: str) -> Refused:
        # Percent-encoded UTF-8, of which HTTP/2 has made Latin-1.
        words = percent_decoded(message.encode("latin-1").decode("utf-8", "replace"))
        known = code < len(_STATUSES)
        name, cause = _STATUSES[code] if known else (f"status {code}", "protocol")
        told = f"{name} ({printable(words, _SHOWN)})" if words else name
        return Refused(Verdict(cause, f"{self.peer} answers {told}"), code, words)

    def _no_grpc(self, status: int) -> NotReady:
        seen = f"{self.peer} answers HTTP status {status} and no gRPC"
        if status not in _HTTP:
            return blocked("protocol", seen)
        code, hint = _HTTP[status]
        return Refused(Verdict(_STATUSES[code][1], seen, hint), code, "")

    def _odd(self, what: str) -> NotReady:
        return blocked("protocol", f"{self.peer} sent {what}")


def _encoded(fields: Metadata) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields]
