"""`zookeeper:` without ZooKeeper: what a target may say, and servers that answer as none here can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import target
from service_precheck.codecs.zookeeper.options import znode
from service_precheck.codecs.zookeeper.session import error_name
from service_precheck.dns import Names
from service_precheck.errors import OperatorError
from service_precheck.options import Target
from tests.bed.fixtures import Enter
from tests.bed.ports import free_port
from tests.bed.sockets import Behaviour, Connection, Server, close, hang
from tests.probes.conftest import Ask, probe

SESSION = (7).to_bytes(8, "big") + (16).to_bytes(4, "big") + b"p" * 16


def packet(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def code(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


def opened(number: bytes = SESSION, last: bytes = b"\0") -> bytes:
    """A `ConnectResponse`, as old servers send it without its last byte."""
    return packet(bytes(4) + code(10_000) + number + last)


def server(
    srvr: bytes = b"Zookeeper version: 3.9.3\nMode: leader\n",
    session: bytes = opened(),
    *answers: int,
    then: Behaviour = close,
) -> Behaviour:
    """A server that answers `srvr`, then a session, then each request with the next code."""

    def behave(connection: Connection) -> None:
        if connection.read() == b"srvr":
            connection.write(srvr)
            return
        connection.write(session)
        for answer in answers:
            asked = connection.read()
            connection.write(packet(asked[4:8] + bytes(8) + code(answer)))
        then(connection)

    return behave


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("zk/a#path=/b", "write one, from the root"),
        ("zk#path=hbase", "does not start at the root: /hbase"),
        ("zk#path=/a//b", "has an empty part"),
        ("zk/a/", "has an empty part"),
        ("zk/a/../b", "has a part . or .."),
        ("zk/a%00b", "a control character in the path"),
        ("zk?x=1", "have no query"),
        ("zk#voters=2#mode=leader", "#mode= has nothing to say"),
        ("10.0.0.1,10.0.0.2#voters=3", "the servers named are 2"),
        ("me%3Ayou:secret@zk/a", "a colon in the user's name"),
        ("me:secret@zk/a#user=you", "besides a user before the host"),
        ("zk#tls=false#ca=/ca.pem", "#tls= says no"),
        ("zk#mode=master", "'master' is none of any, leader"),
    ],
)
def test_what_is_wrong_with_a_target(text: str, wrong: str) -> None:
    """A mistake is told before anything is asked."""
    with pytest.raises(OperatorError) as caught:
        target.parse(f"zookeeper://{text}")
    assert wrong in str(caught.value)


def test_no_session_without_the_password(ask: Ask) -> None:
    """Where the password's file is not there yet, nobody is asked: a session would cost writes each time."""
    with Server(server()) as one:
        verdict = ask(f"zookeeper://{one.address}/a#user=me#password-file=/none/there")
        assert one.connections == []
    assert verdict.cause == "local"
    assert "/none/there cannot be read" in verdict.seen


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("zk", ""),
        ("zk/", ""),
        ("zk#path=/", "/"),
        ("zk1,zk2:2182/kafka/brokers", "/kafka/brokers"),
        ("zk/with%20space", "/with space"),
        ("zk#path=/kafka", "/kafka"),
        ("one-name#voters=3", ""),
    ],
)
def test_where_the_path_stands(text: str, path: str) -> None:
    """Behind the hosts, as in ZooKeeper's connection strings, or in an option."""
    leaf = target.parse(f"zookeeper://{text}")
    assert isinstance(leaf, Target)
    assert znode(leaf) == path


@pytest.mark.parametrize(
    ("behaviour", "cause", "seen"),
    [
        (server(b"Mode: leader\n", opened(), 0), None, "(leader) keeps a session"),
        (server(b"Mode: leader\n", opened(last=b""), 0), None, "(leader) keeps a session"),
        (server(b"Mode: chief\n"), "protocol", "does not speak ZooKeeper, it said 'Mode: chief'"),
        (server(b""), "closed-early", "closed it without an answer"),
        (server(b"x" * 9000), "protocol", "more than 8192 bytes to srvr"),
        (server(session=b""), "closed-early", "closed the connection"),
        (server(session=packet(b"")), "protocol", "answers a session as no ZooKeeper does"),
        (server(session=packet(bytes(12) + code(-119))), "read-only", "has no quorum"),
        (server(session=opened(last=b"\1")), "read-only", "has no quorum"),
        (server(session=opened(bytes(8) + SESSION[8:])), "protocol", "without a number"),
        (server(session=b"\x7f\xff\xff\xff"), "protocol", "announces its answer to a session of 2"),
        (server(b"Mode: leader\n", opened(), -4), "not-ready", "ConnectionLoss (-4)"),
        (server(b"Mode: leader\n", opened(), -124), None, "wants a login for all else"),
    ],
)
def test_what_a_server_may_answer(
    behaviour: Behaviour, cause: str | None, seen: str, ask: Ask
) -> None:
    """Each answer is told for what it is."""
    with Server(behaviour) as one:
        verdict = ask(f"zookeeper://{one.address}", 2)
    assert verdict.cause == cause, verdict
    assert seen in verdict.seen


