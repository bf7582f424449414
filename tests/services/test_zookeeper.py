"""`zookeeper:` against real servers, alone and as ensembles; kazoo is the oracle."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.security import make_digest_acl

from service_precheck.dns import Names
from service_precheck.dns.resolver import Resolver
from tests.bed.names import ScriptedDNS
from tests.bed.opening import opened
from tests.bed.process import Gate
from tests.bed.services.zookeeper import Ensemble, ZooKeeper, later_release
from tests.bed.sockets import Connection, Server
from tests.bed.tls import Authority
from tests.dns.simulated import Set
from tests.probes.conftest import Ask, probe

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("zookeeper"), pytest.mark.timeout(120)]

EVERY_WORD = {"4lw.commands.whitelist": "*"}
READ_ONLY_MODE = {"readonlymode.enabled": "true"}


@contextlib.contextmanager
def driver(where: str, **options: object) -> Iterator[KazooClient]:
    """A session of the driver."""
    # By itself it would go on trying.
    client = KazooClient(where, timeout=5, connection_retry={"max_tries": 1}, **options)
    try:
        client.start(timeout=1)
        yield client
    finally:
        client.stop()
        client.close()


def works(where: str) -> bool:
    """What the driver experiences."""
    try:
        with driver(where) as client:
            return client.exists("/") is not None
    except (KazooException, KazooTimeoutError):
        return False


def voters(ensemble: Ensemble) -> int:
    """How many serve by their own word."""
    return sum(server.mode() in ("leader", "follower") for server in ensemble.servers)


@pytest.fixture(scope="module")
def started() -> Iterator[Ensemble]:
    """Return an ensemble of three voters and an observer."""
    with Ensemble(3, observers=1, settings=EVERY_WORD) as made:
        yield made


@pytest.fixture
def ensemble(started: Ensemble) -> Iterator[Ensemble]:
    """Return the ensemble, which is whole again after the test."""
    yield started
    started.heal()


@pytest.fixture(scope="module")
def alone() -> Iterator[ZooKeeper]:
    """Return a standalone server."""
    with ZooKeeper() as made:
        yield made


def test_what_each_level_proves(ensemble: Ensemble, ask: Ask) -> None:
    """A server keeps a session; one of a mode; several voters the same one; a znode exists."""
    where, leader = ensemble.where, ensemble.leader()
    first, second, third, observer = ensemble.servers
    assert works(where)
    assert ask(f"zookeeper://{where}").seen == f"{first.place} ({first.mode()}) keeps a session"
    assert (
        ask(f"zookeeper://{where}#mode=leader").seen == f"{leader.place} (leader) keeps a session"
    )
    assert ask(f"zookeeper://{where}#mode=follower").seen.endswith(" (follower) keeps a session")
    assert ask(f"zookeeper://{where}#mode=observer").seen == (
        f"{observer.place} (observer) keeps a session"
    )
    assert ask(f"zookeeper://{where}#voters=3").seen == (
        f"{first.place} ({first.mode()}), {second.place} ({second.mode()}), "
        f"{third.place} ({third.mode()}) keep one session, 3 voters of one ensemble"
    )
    config = ask(f"zookeeper://{where}/zookeeper/config")
    assert config.seen.endswith("keeps a session, and /zookeeper/config exists")
    assert ask(f"zookeeper://{where}#path=/zookeeper/config#voters=2").ready


def test_what_is_missing(ensemble: Ensemble, ask: Ask) -> None:
    """A mode that no server has, a vote that an observer has not, a znode that is not there."""
    where, observer = ensemble.where, ensemble.servers[3]
    alone = ask(f"zookeeper://{where}#mode=standalone")
    assert alone.cause == "not-ready"
    assert f"{observer.place} (observer) is not standalone" in alone.seen
    four = ask(f"zookeeper://{where}#voters=4")
    assert four.cause == "too-few"
    assert four.seen.startswith("3 of 4 voters serve: ")
    assert four.seen.endswith(f"; {observer.place} (observer) has no vote")
    znode = ask(f"zookeeper://{where}/hbase")
    assert znode.cause == "missing-object"
    assert znode.seen == f"{ensemble.servers[0].place} has no /hbase: NoNode (-101)"
    with driver(where) as client:
        client.create("/hbase")
        assert ask(f"zookeeper://{where}/hbase").ready
        client.delete("/hbase")
    assert not ask(f"zookeeper://{where}/hbase").ready


def test_imok_is_no_quorum(ensemble: Ensemble, ask: Ask) -> None:
    """With two of three gone the last one accepts and answers `imok`, and no client can work: `no-quorum`;
    with one of three gone they can (fault 62)."""
    where = ensemble.where
    last, lost, leader = *ensemble.followers(), ensemble.leader()
    lost.stop()
    assert works(where)
    assert ask(f"zookeeper://{where}").ready
    assert ask(f"zookeeper://{where}#voters=2").ready
    three = ask(f"zookeeper://{where}#voters=3")
    assert three.cause == "too-few"
    assert f"; {lost.place} refused the connection" in three.seen
    leader.stop()
    last.wait_until(lambda: not last.serving())
    assert last.word("ruok") == "imok"
    assert ask(last.place).ready
    assert not works(where)
    for text in (f"zookeeper://{where}", f"zookeeper://{where}#voters=2"):
        verdict = ask(text)
        assert verdict.cause == "no-quorum"
        assert (
            f'{last.place} is up and does not serve: "This ZooKeeper instance is not currently serving '
            'requests"' in verdict.seen
        )
    lost.start()
    last.wait_until(last.serving)
    assert works(where)
    assert ask(f"zookeeper://{where}#voters=2").ready


def test_a_leader_that_hangs(ensemble: Ensemble, ask: Ask) -> None:
    """While the leader hangs its followers still call themselves so, and no client gets a session: nor do
    we; once it goes on, or another leads, all do."""
    leader, follower = ensemble.leader(), ensemble.followers()[0]
    leader.pause()
    try:
        verdict = ask(f"zookeeper://{follower.place}", 1.0)
        assert follower.mode() == "follower"
        assert verdict.cause == "no-reply"
        assert verdict.seen.startswith(f"{follower.place} (follower) opened no session within ")
        assert ask(f"zookeeper://{ensemble.where}#voters=2", 1.0).cause == "no-reply"
    finally:
        leader.resume()
    follower.wait_until(lambda: works(follower.place))
    follower.wait_until(lambda: ask(f"zookeeper://{ensemble.where}#voters=3").ready)


def test_a_wiped_member(ensemble: Ensemble, ask: Ask, gate: Callable[..., Gate]) -> None:
    """A member without its data gets it from the leader before it counts again."""
    wiped = ensemble.followers()[0]
    wiped.stop()
    wiped.wipe()
    waiting = gate("--output", "json", "-v", f"zookeeper://{ensemble.where}#voters=3")
    waiting.wait_output("too-few")
    wiped.start()
    assert "too-few" in opened(waiting, lambda: voters(ensemble) == 3)
    assert ask(f"zookeeper://{wiped.place}").ready


def test_the_leader_is_killed_under_a_gate(ensemble: Ensemble, gate: Callable[..., Gate]) -> None:
    """A gate that waits for a znode goes on when the leader is killed, and opens when it is there."""
    waiting = gate("--output", "json", "-v", f"zookeeper://{ensemble.where}#path=/late#voters=2")
    waiting.wait_output("missing-object")
    leader = ensemble.leader()
    leader.stop(9)
    made = threading.Event()

    def make() -> None:
        others = ",".join(one.place for one in ensemble.servers if one is not leader)
        # It may meet the election.
        client = KazooClient(others, timeout=5)
        client.start(timeout=30)
        made.set()
        client.create("/late")
        client.stop()
        client.close()

    creator = threading.Thread(target=make)
    creator.start()
    causes = opened(waiting, made.is_set)
    creator.join()
    assert "missing-object" in causes
    assert not causes - {"missing-object", "no-quorum", "too-few", "closed-early", "no-reply"}
    ensemble.heal()
    with driver(ensemble.where) as client:
        client.delete("/late")


@pytest.mark.parametrize("need", [2, 3])
def test_all_three_start_under_a_gate(need: int, gate: Callable[..., Gate]) -> None:
    """From nothing to so many that serve: never early, and told on the way why not yet."""
    with Ensemble(3, started=False) as ensemble:
        waiting = gate("--output", "json", "-v", f"zookeeper://{ensemble.where}#voters={need}")
        waiting.wait_output('"refused"')
        first, second, third = ensemble.servers
        first.start()
        waiting.wait_output('"no-quorum"')
        second.start()
        if need == 3:
            waiting.wait_output('"too-few"')
        third.start()
        causes = opened(waiting, lambda: voters(ensemble) >= need)
        assert {"refused", "no-quorum"} <= causes
        assert works(ensemble.where)


def test_standalone(alone: ZooKeeper, ask: Ask, tested: Tested) -> None:
    """A server on its own serves, and is no voter of an ensemble."""
    tested("zookeeper", version(alone))
    assert works(alone.place)
    assert ask(f"zookeeper://{alone.place}#mode=standalone").seen == (
        f"{alone.place} (standalone) keeps a session"
    )
    assert ask(f"zookeeper://{alone.place}#mode=leader").cause == "not-ready"
    none = ask(f"zookeeper://{alone.place}#voters=1")
    assert (none.cause, none.seen) == ("not-ready", f"{alone.place} (standalone) has no vote")


def test_killed_and_started_again(alone: ZooKeeper, gate: Callable[..., Gate]) -> None:
    """After a `kill -9` it is refused, then serves again with what it had."""
    with driver(alone.place) as client:
        client.create("/kept")
    alone.stop(9)
    waiting = gate("--output", "json", "-v", f"zookeeper://{alone.place}/kept")
    waiting.wait_output("refused")
    assert not works(alone.place)
    alone.start()
    assert opened(waiting, alone.serving) <= {"refused", "no-quorum"}
    with driver(alone.place) as client:
        client.delete("/kept")


def version(server: ZooKeeper) -> str:
    """What it says it is."""
    return "ZooKeeper " + server.word("srvr").partition("version: ")[2].partition("-")[0]


def test_a_later_release(ask: Ask, tested: Tested) -> None:
    """The same of a later ZooKeeper: what is asked, what it says, and what it leaves in the log."""
    with Ensemble(2, jars=later_release()) as ensemble:
        where, leader = ensemble.where, ensemble.leader()
        tested("zookeeper", version(leader))
        assert ask(f"zookeeper://{where}#mode=leader").ready
        assert ask(f"zookeeper://hdfs:secret@{where}/zookeeper").ready
        assert ask(f"zookeeper://{where}/hbase").cause == "missing-object"
        before = [len(server.log) for server in ensemble.servers]
        for _ in range(50):
            assert ask(f"zookeeper://{where}#voters=2").ready
        for server, size in zip(ensemble.servers, before, strict=True):
            assert "srvr" in server.log[size:]
            assert "WARN" not in server.log[size:]
        last = ensemble.followers()[0]
        leader.pause()
        assert ask(f"zookeeper://{last.place}", 0.5).cause == "no-reply"
        leader.resume()
        leader.stop()
        last.wait_until(lambda: not last.serving())
        assert not works(where)
        assert ask(f"zookeeper://{where}").cause == "no-quorum"


def test_one_server_in_two_ensembles(ensemble: Ensemble, ask: Ask) -> None:
    """Servers of two ensembles keep no session together, however well each serves."""
    with Ensemble(2) as other:
        verdict = ask(f"zookeeper://{ensemble.servers[0].place},{other.servers[0].place}#voters=2")
        assert ask(f"zookeeper://{ensemble.where},{other.where}#voters=3").ready
        assert verdict.cause == "too-few"
        assert verdict.seen.startswith(
            f"{other.servers[0].place} ({other.servers[0].mode()}) does not know the session of "
        )


def test_one_name_for_all(ensemble: Ensemble, names: ScriptedDNS) -> None:
    """Each address of a headless service is a server: all are asked, and count."""
    looks = Names(Resolver(Set(servers=(names.address,))))
    names.add("zk.example", "A", *(server.host for server in ensemble.servers[:3]))
    where = f"zookeeper://zk.example.:{ensemble.port}"
    three = probe(f"{where}#voters=3", looks)
    assert three.ready, three
    assert three.seen.endswith("keep one session, 3 voters of one ensemble")
    ensemble.servers[0].stop()
    assert probe(where, looks).ready
    names.add("gone.example", "TXT", '"x"')
    both = probe(f"zookeeper://gone.example.,zk.example.:{ensemble.port}", looks)
    assert both.ready, both


def test_read_only_mode(ask: Ask) -> None:
    """A server without a quorum in read-only mode is not taken for one that serves."""
    with Ensemble(2, system=READ_ONLY_MODE, started=False) as ensemble:
        only = ensemble.servers[0]
        only.start()
        only.wait_until(lambda: only.mode() == "read-only")
        assert not works(only.place)
        verdict = ask(f"zookeeper://{only.place}")
        assert verdict.cause == "read-only"
        assert verdict.seen == (
            f"{only.place} has no quorum, and serves only reads until it has one"
        )
        with without_words(only) as server:
            assert ask(f"zookeeper://{server.address}").cause == "read-only"


@contextlib.contextmanager
def without_words(behind: ZooKeeper) -> Iterator[Server]:
    """A server that has not `srvr` in its whitelist, as an older one could; all else is `behind`."""

    def behave(connection: Connection) -> None:
        if connection.socket.recv(4, socket.MSG_PEEK) == b"srvr":
            connection.read()
            connection.write(b"srvr is not executed because it is not in the whitelist.\n")
            return
        with socket.create_connection((behind.host, behind.port)) as upstream:

            def back() -> None:
                with contextlib.suppress(OSError):
                    while said := upstream.recv(65_536):
                        connection.write(said)
                with contextlib.suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=back)
            thread.start()
            while said := connection.read():
                upstream.sendall(said)
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)
            thread.join()

    with Server(behave) as server:
        yield server


def test_words_that_are_not_allowed(ensemble: Ensemble, ask: Ask) -> None:
    """`srvr` is answered with an empty whitelist; where it is not, a session tells."""
    with ZooKeeper(settings={"4lw.commands.whitelist": ""}) as bare:
        assert "not in the whitelist" in bare.word("ruok")
        assert ask(f"zookeeper://{bare.place}#mode=standalone").ready
    last, *others = ensemble.servers
    with without_words(last) as server:
        where = f"zookeeper://{server.address}"
        assert ask(where).seen == f"{server.address} keeps a session"
        assert ask(f"{where}/zookeeper").ready
        for option in ("mode=follower", "voters=1"):
            verdict = ask(f"{where}#{option}")
            assert verdict.cause == "unsupported"
            assert "4lw.commands.whitelist" in verdict.hint
        for other in others:
            other.stop()
        last.wait_until(lambda: not last.serving())
        verdict = ask(where)
        assert verdict.cause == "no-quorum"
        assert verdict.seen == f"{server.address} refuses a session, as one without a quorum does"


def test_tls(authority: Authority, ask: Ask) -> None:
    """TLS with a certificate that is trusted; each port asked in the other way is not ready."""
    with ZooKeeper(tls=authority.issue()) as server:
        secure = f"zookeeper://localhost:{server.secure_port}"
        assert ask(f"{secure}#ca={authority.file}").ready
        assert ask(f"{secure}#tls").cause == "tls-untrusted"
        assert ask(f"{secure}#insecure").ready
        plain = ask(secure, 0.5)
        assert plain.cause == "no-reply"
        assert "#tls" in plain.hint
        assert ask(f"zookeeper://{server.place}#ca={authority.file}").cause == "closed-early"
        assert ask(f"zookeeper://{server.place}").ready


def test_client_certificates(authority: Authority, ask: Ask) -> None:
    """A server that demands a client's certificate gets it, or is not ready."""
    with ZooKeeper(tls=authority.issue(), demand=authority) as server:
        where = f"zookeeper://localhost:{server.secure_port}#ca={authority.file}"
        client = authority.client()
        assert ask(f"{where}#cert={client.chain}#key={client.key}").ready
        assert ask(where).cause == "tls-client-cert"


