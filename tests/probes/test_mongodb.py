"""`mongodb:` without a server: BSON against the driver's own, answers that are none, and what `check` says.

Real servers are in `services/test_mongodb`, the states of replica sets in `services/test_mongodb_states`.
"""

from __future__ import annotations

import struct
from typing import Any

import bson as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import target
from service_precheck.codecs.mongodb import bson, wire
from service_precheck.codecs.mongodb import member as mongodb_member
from service_precheck.codecs.mongodb.member import Member
from service_precheck.codecs.mongodb.options import Wish
from service_precheck.errors import NotReady, OperatorError
from service_precheck.options import Target
from tests.bed.sockets import Behaviour, Connection, Server, close, hang, reset, say
from tests.probes.conftest import Ask

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1)
SENT = st.recursive(
    st.one_of(st.booleans(), NUMBERS, TEXTS, st.binary(max_size=20)),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
# What a server may answer with, in types whose values are kept.
ANSWERED = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.floats(allow_nan=False), TEXTS, st.binary(max_size=20), NUMBERS
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=8,
)


# -- BSON


@given(st.dictionaries(NAMES, SENT, max_size=5))
def test_encoded_as_the_driver_does(document: dict[str, object]) -> None:
    """What we encode is, byte for byte, what the driver encodes."""
    assert bson.encode(document) == oracle.encode(document)


@given(st.dictionaries(NAMES, ANSWERED, max_size=5))
def test_decoded_as_the_driver_does(document: dict[str, object]) -> None:
    """What the driver encodes is read as it was meant."""
    assert bson.decode(oracle.encode(document)) == document


def test_types_that_are_skipped() -> None:
    """Values that nobody asks for do not disturb those beside them."""
    document = {
        "id": oracle.ObjectId(),
        "at": oracle.Timestamp(1, 2),
        "least": oracle.MinKey(),
        "most": oracle.MaxKey(),
        "exactly": oracle.Decimal128("1.5"),
        "ok": 1.0,
    }
    assert bson.decode(oracle.encode(document))["ok"] == 1.0


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    """Bytes that are no document are a ValueError, and nothing else."""
    try:
        bson.decode(raw)
    except ValueError:
        pass


@given(st.dictionaries(NAMES, ANSWERED, max_size=5), st.data())
def test_any_mutation(document: dict[str, object], data: st.DataObject) -> None:
    """A document with bytes changed, cut or added is read, or is a ValueError."""
    raw = bytearray(oracle.encode(document))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for mutated in (raw, raw[:-1], raw + b"\0"):
        try:
            bson.decode(bytes(mutated))
        except ValueError:
            pass


def test_depth_is_bounded() -> None:
    """Documents within documents within documents end at a bound, not at the interpreter's."""
    raw = b"\x05\0\0\0\0"
    for _ in range(2000):
        inner = b"\x03a\0" + raw
        raw = struct.pack("<i", len(inner) + 5) + inner + b"\0"
    with pytest.raises(ValueError, match="no document"):
        bson.decode(raw)


# -- answers


def message(
    document: bytes, *, opcode: int = 2013, answers: int = 1, flags: int = 0, kind: int = 0
) -> bytes:
    body = struct.pack("<ib", flags, kind) + document
    return struct.pack("<iiii", 16 + len(body), 7, answers, opcode) + body


GOOD = oracle.encode({"isWritablePrimary": True, "ok": 1.0})


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (message(GOOD, opcode=1), "protocol"),
        (message(GOOD, answers=2), "protocol"),
        (message(GOOD, kind=1), "protocol"),
        (message(GOOD[:-1]), "protocol"),
        (message(b"\5\0\0\0\0"), "protocol"),
        (struct.pack("<i", 65_537), "protocol"),
        (struct.pack("<i", 25), "protocol"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "protocol"),
        (bytes.fromhex("15030100020246"), "protocol"),
        (message(GOOD)[:-1], "no-reply"),
    ],
)
def test_no_answers(said: bytes, cause: str, ask: Ask) -> None:
    """What is no answer of MongoDB's to what was asked is `protocol`."""
    with Server(say(said)) as server:
        assert ask(f"mongodb://{server.address}", timeout=0.3).cause == cause


def test_no_answer_is_shown(ask: Ask) -> None:
    """What something else says is quoted; TLS is recognized."""
    with Server(say(b"SSH-2.0-OpenSSH_9.2p1\r\n")) as server:
        seen = ask(f"mongodb://{server.address}").seen
        assert seen.endswith("does not speak MongoDB, it said 'SSH-2.0-OpenSSH_9.2p1'")
        server.behaviour = say(bytes.fromhex("15030100020246"))
        verdict = ask(f"mongodb://{server.address}")
    assert verdict.seen.endswith("answers in TLS to a plain request")
    assert verdict.hint == "#tls asks in TLS"


