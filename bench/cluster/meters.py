"""What a cluster's own programs did: API writes, containers, cpu, DNS queries.

| figure             | read from                                                                     |
|--------------------|-------------------------------------------------------------------------------|
| API writes         | the API server's audit log; bytes are those of the request's object as JSON,  |
|                    | which is neither what goes over the wire nor what is stored                   |
| containers         | the kubelets' own metrics                                                     |
| cpu of the nodes   | a control group around each kubelet, and one around each containerd, which    |
|                    | the shims and runc are born into; a container's own processes leave it        |
| DNS queries, cpu   | CoreDNS's own metrics                                                         |
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.cluster.account import CPU, move
from bench.launch import Failed
from tests.cluster.bed import Cluster
from tools.cluster import control_group
from tools.cluster.daemons import AUDIT, WRITES, nodes

Event = dict[str, Any]
SYSTEM = "kube-system"
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Written(NamedTuple):
    """Write requests, and the bytes of their objects."""

    requests: int
    bytes: int


def written(events: Iterable[Event], namespace: str) -> dict[str, Written]:
    """What each program wrote to the API in a namespace."""
    found: dict[str, Written] = {}
    for event in events:
        if event["verb"] in WRITES and event.get("objectRef", {}).get("namespace") == namespace:
            given = event.get("requestObject")
            size = 0 if given is None else len(json.dumps(given, separators=(",", ":")).encode())
            agent = event["userAgent"].partition("/")[0]
            before = found.get(agent, Written(0, 0))
            found[agent] = Written(before.requests + 1, before.bytes + size)
    return found


def of_nodes(events: Iterable[Event]) -> int:
    """How many writes said how the nodes are: their leases and themselves."""
    return sum(
        event["verb"] in WRITES
        and event.get("objectRef", {}).get("resource") in ("leases", "nodes")
        for event in events
    )


def applied(events: Iterable[Event], namespace: str) -> float:
    """When the API server got the first object that kubectl brought into a namespace, by `time.time()`;
    0 if there is none."""
    times = [
        event["requestReceivedTimestamp"]
        for event in events
        if event["verb"] in WRITES
        and event.get("objectRef", {}).get("namespace") == namespace
        and event["userAgent"].startswith("kubectl/")
    ]
    return datetime.datetime.fromisoformat(min(times)).timestamp() if times else 0.0


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric in Prometheus's text format, over all series with these labels."""
    total = 0.0
    for found, given, value in SAMPLE.findall(text):
        if found == name and labels.items() <= dict(LABEL.findall(given)).items():
            total += float(value)
    return total


class Audit:
    """The audit log, from where it was last read."""

    def __init__(self, file: Path = AUDIT) -> None:
        self._file = file
        self._place = file.stat().st_size

    def read(self) -> Iterator[Event]:
        """What was logged since then."""
        with self._file.open("rb") as file:
            file.seek(self._place)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._place += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)


class Reading(NamedTuple):
    """What was used and done up to a moment: cpu in seconds."""

    containers: float
    kubelets: float
    runtimes: float
    queries: float

    def since(self, before: Reading) -> Reading:
        """What came since an earlier one."""
        return Reading(*(now - then for now, then in zip(self, before, strict=True)))


class Meters:
    """The meters of a cluster, which begin when this is made."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._groups: dict[str, list[Path]] = {"kubelet": [], "containerd": []}
        for node in nodes():
            marks = {
                "kubelet": (f"--config={node.folder}/kubelet.json",),
                "containerd": (f"{node.folder}/containerd.toml", str(node.socket)),
            }
            for kind, groups in self._groups.items():
                group = CPU / control_group() / f"{node.name}-{kind}"
                group.mkdir(exist_ok=True)
                groups.append(group)
                for pid in processes(*marks[kind]):
                    move(pid, group)

    def read(self) -> Reading:
        """What they show now."""
        kubelets = [
            self._cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node.name}/proxy/metrics")
            for node in nodes()
        ]
        return Reading(
            sum(metric(text, "kubelet_started_containers_total") for text in kubelets),
            self._cpu("kubelet"),
            self._cpu("containerd"),
            metric(coredns(self._cluster), "coredns_dns_requests_total"),
        )

    def _cpu(self, kind: str) -> float:
        return sum(int((group / "cpuacct.usage").read_text()) / 1e9 for group in self._groups[kind])


def coredns(cluster: Cluster) -> str:
    """CoreDNS's metrics."""
    name = coredns_pod(cluster)["metadata"]["name"]
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{name}:9153/proxy/metrics"
    return cluster.kubectl("get", "--raw", path)


def coredns_pod(cluster: Cluster) -> dict[str, Any]:
    """The one pod of CoreDNS that is not about to go."""
    listed = cluster.kubectl("-n", SYSTEM, "get", "pods", "-l=k8s-app=kube-dns", "-o=json")
    pods = [
        pod
        for pod in json.loads(listed)["items"]
        if "deletionTimestamp" not in pod["metadata"] and "podIP" in pod["status"]
    ]
    if len(pods) != 1:
        raise Failed(f"{len(pods)} pods of CoreDNS where there should be one")
    found: dict[str, Any] = pods[0]
    return found


def processes(*marks: str) -> list[int]:
    """The processes with one of these words on their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if set(marks) & set(words):
            found.append(int(file.parent.name))
    return found
