"""RESP2, the client's side: the Redis serialization protocol, version 2.

Redis serialization protocol specification; every server speaks version 2 until HELLO asks for another.
A command is an array of bulk strings. Of replies those are read that our commands can get: a simple
string, an error, an integer, a bulk string, and a flat array of bulk strings; all else is `protocol`.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import Frozen, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...stream import Stream

# The longest errors are a page. INFO has about 5 KiB, and 50 bytes more for each database in use. What
# a sentinel knows of a primary are some twenty names and values.
MOST_LINE, MOST_BULK, MOST_MEMBERS = 4096, 1 << 19, 256
_KINDS = (b"+", b"-", b":", b"$", b"*")
# How many characters are shown of what is no RESP.
_SHOWN = 60


class Refusal(Frozen):
    """An error reply: its first word (`WRONGPASS`, `ERR`) and the whole line."""

    __slots__ = ("code", "words")
    code: str
    words: str

    def __init__(self, words: str) -> None:
        self._set(code=words.partition(" ")[0], words=words)


Value = str | int | tuple[str | None, ...] | Refusal | None


class Client:
    """Commands and replies over a stream. `user` is who asks, for people, empty if nobody in particular."""

    __slots__ = ("stream", "user")

    def __init__(self, stream: Stream, user: str) -> None:
        self.stream = stream
        self.user = user

    @property
    def peer(self) -> str:
        """The server, for people."""
        return self.stream.peer

    def say(self, *words: str) -> Value:
        """The reply to a command, errors included. Raises NotReady."""
        self.stream.write(command(words))
        return reply(self.stream, words[0])

    def ask(self, *words: str) -> Value:
        """The reply to a command. Raises NotReady, for an error reply the cause that fits it."""
        said = self.say(*words)
        if isinstance(said, Refusal):
            raise self.refused(words, said)
        return said

    def text(self, *words: str) -> str:
        """As `ask`, for a command that gets a string."""
        said = self.ask(*words)
        if not isinstance(said, str):
            raise self.strange(words[0], said)
        return said

    def refused(self, words: tuple[str, ...], said: Refusal) -> NotReady:
        """The exception for an error reply to a command."""
        from . import fault

        return fault.explain(self, words, said)

    def strange(self, to: str, said: Value) -> NotReady:
        """The exception for a reply that the command never gets."""
        shown = said.words if isinstance(said, Refusal) else repr(said)
        return blocked("protocol", f"{self.peer} answers {to} with {printable(shown, 100)}")


def command(words: tuple[str, ...]) -> bytes:
    """The bytes of a command and its arguments."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word.encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def reply(stream: Stream, to: str) -> Value:
    """The next reply; `to` names the command for people. Raises NotReady."""
    what = f"its reply to {to}"
    kind = stream.read_exactly(1, what)
    if kind not in _KINDS:
        raise _no_resp(stream, kind)
    line = stream.read_until(b"\r\n", MOST_LINE, what)[:-2]
    if kind == b"+":
        return _text(line)
    if kind == b"-":
        return Refusal(_text(line))
    number = _number(line)
    if number is None:
        raise _no_resp(stream, kind + line + b"\n")
    if kind == b":":
        return number
    if kind == b"$":
        return _bulk(stream, number, what)
    if number > MOST_MEMBERS:
        raise blocked("protocol", f"{stream.peer} sent {number} values in {what}")
    return None if number < 0 else tuple(_member(stream, what) for _ in range(number))


def _member(stream: Stream, what: str) -> str | None:
    head = stream.read_until(b"\r\n", MOST_LINE, what)[:-2]
    number = _number(head[1:])
    if head[:1] != b"$" or number is None or number > MOST_LINE:
        shown = printable(_text(head), _SHOWN)
        raise blocked("protocol", f"{stream.peer} sent '{shown}' within {what}")
    return _bulk(stream, number, what)


def _bulk(stream: Stream, length: int, what: str) -> str | None:
    if length < 0:
        return None
    if length > MOST_BULK:
        raise blocked("protocol", f"{stream.peer} announced {length} bytes for {what}")
    raw = stream.read_exactly(length + 2, what)
    if raw[-2:] != b"\r\n":
        raise blocked("protocol", f"{stream.peer} sent more than it announced for {what}")
    return _text(raw[:-2])


def _number(digits: bytes) -> int | None:
    unsigned = digits.removeprefix(b"-")
    return int(digits) if unsigned.isdigit() and len(unsigned) < 19 else None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _no_resp(stream: Stream, said: bytes) -> NotReady:
    from .. import another_protocol

    return another_protocol.explain(stream, said, "Redis", "rediss:// asks in TLS")