def test_checksum(ask: Ask) -> None:
    """A checksum at the end of an answer is passed over."""
    said = message(GOOD + b"\1\2\3\4", flags=1)
    with Server(say(said * 2)) as server:
        assert ask(f"mongodb://{server.address}").ready


FIELDS = st.sampled_from(
    [
        "hosts",
        "passives",
        "primary",
        "setName",
        "isreplicaset",
        "hidden",
        "info",
        "secondary",
        "msg",
        "saslSupportedMechs",
        "isWritablePrimary",
        "arbiterOnly",
        "readOnly",
        "errmsg",
        "code",
        "codeName",
    ]
)


@given(st.dictionaries(FIELDS, ANSWERED))
def test_any_hello(answer: dict[str, object]) -> None:
    """Whatever its fields hold, an answer makes a member, or an error that can be told."""
    member = Member("db:27017", ("db", 27017), answer)
    assert str(member)
    error = wire.refusal("db:27017", "hello", answer)
    assert isinstance(error, NotReady)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mongo-0.mongo:27018", ("mongo-0.mongo", 27018)),
        ("Mongo-0", ("mongo-0", 27017)),
        ("[2001:db8::1]:27018", ("2001:db8::1", 27018)),
        ("[2001:db8::1]", ("2001:db8::1", 27017)),
        ("10.0.0.9:27017", ("10.0.0.9", 27017)),
        ("mongo-0:0", None),
        ("mongo-0:99999999999", None),
        ("mongo 0:27017", None),
        ("mongo..example:27017", None),
        ("a\0b:27017", None),
        ("müller:27017", None),
        (f"{'a' * 64}:27017", None),
        (":27017", None),
        ("", None),
    ],
)
def test_names_in_a_configuration(name: str, place: tuple[str, int] | None) -> None:
    """What a server lists is connected to where it is a host and a port, and passed over where not."""
    member = Member("db:27017", ("db", 27017), {"setName": "rs0", "hosts": [name]})
    assert member.listed == ((place,) if place else ())


def test_endless_lists_are_bounded(ask: Ask) -> None:
    """A server that lists more members than a set can have does not get them all asked."""
    hosts = [f"127.0.0.1:{port}" for port in range(1, 400)]
    said = oracle.encode({"setName": "rs0", "hosts": hosts, "secondary": True, "ok": 1.0})
    member = Member("db:27017", ("db", 27017), bson.decode(said))
    assert len(member.listed) == mongodb_member.MOST_MEMBERS
    with Server(say(message(said))) as server:
        verdict = ask(f"mongodb://{server.address}/#role=primary", timeout=2)
    assert not verdict.ready
    assert len(verdict.seen) < 600


# -- targets


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("shop", "looked for in the database shop; one that is in another: ?authSource=admin"),
        ("admin", "looked for in the database admin; one that is in another: ?authSource=DATABASE"),
        ("$external", ""),
        ("", ""),
    ],
)
def test_where_a_user_was_looked_for(source: str, hint: str) -> None:
    """A refused login is often one of a user who is in another database."""
    answer = {"ok": 0, "code": 18, "errmsg": "Authentication failed."}
    verdict = wire.refusal("db:27017", "saslStart", answer, source).verdict
    assert verdict.cause == "auth-refused"
    assert verdict.hint.endswith(hint) if hint else not verdict.hint


@pytest.mark.parametrize("end", [close, reset()], ids=["closed", "reset"])
@pytest.mark.parametrize("scheme", ["mongodb", "etcd", "zookeeper"])
def test_tls_at_a_port_without(scheme: str, end: Behaviour, ask: Ask) -> None:
    """fault 15: a server that takes the first bytes of TLS for nonsense hangs up, and is told as such."""

    def behave(connection: Connection) -> None:
        connection.read()
        end(connection)

    with Server(behave) as server:
        verdict = ask(f"{scheme}://{server.address}#tls")
    assert verdict.cause == "closed-early"
    assert "a port without TLS closes the connection so: without #tls" in verdict.hint


@pytest.mark.parametrize(
    ("scheme", "hint"),
    [
        ("mongodb", "a port without TLS may stay silent so: without #tls"),
        ("zookeeper", "a port without TLS may stay silent so: without #tls"),
        ("etcd", "a member that has not joined its cluster accepts and is silent"),
    ],
)
def test_tls_at_a_port_that_stays_silent(scheme: str, hint: str, ask: Ask) -> None:
    """fault 3: a server that waits for the rest of what it takes the first bytes of TLS for."""
    with Server(hang) as server:
        verdict = ask(f"{scheme}://{server.address}#tls", 0.5)
    assert verdict.cause == "no-reply"
    assert hint in verdict.hint


