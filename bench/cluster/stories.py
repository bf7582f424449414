"""The stories of `examples/kubernetes` in four ways, and what their dependencies alone take.

The critical path is the time that the dependencies take when nobody waits in a pod: MySQL's StatefulSet
alone; for HDFS each layer applied by hand at the moment at which what it needs is Ready. Time counts
from the API server's first object of a layer, so that the hand itself costs nothing, and ends when all
pods are Ready, or done, and still are three seconds later.

A ZooKeeper ends when it does not find its own name, which no hand can bring before its pod. A critical
path with restarts in it would be easy to keep to, so there a line of shell in its own container starts
it at the moment at which it can find it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import tools.cluster.hadoop
import tools.cluster.services
from bench.cluster import images, meters
from bench.cluster.account import account, quiet, undisturbed
from bench.cluster.gates import Sampler, folders
from bench.cluster.meters import Audit, Meters
from bench.cluster.outcome import PATH, Figures, rows
from bench.cluster.place import standing
from bench.cluster.watch import Watch
from bench.cluster.ways import WAYS, Object, pod_spec, rewritten, ungated
from bench.launch import Failed
from bench.results import MEBI, MILLI, Row
from bench.rivals import GATE, PORT, WAIT4X, Field
from tests.cluster.bed import EXAMPLES, Cluster, Namespace, until
from tools.cluster import CONTROL_GROUPS, NODES, control_group

# What must not change for so long before a story is over.
SETTLE = 3.0
# What applies together, by the names of its workloads, and how many pods of which must be Ready then.
Layer = tuple[tuple[str, ...], dict[str, int]]


class Story:
    """A folder of manifests, and the layers of its dependencies; their last one ends Ready as a whole.

    On the critical path the containers of the workload `named` begin once they find their own name.
    """

    def __init__(
        self,
        name: str,
        layers: tuple[Layer, ...],
        images: tuple[Path, ...],
        *,
        patience: float,
        named: str = "",
    ) -> None:
        self.name = name
        self.layers = layers
        self.images = images
        self.patience = patience
        self.named = named


MYSQL = Story(
    "mysql",
    ((("mysql",), {}),),
    (tools.cluster.services.archive(),),
    patience=300,
)
# A name node needs a majority of ZooKeeper and all journal nodes, since it formats them; a data node
# needs one name node; the Job needs a data node.
HDFS = Story(
    "hdfs",
    (
        (("zookeeper", "journal"), {"zookeeper": 2, "journal": 3}),
        (("namenode",), {"namenode": 1}),
        (("datanode",), {"datanode": 1}),
        (("copy",), {}),
    ),
    (tools.cluster.services.archive(), tools.cluster.hadoop.archive()),
    patience=1200,
    named="zookeeper",
)

STORIES = {story.name: story for story in (MYSQL, HDFS)}


def mysql(field: Field, *, quick: bool) -> Iterator[Row]:
    """Apps that wait for a primary and its replicas."""
    return measured(MYSQL, field, 1 if quick else 5)


def hdfs(field: Field, *, quick: bool) -> Iterator[Row]:
    """Daemons that wait for ZooKeeper and for each other, and a Job."""
    return measured(HDFS, field, 1 if quick else 5)


def measured(story: Story, field: Field, rounds: int) -> Iterator[Row]:
    """The story in all ways, in rounds whose order turns. A run that fails is told and left out."""
    found: list[dict[str, Figures]] = [{} for _ in range(rounds)]
    failed: list[str] = []
    ways = [PATH, *WAYS]
    # The first does not count: it brings into memory what the images hold.
    turns = [(0, GATE)]
    turns += [
        (turn, ways[(turn + place) % len(ways)])
        for turn in range(1, rounds + 1)
        for place in range(len(ways))
    ]
    with standing() as cluster:
        give(cluster, story, field)
        gauge = Meters(cluster)
        idle = idling(gauge)
        for turn, way in turns:
            try:
                figures = undisturbed(
                    partial(played, cluster, story, way, gauge), lambda one: one["others"]
                )
            except (Failed, AssertionError, OSError, subprocess.SubprocessError) as error:
                told = f"not measured: {' '.join(str(error).split())[:400]}"
                if turn:
                    failed.append(f"Round {turn}, {way}, {told}")
            else:
                told = f"{figures['time']:.1f} s, {figures['restarts']:.0f} restarts"
                told += f", {figures['others']:.0f}% of the machine taken by others"
                if turn:
                    found[turn - 1][way] = figures
            print(f"  {story.name}, round {turn}, {way}: {told}", file=sys.stderr, flush=True)
    yield from rows(story.name, found, failed, idle)


def give(cluster: Cluster, story: Story, field: Field) -> None:
    """Give the nodes the images that the story needs in all ways."""
    if WAIT4X not in field.rivals:
        raise Failed(f"no wait4x: {field.missing.get(WAIT4X)}")
    program = (field.rivals[WAIT4X].command(PORT, "x:1") or [""])[0]
    for archive in (*story.images, images.loop(), images.wait4x(Path(program))):
        if not archive.exists():
            raise Failed(f"{archive.name} is missing (`python -m tools.servers cluster`)")
        cluster.load(archive)


def idling(gauge: Meters, seconds: float = 10.0) -> str:
    """A sentence on what a cluster's nodes use that has nothing to do."""
    before = gauge.read()
    time.sleep(seconds)
    used = gauge.read().since(before)
    share = 60 / seconds
    return (
        f"With nothing to do the kubelets use {used.kubelets * share:.1f} s of cpu a minute, "
        f"and the containerds {used.runtimes * share:.1f} s."
    )


