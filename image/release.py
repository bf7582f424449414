"""What a release does besides building: check that all parts agree, push, sign, sum.

    python -m image.release check     version, change log, tag and artefacts agree; dist/SHA256SUMS
    python -m image.release image     check, then push and sign the image at $IMAGE_REPOSITORY
    python -m image.release dry-run   check, then push to a registry of its own on loopback

A dry run signs nothing and uploads nothing: both need the identity that only the forge gives. It
prints the commands that a release would run. $RELEASE_TAG is the tag being released, if any.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from image.packages import Failed

ROOT = Path(__file__).resolve().parent.parent
DIST = Path(os.environ.get("PRECHECK_TEST_DIST", ROOT / "dist"))
ARCHIVE = "service-precheck-image.tar"
BILL = "image.spdx.json"
REGISTRY = """
version: 0.1
storage:
  filesystem:
    rootdirectory: {folder}
http:
  addr: {address}
"""


def main() -> int:
    """Do what the one argument says."""
    verbs = {"check": check, "image": release, "dry-run": dry_run}
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        verbs[sys.argv[1]]()
    except Failed as failed:
        print(f"release: {failed}", file=sys.stderr)
        return 1
    return 0


def check() -> None:
    """Find all that disagrees, then write the sums. Raises Failed."""
    version = _version()
    wrong = []
    tag = os.environ.get("RELEASE_TAG", "")
    if tag and tag != f"v{version}":
        wrong.append(f"the tag is {tag}, the project's version is {version}")
    entry = re.search(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if entry is None or entry.group(1) != version:
        wrong.append(f"CHANGELOG.md does not begin with {version}")
    elif tag and not re.fullmatch(r"\d{4}-\d\d-\d\d", entry.group(2)):
        wrong.append(f"CHANGELOG.md dates {version} {entry.group(2)!r}, not by a day")
    artefacts = _artefacts(version)
    missing = [path.name for path in artefacts if not path.exists()]
    if missing:
        wrong.append(f"{DIST} lacks {', '.join(missing)}; make image package")
    else:
        wrong += _labels(version) + _metadata(version)
    if wrong:
        raise Failed("; ".join(wrong))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in artefacts]
    (DIST / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    print(*sums, sep="\n")


def release() -> None:
    """Push the image to $IMAGE_REPOSITORY and sign it there. Raises Failed."""
    repository = os.environ.get("IMAGE_REPOSITORY", "")
    if not repository:
        raise Failed("IMAGE_REPOSITORY is not set; it names the repository to push to")
    check()
    pushed = _push(f"{repository}:{_version()}")
    for command in _signing(f"{repository}@{pushed}"):
        _run(command)


def dry_run() -> None:
    """Do all of a release that needs nobody's leave. Raises Failed."""
    check()
    with _registry() as address:
        repository = f"{address}/service-precheck"
        pushed = _push(f"{repository}:{_version()}", "--dest-tls-verify=false")
        raw = subprocess.check_output(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{repository}@{pushed}"]
        )
        if f"sha256:{hashlib.sha256(raw).hexdigest()}" != pushed:
            raise Failed(f"the registry gave something else than was pushed as {pushed}")
        print(f"pushed {pushed} and read it back")
    there = f"$IMAGE_REPOSITORY@{pushed}"
    for command in _signing(there):
        print("a release would run:", shlex.join(command).replace(shlex.quote(there), there))
    print("a release would upload:", *(path.name for path in _artefacts(_version())[:2]))


def _version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def _artefacts(version: str) -> list[Path]:
    name = f"service_precheck-{version}"
    files = (f"{name}-py3-none-any.whl", f"{name}.tar.gz", ARCHIVE, BILL)
    return [DIST / file for file in files]


def _labels(version: str) -> list[str]:
    """What is wrong with the image's index."""
    with tarfile.open(DIST / ARCHIVE) as archive:
        digest = json.loads(_read(archive, "index.json"))["manifests"][0]["digest"]
        index = json.loads(_read(archive, f"blobs/sha256/{digest.removeprefix('sha256:')}"))
    labelled = index["annotations"]["org.opencontainers.image.version"]
    bill = json.loads((DIST / BILL).read_text())["documentNamespace"]
    wrong = [] if labelled == version else [f"the image is labelled {labelled}, not {version}"]
    if digest.removeprefix("sha256:") not in bill:
        wrong.append(f"{BILL} describes another image than {ARCHIVE} holds")
    return wrong


def _metadata(version: str) -> list[str]:
    """What is wrong with the wheel."""
    wheel = _artefacts(version)[0]
    with zipfile.ZipFile(wheel) as packed:
        name = next(name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
        text = packed.read(name).decode()
    return [] if f"\nVersion: {version}\n" in text else [f"{wheel.name} has another version in it"]


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    reader = archive.extractfile(name)
    if reader is None:
        raise Failed(f"{ARCHIVE} has no {name}")
    return reader.read()


def _push(target: str, *options: str) -> str:
    """Push all architectures. The digest under which they can be had."""
    if not shutil.which("skopeo"):
        raise Failed("skopeo is missing (Debian package skopeo)")
    with tempfile.NamedTemporaryFile() as digest:
        source = f"oci-archive:{DIST / ARCHIVE}"
        # Kept as built, so that the digest is the one that was tested.
        command = ["skopeo", "copy", "--all", "--preserve-digests", "--digestfile", digest.name]
        _run([*command, *options, source, f"docker://{target}"])
        return Path(digest.name).read_text().strip()


def _signing(image: str) -> list[list[str]]:
    """Keyless: the forge says who runs this, and the certificate that it gets says it on."""
    predicate = ["--type", "spdxjson", "--predicate", str(DIST / BILL)]
    return [
        ["cosign", "sign", "--yes", "--recursive", image],
        ["cosign", "attest", "--yes", *predicate, image],
    ]


def _run(command: list[str]) -> None:
    print("+", shlex.join(command), flush=True)
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
        raise Failed(f"{command[0]} failed")


@contextlib.contextmanager
def _registry() -> Iterator[str]:
    """A registry on loopback that is gone afterwards. Gives its address."""
    if not shutil.which("docker-registry"):
        raise Failed("docker-registry is missing (Debian package docker-registry)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yml")
        config.write_text(REGISTRY.format(folder=folder, address=address))
        with open(Path(folder, "log"), "w") as log:
            server = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
        try:
            _wait_for(address, server)
            yield address
        finally:
            server.terminate()
            server.wait()


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise Failed("docker-registry does not start") from None
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
