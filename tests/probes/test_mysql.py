"""MySQL's protocol, byte by byte: what no real server can be made to say. Those are in `services`."""

from __future__ import annotations

import threading
from binascii import b2a_base64
from collections.abc import Callable
from types import SimpleNamespace

import pymysql._auth
import pymysql.connections
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from service_precheck.codecs.mysql import rsa as mysql_rsa
from service_precheck.codecs.mysql import state as mysql_state
from service_precheck.codecs.mysql.faults import explain, of_login
from service_precheck.codecs.mysql.login import Login
from service_precheck.codecs.mysql.wire import Fields, Greeting, Refusal
from service_precheck.errors import NotReady, OperatorError
from service_precheck.model import CAUSES
from service_precheck.target import parse
from tests.bed.process import Gate
from tests.bed.sockets import Connection, Server, close, say
from tests.probes.conftest import Ask

KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
NONCE = b"0123456789abcdefghij"
PASSWORD = "not-for-you"


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes((number,)) + payload


def greeting(
    plugin: bytes = b"mysql_native_password",
    version: bytes = b"8.0.44",
    capabilities: int = 0x8_8200,
    protocol: int = 10,
) -> bytes:
    payload = bytes((protocol,)) + version + b"\0" + bytes(4) + NONCE[:8] + b"\0"
    payload += capabilities.to_bytes(4, "little")[:2] + b"\x2d\2\0"
    payload += capabilities.to_bytes(4, "little")[2:] + b"\x15" + bytes(10) + NONCE[8:] + b"\0"
    return packet(0, payload + plugin + b"\0")


def error(number: int, code: int, words: bytes, state: bytes = b"") -> bytes:
    return packet(number, b"\xff" + code.to_bytes(2, "little") + state + words)


OK = b"\0\0\0\2\0\0\0"


def converse(*answers: bytes) -> Callable[[Connection], None]:
    """Say the first, then one answer to whatever the client sends each time, then close."""

    def behave(connection: Connection) -> None:
        for answer in answers:
            if not connection.write(answer):
                return
            connection.read()

    return behave


def target(server: Server, user: str = f"app:{PASSWORD}@", options: str = "") -> str:
    return f"mysql://{user}{server.address}{options}"


# The login.


@given(st.binary(max_size=40), st.binary(min_size=20, max_size=20))
def test_scrambles(password: bytes, nonce: bytes) -> None:
    """What proves the password is what the driver makes of it, for both methods."""
    drivers = {
        "mysql_native_password": pymysql._auth.scramble_native_password,
        "caching_sha2_password": pymysql._auth.scramble_caching_sha2,
    }
    for plugin, driver in drivers.items():
        login = Login.__new__(Login)
        login._password, login._nonce, login._plugin = password, nonce, plugin
        assert login._scramble() == driver(password, nonce)


@given(st.binary(max_size=214))
def test_rsa(message: bytes) -> None:
    """Whoever holds the key reads what was encrypted for it; a library does so."""
    assert KEY.decrypt(mysql_rsa.encrypted(message, b"\x01" + PEM), OAEP) == message


def test_rsa_of_other_sizes() -> None:
    """Longer keys take longer messages; what is too long for a key is told."""
    key = rsa.generate_private_key(3, 3072)
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert key.decrypt(mysql_rsa.encrypted(b"x" * 342, pem), OAEP) == b"x" * 342
    with pytest.raises(ValueError, match="too long for its key: 341 bytes fit"):
        mysql_rsa.encrypted(b"x" * 343, pem)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN PUBLIC KEY-----",
        b"-----BEGIN PUBLIC KEY-----\n****\n-----END PUBLIC KEY-----",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        PEM.replace(b"BEGIN PUBLIC", b"BEGIN PRIVATE"),
    ],
)
def test_no_key(pem: bytes) -> None:
    """What is no public key is told as such."""
    with pytest.raises(ValueError, match="public key"):
        mysql_rsa.encrypted(b"x", pem)


@given(st.integers(0, 293), st.binary(max_size=6))
def test_mutated_keys(at: int, come: bytes) -> None:
    """A key that was changed on its way is an error for people, or some other key."""
    der = KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    changed = b2a_base64(der[:at] + come + der[at + len(come) :])
    pem = b"-----BEGIN PUBLIC KEY-----\n" + changed + b"-----END PUBLIC KEY-----"
    try:
        sent = mysql_rsa.encrypted(b"x", pem)
    except ValueError:
        return
    assert len(sent) >= 128


