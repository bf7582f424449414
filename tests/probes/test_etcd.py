"""`etcd:`: what real members cannot be made to say in time, and the mistakes of an operator.

Real members and clusters stand in `tests/services/test_etcd.py`.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from service_precheck import model, target
from service_precheck.codecs import etcd, grpc, protobuf
from service_precheck.errors import OperatorError
from service_precheck.options import Target
from tests.bed.services.grpc_scripted import Scripted, answer, silence, status
from tests.bed.sockets import Server, close, hang
from tests.probes.conftest import Ask


def message(field: int, inner: bytes) -> bytes:
    assert len(inner) < 128
    return bytes((field << 3 | 2, len(inner))) + inner


def header(cluster: int) -> bytes:
    """A ResponseHeader: the ids of the cluster and the member, the revision of the store."""
    ids = protobuf.number(1, cluster) + protobuf.number(2, 0xA1) if cluster else b""
    return message(1, ids + protobuf.number(3, 7))


HEADER = header(0xC1)
READ = answer(HEADER + protobuf.number(4, 1))
STATUS = answer(HEADER + protobuf.text(2, "3.5.0") + protobuf.number(4, 0xA1))
NO_LEADER = answer(HEADER + protobuf.text(2, "3.5.0") + protobuf.text(8, "etcdserver: no leader"))


def test_what_is_sent(ask: Ask) -> None:
    """A login, a read that wants a leader and counts one key, the status; the token goes with them."""
    scripted = Scripted(answer(HEADER + protobuf.text(2, "token-1")), READ, STATUS)
    with Server(scripted) as server:
        verdict = ask(f"etcd://app:s3cret@{server.address}#key=/config", 2)
    assert verdict.ready
    login, read, state = scripted.requests
    assert login.header(":path") == "/etcdserverpb.Auth/Authenticate"
    assert login.body[5:] == b"\n\3app\x12\6s3cret"
    assert read.header(":path") == "/etcdserverpb.KV/Range"
    # RangeRequest: key = 1, count_only = 9; not serializable, which would need no agreement.
    assert read.body[5:] == b"\n\7/config\x48\1"
    assert state.header(":path") == "/etcdserverpb.Maintenance/Status"
    for request in (read, state):
        assert request.header("token") == "token-1"
    for request in (login, read):
        assert request.header("hasleader") == "true"
        # Half of the time that is left, so that there is some to ask why not.
        assert 300 < int(request.header("grpc-timeout")[:-1]) <= 1000
    assert "hasleader" not in dict(state.headers)


@pytest.mark.parametrize(
    ("code", "words", "cause"),
    [
        (14, "etcdserver: no leader", "no-leader"),
        (14, "etcdserver: leader changed", "no-leader"),
        (9, "etcdserver: not capable", "starting"),
        (14, "etcdserver: request timed out, possibly due to connection lost", "no-quorum"),
        (14, "etcdserver: unhealthy cluster", "no-quorum"),
        (14, "etcdserver: server stopped", "not-ready"),
        (14, "etcdserver: rpc not supported for learner", "not-ready"),
        (8, "etcdserver: too many requests", "overloaded"),
        (15, "etcdserver: corrupt cluster", "alarm"),
        (2, "alarm is not supported", "unsupported"),
        (16, "etcdserver: invalid auth token", "auth-refused"),
        (12, "unknown service etcdserverpb.KV", "protocol"),
    ],
)
def test_refusals(code: int, words: str, cause: str, ask: Ask) -> None:
    """Each refusal has its cause, and keeps the server's words."""
    with Server(Scripted(status(code, words))) as server:
        verdict = ask(f"etcd://{server.address}")
    assert verdict.cause == cause
    assert words in verdict.seen


