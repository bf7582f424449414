"""How dependencies stand, as the gate tells it: what reports show and the library gives.

Immutable, masked, and built on nothing but verdicts.
"""

from __future__ import annotations

from .model import Frozen, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .tree import Group

# Exit statuses.
OPEN, FAILED, MISTAKE, TIMED_OUT = 0, 1, 2, 124

# Members of a group that are named in its sentence; the others are counted.
MOST_LISTED = 8


class State(Frozen):
    """How a dependency, or a group of them, stands.

    `name` and `target` are masked text. `verdict` is the last one, None before the first. `waited` is
    when it was given, in seconds since the gate began; `asks_in` the seconds until it is asked again,
    None while it is being asked or need not be. `over` says that it can no longer hold.
    """

    __slots__ = (
        "asks_in",
        "attempts",
        "holds",
        "members",
        "name",
        "over",
        "target",
        "verdict",
        "waited",
    )
    name: str
    target: str
    holds: bool
    over: bool
    verdict: Verdict | None
    waited: float
    attempts: int
    asks_in: float | None
    members: tuple[State, ...]

    def __init__(
        self,
        name: str,
        target: str,
        *,
        holds: bool,
        over: bool = False,
        verdict: Verdict | None = None,
        waited: float = 0.0,
        attempts: int = 0,
        asks_in: float | None = None,
        members: tuple[State, ...] = (),
    ) -> None:
        self._set(
            name=name,
            target=target,
            holds=holds,
            over=over,
            verdict=verdict,
            waited=waited,
            attempts=attempts,
            asks_in=asks_in,
            members=members,
        )

    @property
    def cause(self) -> str | None:
        """The cause that keeps it from holding, None when it holds or was not asked yet."""
        return self.verdict.cause if self.verdict is not None and not self.holds else None


class Outcome(Frozen):
    """How a gate ended: its exit status, the seconds it took, and the state of each dependency."""

    __slots__ = ("states", "status", "waited")
    status: int
    waited: float
    states: tuple[State, ...]

    def __init__(self, status: int, waited: float, states: tuple[State, ...]) -> None:
        self._set(status=status, waited=waited, states=states)

    @property
    def ready(self) -> bool:
        """Whether everything held."""
        return self.status == OPEN

    def __bool__(self) -> bool:
        return self.ready


def blocking(states: tuple[State, ...]) -> list[State]:
    """The dependencies that hold the gate back."""
    return [state for state in states if not state.holds]


def group_verdict(group: Group, holds: bool, members: tuple[State, ...]) -> Verdict | None:
    """What is said of a group: who holds it up, or who holds it back and why."""
    known = [member for member in members if member.verdict is not None]
    if not known:
        return None
    if group.kind == "not":
        member = members[0]
        assert member.verdict is not None
        if holds:
            return Verdict(None, f"{member.name} is gone: {member.verdict.seen}")
        if member.verdict.ready:
            return Verdict("not-ready", f"{member.name} is still there: {member.verdict.seen}")
        return member.verdict
    good = [member.name for member in members if member.holds]
    if holds:
        return Verdict(None, f"{len(good)} of {len(members)} hold: {_listed(good, ', ')}")
    back = [
        f"{m.name}: {m.verdict.seen if m.verdict is not None else 'not asked yet'}"
        for m in members
        if not m.holds
    ]
    return Verdict(
        "too-few", f"{len(good)} of {len(members)} hold, {group.need} needed: {_listed(back, '; ')}"
    )


def _listed(texts: list[str], between: str) -> str:
    more = f"{between}and {len(texts) - MOST_LISTED} more" if len(texts) > MOST_LISTED else ""
    return between.join(texts[:MOST_LISTED]) + more
