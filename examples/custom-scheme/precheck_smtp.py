"""SMTP: does a mail server greet, and for whom.

RFC 5321. Reads the greeting, says QUIT, and closes. Costs the server one short connection.
"""

from __future__ import annotations

from service_precheck.errors import blocked
from service_precheck.model import Verdict, ready
from service_precheck.options import TEXT, Option, Scheme, Target
from service_precheck.stream import Attempt, connect


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the server greets with 220, as `domain` if that is asked for."""
    with connect(target.host, target.port or 25, attempt) as server:
        greeting = server.read_until(b"\n", most=512, what="a greeting").decode("ascii", "replace")
        server.write(b"QUIT\r\n")
        code, _, words = greeting.strip().partition(" ")
        if code != "220":
            raise blocked("not-ready", f"{server.peer} greets with {greeting.strip()!r}, not 220")
        domain = target.text("domain")
        if domain and words.split(" ")[0] != domain:
            raise blocked("unexpected-body", f"{server.peer} greets as {words!r}, not as {domain}")
        return ready(f"{server.peer} takes mail: {words}")


SMTP = Scheme(
    "smtp",
    "host:port",
    probe,
    proves="a mail server greets",
    not_proves="that it takes mail from you, or for anybody",
    example="smtp://mail.shop",
    options=(Option("domain", TEXT, "the name that the server must greet with"),),
    port=25,
    floor=1.0,
)
