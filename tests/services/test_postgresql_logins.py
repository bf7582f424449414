"""PostgreSQL's logins, TLS and pg_hba.conf: each ends as it does for the driver, `psycopg`."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from service_precheck.access import USER_ALONE
from tests.bed.process import Gate
from tests.bed.services.postgresql import HBA, PostgreSQL, works
from tests.bed.sockets import Server, hang, say
from tests.bed.tls import Authority
from tests.probes.conftest import Ask

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.timeout(120)]

WORD = "kettle-of-fish"
# NFKC makes one letter of the ligature, SASLprep drops the soft hyphen.
ODD_WORD = "of\ufb01ce\u00ad-\u2168"
# Which logins a server takes, by the user's name; whom no line names is turned away.
LINES = (
    "local all postgres trust",
    "local all peer_only peer",
    "local all clear password",
    "host all trusted 127.0.0.1/32 trust",
    "host all old 127.0.0.1/32 md5",
    "host all clear 127.0.0.1/32 password",
    "host all directory 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport=1 ldapprefix=cn=",
    "hostssl all sealed 127.0.0.1/32 scram-sha-256",
    "hostnossl all open 127.0.0.1/32 scram-sha-256",
    "hostssl all bearer 127.0.0.1/32 cert",
    "host all rejected 127.0.0.1/32 reject",
    "host all app,odd,few,slow,service-precheck,nobody,reader 127.0.0.1/32 scram-sha-256",
)


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgreSQL]:
    """A server with TLS and a user for each way to log in."""
    with PostgreSQL(hba=LINES, authority=authority) as made:
        for name in ("trusted", "app", "clear", "sealed", "open", "bearer", "peer_only"):
            made.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{WORD}'")
        made.sql(f"CREATE ROLE odd LOGIN PASSWORD '{ODD_WORD}'")
        made.sql(f"SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD '{WORD}'")
        made.sql(f"CREATE ROLE few LOGIN CONNECTION LIMIT 0 PASSWORD '{WORD}'")
        made.sql("CREATE DATABASE shop")
        yield made


@pytest.fixture(scope="module")
def plain() -> Iterator[PostgreSQL]:
    """A server without TLS."""
    with PostgreSQL(hba=(*LINES[:3], "host all clear 127.0.0.1/32 password", *HBA)) as made:
        made.sql(f"CREATE ROLE app LOGIN PASSWORD '{WORD}'")
        made.sql(f"CREATE ROLE clear LOGIN PASSWORD '{WORD}'")
        yield made


USERS = {
    "trusted": None,
    "app": None,
    "odd": None,
    "old": None,
    "clear": None,
    "sealed": None,
    "open": None,
    "nobody": "auth-refused",
    "rejected": "auth-refused",
    "unheard": "auth-refused",
    "directory": "auth-refused",
    "bearer": "tls-client-cert",
    "few": "overloaded",
}


@pytest.mark.parametrize("name", USERS)
def test_logins(server: PostgreSQL, ask: Ask, name: str, tmp_path: Path) -> None:
    """Every way to log in ends as the driver's does, by default with TLS, where need be without."""
    secret = tmp_path / "password"
    secret.write_text((ODD_WORD if name == "odd" else WORD) + "\n")
    where = f"{name}@{server.address}/postgres"
    verdict = ask(f"postgresql://{where}#password-file={secret}")
    assert verdict.cause == USERS[name]
    word = secret.read_text().strip()
    told = psycopg.conninfo.make_conninfo(f"postgresql://{where}", password=word)
    assert works(told) == verdict.ready


@pytest.mark.parametrize("name", ["app", "odd", "old", "clear", "sealed", "open"])
def test_wrong_password(server: PostgreSQL, ask: Ask, name: str) -> None:
    """fault 60: a wrong password is `auth-refused` in the server's words, with every method."""
    verdict = ask(f"postgresql://{name}:wrong-word@{server.address}/postgres")
    assert verdict.cause == "auth-refused"
    assert f'FATAL 28P01: password authentication failed for user "{name}"' in verdict.seen


