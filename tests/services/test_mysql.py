"""MySQL and MariaDB, asked by the gate and by PyMySQL: what is ready for one works for the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from service_precheck.access import USER_ALONE
from service_precheck.model import Verdict
from tests.bed.fixtures import Enter
from tests.bed.process import Gate
from tests.bed.services.mariadb import MariaDB
from tests.bed.services.mysql import MySQL
from tests.bed.tls import Authority
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("mysql"), pytest.mark.timeout(120)]

ACCOUNTS = (
    "CREATE DATABASE shop",
    "CREATE TABLE shop.orders (id INT PRIMARY KEY)",
    "CREATE TABLE shop.migrations (version INT PRIMARY KEY)",
    "INSERT INTO shop.migrations VALUES (1), (2), (42)",
    "CREATE USER app@'%' IDENTIFIED BY 'geheim-17'",
    "GRANT ALL ON shop.* TO app@'%'",
    "GRANT ALL ON later.* TO app@'%'",
    "CREATE USER poor@'%' IDENTIFIED BY 'geheim-17'",
    "CREATE USER open@'%'",
    "CREATE USER secure@'%' IDENTIFIED BY 'geheim-17' REQUIRE SSL",
    "CREATE USER shown@'%' IDENTIFIED BY 'geheim-17' REQUIRE X509",
    "CREATE USER one@'%' IDENTIFIED BY 'geheim-17' WITH MAX_USER_CONNECTIONS 1",
    "CREATE USER gone@'%' IDENTIFIED BY 'geheim-17' PASSWORD EXPIRE",
    "CREATE USER shut@'%' IDENTIFIED BY 'geheim-17' ACCOUNT LOCK",
)


def readable(authority: Authority, *names: str) -> list[str]:
    """The options for a server's certificate, in files that a server without rights can read."""
    made = authority.issue(*names)
    authority.folder.chmod(0o755)
    made.key.chmod(0o644)
    return [f"--ssl-ca={authority.file}", f"--ssl-cert={made.chain}", f"--ssl-key={made.key}"]


@pytest.fixture(scope="module")
def maria(authority: Authority) -> Iterator[MariaDB]:
    """MariaDB with TLS, its accounts and tables."""
    with MariaDB(*readable(authority), "--plugin-maturity=unknown") as server:
        server.sql(*ACCOUNTS)
        yield server


@pytest.fixture(scope="module")
def mysql() -> Iterator[MySQL]:
    """MySQL with the certificate that it makes for itself, its accounts and tables."""
    with MySQL() as server:
        server.sql(*ACCOUNTS)
        yield server


@pytest.fixture(params=["maria", "mysql"])
def db(request: pytest.FixtureRequest) -> MariaDB:
    """One product after the other."""
    server: MariaDB = request.getfixturevalue(request.param)
    return server


def driver(server: MariaDB, *statements: str, **login: Any) -> bool:  # noqa: ANN401 the driver's own
    """Whether an application with PyMySQL can log in and execute statements."""
    where = {"host": server.host, "port": server.port, "password": "geheim-17"}
    try:
        with closing(server.connect(**{**where, "user": "app", **login})) as connection:
            with connection.cursor() as cursor:
                for statement in statements or ("SELECT 1",):
                    cursor.execute(statement)
    except pymysql.MySQLError:
        return False
    return True


def refused(verdict: Verdict, cause: str, words: str = "", hint: str = "") -> None:
    """Assert why something is not ready, and what is said of it."""
    assert verdict.cause == cause, verdict
    assert words in verdict.seen
    assert hint in verdict.hint


def test_versions(maria: MariaDB, mysql: MySQL, tested: Tested) -> None:
    """The documentation names the versions that are tested here."""
    tested("mysql", maria.version)
    tested("mysql", mysql.version)


def test_login(ask: Ask, db: MariaDB) -> None:
    """A login that works is ready, and says which product answers."""
    verdict = ask(f"mysql://app:geheim-17@{db.place}")
    assert verdict.ready
    assert driver(db)
    assert verdict.seen == f"{db.place} takes the login and answers a query ({db.version})"


def test_no_login(ask: Ask, db: MariaDB) -> None:
    """Without a user it is proven that logins are served, and said that none was tried."""
    verdict = ask(f"mysql://{db.place}")
    assert verdict.ready
    assert verdict.seen == f"{db.place} serves logins, none was given to try ({db.version})"


