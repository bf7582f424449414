"""The one image of services: MariaDB, ZooKeeper with its JRE, etcd, all Debian's.

It stands in for the public images that the examples name; what those start by themselves, the examples
start by scripts of their own, so that the same manifests run with either.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tools.cluster import images
from tools.cluster.images import LEFT_OUT, SUITE

PACKAGES = ("mariadb-server", "zookeeper", "default-jre-headless", "etcd-server", "etcd-client")
PATH = "/usr/share/zookeeper/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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
    if not images.can_bootstrap():
        print("not root on Debian with mmdebstrap, so no image of services for the cluster")
        return
    print("making the cluster's image of", *PACKAGES, "(two minutes, once)", flush=True)
    root = images.bootstrap(PACKAGES, (NO_DATABASE, LOG_TO_STANDARD_ERROR))
    for older in images.FOLDER.glob("services-*.tar"):
        older.unlink()
    images.write(archive(), "services:1", root, ["/bin/sh"], search=PATH)
