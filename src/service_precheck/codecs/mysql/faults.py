"""What an error of MySQL or MariaDB means: the cause, and what to do.

Codes from MySQL's "Server Error Message Reference" and MariaDB's "Error Codes"; the server's own code
and words stay in the sentence.
"""

from __future__ import annotations

from ...access import USER_ALONE
from ...errors import NotReady
from ...model import Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Refusal

REFUSED = "auth-refused"
NEEDS_TLS = 3159
_CAUSES = {
    # The server has no room: connections, of all and of one user, threads, memory.
    1037: "overloaded",
    1038: "overloaded",
    1040: "overloaded",
    1041: "overloaded",
    1135: "overloaded",
    1203: "overloaded",
    1226: "overloaded",
    # It turns this address away, or a connection without TLS.
    1129: "forbidden",
    1130: "forbidden",
    NEEDS_TLS: "forbidden",
    # The login: also expired passwords and locked accounts.
    1045: REFUSED,
    1251: "unsupported",
    1698: REFUSED,
    1820: REFUSED,
    1862: REFUSED,
    3118: REFUSED,
    3955: REFUSED,
    4151: REFUSED,
    # Rights: a database, a table, a column, a command.
    1044: "forbidden",
    1142: "forbidden",
    1143: "forbidden",
    1227: "forbidden",
    1370: "forbidden",
    # What is named is not there: a database, a table, a column, a function, a sequence.
    1049: "no-such-database",
    1051: "missing-object",
    1054: "missing-object",
    1109: "missing-object",
    1146: "missing-object",
    1305: "missing-object",
    1630: "missing-object",
    4091: "missing-object",
    # A table without its file, one of an engine that is not loaded, a view of what is gone.
    1017: "not-ready",
    1194: "not-ready",
    1286: "not-ready",
    1356: "not-ready",
    1814: "not-ready",
    1932: "not-ready",
    # It shuts down, keeps to its administrators, or is a Galera node outside of its cluster.
    1047: "not-ready",
    1053: "not-ready",
    1927: "not-ready",
    3032: "not-ready",
    4031: "not-ready",
    # Its limit of time, which we set to that of the attempt: a lock, a long query.
    1205: "no-reply",
    1969: "no-reply",
    3024: "no-reply",
    # The query would write, or is none that a server takes: it names no database, has a column that is
    # ambiguous, groups or joins what it cannot.
    1792: "failed",
    1046: "failed",
    1052: "failed",
    1064: "failed",
    1111: "failed",
    1221: "failed",
}
# Classes of SQLSTATE, for what is not above and is about the user's own query. No time mends what cannot be
# read; anything else may have been of its time.
_OF_QUERY = {"21": "failed", "3D": "failed", "42": "failed"}
_HINTS = {
    1040: "its max_connections are used up",
    1044: "GRANT SELECT ON the database TO the user; without rights it says so too where there is none",
    1046: "the database stands behind the host: /DATABASE",
    1047: "#galera says how it stands in its cluster",
    1053: "it is going down",
    1129: "FLUSH HOSTS (MariaDB) or TRUNCATE TABLE performance_schema.host_cache (MySQL) lets the address in "
    "again; something there connects without a login again and again, a TCP check for example",
    1130: "no account is for this address: CREATE USER 'app'@'10.%'",
    1142: "GRANT SELECT ON the table TO the user; without rights it says so too where there is none",
    1203: "a limit of this account, max_user_connections",
    1226: "a limit of this account, such as MAX_USER_CONNECTIONS",
    1227: "GRANT REPLICA MONITOR (MariaDB) or REPLICATION CLIENT (MySQL) ON *.* TO the user",
    1698: "the account logs in by its Unix user (auth_socket), not by a password",
    1792: "#query= is for reads",
    1820: "the password has expired: ALTER USER ... IDENTIFIED BY ...",
    1862: "the password has expired: ALTER USER ... IDENTIFIED BY ...",
    3032: "it is in offline_mode, for its administrators alone",
    NEEDS_TLS: "it serves nobody without TLS: leave #tls=off away",
}


def of_login(refusal: Refusal) -> bool:
    """Whether a server says no to a login, or to one without TLS: either way it serves them."""
    known = _CAUSES.get(refusal.code)
    return (known or _by_state(refusal)) in (REFUSED, "unsupported") or refusal.code == NEEDS_TLS


def explain(
    refusal: Refusal, peer: str, *, plain: bool = False, of_query: bool = False
) -> NotReady:
    """The exception for a server's error; `protocol` for one that we do not know.

    `plain` says that TLS was left out on request, which an account may ask for; `of_query` that it is
    about the user's own query, and not about what we asked.
    """
    other = _OF_QUERY.get(refusal.state[:2], "not-ready") if of_query else _by_state(refusal)
    cause = _CAUSES.get(refusal.code, other)
    hint = _HINTS.get(refusal.code, "")
    if plain and refusal.code == 1045:
        hint = "the account may ask for TLS, which is left out here"
    elif "(using password: NO)" in refusal.words:
        hint = USER_ALONE
    return NotReady(Verdict(cause, f"{peer} says {refusal.words}", hint, final=cause == "failed"))


def _by_state(refusal: Refusal) -> str:
    # "Invalid authorization specification" of SQL.
    return REFUSED if refusal.state == "28000" else "protocol"
