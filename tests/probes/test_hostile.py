"""Hostile servers: what every scheme that speaks to one has to bear, those added later included.

A probe never holds because of them, never crashes, ends with its attempt, and keeps little of what it
is sent. What a good exchange looks like comes from recordings of real servers, which each service has;
a scheme without one meets the servers that need none.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_precheck import schemes
from service_precheck.model import CAUSES, Verdict
from service_precheck.options import Scheme, Target
from service_precheck.target import parse
from tests.bed.recording import all_recordings, at, play, steady_random
from tests.bed.sockets import Behaviour, Server, babble, close, hang, reset, say
from tests.bed.tls import TLS, Authority
from tests.probes.conftest import Ask

RECORDINGS = {recording.name: recording for recording in all_recordings()}
# For these an accepted connection is all that is asked; `test_tcp.py` has what it may then meet.
BARE = ("tcp",)
LIMIT = 0.4


def of(name: str) -> Scheme:
    scheme = schemes.load(name)
    assert scheme is not None
    return scheme


def texts() -> dict[str, str]:
    """A target of each scheme that speaks to a server, to be put `at` where that is."""
    found = {}
    for name in schemes.BUILT_IN:
        scheme = of(name)
        if scheme.form in ("host:port", "url", "hosts") and name not in BARE:
            found[name] = f"{name}://{{place}}"
            if any(option.name == "tls" for option in scheme.options):
                yes = "true" if scheme.option("tls").default is False else "require"  # type: ignore[union-attr]
                found[f"{name}+tls"] = f"{name}://{{place}}#tls={yes}"
    found |= {recording.name: recording.target for recording in RECORDINGS.values()}
    return found


TEXTS = texts()

OTHERS: dict[str, bytes] = {
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "smtp": b"220 mail.example.org ESMTP ready\r\n",
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "tls alert": bytes.fromhex("15030100020228"),
    "tls hello": bytes.fromhex("160303003a0200003603030000") + b"\0" * 50,
    "text": b"hello, who is there?\n" * 3,
    "zeroes": b"\0" * 64,
    "ones": b"\xff" * 64,
    "long length": b"\x7f\xff\xff\xff" * 8,
    "json": b'{"error": {"code": 400}}\n',
} | {
    # A server of another scheme speaks first, or answers what it cannot understand.
    name: next((said for who, said in recording.connections[0] if who == "server"), b"")
    for name, recording in RECORDINGS.items()
    if not recording.speaks_tls
}


def speaks_tls(name: str) -> bool:
    """Whether a target of `TEXTS` is asked in TLS."""
    if name in RECORDINGS:
        return RECORDINGS[name].speaks_tls
    scheme, _, tls = name.partition("+")
    options = {option.name for option in of(scheme).options}
    return bool(tls) or ("ca" in options and "tls" not in options)


def many(name: str, most: int) -> int:
    """How often to try what takes a connection each: in TLS one costs ten times as much."""
    return most // 5 if speaks_tls(name) else most


def then(greeting: bytes, after: Behaviour) -> Behaviour:
    """Wait for the client to speak, a moment only, then say the greeting."""

    def behave(connection: object) -> None:
        connection.socket.settimeout(0.05)  # type: ignore[attr-defined]
        connection.read()  # type: ignore[attr-defined]
        connection.socket.settimeout(None)  # type: ignore[attr-defined]
        say(greeting, after)(connection)  # type: ignore[arg-type]

    return behave


def not_ready(verdict: Verdict) -> None:
    assert not verdict.ready, verdict.seen
    assert verdict.cause in CAUSES
    assert len(verdict.seen) < 2000
    assert verdict.seen.isprintable()


# Seconds that a verdict may come after the attempt's deadline: the machine may be busy, and a server that
# is waited for without one takes for ever.
LATE = 10.0


@pytest.fixture
def ask(ask: Ask) -> Ask:
    """As everywhere, and see that each attempt ends with its time."""

    def asked(text: str, timeout: float = 5.0, alone: bool = True) -> Verdict:
        begun = time.monotonic()
        verdict = ask(text, timeout, alone)
        assert time.monotonic() - begun < timeout + LATE
        return verdict

    return asked


@pytest.fixture(autouse=True)
def leaks() -> Iterator[None]:
    """See that every connection was closed."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    deadline = time.monotonic() + 10
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("name", TEXTS)
def test_accepts_and_says_nothing(name: str, ask: Ask, authority: Authority) -> None:
    """fault 3: a server that accepts and hangs is `no-reply`, when the attempt ends."""
    with Server(hang) as server:
        verdict = ask(at(TEXTS[name], server.address, authority), LIMIT)
    not_ready(verdict)
    # Where the protocol lets the probe ask a second way, it may know more than that.
    assert verdict.cause in ("no-reply", "no-leader", "no-quorum")


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("behaviour", [close, reset()], ids=["closes", "resets"])
def test_accepts_and_hangs_up(
    name: str, behaviour: Behaviour, ask: Ask, authority: Authority
) -> None:
    """fault 2: accepted, then closed or reset, is `closed-early`."""
    with Server(behaviour) as server:
        verdict = ask(at(TEXTS[name], server.address, authority), 5)
    not_ready(verdict)
    assert verdict.cause == "closed-early"


