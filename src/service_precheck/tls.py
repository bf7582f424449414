"""TLS for streams, on the interpreter's own `_ssl`.

`ssl` costs 16 ms and 6 MiB more to import. Verification is the library's: chain and host name as in
RFC 5280 and RFC 6125, system roots as OpenSSL finds them (SSL_CERT_FILE and SSL_CERT_DIR are
honoured), TLS 1.2 and later.
"""

from __future__ import annotations

import _ssl
import errno
import os
import time

from . import net
from .errors import NotReady, blocked
from .model import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Target
    from .stream import Attempt

_CERT_NONE, _CERT_REQUIRED = 0, 2
_TLS_1_2 = 0x0303
_DAY = 86_400


class Settings(Frozen):
    """What a target says about TLS: a row for each of `options.TLS_OPTIONS`."""

    __slots__ = ("alpn", "ca", "cert", "insecure", "key", "min_days", "server_name")
    ca: str
    server_name: str
    min_days: int
    alpn: tuple[str, ...]
    cert: str
    key: str
    insecure: bool

    def __init__(
        self,
        ca: str = "",
        server_name: str = "",
        min_days: int = 0,
        alpn: tuple[str, ...] = (),
        cert: str = "",
        key: str = "",
        insecure: bool = False,
    ) -> None:
        self._set(
            ca=ca,
            server_name=server_name,
            min_days=min_days,
            alpn=alpn,
            cert=cert,
            key=key,
            insecure=insecure,
        )


def settings(target: Target, alpn: tuple[str, ...] = ()) -> Settings:
    """The settings of a target; `alpn` is what to offer when it names nothing."""
    return Settings(
        target.text("ca"),
        target.text("server-name"),
        int(target.number("min-days") or 0),
        target.texts("alpn") or alpn,
        target.text("cert"),
        target.text("key"),
        target.flag("insecure"),
    )


def check(target: Target) -> tuple[str, ...]:
    """What the option table cannot say about TLS options."""
    wrong = []
    if target.text("key") and not target.text("cert"):
        wrong.append("#key= without #cert=: the certificate is missing")
    if target.flag("insecure") and target.text("ca"):
        wrong.append("#ca= with #insecure: either trust a file or trust anything")
    if any(len(name.encode()) > 255 for name in target.texts("alpn")):
        wrong.append("an #alpn= of more than 255 bytes")
    return tuple(wrong)


