"""The kinds of objects that Kubernetes comes with, and what a `kube:` target names.

Kubernetes API reference 1.34; names and short names as `kubectl api-resources` has them. Any other kind
is written `KIND.GROUP` or `KIND.VERSION.GROUP`, as for kubectl, and looked up at the API server.
"""

from __future__ import annotations

from ...kinds import Wrong
from ...model import Frozen, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target


class Kind(Frozen):
    """A kind of objects: `plural` is its resource's name in paths and rights, `name` what people say.

    `status` says that its objects have a status, which somebody fills in.
    """

    __slots__ = ("group", "name", "namespaced", "plural", "status", "version")
    name: str
    plural: str
    group: str
    version: str
    namespaced: bool
    status: bool

    def __init__(
        self,
        name: str,
        plural: str,
        group: str,
        version: str,
        namespaced: bool = True,
        status: bool = False,
    ) -> None:
        self._set(
            name=name,
            plural=plural,
            group=group,
            version=version,
            namespaced=namespaced,
            status=status,
        )

    def path(self, namespace: str) -> str:
        """Where its objects are listed (Kubernetes API concepts, "Resource URIs")."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{root}{inside}/{self.plural}"


# A group that is added later has a name to write behind the kind's; the core has none, so all of its
# kinds are here.
_APPS, _BATCH, _NET, _RBAC = "apps", "batch", "networking.k8s.io", "rbac.authorization.k8s.io"
# These do not come with Kubernetes: a CustomResourceDefinition brings them.
WITH_A_DEFINITION = ("gateway.networking.k8s.io",)
# Name, plural, short names, group, version.
_NAMESPACED = (
    ("pod", "pods", "po", "", "v1"),
    ("service", "services", "svc", "", "v1"),
    ("configmap", "configmaps", "cm", "", "v1"),
    ("secret", "secrets", "", "", "v1"),
    ("persistentvolumeclaim", "persistentvolumeclaims", "pvc", "", "v1"),
    ("serviceaccount", "serviceaccounts", "sa", "", "v1"),
    ("replicationcontroller", "replicationcontrollers", "rc", "", "v1"),
    ("resourcequota", "resourcequotas", "quota", "", "v1"),
    ("limitrange", "limitranges", "limits", "", "v1"),
    ("podtemplate", "podtemplates", "", "", "v1"),
    ("endpoints", "endpoints", "ep", "", "v1"),
    ("event", "events", "ev", "", "v1"),
    ("endpointslice", "endpointslices", "", "discovery.k8s.io", "v1"),
    ("deployment", "deployments", "deploy", _APPS, "v1"),
    ("statefulset", "statefulsets", "sts", _APPS, "v1"),
    ("daemonset", "daemonsets", "ds", _APPS, "v1"),
    ("replicaset", "replicasets", "rs", _APPS, "v1"),
    ("job", "jobs", "", _BATCH, "v1"),
    ("cronjob", "cronjobs", "cj", _BATCH, "v1"),
    ("ingress", "ingresses", "ing", _NET, "v1"),
    ("networkpolicy", "networkpolicies", "netpol", _NET, "v1"),
    ("role", "roles", "", _RBAC, "v1"),
    ("rolebinding", "rolebindings", "", _RBAC, "v1"),
    ("gateway", "gateways", "gtw", *WITH_A_DEFINITION, "v1"),
)
_OF_THE_CLUSTER = (
    ("namespace", "namespaces", "ns", "", "v1"),
    ("node", "nodes", "no", "", "v1"),
    ("persistentvolume", "persistentvolumes", "pv", "", "v1"),
    ("storageclass", "storageclasses", "sc", "storage.k8s.io", "v1"),
    ("clusterrole", "clusterroles", "", _RBAC, "v1"),
    ("clusterrolebinding", "clusterrolebindings", "", _RBAC, "v1"),
    (
        *("customresourcedefinition", "customresourcedefinitions", "crd"),
        *("apiextensions.k8s.io", "v1"),
    ),
)


def built_in(word: str) -> Kind | None:
    """The kind of a usual name, a plural or a short name, with or without its group."""
    bare, _, group = word.lower().partition(".")
    for namespaced, rows in ((True, _NAMESPACED), (False, _OF_THE_CLUSTER)):
        for name, plural, short, of, version in rows:
            known = bare in (name, plural) or (bare == short and bare)
            if known and group in ("", of, f"{version}.{of}".removesuffix(".")):
                return Kind(name, plural, of, version, namespaced)
    return None


def names() -> tuple[str, ...]:
    """The usual names of all kinds that are known here."""
    return tuple(row[0] for row in (*_NAMESPACED, *_OF_THE_CLUSTER))


class Asked(Frozen):
    """What a target names: `kind` as it was written, the namespace and the name, empty if not given."""

    __slots__ = ("kind", "name", "namespace")
    namespace: str
    kind: str
    name: str

    def __init__(self, namespace: str, kind: str, name: str) -> None:
        self._set(namespace=namespace, kind=kind, name=name)


def asked(target: Target) -> Asked:
    """The parts of a target: `[NAMESPACE/]KIND/NAME`, or `[NAMESPACE/]KIND` with a selector. Raises Wrong."""
    parts = target.path.split("/")
    selects = bool(target.text("selector"))
    most = 2 if selects else 3
    if not target.path or not all(parts) or len(parts) > most or (len(parts) < 2 and not selects):
        form = "kube://[NAMESPACE/]KIND#selector=..." if selects else "kube://[NAMESPACE/]KIND/NAME"
        raise Wrong(f"{printable(target.path)!r} is not as in {form}")
    for part in parts:
        if len(part) > 253 or not all(c.isascii() and (c.isalnum() or c in "-._:") for c in part):
            raise Wrong(
                f"{printable(part)!r} is no name that an object, a kind or a namespace can have"
            )
        # They would be folders of a path.
        if part in (".", ".."):
            raise Wrong(f"{part!r} is no name")
    if selects and len(parts) == 2 and built_in(parts[0]) and not built_in(parts[1]):
        raise Wrong(f"{printable(target.path)} names one object, and #selector= chooses some")
    namespace = parts.pop(0) if len(parts) == most else ""
    kind = parts.pop(0)
    word = kind.lower()
    known = built_in(word)
    name = parts[0] if parts else ""
    group = word.partition(".")[2]
    if known is None and (group in ("", "v1") or not all(word.split("."))):
        raise Wrong(f"there is no kind {kind!r} here{_nearest(word)}")
    if namespace and not is_namespace(namespace):
        letters = "its name has lower-case letters, digits and - within, 63 at most"
        raise Wrong(f"no namespace can be called {namespace!r}; {letters}")
    # Roles may be called system:node, and who defines a kind says what its objects may be called.
    if known is not None and known.group != _RBAC and name and not _is_subdomain(name):
        letters = "its name has lower-case letters and digits, with - and . between them"
        raise Wrong(f"no {known.name} can be called {name!r}; {letters}")
    if known is not None and namespace and not known.namespaced:
        raise Wrong(f"a {known.name} stands in no namespace: kube://{kind}/...")
    return Asked(namespace, word, name)


def is_namespace(name: str) -> bool:
    """Whether a namespace may be called so (RFC 1123, a label in lower case)."""
    plain = name.isascii() and all(c.isalnum() or c == "-" for c in name)
    return plain and _is_subdomain(name) and len(name) <= 63


def _is_subdomain(name: str) -> bool:
    """Whether it is as RFC 1123 has it, in lower case: most objects' names are checked for that."""
    return all(
        label.strip("-") == label != "" and label.lower() == label and not set(label) & set("_:")
        for label in name.split(".")
    )


