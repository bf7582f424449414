"""`grpc:` and `grpcs:` against a server of grpcio, in a process of its own; grpcio's client is the oracle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.bed.fixtures import Enter
from tests.bed.opening import opened
from tests.bed.process import Gate
from tests.bed.services.grpc_server import GrpcServer
from tests.bed.tls import Authority
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("grpc"), pytest.mark.timeout(120)]

StartGate = Callable[..., Gate]


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    """A server that serves."""
    with GrpcServer() as started:
        yield started


@pytest.fixture(scope="module")
def guarded() -> Iterator[GrpcServer]:
    """A server that wants a token."""
    with GrpcServer(token="sesame-open") as started:
        yield started


@pytest.mark.parametrize("scheme", ["grpc", "grpcs"])
def test_versions(scheme: str, tested: Tested) -> None:
    """The documentation lists the version that is tested here."""
    tested(scheme, f"grpcio {grpc.__version__}")


def test_ready(server: GrpcServer, ask: Ask) -> None:
    """SERVING for the server as a whole is ready."""
    assert server.health() == "SERVING"
    verdict = ask(f"grpc://{server.address}/")
    assert verdict.ready
    assert verdict.seen == f"{server.address} says SERVING for the server as a whole"


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("SERVING", None),
        ("NOT_SERVING", "not-ready"),
        ("UNKNOWN", "not-ready"),
        ("SERVICE_UNKNOWN", "missing-object"),
    ],
)
def test_states(server: GrpcServer, state: str, cause: str | None, ask: Ask) -> None:
    """Each state of a service is told as grpcio's client is told it."""
    server.set("shop.Cart", state)
    assert server.health("shop.Cart") == state
    verdict = ask(f"grpc://{server.address}#service=shop.Cart")
    assert verdict.cause == cause
    assert verdict.seen == f"{server.address} says {state} for service shop.Cart"


def test_unknown_service(server: GrpcServer, ask: Ask) -> None:
    """A service that the health service was never told of is missing, and may still come."""
    assert server.health("shop.Nothing") == "NOT_FOUND"
    verdict = ask(f"grpc://{server.address}#service=shop.Nothing")
    assert verdict.cause == "missing-object"
    assert "knows nothing of service shop.Nothing" in verdict.seen


def test_no_health_service(ask: Ask) -> None:
    """A server without the health service is told as such, and what to ask instead."""
    with GrpcServer(health=False) as bare:
        assert bare.health() == "UNIMPLEMENTED"
        verdict = ask(f"grpc://{bare.address}")
    assert verdict.cause == "unsupported"
    assert "no health service" in verdict.seen
    assert "tcp://" in verdict.hint


@pytest.mark.parametrize(
    ("token", "cause"),
    [
        ("", "auth-required"),
        ("wrong-token", "auth-refused"),
        ("guest", "forbidden"),
        ("sesame-open", None),
    ],
)
def test_logins(
    guarded: GrpcServer, token: str, cause: str | None, ask: Ask, tmp_path: Path
) -> None:
    """A token as metadata, by a file of metadata and by a file of its own; the server's words are kept,
    and the token that it repeats is not."""
    words = f"Bearer {token}"
    answer = guarded.health(metadata=(("authorization", words),) if token else ())
    assert (answer == "SERVING") is (cause is None)
    (tmp_path / "token").write_text(f"{token}\n")
    (tmp_path / "metadata").write_text(f"{words}\n")
    ways = [
        f"#metadata=authorization: {words}",
        f"#metadata-file=authorization={tmp_path / 'metadata'}",
        f"#token-file={tmp_path / 'token'}",
    ]
    for way in ways if token else [""]:
        verdict = ask(f"grpc://{guarded.address}{way}")
        assert verdict.cause == cause, verdict
        assert token != "wrong-token" or token not in verdict.seen
        assert cause is None or answer in verdict.seen


def test_secret_that_is_missing(server: GrpcServer, ask: Ask, tmp_path: Path) -> None:
    """A file that is not there yet, or holds what cannot be sent, is an obstacle here."""
    missing = ask(f"grpc://{server.address}#metadata-file=x-key={tmp_path / 'none'}")
    assert missing.cause == "local"
    (tmp_path / "odd").write_text("two\nlines")
    odd = ask(f"grpc://{server.address}#metadata-file=x-key={tmp_path / 'odd'}")
    assert odd.cause == "local"
    assert "two" not in odd.seen


