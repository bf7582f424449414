"""Services in their own protocols: what a look costs, and how soon a service is seen to serve.

Beside each stand wait4x, as far as Debian's build speaks the protocol, and the field's own driver in
Python, asked each second, as an init container of one's own would do.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.cost import measured
from bench.launch import FLOOR, Failed, Launcher
from bench.results import MEBI, MILLI, Goal, Row
from bench.rivals import GATE, WAIT4X, Field
from tests.bed.services.kafka import Kafka
from tests.bed.services.mariadb import MariaDB
from tests.bed.services.mongodb import FerretDB
from tests.bed.services.mysql import MySQL
from tests.bed.services.postgresql import PostgreSQL
from tests.bed.services.rabbitmq import RabbitMQ
from tests.bed.services.redis import Redis
from tests.bed.services.stack import Stack
from tests.bed.tls import Authority

DRIVER = "Python driver"
PASSWORD = "bench-pass-word"
# PostgreSQL's ways to log in, as they are by default today.
SCRAM = "local all all trust", "host all all 127.0.0.1/32 scram-sha-256"
# The account in MySQL and MariaDB, and what it may read.
SHOP = (
    "CREATE DATABASE shop",
    f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'",
    "GRANT SELECT ON shop.* TO app@'%'",
)
# Waits until `ask()` raises nothing; `ask` is what stands before it.
LOOP = """
import time
while True:
    try:
        ask()
        break
    except Exception:
        time.sleep(1)
"""


# A driver that would wait for a server by itself is not asked before somebody listens.
BRISK = """
import socket
def listens():
    socket.create_connection(("127.0.0.1", PORT), 1).close()
