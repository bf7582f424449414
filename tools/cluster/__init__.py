"""A real Kubernetes of two nodes on this machine, for the tests: up in seconds, gone without a trace.

    python -m tools.cluster up        start it, return once it works
    python -m tools.cluster down      end it

All of it (etcd, API server, controllers, scheduler, and for each node containerd, kubelet and
kube-proxy) lives in one pid namespace and one mount namespace, each node in a network namespace of its
own. When the first process of that pid namespace ends, for whatever reason, the kernel ends all others,
containers included, and their mounts and networks go with them; the control groups that remain are
removed by a janitor that waits for that. It needs root, control groups of version 1, and the
programs that `tools.servers` brings (`cluster`).
"""

from __future__ import annotations

from pathlib import Path

from tools.servers import cache

# All that a running cluster writes.
STATE = cache() / "cluster"
BIN = cache() / "bin"
NODES = ("node-1", "node-2")
# Each node's address on the bridge between them, and the range of its pods.
ADDRESSES = {"node-1": "10.77.0.1", "node-2": "10.77.0.2"}
PODS = {"node-1": "10.78.1.0/24", "node-2": "10.78.2.0/24"}
SERVICES = "10.96.0.0/16"
API_SERVICE, DNS_SERVICE = "10.96.0.1", "10.96.0.10"
API = f"https://{ADDRESSES['node-1']}:6443"
CONTROL_GROUPS = Path("/sys/fs/cgroup")
# The file that lists which of the machine's folders were made to put the cluster's own over them.
MADE = "made"
# What the control groups of a cluster are called: this, and a number of their own.
GROUP = "service-precheck-cluster-"


def kubeconfig(user: str) -> Path:
    """The kubeconfig file of `admin`, `system:kube-scheduler` and so on."""
    return STATE / "pki" / f"{user.replace(':', '-')}.kubeconfig"


def control_group() -> str:
    """The name of the running cluster's control group in each hierarchy."""
    return GROUP + (STATE / "number").read_text()
