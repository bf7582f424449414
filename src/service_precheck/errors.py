"""Errors by whose fault they are.

The operator's (`OperatorError`) are never retried: exit 2, all of them at once. The dependency's
(`NotReady`) are raised where the obstacle is met and become a verdict. Ours are ordinary
exceptions and propagate with a traceback.
"""

from __future__ import annotations

from .model import Frozen, Verdict, redacted


class Mistake(Frozen):
    """One thing the operator got wrong.

    `given` is the text as it was given, secrets masked; `place` says where it stands ("argument 2",
    "targets.txt:7"); `wrong` what is wrong; `right` what would be right, empty where nothing is near.
    """

    __slots__ = ("given", "place", "right", "wrong")
    given: str
    place: str
    wrong: str
    right: str

    def __init__(
        self, given: str, wrong: str, right: str = "", place: str = "", *, masked: bool = False
    ) -> None:
        """With `masked` secrets were looked for already: our own words may look like one."""
        if not masked:
            given, wrong, right = redacted(given), redacted(wrong), redacted(right)
        self._set(given=given, place=place, wrong=wrong, right=right)

    def at(self, place: str) -> Mistake:
        """The same mistake, with the place where its text stands."""
        return Mistake(self.given, self.wrong, self.right, place, masked=True)

    def __str__(self) -> str:
        shown = self.given if len(self.given) <= 200 else f"{self.given[:200]}..."
        place = f"{self.place}: " if self.place else ""
        right = f"; {self.right}" if self.right else ""
        return f"{place}{shown!r}: {self.wrong}{right}" if shown else f"{place}{self.wrong}{right}"


class PrecheckError(Exception):
    """What this package raises on purpose. `exit_status` is what the gate would exit with."""

    exit_status = 1


class OperatorError(PrecheckError):
    """The operator's mistakes, all of them. Nothing was probed."""

    exit_status = 2

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class NotReady(PrecheckError):
    """An obstacle met by a probe; `verdict` says which. The engine keeps the verdict and asks again."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.seen)
        self.verdict = verdict


def blocked(cause: str, seen: str, hint: str = "", again: float | None = None) -> NotReady:
    """The exception for an obstacle: `raise blocked("refused", "10.0.0.1:80 refused")`."""
    return NotReady(Verdict(cause, seen, hint, again))
