"""PostgreSQL: does it serve, does the login hold, and is it the primary or the standby that is needed.

PostgreSQL documentation, "Frontend/Backend Protocol" (3.0); version 10 and later, and poolers that
speak it. Sends SSLRequest (not with `tls=off`, nor by a Unix socket), StartupMessage, the login's
answers, one Query, for `query` a read-only transaction around that statement, and Terminate. Costs the
server one backend process.

Without a user nothing is logged in to: a StartupMessage in a name of our own is answered by the state of
the server, or by the question for a password, upon which it is left alone. It logs nothing of that
(`recv_password_packet` in its `auth.c`), unlike of a made-up password.
"""

from __future__ import annotations

from .. import net, stream
from ..access import try_tls_files
from ..codecs.postgresql import login, state
from ..codecs.postgresql.options import (
    OPTIONS,
    QUERY,
    check,
    database_of,
    settings_of,
    socket_of,
    tls_of,
    user_of,
)
from ..codecs.postgresql.wire import Conversation, ServerError
from ..errors import NotReady, blocked
from ..model import Verdict, printable, ready
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt, Stream

NAME = "service-precheck"
# The part of the time left that a statement of `query` may take, so that the server ends it, not we.
SHARE = 0.8
# What a server that serves says to somebody whom it does not know.
STRANGER = ("auth-refused", "forbidden", "no-such-database", "tls-client-cert")
BEHIND = "a pooler such as pgbouncer accepts for a server that is down: look behind it"


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the login holds, a query is answered, and what the options ask for is so."""
    try_tls_files(target)
    tls = tls_of(target)
    try:
        return _ask(target, attempt, tls)
    except ServerError as error:
        if tls != "prefer" or not error.encrypted or not error.turned_away:
            raise _explained(target, error) from error
        first = error
    try:
        # As libpq does: pg_hba.conf may have this client without TLS only.
        return _ask(target, attempt, "off")
    except ServerError as again:
        raise _explained(target, first if again.turned_away else again) from again


def _ask(target: Target, attempt: Attempt, tls: str) -> Verdict:
    with _connect(target, attempt) as connection:
        talk = Conversation(connection)
        try:
            if tls != "off":
                _encrypt(target, talk, tls)
            return _converse(target, talk) if user_of(target) else _knock(target, talk)
        except NotReady as error:
            if error.verdict.cause != "no-reply" or error.verdict.hint:
                raise
            raise NotReady(error.verdict.but(hint=BEHIND)) from error


def _connect(target: Target, attempt: Attempt) -> Stream:
    if path := socket_of(target):
        return stream.connect_unix(path, attempt)
    assert target.port is not None
    return stream.connect(target.host, target.port, attempt)


def _encrypt(target: Target, talk: Conversation, tls: str) -> None:
    if talk.offers_tls():
        talk.encrypted = talk.stream.upgrade(settings_of(target), target.host).version
    elif tls != "prefer":
        hint = "ssl=on in postgresql.conf offers it"
        raise blocked("tls-plaintext", f"{talk.stream.peer} offers no TLS", hint)


def _knock(target: Target, talk: Conversation) -> Verdict:
    """What can be learnt without a login."""
    peer = talk.stream.peer
    talk.start(user=NAME, database="postgres")
    try:
        method, _ = login.asked_for(talk)
        if method == login.OK:
            talk.rows()
            talk.end()
            return ready(f"{peer} serves, and lets anybody in; no user was given to log in as")
    except ServerError as error:
        if _explained(target, error).verdict.cause not in STRANGER:
            raise
        return ready(f"{peer} serves; no user was given to log in as")
    asked = login.METHODS.get(method, f"method {method}")
    return ready(f"{peer} serves, and asks for a login ({asked}), none was tried")


def _converse(target: Target, talk: Conversation) -> Verdict:
    """Log in, ask, say goodbye."""
    peer, user, database = talk.stream.peer, user_of(target), database_of(target)
    talk.start(user=user, database=database, client_encoding="UTF8", application_name=NAME)
    private = bool(talk.encrypted) or tls_of(target) == "off"
    login.log_in(talk, target, user, private)
    try:
        rows = talk.query(state.question(target))
        if len(rows) != 1:
            raise talk.odd("more rows than one, or none, where one is due")
        words = state.judge(target, peer, rows[0])
        if query := target.text("query"):
            left = talk.stream.deadline - net.monotonic()
            if not talk.first_row(query, max(1, int(left * SHARE * 1000))):
                raise blocked("missing-object", f"{peer} has no row for the query")
            words += ", has a row for the query"
    finally:
        talk.end()
    about = ", ".join(filter(None, (f"PostgreSQL {talk.version}".rstrip(), talk.encrypted)))
    return ready(f"{peer} {words} (database {printable(database, 80)}, {about})")


def _explained(target: Target, error: ServerError) -> NotReady:
    from ..codecs.postgresql import fault

    return fault.explain(error, unencrypted=tls_of(target) == "off")


SCHEMES = (
    Scheme(
        "postgresql",
        "url",
        probe,
        proves="the login holds, queries are answered in the database, and its role, lag, table and "
        "query are as asked for",
        not_proves="that a commit ends: a primary may have a full disk, or wait for a standby",
        example="postgresql://app@db.shop/orders#password-file=/run/secrets/db#role=primary",
        cost="one backend process, one query",
        logins=("trust", "password", "md5", "scram-sha-256", "cert", "peer"),
        causes=(
            "starting",
            "read-only",
            "replica-lag",
            "overloaded",
            "auth-refused",
            "no-such-database",
            "missing-object",
            "not-ready",
            "failed",
            "forbidden",
            "unsupported",
        ),
        query=QUERY,
        options=OPTIONS,
        port=5432,
        floor=0.05,
        check=check,
    ),
)
