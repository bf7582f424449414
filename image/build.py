"""Build the container image: an OCI layout for amd64 and arm64, one archive of it, and its SPDX.

    python -m image.build [--output dist] [--source src] [--offline]

The build runs under the very CPython that goes into the image: this script gets it from Debian,
unpacks it and starts itself again with it. So the byte code is right by construction, and the same
packages give the same digest on any machine, whatever Python it has. It needs apt, dpkg and a
Debian 12 whose package sources it uses; nothing is installed and no root is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from image import bom, layout, root
from image.packages import Archive, Failed

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = ("amd64", "arm64")
# Set for the second start. It holds the command that runs Debian's openssl.
INSIDE = "SERVICE_PRECHECK_IMAGE_OPENSSL"


def main() -> int:
    """Start again under Debian's Python, or build if this is it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIR")
    parser.add_argument("--source", type=Path, default=ROOT / "src", metavar="DIR")
    parser.add_argument("--offline", action="store_true", help="ask Debian for nothing new")
    options = parser.parse_args()
    try:
        if INSIDE not in os.environ:
            _start_again(update=not options.offline)
        _build(options.output, options.source / "service_precheck", update=not options.offline)
    except Failed as failed:
        print(f"image: {failed}", file=sys.stderr)
        return 1
    return 0


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "service-precheck"


def _start_again(*, update: bool) -> None:
    """Replace this process by Debian's CPython, run from where its packages are unpacked."""
    for tool in ("apt-get", "dpkg", "dpkg-deb"):
        if not shutil.which(tool):
            raise Failed(f"{tool} is missing; build on Debian 12, or in a container of it")
    machine = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    if machine not in ARCHITECTURES:
        raise Failed(f"this machine is {machine}; the build runs on {' and '.join(ARCHITECTURES)}")
    archive = Archive(machine, _cache(), update=update)
    minimal, base, rest, openssl, libc = (
        archive.need(name).folder
        for name in (
            "python3.11-minimal",
            "libpython3.11-minimal",
            "libpython3.11-stdlib",
            "openssl",
            "libc6",
        )
    )
    triplet = root.TRIPLETS[machine]
    libraries = [
        str(archive.need(name).folder / folder / triplet)
        for name in ("libc6", "libexpat1", "libssl3", "zlib1g")
        for folder in ("lib", "usr/lib")
    ]
    loader = next((libc / "lib" / triplet).glob("ld-linux-*"))
    run = [str(loader), "--library-path", ":".join(libraries)]
    environment = {name: value for name, value in os.environ.items() if name[:6] != "PYTHON"}
    environment |= {
        "PYTHONHOME": str(base / "usr"),
        "PYTHONPATH": f"{rest / root.LIBRARY}:{rest / root.LIBRARY / 'lib-dynload'}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        # The order of a set of strings goes into byte code.
        "PYTHONHASHSEED": "0",
        INSIDE: json.dumps([*run, str(openssl / "usr/bin/openssl")]),
    }
    python = str(minimal / "usr/bin/python3.11")
    os.execve(run[0], [*run, python, "-P", "-m", "image.build", *sys.argv[1:]], environment)


def _build(output: Path, source: Path, *, update: bool) -> None:
    openssl = json.loads(os.environ.pop(INSIDE))
    for name in ("PYTHONHOME", "PYTHONPATH"):
        del os.environ[name]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    labels: layout.Json = {
        "org.opencontainers.image.title": name,
        "org.opencontainers.image.description": project["description"],
        "org.opencontainers.image.licenses": project["license"],
        "org.opencontainers.image.version": version,
    }

    output.mkdir(parents=True, exist_ok=True)
    partial = output / "image.partial"
    shutil.rmtree(partial, ignore_errors=True)
    image = layout.Layout(partial, epoch, when)
    descriptors = []
    packages = {}
    for architecture in ARCHITECTURES:
        archive = Archive(architecture, _cache(), update=update)
        debian, ours = root.build(archive, source, ROOT / "LICENSE", openssl)
        used = {file.package for file in debian.values() if file.package}
        packages[architecture] = list(used)
        layers = [(f"from {len(used)} packages of Debian 12", debian), (f"{name} {version}", ours)]
        descriptors.append(image.image(architecture, layers, labels))
    digest = image.finish(descriptors, f"localhost/{name}:{version}", labels)
    image.archive(output / f"{name}-image.tar")
    spdx = bom.document(name, version, digest, when, packages)
    (output / "image.spdx.json").write_text(json.dumps(spdx, indent=2) + "\n")
    shutil.rmtree(output / "image", ignore_errors=True)
    partial.rename(output / "image")
    for descriptor in descriptors:
        print(_summary(output / "image", descriptor))
    print(f"{output / 'image'}: {digest}")


def _summary(folder: Path, descriptor: layout.Json) -> str:
    digest = str(descriptor["digest"]).removeprefix("sha256:")
    manifest = json.loads((folder / "blobs/sha256" / digest).read_text())
    sizes = [blob["size"] / 1e6 for blob in manifest["layers"]]
    platform = descriptor["platform"]
    assert isinstance(platform, dict)
    parts = " + ".join(f"{size:.2f}" for size in sizes)
    return f"{platform['architecture']}: {sum(sizes):.2f} MB compressed ({parts}), {digest[:12]}"


if __name__ == "__main__":
    sys.exit(main())
