"""Elasticsearch 5.6 and OpenSearch 2.19: `with OpenSearch() as node`, a node of its own data.

    with OpenSearch() as node:
        node.ask("PUT", "/orders", {"settings": {"number_of_replicas": 1}})     # status and answer
        node.place, node.log, node.version

`stop()`, `kill()` (SIGKILL) and `start()` take it down and bring it back; `launch()` starts it and waits
for nothing. Further settings (`"node.name=two"`) win over its own; with `awaited=False` it is not
waited for at the start either.
"""

from __future__ import annotations

import contextlib
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
SOURCE = Path(__file__).with_name("OpenSearchNode.java")


class Node:
    """What both have in common."""

    product = ""

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
            *(f"http.port={self.port}", f"transport.tcp.port={self.transport_port}"),
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

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request by the standard library; status and answer. Raises OSError, HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            given = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} if given else {}
            connection.request(method, path, given, headers)
            answer = connection.getresponse()
            raw = answer.read()
            return answer.status, json.loads(raw) if raw else None

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
        return f"{self.product} {self.ask('GET', '/')[1]['version']['number']}"


class Elasticsearch(Node):
    """Elasticsearch 5.6.16 from its archive; as another user than root, whom it refuses."""

    product = "Elasticsearch"

    def _argv(self) -> list[str]:
        java, archive = need("java", "default-jre-headless"), maven.folder("elasticsearch")
        if not archive.exists():
            pytest.skip("needs Elasticsearch (python -m tools.servers services)")
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
    """OpenSearch 2.19.6 from its jars, by a launcher that is compiled for it."""

    product = "OpenSearch"

    def _argv(self) -> list[str]:
        java, javac = need("java", "default-jre-headless"), need("javac", "default-jdk-headless")
        jars = maven.folder("opensearch") / "libs"
        if not jars.exists():
            pytest.skip("needs OpenSearch (python -m tools.servers services)")
        (self.folder / "config").mkdir()
        launcher = cache() / "opensearch-node"
        made = launcher / "OpenSearchNode.class"
        if not made.exists() or made.stat().st_mtime < SOURCE.stat().st_mtime:
            words = [javac, "-d", str(launcher), "-cp", f"{jars}/*", str(SOURCE)]
            done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            assert done.returncode == 0, done.stderr
        settings = self._all_settings(
            "transport.type=netty4", "http.type=netty4", "node.store.allow_mmap=false"
        )
        return [
            *(java, *JAVA, "-cp", f"{launcher}:{jars}/*", "OpenSearchNode"),
            *(str(self.folder), *settings),
        ]
