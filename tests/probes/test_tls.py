"""`tls:` against servers with every kind of certificate."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from service_precheck import target
from service_precheck.errors import OperatorError
from service_precheck.options import Target
from tests.bed.fixtures import Enter
from tests.bed.sockets import (
    Behaviour,
    Full,
    Server,
    answer,
    close,
    echo,
    hang,
    reset,
    say,
    trickle,
)
from tests.bed.tls import TLS, Authority
from tests.bed.webservers import Nginx
from tests.probes.conftest import Ask

TLS_1_2 = ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("version", [TLS_1_2, ssl.TLSVersion.TLSv1_3])
def test_ready_says_what_was_agreed(
    version: ssl.TLSVersion, enter: Enter, authority: Authority, ask: Ask
) -> None:
    """The version, the name and the days left are told, for both versions that are spoken."""
    secured = TLS(authority.issue(days=30.5), minimum=version, maximum=version)
    server = enter(Server(echo, tls=secured))
    verdict = ask(f"tls://localhost:{server.port}#ca={authority.file}")
    spoken = version.name.replace("_", ".")
    assert verdict.ready
    assert verdict.seen == (
        f"{server.address} speaks {spoken}, its certificate is good for localhost and 30 more days"
    )
    assert secured.names == ["localhost"]


def test_an_address_is_verified_as_one(enter: Enter, authority: Authority, ask: Ask) -> None:
    """An address must stand in the certificate as an address, and is not sent as a name."""
    for host, name in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
        secured = TLS(authority.issue())
        server = enter(Server(echo, host=host, tls=secured))
        assert ask(f"tls://{name}:{server.port}#ca={authority.file}").ready
        assert secured.names == [None]
    named = enter(Server(echo, tls=TLS(authority.issue("localhost"))))
    assert ask(f"tls://127.0.0.1:{named.port}#ca={authority.file}").cause == "tls-name"


def test_fault_11_expired(enter: Enter, authority: Authority, ask: Ask) -> None:
    """A certificate out of its time is never ready, before its time no more than after."""
    for certificate, words in (
        (authority.issue(days=-1), "has expired"),
        (authority.issue(starts=1), "is not valid yet"),
    ):
        server = enter(Server(echo, tls=TLS(certificate)))
        verdict = ask(f"tls://localhost:{server.port}#ca={authority.file}")
        assert verdict.cause == "tls-expired"
        assert verdict.seen == f"the certificate of {server.address} {words}"


def test_fault_12_wrong_name(enter: Enter, authority: Authority, ask: Ask) -> None:
    """A certificate for somebody else is never ready, unless that name is asked for."""
    secured = TLS(authority.issue("other.example"))
    server = enter(Server(echo, tls=secured))
    where = f"tls://localhost:{server.port}#ca={authority.file}"
    verdict = ask(where)
    assert verdict.cause == "tls-name"
    assert verdict.seen == f"the certificate of {server.address} is not for localhost"
    assert "#server-name=" in verdict.hint
    assert ask(f"{where}#server-name=other.example").ready
    assert secured.names[-1] == "other.example"


def test_fault_13_unknown_authority(enter: Enter, authority: Authority, ask: Ask) -> None:
    """A certificate of an authority that nobody trusts is never ready, by the system's roots or `ca`."""
    stranger = enter(Authority())
    server = enter(Server(echo, tls=TLS(stranger.issue())))
    for options in ("", f"#ca={authority.file}"):
        verdict = ask(f"tls://localhost:{server.port}{options}")
        assert verdict.cause == "tls-untrusted"
        assert verdict.seen.startswith(f"the certificate of {server.address} is not trusted: ")
        assert "#ca=" in verdict.hint


