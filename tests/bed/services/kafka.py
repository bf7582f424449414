"""Apache Kafka in KRaft mode: one broker or a small cluster, each broker with as many listeners as asked.

    with Kafka() as kafka:                              # one broker, controller as well
        kafka.place; kafka.create("orders", 3); kafka.stop(); kafka.start()
    with Kafka(2, {"PLAIN": "PLAINTEXT", "IN": "SASL_PLAINTEXT"}, settings) as kafka:
        kafka.where("IN", 2); kafka.stop(2, SIGKILL); kafka.begin(2); kafka.wait(2)

Node 1 is the controller and a broker, the others are brokers. The first listener is the one among
brokers, and its clients may do everything. `advertised["IN", 2] = "nowhere.invalid:1"`, set before the
start, is what clients are told. Sessions are short: a broker that was killed is missed after three seconds.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import need
from tools.servers import maven

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.tls import Certificate

# A small JVM that starts soon: one compiler, one collector.
JAVA = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
CONTROLLER = "CONTROLLER"
STARTED = "Kafka Server started"


class Kafka:
    """A cluster; `place` is `host:port` of its first listener at node 1, `started=False` leaves it down."""

    def __init__(
        self,
        brokers: int = 1,
        listeners: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
        *,
        started: bool = True,
    ) -> None:
        self.nodes = range(1, brokers + 1)
        self.listeners = dict(listeners or {"PLAINTEXT": "PLAINTEXT"})
        self.advertised: dict[tuple[str, int], str] = {}
        self.controller = f"127.0.0.1:{free_port()}"
        self._ports = {(name, node): free_port() for name in self.listeners for node in self.nodes}
        self._settings = dict(settings or {})
        self._started = started
        self._begun = dict.fromkeys(self.nodes, 0)

    @property
    def place(self) -> str:
        """Where clients begin."""
        return self.where(next(iter(self.listeners)))

    @property
    def port(self) -> int:
        """The port of `place`."""
        return int(self.place.rpartition(":")[2])

    def where(self, listener: str, node: int = 1) -> str:
        """`host:port` at which a broker listens, whatever it advertises."""
        return f"127.0.0.1:{self._ports[listener, node]}"

    def __enter__(self) -> Self:
        jars = maven.folder("kafka") / "libs"
        if not jars.exists():
            pytest.skip("needs Kafka (python -m tools.servers services)")
        java = need("java", "default-jre-headless")
        self.folder = Path(tempfile.mkdtemp(prefix="bed-kafka-"))
        self._daemons = {}
        for node in self.nodes:
            self._format(node)
            words = [java, *JAVA, "-cp", f"{jars}/*", "kafka.Kafka", str(self._properties(node))]
            self._daemons[node] = Daemon(*words)
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self.folder)
        if self._started:
            for node in self.nodes:
                self.begin(node)
            for node in self.nodes:
                self.wait(node)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A stop in order takes seconds, and leaves nothing that anybody would look at.
        for node in self.nodes:
            if self._begun[node]:
                self.stop(node, signal.SIGKILL)
        self._stack.close()

    def begin(self, node: int = 1) -> None:
        """Start a node, and do not wait for it."""
        daemon = self._daemons[node]
        if self._begun[node]:
            daemon.start()
        else:
            self._stack.enter_context(daemon)
        self._begun[node] += 1

    def wait(self, node: int = 1) -> None:
        """Return once a node says that it has started."""
        daemon = self._daemons[node]
        daemon.wait_until(lambda: daemon.log.count(STARTED) >= self._begun[node], 60)

    def start(self, node: int = 1) -> None:
        """Start a node, and wait until it has."""
        self.begin(node)
        self.wait(node)

    def stop(self, node: int = 1, number: int = signal.SIGTERM) -> None:
        """End a node."""
        self._daemons[node].stop(number)

    def pause(self, node: int = 1) -> None:
        """Make a node hang."""
        self._daemons[node].pause()

    def resume(self, node: int = 1) -> None:
        """Let it go on."""
        self._daemons[node].resume()

    def account(self, user: str, password: str, *mechanisms: str) -> None:
        """Give a user an account of SCRAM-SHA-256, SCRAM-SHA-512 or both."""
        from tests.bed.services.kafka_driver import kafka

        kinds = [kafka.admin.ScramMechanism[name.replace("-", "_")] for name in mechanisms]
        wanted = [kafka.admin.UserScramCredentialUpsertion(user, kind, password) for kind in kinds]
        with self.admin() as admin:
            for one in wanted:
                assert admin.alter_user_scram_credentials([one]) == {user: None}

    def allow(self, user: str, operation: str, topic: str) -> None:
        """Give a user a right on a topic (DESCRIBE, WRITE)."""
        from tests.bed.services.kafka_driver import kafka

        of = kafka.admin
        where = of.ResourcePattern(of.ResourceType.TOPIC, topic)
        right = of.ACL(
            f"User:{user}", "*", of.ACLOperation[operation], of.ACLPermissionType.ALLOW, where
        )
        with self.admin() as admin:
            assert not admin.create_acls([right])["failed"]

    def settled(self, timeout: float = 30) -> None:
        """Return once all brokers are there, and each replica of each topic is in sync."""
        end = time.monotonic() + timeout
        with self.admin() as admin:
            while not self._is_whole(admin):
                assert time.monotonic() < end, f"not whole within {timeout} s: {self.log()[-4000:]}"
                time.sleep(0.05)

    def _is_whole(self, admin: Any) -> bool:  # noqa: ANN401 the driver has no types
        partitions = [one for topic in admin.describe_topics() for one in topic["partitions"]]
        return len(admin.describe_cluster()["brokers"]) == len(self.nodes) and all(
            len(one["isr_nodes"]) == len(one["replica_nodes"]) for one in partitions
        )

    def log(self, node: int = 1) -> str:
        """What a node wrote so far."""
        return self._daemons[node].log

    @contextlib.contextmanager
    def admin(self) -> Iterator[Any]:
        """The driver's client for whoever administers the cluster."""
        from tests.bed.services.kafka_driver import kafka

        client = kafka.KafkaAdminClient(bootstrap_servers=self.place)
        try:
            yield client
        finally:
            client.close()

    def create(
        self,
        topic: str,
        partitions: int = 1,
        replicas: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Create a topic, and wait until each partition has a leader."""
        wanted = {
            "num_partitions": partitions,
            "replication_factor": replicas,
            "configs": dict(settings or {}),
        }
        with self.admin() as admin:
            admin.create_topics({topic: wanted}, wait_for_metadata=True)

    def create_on(self, topic: str, *replicas: int) -> None:
        """Create a topic of one partition, with replicas at these brokers."""
        with self.admin() as admin:
            admin.create_topics({topic: {"assignments": {0: [*replicas]}}}, wait_for_metadata=True)

    def _format(self, node: int) -> None:
        """Make what `kafka-storage format` makes, without a JVM."""
        folder = self.folder / str(node)
        folder.mkdir()
        # 16 bytes in base64.
        identity = f"service-precheck-{node:03}-A"
        lines = ("version=1", "cluster.id=service-precheck-bed-A", f"node.id={node}")
        text = "\n".join((*lines, f"directory.id={identity}")) + "\n"
        folder.joinpath("meta.properties").write_text(text)

    def _properties(self, node: int) -> Path:
        own = {name: self.where(name, node) for name in self.listeners}
        told = {name: self.advertised.get((name, node), place) for name, place in own.items()}
        kinds = {CONTROLLER: "PLAINTEXT"} | self.listeners
        controller = {CONTROLLER: self.controller} if node == 1 else {}
        properties: dict[str, object] = {
            "process.roles": "broker,controller" if node == 1 else "broker",
            "node.id": node,
            "controller.quorum.voters": f"1@{self.controller}",
            "controller.listener.names": CONTROLLER,
            "listeners": _joined(own | controller, "://"),
            "advertised.listeners": _joined(told, "://"),
            "listener.security.protocol.map": _joined(kinds, ":"),
            "inter.broker.listener.name": next(iter(self.listeners)),
            "log.dirs": self.folder / str(node),
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "auto.create.topics.enable": "true",
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "replica.lag.time.max.ms": 2000,
            "num.io.threads": 2,
            "num.network.threads": 1,
            "log.cleaner.enable": "false",
        }
        lines = [f"{name}={value}" for name, value in (properties | self._settings).items()]
        path = self.folder / f"{node}.properties"
        path.write_text("\n".join(lines) + "\n")
        return path


def _joined(pairs: Mapping[str, str], between: str) -> str:
    return ",".join(f"{name}{between}{value}" for name, value in pairs.items())


def accepts(place: str) -> bool:
    """Whether something accepts connections there."""
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError:
        return False
    return True


def keystore(certificate: Certificate, folder: Path) -> Path:
    """A certificate and its key in one PEM file as Kafka reads it: the key in PKCS #8."""
    command = [need("openssl", "openssl"), "pkcs8", "-topk8", "-nocrypt", "-in"]
    command.append(str(certificate.key))
    key = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    path = folder / f"kafka-{certificate.key.name}"
    path.write_text(key + certificate.chain.read_text())
    return path
