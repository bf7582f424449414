"""What probing does to a MySQL or MariaDB: no address blocked, nothing aborted, nothing in its log.

A server counts what connects and leaves without a login, and at `max_connect_errors` (100, here 10) lets
nobody in from that address. It does so for addresses that are not its own and have a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from service_precheck.model import Verdict
from tests.bed.process import Gate
from tests.bed.services.mariadb import MariaDB
from tests.bed.services.mysql import Hosts, MySQL
from tests.bed.tls import Authority
from tests.bed.world import Etc, World
from tests.probes.conftest import Ask

pytestmark = [pytest.mark.xdist_group("mysql"), pytest.mark.timeout(120)]

ADDRESS = "10.53.0.2"
HOSTS = f"127.0.0.1 localhost\n{ADDRESS} client.example\n"
ACCOUNTS = (
    "CREATE USER app@'%' IDENTIFIED BY 'geheim-17'",
    "GRANT SELECT ON mysql.* TO app@'%'",
)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[World, Etc]]:
    """A network in which clients come from an address that is not local to the server, with a name."""
    with World(ADDRESS) as world, Etc("", HOSTS) as etc:
        yield world, etc


@pytest.fixture(scope="module")
def maria(elsewhere: tuple[World, Etc], authority: Authority) -> Iterator[MariaDB]:
    """MariaDB that blocks an address at ten errors, with a certificate that nobody trusts."""
    made = authority.issue()
    authority.folder.chmod(0o755)
    made.key.chmod(0o644)
    options = ("--max-connect-errors=10", f"--ssl-cert={made.chain}", f"--ssl-key={made.key}")
    with MariaDB(
        *options, "--plugin-load-add=auth_ed25519", host=ADDRESS, inside=elsewhere
    ) as server:
        server.sql(*ACCOUNTS, "CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('x')")
        yield server


@pytest.fixture(scope="module")
def mysql(elsewhere: tuple[World, Etc]) -> Iterator[MySQL]:
    """MySQL that blocks an address at ten errors."""
    with MySQL("--max-connect-errors=10", host=ADDRESS, inside=(*elsewhere, Hosts())) as server:
        server.sql(*ACCOUNTS)
        yield server


@pytest.fixture(params=["maria", "mysql"])
def db(request: pytest.FixtureRequest) -> MariaDB:
    """One product after the other."""
    server: MariaDB = request.getfixturevalue(request.param)
    return server


Probe = Callable[[str, int], Verdict]


@pytest.fixture
def probe(elsewhere: tuple[World, Etc], ask: Ask) -> Probe:
    """Return a function that asks a target so many times, from the address that may be blocked."""

    def many(target: str, times: int) -> Verdict:
        verdicts = elsewhere[0].inside(lambda: [ask(target) for _ in range(times)])
        assert len({verdict.cause for verdict in verdicts}) == 1, verdicts[-1]
        return verdicts[0]

    return many


def aborted(server: MariaDB) -> dict[str, str]:
    return server.status("Aborted_clients", "Aborted_connects")


def test_an_address_can_be_blocked(probe: Probe, elsewhere: tuple[World, Etc], db: MariaDB) -> None:
    """fault 58: what connects and leaves gets its address blocked, which is told with what to do."""
    for _ in range(11):
        with elsewhere[0].connect(ADDRESS, db.port) as connection:
            connection.recv(100)
    db.status("Connections")
    verdict = probe(f"mysql://app:geheim-17@{db.place}", 1)
    assert verdict.cause == "forbidden", verdict
    assert "1129 Host 'client.example' is blocked" in verdict.seen.replace(
        "10.53.0.2", "client.example"
    )
    assert "FLUSH HOSTS" in verdict.hint
    assert probe(f"mysql://{db.place}", 1).cause == "forbidden"
    unblock(db)
    assert probe(f"mysql://app:geheim-17@{db.place}", 1).ready


def unblock(server: MariaDB) -> None:
    server.sql(
        "TRUNCATE TABLE performance_schema.host_cache"
        if isinstance(server, MySQL)
        else "FLUSH HOSTS"
    )


@pytest.mark.parametrize("login", ["app:geheim-17@", ""], ids=["login", "no login"])
def test_a_thousand_probes(probe: Probe, db: MariaDB, login: str) -> None:
    """fault 58: a thousand probes with a login and without one never block the address."""
    before, log = aborted(db), len(db.log)
    assert probe(f"mysql://{login}{db.place}", 1000).ready
    unblocked(probe, db)
    if login:
        assert aborted(db) == before
        assert db.log[log:] == ""
    else:
        # The login is refused, and counted as that.
        assert aborted(db)["Aborted_clients"] == before["Aborted_clients"]
        assert all("service-precheck" in x or "sha256" in x for x in db.log[log:].splitlines())


def unblocked(probe: Probe, server: MariaDB) -> None:
    """Assert that the address has no error to its name: ten more would do."""
    assert probe(f"mysql://app:geheim-17@{server.place}#tls=off", 1).ready
    if isinstance(server, MySQL):
        counted = "SELECT SUM(sum_connect_errors) FROM performance_schema.host_cache"
        assert server.sql(counted) == [(0,)]


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("app:wrong@{}", "auth-refused"),
        ("app:wrong@{}#tls=off", "auth-refused"),
        ("app:geheim-17@{}#tls=require", "tls-untrusted"),
        ("app:geheim-17@{}#ca=/none.pem", "local"),
        ("{}#tls=require", "tls-untrusted"),
        ("app:geheim-17@{}#insecure#min-days=9999", "tls-expired"),
        ("app:geheim-17@{}/none", "forbidden"),
        ("app:geheim-17@{}/mysql#table=none", "missing-object"),
        ("app:geheim-17@{}#query=SELECT 1 FROM mysql.user WHERE user = 'none'", "missing-object"),
        ("app:geheim-17@{}#role=replica", "forbidden"),
    ],
)
def test_what_is_refused(probe: Probe, db: MariaDB, target: str, cause: str) -> None:
    """fault 58: nothing that is found wrong on the way blocks the address either."""
    before = aborted(db)
    assert probe(f"mysql://{target.format(db.place)}", 15).cause == cause
    probe(f"mysql://app:geheim-17@{db.place}#tls=off", 1)
    assert aborted(db)["Aborted_clients"] == before["Aborted_clients"]
    unblocked(probe, db)


def test_a_login_that_is_not_spoken(probe: Probe, maria: MariaDB) -> None:
    """fault 58: a way to log in that we do not speak is left in order, and told with what to use."""
    verdict = probe(f"mysql://ed:x@{maria.place}", 15)
    assert verdict.cause == "unsupported", verdict
    assert "client_ed25519" in verdict.seen
    assert "mysql_native_password" in verdict.hint
    unblocked(probe, maria)


def test_a_key_that_nobody_vouches_for(probe: Probe, elsewhere: tuple[World, Etc]) -> None:
    """fault 58: without TLS the password is not sent by the server's own key unless that is asked for,
    and the server is left in order."""
    without = ("--tls-version=", "--max-connect-errors=10")
    with MySQL(*without, host=ADDRESS, inside=(*elsewhere, Hosts())) as server:
        server.sql(*ACCOUNTS, "CREATE USER sha@'%' IDENTIFIED WITH sha256_password BY 'geheim-17'")
        for user in ("app", "sha"):
            login = f"mysql://{user}:geheim-17@{server.place}"
            verdict = probe(login, 15)
            assert verdict.cause == "unsupported", verdict
            assert "its own key, which nobody vouches for" in verdict.seen
            assert probe(f"{login}#tls=off", 1).ready
        assert aborted(server)["Aborted_clients"] == "0"
        unblocked(probe, server)


def test_a_hung_server_is_met_when_it_goes_on(
    elsewhere: tuple[World, Etc], probe: Probe, db: MariaDB, gate: Callable[..., Gate]
) -> None:
    """fault 58: gates that wait for a server that hangs do not get their address blocked by it, and open
    when it goes on."""
    before = aborted(db)
    # Long enough for a login on a busy machine: one that is cut short would be counted.
    text = f"mysql://app:geheim-17@{db.place}#attempt-timeout=1s"
    db.daemon.pause()
    try:
        gates = [gate("--output", "json", "-v", text, inside=elsewhere) for _ in range(3)]
        for waiting in gates:
            waiting.wait_output('"attempts":3')
    finally:
        db.daemon.resume()
    for waiting in gates:
        assert waiting.wait().status == 0
    assert aborted(db) == before
    unblocked(probe, db)


def test_attempts_without_time(
    elsewhere: tuple[World, Etc], probe: Probe, db: MariaDB, gate: Callable[..., Gate]
) -> None:
    """fault 58: attempts that are too short for a login do not get the address blocked."""
    text = f"mysql://app:geheim-17@{db.place}#attempt-timeout=1ms"
    assert gate("--timeout", "6s", text, inside=elsewhere).wait().status in (0, 124)
    unblocked(probe, db)


def test_an_address_without_an_account(ask: Ask, elsewhere: tuple[World, Etc]) -> None:
    """fault 58: a server that has no account for the address says so at once, and what would help."""
    with MariaDB(host=ADDRESS, inside=elsewhere) as server:
        for login in ("app:geheim-17@", ""):
            target = f"mysql://{login}{server.place}"
            verdict = elsewhere[0].inside(lambda target=target: ask(target))  # type: ignore[misc]
            assert verdict.cause == "forbidden"
            assert "1130 Host 'client.example' is not allowed to connect" in verdict.seen
            assert "CREATE USER" in verdict.hint
