"""States as a gate would give them, for reports that are looked at without one."""

from __future__ import annotations

from service_precheck.gate import Settings
from service_precheck.model import Verdict
from service_precheck.state import State


def leaf(
    name: str, cause: str | None = None, seen: str = "accepts connections", **more: object
) -> State:
    """A dependency that was asked; it holds if there is no cause."""
    hint = str(more.pop("hint", ""))
    fields: dict[str, object] = {
        "waited": 1.0,
        "attempts": 3,
        "asks_in": None if cause is None else 0.4,
    }
    return State(
        name,
        name,
        holds=cause is None,
        verdict=Verdict(cause, seen, hint),
        **(fields | more),  # type: ignore[arg-type]
    )


def unasked(name: str) -> State:
    """A dependency before its first answer."""
    return State(name, name, holds=False)


def group(name: str, *members: State, target: str = "any(...)", seen: str = "0 of 1") -> State:
    """A group that does not hold unless a member does."""
    holds = any(member.holds for member in members)
    verdict = Verdict(None if holds else "too-few", seen)
    return State(name, target, holds=holds, verdict=verdict, members=members)


class Gate:
    """What a report asks of a gate, with everything given."""

    def __init__(self, *states: State, timeout: float | None = None, waited: float = 12.0) -> None:
        self.settings = Settings(timeout)
        self._states, self._waited = states, waited

    def states(self) -> tuple[State, ...]:
        """As given."""
        return self._states

    def waited(self) -> float:
        """As given."""
        return self._waited
