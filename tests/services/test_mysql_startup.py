"""MySQL and MariaDB started, stopped and killed under a gate that waits: never ready early.

How late after the driver's first success is printed, and measured by `make bench`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pymysql
import pytest

from tests.bed.daemon import Daemon
from tests.bed.opening import opened
from tests.bed.process import Gate
from tests.bed.services.mariadb import MariaDB
from tests.bed.services.mysql import MySQL
from tests.probes.conftest import Ask

pytestmark = [pytest.mark.xdist_group("mysql"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module", params=[MariaDB, MySQL])
def db(request: pytest.FixtureRequest) -> Iterator[MariaDB]:
    """One product after the other."""
    with request.param() as server:
        server.sql(
            "CREATE USER app@'%' IDENTIFIED BY 'geheim-17'",
            "CREATE DATABASE shop",
            "CREATE TABLE shop.orders (id INT PRIMARY KEY)",
            "GRANT ALL ON shop.* TO app@'%'",
        )
        yield server


def works(server: MariaDB) -> bool:
    """Whether an application with PyMySQL can log in and write."""
    login = {"host": server.host, "port": server.port, "user": "app", "password": "geheim-17"}
    try:
        with closing(server.connect(**login, autocommit=True)) as connection:
            connection.cursor().execute("REPLACE INTO shop.orders VALUES (1)")
    except pymysql.MySQLError:
        return False
    return True


TARGET = "mysql://app:geheim-17@{}/shop#role=primary#table=orders"


def test_a_start(db: MariaDB, gate: Callable[..., Gate]) -> None:
    """The server starts under the gate, which opens when writes are taken and not before."""
    db.stop()
    waiting = gate(TARGET.format(db.place))
    waiting.wait_output("refused")
    db.launch()
    opened(waiting, lambda: works(db))


def test_the_start_that_initialises(db: MariaDB, ask: Ask, gate: Callable[..., Gate]) -> None:
    """fault 59: the server that images run first listens on a socket only, and opens no gate by TCP."""
    db.stop()
    db.start("--skip-networking")
    waiting = gate(TARGET.format(db.place))
    waiting.wait_output("refused")
    assert ask(TARGET.format(db.place)).cause == "refused"
    # By the socket it is a server like any other.
    assert ask(f"{TARGET.format('localhost')}#unix-socket={db.socket}").ready
    assert not works(db)
    db.stop()
    assert waiting.running()
    db.launch()
    opened(waiting, lambda: works(db))


def test_a_crash(db: MariaDB, ask: Ask, gate: Callable[..., Gate]) -> None:
    """Killed and started again at once: the gate opens after the recovery, with what was written."""
    assert works(db)
    # Else the last second's commits may be lost; this one takes all before it to the disk.
    db.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1", "INSERT INTO shop.orders VALUES (2)")
    db.kill()
    assert ask(TARGET.format(db.place)).cause == "refused"
    waiting = gate(f"{TARGET.format(db.place)}#query=SELECT 1 FROM orders")
    waiting.wait_output("refused")
    db.launch()
    opened(waiting, lambda: works(db))


def test_a_restart_beside_a_process_that_nobody_reaped(gate: Callable[..., Gate]) -> None:
    """MySQL opens its port for an instant, finds the killed one's number still taken, and ends: the gate
    stays shut until one starts that lasts."""
    with MySQL() as db:
        waiting = gate("--output", "json", f"mysql://root@{db.place}#interval=10ms")
        assert waiting.wait().status == 0
        db.daemon.signal(signal.SIGKILL)
        waiting = gate("--output", "json", "-v", f"mysql://root@{db.place}#interval=10ms")
        waiting.wait_output('"refused"')
        with Daemon(*db.daemon.argv) as second:
            second.wait_end()
            assert "Another process with pid" in second.log
        waiting.wait_output('"attempt"', after=len(waiting.stdout))
        assert waiting.running()
        db.kill()
        db.launch()
        assert waiting.wait().status == 0
        db.wait()


def test_a_stop_while_others_are_awaited(
    db: MariaDB, gate: Callable[..., Gate], folder: Path
) -> None:
    """What held and is gone when all else has come keeps the gate shut until it is back."""
    # A verdict that is older than the interval is not believed when the gate is to open.
    waiting = gate(f"{TARGET.format(db.place)}#interval=10ms", f"file://{folder}/go")
    waiting.wait_output("takes writes")
    db.stop()
    (folder / "go").touch()
    waiting.wait_output("[lost]")
    db.launch()
    opened(waiting, lambda: works(db))
