"""PostgreSQL that starts, recovers, restarts, shuts down and hangs, under the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.bed.opening import opened
from tests.bed.process import Gate
from tests.bed.services.postgresql import PostgreSQL, works
from tests.probes.conftest import Ask

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.timeout(120)]

WORD = "kettle-of-fish"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A server with a login and a database."""
    with PostgreSQL() as made:
        made.sql(f"CREATE ROLE app LOGIN PASSWORD '{WORD}'")
        made.sql("CREATE DATABASE shop")
        yield made


def test_starting_is_never_ready_early(gate: Callable[..., Gate]) -> None:
    """fault 60: during recovery after a crash the gate waits with `starting`, and opens with the driver."""
    settings = ("max_wal_size = 4GB", "checkpoint_timeout = 1h", "autovacuum = off")
    with PostgreSQL(*settings) as server:
        server.sql(f"CREATE ROLE app LOGIN PASSWORD '{WORD}'; CHECKPOINT")
        server.sql(
            "CREATE TABLE much AS SELECT g, repeat('x', 40) FROM generate_series(1, 600000) g"
        )
        server.crash()
        target = f"postgresql://app:{WORD}@{server.address}/postgres"
        watching = gate(f"{target}#name=login", f"postgresql://{server.address}#name=knock", "-v")
        watching.wait_output("refused")
        server.start()
        opened(watching, lambda: works(target, timeout=2))
    assert "FATAL 57P03: the database system is" in watching.stderr
    assert "starting" in watching.stderr


def test_restart_and_crash_under_the_gate(server: PostgreSQL, ask: Ask) -> None:
    """It is not ready while it is gone, however it went, and is again when the driver says so."""
    target = f"postgresql://app:{WORD}@{server.address}/shop"
    for end in (server.stop, server.crash):
        end()
        assert ask(target).cause == "refused"
        server.start()
        causes = set()
        while not (verdict := ask(target)).ready:
            causes.add(verdict.cause)
        assert works(target)
        assert causes <= {"refused", "starting", "closed-early"}


def test_shutting_down(server: PostgreSQL, ask: Ask) -> None:
    """A server that waits for its clients to leave takes no new ones: `starting`, in its own words."""
    target = f"postgresql://app:{WORD}@{server.address}/shop"
    with psycopg.connect(target) as held:
        server.stop_accepting()
        server.wait_until(lambda: not ask(target).ready)
        verdict = ask(target)
        assert verdict.cause == "starting"
        assert "57P03: the database system is shutting down" in verdict.seen
        assert not works(target)
        held.execute("SELECT 1")
    server.stop()
    server.start()
    server.wait_until(server.answers)


def test_hangs(server: PostgreSQL, ask: Ask) -> None:
    """fault 3: a server that hangs is `no-reply` when the attempt ends."""
    server.pause()
    try:
        verdict = ask(f"postgresql://app:{WORD}@{server.address}/shop", 0.3)
    finally:
        server.resume()
    assert verdict.cause == "no-reply"
    assert "pgbouncer" in verdict.hint
