"""The only module that knows the interpreter's own C modules.

`socket`, `threading`, `signal` and `queue` cost more to import than a whole gate may take, so
sockets, threads and clocks come from here: thin, blocking until a deadline, and tested on
every supported CPython. A deadline is an absolute `monotonic()` time in seconds.
"""

from __future__ import annotations

import _socket
import _thread
import errno
import gc
import posix as os
import select
import sys
import time
from _collections import deque
from _heapq import heappop, heappush

from .signals import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Protocol

    class Waitable(Protocol):
        """What has a descriptor that can be waited for."""

        def fileno(self) -> int: ...


__all__ = [
    "AF_INET",
    "AF_INET6",
    "Lock",
    "Queue",
    "Socket",
    "children",
    "connect_error",
    "environment",
    "family_of",
    "heappop",
    "heappush",
    "is_address",
    "monotonic",
    "os",
    "readable",
    "spawn",
    "stamp",
    "start_connecting",
    "udp",
    "unusable",
    "wait",
    "why",
]

AF_INET = _socket.AF_INET
AF_INET6 = _socket.AF_INET6
Socket = _socket.socket
Lock = _thread.allocate_lock
LockType = _thread.LockType
monotonic = time.monotonic
sleep = time.sleep

_FLAGS = _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
# Of poll(2), in milliseconds: 24 days.
_LONGEST_POLL = 0x7FFF_FFFF
# From linux/in.h and linux/in6.h.
_IP_RECVERR, _IPV6_RECVERR = 11, 25

# Virtual memory a thread; what it touches is far less. glibc's default of 8 MiB would meet
# RLIMIT_AS and some overcommit settings with a hundred threads.
STACK = 256 * 1024
# How the names of our threads begin, as the kernel has them.
THREADS = b"precheck-"


def environment() -> Mapping[str, str]:
    """The environment variables, as `os.environ` has them where somebody imported `os`.

    `os` costs 3 ms of cpu, three times all the rest of this module; so what the gate needs of it comes
    from `posix`, by the name `os`.
    """
    imported = sys.modules.get("os")
    if imported is not None:
        known: Mapping[str, str] = imported.environ
        return known
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in os.environ.items()
    }


def unusable(value: str) -> str:
    """Why a variable of that value, empty where there is none, can give no secret; empty if it can."""
    if not value:
        return "is not set, or empty"
    # Bytes that are no text are kept as these.
    return "holds no text" if any("\ud800" <= c <= "\udfff" for c in value) else ""


class Queue:
    """Hands things from thread to thread, in order.

    `_queue`'s does the same, but is a shared object to load in some builds, 0.3 ms; this is made of
    what is built in.
    """

    __slots__ = ("_items", "_lock", "_waiting")

    def __init__(self) -> None:
        self._lock = Lock()
        self._items: deque[object] = deque()
        # For each who waits: a lock that is let go when something lies in the list.
        self._waiting: deque[tuple[LockType, list[object]]] = deque()

    def put(self, item: object) -> None:
        """Hand over. Never blocks; not for the handler of a signal, which may have interrupted a `get`."""
        with self._lock:
            if self._waiting:
                waiter, place = self._waiting.popleft()
                place.append(item)
                waiter.release()
            else:
                self._items.append(item)

    def get(self, timeout: float = -1) -> Any:  # noqa: ANN401 what was put
        """The next thing. Raises TimeoutError after `timeout` seconds; without one, waits."""
        with self._lock:
            if self._items:
                return self._items.popleft()
            waiter, place = Lock(), list[object]()
            waiter.acquire()
            self._waiting.append((waiter, place))
        if not waiter.acquire(timeout=timeout):
            with self._lock:
                if not place:
                    self._waiting.remove((waiter, place))
                    raise TimeoutError
        return place[0]

    def empty(self) -> bool:
        """Whether nothing lies ready."""
        return not self._items


def family_of(address: str) -> int | None:
    """`AF_INET` or `AF_INET6` for a literal address (a zone such as `%eth0` allowed), else None."""
    for family in (AF_INET, AF_INET6):
        bare = address.partition("%")[0] if family == AF_INET6 else address
        try:
            _socket.inet_pton(family, bare)
        except (OSError, ValueError):
            continue
        return family
    return None


def is_address(text: str) -> bool:
    """Whether `text` is an IP address and not a name."""
    return family_of(text) is not None


