"""`mongodb:` against FerretDB, with and without a set name; pymongo is the oracle.

What FerretDB cannot be (a secondary, an arbiter, a set without a primary) is in `test_mongodb_states`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pymongo.errors import PyMongoError

from tests.bed.fixtures import Enter
from tests.bed.opening import opened
from tests.bed.process import Gate
from tests.bed.services.mongodb import Client, FerretDB, client
from tests.bed.services.postgresql import PostgreSQL
from tests.bed.sockets import Behaviour, Connection, Server, close
from tests.bed.tls import Authority
from tests.bed.world import World
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("mongodb"), pytest.mark.timeout(120)]

ROOT = ("root", "root-secret")


def works(asking: Client) -> bool:
    """What the driver experiences, of a write and a read."""
    try:
        with asking:
            asking.oracle.t.insert_one({"was": "here"})
            return asking.oracle.t.find_one() is not None
    except PyMongoError:
        return False


def reads(asking: Client) -> bool:
    """What the driver experiences, of a read."""
    try:
        with asking:
            asking.oracle.t.find_one()
            return True
    except PyMongoError:
        return False


def forward(connect: Callable[[], socket.socket]) -> Behaviour:
    """A proxy: what comes goes to where `connect` leads, and back."""

    def behave(connection: Connection) -> None:
        with contextlib.suppress(OSError), connect() as upstream:

            def answer() -> None:
                with contextlib.suppress(OSError):
                    while data := upstream.recv(65_536):
                        connection.write(data)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            while data := connection.read():
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_RDWR)
            thread.join(10)

    return behave


@pytest.fixture(scope="module")
def plain() -> Iterator[FerretDB]:
    """Return a standalone server that lets anybody in."""
    with FerretDB() as server:
        yield server


@pytest.fixture(scope="module")
def rs0() -> Iterator[FerretDB]:
    """Return the primary of a set of one."""
    with FerretDB(set_name="rs0") as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[FerretDB]:
    """Return a server with users for each way to log in."""
    with FerretDB(login=ROOT) as server:
        server.add_user("old", "old-secret", "SCRAM-SHA-1")
        server.add_user("new", "new-secret", "SCRAM-SHA-256")
        server.add_user("both", "ſüß²", "SCRAM-SHA-1", "SCRAM-SHA-256")
        server.add_user("odd", "100%: @/?#,=", "SCRAM-SHA-256")
        server.add_user("local", "local-secret", "SCRAM-SHA-256", database="shop")
        yield server


# -- what ready proves


def test_ready(plain: FerretDB, ask: Ask, tested: Tested) -> None:
    """Without a login it is proven that a server answers, and said that no more was tried."""
    verdict = ask(f"mongodb://{plain.place}")
    assert verdict.ready
    assert verdict.seen == f"{plain.place} answers as a standalone server; no login was tried"
    assert works(plain.client())
    tested("mongodb", f"FerretDB {plain.version}")


@pytest.mark.parametrize(
    ("written", "driver", "cause", "seen"),
    [
        ("", "", None, "answers as the primary of rs0"),
        ("?replicaSet=rs0", "?replicaSet=rs0", None, "answers as the primary of rs0"),
        ("#replica-set=rs0", "?replicaSet=rs0", None, "answers as the primary of rs0"),
        ("#role=primary", "", None, "takes writes as the primary of rs0"),
        ("?REPLICASET=rs0#role=primary", "?replicaSet=rs0", None, "takes writes as the primary of"),
        ("?directConnection=true#role=primary", "?directConnection=true", None, "takes writes"),
        ("?replicaSet=rs0#min-members=1", "?replicaSet=rs0", None, "; 1 member serves"),
        ("?replicaSet=rs1", "?replicaSet=rs1", "missing-object", "the primary of rs0, not of rs1"),
        ("#role=secondary", "?readPreference=secondary", "not-ready", "of rs0, and no secondary"),
        ("#min-members=2", None, "too-few", "1 of 2 members serve: "),
    ],
)
def test_set(
    rs0: FerretDB, ask: Ask, written: str, driver: str | None, cause: str | None, seen: str
) -> None:
    """Each option on the primary of a set holds where the driver finds what it needs, and else not."""
    verdict = ask(f"mongodb://{rs0.place}/{written}")
    assert verdict.cause == cause
    assert seen in verdict.seen
    if driver is not None:
        assert reads(client(f"mongodb://{rs0.place}/{driver}")) == verdict.ready


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        ("#role=primary", None),
        ("#role=secondary", "not-ready"),
        ("#replica-set=rs0", "missing-object"),
        ("#min-members=1", "too-few"),
    ],
)
def test_standalone(plain: FerretDB, ask: Ask, written: str, cause: str | None) -> None:
    """A standalone server takes writes, and is no member of anything."""
    verdict = ask(f"mongodb://{plain.place}{written}")
    assert verdict.cause == cause
    assert "a standalone server" in verdict.seen


def test_several_hosts(rs0: FerretDB, plain: FerretDB, ask: Ask) -> None:
    """One of several hosts is enough; of a set all that answer must be members."""
    with Server(opened=False) as dead:
        hosts = f"{dead.address},{rs0.place}"
        assert ask(f"mongodb://{hosts}/").ready
        assert ask(f"mongodb://{hosts}/?replicaSet=rs0#role=primary").ready
        assert works(client(f"mongodb://{hosts}/?replicaSet=rs0"))
        verdict = ask(f"mongodb://{hosts}/#min-members=2")
        assert verdict.cause == "too-few"
        assert f"{dead.address} refused" in verdict.seen
    stranger = ask(f"mongodb://{rs0.place},{plain.place}/?replicaSet=rs0")
    assert stranger.cause == "missing-object"
    assert stranger.seen == f"{plain.place} is a standalone server, not of rs0"


def test_unix_socket(ask: Ask, folder: Path) -> None:
    """A Unix socket is asked in place of the host; one that is not there is `missing-object`."""
    path = folder / "f.sock"
    with FerretDB(set_name="rs0", unix_socket=path):
        verdict = ask(f"mongodb://localhost/?replicaSet=rs0#role=primary#unix-socket={path}")
        assert verdict.ready
        assert verdict.seen.startswith(f"{path} takes writes")
    assert ask(f"mongodb://localhost#unix-socket={path}").cause == "missing-object"


# -- logins


@pytest.mark.parametrize(
    ("userinfo", "rest", "mechanism"),
    [
        ("old:old-secret", "", "SCRAM-SHA-1"),
        ("old:old-secret", "?authMechanism=SCRAM-SHA-1", "SCRAM-SHA-1"),
        ("new:new-secret", "", "SCRAM-SHA-256"),
        ("new:new-secret", "?authMechanism=DEFAULT", "SCRAM-SHA-256"),
        ("new:new-secret", "admin", "SCRAM-SHA-256"),
        ("new:new-secret", "anything?authSource=admin", "SCRAM-SHA-256"),
        ("both:s%C3%BC%C3%9F2", "", "SCRAM-SHA-256"),
        ("both:%C5%BF%C3%BC%C3%9F%C2%B2", "?authMechanism=SCRAM-SHA-1", "SCRAM-SHA-1"),
        ("odd:100%25%3A%20%40%2F%3F%23%2C%3D", "", "SCRAM-SHA-256"),
        ("local:local-secret", "shop", "SCRAM-SHA-256"),
        ("local:local-secret", "?authSource=shop", "SCRAM-SHA-256"),
        # Refused, each as the driver is.
        ("new:old-secret", "", ""),
        ("nobody:new-secret", "", ""),
        ("new:new-secret", "shop", ""),
        ("local:local-secret", "", ""),
    ],
)
def test_login(guarded: FerretDB, ask: Ask, userinfo: str, rest: str, mechanism: str) -> None:
    """Users get in by the mechanism and the database by which the driver does, and not where it does not."""
    url = f"mongodb://{userinfo}@{guarded.place}/{rest}"
    verdict = ask(f"{url}#role=primary")
    assert works(client(url)) == verdict.ready
    if mechanism:
        assert verdict.seen.endswith(f"server, and took the login ({mechanism})")
    else:
        assert verdict.cause == "auth-refused"
        assert "error 18 AuthenticationFailed" in verdict.seen


def test_mechanism_that_the_user_has_not(guarded: FerretDB, ask: Ask) -> None:
    """A user who may not log in as the target says: `unsupported`, in the server's words."""
    url = f"mongodb://old:old-secret@{guarded.place}/?authMechanism=SCRAM-SHA-256"
    verdict = ask(url)
    assert verdict.cause == "unsupported"
    assert "error 334 ErrMechanismUnavailable: Unable to use SCRAM-SHA-256" in verdict.seen
    assert not works(client(url))


