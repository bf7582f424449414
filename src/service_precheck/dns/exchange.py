"""One question to the servers, and the first answer that can be believed.

UDP, then TCP when truncated (RFC 1035 section 4.2, RFC 7766); EDNS left out for a server that does
not know it (RFC 6891 section 7). Each question has a random id and a socket of its own whose port
the kernel picks (RFC 5452); what does not answer it is ignored. glibc waits five seconds for a
silent server before it asks the next; here 250 ms, and the silent one goes last for 30 s.
"""

from __future__ import annotations

import errno

from .. import net
from ..errors import NotReady, blocked
from ..net import os
from . import message

Server = tuple[str, int]

# A server silent for this long does not hold up the others.
HEDGE = 0.25
# The same server is asked again after this long: a datagram may be lost.
AGAIN = 1.0
# A silent server goes last for this long.
DISTRUST = 30.0


class _Pending:
    """A question that one server has not answered yet."""

    __slots__ = ("ident", "sent", "server", "sock")

    def __init__(self, sock: net.Socket, server: Server, ident: int, sent: float) -> None:
        self.sock = sock
        self.server = server
        self.ident = ident
        self.sent = sent


class Servers:
    """What is known of the servers. Shared by all questions of a gate."""

    __slots__ = ("_plain", "_silent_until")

    def __init__(self) -> None:
        self._silent_until: dict[Server, float] = {}
        self._plain: set[Server] = set()

    def ask(
        self,
        name: str,
        rtype: int,
        servers: tuple[Server, ...],
        deadline: float,
        *,
        rounds: int = 2,
        tcp: bool = False,
    ) -> message.Answer:
        """The answer to one question. NXDOMAIN and an empty answer are answers.

        `rounds` is how often each server is asked when it stays silent; `tcp` leaves UDP out. Raises
        NotReady: `resolver-failure` when a server answered that it failed and none did better,
        `resolver-timeout` when none answered by the deadline, `local` when none could be asked.
        """
        now = net.monotonic()
        order = sorted(servers, key=lambda server: self._silent_until.get(server, 0.0) > now)
        failed: dict[Server, tuple[str, str]] = {}
        if tcp:
            for server in order:
                # Twice where it does not know EDNS.
                while server not in failed:
                    answer = self._over_tcp(name, rtype, server, servers, deadline, failed)
                    if answer is not None and self._settled(answer, server, failed):
                        return answer
            raise _no_answer(name, order, failed)
        span = max(AGAIN, HEDGE * len(order))
        due = [
            (now + turn * span + place * HEDGE, server)
            for turn in range(rounds)
            for place, server in enumerate(order)
        ]
        waiting: list[_Pending] = []
        try:
            while (now := net.monotonic()) < deadline:
                # With nobody left to wait for, it is the next server's turn.
                while due and (due[0][0] <= now or not waiting):
                    server = due.pop(0)[1]
                    if server not in failed:
                        waiting += self._send(name, rtype, server, failed)
                if not waiting:
                    break
                until = min(deadline, due[0][0]) if due else deadline
                events = net.wait([pending.sock for pending in waiting], (), until)
                for pending in [p for p in waiting if p.sock.fileno() in events]:
                    server = pending.server
                    answer = self._receive(pending, name, rtype, servers, deadline, failed)
                    if answer is None and server not in failed:
                        continue
                    pending.sock.close()
                    waiting.remove(pending)
                    if answer is None:
                        continue
                    if self._settled(answer, server, failed):
                        self._distrust([other for other in waiting if other.server != server])
                        self._silent_until.pop(server, None)
                        return answer
                    if server not in failed:
                        due.insert(0, (now, server))
            self._distrust(waiting)
        finally:
            for pending in waiting:
                pending.sock.close()
        raise _no_answer(name, order, failed)

    def _distrust(self, waiting: list[_Pending]) -> None:
        """Have those go last that were asked long enough ago to have answered."""
        now = net.monotonic()
        for pending in waiting:
            if pending.sent <= now - HEDGE:
                self._silent_until[pending.server] = now + DISTRUST

    def _settled(
        self, answer: message.Answer, server: Server, failed: dict[Server, tuple[str, str]]
    ) -> bool:
        """Whether an answer ends the search. If not, its server has failed, or is to be asked without EDNS."""
        if answer.rcode in (message.NOERROR, message.NXDOMAIN):
            return True
        if answer.rcode in (message.FORMERR, message.NOTIMP) and server not in self._plain:
            self._plain.add(server)
        else:
            rcodes = message.RCODES
            said = rcodes[answer.rcode] if answer.rcode < len(rcodes) else f"rcode {answer.rcode}"
            failed[server] = ("resolver-failure", f"answered {said}")
        return False

    def _send(
        self, name: str, rtype: int, server: Server, failed: dict[Server, tuple[str, str]]
    ) -> list[_Pending]:
        ident = int.from_bytes(os.urandom(2), "big")
        query = message.encode_query(ident, name, rtype, server not in self._plain)
        try:
            sock = net.udp(*server)
            try:
                sock.send(query)
            except OSError:
                sock.close()
                raise
        except OSError as error:
            failed[server] = _why(error)
            return []
        return [_Pending(sock, server, ident, net.monotonic())]

    def _receive(
        self,
        pending: _Pending,
        name: str,
        rtype: int,
        servers: tuple[Server, ...],
        deadline: float,
        failed: dict[Server, tuple[str, str]],
    ) -> message.Answer | None:
        """The answer, or None: forged or broken datagrams are passed over, a dead server is put in `failed`."""
        try:
            answer = message.decode(pending.sock.recv(65535), pending.ident, name, rtype)
        except message.BadMessage:
            return None
        except OSError as error:
            if error.errno != errno.EAGAIN:
                failed[pending.server] = _why(error)
            return None
        if answer.truncated:
            return self._over_tcp(name, rtype, pending.server, servers, deadline, failed)
        return answer

    def _over_tcp(
        self,
        name: str,
        rtype: int,
        server: Server,
        servers: tuple[Server, ...],
        deadline: float,
        failed: dict[Server, tuple[str, str]],
    ) -> message.Answer | None:
        """The answer, or None with the reason in `failed`. Where there are others, one must be quick."""
        if len(servers) > 1:
            deadline = min(deadline, net.monotonic() + AGAIN)
        ident = int.from_bytes(os.urandom(2), "big")
        query = message.encode_query(ident, name, rtype, server not in self._plain)
        try:
            sock = net.start_connecting(*server)
            try:
                if not net.wait((), (sock,), deadline):
                    raise TimeoutError(errno.ETIMEDOUT, "")
                code = net.connect_error(sock)
                if code:
                    raise OSError(code, os.strerror(code))
                # One small message fits an empty send buffer.
                sock.send(len(query).to_bytes(2, "big") + query)
                length = int.from_bytes(_read(sock, 2, deadline), "big")
                answer = message.decode(_read(sock, length, deadline), ident, name, rtype)
                if answer.truncated:
                    raise message.BadMessage("truncated")
                return answer
            finally:
                sock.close()
        except message.BadMessage as error:
            failed[server] = ("resolver-failure", f"sent no valid answer over TCP ({error})")
        except OSError as error:
            cause, words = _why(error)
            failed[server] = (cause, f"{words} over TCP")
        return None


