"""Targets and groups while a gate waits for them: what was seen, and what can still come.

Values are three-valued: True holds, False was seen not to hold, None is not known. Only the gate
changes a place.
"""

from __future__ import annotations

from .model import Verdict
from .net import stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Target
    from .stream import Kept
    from .tree import Group


class Leaf:
    """A target while the gate waits for it."""

    __slots__ = (
        "above",
        "asked",
        "attempts",
        "credentials",
        "dead",
        "deadline",
        "due",
        "final_refusal",
        "good",
        "interval",
        "kept",
        "last",
        "limit",
        "name",
        "needed",
        "refusals",
        "running",
        "standing",
        "target",
        "text",
        "told",
        "verdict",
        "wanted",
    )

    def __init__(self, target: Target, wanted: bool, begun: float, once: bool) -> None:
        self.target = target
        # Spelled once: a state is asked for at every change.
        self.name, self.text = target.name, str(target)
        # How many good verdicts in a row it takes; a single look can give one.
        self.needed = 1 if once else target.number("successes") or 1
        self.interval = target.number("interval")
        # Of one attempt, in seconds.
        self.limit = target.number("attempt-timeout") or target.scheme.attempt_timeout
        refusal = target.scheme.option("on-auth-refused")
        self.final_refusal = refusal is not None and target.text("on-auth-refused") == "fail"
        # What its place in the tree asks of it: to hold, or below `not` to be gone.
        self.wanted = wanted
        timeout = target.number("timeout")
        self.deadline = None if timeout is None else begun + timeout
        self.verdict: Verdict | None = None
        self.asked = begun
        self.due = begun
        self.attempts = 0
        self.good = 0
        self.refusals = 0
        self.credentials: object = None
        # What an attempt left to the next.
        self.kept: Kept | None = None
        self.running = False
        # It is watched: what it gives is told as it comes.
        self.standing = False
        # Its own time has passed.
        self.dead = False
        self.told: object = None
        self.above: Branch | None = None
        # The value that the group above has counted.
        self.last: bool | None = None

    def value(self) -> bool | None:
        """True when it holds, False when it was seen not to, None when nobody knows."""
        verdict = self.verdict
        if verdict is None or self.dead:
            return None
        if verdict.ready:
            return True if self.good >= self.needed else None
        return False if verdict.definite else None

    def settled(self) -> bool:
        """Whether it is as wanted, so that it need not be asked while others are awaited."""
        return self.value() is self.wanted

    def outlook(self, timeless: bool) -> tuple[bool, bool]:
        """Whether it can still become true, and false; `timeless` as if its own time had not passed."""
        if self.verdict is not None and self.verdict.final:
            return False, True
        alive = timeless or not self.dead
        return alive, alive

    def shown(self) -> Verdict | None:
        """The last verdict, as people see it: one good look of several that it takes is not enough."""
        verdict = self.verdict
        if verdict is None or not verdict.ready or self.good >= self.needed:
            return verdict
        count = f"{self.good} of {self.needed} times in a row"
        return Verdict("not-ready", f"{verdict.seen}, {count}")

    def cause(self) -> str | None:
        """What keeps it from holding."""
        verdict = self.shown()
        return None if verdict is None or self.value() is True else verdict.cause

    def drop(self) -> None:
        """Close what an attempt left to the next, since there is none. From any thread."""
        kept, self.kept = self.kept, None
        if kept is not None:
            kept.close()

    def credential_stamp(self) -> object:
        """What tells that a credential file was changed, a client's certificate and its key among them."""
        stamps: list[object] = []
        # Where the certificate's key is `cert-key`, `key` is something else.
        key = "key" if self.target.scheme.option("cert-key") is None else "cert-key"
        for name, value in self.target.given:
            if isinstance(value, str) and (name.endswith("-file") or name in ("cert", key)):
                # Of a header or a field of metadata the name stands before its file.
                named = name in ("header-file", "metadata-file")
                stamps.append(stamp(value.partition("=")[2] if named else value))
        return tuple(stamps)


class Branch:
    """A group while the gate waits for it."""

    __slots__ = (
        "above",
        "counts",
        "dead",
        "deadline",
        "group",
        "last",
        "members",
        "name",
        "text",
        "told",
        "wanted",
    )

    def __init__(
        self, group: Group, members: tuple[Leaf | Branch, ...], wanted: bool, begun: float
    ) -> None:
        self.group = group
        self.name, self.text = group.name, str(group)
        self.members = members
        self.wanted = wanted
        self.deadline = None if group.timeout is None else begun + group.timeout
        self.dead = False
        self.told: object = None
        self.above: Branch | None = None
        self.last: bool | None = None
        # How many members have each value. Kept up to date by the gate, since a look at a thousand
        # members for each verdict would cost more than the probes.
        self.counts: dict[bool | None, int] = {True: 0, False: 0, None: len(members)}
        for member in members:
            member.above = self

    def value(self) -> bool | None:
        """Three-valued: None while too little is known."""
        if self.dead:
            return None
        if self.group.kind == "not":
            return True if self.counts[False] else False if self.counts[True] else None
        if self.counts[True] >= self.group.need:
            return True
        return None if self.counts[True] + self.counts[None] >= self.group.need else False

    def outlook(self, timeless: bool) -> tuple[bool, bool]:
        """As for a leaf."""
        if self.dead and not timeless:
            return False, False
        outlooks = [member.outlook(timeless) for member in self.members]
        can, cannot = (sum(one[side] for one in outlooks) for side in (0, 1))
        if self.group.kind == "not":
            return bool(cannot), bool(can)
        return can >= self.group.need, cannot > len(outlooks) - self.group.need

    def cause(self) -> str | None:
        """As for a leaf; what `_group_verdict` says, without its sentence."""
        if self.value() is True:
            return None
        if self.group.kind != "not":
            return "too-few"
        return "not-ready" if self.counts[True] else self.members[0].cause()


Place = Leaf | Branch


def deadline_of(place: Place) -> float:
    """When the own time of a place passes that has one."""
    assert place.deadline is not None
    return place.deadline
