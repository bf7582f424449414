"""Whether an object is as it should be: the rules of the kinds that Kubernetes comes with.

They are those that `kubectl rollout status` (kubectl's `polymorphichelpers/rollout_status.go`), `kubectl
wait`, Argo CD's health checks and kstatus (Flux) agree on; where they do not, the one that waits longer.
What may never come is not waited for, though one of them does:

- pods of the newest form where only who deletes the old ones gets them (`OnDelete`; kstatus, for a
  daemonset's);
- a word of a deployment that it has progressed, once all of its replicas are there: a paused one has none
  (kstatus, Argo CD);
- the end of a pod that is ready and is not to be started again (Argo CD);
- a load balancer's address for a service, which is ready by its endpoints (Argo CD);
- each listener of a gateway that is programmed, a structural schema for a definition that is established
  (Argo CD).

Each rule takes an object and says of it a verdict whose sentence goes on from the object's name: "is
rolled out, 3 of 3 available".
"""

from __future__ import annotations

from ...model import Verdict, printable, ready
from .api import Json, number, objects, part, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...options import Target

LONGEST = 200
# The status of a condition that speaks of an older form of its object.
OUTDATED = "outdated"


def _not(seen: str, hint: str = "") -> Verdict:
    return Verdict("not-ready", seen, hint)


def condition(thing: Json, name: str, *, outdated: bool = False) -> tuple[str, str]:
    """The status of a condition and what is said of it ("Reason: message"), empty where it has none.

    As for `kubectl wait` it is of the form that it says it has seen, else of the one that the whole status
    has; where neither says so, of the newest. One of an older form is `OUTDATED`, unless `outdated` takes it.
    """
    for each in objects(thing, "status", "conditions"):
        if text(each, "type").lower() == name.lower():
            whole = part(thing, "status").get("observedGeneration")
            seen = each.get("observedGeneration", whole)
            newest = number(thing, "metadata", "generation")
            if isinstance(seen, int) and seen < newest and not outdated:
                return OUTDATED, "what it says is of an older form"
            said = [text(each, "reason"), text(each, "message")]
            return text(each, "status"), printable(": ".join(filter(None, said)), LONGEST)
    return "", ""


def _behind(thing: Json) -> Verdict | None:
    """The verdict on an object whose latest form nobody has looked at yet."""
    if number(thing, "metadata", "generation") > number(thing, "status", "observedGeneration"):
        return _not("has a new form that its controller has not seen yet")
    return None


def _pod(thing: Json, _: Target) -> Verdict:
    phase = text(thing, "status", "phase")
    if phase == "Succeeded":
        return ready("has succeeded")
    if phase == "Failed":
        why = text(thing, "status", "message") or text(thing, "status", "reason")
        return _not(f"has failed{why and f': {printable(why, LONGEST)}'}")
    status, said = condition(thing, "Ready")
    if status == "True":
        return ready("is ready")
    waiting = ""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for each in objects(thing, "status", kind):
            reason = text(each, "state", "waiting", "reason")
            if reason and not waiting:
                waiting = f", {text(each, 'name')} waits: {printable(reason, 60)}"
    return _not(f"is {phase or 'new'} and not ready{said and f' ({said})'}{waiting}")


def _deployment(thing: Json, _: Target) -> Verdict:
    if behind := _behind(thing):
        return behind
    wanted = number(thing, "spec", "replicas", default=1)
    total, updated, available = (
        number(thing, "status", name)
        for name in ("replicas", "updatedReplicas", "availableReplicas")
    )
    status, said = condition(thing, "Progressing")
    why = f"; {said}" if status == "False" else ""
    if updated < wanted:
        return _not(f"is rolling out, {updated} of {wanted} replicas are updated{why}")
    # Old ones, or those of before it was scaled down.
    if total > wanted:
        return _not(f"is rolling out, {total} replicas are there, {wanted} wanted{why}")
    if available < updated:
        return _not(f"is rolling out, {available} of {updated} replicas are available{why}")
    if why:
        return _not(f"has all of its replicas{why}")
    return ready(f"is rolled out, {available} of {wanted} replicas are available")


def _statefulset(thing: Json, _: Target) -> Verdict:
    if behind := _behind(thing):
        return behind
    wanted = number(thing, "spec", "replicas", default=1)
    total, able, updated = (
        number(thing, "status", name) for name in ("replicas", "readyReplicas", "updatedReplicas")
    )
    if able < wanted:
        return _not(f"is rolling out, {able} of {wanted} replicas are ready")
    if total > wanted:
        return _not(f"is rolling out, {total} replicas are there, {wanted} wanted")
    if text(thing, "spec", "updateStrategy", "type") == "OnDelete":
        return ready(f"has {able} of {wanted} replicas ready")
    held = number(thing, "spec", "updateStrategy", "rollingUpdate", "partition")
    if updated < wanted - held:
        return _not(f"is rolling out, {updated} of {wanted - held} replicas are updated")
    newest, now = (text(thing, "status", n) for n in ("updateRevision", "currentRevision"))
    if not held and newest != now:
        return _not(f"is rolling out from {printable(now, 80)} to {printable(newest, 80)}")
    return ready(f"is rolled out, {able} of {wanted} replicas are ready")


