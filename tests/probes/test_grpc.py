"""`grpc:`: each status, what proxies answer, what is sent, and the mistakes of an operator.

Real servers stand in `tests/services/test_grpc.py`; what those cannot be made to say is scripted.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import target
from service_precheck.codecs import protobuf
from service_precheck.codecs.protobuf import Message
from service_precheck.errors import NotReady, OperatorError
from tests.bed.services.grpc_scripted import Answer, Scripted, answer, only, status
from tests.bed.sockets import Server
from tests.bed.tls import TLS, Authority
from tests.probes.conftest import Ask

SERVING = answer(protobuf.number(1, 1))


def test_what_is_sent(ask: Ask) -> None:
    """One POST of the health service's method, with the question, the time that is left and no more."""
    scripted = Scripted(SERVING)
    with Server(scripted) as server:
        assert ask(f"grpc://{server.address}#service=shop.Cart", 2).ready
    (request,) = scripted.requests
    headers = dict(request.headers)
    timeout = headers.pop("grpc-timeout")
    assert headers == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": server.address,
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "service-precheck",
    }
    assert timeout[-1] == "m"
    assert 1000 < int(timeout[:-1]) <= 2000
    assert request.body == b"\0\0\0\0\x0b\n\tshop.Cart"


def test_metadata_and_authority(ask: Ask) -> None:
    """`metadata` is sent as written, `authority` names the server."""
    scripted = Scripted(SERVING)
    with Server(scripted) as server:
        given = "#authority=cart.internal:443#metadata=x-one: two three#metadata=x-bin:AAE="
        assert ask(f"grpc://{server.address}{given}").ready
    request = scripted.requests[0]
    assert request.header(":authority") == "cart.internal:443"
    assert request.header("x-one") == "two three"
    assert request.header("x-bin") == "AAE="


@pytest.mark.parametrize(
    ("code", "cause", "name"),
    [
        (1, "not-ready", "CANCELLED"),
        (2, "not-ready", "UNKNOWN"),
        (3, "unsupported", "INVALID_ARGUMENT"),
        (4, "no-reply", "DEADLINE_EXCEEDED"),
        (5, "missing-object", "NOT_FOUND"),
        (7, "forbidden", "PERMISSION_DENIED"),
        (8, "overloaded", "RESOURCE_EXHAUSTED"),
        (9, "not-ready", "FAILED_PRECONDITION"),
        (12, "unsupported", "UNIMPLEMENTED"),
        (13, "not-ready", "INTERNAL"),
        (14, "not-ready", "UNAVAILABLE"),
        (15, "not-ready", "DATA_LOSS"),
        (16, "auth-required", "UNAUTHENTICATED"),
        (17, "protocol", "status 17"),
        (999, "protocol", "status 999"),
    ],
)
def test_statuses(code: int, cause: str, name: str, ask: Ask) -> None:
    """Every status has its cause, and is told by its name with the server's words."""
    words = "no healthy upstream, 100%25 gr%C3%BCndlich"
    with Server(Scripted(status(code, words))) as server:
        verdict = ask(f"grpc://{server.address}")
    assert verdict.cause == cause
    said = f"{server.address} answers {name} (no healthy upstream, 100% gründlich)"
    assert verdict.seen.startswith(said)


def test_status_after_a_message(ask: Ask) -> None:
    """A status in the trailers counts, whatever came before it."""
    trailers = (("grpc-status", "14"), ("grpc-message", "gone"))
    with Server(Scripted(answer(protobuf.number(1, 1), trailers=trailers))) as server:
        verdict = ask(f"grpc://{server.address}")
    assert verdict.cause == "not-ready"
    assert "UNAVAILABLE (gone)" in verdict.seen