def endpoint(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What the kernel wants to be told for an address and a port.

    Raises OSError (ENODEV) for an IPv6 zone that names no interface.
    """
    if family_of(address) == AF_INET:
        return address, port
    bare, _, zone = address.partition("%")
    if not zone:
        return bare, port, 0, 0
    if zone.isdecimal():
        return bare, port, 0, int(zone)
    try:
        return bare, port, 0, _socket.if_nametoindex(zone)
    except OSError as error:
        # CPython 3.11 leaves the number out.
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


def start_connecting(address: str, port: int) -> Socket:
    """A TCP socket whose connection to `address` is under way. Raises OSError if it failed at once."""
    where = endpoint(address, port)
    return _connecting(
        _socket.socket(AF_INET if len(where) == 2 else AF_INET6, _socket.SOCK_STREAM | _FLAGS),
        where,
    )


def start_connecting_unix(path: str) -> Socket:
    """As `start_connecting`, to a Unix socket. A path that starts with `@` is in the abstract space."""
    name: str | bytes = (
        b"\0" + path[1:].encode("utf-8", "surrogateescape") if path.startswith("@") else path
    )
    return _connecting(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _FLAGS), name)


def _connecting(sock: Socket, where: object) -> Socket:
    try:
        code = sock.connect_ex(where)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    if code not in (0, errno.EINPROGRESS):
        sock.close()
        raise OSError(code, os.strerror(code))
    if code == 0 or where.__class__ is tuple:
        with_no_delay(sock)
    return sock


def with_no_delay(sock: Socket) -> None:
    """Send small messages at once; a Unix socket has no such option."""
    if sock.family != _socket.AF_UNIX:
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)


def keep_alive(sock: Socket, idle: int, interval: int, count: int) -> None:
    """Ask a peer that was silent for `idle` seconds whether it is there, `count` times (tcp(7)).

    A Unix socket needs no such question: its end is always seen.
    """
    if sock.family == _socket.AF_UNIX:
        return
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    for option, value in (
        (_socket.TCP_KEEPIDLE, idle),
        (_socket.TCP_KEEPINTVL, interval),
        (_socket.TCP_KEEPCNT, count),
    ):
        sock.setsockopt(_socket.IPPROTO_TCP, option, value)


def connect_error(sock: Socket) -> int:
    """The errno of a connection that came to its end, 0 if it stands."""
    return sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)


def udp(address: str, port: int) -> Socket:
    """A UDP socket connected to one server, so that the kernel drops what others send.

    The kernel picks its source port at random. Raises OSError.
    """
    where = endpoint(address, port)
    sock = _socket.socket(AF_INET if len(where) == 2 else AF_INET6, _socket.SOCK_DGRAM | _FLAGS)
    try:
        # Without it Linux keeps an ICMP message to itself that a host cannot be reached.
        if len(where) == 2:
            sock.setsockopt(_socket.IPPROTO_IP, _IP_RECVERR, 1)
        else:
            sock.setsockopt(_socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


# A signal that comes between the interpreter's last look for one and the kernel's wait is handled when
# the wait is over. So where signals are handled, no wait is longer than this.
LOOK = 0.1
_MAIN = _thread.get_ident()


def wait(
    reading: Iterable[Waitable], writing: Iterable[Waitable], deadline: float
) -> dict[int, int]:
    """Block until one of the sockets can be used or the deadline passes; the events by descriptor."""
    poll = select.poll()
    for sock in reading:
        poll.register(sock.fileno(), select.POLLIN)
    for sock in writing:
        poll.register(sock.fileno(), select.POLLOUT)
    longest = int(LOOK * 1000) if _thread.get_ident() == _MAIN else _LONGEST_POLL
    while (left := deadline - monotonic()) > 0:
        # Rounded up: a timeout of 0 ms just before the deadline would spin.
        events = poll.poll(min(int(left * 1000) + 1, longest))
        if events:
            return dict(events)
    return dict(poll.poll(0))


def readable(sock: Socket, deadline: float) -> bool:
    """Whether the socket has something to read (an end or an error counts) by the deadline."""
    return bool(wait((sock,), (), deadline))


def stamp(path: str) -> object:
    """What tells a file from another one at the same path, or from itself before a change; None if there is
    none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def accepts(descriptor: int) -> bool:
    """Whether a line can be written to the descriptor without blocking."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


# Each of these is about this machine and not about the dependency.
_LOCAL = frozenset(
    (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EAGAIN,
        errno.ENODEV,
        errno.ENXIO,
    )
)
_CAUSES = {
    errno.ECONNREFUSED: ("refused", "refused the connection"),
    errno.ETIMEDOUT: ("connect-timeout", "did not answer"),
    errno.ECONNRESET: ("closed-early", "reset the connection"),
    errno.EPIPE: ("closed-early", "closed the connection"),
    errno.EHOSTUNREACH: (
        "unreachable",
        "cannot be reached (no route to the host, or a firewall says so)",
    ),
    errno.ENETUNREACH: ("unreachable", "cannot be reached (no route to its network)"),
    errno.EACCES: ("unreachable", "cannot be reached (administratively prohibited)"),
    errno.EPERM: ("unreachable", "cannot be reached (this host's own firewall)"),
    errno.EHOSTDOWN: ("unreachable", "cannot be reached (the host is down)"),
    errno.ENETDOWN: ("unreachable", "cannot be reached (the network is down)"),
    errno.EPROTO: ("unreachable", "cannot be reached (protocol not accepted)"),
    errno.ENOPROTOOPT: ("refused", "refused the connection (protocol unreachable)"),
}


def why(code: int) -> tuple[str, str]:
    """The cause for an errno met while talking to a dependency, and its words after the address."""
    if code in _LOCAL:
        return "local", f"was not asked: {os.strerror(code)} (here, not there)"
    return _CAUSES.get(code) or ("unreachable", f"cannot be reached ({os.strerror(code)})")


def spawn(function: Callable[[], None], name: str) -> None:
    """Run `function` in a daemonic thread called `precheck-NAME` (15 bytes of it).

    Raises RuntimeError if none can be had.
    """
    # The size is the whole process's: whoever uses the library has threads of their own.
    before = _thread.stack_size(STACK)
    try:
        _thread.start_new_thread(_named, (function, name))
    finally:
        _thread.stack_size(before)


def _named(function: Callable[[], None], name: str) -> None:
    try:
        with open(f"/proc/self/task/{_thread.get_native_id()}/comm", "wb", 0) as comm:
            comm.write((THREADS + name.encode())[:15])
    except OSError:
        pass
    function()


def brisk() -> None:
    """Let the thread that takes signals and verdicts have the interpreter soon; look for garbage from now on."""
    sys.setswitchinterval(0.001)
    # What the start made stays: looking through it once would cost a thirtieth of the start.
    gc.freeze()
    gc.enable()
