"""AMQP 0-9-1 (RabbitMQ): does the broker take a login, a virtual host, and what is published.

AMQP 0-9-1 specification, sections 2.2.4 (the handshake) and 2.3.5 (frames), and the reference of its
methods; RabbitMQ's extensions `authentication_failure_close` and `connection.blocked`.

With a login it sends Connection.Start-Ok, Tune-Ok and Open, a passive Declare for each queue and
exchange on a channel of its own, and Connection.Close. Without one it hears Connection.Start and hangs
up. Costs the broker a connection, and three lines in its log.

A broker with an alarm says so only to those who publish. So a Basic.Publish is begun just before Close
and never finished: without its content nothing is published. Either Connection.Blocked comes, or the
answer to Close. A broker reads nothing of a connection that it has blocked, not even its end: what
frees it is a heartbeat that cannot be sent, so short ones are agreed upon. And a gate that waits for the
alarm's end waits on that one connection, where the answer to Close comes then.
"""

from __future__ import annotations

from .. import net, stream
from ..access import tls_settings, try_tls_files
from ..codecs.amqp import login as amqp_login
from ..codecs.amqp import wire
from ..codecs.amqp.options import OPTIONS, QUERY, TLS_ONLY, check, vhost
from ..errors import NotReady, blocked
from ..model import Verdict, printable, ready
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..codecs.amqp.wire import Broker
    from ..stream import Attempt, Stream