@pytest.mark.parametrize(
    ("user", "password"), [("app", "wrong"), ("app", ""), ("nobody", "geheim-17"), ("nobody", "")]
)
def test_refused_login(ask: Ask, db: MariaDB, user: str, password: str) -> None:
    """fault 58: a wrong password and an unknown user are a refused login, not a server that is down."""
    verdict = ask(f"mysql://{user}:{password}@{db.place}")
    refused(verdict, "auth-refused", "1045 Access denied", "" if password else USER_ALONE)
    assert not driver(db, user=user, password=password)


def test_account_without_password(ask: Ask, db: MariaDB) -> None:
    """An account without a password is let in without one, and not with one."""
    assert ask(f"mysql://open@{db.place}").ready
    refused(ask(f"mysql://open:geheim-17@{db.place}"), "auth-refused", "1045")


def test_password_file(ask: Ask, db: MariaDB, folder: Path) -> None:
    """A password may come from a file, whose missing is found out before anything is sent."""
    file = folder / "password"
    target = f"mysql://{db.place}#user=app#password-file={file}"
    seen = db.status("Connections")
    refused(ask(target), "local", "No such file")
    assert int(db.status("Connections")["Connections"]) == int(seen["Connections"]) + 1
    file.write_text("geheim-17\n")
    assert ask(target).ready


def test_expired_password(ask: Ask, db: MariaDB) -> None:
    """An expired password is a refused login, where the server lets it in for a change only as well."""
    verdict = ask(f"mysql://gone:geheim-17@{db.place}")
    refused(
        verdict, "auth-refused", "182" if db.version.startswith("Maria") else "1862", "ALTER USER"
    )
    assert not driver(db, user="gone")


def test_locked_account(ask: Ask, db: MariaDB) -> None:
    """A locked account is a refused login."""
    refused(ask(f"mysql://shut:geheim-17@{db.place}"), "auth-refused", "locked")
    assert not driver(db, user="shut")


def test_database(ask: Ask, db: MariaDB) -> None:
    """fault 58: a database that is missing is told from a login that is refused, until it is made."""
    later = f"mysql://app:geheim-17@{db.place}/later"
    refused(ask(later), "no-such-database", "1049")
    assert not driver(db, database="later")
    db.sql("CREATE DATABASE later")
    assert ask(later).seen == f"{db.place} has the database later ({db.version})"
    assert driver(db, database="later")
    db.sql("DROP DATABASE later")
    refused(ask(f"mysql://poor:geheim-17@{db.place}/shop"), "forbidden", "1044", "GRANT SELECT")
    assert not driver(db, user="poor", database="shop")


def test_odd_names(ask: Ask, db: MariaDB) -> None:
    """Names are taken as they are written, whatever SQL would make of them."""
    db.sql("CREATE DATABASE `a b-ü`", "CREATE TABLE `a b-ü`.`x``; SELECT 1` (id INT)")
    try:
        target = f"mysql://root@local/a%20b-%C3%BC#unix-socket={db.socket}#table=x`; SELECT 1"
        assert ask(target).ready
        refused(ask(f"{target}1"), "missing-object", "1146")
    finally:
        db.sql("DROP DATABASE `a b-ü`")


def test_table(ask: Ask, db: MariaDB) -> None:
    """A table must be there, and the user be allowed to read it; an empty one will do."""
    of = f"mysql://app:geheim-17@{db.place}"
    verdict = ask(f"{of}/shop#table=orders#table=shop.migrations")
    assert verdict.ready
    assert "lets orders be read, lets shop.migrations be read" in verdict.seen
    assert ask(f"{of}#table=shop.orders").ready
    refused(ask(f"{of}/shop#table=customers"), "missing-object", "1146")
    poor = f"mysql://poor:geheim-17@{db.place}#table=shop.orders"
    refused(ask(poor), "forbidden", "1142", "GRANT SELECT")
    assert not driver(db, "SELECT 1 FROM shop.orders", user="poor")


def test_query(ask: Ask, db: MariaDB) -> None:
    """A query must give a row."""
    of = f"mysql://app:geheim-17@{db.place}/shop"
    verdict = ask(f"{of}#query=SELECT 1 FROM migrations WHERE version = 42")
    assert verdict.ready
    assert "has a row for the query" in verdict.seen
    asked = f"{of}#query=SELECT 1 FROM migrations WHERE version = 43"
    refused(ask(asked), "missing-object", "no row for the query")
    refused(ask(f"{of}#query=SELECT later FROM migrations"), "missing-object", "1054")