@pytest.mark.parametrize("scheme", ["mongodb", "etcd", "zookeeper"])
def test_tls_at_a_port_that_says_so(scheme: str, ask: Ask) -> None:
    """fault 15: one that answers in plain text is told with what to do."""
    with Server(say(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        verdict = ask(f"{scheme}://{server.address}#tls")
    assert verdict.cause == "tls-plaintext"
    assert verdict.hint.startswith("without #tls")


def parsed(text: str) -> Target:
    leaf = target.parse(text)
    assert isinstance(leaf, Target)
    return leaf


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("", {"source": "admin", "mechanism": ""}),
        ("/shop", {"source": "shop"}),
        ("/sh%6Fp?authSource=users", {"source": "users"}),
        ("/?authSource=%24external", {"source": "$external"}),
        ("/?authMechanism=PLAIN&tls=true", {"source": "$external", "mechanism": "PLAIN"}),
        ("/ldap?authMechanism=PLAIN#tls", {"source": "ldap", "tls": True}),
        ("/?AUTHMECHANISM=scram-sha-1", {"mechanism": "SCRAM-SHA-1"}),
        ("/?replicaSet=rs0", {"set_name": "rs0", "direct": False}),
        ("/#replica-set=rs0", {"set_name": "rs0"}),
        ("/?replicaSet=rs0&directConnection=true", {"direct": True}),
        ("/#unix-socket=/run/mongodb.sock", {"direct": True}),
        ("/?ssl=true", {"tls": True}),
        ("/?tls=false", {"tls": False}),
        ("/?w=majority&readPreference=secondary&maxPoolSize=5", {"role": "", "least": 0}),
    ],
)
def test_connection_strings(rest: str, expected: dict[str, Any]) -> None:
    """A connection string means here what it means to the drivers; what is not about asking is ignored."""
    wish = Wish(parsed(f"mongodb://app:app-secret@db{rest}"))
    assert {name: getattr(wish, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("mongodb://app@db", "a user without a password: #password-file=PATH"),
        ("mongodb://:some-secret@db", "a password without a user"),
        ("mongodb://db/?authMechanism=SCRAM-SHA-256", "?authMechanism= without a user"),
        (
            "mongodb://db/?authMechanism=MONGODB-X509",
            "MONGODB-X509 is not spoken here, only SCRAM-",
        ),
        ("mongodb://a:some-secret@db/?authMechanism=GSSAPI", "GSSAPI is not spoken here"),
        (
            "mongodb://a:some-secret@db/?authMechanism=PLAIN",
            "shows the password to the network: #tls",
        ),
        ("mongodb://a,b/?directConnection=true", "?directConnection=true asks one server only"),
        ("mongodb://a/?directConnection=true#min-members=2", "asks one server only"),
        ("mongodb://a,b/#unix-socket=/run/m.sock", "#unix-socket= asks one server only"),
        ("mongodb://a/?directConnection=yes", "?directconnection= is neither true nor false"),
        ("mongodb://a/?replicaSet=rs0#replica-set=rs1", "name different sets"),
        ("mongodb://a/?tls=false#ca=/ca.pem", "?tls=false, and something else asks for TLS"),
        ("mongodb://a/?tlsCAFile=/ca.pem", "write #ca=PATH"),
        ("mongodb://a/?tls=true&tlsInsecure=true", "write #insecure"),
        (f"mongodb://{','.join(f'h{number}' for number in range(51))}/", "51 hosts; a replica set"),
        ("mongodb://a/#role=arbiter", "'arbiter' is none of primary, secondary"),
        (
            "mongodb+srv://cluster.example.org/",
            "no scheme 'mongodb+srv'; mongodb://HOST,HOST/?tls=true with the hosts of its SRV record",
        ),
    ],
)
def test_mistakes(text: str, wrong: str) -> None:
    """What cannot be meant is told before anything is asked, with what would be right."""
    with pytest.raises(OperatorError) as caught:
        target.parse(text)
    assert wrong in str(caught.value)


def test_a_sets_name_is_no_secret() -> None:
    """What a query says of the set is shown; what it says of anything else is not."""
    shown = parsed("mongodb://app:hunter22@db/?replicaSet=production&appName=hunter333")
    assert str(shown) == "mongodb://app:***@db:27017/?replicaSet=production&appName=***"
    with pytest.raises(OperatorError) as caught:
        target.parse("all(mongodb://db/?replicaSet=rs0, http://db/?token=hunter444#stat=1)")
    assert "hunter444" not in str(caught.value)
    with pytest.raises(OperatorError) as caught:
        target.parse(
            "any(http://db/?token=hunter444, mongodb://db/?x=hunter555&replicaSet=rs0#rol=1)"
        )
    assert "hunter" not in str(caught.value)