@pytest.mark.parametrize(
    ("plugin", "more"),
    [
        (b"mysql_clear_password", b""),
        (b"sha256_password", b"\x01no key"),
        (b"caching_sha2_password", b"\x01\x04"),
        (b"caching_sha2_password", b"\x01no key"),
        (b"caching_sha2_password", b"\x01" + PEM),
        (b"client_ed25519", b""),
        (b"dialog", b""),
        (b"mysql_old_password", b""),
    ],
)
def test_the_password_is_never_told(ask: Ask, plugin: bytes, more: bytes) -> None:
    """Whatever a server asks for without TLS, it does not hear the password."""
    answers = [greeting(), packet(2, b"\xfe" + plugin + b"\0" + NONCE + b"\0")]
    answers += [packet(4, more)] if more else []
    answers.append(error(6, 1045, b"Access denied", b"#28000"))
    with Server(converse(*answers)) as server:
        for options in ("", "#tls=off"):
            verdict = ask(target(server, options=options))
            assert verdict.cause in ("unsupported", "auth-refused", "closed-early", "protocol")
        heard = b"".join(bytes(each.received) for each in server.connections)
    assert PASSWORD.encode() not in heard


def offers_its_key(plugin: bytes) -> Callable[[Connection], None]:
    """Ask for the password by a key of one's own, without TLS, and send that key whatever is answered."""
    answers = [greeting(), packet(2, b"\xfe" + plugin + b"\0" + NONCE + b"\0")]
    answers += [packet(4, b"\x01\x04")] if plugin == b"caching_sha2_password" else []
    return converse(*answers, packet(6, b"\x01" + PEM), error(8, 1045, b"no", b"#28000"))


def opened(heard: bytes) -> list[bytes]:
    """What the owner of the key makes of the packets that a client sent."""
    found = []
    while heard:
        size = int.from_bytes(heard[:3], "little")
        payload, heard = heard[4 : 4 + size], heard[4 + size :]
        if size == 256:
            masked = KEY.decrypt(payload, OAEP)
            found.append(bytes(a ^ b for a, b in zip(masked, NONCE * 9, strict=False)))
    return found


@pytest.mark.parametrize("plugin", [b"caching_sha2_password", b"sha256_password"])
def test_the_key_of_an_impostor(ask: Ask, plugin: bytes) -> None:
    """Whoever answers without TLS gets the password for a key of their own on request only."""
    with Server(offers_its_key(plugin)) as server:
        verdict = ask(target(server))
        assert verdict.cause == "unsupported"
        assert verdict.seen.endswith("the password for its own key, which nobody vouches for")
        assert "#tls=require protects the password; #tls=off sends it" in verdict.hint
        assert opened(bytes(server.connections[0].received)) == []
        assert ask(target(server, options="#tls=off")).cause == "auth-refused"
        assert opened(bytes(server.connections[1].received)) == [PASSWORD.encode() + b"\0"]


def test_the_oldest_login(ask: Ask) -> None:
    """A switch without a name is to passwords of before MySQL 4.1."""
    answers = greeting(), packet(2, b"\xfe"), error(4, 1045, b"Access denied", b"#28000")
    with Server(converse(*answers)) as server:
        verdict = ask(target(server))
    assert verdict.cause == "unsupported"
    assert "asks for mysql_old_password, which is not spoken here" in verdict.seen


def test_nobody_by_another_method(ask: Ask) -> None:
    """Without a user it is of no matter by which method the server would have one log in."""
    switch = packet(2, b"\xfeauth_gssapi_client\0")
    with Server(converse(greeting(), switch, error(4, 1045, b"no", b"#28000"))) as server:
        verdict = ask(target(server, ""))
    assert verdict.ready
    assert "serves logins, none was given to try (MySQL 8.0.44)" in verdict.seen


@pytest.mark.parametrize("plugin", ["x" * 500, "\x1b[31m"])
def test_odd_plugins(ask: Ask, plugin: str) -> None:
    """The name of a method is the server's word, and shown with care."""
    answers = greeting(), packet(2, b"\xfe" + plugin.encode() + b"\0"), error(4, 1, b"no")
    with Server(converse(*answers)) as server:
        verdict = ask(target(server))
    assert verdict.cause == "unsupported"
    assert verdict.seen.isprintable()
    assert len(verdict.seen) < 200


