"""Flux's kustomize-controller, beside the cluster's own controllers, for as long as a test wants it.

It reads a source's `status.artifact` (url, digest, revision) and fetches a tar.gz from there. Who writes
that is source-controller, which cannot be built from its module: a source's status is filled by
`publish`, and the archive served from this machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tools.cluster import BIN, kubeconfig
from tools.cluster.addons import KUBECTL
from tools.servers.golang import FLUX_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

CONTROLLER = BIN / "kustomize-controller"
SERVED = "127.0.0.1:9790"


def missing() -> str:
    """What keeps it from running here, empty if nothing does."""
    lacking = [path.name for path in (CONTROLLER, *FLUX_KINDS) if not path.exists()]
    return f"missing: {' '.join(lacking)} (`python -m tools.servers cluster`)" if lacking else ""


class Flux:
    """The running controller. `inside` are the words that run a program in the first node's network.

    Before it ends, delete the Kustomizations: their finalizer is the controller's to remove.
    """

    def __init__(self, inside: Sequence[str]) -> None:
        self._inside = [*inside, "setpriv", "--pdeathsig", "KILL"]
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="flux-")
        self.folder = Path(self._folder.name)
        (self.folder / "served").mkdir()
        for kind in FLUX_KINDS:
            self._kubectl("apply", "--server-side", "--filename", str(kind))
            name = kind.stem
            self._kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
        served = str(self.folder / "served")
        self._start("httpd", "busybox", "httpd", "-f", "-p", SERVED, "-h", served)
        # Ports that nobody asks, chosen by the kernel.
        anywhere = ("--metrics-addr=127.0.0.1:0", "--health-addr=127.0.0.1:0")
        self._start("controller", str(CONTROLLER), *anywhere, "--log-encoding=console")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for each in FLUX_KINDS:
            self._kubectl("delete", "crd", each.stem, "--wait=false", "--ignore-not-found")
        self._folder.cleanup()

    @property
    def log(self) -> str:
        """What the controller wrote so far."""
        return (self.folder / "controller.log").read_text(errors="replace")

    def publish(self, namespace: str, source: str, revision: str, files: Mapping[str, str]) -> None:
        """Serve a revision of these files (texts by their paths) as the GitRepository `source`."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for path, text in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(text.encode())
                tar.addfile(entry, io.BytesIO(text.encode()))
        data = packed.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "served" / f"{digest}.tar.gz").write_bytes(data)
        now = "2026-01-01T00:00:00Z"
        artifact = {
            "url": f"http://{SERVED}/{digest}.tar.gz",
            "path": f"{digest}.tar.gz",
            "digest": f"sha256:{digest}",
            "revision": revision,
            "lastUpdateTime": now,
            "size": len(data),
        }
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Succeeded",
            "message": f"stored artifact for revision '{revision}'",
            "lastTransitionTime": now,
        }
        status = json.dumps({"status": {"artifact": artifact, "conditions": [ready]}})
        patch = ("patch", "gitrepository", source, "--subresource=status", "--type=merge")
        self._kubectl("--namespace", namespace, *patch, "--patch", status)

    def _start(self, name: str, *words: str) -> None:
        env = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(kubeconfig("admin")),
            "RUNTIME_NAMESPACE": "kube-system",
            "TMPDIR": str(self.folder),
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running.append(
                subprocess.Popen(
                    [*self._inside, *words],
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def _kubectl(self, *words: str) -> None:
        # Without `setpriv`, so that it may end by itself.
        subprocess.run(
            [*self._inside[:-3], *KUBECTL, *words],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