@pytest.mark.parametrize("name", TEXTS)
def test_nobody_listens(name: str, ask: Ask, authority: Authority) -> None:
    """fault 1: a closed port is `refused`."""
    with Server(hang, opened=False) as server:
        verdict = ask(at(TEXTS[name], server.address, authority), 5)
    assert verdict.cause == "refused"


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "chunk", [b"x", b"\0", b"\xff", b"\r\n", b"\x00\x00\x00\x01", b"a b: c\r\n"]
)
def test_endless_greeting(name: str, chunk: bytes, ask: Ask, authority: Authority) -> None:
    """fault 5: a server that never stops talking is no reason to hold, or to keep it all."""
    with Server(babble(chunk * (16_384 // len(chunk)))) as server:
        target = at(TEXTS[name], server.address, authority)
        ask(target, LIMIT)
        tracemalloc.start()
        try:
            verdict = ask(target, LIMIT)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    not_ready(verdict)
    assert peak < 2 << 20


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", TEXTS)
def test_another_protocol(name: str, other: str, ask: Ask, authority: Authority) -> None:
    """A server of another kind does not make it hold, whether it speaks first or answers."""
    if other in RECORDINGS and same_protocol(name, other):
        return
    for behaviour in (say(OTHERS[other], close), then(OTHERS[other], close)):
        with Server(behaviour) as server:
            not_ready(ask(at(TEXTS[name], server.address, authority), 2))


SETTINGS = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (OTHERS["smtp"], ", it said '220 mail.example.org ESMTP ready'"),
        (OTHERS["tls alert"], " answers in TLS to a plain request"),
        (OTHERS["tls hello"], " answers in TLS to a plain request"),
        (SETTINGS, " speaks HTTP/2 and no "),
    ],
    ids=["smtp", "tls alert", "tls hello", "http2"],
)
@pytest.mark.parametrize("name", TEXTS)
def test_another_protocol_is_named(
    name: str, said: bytes, told: str, ask: Ask, authority: Authority
) -> None:
    """What is asked plainly, and answered in something else, says in what, in the same words."""
    # To the one it is right, to the other a length.
    right = said == SETTINGS and TEXTS[name].startswith(("etcd:", "grpc:", "kafka:"))
    if speaks_tls(name) or right:
        return
    with Server(then(said, close)) as server:
        verdict = ask(at(TEXTS[name], server.address, authority), 2)
    assert verdict.cause == "protocol"
    assert verdict.seen.partition(server.address)[2].startswith((" does not speak ", told))
    assert told in verdict.seen


def same_protocol(name: str, other: str) -> bool:
    """Whether a recording is of the protocol that a target speaks."""
    families = [TEXTS[name].partition("://")[0], RECORDINGS[other].target.partition("://")[0]]
    # What a secure scheme speaks inside TLS is the plain one's; a page answers any question for a page.
    spoken = [{"elasticsearch": "http", "etcd": "grpc"}.get(x, x) for x in families]
    return spoken[0].startswith(spoken[1]) or spoken[1].startswith(spoken[0])


@pytest.mark.parametrize("name", TEXTS)
def test_tls_where_plain_was_expected(name: str, ask: Ask, authority: Authority) -> None:
    """A plain question to a port that speaks TLS does not hold."""
    if speaks_tls(name):
        return
    with Server(hang, tls=TLS(authority.issue())) as server:
        not_ready(ask(at(TEXTS[name], server.address, authority), LIMIT))


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", [name for name in TEXTS if speaks_tls(name)])
def test_plain_where_tls_was_expected(
    name: str, other: str, ask: Ask, authority: Authority
) -> None:
    """fault 15: a plain server, asked in TLS, does not hold, and no password is sent to it."""
    text = TEXTS[name]
    if name not in RECORDINGS and of(name.partition("+")[0]).form != "host:port":
        text = text.replace("{place}", "user:not-for-you@{place}")
    with Server(then(OTHERS[other], hang)) as server:
        text = at(text, server.address, authority)
        not_ready(ask(text, LIMIT))
        heard = b"".join(bytes(connection.received) for connection in server.connections)
    leaf = parse(text)
    assert isinstance(leaf, Target)
    # What some send instead of a password, as they were recorded.
    for secret in (leaf.password or "recorded-token", "recorded-token"):
        assert secret.encode() not in heard


# From here on: what a real server said, changed.

SERVICES = [name for name in schemes.BUILT_IN if of(name).cost]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_recorded(name: str) -> None:
    """A service has a recorded exchange, in TLS too where it speaks that: what follows here, the secrets',
    the signals' and the imports' tests have it from there."""
    own = [recording for recording in RECORDINGS.values() if recording.scheme.name == name]
    assert own, f"python -m tests.bed.recording {name} ... records one"
    if of(name).option("ca") is not None:
        assert any(recording.speaks_tls for recording in own), "none of them is in TLS"


recorded = pytest.mark.parametrize("name", RECORDINGS)


@recorded
def test_the_recording_is_good(name: str, ask: Ask, authority: Authority) -> None:
    """Played as it was recorded, it holds: so what follows is about what was changed."""
    with play(RECORDINGS[name], authority) as target, steady_random():
        verdict = ask(target, 5)
    assert verdict.ready, verdict.seen


@recorded
def test_a_byte_at_a_time(name: str, ask: Ask, authority: Authority) -> None:
    """fault 4: slow bytes do not prolong the attempt: one deadline holds for all of them."""
    with play(RECORDINGS[name], authority, every=0.05) as target, steady_random():
        verdict = ask(target, LIMIT)
    not_ready(verdict)
    assert verdict.cause == "no-reply"


@recorded
def test_closed_at_each_byte(name: str, ask: Ask, authority: Authority) -> None:
    """Cut short anywhere it does not hold, up to the byte that proves it; goodbyes may be missing."""
    recording = RECORDINGS[name]
    size = len(recording.server_bytes())
    # Each byte of a short exchange, and of the beginnings and ends of a long one.
    spread = range(0, size, max(1, size // many(name, 300)))
    cuts = sorted({*spread, *range(min(many(name, 64), size)), size})
    held = []
    for cut in cuts:
        playing = play(recording, authority, lambda said, cut=cut: said[:cut])  # type: ignore[misc]
        with playing as target, steady_random():
            verdict = ask(target, 2)
        if verdict.ready:
            held.append(cut)
            continue
        not_ready(verdict)
        assert verdict.cause in ("closed-early", "protocol", "no-reply"), (cut, verdict)
    # What made it hold was there at all later cuts, too.
    assert held == cuts[len(cuts) - len(held) :]
    assert 0 < len(held) < len(cuts)


@recorded
def test_huge_lengths(name: str, ask: Ask, authority: Authority) -> None:
    """A length that is far too long, anywhere, is neither waited for in vain nor kept room for."""
    recording = RECORDINGS[name]
    size = len(recording.server_bytes())
    tracemalloc.start()
    try:
        spread = range(0, size, max(1, size // many(name, 50)))
        for here in sorted({*range(min(size, many(name, 48))), *spread}):
            for length in (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"):
                playing = play(
                    recording,
                    authority,
                    lambda said, here=here, length=length: said[:here] + length + said[here + 4 :],  # type: ignore[misc]
                    patience=0.1,
                )
                with playing as target, steady_random():
                    verdict = ask(target, 2)
                assert verdict.ready or verdict.cause in CAUSES
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


# By the recording: what the server said that proves what is asked for, what it says instead, the cause.
FORGED: dict[str, tuple[tuple[bytes, bytes, str], ...]] = {
    "amqp": ((b"\x00\x32\x00\x0b", b"\x00\x32\x00\x0c", "protocol"),),
    "elasticsearch": (
        (b'"status":"green"', b'"status":"red"  ', "not-ready"),
        (b'"number_of_nodes":1', b'"number_of_nodes":0', "too-few"),
        (b'"state":"open"', b'"state":"close"', "protocol"),
    ),
    "etcd": ((b"\x18\x02 \x02 \x01", b"\x18\x02 \x02 \x00", "missing-object"),),
    "grpc": ((b"\x00\x02\x08\x01", b"\x00\x02\x08\x02", "not-ready"),),
    "kafka": ((b"v=", b"v=A", "protocol"),),
    "kube": ((b'"type":"Complete"', b'"type":"Complexe"', "not-ready"),),
    "mongodb": (
        (b"isWritablePrimary\x00\x01", b"isWritablePrimary\x00\x00", "starting"),
        (b"rs0", b"rs1", "missing-object"),
        (b"v=9", b"v=8", "protocol"),
    ),
    "mysql": ((b"\x010\x010\x010", b"\x011\x010\x010", "read-only"),),
    "mysql-replica": ((b"\x03Yes\x03Yes", b"\x03Yes\x03Not", "not-ready"),),
    "mysql-sha2": ((b"\x010\x010\x010\x010", b"\x011\x010\x010\x010", "read-only"),),
    "postgresql": (
        (b"\x01f\x00\x00\x00\x03off", b"\x01t\x00\x00\x00\x03off", "read-only"),
        (b"v=U", b"v=V", "protocol"),
    ),
    "postgresql-standby": ((b"\x01t\x00\x00\x00\x02on", b"\x01f\x00\x00\x00\x02on", "not-ready"),),
    "postgresql-stranger": ((b"NR", b"NQ", "protocol"),),
    "postgresql-tls": (
        (b"\x01f\x00\x00\x00\x03off", b"\x01t\x00\x00\x00\x03off", "read-only"),
        (b"v=c", b"v=d", "protocol"),
    ),
    "redis": (
        (b"role:master", b"role:slave\r", "not-ready"),
        (b"\r\n:1\r\n", b"\r\n:0\r\n", "missing-object"),
    ),
    "redis-cluster": (
        (b"cluster_state:ok", b"cluster_state:no", "not-ready"),
        (b"\r\n:1\r\n", b"\r\n:0\r\n", "missing-object"),
    ),
    "zookeeper": ((b"Mode: standalone", b"Mode: follower\n\n", "not-ready"),),
}


@recorded
def test_what_takes_the_proof_away(name: str, ask: Ask, authority: Authority) -> None:
    """A server that says the opposite of what is asked for does not hold, whatever it says beside that."""
    recording = RECORDINGS[name]
    for old, new, cause in FORGED[name if name in FORGED else name.removesuffix("-tls")]:
        assert old in recording.server_bytes()

        def change(said: bytes, old: bytes = old, new: bytes = new) -> bytes:
            return said.replace(old, new)

        with play(recording, authority, change, patience=1.0) as target, steady_random():
            verdict = ask(target, 2)
        assert (verdict.cause, old) == (cause, old), verdict


@recorded
def test_mutations(name: str, ask: Ask, authority: Authority) -> None:
    """Whatever a server says instead is a verdict and never a crash."""
    recording = RECORDINGS[name]
    size = len(recording.server_bytes())
    edit = st.tuples(st.integers(0, size), st.integers(0, 8), st.binary(max_size=8))

    @settings(max_examples=many(name, 150))
    @given(edits=st.lists(edit, min_size=1, max_size=4))
    def mutated(edits: list[tuple[int, int, bytes]]) -> None:
        def change(said: bytes) -> bytes:
            for where, gone, come in edits:
                said = said[:where] + come + said[where + gone :]
            return said

        with play(recording, authority, change, patience=0.1) as target, steady_random():
            verdict = ask(target, 1)
        assert verdict.ready or verdict.cause in CAUSES
        assert verdict.seen.isprintable()

    mutated()
