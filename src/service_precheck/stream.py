"""One connection under one deadline: connect, read, write, upgrade to TLS.

Every protocol is a conversation over this. All of it blocks, top to bottom, and every wait ends at
the deadline, however often the other end says a little; what is read is bounded. An error of the
operating system becomes a cause here, where it is met, so a probe's code holds nothing but the
conversation.
"""

from __future__ import annotations

import errno

from . import net
from .errors import NotReady, blocked
from .model import seconds
from .net import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, Self

    from .dns import Names
    from .dns.resolver import Resolver
    from .tls import Channel, Session, Settings

    class Kept(Protocol):
        """What goes on when an attempt has ended, until it is closed."""

        def close(self) -> None:
            """No attempt comes for it any more."""


# RFC 8305 section 5: the next address is tried when the one before has not answered for this long.
NEXT_ADDRESS = 0.25
# Looks after a connection stands: a proxy with nothing behind it closes within these.
FIRST_LOOK, SECOND_LOOK = 0.010, 0.100
# The most a stream keeps that was read and not yet asked for.
MOST_BUFFERED = 65_536
# What it often means when a connection is accepted and no more.
_PROXY = "often a proxy or load balancer with nothing behind it"
# What stands looks this often whether anybody still waits for it.
CALLED_OFF_LOOK = 1.0
# A TLS record is no longer than this (RFC 8446 section 5.1).
CHUNK = 16_384


class CalledOff(Exception):
    """Nobody waits any more for what stands."""


class Attempt:
    """The bounds of one probe.

    `deadline` is a `monotonic()` time; `started` when it began. `alone()` tells whether nothing else of
    the gate is still awaited, so that a look which costs time would hold the gate up: ask it only when
    the target is all but ready. `names` has the resolver. `called_off()` tells whether nobody waits any
    more for what stands (`Scheme.watch`). `several` says that the target names several hosts: each is then
    told by its name, too. `kept` is what the attempt before left to this one, or this one leaves to the
    next: a connection (`Stream.keep`), or its place among those who wait for a login.
    """

    __slots__ = ("alone", "called_off", "deadline", "kept", "names", "several", "started")

    def __init__(
        self, deadline: float, names: Names, alone: Callable[[], bool] = lambda: True
    ) -> None:
        self.started = net.monotonic()
        self.deadline = deadline
        self.names = names
        self.alone = alone
        self.several = False
        self.called_off: Callable[[], bool] | None = None
        self.kept: Kept | None = None

    def renew(self) -> None:
        """As much time again, from now: for what stands, and begins its conversation anew."""
        now = net.monotonic()
        self.started, self.deadline = now, now + self.deadline - self.started

    def part(self, left: int) -> Attempt:
        """The next of `left` pieces of this attempt, each with its share of the time that remains."""
        now = net.monotonic()
        piece = Attempt(now + max(0.0, self.deadline - now) / left, self.names, self.alone)
        piece.started = now
        piece.several = self.several
        return piece

    @property
    def resolver(self) -> Resolver:
        """Looks names up."""
        return self.names.resolver()

    def limit(self) -> str:
        """The attempt's time limit as people read it."""
        return seconds(max(0.0, self.deadline - self.started))

    def addresses(self, host: str, hold: float = 0.05) -> tuple[str, ...]:
        """The addresses of a host, looked up anew. Raises NotReady."""
        if net.is_address(host):
            return (host,)
        return self.resolver.addresses(host, self.deadline, hold)

    def told(self, host: str, address: str, port: int) -> str:
        """An address of a host, for people: `10.0.0.9:3306`, of several hosts `db-0.db (10.0.0.9:3306)`."""
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        return f"{host} ({where})" if self.several and host != address else where


