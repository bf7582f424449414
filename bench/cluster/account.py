"""Whose cpu it was: the cluster's and the benchmark's own, or somebody else's on the same machine.

A machine that somebody else keeps busy makes figures of little worth, so each run says how much of it
went elsewhere; time that a hypervisor took counts among it. The kernel's own work on packets is
nobody's, and makes a few percent that are no sign of anybody else.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from bench import pages
from tests.cluster.bed import Cluster
from tools.cluster import CONTROL_GROUPS, control_group

CPU = CONTROL_GROUPS / "cpuacct"
# A machine is quiet where others took no more percent of it for so long; for that we wait so long at most.
QUIET, LASTING, PATIENCE = 10.0, 3.0, 600.0
# How often something is measured at most before it counts whatever others took.
TRIES = 3

T = TypeVar("T")


@contextlib.contextmanager
def kept(cluster: Cluster) -> Iterator[None]:
    """Put all of the cluster, and ourselves, below the cluster's control group, where they are counted."""
    before = next(
        line.rpartition(":")[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if "cpuacct" in line.split(":")[1].split(",")
    )
    group = CPU / control_group() / "own"
    group.mkdir(exist_ok=True)
    space = os.readlink(f"/proc/{cluster.first}/ns/pid")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            inside = os.readlink(folder / "ns" / "pid") == space
            # What runs in a pod's group is counted there.
            if inside and "/kubepods" not in (folder / "cgroup").read_text():
                move(int(folder.name), group)
    move(os.getpid(), group)
    try:
        yield
    finally:
        move(os.getpid(), CPU / before.lstrip("/"))


def move(pid: int, group: Path) -> None:
    """Put a process into a group; what it starts from now on is born there."""
    (group / "cgroup.procs").write_text(str(pid))


class Account(NamedTuple):
    """How it stood at a moment: the machine's own count, the time, and our cpu in seconds."""

    jiffies: list[int]
    at: float
    own: float

    def others(self) -> float:
        """The share of the machine that was somebody else's since then, in percent."""
        now = account()
        busy, _ = pages.spent(self.jiffies)
        cores = os.cpu_count() or 1
        return max(0.0, busy - (now.own - self.own) / (now.at - self.at) / cores) * 100


def account() -> Account:
    """How it stands now."""
    own = int((CPU / control_group() / "cpuacct.usage").read_text()) / 1e9
    return Account(pages.jiffies(), time.monotonic(), own)


def quiet() -> None:
    """Wait for a quiet machine; where it does not come, what is measured then will tell."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        before = account()
        time.sleep(LASTING)
        if before.others() <= QUIET:
            return


def undisturbed(measure: Callable[[], T], others: Callable[[T], float]) -> T:
    """What `measure` gives, once others took no more of the machine than a quiet one has to give; what
    the last of three tries gives otherwise. `others` is what they took, in percent."""
    for _ in range(TRIES - 1):
        found = measure()
        if others(found) <= QUIET:
            return found
    return measure()
