"""TLS for streams, on the interpreter's own `_ssl`, without any socket: bytes in, bytes out.

`ssl` costs 16 ms and 6 MiB more to import. Verification is the library's: chain and host name as in
RFC 5280 and RFC 6125, system roots as OpenSSL finds them (SSL_CERT_FILE and SSL_CERT_DIR are
honoured), TLS 1.2 and later (RFC 5246, RFC 8446).
"""

from __future__ import annotations

import _ssl
import time

from .errors import NotReady, blocked
from .model import Frozen, epoch, printable
from .net import os

_CERT_NONE, _CERT_REQUIRED = 0, 2
_TLS_1_2 = 0x0303
_DAY = 86_400
# X509_V_FLAG_PARTIAL_CHAIN: an intermediate authority in `ca` is as good as a root.
_PARTIAL_CHAIN = 0x80000
# X509_V_ERR_* of openssl/x509_vfy.h.
_NOT_YET, _EXPIRED, _HOST, _IP = 9, 10, 62, 64
# RFC 8446 section 4: types of records and of handshake messages.
_ALERT, _HANDSHAKE = 0x15, 0x16
_NEW_SESSION_TICKET, _CERTIFICATE_REQUEST = 4, 13

# What a server says (RFC 8446 section 6.2) that asked for a certificate and got none, or not a good one.
_ABOUT_CERTIFICATES = (
    "access denied",
    "bad certificate",
    "certificate expired",
    "certificate required",
    "certificate revoked",
    "certificate unknown",
    "handshake failure",
    "unknown ca",
    "unsupported certificate",
)


class Settings(Frozen):
    """What a target says about TLS: a row for each of `access.TLS_OPTIONS`.

    `alpn` is offered; the server must choose one of it unless `alpn_optional`.
    """

    __slots__ = (
        "alpn",
        "alpn_optional",
        "ca",
        "cert",
        "insecure",
        "key",
        "min_days",
        "server_name",
    )
    ca: str
    server_name: str
    min_days: int
    alpn: tuple[str, ...]
    cert: str
    key: str
    insecure: bool
    alpn_optional: bool

    def __init__(
        self,
        ca: str = "",
        server_name: str = "",
        min_days: int = 0,
        alpn: tuple[str, ...] = (),
        cert: str = "",
        key: str = "",
        insecure: bool = False,
        alpn_optional: bool = False,
    ) -> None:
        self._set(
            ca=ca,
            server_name=server_name,
            min_days=min_days,
            alpn=alpn,
            cert=cert,
            key=key,
            insecure=insecure,
            alpn_optional=alpn_optional,
        )


class Session(Frozen):
    """What was agreed: `version` ("TLSv1.3"), `alpn` (empty if none), the `name` that was asked for.

    `days` are left before the first certificate of the chain expires (with `insecure`: before the
    server's own does), None if no date can be read. `chain` is what the server sent of it, in DER, its
    own certificate first.
    """

    __slots__ = ("alpn", "chain", "days", "name", "version")
    version: str
    alpn: str
    name: str
    days: int | None
    chain: tuple[bytes, ...]

    def __init__(
        self, version: str, alpn: str, name: str, days: int | None, chain: tuple[bytes, ...] = ()
    ) -> None:
        self._set(version=version, alpn=alpn, name=name, days=days, chain=chain)


