"""SCRAM: the examples of the RFCs, and what a server may send instead. Real servers are in `services`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import digests
from service_precheck.codecs import scram
from service_precheck.codecs.scram import MECHANISMS, Scram
from service_precheck.errors import NotReady

# RFC 5802 section 5 and RFC 7677 section 3.
EXAMPLES = {
    "SCRAM-SHA-1": (
        b"fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "SCRAM-SHA-256": (
        b"rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        (
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        ),
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


def login(mechanism: str, nonce: bytes) -> Scram:
    made = Scram(mechanism, "user", "pencil", "db:1")
    made._nonce = nonce
    made._bare = b"n=user,r=" + nonce
    return made


@pytest.mark.parametrize("mechanism", EXAMPLES)
def test_examples(mechanism: str) -> None:
    """The exchange of the RFC comes out byte for byte."""
    nonce, server_first, final, server_final = EXAMPLES[mechanism]
    made = login(mechanism, nonce)
    assert made.first() == b"n,,n=user,r=" + nonce
    assert made.final(server_first) == final
    made.verify(server_final)


def test_a_false_server() -> None:
    """A server that does not know the password is not believed; one that refuses is quoted."""
    nonce, server_first, _, _ = EXAMPLES["SCRAM-SHA-256"]
    made = login("SCRAM-SHA-256", nonce)
    made.final(server_first)
    with pytest.raises(NotReady) as caught:
        made.verify(b"v=AAAA")
    assert caught.value.verdict.cause == "protocol"
    with pytest.raises(NotReady) as caught:
        made.verify(b"e=invalid-proof")
    assert caught.value.verdict.cause == "auth-refused"
    assert "invalid-proof" in caught.value.verdict.seen


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"r=other,s=QSXCR+Q6sek8bf92,i=4096",
        b"r={nonce},s=QSXCR+Q6sek8bf92,i=4096",
        b"r={nonce}x,s=,i=4096",
        b"r={nonce}x,s=QSX,i=4096",
        b"r={nonce}x,s=QSXCR+Q6sek8bf92,i=0",
        b"r={nonce}x,s=QSXCR+Q6sek8bf92,i=-5",
    ],
)
def test_hostile_answers(answer: bytes) -> None:
    """What no server may send is `protocol`, and costs no time."""
    made = login("SCRAM-SHA-256", b"abc")
    with pytest.raises(NotReady) as caught:
        made.final(answer.replace(b"{nonce}", b"abc"))
    assert caught.value.verdict.cause == "protocol"


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    ("least", "rounds", "cause"),
    [
        (4096, 4095, "protocol"),
        (4096, 4096, None),
        (4096, 100_000, None),
        (4096, 100_001, "unsupported"),
        (4096, 10**4000, "unsupported"),
        (1, 0, "protocol"),
        (1, 1, None),
        (1, 100_001, "unsupported"),
    ],
)
def test_counts_of_rounds(
    mechanism: str, least: int, rounds: int, cause: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither so few rounds that the proof gives the password away, nor so many that they hold a signal."""
    monkeypatch.setattr(scram, "_salted", {})
    monkeypatch.setattr(digests, "pbkdf2", lambda *_: bytes(32))
    made = Scram(mechanism, "user", "pencil", "db:1", least=least)
    answer = b"r=%b-and-more,s=c2FsdA==,i=%d" % (made._nonce, rounds)
    if cause is None:
        assert made.final(answer)
        return
    with pytest.raises(NotReady) as caught:
        made.final(answer)
    assert caught.value.verdict.cause == cause
    said = f"below {least}" if cause == "protocol" else "at most 100000 are made here"
    assert said in caught.value.verdict.seen
    assert ("store the password anew" in caught.value.verdict.hint) == (cause == "unsupported")


@given(answer=st.binary(max_size=200), mechanism=st.sampled_from(MECHANISMS))
def test_any_answer(answer: bytes, mechanism: str) -> None:
    """Whatever comes is answered or is a cause, and never a traceback."""
    made = Scram(mechanism, "user", "pencil", "db:1")
    for step in (made.final, made.verify):
        with pytest.raises(NotReady):
            step(answer)


def test_awkward_names() -> None:
    """A comma and an equals sign in a name are escaped (RFC 5802 section 5.1)."""
    assert Scram("SCRAM-SHA-1", "a,b=c", "x", "db:1").first().startswith(b"n,,n=a=2Cb=3Dc,r=")


def test_the_rounds_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next login with the same password and salt needs no rounds; what is kept is bounded."""
    computed = []

    def count(*what: object) -> bytes:
        computed.append(what)
        return bytes(32)

    monkeypatch.setattr(scram, "_salted", {})
    monkeypatch.setattr(digests, "pbkdf2", count)
    for number in (1, 1, 2, 1, *range(200)):
        made = login("SCRAM-SHA-256", b"nonce")
        made.final(b"r=nonce-and-more,s=c2FsdA==,i=%d" % (4096 + number))
    assert len(computed) == len(set(computed)) == 200
    assert len(scram._salted) <= scram._MOST_SALTED
