"""Installs the programs that the tests speak to, where that can be done: as root on Debian.

Nothing it installs is started, now or at the next boot. What is there already is left alone.
Elsewhere it says what it leaves out; the tests that need it are skipped. With CI=true, where a
skipped test is a failed one, being unable to install is a failure too. `image` as an argument adds
what the image's tests need.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = (
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
# What the image's own tests and a release's dry run need besides.
IMAGE_PACKAGES = ("binutils", "containerd", "docker-registry", "podman", "skopeo")
# What Debian would start at boot, by the package that brings it.
UNITS = {
    "bind9": "named.service",
    "containerd": "containerd.service",
    "docker-registry": "docker-registry.service",
    "knot": "knot.service",
    "nginx-light": "nginx.service",
    "podman": "podman.socket",
    "unbound": "unbound.service",
}
COREDNS = "v1.12.4"
POLICY = Path("/usr/sbin/policy-rc.d")


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "service-precheck"


def missing_packages(wanted: tuple[str, ...]) -> list[str]:
    listing = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    states = dict(line.split(" ", 1) for line in listing.splitlines())
    return [package for package in wanted if states.get(package) != "installed"]


@contextmanager
def no_service_starts() -> Iterator[None]:
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


def install(packages: list[str]) -> None:
    print("installing", *packages, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    with no_service_starts():
        subprocess.run(["apt-get", "-qq", "update"], env=environment, check=True)
        subprocess.run(
            ["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    units = [UNITS[package] for package in packages if package in UNITS]
    if units and shutil.which("systemctl"):
        subprocess.run(["systemctl", "--quiet", "disable", *units], check=True)


def build_coredns(go: str) -> None:
    """Builds it from its Go module once for each version; takes a few minutes."""
    folder = cache() / "bin"
    binary = folder / f"coredns-{COREDNS}"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"building CoreDNS {COREDNS} (a few minutes, once)", flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as output:
            subprocess.run(
                [go, "install", f"github.com/coredns/coredns@{COREDNS}"],
                env={**os.environ, "GOBIN": output, "CGO_ENABLED": "0"},
                check=True,
            )
            Path(output, "coredns").rename(binary)
    link = folder / "coredns"
    if link.resolve() != binary.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(binary.name)


def main(*, for_image: bool) -> None:
    if not Path("/etc/debian_version").exists():
        print("not Debian: the tests use the servers that are installed already")
    elif missing := missing_packages(PACKAGES + IMAGE_PACKAGES if for_image else PACKAGES):
        if os.geteuid() == 0:
            install(missing)
        else:
            print("not root, so not installed:", *missing)
    if for_image:
        return
    if go := shutil.which("go"):
        build_coredns(go)
    elif not shutil.which("coredns"):
        print("no Go, so no CoreDNS")


if __name__ == "__main__":
    try:
        main(for_image=sys.argv[1:] == ["image"])
    except (OSError, subprocess.CalledProcessError) as error:
        print("not all servers could be installed:", error, file=sys.stderr)
        if os.environ.get("CI") == "true":
            sys.exit(1)