def test_login_by_file(guarded: FerretDB, ask: Ask, tmp_path: Path) -> None:
    """The password comes from a file, anew at each attempt."""
    path = tmp_path / "password"
    path.write_text("wrong\n")
    target = f"mongodb://{guarded.place}#user=new#password-file={path}"
    assert ask(target).cause == "auth-refused"
    path.write_text("new-secret\n")
    assert ask(target).ready


def test_without_login(guarded: FerretDB, ask: Ask) -> None:
    """A server that wants a login is up without one, and the sentence says that none was tried."""
    verdict = ask(f"mongodb://{guarded.place}")
    assert verdict.ready
    assert verdict.seen.endswith("; no login was tried")


def test_refused_login_is_final(guarded: FerretDB, gate: Callable[..., Gate]) -> None:
    """With `on-auth-refused=fail` a refused login ends the gate at once."""
    done = gate(f"mongodb://new:wrong-secret@{guarded.place}/#on-auth-refused=fail").wait()
    assert done.status == 1
    assert "auth-refused" in done.stderr
    assert "wrong-secret" not in done.stderr + done.stdout


def test_server_offers_plain_only(rs0: FerretDB, ask: Ask) -> None:
    """A user for whom the server offers no login that is spoken here: `unsupported`, naming it."""
    verdict = ask(f"mongodb://me:some-secret@{rs0.place}/")
    assert verdict.cause == "unsupported"
    assert verdict.seen == f"{rs0.place} takes this user's login by PLAIN only"


