"""PostgreSQL's messages and errors without a server: what it may say, and what becomes of it."""

from __future__ import annotations

import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import net
from service_precheck.codecs import saslprep
from service_precheck.codecs.postgresql import fault
from service_precheck.codecs.postgresql import options as postgresql_options
from service_precheck.codecs.postgresql import state as postgresql_state
from service_precheck.codecs.postgresql.wire import MOST_ROW, Conversation, ServerError
from service_precheck.dns import Names
from service_precheck.errors import NotReady, OperatorError
from service_precheck.model import CAUSES, Verdict
from service_precheck.options import Target
from service_precheck.stream import Attempt, Stream
from service_precheck.target import parse
from tests.bed.sockets import Server, close, hang, say
from tests.probes.conftest import Ask


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def error(code: str, words: str, **more: str) -> bytes:
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": words, **more}
    return message(b"E", b"".join(f"{k}{v}\0".encode() for k, v in fields.items()) + b"\0")


def target(text: str) -> Target:
    leaf = parse(text)
    assert isinstance(leaf, Target)
    return leaf


def heard(said: bytes) -> list[tuple[str | None, ...]]:
    """The rows that a conversation takes from what a server says before it closes."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        ours.setblocking(False)
        attempt = Attempt(net.monotonic() + 5, Names())
        with Stream(ours, "db:5432", attempt) as stream:
            return Conversation(stream).rows()


def outcome(said: bytes) -> str | None:
    """The cause that a server's words end in, None if they are an answer."""
    try:
        heard(said)
    except NotReady as broken:
        return broken.verdict.cause
    except ServerError as refused:
        verdict = fault.explain(refused, unencrypted=True).verdict
        return verdict.cause if verdict.seen.isprintable() and len(verdict.seen) < 600 else "long"
    return None


READY = message(b"Z", b"I")


def test_rows() -> None:
    """Rows come with their columns, what is sent unasked is passed over, parameters among it."""
    row = (2).to_bytes(2, "big") + (1).to_bytes(4, "big") + b"t" + b"\xff" * 4
    said = message(b"N", b"SNOTICE\0\0") + message(b"S", b"a\0b\0") + message(b"D", row) + READY
    assert heard(said) == [("t", None)]


def test_many_rows() -> None:
    """However many rows and parameters come, only what is needed is kept."""
    row = message(b"D", bytes(2))
    told = message(b"S", b"server_version\0" + b"9" * 5000 + b" more\0")
    assert heard(told + row * 900 + READY) == [(), ()]


def test_long_rows() -> None:
    """A long row is passed over up to a bound; another long message breaks the protocol."""
    assert heard(message(b"D", bytes(70_000)) + READY) == [()]
    for kind, length in ((b"D", MOST_ROW + 1), (b"T", 70_000), (b"R", 0x7FFFFFFF)):
        with pytest.raises(NotReady) as caught:
            heard(kind + (length + 4).to_bytes(4, "big"))
        assert caught.value.verdict.cause == "protocol"


def test_endless_notices() -> None:
    """A server that never stops sending what nobody asked for is left."""
    with pytest.raises(NotReady, match="more than 1000 messages"):
        heard(message(b"N", b"\0") * 1001)


@given(st.binary(max_size=200))
def test_any_row(body: bytes) -> None:
    """Whatever stands in a row, it is columns or a broken protocol."""
    found = outcome(message(b"D", body) + READY)
    assert found in (None, "protocol")
    if found is None:
        ((*columns,),) = heard(message(b"D", body) + READY)
        assert len(columns) == int.from_bytes(body[:2], "big")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([*b"RSKZTDCEN12snv"]), st.binary(max_size=40)).map(
                lambda pair: message(bytes(pair[:1]), pair[1])
            ),
            st.binary(max_size=20),
        ),
        max_size=8,
    ).map(b"".join)
)
def test_any_answer(said: bytes) -> None:
    """Whatever comes is rows, an error of the server, or a cause."""
    assert outcome(said) in (None, *CAUSES)