@pytest.mark.parametrize(
    ("path", "query", "code", "hint"),
    [
        ("/shop", "SELECT FROM WHERE", "1064", ""),
        ("", "SELECT 1 FROM migrations", "1046", "behind the host: /DATABASE"),
        ("/shop", "SELECT version FROM migrations a JOIN migrations b", "1052", ""),
        ("/shop", "SELECT 1 WHERE 1 = (SELECT version FROM migrations LIMIT 2)", "1242", ""),
        ("/shop", "SELECT (SELECT 1, 2)", "1241", ""),
        ("/shop", "SELECT 1 FROM migrations WHERE COUNT(*) > 1", "1111", ""),
        ("/shop", "SELECT 1 FROM migrations a JOIN migrations a", "1066", ""),
    ],
)
def test_a_query_that_no_time_mends(
    ask: Ask, db: MariaDB, path: str, query: str, code: str, hint: str
) -> None:
    """A query that cannot be answered as it is written ends the gate."""
    verdict = ask(f"mysql://app:geheim-17@{db.place}{path}#query={query}")
    refused(verdict, "failed", f"says {code} ", hint)
    assert verdict.final
    assert not driver(db, query, database=path[1:] or None)


def test_a_table_as_a_query(ask: Ask, maria: MariaDB, mysql: MySQL) -> None:
    """TABLE is a query to MySQL, and none to MariaDB."""
    query = "mysql://app:geheim-17@{}/shop#query=TABLE migrations"
    assert ask(query.format(mysql.place)).ready
    refused(ask(query.format(maria.place)), "failed", "1064")


@pytest.mark.parametrize(
    "query",
    [
        "WITH a AS (SELECT 1) DELETE FROM migrations",
        "SELECT written()",
    ],
)
def test_nothing_is_written(ask: Ask, db: MariaDB, query: str) -> None:
    """A query that would write does not, in whatever it is wrapped."""
    db.sql(
        "SET GLOBAL log_bin_trust_function_creators = 1",
        "CREATE FUNCTION shop.written() RETURNS INT BEGIN DELETE FROM shop.migrations; RETURN 1; END",
    )
    try:
        assert not ask(f"mysql://app:geheim-17@{db.place}/shop#query={query}").ready
        assert db.sql("SELECT COUNT(*) FROM shop.migrations") == [(3,)]
    finally:
        db.sql("DROP FUNCTION shop.written")


def test_a_lock_outlives_no_attempt(ask: Ask, db: MariaDB) -> None:
    """A table that is locked is not waited for beyond the attempt, on the server neither."""
    target = f"mysql://app:geheim-17@{db.place}/shop#table=orders"
    aborted = db.status("Aborted_clients")
    with db.connect() as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLES shop.orders WRITE")
        refused(ask(target, timeout=2.5), "no-reply", f"{db.place} says ")
        refused(ask(target, timeout=1.0), "no-reply", f"{db.place} ")
        count = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app'"
        db.daemon.wait_until(lambda: db.sql(count) == [(0,)])
        cursor.execute("UNLOCK TABLES")
    assert ask(target).ready
    assert db.status("Aborted_clients") == aborted


def test_a_long_query_ends_with_the_attempt(ask: Ask, db: MariaDB) -> None:
    """A query that takes long is stopped by the server itself."""
    query = "SELECT COUNT(*) FROM information_schema.columns a, information_schema.columns b, "
    query += "information_schema.columns c WHERE a.column_name > HEX(CONCAT(b.column_name, c.column_name))"
    verdict = ask(f"mysql://app:geheim-17@{db.place}/shop#query={query}", timeout=2.5)
    refused(verdict, "no-reply", "1969" if db.version.startswith("Maria") else "3024")


def test_many_and_long_rows(ask: Ask, db: MariaDB) -> None:
    """A result is read to its end, however many rows it has and however long they are."""
    of = f"mysql://app:geheim-17@{db.place}/shop#query="
    aborted = db.status("Aborted_clients")
    assert ask(f"{of}SHOW VARIABLES").ready
    assert ask(f"{of}SELECT a.version FROM migrations a, migrations b").ready
    assert ask(f"{of}SELECT REPEAT('a', 2000000)").ready
    # One in two packets, of which the second is short, and one whose second packet is empty.
    db.sql("SET GLOBAL max_allowed_packet = 1 << 26")
    for length in (1 << 24, (1 << 24) - 5):
        assert ask(f"{of}SELECT REPEAT('a', {length})").ready
    assert aborted == db.status("Aborted_clients")


@pytest.mark.parametrize("variable", ["read_only", "transaction_read_only"])
def test_read_only(ask: Ask, db: MariaDB, variable: str) -> None:
    """A primary takes writes; with `read_only`, or sessions that begin so, it does not, whatever rights
    the user has."""
    if variable.startswith("tran") and "MariaDB" in db.version:
        variable = "tx_read_only"
    of = f"mysql://app:geheim-17@{db.place}/shop"
    write = "INSERT INTO orders VALUES (1)"
    undo = "DELETE FROM orders"
    assert "takes writes" in ask(f"{of}#role=primary").seen
    assert driver(db, write, undo, database="shop")
    db.sql(f"SET GLOBAL {variable} = 1")
    try:
        refused(ask(f"{of}#role=primary"), "read-only", f"takes no writes: {variable} is on")
        assert not driver(db, write, database="shop")
        assert ask(of).ready
    finally:
        db.sql(f"SET GLOBAL {variable} = 0")


