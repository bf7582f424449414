"""What is in the image, what is not, and where each file comes from."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.bed.process import need
from tests.image.containers import Image, Json

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "service-precheck")
COMMANDS = {"usr/bin/service-precheck", "usr/bin/precheck"}


def test_is_small(image: Image) -> None:
    """An architecture takes at most 12 MB to pull."""
    assert sum(layer["size"] for layer in image.manifest["layers"]) <= 12_000_000


def test_runs_the_gate_as_a_numeric_user(image: Image) -> None:
    """Kubernetes can tell that it is not root, and args alone are targets."""
    assert image.config["config"]["Entrypoint"] == ["service-precheck"]
    assert image.config["config"]["User"] == "65532:65532"
    assert image.config["config"].get("Cmd") is None


def test_nothing_is_open_to_others(image: Image) -> None:
    """Only root owns anything; no file can be written by others or changes who runs it."""
    for entry in image.entries().values():
        assert (entry.uid, entry.gid, entry.mtime) == (0, 0, 0), entry.name
        allowed = {0o777} if entry.issym() else {0o755} if entry.isdir() else {0o644, 0o755}
        assert entry.mode in allowed, f"{entry.name} {entry.mode:o}"
        assert entry.isreg() or entry.isdir() or entry.issym(), entry.name


def test_holds_no_shell_and_no_source(image: Image) -> None:
    """Three programs can be started: the interpreter, the gate and the toolbox."""
    programs = {
        name
        for name, entry in image.entries().items()
        if entry.isfile() and entry.mode & 0o111 and not re.search(r"\.so[.\d]*$", name)
    }
    assert programs == COMMANDS | {"usr/bin/python3.11"}
    names = {Path(name).name for name in image.entries()}
    assert not names & {"sh", "bash", "dash", "busybox", "env", "perl", "openssl", "ld.so.cache"}
    assert not [name for name in image.entries() if name.endswith(".py")]


def test_links_lead_somewhere(image: Image) -> None:
    """No symbolic link dangles."""
    entries = image.entries()
    for name in entries:
        assert resolve(entries, name) in entries, name


def test_every_shared_library_is_there(image: Image, tmp_path: Path) -> None:
    """Each library that binutils says a file asks for can be found where the loader looks."""
    readelf = need("readelf", "binutils")
    files = image.files()
    libraries = {Path(name).name for name in files if re.match(r"usr/lib/[^/]+-gnu/", name)}
    asked = set()
    for name, data in files.items():
        if data[:4] == b"\x7fELF":
            (tmp_path / "elf").write_bytes(data)
            command = [readelf, "--dynamic", str(tmp_path / "elf")]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", printed))
            assert needed <= libraries, name
            asked |= needed
    # Nor is there one that nothing asks for, but for what libc opens by itself.
    assert libraries - asked <= {"libgcc_s.so.1"}


def test_every_file_comes_from_a_listed_package(image: Image, dist: Path) -> None:
    """Debian's layer holds what its listed packages hold, compiled, and nothing else."""
    packages = debian(dist, image.architecture)
    held: dict[str, set[bytes]] = {}
    for deb in (CACHE / "debs").glob("*.deb"):
        if hashlib.sha256(deb.read_bytes()).hexdigest() in packages.values():
            for name, data in contents(deb).items():
                held.setdefault(without_usr(name), set()).add(data)
    assert held
    certificates = {
        hashlib.sha256(data).hexdigest()
        for name, copies in held.items()
        if name.startswith("share/ca-certificates/")
        for data in copies
    }
    layer = image.layers()[0]
    for entry in layer:
        if not entry.isfile():
            continue
        reader = layer.extractfile(entry)
        assert reader
        data = reader.read()
        if entry.name.startswith("etc/ssl/certs/"):
            assert hashlib.sha256(data).hexdigest() in certificates, entry.name
        elif entry.name.startswith("var/lib/dpkg/status.d/"):
            assert Path(entry.name).name in packages
        elif entry.name.endswith(".pyc"):
            sources = held[without_usr(entry.name).removesuffix("c")]
            assert data[8:16] in {importlib.util.source_hash(source) for source in sources}
        elif entry.name.endswith("/copyright"):
            assert entry.name.split("/")[-2] in packages
        else:
            sums = {hashlib.sha256(each).hexdigest() for each in held[without_usr(entry.name)]}
            assert hashlib.sha256(data).hexdigest() in sums, entry.name