def _daemonset(thing: Json, _: Target) -> Verdict:
    if behind := _behind(thing):
        return behind
    wanted, updated, available = (
        number(thing, "status", name)
        for name in ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
    )
    if text(thing, "spec", "updateStrategy", "type") != "OnDelete" and updated < wanted:
        return _not(f"is rolling out, {updated} of {wanted} pods are updated")
    if available < wanted:
        return _not(f"is rolling out, {available} of {wanted} pods are available")
    return ready(f"is rolled out, {available} of {wanted} pods are available")


def _replicaset(thing: Json, _: Target) -> Verdict:
    if behind := _behind(thing):
        return behind
    wanted = number(thing, "spec", "replicas", default=1)
    total, labeled, available = (
        number(thing, "status", name)
        for name in ("replicas", "fullyLabeledReplicas", "availableReplicas")
    )
    status, said = condition(thing, "ReplicaFailure")
    if status == "True":
        return _not(f"cannot have the replicas it wants ({said})")
    if labeled < wanted:
        return _not(f"has {labeled} of {wanted} replicas with its template's labels")
    if available < wanted:
        return _not(f"has {available} of {wanted} replicas available")
    if total > wanted:
        return _not(f"has {total} replicas, {wanted} wanted")
    return ready(f"has {available} of {wanted} replicas available")


def _job(thing: Json, target: Target) -> Verdict:
    status, said = condition(thing, "Complete")
    if status == "True":
        return ready("is complete")
    for name in ("Failed", "FailureTarget"):
        status, said = condition(thing, name)
        if status == "True":
            final = name == "Failed" and target.text("failed") == "fail"
            hint = "#failed=wait waits for a job of this name that is made anew" if final else ""
            return Verdict("failed", f"has failed ({said})", hint, final=final)
    if part(thing, "spec").get("suspend") is True:
        return _not("is suspended")
    active, failed = (number(thing, "status", name) for name in ("active", "failed"))
    tried = f", {failed} have failed" if failed else ""
    return _not(f"runs with {active} active pods{tried}" if active else f"has no pod yet{tried}")


def _bound(thing: Json, _: Target) -> Verdict:
    phase = text(thing, "status", "phase")
    if phase == "Bound":
        return ready("is bound")
    return _not(f"is {printable(phase, 60) or 'new'}, not bound")


def _volume(thing: Json, target: Target) -> Verdict:
    phase = text(thing, "status", "phase")
    return ready("is available") if phase == "Available" else _bound(thing, target)


def _address(found: list[str], said: str) -> Verdict:
    if found:
        return ready(f"has the address {printable(', '.join(found[:3]), LONGEST)}")
    return _not(f"has no address yet{said and f' ({said})'}")


def _ingress(thing: Json, _: Target) -> Verdict:
    given = objects(thing, "status", "loadBalancer", "ingress")
    return _address(
        [found for one in given if (found := text(one, "ip") or text(one, "hostname"))], ""
    )


def _gateway(thing: Json, _: Target) -> Verdict:
    given = objects(thing, "status", "addresses")
    status, said = condition(thing, "Programmed")
    if status not in ("True", ""):
        return _not(f"is not programmed{said and f' ({said})'}")
    return _address([text(one, "value") for one in given if text(one, "value")], said)


def _definition(thing: Json, _: Target) -> Verdict:
    status, said = condition(thing, "NamesAccepted")
    if status == "False":
        return _not(f"has names that are not accepted{said and f' ({said})'}")
    status, said = condition(thing, "Established")
    if status == "True":
        return ready("is established")
    return _not(f"is not established{said and f' ({said})'}")


def _namespace(thing: Json, _: Target) -> Verdict:
    phase = text(thing, "status", "phase")
    return ready("is active") if phase == "Active" else _not(f"is {printable(phase, 60) or 'new'}")


def _node(thing: Json, _: Target) -> Verdict:
    status, said = condition(thing, "Ready")
    if status == "True":
        return ready("is ready")
    return _not(f"is not ready{said and f' ({said})'}")


def _exists(_: Json, __: Target) -> Verdict:
    return ready("is there")


def _key(thing: Json, target: Target) -> Verdict:
    """A key with an empty value is there."""
    known = {*part(thing, "data"), *part(thing, "binaryData")}
    wanted = target.texts("key")
    missing = [key for key in wanted if key not in known]
    if missing:
        return Verdict("missing-object", f"is there without the key {printable(missing[0], 100)}")
    return ready(f"has the key{'s' * (len(wanted) > 1)} {printable(', '.join(wanted), LONGEST)}")


RULES: dict[str, Callable[[Json, Target], Verdict]] = {
    "pod": _pod,
    "deployment": _deployment,
    "statefulset": _statefulset,
    "daemonset": _daemonset,
    "replicaset": _replicaset,
    "replicationcontroller": _replicaset,
    "job": _job,
    "persistentvolumeclaim": _bound,
    "persistentvolume": _volume,
    "ingress": _ingress,
    "gateway": _gateway,
    "customresourcedefinition": _definition,
    "namespace": _namespace,
    "node": _node,
    "exists": _exists,
    "key": _key,
}
