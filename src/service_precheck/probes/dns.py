"""Names: a bare name, and `dns:` for the rest of what DNS can say.

RFC 1035; RFC 2782 for SRV. Sends one question a poll for most names of a cluster (`dns.plan`), to
the pod's own resolver. Costs the server one cached or authoritative look-up.
"""

from __future__ import annotations

from .. import net
from ..dns import message
from ..dns.exchange import Server
from ..dns.resolver import Found
from ..errors import blocked
from ..kinds import read_port
from ..model import Verdict, ready
from ..options import FLAG, NUMBER, TEXT, Kind, Option, Scheme, Target, Wrong, choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt


def _read_server(text: str) -> Server:
    address, port = text, "53"
    if text.startswith("["):
        address, bracket, after = text[1:].partition("]")
        port = after.removeprefix(":") if after else port if bracket else ""
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    number = read_port(port)
    if number is None or not net.is_address(address):
        raise Wrong(f"{text!r} is no server; write an address, or ADDRESS:PORT")
    return address, number


def _write_server(value: object) -> str:
    assert isinstance(value, tuple)
    address, port = value
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


_OPTIONS = (
    Option(
        "type", choice(*message.TYPES), "the type of record to ask for; A, then AAAA without it"
    ),
    Option("min", NUMBER, "how many distinct values there must be", 1),
    Option("expect", TEXT, "a value that must be among the answers", many=True),
    Option("wildcard", choice("ok"), "count answers that a wildcard in the search list gives"),
    Option(
        "server",
        Kind("ADDRESS[:PORT]", _read_server, _write_server),
        "the server to ask for the name as written, instead of the system's",
    ),
    Option("absolute", FLAG, "the name as written only, without the search list", False),
)


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the name has at least `min` values, all of `expect` among them."""
    wanted = target.text("type")
    rtypes = (message.TYPES[wanted],) if wanted else (message.A, message.AAAA)
    found = _find(target, attempt, rtypes)
    values = sorted(set(found.values))
    least = int(target.number("min") or 1)
    if len(values) < least:
        raise blocked(
            "too-few",
            f"{found.name} has {len(values)} of {least} {_kind(wanted, least)}: {_listed(values)}",
        )
    missing = _missing(target.texts("expect"), values, wanted)
    if any(":" in text for text in missing) and not wanted and ":" not in values[0]:
        # A alone was asked for, since it was there.
        values += _find(target, attempt, (message.AAAA,)).values
        missing = _missing(target.texts("expect"), values, wanted)
    if missing:
        raise blocked(
            "missing-object", f"{found.name} has {_listed(values)}, but not {', '.join(missing)}"
        )
    return ready(_proven(found, values, wanted))


def _find(target: Target, attempt: Attempt, rtypes: tuple[int, ...]) -> Found:
    server = target.option("server")
    return attempt.resolver.find(
        target.host,
        rtypes,
        attempt.deadline,
        server=server if isinstance(server, tuple) else None,
        absolute=target.flag("absolute"),
        wildcard=bool(target.text("wildcard")),
    )


def _missing(expected: tuple[str, ...], values: list[str], wanted: str) -> list[str]:
    """What is expected and not there. Names and addresses have neither case nor a final dot."""
    if wanted == "TXT":
        return [text for text in expected if text not in values]
    return [text for text in expected if text.removesuffix(".").lower() not in values]


def _proven(found: Found, values: list[str], wanted: str) -> str:
    if found.source != "DNS":
        return f"{_listed(values)} by {found.source}"
    via = f" by way of {found.via}" if found.via != found.name else ""
    if wanted in ("", "A", "AAAA"):
        return f"resolves to {_listed(values)}{via}"
    return f"has {wanted} {_listed(values)}{via}"


def _kind(wanted: str, count: int) -> str:
    noun = "address" if wanted in ("", "A", "AAAA") else f"{wanted} record"
    return noun if count == 1 else f"{noun}es" if noun == "address" else f"{noun}s"


def _listed(values: list[str]) -> str:
    if len(values) > 4:
        return f"{', '.join(values[:3])} and {len(values) - 3} more"
    return ", ".join(values)


SCHEMES = (
    Scheme(
        "dns",
        "name",
        probe,
        proves="the name resolves, for this pod's own resolver",
        not_proves="that anything runs or listens there: a headless service may publish pods that are not ready",
        example="dns://zookeeper-headless.hdfs#min=3",
        options=_OPTIONS,
        attempt_timeout=2.0,
    ),
)
