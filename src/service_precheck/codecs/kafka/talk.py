"""A conversation with a Kafka broker: a request, and its answer, one at a time.

Kafka protocol guide ("Network", "Protocol Requests", "Retrieving Supported API versions"): a length in
four bytes, a header, and a message. There is no goodbye: the connection is closed. An answer is at
most 1 MiB, some 20,000 partitions.
"""

from __future__ import annotations

from ...errors import blocked
from . import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self, TypeVar

    from ...errors import NotReady
    from ...stream import Stream

    T = TypeVar("T")

CLIENT = "service-precheck"
MOST_ANSWER = 1 << 20
# A number, and an error code.
_LEAST_ANSWER = 6


class Talk:
    """A connection to a broker. `apis` has the versions it speaks of each API, once it was greeted.

    `locked` has the mechanisms of the login that it asks for and was not given; without such, `cluster`
    is what it knows, once it was asked. Raises NotReady from every method that talks. Use it in a
    `with` block.
    """

    __slots__ = ("_connection", "_number", "apis", "cluster", "locked")

    def __init__(self, connection: Stream) -> None:
        self._connection = connection
        self._number = 0
        self.apis: dict[int, tuple[int, int]] = {}
        self.locked: tuple[str, ...] = ()
        self.cluster = wire.Cluster((), "", -1, ())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def peer(self) -> str:
        """What is at the other end, for people."""
        return self._connection.peer

    def last_until(self, deadline: float) -> None:
        """Let the conversation go on until then."""
        self._connection.deadline = deadline

    def ask(
        self, api: int, body: bytes, read: Callable[[wire.Reader], T], version: int | None = None
    ) -> T:
        """What `read` makes of the answer to a request."""
        name = wire.NAMES[api]
        self._number += 1
        version = wire.VERSIONS[api] if version is None else version
        self._connection.write(wire.request(api, version, self._number, CLIENT, body))
        head = self._connection.read_exactly(4, f"an answer to {name}")
        length = int.from_bytes(head, "big")
        if not _LEAST_ANSWER <= length <= MOST_ANSWER:
            from .. import another_protocol

            raise another_protocol.explain(self._connection, head, "Kafka", "#tls asks in TLS")
        answer = self._connection.read_exactly(length, f"all of its answer to {name}")
        reader = wire.Reader(answer)
        try:
            number, found = reader.integer(4), read(reader)
        except ValueError as error:
            raise blocked("protocol", f"{self.peer} answers {name} with {error}") from error
        if number != self._number:
            raise blocked("protocol", f"{self.peer} answers {name} with what was not asked for")
        return found

    def greet(self) -> None:
        """Ask what it speaks. Raises `protocol`, `unsupported`."""
        error, self.apis = self.ask(wire.API_VERSIONS, b"", wire.read_versions)
        if error:
            raise self.odd(wire.API_VERSIONS, error)
        if wire.METADATA not in self.apis:
            raise blocked(
                "protocol",
                f"{self.peer} speaks Kafka and knows no Metadata",
                "a controller's port is not for clients: name a broker's",
            )

    def speaks(self, api: int) -> bool:
        """Whether it speaks our version of an API. Raises `unsupported` where only other ones."""
        low, high = self.apis.get(api, (0, -1))
        version = wire.VERSIONS[api]
        if high < 0 or low <= version <= high:
            return high >= 0
        raise blocked(
            "unsupported",
            f"{self.peer} speaks {wire.NAMES[api]} of the versions {low} to {high}, {version} is needed",
        )

    def look_around(self, topics: Iterable[str]) -> None:
        """Ask for the cluster as it knows it, and these topics."""
        self.speaks(wire.METADATA)
        self.cluster = self.ask(wire.METADATA, wire.metadata_request(topics), wire.read_metadata)

    def is_broker(self, cluster: str, node: int) -> bool:
        """Whether it is that broker of that cluster, as far as it can say: since Kafka 4.4 (KIP-1242)."""
        if not cluster or self.apis.get(wire.API_VERSIONS, (0, 0))[1] < wire.NAMING:
            return True
        body = wire.naming(cluster, node, CLIENT)
        error = self.ask(wire.API_VERSIONS, body, wire.read_error, wire.NAMING)
        return error != wire.REBOOTSTRAP_REQUIRED

    def odd(self, api: int, error: int) -> NotReady:
        """What to raise for an error that is not expected there."""
        cause = "unsupported" if error == wire.UNSUPPORTED_VERSION else "protocol"
        said = wire.error_name(error)
        return blocked(cause, f"{self.peer} answers {wire.NAMES[api]} with {said}")
