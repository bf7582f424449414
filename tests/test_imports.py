"""What the gate loads, to the module: a start that costs less than a tenth of a second at 100m cpu.

Held on every CPython found here, from 3.11 on: Debian's own, those on PATH, those of pyenv. What the
bare interpreter loads by itself (`-I -S`) is not counted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from service_precheck import schemes
from tests.bed.pages import ScriptedHTTP, page
from tests.bed.process import SOURCE
from tests.bed.recording import Recording, all_recordings, play
from tests.bed.sockets import Server, hang
from tests.bed.tls import TLS, Authority

C_MODULES = {
    "_heapq",
    "_collections",
    "_signal",
    "_socket",
    "_thread",
    "errno",
    "gc",
    "posix",
    "select",
    "time",
}
# `from __future__` is an import like any other: 0.1 ms.
LEAN = C_MODULES | {"__future__"}
# Of our own, what only some targets or outputs need. All else is the core, and loaded by each run.
LAZY = (
    *("access", "causes", "codecs", "digests", "library", "probes", "tls", "toolbox"),
    *("report.jsonlines", "report.live", "report.plain", "report.table"),
)
WAITING = {"probes", "report.plain"}

# Runs the gate and tells which modules were loaded when it ended.
TELL = """
import sys
before = set(sys.modules)
sys.path.insert(0, {source!r})
{first}
import posix
leave = posix._exit
def tell(status):
    names = " ".join(sorted(set(sys.modules) - before))
    posix.write({report}, names.encode())
    leave(status)
posix._exit = tell
sys.argv[0] = "service-precheck"
from service_precheck.start import main
main()
"""


@cache
def interpreters() -> dict[str, str]:
    """Each CPython of 3.11 or later once, by its version."""
    candidates = ["/usr/bin/python3"]
    candidates += [f"python3.{minor}" for minor in range(11, 20)]
    candidates += map(str, sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python")))
    found: dict[str, str] = {}
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is None:
            continue
        ask = "import sys; print(sys.implementation.name, *sys.version_info[:3])"
        told = subprocess.run([path, "-IS", "-c", ask], capture_output=True, text=True)
        name, *version = told.stdout.split() or [""]
        if name == "cpython" and tuple(map(int, version)) >= (3, 11):
            found.setdefault(".".join(version), path)
    return found


@pytest.fixture(params=sorted(interpreters()))
def python(request: pytest.FixtureRequest) -> str:
    """One interpreter after the other."""
    return interpreters()[request.param]


def loaded(python: str, *arguments: str, first: str = "", status: int = 0) -> set[str]:
    """The modules that a run of the gate loads beyond the bare interpreter's own."""
    reading, writing = os.pipe()
    try:
        script = TELL.format(source=str(SOURCE), report=writing, first=first)
        done = subprocess.run(
            [python, "-IS", "-c", script, *arguments],
            capture_output=True,
            text=True,
            pass_fds=[writing],
            env={"PATH": os.defpath},
            timeout=50,
        )
        os.close(writing)
        writing = -1
        told = os.read(reading, 1 << 20).decode()
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    assert done.returncode == status, done.stderr
    return set(told.split())


def split(modules: set[str]) -> tuple[set[str], set[str]]:
    """Our own modules that not every run needs, without the package's name; and all others."""
    ours = {name for name in modules if name.split(".")[0] == "service_precheck"}
    inside = {name.removeprefix("service_precheck.") for name in ours}
    lazy = {name for name in inside if any(f"{name}.".startswith(f"{one}.") for one in LAZY)}
    return lazy, modules - ours


def test_there_is_an_interpreter() -> None:
    """The tests below run on at least one CPython."""
    assert interpreters()


def test_help(python: str) -> None:
    """`--help` loads no probe and nothing that waits."""
    ours, others = split(loaded(python, "--help"))
    assert others <= LEAN
    assert not ours


def test_bare_name(python: str) -> None:
    """A name loads the C modules, the core and the one probe."""
    ours, others = split(loaded(python, "localhost"))
    assert others <= LEAN
    assert ours == WAITING | {"probes.dns"}


def test_port(python: str) -> None:
    """A port loads the C modules, the core and the one probe."""
    with Server(hang) as server:
        ours, others = split(loaded(python, f"127.0.0.1:{server.port}"))
    assert others <= LEAN
    assert ours == WAITING | {"probes.tcp"}


def test_page(python: str) -> None:
    """A page loads HTTP and nothing of TLS, of JSON, or of the interpreter's own library."""
    with ScriptedHTTP() as pages:
        pages.on("/", page(200))
        ours, others = split(loaded(python, pages.url))
    assert others <= LEAN
    ours = {name for name in ours if not name.startswith("codecs")}
    assert ours == WAITING | {"access", "probes.http"}


def test_secure_page(python: str, authority: Authority) -> None:
    """A page over TLS loads the C module of TLS on top, and not the library's `ssl`."""
    with ScriptedHTTP(tls=TLS(authority.issue())) as pages:
        pages.on("/", page(200))
        target = f"https://localhost:{pages.port}/#ca={authority.file}"
        ours, others = split(loaded(python, target))
    assert others <= LEAN | {"_ssl"}
    ours = {name for name in ours if not name.startswith("codecs")}
    assert ours == WAITING | {"access", "probes.http", "tls"}