def test_too_many_rounds(server: PostgreSQL, ask: Ask) -> None:
    """A password that was stored with more rounds than we make is told, with what to do; the driver makes
    them."""
    salted = hashlib.pbkdf2_hmac("sha256", WORD.encode(), b"salt-salt-salt-s", 200_000)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    signing = hmac.digest(salted, b"Server Key", "sha256")
    salt, key, proof = (b64encode(one).decode() for one in (b"salt-salt-salt-s", stored, signing))
    verifier = f"SCRAM-SHA-256$200000:{salt}${key}:{proof}"
    server.sql(f"CREATE ROLE slow LOGIN PASSWORD '{verifier}'")
    target = f"postgresql://slow:{WORD}@{server.address}/shop"
    assert works(target)
    verdict = ask(target)
    assert verdict.cause == "unsupported"
    assert "asks for 200000 rounds in the login (SCRAM)" in verdict.seen
    assert "store the password anew with fewer" in verdict.hint


@pytest.mark.parametrize("name", ["app", "odd", "old", "clear"])
def test_password_is_missing(
    server: PostgreSQL, ask: Ask, gate: Callable[..., Gate], name: str
) -> None:
    """fault 60: a user without a password is refused, is told that one is asked for, and ends the gate if
    asked to; the log says nothing of it."""
    since = len(server.log)
    target = f"postgresql://{name}@{server.address}/postgres"
    verdict = ask(target)
    assert verdict.cause == "auth-refused"
    assert f"asks {name} for a password" in verdict.seen
    assert verdict.hint == USER_ALONE
    assert gate(f"{target}#on-auth-refused=fail").wait().status == 1
    assert server.logged(since) == ""


def test_passwords_from_elsewhere(
    server: PostgreSQL, gate: Callable[..., Gate], tmp_path: Path
) -> None:
    """A password comes from a variable or a file; a wrong one ends the gate if asked to."""
    target = f"postgresql://{server.address}/shop#user=app"
    assert gate(f"{target}#password-env=WORD", env={"WORD": WORD}).wait().status == 0
    (tmp_path / "word").write_text("wrong-word")
    done = gate(f"{target}#password-file={tmp_path}/word#on-auth-refused=fail").wait()
    assert done.status == 1
    assert "28P01" in done.stderr
    assert "wrong-word" not in done.stderr


def test_clear_text_needs_privacy(plain: PostgreSQL, ask: Ask) -> None:
    """A password goes over the wire in clear text only inside TLS, by a Unix socket, or when told so."""
    target = f"postgresql://clear:{WORD}@{plain.address}/postgres"
    verdict = ask(target)
    assert verdict.cause == "unsupported"
    assert "clear text" in verdict.seen
    assert ask(f"{target}#tls=off").ready
    assert ask(f"{target}?sslmode=disable").ready
    assert ask(f"{target}#unix-socket={plain.path}").ready


def test_methods_that_are_not_spoken(ask: Ask) -> None:
    """GSSAPI, SSPI and SCRAM with channel binding alone are named, with what to use instead."""
    answers = {
        "GSSAPI": (7).to_bytes(4, "big"),
        "SSPI": (9).to_bytes(4, "big"),
        "Kerberos V5": (2).to_bytes(4, "big"),
        "SCRAM-SHA-256-PLUS": (10).to_bytes(4, "big") + b"SCRAM-SHA-256-PLUS\0\0",
    }
    for words, body in answers.items():
        told = b"R" + (len(body) + 4).to_bytes(4, "big") + body
        with Server(say(told, hang)) as server:
            verdict = ask(f"postgresql://me:{WORD}@{server.address}#tls=off")
        assert verdict.cause == "unsupported"
        assert f"a login by {words}" in verdict.seen
        assert "scram-sha-256" in verdict.hint


