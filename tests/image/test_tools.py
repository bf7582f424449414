"""The one archive in the tools that people hand it to: containerd, podman, a registry."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import need, need_root
from tests.image.containers import Json

pytestmark = pytest.mark.timeout(300)

CONTAINERD = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/socket"
[ttrpc]
address = "{folder}/socket.ttrpc"
"""
REGISTRY = """
version: 0.1
storage:
  filesystem:
    rootdirectory: {folder}/registry
http:
  addr: 127.0.0.1:{port}
"""


@pytest.fixture
def archive(dist: Path) -> str:
    return str(dist / "service-precheck-image.tar")


@pytest.fixture
def name(dist: Path) -> str:
    annotations: Json = top(dist)["annotations"]
    return str(annotations["org.opencontainers.image.ref.name"])


def top(dist: Path) -> Json:
    descriptor: Json = json.loads((dist / "image/index.json").read_text())["manifests"][0]
    return descriptor


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_containerd_imports_both_architectures(
    dist: Path, archive: str, name: str, tmp_path: Path
) -> None:
    """`ctr images import` gives one image of that name and digest, complete for both."""
    need_root("containerd")
    ctr = [need("ctr", "containerd"), "--address", f"{tmp_path}/socket"]
    (tmp_path / "config.toml").write_text(CONTAINERD.format(folder=tmp_path))
    containerd = need("containerd", "containerd")
    with Daemon(containerd, "--config", str(tmp_path / "config.toml")) as daemon:
        daemon.wait_until(
            lambda: subprocess.run([*ctr, "version"], capture_output=True).returncode == 0
        )
        run(*ctr, "images", "import", "--all-platforms", archive)
        listed = run(*ctr, "images", "list", f"name=={name}")
        assert "linux/amd64,linux/arm64" in listed
        assert str(top(dist)["digest"]) in listed
        assert "complete (3/3)" in run(*ctr, "images", "check", f"name=={name}")


def test_podman_loads_its_own_architecture(archive: str, name: str, tmp_path: Path) -> None:
    """`podman load` finds the name and what to start."""
    need_root("podman's storage")
    # It refuses a long path.
    with tempfile.TemporaryDirectory(prefix="podman-") as short:
        podman = [need("podman", "podman"), "--root", str(tmp_path / "root")]
        podman += ["--runroot", short, "--storage-driver", "vfs"]
        assert name in run(*podman, "load", "--input", archive)
        shown = json.loads(run(*podman, "inspect", "--type", "image", name))
    assert shown[0]["Config"]["Entrypoint"] == ["service-precheck"]


def test_a_registry_takes_both_architectures(dist: Path, archive: str, tmp_path: Path) -> None:
    """A push keeps the digest that was built, and a pull of each architecture gets all of it."""
    skopeo = [need("skopeo", "skopeo"), "--insecure-policy"]
    registry = need("docker-registry", "docker-registry")
    port = free_port("127.0.0.1")
    (tmp_path / "config.yml").write_text(REGISTRY.format(folder=tmp_path, port=port))
    target = f"docker://127.0.0.1:{port}/service-precheck:test"
    with Daemon(registry, "serve", str(tmp_path / "config.yml")) as daemon:
        daemon.wait_until(lambda: "listening on" in daemon.log)
        run(*skopeo, "copy", "--all", "--dest-tls-verify=false", f"oci-archive:{archive}", target)
        raw = run(*skopeo, "inspect", "--raw", "--tls-verify=false", target)
        assert f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}" == top(dist)["digest"]
        for architecture in ("amd64", "arm64"):
            pulled = f"dir:{tmp_path / architecture}"
            chosen = [*skopeo, "--override-arch", architecture]
            run(*chosen, "copy", "--src-tls-verify=false", target, pulled)
            manifest = json.loads((tmp_path / architecture / "manifest.json").read_text())
            for layer in manifest["layers"]:
                blob = tmp_path / architecture / layer["digest"].removeprefix("sha256:")
                assert blob.stat().st_size == layer["size"]
