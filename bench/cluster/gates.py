"""What gates cost where they run: cpu and peak memory of containers, from their control groups.

A group goes with its container, so all groups are looked at again and again. What is missed is the cpu
of the time after the last look, and a container that is gone before the first. The peak is the
kernel's own high-water mark; the pages of files that a container was the first to read are in it.
Both have what runc itself spends in the group before it becomes the program.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from tools.cluster import CONTROL_GROUPS, NODES, control_group

if TYPE_CHECKING:
    from types import TracebackType

EVERY = 0.025
# Where the kubelet puts pods, by what they ask for.
KINDS = ("", "besteffort", "burstable")


class Used(NamedTuple):
    """What a container used: cpu in seconds, its peak in bytes."""

    cpu: float
    peak: int


class Sampler:
    """Looks at the groups of every container, from entering on to leaving."""

    def __init__(self, hierarchies: Path = CONTROL_GROUPS, group: str = "") -> None:
        group = group or control_group()
        self._memory = hierarchies / "memory"
        self._cpu = hierarchies / "cpuacct"
        self._roots = [Path(group, node, "kubepods") for node in NODES]
        self._seen: dict[str, Used] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def used(self, containers: Iterable[str]) -> list[Used]:
        """What each of these containers used, as far as it was seen."""
        return [self._seen[each] for each in containers if each in self._seen]

    def look(self) -> None:
        """Look at all groups once."""
        for root in self._roots:
            for kind in KINDS:
                for pod in folders(self._cpu / root / kind, "pod"):
                    for container in folders(pod):
                        self._look_at(container)

    def _look_at(self, group: Path) -> None:
        peak = self._memory / group.relative_to(self._cpu) / "memory.max_usage_in_bytes"
        try:
            cpu = int((group / "cpuacct.usage").read_text()) / 1e9
            self._seen[group.name] = Used(cpu, int(peak.read_text()))
        except OSError:
            # It went while we looked.
            return

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            self.look()


def folders(place: Path, prefix: str = "") -> list[Path]:
    """The folders in a place that begin so, none if the place is not there."""
    try:
        with os.scandir(place) as entries:
            return [
                place / each.name
                for each in entries
                if each.name.startswith(prefix) and each.is_dir()
            ]
    except OSError:
        return []
