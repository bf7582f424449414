"""pgbouncer in front of PostgreSQL: what accepts is not what serves."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.bed.ports import free_port
from tests.bed.process import Gate
from tests.bed.services.pgbouncer import PgBouncer
from tests.bed.services.postgresql import PostgreSQL, program, works
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.timeout(120)]

WORD = "kettle-of-fish"
USERS = {"app": WORD, "unknown-there": WORD}
SETTINGS = ("pool_mode = transaction", "server_login_retry = 0.2", "max_client_conn = 6")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """The server behind."""
    with PostgreSQL() as made:
        made.sql(f"CREATE ROLE app LOGIN PASSWORD '{WORD}'")
        made.sql("CREATE TABLE stock AS SELECT 1; GRANT SELECT ON stock TO app")
        yield made


@pytest.fixture(scope="module")
def pooler(server: PostgreSQL) -> Iterator[PgBouncer]:
    """A pooler with that server behind one database, and nobody behind another."""
    with PgBouncer({"live": server, "dead": free_port()}, USERS, *SETTINGS) as made:
        yield made


def target(pooler: PgBouncer, database: str = "live", options: str = "", user: str = "app") -> str:
    return f"postgresql://{user}:{WORD}@{pooler.address}/{database}{options}"


def test_version(pooler: PgBouncer, tested: Tested) -> None:
    """The documentation names the version that is tested."""
    tested("postgresql", pooler.log.partition("process up: ")[2].partition(",")[0])


def test_live(pooler: PgBouncer, ask: Ask) -> None:
    """With a server behind it all options work, and the pool keeps its connections."""
    for options in ("", "#role=primary", "#max-lag=1s", "#table=stock", "#query=TABLE stock"):
        verdict = ask(target(pooler, options=options))
        assert verdict.ready, verdict.seen
        assert "PostgreSQL 15." in verdict.seen
    assert ask(target(pooler, options="#role=replica")).cause == "not-ready"
    assert ask(target(pooler, options="#query=SELECT 1 WHERE false")).cause == "missing-object"
    assert ask(target(pooler, options="#query=SELECT 1/0")).cause == "not-ready"
    assert works(target(pooler))
    assert "unclean" not in pooler.log
    assert "in transaction" not in pooler.log
    assert pooler.log.count("new connection to server") == 1


def test_dead_server(pooler: PgBouncer, ask: Ask) -> None:
    """In front of a dead server it accepts and is silent: `no-reply`, with a hint; the driver waits too."""
    verdict = ask(target(pooler, "dead"), 0.5)
    assert verdict.cause == "no-reply"
    assert "look behind it" in verdict.hint
    assert not works(target(pooler, "dead"), timeout=2)
    # What the field asks says that all is well.
    ready = [program("pg_isready"), "-h", "127.0.0.1", "-p", str(pooler.port), "-d", "dead"]
    assert subprocess.run([*ready, "-U", "app"], capture_output=True).returncode == 0
    # Nor do we know better without a login.
    assert ask(f"postgresql://{pooler.address}").ready


def test_words(pooler: PgBouncer, ask: Ask) -> None:
    """What it says by words alone, under one code, has its cause."""
    wrong = target(pooler).replace(WORD, "wrong-word")
    for text, cause, words in (
        (wrong, "auth-refused", "SASL authentication failed"),
        (target(pooler, user="nobody"), "auth-refused", "SASL authentication failed"),
        (target(pooler, user="unknown-there"), "auth-refused", "password authentication failed"),
        (target(pooler, "missing"), "no-such-database", "no such database: missing"),
    ):
        verdict = ask(text)
        assert (verdict.cause, words in verdict.seen) == (cause, True)
        assert "08P01" in verdict.seen
        assert not works(text)


def test_too_many_clients(pooler: PgBouncer, ask: Ask) -> None:
    """At its own limit of clients it is `overloaded`."""
    with contextlib.ExitStack() as held:
        while works(target(pooler)):
            held.enter_context(psycopg.connect(target(pooler)))
        verdict = ask(target(pooler))
    assert verdict.cause == "overloaded"
    assert "no more connections allowed" in verdict.seen


def test_server_that_goes_and_comes(
    server: PostgreSQL, pooler: PgBouncer, gate: Callable[..., Gate], ask: Ask
) -> None:
    """A login that the pooler takes alone proves nothing: the gate opens when the server is back."""
    assert ask(target(pooler)).ready
    server.stop()
    assert not ask(target(pooler), 0.5).ready
    waiting = gate(target(pooler, options="#attempt-timeout=300ms"), "-v")
    waiting.wait_output("(attempt 3)")
    assert waiting.running()
    server.start()
    assert waiting.wait().status == 0
    assert works(target(pooler))


def test_server_that_recovers(ask: Ask) -> None:
    """While the server behind recovers, its words come through, or nothing does; never a false ready."""
    causes = set()
    with PostgreSQL("autovacuum = off", "max_wal_size = 4GB") as server:
        server.sql(f"CREATE ROLE app LOGIN PASSWORD '{WORD}'; CHECKPOINT")
        server.sql(
            "CREATE TABLE much AS SELECT g, repeat('x', 40) FROM generate_series(1, 500000) g"
        )
        server.crash()
        server.start()
        with PgBouncer({"live": server}, USERS, *SETTINGS) as pooler:
            while not (verdict := ask(target(pooler), 0.3)).ready:
                causes.add(verdict.cause)
            assert works(target(pooler))
    print(causes)
    assert causes <= {"no-reply", "starting", "not-ready"}


def test_query_wait_timeout(ask: Ask) -> None:
    """A pooler that gives up first is quoted."""
    settings = (*SETTINGS, "query_wait_timeout = 1", "auth_type = any")
    with PgBouncer({"dead": free_port()}, USERS, *settings) as pooler:
        verdict = ask(target(pooler, "dead"))
    assert verdict.cause in ("not-ready", "no-reply")
    assert "08P01" in verdict.seen
