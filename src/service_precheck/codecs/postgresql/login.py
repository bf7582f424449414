"""How a session with PostgreSQL is opened: the server's choice of method, and our answers to it.

PostgreSQL documentation, "Frontend/Backend Protocol": "Start-up", "SASL Authentication". Spoken are
`trust` (and what needs nothing of the client: `cert`, `peer`, `ident`), `password` (which includes
`ldap`, `pam` and `radius`), `md5` and `scram-sha-256`, without channel binding.
"""

from __future__ import annotations

from ...access import USER_ALONE
from ...errors import blocked
from .. import credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...errors import NotReady
    from ...options import Target
    from .wire import Conversation

# Authentication messages by their number ("Message Formats").
OK, PASSWORD, MD5, SASL, SASL_CONTINUE, SASL_FINAL = 0, 3, 5, 10, 11, 12
METHODS = {
    OK: "no password",
    2: "Kerberos V5",
    PASSWORD: "password",
    MD5: "md5",
    6: "SCM credentials",
    7: "GSSAPI",
    9: "SSPI",
    SASL: "SASL",
}
_SCRAM = "SCRAM-SHA-256"


def asked_for(talk: Conversation) -> tuple[int, bytes]:
    """The method that the server asks for, and what goes with it."""
    kind, body = talk.receive()
    while kind == b"v":
        # It takes a later minor version of the protocol for granted, and names what it knows.
        kind, body = talk.receive()
    if kind != b"R" or len(body) < 4:
        raise talk.odd(f"a message of type {kind!r} in the middle of the login")
    return int.from_bytes(body[:4], "big"), body[4:]


def log_in(talk: Conversation, target: Target, user: str, private: bool) -> None:
    """Answer what the server asks for, until it is ready for a query.

    `private` says that a password may be sent in clear text: there is TLS, which keeps it from who
    listens (from who answers in the server's place only with a checked certificate), or a Unix socket,
    or TLS was left out on request. Raises ServerError and NotReady: `auth-refused`, `unsupported`,
    `protocol`, `local`.
    """
    method, rest = asked_for(talk)
    if method != OK:
        _prove(talk, target, user, method, rest, private)
    for _ in talk.rows():
        raise talk.odd("a row before any query")


def _prove(
    talk: Conversation, target: Target, user: str, method: int, rest: bytes, private: bool
) -> None:
    peer = talk.stream.peer
    words = METHODS.get(method, f"method {method}")
    if method not in (PASSWORD, MD5, SASL):
        raise _unsupported(peer, words)
    if method == SASL and _SCRAM.encode() not in rest.split(b"\0"):
        offered = rest.rstrip(b"\0").replace(b"\0", b", ").decode("utf-8", "replace")
        raise _unsupported(peer, offered)
    secret = credentials.password(target)
    if not secret:
        words = _SCRAM if method == SASL else words
        seen = f"{peer} asks {user} for a password ({words}), none was given"
        raise blocked("auth-refused", seen, USER_ALONE)
    if method == PASSWORD and not private:
        hint = "#tls=require protects it; #tls=off sends it as it is, for anyone on the way to read"
        raise blocked(
            "unsupported", f"{peer} asks for the password in clear text, without TLS", hint
        )
    if method == SASL:
        _scram(talk, secret)
        return
    if method == MD5:
        secret = _md5(secret, user, rest[:4])
    talk.send(b"p", secret.encode() + b"\0")
    _expect(talk, OK)


def _scram(talk: Conversation, secret: str) -> None:
    """RFC 7677. The user was named when the session was opened, and the server looks there."""
    from .. import scram

    if not secret.isascii():
        from .. import saslprep

        try:
            secret = saslprep.prepared(secret)
        except ValueError:
            # "SCRAM-SHA-256 Authentication": what cannot be prepared is taken as it is.
            pass
    # `scram_iterations` may be as low as that.
    login = scram.Scram(_SCRAM, "", secret, talk.stream.peer, least=1)
    first = login.first()
    talk.send(b"p", _SCRAM.encode() + b"\0" + len(first).to_bytes(4, "big") + first)
    talk.send(b"p", login.final(_expect(talk, SASL_CONTINUE)))
    login.verify(_expect(talk, SASL_FINAL))
    _expect(talk, OK)


def _md5(secret: str, user: str, salt: bytes) -> str:
    from ... import digests

    inner = digests.md5(f"{secret}{user}".encode()).hex()
    return f"md5{digests.md5(inner.encode() + salt).hex()}"


def _expect(talk: Conversation, method: int) -> bytes:
    """What goes with the next message of the login, which must be of that number."""
    number, rest = asked_for(talk)
    if number != method:
        raise talk.odd(f"step {number} of the login where {method} is due")
    return rest


def _unsupported(peer: str, words: str) -> NotReady:
    hint = "let pg_hba.conf ask this user for scram-sha-256, or a client's certificate"
    return blocked("unsupported", f"{peer} asks for a login by {words}", hint)
