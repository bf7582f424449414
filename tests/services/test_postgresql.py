"""PostgreSQL: one server alone, its logins, its errors, its log. `psycopg` is the oracle.

Primary and standby are in `test_postgresql_roles.py`, pgbouncer in `test_postgresql_pooler.py`.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from service_precheck.errors import OperatorError
from tests.bed.process import Gate
from tests.bed.services.postgresql import HBA, PostgreSQL, program, works
from tests.bed.sockets import Server, hang, say
from tests.bed.tls import Authority
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.timeout(120)]

WORD = "kettle-of-fish"
# NFKC makes one letter of the ligature, SASLprep drops the soft hyphen.
ODD_WORD = "of\ufb01ce\u00ad-\u2168"
# Which logins a server takes, by the user's name; whom no line names is turned away.
LINES = (
    "local all postgres trust",
    "local all peer_only peer",
    "local all clear password",
    "host all trusted 127.0.0.1/32 trust",
    "host all old 127.0.0.1/32 md5",
    "host all clear 127.0.0.1/32 password",
    "host all directory 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport=1 ldapprefix=cn=",
    "hostssl all sealed 127.0.0.1/32 scram-sha-256",
    "hostnossl all open 127.0.0.1/32 scram-sha-256",
    "hostssl all bearer 127.0.0.1/32 cert",
    "host all rejected 127.0.0.1/32 reject",
    "host all app,odd,few,service-precheck,nobody,reader 127.0.0.1/32 scram-sha-256",
)


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgreSQL]:
    """A server with TLS and a user for each way to log in."""
    with PostgreSQL(hba=LINES, authority=authority) as made:
        for name in ("trusted", "app", "clear", "sealed", "open", "bearer", "peer_only"):
            made.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{WORD}'")
        made.sql(f"CREATE ROLE odd LOGIN PASSWORD '{ODD_WORD}'")
        made.sql(f"SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD '{WORD}'")
        made.sql(f"CREATE ROLE few LOGIN CONNECTION LIMIT 0 PASSWORD '{WORD}'")
        made.sql("CREATE DATABASE shop")
        yield made


@pytest.fixture(scope="module")
def plain() -> Iterator[PostgreSQL]:
    """A server without TLS."""
    with PostgreSQL(hba=(*LINES[:3], "host all clear 127.0.0.1/32 password", *HBA)) as made:
        made.sql(f"CREATE ROLE app LOGIN PASSWORD '{WORD}'")
        made.sql(f"CREATE ROLE clear LOGIN PASSWORD '{WORD}'")
        yield made


def logged(server: PostgreSQL, since: int) -> str:
    """What the server's log has said since it was that long, without what it says of itself."""
    lines = server.log[since:].splitlines()
    return "\n".join(line for line in lines if "checkpoint" not in line)


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


USERS = {
    "trusted": None,
    "app": None,
    "odd": None,
    "old": None,
    "clear": None,
    "sealed": None,
    "open": None,
    "nobody": "auth-refused",
    "rejected": "auth-refused",
    "unheard": "auth-refused",
    "directory": "auth-refused",
    "bearer": "tls-client-cert",
    "few": "overloaded",
}


@pytest.mark.parametrize("name", USERS)
def test_logins(server: PostgreSQL, ask: Ask, name: str, tmp_path: Path) -> None:
    """Every way to log in ends as the driver's does, by default with TLS, where need be without."""
    secret = tmp_path / "password"
    secret.write_text((ODD_WORD if name == "odd" else WORD) + "\n")
    where = f"{name}@{server.address}/postgres"
    verdict = ask(f"postgresql://{where}#password-file={secret}")
    assert verdict.cause == USERS[name]
    word = secret.read_text().strip()
    told = psycopg.conninfo.make_conninfo(f"postgresql://{where}", password=word)
    assert works(told) == verdict.ready


@pytest.mark.parametrize("name", ["app", "odd", "old", "clear", "sealed", "open"])
def test_wrong_password(server: PostgreSQL, ask: Ask, name: str) -> None:
    """fault 60: a wrong password is `auth-refused` in the server's words, with every method."""
    verdict = ask(f"postgresql://{name}:wrong-word@{server.address}/postgres")
    assert verdict.cause == "auth-refused"
    assert f'FATAL 28P01: password authentication failed for user "{name}"' in verdict.seen


@pytest.mark.parametrize("name", ["app", "odd", "old", "clear"])
def test_password_is_missing(server: PostgreSQL, ask: Ask, name: str) -> None:
    """A user without a password is told that one is asked for, and the log says nothing of it."""
    since = len(server.log)
    verdict = ask(f"postgresql://{name}@{server.address}/postgres")
    assert verdict.cause == "auth-required"
    assert f"asks {name} for a password" in verdict.seen
    assert logged(server, since) == ""


