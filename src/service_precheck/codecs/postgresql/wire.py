"""PostgreSQL's messages: frontend/backend protocol 3.0, and the answers to simple and extended queries.

PostgreSQL documentation, "Frontend/Backend Protocol": "Message Flow", "Message Formats", "Error and
Notice Message Fields". What a server sends unasked (notices, its parameters) is taken wherever it comes.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...stream import Stream

PROTOCOL, SSL_REQUEST = 196_608, 80_877_103
# The longest message that is kept, the longest row that is passed over, the most messages of one talk.
MOST, MOST_ROW, MOST_MESSAGES = 65_536, 1 << 24, 1000
# An error that claims to be longer is of protocol 2: bare text, of a server that cannot start a process.
_MOST_ERROR = 30_000
# What a server may send in answer to what is asked here, besides errors, and unasked.
_KINDS = b"RKZTDCI12snv" + b"NSA"
# COPY: the server sends data, asks for some, or both; data; its end.
_COPY = b"HGWdc"


class ServerError(Exception):
    """An ErrorResponse: its fields by their one-letter codes, of whom, and whether it came in TLS."""

    def __init__(self, fields: dict[str, str], peer: str, encrypted: bool) -> None:
        super().__init__(fields.get("M", ""))
        self.fields = fields
        self.peer = peer
        self.encrypted = encrypted

    @property
    def code(self) -> str:
        """The SQLSTATE, empty if it has none."""
        return self.fields.get("C", "")

    @property
    def turned_away(self) -> bool:
        """Whether no line of pg_hba.conf lets this client in, the way it came."""
        return self.code == "28000" and self.fields.get("R") == "ClientAuthentication"

    @property
    def fatal(self) -> bool:
        """Whether the server ends the session with it."""
        return self._severity in ("FATAL", "PANIC")

    @property
    def _severity(self) -> str:
        """In English where the server is of version 9.6 or later."""
        return self.fields.get("V") or self.fields.get("S") or "ERROR"

    def __str__(self) -> str:
        """Severity, SQLSTATE, message and detail, on one line for people."""
        said = f"{f'{self._severity} {self.code}'.rstrip()}: {self.fields.get('M', '').strip()}"
        detail = self.fields.get("D", "")
        return printable(f"{said} ({detail.removesuffix('.')})" if detail else said, 300)


class Conversation:
    """Messages over a stream. `version` is the server's, once it has told; `encrypted` that of TLS, empty
    without.

    Raises ServerError for what the server refuses, NotReady for all else.
    """

    __slots__ = ("_left", "encrypted", "stream", "version")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.encrypted = ""
        self.version = ""
        self._left = MOST_MESSAGES

    def offers_tls(self) -> bool:
        """Ask for TLS (SSLRequest); whether the server is ready for the handshake."""
        self.stream.write(_counted(SSL_REQUEST.to_bytes(4, "big")))
        answer = self.stream.read_exactly(1, "its answer to SSLRequest")
        if answer == b"E":
            raise self._error(self.stream.read_exactly(4, "its error"))
        if answer not in (b"S", b"N"):
            raise self._another_protocol(answer)
        return answer == b"S"

    def start(self, **parameters: str) -> None:
        """Open the session (StartupMessage)."""
        said = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
        self.stream.write(_counted(PROTOCOL.to_bytes(4, "big") + said + b"\0"))

    def send(self, kind: bytes, body: bytes) -> None:
        """Send one message."""
        self.stream.write(kind + _counted(body))

    def receive(self) -> tuple[bytes, bytes]:
        """The type and the body of the next message that answers something."""
        while self._left > 0:
            self._left -= 1
            head = self.stream.read_exactly(5, "a whole answer")
            kind = head[:1]
            if kind == b"E":
                raise self._error(head[1:])
            length = int.from_bytes(head[1:], "big") - 4
            if kind in _COPY and length <= MOST:
                raise self.odd("a message of COPY, which nothing here asks for")
            if kind not in _KINDS or length < 0:
                raise self._another_protocol(head)
            if length > MOST:
                if kind != b"D" or length > MOST_ROW:
                    raise self.odd(f"a message of {length} bytes")
                self.stream.pass_over(length, "the whole row")
                return kind, bytes(2)
            body = self.stream.read_exactly(length, "a whole answer")
            if kind == b"S":
                name, _, value = body.removesuffix(b"\0").partition(b"\0")
                if name == b"server_version":
                    self.version = printable(_text(value.partition(b" ")[0]), 20)
            elif kind not in b"NA":
                return kind, body
        raise self.odd(f"more than {MOST_MESSAGES} messages")

    def rows(self) -> list[tuple[str | None, ...]]:
        """The rows, two of them at most, before the server is ready for a query (ReadyForQuery)."""
        rows: list[tuple[str | None, ...]] = []
        error = None
        while True:
            try:
                kind, body = self.receive()
            except ServerError as said:
                if said.fatal:
                    raise
                error = error or said
                continue
            if kind == b"D" and len(rows) < 2:
                rows.append(self._columns(body))
            elif kind == b"Z":
                if error is not None:
                    raise error
                return rows
            elif kind not in b"DTCI12sK":
                raise self.odd(f"a message of type {kind!r} in the middle of an answer")

    def query(self, text: str) -> list[tuple[str | None, ...]]:
        """Run statements (Query); their rows as `rows` has them, columns as text."""
        self.send(b"Q", text.encode() + b"\0")
        return self.rows()

    def first_row(self, text: str, milliseconds: int) -> bool:
        """Whether a statement gives a row: one statement, one row, nothing written, within its time.

        Parse takes one statement alone, and Execute ends at its first row.
        """
        self.query(f"BEGIN READ ONLY; SET LOCAL statement_timeout = {milliseconds}")
        one = (1).to_bytes(4, "big")
        extended = (
            (b"P", b"\0" + text.encode() + b"\0" + bytes(2)),
            (b"B", bytes(8)),
            (b"E", b"\0" + one),
            (b"S", b""),
            # A pool gets its connection back in order.
            (b"Q", b"ROLLBACK\0"),
        )
        self.stream.write(b"".join(kind + _counted(body) for kind, body in extended))
        try:
            given = bool(self.rows())
        except ServerError as error:
            if not error.fatal:
                self.rows()
            raise
        self.rows()
        return given

    def end(self) -> None:
        """Say goodbye (Terminate); where that cannot be sent, nothing is owed."""
        try:
            self.send(b"X", b"")
        except NotReady:
            pass

    def odd(self, what: str, hint: str = "") -> NotReady:
        """The exception for an answer that breaks the protocol."""
        return blocked("protocol", f"{self.stream.peer} sent {what}", hint)

    def _error(self, length: bytes) -> ServerError:
        """The ErrorResponse that follows its length."""
        count = int.from_bytes(length, "big")
        if count > _MOST_ERROR:
            text = length + self.stream.read_until(b"\0", MOST, "its error")
            if not text[:-1].decode("utf-8", "replace").strip().isprintable():
                raise self._another_protocol(b"E" + text)
            return self._refusal({"V": "FATAL", "M": _text(text[:-1])})
        if count < 5:
            raise self._another_protocol(b"E" + length)
        fields = {}
        for field in self.stream.read_exactly(count - 4, "its error").split(b"\0"):
            if field:
                fields[_text(field[:1])] = _text(field[1:])
        code = fields.get("C", "")
        if "M" not in fields or len(code) != 5 or not (code.isascii() and code.isalnum()):
            raise self.odd("an error without a code or a message")
        return self._refusal(fields)

    def _refusal(self, fields: dict[str, str]) -> ServerError:
        return ServerError(fields, self.stream.peer, bool(self.encrypted))

    def _columns(self, body: bytes) -> tuple[str | None, ...]:
        """The columns of a DataRow; None for NULL."""
        columns: list[str | None] = []
        at = 2
        for _ in range(int.from_bytes(body[:2], "big")):
            length = int.from_bytes(body[at : at + 4], "big", signed=True)
            at += 4
            if length > len(body) - at or at > len(body):
                raise self.odd("a row that is shorter than it says")
            columns.append(None if length < 0 else _text(body[at : at + length]))
            at += max(0, length)
        return tuple(columns)

    def _another_protocol(self, said: bytes) -> NotReady:
        from .. import another_protocol

        return another_protocol.explain(self.stream, said, "PostgreSQL")


def _counted(body: bytes) -> bytes:
    return (len(body) + 4).to_bytes(4, "big") + body


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
