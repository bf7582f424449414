"""BSON, as much as commands and their answers need: documents to bytes and back.

bsonspec.org, version 1.1. An answer is read with a bound on its depth, and every length in it is held
against the bytes that are there. Types that no command answers with are refused.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEEPEST = 32
_DOUBLE, _TEXT, _DOCUMENT, _ARRAY, _BINARY, _BOOLEAN, _NULL = 1, 2, 3, 4, 5, 8, 10
_INT32, _INT64 = 0x10, 0x12
# Types of a fixed length in bytes. Of an object id, a date, a timestamp and a decimal the bytes are kept.
_LENGTHS = {
    _DOUBLE: 8,
    7: 12,
    _BOOLEAN: 1,
    9: 8,
    _NULL: 0,
    _INT32: 4,
    0x11: 8,
    _INT64: 8,
    0x13: 16,
    0x7F: 0,
    0xFF: 0,
}


def encode(document: Mapping[str, object]) -> bytes:
    """A document of texts, numbers, booleans, bytes (generic binary) and documents."""
    elements = b"".join(_element(name.encode() + b"\0", it) for name, it in document.items())
    return _number(len(elements) + 5) + elements + b"\0"


def _element(name: bytes, value: object) -> bytes:
    if isinstance(value, bool):
        return b"\x08" + name + bytes((value,))
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return b"\x10" + name + value.to_bytes(4, "little", signed=True)
        return b"\x12" + name + value.to_bytes(8, "little", signed=True)
    if isinstance(value, str):
        text = value.encode() + b"\0"
        return b"\x02" + name + _number(len(text)) + text
    if isinstance(value, bytes):
        return b"\x05" + name + _number(len(value)) + b"\0" + value
    assert isinstance(value, dict)
    return b"\x03" + name + encode(value)


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def decode(raw: bytes) -> dict[str, object]:
    """The document that `raw` is, arrays as lists. Raises ValueError."""
    document, end = _document(raw, 0, DEEPEST)
    if end != len(raw):
        raise ValueError("bytes after the document")
    return document


def _document(raw: bytes, at: int, depth: int) -> tuple[dict[str, object], int]:
    end = at + _length(raw, at)
    last = end - 1
    if last < at + 4 or end > len(raw) or raw[last] or not depth:
        raise ValueError("no document")
    document: dict[str, object] = {}
    at += 4
    while at < last:
        name_end = raw.index(0, at + 1, last)
        name = raw[at + 1 : name_end].decode("utf-8", "replace")
        document[name], at = _value(raw, raw[at], name_end + 1, depth)
    if at != last:
        raise ValueError("an element is longer than its document")
    return document, end


def _value(raw: bytes, kind: int, at: int, depth: int) -> tuple[object, int]:
    """The value of an element that begins at `at`, and where it ends."""
    if kind in (_DOCUMENT, _ARRAY):
        document, end = _document(raw, at, depth - 1)
        return (document if kind == _DOCUMENT else list(document.values())), end
    if kind == _TEXT:
        end = at + 4 + _length(raw, at)
        return _bytes(raw, at + 4, end)[:-1].decode("utf-8", "replace"), end
    if kind == _BINARY:
        end = at + 5 + _length(raw, at)
        return _bytes(raw, at + 5, end), end
    if kind not in _LENGTHS:
        raise ValueError(f"type {kind}")
    end = at + _LENGTHS[kind]
    data = _bytes(raw, at, end)
    if kind == _DOUBLE:
        ordered = data if sys.byteorder == "little" else data[::-1]
        return memoryview(ordered).cast("d")[0], end
    if kind == _BOOLEAN:
        return data != b"\0", end
    if kind in (_INT32, _INT64):
        return int.from_bytes(data, "little", signed=True), end
    return (data or None), end


def _length(raw: bytes, at: int) -> int:
    return int.from_bytes(_bytes(raw, at, at + 4), "little")


def _bytes(raw: bytes, at: int, end: int) -> bytes:
    if end > len(raw):
        raise ValueError("cut off")
    return raw[at:end]
