"""Apache ZooKeeper: one server alone, or an ensemble; Debian's, or a later release.

    with ZooKeeper() as server:                      # standalone; serving
        server.place, server.stop(), server.start()
    with Ensemble(3, observers=1) as ensemble:       # four servers; serving
        ensemble.where                               # 127.0.0.1:A,127.0.0.2:A,...
        ensemble.leader().stop()
    with Ensemble(3, started=False) as ensemble:     # none is started yet
        ensemble.servers[0].start()

`settings` go into `zoo.cfg`, as in `ZooKeeper(settings={"maxClientCnxns": 1})`; `system` holds what the
program takes from the JVM. `tls` is the certificate of `secure_port`, and `demand` says whose clients may
come there. `jars=later_release()` has what Maven's repository has. `server.word("srvr")` asks a four-letter word, `server.mode()` what it says it is.
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
from tools.servers import maven

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.tls import Authority, Certificate

JARS = ("zookeeper", "slf4j-simple", "netty-codec", "netty-resolver")
# A JVM that starts soon and stays small.
JAVA = ("-Xmx96m", "-Xss256k", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


def later_release() -> Path:
    """Return the folder with the jars of a later release, or skip."""
    libs = maven.folder("zookeeper") / "libs"
    if not libs.exists():
        pytest.skip("needs ZooKeeper from Maven's repository (python -m tools.servers services)")
    return libs


def accepts(host: str, port: int) -> bool:
    """Say whether somebody listens there."""
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True


class ZooKeeper(Daemon):
    """One server: `port` is for its clients, `place` the same with its host."""

    def __init__(
        self,
        peers: Mapping[int, str] | None = None,
        number: int = 1,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        system: Mapping[str, str] | None = None,
        tls: Certificate | None = None,
        demand: Authority | None = None,
        started: bool = True,
        settings: Mapping[str, object] | None = None,
        jars: Path | None = None,
    ) -> None:
        self._started = started
        self.port = port or free_port()
        self.host = host
        self.place = f"{host}:{self.port}"
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
            "clientPortAddress": host,
            "admin.enableServer": "false",
            **(settings or {}),
        }
        if tls is not None:
            self._secure(tls, demand)
        debian = [Path("/usr/share/java", f"{name}.jar") for name in JARS]
        if jars is None and not debian[0].exists():
            pytest.skip("needs ZooKeeper (Debian package zookeeper)")
        words = [f"-D{name}={value}" for name, value in (system or {}).items()]
        path = f"{jars}/*" if jars else ":".join(map(str, debian))
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
            "secureClientPortAddress": self.host,
            "ssl.keyStore.location": store,
            "ssl.keyStore.type": "PEM",
            "ssl.trustStore.location": demand.file if demand else store,
            "ssl.trustStore.type": "PEM",
            "ssl.clientAuth": "need" if demand else "none",
        }

    def __enter__(self) -> Self:
        started = self._started
        with contextlib.ExitStack() as stack:
            stack.push(super().__enter__())
            if started and not self._peers:
                self.wait_until(self.serving)
            stack.pop_all()
        return self

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
        return self.word("srvr").partition("\nMode: ")[2].partition("\n")[0]

    def word(self, ask: str) -> str:
        """Return what it says to a four-letter word, empty if it cannot be asked."""
        said = b""
        with contextlib.suppress(OSError):
            with socket.create_connection((self.host, self.port), 1) as sock:
                sock.sendall(ask.encode())
                while got := sock.recv(65_536):
                    said += got
        return said.decode()

    def serving(self) -> bool:
        """Say whether it serves, at all of its ports."""
        return self.mode() != "" and (not self.secure_port or accepts(self.host, self.secure_port))

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
    """Servers of one ensemble, the `observers` last, on one port of 127.0.0.1, 127.0.0.2 and so on.

    `where` is all of them as a target names them.
    """

    def __init__(
        self,
        voters: int,
        observers: int = 0,
        *,
        system: Mapping[str, str] | None = None,
        started: bool = True,
        settings: Mapping[str, object] | None = None,
        jars: Path | None = None,
    ) -> None:
        numbers = range(1, voters + observers + 1)
        self.port = free_port()
        peers = {
            number: f"127.0.0.1:{free_port()}:{free_port()}"
            + (":observer" if number > voters else "")
            for number in numbers
        }
        self.servers = [
            ZooKeeper(
                peers,
                number,
                host=f"127.0.0.{number}",
                port=self.port,
                system=system,
                started=started,
                jars=jars,
                settings={
                    **(settings or {}),
                    **({"peerType": "observer"} if number > voters else {}),
                },
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
