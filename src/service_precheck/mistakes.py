"""What would be right where a target is wrong: the nearest of what there is, or how else it is said.

Loaded on the way to exit 2 only.
"""

from __future__ import annotations

from . import schemes
from .masking import nearest
from .options import FLAG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .options import Option, Scheme

_JDBC = "jdbc:"
# What a scheme has in its path, and what else that is called.
_BEHIND_HOST = {
    **dict.fromkeys(("mysql", "postgresql", "redis", "rediss"), "database"),
    **dict.fromkeys(("amqp", "amqps"), "vhost"),
}
_ALSO = {"db": "database", "dbname": "database", "ssl": "tls"}


def no_scheme(name: str) -> str:
    """What to write instead of a scheme that there is not."""
    low = name.lower()
    plain = low.removeprefix(_JDBC)
    instead = schemes.INSTEAD.get(plain)
    if plain != low and plain in (*schemes.BUILT_IN, *schemes.ALIASES):
        instead = f"{plain}:// without {_JDBC}"
    return instead or nearest(plain, schemes.names(), "{}://")


def no_option(name: str, table: Sequence[Option], scheme: Scheme | None) -> str:
    """What to write instead of an option that a scheme, or a group (None), does not have."""
    name = _ALSO.get(name, name)
    if scheme is not None and (elsewhere := _with_tls(name, scheme)):
        return elsewhere
    if scheme is not None and name == _BEHIND_HOST.get(scheme.name):
        return f"the {name} stands behind the host: /{name.upper()}"
    rows = {option.name: option for option in table}
    said = nearest(name, tuple(rows), "#{}=...")
    flags = (option.name for option in table if option.kind is FLAG)
    return next(
        (said.replace(f"#{flag}=...", f"#{flag}") for flag in flags if f"#{flag}=" in said), said
    )


def _with_tls(name: str, scheme: Scheme) -> str:
    """Of protocols that have a scheme of their own for TLS: what it has to do with the option."""
    secure = f"{scheme.name}s"
    if secure in schemes.BUILT_IN:
        other = schemes.load(secure)
        assert other is not None
        if name == "tls" or other.option(name) is not None:
            return f"{secure}:// speaks TLS" + ("" if name == "tls" else f", and has #{name}")
    if name == "tls" and scheme.name.endswith("s") and scheme.name[:-1] in schemes.BUILT_IN:
        return f"{scheme.name}:// always speaks TLS: leave it out"
    return ""


def one_host_each(where: str, scheme: Scheme, *, bare: bool, path: str, more: bool) -> str:
    """How several hosts are written where a target has one; `more` says that it has a login, a query or
    options, which are not repeated here."""
    start = "" if bare else f"{scheme.name}://"
    behind = path.replace(",", "%2C").replace(")", "%29")
    hosts = [host.strip() for host in where.split(",") if host.strip()]
    port = hosts[-1].rpartition(":")[2] if hosts else ""
    if scheme.port is None and port.isdecimal():
        # As in a,b:80.
        hosts = [host if ":" in host else f"{host}:{port}" for host in hosts]
    each = ", ".join(f"{start}{host}{behind}" for host in hosts)
    rest = ", each with the login and the options (%2C for a comma in them)" if more else ""
    return f"one target each: any({each}){rest}; or all(...)"
