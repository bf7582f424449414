"""What a target's objects come to: each is judged as it is seen, and only its verdict is kept."""

from __future__ import annotations

from ...model import Verdict, printable, ready
from .api import Json, objects, part, text
from .kinds import asked, judged_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target
    from .kinds import Kind, Question

# Objects that are named in a sentence; the others are counted.
MOST_NAMED = 5


class View:
    """The objects of a question as far as they are known. `verdict` is what they come to."""

    __slots__ = ("_asked", "_kind", "_namespace", "_rule", "_seen", "_target")

    def __init__(self, target: Target, kind: Kind, question: Question) -> None:
        self._target = target
        self._kind = kind
        self._asked = asked(target)
        self._namespace = question.namespace
        self._rule = judged_by(target, kind)
        # For each object its verdict; for a slice of a service the endpoints that are ready.
        self._seen: dict[str, Verdict | frozenset[str]] = {}

    @property
    def what(self) -> str:
        """The target's objects for people: `deployment web in shop`."""
        kind, name = self._kind.name, self._asked.name
        if not name:
            kind, name = self._kind.plural, f"with {self._target.text('selector')}"
        where = f" in {self._namespace}" if self._kind.namespaced else ""
        if self._target.flag("same-node"):
            kind, where = "pod of daemonset", f"{where} on this node"
        return printable(f"{kind} {name}{where}", 200)

    def clear(self) -> None:
        """Nothing is known: a list follows."""
        self._seen.clear()

    def take(self, thing: Json, gone: bool = False) -> None:
        """Note an object as it is now, or that it is gone."""
        name = text(thing, "metadata", "name")
        if self._target.flag("same-node") and not self._is_owned(thing):
            return
        leaves = bool(text(thing, "metadata", "deletionTimestamp"))
        if gone or (leaves and self._rule != "absent" and not self._asked.name):
            # Of several, one that goes away is not waited for.
            self._seen.pop(name, None)
        elif self._rule == "service":
            self._seen[name] = _endpoints(thing)
        elif leaves and self._rule != "absent":
            self._seen[name] = Verdict("not-ready", "is being deleted")
        else:
            self._seen[name] = self._judged(thing)

    def _judged(self, thing: Json) -> Verdict:
        if self._target.flag("same-node"):
            from .rules import RULES

            return RULES["pod"](thing, self._target)
        if self._rule == "status":
            from .fields import status

            return status(thing, self._kind.status)
        if self._rule == "fields":
            from .fields import fields

            return fields(thing, self._target, hidden=self._kind.plural == "secrets")
        if self._rule == "absent":
            leaves = text(thing, "metadata", "deletionTimestamp")
            return Verdict("not-ready", "is being deleted" if leaves else "is still there")
        from .rules import RULES

        return RULES[self._rule](thing, self._target)

    def _is_owned(self, thing: Json) -> bool:
        """Whether a pod is one of the daemonset's."""
        return any(
            text(one, "kind") == "DaemonSet" and text(one, "name") == self._asked.name
            for one in objects(thing, "metadata", "ownerReferences")
        )

    def verdict(self) -> Verdict:
        """What all of it comes to."""
        if self._rule == "service":
            return self._service()
        seen = {name: one for name, one in self._seen.items() if isinstance(one, Verdict)}
        if self._rule == "absent":
            for name, one in seen.items():
                return one.but(seen=f"{self._named(name)} {one.seen}")
            return ready(f"there is no {self.what}")
        if not seen:
            return Verdict("missing-object", f"there is no {self.what} yet")
        if self._asked.name and not self._target.flag("same-node"):
            one = next(iter(seen.values()))
            return one.but(seen=f"{self.what} {one.seen}")
        return self._several(seen)

    def _several(self, seen: dict[str, Verdict]) -> Verdict:
        """As `kubectl wait` has it all that match, at least one; or as many as `min` says."""
        good = [name for name, one in seen.items() if one.ready]
        least = self._target.number("min")
        wanted = len(seen) if least is None else int(least)
        counted = f"{len(good)} of {len(seen)} {self.what}"
        if len(good) >= wanted:
            return ready(f"{counted} hold" if len(seen) > 1 else f"{counted} holds")
        bad = {name: one for name, one in seen.items() if not one.ready}
        told = [f"{name} {one.seen}" for name, one in list(bad.items())[:MOST_NAMED]]
        more = [f"and {len(bad) - MOST_NAMED} more"] if len(bad) > MOST_NAMED else []
        final = next((one for one in bad.values() if one.final), None)
        if final is not None and least is None:
            return final.but(seen=f"{self.what}: {'; '.join((*told, *more))}")
        short = f", {wanted} needed" if least is not None else ""
        return Verdict("too-few", f"{counted} hold{short}: {'; '.join((*told, *more))}")

    def _named(self, name: str) -> str:
        return self.what if self._asked.name else printable(f"{self._kind.name} {name}", 200)

    def _service(self) -> Verdict:
        """Whether enough endpoints are ready. One pod with two addresses is one."""
        ends = {end for each in self._seen.values() if isinstance(each, frozenset) for end in each}
        wanted = int(self._target.number("min") or 1)
        if not self._seen:
            hint = "the service does not exist yet, or has no selector"
            return Verdict("missing-object", f"{self.what} has no endpoints", hint)
        said = f"{self.what} has {len(ends)} ready endpoints"
        said = said.removesuffix("s") if len(ends) == 1 else said
        if len(ends) >= wanted:
            return ready(said)
        return Verdict("too-few", f"{said}, {wanted} needed")


def _endpoints(thing: Json) -> frozenset[str]:
    """The endpoints of an EndpointSlice that are ready; one whose readiness is unknown is (its API says).

    With `publishNotReadyAddresses` all are called ready, whatever their pods are: `serving` has the truth.
    """
    found = set()
    for one in objects(thing, "endpoints"):
        told = part(one, "conditions")
        leaves = told.get("terminating") is True
        if told.get("ready") is not False and told.get("serving") is not False and not leaves:
            addresses = one.get("addresses")
            first = addresses[0] if isinstance(addresses, list) and addresses else ""
            found.add(text(one, "targetRef", "uid") or str(first))
    return frozenset(found)
