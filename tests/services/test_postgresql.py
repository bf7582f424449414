"""PostgreSQL alone: what is asked of it, its errors, its log. `psycopg` is the oracle.

Logins, start-up, roles and pgbouncer have files of their own beside this one.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.bed.services.postgresql import PostgreSQL, program, works
from tests.bed.tls import Authority
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.timeout(120)]

WORD = "kettle-of-fish"
# Whom no line names is turned away.
LINES = (
    "local all postgres trust",
    "host all app,service-precheck 127.0.0.1/32 scram-sha-256",
)


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgreSQL]:
    """A server with TLS, a login and a database."""
    with PostgreSQL(hba=LINES, authority=authority) as made:
        made.sql(f"CREATE ROLE app LOGIN PASSWORD '{WORD}'")
        made.sql("CREATE DATABASE shop")
        yield made


def test_version(server: PostgreSQL, tested: Tested) -> None:
    """The documentation names the version that is tested."""
    ((version,),) = server.sql("SHOW server_version")
    tested("postgresql", f"PostgreSQL {version.split()[0]}")


def test_serves(server: PostgreSQL, ask: Ask) -> None:
    """With a login it says what was proven, the version and the database; the driver agrees."""
    target = f"postgresql://app:{WORD}@{server.address}/shop"
    verdict = ask(target)
    assert verdict.ready
    assert re.fullmatch(
        rf"{server.address} answers queries \(database shop, PostgreSQL 15\.\d+, TLSv1\.3\)",
        verdict.seen,
    )
    assert works(target)
    assert ask(target.replace("postgresql:", "postgres:")) == verdict


def test_without_a_user(server: PostgreSQL, ask: Ask) -> None:
    """Without a user it is proven that the server serves, and its log stays as it was."""
    since = len(server.log)
    verdict = ask(f"postgresql://{server.address}")
    assert verdict.ready
    assert verdict.seen == f"{server.address} serves, and asks for a login (SASL), none was tried"
    # What the field does for that leaves a line, each time.
    assert server.logged(since) == ""
    ready = [program("pg_isready"), "-h", "127.0.0.1", "-p", str(server.port), "-U", "trusty"]
    assert subprocess.run(ready, capture_output=True).returncode == 0
    server.wait_until(lambda: "no pg_hba.conf entry" in server.logged(since))


def test_without_a_user_where_nobody_needs_a_password(ask: Ask) -> None:
    """A server that trusts everybody and knows nobody of our name serves all the same."""
    with PostgreSQL(hba=("local all all trust", "host all all 127.0.0.1/32 trust")) as trusting:
        verdict = ask(f"postgresql://{trusting.address}")
        assert verdict.ready
        assert verdict.seen == f"{trusting.address} serves; no user was given to log in as"
        trusting.sql('CREATE ROLE "service-precheck" LOGIN')
        assert "lets anybody in" in ask(f"postgresql://{trusting.address}").seen


def test_database(server: PostgreSQL, ask: Ask) -> None:
    """fault 60: a database that is missing is named; without one it is the user's, as libpq has it."""
    place = f"postgresql://app:{WORD}@{server.address}"
    for path in ("/missing", "", "/"):
        name = path.strip("/") or "app"
        verdict = ask(f"{place}{path}")
        assert verdict.cause == "no-such-database"
        assert f'FATAL 3D000: database "{name}" does not exist' in verdict.seen
        assert not works(f"{place}{path}")
    server.sql('CREATE DATABASE "with space"')
    assert ask(f"{place}/with%20space").ready
    server.sql("REVOKE CONNECT ON DATABASE shop FROM PUBLIC")
    try:
        verdict = ask(f"{place}/shop")
        assert verdict.cause == "forbidden"
        assert "42501" in verdict.seen
        assert not works(f"{place}/shop")
        server.sql("GRANT CONNECT ON DATABASE shop TO app")
        assert ask(f"{place}/shop").ready
    finally:
        server.sql("GRANT CONNECT ON DATABASE shop TO PUBLIC")


