"""Images for the cluster, from root folders on this machine; nothing is pulled from anywhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tools.cluster import BIN
from tools.servers import cache

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tools.cluster.daemons import Node

REGISTRY = "service-precheck.test"
FOLDER = cache() / "cluster-images"
BUSYBOX = Path("/bin/busybox")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
SUITE = "bookworm"
# What no program reads.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*")


def load(node: Node) -> None:
    """Give a node the images that every cluster needs."""
    for archive in basic():
        put(node, archive)


def put(node: Node, archive: Path) -> None:
    """Import an archive into a node's container runtime, unless that has it already."""
    listed = _images(node, "list")
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        (image,) = json.load(index)["manifests"]
    name = image["annotations"]["io.containerd.image.name"]
    if not any({name, image["digest"]} <= set(line.split()) for line in listed.splitlines()):
        _images(node, "import", str(archive))


def name(node: Node, known: str, more: str) -> None:
    """Give an image that a node has one more name."""
    _images(node, "tag", "--force", known, more)


def _images(node: Node, *words: str) -> str:
    """What a node's container runtime says to words about its images."""
    ctr = ["ctr", "--address", str(node.socket), "--namespace", "k8s.io", "images", *words]
    # It waits for a runtime that is gone: it has to go with us, however we do.
    ctr = ["setpriv", "--pdeathsig", "KILL", *ctr]
    return subprocess.run(ctr, check=True, capture_output=True, text=True).stdout


def basic() -> Iterable[Path]:
    """The archives of `pause`, `busybox` and `coredns`, made where they are missing."""
    box = BUSYBOX.read_bytes()
    coredns = (BIN / "coredns").resolve()
    yield archive("pause:1", {"busybox": (box, 0o755)}, ["/busybox", "sleep", "infinity"])
    links = ("sh", "sleep", "cat", "wget", "nslookup", "touch", "ls", "echo", "true", "false")
    yield archive("busybox:1", {f"bin/{name}": (box, 0o755) for name in links}, ["/bin/sh"])
    yield archive(
        f"coredns:{coredns.name.rpartition('-')[2]}",
        {"coredns": (coredns.read_bytes(), 0o755)},
        ["/coredns"],
    )


def archive(name: str, files: Mapping[str, tuple[bytes, int]], command: Sequence[str]) -> Path:
    """An archive of an image made of these files (content, mode); kept from one cluster to the next."""
    stamp = hashlib.sha256()
    for path, (data, mode) in files.items():
        stamp.update(f"{path} {mode} {len(data)} ".encode() + data)
    made = FOLDER / f"{name.replace(':', '-')}-{stamp.hexdigest()[:16]}.tar"
    if made.exists():
        return made
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path, (data, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    write(made, name, layer.getvalue(), command)
    return made


def can_bootstrap() -> bool:
    """Whether a Debian can be made here: as root on Debian, with mmdebstrap."""
    return os.geteuid() == 0 and SOURCES.exists() and shutil.which("mmdebstrap") is not None


def bootstrap(packages: Sequence[str], hooks: Sequence[str] = ()) -> bytes:
    """The root folder of a small Debian with these packages, as a tar file. Raises CalledProcessError."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as work:
        root = Path(work, "root.tar")
        subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(packages)}"),
                # A mirror may be a copy of some day before.
                '--aptopt=Acquire::Check-Valid-Until "false"',
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
                *(f"--customize-hook={hook}" for hook in hooks),
                *(SUITE, str(root), str(SOURCES)),
            ],
            stdin=subprocess.DEVNULL,
            check=True,
        )
        return root.read_bytes()


def write(
    made: Path,
    name: str,
    layer: bytes,
    command: Sequence[str],
    *,
    search: str = PATH,
    base: Path | None = None,
) -> None:
    """Write an archive in the layout of the OCI image specification 1.1: a layer, on those of `base`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(layer, compresslevel=1)
    below = layers(base) if base else []
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(command), "Env": [f"PATH={search}"]},
            "rootfs": {"type": "layers", "diff_ids": [*(each for each, _ in below), digest(layer)]},
        }
    ).encode()
    kinds = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kinds}.manifest.v1+json",
            "config": descriptor(f"{kinds}.config.v1+json", config),
            "layers": [
                descriptor(f"{kinds}.layer.v1.tar+gzip", each)
                for each in (*(each for _, each in below), packed)
            ],
        }
    ).encode()
    named = descriptor(f"{kinds}.manifest.v1+json", manifest)
    named["annotations"] = {"io.containerd.image.name": f"{REGISTRY}/{name}"}
    index = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
    part = made.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        for path, data in (
            ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
            ("index.json", index),
            *(
                (f"blobs/sha256/{digest(x)[7:]}", x)
                for x in (config, *(each for _, each in below), packed, manifest)
            ),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    part.rename(made)


def layers(archive: Path) -> list[tuple[str, bytes]]:
    """The layers of an archive that `write` made: each one's digest before it was packed, and it packed."""
    with tarfile.open(archive) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        def blob(described: dict[str, str]) -> bytes:
            return read(f"blobs/sha256/{described['digest'][7:]}")

        manifest = json.loads(blob(json.loads(read("index.json"))["manifests"][0]))
        ids = json.loads(blob(manifest["config"]))["rootfs"]["diff_ids"]
        return list(zip(ids, map(blob, manifest["layers"]), strict=True))


def digest(data: bytes) -> str:
    """Its digest as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(kind: str, data: bytes) -> dict[str, object]:
    """What points at a blob."""
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def ours(layout: Path) -> Path:
    """An archive of the image layout that `make image` built, under the name the tests use."""
    index = json.loads((layout / "index.json").read_text())
    stamp = hashlib.sha256(json.dumps(index).encode()).hexdigest()[:16]
    made = FOLDER / f"service-precheck-{stamp}.tar"
    if made.exists():
        return made
    FOLDER.mkdir(parents=True, exist_ok=True)
    (image,) = index["manifests"]
    image["annotations"] = {"io.containerd.image.name": f"{REGISTRY}/service-precheck:1"}
    part = made.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        data = json.dumps(index).encode()
        entry = tarfile.TarInfo("index.json")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
        for path in sorted(layout.rglob("*")):
            if path.is_file() and path.name != "index.json":
                tar.add(path, str(path.relative_to(layout)))
    part.rename(made)
    return made
