"""MySQL and MariaDB among others: a primary and its replicas, and a promotion."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pymysql
import pytest

from service_precheck.model import Verdict
from tests.bed.process import Gate
from tests.bed.services.mariadb import MariaDB
from tests.bed.services.mysql import MySQL
from tests.probes.conftest import Ask

pytestmark = [pytest.mark.xdist_group("mysql"), pytest.mark.timeout(120)]

ACCOUNTS = (
    "CREATE DATABASE shop",
    "CREATE TABLE shop.orders (id INT PRIMARY KEY)",
    "CREATE USER app@'%' IDENTIFIED BY 'geheim-17'",
    "GRANT ALL ON shop.* TO app@'%'",
    "CREATE USER watch@'%' IDENTIFIED BY 'geheim-17'",
)
# The one right that `role=replica` takes.
RIGHT = {MariaDB: "REPLICA MONITOR", MySQL: "REPLICATION CLIENT"}


class Group:
    """A primary with two replicas that take no writes."""

    def __init__(self, product: type[MariaDB], stack: contextlib.ExitStack) -> None:
        self.product = product
        self.primary, self.first, self.second = (
            stack.enter_context(product("--log-bin=log", f"--server-id={number}"))
            for number in (1, 2, 3)
        )
        self.primary.sql(*ACCOUNTS, f"GRANT {RIGHT[product]} ON *.* TO watch@'%'")
        for replica in (self.first, self.second):
            replica.replicate(self.primary)
            replica.sql("SET GLOBAL read_only = 1")
            until(partial(knows, replica, "watch"))

    def tell(self, server: MariaDB, command: str) -> None:
        """`START REPLICA` and its kin, as the product calls it."""
        server.sql(f"{command} " if self.product is MySQL else command.replace("REPLICA", "SLAVE"))


def knows(server: MariaDB, user: str) -> bool:
    return bool(server.sql(f"SELECT 1 FROM mysql.user WHERE user = '{user}'"))


def until(holds: Callable[[], bool]) -> None:
    """Return once it holds."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "not within 20 s"
        time.sleep(0.02)


@pytest.fixture(scope="module", params=[MariaDB, MySQL])
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    """One product's group after the other's."""
    with contextlib.ExitStack() as stack:
        yield Group(request.param, stack)


def replica_of(server: MariaDB, options: str = "") -> str:
    return f"mysql://watch:geheim-17@{server.place}#role=replica{options}"


def primary(server: MariaDB) -> str:
    return f"mysql://app:geheim-17@{server.place}#role=primary"


def inserts(server: MariaDB, number: int) -> bool:
    """Whether an application with PyMySQL can write there."""
    login = {"host": server.host, "port": server.port, "user": "app", "password": "geheim-17"}
    try:
        with closing(server.connect(**login, autocommit=True)) as connection:
            connection.cursor().execute(f"INSERT INTO shop.orders VALUES ({number})")
    except pymysql.MySQLError:
        return False
    return True


def has(server: MariaDB, number: int) -> bool:
    return bool(server.sql(f"SELECT 1 FROM shop.orders WHERE id = {number}"))


def refused(verdict: Verdict, cause: str, words: str = "", hint: str = "") -> None:
    """Assert why something is not ready, and what is said of it."""
    assert verdict.cause == cause, verdict
    assert words in verdict.seen
    assert hint in verdict.hint


def test_roles(ask: Ask, group: Group) -> None:
    """Each server has its role and no other, and takes writes where we say so."""
    source = f"127.0.0.1:{group.primary.port}"
    verdict = ask(primary(group.primary))
    assert verdict.seen == f"{source} takes writes ({group.primary.version})"
    assert inserts(group.primary, 1)
    refused(ask(replica_of(group.primary)), "not-ready", "replicates from nobody", "a primary?")
    for replica in (group.first, group.second):
        refused(ask(primary(replica)), "read-only", "read_only is on")
        assert not inserts(replica, 2)
        until(partial(has, replica, 1))
        verdict = ask(replica_of(replica, "#max-lag=5s"))
        assert verdict.ready, verdict
        assert f"replicates from {source}, " in verdict.seen
        # `max-lag` alone means a replica.
        assert ask(replica_of(replica).replace("role=replica", "max-lag=5s")).ready


def test_the_least_rights(ask: Ask, group: Group) -> None:
    """`role=replica` takes one right, which its absence names."""
    verdict = ask(replica_of(group.first).replace("watch", "app"))
    refused(verdict, "forbidden", "1227 Access denied", f"GRANT {RIGHT[MariaDB]}")
    grants = "\n".join(row[0] for row in group.primary.sql("SHOW GRANTS FOR watch@'%'"))
    assert grants.count("GRANT") == 1
    assert ask(replica_of(group.first)).ready


def test_a_replica_that_lags(ask: Ask, group: Group, gate: Callable[..., Gate]) -> None:
    """A replica that cannot keep up is one without `max-lag`, and the gate waits for it with one."""
    with group.first.connect() as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLES shop.orders READ")
        assert inserts(group.primary, 10)
        lags = replica_of(group.first, "#max-lag=1s")
        until(lambda: not ask(lags).ready)
        refused(
            ask(lags), "replica-lag", f"behind {group.primary.place}, at most 1 s are asked for"
        )
        assert not has(group.first, 10)
        assert ask(replica_of(group.first)).ready
        assert ask(replica_of(group.second, "#max-lag=1s")).ready
        waiting = gate(lags)
        waiting.wait_output("behind")
        cursor.execute("UNLOCK TABLES")
    assert waiting.wait().status == 0
    until(lambda: has(group.first, 10))


def test_a_replica_that_is_stopped(ask: Ask, group: Group) -> None:
    """A thread that is stopped is named, and the other replica goes on."""
    for thread in ("SQL", "IO"):
        group.tell(group.first, f"STOP REPLICA {thread}_THREAD")
        refused(
            ask(replica_of(group.first)), "not-ready", f"its {thread} thread is stopped", "START"
        )
        assert ask(replica_of(group.second)).ready
        group.tell(group.first, f"START REPLICA {thread}_THREAD")
        until(lambda: ask(replica_of(group.first)).ready)


def test_a_replica_that_broke(ask: Ask, group: Group) -> None:
    """What cannot be applied is told in the server's own words."""
    group.first.sql("INSERT INTO shop.orders VALUES (20)")
    assert inserts(group.primary, 20)
    until(lambda: not ask(replica_of(group.first)).ready)
    refused(ask(replica_of(group.first)), "not-ready", "its SQL thread is stopped: 1062 ")
    group.first.sql("DELETE FROM shop.orders WHERE id = 20")
    group.tell(group.first, "START REPLICA")
    until(lambda: ask(replica_of(group.first)).ready)


def test_a_promotion(ask: Ask, group: Group, gate: Callable[..., Gate]) -> None:
    """The primary dies, a replica is promoted: the gate waits for the first write that is taken."""
    group.primary.kill()
    lost = replica_of(group.first)
    until(lambda: not ask(lost).ready)
    refused(ask(lost), "not-ready", "its IO thread is connecting: 20")
    waiting = gate(primary(group.first))
    waiting.wait_output("read_only is on")
    assert not inserts(group.first, 30)
    group.tell(group.first, "STOP REPLICA")
    group.tell(group.first, "RESET REPLICA ALL")
    assert waiting.running()
    group.first.sql("SET GLOBAL read_only = 0")
    assert waiting.wait().status == 0
    assert inserts(group.first, 30)
    assert ask(primary(group.first)).ready
    refused(ask(lost), "not-ready", "replicates from nobody")
