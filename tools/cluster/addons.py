"""What every cluster has besides its control plane: CoreDNS, as kubeadm sets it up."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tools.cluster import BIN, DNS_SERVICE, NODES, STATE, kubeconfig
from tools.cluster.images import REGISTRY

# kubectl as the cluster's administrator.
KUBECTL = (
    str(BIN / "kubectl"),
    f"--kubeconfig={kubeconfig('admin')}",
    f"--cache-dir={STATE}/kubectl",
)

# kubeadm's Corefile of Kubernetes 1.34: denials of the cluster's own zone are not cached.
COREFILE = """.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""


def kubectl(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the cluster's administrator, from where the API server can be reached."""
    return subprocess.run(
        [*KUBECTL, *words],
        input=given,
        capture_output=True,
        text=True,
    )


def apply() -> None:
    """Create CoreDNS."""
    listed = {"apiVersion": "v1", "kind": "List", "items": coredns()}
    done = kubectl("apply", "--server-side", "-f", "-", given=json.dumps(listed))
    done.check_returncode()


def ready() -> bool:
    """Whether the nodes and CoreDNS are, and a pod could have its account."""
    nodes = kubectl("get", "nodes", "-o", "json")
    if nodes.returncode:
        return False
    conditions = [
        condition["status"]
        for node in json.loads(nodes.stdout)["items"]
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    ]
    if conditions != ["True"] * len(NODES):
        return False
    if kubectl("get", "serviceaccount", "default").returncode:
        return False
    deployment = kubectl("-n", "kube-system", "get", "deployment", "coredns", "-o", "json")
    held: dict[str, Any] = json.loads(deployment.stdout) if deployment.stdout else {}
    return bool(held.get("status", {}).get("readyReplicas"))


def coredns() -> list[dict[str, Any]]:
    """Its objects."""
    meta = {"name": "coredns", "namespace": "kube-system"}
    labels = {"k8s-app": "kube-dns"}
    version = (BIN / "coredns").resolve().name.rpartition("-")[2]
    rules = [
        {
            "apiGroups": [""],
            "resources": ["endpoints", "services", "pods", "namespaces"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "watch"],
        },
    ]
    container = {
        "name": "coredns",
        "image": f"{REGISTRY}/coredns:{version}",
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:coredns",
            },
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta,
            "data": {"Corefile": COREFILE},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**meta, "labels": labels},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "serviceAccountName": "coredns",
                        "dnsPolicy": "Default",
                        "containers": [container],
                        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {
                "clusterIP": DNS_SERVICE,
                "selector": labels,
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                    {"name": "metrics", "port": 9153, "protocol": "TCP"},
                ],
            },
        },
    ]
