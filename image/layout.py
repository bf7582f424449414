"""An OCI image layout whose digest depends on nothing but what is in it.

Entries are sorted, owned by root and carry one time; gzip headers carry none. The layout follows
the OCI image specification 1.1: `index.json` names one image index, which names an image for each
architecture, so that a tool that takes the first entry takes all architectures.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

from image.root import Layer

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
USER = "65532:65532"
Json = dict[str, object]


class Layout:
    """A layout that is being written to a folder."""

    def __init__(self, folder: Path, epoch: int, when: str) -> None:
        self.folder = folder
        self._blobs = folder / "blobs/sha256"
        self._blobs.mkdir(parents=True)
        self._epoch = epoch
        self._when = when

    def image(self, architecture: str, layers: list[tuple[str, Layer]], labels: Json) -> Json:
        """Write one architecture's image, its layers told apart by a comment. Its descriptor."""
        blobs: list[Json] = []
        identities: list[str] = []
        for _, layer in layers:
            tar = tarred(layer, self._epoch)
            identities.append(_digest(tar))
            blobs.append(self._put(LAYER, gzip.compress(tar, 9, mtime=0)))
        config = {
            "created": self._when,
            "architecture": architecture,
            "os": "linux",
            "config": {
                "User": USER,
                "Env": ["PATH=/usr/bin"],
                "Entrypoint": ["service-precheck"],
                "WorkingDir": "/",
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": identities},
            "history": [
                {"created": self._when, "created_by": "image.build", "comment": comment}
                for comment, _ in layers
            ],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._put(CONFIG, _json(config)),
            "layers": blobs,
            "annotations": labels,
        }
        platform = {"architecture": architecture, "os": "linux"}
        return self._put(MANIFEST, _json(manifest)) | {"platform": platform}

    def finish(self, images: list[Json], name: str, labels: Json) -> str:
        """Write the index of all images, called `name` by what loads it. Its digest."""
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": images,
            "annotations": labels,
        }
        top = self._put(INDEX, _json(index))
        digest = str(top["digest"])
        # containerd goes by the first, podman and skopeo by the second.
        top["annotations"] = {
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name,
        }
        (self.folder / "index.json").write_bytes(
            _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]})
        )
        (self.folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
        return digest

    def archive(self, target: Path) -> None:
        """The whole layout as one tar file."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
            for path in files:
                _add(tar, str(path.relative_to(self.folder)), path.read_bytes(), 0o644, self._epoch)

    def _put(self, kind: str, data: bytes) -> Json:
        digest = _digest(data)
        (self._blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": kind, "digest": digest, "size": len(data)}


def tarred(layer: Layer, epoch: int) -> bytes:
    """A layer as a tar file: its folders, then its files, each in order of path."""
    buffer = io.BytesIO()
    folders = {str(parent) for path in layer for parent in Path(path).parents} - {"."}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in sorted(folders):
            _add(tar, folder, None, 0o755, epoch)
        for path, file in sorted(layer.items()):
            if file.link:
                _add(tar, path, file.link, 0o777, epoch)
            else:
                _add(tar, path, file.data, 0o755 if file.executable else 0o644, epoch)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, path: str, what: bytes | str | None, mode: int, epoch: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.mode = mode
    entry.mtime = epoch
    if isinstance(what, bytes):
        entry.size = len(what)
        tar.addfile(entry, io.BytesIO(what))
        return
    entry.type = tarfile.DIRTYPE if what is None else tarfile.SYMTYPE
    entry.linkname = what or ""
    tar.addfile(entry)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
