"""Servers built from their Go modules, each once for each version, into `cache()/bin`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tools.servers import cache

if TYPE_CHECKING:
    from collections.abc import Callable

COREDNS = "v1.12.4"
ETCD = "v3.6.6"
FERRETDB = "v1.24.0"
KUBERNETES = "v1.34.4"
MINIO = "v0.0.0-20260212201848-7aac2a2c5b7c"
HELM = "v3.19.0"
KUSTOMIZE = "v5.7.1"
KUSTOMIZE_CONTROLLER = "v1.9.5"
SOURCE_CONTROLLER = "v1.9.0"
# Flux's CustomResourceDefinitions, each by its own name: the controller watches sources of every kind.
FLUX_KINDS = tuple(
    cache() / f"flux-{KUSTOMIZE_CONTROLLER}" / f"{name}.yaml"
    for name in (
        "kustomizations.kustomize.toolkit.fluxcd.io",
        "gitrepositories.source.toolkit.fluxcd.io",
        "ocirepositories.source.toolkit.fluxcd.io",
        "buckets.source.toolkit.fluxcd.io",
    )
)
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


def minio() -> None:
    """MinIO, an object store that speaks S3's protocol, has no `replace` lines, and installs by name."""
    _build("minio", MINIO, "ten minutes", _by_name, f"github.com/minio/minio@{MINIO}")


def kubernetes() -> None:
    """The parts of Kubernetes, with kubectl.

    Its module has its libraries' sources in a folder that is no part of it: ours takes them from their
    own modules, of the same release.
    """
    parts = ("apiserver", "controller-manager", "scheduler", "proxy")
    for name in (*(f"kube-{part}" for part in parts), "kubelet", "kubectl"):
        _build(name, KUBERNETES, "some minutes for all of Kubernetes", _kubernetes)


def helm() -> None:
    """Helm and kustomize have no `replace` lines, and install by name."""
    _build("helm", HELM, "some minutes", _by_name, f"helm.sh/helm/v3/cmd/helm@{HELM}")
    module = "sigs.k8s.io/kustomize/kustomize/v5"
    _build("kustomize", KUSTOMIZE, "a minute", _by_name, f"{module}@{KUSTOMIZE}")


def flux() -> None:
    """Flux's kustomize-controller, and the definitions of its kind and of its sources'.

    A module's `replace` lines do not hold for those that require it, so ours repeats them.
    """
    _build("kustomize-controller", KUSTOMIZE_CONTROLLER, "some minutes", _kustomize_controller)
    go = shutil.which("go")
    versions = {"kustomize": KUSTOMIZE_CONTROLLER, "source": SOURCE_CONTROLLER}
    for kept in FLUX_KINDS:
        if kept.exists() or not go:
            continue
        plural, group = kept.stem.split(".", 1)
        name = group.partition(".")[0]
        module = f"github.com/fluxcd/{name}-controller@{versions[name]}"
        with tempfile.TemporaryDirectory(dir=cache()) as work:
            told = json.loads(_run(go, Path(work), "mod", "download", "-json", module))
        text = Path(told["Dir"], "config", "crd", "bases", f"{group}_{plural}.yaml").read_text()
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(text)


def _kustomize_controller(go: str, work: Path, name: str) -> None:
    module = "github.com/fluxcd/kustomize-controller"
    version = KUSTOMIZE_CONTROLLER
    told = json.loads(_run(go, work, "mod", "download", "-json", f"{module}@{version}"))
    theirs = json.loads(_run(go, work, "mod", "edit", "-json", str(Path(told["Dir"], "go.mod"))))
    replaced = [f"replace {module}/api => {module}/api {version}"]
    for each in theirs["Replace"]:
        old, new = each["Old"], each["New"]
        if not new["Path"].startswith("."):
            given = f"{old['Path']} {old.get('Version', '')}".strip()
            replaced.append(f"replace {given} => {new['Path']} {new['Version']}")
    lines = "\n".join(replaced)
    Path(work, "go.mod").write_text(
        f"module wanted\n\ngo {theirs['Go']}\n\nrequire {module} {version}\n\n{lines}\n"
    )
    Path(work, "wanted.go").write_text(
        f'//go:build wanted\n\npackage wanted\n\nimport _ "{module}"\n'
    )
    # -e: what only its tests import need not be had.
    _run(go, work, "mod", "tidy", "-e")
    _run(go, work, "build", "-trimpath", "-ldflags", "-s -w", "-o", name, module)


def _kubernetes(go: str, work: Path, name: str) -> None:
    module = "k8s.io/kubernetes"
    told = json.loads(_run(go, work, "mod", "download", "-json", f"{module}@{KUBERNETES}"))
    theirs = Path(told["Dir"], "go.mod").read_text()
    staged = sorted(set(re.findall(r"(k8s\.io/[a-z0-9-]+) => \./staging", theirs)))
    # The libraries of 1.34.4 are 0.34.4.
    library = KUBERNETES.replace("v1.", "v0.")
    replaced = "".join(f"replace {each} => {each} {library}\n" for each in staged)
    Path(work, "go.mod").write_text(
        f"module wanted\n\ngo 1.24.0\n\ngodebug default=go1.24\n\n"
        f"require {module} {KUBERNETES}\n\n{replaced}"
    )
    package = f"{module}/cmd/{name}"
    Path(work, "wanted.go").write_text(
        f'//go:build wanted\n\npackage wanted\n\nimport _ "{package}"\n'
    )
    _run(go, work, "mod", "tidy")
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    ours, clients = "k8s.io/component-base/version", "k8s.io/client-go/pkg/version"
    # Without them the parts disagree on their version.
    said = (
        *(f"{ours}.gitVersion={KUBERNETES}", f"{clients}.gitVersion={KUBERNETES}"),
        *(f"{ours}.gitMajor={major}", f"{ours}.gitMinor={minor}"),
    )
    flags = " ".join(["-s -w", *(f"-X {each}" for each in said)])
    _run(go, work, "build", "-trimpath", "-ldflags", flags, "-o", name, package)


def _build(name: str, version: str, takes: str, how: Callable[..., None], *words: str) -> None:
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