class Stream:
    """A connection. Raises NotReady from every method that talks.

    `peer` is what is at the other end, for people, as `Attempt.told` has it. `ended` says that the other end
    has closed. `heard` says that it has said anything. `deadline` is the attempt's; a probe may bring it
    forward for what matters less. `obstacle` is why it was kept. Use it in a `with` block, so that the
    connection is closed whatever happens, unless it is kept.
    """

    __slots__ = (
        "_buffer",
        "_sock",
        "_tls",
        "attempt",
        "deadline",
        "ended",
        "heard",
        "obstacle",
        "peer",
    )

    def __init__(self, sock: net.Socket, peer: str, attempt: Attempt) -> None:
        self._sock = sock
        self._tls: Channel | None = None
        self._buffer = bytearray()
        self.heard = False
        self.obstacle: NotReady | None = None
        self.attempt = attempt
        self.deadline = attempt.deadline
        self.peer = peer
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.attempt.kept is not self:
            self.close()

    def keep(self, obstacle: NotReady) -> NotReady:
        """Leave the connection to the next attempt, since to leave the server now would do it harm; the
        obstacle, to raise."""
        self.obstacle = obstacle
        self.keep_alive()
        self.attempt.kept = self
        return obstacle

    def resumed(self, attempt: Attempt) -> Self:
        """The same connection, for the attempt that it was left to."""
        attempt.kept = None
        self.attempt, self.deadline = attempt, attempt.deadline
        return self

    def close(self) -> None:
        """Close the connection. Bytes not read make the kernel send a reset: read first what comes."""
        if self._tls is not None:
            try:
                self._sock.send(self._tls.goodbye())
            except OSError:
                pass
        self._sock.close()

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._tls.take()
        self._send(data)

    def read_some(self, most: int = CHUNK) -> bytes:
        """What has arrived, waiting for at least a byte; empty at the end of the connection."""
        if not self._buffer:
            self._buffer += self._receive()
        return self._taken(most)

    def read_exactly(self, count: int, what: str = "") -> bytes:
        """`count` bytes; `what` calls them by name for people. An end before them is `closed-early`."""
        while len(self._buffer) < count:
            self._fill(what or f"{count} bytes")
        return self._taken(count)

    def pass_over(self, count: int, what: str) -> None:
        """As `read_exactly`, and keep nothing."""
        while count:
            count -= len(self.read_exactly(min(count, CHUNK), what))

    def read_until(self, mark: bytes, most: int = MOST_BUFFERED, what: str = "") -> bytes:
        """All up to and with `mark`; `what` calls it by name for people.

        More than `most` bytes without it are `protocol`, an end before it is `closed-early`.
        """
        searched = 0
        while (at := self._buffer.find(mark, searched, most)) < 0:
            if len(self._buffer) >= most:
                what = what or f"{mark!r}"
                raise blocked(
                    "protocol", f"{self.peer} sent {most} bytes without the end of {what}"
                )
            searched = max(0, len(self._buffer) - len(mark) + 1)
            self._fill(what or f"{mark!r}")
        return self._taken(at + len(mark))

    def linger(self, duration: float | None = None) -> None:
        """Look whether a new connection stays open: for 10 ms, and up to 100 ms while others block.

        Or for `duration` seconds. Raises as `settle` does.
        """
        self.settle(duration or FIRST_LOOK)
        if duration is not None:
            return
        until = net.monotonic() + SECOND_LOOK - FIRST_LOOK
        while not self._buffer and not self.attempt.alone() and net.monotonic() < until:
            self.settle(FIRST_LOOK)

    def keep_alive(self) -> None:
        """Have the kernel ask a silent peer whether it is still there, and end the connection within 25 s
        if not (RFC 9293 section 3.8.4)."""
        net.keep_alive(self._sock, 10, 5, 3)

    def settle(self, duration: float) -> None:
        """Look whether the other end closes or resets within `duration` seconds. Raises `closed-early`.

        A proxy in front of nothing accepts first and closes then. Inside TLS the look ends as soon as
        the server has taken the handshake, and what it says against it is raised. What is sent in that
        time is kept.
        """
        if self._buffer:
            return
        until = min(net.monotonic() + duration, self.deadline)
        how = "closed"
        got = None if self._tls is None else self._plain()
        try:
            while got is None and not (self._tls is not None and self._tls.confirmed):
                if not net.readable(self._sock, until):
                    return
                got = self._step()
        except NotReady as error:
            if error.verdict.cause != "closed-early":
                raise
            got, how = b"", "reset"
        if got == b"":
            raise blocked(
                "closed-early",
                f"{self.peer} accepted the connection, then {how} it",
                _PROXY,
            )
        self._buffer += got or b""

    def upgrade(self, settings: Settings, host: str) -> Session:
        """Speak TLS from now on; what was agreed. Raises the causes that begin with `tls-`.

        What came before the handshake would be taken for protected: that is `protocol`.
        """
        from . import tls

        if self._buffer:
            raise blocked(
                "protocol", f"{self.peer} sent {len(self._buffer)} bytes before the TLS handshake"
            )
        channel = tls.Channel(settings, host, self.peer)
        try:
            while not channel.shake_hands():
                self._send(channel.take())
                channel.feed(self._recv())
        except NotReady:
            # The server's log should say why, too.
            try:
                self._sock.send(channel.take())
            except OSError:
                pass
            raise
        self._send(channel.take())
        self._tls = channel
        return channel.session()

    def _taken(self, most: int) -> bytes:
        got = bytes(self._buffer[:most])
        del self._buffer[:most]
        return got

    def _fill(self, wanted: str) -> None:
        got = self._receive()
        if not got:
            after = f"after {len(self._buffer)} bytes, " if self._buffer else ""
            raise blocked(
                "closed-early", f"{self.peer} closed the connection {after}before it sent {wanted}"
            )
        self._buffer += got

    def _receive(self) -> bytes:
        """The next bytes for the reader, empty at the end."""
        if self.ended:
            return b""
        got = None if self._tls is None else self._plain()
        while got is None:
            got = self._step()
        self.ended = not got
        return got

    def _step(self) -> bytes | None:
        """What one read gives the reader: None if that was nothing for it, empty at the end."""
        got = self._recv()
        if self._tls is None:
            return got
        self._tls.feed(got)
        return self._plain()

    def _plain(self) -> bytes | None:
        assert self._tls is not None
        got = self._tls.read(CHUNK)
        # TLS may have something to answer by itself.
        self._send(self._tls.take())
        return got

    def _recv(self) -> bytes:
        """The next bytes of the socket. The deadline holds for the sum of all reads."""
        while net.monotonic() < self.deadline:
            try:
                got = self._sock.recv(CHUNK)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise self._failure(error) from error
                net.readable(self._sock, self._next_look())
            else:
                self.heard = self.heard or bool(got)
                return got
        limit = self.attempt.limit()
        raise blocked(
            "no-reply",
            f"{self.peer} did not finish its answer within {limit}"
            if self.heard
            else f"{self.peer} accepted the connection, then said nothing for {limit}",
        )

    def _next_look(self) -> float:
        """Until when to wait for something to read. Raises CalledOff."""
        if self.attempt.called_off is None:
            return self.deadline
        if self.attempt.called_off():
            raise CalledOff
        return min(self.deadline, net.monotonic() + CALLED_OFF_LOOK)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    self._hear_out(error)
                    return
                if not net.wait((), (self._sock,), self.deadline):
                    raise blocked(
                        "no-reply",
                        f"{self.peer} took no more of the question for {self.attempt.limit()}",
                    ) from error

    def _hear_out(self, error: OSError) -> None:
        """The other end hung up while we spoke: what it said before that tells more. Raises if nothing."""
        try:
            got = self._sock.recv(CHUNK)
        except OSError:
            got = b""
        if not got:
            raise self._failure(error) from error
        if self._tls is None:
            self._buffer += got
            return
        self._tls.feed(got)
        self._buffer += self._tls.read(CHUNK) or b""

    def _failure(self, error: OSError) -> NotReady:
        cause, words = net.why(error.errno or 0)
        return blocked(cause, f"{self.peer} {words}")


