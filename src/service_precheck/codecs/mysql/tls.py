"""TLS in the middle of MySQL's conversation, without harm where the certificate is not trusted.

A handshake that we break off counts against our address as a connection without a login does, and at
`max_connect_errors` the server lets nobody in from there. So the handshake is carried through
unchecked, the certificate is judged before anything else is said, and where it is no good a login
that shows nothing ends the connection in order.

The judge is OpenSSL itself: a client of its own, which never talks to anybody, is shown the chain as
the answer of a server (RFC 5246 sections 7.4.1.3 and 7.4.2), and verifies it before it would go on.
"""

from __future__ import annotations

from ...access import tls_settings
from ...errors import NotReady, blocked
from ...tls import Channel, Settings
from .login import be_refused, capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target
    from .wire import Conversation

# The key of a certificate is RSA (RFC 3279 section 2.3.1), else it is of elliptic curves.
_RSA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
# TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 and TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
_CIPHERS = {True: b"\xc0\x2f", False: b"\xc0\x2b"}
_SERVER_HELLO, _CERTIFICATE = 2, 11
# An empty renegotiation_info (RFC 5746), which OpenSSL insists on.
_EXTENSIONS = b"\x00\x05\xff\x01\x00\x01\x00"


def protect(target: Target, server: Conversation, checked: bool) -> None:
    """Speak TLS. Raises `tls-plaintext` where none is offered, and where the certificate is to
    be `checked` the causes of one that is no good."""
    if not server.greeting.tls:
        be_refused(server)
        raise blocked("tls-plaintext", f"{server.peer} offers no TLS")
    asked = tls_settings(target) if checked else Settings(insecure=True)
    settings = Settings(
        asked.ca, asked.server_name, asked.min_days, (), asked.cert, asked.key, asked.insecure
    )
    try:
        judge = Channel(settings, target.host, server.peer)
    except NotReady:
        be_refused(server)
        raise
    unchecked = Settings("", asked.server_name, 0, asked.alpn, asked.cert, asked.key, insecure=True)
    offered = capabilities(server.greeting.capabilities)
    session = server.upgrade(offered, unchecked, target.host)
    if checked:
        try:
            _judge(judge, session.chain)
            if not (settings.insecure or judge.verified):
                raise blocked("tls-untrusted", f"the certificate of {server.peer} was not verified")
        except NotReady:
            be_refused(server)
            raise


def _judge(judge: Channel, chain: tuple[bytes, ...]) -> None:
    """Verify a chain (DER, the server's own first) as the settings of `judge` ask for."""
    judge.shake_hands()
    cipher = _CIPHERS[_RSA in chain[0]] if chain else _CIPHERS[True]
    hello = b"\x03\x03" + bytes(33) + cipher + b"\x00" + _EXTENSIONS
    certificates = b"".join(_sized(each) for each in chain)
    judge.feed(_record(_SERVER_HELLO, hello) + _record(_CERTIFICATE, _sized(certificates)))
    judge.shake_hands()
    judge.session()


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(3, "big") + data


def _record(kind: int, message: bytes) -> bytes:
    """A handshake message in as many records (at most 16 KiB each) as it takes."""
    whole = bytes((kind,)) + _sized(message)
    parts = (whole[at : at + 16_384] for at in range(0, len(whole), 16_384))
    return b"".join(b"\x16\x03\x03" + len(part).to_bytes(2, "big") + part for part in parts)