@pytest.mark.parametrize(
    ("user", "answers", "cause"),
    [
        ("", (-127, 0), "overloaded"),
        ("", (-102, 0), "auth-required"),
        ("", (-124, 0), "auth-required"),
        ("", (-8, 0), "protocol"),
        ("me:secret@", (-115, 0), "auth-refused"),
        ("me:secret@", (0, -102, 0), "auth-refused"),
        ("me:secret@", (0, -124, 0), "unsupported"),
        ("me:secret@", (0, -101, 0), "missing-object"),
    ],
)
def test_why_a_znode_is_not_told(user: str, answers: tuple[int, ...], cause: str, ask: Ask) -> None:
    """Each code has its cause, and the name that ZooKeeper gives it; the session is ended all the same."""
    with Server(server(b"Mode: leader\n", opened(), *answers)) as one:
        verdict = ask(f"zookeeper://{user}{one.address}/a", 2)
    assert verdict.cause == cause
    assert error_name(next(answer for answer in answers if answer)) in verdict.seen
    assert "secret" not in f"{verdict.seen} {verdict.hint}"
    assert bytes(one.connections[-1].received[-12:]) == code(8) + code(2) + code(-11)
    # A session costs the ensemble writes.
    assert verdict.again == 0.5


def test_another_server_is_asked(enter: Enter, ask: Ask) -> None:
    """One that refuses, one that hangs, one without a session: the next may serve; if none does, all are
    told, and the cause is the one that tells most."""
    nobody = f"127.0.0.1:{free_port()}"
    hung, dropped = enter(Server(hang)), enter(Server(server(session=b"")))
    good = enter(Server(server(b"Mode: observer\n", opened(), 0)))
    lost = enter(Server(server(b"This ZooKeeper instance is not currently serving requests\n")))
    bad = f"{nobody},{hung.address},{dropped.address},{lost.address}"
    assert ask(f"zookeeper://{bad},{good.address}", 1.0).seen == (
        f"{good.address} (observer) keeps a session"
    )
    verdict = ask(f"zookeeper://{nobody},{hung.address},{lost.address}", 1.0)
    assert verdict.cause == "no-quorum"
    for one in (nobody, hung.address, lost.address):
        assert one in verdict.seen


def test_a_server_is_told_by_its_name(enter: Enter, ask: Ask) -> None:
    """Of several hosts the name as it is written stands before the address, what the server is behind it."""
    good = enter(Server(server(b"Mode: leader\n", opened(), 0)))
    verdict = ask(f"zookeeper://localhost:{good.port},127.0.0.2:{free_port()}")
    assert verdict.seen == f"localhost ({good.address}, leader) keeps a session"


def test_an_answer_without_an_end(ask: Ask) -> None:
    """What is said counts, though the server does not close: 3.8 may fail on that while it starts."""

    def behave(connection: Connection) -> None:
        connection.read()
        connection.write(b"This ZooKeeper instance is not currently serving requests\n")
        hang(connection)

    with Server(behave) as one:
        assert ask(f"zookeeper://{one.address}", 600).cause == "no-quorum"


def test_voters_of_different_ensembles(enter: Enter, ask: Ask) -> None:
    """A server that answers with another session than the one it was asked to go on with does not count."""
    first = enter(Server(server(b"Mode: leader\n", opened(), 0)))
    other = opened(bytes(8) + SESSION[8:])
    second = enter(Server(server(b"Mode: follower\n", other, 0)))
    verdict = ask(f"zookeeper://{first.address},{second.address}#voters=2")
    assert verdict.cause == "too-few"
    assert verdict.seen == (
        f"{second.address} (follower) does not know the session of {first.address} (leader)"
    )
    # The session that was opened is ended.
    assert bytes(first.connections[-1].received[-8:]) == code(2) + code(-11)


def test_no_session_before_enough_serve(enter: Enter, ask: Ask) -> None:
    """Sessions cost writes: with too few voters none is opened."""
    first = enter(Server(server(b"Mode: leader\n", opened(), 0)))
    nobody = f"127.0.0.1:{free_port()}"
    verdict = ask(f"zookeeper://{first.address},{nobody}#voters=2")
    assert verdict.cause == "too-few"
    assert verdict.seen == (
        f"1 of 2 voters serve: {first.address} (leader); {nobody} refused the connection"
    )
    assert [bytes(one.received) for one in first.connections] == [b"srvr"]


def test_a_session_is_never_asked_for_longer_than_a_minute(ask: Ask) -> None:
    """However long an attempt may take."""
    with Server(server(b"Mode: leader\n", opened(), 0)) as one:
        assert ask(f"zookeeper://{one.address}", 1e8).ready
        request = one.connections[-1].received
    assert 59_000 <= int.from_bytes(request[16:20], "big") <= 60_000


PIECES = (
    *(b"Mode: leader", b"Mode: read-only", b"Mode: ", b"leader", b"\n", b"\r\n", b": ", b"\x1b[1m"),
    *(b"This ZooKeeper instance is not currently serving requests", b"\xff", b"\0"),
    b"srvr is not executed because it is not in the whitelist.\n",
)


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=8))
def test_any_answer_to_a_word(pieces: list[bytes]) -> None:
    """Whatever is said to `srvr` is a verdict; ready only with a mode, or where no word is allowed."""
    said = b"".join(pieces)
    with Server(server(said, opened(), 0)) as one:
        verdict = probe(f"zookeeper://{one.address}", Names(), 2)
    assert not verdict.ready or b"Mode: leader" in said or b"not in the whitelist" in said
    assert verdict.seen.isprintable()
