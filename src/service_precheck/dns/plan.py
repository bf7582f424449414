"""Which names a target may stand for, in the pod's resolver's order, and when each is asked.

Pure: what `precheck explain` prints is what the resolver does. In a cluster most names of a search
list cannot exist: `a.b.c` is a pod of a headless service in a namespace or an external name, never
`a.b.c.NAMESPACE.svc.ZONE`. Those are asked in a sweep at the start and now and then, in case a
search list holds something we did not think of.
"""

from __future__ import annotations

from ..model import Frozen
from .config import Config

# When a candidate is asked: at each poll, at every fourth, or in a sweep.
EACH, FOURTH, SWEEP = "each poll", "every fourth poll", "a sweep"


class Candidate(Frozen):
    """A fully qualified name that a target may stand for.

    `suffix` is what the search list appended, empty for the name as written; `cluster` says that the
    suffix is the cluster's own, where no wildcard can be.
    """

    __slots__ = ("cluster", "name", "suffix", "when")
    name: str
    suffix: str
    when: str
    cluster: bool

    def __init__(self, name: str, suffix: str, when: str, cluster: bool = False) -> None:
        self._set(name=name, suffix=suffix, when=when, cluster=cluster)


def plan(name: str, config: Config, absolute: bool = False) -> tuple[Candidate, ...]:
    """The candidates for `name` in the order in which the pod's own resolver would ask them."""
    bare = name.rstrip(".").lower()
    zone = config.zone
    if absolute or name.endswith(".") or not config.search:
        return (Candidate(bare, "", EACH),)
    if zone and bare.endswith(f".svc.{zone}"):
        return (Candidate(bare, "", EACH),)
    possible = _cluster_suffixes(bare, zone, config.search) if zone else config.search
    candidates = [
        Candidate(
            f"{bare}.{suffix}",
            suffix,
            EACH if suffix in possible else SWEEP,
            bool(zone) and f".{suffix}".endswith(f".{zone}"),
        )
        for suffix in config.search
        if len(bare) + len(suffix) < 253
    ]
    likely = zone and any(candidate.when is EACH for candidate in candidates)
    as_written = Candidate(bare, "", FOURTH if likely else EACH)
    if bare.count(".") >= config.ndots:
        return (as_written, *candidates)
    return (*candidates, as_written)


def _cluster_suffixes(name: str, zone: str, search: tuple[str, ...]) -> tuple[str, ...]:
    """The suffixes under which a cluster can hold a name of this form (the Kubernetes DNS specification 1.1)."""
    own = tuple(s for s in search if s.endswith(f".svc.{zone}"))
    # _PORT._PROTOCOL of an SRV record stand before a service's name.
    service = name.split(".", 2)[2] if name.startswith("_") and name.count(".") > 1 else name
    dots = service.count(".")
    if service.endswith(".svc") and dots:
        return (zone,)
    if dots == 0:
        return own
    if dots == 1:
        return (*own, f"svc.{zone}") if service is name else (f"svc.{zone}",)
    # POD.SERVICE.NAMESPACE
    return (f"svc.{zone}",) if dots == 2 and service is name else ()
