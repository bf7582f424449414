"""Servers on real sockets that misbehave exactly as told.

`Server(behaviour)` listens on 127.0.0.1, any port, and runs the behaviour once for each connection,
in a thread of its own. What it saw stays readable after it stopped.

| behaviour              | what a client meets                                            |
|------------------------|----------------------------------------------------------------|
| `close`                | accepted, then closed                                          |
| `reset(after=0)`       | accepted, then reset                                           |
| `hang`                 | accepted, then nothing                                         |
| `echo`                 | its own bytes                                                  |
| `say(data)`            | data, then nothing; `say(data, then=close)`: data, then closed |
| `trickle(data, every)` | data, one byte each `every` seconds                            |
| `babble(chunk)`        | chunk for ever                                                 |
| `answer(ask, reply)`   | reply, once the client has sent what ends in `ask`             |

| server                        | what it is for                                                |
|-------------------------------|---------------------------------------------------------------|
| `Server(b, host="::1")`       | the same over IPv6                                            |
| `Server(b, path=...)`         | the same on a unix socket                                     |
| `Server(b, opened=False)`     | refuses (the port is held) until `open()`, `open_after(s)`    |
| `Server(b, tls=TLS(cert))`    | the same inside TLS (see `tls`)                               |
| `Server(b, place=world)`      | the same inside a network namespace (see `world`)             |
| `Full()`                      | never accepts, its queue is full: SYNs vanish                 |

`server.behaviour` may be changed at any time; it counts from the next connection.
`server.opened_at` is the monotonic moment at which listen() had returned.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.tls import TLS

Behaviour = Callable[["Connection"], None]


class Place(Protocol):
    """Where sockets are made: a `World`. Without one they are made where the tests run."""

    def socket(self, family: int, kind: int) -> socket.socket:
        """Return a new socket that lives in this place."""
        ...


def make_socket(place: Place | None, family: int, kind: int) -> socket.socket:
    """Return a new socket in `place`, or here when that is None."""
    return socket.socket(family, kind) if place is None else place.socket(family, kind)


class Connection:
    """One accepted connection, as its behaviour and later its test see it.

    `at` and `ended_at` are monotonic seconds, `received` is what the client sent and was read,
    `peer` its host and port. `wait` sleeps, but not past the end of the server.
    """

    def __init__(
        self, channel: socket.socket, peer: tuple[str, int], stopping: threading.Event
    ) -> None:
        self.socket = channel
        self.peer = peer
        self.at = time.monotonic()
        self.ended_at: float | None = None
        self.received = bytearray()
        self.ended = threading.Event()
        self._stopping = stopping

    def read(self, size: int = 65536) -> bytes:
        """Return the next bytes of the client, b"" when it has closed or the server stops."""
        try:
            data = self.socket.recv(size)
        except OSError:
            return b""
        self.received += data
        return data

    def write(self, data: bytes) -> bool:
        """Send all of data; false when the client is gone."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def wait(self, seconds: float) -> bool:
        """Sleep so long; true when the server is stopping."""
        return self._stopping.wait(seconds)


def close(connection: Connection) -> None:
    """Close at once."""


def hang(connection: Connection) -> None:
    """Say nothing until the client leaves or the server stops."""
    while connection.read():
        pass


def echo(connection: Connection) -> None:
    """Send back what comes."""
    while data := connection.read():
        if not connection.write(data):
            return


def reset(after: float = 0.0) -> Behaviour:
    """Send a RST, `after` seconds after the accept."""

    def behave(connection: Connection) -> None:
        connection.wait(after)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


def say(data: bytes, then: Behaviour = hang) -> Behaviour:
    """Greet with data, then behave like `then`."""

    def behave(connection: Connection) -> None:
        if connection.write(data):
            then(connection)

    return behave


def trickle(data: bytes, every: float = 1.0, then: Behaviour = hang) -> Behaviour:
    """Send data one byte at a time."""

    def behave(connection: Connection) -> None:
        for byte in data:
            if not connection.write(bytes((byte,))) or connection.wait(every):
                return
        then(connection)

    return behave


def babble(chunk: bytes = b"x" * 65536) -> Behaviour:
    """Send chunk for as long as the client reads."""

    def behave(connection: Connection) -> None:
        while connection.write(chunk):
            pass

    return behave


