"""Kafka's messages as bytes: the Kafka protocol guide ("Messages"), each API in one fixed version.

| API                  | version | spoken by Kafka   |
|----------------------|---------|-------------------|
| ApiVersions (18)     | 0       | 0.10.0 and later  |
| SaslHandshake (17)   | 1       | 1.0 and later     |
| SaslAuthenticate (36)| 0       | 1.0 and later     |
| Metadata (3)         | 5       | 1.0 and later     |
| ListOffsets (2)      | 1       | 0.10.1 and later  |

None of them has the flexible encoding (KIP-482); the one later message, ApiVersions 5, is only written,
and its answer read as far as the error. What is read raises ValueError where it is no such message.
"""

from __future__ import annotations

from ...model import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LIST_OFFSETS, METADATA, SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 2, 3, 17, 18, 36
NAMES = {
    LIST_OFFSETS: "ListOffsets",
    METADATA: "Metadata",
    SASL_HANDSHAKE: "SaslHandshake",
    API_VERSIONS: "ApiVersions",
    SASL_AUTHENTICATE: "SaslAuthenticate",
}
VERSIONS = {LIST_OFFSETS: 1, METADATA: 5, SASL_HANDSHAKE: 1, API_VERSIONS: 0, SASL_AUTHENTICATE: 0}
# The version of ApiVersions that says who is meant (KIP-1242).
NAMING = 5
# Of ListOffsets: the offset after the last message.
_LATEST = -1

UNKNOWN_TOPIC_OR_PARTITION, REPLICA_NOT_AVAILABLE = 3, 9
UNSUPPORTED_SASL_MECHANISM, ILLEGAL_SASL_STATE, UNSUPPORTED_VERSION = 33, 34, 35
SASL_AUTHENTICATION_FAILED, REBOOTSTRAP_REQUIRED = 58, 129
# What an election mends, or a broker on its way up.
LEADERLESS = {
    5: "LEADER_NOT_AVAILABLE",
    6: "NOT_LEADER_OR_FOLLOWER",
    7: "REQUEST_TIMED_OUT",
    8: "BROKER_NOT_AVAILABLE",
    56: "KAFKA_STORAGE_ERROR",
    72: "LISTENER_NOT_FOUND",
    74: "FENCED_LEADER_EPOCH",
    78: "OFFSET_NOT_AVAILABLE",
}
FORBIDDEN = {29: "TOPIC_AUTHORIZATION_FAILED", 31: "CLUSTER_AUTHORIZATION_FAILED"}
_ERRORS = {
    **LEADERLESS,
    **FORBIDDEN,
    -1: "UNKNOWN_SERVER_ERROR",
    UNKNOWN_TOPIC_OR_PARTITION: "UNKNOWN_TOPIC_OR_PARTITION",
    REPLICA_NOT_AVAILABLE: "REPLICA_NOT_AVAILABLE",
    17: "INVALID_TOPIC_EXCEPTION",
    UNSUPPORTED_SASL_MECHANISM: "UNSUPPORTED_SASL_MECHANISM",
    ILLEGAL_SASL_STATE: "ILLEGAL_SASL_STATE",
    UNSUPPORTED_VERSION: "UNSUPPORTED_VERSION",
    42: "INVALID_REQUEST",
    SASL_AUTHENTICATION_FAILED: "SASL_AUTHENTICATION_FAILED",
    89: "THROTTLING_QUOTA_EXCEEDED",
    REBOOTSTRAP_REQUIRED: "REBOOTSTRAP_REQUIRED",
}


def error_name(code: int) -> str:
    """An error code as people look it up: `error 5 (LEADER_NOT_AVAILABLE)`."""
    name = _ERRORS.get(code)
    return f"error {code} ({name})" if name else f"error {code}"


class Broker(Frozen):
    """A broker, and where it is advertised on the listener that was asked."""

    __slots__ = ("host", "node", "port")
    node: int
    host: str
    port: int

    def __init__(self, node: int, host: str, port: int) -> None:
        self._set(node=node, host=host, port=port)


class Partition(Frozen):
    """A partition: `leader` is a broker's id, -1 if there is none; `in_sync` are ids too."""

    __slots__ = ("error", "in_sync", "index", "leader")
    error: int
    index: int
    leader: int
    in_sync: tuple[int, ...]

    def __init__(self, error: int, index: int, leader: int, in_sync: tuple[int, ...]) -> None:
        self._set(error=error, index=index, leader=leader, in_sync=in_sync)


class Topic(Frozen):
    """A topic that was asked for."""

    __slots__ = ("error", "name", "partitions")
    error: int
    name: str
    partitions: tuple[Partition, ...]

    def __init__(self, error: int, name: str, partitions: tuple[Partition, ...]) -> None:
        self._set(error=error, name=name, partitions=partitions)


class Cluster(Frozen):
    """What a broker knows: `controller` is a broker's id, -1 if there is none; `name` the cluster's id."""

    __slots__ = ("brokers", "controller", "name", "topics")
    brokers: tuple[Broker, ...]
    name: str
    controller: int
    topics: tuple[Topic, ...]

    def __init__(
        self, brokers: tuple[Broker, ...], name: str, controller: int, topics: tuple[Topic, ...]
    ) -> None:
        self._set(brokers=brokers, name=name, controller=controller, topics=topics)


