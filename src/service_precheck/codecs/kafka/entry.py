"""How a Kafka broker is got at: TLS where the listener has it, and the login (SASL).

Kafka protocol guide ("SASL Authentication Sequence"): SaslHandshake names the mechanism, and each
message of the login travels in a SaslAuthenticate. PLAIN is RFC 4616; SCRAM has a codec of its own.

- Without a login SaslHandshake is sent even so: a listener without logins answers it with
  ILLEGAL_SASL_STATE, and any other question would be an error in the log of one that has them.
- A mechanism that is not enabled ends the connection, and a new one begins with one that is.
"""

from __future__ import annotations

from ... import stream
from ...access import tls_settings, wants_tls
from ...errors import NotReady, blocked
from .. import hosts
from . import wire
from .talk import Talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target
    from ...stream import Attempt
    from ...tls import Settings

# What is spoken, the strongest first.
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")


class Entry:
    """The way in to the brokers of a target; what was learnt at the first serves at the others.

    `at` is the host and port of the first; `mechanism` is empty until it is known. Raises NotReady:
    `local` where there is no password.
    """

    __slots__ = ("_password", "_target", "_tls", "_user", "at", "mechanism")

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tls = wants_tls(target)
        self._user = target.text("user") or target.user
        self._password = ""
        self.at = target.hosts[0]
        self.mechanism = target.text("mechanism")
        if self._user:
            from .. import credentials

            self._password = credentials.password(target)

    def begin(self, attempt: Attempt) -> Talk:
        """A conversation with the first of the hosts that takes one, and tells what it knows.

        Where a login is asked for and not given, it is `locked` instead.
        """

        def meet(host: str, port: int, share: Attempt) -> Talk:
            self.at = host, port
            return self.meet(host, port, share, first=True)

        # The next broker has the same accounts, and refused logins are counted.
        talk = hosts.first(self._target, attempt, meet, final=("auth-refused",))
        talk.last_until(attempt.deadline)
        return talk

    def meet(self, host: str, port: int, attempt: Attempt, *, first: bool = False) -> Talk:
        """A conversation with the broker at an address, up to where it takes questions."""
        while True:
            talk = Talk(self._connect(host, port, attempt, first))
            try:
                talk.greet()
                done = self._log_in(talk) if self._user else self._look(talk, first)
                if done and first and not talk.locked:
                    talk.look_around(self._target.texts("topic"))
            except BaseException:
                talk.close()
                raise
            if done:
                return talk
            talk.close()

    def _connect(self, host: str, port: int, attempt: Attempt, first: bool) -> stream.Stream:
        connection = stream.connect(host, port, attempt)
        if not self._tls:
            return connection
        try:
            connection.upgrade(self._settings(first), host)
        except NotReady as error:
            connection.close()
            if error.verdict.cause != "closed-early":
                raise
            # A broker takes the first bytes of TLS for a length, and that length for too much.
            hint = "a listener without TLS closes the connection so"
            raise NotReady(error.verdict.but(hint=hint)) from error
        return connection

    def _settings(self, first: bool) -> Settings:
        settings = tls_settings(self._target)
        if first or not settings.server_name:
            return settings
        from ...tls import Settings

        # The name is the first broker's; any other is known by what it is advertised as.
        return Settings(
            ca=settings.ca,
            min_days=settings.min_days,
            alpn=settings.alpn,
            cert=settings.cert,
            key=settings.key,
            insecure=settings.insecure,
        )

    def _look(self, talk: Talk, first: bool) -> bool:
        """Without a login: see whether one is asked for. True, since there is nothing more to try."""
        if first and talk.speaks(wire.SASL_HANDSHAKE):
            error, offered = self._shake_hands(talk)
            if error in (0, wire.UNSUPPORTED_SASL_MECHANISM):
                talk.locked = offered or ("no mechanism at all",)
            elif error != wire.ILLEGAL_SASL_STATE:
                raise talk.odd(wire.SASL_HANDSHAKE, error)
        return True

    def _shake_hands(self, talk: Talk) -> tuple[int, tuple[str, ...]]:
        """An error code, and the mechanisms that are enabled."""
        asked = self.mechanism or MECHANISMS[0]
        return talk.ask(wire.SASL_HANDSHAKE, wire.text(asked), wire.read_mechanisms)

    def _log_in(self, talk: Talk) -> bool:
        """Log in. False where the broker has to be met anew, with a mechanism that it has."""
        error, offered = (
            self._shake_hands(talk)
            if talk.speaks(wire.SASL_HANDSHAKE)
            else (wire.ILLEGAL_SASL_STATE, ())
        )
        if error == wire.ILLEGAL_SASL_STATE:
            raise blocked(
                "unsupported",
                f"{talk.peer} takes no login: its listener has none",
                "name the port of one that has SASL, or no user",
            )
        if error == wire.UNSUPPORTED_SASL_MECHANISM:
            self.mechanism = self._choose(talk, offered)
            return False
        if error:
            raise talk.odd(wire.SASL_HANDSHAKE, error)
        self.mechanism = self.mechanism or MECHANISMS[0]
        chosen = not self._target.text("mechanism")
        others = tuple(one for one in offered if chosen and one != self.mechanism)
        if self.mechanism == "PLAIN":
            self._send(talk, f"\0{self._user}\0{self._password}".encode(), others)
            return True
        from ..scram import Scram

        scram = Scram(self.mechanism, self._user, self._password, talk.peer)
        scram.verify(self._send(talk, scram.final(self._send(talk, scram.first(), others)), others))
        return True

    def _choose(self, talk: Talk, offered: tuple[str, ...]) -> str:
        """The strongest mechanism that is enabled and spoken here. Raises `unsupported`."""
        listed = ", ".join(offered) or "no mechanism"
        if self.mechanism:
            seen = f"{talk.peer} takes logins by {listed}, not by {self.mechanism}"
            raise blocked("unsupported", seen)
        known = [mechanism for mechanism in MECHANISMS if mechanism in offered]
        if known and (known[0] != "PLAIN" or self._tls):
            return known[0]
        hint = (
            "#mechanism=PLAIN sends the password unprotected; #tls protects it"
            if known
            else f"{', '.join(MECHANISMS)} are spoken: name a listener that has one of them"
        )
        raise blocked("unsupported", f"{talk.peer} takes logins by {listed} only", hint)

    def _send(self, talk: Talk, token: bytes, others: tuple[str, ...]) -> bytes:
        """The broker's next message of the login. Raises `auth-refused`, `protocol`."""
        talk.speaks(wire.SASL_AUTHENTICATE)
        error, words, answer = talk.ask(wire.SASL_AUTHENTICATE, wire.blob(token), wire.read_token)
        if error == wire.SASL_AUTHENTICATION_FAILED:
            # An account of one mechanism is none of another.
            hint = f"it also takes {', '.join(others)}: #mechanism= names one" if others else ""
            said = f"{wire.error_name(error)}: {words}" if words else wire.error_name(error)
            raise blocked("auth-refused", f"{talk.peer} refused the login: {said}", hint)
        if error:
            raise talk.odd(wire.SASL_AUTHENTICATE, error)
        return answer
