"""Elasticsearch 5.6 to 8.19 and OpenSearch 2.19: `with OpenSearch() as node`, a node of its own data.

    with OpenSearch() as node:
        node.ask("PUT", "/orders", {"settings": {"number_of_replicas": 1}})     # status and answer
        node.place, node.log, node.version

`stop()`, `kill()` (SIGKILL) and `start()` take it down and bring it back; `launch()` starts it and waits
for nothing. Further settings (`"node.name=two"`) win over its own; with `awaited=False` it is not
waited for at the start either.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import need
from tools.servers import cache, maven

if TYPE_CHECKING:
    from types import TracebackType

# A small JVM that starts soon: one compiler, one collector.
JAVA = ("-Xms128m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
# Without a configuration log4j tells errors only, and a server's own default is this.
LOG = "-Dlog4j2.level=INFO"
# Who tells of memory, disks and delays.
MACHINE = ("JvmGcMonitorService", "DiskThresholdMonitor", "ThreadPool")


class Node:
    """What all have in common."""

    product = ""
    transport_setting = "transport.port"

    def __init__(self, *settings: str, awaited: bool = True) -> None:
        self._settings = settings
        self._awaited = awaited

    def __enter__(self) -> Self:
        self.port, self.transport_port = free_port(), free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="bed-es-"))
        try:
            self._daemon = Daemon(*self._argv()).__enter__()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        try:
            if self._awaited:
                self.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Nothing of it is needed any more.
        self._daemon.stop(signal.SIGKILL)
        self._daemon.__exit__(kind, error, traceback)
        shutil.rmtree(self.folder)

    def _argv(self) -> list[str]:
        raise NotImplementedError

    def _all_settings(self, *own: str) -> list[str]:
        """One node alone, unless settings say otherwise: a later one wins."""
        settings = [
            *("cluster.name=bed", "node.name=one", "network.host=127.0.0.1"),
            *(f"http.port={self.port}", f"{self.transport_setting}={self.transport_port}"),
            *("discovery.type=single-node", *own, *self._settings),
        ]
        known = dict(setting.split("=", 1) for setting in settings)
        return [f"{name}={value}" for name, value in known.items()]

    @property
    def place(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def daemon(self) -> Daemon:
        """Its process."""
        return self._daemon

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._daemon.log

    def told(self, since: int) -> list[str]:
        """What it wrote from there on, but of its machine, which others may keep busy."""
        return [
            line for line in self.log[since:].splitlines() if not any(x in line for x in MACHINE)
        ]

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request by the standard library; status and answer. Raises OSError, HTTPException."""
        with contextlib.closing(self._connection()) as connection:
            given = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} if given else {}
            connection.request(method, path, given, headers)
            answer = connection.getresponse()
            raw = answer.read()
            return answer.status, json.loads(raw) if raw else None

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def wait(self, *statuses: str) -> None:
        """Return once it answers, and its health is one of these (yellow and green)."""
        wanted = statuses or ("yellow", "green")
        self._daemon.wait_until(lambda: self.health() in wanted, 90)

    def health(self) -> str:
        """The status of its cluster, empty while it does not answer."""
        try:
            status, answer = self.ask("GET", "/_cluster/health")
        except (OSError, http.client.HTTPException):
            return ""
        return str(answer["status"]) if status == 200 else ""

    def launch(self) -> None:
        """Start it again, and wait for nothing."""
        self._daemon.start()

    def start(self) -> None:
        """Start it again."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """End it in order."""
        self._daemon.stop()

    def kill(self) -> None:
        """End it by SIGKILL; its process is gone when this returns."""
        self._daemon.stop(signal.SIGKILL)

    @property
    def version(self) -> str:
        """Product and version, as `tested.toml` has it."""
        (node,) = self.ask("GET", "/_nodes?filter_path=nodes.*.version")[1]["nodes"].values()
        return f"{self.product} {node['version']}"


class Elasticsearch5(Node):
    """Elasticsearch 5.6 from its archive; as another user than root, whom it refuses."""

    product = "Elasticsearch"
    transport_setting = "transport.tcp.port"

    def _argv(self) -> list[str]:
        java, archive = need("java", "default-jre-headless"), brought("elasticsearch")
        for part in ("lib", "modules", "config"):
            shutil.copytree(archive / part, self.folder / part)
        (self.folder / "plugins").mkdir()
        words = []
        if os.geteuid() == 0:
            words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            words += ["--pdeathsig", "KILL"]
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, "nobody", "nogroup")
        return [
            *(*words, java, *JAVA, f"-Des.path.home={self.folder}", "-cp", f"{self.folder}/lib/*"),
            "org.elasticsearch.bootstrap.Elasticsearch",
            *(f"-E{setting}" for setting in self._all_settings()),
        ]


class OpenSearch(Node):
    """OpenSearch 2.19 from its jars, by a launcher that is compiled for it."""

    product = "OpenSearch"
    server = "opensearch"
    launcher = "OpenSearchNode"
    # What it has beside its HTTP.
    plugins: tuple[str, ...] = ()
    own: tuple[str, ...] = ("transport.type=netty4", "http.type=netty4")

    def _argv(self) -> list[str]:
        self._configure(self.folder / "config")
        settings = self._all_settings(*self.own, "node.store.allow_mmap=false")
        source = Path(__file__).with_name(f"{self.launcher}.java").read_text()
        launcher = _launcher(self.launcher, self._fitted(source), self.server)
        return [
            *(need("java", "default-jre-headless"), *JAVA, LOG),
            *("-cp", f"{launcher}:{self._jars()}", self.launcher),
            *(str(self.folder), *self.plugins, *settings),
        ]

    def _jars(self) -> str:
        return f"{brought(self.server)}/libs/*"

    def _fitted(self, source: str) -> str:
        return source

    def _configure(self, folder: Path) -> None:
        folder.mkdir()


class Elasticsearch7(OpenSearch):
    """Elasticsearch 7.17, which OpenSearch was once a copy of: what starts the one starts the other."""

    product = "Elasticsearch"
    server = "elasticsearch7"

    def _fitted(self, source: str) -> str:
        return source.replace("org.opensearch", "org.elasticsearch")


class Elasticsearch8(OpenSearch):
    """Elasticsearch 8.19, which takes its plugins from folders."""

    product = "Elasticsearch"
    server = "elasticsearch8"
    launcher = "ElasticsearchNode"

    def _jars(self) -> str:
        own, module = self.folder / "lib", self.folder / "modules" / "transport-netty4"
        for folder in (own, module):
            folder.mkdir(parents=True)
        for jar in (brought(self.server) / "libs").iterdir():
            # No jar may be the server's and a module's.
            of_module = jar.name.startswith(("netty-", "transport-netty4-"))
            ((module if of_module else own) / jar.name).symlink_to(jar)
        version = maven.version(self.server)
        (module / "plugin-descriptor.properties").write_text(
            f"name={module.name}\ndescription=HTTP\njava.version=17\n"
            f"version={version}\nelasticsearch.version={version}\n"
            "classname=org.elasticsearch.transport.netty4.Netty4Plugin\n"
        )
        return f"{own}/*"


def brought(server: str) -> Path:
    """The folder of a server that is to be there; skips without."""
    folder = maven.folder(server)
    if not folder.exists():
        pytest.skip(f"needs {server} (python -m tools.servers services)")
    return folder


def _launcher(name: str, source: str, server: str) -> Path:
    """The folder with a compiled launcher of a server."""
    jars = f"{brought(server)}/libs/*"
    digest = hashlib.sha256(f"{source}{jars}".encode()).hexdigest()[:16]
    folder = cache() / "launchers" / digest
    if not folder.exists():
        javac = need("javac", "default-jdk-headless")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            file, made = Path(work, f"{name}.java"), Path(work, "made")
            file.write_text(source)
            words = [javac, "-d", str(made), "-cp", jars, str(file)]
            done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            assert done.returncode == 0, done.stderr
            # Another process may have made it meanwhile.
            with contextlib.suppress(OSError):
                made.rename(folder)
    return folder