class Channel:
    """The client's side of TLS between a stream and its socket: `feed` what came, send what `take` gives.

    Raises NotReady: `tls-expired`, `tls-name`, `tls-untrusted`, `tls-client-cert`, `tls-plaintext`,
    `closed-early`, `unsupported`, `protocol`, `local`.
    """

    __slots__ = (
        "_begun",
        "_incoming",
        "_name",
        "_outgoing",
        "_peer",
        "_seen",
        "_settings",
        "_talk",
    )

    def __init__(self, settings: Settings, host: str, peer: str) -> None:
        self._settings = settings
        self._peer = peer
        self._begun = False
        # An IPv6 zone is of this machine only, and the trailing dot of DNS only.
        self._name = settings.server_name or host.partition("%")[0].removesuffix(".")
        self._incoming = _ssl.MemoryBIO()
        self._outgoing = _ssl.MemoryBIO()
        seen: set[int] = set()
        self._seen = seen
        context = context_of(settings)
        # It holds nothing but the set: a circle through the library's objects is never collected.
        context._msg_callback = lambda *what: _notice(seen, *what)  # type: ignore[attr-defined]  # noqa: SLF001
        self._talk = context._wrap_bio(  # type: ignore[attr-defined]  # noqa: SLF001
            self._incoming, self._outgoing, False, self._name
        )

    @property
    def confirmed(self) -> bool:
        """Whether the server has taken the handshake.

        Since TLS 1.3 it may still refuse the client's certificate after the client is done; a session
        ticket says that it did not.
        """
        return self._talk.version() != "TLSv1.3" or _NEW_SESSION_TICKET in self._seen

    @property
    def verified(self) -> bool:
        """Whether a chain of the server's was verified; of no meaning with `insecure`."""
        return bool(self._talk.get_verified_chain())

    def feed(self, data: bytes) -> None:
        """What came from the socket; empty at its end."""
        if not data:
            self._incoming.write_eof()
            return
        begins, self._begun = not self._begun, True
        if begins and data[0] not in (_ALERT, _HANDSHAKE):
            said = f"it said '{printable(data.decode('utf-8', 'replace').strip(), 60)}'"
            # RFC 9113 section 4.1: the SETTINGS frame that a server begins with.
            if data[0] == 0 and data[3:9] == b"\x04\0\0\0\0\0":
                said = "it speaks HTTP/2 in plain text"
            seen = f"{self._peer} does not speak TLS, {said}"
            raise blocked("tls-plaintext", seen, "a plain-text port?")
        self._incoming.write(data)

    def take(self) -> bytes:
        """What is to be sent to the socket now."""
        return self._outgoing.read()

    def shake_hands(self) -> bool:
        """Go on with the handshake as far as what came allows; whether it is done."""
        try:
            self._talk.do_handshake()
        except _ssl.SSLWantReadError:
            return False
        except OSError as error:
            raise blocked(*self._explain(error)) from error
        return True

    def session(self) -> Session:
        """What was agreed, once the handshake is done. Raises where the settings ask for more."""
        chosen = self._talk.selected_alpn_protocol() or ""
        offered = self._settings.alpn
        if offered and chosen not in offered and not self._settings.alpn_optional:
            raise blocked(
                "protocol",
                f"{self._peer} chose none of the protocols offered ({', '.join(offered)})",
            )
        left = self._time_left()
        days = None if left is None else int(left // _DAY)
        asked = self._settings.min_days
        if asked and (left is None or left < asked * _DAY):
            still = (
                "of unknown end"
                if left is None
                else "expired"
                if left < 0
                else f"good for {days} days"
            )
            raise blocked(
                "tls-expired",
                f"the certificate of {self._peer} is {still}, {asked} days are asked for",
            )
        sent = self._talk.get_unverified_chain() or ()
        chain = tuple(each.public_bytes(_ssl.ENCODING_DER) for each in sent)
        return Session(self._talk.version() or "", chosen, self._name, days, chain)

    def read(self, most: int) -> bytes | None:
        """What the other end said: None if nothing yet, empty at its end."""
        try:
            got: bytes = self._talk.read(most)
        except _ssl.SSLWantReadError:
            return None
        except (_ssl.SSLZeroReturnError, _ssl.SSLEOFError):
            return b""
        except OSError as error:
            raise blocked(*self._explain(error)) from error
        return got

    def write(self, data: bytes) -> None:
        """Say something; `take` then has it."""
        try:
            self._talk.write(data)
        except OSError as error:
            raise blocked(*self._explain(error)) from error

    def goodbye(self) -> bytes:
        """The bytes that end the conversation in order."""
        try:
            self._talk.shutdown()
        except OSError:
            pass
        return self.take()

    def _time_left(self) -> float | None:
        """Seconds until the first certificate expires; None if no date can be read."""
        try:
            if self._settings.insecure:
                chain = self._talk.get_unverified_chain()[:1]
            else:
                chain = self._talk.get_verified_chain()
            return min(_not_after(each.get_info()["notAfter"]) for each in chain) - time.time()
        except (OSError, LookupError, ValueError, TypeError):
            return None

    def _explain(self, error: OSError) -> tuple[str, str, str]:
        """The cause of an error of the TLS library, the sentence, and a hint."""
        peer = self._peer
        code = getattr(error, "verify_code", None)
        if code is not None:
            return self._distrust(code, getattr(error, "verify_message", ""))
        if isinstance(error, _ssl.SSLEOFError | _ssl.SSLZeroReturnError | _ssl.SSLSyscallError):
            return "closed-early", f"{peer} closed the connection during the TLS handshake", ""
        reason = _reason(error)
        if _CERTIFICATE_REQUEST in self._seen and reason.endswith(_ABOUT_CERTIFICATES):
            said = reason.partition("alert ")[2]
            if self._settings.cert:
                return "tls-client-cert", f"{peer} refused the client's certificate: {said}", ""
            hint = "#cert= and #key= name one (#cert-key= where #key= is a key of the data)"
            return "tls-client-cert", f"{peer} asks for a client's certificate ({said})", hint
        if reason.endswith(("protocol version", "unsupported protocol")):
            return "unsupported", f"{peer} speaks no TLS of version 1.2 or later", ""
        if reason.endswith("unrecognized name"):
            hint = "#server-name= sets the name that is asked for"
            return "tls-name", f"{peer} knows no {self._name}", hint
        if reason.endswith("no application protocol"):
            offered = ", ".join(self._settings.alpn)
            return "protocol", f"{peer} speaks none of the protocols offered ({offered})", ""
        if reason in ("wrong version number", "packet length too long", "record layer failure"):
            return "tls-plaintext", f"{peer} does not speak TLS", "a plain-text port?"
        return "protocol", f"TLS with {peer} failed: {reason}", ""

    def _distrust(self, code: int, message: str) -> tuple[str, str, str]:
        peer = self._peer
        if code == _EXPIRED:
            return "tls-expired", f"the certificate of {peer} has expired", ""
        if code == _NOT_YET:
            hint = "compare the clocks"
            return "tls-expired", f"the certificate of {peer} is not valid yet", hint
        if code in (_HOST, _IP):
            hint = "#server-name= sets the name that is expected"
            return "tls-name", f"the certificate of {peer} is not for {self._name}", hint
        hint = "#ca= names a file of certificates to trust"
        return "tls-untrusted", f"the certificate of {peer} is not trusted: {message}", hint


def _notice(seen: set[int], *what: object) -> None:
    """Keep which handshake messages came: the library tells of them as (connection, direction, version,
    type of record, type of message, bytes)."""
    _, direction, _, record, message, _ = what
    if direction == "read" and record == _HANDSHAKE and isinstance(message, int):
        seen.add(message)


def context_of(settings: Settings) -> _ssl._SSLContext:
    """What the library makes of settings, its files read anew. Raises NotReady (`local`)."""
    context = _ssl._SSLContext(_ssl.PROTOCOL_TLS_CLIENT)  # noqa: SLF001
    context.minimum_version = _TLS_1_2
    # As `ssl` sets them: no compression, and no error for a peer that ends without a goodbye.
    context.options |= _ssl.OP_NO_COMPRESSION | _ssl.OP_IGNORE_UNEXPECTED_EOF
    context.check_hostname = not settings.insecure
    context.verify_mode = _CERT_NONE if settings.insecure else _CERT_REQUIRED
    given = settings.ca
    try:
        if given:
            context.verify_flags |= _PARTIAL_CHAIN
            folder = _is_folder(given)
            context.load_verify_locations(None if folder else given, given if folder else None)
        elif not settings.insecure:
            context.set_default_verify_paths()
        if settings.cert:
            given = settings.cert
            # Without a callback the library would ask for a passphrase at the terminal, and wait.
            context.load_cert_chain(given, settings.key or None, str)
    except (OSError, ValueError) as error:
        raise _unusable(
            error, *((given, settings.key) if given == settings.cert else (given,))
        ) from error
    if settings.alpn:
        encoded = (name.encode() for name in settings.alpn)
        wire = b"".join(bytes((len(name),)) + name for name in encoded)
        context._set_alpn_protocols(wire)  # type: ignore[attr-defined]  # noqa: SLF001
    return context


def _is_folder(path: str) -> bool:
    try:
        return os.stat(path).st_mode & 0o170000 == 0o040000
    except OSError:
        return False


def _unusable(error: Exception, *paths: str) -> NotReady:
    for path in filter(None, paths):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as why:
            return blocked("local", f"{path} cannot be read: {os.strerror(why.errno or 0)}")
    reason = _reason(error)
    hint = ""
    if reason == "pem lib":
        hint = "the file holds no key, or an encrypted one; a file of its own is named by #key="
        hint += " (#cert-key= where #key= is a key of the data)"
    return blocked("local", f"{' with '.join(filter(None, paths))} cannot be used: {reason}", hint)


def _reason(error: Exception) -> str:
    """The library's reason in words: of "SSLV3_ALERT_BAD_CERTIFICATE", or of "[SSL] PEM lib (_ssl.c:1)"."""
    reason = getattr(error, "reason", None) or str(error).rpartition("] ")[2].partition(" (")[0]
    return reason.replace("_", " ").lower()


def _not_after(text: str) -> float:
    """Seconds since the epoch of "Nov 23 04:15:00 2026 GMT" (what OpenSSL prints of an ASN.1 time)."""
    month, day, clock, year, _ = text.split()
    return epoch(int(year), month, int(day), clock)
