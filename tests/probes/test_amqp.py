"""What no broker here does: older and stranger ones, words that no broker says, bytes that make no sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import target
from service_precheck.codecs.amqp import fault, wire
from service_precheck.errors import NotReady, OperatorError
from service_precheck.model import CAUSES
from tests.bed.sockets import Behaviour, Connection, Server, answer, close, hang, say
from tests.probes.conftest import Ask


def start(mechanisms: str = "PLAIN", *capabilities: str) -> bytes:
    """Connection.Start of a broker that can do what is named."""
    can = wire.nested({name: wire.flag(True) for name in capabilities})
    properties = {
        "product": wire.words("Warren"),
        "version": wire.words("1.0"),
        "capabilities": can,
    }
    return wire.method(
        *(0, wire.START, b"\x00\x09", wire.table(properties)),
        *(wire.long(mechanisms.encode()), wire.long(b"en_US")),
    )


TUNE = wire.method(0, wire.TUNE, wire.number(10, 2), wire.number(0, 4), wire.number(0, 2))
OPEN_OK = wire.method(0, wire.OPEN_OK, wire.short(""))
CLOSE_OK = wire.method(0, wire.CLOSE_OK)
END = b"\xce"


def conversation(*replies: bytes, then: Behaviour = hang) -> Behaviour:
    """A broker that answers each of the client's turns with the next reply."""

    def behave(connection: Connection) -> None:
        for reply in replies:
            connection.socket.recv(65_536)
            connection.write(reply)
        then(connection)

    return behave


def closed(which: tuple[int, int], code: int, text: str, channel: int = 0) -> bytes:
    return wire.method(channel, which, wire.number(code, 2), wire.short(text), bytes(4))


def test_a_broker_of_amqp_1(ask: Ask) -> None:
    """A server that speaks AMQP 1.0 only answers with its own header, and that is `unsupported`."""
    with Server(answer(wire.HEADER, b"AMQP\x00\x01\x00\x00", close)) as server:
        verdict = ask(f"amqp://{server.address}")
    assert verdict.cause == "unsupported"
    assert "speaks AMQP 1.0.0" in verdict.seen


@pytest.mark.parametrize(
    ("said", "cause", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "protocol", "it said 'SSH-2.0-OpenSSH_9.2p1'"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "protocol", "answers in TLS"),
        (b"\x01\x00\x00\xff\xff\xff\xff", "protocol", "a frame of 4294967295 bytes"),
        (b"\x01\x00\x00\x00\x00\x00\x01x!", "protocol", "does not end where it says"),
        (b"\x01\x00\x00\x00\x00\x00\x01x\xce", "protocol", "shorter than it says"),
        (TUNE, "protocol", "sent the method 10.30, 10.10 is due"),
    ],
)
def test_no_greeting(said: bytes, cause: str, words: str, ask: Ask) -> None:
    """What is no Connection.Start is named."""
    with Server(say(said)) as server:
        verdict = ask(f"amqp://{server.address}")
    assert (verdict.cause, words in verdict.seen) == (cause, True), verdict.seen


def test_an_unknown_type_in_the_greeting(ask: Ask) -> None:
    """A table's field of a type that is not known cannot be skipped: its length is not known."""
    said = wire.method(0, wire.START, b"\x00\x09", wire.long(wire.short("x") + b"?1"))
    with Server(say(said)) as server:
        verdict = ask(f"amqp://{server.address}")
    assert verdict.cause == "protocol"
    assert "'?'" in verdict.seen


def test_a_nameless_broker(ask: Ask) -> None:
    """A broker may say nothing of itself; every type of field is stepped over."""
    sizes = {"t": 1, "b": 1, "B": 1, "s": 2, "u": 2, "U": 2, "i": 4, "I": 4, "f": 4}
    sizes |= {"l": 8, "L": 8, "d": 8, "T": 8, "D": 5, "V": 0}
    odd = b"".join(wire.short(kind) + kind.encode() + bytes(size) for kind, size in sizes.items())
    odd += b"".join(wire.short(kind) + kind.encode() + wire.long(b"abc") for kind in "SAFx")
    said = wire.method(0, wire.START, b"\x00\x09", wire.long(odd), wire.long(b""), wire.long(b""))
    with Server(say(said)) as server:
        verdict = ask(f"amqp://{server.address}")
    assert verdict.ready
    assert "is a broker without a name" in verdict.seen


def test_a_login_that_ends_the_connection(ask: Ask) -> None:
    """A broker without `authentication_failure_close` refuses by hanging up: that is no `closed-early`."""
    with Server(conversation(start(), then=close)) as server:
        text = f"amqp://app:s3cret-word@{server.address}"
        verdict = ask(text)
        server.behaviour = conversation(start("PLAIN", wire.AUTHENTICATION_FAILURE), then=close)
        other = ask(text)
    assert verdict.cause == "auth-refused"
    assert other.cause == "closed-early"


def test_a_broker_that_knows_no_alarms(ask: Ask) -> None:
    """Without `connection.blocked` nothing is published, and asking for alarms is `unsupported`."""
    turns = conversation(start(), TUNE, OPEN_OK, CLOSE_OK)
    with Server(turns) as server:
        text = f"amqp://app:s3cret-word@{server.address}"
        told, asked = ask(text), ask(f"{text}#alarms")
    assert told.seen.endswith("(Warren 1.0) opens the vhost / to app")
    assert asked.cause == "unsupported"


