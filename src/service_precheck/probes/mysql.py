"""MySQL and MariaDB: does a server take a login, and can it do the work.

MySQL's "Client/Server Protocol". Reads the greeting, speaks TLS where it is offered or asked for, logs
in, asks a statement or two for each of `galera`, `role`, `table` and `query`, and leaves with COM_QUIT.
Costs the server one connection and one login.

A connection that leaves before its login is counted against the client's address, which is blocked at
`max_connect_errors`. So none does: without a user the login of `service-precheck`, without a
password, is let be refused, which proves that logins are served and is counted against nobody. A server
that does not greet is not left either: the next attempt waits on, on the same connection. One that falls
silent in the middle of a login is left, and one whose TLS is no good refuses a stranger's login: both are
asked again after 1, 2, 4 seconds and so on.
"""

from __future__ import annotations

from .. import net, stream
from ..access import try_tls_files
from ..codecs.mysql.login import LOGINS, Login, be_refused
from ..codecs.mysql.options import OPTIONS, QUERY, check, database, tls_mode
from ..codecs.mysql.wire import Conversation, Refusal
from ..errors import NotReady, blocked
from ..model import Verdict, printable, ready
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt, Stream

# How often a server was given up on in the middle of a login, since the last one that came to its end.
_given_up: dict[tuple[str, int | None], int] = {}
# Seconds until such a login is tried again, at the most. Left by us it is counted: a hundred of them take an
# hour and a half. Refused for want of TLS it is a line in the server's log.
MOST_SELDOM, MOST_REFUSED = 60.0, 30.0
# Seconds that a server has to say that it took too long, before we go.
SPARE = 0.25


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the server takes the login, and is and has what the options ask for."""
    try_tls_files(target)
    user = target.text("user") or target.user
    password = ""
    if user:
        from ..codecs import credentials

        password = credentials.password(target)
    with _connect(target, attempt) as connection:
        served = False
        try:
            with Conversation(connection) as server:
                if not user:
                    return _without_login(target, server)
                _log_in(target, server, user, password)
                served = True
                proven = _proven(target, server, attempt)
                return ready(f"{server.peer} {proven} ({server.greeting.product})")
        except Refusal as refusal:
            from ..codecs.mysql import faults

            served = True
            plain = tls_mode(target) == "off"
            raise faults.explain(refusal, connection.peer, plain=plain) from refusal
        except NotReady as error:
            cause = str(error.verdict.cause)
            if not served and cause.startswith("tls-"):
                raise _seldom(target, error, MOST_REFUSED) from error
            if served or cause != "no-reply":
                raise
            if not connection.heard:
                raise connection.keep(error) from error
            raise _seldom(target, error, MOST_SELDOM) from error
        finally:
            if served:
                _given_up.pop((target.host, target.port), None)


def _seldom(target: Target, error: NotReady, most: float) -> NotReady:
    """The same obstacle, met in the middle of a login, which is to be tried ever more rarely."""
    where = target.host, target.port
    times = _given_up[where] = _given_up.get(where, 0) + 1
    return NotReady(error.verdict.but(again=min(most, 2.0 ** min(times - 1, 10))))


def _connect(target: Target, attempt: Attempt) -> Stream:
    kept = attempt.kept
    if isinstance(kept, stream.Stream):
        try:
            kept.resumed(attempt).settle(0.0)
            return kept
        except NotReady:
            # It has ended meanwhile, and not by us.
            kept.close()
    if path := target.text("unix-socket"):
        return stream.connect_unix(path, attempt)
    assert target.port is not None
    return stream.connect(target.host, target.port, attempt)


def _log_in(target: Target, server: Conversation, user: str, password: str) -> None:
    mode = tls_mode(target)
    private = _protect(target, server, mode)
    local = bool(target.text("unix-socket"))
    Login(
        server,
        user,
        password,
        private=private or local,
        trusted=local or (mode == "require" and not target.flag("insecure")),
        any_key=mode == "off",
    ).run()


def _protect(target: Target, server: Conversation, mode: str) -> bool:
    """Speak TLS as `mode` has it; whether it is spoken."""
    if mode == "off" or (mode == "prefer" and not server.greeting.tls):
        return False
    from ..codecs.mysql import tls

    tls.protect(target, server, checked=mode == "require")
    return True


def _without_login(target: Target, server: Conversation) -> Verdict:
    mode = tls_mode(target)
    # Nothing that is said needs protection.
    if mode in ("unchecked", "require"):
        _protect(target, server, mode)
    refusal = be_refused(server)
    if refusal is not None:
        from ..codecs.mysql import faults

        if not faults.of_login(refusal):
            raise refusal
    return ready(f"{server.peer} serves logins, none was given to try ({server.greeting.product})")


def _proven(target: Target, server: Conversation, attempt: Attempt) -> str:
    """What holds of all that the options ask for. Raises for what does not."""
    proven = []
    if name := database(target):
        server.use(name)
        proven.append(f"has the database {printable(name)}")
    role, most_lag = target.text("role"), target.number("max-lag")
    if target.flag("galera") or role or most_lag is not None:
        from ..codecs.mysql import state

        if target.flag("galera"):
            proven.append(state.synced(server))
        if role == "primary":
            proven.append(state.writable(server))
        elif role or most_lag is not None:
            proven.append(state.replicating(server, most_lag))
    query = target.text("query")
    if target.texts("table") or query:
        _limit(server, attempt)
    for table in target.texts("table"):
        server.ask(f"SELECT 1 FROM {_quoted(table)} LIMIT 1")  # noqa: S608 it is quoted
        proven.append(f"lets {printable(table)} be read")
    if query:
        try:
            found = server.has_row(query)
        except Refusal as refusal:
            from ..codecs.mysql import faults

            raise faults.explain(refusal, server.peer, of_query=True) from refusal
        if not found:
            raise blocked("missing-object", f"{server.peer} has no row for the query")
        proven.append("has a row for the query")
    # A server may let somebody in and answer nothing, whose password has expired for example.
    if not proven and [[*row.values()] for row in server.ask("SELECT 1")] != [["1"]]:
        raise blocked("protocol", f"{server.peer} does not answer SELECT 1 with 1")
    return ", ".join(proven) or "takes the login and answers a query"


def _limit(server: Conversation, attempt: Attempt) -> None:
    """Let nothing be written, and nothing that waits for a lock or takes long outlive the attempt."""
    left = attempt.deadline - net.monotonic()
    left = max(0.05, left - min(SPARE, left / 2))
    if server.greeting.mariadb:
        own = f"tx_read_only=1, max_statement_time={left:.3f}"
    else:
        own = f"transaction_read_only=1, max_execution_time={left * 1000:.0f}"
    # In whole seconds, and for what the other limit does not end.
    server.ask(f"SET SESSION {own}, lock_wait_timeout={max(1, int(left))}, sql_select_limit=1")


def _quoted(table: str) -> str:
    """A table's name as SQL takes it, with its database's before the first dot if there is one."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in table.split(".", 1))


SCHEMES = (
    Scheme(
        "mysql",
        "url",
        probe,
        proves="the server takes the login, and is and has what the options ask for; without a user, "
        "that it serves logins",
        not_proves="that it takes writes, unless `role=primary` asks for it",
        example="mysql://app@db.shop/orders#password-file=/run/secrets/db#role=primary",
        cost="one connection and one login",
        logins=LOGINS,
        causes=(
            *("auth-refused", "failed", "forbidden", "missing-object"),
            *("no-quorum", "no-such-database", "not-ready", "overloaded", "read-only"),
            *("replica-lag", "starting", "unsupported"),
        ),
        query=QUERY,
        options=OPTIONS,
        port=3306,
        floor=0.1,
        check=check,
    ),
)
