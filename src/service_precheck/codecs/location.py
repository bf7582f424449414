"""Where a redirect leads: RFC 3986 section 5, as far as HTTP needs it.

A fragment is for the reader and a user in the address never used: neither is kept.
"""

from __future__ import annotations

from ..kinds import is_name, read_port
from ..net import is_address
from .http1 import PORTS, Place

_PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/?%[]|"
)


def follow(place: Place, location: str) -> Place | None:
    """The place that a Location header names, seen from `place`; None where it is no address of HTTP."""
    text = location.partition("#")[0].strip()
    scheme, colon, rest = text.partition(":")
    if not (colon and scheme.isascii() and scheme.isalpha()):
        scheme, rest = place.scheme, text
    scheme = scheme.lower()
    if scheme not in PORTS:
        return None
    if rest.startswith("//"):
        return _absolute(scheme, rest[2:])
    if rest is not text:
        return None
    base = place.path.partition("?")[0]
    if not text:
        path = place.path
    elif text.startswith("?"):
        path = base + text
    else:
        path = _without_dots(text if text[0] == "/" else base[: base.rindex("/") + 1] + text)
    return Place(place.scheme, place.host, place.port, _encoded(path))


def _absolute(scheme: str, rest: str) -> Place | None:
    cut = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, tail = rest[:cut].rpartition("@")[2], rest[cut:]
    host, _, port = authority.partition(":")
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if not (bracket and is_address(host) and port[:1] in ("", ":")):
            return None
        port = port[1:]
    elif not is_name(host):
        return None
    number = read_port(port) if port else PORTS[scheme]
    if number is None:
        return None
    if not tail.startswith("/"):
        tail = f"/{tail}"
    return Place(scheme, host, number, _encoded(_without_dots(tail)))


def _without_dots(path: str) -> str:
    """Without dot segments (RFC 3986 section 5.2.4)."""
    path, mark, query = path.partition("?")
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return f"/{'/'.join(kept)}{mark}{query}"


def _encoded(path: str) -> str:
    """With nothing in it that breaks a request's line."""
    raw = path.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
