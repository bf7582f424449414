"""Each way to log in to MySQL and MariaDB, with TLS and without, beside what PyMySQL makes of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from service_precheck.codecs.mysql import tls as mysql_tls
from tests.bed.services.mariadb import MariaDB
from tests.bed.services.mysql import MySQL
from tests.bed.tls import Authority, Certificate
from tests.probes.conftest import Ask

pytestmark = [pytest.mark.xdist_group("mysql"), pytest.mark.timeout(120)]

PASSWORD = "geheim-17 häßlich und lang"
IN_URL = "geheim-17%20h%C3%A4%C3%9Flich%20und%20lang"
ACCOUNTS = (
    f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'",
    f"CREATE USER secure@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL",
    f"CREATE USER shown@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE X509",
)


class AnyoneIsIn:
    """PAM lets everybody in who gives some password."""

    rank = 16
    numbers_anew = False

    def __init__(self, folder: Path) -> None:
        self._file = folder / "pam"
        self._file.write_text("auth required pam_permit.so\naccount required pam_permit.so\n")

    @property
    def prefix(self) -> list[str]:
        """The words before a server's own."""
        mount = f'mount --bind {shlex.quote(str(self._file))} /etc/pam.d/other && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", mount, "sh"]


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    """A certificate for the server, in files that a server without rights can read."""
    made = authority.issue()
    authority.folder.chmod(0o755)
    made.key.chmod(0o644)
    return made


@pytest.fixture(scope="module")
def maria(
    authority: Authority, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MariaDB]:
    """MariaDB with TLS and accounts that log in in many ways."""
    if os.geteuid() != 0:
        pytest.skip("needs root (a PAM of the server's own)")
    options = [
        f"--ssl-ca={authority.file}",
        f"--ssl-cert={certificate.chain}",
        f"--ssl-key={certificate.key}",
        "--plugin-load-add=auth_pam_v1",
        "--plugin-load-add=auth_ed25519",
        "--pam-use-cleartext-plugin",
        "--secure-auth=OFF",
    ]
    permit = AnyoneIsIn(tmp_path_factory.mktemp("pam"))
    with MariaDB(*options, inside=(permit,)) as server:
        server.sql(
            *ACCOUNTS,
            "CREATE USER pam@'%' IDENTIFIED VIA pam",
            "CREATE USER old@'%' IDENTIFIED VIA mysql_old_password USING '5d2e19393cc5ef67'",
            f"CREATE USER two@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}') "
            f"OR mysql_native_password USING PASSWORD('{PASSWORD}')",
            "ALTER USER root@localhost IDENTIFIED VIA unix_socket",
        )
        yield server


@pytest.fixture
def mysql(_mysql: MySQL) -> MySQL:
    """MySQL, which has forgotten who logged in before."""
    _mysql.sql("FLUSH PRIVILEGES")
    return _mysql


@pytest.fixture(scope="module")
def _mysql() -> Iterator[MySQL]:
    with MySQL() as server:
        server.sql(
            *ACCOUNTS,
            f"CREATE USER sha@'%' IDENTIFIED WITH sha256_password BY '{PASSWORD}'",
            f"CREATE USER lengthy@'%' IDENTIFIED BY '{'x' * 250}'",
            "CREATE USER nothing@'%' IDENTIFIED WITH sha256_password",
        )
        yield server


def works(server: MariaDB, user: str = "app", **how: Any) -> bool:  # noqa: ANN401 the driver's own
    """Whether PyMySQL logs in."""
    login = {"host": server.host, "port": server.port, "user": user}
    # As text the driver would send it in Latin-1.
    login["password"] = PASSWORD.encode()
    try:
        server.connect(**(login | how)).close()
    except pymysql.MySQLError:
        return False
    return True


def test_native_password(ask: Ask, maria: MariaDB) -> None:
    """`mysql_native_password`, with TLS and without."""
    for tls in ("off", "prefer"):
        assert ask(f"mysql://app:{IN_URL}@{maria.place}#tls={tls}").ready
        assert ask(f"mysql://app:{IN_URL}x@{maria.place}#tls={tls}").cause == "auth-refused"
    assert works(maria)


@pytest.mark.parametrize("user", ["app", "sha"])
def test_by_the_key_of_the_server(ask: Ask, mysql: MySQL, user: str) -> None:
    """`caching_sha2_password` and `sha256_password` without TLS: encrypted with the server's RSA key."""
    target = f"mysql://{user}:{IN_URL}@{mysql.place}#tls=off"
    assert ask(target.replace("lang", "kurz")).cause == "auth-refused"
    assert ask(target).ready
    assert works(mysql, user)


@pytest.mark.parametrize("user", ["app", "sha"])
def test_as_it_is_in_tls(ask: Ask, mysql: MySQL, user: str) -> None:
    """The same two in TLS: the password as it is, to a server that holds no trusted certificate."""
    target = f"mysql://{user}:{IN_URL}@{mysql.place}"
    assert ask(target.replace("lang", "kurz")).cause == "auth-refused"
    assert ask(target).ready
    assert works(mysql, user, ssl_disabled=False)


