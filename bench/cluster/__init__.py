"""The benchmark on a cluster: stories in four ways, and a fleet of gates; `make bench-cluster` runs it."""

from __future__ import annotations

from bench.pages import Pages

TITLES = {
    "mysql": "MySQL: two apps wait for a primary and its replicas",
    "hdfs": "HDFS with automatic failover: every daemon waits",
    "fleet": "A fleet waits for names, kubeadm's Corefile",
    "fleet-cached": "A fleet waits for names, denials cached for 30 s",
}
DRAWN = (
    "time",
    "writes",
    "few-seen",
    "few-last",
    "many-each",
    "many-last",
    "many-rate",
    "many-coredns",
)
PAGES = Pages("cluster", "Results on a cluster", TITLES, DRAWN)