def test_what_comes_unasked(ask: Ask) -> None:
    """Heartbeats, and an alarm that comes and goes meanwhile, are stepped over."""
    heartbeat = b"\x08\x00\x00\x00\x00\x00\x00" + END
    blocked = wire.method(0, wire.BLOCKED, wire.short("low on memory"))
    between = heartbeat + blocked + wire.method(0, wire.UNBLOCKED)
    with Server(conversation(start(), TUNE, between + OPEN_OK, CLOSE_OK)) as server:
        verdict = ask(f"amqp://app:s3cret-word@{server.address}")
    assert verdict.ready, verdict.seen


@pytest.mark.parametrize(
    ("code", "text", "cause"),
    [
        (320, "CONNECTION_FORCED - broker forced connection closure", "not-ready"),
        (402, "INVALID_PATH - no such vhost", "missing-object"),
        (403, "ACCESS_REFUSED - Login was refused", "auth-refused"),
        (501, "FRAME_ERROR", "protocol"),
        (506, "RESOURCE_ERROR", "overloaded"),
        (530, "NOT_ALLOWED - vhost limit (3) not found", "missing-object"),
        (
            530,
            "NOT_ALLOWED - connection refused: node connection limit (7) is reached",
            "overloaded",
        ),
        (530, "NOT_ALLOWED - access to vhost 'a' refused for user 'b'", "forbidden"),
        (540, "NOT_IMPLEMENTED", "unsupported"),
        (541, "INTERNAL_ERROR - access to vhost: vhost 'a' is down", "not-ready"),
        (999, "", "protocol"),
    ],
)
def test_connection_close(code: int, text: str, cause: str, ask: Ask) -> None:
    """Each reply code has its cause, and the broker's own code and words are kept."""
    with Server(conversation(start(), closed(wire.CLOSE, code, text))) as server:
        verdict = ask(f"amqp://app:s3cret-word@{server.address}")
    assert verdict.cause == cause
    assert verdict.seen.endswith(f"answers {code} {text}".rstrip())


@pytest.mark.parametrize(
    ("code", "text", "cause"),
    [
        (403, "ACCESS_REFUSED - access to queue 'q' refused", "forbidden"),
        (404, "NOT_FOUND - no queue 'q' in vhost '/'", "missing-object"),
        (404, "NOT_FOUND - home node 'r@b' of queue 'q' is down or inaccessible", "not-ready"),
        (404, "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor", "not-ready"),
        (406, "PRECONDITION_FAILED - queue 'q' is not durable", "not-ready"),
        (999, "", "protocol"),
    ],
)
def test_channel_close(code: int, text: str, cause: str) -> None:
    """A queue that is known and not there is `not-ready`, one that is not known `missing-object`."""
    fields = wire.Fields(wire.number(code, 2) + wire.short(text), "mq:5672")
    with pytest.raises(NotReady) as caught:
        fault.channel_closed(fields, "queue", "q")
    assert caught.value.verdict.cause == cause


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("amqp://mq/a/b", "a slash in the vhost, which is written %2F"),
        (f"amqp://mq/{'v' * 256}", "the vhost is longer than 255 bytes"),
        (f"amqp://mq#queue={'q' * 256}", "#queue= is longer than 255 bytes"),
        (f"amqp://mq#exchange={'%C3%A9' * 128}", "#exchange= is longer than 255 bytes"),
        ("amqp://mq#password-file=/x", "#password-file= without a user"),
        ("amqps://mq#mechanism=external", "without #cert="),
        ("amqps://mq/?auth_mechanism=EXTERNAL", "without #cert="),
        ("amqps://me@mq#mechanism=external#cert=/x", "a user with the mechanism external"),
        ("amqps://mq#key=/x", "#key= without #cert="),
        ("amqp://mq#mechanism=external", "mechanism"),
    ],
)
def test_mistakes(text: str, wrong: str) -> None:
    """What cannot be asked for is said before anything is sent."""
    with pytest.raises(OperatorError) as caught:
        target.parse(text)
    assert wrong in str(caught.value)


@given(raw=st.binary(max_size=200))
def test_any_fields(raw: bytes) -> None:
    """Whatever a method holds is read, or is `protocol`."""
    causes = set()
    for read in (wire.Fields.pairs, wire.Fields.short, wire.Fields.long, wire.Broker):
        try:
            read(wire.Fields(raw, "mq:5672"))
        except NotReady as error:
            causes.add(error.verdict.cause)
    assert causes <= {"protocol"}


@given(raw=st.binary(max_size=300))
def test_any_close(raw: bytes) -> None:
    """Whatever a Close holds is a cause, or 405, which says that a queue is there."""
    try:
        error = fault.connection_closed(wire.Fields(raw, "mq:5672"))
        said = fault.channel_closed(wire.Fields(raw, "mq:5672"), "queue", "q")
        assert said.startswith("the queue q is there")
    except NotReady as raised:
        error = raised
    assert error.verdict.cause in CAUSES


@given(fields=st.dictionaries(st.text(max_size=20), st.text(max_size=100), max_size=8))
def test_tables_round_trip(fields: dict[str, str]) -> None:
    """What a table is written from is read from it."""
    raw = wire.table({name: wire.words(value) for name, value in fields.items()})
    found = wire.Fields(wire.Fields(raw, "mq:5672").long(), "mq:5672").pairs()
    assert found == {name: value.encode() for name, value in fields.items()}


def test_a_missing_secret_bothers_no_broker(ask: Ask) -> None:
    """A password that cannot be read is `local` before the broker is connected to."""
    with Server(hang) as server:
        verdict = ask(f"amqp://app@{server.address}#password-file=/nowhere/secret")
    assert verdict.cause == "local"
    assert not server.connections