def _read(sock: net.Socket, count: int, deadline: float) -> bytes:
    got = b""
    while len(got) < count:
        if not net.readable(sock, deadline):
            raise TimeoutError(errno.ETIMEDOUT, "")
        piece = sock.recv(count - len(got))
        if not piece:
            raise ConnectionResetError(errno.ECONNRESET, "")
        got += piece
    return got


def _why(error: OSError) -> tuple[str, str]:
    cause, words = net.why(error.errno or 0)
    if error.errno == errno.ECONNREFUSED:
        words = "has nothing that listens for DNS"
    causes = {"local": "local", "connect-timeout": "resolver-timeout"}
    return causes.get(cause, "resolver-failure"), words


def shown(server: Server) -> str:
    """A server as people write it: without the port when it is 53."""
    address, port = server
    if port == 53:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _no_answer(name: str, servers: list[Server], failed: dict[Server, tuple[str, str]]) -> NotReady:
    silent = [shown(server) for server in servers if server not in failed]
    told = [f"{shown(server)} {words}" for server, (_, words) in failed.items()]
    causes = {cause for cause, _ in failed.values()}
    if silent:
        told.append(f"{' and '.join(silent)} did not answer")
    if "resolver-failure" in causes:
        return blocked("resolver-failure", f"{name} could not be looked up: {', '.join(told)}")
    if silent or "resolver-timeout" in causes:
        return blocked(
            "resolver-timeout",
            f"{name} could not be looked up: {', '.join(told)}",
            "look at the DNS service, and at network policies for port 53",
        )
    return blocked("local", f"{name} was not looked up: {', '.join(told)}")