def test_passwords_from_elsewhere(
    server: PostgreSQL, gate: Callable[..., Gate], tmp_path: Path
) -> None:
    """A password comes from a variable or a file; a wrong one ends the gate if asked to."""
    target = f"postgresql://{server.address}/shop#user=app"
    assert gate(f"{target}#password-env=WORD", env={"WORD": WORD}).wait().status == 0
    (tmp_path / "word").write_text("wrong-word")
    done = gate(f"{target}#password-file={tmp_path}/word#on-auth-refused=fail").wait()
    assert done.status == 1
    assert "28P01" in done.stderr
    assert "wrong-word" not in done.stderr


def test_clear_text_needs_privacy(plain: PostgreSQL, ask: Ask) -> None:
    """A password goes over the wire in clear text only inside TLS, by a Unix socket, or when told so."""
    target = f"postgresql://clear:{WORD}@{plain.address}/postgres"
    verdict = ask(target)
    assert verdict.cause == "unsupported"
    assert "clear text" in verdict.seen
    assert ask(f"{target}#tls=off").ready
    assert ask(f"{target}?sslmode=disable").ready
    assert ask(f"{target}#unix-socket={plain.path}").ready


def test_methods_that_are_not_spoken(ask: Ask) -> None:
    """GSSAPI, SSPI and SCRAM with channel binding alone are named, with what to use instead."""
    answers = {
        "GSSAPI": (7).to_bytes(4, "big"),
        "SSPI": (9).to_bytes(4, "big"),
        "Kerberos V5": (2).to_bytes(4, "big"),
        "SCRAM-SHA-256-PLUS": (10).to_bytes(4, "big") + b"SCRAM-SHA-256-PLUS\0\0",
    }
    for words, body in answers.items():
        told = b"R" + (len(body) + 4).to_bytes(4, "big") + body
        with Server(say(told, hang)) as server:
            verdict = ask(f"postgresql://me:{WORD}@{server.address}#tls=off")
        assert verdict.cause == "unsupported"
        assert f"a login by {words}" in verdict.seen
        assert "scram-sha-256" in verdict.hint


def test_without_a_user(server: PostgreSQL, ask: Ask) -> None:
    """Without a user it is proven that the server serves, and its log stays as it was."""
    since = len(server.log)
    verdict = ask(f"postgresql://{server.address}/shop")
    assert verdict.ready
    assert verdict.seen == f"{server.address} serves, and asks for a login (SASL), none was tried"
    # What the field does for that leaves a line, each time.
    assert logged(server, since) == ""
    ready = [program("pg_isready"), "-h", "127.0.0.1", "-p", str(server.port), "-U", "trusty"]
    assert subprocess.run(ready, capture_output=True).returncode == 0
    server.wait_until(lambda: "no pg_hba.conf entry" in logged(server, since))


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
    assert logged(server, since) == ""
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
    "SELEC 1": ("failed", "42601", True),
    "SELECT 1; SELECT 2": ("failed", "42601", True),
    "CREATE TABLE made (id int)": ("failed", "25006", True),
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


def test_tls(server: PostgreSQL, plain: PostgreSQL, authority: Authority, ask: Ask) -> None:
    """fault 15: TLS is what the options and `sslmode` say, as with the driver."""
    ca = f"#ca={authority.file}"
    good = f"postgresql://app:{WORD}@{server.address}/shop"
    bare = f"postgresql://app:{WORD}@{plain.address}/postgres"
    assert "TLSv1.3" in ask(good + ca).seen
    assert "TLSv1.3" in ask(f"{good}#insecure").seen
    assert "TLS" not in ask(f"{good}#tls=off").seen
    assert ask(f"{good}#tls=require").cause == "tls-untrusted"
    assert ask(f"{good}{ca}#server-name=other.example").cause == "tls-name"
    assert ask(f"{good}{ca}#min-days=1000").cause == "tls-expired"
    for where, more in ((good, ""), (bare, ""), (good, ca), (bare, ca)):
        for mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"):
            if more and mode == "disable":
                continue
            told = f"{where}?sslmode={mode}"
            root = f"&sslrootcert={authority.file if more else '/nowhere'}"
            if more and mode in ("allow", "prefer"):
                # Here a trusted authority is an order; libpq falls back without a word.
                root += "&sslmode=verify-full"
            if not more and mode.startswith("verify"):
                assert not ask(told).ready
                continue
            assert ask(told + more).ready == works(told + (root if more else "")), told + more
    verdict = ask(f"{bare}?sslmode=require")
    assert verdict.cause == "tls-plaintext"
    assert "offers no TLS" in verdict.seen


def test_client_certificate(server: PostgreSQL, authority: Authority, ask: Ask) -> None:
    """A certificate logs in whom it names, without a password; another name, or none, is refused."""
    bearer, other = authority.client("bearer"), authority.client("other")
    # libpq takes no key that others may read.
    bearer.key.chmod(0o600)
    place = f"postgresql://bearer@{server.address}/shop"
    common = f"{place}#ca={authority.file}"
    assert ask(f"{common}#cert={bearer.chain}#key={bearer.key}").ready
    paths = f"sslcert={bearer.chain}&sslkey={bearer.key}"
    assert works(f"{place}?sslmode=require&{paths}")
    verdict = ask(common)
    assert verdict.cause == "tls-client-cert"
    assert "#cert=" in verdict.hint
    assert not works(f"{place}?sslmode=require")
    verdict = ask(f"{common}#cert={other.chain}#key={other.key}")
    assert verdict.cause == "auth-refused"
    assert "certificate authentication failed" in verdict.seen


