"""HPACK, the compression of HTTP/2's headers: RFC 7541.

- Decoding is complete: the static and the dynamic table, Huffman codes, changes of the table's size.
- Encoding is the plainest that is allowed: literals, without the table and without Huffman codes.
- What a list of headers may take is bounded (SETTINGS_MAX_HEADER_LIST_SIZE, counted as RFC 9113
  section 6.5.2 says), so that a few bytes never become many.

Raises NotCompressed for what does not follow the document; the connection is of no use after that.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Header = tuple[bytes, bytes]

# SETTINGS_HEADER_TABLE_SIZE: what we never change, so what an encoder may use of it (section 4.2).
TABLE_SIZE = 4096
# Section 4.1: what an entry takes beside its name and value.
_ENTRY = 32
# No length or index that makes sense has more digits after its prefix (section 5.1).
_MOST_DIGITS = 4

# Appendix A; an entry without a value is a name alone.
_STATIC = tuple(
    (name, value)
    for name, _, value in (
        entry.partition(b" ")
        for entry in (
            b":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|"
            b":scheme https|:status 200|:status 204|:status 206|:status 304|:status 400|:status 404|"
            b":status 500|accept-charset|accept-encoding gzip, deflate|accept-language|"
            b"accept-ranges|accept|access-control-allow-origin|age|allow|authorization|"
            b"cache-control|content-disposition|content-encoding|content-language|content-length|"
            b"content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|"
            b"if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|"
            b"link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|"
            b"refresh|retry-after|server|set-cookie|strict-transport-security|transfer-encoding|"
            b"user-agent|vary|via|www-authenticate"
        ).split(b"|")
    )
)
# Appendix B: how many bits the code of each byte has, and of the end of a string (EOS). The code is
# canonical: codes of one length follow each other in the order of the bytes, the shorter ones first.
_EOS = 256
_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a"
    "080b080606060505050606060606060607080f060c0a0d06070707070707070707070707070707070707"
    "070707070807080d130d0e060f05060506050606060507070606060506070605050607070707070f0b0e"
    "0d1c14161414161616171617171717171817181816171817171717151617161717181615141616171715"
    "1716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a18191315"
    "1a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b"
    "1b1b1b1a1e"
)
_LONGEST_CODE = 30
# For each length of a code: the first code, and the bytes whose codes are that long. Made on first use.
_codes: list[tuple[int, tuple[int, ...]]] = []


class NotCompressed(Exception):
    """What came is no HPACK; the text says why."""


class Decoder:
    """The dynamic table of one connection's headers (section 2.3.2), and what reads with it."""

    __slots__ = ("_entries", "_limit", "_most", "_size")

    def __init__(self, most: int) -> None:
        # The newest entry stands first.
        self._entries: list[Header] = []
        self._size = 0
        self._limit = TABLE_SIZE
        self._most = most

    def decode(self, block: bytes) -> list[Header]:
        """The headers of one block, in the order in which they came."""
        headers = []
        left = self._most
        for name, value in self._fields(block):
            left -= len(name) + len(value) + _ENTRY
            if left < 0:
                raise NotCompressed(f"more than {self._most >> 10} KiB of headers")
            headers.append((name, value))
        return headers

    def _fields(self, block: bytes) -> Iterator[Header]:
        """Section 6: each representation by its first bits."""
        at = 0
        begun = False
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                yield self._entry(index)
            elif first & 0xE0 == 0x20:
                size, at = _integer(block, at, 5)
                if begun or size > TABLE_SIZE:
                    raise NotCompressed("a change of the table's size that is not allowed")
                self._limit = size
                self._shrink()
                continue
            else:
                indexed = first & 0x40
                index, at = _integer(block, at, 6 if indexed else 4)
                name, at = (self._entry(index)[0], at) if index else _string(block, at)
                value, at = _string(block, at)
                if indexed:
                    self._entries.insert(0, (name, value))
                    self._size += len(name) + len(value) + _ENTRY
                    self._shrink()
                yield name, value
            begun = True

    def _entry(self, index: int) -> Header:
        """Section 2.3.3: the static table, and the dynamic one behind it."""
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        index -= len(_STATIC) + 1
        if not 0 <= index < len(self._entries):
            raise NotCompressed("an index that no table has")
        return self._entries[index]

    def _shrink(self) -> None:
        """Section 4.4: the oldest entries go first; one that never fits empties the table."""
        while self._size > self._limit:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _ENTRY


def encode(headers: Iterable[Header], secret: Iterable[Header] = ()) -> bytes:
    """A block of literals that no table keeps; of `secret`, that no proxy on the way may keep either
    (section 7.1.3)."""
    return b"".join(
        kind + _counted(name) + _counted(value)
        for kind, fields in ((b"\x00", headers), (b"\x10", secret))
        for name, value in fields
    )


def _counted(text: bytes) -> bytes:
    """A string literal (section 5.2) without a Huffman code."""
    length = len(text)
    if length < 0x7F:
        return bytes((length,)) + text
    digits = bytearray((0x7F,))
    length -= 0x7F
    while length >= 0x80:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    digits.append(length)
    return bytes(digits) + text


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """The number that begins in the last `bits` bits of a byte (section 5.1), and where it ends."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for place, digit in enumerate(block[at : at + _MOST_DIGITS]):
        value += (digit & 0x7F) << 7 * place
        if digit < 0x80:
            return value, at + place + 1
    raise NotCompressed("a number that does not end")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """The string that begins there (section 5.2), and where it ends."""
    if at >= len(block):
        raise NotCompressed("a header that is cut off")
    coded = block[at] & 0x80
    length, at = _integer(block, at, 7)
    raw = block[at : at + length]
    if len(raw) < length:
        raise NotCompressed("a header that is cut off")
    return _uncoded(raw) if coded else raw, at + length


def _uncoded(raw: bytes) -> bytes:
    """What a string in Huffman codes says."""
    if not _codes:
        _codes.extend(_canonical())
    said = bytearray()
    code = length = 0
    for byte in raw:
        for place in range(7, -1, -1):
            code = code << 1 | byte >> place & 1
            length += 1
            if length > _LONGEST_CODE:
                raise NotCompressed("a Huffman code that there is not")
            first, symbols = _codes[length]
            if 0 <= code - first < len(symbols):
                symbol = symbols[code - first]
                if symbol == _EOS:
                    raise NotCompressed("the end of a string within it")
                said.append(symbol)
                code = length = 0
    # What fills the last byte is the beginning of EOS, whose bits are all ones.
    if length > 7 or code != (1 << length) - 1:
        raise NotCompressed("a string that is filled up with something")
    return bytes(said)


def _canonical() -> Iterator[tuple[int, tuple[int, ...]]]:
    first = 0
    for length in range(_LONGEST_CODE + 1):
        symbols = tuple(symbol for symbol, bits in enumerate(_LENGTHS) if bits == length)
        yield first, symbols
        first = (first + len(symbols)) << 1