def test_tls(server: PostgreSQL, plain: PostgreSQL, authority: Authority, ask: Ask) -> None:
    """fault 15: TLS is what the options and `sslmode` say, as with the driver."""
    ca = f"#ca={authority.file}"
    good = f"postgresql://app:{WORD}@{server.address}/shop"
    bare = f"postgresql://app:{WORD}@{plain.address}/postgres"
    assert "TLSv1.3" in ask(good + ca).seen
    assert "TLSv1.3" in ask(f"{good}#insecure").seen
    assert "TLS" not in ask(f"{good}#tls=off").seen
    assert ask(f"{good}#tls=require").cause == "tls-untrusted"
    assert ask(f"{good}{ca}#server-name=other.example").cause == "tls-name"
    assert ask(f"{good}{ca}#min-days=1000").cause == "tls-expired"
    for where, more in ((good, ""), (bare, ""), (good, ca), (bare, ca)):
        for mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"):
            if more and mode == "disable":
                continue
            told = f"{where}?sslmode={mode}"
            root = f"&sslrootcert={authority.file if more else '/nowhere'}"
            if more and mode in ("allow", "prefer"):
                # Here a trusted authority is an order; libpq falls back without a word.
                root += "&sslmode=verify-full"
            if not more and mode.startswith("verify"):
                assert not ask(told).ready
                continue
            assert ask(told + more).ready == works(told + (root if more else "")), told + more
    verdict = ask(f"{bare}?sslmode=require")
    assert verdict.cause == "tls-plaintext"
    assert "offers no TLS" in verdict.seen


def test_client_certificate(server: PostgreSQL, authority: Authority, ask: Ask) -> None:
    """A certificate logs in whom it names, without a password; another name, or none, is refused."""
    bearer, other = authority.client("bearer"), authority.client("other")
    # libpq takes no key that others may read.
    bearer.key.chmod(0o600)
    place = f"postgresql://bearer@{server.address}/shop"
    common = f"{place}#ca={authority.file}"
    assert ask(f"{common}#cert={bearer.chain}#key={bearer.key}").ready
    paths = f"sslcert={bearer.chain}&sslkey={bearer.key}"
    assert works(f"{place}?sslmode=require&{paths}")
    verdict = ask(common)
    assert verdict.cause == "tls-client-cert"
    assert "#cert=" in verdict.hint
    assert not works(f"{place}?sslmode=require")
    verdict = ask(f"{common}#cert={other.chain}#key={other.key}")
    assert verdict.cause == "auth-refused"
    assert "certificate authentication failed" in verdict.seen


def test_pg_hba(server: PostgreSQL, ask: Ask) -> None:
    """A client that no line of pg_hba.conf lets in is told so, and what could help."""
    sealed = f"postgresql://sealed:{WORD}@{server.address}/shop"
    assert ask(sealed).ready
    verdict = ask(f"{sealed}#tls=off")
    assert verdict.cause == "auth-refused"
    assert "28000: no pg_hba.conf entry" in verdict.seen
    assert "#tls=require" in verdict.hint
    assert works(f"{sealed}?sslmode=require")
    assert not works(f"{sealed}?sslmode=disable")
    verdict = ask(f"postgresql://open:{WORD}@{server.address}/shop#insecure")
    assert "SSL encryption" in verdict.seen
    assert not works(f"postgresql://open:{WORD}@{server.address}/shop?sslmode=require")
    verdict = ask(f"postgresql://unheard:{WORD}@{server.address}/shop")
    # Of the two ways that were tried the first is told.
    assert "SSL encryption" in verdict.seen
    assert "pg_hba.conf" in verdict.hint


def test_unix_socket(server: PostgreSQL, ask: Ask) -> None:
    """By a Unix socket, given itself or by its folder; a user of the system is known without a word."""
    place = f"@db.invalid:{server.port}/postgres#unix-socket={server.folder}"
    assert str(server.path) in ask(f"postgresql://postgres{place}").seen
    exact = f"postgresql://clear:{WORD}@localhost/postgres#unix-socket={server.path}"
    assert ask(exact).ready
    verdict = ask(f"postgresql://peer_only{place}")
    assert verdict.cause == "auth-refused"
    assert "Peer authentication failed" in verdict.seen
    verdict = ask(f"postgresql://app@localhost/shop#unix-socket={server.folder}")
    assert verdict.cause == "missing-object"
    assert ".s.PGSQL.5432" in verdict.seen
