"""The one image of services: MariaDB, ZooKeeper with its JRE, etcd, all Debian's.

It stands in for the public images that the examples name; what those start by themselves, the examples
start by scripts of their own, so that the same manifests run with either.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.cluster import images

PACKAGES = ("mariadb-server", "zookeeper", "default-jre-headless", "etcd-server", "etcd-client")
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
SUITE = "bookworm"
PATH = "/usr/share/zookeeper/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What no server reads.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*")
NO_DATABASE = "rm -rf $1/var/lib/mysql $1/var/lib/zookeeper $1/var/cache/apt $1/var/lib/apt/lists"
# Debian's ZooKeeper has a folder for its log that root alone may write to, and no logger.
JARS = "/usr/share/java"
LOG_TO_STANDARD_ERROR = (
    "sed -i -e s,^ZOO_LOG_DIR=.*,ZOO_LOG_DIR=/tmp,"
    f" -e s,{JARS}/zookeeper.jar,{JARS}/zookeeper.jar:{JARS}/slf4j-simple.jar,"
    " $1/etc/zookeeper/conf/environment"
)


def archive() -> Path:
    """Where the image lies, or will: its name tells what it is made of."""
    made_of = repr((PACKAGES, SUITE, PATH, LEFT_OUT, NO_DATABASE, LOG_TO_STANDARD_ERROR))
    return images.FOLDER / f"services-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.tar"


def bring() -> None:
    """Make it if it is missing (two minutes). Raises CalledProcessError."""
    if archive().exists():
        return
    if os.geteuid() != 0 or not SOURCES.exists() or not shutil.which("mmdebstrap"):
        print("not root on Debian with mmdebstrap, so no image of services for the cluster")
        return
    print("making the cluster's image of", *PACKAGES, "(two minutes, once)", flush=True)
    images.FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=images.FOLDER) as work:
        root = Path(work, "root.tar")
        subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}"),
                # A mirror may be a copy of some day before.
                '--aptopt=Acquire::Check-Valid-Until "false"',
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
                *(f"--customize-hook={hook}" for hook in (NO_DATABASE, LOG_TO_STANDARD_ERROR)),
                *(SUITE, str(root), str(SOURCES)),
            ],
            stdin=subprocess.DEVNULL,
            check=True,
        )
        for older in images.FOLDER.glob("services-*.tar"):
            older.unlink()
        images.write(archive(), "services:1", root.read_bytes(), ["/bin/sh"], search=PATH)
