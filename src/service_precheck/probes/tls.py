"""TLS: does a port shake hands with a certificate that can be trusted.

RFC 5246, RFC 8446; names as in RFC 6125. Shakes hands, says goodbye, and sends nothing in between.
Costs the server one handshake: about a millisecond of its processor.
"""

from __future__ import annotations

from .. import net, stream
from ..access import TLS_OPTIONS, check_tls, tls_settings, try_tls_files
from ..model import Verdict, ready
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt

# The shortest look for a refusal of the client's certificate, which comes a round trip after the
# client is done.
LEAST_LOOK = 0.025


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the handshake is done and the certificate holds for as long as is asked for."""
    assert target.port is not None
    try_tls_files(target)
    with stream.connect(target.host, target.port, attempt) as connection:
        began = net.monotonic()
        session = connection.upgrade(tls_settings(target), target.host)
        connection.settle(max(LEAST_LOOK, 2 * (net.monotonic() - began)))
    chosen = f" and {session.alpn}" if session.alpn else ""
    spoken = f"{connection.peer} speaks {session.version}{chosen}"
    if target.flag("insecure"):
        return ready(f"{spoken}, with a certificate that was not checked")
    days = "1 more day" if session.days == 1 else f"{session.days} more days"
    return ready(f"{spoken}, its certificate is good for {session.name} and {days}")


SCHEMES = (
    Scheme(
        "tls",
        "host:port",
        probe,
        proves="a TLS handshake succeeds, and the certificate is trusted, for this name, and not expired",
        not_proves="that the service behind it does its work: nothing is asked of it",
        example="tls://ldap.example.org:636#min-days=14",
        options=TLS_OPTIONS,
        port=443,
        floor=0.1,
        check=check_tls,
    ),
)