def test_tls(ask: Ask, authority: Authority) -> None:
    """In TLS a certificate is verified as everywhere, and a plain question is told to be one."""
    with GrpcServer(certificate=authority.issue()) as server:
        assert server.health(authority=authority.file) == "SERVING"
        good = f"grpcs://{server.address}#ca={authority.file}"
        assert ask(good).ready
        assert ask(f"grpcs://{server.address}#insecure").ready
        for bad, cause in (
            (f"grpcs://{server.address}", "tls-untrusted"),
            (f"{good}#server-name=other.example", "tls-name"),
            (f"{good}#min-days=1000", "tls-expired"),
        ):
            verdict = ask(bad, 2)
            assert verdict.cause == cause, verdict
        verdict = ask(f"grpc://{server.address}", 2)
        assert verdict.cause == "closed-early"
        assert "grpcs://" in verdict.hint


def test_client_certificates(ask: Ask, enter: Enter, authority: Authority) -> None:
    """A server that wants a client's certificate hangs up without one; the hint names the way."""
    with GrpcServer(certificate=authority.issue(), demand=authority) as server:
        ours, theirs = authority.client(), enter(Authority()).client()
        target = f"grpcs://{server.address}#ca={authority.file}"
        assert ask(f"{target}#cert={ours.chain}#key={ours.key}").ready
        without = ask(target, 2)
        assert without.cause in ("closed-early", "tls-client-cert"), without
        assert "#cert=" in without.hint
        other = ask(f"{target}#cert={theirs.chain}#key={theirs.key}", 2)
        assert other.cause in ("closed-early", "tls-client-cert"), other


def test_tls_to_a_plain_port(server: GrpcServer, ask: Ask) -> None:
    """fault 15: asked in TLS, a plain server is named as plain."""
    verdict = ask(f"grpcs://{server.address}#insecure", 2)
    assert verdict.cause == "tls-plaintext"
    assert verdict.hint == "grpc:// asks without TLS"


def test_hangs(server: GrpcServer, ask: Ask) -> None:
    """fault 3: a server that is stopped accepts and says nothing: `no-reply`."""
    server.pause()
    try:
        verdict = ask(f"grpc://{server.address}", 0.4)
    finally:
        server.resume()
    assert verdict.cause == "no-reply"
    assert ask(f"grpc://{server.address}").ready


def test_no_harm(server: GrpcServer, ask: Ask) -> None:
    """Three hundred probes, also such as are refused, leave no line in the server's log."""
    before = server.log
    for service in ("", "#service=shop.Nothing", "#service=shop.Cart"):
        for _ in range(100):
            ask(f"grpc://{server.address}{service}")
    assert server.health() == "SERVING"
    assert server.log == before


def test_changes_under_the_gate(server: GrpcServer, gate: StartGate) -> None:
    """A running gate tells what holds it up as that changes, and opens once the service serves."""
    server.set("shop.Late", "NOT_SERVING")
    running = gate(f"grpc://{server.address}#service=shop.Late")
    running.wait_output("says NOT_SERVING for service shop.Late")
    server.set("shop.Late", "SERVICE_UNKNOWN")
    running.wait_output("says SERVICE_UNKNOWN")
    assert running.running()
    server.set("shop.Late", "SERVING")
    began = time.monotonic()
    assert running.wait().status == 0
    print(f"{(time.monotonic() - began) * 1000:.0f} ms after the change")
    assert server.health("shop.Late") == "SERVING"


def test_starts_under_the_gate(enter: Enter, gate: StartGate) -> None:
    """A gate opens once the server serves, and again when it was started anew."""
    late = GrpcServer()
    running = gate(f"grpc://{late.address}")
    running.wait_output("refused")
    enter(late)
    opened(running, lambda: late.health() == "SERVING")
    late.stop()
    running = gate(f"grpc://{late.address}")
    running.wait_output("refused")
    late.start()
    opened(running, lambda: late.health() == "SERVING")