def layers(story: Story, objects: list[Object]) -> list[tuple[list[Object], Counter[str]]]:
    """The objects of each layer, and the pods that must be Ready before the next; all at the end.

    What is no workload comes with the first layer; workloads of no layer depend on others and do not come.
    """
    for each in objects:
        if pod_spec(each) and each["metadata"]["name"] == story.named:
            by_its_name(each)
    made: list[tuple[list[Object], Counter[str]]] = []
    plain = [each for each in objects if pod_spec(each) is None]
    for names, then in story.layers:
        chosen = [each for each in objects if pod_spec(each) and each["metadata"]["name"] in names]
        made.append(([*plain, *chosen], Counter(then)))
        plain = []
    last, _ = made[-1]
    made[-1] = (last, wanted([each for layer, _ in made for each in layer]))
    return made


def by_its_name(workload: Object) -> None:
    """Let a StatefulSet's container begin at the moment at which it finds its own name."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    waits = f"until getent hosts $HOSTNAME.{workload['spec']['serviceName']}; do sleep 0.01; done"
    container["command"] = ["sh", "-c", f'{waits}; exec "$@"', "sh", *container["command"]]


def wanted(objects: list[Object]) -> Counter[str]:
    """How many pods of each `app` the workloads among these have."""
    return Counter(
        {
            each["spec"]["template"]["metadata"]["labels"]["app"]: each["spec"].get("replicas", 1)
            for each in objects
            if pod_spec(each) is not None
        }
    )


def played(cluster: Cluster, story: Story, way: str, gauge: Meters) -> Figures:
    """Play a story to its end, in a namespace of its own that is gone afterwards."""
    namespace = Namespace(cluster, f"{story.name}-{way}")
    before = containers()
    namespace.create()
    # Pods mount it, and a controller brings it.
    root = ("get", "configmap", "kube-root-ca.crt", "-o=name", "--ignore-not-found")
    until(lambda: bool(namespace.kubectl(*root)), "the authority's ConfigMap")
    try:
        objects = namespace.rendered(EXAMPLES / story.name)
        if way == PATH:
            steps = layers(story, ungated(objects))
        else:
            objects = rewritten(objects, way)
            steps = [(objects, wanted(objects))]
        quiet()
        return _play(cluster, namespace, steps, story.patience, gauge)
    finally:
        namespace.delete()
        named = ("get", "namespace", namespace.name, "-o=name", "--ignore-not-found")
        until(lambda: not cluster.kubectl(*named) and containers() == before, "its end")


def _play(
    cluster: Cluster,
    namespace: Namespace,
    steps: list[tuple[list[Object], Counter[str]]],
    patience: float,
    gauge: Meters,
) -> Figures:
    took = 0.0
    with Watch(cluster, namespace.name) as watch, Sampler() as sampler:
        before, spent = gauge.read(), account()
        audit = Audit()
        events: list[meters.Event] = []
        for left, (objects, then) in enumerate(steps, 1 - len(steps)):
            namespace.apply(*objects)
            began, new = _began(audit, namespace.name)
            took += watch.until(then, patience, 0.0 if left else SETTLE) - began
            events += new
        others = spent.others()
        used = gauge.read().since(before)
        events += audit.read()
        gates = sampler.used(watch.pods.gates)
        restarts = watch.pods.restarts()
    figures: Figures = {
        "time": took,
        "restarts": restarts,
        "events": happened(namespace),
        "containers": used.containers,
        "kubelets": used.kubelets,
        "runtimes": used.runtimes,
        "queries": used.queries,
        "nodes": meters.of_nodes(events),
        "others": others,
    }
    for agent, one in meters.written(events, namespace.name).items():
        figures[f"writes/{agent}"] = one.requests
        figures[f"bytes/{agent}"] = one.bytes / 1024
    for kind in ("writes", "bytes"):
        parts = (value for key, value in figures.items() if key.startswith(f"{kind}/"))
        figures[kind] = sum(parts)
    if gates:
        figures["gates-cpu"] = sum(each.cpu for each in gates) * MILLI
        figures["gates-peak"] = max(each.peak for each in gates) * MEBI
    return figures


def _began(audit: Audit, namespace: str) -> tuple[float, list[meters.Event]]:
    """When the API server got the first of what was just applied, and all that it logged so far."""
    events: list[meters.Event] = []
    end = time.monotonic() + 5
    while time.monotonic() < end:
        events += audit.read()
        at = meters.applied(events, namespace)
        if at:
            return at, events
        time.sleep(0.01)
    raise Failed("the audit log has nothing of what was applied")


def happened(namespace: Namespace) -> int:
    """How often something happened that there is an Event of."""
    return sum(
        each.get("count") or (each.get("series") or {}).get("count") or 1
        for each in namespace.get("events")["items"]
    )


def containers() -> int:
    """How many containers have control groups, those of pods themselves included."""
    cpu = CONTROL_GROUPS / "cpuacct" / control_group()
    return sum(
        len(folders(pod))
        for node in NODES
        for kind in ("", "besteffort", "burstable")
        for pod in folders(cpu / node / "kubepods" / kind, "pod")
    )
