"""The words every report shares: how a dependency stands, in one line, for someone woken at three.

Names are cut and what cannot be seen in them is escaped; what a probe saw is already so.
"""

from __future__ import annotations

from ..model import printable, seconds
from ..state import FAILED, TIMED_OUT, blocking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..state import Outcome, State

LONGEST_NAME = 120
_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 15: "SIGTERM"}
_MEANING = {FAILED: "a dependency failed for good", TIMED_OUT: "time ran out"}


def name(state: State) -> str:
    """What people call it."""
    return printable(state.name, LONGEST_NAME)


def word(state: State) -> str:
    """How it stands: `ready`, `failed` (it can no longer hold), `waiting`."""
    return "ready" if state.holds else "failed" if state.over else "waiting"


def why(state: State) -> str:
    """What was proven, or what was seen and the cause."""
    verdict = state.verdict
    # What can never come says so itself.
    late = state.over and not state.members and not (verdict is not None and verdict.final)
    if verdict is None:
        return "no answer in its own time" if late else "no answer yet"
    if state.holds or verdict.cause is None:
        return verdict.seen
    return f"{verdict.seen}{', and its own time is over' if late else ''} [{verdict.cause}]"


# Dependencies that block whose reasons are told at the end; the others are counted.
MOST_TOLD = 40


def told(state: State, *, short: bool = False) -> str:
    """Name and reason, the name only once; `short` where a group's members are told beside it."""
    called, reason = name(state), in_short(state) if short else why(state)
    return reason if reason.startswith(f"{called} ") else f"{called}: {reason}"


def shown_members(state: State) -> tuple[State, ...]:
    """The members that say more of a group than the group does itself: none of one that holds.

    None of `not(...)` either: that its member is up is what blocks.
    """
    return () if state.holds or state.target.startswith("not(") else state.members


def in_short(state: State) -> str:
    """Why, for a group whose members are shown beside it."""
    if not shown_members(state) or state.cause is None:
        return why(state)
    good = sum(member.holds for member in state.members)
    return f"{good or 'none'} of {len(state.members)} {'holds' if good < 2 else 'hold'} [{state.cause}]"


def reasons(states: tuple[State, ...], indent: str = "  ") -> list[str]:
    """What blocks and what to do about it, members below their group; of very many the first ones."""
    lines = []
    back = blocking(states)
    for state in back[:MOST_TOLD]:
        members = shown_members(state)
        lines.append(f"{indent}{told(state, short=True)}")
        if state.verdict is not None and state.verdict.hint and not members:
            lines.append(f"{indent}  hint: {state.verdict.hint}")
        lines += reasons(members, f"{indent}  ")
    if len(back) > MOST_TOLD:
        lines.append(f"{indent}and {len(back) - MOST_TOLD} more")
    return lines


def sentence(outcome: Outcome) -> str:
    """How a gate ended, in one sentence."""
    # Less would be shown as "0 s".
    took = "at once" if outcome.waited < 0.05 else f"after {seconds(outcome.waited)}"
    count = len(outcome.states)
    if outcome.ready:
        if count == 1:
            return f"open {took}: {told(outcome.states[0])}"
        return f"open {took}: " + (
            f"all {count} dependencies hold" if count else "no target was named"
        )
    back = blocking(outcome.states)
    names = ", ".join(name(state) for state in back[:3])
    names += f" and {len(back) - 3} more" if len(back) > 3 else ""
    if outcome.status == TIMED_OUT:
        return f"gave up {took}, still waiting for {len(back)} of {count}: {names}"
    return f"failed {took}: {len(back)} of {count} can never hold: {names}"


def ended_by(number: int) -> str:
    """That a signal ended it."""
    return f"ended by {_SIGNALS.get(number, f'signal {number}')}"


def closing(outcome: Outcome) -> list[str]:
    """For those who have never seen this tool: what it is, what its status says, where to read on."""
    causes = {state.cause for state in leaves(outcome.states) if state.cause is not None}
    status = f"exit status {outcome.status}: {_MEANING[outcome.status]}"
    lines = [
        f"service-precheck holds a workload back until what it depends on can be used ({status})."
    ]
    if len(causes) == 1:
        (cause,) = causes
        lines.append(f"What [{cause}] means and what to do: precheck causes {cause}")
    elif causes:
        lines.append("What the words in brackets mean and what to do: precheck causes NAME")
    return lines


def leaves(states: tuple[State, ...]) -> list[State]:
    """The dependencies that block, those of groups among them."""
    found = []
    for state in blocking(states):
        members = shown_members(state)
        found += leaves(members) if members else [state]
    return found