def connect(host: str, port: int, attempt: Attempt) -> Stream:
    """A connection to the first address of `host` that accepts one.

    All addresses, IPv6 and IPv4 in turn, each a quarter second after the one before or as soon as that
    one failed (RFC 8305, "happy eyeballs"). Raises NotReady: the causes of names, `refused`,
    `unreachable`, `connect-timeout`, `local`.
    """
    return connect_any(host, attempt.addresses(host), port, attempt)


def connect_any(host: str, addresses: tuple[str, ...], port: int, attempt: Attempt) -> Stream:
    """As `connect`, to addresses of the host that are known."""
    pending: dict[net.Socket, str] = {}
    failures: list[tuple[str, str]] = []
    untried = list(addresses)
    next_start = net.monotonic()
    try:
        while (now := net.monotonic()) < attempt.deadline:
            if untried and (now >= next_start or not pending):
                address = untried.pop(0)
                peer = attempt.told(host, address, port)
                next_start = now + NEXT_ADDRESS
                try:
                    pending[net.start_connecting(address, port)] = peer
                except OSError as error:
                    failures.append(_failure(peer, error.errno or 0))
                    next_start = now
                continue
            if not pending:
                break
            until = min(attempt.deadline, next_start) if untried else attempt.deadline
            events = net.wait((), pending, until)
            for sock in [sock for sock in pending if sock.fileno() in events]:
                peer = pending.pop(sock)
                code = _outcome(sock)
                if code == 0:
                    return Stream(sock, peer, attempt)
                sock.close()
                failures.append(_failure(peer, code))
                next_start = now
    finally:
        for sock in pending:
            sock.close()
    raise _not_connected(list(pending.values()), failures, attempt)


