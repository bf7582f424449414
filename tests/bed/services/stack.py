"""The stack of `examples/stack`: eight servers started in any order, and when each first served.

    with Stack() as stack:                          # all of them once, to make what they hold; then down
        targets = stack.targets(tmp_path)           # the example's targets, at these servers
        stack.begin(random.Random())                # each at a moment of its own
        seen = stack.seen()                         # {"cache": Seen(begun, ended, failed), ...}
        stack.stop()

Each service is asked by its driver, in a process of its own, every few milliseconds until it serves:
`Seen` has when that attempt began and ended, and when the last one began that failed. The clock is the
monotonic one, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import time
import urllib.request
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import pymysql
import pymysql.cursors
import redis
from kazoo.client import KazooClient
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.bed.services.kafka import Kafka
from tests.bed.services.mariadb import MariaDB
from tests.bed.services.redis import Redis
from tests.bed.services.zookeeper import Ensemble
from tests.bed.webservers import Nginx

if TYPE_CHECKING:
    import random
    from types import TracebackType

TARGETS = Path(__file__).parents[3] / "examples" / "stack" / "targets"
PASSWORD = "geheim-of-the-stack"
# Seconds within which all servers are started.
SPREAD = 4.0
PAUSE = 0.01


class Seen(NamedTuple):
    """The attempt of a driver that first succeeded, and when the last one began that failed (0: none)."""

    begun: float
    ended: float
    failed: float


class Stack:
    """The servers; see the module's docstring."""

    def __init__(self) -> None:
        self.primary = MariaDB("--log-bin=log", "--server-id=1")
        self.replica = MariaDB("--log-bin=log", "--server-id=2", "--read-only")
        self.cache = Redis("--requirepass", PASSWORD)
        self.ensemble = Ensemble(3)
        self.kafka = Kafka()
        self.page = Nginx("location = /healthz { return 200 fine; }")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            servers = (
                *(self.primary, self.replica, self.cache),
                *(self.ensemble, self.kafka, self.page),
            )
            for server in servers:
                stack.enter_context(server)
            self._fill()
            self._asks: dict[str, tuple[object, ...]] = {
                "primary": (_writes, self.primary.port),
                "replica": (_replicates, self.replica.port),
                "cache": (_sets, self.cache.port),
                "quorum": (_keeps_sessions, [s.place for s in self.ensemble.servers]),
                "topic": (_takes_messages, self.kafka.place),
                "page": (_shows, f"{self.page.url}/healthz"),
            }
            spawn = multiprocessing.get_context("spawn")
            self._watchers = stack.enter_context(ProcessPoolExecutor(len(self._asks), spawn))
            self._threads = stack.enter_context(ThreadPoolExecutor(8))
            # Each answers once before it counts: the processes of the watchers start meanwhile.
            self._watch()
            self.seen()
            self.stop()
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()

    def _fill(self) -> None:
        self.primary.sql(
            "CREATE DATABASE orders",
            "CREATE TABLE orders.customers (id INT PRIMARY KEY)",
            f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'",
            "GRANT ALL ON orders.* TO app@'%'",
            f"CREATE USER watch@'%' IDENTIFIED BY '{PASSWORD}'",
            "GRANT REPLICA MONITOR ON *.* TO watch@'%'",
        )
        self.replica.replicate(self.primary)
        known = "SELECT 1 FROM mysql.user WHERE user = 'watch'"
        self.replica.daemon.wait_until(lambda: bool(self.replica.sql(known)))
        self.kafka.create("orders", 3)

    def targets(self, folder: Path) -> Path:
        """Write the example's targets with these servers in place of its names; the file."""
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        text = TARGETS.read_text()
        hosts = ("zk-0.shop", "zk-1.shop", "zk-2.shop")
        for there, here in {
            "mysql-0.shop": self.primary.place,
            "mysql-read.shop": self.replica.place,
            "cache.shop": self.cache.place,
            "kafka.shop": self.kafka.place,
            "catalogue.shop": self.page.url.removeprefix("http://"),
            "/run/secrets/mysql": str(secret),
            "/run/secrets/redis": str(secret),
            **dict(zip(hosts, (one.place for one in self.ensemble.servers), strict=True)),
        }.items():
            assert there in text, there
            text = text.replace(there, here)
        path = folder / "targets"
        path.write_text(text)
        return path

    def begin(self, draw: random.Random) -> None:
        """Start every server, each at a random moment within `SPREAD`; returns when the last was started."""
        starts: list[Callable[[], object]] = [
            *(self.primary.launch, self.replica.launch, self.cache.start),
            *(server.start for server in self.ensemble.servers),
            *(self.kafka.begin, self.page.daemon.start),
        ]
        self._watch()
        now = time.monotonic()
        moments = sorted((now + draw.uniform(0, SPREAD), number) for number in range(len(starts)))
        for moment, number in moments:
            time.sleep(max(0.0, moment - time.monotonic()))
            starts[number]()

    def _watch(self) -> None:
        self._watched: dict[str, Future[Seen]] = {
            name: self._watchers.submit(_watched, *arguments)  # type: ignore[arg-type]
            for name, arguments in self._asks.items()
        }

    def seen(self, timeout: float = 90) -> dict[str, Seen]:
        """Return when each first served its driver, once all do."""
        end = time.monotonic() + timeout
        return {
            name: future.result(end - time.monotonic()) for name, future in self._watched.items()
        }

    def stop(self) -> None:
        """End all of them in order, at once."""
        stops: list[Callable[[], object]] = [
            *(self.primary.stop, self.replica.stop, self.cache.stop, self.kafka.stop),
            *(server.stop for server in self.ensemble.servers),
            self.page.daemon.stop,
        ]
        for future in [self._threads.submit(stop) for stop in stops]:
            future.result()


