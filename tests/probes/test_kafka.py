"""Kafka without a cluster: what older brokers, odd ones and other people's answers lead to.

Real brokers are asked in `tests/services/test_kafka.py`; these answer as no installed one can be made to.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck.codecs.kafka import wire
from service_precheck.codecs.kafka.entry import Entry
from service_precheck.codecs.kafka.talk import MOST_ANSWER, Talk
from service_precheck.errors import OperatorError
from service_precheck.model import Verdict
from service_precheck.probes.kafka import MOST_FAILED
from service_precheck.stream import Attempt
from service_precheck.target import parse
from tests.bed.recording import FOLDER, Recording
from tests.bed.sockets import Connection, Server, close, hang
from tests.probes.conftest import Ask

USUAL = {2: (0, 5), 3: (0, 9), 17: (0, 1), 18: (0, 3), 36: (0, 1)}


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def array(*items: bytes) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


def versions(apis: dict[int, tuple[int, int]], error: int = 0) -> bytes:
    return struct.pack(">h", error) + array(
        *(struct.pack(">hhh", api, *span) for api, span in apis.items())
    )


def partition(index: int, leader: int = 1, error: int = 0, isr: Sequence[int] = (1,)) -> bytes:
    ids = array(*(struct.pack(">i", node) for node in isr))
    return struct.pack(">hii", error, index, leader) + ids + ids + array()


def topic(name: str, *partitions: bytes, error: int = 0) -> bytes:
    return struct.pack(">h", error) + string(name) + b"\0" + array(*partitions)


def metadata(brokers: Sequence[tuple[int, str, int]], *topics: bytes, controller: int = 1) -> bytes:
    listed = [
        struct.pack(">i", node) + string(host) + struct.pack(">ih", port, -1)
        for node, host, port in brokers
    ]
    return (
        struct.pack(">i", 0)
        + array(*listed)
        + string("the-cluster")
        + struct.pack(">i", controller)
        + array(*topics)
    )


def offsets(name: str, *errors: int) -> bytes:
    return array(
        string(name)
        + array(*(struct.pack(">ihqq", at, error, -1, 0) for at, error in enumerate(errors)))
    )


class Broker(Server):
    """A broker that gives these answers by API, and keeps which APIs it was asked.

    Where nothing else is said it knows itself alone, where it listens, and the topic `orders` with one
    partition, which it leads; it has no logins.
    """

    def __init__(self, answers: Mapping[str, bytes] | None = None, host: str = "127.0.0.1") -> None:
        super().__init__(self._behave, host=host)
        self.answers = dict(answers or {})
        self.asked: list[str] = []

    def _behave(self, connection: Connection) -> None:
        usual = {
            "ApiVersions": versions(USUAL),
            "SaslHandshake": struct.pack(">h", 34) + array(),
            "Metadata": metadata([(1, self.host, self.port)], topic("orders", partition(0))),
            "ListOffsets": offsets("orders", 0),
        }
        while head := connection.read(4):
            request = connection.read(int.from_bytes(head, "big"))
            api, _, number = struct.unpack(">hhi", request[:8])
            name = wire.NAMES[api]
            self.asked.append(name)
            answer = struct.pack(">i", number) + (usual | self.answers)[name]
            connection.write(struct.pack(">i", len(answer)) + answer)


def asked(ask: Ask, answers: Mapping[str, bytes], text: str = "") -> Verdict:
    """The verdict on such a broker."""
    with Broker(answers) as broker:
        return ask(f"kafka://{broker.address}{text}")


def test_a_broker_that_is_older(ask: Ask) -> None:
    """Before Kafka 4.4 nobody is asked who they are, and without SaslHandshake there are no logins."""
    with Broker() as broker:
        assert ask(f"kafka://{broker.address}#topic=orders").ready
        assert broker.asked == ["ApiVersions", "SaslHandshake", "Metadata", "ListOffsets"]
    apis = {api: span for api, span in USUAL.items() if api in (2, 3, 18)}
    with Broker({"ApiVersions": versions(apis)}) as broker:
        assert ask(f"kafka://{broker.address}").ready
        assert broker.asked == ["ApiVersions", "Metadata"]
        verdict = ask(f"kafka://a:secret@{broker.address}")
        assert verdict.cause == "unsupported"
        assert "takes no login" in verdict.seen


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (versions(USUAL | {3: (9, 12)}), "unsupported", "Metadata of the versions 9 to 12, 5 is"),
        (versions(USUAL | {3: (0, 4)}), "unsupported", "versions 0 to 4"),
        (versions({18: (0, 3)}), "protocol", "knows no Metadata"),
        (versions({}, 35), "unsupported", "error 35 (UNSUPPORTED_VERSION)"),
        (versions({}, 99), "protocol", "ApiVersions with error 99"),
        (b"", "protocol", "does not speak Kafka, it said"),
        (b"\0\0\0\0\0\x09", "protocol", "longer than its message"),
        (b"\0\0\0\0\0\x01\0\x03", "protocol", "ends too soon"),
    ],
)
def test_what_it_speaks(answer: bytes, cause: str, words: str, ask: Ask) -> None:
    """Versions that are not spoken here, and answers that are none."""
    verdict = asked(ask, {"ApiVersions": answer})
    assert verdict.cause == cause
    assert words in verdict.seen


def test_an_answer_to_another_question(ask: Ask) -> None:
    """An answer must have the number of its question."""

    def behave(connection: Connection) -> None:
        connection.read(4)
        answer = struct.pack(">i", 7) + versions(USUAL)
        connection.write(struct.pack(">i", len(answer)) + answer)

    with Server(behave) as server:
        verdict = ask(f"kafka://{server.address}")
    assert verdict.cause == "protocol"
    assert "with what was not asked for" in verdict.seen


HERE = (1, "127.0.0.1", 1)


@pytest.mark.parametrize(
    ("answer", "options", "cause", "words"),
    [
        (metadata([HERE], controller=-1), "", "no-leader", "knows 1 broker and no controller"),
        (metadata([]), "", "too-few", "knows no broker, 1 is asked for"),
        (metadata([HERE]), "#brokers=2", "too-few", "knows 1 broker, 2 are asked for"),
        (metadata([(1, "", 9092)]), "", "protocol", "which is no address"),
        (metadata([(1, "a b", 9092)]), "", "protocol", "which is no address"),
        (metadata([(1, "x" * 64, 9092)]), "", "protocol", "which is no address"),
        (metadata([(1, "127.0.0.1", 0)]), "", "protocol", "which is no address"),
        (metadata([(1, "127.0.0.1", 65_536)]), "", "protocol", "which is no address"),
        (metadata([HERE]), "#topic=orders", "protocol", "without the topic orders"),
        (metadata([HERE], topic("orders")), "#topic=orders", "too-few", "has no partition, 1 is"),
        (metadata([HERE], topic("orders", error=3)), "#topic=orders", "missing-object", "orders"),
        (metadata([HERE], topic("orders", error=29)), "#topic=orders", "forbidden", "error 29 (TO"),
        (metadata([HERE], topic("orders", error=5)), "#topic=orders", "no-leader", "error 5 (LEA"),
        (metadata([HERE], topic("orders", error=99)), "#topic=orders", "protocol", "error 99"),
        (
            metadata([HERE], topic("orders", partition(0, -1))),
            *("#topic=orders", "no-leader", "partition 0 of orders has no leader"),
        ),
        (
            metadata([HERE], topic("orders", partition(0, -1, 72))),
            *("#topic=orders", "no-leader", "no leader: error 72 (LISTENER_NOT_FOUND)"),
        ),
        (
            metadata([HERE], topic("orders", partition(0, 1, 56))),
            *("#topic=orders", "no-leader", "error 56 (KAFKA_STORAGE_ERROR)"),
        ),
        (
            metadata([HERE], topic("orders", partition(0, 1, 99))),
            *("#topic=orders", "protocol", "for partition 0 of orders with error 99"),
        ),
        (
            metadata([HERE], topic("orders", partition(0, 4))),
            *("#topic=orders", "no-leader", "names broker 4 as a leader, and knows no such"),
        ),
    ],
)
def test_what_it_knows(answer: bytes, options: str, cause: str, words: str, ask: Ask) -> None:
    """Clusters and topics that are not as they should be, or cannot be so."""
    verdict = asked(ask, {"Metadata": answer}, options)
    assert verdict.cause == cause, verdict
    assert words in verdict.seen


def test_a_replica_that_is_missing(ask: Ask) -> None:
    """REPLICA_NOT_AVAILABLE is no obstacle: the guide tells clients to pass over it."""
    with Broker() as broker:
        orders = topic("orders", partition(0, error=9))
        broker.answers["Metadata"] = metadata([(1, broker.host, broker.port)], orders)
        assert ask(f"kafka://{broker.address}#topic=orders").ready


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (offsets("orders", 6), "no-leader", "partition 0 of orders with error 6 (NOT_LEADER_OR_F"),
        (offsets("orders", 29), "forbidden", "error 29"),
        (offsets("orders", 99), "protocol", "error 99"),
        (offsets("other", 0), "protocol", "partition 0 of orders"),
        (array(), "protocol", "partition 0 of orders"),
    ],
)
def test_what_a_leader_says(answer: bytes, cause: str, words: str, ask: Ask) -> None:
    """Who does not lead what Metadata says, or says nothing of it, is no leader to rely on."""
    verdict = asked(ask, {"ListOffsets": answer}, "#topic=orders")
    assert verdict.cause == cause
    assert words in verdict.seen


def test_the_loopback_is_somebody_elses(ask: Ask) -> None:
    """A broker elsewhere that is advertised as localhost was told the wrong address."""
    answer = metadata([(1, "localhost", 1)])
    with Broker({"Metadata": answer}, "127.0.0.2") as broker:
        verdict = ask(f"kafka://{broker.address}")
    assert verdict.cause == "refused"
    assert "advertises broker 1 at localhost:1, but 127.0.0.1:1 refused" in verdict.seen
    assert verdict.hint.startswith("localhost is each client's own machine")


def test_a_broker_that_may_have_died(ask: Ask) -> None:
    """One that is known and refuses is not said to be advertised wrongly only."""
    with Broker() as dead, Broker({"Metadata": metadata([(1, dead.host, dead.port)])}) as broker:
        dead.shut()
        verdict = ask(f"kafka://{broker.address}")
    assert verdict.cause == "refused"
    assert verdict.hint.startswith("a broker that died is known for some seconds; if it lives, adv")


@pytest.mark.parametrize(
    ("dead", "options", "holds"),
    [(1, "", True), (1, "#brokers=2", True), (1, "#brokers=3", False), (3, "", False)],
)
def test_how_many_are_reached(dead: int, options: str, holds: bool, ask: Ask) -> None:
    """One broker that answers is enough, or as many as asked for, whichever they are."""
    with ExitStack() as stack:
        others = [stack.enter_context(Broker()) for _ in range(3)]
        listed = [(node, one.host, one.port) for node, one in enumerate(others)]
        for node in range(dead):
            others[node].shut()
        first = stack.enter_context(Broker({"Metadata": metadata(listed)}))
        verdict = ask(f"kafka://{first.address}{options}")
    assert verdict.ready == holds
    assert verdict.cause == (None if holds else "refused")


@pytest.mark.parametrize(
    ("listed", "options", "met"),
    [(40_000, "", MOST_FAILED), (40_000, "#brokers=12", 12), (5, "", 5)],
)
def test_how_many_that_fail_are_asked(listed: int, options: str, met: int, ask: Ask) -> None:
    """However many brokers are listed, a few that do not answer are enough to say so."""
    with Server(close) as dead, Broker() as first:
        brokers = [(node, dead.host, dead.port) for node in range(listed)]
        first.answers["Metadata"] = metadata(brokers)
        verdict = ask(f"kafka://{first.address}{options}")
        assert verdict.cause == "closed-early"
        assert len(dead.connections) == met


def test_the_deadline_holds_among_many(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time is over no further broker is asked."""
    met: list[int] = []
    meet = Entry.meet

    def count(entry: Entry, host: str, port: int, attempt: Attempt, *, first: bool = False) -> Talk:
        met.append(port)
        return meet(entry, host, port, attempt, first=first)

    monkeypatch.setattr(Entry, "meet", count)
    with Server(hang) as silent, Broker() as first:
        brokers = [(node, silent.host, silent.port) for node in range(40_000)]
        first.answers["Metadata"] = metadata(brokers)
        verdict = ask(f"kafka://{first.address}#brokers=1000", 0.5)
        assert verdict.cause in ("no-reply", "connect-timeout")
        assert len(met) < 100