def explained(code: str, words: str = "words", **more: str) -> Verdict:
    fields = {"V": "FATAL", "C": code, "M": words, **more}
    said = ServerError(fields, "db:5432", encrypted=False)
    return fault.explain(said, unencrypted=True).verdict


@given(st.text(alphabet="0123456789ABCDEFXYZP", min_size=5, max_size=5), st.text(), st.text())
def test_any_error(code: str, words: str, detail: str) -> None:
    """Every code has a cause, and the server's code is in the sentence."""
    verdict = explained(code, words, D=detail)
    assert verdict.cause in CAUSES
    assert code in verdict.seen
    assert verdict.final == (verdict.cause == "failed")


def test_errors_that_no_server_here_can_be_brought_to_say() -> None:
    """Disks that are full, conflicts with recovery, crashes: each has its cause, the unknown `protocol`."""
    for code, cause in (
        ("53100", "overloaded"),
        ("53200", "overloaded"),
        ("40001", "not-ready"),
        ("57P02", "not-ready"),
        ("58030", "not-ready"),
        ("XX001", "not-ready"),
        ("55000", "not-ready"),
        ("0A000", "unsupported"),
        ("3F000", "missing-object"),
        ("F0000", "protocol"),
    ):
        assert explained(code).cause == cause
    assert explained("57P03", D="Hot standby mode is disabled.").hint


def test_a_server_that_cannot_start_a_process(ask: Ask) -> None:
    """Before any message it may say in bare text that it has no process to spare: `overloaded`."""
    text = b"Ecould not fork new process for connection: Resource temporarily unavailable\n\0"
    for options in ("", "#tls=off"):
        with Server(say(text, close)) as server:
            verdict = ask(f"postgresql://app@{server.address}{options}")
        assert verdict.cause == "overloaded"
        assert "FATAL: could not fork new process" in verdict.seen


def test_an_error_instead_of_tls(ask: Ask) -> None:
    """A server may answer the question for TLS with an error."""
    with Server(say(error("57P03", "the database system is starting up"), close)) as server:
        verdict = ask(f"postgresql://{server.address}")
    assert verdict.cause == "starting"


def test_words_before_the_handshake(ask: Ask) -> None:
    """Bytes that come with the yes to TLS could be anybody's: `protocol`."""
    with Server(say(b"S" + error("28P01", "planted"), hang)) as server:
        verdict = ask(f"postgresql://app:word@{server.address}", 1)
    assert verdict.cause == "protocol"
    assert "before the TLS handshake" in verdict.seen


@pytest.mark.parametrize("step", [3, 5])
def test_no_password_in_the_clear_by_a_downgrade(step: int, ask: Ask) -> None:
    """Who asks for the password itself gets none without TLS; a digest of md5 is what libpq sends too."""
    told = message(b"R", step.to_bytes(4, "big") + b"salt" * (step == 5))
    with Server(say(b"N" + told, hang)) as server:
        verdict = ask(f"postgresql://app:pass-word-1@{server.address}", 0.5)
        sent = bytes(server.connections[0].received)
    assert verdict.cause == ("unsupported" if step == 3 else "no-reply")
    assert b"pass-word-1" not in sent


def state(text: str, *row: str | None) -> Verdict | str:
    try:
        return postgresql_state.judge(target(f"postgresql://me@db/shop{text}"), "db:5432", row)
    except NotReady as caught:
        return caught.verdict


LAGS = {
    ("0", "t"): "answers queries, 0 s behind",
    ("-3.5", "t"): "answers queries, 0 s behind",
    ("9.9", "f"): "answers queries, 9.9 s behind",
    ("11", "t"): "replica-lag",
    ("11", "f"): "replica-lag",
    ("nan", "t"): "protocol",
    ("inf", "t"): "protocol",
    (None, "t"): "replica-lag",
    ("soon", "t"): "protocol",
    ("9" * 400, "t"): "protocol",
}


@pytest.mark.parametrize(("lag", "receives"), LAGS)
def test_lag(lag: str | None, receives: str) -> None:
    """Only a number within the bound holds."""
    found = state("#max-lag=10s", "t", "on", lag, receives)
    assert (found.cause if isinstance(found, Verdict) else found) == LAGS[(lag, receives)]


