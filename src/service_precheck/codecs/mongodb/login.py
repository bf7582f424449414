"""Logging in to MongoDB: saslStart, saslContinue.

MongoDB's drivers' specification "Authentication": SCRAM-SHA-256, SCRAM-SHA-1 (of the MD5 digest of
user and password), and PLAIN (RFC 4616, for LDAP) inside TLS. Costs the server what a password's
rounds cost it, about 15,000.
"""

from __future__ import annotations

from ... import digests
from ...errors import blocked
from ...model import keep_secret, printable
from .options import MECHANISMS
from .wire import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...stream import Stream
    from .member import Member
    from .options import Wish

# A server that does not skip the empty exchange at a login's end has one more answer.
_MOST_STEPS = 3


def login(stream: Stream, wish: Wish, password: str, member: Member) -> str:
    """Log in; the mechanism by which. Raises NotReady, `auth-refused` and `unsupported` among others."""
    mechanism = wish.mechanism or _negotiated(member)
    if mechanism == "PLAIN":
        payload = keep_secret(f"\0{wish.user}\0{password}").encode()
        _finish(stream, wish, ask(stream, _start(mechanism, payload), wish.source, login=True))
        return mechanism
    from ..scram import Scram

    if mechanism == "SCRAM-SHA-1":
        password = keep_secret(digests.md5(f"{wish.user}:mongo:{password}".encode()).hex())
    elif not password.isascii():
        password = _prepared(password)
    scram = Scram(mechanism, wish.user, password, stream.peer)
    answer = ask(stream, _start(mechanism, scram.first()), wish.source, login=True)
    answer = _go_on(stream, wish, answer, scram.final(_payload(answer)))
    scram.verify(_payload(answer))
    _finish(stream, wish, answer)
    return mechanism


def _prepared(password: str) -> str:
    from ..saslprep import prepared

    try:
        return keep_secret(prepared(password))
    except ValueError:
        # No user can have such a password: the server says so.
        return password


def _negotiated(member: Member) -> str:
    """The best mechanism that the server offers this user, as the drivers choose it.

    A server that does not say, or that does not know the user, is asked by SCRAM-SHA-1.
    """
    if member.mechanisms is None:
        return "SCRAM-SHA-1"
    for mechanism in MECHANISMS[:2]:
        if mechanism in member.mechanisms:
            return mechanism
    offered = printable(", ".join(member.mechanisms), 100) or "nothing"
    raise blocked(
        "unsupported",
        f"{member.peer} takes this user's login by {offered} only",
        f"give the user {MECHANISMS[0]}",
    )


def _start(mechanism: str, payload: bytes) -> dict[str, object]:
    return {
        "saslStart": 1,
        "mechanism": mechanism,
        "payload": payload,
        "options": {"skipEmptyExchange": True},
    }


def _go_on(
    stream: Stream, wish: Wish, answer: dict[str, object], payload: bytes
) -> dict[str, object]:
    number = answer.get("conversationId")
    if not isinstance(number, int):
        raise blocked("protocol", f"{stream.peer} sent no conversationId in the login")
    command = {"saslContinue": 1, "conversationId": number, "payload": payload}
    return ask(stream, command, wish.source, login=True)


def _finish(stream: Stream, wish: Wish, answer: dict[str, object]) -> None:
    for _ in range(_MOST_STEPS):
        if answer.get("done") is True:
            return
        answer = _go_on(stream, wish, answer, b"")
    raise blocked("protocol", f"{stream.peer} does not end the login")


def _payload(answer: dict[str, object]) -> bytes:
    payload = answer.get("payload")
    return payload if isinstance(payload, bytes) else b""