@pytest.mark.parametrize(
    ("options", "right"),
    [("#key=/app", "read /app` allows it"), ("#member", "read health` allows it")],
)
def test_the_right_that_is_missing(options: str, right: str, ask: Ask) -> None:
    """It is named with the key that it is for."""
    with ExitStack() as stack:
        refusal = status(7, "etcdserver: permission denied")
        both = [stack.enter_context(Server(Scripted(refusal))) for _ in range(2)]
        verdict = ask(f"etcd://{','.join(one.address for one in both)}{options}")
    assert verdict.cause == "forbidden"
    assert right in verdict.hint
    assert ("#member needs it" in verdict.hint) == (options == "#member")


@pytest.mark.parametrize(
    ("then", "cause", "words"),
    [
        (STATUS, "no-quorum", "its leader a1 or a majority is silent"),
        (NO_LEADER, "no-leader", "it has no leader"),
        (status(7, "permission denied"), "no-quorum", "says nothing of a leader"),
        (silence, "no-reply", "did not finish its answer"),
    ],
)
@pytest.mark.parametrize("read", [silence, status(4), status(2, "context deadline exceeded")])
def test_read_that_is_not_answered(
    read: object, then: object, cause: str, words: str, ask: Ask
) -> None:
    """Where a majority is silent, the member is asked what it knows of a leader."""
    with Server(Scripted(read, then)) as server:  # type: ignore[arg-type]
        verdict = ask(f"etcd://{server.address}", 0.4)
    assert verdict.cause == cause, verdict
    assert words in verdict.seen


def test_the_member_that_knows_most(ask: Ask) -> None:
    """Of several hosts that do not serve, the one that knows most of why gives the cause; each is told."""
    with (
        Server(hang, opened=False) as gone,
        Server(close) as empty,
        Server(Scripted(status(14, "etcdserver: no leader"))) as leaderless,
    ):
        places = [gone.address, leaderless.address, empty.address]
        verdict = ask(f"etcd://{','.join(places)}")
    assert verdict.cause == "no-leader"
    assert all(place in verdict.seen for place in places)


def test_the_others_are_asked(ask: Ask) -> None:
    """A host that is silent takes its share of the time and no more."""
    with Server(hang) as silent, Server(Scripted(READ, STATUS)) as serving:
        verdict = ask(f"etcd://{silent.address},{serving.address}", 1)
    assert verdict.ready
    assert verdict.seen == f"{serving.address} answers linearizable reads (etcd 3.5.0)"


def test_what_the_cluster_says_ends_it(ask: Ask) -> None:
    """What any other member would say, too, is final for this attempt."""
    unasked = Scripted(READ, STATUS)
    missing = answer(HEADER)
    with Server(Scripted(missing, STATUS)) as first, Server(unasked) as second:
        verdict = ask(f"etcd://{first.address},{second.address}#key=/a")
    assert verdict.cause == "missing-object"
    assert unasked.requests == []


def test_alarm_of_an_unknown_kind(ask: Ask) -> None:
    """Alarms are told by the names that the status has, each once."""
    told = "memberID:161 alarm:NEWKIND memberID:162 alarm:NEWKIND  memberID:162 alarm:CORRUPT"
    state = answer(HEADER + protobuf.text(2, "9") + protobuf.text(8, told))
    with Server(Scripted(READ, state)) as server:
        verdict = ask(f"etcd://{server.address}#alarms")
    assert verdict.cause == "alarm"
    assert "the alarm CORRUPT and NEWKIND" in verdict.seen


def test_a_token_that_is_repeated(ask: Ask) -> None:
    """A server that repeats the token of a login does not show it, and nothing is kept of it."""
    granted = answer(HEADER + protobuf.text(2, "token.17"))
    with Server(Scripted(granted, status(16, "invalid auth token: token.17"))) as server:
        verdict = ask(f"etcd://app:s3cret@{server.address}")
    assert verdict.cause == "auth-refused"
    assert verdict.seen.endswith("(invalid auth token: ***)")
    assert model._passing == []


