"""How a client logs in to MySQL and MariaDB: the response to the greeting, and what a plugin asks for.

Protocol::HandshakeResponse41, AuthSwitchRequest and AuthMoreData of MySQL's protocol document;
`mysql_native_password`, `caching_sha2_password`, `sha256_password`, `mysql_clear_password`.

Where a method needs the password itself, it is sent in TLS or by a Unix socket. TLS keeps it from who
listens; from who answers in the server's place only a certificate that is checked does. Without TLS it
is encrypted for the key that the server sends, which may be anybody's: on request only.

Whatever cannot be answered is answered with nothing and ends with the server's refusal: a connection
that leaves before its login is counted against the client's address (`max_connect_errors`).
"""

from __future__ import annotations

from ... import digests
from ...errors import NotReady, blocked
from .wire import (
    CONNECT_ATTRS,
    LONG_PASSWORD,
    MORE_DATA,
    OK,
    PLUGIN_AUTH,
    PROTOCOL_41,
    SECURE_CONNECTION,
    Fields,
    Refusal,
    response_head,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Conversation

NATIVE = "mysql_native_password"
CACHING = "caching_sha2_password"
SHA256 = "sha256_password"
CLEAR = "mysql_clear_password"
LOGINS = (NATIVE, CACHING, SHA256, CLEAR)
# Who logs in where the login is to be refused.
NOBODY = "service-precheck"
# Shown as the program in `performance_schema.session_connect_attrs`.
_ATTRIBUTES = b"\x1e\x0cprogram_name\x10service-precheck"
# caching_sha2_password: what the server says of the scramble, and how its key is asked for.
_FAST, _FULL = b"\x03", b"\x04"
_ASK_KEY = {CACHING: b"\x02", SHA256: b"\x01"}
# An answer that shows nothing and is refused like a wrong password: of the length that is checked first.
# Without a byte it would count as a connection that leaves.
_NOTHING = {"client_ed25519": bytes(64), CLEAR: b"\0", CACHING: b"\0", SHA256: b"\0"}
# Seconds until another way to log in can first be worth a look: each look is a login that is refused.
_SELDOM = 30.0
_ANY_KEY = "#tls=require protects the password; #tls=off sends it by the server's own key"
# A login takes five messages at most.
_MOST_MESSAGES = 8

INSTEAD = {
    "client_ed25519": f"give the account a second way in, {NATIVE}: "
    "ALTER USER ... IDENTIFIED VIA ed25519 USING PASSWORD('...') OR mysql_native_password USING PASSWORD('...')",
    "mysql_old_password": "its password was stored before MySQL 4.1: set it anew",
}


def capabilities(offered: int) -> int:
    """What we speak of what a server offers."""
    return LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | offered & (PLUGIN_AUTH | CONNECT_ATTRS)


def be_refused(server: Conversation) -> Refusal | None:
    """What the server says to somebody whom it does not know; None if it says nothing against them."""
    try:
        Login(server, NOBODY, "").run()
    except Refusal as refusal:
        return refusal
    except NotReady as error:
        if error.verdict.cause != "unsupported":
            raise
    return None


class Login:
    """One login: who, and what protects the password.

    `private` says that nobody on the way reads what is said: TLS, if only with whoever answers, or a
    Unix socket. `trusted` says that the server proved who it is: by a certificate that was checked, or
    a Unix socket. `any_key` says that the password may be encrypted for the key that the server sends.
    """

    __slots__ = (
        "_any_key",
        "_nonce",
        "_password",
        "_plugin",
        "_private",
        "_server",
        "_trusted",
        "_unspoken",
        "_user",
    )

    def __init__(
        self,
        server: Conversation,
        user: str,
        password: str,
        *,
        private: bool = False,
        trusted: bool = False,
        any_key: bool = False,
    ) -> None:
        self._server = server
        self._user = user
        self._password = password.encode("utf-8", "replace")
        self._private = private
        self._trusted = trusted
        self._any_key = any_key
        self._nonce = server.greeting.nonce
        self._plugin = server.greeting.plugin
        if self._plugin not in (NATIVE, CACHING):
            self._plugin = CACHING
        # Why a method that the server asked for is not answered. It may have another one.
        self._unspoken: NotReady | None = None

    def run(self) -> None:
        """Log in. Raises Refusal, and NotReady (`unsupported` and those of a connection)."""
        offered = self._server.greeting.capabilities
        if not offered & PLUGIN_AUTH:
            self._plugin = NATIVE
        proof = self._scramble()
        response = capabilities(offered).to_bytes(4, "little") + response_head()
        response += self._user.encode("utf-8", "replace") + b"\0" + bytes((len(proof),)) + proof
        if offered & PLUGIN_AUTH:
            response += self._plugin.encode() + b"\0"
        if offered & CONNECT_ATTRS:
            response += _ATTRIBUTES
        self._server.send(response)
        for _ in range(_MOST_MESSAGES):
            try:
                message = self._server.receive(65_536)
            except Refusal as refusal:
                if self._unspoken is not None:
                    raise self._unspoken from refusal
                raise
            if message[0] == OK:
                self._server.logged_in()
                if self._unspoken is not None:
                    # It lets in who shows nothing: that proves nothing of this login.
                    raise self._unspoken
                return
            answer = self._more(message[1:]) if message[0] == MORE_DATA else self._switch(message)
            if answer is not None:
                self._server.send(answer)
        raise blocked("protocol", f"{self._server.peer} asks for ever more in the login")

    def _switch(self, message: bytes) -> bytes:
        """The answer to another plugin than the one we began with."""
        fields = Fields(message[1:])
        # Without a name it is the oldest of all.
        self._plugin = fields.until_nul().decode("ascii", "replace") or "mysql_old_password"
        self._nonce = fields.rest()[:20]
        self._unspoken = None
        if self._plugin in (NATIVE, CACHING):
            return self._scramble()
        if not self._password and self._plugin in (SHA256, CLEAR):
            return b"\0"
        if self._plugin == SHA256:
            return self._whole()
        if self._plugin != CLEAR:
            hint = INSTEAD.get(self._plugin, f"one of {', '.join(LOGINS)} is spoken here")
            return self._leave("which is not spoken here", hint)
        if not self._trusted:
            hint = "#tls=require shows the password only to a server that is trusted"
            return self._leave("the password in clear text", hint)
        return self._password + b"\0"

    def _more(self, data: bytes) -> bytes | None:
        """The answer to what a plugin asks for, None where it only tells."""
        if self._plugin == CACHING and data == _FAST:
            return None
        if self._plugin == CACHING and data == _FULL:
            return self._whole()
        if self._plugin in _ASK_KEY and self._any_key and not self._private:
            from . import rsa

            masked = _xor(self._password + b"\0", self._nonce * (len(self._password) // 20 + 1))
            try:
                return rsa.encrypted(masked, data)
            except ValueError as error:
                return self._leave(f"but {error}", "TLS needs no such key")
        raise self._unspoken or blocked(
            "protocol", f"{self._server.peer} sent what {self._plugin} does not know in the login"
        )

    def _whole(self) -> bytes:
        """The password itself, or the question for the key to encrypt it with."""
        if self._private:
            return self._password + b"\0"
        if self._any_key or not self._password:
            return _ASK_KEY[self._plugin]
        return self._leave("the password for its own key, which nobody vouches for", _ANY_KEY)

    def _scramble(self) -> bytes:
        """The proof that we know the password, without showing it."""
        if not self._password:
            return b""
        if self._plugin == CACHING:
            once = digests.sha256(self._password)
            return _xor(once, digests.sha256(digests.sha256(once) + self._nonce))
        once = digests.sha1(self._password)
        return _xor(once, digests.sha1(self._nonce + digests.sha1(once)))

    def _leave(self, what: str, hint: str) -> bytes:
        """An answer that the server refuses, once it is noted why we give no other."""
        name = self._plugin if self._plugin.isprintable() else "?"
        said = f"{self._server.peer} asks for {name[:80]}, {what}"
        self._unspoken = blocked("unsupported", said, hint, again=_SELDOM)
        return _NOTHING.get(self._plugin, b"")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=False))
