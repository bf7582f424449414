"""AMQP 0-9-1 on the wire: frames, methods and the fields in them.

AMQP 0-9-1 specification, sections 2.3 (frames) and 4.2 (their grammar); the types of a table's fields
as RabbitMQ writes them (its page on the errata of AMQP 0-9-1). A method is known by the numbers of its
class and its own: (10, 10) is Connection.Start.

- A frame is at most 64 KiB, and what is said in the handshake asks the server for no longer ones.
- A table is read one level at a time, so that depth costs nothing.
- What does not fit is `protocol`.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...stream import Stream

HEADER = b"AMQP\x00\x00\x09\x01"
MOST_FRAME = 65_536
# RabbitMQ's names for what both sides can say: why a login failed, and that publishing is blocked.
AUTHENTICATION_FAILURE, BLOCKING = "authentication_failure_close", "connection.blocked"
# The bits of a Declare: only the first, passive.
PASSIVE = b"\x01"
_END = b"\xce"
_METHOD, _CONTENT_HEADER, _HEARTBEAT = 1, 2, 8

START, START_OK = (10, 10), (10, 11)
TUNE, TUNE_OK = (10, 30), (10, 31)
OPEN, OPEN_OK = (10, 40), (10, 41)
CLOSE, CLOSE_OK = (10, 50), (10, 51)
BLOCKED, UNBLOCKED = (10, 60), (10, 61)
CHANNEL_OPEN, CHANNEL_OPEN_OK = (20, 10), (20, 11)
CHANNEL_CLOSE, CHANNEL_CLOSE_OK = (20, 40), (20, 41)
EXCHANGE_DECLARE, EXCHANGE_DECLARE_OK = (40, 10), (40, 11)
QUEUE_DECLARE, QUEUE_DECLARE_OK = (50, 10), (50, 11)
PUBLISH = (60, 40)

# Bytes of a table's fields by their type; what is not here says its length itself.
_SIZES = {
    **dict.fromkeys("tbB", 1),
    **dict.fromkeys("sUu", 2),
    **dict.fromkeys("Iif", 4),
    **dict.fromkeys("lLdT", 8),
    "D": 5,
    "V": 0,
}
_WITH_LENGTH = "SAFx"


class Broker:
    """What Connection.Start tells: the broker's name, how it lets in, what it can beyond the standard."""

    __slots__ = ("capabilities", "mechanisms", "name")

    def __init__(self, fields: Fields) -> None:
        fields.take(2)
        properties = Fields(fields.long(), fields.peer).pairs()
        self.mechanisms = fields.long().decode("utf-8", "replace").split()
        words = [
            properties.get(key, b"").decode("utf-8", "replace") for key in ("product", "version")
        ]
        self.name = printable(" ".join(words).strip(), 60) or "a broker without a name"
        capabilities = Fields(properties.get("capabilities", b""), fields.peer).pairs()
        self.capabilities = [name for name, value in capabilities.items() if value == b"\x01"]


def method(channel: int, which: tuple[int, int], *arguments: bytes) -> bytes:
    """A frame with one method."""
    return _frame(_METHOD, channel, number(which[0], 2) + number(which[1], 2) + b"".join(arguments))


def content_header(channel: int, length: int) -> bytes:
    """A frame that announces the content of a Basic.Publish, without properties."""
    return _frame(
        _CONTENT_HEADER, channel, number(PUBLISH[0], 2) + bytes(2) + number(length, 8) + bytes(2)
    )


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return number(kind, 1) + number(channel, 2) + number(len(payload), 4) + payload + _END


def number(value: int, size: int) -> bytes:
    """An unsigned integer of `size` bytes."""
    return value.to_bytes(size, "big")


def short(text: str) -> bytes:
    """A short string: at most 255 bytes of UTF-8."""
    encoded = raw(text)
    return number(len(encoded), 1) + encoded


def raw(text: str) -> bytes:
    """The bytes of a text as they were given."""
    return text.encode("utf-8", "surrogateescape")


