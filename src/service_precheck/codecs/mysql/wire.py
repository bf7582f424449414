"""The client/server protocol of MySQL and MariaDB: packets, the greeting, results of text queries.

MySQL's "Client/Server Protocol" (dev.mysql.com/doc/dev/mysql-server, PAGE_PROTOCOL), MariaDB's
"Clients & Servers Protocol". A packet is a length of three bytes, a number that counts up from 0 with
each command, and the payload; numbers are little-endian.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import Frozen, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from ...stream import Stream
    from ...tls import Session, Settings

# Capability flags.
LONG_PASSWORD = 0x1
PROTOCOL_41 = 0x200
SSL = 0x800
SECURE_CONNECTION = 0x8000
PLUGIN_AUTH = 0x8_0000
CONNECT_ATTRS = 0x10_0000
# Commands.
COM_QUIT, COM_INIT_DB, COM_QUERY = 1, 2, 3
# First bytes of packets.
OK, MORE_DATA, NULL, LOCAL_INFILE, EOF, ERR = 0x00, 0x01, 0xFB, 0xFB, 0xFE, 0xFF
# utf8mb4_general_ci, which both products know by this number.
CHARSET = 45
# What is read of one result, and kept of it: the status of a replica has a few KiB, and its set of
# transactions (GTID) may be long.
MOST_BYTES, MOST_ROWS = 1 << 18, 64
MOST_COLUMNS = 4096
# A greeting has some hundred bytes.
MOST_GREETING = 1 << 16
# What is kept of a row where nothing but its being there matters, and how many are passed over.
MOST_KEPT, MOST_PASSED = 1 << 16, 1_000_000
# A packet of this size goes on in the next one.
FULL = 0xFFFFFF

_BROKEN = "a result that breaks off within a field"

Row = dict[str, str | None]


class Refusal(Exception):
    """An ERR packet: the server's error `code`, its SQLSTATE (may be empty) and its words."""

    def __init__(self, code: int, state: str, words: str) -> None:
        self.code = code
        self.state = state
        self.words = f"{code} {printable(words, 300)}"
        super().__init__(self.words)


class Greeting(Frozen):
    """What the server says first. `plugin` is its usual way to log in, `nonce` what a login mixes in."""

    __slots__ = ("capabilities", "nonce", "plugin", "version")
    version: str
    capabilities: int
    nonce: bytes
    plugin: str

    def __init__(self, version: str, capabilities: int, nonce: bytes, plugin: str) -> None:
        self._set(version=version, capabilities=capabilities, nonce=nonce, plugin=plugin)

    @property
    def mariadb(self) -> bool:
        """Whether it is MariaDB rather than MySQL or what calls itself so."""
        return "mariadb" in self.version.lower()

    @property
    def tls(self) -> bool:
        """Whether TLS is offered."""
        return bool(self.capabilities & SSL)

    @property
    def product(self) -> str:
        """Product and version for people: "MariaDB 10.11.19"."""
        # MariaDB 10 and later says 5.5.5 first: old replicas want a single digit.
        number = self.version.removeprefix("5.5.5-").partition("-")[0]
        return f"{'MariaDB' if self.mariadb else 'MySQL'} {printable(number, 40)}"


