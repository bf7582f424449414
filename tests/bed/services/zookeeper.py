"""Apache ZooKeeper as Debian packages it: one server alone, or an ensemble.

    with ZooKeeper() as server:                      # standalone
        server.wait_until(server.serving)
        server.port; server.stop(); server.start()
    with Ensemble(3, observers=1) as ensemble:       # four servers; serving
        ensemble.where                               # 127.0.0.1:A,127.0.0.1:B,...
        ensemble.leader().stop()

With `started=False` they are made, and start when `start()` is called. What is given by name goes into `zoo.cfg`, `ZooKeeper(maxClientCnxns=1)`; `system` holds what the
program takes from the JVM; `tls` is the certificate of `secure_port`, where `demand` says whose clients
may come. `word(port, "srvr")` asks a four-letter word.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import need

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.tls import Authority, Certificate

JARS = ("zookeeper", "slf4j-simple", "netty-codec", "netty-resolver")
# A JVM that starts soon and stays small.
JAVA = ("-Xmx96m", "-Xss256k", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


def word(port: int, ask: str) -> str:
    """Return what a server says to a four-letter word, empty if it cannot be asked."""
    said = b""
    with contextlib.suppress(OSError):
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(ask.encode())
            while got := sock.recv(65_536):
                said += got
    return said.decode()


class ZooKeeper(Daemon):
    """One server: `port` is for its clients, `place` the same with its host."""

    def __init__(
        self,
        peers: Mapping[int, str] | None = None,
        number: int = 1,
        *,
        port: int = 0,
        system: Mapping[str, str] | None = None,
        tls: Certificate | None = None,
        demand: Authority | None = None,
        started: bool = True,
        **settings: object,
    ) -> None:
        self._started = started
        self.port = port or free_port()
        self.place = f"127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="bed-zookeeper-"))
        self.secure_port = 0
        self._number = number
        self._peers = dict(peers or {})
        self._settings: dict[str, object] = {
            "tickTime": 500,
            "initLimit": 20,
            "syncLimit": 10,
            "dataDir": self.folder,
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
            **settings,
        }
        if tls is not None:
            self._secure(tls, demand)
        jars = [Path("/usr/share/java", f"{name}.jar") for name in JARS]
        if not jars[0].exists():
            pytest.skip("needs ZooKeeper (Debian package zookeeper)")
        words = [f"-D{name}={value}" for name, value in (system or {}).items()]
        path = ":".join(map(str, jars))
        java = need("java", "default-jre-headless")
        super().__init__(java, *JAVA, *words, "-cp", path, MAIN, f"{self.folder}/zoo.cfg")

    def _secure(self, certificate: Certificate, demand: Authority | None) -> None:
        store = self.folder / "server.pem"
        # It reads keys as PKCS #8 only.
        key = load_pem_private_key(certificate.key.read_bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        store.write_bytes(key + certificate.chain.read_bytes())
        self.secure_port = free_port()
        self._settings |= {
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "secureClientPort": self.secure_port,
            "secureClientPortAddress": "127.0.0.1",
            "ssl.keyStore.location": store,
            "ssl.keyStore.type": "PEM",
            "ssl.trustStore.location": demand.file if demand else store,
            "ssl.trustStore.type": "PEM",
            "ssl.clientAuth": "need" if demand else "none",
        }

    def start(self) -> None:
        """Start it; `wait_until(server.serving)` for when it serves."""
        if not self._started:
            # Made to be started later than entered.
            self._started = True
            return
        lines = [f"{name}={value}" for name, value in self._settings.items()]
        lines += [f"server.{number}={where}" for number, where in self._peers.items()]
        self.folder.joinpath("zoo.cfg").write_text("\n".join(lines) + "\n")
        self.folder.joinpath("myid").write_text(str(self._number))
        super().start()

    def mode(self) -> str:
        """Return what it says it is, empty while it does not serve."""
        return word(self.port, "srvr").partition("\nMode: ")[2].partition("\n")[0]

    def serving(self) -> bool:
        """Say whether it serves."""
        return self.mode() != ""

    def running(self) -> bool:
        """Say whether it was started and not stopped."""
        return self._popen is not None

    def wipe(self) -> None:
        """Take all of its data away, while it is stopped."""
        shutil.rmtree(self.folder / "version-2")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        shutil.rmtree(self.folder)


class Ensemble:
    """Servers of one ensemble, the `observers` last; `where` is all of them as a target names them."""

    def __init__(
        self,
        voters: int,
        observers: int = 0,
        *,
        system: Mapping[str, str] | None = None,
        started: bool = True,
        **settings: object,
    ) -> None:
        numbers = range(1, voters + observers + 1)
        peers = {
            number: f"127.0.0.1:{free_port()}:{free_port()}"
            + (":observer" if number > voters else "")
            for number in numbers
        }
        self.servers = [
            ZooKeeper(
                peers,
                number,
                system=system,
                started=started,
                **settings,  # type: ignore[arg-type]
                **({"peerType": "observer"} if number > voters else {}),  # type: ignore[arg-type]
            )
            for number in numbers
        ]
        self.where = ",".join(server.place for server in self.servers)
        self._started = started
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            self._stack = stack.pop_all()
        if self._started:
            self.heal()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def heal(self) -> None:
        """Start those that are stopped, and wait until all serve."""
        for server in self.servers:
            if not server.running():
                server.start()
        for server in self.servers:
            server.wait_until(server.serving)

    def leader(self) -> ZooKeeper:
        """Return the server that leads."""
        return next(server for server in self.servers if server.mode() == "leader")

    def followers(self) -> list[ZooKeeper]:
        """Return the servers that follow, without observers."""
        return [server for server in self.servers if server.mode() == "follower"]
