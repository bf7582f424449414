"""gRPC: does a server's health service say that it serves.

gRPC over HTTP/2 and the Health Checking Protocol (grpc/grpc, doc/PROTOCOL-HTTP2.md and
doc/health-checking.md). Sends HTTP/2's preface, one call of `grpc.health.v1.Health/Check`, and a
GOAWAY. Costs the server one connection and that call, which most answer out of memory.
"""

from __future__ import annotations

from .. import stream
from ..access import TLS_OPTIONS, tls_settings, try_tls_files
from ..codecs import grpc, protobuf
from ..codecs.grpc_options import OPTIONS, check, metadata
from ..errors import NotReady, blocked
from ..model import Verdict, printable, ready
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt

_CHECK = "/grpc.health.v1.Health/Check"
# HealthCheckRequest and HealthCheckResponse: the numbers of their fields, and of a response's values.
_SERVICE, _STATUS = 1, 1
_SERVING = 1
_STATES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the health service answers SERVING for `service`."""
    assert target.port is not None
    try_tls_files(target)
    secure = target.scheme.name == "grpcs"
    fields = metadata(target)
    service = target.text("service")
    asked = f"service {printable(service)}" if service else "the server as a whole"
    with stream.connect(target.host, target.port, attempt) as connection:
        try:
            channel = grpc.Channel(
                connection,
                target.host,
                target.port,
                tls_settings(target, "h2") if secure else None,
                authority=target.text("authority"),
                hint=_hint(target),
            )
            question = protobuf.text(_SERVICE, service) if service else b""
            answer = channel.call(_CHECK, question, fields)
        except grpc.Refused as refused:
            raise _refusal(refused, asked, bool(fields)) from refused
        except NotReady as error:
            if error.verdict.cause != "tls-plaintext":
                raise
            raise NotReady(error.verdict.but(hint="grpc:// asks without TLS")) from error
        state = protobuf.Message(answer, channel.peer).number(_STATUS)
        channel.goodbye()
    said = _STATES[state] if state < len(_STATES) else f"status {state}"
    if state != _SERVING:
        cause = "missing-object" if said == "SERVICE_UNKNOWN" else "not-ready"
        raise blocked(cause, f"{channel.peer} says {said} for {asked}")
    return ready(f"{channel.peer} says SERVING for {asked}")


def _hint(target: Target) -> str:
    """What to do where a server hangs up at once, or speaks something else."""
    if target.scheme.name == "grpc":
        return "if it wants TLS: grpcs:// asks in it"
    return "" if target.text("cert") else "if it wants a client's certificate: #cert= and #key="


def _refusal(refused: grpc.Refused, asked: str, logged_in: bool) -> NotReady:
    """What a status other than OK means of a health service."""
    verdict = refused.verdict
    if refused.code == grpc.NOT_FOUND:
        seen = f"{verdict.seen}: its health service knows nothing of {asked}"
        return NotReady(verdict.but(seen=seen))
    if refused.code == grpc.UNIMPLEMENTED and not verdict.hint:
        seen = f"{verdict.seen}: it has no health service (grpc.health.v1)"
        hint = "tcp:// or tls:// shows that it accepts, exec:// can ask it by a client of its own"
        return NotReady(verdict.but(seen=seen, hint=hint))
    if refused.code == grpc.UNAUTHENTICATED:
        if logged_in:
            return NotReady(verdict.but(cause="auth-refused"))
        return NotReady(verdict.but(hint="#token-file= or #metadata-file= logs in"))
    return refused


_CAUSES = (
    *("not-ready", "missing-object", "unsupported", "auth-required", "auth-refused", "forbidden"),
    "overloaded",
)

SCHEMES = (
    Scheme(
        "grpc",
        "host:port",
        probe,
        proves="the health service says that the server, or a service of it, serves",
        not_proves="more than the server knows of itself: many set SERVING once, at the start",
        example="grpc://cart.shop:50051#service=shop.Cart",
        cost="a connection and a call of the health service",
        logins=("metadata", "Bearer token"),
        causes=_CAUSES,
        options=OPTIONS,
        floor=0.05,
        check=check,
    ),
    Scheme(
        "grpcs",
        "host:port",
        probe,
        proves="the health service says over TLS that the server, or a service of it, serves",
        not_proves="more than the server knows of itself: many set SERVING once, at the start",
        example="grpcs://cart.shop:443#service=shop.Cart#ca=/etc/ssl/ours.pem",
        cost="a TLS handshake and a call of the health service",
        logins=("metadata", "Bearer token", "client certificate"),
        causes=_CAUSES,
        options=(*OPTIONS, *TLS_OPTIONS),
        floor=0.1,
        check=check,
    ),
)
