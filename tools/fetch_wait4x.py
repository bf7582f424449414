"""Fetches wait4x, the benchmark's main rival, and prints the path of its binary.

Debian has it in its unstable suite only. It is unpacked beside the project's other cached files,
never installed, and apt works in a folder of its own, so that the machine's configuration, its
package lists and what it would install stay as they are.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.servers import cache

SOURCES = Path("/etc/apt")


def field(paragraph: str, name: str) -> list[str]:
    for line in paragraph.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.lower() == name.lower():
            return value.split()
    return []


def unstable_sources(codename: str) -> str:
    """The machine's own source of its release, in Debian's deb822 form, pointed at unstable."""
    for file in sorted(SOURCES.glob("sources.list.d/*.sources")):
        for paragraph in file.read_text().split("\n\n"):
            suites, components = field(paragraph, "Suites"), field(paragraph, "Components")
            if codename in suites and "main" in components:
                lines = ["Types: deb", "Suites: sid", "Components: main"]
                lines += [f"URIs: {' '.join(field(paragraph, 'URIs'))}"]
                if keyring := field(paragraph, "Signed-By"):
                    lines += [f"Signed-By: {' '.join(keyring)}"]
                return "\n".join(lines) + "\n"
    for file in [SOURCES / "sources.list", *sorted(SOURCES.glob("sources.list.d/*.list"))]:
        for line in file.read_text().splitlines() if file.exists() else []:
            words = line.split()
            if words[:1] == ["deb"] and codename in words and "main" in words:
                uri = words[words.index(codename) - 1]
                return f"Types: deb\nSuites: sid\nComponents: main\nURIs: {uri}\n"
    sys.exit(f"no apt source of Debian {codename} on this machine")


def codename() -> str:
    release = platform.freedesktop_os_release()
    if release["ID"] != "debian" or "VERSION_CODENAME" not in release:
        sys.exit("wait4x is fetched from Debian's packages, and this is not a release of Debian")
    return release["VERSION_CODENAME"]


def fetch(folder: Path) -> Path:
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "lists/partial").mkdir(parents=True)
        Path(scratch, "archives/partial").mkdir(parents=True)
        Path(scratch, "status").touch()
        Path(scratch, "sid.sources").write_text(unstable_sources(codename()))
        options = {
            "Dir::State": scratch,
            "Dir::State::lists": f"{scratch}/lists",
            "Dir::State::status": f"{scratch}/status",
            "Dir::Cache": scratch,
            "Dir::Cache::archives": f"{scratch}/archives",
            "Dir::Etc::sourcelist": f"{scratch}/sid.sources",
            "Dir::Etc::sourceparts": "-",
            "Acquire::Check-Valid-Until": "false",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "",
        }
        apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "download", "wait4x"], cwd=scratch, check=True)
        (package,) = Path(scratch).glob("wait4x_*.deb")
        version = package.name.split("_")[1]
        target = folder / version.replace("%3a", ":")
        subprocess.run(["dpkg", "-x", package, target], check=True)
    return target / "usr/bin/wait4x"


def main() -> None:
    folder = cache() / "wait4x"
    kept = sorted(folder.glob("*/usr/bin/wait4x"), key=lambda path: path.stat().st_mtime)
    folder.mkdir(parents=True, exist_ok=True)
    print(kept[-1] if kept else fetch(folder))


if __name__ == "__main__":
    main()
