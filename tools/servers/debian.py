"""Debian's packages, installed as root on Debian, with no service of theirs started."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BASE = (
    "bind9",
    "bind9-dnsutils",
    "ca-certificates",
    "dnsmasq-base",
    "iproute2",
    "iputils-ping",
    "knot",
    "knot-dnsutils",
    "netcat-openbsd",
    "nftables",
    "nginx-light",
    "openssl",
    "procps",
    "runc",
    "strace",
    "tmux",
    "unbound",
    "util-linux",
    "zsh",
)
SERVICES = (
    "default-jdk-headless",
    "etcd-client",
    "etcd-server",
    "exim4-daemon-light",
    "galera-4",
    "mariadb-server",
    "maven",
    "memcached",
    "mmdebstrap",
    "nats-server",
    "openssh-server",
    "pgbouncer",
    "postgresql",
    "rabbitmq-server",
    "redis-sentinel",
    "redis-server",
    "rsync",
    "zookeeper",
)
CLUSTER = (
    "busybox-static",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "ethtool",
    "maven",
    "mmdebstrap",
    "nftables",
    "runc",
    "socat",
)
IMAGE = ("binutils", "containerd", "docker-registry", "podman", "skopeo")
# What Debian would start at boot, by the package that brings it.
UNITS = {
    "bind9": "named.service",
    "containerd": "containerd.service",
    "docker-registry": "docker-registry.service",
    "etcd-server": "etcd.service",
    "exim4-daemon-light": "exim4.service exim4-base.timer",
    "knot": "knot.service",
    "mariadb-server": "mariadb.service",
    "memcached": "memcached.service",
    "nats-server": "nats-server.service",
    "nginx-light": "nginx.service",
    "openssh-server": "ssh.service",
    "pgbouncer": "pgbouncer.service",
    "podman": "podman.socket",
    "postgresql": "postgresql.service",
    "rabbitmq-server": "rabbitmq-server.service",
    "redis-sentinel": "redis-sentinel.service",
    "redis-server": "redis-server.service",
    "unbound": "unbound.service",
}
POLICY = Path("/usr/sbin/policy-rc.d")


def bring(packages: Sequence[str]) -> None:
    """Install those that are missing, or say why that cannot be done. Raises CalledProcessError."""
    if not Path("/etc/debian_version").exists():
        print("not Debian: the tests use the servers that are installed already")
        return
    missing = _missing(packages)
    if not missing:
        return
    if os.geteuid() != 0:
        print("not root, so not installed:", *missing)
        return
    print("installing", *missing, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    with _no_service_starts():
        subprocess.run(["apt-get", "-qq", "update"], env=environment, check=True)
        subprocess.run(
            # Nothing of the machine's own has to go for a test: rather it is told.
            [
                *("apt-get", "-qq", "install", "--yes"),
                *("--no-install-recommends", "--no-remove"),
                *missing,
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    units = [unit for package in missing for unit in UNITS.get(package, "").split()]
    if units and shutil.which("systemctl"):
        subprocess.run(["systemctl", "--quiet", "disable", *units], check=True)


def _missing(wanted: Sequence[str]) -> list[str]:
    listing = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    states = dict(line.split(" ", 1) for line in listing.splitlines())
    return [package for package in wanted if states.get(package) != "installed"]


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's own switch: a policy-rc.d that answers 101 forbids every start."""
    before = (POLICY.read_bytes(), POLICY.stat().st_mode) if POLICY.exists() else None
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            POLICY.unlink()
        else:
            POLICY.write_bytes(before[0])
            POLICY.chmod(before[1])
