"""What is asked within a session: whether a znode is there, and whether a login may read it.

ZooKeeper takes every login by digest, and compares it with the ACL of what is asked for: so a login shows
only in what it may read (`getData`). Whether a znode exists (`exists`) is told to everybody.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import printable
from . import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target
    from ...stream import Stream


def look(target: Target, connection: Stream, path: str, password: str) -> str:
    """What there is to say of a znode and a login that are as they should be; either may be missing.

    Raises NotReady.
    """
    user = target.text("user") or target.user
    shown = printable(path)
    code = session.log_in(connection, user, password) if user else 0
    if path and not code:
        code = session.look(connection, path, session.GET_DATA if user else session.EXISTS)
    if code:
        raise _refusal(connection.peer, shown, code, printable(user))
    if not user:
        return f", and {shown} exists" if path else ""
    if not path:
        return ", and takes a login by digest, as it would any"
    return f", and {printable(user)} may read {shown}"


def _refusal(peer: str, path: str, code: int, user: str) -> NotReady:
    name = session.error_name(code)
    if code == session.NO_NODE:
        return blocked("missing-object", f"{peer} has no {path}: {name}")
    if code == session.THROTTLED:
        return blocked("overloaded", f"{peer} turns requests away: {name}")
    if code == session.NO_AUTH and user:
        return blocked(
            "auth-refused",
            f"{peer} does not let {user} read {path}: {name}",
            f"a wrong password and an ACL without r for {user} look the same",
        )
    if code == session.SESSION_CLOSED_REQUIRE_AUTH and user:
        return blocked(
            "unsupported",
            f"{peer} asks for a login other than by digest: {name}",
            "SASL is not spoken; without #path= no login is needed",
        )
    if code in (session.NO_AUTH, session.SESSION_CLOSED_REQUIRE_AUTH):
        return blocked("auth-required", f"{peer} wants a login before it tells of {path}: {name}")
    if code == session.AUTH_FAILED:
        return blocked("auth-refused", f"{peer} takes no login by digest: {name}")
    return blocked("protocol", f"{peer} answers the question for {path} with {name}")
