"""HTTP servers: one whose every byte a test decides, and a proxy.

`ScriptedHTTP` answers each request by what was set for its target (`/path?query`), its path or `*`,
otherwise 404, then closes. Successive requests take successive answers; the last one stays, or with
`cycle=True` they go round. It takes what `sockets.Server` takes: `host`, `path` (a unix socket),
`tls`, `place`, `opened`. `pages.requests` keeps each request as it came, `Request.raw` byte by byte.

    with ScriptedHTTP() as pages:
        pages.on("/healthz", page(500), page(200, b"ok"), cycle=True)
        pages.url                                             # http://127.0.0.1:40001
        pages.requests[0].header("Authorization")             # None when it was not sent

| answer                             | what a client gets                                         |
|------------------------------------|------------------------------------------------------------|
| `page(200, b"ok", ("X-A", "b"))`   | a complete response                                        |
| `redirect("http://other/", 307)`   | a redirect                                                 |
| `later(30)`, `later(30, 503)`      | 429 (or that) with Retry-After                             |
| `chunked(b"a", b"b")`              | a chunked body                                             |
| `bomb(64 << 20)`                   | a small gzip body that grows to 64 MiB                     |
| `giant(1 << 30)`                   | a body of that size, as long as the client reads           |
| `long_head(1 << 20)`               | 1 MiB of header lines                                      |
| `slow(b"body", every=1)`           | a body, one byte each second                               |
| `b"..."`                           | these bytes, then the end of the connection                |
| `[b"HTTP/1.1 2", 0.5, b"00", HOLD]`| bytes, pauses in seconds; `HOLD`: open until the client goes|
| a function of the `Request`        | what it returns, any of the above                          |

`Proxy` is an HTTP proxy (CONNECT and absolute targets) that keeps what was asked of it.
"""

from __future__ import annotations

import contextlib
import gzip
import http
import math
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bed.sockets import Connection, Place, Server, hang, make_socket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bed.tls import TLS

HOLD = math.inf
Parts = Iterable[bytes | float]
Answer = bytes | Parts | Callable[["Request"], "bytes | Parts"]


@dataclass(frozen=True)
class Request:
    """One request: `at` is monotonic seconds, `raw` all of its bytes."""

    at: float
    raw: bytes
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of that name, in any case, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def head(status: int, *headers: tuple[str, str]) -> bytes:
    """Return a status line and header lines."""
    try:
        reason = http.HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return "".join(f"{line}\r\n" for line in (*lines, "Connection: close", "")).encode("latin-1")


def page(status: int = 200, body: bytes = b"", *headers: tuple[str, str]) -> bytes:
    """Return a complete response."""
    return head(status, *headers, ("Content-Length", str(len(body)))) + body


def redirect(location: str, status: int = 302) -> bytes:
    """Return a redirect."""
    return page(status, b"", ("Location", location))


def later(seconds: int | str, status: int = 429) -> bytes:
    """Return a refusal that says when to come back."""
    return page(status, b"", ("Retry-After", str(seconds)))


def chunked(*parts: bytes, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Return a response in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))
    return head(200, *headers, ("Transfer-Encoding", "chunked")) + body


def bomb(size: int) -> bytes:
    """Return a response whose gzip body unpacks to so many zeros."""
    return page(200, gzip.compress(bytes(size), 9), ("Content-Encoding", "gzip"))


def giant(size: int) -> Answer:
    """Return a response with a body of that size, made while it is sent."""

    def parts(_request: Request) -> Iterator[bytes]:
        yield head(200, ("Content-Length", str(size)))
        for start in range(0, size, 65536):
            yield b"x" * min(65536, size - start)

    return parts


