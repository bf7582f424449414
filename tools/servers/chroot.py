"""Servers of a newer Debian than the machine's, in a folder of their own to change the root to.

Debian's unstable suite has MySQL (its stable ones have MariaDB alone) and Valkey.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.servers import cache

PACKAGES = ("mysql-server", "valkey-server")
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")


def folder() -> Path:
    """Where it lies; programs in it run by `chroot FOLDER PROGRAM`."""
    return cache() / "sid"


def bring() -> None:
    """Make it if it is missing (a minute, 0.7 GB). Raises CalledProcessError."""
    if folder().exists():
        return
    if os.geteuid() != 0 or not SOURCES.exists() or not shutil.which("mmdebstrap"):
        print("not root on Debian with mmdebstrap, so no", *PACKAGES)
        return
    print("installing", *PACKAGES, "of Debian's unstable suite (a minute, once)", flush=True)
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as work:
        first, *_ = SOURCES.read_text().split("\n\n")
        lines = ("Suites: sid" if x.startswith("Suites:") else x for x in first.splitlines())
        sources = Path(work, "sid.sources")
        sources.write_text("\n".join(lines) + "\n")
        made = Path(work, "made")
        subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}"),
                # A mirror may be a copy of some day before.
                '--aptopt=Acquire::Check-Valid-Until "false"',
                *("sid", str(made), str(sources)),
            ],
            stdin=subprocess.DEVNULL,
            check=True,
        )
        made.rename(folder())