def test_a_broker_without_list_offsets(ask: Ask) -> None:
    """A leader that cannot be asked whether it leads is not said to lead."""
    apis = {api: span for api, span in USUAL.items() if api != 2}
    verdict = asked(ask, {"ApiVersions": versions(apis)}, "#topic=orders")
    assert verdict.cause == "unsupported"
    assert "does not speak ListOffsets" in verdict.seen
    assert asked(ask, {"ApiVersions": versions(apis)}).ready


LOGIN = struct.pack(">h", 0) + array(string("PLAIN"))


@pytest.mark.parametrize(
    ("answers", "cause", "words"),
    [
        (
            {"SaslHandshake": struct.pack(">h", 99) + array()},
            "protocol",
            "SaslHandshake with error 99",
        ),
        ({"SaslHandshake": struct.pack(">h", 33) + array()}, "unsupported", "by no mechanism"),
        ({"SaslAuthenticate": struct.pack(">hhi", 34, -1, -1)}, "protocol", "error 34 (ILLEGAL_SA"),
        ({"SaslAuthenticate": struct.pack(">hhi", 58, -1, -1)}, "auth-refused", "error 58 (SASL_A"),
        ({"ApiVersions": versions(USUAL | {36: (2, 3)})}, "unsupported", "versions 2 to 3"),
        ({"ApiVersions": versions(USUAL | {17: (2, 3)})}, "unsupported", "SaslHandshake of the"),
    ],
)
def test_logins_that_fail(answers: dict[str, bytes], cause: str, words: str, ask: Ask) -> None:
    """What goes wrong on the way in is told by the step at which it does."""
    with Broker({"SaslHandshake": LOGIN} | answers) as broker:
        verdict = ask(f"kafka://a:secret@{broker.address}#mechanism=PLAIN")
    assert verdict.cause == cause
    assert words in verdict.seen