def test_no_galera(ask: Ask, db: MariaDB) -> None:
    """A server of its own is no node of a cluster."""
    verdict = ask(f"mysql://app:geheim-17@{db.place}#galera")
    refused(verdict, "not-ready", f"{db.place} is no node of a Galera cluster")


def test_super_read_only(ask: Ask, mysql: MySQL) -> None:
    """On MySQL it is told that not even administrators may write."""
    mysql.sql("SET GLOBAL super_read_only = 1")
    try:
        verdict = ask(f"mysql://app:geheim-17@{mysql.place}#role=primary")
        refused(verdict, "read-only", "super_read_only is on")
    finally:
        mysql.sql("SET GLOBAL super_read_only = 0", "SET GLOBAL read_only = 0")


def test_offline_mode(ask: Ask, mysql: MySQL) -> None:
    """A server that is kept for its administrators says so, and lets nobody else in."""
    mysql.sql("SET GLOBAL offline_mode = 1")
    try:
        verdict = ask(f"mysql://app:geheim-17@{mysql.place}")
        refused(verdict, "not-ready", "3032", "offline_mode")
        assert not driver(mysql)
    finally:
        mysql.sql("SET GLOBAL offline_mode = 0")


def test_too_many_connections(ask: Ask, enter: Enter, db: MariaDB) -> None:
    """fault 58: a server without a free connection is overloaded, for all and for one account."""
    # What was closed before is counted for some time after.
    db.daemon.wait_until(lambda: db.status("Threads_connected") == {"Threads_connected": "1"})
    db.sql("SET GLOBAL max_connections = 10")
    try:
        held = [db.connect() for _ in range(11)]
        verdict = ask(f"mysql://app:geheim-17@{db.place}")
        refused(verdict, "overloaded", "1040 Too many connections", "max_connections")
        refused(ask(f"mysql://{db.place}"), "overloaded", "1040")
        assert not driver(db)
        for each in held:
            each.close()
    finally:
        db.sql("SET GLOBAL max_connections = 100")
    with closing(db.connect(user="one", password="geheim-17")):
        verdict = ask(f"mysql://one:geheim-17@{db.place}")
        refused(verdict, "overloaded", "1226", "MAX_USER_CONNECTIONS")


def test_unix_socket(ask: Ask, db: MariaDB, folder: Path) -> None:
    """A Unix socket serves as well, and one that is not there is told."""
    verdict = ask(f"mysql://app:geheim-17@localhost#unix-socket={db.socket}")
    assert verdict.ready
    assert verdict.seen.startswith(f"{db.socket} takes the login")
    missing = ask(f"mysql://app:geheim-17@localhost#unix-socket={folder}/none")
    refused(missing, "missing-object", f"there is no {folder}/none")


def test_bad_targets(gate: Callable[..., Gate]) -> None:
    """The operator's mistakes are found before anything is sent, all of them together."""
    mistakes = {
        "mysql://me@h/a/b": "slash",
        "mysql://a@h#role=primary#max-lag=3s": "it is a replica that lags",
        "mysql://a@h#table=orders": "#table=DATABASE.orders",
        "mysql://a@h#query=DELETE FROM orders": "no read",
        "mysql://a@h#query=SELECT 1 INTO OUTFILE '/tmp/x'": "writes a file",
        "mysql://a@h#query=SELECT 1 /*!50000INTO*/\nDumpFile '/tmp/x'": "writes a file",
        "mysql://a@h#role=master": "primary, replica",
        "mysql://h#password-env=X": "#password-env= without a user",
        "mysql://h/shop": "a database without a user",
        "mysql://h#galera": "#galera without a user",
        "mysql://a@h#tls=off#ca=/x": "says no",
    }
    done = gate(*mistakes).wait()
    assert done.status == 2
    for said in mistakes.values():
        assert said in done.stderr


def test_hangs(ask: Ask, maria: MariaDB) -> None:
    """fault 4: a server that accepts and says nothing is told from one that is down."""
    maria.daemon.pause()
    try:
        refused(ask(f"mysql://app:geheim-17@{maria.place}", timeout=0.5), "no-reply")
    finally:
        maria.daemon.resume()
    assert ask(f"mysql://app:geheim-17@{maria.place}").ready