def _watched(ask: Callable[..., object], *arguments: object) -> Seen:
    """Ask until there is an answer."""
    failed, end = 0.0, time.monotonic() + 90
    while True:
        begun = time.monotonic()
        try:
            ask(*arguments)
        except Exception:
            if begun > end:
                raise
            failed = begun
            time.sleep(PAUSE)
        else:
            return Seen(begun, time.monotonic(), failed)


def _mysql(port: int, user: str) -> closing[pymysql.Connection[pymysql.cursors.DictCursor]]:
    return closing(
        pymysql.connect(
            host="127.0.0.1",
            port=port,
            user=user,
            password=PASSWORD,
            autocommit=True,
            ssl_disabled=True,
            connect_timeout=5,
            cursorclass=pymysql.cursors.DictCursor,
        )
    )


def _writes(port: int) -> None:
    with _mysql(port, "app") as connection:
        connection.cursor().execute("REPLACE INTO orders.customers VALUES (1)")


def _replicates(port: int) -> None:
    with _mysql(port, "watch") as connection, connection.cursor() as cursor:
        cursor.execute("SHOW REPLICA STATUS")
        row = cursor.fetchone() or {}
        assert row["Slave_IO_Running"] == row["Slave_SQL_Running"] == "Yes", row
        assert row["Seconds_Behind_Master"] <= 10, row


def _sets(port: int) -> None:
    retry = Retry(NoBackoff(), 0)
    with redis.Redis("127.0.0.1", port, password=PASSWORD, retry=retry) as client:
        client.set("seen", 1)


def _keeps_sessions(places: list[str]) -> None:
    assert sum(_keeps_session(place) for place in places) >= 2


def _keeps_session(place: str) -> bool:
    # The driver waits for a second where this tells at once that it would be in vain.
    host, port = place.split(":")
    said = b""
    try:
        with socket.create_connection((host, int(port)), 1) as sock:
            sock.sendall(b"srvr")
            while b"\nMode: " not in said:
                got = sock.recv(4096)
                if not got:
                    return False
                said += got
    except OSError:
        return False
    client = KazooClient(place, timeout=5, connection_retry={"max_tries": 1})
    try:
        client.start(timeout=5)
        return client.exists("/") is not None
    finally:
        client.stop()
        client.close()


def _takes_messages(place: str) -> None:
    # Here only: its import costs every process of the tests a third of a second.
    from tests.bed.services.kafka_driver import kafka

    # A broker that is down makes the driver try again by itself; here it is found at once.
    host, port = place.split(":")
    socket.create_connection((host, int(port)), 1).close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        producer = kafka.KafkaProducer(
            bootstrap_servers=place,
            bootstrap_timeout_ms=500,
            reconnect_backoff_ms=10,
            retry_backoff_ms=10,
            max_block_ms=2000,
            request_timeout_ms=2000,
            delivery_timeout_ms=2100,
            enable_idempotence=False,
            retries=0,
            acks=1,
        )
    try:
        for partition in range(3):
            producer.send("orders", b"seen", partition=partition).get(2)
    finally:
        producer.close(0)


def _shows(url: str) -> None:
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.status == 200