def test_a_login_in_plain(ask: Ask) -> None:
    """PLAIN sends the user and the password behind a NUL each (RFC 4616 section 2)."""
    accepted = struct.pack(">hhi", 0, -1, 0)
    with Broker({"SaslHandshake": LOGIN, "SaslAuthenticate": accepted}) as broker:
        assert ask(f"kafka://a:secret@{broker.address}#mechanism=PLAIN").ready
        (connection,) = broker.connections
        assert b"\0\0\0\x09\0a\0secret" in connection.received


def test_an_odd_answer_without_a_login(ask: Ask) -> None:
    """Whoever is asked whether there are logins may answer anything."""
    verdict = asked(ask, {"SaslHandshake": struct.pack(">h", 99) + array()})
    assert verdict.cause == "protocol"
    verdict = asked(ask, {"SaslHandshake": struct.pack(">h", 33) + array()})
    assert verdict.ready
    assert "asks for a login by no mechanism at all (not tried)" in verdict.seen


def test_a_refused_login_is_sent_to_one_broker(ask: Ask) -> None:
    """The accounts are the cluster's, and some are locked after too many."""
    no = struct.pack(">hhi", 58, -1, -1)
    answers = {"SaslHandshake": LOGIN, "SaslAuthenticate": no}
    with Broker(answers) as one, Broker(answers) as two, Server(close) as dead:
        hosts = f"{dead.address},{one.address},{two.address}"
        verdict = ask(f"kafka://a:secret@{hosts}#mechanism=PLAIN")
        assert verdict.cause == "auth-refused"
        assert len(one.connections) == 1
        assert not two.connections


