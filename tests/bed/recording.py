"""Recorded exchanges: what a probe and a real server said to each other, to be played again.

    python -m tests.bed.recording mysql 'mysql://root@{place}/shop#role=primary' 127.0.0.1:3306

makes one attempt on the target through a proxy in front of the server, sees that it is ready, and
writes `tests/probes/recorded/mysql.json`. The suite of hostile servers plays it back, cut, slowed and
mutated, so record the plainest exchange that uses most of the protocol. While recording and replaying,
random bytes are the same (`steady_random`), so that a login's nonce fits the recorded answer.

A target of TLS names `{ca}`: what is said in TLS is recorded as it was said, after a step that tells
where TLS began. Where it begins before anything else is said, the plain exchange is played in TLS as
well (`in_tls`), and need not be recorded again unless something else is said there: `NAME-tls` is then
its name. `{kubeconfig}` is a file that leads to the server.

A server that tells where it is to be found (Kafka's brokers, a replica set's members) tells a place
that leads back here: wherever it says its own port, in decimal or in four bytes, the port of whoever
plays it is said instead.
"""

from __future__ import annotations

import contextlib
import functools
import json
import posix
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from service_precheck import net, schemes, target
from service_precheck.access import TLS as TLS_FIRST
from service_precheck.dns import Names
from service_precheck.errors import NotReady
from service_precheck.options import Scheme, Target
from service_precheck.stream import Attempt
from tests.bed.sockets import Behaviour, Connection, Server
from tests.bed.tls import TLS, Authority, Certificate

FOLDER = Path(__file__).parents[1] / "probes" / "recorded"

# Who spoke ("client" or "server") and what; where TLS begins, "tls" and nothing.
Step = tuple[str, bytes]
BEGIN_TLS: Step = ("tls", b"")
# RFC 8446 section 5.1: the first record of a client.
CLIENT_HELLO = b"\x16\x03\x01"


class Recording:
    """An exchange: the target with `{place}` for the server, and the steps of each connection.

    `{ca}` in the target is the file of whom to trust, `{kubeconfig}` one that leads to the server.
    """

    def __init__(
        self, name: str, target: str, connections: list[list[Step]], port: int = 0
    ) -> None:
        self.name = name
        self.target = target
        self.connections = connections
        # The server's own, 0 if it is not known.
        self.port = port

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a recording from its file."""
        held: dict[str, Any] = json.loads(path.read_text())
        connections = [
            [(who, bytes.fromhex(said)) for who, said in steps] for steps in held["connections"]
        ]
        return cls(path.stem, held["target"], connections, held.get("port", 0))

    @property
    def scheme(self) -> Scheme:
        """The scheme that was asked by."""
        scheme = schemes.load(self.target.partition("://")[0])
        assert scheme is not None
        return scheme

    @property
    def speaks_tls(self) -> bool:
        """Whether any of it is said in TLS."""
        return any(BEGIN_TLS in steps for steps in self.connections)

    def in_tls(self) -> Recording | None:
        """All of it in TLS, None for a scheme in which TLS begins later or never."""
        plain, _, rest = self.target.partition("://")
        secure = f"{plain}s" if f"{plain}s" in schemes.BUILT_IN else plain
        if secure == plain and self.scheme.option("tls") is not TLS_FIRST:
            return None
        connections = [[BEGIN_TLS, *steps] for steps in self.connections]
        return Recording(f"{self.name}-tls", f"{secure}://{rest}#ca={{ca}}", connections, self.port)

    def server_bytes(self) -> bytes:
        """All that the server said, connections one behind the other."""
        return b"".join(
            said for steps in self.connections for who, said in steps if who == "server"
        )

    def save(self) -> None:
        """Write it to where the suite finds it."""
        connections = [[(who, said.hex()) for who, said in steps] for steps in self.connections]
        held = {"target": self.target, "port": self.port, "connections": connections}
        (FOLDER / f"{self.name}.json").write_text(json.dumps(held, indent=1) + "\n")


def led_back(said: bytes, port: int, here: int) -> bytes:
    """What a server at `port` said, with `here` for that port; of the same length."""
    if not port:
        return said
    said = said.replace(port.to_bytes(4, "big"), here.to_bytes(4, "big"))
    old, new = b"%d" % port, b"%d" % here
    return said.replace(old, new) if len(old) == len(new) else said


def all_recordings() -> list[Recording]:
    """Every recording by name, then in TLS those that are called as their scheme and can be played so."""
    found = {path.stem: Recording.load(path) for path in sorted(FOLDER.glob("*.json"))}
    for recording in list(found.values()):
        secure = recording.in_tls() if recording.name == recording.scheme.name else None
        if secure is not None:
            found.setdefault(secure.name, secure)
    return list(found.values())


def at(text: str, place: str, authority: Authority, token: str = "recorded-token") -> str:
    """A recording's target, for a server at `place` with a certificate of `authority`."""
    if "{kubeconfig}" in text:
        cluster = {"server": f"https://{place}", "certificate-authority": str(authority.file)}
        held = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "here", "user": {"token": token}}],
        }
        path = authority.folder / f"kubeconfig-{place}"
        path.write_text(json.dumps(held))
        text = text.replace("{kubeconfig}", str(path))
    return text.replace("{place}", place).replace("{ca}", str(authority.file))