def answer(ask: bytes, reply: bytes, then: Behaviour = hang) -> Behaviour:
    """Send reply once what the client sent ends in `ask`."""

    def behave(connection: Connection) -> None:
        while not connection.received.endswith(ask):
            if not connection.read():
                return
        if connection.write(reply):
            then(connection)

    return behave


class Server:
    """A listening socket, and a thread for each connection; see the module's table."""

    def __init__(
        self,
        behaviour: Behaviour = hang,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        path: Path | str | None = None,
        place: Place | None = None,
        tls: TLS | None = None,
        opened: bool = True,
        backlog: int = 1024,
    ) -> None:
        self.behaviour = behaviour
        self.host = host
        self.port = port
        self.path = None if path is None else str(path)
        self.tls = tls
        self.opened_at: float | None = None
        self.connections: list[Connection] = []
        self._place = place
        self._opened = opened
        self._backlog = backlog
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._acceptor: threading.Thread | None = None
        self._wake = (-1, -1)
        self._turn = threading.Lock()

    @property
    def address(self) -> str:
        """`host:port` as a target writes it, or the path of the unix socket."""
        if self.path is not None:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self._hold()
        if self._opened:
            self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self.shut()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        if self.path is not None:
            Path(self.path).unlink(missing_ok=True)

    def _hold(self) -> None:
        """Take the port without listening: the kernel refuses, and nobody else can have it."""
        if self.path is not None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            return
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = make_socket(self._place, family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.host, self.port))
        self.port = self._listener.getsockname()[1]

    def open(self) -> None:
        """Listen from now on."""
        with self._turn:
            if self._stopping.is_set():
                return
            assert self._listener is not None, "enter the server first"
            if self.path is not None:
                self._listener.bind(self.path)
            self._listener.listen(self._backlog)
            self.opened_at = time.monotonic()
            self._wake = os.pipe()
            self._acceptor = threading.Thread(
                target=self._accept, args=(self._listener, self._wake[0]), daemon=True
            )
            self._acceptor.start()

    def open_after(self, seconds: float) -> None:
        """Listen that much later, from a thread of its own."""

        def later() -> None:
            if not self._stopping.wait(seconds):
                self.open()

        thread = threading.Thread(target=later, daemon=True)
        thread.start()
        self._threads.append(thread)

    def shut(self) -> None:
        """Refuse from now on; connections that stand are left alone, `open()` opens again."""
        with self._turn:
            if self._acceptor is None or self._listener is None:
                return
            reader, writer = self._wake
            os.close(writer)
            self._acceptor.join(30)
            self._acceptor = None
            os.close(reader)
            self._listener.close()
            if self.path is not None:
                Path(self.path).unlink(missing_ok=True)
            if not self._stopping.is_set():
                self._hold()

    def wait_connections(self, count: int, timeout: float = 30.0) -> None:
        """Return once so many connections came; fail after `timeout` seconds."""
        with self._changed:
            come = self._changed.wait_for(lambda: len(self.connections) >= count, timeout)
        assert come, f"{len(self.connections)} of {count} connections within {timeout} s"

    def _accept(self, listener: socket.socket, wake: int) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while all(fd != wake for fd, _ in poll.poll()):
            channel, peer = listener.accept()
            connection = Connection(channel, peer[:2] or ("", 0), self._stopping)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            with self._changed:
                self.connections.append(connection)
                self._changed.notify_all()
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            if self.tls is None or self.tls.accept(connection):
                self.behaviour(connection)
        finally:
            connection.socket.close()
            connection.ended_at = time.monotonic()
            connection.ended.set()


class Full:
    """A listening port whose queue of connections is full: the kernel drops further SYNs."""

    def __init__(self, *, host: str = "127.0.0.1", place: Place | None = None) -> None:
        self.host = host
        self.port = 0
        self._place = place
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = make_socket(self._place, family, socket.SOCK_STREAM)
        self._sockets.append(listener)
        listener.bind((self.host, 0))
        listener.listen(0)
        self.port = listener.getsockname()[1]
        while len(self._sockets) < 16:
            filler = make_socket(self._place, family, socket.SOCK_STREAM)
            self._sockets.append(filler)
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
            if not select.select([], [filler], [], 0.3)[1]:
                return self
        raise AssertionError("this kernel's queue of connections never fills")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in self._sockets:
            each.close()

    @property
    def address(self) -> str:
        """`host:port` as a target writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