def test_a_long_answer_is_not_taken(ask: Ask) -> None:
    """What is longer than any cluster's is not waited for; a large topic is."""
    many = topic("orders", *(partition(index) for index in range(5_000)))
    with Broker({"ListOffsets": offsets("orders", *(0,) * 5_000)}) as broker:
        broker.answers["Metadata"] = metadata([(1, broker.host, broker.port)], many)
        verdict = ask(f"kafka://{broker.address}#topic=orders#partitions=5000")
        assert "orders has 5000 partitions" in verdict.seen
        broker.answers["Metadata"] = bytes(MOST_ANSWER)
        assert ask(f"kafka://{broker.address}#topic=orders").cause == "protocol"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kafka://a#partitions=2", "#partitions= without #topic="),
        ("kafka://a#min-isr=2", "#min-isr= without #topic="),
        ("kafka://a#topic=a b", "is no topic's name"),
        ("kafka://a#topic=..", "is no topic's name"),
        (f"kafka://a#topic={'a' * 250}", "is no topic's name"),
        ("kafka://a#topic=a#topic=a", "a topic is named twice"),
        ("kafka://a/orders", "a path means nothing to Kafka: #topic=orders"),
        ("kafka://app@a", "a user without a password"),
        ("kafka://a#mechanism=PLAIN", "#mechanism= without a user"),
        ("kafka://a:1#mechanism=GSSAPI", "is none of SCRAM-SHA-512, SCRAM-SHA-256, PLAIN"),
        ("kafka://a#tls=false#ca=/x", "#tls= says no"),
        ("kafka://a#min-isr=0#topic=a", "out of range"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    """What cannot be meant is told before anything is sent."""
    with pytest.raises(OperatorError, match=words.replace("(", r"\(")):
        parse(text)


READERS: dict[str, Callable[[wire.Reader], object]] = {
    "ApiVersions": wire.read_versions,
    "SaslHandshake": wire.read_mechanisms,
    "SaslAuthenticate": wire.read_token,
    "Metadata": wire.read_metadata,
    "ListOffsets": wire.read_offsets,
}
RECORDED = [
    said[8:]
    for steps in Recording.load(FOLDER / "kafka.json").connections
    for who, said in steps
    if who == "server"
]


@given(
    st.sampled_from(sorted(READERS)),
    st.one_of(
        st.binary(max_size=200),
        st.tuples(
            st.sampled_from(RECORDED), st.integers(0, 800), st.integers(0, 9), st.binary(max_size=9)
        ).map(lambda one: one[0][: one[1]] + one[3] + one[0][one[1] + one[2] :]),
    ),
)
def test_answers_of_any_kind(name: str, answer: bytes) -> None:
    """Whatever comes is read, or said to be no such message: nothing else is raised."""
    told = ""
    try:
        READERS[name](wire.Reader(answer))
    except ValueError as error:
        told = str(error)
    assert not told or "message" in told


def test_requests_are_read_back() -> None:
    """What is written is what the guide lays out: Metadata 5 never asks for topics to be made."""
    request = wire.request(wire.METADATA, 5, 7, "me", wire.metadata_request(("a", "bc")))
    assert request == (
        b"\0\0\0\x18" + b"\0\3" + b"\0\5" + b"\0\0\0\7" + b"\0\2me"
        b"\0\0\0\2" + b"\0\1a" + b"\0\2bc" + b"\0"
    )
