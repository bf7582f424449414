"""The programs of the cluster: how each is started, and that all still run."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tools.cluster import (
    ADDRESSES,
    BIN,
    NODES,
    PODS,
    SERVICES,
    STATE,
    control_group,
    kubeconfig,
)
from tools.cluster.pki import PKI

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOGS = STATE / "logs"
AUDIT = LOGS / "audit.log"
# Who wrote what, and how much of it: what the benchmark counts. What a Secret holds is not logged.
WRITES = ("create", "update", "patch", "delete", "deletecollection")
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
        {"level": "Request", "verbs": list(WRITES)},
        {"level": "Metadata"},
    ],
}


class Daemons:
    """Programs that run until the end of the cluster."""

    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, words: Sequence[str], network: int | None = None) -> None:
        """Start one, in the network namespace of the process `network` or our own."""
        LOGS.mkdir(parents=True, exist_ok=True)
        inside = [] if network is None else ["nsenter", f"--net=/proc/{network}/ns/net"]
        with (LOGS / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [*inside, *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
            )

    def ended(self) -> str:
        """The name of one that ended, empty if all run."""
        return next((name for name, p in self.running.items() if p.poll() is not None), "")


def etcd() -> list[str]:
    """etcd, for the API server alone; what it holds need not outlive the machine."""
    clients, peers = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        *(str(BIN / "etcd"), "--unsafe-no-fsync", "--log-level=warn"),
        f"--data-dir={STATE}/etcd",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
    ]


def api_server() -> list[str]:
    """The API server, with what a cluster of today has, and an audit log."""
    policy = STATE / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    return [
        str(BIN / "kube-apiserver"),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={ADDRESSES['node-1']}",
        f"--service-cluster-ip-range={SERVICES}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={PKI}/service-account.pub",
        f"--service-account-signing-key-file={PKI}/service-account.key",
        f"--client-ca-file={PKI}/ca.crt",
        f"--tls-cert-file={PKI}/kube-apiserver.crt",
        f"--tls-private-key-file={PKI}/kube-apiserver.key",
        f"--kubelet-certificate-authority={PKI}/ca.crt",
        f"--kubelet-client-certificate={PKI}/kube-apiserver-kubelet-client.crt",
        f"--kubelet-client-key={PKI}/kube-apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={AUDIT}",
    ]


def controller_manager() -> list[str]:
    """The controllers of all kinds that the API server has."""
    return [
        str(BIN / "kube-controller-manager"),
        f"--kubeconfig={kubeconfig('system:kube-controller-manager')}",
        f"--root-ca-file={PKI}/ca.crt",
        f"--service-account-private-key-file={PKI}/service-account.key",
        f"--service-cluster-ip-range={SERVICES}",
        "--use-service-account-credentials",
        "--leader-elect=false",
    ]


def scheduler() -> list[str]:
    """The scheduler."""
    return [
        str(BIN / "kube-scheduler"),
        f"--kubeconfig={kubeconfig('system:kube-scheduler')}",
        "--leader-elect=false",
    ]


class Node:
    """The files and programs of one node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder: Path = STATE / name
        self.socket = self.folder / "containerd.sock"
        self.network: int | None = None

    def write(self) -> None:
        """Write what its programs read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "containerd.toml").write_text(self._containerd())
        (self.folder / "cni").mkdir(exist_ok=True)
        (self.folder / "cni" / "10-bridge.conflist").write_text(json.dumps(self._cni()))
        (self.folder / "kubelet.json").write_text(json.dumps(self._kubelet()))
        (self.folder / "kube-proxy.json").write_text(json.dumps(self._proxy()))
        # What a node of its own would have: a resolver that answers nobody.
        (self.folder / "resolv.conf").write_text("nameserver 10.77.0.53\n")

    def containerd(self) -> list[str]:
        """Its container runtime."""
        return ["containerd", "--config", str(self.folder / "containerd.toml")]

    def kubelet(self) -> list[str]:
        """Its kubelet."""
        return [
            *(str(BIN / "kubelet"), f"--config={self.folder}/kubelet.json"),
            f"--kubeconfig={kubeconfig(f'system:node:{self.name}')}",
            f"--hostname-override={self.name}",
            f"--node-ip={ADDRESSES[self.name]}",
            f"--root-dir={self.folder}/kubelet",
        ]

    def proxy(self) -> list[str]:
        """Its kube-proxy."""
        return [str(BIN / "kube-proxy"), f"--config={self.folder}/kube-proxy.json"]

    def _containerd(self) -> str:
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        runc = f"{cri}.containerd.runtimes.runc"
        return f"""version = 2
root = "{self.folder}/containerd"
state = "{self.folder}/run"
[grpc]
address = "{self.socket}"
[{cri}]
sandbox_image = "service-precheck.test/pause:1"
restrict_oom_score_adj = true
[{cri}.containerd]
default_runtime_name = "runc"
[{runc}]
runtime_type = "io.containerd.runc.v2"
[{runc}.options]
SystemdCgroup = false
[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{self.folder}/cni"
"""

    def _cni(self) -> dict[str, object]:
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": f"{self.folder}/ipam",
                "ranges": [[{"subnet": PODS[self.name]}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, portmap]}

    def _kubelet(self) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "x509": {"clientCAFile": f"{PKI}/ca.crt"},
            },
            "tlsCertFile": f"{PKI}/kubelet-{self.name}.crt",
            "tlsPrivateKeyFile": f"{PKI}/kubelet-{self.name}.key",
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{control_group()}/{self.name}",
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "1Mi"},
            "clusterDomain": "cluster.local",
            "clusterDNS": ["10.96.0.10"],
            "resolvConf": str(self.folder / "resolv.conf"),
            "podLogsDir": str(self.folder / "pod-logs"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
            "healthzPort": 10248,
            "serializeImagePulls": False,
            "registerNode": True,
        }

    def _proxy(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig("system:kube-proxy"))},
            "mode": "nftables",
            "hostnameOverride": self.name,
            "clusterCIDR": "10.78.0.0/16",
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }


def nodes() -> list[Node]:
    """The nodes, the first with the control plane beside it."""
    return [Node(name) for name in NODES]