# -- TLS


def test_tls(authority: Authority, ask: Ask) -> None:
    """In TLS with a certificate that is trusted: the login, and PLAIN; `tls-untrusted` without."""
    with FerretDB(certificate=authority.issue()) as server:
        place = f"localhost:{server.port}"
        verdict = ask(f"mongodb://{place}/?tls=true#ca={authority.file}#role=primary")
        assert verdict.ready, verdict.seen
        verdict = ask(f"mongodb://me:some-secret@{place}/?authMechanism=PLAIN#ca={authority.file}")
        assert verdict.seen.endswith("and took the login (PLAIN)")
        url = f"mongodb://me:some-secret@{place}/?authMechanism=PLAIN&tls=true"
        assert works(client(url, tlsCAFile=str(authority.file)))
        assert ask(f"mongodb://{place}/?ssl=true").cause == "tls-untrusted"
        assert not works(client(f"mongodb://{place}/?ssl=true"))
        plainly = ask(f"mongodb://{place}/")
        assert plainly.cause == "closed-early"
        assert "#tls" in plainly.hint


def test_tls_login(authority: Authority, ask: Ask) -> None:
    """SCRAM inside TLS."""
    with FerretDB(certificate=authority.issue(), login=ROOT) as server:
        url = f"mongodb://root:root-secret@localhost:{server.port}/?tls=true"
        assert ask(f"{url}#ca={authority.file}").seen.endswith("took the login (SCRAM-SHA-256)")
        assert works(client(url, tlsCAFile=str(authority.file)))


def test_client_certificate(authority: Authority, ask: Ask) -> None:
    """A server that asks for the client's certificate gets it."""
    with FerretDB(certificate=authority.issue(), demand=authority) as server:
        target = f"mongodb://localhost:{server.port}/#ca={authority.file}"
        assert ask(target).cause == "tls-client-cert"
        shown = authority.client()
        verdict = ask(f"{target}#cert={shown.chain}#key={shown.key}")
        assert verdict.ready, verdict.seen


def test_tls_at_a_plain_port(plain: FerretDB, ask: Ask) -> None:
    """A server without TLS never answers the handshake: `no-reply`."""
    assert ask(f"mongodb://{plain.place}#insecure", timeout=0.3).cause == "no-reply"


# -- what stands between


def test_proxy_before_a_set(rs0: FerretDB, ask: Ask) -> None:
    """By a proxy's name no member counts; the names that the set lists are asked, as the driver does."""
    way = forward(lambda: socket.create_connection(("127.0.0.1", rs0.port)))
    with Server(way) as proxy:
        assert ask(f"mongodb://{proxy.address}/").seen.startswith(proxy.address)
        verdict = ask(f"mongodb://{proxy.address}/#role=primary")
        assert verdict.seen.startswith(f"{rs0.place} takes writes")
        direct = ask(f"mongodb://{proxy.address}/?directConnection=true#role=primary")
        assert direct.seen.startswith(f"{proxy.address} takes writes")


