"""The frames of HTTP/2, with h2 as the other end, and what h2 would never send."""

from __future__ import annotations

import pytest
from h2.events import (
    ConnectionTerminated,
    PingAckReceived,
    SettingsAcknowledged,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import net, stream
from service_precheck.codecs import hpack
from service_precheck.codecs.http2 import MOST_BODY, Answer, Connection
from service_precheck.dns import Names
from service_precheck.errors import NotReady
from service_precheck.model import CAUSES, Verdict
from service_precheck.stream import Attempt
from tests.bed.services.grpc_scripted import Scripted, Talk, answer, frame, only, raw, silence
from tests.bed.sockets import Behaviour, Server, close, hang, reset, say
from tests.probes.test_http1 import Scripted as ScriptedStream

HEADERS = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"))
HINT = "if it wants TLS: ask in TLS"
DATA, HEAD, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 0x20
GREETING = frame(SETTINGS, 0, 0, b"")
OK_HEADERS = hpack.encode([(b":status", b"200"), (b"x", b"y")])


def ask(
    behaviour: Behaviour,
    *bodies: bytes,
    timeout: float = 5.0,
    secret: tuple[hpack.Header, ...] = (),
) -> list[Answer]:
    """The answers to requests with these bodies, on one connection."""
    with Server(behaviour) as server:
        attempt = Attempt(net.monotonic() + timeout, Names())
        with stream.connect("127.0.0.1", server.port, attempt) as connected:
            connection = Connection(connected, HINT)
            answers = [connection.request(HEADERS, secret, body) for body in bodies]
            connection.goodbye()
            return answers


def refused(behaviour: Behaviour, *bodies: bytes, timeout: float = 5.0) -> Verdict:
    """The verdict where there is no answer."""
    with pytest.raises(NotReady) as caught:
        ask(behaviour, *(bodies or (b"",)), timeout=timeout)
    return caught.value.verdict


def after(*frames: bytes) -> Behaviour:
    """Greet, and send these frames once the request is there."""
    return Scripted(raw(*frames))


# -- a whole conversation


def test_request_and_answer() -> None:
    """What h2 understands of a request, and what is understood of its answer."""
    scripted = Scripted(answer(b"hello"))
    (got,) = ask(scripted, b"body")
    assert (got.status, got.body) == (200, b"\0\0\0\0\5hello")
    assert got.fields["content-type"] == "application/grpc"
    assert got.fields["grpc-status"] == "0"
    (request,) = scripted.requests
    assert request.headers == [(name.decode(), value.decode()) for name, value in HEADERS]
    assert request.body == b"body"


def test_goodbye() -> None:
    """The connection ends with GOAWAY and no error; the server's settings were acknowledged."""
    scripted = Scripted(answer())
    ask(scripted, b"")
    events = scripted.talks[0].events
    ended = [event for event in events if isinstance(event, ConnectionTerminated)]
    assert [event.error_code for event in ended] == [0]
    assert any(isinstance(event, SettingsAcknowledged) for event in events)


@pytest.mark.parametrize("pieces", [1, 7, 400])
@pytest.mark.parametrize("pad", [None, 0, 255])
def test_pieces_and_padding(pieces: int, pad: int | None) -> None:
    """A body in many frames, padded, is the same body, also where the padding takes all the room."""
    message = bytes(range(256)) * 4
    (got,) = ask(Scripted(answer(message, pieces=pieces, pad=pad)), b"")
    assert got.body[5:] == message


def test_room_is_made_for_more() -> None:
    """Several bodies take more than the connection's window, which h2 keeps to."""
    scripted = Scripted(answer(b"x" * 30_000, pieces=3, pad=100))
    answers = ask(scripted, *[b""] * 6)
    assert [len(each.body) for each in answers] == [30_005] * 6
    assert any(isinstance(event, WindowUpdated) for event in scripted.talks[0].events)


def test_long_headers() -> None:
    """Headers that do not fit into a frame are sent in several, and understood in several."""
    value = "v" * 20_000
    scripted = Scripted(
        only((":status", "200"), ("x-long", value), ("x-more", value)),
        settings={SettingCodes.MAX_HEADER_LIST_SIZE: 200_000},
    )
    (got,) = ask(scripted, b"", secret=((b"x-secret", b"s" * 40_000),))
    assert got.fields["x-long"] == got.fields["x-more"] == value
    assert len(scripted.requests[0].header("x-secret")) == 40_000


def test_pings_are_answered() -> None:
    """A PING in between gets its acknowledgement, with its own bytes."""

    def ping_first(talk: Talk) -> None:
        talk.h2.ping(b"12345678")
        answer()(talk)

    scripted = Scripted(ping_first, answer())
    ask(scripted, b"", b"")
    acks = [event for event in scripted.talks[0].events if isinstance(event, PingAckReceived)]
    assert [event.ping_data for event in acks] == [b"12345678"]


def test_interim_answers() -> None:
    """Interim headers (1xx) are passed over, as is what is not known."""
    interim = frame(HEAD, END_HEADERS, 1, hpack.encode([(b":status", b"103"), (b"x", b"early")]))
    unknown = frame(0x77, 0xFF, 1, b"whatever") + frame(PRIORITY, 0, 1, b"\0\0\0\0\1")
    whole = frame(HEAD, END_HEADERS | END_STREAM, 1, OK_HEADERS)
    (got,) = ask(after(interim, unknown, frame(WINDOW, 0, 1, b"\0\0\0\1"), whole), b"")
    assert (got.status, got.fields["x"]) == (200, "y")


def test_priority_and_padding_of_headers() -> None:
    """Headers with padding and a priority are the same headers."""
    payload = b"\3" + b"\x80\0\0\1\7" + OK_HEADERS + b"\0" * 3
    flags = END_HEADERS | END_STREAM | PADDED | WITH_PRIORITY
    (got,) = ask(after(frame(HEAD, flags, 1, payload)), b"")
    assert got.fields["x"] == "y"


def test_a_later_request_after_one_that_was_let_go() -> None:
    """What comes late for a request that was cancelled is dropped, and its headers are still read, since
    the next ones refer to them."""
    late: list[Talk] = []

    def both(talk: Talk) -> None:
        current, talk.number = talk.number, 1
        # h2 lets nothing be sent for what the client has cancelled.
        table = talk.h2.encoder
        block = table.encode([(":status", "200"), ("x-table", "kept")])
        talk.raw(frame(HEAD, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, b"late"))
        talk.number = current
        late.append(talk)
        block = table.encode([(":status", "200"), ("x-table", "kept")])
        talk.raw(frame(HEAD, END_HEADERS | END_STREAM, current, block))

    with Server(Scripted(silence, both)) as server:
        attempt = Attempt(net.monotonic() + 10, Names())
        with stream.connect("127.0.0.1", server.port, attempt) as connected:
            connection = Connection(connected, HINT)
            connected.deadline = net.monotonic() + 0.05
            with pytest.raises(NotReady) as caught:
                connection.request(HEADERS, (), b"")
            assert caught.value.verdict.cause == "no-reply"
            connected.deadline = attempt.deadline
            connection.cancel()
            got = connection.request(HEADERS, (), b"")
    assert (got.fields["x-table"], got.body) == ("kept", b"")
    assert late


# -- what a server may refuse


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (0, "not-ready"),
        (1, "protocol"),
        (2, "not-ready"),
        (7, "overloaded"),
        (8, "not-ready"),
        (11, "overloaded"),
        (12, "forbidden"),
        (13, "protocol"),
        (99, "protocol"),
    ],
)
def test_let_go(code: int, cause: str) -> None:
    """RST_STREAM and GOAWAY by their error codes, with their names."""
    number = code.to_bytes(4, "big")
    name = {7: "REFUSED_STREAM", 99: "error 99"}.get(code, "")
    for refusal in (frame(RESET, 0, 1, number), frame(GOAWAY, 0, 0, bytes(4) + number)):
        verdict = refused(after(refusal))
        assert verdict.cause == cause
        assert name in verdict.seen