def test_limit_of_connections(ask: Ask) -> None:
    """At `maxClientCnxns` the server closes at once: `closed-early`, with the reason that it has."""
    with ZooKeeper(settings={"maxClientCnxns": 1}) as server:
        with driver(server.place):
            verdict = ask(f"zookeeper://{server.place}")
            assert verdict.cause == "closed-early"
            assert "maxClientCnxns" in verdict.hint
        server.wait_until(server.serving)
        assert ask(f"zookeeper://{server.place}").ready


def test_login(
    alone: ZooKeeper, ask: Ask, gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login by digest shows in what it may read; `on-auth-refused=fail` ends the gate."""
    acl = make_digest_acl("hdfs", "right-secret", read=True)
    where = f"{alone.place}/hadoop-ha"
    with driver(alone.place) as client:
        client.create("/hadoop-ha", b"x" * 100_000, acl=[acl])
        try:
            assert ask(f"zookeeper://hdfs:right-secret@{where}").seen == (
                f"{alone.place} (standalone) keeps a session, and hdfs may read /hadoop-ha"
            )
            monkeypatch.setenv("ZK_PASSWORD", "right-secret")
            assert ask(f"zookeeper://{where}#user=hdfs#password-env=ZK_PASSWORD").ready
            wrong = ask(f"zookeeper://hdfs:wrong-secret@{where}")
            assert wrong.cause == "auth-refused"
            assert wrong.seen == f"{alone.place} does not let hdfs read /hadoop-ha: NoAuth (-102)"
            # Whether it exists is told to everybody.
            assert ask(f"zookeeper://{where}").ready
            final = gate(f"zookeeper://hdfs:wrong-secret@{where}#on-auth-refused=fail").wait()
            assert final.status == 1
            assert "wrong-secret" not in final.stdout + final.stderr
        finally:
            client.add_auth("digest", "hdfs:right-secret")
            client.delete("/hadoop-ha")


def test_a_login_that_is_enforced(ask: Ask) -> None:
    """A server that enforces a login keeps a session without it, and tells of no znode; one that
    enforces SASL is told to ask for what is not spoken."""
    enforced = {
        "zookeeper.enforce.auth.enabled": "true",
        "zookeeper.authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
    }
    with ZooKeeper(system=enforced | {"zookeeper.enforce.auth.schemes": "digest"}) as server:
        assert ask(f"zookeeper://{server.place}").seen == (
            f"{server.place} (standalone) keeps a session, and wants a login for all else, "
            "which was not tried"
        )
        assert ask(f"zookeeper://{server.place}/zookeeper").cause == "auth-required"
        assert ask(f"zookeeper://me:secret@{server.place}/zookeeper").ready
        assert ask(f"zookeeper://me:secret@{server.place}").seen == (
            f"{server.place} (standalone) keeps a session, and takes a login by digest, as it would any"
        )
        with pytest.raises(KazooException):
            with driver(server.place) as client:
                client.exists("/zookeeper")
        with driver(server.place, auth_data=[("digest", "me:secret")]) as client:
            assert client.exists("/zookeeper")
    with ZooKeeper(system=enforced | {"zookeeper.enforce.auth.schemes": "sasl"}) as server:
        verdict = ask(f"zookeeper://me:secret@{server.place}/zookeeper")
        assert verdict.cause == "unsupported"
        assert "SASL" in verdict.hint


def test_a_thousand_probes_leave_nothing(alone: ZooKeeper, ask: Ask) -> None:
    """No warning in the log, no session kept, no connection open."""
    before = len(alone.log)
    for _ in range(1000):
        assert ask(f"zookeeper://{alone.place}/zookeeper").ready
    told = alone.log[before:].splitlines()
    assert {line for line in told if "Processing srvr command" not in line} <= {
        line for line in told if "INFO" in line and "Creating new log file" in line
    }
    assert len(told) <= 1001
    assert "\nConnections: 1\n" in alone.word("srvr")


def test_voters_leave_nothing(ensemble: Ensemble, ask: Ask) -> None:
    """The servers that kept a session close their connections without a warning, and know it no more."""
    # What comes first after an election is a warning by itself.
    assert works(ensemble.where)
    for server in ensemble.servers:
        server.wait_until(partial(is_left, server))
    before = [len(server.log) for server in ensemble.servers]
    for _ in range(50):
        assert ask(f"zookeeper://{ensemble.where}#voters=3").ready
        assert not ask(f"zookeeper://{ensemble.where}/nowhere").ready
    told = "".join(server.log[size:] for server, size in zip(ensemble.servers, before, strict=True))
    assert "WARN" not in told
    assert "ERROR" not in told
    assert "Exception" not in told
    for server in ensemble.servers:
        server.wait_until(partial(is_left, server))


def is_left(server: ZooKeeper) -> bool:
    """Whether it has no connection but the one that asks, and no session, and has logged their ends."""
    told = server.word("mntr")
    return "zk_num_alive_connections\t1\n" in told and "zk_global_sessions\t0\n" in told


def test_waiting_for_a_quorum_costs_a_line(ask: Ask) -> None:
    """Without a quorum a probe leaves one line in the log, where a look at the port, and a session that
    is tried, leave a warning with a stack trace."""
    with Ensemble(2, started=False) as ensemble:
        server = ensemble.servers[0]
        server.start()
        server.wait_until(lambda: "not currently serving" in server.word("srvr"))

        def lines(text: str, times: int) -> list[str]:
            before = server.log.count("NIOServerCnxn")
            for _ in range(times):
                ask(text)
            server.wait_until(lambda: server.log.count("NIOServerCnxn") >= before + times)
            return [line for line in server.log.splitlines() if "NIOServerCnxn -" in line][-times:]

        assert all("INFO" in line for line in lines(f"zookeeper://{server.place}", 100))
        assert "WARN" in lines(server.place, 1)[0]
        with without_words(server) as bare:
            assert "WARN" in lines(f"zookeeper://{bare.address}", 1)[0]
