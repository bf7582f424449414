"""The built image, and containers of it made by runc.

`Image(folder)` reads a layout as a registry client would, every digest checked on the way.
`Container(image, scratch, *arguments)` is a started container; it takes the limits and files that a
pod gives one. Its process is PID 1 there, under the image's own user unless another is given:

    with Container(image, tmp_path, "--version", memory=16 << 20) as container:
        assert container.wait().status == 0

It is what the test bed's `Gate` is, but for `signal`, which goes through runc.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.bed.process import Gate, need, need_root

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.world import World

Json = dict[str, Any]
_numbers = itertools.count()


class Image:
    """One architecture of the image in a layout."""

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder
        top = self.blob(json.loads((folder / "index.json").read_text())["manifests"][0])
        self.index: Json = json.loads(top)
        self.descriptor: Json = next(
            entry
            for entry in self.index["manifests"]
            if entry["platform"] == {"architecture": architecture, "os": "linux"}
        )
        self.architecture = architecture
        self.manifest: Json = json.loads(self.blob(self.descriptor))
        self.config: Json = json.loads(self.blob(self.manifest["config"]))

    def blob(self, descriptor: Json) -> bytes:
        """Return what a descriptor names, having checked its size and digest."""
        name = str(descriptor["digest"]).removeprefix("sha256:")
        data = (self._folder / "blobs/sha256" / name).read_bytes()
        assert len(data) == descriptor["size"]
        assert hashlib.sha256(data).hexdigest() == name
        return data

    def layers(self) -> list[tarfile.TarFile]:
        """Return the layers, lowest first, each checked against the configuration."""
        tars = [gzip.decompress(self.blob(layer)) for layer in self.manifest["layers"]]
        digests = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
        assert digests == self.config["rootfs"]["diff_ids"]
        return [tarfile.open(fileobj=io.BytesIO(tar)) for tar in tars]

    def entries(self) -> dict[str, tarfile.TarInfo]:
        """Return what is at each path once all layers are applied."""
        return {entry.name: entry for layer in self.layers() for entry in layer}

    def files(self) -> dict[str, bytes]:
        """Return the bytes of every regular file by path."""
        found = {}
        for layer in self.layers():
            for entry in layer:
                if reader := layer.extractfile(entry) if entry.isfile() else None:
                    found[entry.name] = reader.read()
        return found

    def unpack(self, folder: Path) -> Path:
        """Lay the layers over each other in a folder, as a runtime does."""
        for layer in self.layers():
            layer.extractall(folder, filter="tar")
        return folder


class Container(Gate):
    """A container; see the module's docstring. It needs root and runc."""

    def __init__(
        self,
        image: Image,
        root: Path,
        scratch: Path,
        *arguments: str,
        entrypoint: list[str] | None = None,
        user: int | None = None,
        world: World | None = None,
        files: dict[str, Path] | None = None,
        memory: int | None = None,
        cpu: float | None = None,
    ) -> None:
        need_root("a container")
        runc = need("runc", "runc")
        settings = image.config["config"]
        own_user, own_group = map(int, settings["User"].split(":"))
        resources: Json = {"devices": [{"allow": False, "access": "rwm"}]}
        if memory is not None:
            resources["memory"] = {"limit": memory, "swap": memory}
        if cpu is not None:
            resources["cpu"] = {"quota": round(cpu * 100_000), "period": 100_000}
        network = {"type": "network"} | ({"path": f"/run/netns/{world.name}"} if world else {})
        self.identity = f"precheck-{os.getpid()}-{next(_numbers)}"
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {
                    "uid": own_user if user is None else user,
                    "gid": own_group if user is None else user,
                },
                "args": [*(entrypoint or settings["Entrypoint"]), *arguments],
                "env": settings["Env"],
                "cwd": settings["WorkingDir"],
                "capabilities": {"bounding": [], "effective": [], "permitted": []},
                "noNewPrivileges": True,
            },
            "root": {"path": str(root), "readonly": True},
            "hostname": "gate",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
                },
                *(
                    {
                        "destination": target,
                        "type": "bind",
                        "source": str(source),
                        "options": ["bind", "rw" if target.startswith("/dev/") else "ro"],
                    }
                    for target, source in (files or {}).items()
                ),
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
                + [network],
                "resources": resources,
                "cgroupsPath": f"/{self.identity}",
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
            },
        }
        bundle = scratch / self.identity
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(config))
        self._runc = [runc, "--root", str(scratch / "runc")]
        super().__init__(
            command=[*self._runc, "run", "--bundle", str(bundle), self.identity],
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        subprocess.run(
            [*self._runc, "delete", "--force", self.identity], capture_output=True, timeout=60
        )
        super().__exit__(kind, error, traceback)

    def __enter__(self) -> Self:
        return super().__enter__()

    def signal(self, number: int) -> None:
        """Send PID 1 of the container a signal, from outside of it as the kubelet does."""
        name = signal.Signals(number).name
        subprocess.run([*self._runc, "kill", self.identity, name], check=True, timeout=60)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container beside PID 1, as `kubectl exec` does."""
        return subprocess.run(
            [*self._runc, "exec", self.identity, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def peak(self) -> int:
        """Return the most memory that the container had so far, in bytes, page cache included."""
        group = Path("/sys/fs/cgroup/memory", self.identity)
        return int((group / "memory.max_usage_in_bytes").read_text())