def test_no_state_is_no_proof() -> None:
    """A server that does not answer what it was asked is neither primary nor standby."""
    for row in ((), (None, None), ("f", None), ("x", "off"), ("f", "no")):
        for text in ("", "#role=primary", "#role=replica"):
            found = state(text, *row)
            assert isinstance(found, Verdict)
            assert found.cause == "protocol"


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=8))
def test_any_state(row: list[str | None]) -> None:
    """Whatever the columns hold, there is a verdict."""
    for text in ("#role=primary", "#role=replica#max-lag=1s#table=t"):
        found = state(text, *row)
        assert not isinstance(found, Verdict) or found.cause in CAUSES


def test_the_question_is_quoted() -> None:
    """A table's name cannot end its quotes."""
    asked = postgresql_state.question(target("postgresql://me@db#table=a\\'b"))
    assert r"to_regclass(E'a\\''b')" in asked


@pytest.mark.parametrize("kind", [*b"HGWdc"])
def test_copy(kind: int) -> None:
    """Messages of COPY are told as what they are."""
    with pytest.raises(NotReady, match="a message of COPY") as caught:
        heard(message(bytes((kind,)), b"\0\0\0"))
    assert caught.value.verdict.cause == "protocol"


SPELLED = {
    "": "prefer",
    "?sslmode=disable": "off",
    "?sslmode=require": "unchecked",
    "?sslmode=verify-full": "require",
    "?sslmode=prefer#tls=off": "off",
    "?sslmode=require#tls=prefer": "prefer",
    "?sslmode=prefer#ca=/x": "require",
    "?sslmode=verify-full#unix-socket=/run": "off",
    "#insecure": "require",
}


@pytest.mark.parametrize("text", SPELLED)
def test_which_tls(text: str) -> None:
    """An option says more than `sslmode`, and neither says anything of a Unix socket."""
    assert postgresql_options.tls_of(target(f"postgresql://me@db/x{text}")) == SPELLED[text]


def test_both_names_of_the_scheme() -> None:
    """`postgres://` is `postgresql://`, and shown as that."""
    assert target("postgres://me@db/x") == target("postgresql://me@db/x")
    assert str(target("postgres://db")) == "postgresql://db:5432/"


MISTAKES = {
    "postgresql://db#role=primary": "#role= without a user",
    "postgresql://db#table=t#query=SELECT 1": "#query= without a user",
    "postgresql://db/shop": "a database without a user: #user=NAME",
    "postgresql://me@db#query=COPY t TO PROGRAM 'x'": "is no read",
    "postgresql://me@db#query=do 'x'": "is no read",
    "postgresql://me@db#query=": "is no read",
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
def test_mistakes(text: str) -> None:
    """What cannot be meant is told before anything is sent."""
    with pytest.raises(OperatorError, match=re.escape(MISTAKES[text])):
        target(text)


def test_the_rest_of_a_query_is_ignored() -> None:
    """What changes no answer may stand in a connection string."""
    ignored = "connect_timeout=3&application_name=y&options=-c%20a&sslmode=prefer"
    assert target(f"postgresql://me@db/x?{ignored}").query == ignored


# RFC 4013 section 3.
PREPARED = {
    "I\u00adX": "IX",
    "user": "user",
    "USER": "USER",
    "\u00aa": "a",
    "\u2168": "IX",
    "a\u00a0b": "a b",
}


@pytest.mark.parametrize("text", PREPARED)
def test_saslprep(text: str) -> None:
    """The examples of RFC 4013 come out as it says."""
    assert saslprep.prepared(text) == PREPARED[text]


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031", "\u00ad", "a\u0378", "\u0627a\u0627"])
def test_saslprep_refuses(text: str) -> None:
    """What RFC 4013 does not allow is an error; PostgreSQL then takes the password as it is."""
    with pytest.raises(ValueError, match="SASLprep"):
        saslprep.prepared(text)


@given(st.text(max_size=30))
def test_saslprep_settles(text: str) -> None:
    """What was prepared once stays as it is, for any text."""
    try:
        once = saslprep.prepared(text)
    except ValueError:
        return
    assert saslprep.prepared(once) == once