def test_goodbye_with_words() -> None:
    """What a server says with its GOAWAY is shown."""
    verdict = refused(after(frame(GOAWAY, 0, 0, bytes(4) + b"\0\0\0\x0btoo_many_pings")))
    assert verdict.cause == "overloaded"
    assert verdict.seen.endswith("let go of the request: ENHANCE_YOUR_CALM (too_many_pings)")


def test_goodbye_that_finishes() -> None:
    """A server that shuts down in order answers what was asked before, and takes nothing after."""
    farewell = frame(GOAWAY, 0, 0, (2**31 - 1).to_bytes(4, "big") + bytes(4))
    whole = frame(HEAD, END_HEADERS | END_STREAM, 1, OK_HEADERS)
    (got,) = ask(after(farewell, whole), b"")
    assert got.status == 200
    assert refused(after(farewell, whole), b"", b"").cause == "not-ready"


def test_no_room_for_the_body() -> None:
    """A server that takes no bodies of that size is told as such."""
    scripted = Scripted(answer(), settings={SettingCodes.INITIAL_WINDOW_SIZE: 10})
    assert refused(scripted, b"x" * 11).cause == "unsupported"
    assert ask(scripted, b"x" * 10)


# -- what is no HTTP/2, or not allowed


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/2, it said 'HTTP/1.1 400 Bad Request'"),
        (b"HTTP/1.0 505 No\n", "does not speak HTTP/2, it said 'HTTP/1.0 505 No'"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "said 'SSH-2.0-OpenSSH_9.2p1'"),
        (b"\x15\x03\x01\0\2\2\x46", "answers in TLS to a plain request"),
        (b"220 mail ESMTP\r\n", "said '220 mail ESMTP'"),
        (frame(PING, 0, 0, b"12345678"), "does not speak HTTP/2"),
        (frame(SETTINGS, 1, 0, b""), "does not speak HTTP/2"),
    ],
)
def test_something_else(said: bytes, words: str) -> None:
    """What does not begin as HTTP/2 does is named, as far as it is known."""
    verdict = refused(say(said, close))
    assert verdict.cause == "protocol"
    assert words in verdict.seen


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\4\0\0\0\0"])
def test_hangs_up_before_it_greets(said: bytes) -> None:
    """A server that hangs up before its greeting is whole may want TLS."""
    verdict = refused(say(said, close))
    assert verdict.cause == "closed-early"
    assert verdict.hint == HINT
    # It may be seen while we still connect.
    assert refused(say(said, reset())).cause == "closed-early"


