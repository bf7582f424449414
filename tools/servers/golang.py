"""Servers built from their Go modules, each once for each version, into `cache()/bin`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.servers import cache

COREDNS = "v1.12.4"
ETCD = "v3.6.6"
FERRETDB = "v1.24.0"
# What FerretDB v1.24.0 can be built with; the module wants no toolchain of its own.
GO = "1.26"


def coredns() -> None:
    """CoreDNS has no `replace` lines, and installs by name."""
    _build("coredns", COREDNS, "a few minutes", _by_name, f"github.com/coredns/coredns@{COREDNS}")


def etcd() -> None:
    """etcd's main package is in a module that is not installed by name: one of ours requires it."""
    module = "go.etcd.io/etcd/server/v3"
    _build("etcd", ETCD, "a minute or two", _required, f"{module} {ETCD}", module)


def ferretdb() -> None:
    """FerretDB, which speaks MongoDB's protocol over SQLite.

    Its module's version file is empty outside a checkout, and the program refuses to start so: it is
    built from a copy with that file filled in.
    """
    module = "github.com/FerretDB/FerretDB"
    _build(
        *("ferretdb", FERRETDB, "two minutes", _required),
        *(f"{module} {FERRETDB}", f"{module}/cmd/ferretdb", "build/version/version.txt"),
    )


def _build(name: str, version: str, takes: str, how, *words: str) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    go = shutil.which("go")
    folder = cache() / "bin"
    binary = folder / f"{name}-{version}"
    if not binary.exists():
        if not go:
            print(f"no Go, so no {name}")
            return
        folder.mkdir(parents=True, exist_ok=True)
        print(f"building {name} {version} ({takes}, once)", flush=True)
        with tempfile.TemporaryDirectory(dir=cache()) as work:
            how(go, Path(work), name, *words)
            Path(work, name).rename(binary)
    link = folder / name
    if link.resolve() != binary.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(binary.name)


def _run(go: str, work: Path, *words: str) -> str:
    return subprocess.run(
        [go, *words],
        cwd=work,
        env={**os.environ, "GOBIN": str(work), "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def _by_name(go: str, work: Path, _: str, package: str) -> None:
    _run(go, work, "install", package)


def _required(
    go: str, work: Path, name: str, requirement: str, package: str, version_file: str = ""
) -> None:
    module, version = requirement.split()
    Path(work, "go.mod").write_text(f"module wanted\n\ngo {GO}\n\nrequire {requirement}\n")
    Path(work, "wanted.go").write_text(
        f'//go:build wanted\n\npackage wanted\n\nimport _ "{package}"\n'
    )
    _run(go, work, "mod", "tidy")
    if version_file:
        source = _run(go, work, "list", "-m", "-f", "{{.Dir}}", module).strip()
        copy = work / "source"
        shutil.copytree(source, copy)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (copy / version_file).write_text(f"{version}\n")
        _run(go, work, "mod", "edit", "-replace", f"{module}=./source")
    _run(go, work, "build", "-trimpath", "-ldflags", "-s -w", "-o", name, package)
