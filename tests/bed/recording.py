"""Recorded exchanges: what a probe and a real server said to each other, to be played again.

    python -m tests.bed.recording mysql 'mysql://root@{place}/shop#role=primary' 127.0.0.1:3306

makes one attempt on the target through a proxy in front of the server, sees that it is ready, and
writes `tests/probes/recorded/mysql.json`. The suite of hostile servers plays it back, cut, slowed and
mutated, so record the plainest exchange that uses most of the protocol. While recording and replaying,
random bytes are the same (`steady_random`), so that a login's nonce fits the recorded answer.
"""

from __future__ import annotations

import contextlib
import json
import posix
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service_precheck import net, target
from service_precheck.dns import Names
from service_precheck.errors import NotReady
from service_precheck.options import Target
from service_precheck.stream import Attempt

FOLDER = Path(__file__).parents[1] / "probes" / "recorded"

# Who spoke ("client" or "server") and what.
Step = tuple[str, bytes]


class Recording:
    """An exchange: the target with `{place}` for the server, and the steps of each connection."""

    def __init__(self, name: str, target: str, connections: list[list[Step]]) -> None:
        self.name = name
        self.target = target
        self.connections = connections

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a recording from its file."""
        held: dict[str, Any] = json.loads(path.read_text())
        connections = [
            [(who, bytes.fromhex(said)) for who, said in steps] for steps in held["connections"]
        ]
        return cls(path.stem, held["target"], connections)

    def save(self) -> None:
        """Write it to where the suite finds it."""
        connections = [[(who, said.hex()) for who, said in steps] for steps in self.connections]
        held = {"target": self.target, "connections": connections}
        (FOLDER / f"{self.name}.json").write_text(json.dumps(held, indent=1) + "\n")


def all_recordings() -> list[Recording]:
    """Every recording, by name."""
    return [Recording.load(path) for path in sorted(FOLDER.glob("*.json"))]


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
    return Recording(name, text, connections)


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
                    target=_forward, args=(source, sink, who, steps), daemon=True
                ).start()


def _forward(source: socket.socket, sink: socket.socket, who: str, steps: list[Step]) -> None:
    with contextlib.suppress(OSError):
        while said := source.recv(65_536):
            if steps and steps[-1][0] == who:
                steps[-1] = (who, steps[-1][1] + said)
            else:
                steps.append((who, said))
            sink.sendall(said)
        sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    try:
        name, text, where = sys.argv[1:]
        host, _, port = where.rpartition(":")
        record(name, text, host, int(port)).save()
    except NotReady as error:
        sys.exit(f"not ready: {error.verdict.cause}: {error.verdict.seen}")
