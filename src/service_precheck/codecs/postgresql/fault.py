"""What an error of PostgreSQL means for who waits: its SQLSTATE as a cause.

PostgreSQL documentation, appendix "PostgreSQL Error Codes". Words are looked at only where one code has
several meanings: 28000, and 08P01, which is all that pgbouncer says before 1.20.
"""

from __future__ import annotations

from ...errors import NotReady
from ...model import Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import ServerError

# An error by its five characters, a class of errors by two.
_CAUSES = {
    "57P03": "starting",
    "57014": "no-reply",
    "53": "overloaded",
    "28": "auth-refused",
    "3D000": "no-such-database",
    "42501": "forbidden",
    # Tables, columns, types, functions and schemas may still come.
    "42P01": "missing-object",
    "42703": "missing-object",
    "42704": "missing-object",
    "42883": "missing-object",
    "3F000": "missing-object",
    # What no time mends: a question that cannot be read, or that writes.
    "21": "failed",
    "42": "failed",
    "25006": "failed",
    "0A": "unsupported",
    **dict.fromkeys(("08", "22", "40", "55", "57", "58", "P0", "XX"), "not-ready"),
}
# What a pooler says by words alone, its own or those of the server that it could not log in to.
_WORDS = (
    ("the database system is", "starting"),
    ("no such database", "no-such-database"),
    ("does not exist", "no-such-database"),
    ("no such user", "auth-refused"),
    ("authentication failed", "auth-refused"),
    ("too many", "overloaded"),
    ("no more connections", "overloaded"),
)
_CLIENT_CERTIFICATE = "valid client certificate"


def explain(error: ServerError, *, unencrypted: bool) -> NotReady:
    """The exception for what a server refused; `unencrypted` says that TLS was not wanted."""
    code, message = error.code, error.fields.get("M", "")
    cause = _CAUSES.get(code) or _CAUSES.get(code[:2]) or ("protocol" if code else "overloaded")
    if code == "08P01":
        cause = next((cause for words, cause in _WORDS if words in message), cause)
    hint = ""
    if code == "28000" and _CLIENT_CERTIFICATE in message:
        cause, hint = "tls-client-cert", "#cert= and #key= name one"
    elif code == "28000" and "pg_hba.conf" in message:
        hint = "pg_hba.conf must have a line for this client, user and database"
        if unencrypted:
            hint = "#tls=require asks with TLS, which pg_hba.conf may demand (hostssl)"
    elif "Hot standby mode is disabled" in error.fields.get("D", ""):
        hint = "a standby serves nobody without hot_standby=on"
    elif code == "57014":
        hint = "a faster query, or a longer #attempt-timeout="
    verb = "refuses the login" if cause == "auth-refused" else "answers"
    return NotReady(Verdict(cause, f"{error.peer} {verb}: {error}", hint, final=cause == "failed"))
