"""The hosts of a target that names several: each has its share of the time, and they give one verdict.

Where one of them is enough, `first` finds it; where each counts, `in_turn` goes through them.
"""

from __future__ import annotations

from ..errors import NotReady

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    from ..model import Verdict
    from ..options import Target
    from ..stream import Attempt

    T = TypeVar("T")


def in_turn(target: Target, attempt: Attempt) -> Iterator[tuple[str, int, Attempt]]:
    """Each host and its port, with its share of the time that is left."""
    attempt.several = len(target.hosts) > 1
    for asked, (host, port) in enumerate(target.hosts):
        yield host, port, attempt.part(len(target.hosts) - asked)


def first(
    target: Target,
    attempt: Attempt,
    ask: Callable[[str, int, Attempt], T],
    *,
    telling: Sequence[str] = (),
    final: Sequence[str] = (),
) -> T:
    """What `ask` gives for the first host that it raises nothing for; else raises `together` of them all.

    A cause among `final` ends it at once: any other host would say the same.
    """
    obstacles = []
    for host, port, share in in_turn(target, attempt):
        try:
            return ask(host, port, share)
        except NotReady as error:
            if error.verdict.cause in final:
                raise
            obstacles.append(error.verdict)
    raise together(obstacles, telling)


def together(
    obstacles: Sequence[Verdict], telling: Sequence[str], beside: Sequence[Verdict] = ()
) -> NotReady:
    """The exception for several obstacles: the cause of the one that tells most, and all that was seen, that
    first: a verdict's sentence is bounded.

    The causes in `telling` tell most, the first of them before the next; of all others what was seen of a
    host, and not what stands between. What was seen `beside` says nothing of the cause.
    """

    def rank(one: Verdict) -> tuple[int, bool]:
        known = one.cause in telling
        return telling.index(str(one.cause)) if known else len(telling), not one.definite

    most = min(obstacles, key=rank)
    seen = "; ".join(dict.fromkeys(one.seen for one in (most, *obstacles, *beside)))
    return NotReady(most.but(seen=seen))