class Reader:
    """Takes values off the front of an answer."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def integer(self, size: int) -> int:
        """A signed integer of `size` bytes."""
        return int.from_bytes(self._taken(size), "big", signed=True)

    def text(self) -> str:
        """A string, empty where it is null."""
        return self._taken(max(0, self.integer(2))).decode("utf-8", "replace")

    def blob(self) -> bytes:
        """Bytes, none where they are null."""
        return self._taken(max(0, self.integer(4)))

    def each(self) -> Iterable[None]:
        """As often as an array has elements: none where it is null."""
        count = self.integer(4)
        # Each element takes a byte at least.
        if count > len(self._data) - self._at:
            raise ValueError("an array that is longer than its message")
        return (None for _ in range(count))

    def integers(self) -> tuple[int, ...]:
        """An array of broker ids."""
        return tuple(self.integer(4) for _ in self.each())

    def _taken(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError("a message that ends too soon")
        self._at += count
        return taken


def integer(value: int, size: int) -> bytes:
    """A signed integer of `size` bytes."""
    return value.to_bytes(size, "big", signed=True)


def text(value: str) -> bytes:
    """A string."""
    raw = value.encode()
    return integer(len(raw), 2) + raw


def blob(value: bytes) -> bytes:
    """Bytes."""
    return integer(len(value), 4) + value


def array(elements: Iterable[bytes]) -> bytes:
    """An array."""
    listed = tuple(elements)
    return integer(len(listed), 4) + b"".join(listed)


def request(api: int, version: int, number: int, client: str, body: bytes) -> bytes:
    """A request with its length and header (version 1); `number` comes back with the answer."""
    header = integer(api, 2) + integer(version, 2) + integer(number, 4) + text(client)
    return blob(header + body)


def naming(cluster: str, node: int, client: str) -> bytes:
    """ApiVersions 5 behind its header's fixed part: which broker is meant. Its fields are flexible."""
    names = (client, "1", cluster)
    strings = b"".join(bytes((len(raw) + 1,)) + raw for raw in (n.encode()[:126] for n in names))
    return b"\0" + strings + integer(node, 4) + b"\0"


def metadata_request(topics: Iterable[str]) -> bytes:
    """All brokers, and these topics, of which none is made by the question."""
    return array(text(topic) for topic in topics) + b"\0"


def offsets_request(topics: Iterable[tuple[str, Iterable[int]]]) -> bytes:
    """Where these partitions of topics end; only their leader answers."""
    return integer(-1, 4) + array(
        text(topic) + array(integer(index, 4) + integer(_LATEST, 8) for index in partitions)
        for topic, partitions in topics
    )


def read_versions(reader: Reader) -> tuple[int, dict[int, tuple[int, int]]]:
    """An error code, and for each API the versions that are spoken, from and to."""
    error = reader.integer(2)
    return error, {reader.integer(2): (reader.integer(2), reader.integer(2)) for _ in reader.each()}


def read_error(reader: Reader) -> int:
    """The error code with which an answer begins."""
    return reader.integer(2)


def read_mechanisms(reader: Reader) -> tuple[int, tuple[str, ...]]:
    """An error code, and the mechanisms that are enabled, in the order of their names."""
    return reader.integer(2), tuple(sorted(reader.text() for _ in reader.each()))


def read_token(reader: Reader) -> tuple[int, str, bytes]:
    """An error code, the broker's words, and its next message of the login."""
    return reader.integer(2), reader.text(), reader.blob()


def read_metadata(reader: Reader) -> Cluster:
    """The cluster as a broker knows it."""
    reader.integer(4)  # how long it throttles, in milliseconds
    brokers = tuple(_broker(reader) for _ in reader.each())
    return Cluster(
        brokers, reader.text(), reader.integer(4), tuple(_topic(reader) for _ in reader.each())
    )


def read_offsets(reader: Reader) -> tuple[tuple[str, int, int], ...]:
    """For each partition: its topic, its index, and an error code."""
    found = []
    for _ in reader.each():
        topic = reader.text()
        for _ in reader.each():
            found.append((topic, reader.integer(4), reader.integer(2)))
            reader.integer(8)  # a time
            reader.integer(8)  # the offset
    return tuple(found)


def _broker(reader: Reader) -> Broker:
    broker = Broker(reader.integer(4), reader.text(), reader.integer(4))
    reader.text()  # its rack
    return broker


def _topic(reader: Reader) -> Topic:
    error, name = reader.integer(2), reader.text()
    reader.integer(1)  # whether it is Kafka's own
    return Topic(error, name, tuple(_partition(reader) for _ in reader.each()))


def _partition(reader: Reader) -> Partition:
    error, index, leader = reader.integer(2), reader.integer(4), reader.integer(4)
    reader.integers()  # its replicas
    in_sync = reader.integers()
    reader.integers()  # the replicas that are down
    return Partition(error, index, leader, in_sync)
