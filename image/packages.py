"""Debian's packages for one architecture, without touching the machine's own apt.

Where packages come from, which proxies to use and which keys to trust is taken from the machine;
lists, status and downloads live in a cache folder of our own. Nothing is installed and no
maintainer script runs: packages are downloaded, checked against the hash in Debian's signed index
and unpacked.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

SUITE = "bookworm"
ETC_APT = Path("/etc/apt")
# What apt may be told by the machine: how to reach the archive. Its hooks, targets and languages
# concern the machine's own apt.
_NOT_OURS = ("Acquire::IndexTargets", "Acquire::Changelogs", "Acquire::Languages")


class Failed(Exception):
    """The build can't go on; the text says why and what to do."""


class Package:
    """One unpacked package. `fields` are those of its control file, `folder` holds its files."""

    def __init__(self, deb: Path, folder: Path) -> None:
        self.deb = deb
        self.folder = folder
        self.control = _output("dpkg-deb", "--field", str(deb))
        self.fields = _fields(self.control)
        self.name = self.fields["Package"]
        self.version = self.fields["Version"]
        source, _, version = self.fields.get("Source", self.name).partition(" ")
        self.source = source
        self.source_version = version.strip("()") or self.version

    def depends(self) -> list[str]:
        """The names it depends on, the first of each choice."""
        listed = ",".join(self.fields.get(name, "") for name in ("Pre-Depends", "Depends"))
        return [
            match.group()
            for item in listed.split(",")
            if (match := re.match(r"[a-z0-9][a-z0-9+.-]+", item.strip()))
        ]

    def find(self, path: str) -> Path | None:
        """The file at a path of the root (`usr/lib/...`), also where the package says `lib/...`."""
        for candidate in (path, path.removeprefix("usr/")):
            found = self.folder / candidate
            if found.is_symlink() or found.exists():
                return found
        return None


class Archive:
    """Debian's archive as one architecture sees it."""

    def __init__(self, architecture: str, cache: Path, *, update: bool = True) -> None:
        self.architecture = architecture
        self._debs = cache / "debs"
        self._unpacked = cache / "unpacked" / architecture
        self._packages: dict[str, Package | None] = {}
        self._state = cache / "apt" / architecture
        for folder in ("lists/partial", "archives/partial", "sources"):
            (self._state / folder).mkdir(parents=True, exist_ok=True)
        self._debs.mkdir(parents=True, exist_ok=True)
        self._configure()
        if update:
            self._apt("apt-get", "--quiet", "update", "--error-on=any")

    def get(self, name: str) -> Package | None:
        """The package of that name, downloaded and unpacked once; None if it is only virtual."""
        if name not in self._packages:
            self._packages[name] = self._get(name)
        return self._packages[name]

    def need(self, name: str) -> Package:
        """As `get`, for a package that must be there. Raises Failed."""
        package = self.get(name)
        if package is None:
            raise Failed(f"Debian {SUITE} has no package {name} for {self.architecture}")
        return package

    def _get(self, name: str) -> Package | None:
        listed = _fields(self._apt("apt-cache", "show", "--no-all-versions", name, check=False))
        if listed.get("Package") != name:
            return None
        version = listed["Version"].replace(":", "%3a")
        deb = self._debs / f"{name}_{version}_{listed['Architecture']}.deb"
        if not deb.exists() or _sha256(deb) != listed["SHA256"]:
            deb.unlink(missing_ok=True)
            self._apt("apt-get", "--quiet", "download", name)
            if _sha256(deb) != listed["SHA256"]:
                raise Failed(f"{deb} is not what Debian's index lists; remove it and try again")
        folder = self._unpacked / deb.stem
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = folder.with_suffix(f".{os.getpid()}")
            subprocess.run(["dpkg-deb", "--extract", deb, partial], check=True)
            try:
                partial.rename(folder)
            except OSError:  # another build was quicker
                shutil.rmtree(partial)
        return Package(deb, folder)

    def _configure(self) -> None:
        sources = _sources()
        for old in (self._state / "sources").iterdir():
            old.unlink()
        for suffix, text in sources.items():
            (self._state / f"sources/debian.{suffix}").write_text(text)
        (self._state / "status").touch()
        settings = [
            line
            for line in _output("apt-config", "dump").splitlines()
            if line.startswith("Acquire::") and not line.startswith(_NOT_OURS)
        ]
        settings += [
            f'{name} "{value}";'
            for name, value in {
                "APT::Architecture": self.architecture,
                "APT::Architectures": self.architecture,
                # The cache belongs to whoever builds, so apt's own user could not write there.
                "APT::Sandbox::User": "root" if os.getuid() == 0 else "",
                "Acquire::Languages": "none",
                "Dir::Etc::main": "/dev/null",
                "Dir::Etc::parts": "/dev/null",
                "Dir::Etc::preferences": "/dev/null",
                "Dir::Etc::preferencesparts": "/dev/null",
                "Dir::Etc::sourcelist": "/dev/null",
                "Dir::Etc::sourceparts": self._state / "sources",
                "Dir::State": self._state,
                "Dir::State::status": self._state / "status",
                "Dir::Cache": self._state,
                "Dir::Log": self._state,
            }.items()
        ]
        config = self._state / "apt.conf"
        # A proxy's address may hold a password.
        config.touch(mode=0o600)
        config.write_text("\n".join(settings) + "\n")

    def _apt(self, *command: str, check: bool = True) -> str:
        environment = os.environ | {"APT_CONFIG": str(self._state / "apt.conf"), "LC_ALL": "C"}
        done = subprocess.run(
            command,
            cwd=self._debs,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if check and done.returncode != 0:
            raise Failed(f"{' '.join(command)} ({self.architecture}): {done.stderr.strip()}")
        return done.stdout


def _sources() -> dict[str, str]:
    """The machine's sources for our suite, by file type. Raises Failed if it has none."""
    stanzas: list[str] = []
    for path in sorted(ETC_APT.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            lines = [line for line in stanza.splitlines() if not line.startswith("#")]
            suites = [s for line in lines if line.startswith("Suites:") for s in line.split()[1:]]
            ours = suites and all(re.fullmatch(rf"{SUITE}(-updates|-security)?", s) for s in suites)
            if ours and any(re.match(r"Types:.*\bdeb\b", line) for line in lines):
                kept = [line for line in lines if not line.startswith("Architectures:")]
                stanzas.append("\n".join(kept))
    one_line = [
        re.sub(r"\barch=[^\s\]]+", "", line)
        for path in [ETC_APT / "sources.list", *sorted(ETC_APT.glob("sources.list.d/*.list"))]
        if path.exists()
        for line in path.read_text().splitlines()
        if re.match(rf"deb\s+(\[[^]]*\]\s+)?\S+\s+{SUITE}(-updates|-security)?\s", line)
    ]
    if not stanzas and not one_line:
        raise Failed(
            f"this machine's apt has no sources for Debian 12 ({SUITE}); build in a container or"
            f" virtual machine of Debian 12"
        )
    found = {"sources": "\n\n".join(stanzas), "list": "\n".join(one_line)}
    return {suffix: f"{text}\n" for suffix, text in found.items() if text}


def _fields(control: str) -> dict[str, str]:
    """The first line of each field of a control file's first paragraph."""
    lines = control.partition("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines if not line.startswith(" "))
    return {name: value.strip() for name, _, value in pairs}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
