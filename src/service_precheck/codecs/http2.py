"""HTTP/2, the client's side of one request after the other: RFC 9113, with headers as in `hpack`.

- The connection begins with our preface, and nothing is asked before the server's has come (section
  3.4): what speaks something else is named as such.
- Answered is what the protocol wants answered: SETTINGS, PING, and room for more (WINDOW_UPDATE).
- Bounded: the length of a frame (16 KiB, what we never raise), of headers and of a body, and the number
  of frames, so that a flood of small ones ends as `protocol`.
- What does not follow the document is `protocol`; for a request that the server lets go of, its error
  code says the cause.
"""

from __future__ import annotations

from ..errors import NotReady, blocked
from ..model import Frozen, printable
from . import hpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..stream import Stream
    from .hpack import Header

# Section 4.2: what a frame may hold until the receiver allows more.
MOST_FRAME = 16_384
MOST_HEADERS = 65_536
MOST_BODY = 32_768
# An answer takes some ten.
MOST_FRAMES = 1000

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEAD = 9
# Section 6: types of frames, and flags.
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE = 0, 1, 3, 4, 5
_PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 6, 7, 8, 9
_END_STREAM = _ACK = 0x01
_END_HEADERS, _PADDED, _PRIORITY = 0x04, 0x08, 0x20
# Section 6.5.2, and section 6.9.2 for the window that both sides begin with.
_ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_HEADER_LIST_SIZE = 2, 4, 6
_WINDOW = 65_535
# Section 7.
_ERRORS = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT"),
    *("STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR"),
    *("CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)
_CANCEL = 8
_CAUSES = {
    "NO_ERROR": "not-ready",
    "INTERNAL_ERROR": "not-ready",
    "REFUSED_STREAM": "overloaded",
    "CANCEL": "not-ready",
    "CONNECT_ERROR": "not-ready",
    "ENHANCE_YOUR_CALM": "overloaded",
    "INADEQUATE_SECURITY": "forbidden",
}
# RFC 8446 section 5.1: an alert, and a version that begins with 3.
_ALERT = b"\x15\x03"
# How many characters of the server's words are shown.
_SHOWN = 60


class Answer(Frozen):
    """What came for a request: `fields` are its headers and trailers by their names, the later ones
    winning; `status` is HTTP's."""

    __slots__ = ("body", "fields", "status")
    status: int
    fields: dict[str, str]
    body: bytes

    def __init__(self, status: int, fields: dict[str, str], body: bytes) -> None:
        self._set(status=status, fields=fields, body=body)


class Connection:
    """A stream that speaks HTTP/2, once the server has greeted. Raises NotReady from every method.

    `hint` is what to do where it hangs up before, or speaks something else.
    """

    __slots__ = (
        "_decoder",
        "_frames",
        "_gone",
        "_head",
        "_last",
        "_room",
        "_unread",
        "_window",
        "stream",
    )

    def __init__(self, stream: Stream, hint: str) -> None:
        self.stream = stream
        self._decoder = hpack.Decoder(MOST_HEADERS)
        # The head of a frame whose payload has not come yet.
        self._head = b""
        self._frames = 0
        # The number of the last request.
        self._last = -1
        # What the server takes: of all bodies together, and of each.
        self._room, self._window = _WINDOW, _WINDOW
        # What came of bodies since we last made room for more.
        self._unread = 0
        # Why the server takes no more requests.
        self._gone = ""
        settings = ((_ENABLE_PUSH, 0), (_MAX_HEADER_LIST_SIZE, MOST_HEADERS))
        payload = b"".join(key.to_bytes(2, "big") + n.to_bytes(4, "big") for key, n in settings)
        self._greet(_PREFACE + _frame(_SETTINGS, 0, 0, payload), hint)

    def request(self, headers: Iterable[Header], secret: Iterable[Header], body: bytes) -> Answer:
        """What the server answers. `headers` begins with the pseudo-headers; `secret` are those that
        nobody on the way may keep."""
        if self._gone:
            raise self._let_go(self._gone)
        if len(body) > min(self._room, self._window):
            raise blocked("unsupported", f"{self.stream.peer} takes no body of {len(body)} bytes")
        self._room -= len(body)
        self._last += 2
        block = hpack.encode(headers, secret)
        pieces = [block[at : at + MOST_FRAME] for at in range(0, len(block), MOST_FRAME)]
        frames = [
            _frame(
                _CONTINUATION if place else _HEADERS,
                _END_HEADERS if place == len(pieces) - 1 else 0,
                self._last,
                piece,
            )
            for place, piece in enumerate(pieces)
        ]
        self.stream.write(b"".join((*frames, _frame(_DATA, _END_STREAM, self._last, body))))
        return self._answer(self._last)

    def cancel(self) -> None:
        """Let go of the last request; what still comes for it is dropped."""
        self.stream.write(_frame(_RST_STREAM, 0, self._last, _CANCEL.to_bytes(4, "big")))

    def goodbye(self) -> None:
        """Say that nothing more will be asked (section 6.8)."""
        self.stream.write(_frame(_GOAWAY, 0, 0, bytes(8)))

    def _answer(self, number: int) -> Answer:
        fields: dict[str, str] = {}
        body = b""
        while True:
            kind, flags, of, payload = self._frame()
            if kind == _HEADERS:
                headers = self._headers(flags, of, payload)
                # Interim ones (section 8.1) announce nothing that we wait for.
                if of == number and not headers.get(":status", "").startswith("1"):
                    fields |= headers
            elif kind == _DATA:
                self._make_room(len(payload))
                if of == number:
                    body += self._unpadded(flags, payload)
                    if len(body) > MOST_BODY:
                        raise self._odd(f"a body of more than {MOST_BODY >> 10} KiB")
            elif kind == _RST_STREAM and of == number:
                raise self._let_go(_error(payload))
            else:
                self._control(kind, flags, of, payload)
            if of == number and kind in (_HEADERS, _DATA) and flags & _END_STREAM:
                status = fields.get(":status", "")
                if len(status) != 3 or not (status.isascii() and status.isdecimal()):
                    raise self._odd("an answer without a status")
                return Answer(int(status), fields, body)

    def _headers(self, flags: int, number: int, payload: bytes) -> dict[str, str]:
        """The fields of a block, which may go on in further frames (section 6.10)."""
        block = self._unpadded(flags, payload)
        if flags & _PRIORITY:
            block = block[5:]
        while not flags & _END_HEADERS:
            kind, flags, of, payload = self._frame()
            if kind != _CONTINUATION or of != number:
                raise self._odd("another frame amid its headers")
            block += payload
            if len(block) > MOST_HEADERS:
                raise self._odd(f"more than {MOST_HEADERS >> 10} KiB of headers")
        try:
            fields = self._decoder.decode(block)
        except hpack.NotCompressed as error:
            raise self._odd(str(error)) from error
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}

    def _control(self, kind: int, flags: int, of: int, payload: bytes) -> None:
        """What is about the connection; types that are not known are passed over (section 5.5)."""
        if kind == _SETTINGS and not flags & _ACK:
            if len(payload) % 6:
                raise self._odd("a SETTINGS frame that is none")
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at : at + 2], "big") == _INITIAL_WINDOW_SIZE:
                    self._window = int.from_bytes(payload[at + 2 : at + 6], "big")
            self.stream.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.stream.write(_frame(_PING, _ACK, 0, payload[:8]))
        elif kind == _WINDOW_UPDATE and not of:
            self._room += int.from_bytes(payload[:4], "big")
        elif kind == _GOAWAY:
            words = printable(payload[8:].decode("utf-8", "replace"), _SHOWN)
            self._gone = f"{_error(payload[4:8])}{words and f' ({words})'}"
            # What was asked up to a number may still be answered.
            if not 0 < self._last <= int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF:
                raise self._let_go(self._gone)
        elif kind in (_PUSH_PROMISE, _CONTINUATION):
            raise self._odd("a frame that has no place there")

    def _frame(self) -> tuple[int, int, int, bytes]:
        """The next frame: its type, its flags, the number of its request, what it holds."""
        self._head = head = self._head or self.stream.read_exactly(_FRAME_HEAD, "the answer")
        length = int.from_bytes(head[:3], "big")
        if length > MOST_FRAME:
            raise self._odd(f"a frame of {length} bytes")
        payload = self.stream.read_exactly(length, "the whole answer")
        self._head = b""
        self._frames += 1
        if self._frames > MOST_FRAMES:
            raise self._odd(f"more than {MOST_FRAMES} frames")
        return head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFF_FFFF, payload

    def _unpadded(self, flags: int, payload: bytes) -> bytes:
        if not flags & _PADDED:
            return payload
        if not payload or payload[0] >= len(payload):
            raise self._odd("more padding than there is room for")
        return payload[1 : len(payload) - payload[0]]

    def _make_room(self, count: int) -> None:
        """Allow as much again as came (section 5.2), now and then."""
        self._unread += count
        if self._unread > _WINDOW // 2:
            more = self._unread.to_bytes(4, "big")
            self._unread = 0
            every = (_frame(_WINDOW_UPDATE, 0, number, more) for number in (0, self._last))
            self.stream.write(b"".join(every))

    def _greet(self, preface: bytes, hint: str) -> None:
        """Say our preface and take the server's, which is SETTINGS. Raises where it is something else."""
        stream, start = self.stream, b""
        try:
            stream.write(preface)
            while len(start) < _FRAME_HEAD and start[:2] != _ALERT:
                got = stream.read_some(_FRAME_HEAD - len(start))
                if not got:
                    break
                start += got
        except NotReady as error:
            raise NotReady(error.verdict.but(hint=error.verdict.hint or hint)) from error
        like = start[:1] in (b"", b"\0") and b"\x04\0\0\0\0\0".startswith(start[3:])
        if not like:
            from . import another_protocol

            raise another_protocol.explain(stream, start, "HTTP/2", hint)
        if len(start) < _FRAME_HEAD:
            seen = f"{stream.peer} closed the connection without an answer"
            raise blocked("closed-early", seen, hint)
        self._head = start
        kind, flags, of, payload = self._frame()
        self._control(kind, flags, of, payload)

    def _let_go(self, code: str) -> NotReady:
        cause = _CAUSES.get(code.partition(" ")[0], "protocol")
        return blocked(cause, f"{self.stream.peer} let go of the request: {code}")

    def _odd(self, what: str) -> NotReady:
        return blocked("protocol", f"{self.stream.peer} sent {what} (HTTP/2)")


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """Section 4.1."""
    return b"".join(
        (len(payload).to_bytes(3, "big"), bytes((kind, flags)), number.to_bytes(4, "big"), payload)
    )


def _error(code: bytes) -> str:
    """The name of an error code (section 7)."""
    number = int.from_bytes(code, "big")
    return _ERRORS[number] if number < len(_ERRORS) else f"error {number}"