def test_login_that_is_refused(ask: Ask) -> None:
    """UNAUTHENTICATED, and 401 of a proxy, mean a refusal once something was sent along."""
    for refusal in (status(16), only((":status", "401"))):
        with Server(Scripted(refusal)) as server:
            required = ask(f"grpc://{server.address}")
            refused = ask(f"grpc://{server.address}#metadata=authorization:Bearer abcdef")
        assert required.cause == "auth-required"
        assert "#token-file=" in required.hint
        assert refused.cause == "auth-refused"


@pytest.mark.parametrize(
    ("http", "cause"),
    [
        ("400", "protocol"),
        ("403", "forbidden"),
        ("404", "unsupported"),
        ("429", "overloaded"),
        ("500", "protocol"),
        ("502", "not-ready"),
        ("503", "not-ready"),
        ("504", "not-ready"),
    ],
)
def test_proxies(http: str, cause: str, ask: Ask) -> None:
    """What answers in HTTP and not in gRPC is told by its status."""
    with Server(Scripted(only((":status", http), ("content-type", "text/html")))) as server:
        verdict = ask(f"grpc://{server.address}")
    assert verdict.cause == cause
    assert f"answers HTTP status {http} and no gRPC" in verdict.seen
    assert "grpc.health.v1" not in verdict.seen
    assert ("a proxy" in verdict.hint) is (http in ("502", "503", "504"))


def test_proxy_that_knows_grpc(ask: Ask) -> None:
    """A status of gRPC counts more than the one of HTTP that it came with."""
    with Server(Scripted(status(14, "upstream", http="503"))) as server:
        assert "UNAVAILABLE (upstream)" in ask(f"grpc://{server.address}").seen


@pytest.mark.parametrize(
    ("said", "cause", "words"),
    [
        (answer(b"", kind="text/plain"), "protocol", "type 'text/plain', gRPC is expected"),
        (only((":status", "200")), "protocol", "an answer of type nothing"),
        (answer(b"", trailers=[("x", "y")]), "protocol", "without a status of gRPC"),
        (answer(b"", trailers=[("grpc-status", "x")]), "protocol", "without a status of gRPC"),
        (answer(b"", trailers=[("grpc-status", "9" * 99)]), "protocol", "without a status"),
        (status(0), "protocol", "not one whole message"),
        (answer(body=b"\0\0\0\0\5abc"), "protocol", "not one whole message"),
        (answer(body=b"\0\0\0\0\1aa"), "protocol", "not one whole message"),
        (answer(body=b"\1\0\0\0\1a"), "unsupported", "compresses"),
        (answer(b"\x08"), "protocol", "cut off or none (protobuf)"),
        (answer(b"\x0b\x0b"), "protocol", "cut off or none (protobuf)"),
        (answer(b""), "not-ready", "says UNKNOWN"),
        (answer(protobuf.number(1, 77)), "not-ready", "says status 77"),
        (answer(protobuf.number(1, 3)), "missing-object", "says SERVICE_UNKNOWN"),
    ],
)
def test_answers(said: Answer, cause: str, words: str, ask: Ask) -> None:
    """What is no good answer is told as what it is."""
    with Server(Scripted(said)) as server:
        verdict = ask(f"grpc://{server.address}")
    assert verdict.cause == cause, verdict
    assert words in verdict.seen


def test_secrets_in_a_server_s_words(ask: Ask) -> None:
    """fault 68: a server that repeats what it was sent shows no secret."""
    with Server(Scripted(status(7, "key s3cret%2Dkey-1 is not allowed: s3cret-key-1"))) as server:
        verdict = ask(f"grpc://{server.address}#metadata=x-api-key: s3cret-key-1")
    assert verdict.cause == "forbidden"
    assert "s3cret" not in verdict.seen


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
def test_tls_without_http2(alpn: tuple[str, ...], ask: Ask, authority: Authority) -> None:
    """A server in TLS that does not choose HTTP/2 is named: no client of gRPC talks to it."""
    with Server(Scripted(SERVING), tls=TLS(authority.issue(), alpn=alpn)) as server:
        verdict = ask(f"grpcs://{server.address}#ca={authority.file}")
    assert verdict.cause == "protocol"
    assert "h2 is expected" in verdict.seen


