"""Recorded exchanges: what a probe and a real server said to each other, to be played again.

    python -m tests.bed.recording mysql 'mysql://root@{place}/shop#role=primary' 127.0.0.1:3306

makes one attempt on the target through a proxy in front of the server, sees that it is ready, and
writes `tests/probes/recorded/mysql.json`. The suite of hostile servers plays it back, cut, slowed and
mutated, so record the plainest exchange that uses most of the protocol. While recording and replaying,
random bytes are the same (`steady_random`), so that a login's nonce fits the recorded answer.

A server that tells where it is to be found (Kafka's brokers, a replica set's members) tells a place
that leads back here: wherever it says its own port, in decimal or in four bytes, the port of whoever
plays it is said instead.
"""

from __future__ import annotations

import contextlib
import json
import posix
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from service_precheck import net, target
from service_precheck.dns import Names
from service_precheck.errors import NotReady
from service_precheck.options import Target
from service_precheck.stream import Attempt
from tests.bed.sockets import Behaviour, Connection

FOLDER = Path(__file__).parents[1] / "probes" / "recorded"

# Who spoke ("client" or "server") and what.
Step = tuple[str, bytes]


class Recording:
    """An exchange: the target with `{place}` for the server, and the steps of each connection."""

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
    """Every recording, by name."""
    return [Recording.load(path) for path in sorted(FOLDER.glob("*.json"))]


def replay(
    recording: Recording,
    change: Callable[[bytes], bytes] = bytes,
    every: float = 0,
    patience: float | None = None,
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
            if who == "client":
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
        if not select.select([connection.socket], [], [], wait)[0]:
            return bool(heard)
        got = connection.read(size - heard)
        if not got:
            return False
        heard += len(got)
    return True


@contextlib.contextmanager
def steady_random() -> Iterator[None]:
    """Make the random bytes that a probe draws the same each time."""
    before = posix.urandom
    posix.urandom = lambda size: (b"service-precheck" * size)[:size]
    try:
        yield
    finally:
        posix.urandom = before


def record(name: str, text: str, host: str, port: int) -> Recording:
    """Make one attempt on a target through a proxy in front of `host`; it must be ready."""
    connections: list[list[Step]] = []
    with socket.create_server(("127.0.0.1", 0)) as listening, steady_random():
        threading.Thread(
            target=_forward_all, args=(listening, (host, port), connections), daemon=True
        ).start()
        own = listening.getsockname()[1]
        leaf = target.parse(text.replace("{place}", f"127.0.0.1:{own}"))
        assert isinstance(leaf, Target)
        verdict = leaf.scheme.probe(leaf, Attempt(net.monotonic() + 10, Names()))
        assert verdict.ready, verdict.seen
        print(verdict.seen)
    return Recording(name, text, connections, port)


def _forward_all(
    listening: socket.socket, upstream: tuple[str, int], connections: list[list[Step]]
) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            server = socket.create_connection(upstream)
            steps: list[Step] = []
            connections.append(steps)
            for source, sink, who in ((client, server, "client"), (server, client, "server")):
                threading.Thread(
                    target=_forward, args=(source, sink, who, steps, upstream[1]), daemon=True
                ).start()


def _forward(
    source: socket.socket, sink: socket.socket, who: str, steps: list[Step], port: int
) -> None:
    with contextlib.suppress(OSError):
        while said := source.recv(65_536):
            if steps and steps[-1][0] == who:
                steps[-1] = (who, steps[-1][1] + said)
            else:
                steps.append((who, said))
            sink.sendall(led_back(said, port, sink.getsockname()[1]) if who == "server" else said)
        sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    try:
        name, text, where = sys.argv[1:]
        host, _, port = where.rpartition(":")
        record(name, text, host, int(port)).save()
    except NotReady as error:
        sys.exit(f"not ready: {error.verdict.cause}: {error.verdict.seen}")
