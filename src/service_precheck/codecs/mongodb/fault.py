"""Why no server of a `mongodb:` target is what was asked for: one cause, and what each of them said."""

from __future__ import annotations

from ...errors import NotReady, blocked
from .member import (
    ARBITER,
    HIDDEN,
    PRIMARY,
    SECONDARY,
    STARTING,
    UNCONFIGURED,
    Member,
    Place,
    serving,
    shown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Wish

_MOST_TOLD = 4
_BY_NAME = "clients connect to members by the names in the set's configuration (rs.conf()) only"
# What a member says tells more than one that does not answer; the first of these most.
_RANKS = ("no-leader", "starting", "not-ready", "read-only")
_FIRST, _LATER, _LAST = -1, len(_RANKS), len(_RANKS) + 1
_CONNECTING = (
    "name-not-found",
    "no-addresses",
    "resolver-failure",
    "resolver-timeout",
    "refused",
    "unreachable",
    "connect-timeout",
    "closed-early",
    "no-reply",
)

# How much it tells, the cause, what was seen, and what to do.
_Obstacle = tuple[int, str, str, str]


def explain(wish: Wish, found: list[Member], missed: list[tuple[Place, NotReady]]) -> NotReady:
    """What holds a target back whose servers were `found`, or `missed` with an obstacle."""
    obstacles = [_unsuited(member, wish) for member in found]
    obstacles += [_missing(where, error, found, wish) for where, error in missed]
    obstacles.sort(key=lambda one: one[0])
    told = list(dict.fromkeys(seen for _, _, seen, _ in obstacles))
    words = "; ".join(told[:_MOST_TOLD])
    if len(told) > _MOST_TOLD:
        words += f"; and {len(told) - _MOST_TOLD} more"
    _, cause, _, hint = obstacles[0]
    return blocked(cause, words, hint)


def too_few(wish: Wish, found: list[Member], missed: list[tuple[Place, NotReady]]) -> NotReady:
    """What holds a target back that lacks nothing but members."""
    told = [f"{shown(member.place)} is {member}" for member in found]
    told += [error.verdict.seen for _, error in missed]
    count = len(serving(found, wish.follows))
    return blocked("too-few", f"{count} of {wish.least} members serve: {'; '.join(told[:8])}")


def _unsuited(member: Member, wish: Wish) -> _Obstacle:
    cause, more, hint = "not-ready", "", ""
    if member.kind == UNCONFIGURED:
        more = f": {member.info}" if member.info else ""
        hint = "a new set waits for rs.initiate() on one of its members; a restart takes a moment"
    elif member.kind == STARTING:
        cause = "starting"
    elif member.kind == ARBITER:
        more = ", which holds no data"
    elif member.kind == HIDDEN:
        more = ", which no client reads from"
    elif wish.role == SECONDARY and member.kind != SECONDARY:
        more = ", and no secondary"
    elif wish.role == PRIMARY and member.kind == SECONDARY and not member.primary:
        cause, more = "no-leader", ", which has no primary"
    elif wish.role == PRIMARY and member.kind == SECONDARY and member.primary:
        cause, more = "read-only", f", whose primary is {shown(member.primary)}"
    elif wish.role == PRIMARY and not member.writable:
        cause, more = "read-only", ", and takes no writes"
    else:
        names = ", ".join(shown(one) for one in member.listed[:_MOST_TOLD]) or "nobody"
        more, hint = f", whose configuration lists {names}, not {shown(member.place)}", _BY_NAME
    return _RANKS.index(cause), cause, f"{member.peer} is {member}{more}", hint


def _missing(where: Place, error: NotReady, found: list[Member], wish: Wish) -> _Obstacle:
    verdict = error.verdict
    lister = next((one for one in found if wish.follows and where in one.listed), None)
    primary = any(one.primary == where for one in found)
    # The one thing that would do, and it is out of reach.
    listed = any(member.is_listed for member in found)
    needed = (primary and wish.role == PRIMARY) or (lister and not listed)
    connecting = verdict.cause in _CONNECTING
    rank = _FIRST if needed else _LAST if connecting else _LATER
    seen, hint = verdict.seen, verdict.hint
    if lister and connecting:
        seen = f"{lister.set_name} has {shown(where)} as {'its primary' if primary else 'a member'}: {seen}"
        hint = hint if where in wish.named else _BY_NAME
    elif verdict.cause == "closed-early" and not wish.tls:
        hint = "a proxy with nothing behind it does so, and a server that asks for TLS: #tls"
    return rank, str(verdict.cause), seen, hint