_certificate: Callable[[Authority], Certificate] = functools.cache(Authority.issue)


def shown(authority: Authority) -> TLS:
    """TLS as whoever plays a recording speaks it."""
    return TLS(_certificate(authority), alpn=("h2", "http/1.1"))


@contextlib.contextmanager
def play(
    recording: Recording,
    authority: Authority,
    change: Callable[[bytes], bytes] = bytes,
    every: float = 0,
    patience: float | None = None,
) -> Iterator[str]:
    """A server that plays its part of a recording, as `replay` has it; gives the target to ask."""
    with Server(replay(recording, change, every, patience, shown(authority))) as server:
        yield at(recording.target, server.address, authority)


def replay(
    recording: Recording,
    change: Callable[[bytes], bytes] = bytes,
    every: float = 0,
    patience: float | None = None,
    tls: TLS | None = None,
) -> Behaviour:
    """Play the server's part to each client in turn, then close.

    `change` is made to all that the server says, connections one behind the other, before it is dealt
    out again to the steps: so it may cut, mutate or prolong it. With `every` it comes a byte at a time.
    A client that says nothing for `patience` seconds, where it spoke when recorded, is hung up on.
    """
    said = change(recording.server_bytes())
    turns = iter(_dealt(recording, said))
    lock = threading.Lock()

    def behave(connection: Connection) -> None:
        with lock:
            steps = next(turns, [])
        here = connection.socket.getsockname()[1]
        for who, part in steps:
            part = led_back(part, recording.port, here)
            if who == "tls":
                assert tls is not None, "this recording speaks TLS"
                if not _waited(connection, patience) or not tls.accept(connection):
                    return
            elif who == "client":
                if not _heard(connection, len(part), patience):
                    return
            elif every:
                for byte in part:
                    if not connection.write(bytes((byte,))) or connection.wait(every):
                        return
            elif not connection.write(part):
                return
        # What the client says last need not be answered; it need not be reset either.
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.settimeout(0.05)
        while connection.read():
            pass

    return behave


def _dealt(recording: Recording, said: bytes) -> Iterator[list[Step]]:
    """The steps of each connection with `said` in place of what the server said; up to where it ends."""
    last = len(recording.connections) - 1
    # Where something is missing, the client waits for it in vain instead of saying the last word.
    short = len(said) < len(recording.server_bytes())
    for number, steps in enumerate(recording.connections):
        dealt: list[Step] = []
        spoke = [at for at, (who, _) in enumerate(steps) if who == "server"]
        for at, (who, part) in enumerate(steps):
            if who == "server":
                rest = number == last and at == spoke[-1]
                part, said = (said, b"") if rest else (said[: len(part)], said[len(part) :])
            dealt.append((who, part))
            if who == "server" and not said and (at < spoke[-1] or short):
                break
        yield dealt