def handshake(
    sock: net.Socket, settings: Settings, host: str, peer: str, attempt: Attempt
) -> tuple[object, dict[str, object]]:
    """Shake hands on a connected socket; the TLS object, and `version`, `alpn`, `days` (left before expiry).

    Raises NotReady: `tls-expired`, `tls-name`, `tls-untrusted`, `tls-client-cert`, `tls-plaintext`,
    `no-reply`, `closed-early`, `protocol`, `local`.
    """
    context = _context(settings)
    name = settings.server_name or host
    if net.is_address(name):
        context._host_flags = 0
    conversation = context._wrap_socket(sock, False, name.removesuffix("."))
    while True:
        try:
            conversation.do_handshake()
            break
        except _ssl.SSLWantReadError:
            going = net.wait((sock,), (), attempt.deadline)
        except _ssl.SSLWantWriteError:
            going = net.wait((), (sock,), attempt.deadline)
        except OSError as error:
            raise blocked(*explain(error, peer, name)) from error
        if not going:
            raise blocked(
                "no-reply",
                f"{peer} accepted the connection, then did not shake hands within {attempt.limit()}",
            )
    chosen = conversation.selected_alpn_protocol()
    if settings.alpn and chosen not in settings.alpn and settings.alpn != ("http/1.1",):
        said = f"chose {chosen}" if chosen else "chose none"
        raise blocked("protocol", f"{peer} {said} of the protocols offered: {', '.join(settings.alpn)}")
    facts: dict[str, object] = {"version": conversation.version(), "alpn": chosen or "", "days": None}
    certificate = conversation.getpeercert(False)
    if certificate and "notAfter" in certificate:
        left = _not_after(certificate["notAfter"]) - time.time()
        facts["days"] = int(left // _DAY)
        if left < settings.min_days * _DAY:
            raise blocked(
                "tls-expired",
                f"the certificate of {peer} expires in {int(left // _DAY)} days; "
                f"{settings.min_days} are asked for",
            )
    return conversation, facts


def _context(settings: Settings) -> _ssl._SSLContext:
    context = _ssl._SSLContext(_ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _TLS_1_2
    # As `ssl` sets them: no compression, and no error for a peer that ends without a goodbye.
    context.options |= _ssl.OP_NO_COMPRESSION | _ssl.OP_IGNORE_UNEXPECTED_EOF
    context.check_hostname = not settings.insecure
    context.verify_mode = _CERT_NONE if settings.insecure else _CERT_REQUIRED
    try:
        if settings.ca:
            context.load_verify_locations(settings.ca, None, None)
        elif not settings.insecure:
            context.set_default_verify_paths()
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key or None, None)
    except (OSError, ValueError) as error:
        code = error.errno if isinstance(error, OSError) else 0
        missing = [p for p in (settings.ca, settings.cert, settings.key) if p and not os.access(p, os.R_OK)]
        if missing:
            raise blocked("local", f"{missing[0]} cannot be read: {_why_unreadable(missing[0])}") from error
        given = " or ".join(p for p in (settings.ca, settings.cert, settings.key) if p)
        reason = getattr(error, "reason", "") or (os.strerror(code) if code else str(error))
        raise blocked("local", f"{given} does not hold what it should: {_words(reason)}") from error
    if settings.alpn:
        encoded = [name.encode() for name in settings.alpn]
        context._set_alpn_protocols(b"".join(bytes((len(name),)) + name for name in encoded))
    return context


def _why_unreadable(path: str) -> str:
    try:
        with open(path, "rb"):
            return "permission denied"
    except OSError as error:
        return os.strerror(error.errno or 0)


# X509_V_ERR_* of openssl/x509_vfy.h.
_EXPIRED, _NOT_YET, _HOST, _IP = 10, 9, 62, 64


def explain(error: OSError, peer: str, name: str = "") -> tuple[str, str, str]:
    """The cause of an error of the TLS library, the sentence, and a hint."""
    code = getattr(error, "verify_code", None)
    if code is not None:
        message = getattr(error, "verify_message", "")
        if code == _EXPIRED:
            return "tls-expired", f"the certificate of {peer} has expired", ""
        if code == _NOT_YET:
            return "tls-expired", f"the certificate of {peer} is not valid yet", "compare the clocks"
        if code in (_HOST, _IP):
            return (
                "tls-name",
                f"the certificate of {peer} is not for {name}",
                "#server-name= sets the name that is expected",
            )
        return (
            "tls-untrusted",
            f"the certificate of {peer} is not trusted: {message}",
            "#ca= names a file of certificates to trust",
        )
    reason = _words(getattr(error, "reason", "") or "")
    if reason in ("wrong version number", "packet length too long", "http request", "record layer failure"):
        return "tls-plaintext", f"{peer} does not speak TLS", "a plain-text port?"
    if "certificate required" in reason or "handshake failure" in reason or "bad certificate" in reason:
        return (
            "tls-client-cert",
            f"{peer} refused the handshake: {reason}",
            "if it asks for a client certificate, #cert= and #key= name one",
        )
    if type(error).__name__ in ("SSLEOFError", "SSLZeroReturnError") or error.errno in (
        errno.ECONNRESET,
        errno.EPIPE,
    ):
        return "closed-early", f"{peer} closed the connection during the TLS handshake", ""
    if type(error).__name__ == "SSLSyscallError" or not reason:
        cause, words = net.why(error.errno or 0)
        return cause, f"{peer} {words}", ""
    return "protocol", f"the TLS handshake with {peer} failed: {reason}", ""


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _not_after(text: str) -> float:
    """Seconds since the epoch of "Nov 23 04:15:00 2026 GMT" (what OpenSSL prints of an ASN.1 time)."""
    month, day, clock, year, _ = text.split()
    hour, minute, second = (int(part) for part in clock.split(":"))
    y, m = int(year), _MONTHS.index(month) + 1
    # Days since the epoch in the proleptic Gregorian calendar, March first.
    y -= m < 3
    days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * ((m + 9) % 12) + 2) // 5 + int(day) - 719469
    return float(days * _DAY + hour * 3600 + minute * 60 + second)


__all__ = ["NotReady", "Settings", "check", "explain", "handshake", "settings"]
