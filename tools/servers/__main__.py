"""`python -m tools.servers SET...`: brings what the tests of each set speak to."""

from __future__ import annotations

import os
import subprocess
import sys

from tools.cluster import hadoop
from tools.cluster import services as cluster_services
from tools.servers import chroot, debian, golang, maven


def base() -> None:
    debian.bring(debian.BASE)
    golang.coredns()


def services() -> None:
    debian.bring(debian.SERVICES)
    maven.bring("elasticsearch", "elasticsearch7", "elasticsearch8")
    maven.bring("kafka", "opensearch", "opensearch-security", "zookeeper")
    chroot.bring()
    golang.etcd()
    golang.ferretdb()
    golang.minio()


def cluster() -> None:
    debian.bring(debian.BASE + debian.CLUSTER)
    golang.coredns()
    golang.etcd()
    golang.kubernetes()
    golang.helm()
    golang.flux()
    cluster_services.bring()
    maven.bring("hadoop")
    hadoop.bring()


def image() -> None:
    debian.bring(debian.BASE + debian.IMAGE)


SETS = {"base": base, "services": services, "cluster": cluster, "image": image}

if __name__ == "__main__":
    try:
        for name in sys.argv[1:]:
            SETS[name]()
    except (OSError, subprocess.CalledProcessError) as error:
        print("not all servers could be installed:", error, file=sys.stderr)
        if os.environ.get("CI") == "true":
            sys.exit(1)
