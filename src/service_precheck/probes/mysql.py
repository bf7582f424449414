"""MySQL and MariaDB: does a server take a login, and can it do the work.

MySQL's "Client/Server Protocol". Reads the greeting, speaks TLS where it is offered or asked for, logs
in, asks a statement for each of `galera`, `role`, `table` and `query`, and leaves with COM_QUIT. Costs
the server one connection and one login.

A connection that leaves before its login is counted against the client's address, and blocks it at
`max_connect_errors`. So none does: without a user the login of `service-precheck`, without a
password, is let be refused, which proves that logins are served and is counted against nobody.
"""

from __future__ import annotations

from .. import stream
from ..access import (
    LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    STARTTLS,
    TLS_OPTIONS,
    check_login,
    check_tls_choice,
    tls_settings,
    wants_tls,
)
from ..codecs import mysql_login, mysql_wire
from ..codecs.mysql_wire import Conversation, Refusal
from ..errors import blocked
from ..model import Verdict, percent_decoded, printable, ready
from ..options import DURATION, FLAG, PATH, TEXT, Kind, Option, Scheme, Target, Wrong, choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt, Stream

NOBODY = "service-precheck"
_READS = ("select", "show", "with", "table", "values", "(")
# Options that ask for what only a login can see.
_NEED_LOGIN = ("role", "max-lag", "galera", "table", "query")


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the server takes the login, and is and has what the options ask for."""
    user = target.text("user") or target.user
    password = ""
    if user:
        from ..codecs import credentials

        password = credentials.password(target)
    with _connect(target, attempt) as connection:
        try:
            with Conversation(connection) as server:
                if user:
                    _log_in(target, server, user, password)
                    return ready(
                        f"{server.peer} {_proven(target, server)} ({server.greeting.product})"
                    )
                return _without_login(target, server)
        except Refusal as refusal:
            from ..codecs import mysql_faults

            raise mysql_faults.explain(refusal, connection.peer) from refusal


def _connect(target: Target, attempt: Attempt) -> Stream:
    if path := target.text("unix-socket"):
        return stream.connect_unix(path, attempt)
    assert target.port is not None
    return stream.connect(target.host, target.port, attempt)


def _log_in(target: Target, server: Conversation, user: str, password: str) -> None:
    private = _private(target, server, prefer=True)
    trusted = private and (wants_tls(target) or bool(target.text("unix-socket")))
    mysql_login.Login(server, user, password, private, trusted).run()


def _private(target: Target, server: Conversation, prefer: bool) -> bool:
    """Speak TLS if it is asked for, or offered and `prefer`; whether nobody else hears what we say."""
    demanded = wants_tls(target)
    offered = server.greeting.capabilities
    if not demanded and (target.text("unix-socket") or target.text("tls") == "off" or not prefer):
        return bool(target.text("unix-socket"))
    if not offered & mysql_wire.SSL:
        if demanded:
            _refused(server)
            raise blocked("tls-plaintext", f"{server.peer} offers no TLS")
        return False
    if demanded:
        settings = tls_settings(target)
    else:
        from ..tls import Settings

        settings = Settings(insecure=True)
    server.upgrade(mysql_login.capabilities(offered), settings, target.host)
    return True


def _refused(server: Conversation) -> Refusal | None:
    """What the server says to somebody whom it does not know; None if it lets everybody in."""
    try:
        mysql_login.Login(server, NOBODY, "", private=False, trusted=False).run()
    except Refusal as refusal:
        return refusal
    return None


def _without_login(target: Target, server: Conversation) -> Verdict:
    _private(target, server, prefer=False)
    refusal = _refused(server)
    if refusal is not None:
        from ..codecs import mysql_faults

        found = mysql_faults.explain(refusal, server.peer)
        # That TLS is asked for first is as good an answer.
        if (
            found.verdict.cause not in (mysql_faults.REFUSED, "unsupported")
            and refusal.code != 3159
        ):
            raise found
    needing = [f"#{name}=" for name in _NEED_LOGIN if target.option(name)]
    if needing or _database(target):
        what = needing[0] if needing else "a database"
        raise blocked(
            "auth-required",
            f"{server.peer} answers ({server.greeting.product}), and {what} takes a login to see",
            "#user=NAME#password-file=PATH",
        )
    return ready(f"{server.peer} serves logins, none was given to try ({server.greeting.product})")


def _proven(target: Target, server: Conversation) -> str:
    """What holds of all that the options ask for. Raises what does not."""
    proven = []
    database = _database(target)
    if database:
        server.use(database)
        proven.append(f"has the database {printable(database)}")
    role, most = target.text("role"), target.number("max-lag")
    if target.flag("galera") or role or most is not None:
        from ..codecs import mysql_state

        if target.flag("galera"):
            proven.append(mysql_state.synced(server))
        if role == "primary":
            proven.append(mysql_state.writable(server))
        elif role or most is not None:
            proven.append(mysql_state.replicating(server, most))
    if target.texts("table") or target.text("query"):
        _limit(server)
    for name in target.texts("table"):
        server.ask(f"SELECT 1 FROM {_quoted(name)} LIMIT 1")  # noqa: S608 quoted
        proven.append(f"lets {printable(name)} be read")
    if query := target.text("query"):
        if not server.ask(query):
            raise blocked("missing-object", f"{server.peer} has no row for the query")
        proven.append("has a row for the query")
    return ", ".join(proven) or "takes the login"


def _limit(server: Conversation) -> None:
    """Nothing is written, and nothing that waits for a lock or for long outlives this attempt."""
    left = max(1, int(server.time_left))
    names = "tx_read_only", "max_statement_time", str(left)
    if not server.greeting.mariadb:
        names = "transaction_read_only", "max_execution_time", str(left * 1000)
    read_only, longest, limit = names
    server.ask(
        f"SET SESSION {read_only}=1, lock_wait_timeout={left}, {longest}={limit}, sql_select_limit=1"
    )


def _quoted(name: str) -> str:
    """A table's name, with its database's before a dot if it has one, as SQL takes it."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in name.split(".", 1))


