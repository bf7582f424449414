"""The packets of a ZooKeeper session, to bytes and back.

`zookeeper.jute` of 3.4 to 3.9 (`ConnectRequest`, `ConnectResponse`, `RequestHeader`, `ReplyHeader`,
`AuthPacket`), `ZooDefs.OpCode`, `KeeperException.Code`. A packet is its length in four bytes, then jute:
numbers in network order, a string or buffer behind its length. All raise NotReady, of their own
`protocol` for what is none of this.
"""

from __future__ import annotations

from ...errors import blocked
from ...model import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...stream import Stream

EXISTS, GET_DATA = 3, 4
_AUTH, _CLOSE = 100, -11
# The xid of a login; the others are ours to choose.
_AUTH_XID, _LOOK_XID, _CLOSE_XID = -4, 1, 2

NO_NODE, NO_AUTH, AUTH_FAILED, NOT_READ_ONLY = -101, -102, -115, -119
SESSION_CLOSED_REQUIRE_AUTH, THROTTLED = -124, -127
_ERRORS = {
    -1: "SystemError",
    -4: "ConnectionLoss",
    -5: "MarshallingError",
    -6: "Unimplemented",
    -7: "OperationTimeout",
    -8: "BadArguments",
    -12: "UnknownSession",
    NO_NODE: "NoNode",
    NO_AUTH: "NoAuth",
    -112: "SessionExpired",
    AUTH_FAILED: "AuthFailed",
    -118: "SessionMoved",
    NOT_READ_ONLY: "NotReadOnly",
    SESSION_CLOSED_REQUIRE_AUTH: "SessionClosedRequireSaslAuth",
    THROTTLED: "ThrottledOp",
}

# The server's own bound for a packet, `jute.maxbuffer`, is 1 MiB unless raised. Of a long one no more
# than its beginning is kept.
MOST, _KEPT = 1 << 24, 64
_HEADER = 16


class Session(Frozen):
    """A session as a server granted it: with `number` and `password` another server of the ensemble
    takes it over. `read_only` says that the server has no quorum, and serves reads all the same."""

    __slots__ = ("number", "password", "read_only")
    number: int
    password: bytes
    read_only: bool

    def __init__(
        self, number: int = 0, password: bytes = bytes(16), read_only: bool = False
    ) -> None:
        self._set(number=number, password=password, read_only=read_only)


def open_session(connection: Stream, timeout: float, known: Session) -> Session:
    """A new session, or `known` taken over by this server; number 0 if its ensemble knows no such session.

    `timeout` is for how many seconds the ensemble keeps a session that it hears nothing of; its own
    bounds hold (2 and 20 ticks unless set). The request says that reads would do: only to that does a
    server in read-only mode say that it is in it.
    """
    connection.write(
        _packet(
            _int(0)  # protocolVersion
            + _int(0, 8)  # lastZxidSeen
            + _int(int(timeout * 1000))
            + _int(known.number, 8)
            + _buffer(known.password)
            + b"\1"  # readOnly
        )
    )
    packet = _read_packet(connection, "its answer to a session")
    if len(packet) == _HEADER and _number(packet, 12) == NOT_READ_ONLY:
        # 3.8 in read-only mode, where sessions are not local, answers with the header of a reply.
        return Session(read_only=True)
    if not 36 <= len(packet) <= 37 or _number(packet, 16) != 16:
        raise blocked("protocol", f"{connection.peer} answers a session as no ZooKeeper does")
    opened = Session(_number(packet, 8, 8), packet[20:36], packet[36:] == b"\1")
    if not opened.number and not known.number:
        raise blocked("protocol", f"{connection.peer} opens a session without a number")
    return opened


def log_in(connection: Stream, user: str, password: str) -> int:
    """The code of the answer to a login by digest, 0 where it was taken."""
    login = _int(0) + _buffer(b"digest") + _buffer(f"{user}:{password}".encode())
    return _ask(connection, _AUTH_XID, _AUTH, login)


def look(connection: Stream, path: str, operation: int) -> int:
    """The code of the answer to `EXISTS` or `GET_DATA` for a znode, 0 where it was granted."""
    return _ask(connection, _LOOK_XID, operation, _buffer(path.encode()) + b"\0")


def close_session(connection: Stream) -> int:
    """End the session in all of the ensemble. The code of the answer, 0 where it did."""
    return _ask(connection, _CLOSE_XID, _CLOSE)


def error_name(code: int) -> str:
    """A code of an answer as ZooKeeper's own clients call it: `NoNode (-101)`."""
    return f"{_ERRORS.get(code, 'error')} ({code})"


def _ask(connection: Stream, xid: int, operation: int, body: bytes = b"") -> int:
    connection.write(_packet(_int(xid) + _int(operation) + body))
    packet = _read_packet(connection, "its answer")
    if len(packet) < _HEADER or _number(packet, 0) != xid:
        raise blocked("protocol", f"{connection.peer} answers what was not asked")
    return _number(packet, 12)


def _read_packet(connection: Stream, what: str) -> bytes:
    """The next packet, or as much of it as is ever looked at."""
    length = _number(connection.read_exactly(4, what), 0)
    if not 0 <= length <= MOST:
        raise blocked("protocol", f"{connection.peer} announces {what} of {length} bytes")
    kept = connection.read_exactly(min(length, _KEPT), what)
    connection.pass_over(length - len(kept), what)
    return kept


def _packet(body: bytes) -> bytes:
    return _int(len(body)) + body


def _buffer(raw: bytes) -> bytes:
    return _int(len(raw)) + raw


def _int(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big", signed=True)


def _number(packet: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(packet[at : at + size], "big", signed=True)
