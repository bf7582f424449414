"""Where a measurement takes place: a network of its own with a pod's `/etc/resolv.conf`."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Self

from bench.launch import Failed, Launcher
from tests.bed.names import ScriptedDNS
from tests.bed.world import Etc, World, resolv_conf

RESOLVER, DEAD, UPSTREAM = "10.53.0.2", "10.53.0.9", "10.53.0.3"
HOST, SILENT = "10.9.0.1", "10.9.0.2"
ZONE = "svc.cluster.local"
# What the kubelet writes for a pod of the namespace `shop` on a node that has a search domain too.
SEARCH = [f"shop.{ZONE}", ZONE, "cluster.local", "example.internal"]
OPTIONS = "ndots:5"
ADDRESS = "10.96.0.7"


class Pod:
    """A world with a resolver, the files of a pod, and a launcher inside."""

    def __init__(self, world: World, dns: ScriptedDNS, launcher: Launcher) -> None:
        self.world = world
        self.dns = dns
        self.launcher = launcher

    def publish(self, name: str) -> float:
        """Let a service's or pod's name resolve, as the cluster would; gives the time it does."""
        self.dns.add(f"{name}.{ZONE}", "A", ADDRESS)
        return time.monotonic()

    def queries(self, name: str) -> int:
        """How many queries were for this name, with any suffix or none."""
        return sum(query.name.startswith(f"{name}.") for query in self.dns.asked())


@contextlib.contextmanager
def pod(*, servers: Sequence[str] = (RESOLVER,), resolver: str = RESOLVER) -> Iterator[Pod]:
    """A pod whose resolv.conf names `servers`; the scripted one stands at `resolver`."""
    with (
        World(RESOLVER, DEAD, UPSTREAM, HOST, SILENT) as world,
        ScriptedDNS(host=resolver, port=53, place=world) as dns,
        Etc(resolv_conf(*servers, search=SEARCH, options=OPTIONS)) as etc,
        Launcher(world, etc) as launcher,
    ):
        yield Pod(world, dns, launcher)


class Ports:
    """TCP ports that refuse until they are opened; the kernel accepts for them from then on."""

    def __init__(self, world: World, count: int, host: str = HOST) -> None:
        self.host = host
        self._sockets = world.inside(lambda: [self._bound(host) for _ in range(count)])
        self.ports: list[int] = [sock.getsockname()[1] for sock in self._sockets]

    @staticmethod
    def _bound(host: str) -> socket.socket:
        sock = socket.socket()
        sock.bind((host, 0))
        return sock

    def address(self, index: int) -> str:
        """`host:port` of one."""
        return f"{self.host}:{self.ports[index]}"

    def open(self, index: int) -> float:
        """Let one accept; gives the time from which it does."""
        self._sockets[index].listen(1024)
        return time.monotonic()

    def looked_at(self, index: int, timeout: float = 30.0) -> float:
        """Wait for the first connection to one that was opened; gives the time it came."""
        poll = select.poll()
        poll.register(self._sockets[index], select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise Failed(f"nobody looked at {self.address(index)} within {timeout} s")
        return time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for sock in self._sockets:
            sock.close()