class Fields:
    """The fields of a payload, taken one after the other. Raises ValueError where it ends too early."""

    __slots__ = ("_at", "_data")

    def __init__(self, payload: bytes) -> None:
        self._data = payload
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        got = self._data[self._at : self._at + count]
        if len(got) < count:
            raise ValueError("cut short")
        self._at += count
        return got

    def number(self, size: int) -> int:
        """An integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def until_nul(self) -> bytes:
        """What stands before the next zero byte, or to the end: some servers leave the last one out."""
        end = self._data.find(b"\0", self._at)
        end = len(self._data) if end < 0 else end
        got = self._data[self._at : end]
        self._at = end + 1
        return got

    def rest(self) -> bytes:
        """All that is left."""
        return self._data[self._at :]

    def length(self) -> int:
        """A length-encoded integer."""
        first = self.number(1)
        if first >= NULL:
            if first not in (0xFC, 0xFD, 0xFE):
                raise ValueError("no length")
            return self.number({0xFC: 2, 0xFD: 3, 0xFE: 8}[first])
        return first

    def value(self) -> str | None:
        """A length-encoded text, None for NULL."""
        if self._data[self._at : self._at + 1] == bytes((NULL,)):
            self._at += 1
            return None
        return self.take(self.length()).decode("utf-8", "replace")


class Conversation:
    """Packets to and from a server, from its greeting on; `leave` says goodbye where that is due.

    Whatever reads raises Refusal for an error of the server, and NotReady.
    """

    __slots__ = ("_idle", "_logged_in", "_sequence", "_stream", "greeting")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._sequence = 0
        # Whether the server waits for a command: only then a goodbye means something to it.
        self._idle = self._logged_in = False
        self.greeting = self._greeted()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._idle:
            return
        try:
            self.command(COM_QUIT)
        except NotReady:
            pass

    @property
    def peer(self) -> str:
        """The server for people."""
        return self._stream.peer

    def receive(self, most: int = MOST_BYTES) -> bytes:
        """The payload of the next packet, at least one byte of it."""
        size = self._header()
        if size > most:
            seen = f"{self.peer} sent a packet of {size} bytes, more than is read of an answer"
            raise blocked("protocol", seen)
        return self._payload(size)

    def _header(self) -> int:
        """The size of the next packet."""
        header = self._stream.read_exactly(4, "a packet")
        self._sequence = header[3] + 1 & 0xFF
        return int.from_bytes(header[:3], "little")

    def _payload(self, size: int) -> bytes:
        if not size:
            raise self._odd("an empty packet")
        payload = self._stream.read_exactly(size, f"a packet of {size} bytes")
        if payload[0] == ERR:
            self._idle = self._logged_in
            raise self._refusal(payload)
        return payload

    def send(self, payload: bytes) -> None:
        """Answer with one packet."""
        self._stream.write(len(payload).to_bytes(3, "little") + bytes((self._sequence,)) + payload)
        self._sequence = self._sequence + 1 & 0xFF

    def command(self, number: int, text: str = "") -> None:
        """Give a command."""
        self._idle = False
        self._sequence = 0
        self.send(bytes((number,)) + text.encode("utf-8", "replace"))

    def upgrade(self, capabilities: int, settings: Settings, host: str) -> Session:
        """Ask for TLS and shake hands."""
        self.send((capabilities | SSL).to_bytes(4, "little") + response_head())
        return self._stream.upgrade(settings, host)

    def logged_in(self) -> None:
        """The login is done: the server waits for commands."""
        self._idle = self._logged_in = True

    def use(self, database: str) -> None:
        """Make a database the one that is meant."""
        self.command(COM_INIT_DB, database)
        self.receive()
        self._idle = True

    def ask(self, sql: str) -> list[Row]:
        """The rows of a query, by the names of their columns; none for a statement that gives none."""
        names = self._columns(sql)
        rows: list[Row] = []
        left = MOST_BYTES
        while names and not _ends(packet := self.receive(left)):
            left -= len(packet)
            values = self._values(packet, len(names))
            if len(rows) < MOST_ROWS:
                rows.append(dict(zip(names, values, strict=True)))
        self._idle = True
        return rows

    def has_row(self, sql: str) -> bool:
        """Whether a query gives a row, of whatever length: a long one is passed over in pieces."""
        names = self._columns(sql)
        passed = 0
        while names:
            size = self._header()
            if size > MOST_KEPT:
                self._pass_over(size)
            elif _ends(packet := self._payload(size)):
                break
            else:
                self._values(packet, len(names))
            passed += 1
            if passed > MOST_PASSED:
                raise self._odd("ever more rows")
        self._idle = True
        return passed > 0

    def _columns(self, sql: str) -> list[str]:
        """The names of a query's columns, none for a statement that gives no rows."""
        self.command(COM_QUERY, sql)
        left = MOST_BYTES
        head = self.receive(left)
        if head[0] == OK:
            return []
        names = []
        try:
            columns = Fields(head).length() if head[0] != LOCAL_INFILE else 0
            if not 0 < columns <= MOST_COLUMNS:
                raise self._odd("a result without columns, or with too many")
            for _ in range(columns):
                definition = self.receive(left)
                left -= len(definition)
                fields = Fields(definition)
                # Before the name: catalog, schema, table, original table.
                names.append([fields.value() for _ in range(5)][4] or "")
        except ValueError as error:
            raise self._odd(_BROKEN) from error
        self.receive(left)
        return names

    def _values(self, row: bytes, count: int) -> list[str | None]:
        fields = Fields(row)
        try:
            return [fields.value() for _ in range(count)]
        except ValueError as error:
            raise self._odd(_BROKEN) from error

    def _pass_over(self, size: int) -> None:
        """Read a packet, and what it goes on in, and keep nothing."""
        while True:
            self._stream.pass_over(size, "the whole row")
            if size < FULL:
                return
            size = self._header()

    def _greeted(self) -> Greeting:
        size = self._header()
        if size > MOST_GREETING:
            raise self._another_protocol(size)
        payload = self._payload(size)
        if payload[0] != 10:
            raise self._odd(f"a greeting of version {payload[0]}")
        fields = Fields(payload)
        try:
            fields.take(1)
            version = fields.until_nul().decode("utf-8", "replace")
            fields.take(4)
            nonce = fields.take(8)
            fields.take(1)
            capabilities = fields.number(2)
            fields.take(3)
            capabilities |= fields.number(2) << 16
            # Both parts of the nonce, and the zero at the end of the second.
            length = fields.number(1)
            fields.take(10)
            nonce = (nonce + fields.take(max(13, length - 8)))[:20]
        except ValueError as error:
            raise self._odd("a greeting that breaks off") from error
        if not capabilities & PROTOCOL_41 or not capabilities & SECURE_CONNECTION:
            raise blocked("unsupported", f"{self.peer} speaks the protocol of before MySQL 4.1")
        return Greeting(version, capabilities, nonce, fields.until_nul().decode("ascii", "replace"))

    def _refusal(self, payload: bytes) -> Refusal:
        code = int.from_bytes(payload[1:3], "little")
        words, state = payload[3:], b""
        if words[:1] == b"#":
            words, state = words[6:], words[1:6]
        return Refusal(code, state.decode("ascii", "replace"), words.decode("utf-8", "replace"))

    def _another_protocol(self, size: int) -> NotReady:
        """What to say of a server whose first bytes, taken for the header of a packet, have that size."""
        from .. import another_protocol

        said = size.to_bytes(3, "little") + bytes((self._sequence - 1 & 0xFF,))
        return another_protocol.explain(self._stream, said, "MySQL")

    def _odd(self, what: str) -> NotReady:
        return blocked(
            "protocol", f"{self.peer} sent {what}: that is not the protocol of MySQL and MariaDB"
        )


def _ends(packet: bytes) -> bool:
    """Whether a packet is the end of a result: no row, whose first field would be longer than that."""
    return packet[0] == EOF and len(packet) < 9


def response_head() -> bytes:
    """What follows the capabilities in a login, and in the request for TLS: packet size, charset, filler."""
    return (1 << 24).to_bytes(4, "little") + bytes((CHARSET,)) + bytes(23)
