"""PostgreSQL's primary and hot standby: roles, lag, promotion. The login has no rights but to read a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.bed.process import Gate
from tests.bed.services.postgresql import PostgreSQL, works
from tests.probes.conftest import Ask

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.timeout(120)]

WORD = "kettle-of-fish"
Pair = tuple[PostgreSQL, PostgreSQL]
QUICK = "wal_retrieve_retry_interval = 50ms"


def target(server: PostgreSQL, options: str = "") -> str:
    return f"postgresql://app:{WORD}@{server.address}/postgres{options}"


def make_accounts(primary: PostgreSQL) -> None:
    """The login that is asked with, and the one of the application, which writes."""
    for name in ("app", "writer"):
        primary.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{WORD}'")
    primary.sql("CREATE TABLE IF NOT EXISTS stock (id int); GRANT ALL ON stock TO writer")


def takes_writes(server: PostgreSQL) -> bool:
    """Whether the application can write there."""
    place = f"postgresql://writer:{WORD}@{server.address}/postgres"
    return works(place, "INSERT INTO stock VALUES (1)")


def has_received(primary: PostgreSQL, standby: PostgreSQL) -> bool:
    ((sent,),) = primary.sql("SELECT pg_current_wal_flush_lsn()")
    return standby.sql(f"SELECT pg_last_wal_receive_lsn() >= '{sent}'") == [(True,)]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A primary and its hot standby."""
    with PostgreSQL() as primary:
        make_accounts(primary)
        with primary.standby(QUICK) as standby:
            yield primary, standby


def test_roles(pair: Pair, ask: Ask) -> None:
    """The primary takes writes, the standby does not and is the replica: as the application finds it."""
    primary, standby = pair
    verdict = ask(target(primary, "#role=primary"))
    assert verdict.seen.startswith(f"{primary.address} takes writes (database postgres, ")
    assert takes_writes(primary)
    verdict = ask(target(standby, "#role=primary"))
    assert verdict.cause == "read-only"
    assert verdict.seen == f"{standby.address} is a standby: it takes no writes"
    assert not takes_writes(standby)
    assert ask(target(standby, "#role=replica")).seen.startswith(f"{standby.address} serves reads ")
    verdict = ask(target(primary, "#role=replica"))
    assert verdict.cause == "not-ready"
    assert verdict.seen == f"{primary.address} is a primary, a replica is asked for"
    assert ask(target(primary)).ready
    assert ask(target(standby)).ready


def test_read_only_primary(pair: Pair, ask: Ask) -> None:
    """A primary whose sessions are read-only by default takes no writes."""
    primary, _ = pair
    for name in ("app", "writer"):
        primary.sql(f"ALTER ROLE {name} SET default_transaction_read_only = on")
    try:
        verdict = ask(target(primary, "#role=primary"))
        assert verdict.cause == "read-only"
        assert "default_transaction_read_only is on" in verdict.seen
        assert not takes_writes(primary)
        assert ask(target(primary)).ready
    finally:
        for name in ("app", "writer"):
            primary.sql(f"ALTER ROLE {name} RESET default_transaction_read_only")
    assert ask(target(primary, "#role=primary")).ready
    assert takes_writes(primary)


def test_lag(pair: Pair, ask: Ask) -> None:
    """A standby whose replay stands still is behind; level again it is not, however long nobody writes."""
    primary, standby = pair
    near, far = target(standby, "#max-lag=1ms"), target(standby, "#role=replica#max-lag=1h")
    primary.sql("CREATE TABLE news (id int)")
    standby.wait_until(lambda: ask(near).ready)
    # Nothing was written since: the age of the last transaction is no lag.
    assert re.search(r", (0 s|1 ms) behind ", ask(near).seen)
    standby.sql("SELECT pg_wal_replay_pause()")
    standby.wait_until(
        lambda: standby.sql("SELECT pg_get_wal_replay_pause_state()") == [("paused",)]
    )
    primary.sql("INSERT INTO news VALUES (1)")
    standby.wait_until(lambda: has_received(primary, standby))
    verdict = ask(near)
    assert verdict.cause == "replica-lag"
    assert "behind, at most 1 ms are asked for" in verdict.seen
    assert standby.sql("SELECT count(*) FROM news") == [(0,)]
    assert ask(far).ready
    standby.sql("SELECT pg_wal_replay_resume()")
    standby.wait_until(lambda: ask(near).ready)
    assert standby.sql("SELECT count(*) FROM news") == [(1,)]
    # Who may see all of its state is told the same.
    primary.sql("GRANT pg_monitor TO app")
    standby.wait_until(
        lambda: standby.sql("SELECT pg_has_role('app', 'pg_monitor', 'member')") == [(True,)]
    )
    assert ask(near).ready
    primary.sql("REVOKE pg_monitor FROM app")
    assert ask(target(primary, "#max-lag=1ms")).ready


def test_standby_without_its_primary(pair: Pair, ask: Ask) -> None:
    """A standby that receives nothing is not level, even if it has replayed all that it has."""
    primary, standby = pair
    near = target(standby, "#max-lag=1ms")
    standby.wait_until(lambda: ask(near).ready)
    primary.stop()
    try:
        standby.wait_until(lambda: not ask(near).ready)
        verdict = ask(near)
        assert verdict.cause == "replica-lag"
        assert "and receives nothing from its primary" in verdict.seen
        assert ask(target(standby, "#role=replica")).ready
        # Right after its own start it does not even know of a transaction.
        standby.stop()
        standby.start()
        standby.wait_until(lambda: ask(target(standby)).ready)
        verdict = ask(target(standby, "#max-lag=1h"))
        assert verdict.ready or verdict.cause == "replica-lag"
    finally:
        primary.start()
    primary.wait_until(primary.answers)
    # It connects again, and nobody has written since.
    standby.wait_until(lambda: ask(near).ready)
    assert ask(target(standby)).ready


def test_hot_standby_off(pair: Pair, ask: Ask) -> None:
    """A standby that serves nobody never holds, for us and for the driver, and is told why."""
    primary, _ = pair
    with primary.standby("hot_standby = off", awaited=False) as standby:
        standby.wait_until(lambda: "Hot standby mode is disabled" in ask(target(standby)).seen)
        for text in (target(standby), f"postgresql://{standby.address}"):
            verdict = ask(text)
            assert verdict.cause == "starting"
            assert "57P03: the database system is not accepting connections" in verdict.seen
            assert "hot_standby=on" in verdict.hint
        assert not works(target(standby))


def test_promotion(gate: Callable[..., Gate], ask: Ask) -> None:
    """A gate that waits for writes opens when the standby is promoted, and the roles have changed."""
    with PostgreSQL() as primary:
        make_accounts(primary)
        with primary.standby(QUICK) as standby:
            waiting = gate(target(standby, "#role=primary"))
            waiting.wait_output("read-only")
            assert not takes_writes(standby)
            primary.stop()
            assert waiting.running()
            assert standby.sql("SELECT pg_promote()") == [(True,)]
            assert waiting.wait().status == 0
            assert takes_writes(standby)
            assert ask(target(standby, "#role=replica")).cause == "not-ready"
