"""The least rights that a target needs: rules as RBAC has them.

Kubernetes documentation, "Using RBAC Authorization". A list with `fieldSelector=metadata.name=` is
allowed by a rule with that name in `resourceNames`; a selector is not, so it needs the whole kind.
"""

from __future__ import annotations

from ...model import Frozen
from .kinds import Kind, Question, asked, question

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target

VERBS = ("list", "watch")
NAME = "service-precheck"
# What may stand in a role's name as it stands in a user's (it is a segment of a path).
_IN_NAMES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:@")


class Rule(Frozen):
    """One rule: verbs are always `VERBS`. `name` is empty where all objects are needed; `namespace` where
    the kind stands in none."""

    __slots__ = ("group", "name", "namespace", "resource")
    group: str
    resource: str
    name: str
    namespace: str

    def __init__(self, group: str, resource: str, name: str, namespace: str) -> None:
        self._set(group=group, resource=resource, name=name, namespace=namespace)


def rule(target: Target, kind: Kind, namespace: str) -> Rule:
    """The rule for what a target asks."""
    what: Question = question(target, kind, namespace)
    name = asked(target).name if what.fields.startswith("metadata.name=") else ""
    resource = what.kind.plural
    return Rule(what.kind.group, resource, name, namespace if what.kind.namespaced else "")


def called(place: str, namespace: str, account: str, name: str = "") -> str:
    """What an account's role is called in a namespace, or in the cluster (`place` is empty then).

    `name` stands instead of `service-precheck-ACCOUNT`. A role of that name may be another namespace's
    account's, so only in the account's own it is called so; the colon, which no account's name has,
    keeps `a-b:c` from `a:b-c`.
    """
    if place == namespace:
        return name or f"{NAME}-{account}"
    return f"{name or NAME}-{namespace}:{account}"


def commands(one: Rule, user: str) -> str:
    """How kubectl creates it for who was refused, in a line.

    The role is called as `precheck rbac` would, and by what it allows: a gate is refused more than once.
    """
    where = f"-n {one.namespace} " if one.namespace else ""
    role = "role" if one.namespace else "clusterrole"
    resource = f"{one.resource}.{one.group}" if one.group else one.resource
    named = f" --resource-name={one.name}" if one.name else ""
    account = user.removeprefix("system:serviceaccount:")
    if account != user:
        who = f"--serviceaccount={account}"
        namespace, _, bare = account.partition(":")
        whose = called(one.namespace, namespace, bare)
    else:
        who = f"--user={user}"
        whose = f"{NAME}-{''.join(c if c in _IN_NAMES else '-' for c in user)}"
    name = ":".join(filter(None, (whose, resource, one.name)))
    return (
        f"kubectl {where}create {role} {name} --verb={','.join(VERBS)} --resource={resource}{named}"
        f" && kubectl {where}create {role}binding {name} --{role}={name} {who}"
    )
