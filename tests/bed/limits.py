"""What a program under test can be put inside: a pid namespace, limits of memory, cpu, processes.

| `inside=[...]` of a `Gate`                | what it does                                          |
|-------------------------------------------|-------------------------------------------------------|
| `PID1`                                    | process 1 of a new pid namespace, with its own /proc  |
| `Cgroup(memory=16 << 20)`                 | killed by the kernel beyond so many bytes             |
| `Cgroup(cpu=0.05)`                        | so much of one cpu                                    |
| `Cgroup(pids=20)`                         | so many processes and threads                         |

A `Cgroup` is entered first; then `group.peak` is the most memory it had and `group.stat` a number
of its files. The hierarchy is that of cgroup v1. Signals that process 1 does not handle are dropped
by the kernel, also when they come from outside. Of a process 1 that SIGKILL ended, `unshare`, its
parent, tells 1, not 137.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.bed.process import need, need_root

if TYPE_CHECKING:
    from types import TracebackType


class Pid1:
    """Runs a program as process 1 of a new pid namespace, with its own /proc."""

    rank = 30
    numbers_anew = True

    @property
    def prefix(self) -> list[str]:
        """The words before the program's own."""
        need_root("a pid namespace")
        unshare = need("unshare", "util-linux")
        return [unshare, "--pid", "--fork", "--mount-proc", "--kill-child"]


PID1 = Pid1()


class Cgroup:
    """A group of the cgroup v1 hierarchies, with limits in bytes, share of a cpu, processes."""

    rank = 20
    numbers_anew = False
    _numbers = itertools.count()

    def __init__(
        self, *, memory: int | None = None, cpu: float | None = None, pids: int | None = None
    ) -> None:
        self._limits: dict[str, dict[str, int]] = {}
        if memory is not None:
            self._limits["memory"] = {"memory.limit_in_bytes": memory}
        if cpu is not None:
            self._limits["cpu"] = {
                "cpu.cfs_period_us": 100_000,
                "cpu.cfs_quota_us": round(cpu * 100_000),
            }
        if pids is not None:
            self._limits["pids"] = {"pids.max": pids}
        name = f"bed-{os.getpid()}-{next(self._numbers)}"
        self.folders = {kind: Path("/sys/fs/cgroup", kind, name) for kind in self._limits}

    def __enter__(self) -> Self:
        need_root("a cgroup")
        for kind, folder in self.folders.items():
            if not (folder.parent / "cgroup.procs").exists():
                pytest.skip(f"needs the cgroup v1 hierarchy {folder.parent}")
            # What test processes left that were killed.
            for orphan in folder.parent.glob("bed-*-*"):
                if not Path("/proc", orphan.name.split("-")[1]).exists():
                    with contextlib.suppress(OSError):
                        orphan.rmdir()
            folder.mkdir()
            for name, value in self._limits[kind].items():
                (folder / name).write_text(str(value))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for folder in self.folders.values():
            end = time.monotonic() + 30
            while folder.exists():
                for pid in (folder / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                with contextlib.suppress(OSError):
                    folder.rmdir()
                assert time.monotonic() < end, f"{folder} stays busy"
                time.sleep(0.01)

    @property
    def prefix(self) -> list[str]:
        """The words before the program's own."""
        script = 'for f in {}; do echo $$ > "$f/cgroup.procs" || exit 125; done; exec "$@"'
        folders = " ".join(shlex.quote(str(folder)) for folder in self.folders.values())
        return ["/bin/sh", "-c", script.format(folders), "sh"]

    @property
    def peak(self) -> int:
        """The most memory the group had, in bytes."""
        return int((self.folders["memory"] / "memory.max_usage_in_bytes").read_text())

    def stat(self, kind: str, file: str, field: str) -> int:
        """Return a number of a file of the group: `stat("cpu", "cpu.stat", "nr_throttled")`."""
        lines = (self.folders[kind] / file).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[0] == field)
