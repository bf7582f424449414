"""`precheck check`: one look at everything, with every verdict."""

from __future__ import annotations

import json
import sys

from ..library import look
from ..model import printable
from ..options import Option, choice
from ..report import words
from .targets import FROM, understood

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..state import Outcome, State

VERSION = 1
OPTIONS = (Option("output", choice("text", "json"), "what is printed", "text"), FROM)
PURPOSE = (
    "Asks each TARGET once, all at the same time, and prints every verdict.\n\n"
    "exit status: 0 all hold; 1 something does not; 2 a mistake in what was given"
)
# A longer name has its verdict below it.
WIDEST = 44


def run(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Look once, print, and give 0 when everything holds, 1 when not, 2 at a mistake."""
    command = understood("check", PURPOSE, OPTIONS, arguments, environment, asks=True)
    if isinstance(command, int):
        return command
    outcome = look(command.root)
    if command.options["output"] == "json":
        sys.stdout.write(json.dumps(document(outcome), indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in table(outcome)))
    return 0 if outcome.ready else 1


def table(outcome: Outcome) -> Iterator[str]:
    """The verdicts as lines: mark, name, what was seen, and below that the hint."""
    rows = list(_rows(outcome.states, ""))
    width = min(WIDEST, max(len(name) for name, _ in rows))
    for name, state in rows:
        mark = "ready     " if state.holds else "not ready "
        if len(name) <= width:
            yield f"{mark} {name:{width}}  {words.in_short(state)}"
        else:
            yield f"{mark} {name}"
            yield f"{'':{len(mark) + width + 1}}  {words.in_short(state)}"
        if state.cause is not None and state.verdict is not None and state.verdict.hint:
            yield f"{'':{len(mark) + width + 1}}  hint: {state.verdict.hint}"
    count = len(outcome.states)
    good = sum(state.holds for state in outcome.states)
    yield f"{good} of {count} {'holds' if count == 1 else 'hold'}"


def _rows(states: tuple[State, ...], indent: str) -> Iterator[tuple[str, State]]:
    for state in states:
        yield f"{indent}{words.name(state)}", state
        yield from _rows(state.members, f"{indent}  ")


def document(outcome: Outcome) -> dict[str, object]:
    """The verdicts as one object of JSON, with the words of the gate's own JSON lines."""
    return {
        "v": VERSION,
        "ready": outcome.ready,
        "waited": round(outcome.waited, 3),
        "dependencies": [_dependency(state) for state in outcome.states],
    }


def _dependency(state: State) -> dict[str, object]:
    verdict = state.verdict
    return {
        "name": printable(state.name),
        "target": printable(state.target),
        "ready": state.holds,
        "cause": state.cause,
        "seen": None if verdict is None else verdict.seen,
        "hint": (verdict.hint or None) if verdict is not None else None,
        "members": [_dependency(member) for member in state.members],
    }
