"""Where it takes place: a cluster of the measure's own, and a resolver behind it as a node has one.

Without that resolver a name as written, which every search list ends with, would wait for a server
that answers nobody, and the rivals would look seldom for a reason that no real cluster gives them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from bench.cluster import account
from bench.launch import Failed
from tests.bed.daemon import Daemon
from tests.bed.world import inside
from tests.cluster.bed import ROOT, Cluster
from tools.cluster import BIN
from tools.cluster import __main__ as run

# The address that the nodes' resolv.conf names.
RESOLVER = "10.77.0.53"
# What the root zone says of a name like db-0.db.shop.
UPSTREAM = """.:53 {
    bind %s
    template ANY ANY . {
        rcode NXDOMAIN
        authority ". 86400 IN SOA a.root-servers.net. nstld.verisign-grs.com. 2026112700 1800 900 604800 86400"
    }
}
"""


class Network:
    """The network of the first node, for programs to be started in."""

    rank = 10
    numbers_anew = False

    def __init__(self, cluster: Cluster) -> None:
        self.file = f"/proc/{cluster.first}/ns/net"
        self.prefix = ["nsenter", f"--net={self.file}", "--"]


@contextlib.contextmanager
def standing() -> Iterator[Cluster]:
    """A cluster that ends with us, whatever happens."""
    if not (ROOT / "dist" / "image" / "index.json").exists():
        raise Failed("there is no image of ours (`make image`)")
    try:
        if run.up(owner=os.getpid()) != 0:
            raise Failed("the cluster does not come up")
        cluster = Cluster()
        with account.kept(cluster), upstream(Network(cluster)):
            yield cluster
    finally:
        run.down()


@contextlib.contextmanager
def upstream(network: Network) -> Iterator[None]:
    """The resolver of the nodes, which knows that no such name is there."""
    with tempfile.TemporaryDirectory(prefix="bench-upstream-") as work:
        corefile = Path(work, "Corefile")
        corefile.write_text(UPSTREAM % RESOLVER)
        address = ["ip", "address", "add", f"{RESOLVER}/32", "dev", "nodes"]
        subprocess.run([*network.prefix, *address], check=True)
        with Daemon(str(BIN / "coredns"), "-conf", str(corefile), inside=[network]) as daemon:
            daemon.wait_until(lambda: answers(network, RESOLVER))
            yield


def answers(network: Network, server: str) -> bool:
    """Whether a server answers a question from there."""
    question = dns.message.make_query("alive.invalid.", "A")
    try:
        inside(network.file, lambda: dns.query.udp(question, server, 0.5))
    except (dns.exception.DNSException, OSError):
        return False
    return True