def test_as_it_is_in_a_unix_socket(ask: Ask, mysql: MySQL) -> None:
    """The same by a Unix socket, which nobody listens to."""
    assert ask(f"mysql://app:{IN_URL}@local#unix-socket={mysql.socket}").ready


def test_what_the_server_remembers(ask: Ask, mysql: MySQL) -> None:
    """`caching_sha2_password`, once the server knows the account: without its key, and without TLS."""
    asked = "SELECT variable_value FROM performance_schema.global_status WHERE variable_name = "
    asked += "'Caching_sha2_password_rsa_public_key'"
    assert mysql.sql(asked)[0][0].startswith("-----BEGIN PUBLIC KEY-----")
    sent = mysql.status("Bytes_sent")["Bytes_sent"]
    assert ask(f"mysql://app:{IN_URL}@{mysql.place}#tls=off").ready
    first = int(mysql.status("Bytes_sent")["Bytes_sent"]) - int(sent)
    sent = mysql.status("Bytes_sent")["Bytes_sent"]
    assert ask(f"mysql://app:{IN_URL}@{mysql.place}#tls=off").ready
    assert int(mysql.status("Bytes_sent")["Bytes_sent"]) - int(sent) < first - 400


def test_a_password_longer_than_the_key(ask: Ask, mysql: MySQL) -> None:
    """A password that the server's key is too short for goes through TLS alone."""
    target = f"mysql://lengthy:{'x' * 250}@{mysql.place}"
    verdict = ask(f"{target}#tls=off")
    assert verdict.cause == "unsupported"
    assert "too long for its key: 213 bytes fit" in verdict.seen
    assert ask(target).ready


def test_empty_passwords(ask: Ask, mysql: MySQL) -> None:
    """An account of `sha256_password` without a password lets in without one."""
    for tls in ("off", "prefer"):
        assert ask(f"mysql://nothing@{mysql.place}#tls={tls}").ready
        assert ask(f"mysql://sha@{mysql.place}#tls={tls}").cause == "auth-refused"


