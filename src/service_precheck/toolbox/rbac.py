"""`precheck rbac`: the least rights that `kube:` targets need, as manifests.

One Role and one RoleBinding for each namespace that is asked about, a ClusterRole and its binding only
where a kind stands in no namespace. Kinds that Kubernetes comes with are known; for any other the API
server is asked what it is called, which any login may.
"""

from __future__ import annotations

import sys

from .. import net
from ..codecs.kube import kinds
from ..codecs.kube.rights import VERBS, Rule, called, rule
from ..dns import Names
from ..errors import NotReady
from ..kinds import Kind, Wrong
from ..options import Option, Target
from ..stream import Attempt
from ..target import leaves
from .targets import FROM, MISTAKE, understood

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def _name(text: str) -> str:
    if not text or not all(c.isascii() and (c.isalnum() or c in "-.") for c in text):
        raise Wrong(f"{text!r} is no name of an object")
    return text


_NAME = Kind("NAME", _name)
OPTIONS = (
    Option(
        "namespace", _NAME, "where the gate's pod runs, whatever a kubeconfig file says", "default"
    ),
    Option("service-account", _NAME, "the service account that the pod has", "default"),
    Option(
        "name",
        _NAME,
        "what the Role is called, instead of service-precheck-ACCOUNT; one an account",
    ),
    FROM,
)
PURPOSE = (
    "Prints the least Role and RoleBinding that the `kube:` targets among TARGETs need, as YAML for\n"
    "kubectl apply -f -; a ClusterRole only for kinds that stand in no namespace.\n\n"
    "exit status: 0 printed; 1 a kind is not known here, and the API server does not tell; 2 a mistake"
)
PATIENCE = 5.0


def run(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Print the manifests; 1 where a kind cannot be found out, 2 at a mistake."""
    command = understood("rbac", PURPOSE, OPTIONS, arguments, environment)
    if isinstance(command, int):
        return command
    namespace, account, name = (
        str(command.options[key] or "") for key in ("namespace", "service-account", "name")
    )
    targets = [leaf for leaf in leaves(command.root) if leaf.scheme.name == "kube"]
    if not targets:
        sys.stderr.write("precheck rbac: no target asks for an object: nothing needs rights\n")
        return MISTAKE
    try:
        rules = [_rule(target, namespace) for target in targets]
    except NotReady as error:
        sys.stderr.write(f"precheck rbac: {error.verdict.seen}\n")
        return 1
    sys.stdout.write("---\n".join(manifests(rules, namespace, account, name)))
    return 0


def _rule(target: Target, namespace: str) -> Rule:
    what = kinds.asked(target)
    kind = kinds.built_in(what.kind)
    if kind is None:
        from ..codecs.kube.access import access
        from ..codecs.kube.api import Talk
        from ..codecs.kube.discovery import kind_of

        attempt = Attempt(net.monotonic() + PATIENCE, Names())
        try:
            with access(target, attempt) as way, Talk(way, attempt) as talk:
                kind = kind_of(what.kind, way, talk)
        finally:
            if attempt.kept is not None:
                attempt.kept.close()
    return rule(target, kind, what.namespace or namespace)


def manifests(rules: Iterable[Rule], namespace: str, account: str, name: str) -> Iterator[str]:
    """The YAML of a role and of its binding for each namespace, without a namespace last."""
    places: dict[str, list[Rule]] = {}
    for one in rules:
        places.setdefault(one.namespace, []).append(one)
    for place in sorted(places, key=lambda place: (not place, place)):
        kind = "Role" if place else "ClusterRole"
        # Applied for one account, it must not replace another's.
        role = called(place, namespace, account, name)
        where = f"  namespace: {place}\n" if place else ""
        head = "apiVersion: rbac.authorization.k8s.io/v1\n"
        yield (
            f"{head}kind: {kind}\nmetadata:\n  name: {role}\n{where}rules:\n"
            + "".join(_written(places[place]))
        )
        yield (
            f"{head}kind: {kind}Binding\nmetadata:\n  name: {role}\n{where}"
            f"roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n  name: {role}\n"
            f"subjects:\n- kind: ServiceAccount\n  name: {account}\n  namespace: {namespace}\n"
        )


def _written(rules: list[Rule]) -> Iterator[str]:
    """The rules of a role, the names of one resource together; all of it needs no names."""
    named: dict[tuple[str, str], set[str]] = {}
    for one in rules:
        named.setdefault((one.group, one.resource), set()).add(one.name)
    for (group, resource), names in sorted(named.items()):
        yield f'- apiGroups: ["{group}"]\n  resources: ["{resource}"]\n'
        if "" not in names:
            listed = ", ".join(f'"{name}"' for name in sorted(names))
            yield f"  resourceNames: [{listed}]\n"
        verbs = ", ".join(f'"{verb}"' for verb in VERBS)
        yield f"  verbs: [{verbs}]\n"