def test_an_endless_login(ask: Ask) -> None:
    """A server that asks again and again is left."""
    switch = packet(2, b"\xfemysql_native_password\0" + NONCE + b"\0")
    with Server(converse(greeting(), *[switch] * 20)) as server:
        verdict = ask(target(server))
    assert verdict.cause == "protocol"
    assert "ever more in the login" in verdict.seen


def test_what_no_method_knows(ask: Ask) -> None:
    """More data for a method that has none is not the protocol."""
    with Server(converse(greeting(), packet(2, b"\x01\x03"))) as server:
        verdict = ask(target(server))
    assert verdict.cause == "protocol"


def test_without_plugins(ask: Ask) -> None:
    """A server from before there were methods is logged in to by the native one."""
    with Server(converse(greeting(b"", capabilities=0x8200), packet(2, OK))) as server:
        verdict = ask(target(server))
        heard = bytes(server.connections[0].received)
    assert verdict.cause == "closed-early"
    assert b"app\0\x14" + pymysql._auth.scramble_native_password(PASSWORD.encode(), NONCE) in heard


# What a server says first.


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (greeting(protocol=9), "protocol"),
        (greeting(capabilities=0x8000), "unsupported"),
        (greeting(capabilities=0x200), "unsupported"),
        (greeting()[:30], "closed-early"),
        (packet(0, b"\x0a"), "protocol"),
        (packet(0, b"\x0a8.0\0" + bytes(8)), "protocol"),
        (packet(0, b""), "protocol"),
        (b"\xff\xff\xff\0", "protocol"),
        (packet(0, b"\xff"), "protocol"),
        (error(0, 1040, b"Too many connections"), "overloaded"),
        (error(0, 1040, b"Too many connections", b"#08004"), "overloaded"),
        (error(0, 1129, b"Host 'x' is blocked"), "forbidden"),
        (error(0, 1130, b"Host 'x' is not allowed to connect"), "forbidden"),
        (error(0, 1053, b"Server shutdown in progress"), "not-ready"),
        (error(0, 9999, b"Something \xff\x1b[31m else"), "protocol"),
    ],
)
def test_greetings(ask: Ask, said: bytes, cause: str) -> None:
    """What a server says instead of its greeting is told, with a user and without one."""
    with Server(say(said, close)) as server:
        for user in ("app@", ""):
            verdict = ask(target(server, user))
            assert verdict.cause == cause, verdict
            assert verdict.seen.isprintable()


@pytest.mark.parametrize(
    ("version", "product"),
    [
        ("8.0.44", "MySQL 8.0.44"),
        ("9.7.4-2", "MySQL 9.7.4"),
        ("10.11.19-MariaDB-0+deb12u1", "MariaDB 10.11.19"),
        ("5.5.5-10.6.1-MariaDB-log", "MariaDB 10.6.1"),
        ("8.0.mysql_aurora.3.04.0", "MySQL 8.0.mysql_aurora.3.04.0"),
        ("", "MySQL "),
    ],
)
def test_products(version: str, product: str) -> None:
    """A version is shown without what packagers add, and without the prefix for old replicas."""
    assert Greeting(version, 0, b"", "").product == product


# Fields and results.


@given(st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_lengths(number: int, after: bytes) -> None:
    """A length is read as the driver writes it."""
    text = pymysql.connections._lenenc_int(number)
    fields = Fields(text + after)
    assert fields.length() == number
    assert fields.rest() == after


@given(st.binary(max_size=40))
def test_garbage_in_fields(payload: bytes) -> None:
    """Fields give something or raise ValueError."""
    for read in ("length", "value", "until_nul", "rest"):
        try:
            getattr(Fields(payload), read)()
        except ValueError:
            pass


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (packet(1, b"\xfb/etc/passwd"), "without columns"),
        (packet(1, b"\xfc\xff\xff"), "too many"),
        (packet(1, b"\xfc"), "breaks off"),
        (packet(1, b"\xfe"), "breaks off"),
        (packet(1, b"\x01") + packet(2, b"\x03de"), "breaks off"),
    ],
)
def test_results(ask: Ask, answer: bytes, words: str) -> None:
    """What is no result is told, and no file is ever sent to a server that asks for one."""
    with Server(converse(greeting(), packet(2, OK), answer)) as server:
        verdict = ask(target(server, options="#role=primary"))
        heard = bytes(server.connections[0].received)
    assert verdict.cause == "protocol"
    assert words in verdict.seen
    assert b"root:" not in heard


