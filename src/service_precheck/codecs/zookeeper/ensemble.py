"""Several ZooKeeper servers as one ensemble: where they are, and one session that they all keep."""

from __future__ import annotations

from ... import net, stream
from ...access import tls_settings, wants_tls, without_tls
from ...errors import NotReady, blocked
from . import session, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from ...model import Verdict
    from ...options import Target
    from ...stream import Attempt, Stream

# How long the servers have for what the verdict does not depend on any more, in seconds.
FAREWELL = 0.5
# How long a session may outlive us at the most, in seconds; as a rule, as long as the attempt would last.
LONGEST = 60.0
# What it often means when a server says nothing of itself.
_HINTS = {
    "closed-early": "often the limit of connections from one address (maxClientCnxns), or a proxy with "
    "nothing behind it",
    "no-reply": "it may hang, or the port speaks TLS: #tls",
}


class Server:
    """One address of a host. `peer` is what it is called, `mode` what it says it is, empty as long as that
    is unknown."""

    __slots__ = ("address", "host", "mode", "peer", "port")

    def __init__(self, host: str, address: str, port: int, peer: str) -> None:
        self.host = host
        self.address = address
        self.port = port
        self.peer = peer
        self.mode = ""

    def __str__(self) -> str:
        """For people: `10.0.0.9:2181 (leader)`, `zk-0.zk (10.0.0.9:2181, leader)`."""
        if not self.mode:
            return self.peer
        if self.peer.endswith(")"):
            return f"{self.peer[:-1]}, {self.mode})"
        return f"{self.peer} ({self.mode})"

    def connect(self, target: Target, attempt: Attempt) -> Stream:
        """A connection to it, in TLS where the target asks for that. Raises NotReady."""
        connection = stream.connect_any(self.host, (self.address,), self.port, attempt)
        if wants_tls(target):
            try:
                connection.upgrade(tls_settings(target), self.host)
            except NotReady as error:
                connection.close()
                raise without_tls(error) from error
            except BaseException:
                connection.close()
                raise
        return connection

    def ask_mode(self, target: Target, attempt: Attempt) -> None:
        """Have it say what it is. Raises NotReady where it serves not, or cannot be asked."""
        try:
            with self.connect(target, attempt) as connection:
                self.mode = words.mode(connection)
        except NotReady as error:
            hint = error.verdict.hint
            if not wants_tls(target):
                hint = _HINTS.get(str(error.verdict.cause), hint)
            raise NotReady(error.verdict.but(hint=hint)) from error


def servers(target: Target, attempt: Attempt, obstacles: list[Verdict]) -> list[Server]:
    """Each address of each host, once: a client would go on to the next one, too.

    Why a host has none goes to the `obstacles`.
    """
    found: dict[tuple[str, int], Server] = {}
    attempt.several = len(target.hosts) > 1
    for looked_up, (host, port) in enumerate(target.hosts):
        try:
            addresses = attempt.part(len(target.hosts) - looked_up + 1).addresses(host)
        except NotReady as error:
            obstacles.append(error.verdict)
            continue
        family = net.family_of(addresses[0])
        for address in addresses:
            # A server may have an address of each family, and is one voter.
            if not target.number("voters") or net.family_of(address) == family:
                peer = attempt.told(host, address, port)
                found.setdefault((address, port), Server(host, address, port, peer))
    return list(found.values())


class Keeping:
    """One session, and the servers that keep it: each takes it over from the one before.

    Their connections stay open until it has ended and the servers close them. A connection that we closed
    would be a warning in their logs, with a stack trace.
    """

    __slots__ = ("_attempt", "_connections", "_session", "_target", "servers")

    def __init__(self, target: Target, attempt: Attempt) -> None:
        self._target = target
        self._attempt = attempt
        self._connections: list[Stream] = []
        self._session = session.Session()
        self.servers: list[Server] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        limit = net.monotonic() + FAREWELL
        for connection in self._connections:
            connection.deadline = min(connection.deadline, limit)
        try:
            if self._session.number:
                # Left alone, it would be the ensemble's to keep for some seconds.
                self.end()
            for connection in self._connections:
                while connection.read_some():
                    pass
        except NotReady:
            pass
        for connection in self._connections:
            connection.close()

    def add(self, server: Server, attempt: Attempt) -> None:
        """Have one more server keep the session. Raises NotReady if it does not."""
        connection = server.connect(self._target, attempt)
        try:
            self._session = self._open(server, connection)
        except BaseException:
            connection.close()
            raise
        # What is asked of it later has the time of the whole attempt.
        connection.deadline = self._attempt.deadline
        self._connections.append(connection)
        self.servers.append(server)

    def _open(self, server: Server, connection: Stream) -> session.Session:
        known = self._session
        timeout = min(LONGEST, max(0.0, self._attempt.deadline - net.monotonic()))
        try:
            opened = session.open_session(connection, timeout, known)
        except NotReady as error:
            raise _refused(server, connection, error) from error
        if known.number and opened.number != known.number:
            others = ", ".join(map(str, self.servers))
            raise blocked(
                "too-few",
                f"{server} does not know the session of {others}",
                "they are of different ensembles, or were just elected anew",
            )
        if opened.read_only:
            raise words.read_only(connection.peer)
        return opened

    @property
    def connection(self) -> Stream:
        """The connection that the session now belongs to."""
        return self._connections[-1]

    def end(self) -> bool:
        """End the session, which takes the quorum's consent; whether that was possible without a login.

        Raises NotReady.
        """
        code = session.close_session(self.connection)
        self._session = session.Session()
        if code and code != session.SESSION_CLOSED_REQUIRE_AUTH:
            name = session.error_name(code)
            raise blocked("not-ready", f"{self.connection.peer} does not end a session: {name}")
        return not code


def _refused(server: Server, connection: Stream, error: NotReady) -> NotReady:
    """What it means that no session came of it."""
    if error.verdict.cause == "no-reply":
        limit = connection.attempt.limit()
        hint = "its leader hangs, or the ensemble cannot write: its disks, its network"
        return blocked("no-reply", f"{server} opened no session within {limit}", hint)
    if error.verdict.cause == "closed-early" and not server.mode:
        return blocked("no-quorum", f"{server} refuses a session, as one without a quorum does")
    return error
