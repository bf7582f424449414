"""What a target of PostgreSQL may say: its options, what it takes of a connection string's query, and
the mistakes that the option table cannot tell.

PostgreSQL documentation, "Database Connection Control Functions", "Connection URIs".
"""

from __future__ import annotations

from ...access import (
    LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    STARTTLS,
    TLS_OPTIONS,
    check_login,
    check_needs_login,
    check_tls_choice,
    tls_settings,
    wants_tls,
)
from ...model import percent_decoded
from ...options import DURATION, PATH, TEXT, Kind, Option, Target, Wrong, choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...tls import Settings

_READS = ("select", "with", "values", "table", "show", "(")


def _read_query(text: str) -> str:
    # A read-only transaction does not keep COPY from files and programs, nor CALL and DO from anything.
    if not text.lower().lstrip().startswith(_READS):
        raise Wrong(f"{text!r} is no read; SELECT, WITH, VALUES, TABLE or SHOW begin one")
    return text


OPTIONS = (
    Option(
        "role",
        choice("primary", "replica"),
        "primary: takes writes; replica: a standby, in recovery",
    ),
    Option("max-lag", DURATION, "how far a standby may be behind its primary; a primary is not"),
    Option("table", TEXT, "a table or view, SCHEMA.NAME as SQL has it, that the user may read"),
    Option("query", Kind("SQL", _read_query), "a read that must give a row"),
    *LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    Option("unix-socket", PATH, "a Unix socket, or the folder that it is in, instead of the host"),
    STARTTLS,
    *TLS_OPTIONS,
)
# What only a login can see.
NEED_LOGIN = ("role", "max-lag", "table", "query")

# libpq's sslmode as what is done here; "unchecked": TLS, with any certificate.
_SSLMODES = {
    "disable": "off",
    "allow": "prefer",
    "prefer": "prefer",
    "require": "unchecked",
    "verify-ca": "require",
    "verify-full": "require",
}
QUERY = ("sslmode",)
# What else a query may say that would change the answer, and where it is said here.
_SAID_ELSEWHERE = {
    "user": "before the host, or #user=",
    "password": "#password-file= or #password-env=",
    "dbname": "behind the host: /DATABASE",
    "host": "before the port, or #unix-socket=",
    "hostaddr": "as the host, with #server-name=",
    "port": "behind the host",
    "sslrootcert": "#ca=",
    "sslcert": "#cert=",
    "sslkey": "#key=",
    "target_session_attrs": "#role=",
}


def user_of(target: Target) -> str:
    """Who logs in, empty where nobody is named."""
    return target.text("user") or target.user


def database_of(target: Target) -> str:
    """The database of the path, or as libpq has it, the one called as the user."""
    return percent_decoded(target.path[1:]) or user_of(target)


def socket_of(target: Target) -> str:
    """The path of the Unix socket, empty without one. A folder holds it under its port's name."""
    path = target.text("unix-socket")
    if not path or ".s.PGSQL." in path:
        return path
    return f"{path.rstrip('/')}/.s.PGSQL.{target.port}"


def tls_of(target: Target) -> str:
    """What to do about TLS: `off`, `prefer`, `unchecked` (it must be, with any certificate), `require`."""
    if target.text("unix-socket"):
        # As in libpq: nobody is between, and servers offer none there.
        return "off"
    if wants_tls(target):
        return "require"
    if any(name == "tls" for name, _ in target.given):
        return target.text("tls")
    return _SSLMODES.get(_parameters(target).get("sslmode", ""), "prefer")


def settings_of(target: Target) -> Settings:
    """How to shake hands where TLS is spoken."""
    if tls_of(target) == "require":
        return tls_settings(target)
    from ...tls import Settings

    return Settings(server_name=target.text("server-name"), insecure=True)


def check(target: Target) -> tuple[str, ...]:
    """What the option table cannot say."""
    path = "a database" if target.path not in ("", "/") else ""
    wrong = [
        *check_login(target, user_alone=True),
        *check_needs_login(target, NEED_LOGIN, path),
        *check_tls_choice(target),
    ]
    given = {name for name, _ in target.given}
    if target.text("role") == "primary" and target.option("max-lag") is not None:
        wrong.append("#max-lag= with #role=primary: a primary is behind nobody")
    if target.text("unix-socket") and wants_tls(target):
        wrong.append("TLS with #unix-socket=: PostgreSQL has none there")
    names = (database_of(target), target.text("table"))
    if not all(name.isprintable() for name in names) or "\0" in target.text("query"):
        wrong.append(
            "a control character in the name of the database or the table, or in the query"
        )
    for name, value in _parameters(target).items():
        if name == "sslmode" and value not in _SSLMODES:
            wrong.append(f"no sslmode; {', '.join(_SSLMODES)} are")
        elif name == "sslmode" and value == "disable" and wants_tls(target):
            wrong.append("?sslmode= says no TLS, and an option of TLS says yes")
        elif name in _SAID_ELSEWHERE and not _said(_SAID_ELSEWHERE[name], given):
            wrong.append(f"?{name}= is not read here: it is said {_SAID_ELSEWHERE[name]}")
    return tuple(wrong)


def _said(where: str, given: set[str]) -> bool:
    """Whether an option says what a query's parameter says."""
    return any(f"#{name}=" in where for name in given)


def _parameters(target: Target) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in target.query.split("&"))
    return {name: percent_decoded(value) for name, _, value in pairs}