def test_table(server: PostgreSQL, ask: Ask) -> None:
    """A table must be there and readable by the user; while it is missing nothing is logged."""
    place = f"postgresql://app:{WORD}@{server.address}/shop"
    since = len(server.log)
    for name in ("stock", "ware.stock", '"odd"".na\'me"'):
        verdict = ask(f"{place}#table={name}")
        assert verdict.cause == "missing-object"
        assert name in verdict.seen
    server.sql("CREATE TABLE stock AS SELECT 1 AS id", database="shop")
    assert ask(f"{place}#table=stock").cause == "forbidden"
    assert server.logged(since) == ""
    server.sql("GRANT SELECT ON stock TO app", database="shop")
    verdict = ask(f"{place}#table=STOCK")
    assert verdict.ready
    assert "STOCK can be read" in verdict.seen
    server.sql("CREATE SCHEMA ware CREATE TABLE stock (id int)", database="shop")
    verdict = ask(f"{place}#table=ware.stock")
    assert verdict.cause == "forbidden"
    assert "permission denied for schema ware" in verdict.seen
    server.sql("GRANT USAGE ON SCHEMA ware TO app", database="shop")
    server.sql("GRANT SELECT (id) ON ware.stock TO app", database="shop")
    assert ask(f"{place}#table=ware.stock").ready
    # Whoever rebuilds it locks readers out, and we wait for no lock.
    with server.connect(database="shop") as connection, connection.transaction():
        connection.execute("LOCK TABLE ware.stock")
        assert ask(f"{place}#table=ware.stock").ready


def test_odd_names(server: PostgreSQL, ask: Ask) -> None:
    """A name ends no quotes, however the server takes backslashes in them."""
    for name in ("a\\", "a\\' OR 1=1 --", "\\'"):
        server.sql(f"""CREATE TABLE "{name}" AS SELECT 1 AS id""", database="shop")
        server.sql(f"""GRANT SELECT ON "{name}" TO app""", database="shop")
    place = f"postgresql://app:{WORD}@{server.address}/shop"
    for setting in ("off", "on"):
        server.sql(f"ALTER ROLE app SET standard_conforming_strings = {setting}")
        for name in ("a\\", "a\\' OR 1=1 --", "\\'"):
            assert ask(f'{place}#table="{name}"').ready
        for name in ("a\\\\", "\\'), pg_is_in_recovery() --"):
            assert ask(f'{place}#table="{name}"').cause == "missing-object"
    server.sql("ALTER ROLE app RESET standard_conforming_strings")


def test_query(server: PostgreSQL, ask: Ask) -> None:
    """A query must give a row: one of any size; an empty one waits."""
    place = f"postgresql://app:{WORD}@{server.address}/shop"
    assert "has a row for the query" in ask(f"{place}#query=SELECT 1").seen
    assert ask(f"{place}#query=SELECT repeat('x', 1000000)").ready
    assert ask(f"{place}#query=SELECT NULL").ready
    assert ask(f"{place}#query=SELECT g FROM generate_series(1, 1000) g").ready
    assert ask(f"{place}#query=SHOW server_version").ready
    verdict = ask(f"{place}#query=SELECT 1 WHERE false")
    assert verdict.cause == "missing-object"
    assert verdict.seen == f"{server.address} has no row for the query"


QUERIES = {
    "SELECT * FROM nowhere": ("missing-object", "42P01", False),
    "SELECT nothing": ("missing-object", "42703", False),
    "SELECT nothing()": ("missing-object", "42883", False),
    "SELECT 1/0": ("not-ready", "22012", False),
    "SELECT pg_read_file('/etc/passwd')": ("forbidden", "42501", False),
    "SELECT FROM WHERE": ("failed", "42601", True),
    "SELECT 1; SELECT 2": ("failed", "42601", True),
    "SELECT (SELECT 1 UNION SELECT 2)": ("failed", "21000", True),
    "SELECT 1 AS id INTO made": ("failed", "25006", True),
    "WITH made AS (DELETE FROM counted RETURNING *) SELECT * FROM made": ("failed", "25006", True),
    "SELECT nextval('counter')": ("failed", "25006", True),
}


