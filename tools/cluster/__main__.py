"""`python -m tools.cluster up|down`: the cluster for work by hand."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.cluster import BIN, CONTROL_GROUPS, GROUP, MADE, STATE, control_group, images
from tools.cluster.addons import KUBECTL
from tools.cluster.daemons import nodes

ROOT = Path(__file__).resolve().parents[2]
# The gate's image as the manifests under `examples/` name it.
IMAGE = "registry.example/service-precheck:0.1.0"
UNSHARE = "unshare --pid --fork --kill-child --mount --mount-proc --net --propagation private"
PROGRAMS = (
    *("etcd", "coredns", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "kubectl"),
)
TOOLS = ("containerd", "ctr", "runc", "nft", "conntrack", "ip", "nsenter", "unshare", "busybox")


def missing() -> str:
    """What keeps a cluster from running here, empty if nothing does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs root on Linux"
    if not (CONTROL_GROUPS / "memory" / "cgroup.procs").exists():
        return f"it needs control groups of version 1 (cgroups(7)), and {CONTROL_GROUPS} has others"
    lacking = [name for name in PROGRAMS if not (BIN / name).exists()]
    lacking += [name for name in TOOLS if shutil.which(name) is None]
    return f"missing: {' '.join(lacking)} (`python -m tools.servers cluster`)" if lacking else ""


def pid() -> int:
    """The process that holds the cluster, as this machine numbers it; 0 if none runs."""
    try:
        number = int((STATE / "pid").read_text())
        return number if b"tools.cluster" in Path(f"/proc/{number}/cmdline").read_bytes() else 0
    except (OSError, ValueError):
        return 0


def first(outer: int) -> int:
    """Process 1 inside, as this machine numbers it."""
    return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])


def up(owner: int = 0) -> int:
    """Start it; with `owner`, it ends when that process does. Gives an exit status."""
    if why := missing():
        print(f"no cluster here: {why}", file=sys.stderr)
        return 1
    if pid():
        print("it is up already", file=sys.stderr)
        return 0
    sweep()
    STATE.mkdir(parents=True)
    (STATE / "number").write_text(f"{os.getpid()}-{time.monotonic_ns() & 0xFFFFFF:x}")
    inside = f"exec {UNSHARE} {shlex.quote(sys.executable)} -m tools.cluster.inside"
    detached(f"echo $$ >pid.part && mv pid.part pid && {inside}", STATE / "outer.log")
    end = time.monotonic() + 10
    while not (STATE / "pid").exists() and time.monotonic() < end:
        time.sleep(0.01)
    janitor(int((STATE / "pid").read_text()), owner)
    while not (STATE / "told").exists():
        if not pid():
            print((STATE / "outer.log").read_text()[-3000:], file=sys.stderr)
            return 1
        time.sleep(0.05)
    word, _, text = (STATE / "told").read_text().partition(" ")
    if word == "failed":
        print(text.strip(), file=sys.stderr)
        return 1
    print(f"up after {text.strip()} s")
    return 0


def by_hand() -> None:
    """Add what work by hand needs: a kubectl, and the gate's image by the name that examples give it."""
    for node in nodes():
        images.put(node, images.ours(ROOT / "dist" / "image"))
        images.name(node, f"{images.REGISTRY}/service-precheck:1", IMAGE)
    program = STATE / "bin" / "kubectl"
    program.parent.mkdir(exist_ok=True)
    inside = ["nsenter", f"--net=/proc/{first(pid())}/ns/net", *KUBECTL]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(inside)} "$@"\n')
    program.chmod(0o755)
    print(f"export PATH={program.parent}:$PATH    # kubectl; the nodes have the image {IMAGE}")


def janitor(outer: int, owner: int) -> None:
    """Start what removes the control groups once all has ended, and the files too if the owner was killed."""
    groups = " ".join(str(hierarchy / control_group()) for hierarchy in CONTROL_GROUPS.iterdir())
    swept = shlex.join([sys.executable, "-m", "tools.cluster", "down"])
    script = f"""
    while kill -0 {outer} 2>/dev/null; do
        {f"kill -0 {owner} 2>/dev/null || kill -KILL {outer}" if owner else ":"}
        sleep 0.5
    done
    # The folder that it is in may be gone with its files, and another cluster's in its place.
    {f"kill -0 {owner} 2>/dev/null || [ ! -e number ] || {swept}" if owner else ":"}
    for try in 1 2 3 4 5 6 7 8 9 10; do
        find {groups} -depth -type d -exec rmdir {{}} + 2>/dev/null
        sleep 0.2
    done
    """
    detached(script, Path(os.devnull))


def detached(script: str, log: Path) -> None:
    """Run a shell script in the state's folder that outlives us."""
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", "sh", "-c", script],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=STATE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


def down() -> int:
    """End it, and wait until nothing is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        outer = pid()
        if not outer:
            break
        # Process 1 inside hears no SIGTERM until it is ready to; it dies with who holds it.
        inside = number == signal.SIGTERM
        with contextlib.suppress(IndexError, OSError):
            os.kill(first(outer) if inside else outer, number)
        end = time.monotonic() + 15
        while pid() and time.monotonic() < end:
            time.sleep(0.05)
    sweep()
    return 0


def sweep() -> None:
    """Remove what an ended cluster leaves: its control groups, its files, the folders it put its own over."""
    if (STATE / MADE).exists():
        for folder in (STATE / MADE).read_text().split():
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    for group in CONTROL_GROUPS.glob(f"*/{GROUP}*"):
        for folder, _, _ in os.walk(group, topdown=False):
            for _ in range(50):
                try:
                    os.rmdir(folder)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.05)
    shutil.rmtree(STATE, ignore_errors=True)


def main(words: list[str]) -> int:
    """Do what the first word says."""
    match words:
        case ["up"]:
            if status := up():
                return status
            by_hand()
            return 0
        case ["down"]:
            return down()
    print("python -m tools.cluster up|down", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
