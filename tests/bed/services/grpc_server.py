"""A gRPC server (grpcio) with the health service, in a process of its own, that is told what to say.

    with GrpcServer() as server:
        server.set("shop.Cart", "NOT_SERVING")
        server.health("shop.Cart")              # what grpcio's own client is told: the oracle

`GrpcServer(health=False)` has no health service; `certificate=` and `demand=` make it speak TLS, the
latter asking for a client's certificate of that authority; with `token=` it wants
`authorization: Bearer TOKEN`, and lets nobody in as `authorization: Bearer guest`.
"""

from __future__ import annotations

import sys
from concurrent import futures
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bed.tls import Authority, Certificate

SET = "/bed.Control/Set"
Metadata = tuple[tuple[str, str], ...]


class GrpcServer(Daemon):
    """The server; `address` is where it listens."""

    def __init__(
        self,
        *,
        health: bool = True,
        certificate: Certificate | None = None,
        demand: Authority | None = None,
        token: str = "",
    ) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._certificate = certificate
        self._demand = demand
        words = [self.address, "health" if health else "none", token]
        if certificate is not None:
            words += [str(certificate.chain), str(certificate.key)]
        if demand is not None:
            words += [str(demand.file)]
        super().__init__(sys.executable, "-m", "tests.bed.services.grpc_server", *words)

    def __enter__(self) -> Self:
        super().__enter__()
        self.wait_until(lambda: "serving" in self.log)
        return self

    def set(self, service: str, status: str) -> None:
        """Have the health service say so; it says it at once."""
        self._call(SET, f"{service}={status}".encode(), ())

    def health(
        self, service: str = "", metadata: Metadata = (), authority: Path | None = None
    ) -> str:
        """What grpcio's client is told of a service: the name of its state, or of the status."""
        question = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        try:
            answer = self._call("/grpc.health.v1.Health/Check", question, metadata, authority)
        except grpc.RpcError as error:
            status: grpc.StatusCode = error.code()
            return str(status.name)
        state = health_pb2.HealthCheckResponse.FromString(answer).status
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(state))

    def _call(
        self, path: str, message: bytes, metadata: Metadata, authority: Path | None = None
    ) -> bytes:
        return call(self.address, path, message, metadata=metadata, authority=authority)


def call(
    address: str,
    path: str,
    message: bytes,
    *,
    metadata: Metadata = (),
    authority: Path | None = None,
    certificate: Certificate | None = None,
    timeout: float = 5.0,
) -> bytes:
    """One unary call by grpcio's own client: the oracle. Raises grpc.RpcError."""
    if authority is None:
        channel = grpc.insecure_channel(address)
    else:
        credentials = grpc.ssl_channel_credentials(
            authority.read_bytes(),
            None if certificate is None else certificate.key.read_bytes(),
            None if certificate is None else certificate.chain.read_bytes(),
        )
        channel = grpc.secure_channel(address, credentials)
    with channel:
        answer: bytes = channel.unary_unary(path)(message, timeout=timeout, metadata=metadata)
        return answer


class _Doorkeeper(grpc.ServerInterceptor):  # type: ignore[misc]
    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_service(self, go_on: Any, details: Any) -> Any:  # noqa: ANN401 grpcio has no types
        given = dict(details.invocation_metadata).get("authorization", "")
        if details.method == SET or given == f"Bearer {self._token}":
            return go_on(details)
        guest = given == "Bearer guest"
        code = grpc.StatusCode.PERMISSION_DENIED if guest else grpc.StatusCode.UNAUTHENTICATED
        words = "guests may not look" if guest else f"who are you? '{given}' is nobody"
        return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(code, words))


def _serve(address: str, kind: str, token: str, *files: str) -> None:
    keepers = [_Doorkeeper(token)] if token else []
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=keepers)
    servicer = health.HealthServicer()
    if kind == "health":
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)

    def control(message: bytes, _: object) -> bytes:
        service, _, status = message.decode().partition("=")
        servicer.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        return b""

    handlers = {"Set": grpc.unary_unary_rpc_method_handler(control)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bed.Control", handlers),)
    )
    if files:
        chain, key, *authority = (open(file, "rb").read() for file in files)
        root = authority[0] if authority else None
        credentials = grpc.ssl_server_credentials([(key, chain)], root, root is not None)
        server.add_secure_port(address, credentials)
    else:
        server.add_insecure_port(address)
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
