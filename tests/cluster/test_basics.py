"""The post's idea on a real cluster: a pod waits for a name, then runs; and what the bed promises."""

from __future__ import annotations

import json

import pytest

from tests.cluster.bed import Cluster, Namespace, until
from tools.cluster.images import REGISTRY

pytestmark = [pytest.mark.timeout(300)]

BUSYBOX = f"{REGISTRY}/busybox:1"
OURS = f"{REGISTRY}/service-precheck:1"


def waiting_pod(*targets: str) -> dict[str, object]:
    """A pod whose one container runs behind the gate, hardened as `restricted` asks."""
    harden = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "shop"},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [
                {
                    "name": "precheck",
                    "image": OURS,
                    "imagePullPolicy": "IfNotPresent",
                    "args": list(targets),
                    "resources": {"limits": {"cpu": "10m", "memory": "16Mi"}},
                    "securityContext": harden,
                }
            ],
            "containers": [
                {
                    "name": "shop",
                    "image": BUSYBOX,
                    "command": ["/bin/sleep", "infinity"],
                    "securityContext": harden,
                }
            ],
        },
    }


def test_a_pod_waits_for_a_name(namespace: Namespace) -> None:
    """A name of the cluster holds the pod back until its Service is created, without one restart."""
    namespace.apply(waiting_pod(f"mysql.{namespace.name}"))
    until(
        lambda: (
            "[name-not-found]" in namespace.kubectl("logs", "shop", "-c", "precheck", check=False)
        ),
        namespace.story,
    )
    assert namespace.get("pod", "shop")["status"]["phase"] == "Pending"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mysql"},
        "spec": {"selector": {"app": "mysql"}, "ports": [{"port": 3306}]},
    }
    namespace.apply(service)
    until(lambda: namespace.get("pod", "shop")["status"]["phase"] == "Running", namespace.story)
    assert set(namespace.restarts().values()) == {0}
    assert "resolves to" in namespace.kubectl("logs", "shop", "-c", "precheck")


def test_restricted_admission_lets_it_in(cluster: Cluster) -> None:
    """The hardened pod is admitted where Pod Security `restricted` is enforced; a plain one is not."""
    namespace = Namespace(cluster, "restricted")
    namespace.create()
    cluster.kubectl(
        "label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted"
    )
    try:
        namespace.apply(waiting_pod("localhost"))
        plain = waiting_pod("localhost")
        plain["metadata"] = {"name": "plain"}
        spec = plain["spec"]
        assert isinstance(spec, dict)
        del spec["securityContext"]
        told = namespace.kubectl("apply", "-f", "-", given=json.dumps(plain), check=False)
        assert "violates PodSecurity" in told
        until(lambda: namespace.get("pod", "shop")["status"]["phase"] == "Running", namespace.story)
    finally:
        namespace.delete()


def test_two_nodes_are_ready(cluster: Cluster) -> None:
    """Both nodes run pods, and the audit log tells who asked the API server for what."""
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o=json"))["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["node-1", "node-2"]
    agents = {event.get("userAgent", "").partition("/")[0] for event in cluster.audit()}
    assert {"kubelet", "kubectl", "kube-scheduler", "CoreDNS"} <= agents
