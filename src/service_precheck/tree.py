"""Groups of targets, and how a tree of them is spelled."""

from __future__ import annotations

from .model import Frozen, printable
from .options import TIMEOUT, Target, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

GROUPS = ("all", "any", "quorum", "atleast", "not")


class Group(Frozen):
    """Targets taken together: holds when at least `need` members do; `not` when its one member is gone."""

    __slots__ = ("kind", "label", "members", "need", "timeout")
    kind: str
    need: int
    members: tuple[Node, ...]
    label: str
    timeout: float | None

    def __init__(
        self,
        kind: str,
        need: int,
        members: tuple[Node, ...],
        label: str = "",
        timeout: float | None = None,
    ) -> None:
        self._set(kind=kind, need=need, members=members, label=label, timeout=timeout)

    @property
    def name(self) -> str:
        """What people see of it."""
        return printable(self.label) or self._spell([member.name for member in self.members])

    def __str__(self) -> str:
        """The group with its options, secrets masked."""
        return self._spell([str(member) for member in self.members]) + self._spell_options()

    def spelled(self) -> str:
        """The group in its canonical spelling, secrets included."""
        return self._spell([_as_member(member) for member in self.members]) + self._spell_options()

    def _spell(self, members: list[str]) -> str:
        need = [str(self.need)] if self.kind == "atleast" else []
        return f"{self.kind}({', '.join(need + members)})"

    def _spell_options(self) -> str:
        spelled = f"#name={quoted(self.label, b',)')}" if self.label else ""
        if self.timeout is not None:
            spelled += f"#timeout={TIMEOUT.kind.write(self.timeout)}"
        return spelled


Node = Target | Group

# In a group, what a comma and a parenthesis are written as; `%252C` is what `%2C` is then.
_ESCAPED = {"2C": ",", "29": ")"}


def _as_member(node: Node) -> str:
    if isinstance(node, Group):
        return node.spelled()
    spelled = ""
    for before, escape in _escapes(node.spelled()):
        spelled += before.replace(",", "%2C").replace(")", "%29") + (escape and f"%25{escape[1:]}")
    return spelled


def from_member(text: str) -> str:
    """A member's own text: one layer of its group's escapes undone."""
    own = ""
    for before, escape in _escapes(text):
        own += before + (
            _ESCAPED[escape[1:].upper()] if len(escape) == 3 else escape and f"%{escape[3:]}"
        )
    return own


def _escapes(text: str) -> Iterator[tuple[str, str]]:
    """Each `%2C` and `%29`, with any number of `25` before its code, and what stands before it; the
    rest of the text comes last, without one."""
    done = at = 0
    while (at := text.find("%", at)) >= 0:
        code = at + 1
        while text.startswith("25", code):
            code += 2
        if text[code : code + 2].upper() in _ESCAPED:
            yield text[done:at], text[at : code + 2]
            done = code + 2
        at = code
    yield text[done:], ""


def leaves(node: Node) -> Iterator[Target]:
    """The targets of a tree, from left to right."""
    if isinstance(node, Target):
        yield node
    else:
        for member in node.members:
            yield from leaves(member)
