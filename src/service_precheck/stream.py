"""One connection under one deadline: connect, read, write, upgrade to TLS.

Every protocol is a conversation over this. All of it blocks, top to bottom, and every wait ends at
the attempt's deadline; what is read is bounded. An error of the operating system becomes a cause
here, where it is met, so a probe's code holds nothing but the conversation.
"""

from __future__ import annotations

import errno
import os

from . import net
from .errors import NotReady, blocked
from .model import seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from .dns.resolver import Resolver
    from .tls import Settings

# RFC 8305 section 5: the next address is tried when the one before has not answered for this long.
NEXT_ADDRESS = 0.25
# The most a stream keeps that was read and not yet asked for.
MOST_BUFFERED = 65_536


class Attempt:
    """The bounds of one probe.

    `deadline` is a `monotonic()` time; `started` when it began. `alone` says that nothing else of the
    gate is still awaited, so that a look which costs time would hold the gate up. `resolver` looks
    names up.
    """

    __slots__ = ("alone", "deadline", "resolver", "started")

    def __init__(self, deadline: float, resolver: Resolver, alone: bool = True) -> None:
        self.started = net.monotonic()
        self.deadline = deadline
        self.resolver = resolver
        self.alone = alone

    def limit(self) -> str:
        """The attempt's time limit as people read it."""
        return seconds(max(0.0, self.deadline - self.started))

    def addresses(self, host: str, hold: float = 0.05) -> tuple[str, ...]:
        """The addresses of a host, looked up anew. Raises NotReady."""
        return self.resolver.addresses(host, self.deadline, hold)