def _database(target: Target) -> str:
    return percent_decoded(target.path.removeprefix("/"))


def _read_query(text: str) -> str:
    if not text.lower().lstrip().startswith(_READS):
        raise Wrong(f"{text!r} is no read; SELECT, SHOW, WITH, TABLE or VALUES begin one")
    return text


def _check(target: Target) -> tuple[str, ...]:
    wrong = [*check_login(target), *check_tls_choice(target)]
    database = _database(target)
    if "/" in database:
        wrong.append(f"the path names a database, and {database!r} has a slash in it")
    if target.text("role") == "primary" and target.number("max-lag") is not None:
        wrong.append("#max-lag= of a primary: it is a replica that lags")
    if not database:
        bare = [name for name in target.texts("table") if "." not in name]
        wrong += [f"#table={name} without a database: #table=DATABASE.{name}" for name in bare]
    return tuple(wrong)


SCHEMES = (
    Scheme(
        "mysql",
        "url",
        probe,
        proves="the server takes the login, and is and has what the options ask for; without a user, that "
        "it serves logins",
        not_proves="more than is asked: without `role=primary` not that it takes writes",
        example="mysql://app@db.shop/orders#password-file=/run/secrets/db#role=primary",
        cost="one connection and one login",
        logins=mysql_login.LOGINS,
        causes=(
            *("auth-refused", "auth-required", "failed", "forbidden", "missing-object"),
            *("no-quorum", "no-such-database", "not-ready", "overloaded", "read-only"),
            *("replica-lag", "starting", "unsupported"),
        ),
        options=(
            *LOGIN_OPTIONS,
            ON_AUTH_REFUSED,
            Option(
                "role", choice("primary", "replica"), "primary: takes writes; replica: replicates"
            ),
            Option("max-lag", DURATION, "how far a replica may be behind; it means role=replica"),
            Option(
                "table",
                TEXT,
                "a table that must exist and be readable, as NAME or DATABASE.NAME",
                many=True,
            ),
            Option("query", Kind("SQL", _read_query), "a read that must give a row"),
            Option("galera", FLAG, "a Galera node that is Synced in a Primary component", False),
            Option("unix-socket", PATH, "a Unix socket to connect to instead of the host"),
            STARTTLS,
            *TLS_OPTIONS,
        ),
        port=3306,
        floor=0.1,
        check=_check,
    ),
)