def test_no_verdict_is_no_trust(
    ask: Ask, maria: MariaDB, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that OpenSSL was never brought to verify is not trusted."""
    record = mysql_tls._record
    # Of what the server would say, the certificate is left out.
    monkeypatch.setattr(
        mysql_tls, "_record", lambda kind, said: record(kind, said) if kind == 2 else b""
    )
    target = f"mysql://app:{IN_URL}@{maria.place}"
    verdict = ask(f"{target}#ca={authority.file}")
    assert verdict.cause == "tls-untrusted"
    assert verdict.seen == f"the certificate of {maria.place} was not verified"
    assert ask(f"{target}#insecure").ready


def test_any_certificate_is_no_proof(ask: Ask, maria: MariaDB) -> None:
    """`mysql_clear_password` is not answered where `insecure` takes whatever certificate comes."""
    verdict = ask(f"mysql://pam:{IN_URL}@{maria.place}#insecure")
    assert verdict.cause == "unsupported"
    assert "the password in clear text" in verdict.seen


def test_clear_text(ask: Ask, maria: MariaDB, authority: Authority) -> None:
    """`mysql_clear_password`: to a server that is trusted, and to nobody else."""
    target = f"mysql://pam:{IN_URL}@{maria.place}"
    for tls in ("off", "prefer"):
        verdict = ask(f"{target}#tls={tls}")
        assert verdict.cause == "unsupported"
        assert "asks for mysql_clear_password, the password in clear text" in verdict.seen
        assert "#tls=require" in verdict.hint
    assert ask(f"{target}#ca={authority.file}").ready


def test_two_methods(ask: Ask, maria: MariaDB) -> None:
    """An account with a method that we do not speak and one that we do is logged in to by that one."""
    assert ask(f"mysql://two:{IN_URL}@{maria.place}").ready
    verdict = ask(f"mysql://two:{IN_URL}x@{maria.place}")
    assert verdict.cause == "auth-refused"
    assert "1045" in verdict.seen


def test_old_password(ask: Ask, maria: MariaDB) -> None:
    """What passwords were before MySQL 4.1 is not spoken."""
    verdict = ask(f"mysql://old:x@{maria.place}")
    assert verdict.cause == "unsupported", verdict
    assert "mysql_old_password" in verdict.seen
    assert "set it anew" in verdict.hint


def test_unix_user(ask: Ask, maria: MariaDB) -> None:
    """An account that is who one is on the machine takes no password, and by TCP nobody."""
    assert ask(f"mysql://root@localhost#unix-socket={maria.socket}").ready
    verdict = ask(f"mysql://root@{maria.place}")
    assert verdict.cause == "auth-refused"
    assert "1698" in verdict.seen
    assert "Unix user" in verdict.hint


@pytest.mark.parametrize("product", ["maria", "mysql"])
def test_accounts_that_require_tls(ask: Ask, request: pytest.FixtureRequest, product: str) -> None:
    """An account that requires TLS is let in with it, and refused without."""
    server: MariaDB = request.getfixturevalue(product)
    target = f"mysql://secure:{IN_URL}@{server.place}"
    assert ask(target).ready
    assert works(server, "secure", ssl_disabled=False)
    verdict = ask(f"{target}#tls=off")
    assert verdict.cause == "auth-refused"
    assert "the account may ask for TLS" in verdict.hint
    assert not works(server, "secure")


def test_a_client_certificate(ask: Ask, maria: MariaDB, authority: Authority) -> None:
    """An account that requires a client's certificate is let in with one."""
    mine = authority.client()
    target = f"mysql://shown:{IN_URL}@{maria.place}#ca={authority.file}"
    assert ask(target).cause == "auth-refused"
    assert ask(f"{target}#cert={mine.chain}#key={mine.key}").ready
    assert ask(f"{target}#cert={mine.chain}").cause == "local"


@pytest.mark.parametrize("product", ["maria", "mysql"])
def test_a_server_that_requires_tls(ask: Ask, request: pytest.FixtureRequest, product: str) -> None:
    """A server that serves nobody without TLS says so, and without a user it is enough that it does."""
    server: MariaDB = request.getfixturevalue(product)
    server.sql("SET GLOBAL require_secure_transport = ON")
    try:
        assert ask(f"mysql://app:{IN_URL}@{server.place}").ready
        verdict = ask(f"mysql://app:{IN_URL}@{server.place}#tls=off")
        # MariaDB does not tell it from a wrong password.
        code, cause = ("1045", "auth-refused") if product == "maria" else ("3159", "forbidden")
        assert verdict.cause == cause, verdict
        assert code in verdict.seen
        assert "TLS" in verdict.hint
        assert not works(server)
        assert ask(f"mysql://{server.place}").ready
    finally:
        server.sql("SET GLOBAL require_secure_transport = OFF")


def test_trust(ask: Ask, maria: MariaDB, authority: Authority) -> None:
    """With TLS required the certificate must be trusted, for this name, and for long enough."""
    login = f"mysql://app:{IN_URL}@"
    ca = f"#ca={authority.file}"
    assert ask(f"{login}{maria.place}{ca}").ready
    assert ask(f"{login}localhost:{maria.port}{ca}#min-days=10").ready
    causes = {
        "#tls=require": "tls-untrusted",
        f"{ca}#server-name=other.example": "tls-name",
        f"{ca}#min-days=9999": "tls-expired",
        "#ca=/none.pem": "local",
    }
    for options, cause in causes.items():
        for user in (login, "mysql://"):
            assert ask(f"{user}{maria.place}{options}").cause == cause
    assert ask(f"{login}{maria.place}#insecure").ready
    public = "/etc/ssl/certs/ca-certificates.crt"
    assert not works(maria, ssl_disabled=False, ssl_ca=public, ssl_verify_cert=True)
    assert works(maria, ssl_disabled=False, ssl_ca=str(authority.file), ssl_verify_identity=True)


def test_a_certificate_of_its_own(ask: Ask, mysql: MySQL) -> None:
    """MySQL's own certificate is trusted by its authority and under the name that is in it."""
    ca = f"#ca={mysql.folder}/data/ca.pem"
    target = f"mysql://app:{IN_URL}@{mysql.place}"
    assert ask(f"{target}#tls=require").cause == "tls-untrusted"
    assert ask(f"{target}{ca}").cause == "tls-name"
    name = "MySQL_Server_9.7.4_Auto_Generated_Server_Certificate"
    assert ask(f"{target}{ca}#server-name={name}").ready


@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        ("DISABLED", "auth-refused"),
        ("PREFERRED", None),
        ("REQUIRED", None),
        ("VERIFY_CA", "tls-untrusted"),
        ("verify_identity", "tls-untrusted"),
    ],
)
def test_ssl_mode(ask: Ask, maria: MariaDB, mode: str, cause: str | None) -> None:
    """What an application's own URI says of TLS is understood, and the rest of its query ignored."""
    query = f"?charset=utf8mb4&ssl-mode={mode}"
    assert ask(f"mysql://secure:{IN_URL}@{maria.place}{query}").cause == cause
    assert ask(f"mysql://secure:{IN_URL}@{maria.place}{query}#tls=prefer").ready


def test_no_tls_to_be_had(ask: Ask, maria: MariaDB) -> None:
    """A server without TLS is no server for those who require it, and its address stays unblocked."""
    with MariaDB() as bare:
        bare.sql(*ACCOUNTS[:1])
        for target in (f"app:{IN_URL}@{bare.place}", bare.place):
            verdict = ask(f"mysql://{target}#tls=require")
            assert verdict.cause == "tls-plaintext"
            assert verdict.seen == f"{bare.place} offers no TLS"
            assert verdict.again is not None
            assert ask(f"mysql://{target}?ssl-mode=REQUIRED").cause == "tls-plaintext"
            assert ask(f"mysql://{target}").ready