# What a recorded exchange loads besides the C modules: of our own, and of the interpreter's.
_SHA2 = {"_sha2", "_sha256", "_sha512"}
_GRPC = {"codecs.grpc", "codecs.hpack", "codecs.http2", "codecs.protobuf"}
_MYSQL = {f"codecs.mysql.{part}" for part in ("login", "options", "state", "wire")}
_MYSQL |= {"codecs.credentials", "digests"}
_POSTGRESQL = {f"codecs.postgresql.{part}" for part in ("login", "options", "state", "wire")}
_POSTGRESQL |= {"codecs.credentials"}
_SCRAM = {"codecs.scram", "digests"}
SERVICES: dict[str, tuple[set[str], set[str]]] = {
    "amqp": (
        {*(f"codecs.amqp.{part}" for part in ("login", "options", "wire")), "codecs.credentials"},
        set(),
    ),
    "elasticsearch": (
        {
            *(f"codecs.elasticsearch.{part}" for part in ("api", "health")),
            *("codecs.credentials", "codecs.http1", "codecs.json_path"),
        },
        {"_json"},
    ),
    "etcd": (
        {*_GRPC, *(f"codecs.{part}" for part in ("credentials", "etcd", "etcd_options", "hosts"))},
        set(),
    ),
    "grpc": ({*_GRPC, "codecs.grpc_options"}, set()),
    "kafka": (
        {
            *(f"codecs.kafka.{part}" for part in ("entry", "fault", "options", "talk", "wire")),
            *_SCRAM,
            *("codecs.credentials", "codecs.hosts"),
        },
        _SHA2,
    ),
    "mongodb": (
        {
            *(f"codecs.mongodb.{part}" for part in ("login", "member", "options", "wire")),
            *_SCRAM,
            "codecs.mongodb.bson",
            "codecs.credentials",
        },
        # OpenSSL's: its logins take 10,000 to 15,000 rounds.
        {*_SHA2, "_hashlib"},
    ),
    "mysql": (_MYSQL, {"_sha1"}),
    "mysql-replica": (_MYSQL, {"_sha1"}),
    "mysql-sha2": ({*_MYSQL, "codecs.mysql.rsa"}, {*_SHA2, "_sha1"}),
    "mysql-tls": ({*_MYSQL, "codecs.mysql.tls"}, {"_sha1"}),
    "postgresql": (_POSTGRESQL | _SCRAM, _SHA2),
    "postgresql-standby": (_POSTGRESQL | {"digests"}, {"_md5"}),
    "postgresql-stranger": (_POSTGRESQL, set()),
    "redis": (
        {"codecs.credentials", "codecs.redis.info", "codecs.redis.options", "codecs.redis.resp"},
        set(),
    ),
    "redis-cluster": (
        {"codecs.redis.info", "codecs.redis.nodes", "codecs.redis.options", "codecs.redis.resp"},
        set(),
    ),
    "zookeeper": (
        {
            *(f"codecs.zookeeper.{part}" for part in ("options", "session", "words", "znode")),
            *("codecs.credentials", "codecs.hosts", "codecs.zookeeper.ensemble"),
        },
        set(),
    ),
}
STEADY = """
import posix
posix.urandom = lambda size: (b"service-precheck" * size)[:size]
"""


# A kubeconfig file is read with the standard library; `tests/probes/test_kube.py` has what a pod loads.
OF_PODS = [recording for recording in all_recordings() if "{kubeconfig}" not in recording.target]


@pytest.mark.parametrize("recording", OF_PODS, ids=lambda recording: recording.name)
def test_services(python: str, recording: Recording, authority: Authority) -> None:
    """A service's target loads its own probe and codecs on top, in TLS what that takes, and nothing else."""
    name = recording.name
    mine, builtin = SERVICES[name if name in SERVICES else name.removesuffix("-tls")]
    if recording.speaks_tls:
        mine, builtin = {*mine, "tls"}, {*builtin, "_ssl"}
    with play(recording, authority) as target:
        ours, others = split(loaded(python, target, first=STEADY))
    assert others <= LEAN | {"binascii"} | builtin
    probe = f"probes.{schemes.BUILT_IN[recording.scheme.name]}"
    packages = {name.rpartition(".")[0] for name in mine if name.count(".") == 2}
    assert ours == WAITING | {"access", "codecs", probe} | mine | packages


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (("file:///etc/passwd",), {"probes.file", "report.plain"}),
        (
            ("exec:///bin/true",),
            {"probes.exec", "codecs", "codecs.command", "report.plain"},
        ),
        (("-q", "localhost"), {"probes.dns", "report.plain"}),
        (("any(localhost, 127.0.0.1:1)",), {"probes.dns", "probes.tcp", "report.plain"}),
        (("--output", "json", "localhost"), {"probes.dns", "report.jsonlines"}),
    ],
)
def test_other_targets(arguments: tuple[str, ...], more: set[str]) -> None:
    """Files, commands, groups and JSON lines stay as lean."""
    for python in interpreters().values():
        ours, others = split(loaded(python, *arguments))
        assert others <= LEAN | {"_json"}
        assert ours == {"probes"} | more


def test_nothing_of_third_parties(python: str) -> None:
    """The gate finds its way with every import refused but those of the list: there is no fallback
    that would reach for more."""
    allowed = sorted({name.split(".")[0] for name in LEAN} | {"service_precheck"})
    refuse = f"""
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {allowed!r}:
            raise SystemError("imports " + name)
sys.meta_path.insert(0, Refuse())
"""
    modules = loaded(python, "localhost", first=refuse)
    assert split(modules)[1] <= LEAN


def test_importing_the_library_is_lean(python: str) -> None:
    """`import service_precheck` loads no engine before one of its names is used."""
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); before = set(sys.modules); "
        "import service_precheck; print(*(set(sys.modules) - before))"
    )
    told = subprocess.run([python, "-IS", "-c", script], capture_output=True, text=True, check=True)
    assert {"service_precheck"} <= set(told.stdout.split()) <= {"service_precheck", "__future__"}