def test_our_layer_is_ours(image: Image) -> None:
    """The upper layer holds the commands, one file of modules and the licence."""
    files = {entry.name for entry in image.layers()[1] if not entry.isdir()}
    ours = {"usr/lib/service-precheck/modules", "usr/share/doc/service-precheck/copyright"}
    assert files == COMMANDS | ours
    licence = image.files()["usr/share/doc/service-precheck/copyright"]
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_roots_are_found_under_openssls_hash(own_image: Image, tmp_path: Path) -> None:
    """Each root lies under the hash that OpenSSL computes for it, and none of Debian's is missing."""
    openssl = need("openssl", "openssl")
    roots = {
        name: data for name, data in own_image.files().items() if name.startswith("etc/ssl/certs/")
    }
    assert len(roots) > 100
    for name, data in roots.items():
        (tmp_path / "root.pem").write_bytes(data)
        command = [openssl, "x509", "-in", str(tmp_path / "root.pem"), "-noout", "-subject_hash"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert Path(name).stem == printed.strip(), name


def test_the_bill_of_materials_lists_what_is_there(image: Image, dist: Path) -> None:
    """The SPDX document names the packages whose status lies in the image, in these versions."""
    listed = {
        entry["name"]: entry["versionInfo"]
        for entry in spdx(dist)["packages"]
        if entry["SPDXID"].startswith(f"SPDXRef-{image.architecture}-")
    }
    inside = {}
    for name, data in image.files().items():
        if name.startswith("var/lib/dpkg/status.d/"):
            version = re.search(r"^Version: (.+)$", data.decode(), re.MULTILINE)
            assert version
            inside[Path(name).name] = version.group(1)
    assert listed == inside


def test_the_bill_of_materials_is_spdx(dist: Path) -> None:
    """It has what SPDX 2.3 demands (clauses 6, 7 and 11), and every relation leads somewhere."""
    document = spdx(dist)
    assert document["spdxVersion"] == "SPDX-2.3"
    assert document["dataLicense"] == "CC0-1.0"
    assert document["SPDXID"] == "SPDXRef-DOCUMENT"
    assert re.match(r"https://[^#]+$", document["documentNamespace"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    assert document["creationInfo"]["creators"]
    identities = [entry["SPDXID"] for entry in document["packages"]]
    assert len(identities) == len(set(identities))
    for entry in document["packages"]:
        assert re.fullmatch(r"SPDXRef-[a-zA-Z0-9.-]+", entry["SPDXID"])
        assert entry["name"]
        assert entry["downloadLocation"] == "NOASSERTION"
        assert entry["filesAnalyzed"] is False
        for checksum in entry.get("checksums", []):
            assert checksum["algorithm"] == "SHA256"
            assert re.fullmatch(r"[0-9a-f]{64}", checksum["checksumValue"])
        for reference in entry["externalRefs"]:
            assert reference["referenceCategory"] == "PACKAGE-MANAGER"
            assert re.match(r"pkg:(deb/debian|pypi|oci)/[^@]+@.+", reference["referenceLocator"])
    known = {*identities, "SPDXRef-DOCUMENT"}
    relations = document["relationships"]
    for relation in relations:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= known
    described = [r for r in relations if r["relationshipType"] == "DESCRIBES"]
    assert [r["relatedSpdxElement"] for r in described] == ["SPDXRef-image"]
    top = json.loads((dist / "image/index.json").read_text())["manifests"][0]["digest"]
    assert document["packages"][0]["checksums"][0]["checksumValue"] == top.removeprefix("sha256:")


@pytest.mark.timeout(600)
def test_the_same_packages_give_the_same_digest(dist: Path, tmp_path: Path) -> None:
    """Another interpreter's hash seed, folder and umask change nothing, to the last byte."""
    environment = os.environ | {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    subprocess.run(
        [sys.executable, "-m", "image.build", "--offline", "--output", tmp_path],
        cwd=ROOT,
        env=environment,
        umask=0o077,
        check=True,
    )
    for name in ("service-precheck-image.tar", "image.spdx.json", "image/index.json"):
        assert sha256(tmp_path / name) == sha256(dist / name), name


def test_the_archive_is_the_layout(dist: Path) -> None:
    """The one file holds exactly what the folder holds."""
    with tarfile.open(dist / "service-precheck-image.tar") as archive:
        packed = {entry.name: archive.extractfile(entry) for entry in archive}
        read = {name: reader.read() for name, reader in packed.items() if reader}
    folder = dist / "image"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert read.keys() == {str(path.relative_to(folder)) for path in files}
    for path in files:
        packed_sum = hashlib.sha256(read[str(path.relative_to(folder))]).hexdigest()
        assert packed_sum == sha256(path), path


def sha256(path: Path) -> str:
    """Return a file's digest: pytest would take minutes to show how megabytes differ."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spdx(dist: Path) -> Json:
    loaded: Json = json.loads((dist / "image.spdx.json").read_text())
    return loaded


def debian(dist: Path, architecture: str) -> dict[str, str]:
    """Return the SHA-256 of each Debian package of an architecture, by name."""
    return {
        entry["name"]: entry["checksums"][0]["checksumValue"]
        for entry in spdx(dist)["packages"]
        if entry["SPDXID"].startswith(f"SPDXRef-{architecture}-")
    }


def contents(deb: Path) -> dict[str, bytes]:
    """Return the bytes at each path of a package, links within it followed."""
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True)
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        links = {}
        for entry in tar:
            name = entry.name.removeprefix("./")
            if reader := tar.extractfile(entry) if entry.isreg() else None:
                found[name] = reader.read()
            elif entry.issym():
                links[name] = os.path.normpath(Path(name).parent / entry.linkname)
    return found | {name: found[target] for name, target in links.items() if target in found}


def without_usr(path: str) -> str:
    """Return a path as both a package with /usr and one without would say it."""
    return path.removeprefix("usr/")


def resolve(entries: dict[str, tarfile.TarInfo], name: str) -> str:
    """Return where a path leads, every link on the way followed."""
    reached = ""
    parts = name.split("/")
    while parts:
        reached = os.path.normpath(os.path.join(reached, parts.pop(0)))
        entry = entries.get(reached)
        if entry and entry.issym():
            target = os.path.normpath(Path("/", reached).parent / entry.linkname)
            parts = [*target.lstrip("/").split("/"), *parts]
            reached = ""
    return reached