def result(number: int, columns: tuple[bytes, ...], *rows: bytes) -> bytes:
    """A result set, its rows as they are, numbered from `number` on."""
    named = [b"\x03def\0\0\0" + bytes((len(name),)) + name for name in columns]
    end = b"\xfe\0\0\2\0"
    payloads = (bytes((len(columns),)), *named, end, *rows, end)
    return b"".join(packet(at, each) for at, each in enumerate(payloads, number))


WRITES = (b"super_read_only", b"read_only", b"innodb_read_only", b"transaction_read_only")


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ((b"\x010\x010\x010\x010",), None),
        ((b"\x010\x03OFF\x010\x010",), None),
        ((b"\x010\x011\x010\x010",), "read-only"),
        ((b"\x010\x010\0\x010",), "read-only"),
        ((b"\x010\x010\x010\x011",), "read-only"),
        ((b"\x010\xfb\x010\x010",), "protocol"),
        ((), "protocol"),
    ],
)
def test_takes_writes(ask: Ask, rows: tuple[bytes, ...], cause: str | None) -> None:
    """Only a server that says of each variable that it is off takes writes."""
    with Server(converse(greeting(), packet(2, OK), result(1, WRITES, *rows))) as server:
        verdict = ask(target(server, options="#role=primary"))
    assert verdict.cause == cause
    if cause == "protocol":
        assert verdict.seen.endswith("does not say whether it is read-only")


def test_no_answer_about_writes(ask: Ask) -> None:
    """A server that gives no rows, or other ones, has not said that it takes writes."""
    for answer in (packet(1, OK), result(1, (b"other",), b"\x010")):
        with Server(converse(greeting(), packet(2, OK), answer)) as server:
            verdict = ask(target(server, options="#role=primary"))
        assert verdict.cause == "protocol"
        assert "does not say" in verdict.seen


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (result(1, (b"1",), b"\x011"), None),
        (result(1, (b"1",), b"\x012"), "protocol"),
        (result(1, (b"1",), b"\xfb"), "protocol"),
        (result(1, (b"1",)), "protocol"),
        (result(1, (b"1", b"2"), b"\x011\x011"), "protocol"),
        (packet(1, OK), "protocol"),
    ],
)
def test_answers_a_query(ask: Ask, answer: bytes, cause: str | None) -> None:
    """A query is answered when its answer is the right one."""
    with Server(converse(greeting(), packet(2, OK), answer)) as server:
        assert ask(target(server)).cause == cause


# What errors mean.


@given(st.integers(0, 65_535), st.text(max_size=5), st.text(max_size=400), st.booleans())
def test_errors(code: int, state: str, words: str, of_query: bool) -> None:
    """Every error has a cause of the list and keeps the server's code and words; none is the login's
    that is not, and none of a query is strange."""
    refusal = Refusal(code, state, words)
    verdict = explain(refusal, "10.0.0.9:3306", of_query=of_query).verdict
    assert verdict.cause in CAUSES
    assert not (of_query and verdict.cause == "protocol")
    assert f"10.0.0.9:3306 says {code} " in verdict.seen
    assert verdict.final == (verdict.cause == "failed")
    if of_login(refusal) and not of_query:
        assert verdict.cause in ("auth-refused", "unsupported", "forbidden")


@pytest.mark.parametrize(
    ("code", "state", "cause"),
    [
        (1055, "42000", "failed"),
        (1066, "42000", "failed"),
        (1247, "42S22", "failed"),
        (1222, "21000", "failed"),
        (1630, "42000", "missing-object"),
        (4091, "42S02", "missing-object"),
        (1213, "40001", "not-ready"),
        (1690, "22003", "not-ready"),
        (9001, "HY000", "not-ready"),
        (9001, "", "not-ready"),
    ],
)
def test_errors_of_a_query(code: int, state: str, cause: str) -> None:
    """A query that no time mends is `failed`; all else that is wrong with it may have been of its time."""
    assert explain(Refusal(code, state, "No."), "db:1", of_query=True).verdict.cause == cause


def test_an_unknown_refusal_of_a_login() -> None:
    """An error that we do not know, of the class of logins, is a refused login."""
    assert explain(Refusal(4999, "28000", "No."), "db:1").verdict.cause == "auth-refused"
    assert of_login(Refusal(4999, "28000", "No."))
    assert not of_login(Refusal(4999, "HY000", "No."))