@pytest.mark.parametrize("query", QUERIES)
def test_query_fails(server: PostgreSQL, ask: Ask, query: str) -> None:
    """What is wrong with a query is told in the server's words; what no time mends is final."""
    server.sql("CREATE TABLE IF NOT EXISTS counted AS SELECT 1 AS id", database="shop")
    server.sql("CREATE SEQUENCE IF NOT EXISTS counter", database="shop")
    server.sql("GRANT ALL ON counted, counter TO app; GRANT CREATE ON SCHEMA public TO app", "shop")
    verdict = ask(f"postgresql://app:{WORD}@{server.address}/shop#query={query}")
    cause, code, final = QUERIES[query]
    assert (verdict.cause, verdict.final) == (cause, final)
    assert f"ERROR {code}: " in verdict.seen
    assert server.sql("SELECT count(*), to_regclass('made') FROM counted", "shop") == [(1, None)]


def test_query_that_takes_too_long(server: PostgreSQL, ask: Ask) -> None:
    """The server itself ends a query that takes too long: none is left behind to pile up."""
    place = f"postgresql://app:{WORD}@{server.address}/shop"
    server.sql("CREATE TABLE busy AS SELECT 1; GRANT SELECT ON busy TO app", database="shop")
    with server.connect(database="shop") as connection, connection.transaction():
        connection.execute("LOCK TABLE busy")
        verdict = ask(f"{place}#query=TABLE busy", 0.5)
        assert verdict.cause == "no-reply"
        assert "57014" in verdict.seen
        assert "#attempt-timeout=" in verdict.hint
    left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
    server.wait_until(lambda: server.sql(left) == [(0,)])
    assert "unexpected EOF" not in server.log


def test_too_many_connections(server: PostgreSQL, ask: Ask) -> None:
    """fault 60: at its limit of connections it is `overloaded`, for us and for the driver."""
    target = f"postgresql://app:{WORD}@{server.address}/shop"
    with contextlib.ExitStack() as held:
        while works(target):
            held.enter_context(psycopg.connect(target))
        verdict = ask(target)
    assert verdict.cause == "overloaded"
    assert "FATAL 53300: " in verdict.seen
    server.wait_until(lambda: ask(target).ready)


def test_nothing_is_left_behind(server: PostgreSQL, ask: Ask) -> None:
    """fault 60: a thousand attempts, with a login and without, write no line into the server's log."""
    server.sql("CREATE TABLE IF NOT EXISTS kept AS SELECT 1; GRANT SELECT ON kept TO app")
    session = server.connect()
    since = len(server.log)
    before = session.execute("SELECT xact_rollback FROM pg_stat_database WHERE datname = 'shop'")
    counted = before.fetchall()
    began = time.monotonic()
    for number in range(500):
        assert ask(f"postgresql://{server.address}").ready
        rest = (
            "#tls=off#query=TABLE kept#table=kept",
            "#role=primary",
            "#role=replica",
            "#table=x",
        )
        login = f"postgresql://app:{WORD}@{server.address}/postgres"
        assert ask(login + rest[number % 4]).ready == (number % 4 < 2)
    print(f"{(time.monotonic() - began):.2f} ms each, both sides")
    assert server.logged(since) == ""
    after = session.execute("SELECT xact_rollback FROM pg_stat_database WHERE datname = 'shop'")
    assert after.fetchall() == counted
    session.close()
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'service-precheck'"
    server.wait_until(lambda: server.sql(left) == [(0,)])
