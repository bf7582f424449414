"""Galera: a node alone, and three of which one joins late and two hang."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pymysql
import pytest

from tests.bed.ports import free_port
from tests.bed.process import Gate
from tests.bed.services.mariadb import MariaDB
from tests.probes.conftest import Ask
from tests.services.test_mysql_topologies import ACCOUNTS, inserts, refused, until

pytestmark = pytest.mark.timeout(120)

# How soon a node that is silent is one that is gone, and that a cluster of one needs nobody else. A node
# that joins others ends where it does not find them in time: on a busy machine two seconds are not enough.
TIMES = (
    "evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S;evs.suspect_timeout=PT2S;"
    "evs.inactive_timeout=PT4S;pc.announce_timeout=PT1S;gcache.size=8M;pc.wait_prim_timeout="
)


def galera(port: int, others: str = "") -> MariaDB:
    """A node that talks to its cluster at `port`: a new one, or that of the `others` (HOST:PORT,...)."""
    own = f"gmcast.listen_addr=tcp://127.0.0.1:{port};ist.recv_addr=127.0.0.1:{free_port()}"
    return MariaDB(
        *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--wsrep-on=ON"),
        "--wsrep-provider=/usr/lib/galera/libgalera_smm.so",
        *(f"--wsrep-cluster-address=gcomm://{others}", "--wsrep-cluster-name=bed"),
        *("--wsrep-node-address=127.0.0.1", "--wsrep-sst-method=rsync"),
        f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}",
        f"--wsrep-provider-options={own};{TIMES}{'PT40S' if others else 'PT2S'}",
        *(() if others else ("--wsrep-new-cluster",)),
    )


def takes_part(server: MariaDB) -> bool:
    """A node lets clients in before it is of its cluster."""
    return server.status("wsrep_ready") == {"wsrep_ready": "ON"}


@pytest.fixture(scope="module")
def node() -> Iterator[MariaDB]:
    """A node of Galera, alone in its cluster."""
    with galera(free_port()) as server:
        until(lambda: takes_part(server))
        server.sql(*ACCOUNTS)
        yield server


@pytest.fixture(scope="module")
def trio() -> Iterator[list[MariaDB]]:
    """Three nodes of one cluster."""
    ports = [free_port() for _ in range(3)]
    members = ",".join(f"127.0.0.1:{port}" for port in ports)
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(galera(ports[0]))]
        until(lambda: takes_part(nodes[0]))
        nodes[0].sql(*ACCOUNTS)
        for port in ports[1:]:
            nodes.append(stack.enter_context(galera(port, members)))
            until(lambda: takes_part(nodes[-1]))
        yield nodes


def of_galera(server: MariaDB, options: str = "") -> str:
    return f"mysql://app:geheim-17@{server.place}#galera{options}"


def test_galera(ask: Ask, node: MariaDB) -> None:
    """A node that takes part says of how many it is one, and takes writes."""
    verdict = ask(of_galera(node, "#role=primary"))
    assert verdict.ready, verdict
    assert "is Synced in a Primary component of 1, takes writes" in verdict.seen
    assert inserts(node, 1)


def test_galera_desynced(ask: Ask, node: MariaDB) -> None:
    """A node that gives its data away, or was told to fall behind, is not ready."""
    node.sql("SET GLOBAL wsrep_desync = ON")
    try:
        refused(
            ask(of_galera(node)), "not-ready", "is Donor/Desynced in a component that is Primary"
        )
        assert ask(of_galera(node).replace("#galera", "")).ready
    finally:
        node.sql("SET GLOBAL wsrep_desync = OFF")
    until(lambda: ask(of_galera(node)).ready)


def test_galera_alone(ask: Ask, node: MariaDB, gate: Callable[..., Gate]) -> None:
    """A node without its cluster takes logins and answers, and does no work: `galera` tells."""
    login = f"mysql://app:geheim-17@{node.place}"
    sql: dict[str, Any] = {"host": node.host, "port": node.port}

    def leave() -> None:
        with contextlib.suppress(pymysql.MySQLError):
            node.sql(f"SET GLOBAL wsrep_cluster_address = 'gcomm://127.0.0.1:{free_port()}'")

    leaving = threading.Thread(target=leave)
    leaving.start()
    # The node closes what was connected while it leaves.
    until(lambda: "in a component that is Disconnected" in ask(of_galera(node)).seen)
    assert ask(of_galera(node)).cause == "no-quorum"
    # What a check with `SELECT 1` would take for good.
    assert ask(login).ready
    with closing(node.connect(**sql, user="app", password="geheim-17")) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            with pytest.raises(pymysql.MySQLError, match="1047"):
                cursor.execute("SELECT 1 FROM shop.orders")
    assert not inserts(node, 2)
    refused(ask(f"{login}/shop#table=orders"), "not-ready", "1047 WSREP", "#galera")
    waiting = gate(of_galera(node))
    waiting.wait_output("component")
    leaving.join()
    node.sql("SET GLOBAL wsrep_cluster_address = 'gcomm://'")
    assert waiting.wait().status == 0
    assert inserts(node, 2)


def test_a_node_joins_its_cluster(trio: list[MariaDB], gate: Callable[..., Gate]) -> None:
    """A node that comes back is ready once it has what the others wrote, not when it answers."""
    first, _, last = trio
    last.stop()
    assert inserts(first, 10)
    waiting = gate(of_galera(last, "#role=primary"), "-v")
    waiting.wait_output("[refused]")
    last.launch()
    done = waiting.wait()
    assert done.status == 0, done.stderr
    assert "is Synced in a Primary component of 3, takes writes" in done.stderr
    assert last.sql("SELECT 1 FROM shop.orders WHERE id = 10")
    assert inserts(last, 11)


def test_a_node_without_the_others(
    trio: list[MariaDB], ask: Ask, gate: Callable[..., Gate]
) -> None:
    """With two of three hung the third takes logins and no work; it serves again when they do."""
    first, second, last = trio
    for hung in (first, second):
        hung.daemon.pause()
    try:
        until(lambda: ask(of_galera(last)).cause == "no-quorum")
        assert "in a component that is non-Primary" in ask(of_galera(last)).seen
        # What a check with `SELECT 1` would take for good.
        assert ask(of_galera(last).replace("#galera", "")).ready
        assert not inserts(last, 12)
        waiting = gate(of_galera(last))
        waiting.wait_output("[no-quorum]")
    finally:
        for hung in (first, second):
            hung.daemon.resume()
    assert waiting.wait().status == 0
    assert inserts(last, 12)
    until(lambda: bool(first.sql("SELECT 1 FROM shop.orders WHERE id = 12")))