def test_silence() -> None:
    """A server that never greets, and one that greets and never answers."""
    assert refused(hang, timeout=0.2).cause == "no-reply"
    verdict = refused(Scripted(silence), timeout=0.2)
    assert verdict.cause == "no-reply"
    assert "did not finish its answer" in verdict.seen


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([frame(SETTINGS, 0, 0, b"12345")], "SETTINGS frame that is none"),
        ([frame(PUSH, 4, 1, b"\0\0\0\2")], "no place"),
        ([frame(CONTINUATION, 4, 1, b"")], "no place"),
        ([frame(HEAD, 0, 1, OK_HEADERS), frame(PING, 0, 0, bytes(8))], "amid its headers"),
        ([frame(HEAD, 0, 1, OK_HEADERS), frame(CONTINUATION, 4, 3, b"")], "amid its headers"),
        ([frame(HEAD, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff")], "does not end"),
        ([frame(HEAD, END_HEADERS | PADDED, 1, b"\xffabc")], "padding"),
        ([frame(HEAD, END_HEADERS | PADDED, 1, b"")], "padding"),
        ([frame(HEAD, END_HEADERS | END_STREAM, 1, hpack.encode([(b"x", b"y")]))], "status"),
        ([frame(DATA, END_STREAM, 1, b"x")], "without a status"),
        ([b"\x00\x40\x01\0\0\0\0\0\1"], "a frame of 16385 bytes"),
        ([b"\xff\xff\xff\0\0\0\0\0\1"], "a frame of 16777215 bytes"),
        ([frame(DATA, 0, 1, bytes(16_384))] * (MOST_BODY // 16_384 + 1), "a body of more than"),
        (
            [frame(HEAD, 0, 1, bytes(16_384)), *[frame(CONTINUATION, 0, 1, bytes(16_384))] * 4],
            "of headers",
        ),
    ],
)
def test_not_allowed(frames: list[bytes], words: str) -> None:
    """What does not follow the document, or goes beyond a bound, is `protocol`."""
    verdict = refused(after(*frames))
    assert verdict.cause == "protocol", verdict
    assert words in verdict.seen


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, 0, 0, bytes(8)),
        frame(SETTINGS, 0, 0, b""),
        frame(DATA, 0, 1, b""),
        frame(WINDOW, 0, 0, b"\0\0\0\1"),
        frame(0x77, 0, 0, b""),
        frame(RESET, 0, 5, bytes(4)),
        frame(HEAD, END_HEADERS, 3, b""),
    ],
    ids=["ping", "settings", "data", "window", "unknown", "reset", "headers"],
)
def test_floods(flood: bytes) -> None:
    """Endless small frames end as `protocol`, long before the attempt's time."""

    def endless(talk: Talk) -> None:
        while talk.raw(flood * 100):
            pass

    verdict = refused(Scripted(endless), timeout=30)
    assert verdict.cause == "protocol"
    assert verdict.seen.endswith("more than 1000 frames (HTTP/2)")


def test_flood_of_continuations() -> None:
    """Headers that never end, in empty pieces, end as `protocol`."""

    def endless(talk: Talk) -> None:
        talk.raw(frame(HEAD, 0, 1, b""))
        while talk.raw(frame(CONTINUATION, 0, 1, b"") * 100):
            pass

    assert "more than 1000 frames" in refused(Scripted(endless), timeout=30).seen


FRAMES = st.builds(
    frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 2**31 - 1]),
    st.one_of(st.binary(max_size=24), st.just(OK_HEADERS)),
)


class Deaf(ScriptedStream):
    """A stream whose other end does not listen."""

    __slots__ = ()

    def _send(self, data: bytes) -> None:
        pass


@given(st.lists(FRAMES, max_size=12), st.binary(max_size=8), st.booleans())
def test_any_frames(frames: list[bytes], rest: bytes, greets: bool) -> None:
    """Whatever frames come, and garbage behind them, are an answer or a cause."""
    played = Deaf([(GREETING if greets else b"") + b"".join(frames) + rest])
    try:
        status, cause = Connection(played, HINT).request(HEADERS, (), b"").status, ""
    except NotReady as error:
        status, cause = 200, error.verdict.cause or "none"
    assert 100 <= status <= 999
    assert cause in ("", *CAUSES)
