"""The ways in which a story is run: its gates as they stand, or what takes their place.

| way            | what stands where the gate stood                                                 |
|----------------|----------------------------------------------------------------------------------|
| ours           | the gate                                                                         |
| `NOTHING`      | nothing                                                                          |
| nslookup loop  | one container that waits for each name of the gate's targets in turn             |
| wait4x         | a container for each target, by its protocol, one after another                  |

What a rival cannot say is left out or said by what it can: the loop knows names alone; wait4x has no
groups, roles or quorums, so that it waits for all members of a group (of `any` for the first that is
no file), for a login where ours waits for a role, and for a port where ours waits for a quorum.

A Job that fails for good at its first failure could never end without our gate, so there it has the
retries that Kubernetes gives by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from bench.cluster import images
from bench.launch import Failed
from bench.rivals import GATE, NSLOOKUP, WAIT4X
from service_precheck.cli import understand
from service_precheck.options import Target
from service_precheck.tree import Group, Node, leaves
from tools.cluster.images import REGISTRY

NOTHING = "nothing"
WAYS = (GATE, NOTHING, NSLOOKUP, WAIT4X)
# What the gates of the examples are called, and what stands for them is called after.
CONTAINER = "precheck"

Object = dict[str, Any]


def rewritten(objects: list[Object], way: str) -> list[Object]:
    """The objects of a story, their gates replaced."""
    made = copy.deepcopy(objects)
    for each in made:
        spec = pod_spec(each)
        if spec is None or way == GATE:
            continue
        standing: list[Object] = []
        for container in spec.get("initContainers", ()):
            standing += instead(container, spec, way) if is_gate(container) else [container]
        spec["initContainers"] = standing
        each["spec"].pop("backoffLimit", None)
    return made


def ungated(objects: list[Object]) -> list[Object]:
    """The objects without their gates, and otherwise as they are."""
    made = copy.deepcopy(objects)
    for each in made:
        spec = pod_spec(each)
        if spec is not None:
            kept = [one for one in spec.get("initContainers", ()) if not is_gate(one)]
            spec["initContainers"] = kept
    return made


def pod_spec(each: Object) -> Object | None:
    """What the pods of a workload look like, None if the object is no workload."""
    spec: Object | None = each.get("spec", {}).get("template", {}).get("spec")
    return spec


def is_gate(container: Object) -> bool:
    """Whether this init container is a gate, or stands for one."""
    return str(container["name"]).partition("-")[0] == CONTAINER


def instead(gate: Object, spec: Object, way: str) -> list[Object]:
    """The containers that stand for a gate."""
    targets = understand(gate["args"], {}).root
    if way == NSLOOKUP:
        image = f"{REGISTRY}/{images.LOOP}"
        return [{"name": CONTAINER, "image": image, "args": names(targets)}]
    if way == WAIT4X:
        image = f"{REGISTRY}/{images.WAIT4X}"
        # A password comes as the app has it: by a variable, which the kubelet puts into arguments.
        env = spec["containers"][0].get("env", [])
        return [
            {
                "name": f"{CONTAINER}-{place}",
                "image": image,
                "args": [*words, "--timeout", "0"],
                "env": env,
            }
            for place, words in enumerate(commands(targets))
        ]
    return []


def given(objects: list[Object]) -> Iterator[tuple[str, list[str], list[str]]]:
    """For each workload with a gate: its name, the loop's words, and the command lines of wait4x."""
    for each in objects:
        for container in (pod_spec(each) or {}).get("initContainers", ()):
            if is_gate(container):
                targets = understand(container["args"], {}).root
                lines = [" ".join(words) for words in commands(targets)]
                yield each["metadata"]["name"], names(targets), lines


def names(targets: Node) -> list[str]:
    """All names in them, each once."""
    found: dict[str, None] = {}
    for leaf in leaves(targets):
        hosts = [host for host, _ in leaf.hosts] or [leaf.host]
        found |= dict.fromkeys(host for host in hosts if host)
    return list(found)


def commands(targets: Node) -> list[list[str]]:
    """The words of wait4x that come closest, each once."""
    return list(map(list, dict.fromkeys(tuple(words) for words in _asked(targets))))


def _asked(node: Node) -> Iterator[list[str]]:
    if isinstance(node, Group):
        members = node.members
        if node.kind == "any":
            members = tuple(
                member
                for member in node.members
                if isinstance(member, Group) or member.scheme.name != "file"
            )[:1]
        for member in members:
            yield from _asked(member)
        return
    match node.scheme.name:
        case "dns":
            yield ["dns", "A", node.host]
        case "tcp":
            yield ["tcp", f"{node.host}:{node.port}"]
        case "zookeeper":
            for host, port in node.hosts:
                yield ["tcp", f"{host}:{port}"]
        case "mysql":
            yield ["mysql", f"{node.user}:$(MYSQL_PWD)@tcp({node.host}:{node.port}){node.path}"]
        case "http":
            url = f"http://{node.where()}{node.path}?{node.query}"
            yield ["http", url, "--expect-body-json", _found_by(node)]
        case other:
            raise Failed(f"nobody has said what wait4x is given for {other}")


def _found_by(page: Target) -> str:
    """The query in wait4x's language for an element that has all values the target asks of the first."""
    query = ""
    for text in page.texts("json"):
        where, _, value = text.partition(":")
        array, _, field = where.partition("[0].")
        wanted = value if value.isdigit() else f'"{value}"'
        query = f"{query}#|#({field}=={wanted})" if query else f"{array}.#({field}=={wanted})"
    return query
