"""Process 1 of the cluster's pid namespace: brings all up, tells how far it is, ends with all.

Started by `python -m tools.cluster up` through `unshare`; nobody else's business.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

from tools.cluster import (
    ADDRESSES,
    API,
    CONTROL_GROUPS,
    MADE,
    NODES,
    PODS,
    STATE,
    addons,
    control_group,
    images,
    pki,
)
from tools.cluster.daemons import (
    Daemons,
    api_server,
    controller_manager,
    etcd,
    nodes,
    scheduler,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 120.0


def main() -> None:
    """Run the cluster until told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    daemons = Daemons()
    try:
        began = time.monotonic()
        pki.make()
        own_folders()
        first, second = nodes()
        second.network = wire()
        control_groups()
        daemons.start("etcd", etcd())
        daemons.start("kube-apiserver", api_server())
        for node in (first, second):
            node.write()
            daemons.start(f"{node.name}-containerd", node.containerd(), node.network)
        for node in (first, second):
            until(node.socket.exists, daemons)
            images.load(node)
        until(api_is_ready, daemons)
        daemons.start("kube-controller-manager", controller_manager())
        daemons.start("kube-scheduler", scheduler())
        for node in (first, second):
            daemons.start(f"{node.name}-kubelet", node.kubelet(), node.network)
            daemons.start(f"{node.name}-kube-proxy", node.proxy(), node.network)
        addons.apply()
        until(addons.ready, daemons)
        tell("ready", f"{time.monotonic() - began:.1f}")
        while not (name := daemons.ended()):
            reap(daemons)
            time.sleep(0.2)
        tell("failed", f"{name} ended")
    except Failed as error:
        tell("failed", str(error))
        sys.exit(1)


class Failed(Exception):
    """What keeps the cluster from coming up."""


def tell(word: str, text: str) -> None:
    """Say how it stands, to whoever started us."""
    part = STATE / "told.part"
    part.write_text(f"{word} {text}\n")
    part.rename(STATE / "told")


def until(holds: Callable[[], bool], daemons: Daemons) -> None:
    """Wait for it; fail when a program ends, or it takes too long."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if name := daemons.ended():
            raise Failed(f"{name} ended; its log is in {STATE}/logs")
        if time.monotonic() > end:
            raise Failed(f"not up within {PATIENCE:.0f} s; the logs are in {STATE}/logs")
        time.sleep(0.05)


def reap(daemons: Daemons) -> None:
    """Collect what was orphaned to us, such as the shims of containers."""
    own = {process.pid for process in daemons.running.values()}
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (ended := os.waitid(os.P_ALL, 0, look)) is not None and ended.si_pid not in own:
        os.waitpid(ended.si_pid, 0)


def run(*words: str) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def own_folders() -> None:
    """Hide the machine's folders that container runtimes write to whatever they are told."""
    folders = "/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods"
    made = [folder for folder in folders if not os.path.isdir(folder)]
    (STATE / MADE).write_text("\n".join(made))
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", folder)


def wire() -> int:
    """Join the two nodes: a bridge here, an end of a cable in the other's network; gives whose it is."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
    own = os.readlink("/proc/self/ns/net")
    end = time.monotonic() + 10
    while os.readlink(f"/proc/{holder.pid}/ns/net") == own:
        if time.monotonic() > end:
            raise Failed("no network namespace for the second node")
        time.sleep(0.01)
    other = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
    one, two = NODES
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "nodes", "type", "bridge")
    run("ip", "address", "add", f"{ADDRESSES[one]}/24", "dev", "nodes")
    run("ip", "link", "set", "nodes", "up")
    run("ip", "link", "add", "cable", "type", "veth", "peer", "eth0", "netns", str(holder.pid))
    run("ip", "link", "set", "cable", "master", "nodes", "up")
    run(*other, "ip", "link", "set", "lo", "up")
    run(*other, "ip", "address", "add", f"{ADDRESSES[two]}/24", "dev", "eth0")
    run(*other, "ip", "link", "set", "eth0", "up")
    # Programs look for a default route to learn which address is theirs.
    run("ip", "route", "add", "default", "via", "10.77.0.254")
    run(*other, "ip", "route", "add", "default", "via", "10.77.0.254")
    run("ip", "route", "add", PODS[two], "via", ADDRESSES[two])
    run(*other, "ip", "route", "add", PODS[one], "via", ADDRESSES[one])
    for inside in ([], other):
        run(*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    return holder.pid


def control_groups() -> None:
    """Make each node's group in every hierarchy: the kubelet expects its root to be there."""
    for hierarchy in CONTROL_GROUPS.iterdir():
        if not (hierarchy / "cgroup.procs").exists():
            continue
        for node in NODES:
            for made in (hierarchy / control_group(), hierarchy / control_group() / node):
                made.mkdir(exist_ok=True)
                for name in ("cpuset.cpus", "cpuset.mems"):
                    if (made / name).exists():
                        (made / name).write_text((made.parent / name).read_text())


def api_is_ready() -> bool:
    """Whether the API server says so."""
    context = ssl.create_default_context(cafile=str(pki.PKI / "ca.crt"))
    context.load_cert_chain(pki.PKI / "admin.crt", pki.PKI / "admin.key")
    try:
        with urllib.request.urlopen(f"{API}/readyz", context=context, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