def _nearest(word: str) -> str:
    from ...masking import nearest

    # What is as short is as like to a short name of another kind: pdb to pod.
    near = nearest(word, names(), "{}") if "." not in word and len(word) > 3 else ""
    near = f" {near}" if near.startswith("did you mean") else ""
    return f";{near} any other is written KIND.GROUP, as certificate.cert-manager.io"


class Question(Frozen):
    """What the API server is asked: objects of a kind, in a namespace, and which of them.

    `selector` is of labels, `fields` of fields. `metadata` asks for nothing but the objects' metadata.
    """

    __slots__ = ("fields", "kind", "metadata", "namespace", "selector")
    kind: Kind
    namespace: str
    selector: str
    fields: str
    metadata: bool

    def __init__(
        self, kind: Kind, namespace: str, selector: str, fields: str, metadata: bool
    ) -> None:
        self._set(
            kind=kind, namespace=namespace, selector=selector, fields=fields, metadata=metadata
        )

    def path(self) -> str:
        """The path and query of the list."""
        query = [
            f"{key}={encoded(value)}"
            for key, value in (("fieldSelector", self.fields), ("labelSelector", self.selector))
            if value
        ]
        return f"{self.kind.path(self.namespace)}?{'&'.join(query)}"


_SLICES = Kind("endpointslice", "endpointslices", "discovery.k8s.io", "v1")
_PODS = Kind("pod", "pods", "", "v1")
# How often an object says more than that it is there.
JUDGING = ("condition", "jsonpath")


def question(target: Target, kind: Kind, namespace: str, node: str = "") -> Question:
    """What to ask for a target; `node` is this pod's own, for `same-node`.

    The endpoints of a service are other objects, found by their label; the pods of a daemonset on one
    node by that node's name.
    """
    what = asked(target)
    named = f"metadata.name={what.name}" if what.name else ""
    if judged_by(target, kind) == "service":
        label = f"kubernetes.io/service-name={what.name}"
        return Question(_SLICES, namespace, label, "", metadata=False)
    if target.flag("same-node"):
        return Question(_PODS, namespace, "", f"spec.nodeName={node}", metadata=False)
    metadata = judged_by(target, kind) in ("exists", "absent")
    return Question(kind, namespace, target.text("selector"), named, metadata)


# Those that have more to say than that they are there.
_JUDGED = (
    *("pod", "service", "deployment", "statefulset", "daemonset", "replicaset", "job"),
    "replicationcontroller",
    *("persistentvolumeclaim", "persistentvolume", "ingress", "gateway"),
    *("customresourcedefinition", "namespace", "node"),
)


def judged_by(target: Target, kind: Kind) -> str:
    """The rule that decides: what the options ask for, else what the kind has, else kstatus'."""
    if target.flag("absent"):
        return "absent"
    if target.flag("exists"):
        return "exists"
    if any(target.texts(name) for name in JUDGING):
        return "fields"
    if target.texts("key"):
        return "key"
    known = built_in(f"{kind.plural}.{kind.group}")
    if known is None:
        return "status"
    # A selector of services asks for the services themselves.
    whole = known.name != "service" or asked(target).name
    return known.name if known.name in _JUDGED and whole else "exists"


_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def encoded(text: str) -> str:
    """`text` as a value of a query (RFC 3986 section 2.1)."""
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