def test_a_server_that_does_not_greet_is_not_left(gate: Callable[..., Gate]) -> None:
    """fault 58: each connection that ends before the greeting counts against our address at the server.

    So one is kept from attempt to attempt, until the server greets.
    """
    greeted = threading.Event()

    def behave(connection: Connection) -> None:
        greeted.wait(30)
        converse(greeting(), error(2, 1045, b"Access denied", b"#28000"))(connection)

    with Server(behave) as server:
        waiting = gate("--output", "json", "-v", f"mysql://{server.address}#attempt-timeout=100ms")
        waiting.wait_output('"attempts":4')
        assert len(server.connections) == 1
        greeted.set()
        assert waiting.wait().status == 0
        assert len(server.connections) == 1


def test_what_is_kept_may_end(gate: Callable[..., Gate]) -> None:
    """fault 58: a connection that was kept and that the server ends is made anew."""
    started = threading.Event()

    def behave(connection: Connection) -> None:
        if started.wait(30) and len(server.connections) > 1:
            converse(greeting(), error(2, 1045, b"Access denied", b"#28000"))(connection)

    with Server(behave) as server:
        waiting = gate(f"mysql://{server.address}#attempt-timeout=100ms")
        waiting.wait_output("[no-reply]")
        started.set()
        assert waiting.wait().status == 0
        assert len(server.connections) == 2


def test_a_login_without_an_end_is_tried_ever_more_rarely(ask: Ask) -> None:
    """fault 58: a connection that ends in the middle of its login is counted, whoever ends it."""
    with Server(say(greeting())) as server:
        target = f"mysql://app:{PASSWORD}@{server.address}#tls=off"
        verdicts = [ask(target, timeout=0.05) for _ in range(8)]
    assert {verdict.cause for verdict in verdicts} == {"no-reply"}
    assert [verdict.again for verdict in verdicts] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("user", ["", f"app:{PASSWORD}@"])
def test_a_server_without_tls_is_asked_ever_more_rarely(ask: Ask, user: str) -> None:
    """fault 58: each time a stranger's login is refused, which is a line in the server's log."""
    refused = error(2, 1045, b"Access denied", b"#28000")
    with Server(converse(greeting(), refused)) as server:
        required = target(server, user, "#tls=require")
        verdicts = [ask(required) for _ in range(7)]
        taken = ask(target(server))
        verdicts.append(ask(required))
    assert {verdict.cause for verdict in verdicts} == {"tls-plaintext"}
    assert taken.cause == "auth-refused"
    assert [verdict.again for verdict in verdicts] == [1, 2, 4, 8, 16, 30, 30, 1]


@pytest.mark.parametrize("text", ["mysql://db#alpn=h2", "mysql://db/?ssl-mode=REQUIERD"])
def test_what_would_be_taken_for_granted(text: str) -> None:
    """What MySQL does not have is a mistake: it would get the address blocked, or be passed over."""
    with pytest.raises(OperatorError):
        parse(text)


VALUES = "'INSERT INTO orders VALUES (2,''geheim'')'"
BROKEN = {
    f"Error 'Duplicate entry '2' for key 'PRIMARY'' on query. Default database: 'shop'. Query: {VALUES}": (
        "1062 of a statement"
    ),
    "Could not execute Write_rows_v1 event on table shop.orders; Duplicate entry 'geheim' for key 'PRIMARY', "
    "Error_code: 1062; handler error HA_ERR_FOUND_DUPP_KEY": (
        "1062 Could not execute Write_rows_v1 event on table shop.orders"
    ),
    "Coordinator stopped because there were error(s) in the worker(s). The most recent failure being: Worker 1 "
    "failed executing transaction 'aa-bb:3'": (
        "1062 Coordinator stopped because there were error(s) in the worker(s). The most recent failure "
        "being: Worker 1 failed executing transaction"
    ),
}


@pytest.mark.parametrize("why", BROKEN)
def test_what_a_replica_could_not_apply(why: str) -> None:
    """The number and the kind of the error are told, and neither the statement nor a value of its rows."""
    row = {
        "Slave_IO_Running": "Yes",
        "Slave_SQL_Running": "No",
        "Master_Host": "db-0",
        "Master_Port": "3306",
        "Last_SQL_Errno": "1062",
        "Last_SQL_Error": why,
    }
    server = SimpleNamespace(
        peer="db:3306", greeting=SimpleNamespace(mariadb=True), ask=lambda _: [row]
    )
    with pytest.raises(NotReady) as caught:
        mysql_state.replicating(server, None)  # type: ignore[arg-type]
    verdict = caught.value.verdict
    assert verdict.seen.endswith(f"its SQL thread is stopped: {BROKEN[why]}")
    assert verdict.hint.startswith("SHOW ALL SLAVES STATUS has the whole error")
