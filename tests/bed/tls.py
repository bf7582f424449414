"""Certificates of every kind, and TLS for the scripted servers.

| `Authority()` gives                | a certificate that                                   |
|------------------------------------|------------------------------------------------------|
| `issue(*names)`                    | is good for these names (default: localhost, ::1 ..) |
| `issue(days=3)`                    | expires in three days                                |
| `issue(days=-1)`                   | expired yesterday                                    |
| `issue(starts=1)`                  | is not valid before tomorrow                         |
| `issue("other.example")`           | is for somebody else                                 |
| another `Authority().issue()`      | comes from an unknown authority                      |
| `client(name)`                     | a client shows to `TLS(..., demand=authority)`       |
| `chain=True` with any              | hangs below an intermediate authority                |

`authority.file` is its root as one PEM file, `authority.directory` the same as a hashed directory.
A certificate has `chain` and `key`, the paths of two PEM files.

`TLS(certificate)` goes into any server of `sockets` or `pages`: `Server(echo, tls=TLS(cert))`.
`tls.certificate = other` swaps it at run time, from the next handshake. `alpn`, `demand`, `minimum`
and `maximum` say what it speaks; `tls.failures`, `tls.seen` and `tls.names` what came of each.
A server that hangs in the handshake is `Server(hang)`.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import socket
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import trustme

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.sockets import Connection

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificate:
    """A certificate with what hangs above it, and its key, as PEM files."""

    chain: Path
    key: Path


class Authority:
    """A certificate authority; its files live in a folder that goes with it."""

    def __init__(self) -> None:
        self._root = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._below = self._root.create_child_ca(key_type=trustme.KeyType.ECDSA)
        self._issued = 0

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="bed-tls-"))
        self.file = self.folder / "ca.pem"
        self._root.cert_pem.write_to_path(str(self.file))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.folder)

    @property
    def directory(self) -> Path:
        """A folder with the root under its hashed name, as OpenSSL's `-CApath` wants it."""
        if shutil.which("openssl") is None:
            pytest.skip("needs openssl (Debian package openssl)")
        folder = self.folder / "hashed"
        if not folder.exists():
            command = ["openssl", "x509", "-noout", "-hash", "-in", str(self.file)]
            digest = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            folder.mkdir()
            shutil.copy(self.file, folder / f"{digest.strip()}.0")
        return folder

    def issue(
        self, *names: str, days: float = 90, starts: float = -30, chain: bool = False
    ) -> Certificate:
        """Return a server's certificate, valid from `starts` to `days` (in days from now)."""
        now = datetime.datetime.now(datetime.UTC)
        issuer = self._below if chain else self._root
        issued = issuer.issue_cert(
            *(names or LOCAL_NAMES),
            not_before=now + datetime.timedelta(days=starts),
            not_after=now + datetime.timedelta(days=days),
            key_type=trustme.KeyType.ECDSA,
        )
        return self._write(issued)

    def client(self, name: str = "client@example.org") -> Certificate:
        """Return a certificate for a client to show."""
        return self._write(
            self._root.issue_cert(name, common_name=name, key_type=trustme.KeyType.ECDSA)
        )

    def _write(self, issued: trustme.LeafCert) -> Certificate:
        self._issued += 1
        chain = self.folder / f"{self._issued}.pem"
        key = self.folder / f"{self._issued}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return Certificate(chain, key)


class TLS:
    """The server's side of TLS; see the module's docstring."""

    def __init__(
        self,
        certificate: Certificate,
        *,
        alpn: tuple[str, ...] = (),
        demand: Authority | None = None,
        minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        self.certificate = certificate
        self.alpn = alpn
        self.demand = demand
        self.minimum = minimum
        self.maximum = maximum
        self.failures: list[OSError] = []
        self.seen: list[ssl.SSLSocket] = []
        self.names: list[str | None] = []

    def accept(self, connection: Connection) -> bool:
        """Shake hands on a connection just accepted; false when that failed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self.minimum
        context.maximum_version = self.maximum
        context.load_cert_chain(self.certificate.chain, self.certificate.key)
        if self.alpn:
            context.set_alpn_protocols(list(self.alpn))
        if self.demand is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.demand.file)
        context.sni_callback = lambda _channel, name, _context: self.names.append(name)
        try:
            channel = context.wrap_socket(
                connection.socket, server_side=True, do_handshake_on_connect=False
            )
            connection.socket = channel
            channel.do_handshake()
        except OSError as error:
            self.failures.append(error)
            return False
        self.seen.append(channel)
        return True


def handshake(
    host: str,
    port: int,
    authority: Authority | None = None,
    *,
    name: str = "localhost",
    certificate: Certificate | None = None,
    alpn: tuple[str, ...] = (),
) -> ssl.SSLSocket:
    """Return Python's own verified connection there: the oracle for what a server shows."""
    context = ssl.create_default_context(cafile=None if authority is None else authority.file)
    if certificate is not None:
        context.load_cert_chain(certificate.chain, certificate.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with contextlib.ExitStack() as stack:
        channel = stack.enter_context(socket.create_connection((host, port), timeout=30))
        wrapped = context.wrap_socket(channel, server_hostname=name)
        stack.pop_all()
        return wrapped