def test_pg_hba(server: PostgreSQL, ask: Ask) -> None:
    """A client that no line of pg_hba.conf lets in is told so, and what could help."""
    sealed = f"postgresql://sealed:{WORD}@{server.address}/shop"
    assert ask(sealed).ready
    verdict = ask(f"{sealed}#tls=off")
    assert verdict.cause == "auth-refused"
    assert "28000: no pg_hba.conf entry" in verdict.seen
    assert "#tls=require" in verdict.hint
    assert works(f"{sealed}?sslmode=require")
    assert not works(f"{sealed}?sslmode=disable")
    verdict = ask(f"postgresql://open:{WORD}@{server.address}/shop#insecure")
    assert "SSL encryption" in verdict.seen
    assert not works(f"postgresql://open:{WORD}@{server.address}/shop?sslmode=require")
    verdict = ask(f"postgresql://unheard:{WORD}@{server.address}/shop")
    # Of the two ways that were tried the first is told.
    assert "SSL encryption" in verdict.seen
    assert "pg_hba.conf" in verdict.hint


def test_unix_socket(server: PostgreSQL, ask: Ask) -> None:
    """By a Unix socket, given itself or by its folder; a user of the system is known without a word."""
    place = f"@db.invalid:{server.port}/postgres#unix-socket={server.folder}"
    assert str(server.path) in ask(f"postgresql://postgres{place}").seen
    exact = f"postgresql://clear:{WORD}@localhost/postgres#unix-socket={server.path}"
    assert ask(exact).ready
    verdict = ask(f"postgresql://peer_only{place}")
    assert verdict.cause == "auth-refused"
    assert "Peer authentication failed" in verdict.seen
    verdict = ask(f"postgresql://app@localhost/shop#unix-socket={server.folder}")
    assert verdict.cause == "missing-object"
    assert ".s.PGSQL.5432" in verdict.seen


MISTAKES = {
    "postgresql://db#role=primary": "#role= without a user",
    "postgresql://db#table=t#query=SELECT 1": "#query= without a user",
    "postgresql://me@db#role=primary#max-lag=1s": "a primary is behind nobody",
    "postgresql://me@db#unix-socket=/run/x#ca=/x": "PostgreSQL has none there",
    "postgresql://me@db#tls=off#ca=/x": "#tls= says no",
    "postgresql://me@db?sslmode=disable#insecure": "?sslmode= says no TLS",
    "postgresql://me@db?sslmode=yes": "verify-full",
    "postgresql://me@db?sslrootcert=/x": "#ca=",
    "postgresql://db?user=me": "#user=",
    "postgresql://me@db?target_session_attrs=read-write": "#role=",
    "postgresql://me@db/a%00b": "a control character",
    "postgresql://me@db#table=a%0Ab": "a control character",
    "postgresql://me@db#role=leader": "primary, replica",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(text: str, ask: Ask) -> None:
    """What cannot be meant is told before anything is sent."""
    with pytest.raises(OperatorError, match=re.escape(MISTAKES[text])):
        ask(text)
    ask("postgresql://127.0.0.1:1/x?connect_timeout=3&application_name=y&options=-c%20a")


def test_nothing_is_left_behind(plain: PostgreSQL, ask: Ask) -> None:
    """fault 60: a thousand attempts, with a login and without, write no line into the server's log."""
    server = plain
    server.sql("CREATE TABLE IF NOT EXISTS kept AS SELECT 1; GRANT SELECT ON kept TO app")
    session = server.connect()
    since = len(server.log)
    before = session.execute("SELECT xact_rollback FROM pg_stat_database WHERE datname = 'shop'")
    counted = before.fetchall()
    began = time.monotonic()
    for number in range(500):
        assert ask(f"postgresql://{server.address}/shop").ready
        rest = (
            "#tls=off#query=TABLE kept#table=kept",
            "#role=primary",
            "#role=replica",
            "#table=x",
        )
        login = f"postgresql://app:{WORD}@{server.address}/postgres"
        assert ask(login + rest[number % 4]).ready == (number % 4 < 2)
    print(f"{(time.monotonic() - began):.2f} ms each, both sides")
    assert logged(server, since) == ""
    after = session.execute("SELECT xact_rollback FROM pg_stat_database WHERE datname = 'shop'")
    assert after.fetchall() == counted
    session.close()
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'service-precheck'"
    server.wait_until(lambda: server.sql(left) == [(0,)])


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
        while not works(target, timeout=2):
            assert watching.running(), watching.stderr
        served = time.monotonic()
        done = watching.wait()
    late = watching.started_at + done.seconds - served
    print(f"the gate ended {late * 1000:.0f} ms after the driver's first success")
    assert done.status == 0
    assert "FATAL 57P03: the database system is" in done.stderr
    assert "starting" in done.stderr


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