def long_head(size: int) -> bytes:
    """Return a response with so many bytes of header lines."""
    line = b"X-Padding: " + b"x" * 1011 + b"\r\n"
    return page().replace(b"\r\n\r\n", b"\r\n" + line * (size // len(line)) + b"\r\n")


def slow(body: bytes, every: float = 1.0) -> Answer:
    """Return a response whose body comes byte by byte."""

    def parts(_request: Request) -> Iterator[bytes | float]:
        yield head(200, ("Content-Length", str(len(body))))
        for byte in body:
            yield every
            yield bytes((byte,))

    return parts


def read_request(connection: Connection) -> Request | None:
    """Return the next request on this connection, None when the client sent none."""
    at = time.monotonic()
    raw = bytearray()
    while b"\r\n\r\n" not in raw:
        data = connection.read()
        if not data:
            return None
        raw += data
    top, _, body = bytes(raw).partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = tuple((name, value.strip()) for name, _, value in pairs)
    request = Request(at, bytes(raw), method, target, headers, body)
    missing = int(request.header("Content-Length") or 0) - len(body)
    while missing > 0 and (data := connection.read()):
        raw += data
        body += data
        missing -= len(data)
    return Request(at, bytes(raw), method, target, headers, body)


class ScriptedHTTP(Server):
    """The scripted server; see the module's docstring."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        path: Path | str | None = None,
        place: Place | None = None,
        tls: TLS | None = None,
        opened: bool = True,
    ) -> None:
        super().__init__(
            self._talk, host=host, port=port, path=path, place=place, tls=tls, opened=opened
        )
        self.requests: list[Request] = []
        self._answers: dict[str, tuple[list[Answer], bool]] = {}
        self._told = threading.Condition()

    @property
    def url(self) -> str:
        """The origin, without a final slash: `http://127.0.0.1:40001`."""
        return f"{'http' if self.tls is None else 'https'}://{self.address}"

    def on(self, target: str, *answers: Answer, cycle: bool = False) -> None:
        """Answer this target (or path, or `*`) so from now on."""
        assert answers, "a target needs an answer"
        with self._told:
            self._answers[target] = (list(answers), cycle)

    def count(self, target: str | None = None) -> int:
        """Return how many requests came, for that target or for all."""
        with self._told:
            return sum(target in (None, request.target) for request in self.requests)

    def wait_requests(self, count: int, target: str | None = None, timeout: float = 30.0) -> None:
        """Return once so many such requests came; fail after `timeout` seconds."""
        with self._told:
            come = self._told.wait_for(lambda: self.count(target) >= count, timeout)
        assert come, f"{self.count(target)} of {count} requests within {timeout} s"

    def _next(self, request: Request) -> Answer:
        for key in (request.target, request.target.partition("?")[0], "*"):
            if key in self._answers:
                answers, cycle = self._answers[key]
                answer = answers[0]
                if len(answers) > 1:
                    answers.pop(0)
                    if cycle:
                        answers.append(answer)
                return answer
        return page(404)

    def _talk(self, connection: Connection) -> None:
        request = read_request(connection)
        if request is None:
            return
        with self._told:
            self.requests.append(request)
            answer = self._next(request)
            self._told.notify_all()
        if callable(answer):
            answer = answer(request)
        for part in (answer,) if isinstance(answer, bytes) else answer:
            if isinstance(part, bytes):
                if not connection.write(part):
                    return
            elif part == HOLD:
                hang(connection)
            elif connection.wait(part):
                return


class Proxy(Server):
    """An HTTP proxy: CONNECT tunnels, and absolute targets passed on to their origin."""

    def __init__(self, *, place: Place | None = None, opened: bool = True) -> None:
        super().__init__(self._relay, place=place, opened=opened)
        self.requests: list[Request] = []
        self._from = place

    @property
    def url(self) -> str:
        """Where it is, as a proxy setting wants it."""
        return f"http://{self.address}"

    def _relay(self, connection: Connection) -> None:
        request = read_request(connection)
        if request is None:
            return
        self.requests.append(request)
        tunnel = request.method == "CONNECT"
        authority = request.target if tunnel else request.target.split("/", 3)[2]
        host, _, port = authority.rpartition(":") if ":" in authority else (authority, "", "80")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with make_socket(self._from, family, socket.SOCK_STREAM) as origin:
            try:
                origin.connect((host.strip("[]"), int(port)))
            except OSError:
                connection.write(page(502))
                return
            if tunnel:
                connection.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = "/" + [*request.target.split("/", 3), ""][3]
                origin.sendall(request.raw.replace(request.target.encode(), path.encode(), 1))
            self._pump(connection.socket, origin)

    def _pump(self, client: socket.socket, origin: socket.socket) -> None:
        while True:
            for ready in select.select([client, origin], [], [])[0]:
                with contextlib.suppress(OSError):
                    data = ready.recv(65536)
                    if data:
                        (origin if ready is client else client).sendall(data)
                        continue
                return
