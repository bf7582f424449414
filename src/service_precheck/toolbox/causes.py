"""`precheck causes [NAME...]`: what a cause means and what to do about it."""

from __future__ import annotations

import sys

from .. import causes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HELP = (
    "usage: precheck causes [NAME...]\n\n"
    "Says what a cause means and what to do about it. Without a NAME it lists all of them.\n"
)


def run(arguments: list[str], _environment: Mapping[str, str]) -> int:
    """Print the causes asked for, or one line each of all; 2 when there is no such cause."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(HELP)
        return 0
    if not arguments:
        width = max(map(len, causes.CAUSES))
        for name, advice in causes.CAUSES.items():
            first = advice.meaning.replace("`", "").split(". ")[0].split(": ")[0].removesuffix(".")
            sys.stdout.write(f"{name:{width}}  {first}\n")
        return 0
    # As it was copied out of a log: [refused]
    wanted = [word.strip("[],.:;").lower() for word in arguments]
    unknown = [name for name in wanted if name not in causes.CAUSES]
    if unknown:
        for name in unknown:
            sys.stderr.write(f"precheck causes: there is no cause {name!r}; {_near(name)}\n")
        return 2
    sys.stdout.write("\n".join(causes.text(name) for name in wanted))
    return 0


def _near(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, causes.CAUSES, 1, 0.5)
    return f"did you mean {near[0]}?" if near else "precheck causes lists them"