"""


class Service:
    """One service: how it is started and stopped, and how each rival asks it."""

    def __init__(
        self,
        server: AbstractContextManager[Any],
        target: str,
        wait4x: tuple[str, ...],
        driver: str,
        *,
        brisk: str = "",
        prepare: Callable[[Any], object] = lambda _: None,
        stop: Callable[[Any], object] = lambda server: server.stop(),
        launch: Callable[[Any], object] = lambda server: server.launch(),
    ) -> None:
        self.server = server
        self.stop = stop
        self.launch = launch
        self.prepare = prepare
        self._target = target
        self._wait4x = wait4x
        self._driver = driver
        self._brisk = brisk or driver

    def script(self, port: int) -> str:
        """What defines `ask()` by the driver, as people write it."""
        return self._driver.replace("PORT", str(port))

    def watching(self, port: int) -> str:
        """What defines an `ask()` that fails at once where nobody serves: the driver tries nothing again."""
        return BRISK.replace("PORT", str(port)) + self._brisk.replace("PORT", str(port))

    def words(self, field: Field, port: int) -> dict[str, list[str]]:
        """The words of each rival."""
        found = {}
        if GATE in field.rivals:
            found[GATE] = field.rivals[GATE].command("", self._target.replace("PORT", str(port)))
        if WAIT4X in field.rivals and self._wait4x:
            program = (field.rivals[WAIT4X].command("port", "x:1") or [""])[0]
            given = [word.replace("PORT", str(port)) for word in self._wait4x]
            found[WAIT4X] = [program, *given, "--timeout", "0"]
        found[DRIVER] = [sys.executable, "-I", "-c", self.script(port) + LOOP]
        return {name: words for name, words in found.items() if words}


def services() -> dict[str, Service]:
    """Those that are measured, as users ask for them: with a login where one is usual."""
    return {
        "mysql": Service(
            MariaDB(),
            f"mysql://app:{PASSWORD}@127.0.0.1:PORT/shop",
            ("mysql", f"app:{PASSWORD}@tcp(127.0.0.1:PORT)/shop"),
            "import pymysql\n"
            "def ask():\n"
            f"    pymysql.connect(host='127.0.0.1', port=PORT, user='app', password='{PASSWORD}',"
            " database='shop').close()\n",
            prepare=lambda server: server.sql(*SHOP),
        ),
        "postgresql": Service(
            PostgreSQL(hba=SCRAM),
            f"postgresql://app:{PASSWORD}@127.0.0.1:PORT/postgres",
            (
                "postgresql",
                f"postgres://app:{PASSWORD}@127.0.0.1:PORT/postgres?sslmode=disable",
            ),
            "import psycopg\n"
            "def ask():\n"
            f"    psycopg.connect('postgresql://app:{PASSWORD}@127.0.0.1:PORT/postgres').close()\n",
            prepare=lambda server: server.sql(f"CREATE USER app PASSWORD '{PASSWORD}'"),
            launch=lambda server: server.start(),
        ),
        "redis": Service(
            Redis("--requirepass", PASSWORD),
            f"redis://:{PASSWORD}@127.0.0.1:PORT",
            (),
            f"import redis\ndef ask():\n    redis.Redis(port=PORT, password='{PASSWORD}').ping()\n",
            launch=lambda server: server.start(),
        ),
        "rabbitmq": Service(
            RabbitMQ(),
            "amqp://guest:guest@127.0.0.1:PORT",
            ("rabbitmq", "amqp://guest:guest@127.0.0.1:PORT"),
            "import pika\n"
            "def ask():\n"
            "    pika.BlockingConnection(pika.URLParameters('amqp://guest:guest@127.0.0.1:PORT'))"
            ".close()\n",
        ),
        "mongodb": Service(
            FerretDB(),
            "mongodb://127.0.0.1:PORT",
            ("mongodb", "mongodb://127.0.0.1:PORT"),
            "import pymongo\n"
            "def ask():\n"
            "    url = 'mongodb://127.0.0.1:PORT/?serverSelectionTimeoutMS=1000'\n"
            "    with pymongo.MongoClient(url) as client:\n"
            "        client.admin.command('ping')\n",
            brisk="import pymongo\n"
            "def ask():\n"
            "    listens()\n"
            "    url = 'mongodb://127.0.0.1:PORT/?serverSelectionTimeoutMS=100'\n"
            "    with pymongo.MongoClient(url) as client:\n"
            "        client.admin.command('ping')\n",
            launch=lambda server: server.start(),
        ),
        "kafka": Service(
            Kafka(),
            "kafka://127.0.0.1:PORT",
            ("kafka", "kafka://127.0.0.1:PORT"),
            "import kafka, logging\n"
            "logging.disable(logging.CRITICAL)\n"
            "def ask():\n"
            "    kafka.KafkaAdminClient(bootstrap_servers='127.0.0.1:PORT').close()\n",
            brisk="import kafka, logging\n"
            "logging.disable(logging.CRITICAL)\n"
            "def ask():\n"
            "    listens()\n"
            "    kafka.KafkaAdminClient(bootstrap_servers='127.0.0.1:PORT').close()\n",
            launch=lambda server: server.begin(),
        ),
    }


def dearer(authority: Authority) -> dict[str, Service]:
    """What costs more, and may be just what a user has: TLS, as each side speaks it by default, and SCRAM.

    Neither side checks a certificate here, as most do who ask from inside a cluster.
    """
    return {
        "mysql-tls": Service(
            MySQL(),
            f"mysql://app:{PASSWORD}@127.0.0.1:PORT/shop",
            ("mysql", f"app:{PASSWORD}@tcp(127.0.0.1:PORT)/shop?tls=skip-verify"),
            "import pymysql\n"
            "def ask():\n"
            f"    pymysql.connect(host='127.0.0.1', port=PORT, user='app', password='{PASSWORD}',"
            " database='shop', ssl={'check_hostname': False}).close()\n",
            prepare=lambda server: server.sql(*SHOP),
        ),
        "postgresql-tls": Service(
            PostgreSQL(hba=SCRAM, authority=authority),
            f"postgresql://app:{PASSWORD}@127.0.0.1:PORT/postgres",
            (
                "postgresql",
                f"postgres://app:{PASSWORD}@127.0.0.1:PORT/postgres?sslmode=require",
            ),
            "import psycopg\n"
            "def ask():\n"
            f"    psycopg.connect('postgresql://app:{PASSWORD}@127.0.0.1:PORT/postgres').close()\n",
            prepare=lambda server: server.sql(f"CREATE USER app PASSWORD '{PASSWORD}'"),
        ),
        "mongodb-login": Service(
            FerretDB(login=("root", PASSWORD)),
            f"mongodb://root:{PASSWORD}@127.0.0.1:PORT",
            ("mongodb", f"mongodb://root:{PASSWORD}@127.0.0.1:PORT"),
            "import pymongo\n"
            "def ask():\n"
            f"    url = 'mongodb://root:{PASSWORD}@127.0.0.1:PORT/?serverSelectionTimeoutMS=1000'\n"
            "    with pymongo.MongoClient(url) as client:\n"
            "        client.admin.command('ping')\n",
        ),
    }


def cost(field: Field, *, quick: bool) -> Iterator[Row]:
    """CPU and peak memory to exit with a service that serves, rivals in turn."""
    rounds = 5 if quick else 25
    with Launcher() as launcher, Authority() as authority:
        floor = launcher.run(FLOOR).peak * MEBI
        note = f"Peak memory below {floor:.1f} MiB cannot be told from the meter's own."
        for name, service in (services() | dearer(authority)).items():
            with service.server as server:
                service.prepare(server)
                cpu, peak = measured(launcher, service.words(field, server.port), {}, rounds)
            goals = [Goal(1.2, WAIT4X)], [Goal(0.7, WAIT4X)]
            yield Row(f"services-cpu/{name}", f"cpu, {name}", "ms", cpu, *goals[0])
            yield Row(
                f"services-memory/{name}",
                f"peak memory, {name}",
                "MiB",
                peak,
                *goals[1],
                note=note,
            )


class Watch:
    """Asks by the driver, every few milliseconds, when the service first serves."""

    def __init__(self, script: str) -> None:
        made: dict[str, Any] = {}
        exec(script, made)
        self._ask: Callable[[], object] = made["ask"]
        self._seen = 0.0
        self._stop = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop:
            began = time.monotonic()
            with contextlib.suppress(Exception):
                self._ask()
                # It served when it was asked, or soon after; a driver takes its time to say so.
                self._seen = began
                return
            time.sleep(0.005)

    def seen(self, timeout: float = 60.0) -> float:
        """When the attempt that first succeeded began."""
        self._thread.join(timeout)
        self._stop = True
        if not self._seen:
            raise Failed("the driver never saw it serve")
        return self._seen


def lateness(field: Field, *, quick: bool) -> Iterator[Row]:
    """From a service's first answer to its driver, to the exit of each rival."""
    rounds = 2 if quick else 8
    draw = random.Random()
    for name, service in services().items():
        late: dict[str, list[float]] = {}
        with service.server as server, Launcher() as launcher:
            service.prepare(server)
            for _ in range(rounds):
                service.stop(server)
                runs = {
                    rival: launcher.started(launcher.start(words))
                    for rival, words in service.words(field, server.port).items()
                }
                time.sleep(draw.uniform(2, 6))
                watch = Watch(service.watching(server.port))
                service.launch(server)
                seen = watch.seen()
                for rival, run in runs.items():
                    launcher.good(run)
                    # What is quicker than the driver that watches is not late at all.
                    late.setdefault(rival, []).append(max(0.0, run.ended - seen) * MILLI)
        yield Row(
            f"services-lateness/{name}",
            f"lateness after a start, {name}",
            "ms",
            late,
            Goal(0.15, WAIT4X),
            paired=False,
            note="Counted from when a driver, asking every few milliseconds, is first served.",
        )


def stack(field: Field, *, quick: bool) -> Iterator[Row]:
    """One gate in front of eight servers that start in random order: how late it opens, and its memory."""
    rounds = 3 if quick else 20
    late: list[float] = []
    peaks: list[float] = []
    with Stack() as servers, Launcher() as launcher, tempfile.TemporaryDirectory() as scratch:
        words = field.rivals[GATE].command("", f"--from={servers.targets(Path(scratch))}") or []
        for _ in range(rounds):
            run = launcher.started(launcher.start(words))
            servers.begin(random.Random())
            seen = servers.seen()
            launcher.good(run)
            servers.stop()
            for name, one in seen.items():
                if one.failed > run.ended:
                    raise Failed(f"opened before {name} served its driver")
            late.append(max(0.0, run.ended - max(one.begun for one in seen.values())) * MILLI)
            peaks.append(run.peak * MEBI)
    note = "The last service is there when the attempt of its driver began that first succeeded."
    most = Goal(500, figure="max")
    yield Row("stack-lateness", "after the last of 8", "ms", {GATE: late}, most, note=note)
    yield Row("stack-memory", "peak memory", "MiB", {GATE: peaks}, Goal(16, figure="max"))
