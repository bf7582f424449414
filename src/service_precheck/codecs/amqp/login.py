"""AMQP's login: Connection.Start-Ok to Tune-Ok, by PLAIN (RFC 4616) or EXTERNAL (RFC 4422 appendix A).

AMQP 0-9-1 specification, section 2.2.4; RabbitMQ's `authentication_failure_close`, by which a refusal
is told rather than shown by hanging up.
"""

from __future__ import annotations

from ... import net
from ...errors import NotReady, blocked
from ...model import Frozen, printable
from . import wire
from .options import external

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target
    from ...stream import Stream
    from .wire import Broker


class Login(Frozen):
    """How to log in: the SASL mechanism, its one response, and the user, empty for EXTERNAL."""

    __slots__ = ("mechanism", "response", "user")
    mechanism: str
    response: bytes
    user: str

    def __init__(self, mechanism: str, response: bytes, user: str) -> None:
        self._set(mechanism=mechanism, response=response, user=user)

    @property
    def who(self) -> str:
        """The user for people."""
        return self.user or "the certificate's user"


def chosen(target: Target) -> Login | None:
    """The login that a target asks for, its secret read anew; None if none. Raises NotReady (`local`)."""
    if external(target):
        return Login("EXTERNAL", b"", "")
    user = target.text("user") or target.user
    if not user:
        return None
    from .. import credentials

    return Login("PLAIN", wire.raw(f"\0{user}\0{credentials.password(target)}"), user)


def log_in(connection: Stream, broker: Broker, login: Login) -> None:
    """Start-Ok to Tune-Ok. Raises `auth-refused`, `unsupported`."""
    if login.mechanism not in broker.mechanisms:
        offered = printable(", ".join(broker.mechanisms), 100)
        raise blocked(
            "unsupported", f"{connection.peer} takes logins by {offered}, not by {login.mechanism}"
        )
    can = dict.fromkeys((wire.AUTHENTICATION_FAILURE, wire.BLOCKING), wire.flag(True))
    properties = {"product": wire.words("service-precheck"), "capabilities": wire.nested(can)}
    connection.write(
        wire.method(
            *(0, wire.START_OK, wire.table(properties)),
            *(wire.short(login.mechanism), wire.long(login.response), wire.short("en_US")),
        )
    )
    try:
        _, tune = wire.expect(connection, wire.TUNE)
    except NotReady as error:
        raise _refused(error, broker, login.user) from error
    channels, longest = tune.number(2), tune.number(4)
    longest = min(longest or wire.MOST_FRAME, wire.MOST_FRAME)
    connection.write(
        wire.method(
            *(0, wire.TUNE_OK, wire.number(channels, 2)),
            *(wire.number(longest, 4), wire.number(_heartbeat(connection), 2)),
        )
    )


def _refused(error: NotReady, broker: Broker, user: str) -> NotReady:
    """What became of a login, for who reads it."""
    verdict = error.verdict
    if verdict.cause == "auth-refused" and user == "guest":
        hint = "this user may log in only from the broker's own machine, unless loopback_users is changed"
        return NotReady(verdict.but(hint=hint))
    if verdict.cause == "closed-early" and wire.AUTHENTICATION_FAILURE not in broker.capabilities:
        # What the specification has a broker do (section 2.2.4).
        return NotReady(verdict.but(cause="auth-refused", seen=f"{verdict.seen}, as a refusal"))
    return error


def _heartbeat(connection: Stream) -> int:
    """Seconds: short, but so that two of them are longer than the attempt, in which none is sent."""
    left = connection.deadline - net.monotonic()
    return min(int(left / 2) + 1, 60)