def test_a_thousand_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token is masked while it is in use; a thousand logins later nothing is kept of them."""
    number = 0

    def call(*_: object) -> bytes:
        return HEADER + protobuf.text(2, f"token.{number}")

    channel = object.__new__(grpc.Channel)
    channel.peer = "etcd-0:2379"
    monkeypatch.setattr(grpc.Channel, "call", call)
    kept = set(model._secrets)
    for number in range(1000):
        with etcd.Member(channel, 0) as member:
            assert member.log_in("app", "s3cret")
            assert model.printable(f"it is token.{number}") == "it is ***"
    assert model._secrets == kept
    assert model._passing == []


def test_the_same_token_twice() -> None:
    """Of two conversations with one token, the end of the first does not unmask it for the other."""
    first, second = model.keep_for_now("token-1"), model.keep_for_now("token-1")
    model.let_go(first)
    assert model.printable("it is token-1") == "it is ***"
    model.let_go(second)
    assert model.printable("it is token-1") == "it is token-1"


@pytest.mark.parametrize(
    ("replies", "lack"),
    [
        ((b"",), "without the header that etcd's answers have"),
        ((protobuf.number(4, 1),), "without the header that etcd's answers have"),
        ((message(1, b""),), "a read without a revision"),
        ((message(1, protobuf.number(1, 0xC1)),), "a read without a revision"),
        ((HEADER, b""), "without the header that etcd's answers have"),
    ],
)
def test_an_answer_that_is_none_of_etcd(replies: tuple[bytes, ...], lack: str, ask: Ask) -> None:
    """An empty message, or one of something else, is an answer of gRPC, and none of etcd."""
    with Server(Scripted(*map(answer, replies))) as server:
        verdict = ask(f"etcd://{server.address}")
    assert verdict.cause == "protocol"
    assert verdict.seen == f"{server.address} answers {lack}"


def nameless() -> Scripted:
    """A server of etcd's API that is of no cluster, as kine is: its status has an empty header."""
    read = answer(header(0) + protobuf.number(4, 1))
    return Scripted(read, answer(message(1, b"") + protobuf.text(2, "3.5.13")))


@pytest.mark.parametrize("options", ["", "#key=/registry/health", "#alarms", "#member"])
def test_a_server_of_no_cluster(options: str, ask: Ask) -> None:
    """By itself it serves as any other."""
    with Server(nameless()) as server:
        verdict = ask(f"etcd://{server.address}{options}")
    assert verdict.ready, verdict.seen


@pytest.mark.parametrize("first", [Scripted(READ, STATUS), nameless()], ids=["etcd", "nameless"])
def test_servers_of_no_cluster(first: Scripted, ask: Ask) -> None:
    """One of them is enough. Where clusters are compared, a server that tells none cannot take part."""
    with Server(first) as one, Server(nameless()) as other:
        verdict = ask(f"etcd://{one.address},{other.address}#member")
    assert verdict.cause == "unsupported"
    assert verdict.seen.endswith(" answers without saying of which cluster it is")
    assert verdict.hint == "without #member it is enough that one of them serves"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("etcd://a/config/app", "#key=NAME asks for a key"),
        ("etcd://a?x=1", "#key=NAME asks for a key"),
        ("etcd://a,a", "a host is named twice"),
        ("etcd://a#password-file=/p", "without a user"),
        ("etcd://a#cert-key=/k", "#cert-key= without #cert="),
        ("etcd://a#tls=false#ca=/ca", "#tls= says no"),
        ("etcd://a#alpn=http/1.1", "other than h2"),
        ("etcd://a#members=3", "no option 'members'"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    """What can never be asked is said before anything is sent."""
    with pytest.raises(OperatorError) as caught:
        target.parse(text)
    assert words in str(caught.value)


def test_hosts() -> None:
    """Several hosts, each with its port or etcd's own; a key is not taken for a wish for TLS."""
    leaf = target.parse("etcd://etcd-0.etcd,etcd-1.etcd:12379,[::1]/#key=/config/app")
    assert isinstance(leaf, Target)
    assert leaf.hosts == (("etcd-0.etcd", 2379), ("etcd-1.etcd", 12379), ("::1", 2379))
    assert leaf.text("key") == "/config/app"
