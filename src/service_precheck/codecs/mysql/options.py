"""What a target of MySQL may say: its options, and the mistakes that the option table cannot tell."""

from __future__ import annotations

from ...access import (
    LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    STARTTLS,
    TLS_OPTIONS,
    check_login,
    check_needs_login,
    check_tls_choice,
    wants_tls,
)
from ...model import percent_decoded
from ...options import DURATION, FLAG, PATH, TEXT, Kind, Option, Target, Wrong, choice

_READS = ("select", "show", "with", "table", "values", "(")
# `ssl-mode` of MySQL's own URIs, and other spellings of it, by what we call it.
QUERY = ("ssl-mode", "sslmode", "ssl_mode")
_MODES = {
    "disabled": "off",
    "preferred": "prefer",
    "required": "unchecked",
    "verify_ca": "require",
    "verify_identity": "require",
}


def _read_query(text: str) -> str:
    if not text.lower().lstrip().startswith(_READS):
        raise Wrong(f"{text!r} is no read; SELECT, SHOW, WITH, TABLE or VALUES begin one")
    # A read-only transaction does not keep a server from writing files.
    into = text.lower().partition("into")[2]
    if "outfile" in into or "dumpfile" in into:
        raise Wrong(f"{text!r} writes a file on the server; #query= is for reads")
    return text


OPTIONS = (
    *LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    Option("role", choice("primary", "replica"), "primary: takes writes; replica: replicates"),
    Option("max-lag", DURATION, "how far a replica may be behind; it means role=replica"),
    Option(
        "table", TEXT, "a table that must be there and readable: NAME or DATABASE.NAME", many=True
    ),
    Option("query", Kind("SQL", _read_query), "a read that must give a row"),
    Option("galera", FLAG, "a node of Galera that is Synced in the Primary component", False),
    Option("unix-socket", PATH, "a Unix socket to connect to instead of the host"),
    STARTTLS,
    *TLS_OPTIONS,
)
# What only a login can see.
NEED_LOGIN = ("role", "max-lag", "table", "query", "galera")


def database(target: Target) -> str:
    """The database that a target names, empty if none."""
    return percent_decoded(target.path.removeprefix("/"))


def tls_mode(target: Target) -> str:
    """How TLS is asked for: "off", "prefer", "unchecked" (required, by `ssl-mode=REQUIRED`), "require".

    `ssl-mode` in the query string is what applications' own URIs carry; our options go before it.
    """
    if wants_tls(target):
        return "require"
    if any(name == "tls" for name, _ in target.given):
        return target.text("tls")
    for pair in target.query.split("&"):
        key, _, value = pair.partition("=")
        if key.lower() in QUERY:
            return _MODES.get(value.lower(), "prefer")
    return "off" if target.text("unix-socket") else "prefer"


def check(target: Target) -> tuple[str, ...]:
    """What is wrong with a target."""
    name = database(target)
    wrong = [
        *check_login(target, user_alone=True),
        *check_needs_login(target, NEED_LOGIN, "a database" if name else ""),
        *check_tls_choice(target),
    ]
    if target.texts("alpn"):
        wrong.append("#alpn=: MySQL's TLS names no protocol; leave it out")
    for pair in target.query.split("&"):
        key, _, value = pair.partition("=")
        if key.lower() in QUERY and value.lower() not in _MODES:
            wrong.append(f"?{key}= of a mode that there is not: {', '.join(sorted(_MODES))}")
    if "/" in name:
        wrong.append(f"the path names a database, and {name!r} has a slash in it")
    if target.text("role") == "primary" and target.number("max-lag") is not None:
        wrong.append("#max-lag= of a primary: it is a replica that lags")
    if not name:
        bare = [table for table in target.texts("table") if "." not in table]
        wrong += [f"#table={table} without a database: #table=DATABASE.{table}" for table in bare]
    return tuple(wrong)