def _outcome(sock: net.Socket) -> int:
    """The errno of a connection that came to its end, 0 if it stands.

    A socket that asks a closed port of its own machine can meet itself, when the kernel happens to
    give it that very port (RFC 9293 section 3.5): nothing listens there.
    """
    code = net.connect_error(sock)
    if code:
        return code
    try:
        return errno.ECONNREFUSED if sock.getsockname() == sock.getpeername() else 0
    except OSError:
        # Accepted and reset within the same moment; reading will tell.
        return 0


def connect_unix(path: str, attempt: Attempt) -> Stream:
    """A connection to a Unix socket.

    Raises NotReady: `missing-object`, `refused`, `overloaded`, `protocol`, `local`.
    """
    try:
        sock = net.start_connecting_unix(path)
    except OSError as error:
        raise blocked(*_unix_failure(path, error)) from error
    return Stream(sock, path, attempt)


def _unix_failure(path: str, error: OSError) -> tuple[str, str, str]:
    code = error.errno or 0
    if code in (errno.ENOENT, errno.ENOTDIR):
        return "missing-object", f"there is no {path}", ""
    if code in (errno.EACCES, errno.EPERM):
        hint = "the socket's mode must allow writing, and its folders must allow passing"
        return "local", f"this user may not connect to {path}", hint
    if code == errno.ECONNREFUSED:
        return "refused", f"nothing listens at {path}", ""
    if code == errno.EAGAIN:
        return "overloaded", f"the backlog of {path} is full", ""
    if code in (errno.ENOTSOCK, errno.EPROTOTYPE):
        return "protocol", f"{path} is no stream socket", ""
    return "local", f"{path} cannot be connected to: {os.strerror(code) if code else error}", ""


def _failure(peer: str, code: int) -> tuple[str, str]:
    cause, words = net.why(code)
    if code in (errno.ECONNRESET, errno.EPIPE):
        # What is not accepted is refused: it was accepted, and reset before we looked. It is EPIPE where
        # an orderly close came before the reset.
        words = "accepted the connection, then reset it"
    return cause, f"{peer} {words}"


def _not_connected(
    silent: list[str], failures: list[tuple[str, str]], attempt: Attempt
) -> NotReady:
    told = [text for _, text in failures]
    causes = [cause for cause, _ in failures]
    if silent:
        told.append(f"{', '.join(silent)} did not answer within {attempt.limit()}")
        causes.append("connect-timeout")
    if not causes:
        return blocked("connect-timeout", f"no time was left to connect within {attempt.limit()}")
    # With several addresses the one that answered at all says most about what is there.
    rank = ("closed-early", "refused", "connect-timeout", "unreachable", "local")
    cause = min(causes, key=rank.index)
    return blocked(cause, "; ".join(told), _PROXY if cause == "closed-early" else "")
