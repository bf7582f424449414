"""Each certificate has the flaw that it is named for, as Python's own client sees it."""

from __future__ import annotations

import socket
import ssl

import pytest

from tests.bed.sockets import Server, say
from tests.bed.tls import TLS, Authority, Certificate, handshake


def refusal(authority: Authority, certificate: Certificate) -> str:
    """Return why a client that trusts ca refuses a server with that certificate."""
    tls = TLS(certificate)
    with Server(tls=tls) as server, pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(server.host, server.port, authority)
    assert len(tls.failures) == 1
    return caught.value.verify_message


def test_good_certificate_is_accepted_with_and_without_a_chain(authority: Authority) -> None:
    """A good certificate verifies, also below an intermediate authority."""
    for certificate in (authority.issue(), authority.issue(chain=True), authority.issue(days=3)):
        tls = TLS(certificate, alpn=("h2", "http/1.1"))
        with (
            Server(say(b"hi"), tls=tls) as server,
            handshake(server.host, server.port, authority, alpn=("http/1.1",)) as client,
        ):
            assert client.recv(2) == b"hi"
            assert client.selected_alpn_protocol() == "http/1.1"
        assert tls.names == ["localhost"]


def test_expired_and_not_yet_valid(authority: Authority) -> None:
    """Both ends of a validity are refused, and told apart (fault 11)."""
    assert "expired" in refusal(authority, authority.issue(days=-1))
    assert "not yet valid" in refusal(authority, authority.issue(starts=1))


def test_wrong_name(authority: Authority) -> None:
    """A certificate for another name is refused (fault 12)."""
    assert "mismatch" in refusal(authority, authority.issue("other.example"))


def test_unknown_authority(authority: Authority) -> None:
    """A certificate of an authority that the client does not know is refused (fault 13)."""
    with Authority() as stranger:
        assert "unable to get local issuer" in refusal(authority, stranger.issue())


def test_client_certificate_is_demanded(authority: Authority) -> None:
    """Without a certificate the server drops the client, with one it talks (fault 14)."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = TLS(authority.issue(), demand=authority, maximum=version)
        with Server(say(b"hi"), tls=tls) as server:
            with (
                pytest.raises(ssl.SSLError),
                handshake(server.host, server.port, authority) as client,
            ):
                client.recv(2)
            with handshake(
                server.host, server.port, authority, certificate=authority.client()
            ) as client:
                assert client.recv(2) == b"hi"


def test_certificate_can_be_swapped(authority: Authority) -> None:
    """A server shows its new certificate from the next handshake on."""
    tls = TLS(authority.issue(days=-1))
    with Server(say(b"hi"), tls=tls) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(server.host, server.port, authority)
        tls.certificate = authority.issue()
        handshake(server.host, server.port, authority).close()


def test_hashed_directory_verifies(authority: Authority) -> None:
    """The hashed directory of roots is one that OpenSSL finds the root in."""
    context = ssl.create_default_context(capath=str(authority.directory))
    with (
        Server(say(b"hi"), tls=TLS(authority.issue())) as server,
        socket.create_connection((server.host, server.port), timeout=30) as channel,
        context.wrap_socket(channel, server_hostname="localhost") as client,
    ):
        assert client.recv(2) == b"hi"


def test_server_stops_while_a_client_holds_the_handshake(authority: Authority) -> None:
    """A client that never says hello does not keep the server from stopping."""
    with Server(tls=TLS(authority.issue())) as server:
        client = socket.create_connection((server.host, server.port), timeout=30)
        server.wait_connections(1)
    client.close()
    assert server.connections[0].ended.is_set()