def test_system_roots_are_where_the_library_looks(
    enter: Enter, authority: Authority, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE and SSL_CERT_DIR add to what is trusted, as for every program with OpenSSL."""
    server = enter(Server(echo, tls=TLS(authority.issue())))
    where = f"tls://localhost:{server.port}"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert ask(where).ready
    monkeypatch.delenv("SSL_CERT_FILE")
    assert ask(where).cause == "tls-untrusted"
    monkeypatch.setenv("SSL_CERT_DIR", str(authority.directory))
    assert ask(where).ready


def test_ca_takes_a_file_a_folder_and_an_intermediate(
    enter: Enter, authority: Authority, ask: Ask
) -> None:
    """`ca` is a bundle or a hashed folder, and whoever stands in it is trusted, root or not."""
    certificate = authority.issue(chain=True)
    server = enter(Server(echo, tls=TLS(certificate)))
    between = authority.folder / "between.pem"
    blocks = certificate.chain.read_text().split("-----BEGIN CERTIFICATE-----")
    between.write_text(f"-----BEGIN CERTIFICATE-----{blocks[2]}")
    for trusted in (authority.file, authority.directory, between):
        assert ask(f"tls://localhost:{server.port}#ca={trusted}").ready


@pytest.mark.parametrize("version", [TLS_1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("behaviour", [echo, close])
def test_fault_14_client_certificate(
    version: ssl.TLSVersion, behaviour: Behaviour, enter: Enter, authority: Authority, ask: Ask
) -> None:
    """A demand for a certificate is named, also where the refusal comes after the handshake."""
    secured = TLS(authority.issue(), demand=authority, maximum=version)
    server = enter(Server(behaviour, tls=secured))
    where = f"tls://localhost:{server.port}#ca={authority.file}"
    verdict = ask(where)
    assert verdict.cause == "tls-client-cert"
    assert verdict.seen.startswith(f"{server.address} asks for a client's certificate")
    assert verdict.hint.startswith("#cert= and #key= name one")
    mine = authority.client()
    if behaviour is echo:
        assert ask(f"{where}#cert={mine.chain}#key={mine.key}").ready
    wrong = enter(Authority()).client()
    verdict = ask(f"{where}#cert={wrong.chain}#key={wrong.key}")
    assert verdict.cause == "tls-client-cert"
    assert verdict.seen == f"{server.address} refused the client's certificate: unknown ca"


def test_key_and_certificate_may_share_a_file(enter: Enter, authority: Authority, ask: Ask) -> None:
    """`cert` alone is enough when its file holds the key, too."""
    mine = authority.client()
    both = authority.folder / "both.pem"
    both.write_bytes(mine.key.read_bytes() + mine.chain.read_bytes())
    server = enter(Server(echo, tls=TLS(authority.issue(), demand=authority)))
    assert ask(f"tls://localhost:{server.port}#ca={authority.file}#cert={both}").ready


def test_files_that_cannot_be_used_are_ours(
    enter: Enter, authority: Authority, ask: Ask, folder: Path
) -> None:
    """A missing, wrong or encrypted file is `local`, is named, and no passphrase is asked for."""
    mine, other = authority.client(), authority.client()
    locked = folder / "locked.key"
    command = ["openssl", "pkey", "-aes128", "-passout", "pass:x", "-in", str(mine.key)]
    subprocess.run([*command, "-out", str(locked)], check=True)
    server = enter(Server(echo, tls=TLS(authority.issue())))
    for options, words in (
        ("#ca=/nowhere/ca.pem", "/nowhere/ca.pem cannot be read: No such file or directory"),
        (f"#ca={mine.key}", f"{mine.key} cannot be used: no certificate or crl found"),
        (f"#cert={mine.chain}#key=/nowhere", "/nowhere cannot be read: No such file or directory"),
        (f"#cert={mine.chain}", f"{mine.chain} cannot be used: pem lib"),
        (
            f"#cert={mine.chain}#key={other.key}",
            f"{mine.chain} with {other.key} cannot be used: key values mismatch",
        ),
    ):
        verdict = ask(f"tls://localhost:{server.port}{options}")
        assert (verdict.cause, verdict.seen) == ("local", words)
    verdict = ask(f"tls://localhost:{server.port}#cert={mine.chain}#key={locked}")
    assert verdict.cause == "local"
    assert verdict.seen.startswith(f"{mine.chain} with {locked} cannot be used")


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (say(b"SSH-2.0-OpenSSH_9.2\r\n"), "'SSH-2.0-OpenSSH_9.2'"),
        (answer(b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"), "'HTTP/1.1 400 Bad Request'"),
        (say(b"J\x00\x00\x00\n8.0.36\x1b[2J"), r"'J\x00\x00\x00\x0a8.0.36\x1b[2J'"),
    ],
)
def test_fault_15_plaintext(behaviour: Behaviour, said: str, enter: Enter, ask: Ask) -> None:
    """A server that speaks in plain text is named with what it said, made harmless."""
    server = enter(Server(behaviour))
    verdict = ask(f"tls://localhost:{server.port}")
    assert verdict.cause == "tls-plaintext"
    assert verdict.seen == f"{server.address} does not speak TLS, it said {said}"


def test_fault_15_http2(enter: Enter, ask: Ask) -> None:
    """A server of HTTP/2 that begins is named as that: grpcs:// at a port without TLS."""
    settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"
    server = enter(Server(say(settings)))
    for scheme in ("tls", "grpcs"):
        verdict = ask(f"{scheme}://localhost:{server.port}")
        assert verdict.cause == "tls-plaintext"
        assert (
            verdict.seen == f"{server.address} does not speak TLS, it speaks HTTP/2 in plain text"
        )


def test_min_days(enter: Enter, authority: Authority, ask: Ask) -> None:
    """Too few days left is `tls-expired`, on the day itself it is ready."""
    server = enter(Server(echo, tls=TLS(authority.issue(days=10.5))))
    where = f"tls://localhost:{server.port}#ca={authority.file}"
    assert ask(f"{where}#min-days=10").ready
    verdict = ask(f"{where}#min-days=11")
    assert verdict.cause == "tls-expired"
    assert verdict.seen == (
        f"the certificate of {server.address} is good for 10 days, 11 days are asked for"
    )


def test_insecure_trusts_anything_but_the_date_asked_for(
    enter: Enter, authority: Authority, ask: Ask
) -> None:
    """`insecure` takes any certificate and says so; `min-days` still counts."""
    server = enter(Server(echo, tls=TLS(authority.issue("other.example", days=-3))))
    where = f"tls://localhost:{server.port}#insecure"
    verdict = ask(where)
    assert verdict.ready
    assert verdict.seen.endswith("with a certificate that was not checked")
    assert ask(f"{where}#min-days=1").seen == (
        f"the certificate of {server.address} is expired, 1 days are asked for"
    )


def test_alpn(enter: Enter, authority: Authority, ask: Ask) -> None:
    """What is offered must be chosen."""
    server = enter(Server(echo, tls=TLS(authority.issue(), alpn=("h2", "http/1.1"))))
    where = f"tls://localhost:{server.port}#ca={authority.file}"
    assert "TLSv1.3 and h2," in ask(f"{where}#alpn=http/1.1#alpn=h2").seen
    verdict = ask(f"{where}#alpn=mqtt#alpn=imap")
    assert verdict.cause == "protocol"
    assert verdict.seen.endswith("none of the protocols offered (mqtt, imap)")
    silent = enter(Server(echo, tls=TLS(authority.issue())))
    assert ask(f"tls://localhost:{silent.port}#ca={authority.file}#alpn=h2").cause == "protocol"


def test_servers_that_do_not_get_that_far(enter: Enter, ask: Ask) -> None:
    """Refused, silent, closed, reset, hanging and stumbling servers have the causes of any stream."""
    for behaviour, cause in (
        (close, "closed-early"),
        (reset(), "closed-early"),
        (hang, "no-reply"),
        (say(b"\x16\x03\x03", then=close), "closed-early"),
        (trickle(b"\x16\x03\x03\x10\x00\x02" + b"x" * 4000, every=0.01), "no-reply"),
        (say(b"\x16\x03\x03\x00\x05hello"), "protocol"),
        (echo, "protocol"),
    ):
        server = enter(Server(behaviour))
        limit = 0.5 if cause == "no-reply" else 5.0
        assert ask(f"tls://localhost:{server.port}", timeout=limit).cause == cause
    assert ask(f"tls://{enter(Server(opened=False)).address}").cause == "refused"
    assert ask(f"tls://{enter(Full()).address}", timeout=0.3).cause == "connect-timeout"


def test_a_version_we_do_not_speak_is_unsupported(enter: Enter, ask: Ask) -> None:
    """A server that knows no TLS 1.2 says so in an alert, and is told apart from a broken one."""
    alert = b"\x15\x03\x01\x00\x02\x02\x46"
    server = enter(Server(answer(b"", alert, then=close)))
    verdict = ask(f"tls://localhost:{server.port}")
    assert verdict.cause == "unsupported"
    assert verdict.seen == f"{server.address} speaks no TLS of version 1.2 or later"


def test_a_name_that_the_server_does_not_know(enter: Enter, ask: Ask) -> None:
    """An alert that no such name is served is `tls-name`."""
    server = enter(Server(answer(b"", b"\x15\x03\x03\x00\x02\x02\x70", then=close)))
    verdict = ask(f"tls://localhost:{server.port}")
    assert (verdict.cause, verdict.seen) == ("tls-name", f"{server.address} knows no localhost")


def test_a_server_that_speaks_none_of_our_protocols(enter: Enter, ask: Ask) -> None:
    """An alert that no protocol of `alpn` is spoken says which were offered."""
    server = enter(Server(answer(b"", b"\x15\x03\x03\x00\x02\x02\x78", then=close)))
    verdict = ask(f"tls://localhost:{server.port}#alpn=mqtt")
    assert verdict.cause == "protocol"
    assert verdict.seen == f"{server.address} speaks none of the protocols offered (mqtt)"


def test_plain_text_that_begins_like_tls(enter: Enter, ask: Ask) -> None:
    """What has the first byte of a handshake and nothing else of it is plain text, too."""
    server = enter(Server(say(b"\x16hello world\r\n")))
    verdict = ask(f"tls://localhost:{server.port}")
    assert (verdict.cause, verdict.seen) == (
        "tls-plaintext",
        f"{server.address} does not speak TLS",
    )


def test_a_server_that_leaves_after_the_handshake(
    enter: Enter, authority: Authority, ask: Ask
) -> None:
    """A session ticket is proof of a whole handshake, whatever happens then."""
    server = enter(Server(close, tls=TLS(authority.issue())))
    assert ask(f"tls://localhost:{server.port}#ca={authority.file}").ready


def test_real_nginx(enter: Enter, authority: Authority, ask: Ask) -> None:
    """A real server: ready on its TLS port, plain text on its other one."""
    nginx = enter(Nginx("location / { return 200; }", certificate=authority.issue()))
    assert ask(f"tls://localhost:{nginx.https_port}#ca={authority.file}").ready
    assert ask(f"tls://localhost:{nginx.port}").cause == "tls-plaintext"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("#key=/k", "#key= without #cert="),
        ("#ca=/a#insecure", "#ca= with #insecure"),
        ("#server-name=.x", "#server-name="),
        (f"#server-name={'x' * 300}", "#server-name="),
        ("#server-name=%C3%A4", "#server-name="),
        (f"#alpn={'x' * 256}", "255 bytes"),
        ("#min-days=x", "no whole number"),
    ],
)
def test_mistakes_are_found_before_anything_is_asked(options: str, words: str) -> None:
    """What cannot be meant is the operator's to mend."""
    with pytest.raises(OperatorError, match=words):
        target.parse(f"tls://localhost:1{options}")


def test_the_port_is_443_unless_it_is_given() -> None:
    """A target of TLS without a port means the usual one."""
    leaf = target.parse("tls://example.org")
    assert isinstance(leaf, Target)
    assert leaf.port == 443