def test_listed_names_out_of_reach(enter: Enter, ask: Ask) -> None:
    """The classic: the server is reached, and no driver can use it, since its set lists a name that
    leads nowhere from here."""
    world = enter(World("10.53.0.2"))
    server = enter(FerretDB(host="127.0.53.7", set_name="rs0", inside=[world]))
    proxy = enter(Server(forward(lambda: world.connect("127.0.53.7", server.port))))
    assert ask(f"mongodb://{proxy.address}/").ready
    for written in ("?replicaSet=rs0", "#role=primary", "?replicaSet=rs0#role=primary"):
        verdict = ask(f"mongodb://{proxy.address}/{written}")
        assert verdict.cause == "refused", verdict.seen
        assert verdict.seen.startswith(
            f"rs0 has {server.place} as a member: {server.place} refused"
        )
        assert "rs.conf()" in verdict.hint
    assert not works(client(f"mongodb://{proxy.address}/?replicaSet=rs0"))
    assert not works(client(f"mongodb://{proxy.address}/"))
    direct = f"mongodb://{proxy.address}/?directConnection=true"
    assert works(client(direct))
    assert ask(f"{direct}#role=primary").ready


def test_proxy_with_nothing_behind(ask: Ask) -> None:
    """fault 2: a proxy in front of nothing accepts and hangs up: `closed-early`."""
    with Server(close) as proxy:
        assert ask(f"mongodb://{proxy.address}").cause == "closed-early"


def test_hangs(plain: FerretDB, ask: Ask) -> None:
    """fault 3: a server that hangs is `no-reply`, and the driver waits in vain as well."""
    plain.pause()
    try:
        assert ask(f"mongodb://{plain.place}", timeout=0.3).cause == "no-reply"
        assert not works(plain.client())
    finally:
        plain.resume()
    assert ask(f"mongodb://{plain.place}").ready


# -- starting, dying, coming back


def test_starting(gate: Callable[..., Gate], enter: Enter) -> None:
    """A server that starts under the gate: refused, then the gate opens, and not before the driver gets in."""
    server = FerretDB(login=ROOT)
    target = f"mongodb://root:root-secret@{server.place}/#role=primary"
    started = gate("--output", "json", "-v", target)
    started.wait_output("refused")
    enter(server)
    assert opened(started, lambda: works(server.client())) == {"refused"}


def test_killed_and_back(gate: Callable[..., Gate], ask: Ask) -> None:
    """After kill -9 it is refused, and a gate opens once it is back."""
    with FerretDB(set_name="rs0") as server:
        target = f"mongodb://{server.place}/?replicaSet=rs0#role=primary"
        assert ask(target).ready
        server.stop(9)
        assert ask(target).cause == "refused"
        started = gate("--output", "json", "-v", target)
        started.wait_output("refused")
        server.start()
        assert opened(started, lambda: works(server.client())) == {"refused"}


def test_store_not_there(gate: Callable[..., Gate], ask: Ask) -> None:
    """FerretDB in front of a PostgreSQL that is down accepts and says what it is, and serves nothing:
    `not-ready` by its answer to `ping`, until the store is there."""
    with PostgreSQL() as store:
        store.sql("CREATE ROLE ferret SUPERUSER LOGIN PASSWORD 'ferret-secret'")
        store.sql("CREATE DATABASE ferretdb OWNER ferret")
        store.stop()
        url = f"postgres://ferret:ferret-secret@127.0.0.1:{store.port}/ferretdb?sslmode=disable"
        with FerretDB(backend=url) as server:
            target = f"mongodb://{server.place}"
            verdict = ask(target)
            assert verdict.cause == "not-ready"
            assert "answers ping with error 1 InternalError" in verdict.seen
            assert not works(server.client())
            started = gate("--output", "json", "-v", target)
            started.wait_output("not-ready")
            store.start()
            assert opened(started, lambda: works(server.client())) == {"not-ready"}


# -- do no harm


def test_a_thousand_probes(guarded: FerretDB, ask: Ask) -> None:
    """A thousand probes, one in ten with a login, leave a line for each connection's begin and end in
    the server's log, and no other; what one opens it closes."""
    before = len(guarded.log)
    for number in range(1000):
        login = "new:new-secret@" if number % 10 == 0 else ""
        assert ask(f"mongodb://{login}{guarded.place}/#role=primary").ready
    guarded.wait_until(lambda: guarded.log[before:].count("Connection stopped") >= 1000)
    lines = guarded.log[before:].splitlines()
    # FerretDB now and then loses a race with itself when a client leaves, whoever that is.
    expected = re.compile(r"INFO\s.*Connection (started|stopped)|use of closed network connection")
    assert [line for line in lines if not expected.search(line)] == []
    assert works(guarded.client())
