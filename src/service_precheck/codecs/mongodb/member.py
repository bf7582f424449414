"""What a MongoDB server says of itself: its answer to `hello`.

MongoDB's reference of `hello`, and its drivers' specification "Server Discovery And Monitoring" for
what makes which kind of server.
"""

from __future__ import annotations

from ...kinds import read_port
from ...model import Frozen, printable
from ...net import is_address
from ...options import place
from . import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...stream import Stream

PORT = 27017
# A replica set has no more members.
MOST_MEMBERS = 50

STANDALONE, ROUTER, PRIMARY, SECONDARY = "standalone", "router", "primary", "secondary"
ARBITER, HIDDEN, STARTING, UNCONFIGURED = "arbiter", "hidden", "starting", "unconfigured"

_IN_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")

# Where to connect: host and port.
Place = tuple[str, int]


class Member(Frozen):
    """A server by its own words.

    `kind` is one of the constants above; `peer` and `place` are where it was asked; `set_name` is its
    replica set's, empty if it is in none; `listed` are the places of the set's members that hold data
    and are not hidden, by the names in the set's configuration; `primary` is who it takes for the
    primary; `writable` says that it takes writes; `info` is its own remark; `mechanisms` the logins
    that it offers the user it was asked about, None where it does not say.
    """

    __slots__ = (
        "info",
        "kind",
        "listed",
        "mechanisms",
        "peer",
        "place",
        "primary",
        "set_name",
        "writable",
    )
    kind: str
    peer: str
    place: Place
    set_name: str
    listed: tuple[Place, ...]
    primary: Place | None
    writable: bool
    info: str
    mechanisms: tuple[str, ...] | None

    def __init__(self, peer: str, where: Place, answer: Mapping[str, object]) -> None:
        names = [*_texts(answer.get("hosts")), *_texts(answer.get("passives"))][:MOST_MEMBERS]
        listed = (_place(name) for name in names)
        offered = answer.get("saslSupportedMechs")
        writable = (answer.get("isWritablePrimary") or answer.get("ismaster")) is True
        self._set(
            kind=_kind(answer, writable),
            peer=peer,
            place=where,
            set_name=_text(answer.get("setName"), 128),
            listed=tuple(one for one in listed if one is not None),
            primary=_place(_text(answer.get("primary"), 300)),
            writable=writable and answer.get("readOnly") is not True,
            info=_text(answer.get("info"), 200),
            mechanisms=_texts(offered) if isinstance(offered, list) else None,
        )

    @property
    def is_listed(self) -> bool:
        """Whether its set's configuration has it by the name under which it was asked."""
        return not self.set_name or self.place in self.listed

    def __str__(self) -> str:
        """For people: `the primary of rs0`."""
        of = f" of {self.set_name}" if self.set_name else ""
        return {
            STANDALONE: "a standalone server",
            ROUTER: "a router (mongos)",
            PRIMARY: f"the primary{of}",
            SECONDARY: f"a secondary{of}",
            ARBITER: f"an arbiter{of}",
            HIDDEN: f"a hidden member{of}",
            STARTING: f"a member{of} that starts, recovers or rolls back",
            UNCONFIGURED: "a member of a replica set, without the set's configuration",
        }[self.kind]


def hello(stream: Stream, where: Place, about: str) -> Member:
    """Ask a server what it is, and which logins it offers the user `about` (DATABASE.USER) if there is
    one.

    `isMaster` is the same for servers that do not know `hello` yet. Raises NotReady.
    """
    more: dict[str, object] = {"saslSupportedMechs": about} if about else {}
    answer = wire.exchange(stream, {"hello": 1, **more}, "admin")
    if answer.get("code") == wire.COMMAND_NOT_FOUND:
        answer = wire.exchange(stream, {"isMaster": 1, **more}, "admin")
    if answer.get("ok") != 1:
        raise wire.refusal(stream.peer, "hello", answer)
    return Member(stream.peer, where, answer)


def _kind(answer: Mapping[str, object], writable: bool) -> str:
    if answer.get("isreplicaset") is True:
        return UNCONFIGURED
    if not answer.get("setName"):
        return ROUTER if answer.get("msg") == "isdbgrid" else STANDALONE
    if answer.get("hidden") is True:
        return HIDDEN
    if writable:
        return PRIMARY
    if answer.get("secondary") is True:
        return SECONDARY
    return ARBITER if answer.get("arbiterOnly") is True else STARTING


def _text(value: object, most: int) -> str:
    return printable(value, most) if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def normal(host: str, port: int) -> Place:
    """A place as it is compared: the names in a set's configuration do not distinguish case."""
    return host.lower(), port


def _place(text: str) -> Place | None:
    """`host:port` of a set's configuration, None where it is no such thing."""
    head, colon, tail = text.rpartition(":")
    host, port = (head, read_port(tail)) if colon and not tail.endswith("]") else (text, PORT)
    host = host.removeprefix("[").removesuffix("]")
    if port is None or not host.isascii() or not host.isprintable() or len(host) > 253:
        return None
    labels = host.removesuffix(".").split(".")
    named = all(0 < len(label) < 64 and set(label) <= _IN_NAMES for label in labels)
    if not named and not is_address(host):
        return None
    return normal(host, port)


def shown(where: Place) -> str:
    """A place for people."""
    return place(*where)


def serving(found: list[Member], by_name: bool) -> list[Member]:
    """The primaries and secondaries among members, or those that clients of the set can find."""
    return [
        member
        for member in found
        if member.kind in (PRIMARY, SECONDARY) and (member.is_listed or not by_name)
    ]