def _heard(connection: Connection, size: int, patience: float | None) -> bool:
    """Wait for so much of the client, or as much as it says; false when it is gone or said nothing."""
    heard = 0
    while heard < size:
        # The first byte may take its time; what belongs to it comes at once.
        wait = 0.05 if heard else patience
        if not _waited(connection, wait):
            return bool(heard)
        got = connection.read(size - heard)
        if not got:
            return False
        heard += len(got)
    return True


def _waited(connection: Connection, wait: float | None) -> bool:
    """Whether the client says something within so many seconds, or hangs up."""
    return bool(_unread(connection.socket) or select.select([connection.socket], [], [], wait)[0])


def _unread(channel: socket.socket) -> int:
    """How many bytes came out of TLS and were not read yet."""
    return channel.pending() if isinstance(channel, ssl.SSLSocket) else 0


@contextlib.contextmanager
def steady_random() -> Iterator[None]:
    """Make the random bytes that a probe draws the same each time."""
    before = posix.urandom
    posix.urandom = lambda size: (b"service-precheck" * size)[:size]
    try:
        yield
    finally:
        posix.urandom = before


def record(name: str, text: str, host: str, port: int, token: str = "") -> Recording:
    """Make one attempt on a target through a proxy in front of `host`; it must be ready."""
    connections: list[list[Step]] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        steady_random(),
        Authority() as authority,
    ):
        threading.Thread(
            target=_forward_all,
            args=(listening, (host, port), connections, shown(authority)),
            daemon=True,
        ).start()
        own = listening.getsockname()[1]
        leaf = target.parse(at(text, f"127.0.0.1:{own}", authority, token))
        assert isinstance(leaf, Target)
        verdict = leaf.scheme.probe(leaf, Attempt(net.monotonic() + 10, Names()))
        assert verdict.ready, verdict.seen
        print(verdict.seen)
    return Recording(name, text, connections, port)


def _forward_all(
    listening: socket.socket, upstream: tuple[str, int], connections: list[list[Step]], tls: TLS
) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, peer = listening.accept()
            server = socket.create_connection(upstream)
            steps: list[Step] = []
            connections.append(steps)
            connection = Connection(client, peer, threading.Event())
            threading.Thread(
                target=_converse, args=(connection, server, steps, upstream[1], tls), daemon=True
            ).start()


def _converse(
    connection: Connection, server: socket.socket, steps: list[Step], port: int, tls: TLS
) -> None:
    """Pass on what is said until one hangs up. When the client begins with TLS, TLS is spoken to both."""
    # A later version would have messages of its own in between.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with contextlib.suppress(OSError), contextlib.closing(server):
        while True:
            client = connection.socket
            source = select.select([client, server], [], [])[0][0]
            plain = source is client and BEGIN_TLS not in steps
            begins = client.recv(65_536, socket.MSG_PEEK).find(CLIENT_HELLO) if plain else -1
            if begins == 0:
                steps.append(BEGIN_TLS)
                server = context.wrap_socket(server)
                assert tls.accept(connection), tls.failures
                continue
            said = source.recv(begins if begins > 0 else 65_536)
            while _unread(source):
                said += source.recv(65_536)
            if not said:
                break
            who, sink = ("client", server) if source is client else ("server", client)
            before = steps.pop()[1] if steps and steps[-1][0] == who else b""
            steps.append((who, before + said))
            here = sink.getsockname()[1]
            sink.sendall(led_back(said, port, here) if who == "server" else said)
    connection.socket.close()


if __name__ == "__main__":
    try:
        name, text, where, *more = sys.argv[1:]
        host, _, port = where.rpartition(":")
        record(name, text, host, int(port), *more).save()
    except NotReady as error:
        sys.exit(f"not ready: {error.verdict.cause}: {error.verdict.seen}")
