"""Protocol Buffers, as much as a few known messages take: the wire format of "Encoding"
(protobuf.dev), without a schema. Fields are told by their numbers; what is not asked for is skipped.
"""

from __future__ import annotations

from ..errors import blocked

# "Message Structure": the types of a field.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# "Base 128 Varints": 64 bits take no more.
_LONGEST = 10


class Message:
    """What a message holds. Raises NotReady (`protocol`) where `raw` is none; `peer` sent it."""

    __slots__ = ("_fields", "_peer")

    def __init__(self, raw: bytes, peer: str) -> None:
        self._peer = peer
        self._fields: list[tuple[int, int | bytes]] = []
        at = 0
        try:
            while at < len(raw):
                key, at = _read(raw, at)
                kind = key & 7
                value: int | bytes
                if kind == _VARINT:
                    value, at = _read(raw, at)
                else:
                    if kind == _BYTES:
                        length, at = _read(raw, at)
                    else:
                        length = {_FIXED64: 8, _FIXED32: 4}[kind]
                    value = raw[at : at + length]
                    at += length
                self._fields.append((key >> 3, value))
        except LookupError:
            at = len(raw) + 1
        if at > len(raw):
            raise blocked("protocol", f"{peer} sent a message that is cut off or none (protobuf)")

    def number(self, field: int) -> int:
        """The value of a number, a flag or an enumeration; 0 where it was not sent."""
        values = [v for number, v in self._fields if number == field and isinstance(v, int)]
        return values[-1] if values else 0

    def texts(self, field: int) -> list[str]:
        """Every value of a field of text."""
        return [value.decode("utf-8", "replace") for value in self._bytes(field)]

    def text(self, field: int) -> str:
        """The value of a field of text; empty where it was not sent."""
        return "".join(self.texts(field)[-1:])

    def message(self, field: int) -> Message:
        """The message within a field; an empty one where it was not sent."""
        return Message(b"".join(self._bytes(field)[-1:]), self._peer)

    def messages(self, field: int) -> list[Message]:
        """Every message of a field."""
        return [Message(raw, self._peer) for raw in self._bytes(field)]

    def _bytes(self, field: int) -> list[bytes]:
        return [v for number, v in self._fields if number == field and isinstance(v, bytes)]


def number(field: int, value: int) -> bytes:
    """A field with a number that is not negative, a flag or an enumeration."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def text(field: int, value: str) -> bytes:
    """A field of text."""
    raw = value.encode("utf-8", "surrogateescape")
    return _varint(field << 3 | _BYTES) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _read(raw: bytes, at: int) -> tuple[int, int]:
    """The varint that begins there, and where it ends. Raises LookupError where it does not end."""
    value = 0
    for place in range(_LONGEST):
        digit = raw[at + place]
        value |= (digit & 0x7F) << 7 * place
        if digit < 0x80:
            return value, at + place + 1
    raise LookupError