CHANNEL = 1
GOODBYE = wire.method(0, wire.CLOSE, wire.number(200, 2), wire.short("done"), bytes(4))
# How long a broker may take to answer a goodbye once the verdict is known, and how long it is left alone
# after it: RabbitMQ logs an error when a connection ends while its channel is being taken down, measured
# once in 2,000 without a wait, never in 4,000 with a millisecond.
PATIENCE, LINGER = 0.2, 0.002


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the login is taken, the virtual host opened, and all that is named is there."""
    assert target.port is not None
    try_tls_files(target)
    login = amqp_login.chosen(target)
    named = [(kind, name) for kind in ("queue", "exchange") for name in target.texts(kind)]
    if isinstance(attempt.kept, stream.Stream):
        _wait_on(attempt.kept, attempt)
    with stream.connect(target.host, target.port, attempt) as connection:
        if target.scheme.name == "amqps":
            _secure(target, connection)
        connection.write(wire.HEADER)
        _, fields = wire.expect(connection, wire.START)
        broker = wire.Broker(fields)
        if login is None:
            return ready(f"{connection.peer} is {broker.name} and asks for a login (not tried)")
        amqp_login.log_in(connection, broker, login)
        said = f"{connection.peer} ({broker.name}) opens the vhost {vhost(target)} to {login.who}"
        connection.write(wire.method(0, wire.OPEN, wire.short(vhost(target)), bytes(2)))
        wire.expect(connection, wire.OPEN_OK)
        try:
            found = [_declared(connection, kind, name) for kind, name in named]
        except NotReady:
            _hang_up(connection)
            raise
        alarm = _leave(connection, broker)
        return ready(", ".join((said, *found, *_told(target, said, alarm, connection))))


def _wait_on(left: Stream, attempt: Attempt) -> None:
    """Wait on the connection that an alarm blocked, until that is over. Raises the alarm if it is not."""
    with left.resumed(attempt):
        try:
            wire.expect(left, wire.CLOSE_OK)
        except NotReady as error:
            if error.verdict.cause == "no-reply":
                raise left.keep(left.obstacle or error) from error
            # It has ended in another way, as with its broker: that is asked anew.


def _secure(target: Target, connection: Stream) -> None:
    try:
        connection.upgrade(tls_settings(target), target.host)
    except NotReady as error:
        if error.verdict.cause != "tls-plaintext":
            raise
        raise NotReady(error.verdict.but(hint="amqp:// asks without TLS")) from error


def _open_channel(connection: Stream) -> None:
    connection.write(wire.method(CHANNEL, wire.CHANNEL_OPEN, bytes(1)))
    wire.expect(connection, wire.CHANNEL_OPEN_OK)


def _declared(connection: Stream, kind: str, name: str) -> str:
    """What a passive Declare tells of a queue or an exchange. Raises what a Channel.Close says."""
    _open_channel(connection)
    asked, answer, name_and_type = wire.QUEUE_DECLARE, wire.QUEUE_DECLARE_OK, wire.short(name)
    if kind == "exchange":
        asked, answer = wire.EXCHANGE_DECLARE, wire.EXCHANGE_DECLARE_OK
        # Not looked at in a passive Declare, and asked for all the same.
        name_and_type += wire.short("direct")
    declare = bytes(2), name_and_type, wire.PASSIVE, wire.table({})
    connection.write(wire.method(CHANNEL, asked, *declare))
    which, fields = wire.expect(connection, answer, wire.CHANNEL_CLOSE)
    if which == wire.CHANNEL_CLOSE:
        from ..codecs.amqp import fault

        connection.write(wire.method(CHANNEL, wire.CHANNEL_CLOSE_OK))
        return fault.channel_closed(fields, kind, name)
    connection.write(wire.method(CHANNEL, wire.CHANNEL_CLOSE, bytes(2), wire.short(""), bytes(4)))
    wire.expect(connection, wire.CHANNEL_CLOSE_OK)
    if kind == "exchange":
        return f"the exchange {name} is there"
    fields.short()
    messages, consumers = fields.number(4), fields.number(4)
    return f"the queue {name} is there (messages {messages}, consumers {consumers})"


def _leave(connection: Stream, broker: Broker) -> str | None:
    """Say goodbye; what the broker says to who publishes, empty if nothing, None if it cannot tell."""
    if wire.BLOCKING not in broker.capabilities:
        connection.write(GOODBYE)
        wire.expect(connection, wire.CLOSE_OK)
        return None
    _open_channel(connection)
    publish = wire.method(CHANNEL, wire.PUBLISH, bytes(2), wire.short(""), wire.short(""), bytes(1))
    connection.write(publish + wire.content_header(CHANNEL, 1) + GOODBYE)
    which, fields = wire.expect(connection, wire.CLOSE_OK, wire.BLOCKED)
    if which == wire.CLOSE_OK:
        connection.deadline = min(connection.deadline, net.monotonic() + LINGER)
        try:
            connection.read_some()
        except NotReady:
            pass
        return ""
    return printable(fields.short(), 200) or "it does not say why"


def _told(target: Target, said: str, alarm: str | None, connection: Stream) -> tuple[str, ...]:
    """What to say of alarms. Raises `alarm`, `unsupported`, where they were asked for."""
    if not target.flag("alarms"):
        return (f"who publishes is blocked: {alarm}",) if alarm else ()
    if alarm is None:
        raise blocked("unsupported", f"{said}, and does not tell of alarms")
    if alarm:
        hint = "`rabbitmq-diagnostics alarms` names the node; make room there"
        raise connection.keep(blocked("alarm", f"{said}, and blocks who publishes: {alarm}", hint))
    return ("no alarm",)


def _hang_up(connection: Stream) -> None:
    """Say goodbye where the verdict is known: what comes of it does not matter."""
    connection.deadline = min(connection.deadline, net.monotonic() + PATIENCE)
    try:
        connection.write(GOODBYE)
        wire.expect(connection, wire.CLOSE_OK)
    except NotReady:
        pass


_PROVES = (
    "the broker takes the login, opens the vhost, and has the queues and exchanges that are named"
)
_NOT_PROVES = (
    "that the user may publish or consume; without a user, more than that a broker answers"
)
_COST = "a connection and three lines in the log, a channel for each question"
_CAUSES = (
    "alarm",
    "auth-refused",
    "forbidden",
    "missing-object",
    "not-ready",
    "overloaded",
    "unsupported",
)

SCHEMES = (
    Scheme(
        "amqp",
        "url",
        probe,
        proves=_PROVES,
        not_proves=_NOT_PROVES,
        example="amqp://shop@rabbitmq/orders#password-file=/run/secrets/rabbitmq#queue=new",
        cost=_COST,
        logins=("PLAIN",),
        causes=_CAUSES,
        options=OPTIONS,
        query=QUERY,
        port=5672,
        floor=0.1,
        check=check,
    ),
    Scheme(
        "amqps",
        "url",
        probe,
        proves=f"{_PROVES}, over TLS with a certificate that is trusted",
        not_proves=_NOT_PROVES,
        example="amqps://rabbitmq.shop#mechanism=external#cert=/tls/tls.crt#key=/tls/tls.key",
        cost=_COST,
        logins=("PLAIN", "EXTERNAL"),
        causes=_CAUSES,
        options=(*OPTIONS, *TLS_ONLY),
        query=QUERY,
        port=5671,
        floor=0.1,
        check=check,
    ),
)
