"""Why a broker closes a connection or a channel: its code and its words as a cause.

AMQP 0-9-1 specification, section 1.2 (reply codes); the words are RabbitMQ's. Loaded when the first
Close arrives.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Fields

# What is not here is `protocol`.
_CONNECTION = {
    320: "not-ready",
    402: "missing-object",
    403: "auth-refused",
    506: "overloaded",
    530: "forbidden",
    540: "unsupported",
    541: "not-ready",
}
_CHANNEL = {403: "forbidden", 404: "missing-object", 406: "not-ready", 506: "overloaded"}
# A queue that is known, and whose node, replicas or process are not there.
_DOWN = ("is down", "inaccessible", "is stopped", "timed out", "no leader")


def connection_closed(fields: Fields) -> NotReady:
    """The exception for a Connection.Close."""
    code, text, said = _read(fields)
    cause = _CONNECTION.get(code, "protocol")
    hint = ""
    if code == 530 and text.endswith("not found"):
        cause, hint = (
            "missing-object",
            "`rabbitmqctl add_vhost` creates it, or imported definitions",
        )
    elif code == 530 and ("limit (" in text or "maximum allowed" in text):
        cause = "overloaded"
    elif cause == "forbidden":
        hint = "`rabbitmqctl set_permissions -p VHOST USER '^$' '^$' '^$'` is enough"
    elif code == 541 and "is down" in text:
        hint = "`rabbitmqctl restart_vhost -p VHOST`; the broker's log says why"
    return blocked(cause, said, hint)


def channel_closed(fields: Fields, kind: str, name: str) -> str:
    """What a Channel.Close tells of a queue or an exchange that was asked for.

    405 says that it is there, and for another connection only. Raises all else as its cause.
    """
    code, text, said = _read(fields)
    if code == 405:
        return f"the {kind} {name} is there, for another connection only"
    cause = _CHANNEL.get(code, "protocol")
    if code == 404 and any(mark in text for mark in _DOWN):
        cause = "not-ready"
    raise blocked(cause, said)


def _read(fields: Fields) -> tuple[int, str, str]:
    code, text = fields.number(2), fields.short()
    return code, text, f"{fields.peer} answers {code} {printable(text, 300)}".rstrip()