def long(said: bytes) -> bytes:
    """A long string."""
    return number(len(said), 4) + said


def table(fields: dict[str, bytes]) -> bytes:
    """A table; each value with its type before it, as `flag`, `words` and `nested` give it."""
    return long(b"".join(short(name) + value for name, value in fields.items()))


def flag(value: bool) -> bytes:
    """A boolean in a table."""
    return b"t" + number(value, 1)


def words(text: str) -> bytes:
    """A text in a table."""
    return b"S" + long(raw(text))


def nested(fields: dict[str, bytes]) -> bytes:
    """A table in a table."""
    return b"F" + table(fields)


class Fields:
    """Bytes that were received, read field by field. Every reader raises `protocol` where they end early."""

    __slots__ = ("_at", "_raw", "peer")

    def __init__(self, raw: bytes, peer: str) -> None:
        self._raw = raw
        self._at = 0
        self.peer = peer

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        taken = self._raw[self._at : self._at + size]
        if len(taken) < size:
            raise blocked("protocol", f"{self.peer} sent a method that is shorter than it says")
        self._at += size
        return taken

    def number(self, size: int) -> int:
        """An unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def short(self) -> str:
        """A short string."""
        return self.take(self.number(1)).decode("utf-8", "replace")

    def long(self) -> bytes:
        """A long string; also a table, whose fields `pairs` of another reader gives."""
        return self.take(self.number(4))

    def pairs(self) -> dict[str, bytes]:
        """All that is left as the fields of a table: each one's name and the bytes of its value."""
        found = {}
        while self._at < len(self._raw):
            name = self.short()
            kind = chr(self.number(1))
            if kind not in _SIZES and kind not in _WITH_LENGTH:
                raise blocked("protocol", f"{self.peer} sent a field of the unknown type {kind!r}")
            found[name] = self.long() if kind in _WITH_LENGTH else self.take(_SIZES[kind])
        return found


def read_method(stream: Stream) -> tuple[tuple[int, int], Fields]:
    """The next method and its arguments; heartbeats are skipped. Raises NotReady."""
    while True:
        head = stream.read_exactly(7, "a frame")
        kind, length = head[0], int.from_bytes(head[3:], "big")
        if kind not in (_METHOD, _HEARTBEAT):
            raise _no_amqp(stream, head)
        if length > MOST_FRAME:
            raise blocked("protocol", f"{stream.peer} announces a frame of {length} bytes")
        payload = stream.read_exactly(length + 1, "the whole frame")
        if payload[-1:] != _END:
            raise blocked("protocol", f"{stream.peer} sent a frame that does not end where it says")
        if kind == _METHOD:
            fields = Fields(payload[:-1], stream.peer)
            return (fields.number(2), fields.number(2)), fields


def expect(stream: Stream, *wanted: tuple[int, int]) -> tuple[tuple[int, int], Fields]:
    """The next method, one of those. Raises what a Connection.Close says, and `protocol`."""
    while True:
        which, fields = read_method(stream)
        if which in wanted:
            return which, fields
        if which == CLOSE:
            from . import fault

            stream.write(method(0, CLOSE_OK))
            raise fault.connection_closed(fields)
        if which not in (BLOCKED, UNBLOCKED):
            due = " or ".join("{}.{}".format(*each) for each in wanted)
            raise blocked(
                "protocol", "{} sent the method {}.{}, {} is due".format(fields.peer, *which, due)
            )


def _no_amqp(stream: Stream, head: bytes) -> NotReady:
    """What to say of a server that speaks something else, or another version; `head` is how it begins."""
    if head[:4] == b"AMQP":
        # Section 4.2.2: the header of the version that the server speaks.
        version = ".".join(map(str, head[5:] + stream.read_exactly(1, "its version")))
        return blocked(
            "unsupported",
            f"{stream.peer} speaks AMQP {version}, and 0-9-1 is spoken here",
            "tcp:// or tls:// shows that it accepts connections",
        )
    from .. import another_protocol

    return another_protocol.explain(stream, head, "AMQP", "amqps:// asks in TLS")