def test_tls_with_http2(ask: Ask, authority: Authority) -> None:
    """With h2 chosen it is asked, as https."""
    scripted = Scripted(SERVING)
    with Server(scripted, tls=TLS(authority.issue(), alpn=("h2",))) as server:
        assert ask(f"grpcs://{server.address}#ca={authority.file}").ready
    assert scripted.requests[0].header(":scheme") == "https"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grpc://cart.shop", "the port is missing"),
        ("grpc://user@cart.shop:1", "something stands before an @"),
        ("grpc://cart.shop:1/Health", "stands behind the host:port"),
        ("grpc://cart.shop:1#metadata=X-Key: a", "is no name of metadata"),
        ("grpc://cart.shop:1#metadata=: a", "is no name of metadata"),
        ("grpc://cart.shop:1#metadata=x-key", "a colon is missing"),
        ("grpc://cart.shop:1#metadata=grpc-timeout: 1S", "the protocol's own"),
        ("grpc://cart.shop:1#metadata=te: gzip", "the protocol's own"),
        ("grpc://cart.shop:1#metadata=x-key: a%0Ab", "not printable ASCII"),
        ("grpc://cart.shop:1#metadata-file=x-key", "is no NAME=PATH"),
        ("grpc://cart.shop:1#metadata-file=X=/a", "is no NAME=PATH"),
        ("grpc://cart.shop:1#authority=a b", "is no authority"),
        ("grpc://cart.shop:1#token-file=/t#metadata=authorization:x", "more than one login"),
        ("grpc://cart.shop:1#ca=/ca.pem", "has no option 'ca'"),
        ("grpcs://cart.shop:1#alpn=http/1.1", "other than h2"),
        ("grpcs://cart.shop:1#key=/k.pem", "#key= without #cert="),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    """What can never be asked is said before anything is sent."""
    with pytest.raises(OperatorError) as caught:
        target.parse(text)
    assert words in str(caught.value)


# -- protobuf

FIELDS = st.lists(
    st.tuples(
        st.integers(1, 1000),
        st.one_of(st.integers(0, 2**64 - 1), st.text(st.characters(codec="utf-8"), max_size=300)),
    ),
    max_size=8,
)


@given(FIELDS)
def test_messages(fields: list[tuple[int, int | str]]) -> None:
    """What is written is read; of a field that stands there twice the last counts."""
    raw = b"".join(
        protobuf.number(field, value) if isinstance(value, int) else protobuf.text(field, value)
        for field, value in fields
    )
    message = Message(raw, "peer")
    for field in {field for field, _ in fields}:
        numbers = [value for one, value in fields if one == field and isinstance(value, int)]
        texts = [value for one, value in fields if one == field and isinstance(value, str)]
        assert message.number(field) == (numbers or [0])[-1]
        assert message.texts(field) == texts
        assert message.text(field) == (texts or [""])[-1]
    assert message.number(1001) == 0
    assert message.text(1001) == ""


def test_messages_within_messages() -> None:
    """A field may hold a message; fixed widths are passed over."""
    inner = protobuf.number(2, 300)
    raw = b"\x0a" + bytes((len(inner),)) + inner + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    message = Message(raw + raw, "peer")
    assert message.message(1).number(2) == 300
    assert [each.number(2) for each in message.messages(1)] == [300, 300]
    assert message.message(7).number(2) == 0


@given(st.binary(max_size=60))
def test_garbage_is_no_message(raw: bytes) -> None:
    """Whatever comes is a message or `protocol`."""
    try:
        number, cause = Message(raw, "peer").number(1), "protocol"
    except NotReady as error:
        number, cause = 0, error.verdict.cause or ""
    assert number >= 0
    assert cause == "protocol"