class Stream:
    """A connection. Raises NotReady from every method that talks.

    `peer` is what is at the other end, for people: `10.0.0.9:3306`. Use it in a `with` block, so that
    the connection is closed whatever happens.
    """

    __slots__ = ("_buffer", "_sock", "_tls", "attempt", "ended", "peer")

    def __init__(self, sock: net.Socket, peer: str, attempt: Attempt) -> None:
        self._sock = sock
        self._tls: object | None = None
        self._buffer = bytearray()
        self.attempt = attempt
        self.peer = peer
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; unread bytes make the kernel send a reset, so ask for the end first."""
        self._sock.close()

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view:
            try:
                sent = self._tls.write(view) if self._tls is not None else self._sock.send(view)  # type: ignore[attr-defined]
            except OSError as error:
                self._again_or_raise(error, "it was sent to")
                continue
            view = view[sent:]

    def read_some(self, most: int = 16_384) -> bytes:
        """What has arrived, waiting for at least a byte; empty at the end of the connection."""
        if self._buffer:
            got = bytes(self._buffer[:most])
            del self._buffer[:most]
            return got
        while not self.ended:
            try:
                got = self._tls.read(most) if self._tls is not None else self._sock.recv(most)  # type: ignore[attr-defined]
            except OSError as error:
                self._again_or_raise(error, "it was read")
                continue
            self.ended = not got
            return got
        return b""

    def read_exactly(self, count: int) -> bytes:
        """`count` bytes. An end before them is `closed-early`."""
        while len(self._buffer) < count:
            self._fill("closed-early", f"{count} bytes")
        got = bytes(self._buffer[:count])
        del self._buffer[:count]
        return got

    def read_until(self, mark: bytes, most: int = MOST_BUFFERED) -> bytes:
        """All up to and with `mark`. More than `most` bytes without it are `protocol`, an end `closed-early`."""
        searched = 0
        while (end := self._buffer.find(mark, searched)) < 0:
            if len(self._buffer) >= most:
                raise blocked("protocol", f"{self.peer} sent {len(self._buffer)} bytes without {mark!r}")
            searched = max(0, len(self._buffer) - len(mark) + 1)
            self._fill("closed-early", repr(mark))
        end += len(mark)
        got = bytes(self._buffer[:end])
        del self._buffer[:end]
        return got

    def _fill(self, cause: str, wanted: str) -> None:
        buffered, self._buffer = self._buffer, bytearray()
        got = self.read_some()
        self._buffer = buffered
        if not got:
            after = f"after {len(buffered)} bytes " if buffered else ""
            raise blocked(cause, f"{self.peer} closed the connection {after}before it sent {wanted}")
        self._buffer += got

    def settle(self, duration: float) -> None:
        """Look whether the other end closes or resets within `duration` seconds. Raises `closed-early`.

        A proxy in front of nothing accepts first and closes then. What is sent in that time is kept.
        """
        until = min(net.monotonic() + duration, self.attempt.deadline)
        if self._buffer or not net.readable(self._sock, until):
            return
        try:
            got = self._sock.recv(4096)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return
            got = b""
        if not got:
            raise blocked(
                "closed-early",
                f"{self.peer} accepted the connection, then closed it",
                "often a proxy or load balancer with nothing behind it",
            )
        self._buffer += got

    def upgrade(self, settings: Settings, host: str) -> dict[str, object]:
        """Speak TLS from now on; what the certificate said. Raises the causes that begin with `tls-`."""
        from . import tls

        self._tls, facts = tls.handshake(self._sock, settings, host, self.peer, self.attempt)
        return facts

    def _again_or_raise(self, error: OSError, doing: str) -> None:
        """Wait until the socket can go on, or say what is in the way."""
        kind = type(error).__name__
        if error.errno == errno.EAGAIN or kind in ("SSLWantReadError", "SSLWantWriteError"):
            writing = kind == "SSLWantWriteError" or (doing == "it was sent to" and kind[:3] != "SSL")
            socks = (self._sock,)
            if not net.wait(() if writing else socks, socks if writing else (), self.attempt.deadline):
                raise blocked(
                    "no-reply", f"{self.peer} accepted the connection, then said nothing for {self.attempt.limit()}"
                ) from error
            return
        if kind in ("SSLZeroReturnError", "SSLEOFError"):
            self.ended = True
            return
        if kind[:3] == "SSL":
            raise blocked(*_tls_error(error, self.peer)) from error
        cause, words = net.why(error.errno or 0)
        raise blocked(cause, f"{self.peer} {words}") from error


def _tls_error(error: OSError, peer: str) -> tuple[str, str, str]:
    from . import tls

    return tls.explain(error, peer)


def connect(host: str, port: int, attempt: Attempt) -> Stream:
    """A connection to the first address of `host` that accepts one.

    All addresses, IPv6 and IPv4 in turn, each a quarter second after the one before or as soon as that
    one failed (RFC 8305, "happy eyeballs"). Raises NotReady: the causes of names, `refused`,
    `unreachable`, `connect-timeout`, `local`.
    """
    return connect_any(attempt.addresses(host), port, attempt)


def connect_any(addresses: tuple[str, ...], port: int, attempt: Attempt) -> Stream:
    """As `connect`, to addresses that are known."""
    pending: dict[net.Socket, str] = {}
    failures: list[tuple[str, str]] = []
    untried = list(addresses)
    next_start = net.monotonic()
    try:
        while (now := net.monotonic()) < attempt.deadline:
            if untried and (now >= next_start or not pending):
                address = untried.pop(0)
                next_start = now + NEXT_ADDRESS
                try:
                    pending[net.start_connecting(address, port)] = address
                except OSError as error:
                    failures.append(_failure(address, port, error.errno or 0))
                    continue
            if not pending:
                if untried:
                    continue
                break
            until = min(attempt.deadline, next_start) if untried else attempt.deadline
            events = net.wait((), pending, until)
            for sock in [sock for sock in pending if sock.fileno() in events]:
                address = pending.pop(sock)
                code = net.connect_error(sock)
                if code == 0:
                    return Stream(sock, _shown(address, port), attempt)
                sock.close()
                failures.append(_failure(address, port, code))
    finally:
        for sock in pending:
            sock.close()
    raise _not_connected(port, list(pending.values()), failures, attempt)


def connect_unix(path: str, attempt: Attempt) -> Stream:
    """A connection to a Unix socket. Raises NotReady: `missing-object`, `refused`, `local`, `no-reply`."""
    try:
        sock = net.start_connecting_unix(path)
    except OSError as error:
        raise blocked(*_unix_failure(path, error)) from error
    return Stream(sock, path, attempt)


def _unix_failure(path: str, error: OSError) -> tuple[str, str, str]:
    code = error.errno or 0
    if code == errno.ENOENT:
        return "missing-object", f"there is no {path}", ""
    if code in (errno.EACCES, errno.EPERM):
        return "local", f"this user may not connect to {path}", "the socket's mode must allow writing"
    if code == errno.ECONNREFUSED:
        return "refused", f"nothing listens at {path}", ""
    if code == errno.EAGAIN:
        return "overloaded", f"the backlog of {path} is full", ""
    if code in (errno.ENOTSOCK, errno.EPROTOTYPE):
        return "protocol", f"{path} is no stream socket", ""
    return "local", f"{path} cannot be connected to: {os.strerror(code) if code else error}", ""


def _shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _failure(address: str, port: int, code: int) -> tuple[str, str]:
    cause, words = net.why(code)
    return cause, f"{_shown(address, port)} {words}"


def _not_connected(
    port: int, silent: list[str], failures: list[tuple[str, str]], attempt: Attempt
) -> NotReady:
    told = [text for _, text in failures]
    causes = [cause for cause, _ in failures]
    if silent:
        several = ", ".join(_shown(address, port) for address in silent)
        told.append(f"{several} did not answer within {attempt.limit()}")
        causes.append("connect-timeout")
    if not causes:
        return blocked("connect-timeout", f"no time was left to connect within {attempt.limit()}")
    # With several addresses the one that answered at all says most about what is there.
    rank = ("closed-early", "refused", "connect-timeout", "unreachable", "local")
    return blocked(min(causes, key=rank.index), "; ".join(told))
