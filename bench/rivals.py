"""What is measured: the gate as the image starts it, the gate by pip's script, and its rivals.

The loops are those that people paste into manifests. Every rival waits without a time limit.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from bench.launch import PYTHON, Failed
from tools.servers import cache

ROOT = Path(__file__).resolve().parents[1]

GATE, PIP, WAIT4X = "service-precheck", "service-precheck by pip", "wait4x"
NSLOOKUP, GETADDRINFO, WAIT_FOR_IT = "nslookup loop", "getaddrinfo loop", "wait-for-it"
BARE = "bare interpreter"
NAME, PORT, PAGE = "name", "port", "page"
ALL = (GATE, PIP, WAIT4X, NSLOOKUP, GETADDRINFO, WAIT_FOR_IT)

# As most programs call it: without AI_ADDRCONFIG, so that A and AAAA are asked for.
LOOK_UP = """
import _socket, sys, time
while True:
    try:
        _socket.getaddrinfo(sys.argv[1], None, 0, _socket.SOCK_STREAM)
        break
    except _socket.gaierror:
        time.sleep(1)
"""

# The image's builder is the one that knows how the image starts. It runs under the interpreter that
# will read the byte code.
PACK = """
import sys
from pathlib import Path
from image import closure, root
source, target = Path(sys.argv[1]), Path(sys.argv[2])
standard = Path("/usr/lib/python3.%d" % sys.version_info.minor)
library = closure.Library([standard], [standard / "lib-dynload"])
layer = root._ours(source, closure.modules(source, library), source.parent.parent / "LICENSE")
for path, file in layer.items():
    place = target / path
    place.parent.mkdir(parents=True, exist_ok=True)
    data = file.data
    if file.executable:
        data = data.replace(b'"/usr/', b'"%s/usr/' % str(target).encode())
    place.write_bytes(data)
    place.chmod(0o755 if file.executable else 0o644)
"""


class Rival:
    """A program that waits. `command(kind, target)` are its words, None if it does not do that kind."""

    __slots__ = ("command", "name", "version")

    def __init__(
        self, name: str, version: str, command: Callable[[str, str], list[str] | None]
    ) -> None:
        self.name = name
        self.version = version
        self.command = command


class Field:
    """All that could be had on this machine, by name, and why the others could not."""

    def __init__(self, wanted: Sequence[str] = ()) -> None:
        self.rivals: dict[str, Rival] = {}
        self.missing: dict[str, str] = {}
        # Measures that run together call it once their scenes stand, and go on when all do.
        self.set_up: Callable[[], object] = int
        self._folder = tempfile.TemporaryDirectory(prefix="bench-rivals-")
        makers: dict[str, Callable[[], Rival]] = {
            GATE: self._gate,
            PIP: self._pip,
            WAIT4X: self._wait4x,
            NSLOOKUP: self._nslookup,
            GETADDRINFO: self._getaddrinfo,
            WAIT_FOR_IT: self._wait_for_it,
        }
        for name, make in makers.items():
            if wanted and name not in wanted:
                continue
            try:
                self.rivals[name] = make()
            except (Failed, OSError, subprocess.SubprocessError) as error:
                said = getattr(error, "stderr", b"") or b""
                self.missing[name] = f"{error} {said.decode(errors='replace')[-300:]}".strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def of(self, kind: str, *names: str) -> dict[str, Callable[[str], list[str]]]:
        """The rivals (of `names`, in that order) that wait for this kind, as words for a target."""
        chosen: dict[str, Callable[[str], list[str]]] = {}
        for name in names or tuple(self.rivals):
            rival = self.rivals.get(name)
            if rival is not None and rival.command(kind, "x:1") is not None:
                chosen[name] = lambda target, rival=rival: rival.command(kind, target) or []  # type: ignore[misc]
        return chosen

    def _gate(self) -> Rival:
        folder = Path(self._folder.name, "image")
        words = [PYTHON, "-c", PACK, str(ROOT / "src/service_precheck"), str(folder)]
        # Everyone has to be able to read it, whoever a scene runs as.
        Path(self._folder.name).chmod(0o755)
        subprocess.run(words, check=True, cwd=ROOT, capture_output=True, timeout=120)
        return self._ours(GATE, str(folder / "usr/bin/service-precheck"))

    def _pip(self) -> Rival:
        folder = Path(self._folder.name)
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
        subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=300)
        (wheel,) = folder.glob("*.whl")
        venv = folder / "venv"
        make = [PYTHON, "-m", "venv", "--without-pip", str(venv)]
        subprocess.run(make, check=True, capture_output=True, timeout=120)
        pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install"]
        pip += ["--quiet", "--no-index", "--no-deps", str(wheel)]
        subprocess.run(pip, check=True, capture_output=True, timeout=300)
        return self._ours(PIP, str(venv / "bin/service-precheck"))

    def _ours(self, name: str, program: str) -> Rival:
        told = _told(program, "--version").split()
        return Rival(name, told[-1] if told else "?", lambda _kind, target: [program, target])

    def _wait4x(self) -> Rival:
        program = _told(sys.executable, "-m", "tools.fetch_wait4x")
        kinds = {NAME: ["dns", "A"], PORT: ["tcp"], PAGE: ["http"]}

        def command(kind: str, target: str) -> list[str]:
            url, _, ca = target.partition("#ca=")
            more = ["--ca-file", ca] if ca else []
            return [program, *kinds[kind], url, "--timeout", "0", *more]

        version = Path(program).parents[2].name
        return Rival(WAIT4X, f"{version} (Debian unstable)", command)

    def _nslookup(self) -> Rival:
        version = _told("nslookup", "-version")
        return Rival(NSLOOKUP, version, _nslookup_loop)

    def _getaddrinfo(self) -> Rival:
        def command(kind: str, target: str) -> list[str] | None:
            return [PYTHON, "-IS", "-c", LOOK_UP, target] if kind == NAME else None

        return Rival(GETADDRINFO, _told("getent", "--version").splitlines()[0], command)

    def _wait_for_it(self) -> Rival:
        folder = cache() / "wait-for-it"
        program = folder / "usr/bin/wait-for-it"
        if not program.exists():
            with tempfile.TemporaryDirectory() as scratch:
                apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", "wait-for-it"]
                subprocess.run(apt, check=True, cwd=scratch, capture_output=True, timeout=120)
                (package,) = Path(scratch).glob("*.deb")
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "version").write_text(package.name.split("_")[1])
                subprocess.run(["dpkg", "-x", package, folder], check=True)

        def command(kind: str, target: str) -> list[str] | None:
            return [str(program), target, "--timeout=0"] if kind == PORT else None

        return Rival(WAIT_FOR_IT, f"{(folder / 'version').read_text()} (Debian)", command)


def _nslookup_loop(kind: str, target: str) -> list[str] | None:
    if kind != NAME:
        return None
    return ["/bin/sh", "-c", f"until nslookup {shlex.quote(target)}; do sleep 2; done"]


def _told(*words: str) -> str:
    if shutil.which(words[0]) is None:
        raise Failed(f"there is no {words[0]}")
    done = subprocess.run(
        words,
        check=True,
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        env={**os.environ, "LC_ALL": "C"},
    )
    return (done.stdout or done.stderr).decode().strip()
