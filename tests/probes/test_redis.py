"""`redis:` where no real server is needed: the wire, what servers of other ages say, and mistakes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import net, target
from service_precheck.codecs.redis import fault, nodes, resp
from service_precheck.codecs.redis import info as redis_info
from service_precheck.codecs.redis.resp import Client, Refusal
from service_precheck.dns import Names
from service_precheck.errors import NotReady, OperatorError
from service_precheck.model import CAUSES, ready
from service_precheck.stream import Attempt, Stream
from tests.bed.sockets import Behaviour, Connection, Server
from tests.probes.conftest import Ask


class Said(Stream):
    """A stream whose other end has said these bytes, and closed."""

    def __init__(self, said: bytes) -> None:
        attempt = Attempt(net.monotonic() + 60, Names())
        super().__init__(None, "10.0.0.9:6379", attempt)  # type: ignore[arg-type]
        self._said = said

    def write(self, data: bytes) -> None:
        """Take it, and leave it."""

    def _receive(self) -> bytes:
        said, self._said = self._said, b""
        return said


def cause(call: Callable[[], object]) -> str:
    """The cause of the obstacle that a call meets, empty if it meets none."""
    verdict = ready("nothing")
    try:
        call()
    except NotReady as error:
        verdict = error.verdict
    assert verdict.seen.isprintable()
    return verdict.cause or ""


def scripted(**answers: bytes) -> Behaviour:
    """A server that answers each command, told by its first word, with these bytes."""

    def behave(connection: Connection) -> None:
        while asked := connection.read():
            word = asked.split(b"\r\n")[2].decode()
            if not connection.write(
                answers.get(word, b"-ERR unknown command '%b'\r\n" % asked[8:12])
            ):
                return

    return behave


def bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text.encode()), text.encode())


# -- the wire


def test_command() -> None:
    """A command is an array of bulk strings, their lengths in bytes."""
    said = resp.command(("EXISTS", "jöbs\r\n"))
    assert said == "*2\r\n$6\r\nEXISTS\r\n$7\r\njöbs\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (b"+PONG\r\n", "PONG"),
        (b"-ERR no\r\n", Refusal("ERR no")),
        (b":1\r\n", 1),
        (b":-12\r\n", -12),
        (b"$3\r\na\r\n\r\n", "a\r\n"),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*2\r\n$1\r\na\r\n$-1\r\n", ("a", None)),
        (b"*0\r\n", ()),
        (b"$2\r\n\xff\xfe\r\n", "\ufffd\ufffd"),
    ],
)
def test_reply(said: bytes, value: resp.Value) -> None:
    """Each kind of reply that our commands can get is read."""
    assert resp.reply(Said(said), "PING") == value


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"", "closed-early"),
        (b"+PON", "closed-early"),
        (b"$5\r\nab\r\n", "closed-early"),
        (b"$2\r\nabc\r\n", "protocol"),
        (b"$99999999\r\n", "protocol"),
        (b"$" + b"9" * 4000 + b"\r\n", "protocol"),
        (b":" + b"1" * 19 + b"\r\n", "protocol"),
        (b":one\r\n", "protocol"),
        (b":\xb2\r\n", "protocol"),
        (b"*257\r\n", "protocol"),
        (b"*1\r\n*1\r\n*1\r\n", "protocol"),
        (b"*1\r\n$5000\r\n", "protocol"),
        (b"+" + b"a" * 5000, "protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n", "protocol"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "protocol"),
    ],
)
def test_no_reply(said: bytes, expected: str) -> None:
    """What is cut, too long, nested or no RESP at all is told, and never kept room for."""
    assert cause(lambda: resp.reply(Said(said), "PING")) == expected


words = st.text(max_size=20)
replies = st.recursive(
    st.one_of(
        st.binary(max_size=40),
        st.integers().map(lambda number: b":%d\r\n" % number),
        st.binary(max_size=40).map(lambda raw: b"$%d\r\n%b\r\n" % (len(raw), raw)),
        words.map(lambda text: b"-%b\r\n" % text.encode()),
    ),
    lambda inner: st.lists(inner, max_size=4).map(
        lambda parts: b"*%d\r\n%b" % (len(parts), b"".join(parts))
    ),
)


@given(st.lists(replies, max_size=6).map(b"".join))
def test_any_reply(said: bytes) -> None:
    """Whatever comes is a value or an obstacle, for everything that reads replies."""
    for role, link in (("primary", False), ("replica", True)):
        cause(partial(redis_info.standing, Client(Said(said), ""), role, link))
    cause(lambda: nodes.check_cluster(Client(Said(said), ""), whole=True))
    cause(lambda: nodes.primary(Client(Said(said), ""), "main", lambda _: ""))
    cause(lambda: nodes.moved(Client(Said(b""), ""), Refusal(said.decode("latin-1"))))
    refusal = Refusal(said.decode("latin-1"))
    for command in (("PING",), ("AUTH", "pw"), ("SENTINEL", "MASTER", "main")):
        error = fault.explain(Client(Said(said), ""), command, refusal)
        assert error.verdict.cause in CAUSES


fields = st.sampled_from(
    (
        *(
            "role",
            "redis_mode",
            "maxmemory",
            "used_memory",
            "maxmemory_policy",
            "db0",
            "cluster_enabled",
        ),
        *("master_host", "master_port", "master_link_status", "master_sync_in_progress"),
        *("master_sync_left_bytes", "master_link_down_since_seconds", "min_slaves_good_slaves"),
        *("loading_loaded_perc", "loading_eta_seconds", "cluster_slots_ok", "cluster_state"),
    )
)
values = st.one_of(
    st.sampled_from(("master", "slave", "up", "1", "ok", "keys=1,expires=1", "-1")), st.text()
)


@given(st.dictionaries(fields, values))
def test_any_info(info: dict[str, str]) -> None:
    """Whatever a server says of itself is a verdict."""
    text = "\r\n".join(f"{name}:{value}" for name, value in info.items())
    said = bulk(text)
    for role, link in (("primary", False), ("replica", False), ("replica", True), ("", True)):
        cause(partial(redis_info.standing, Client(Said(said), ""), role, link))
    cause(lambda: nodes.check_cluster(Client(Said(said), ""), whole=False))
    assert redis_info.Info("here", text).progress().isprintable()


# -- servers of other ages and makes


@pytest.mark.parametrize(
    ("login", "words", "expected"),
    [
        (":pw@", "ERR invalid password", "auth-refused"),
        ("app:pw@", "ERR wrong number of arguments for 'auth' command", "unsupported"),
        (":pw@", "ERR unknown command 'AUTH'", "unsupported"),
        (":pw@", "ERR max number of clients reached", "overloaded"),
        (":pw@", "LOADING Redis is loading", "starting"),
        (":pw@", "WHATEVER this is", "protocol"),
        (":pw@", "ERR Client sent AUTH, but no password is set", ""),
    ],
)
def test_logins_of_old(ask: Ask, login: str, words: str, expected: str) -> None:
    """What servers before Redis 6, and proxies, say to a login."""
    with Server(scripted(AUTH=f"-{words}\r\n".encode(), PING=b"+PONG\r\n")) as server:
        verdict = ask(f"redis://{login}{server.address}")
    assert (verdict.cause or "") == expected
    assert not expected or words in verdict.seen


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("role:master", "takes writes (Redis)"),
        ("role:primary\r\ndragonfly_version:1.24", "takes writes (Dragonfly 1.24)"),
        (
            "role:primary\r\nvalkey_version:10.0.0\r\nredis_version:7.2",
            "takes writes (Valkey 10.0.0)",
        ),
        ("role:replica\r\nmaster_host:fd00::1\r\nmaster_port:1", "is a replica of [fd00::1]:1"),
        ("role:master\r\nmaster_failover_state:failover-in-progress", "hands over to a replica"),
        ("role:master\r\nmaxmemory:10\r\nused_memory:11\r\nmaxmemory_policy:noeviction", "is full"),
        ("role:witness", "is a witness, a primary is asked for"),
        ("", "is a server without a role, a primary is asked for"),
    ],
)
def test_makes_and_states(ask: Ask, info: str, expected: str) -> None:
    """Makes are told apart, words for roles understood, a hand-over noticed."""
    with Server(scripted(PING=b"+PONG\r\n", INFO=bulk(info))) as server:
        verdict = ask(f"redis://{server.address}#role=primary")
    assert expected in verdict.seen
    assert verdict.ready is expected.startswith("takes writes")


def test_moved_in_a_circle(ask: Ask) -> None:
    """Nodes that send the question round and round are `redirect`, after three hops."""
    with Server() as server:
        # Without a host it is the same one.
        server.behaviour = scripted(PING=b"+PONG\r\n", EXISTS=b"-MOVED 12 :%d\r\n" % server.port)
        verdict = ask(f"redis://{server.address}#key=a")
        assert len(server.connections) == 4
    assert verdict.cause == "redirect"


def test_moved_to_another_port_of_the_node_that_says_so(ask: Ask) -> None:
    """Without a host a redirection stays at the node that it comes from, and not at the first one."""
    with (
        Server(scripted(EXISTS=b":1\r\n"), host="127.0.0.2") as last,
        Server(scripted(EXISTS=b"-MOVED 12 :%d\r\n" % last.port), host="127.0.0.2") as second,
        Server(
            scripted(PING=b"+PONG\r\n", EXISTS=f"-MOVED 12 {second.address}\r\n".encode())
        ) as first,
    ):
        verdict = ask(f"redis://{first.address}#key=a")
    assert verdict.seen == f"{first.address} knows that {last.address} has the key a"


@pytest.mark.parametrize("to", ["?:1", "nowhere", "10.0.0.1:99999", "\x1b[2J:1"])
def test_moved_to_nowhere(ask: Ask, to: str) -> None:
    """A place that can be none is not gone to."""
    with Server(scripted(PING=b"+PONG\r\n", EXISTS=f"-MOVED 1 {to}\r\n".encode())) as server:
        verdict = ask(f"redis://{server.address}#key=a")
    assert verdict.cause == "protocol"


def test_moved_away_from_a_unix_socket(ask: Ask, folder: Path) -> None:
    """What a Unix socket led to may send the question to another node, which is asked by its address."""
    with Server(scripted(EXISTS=b":1\r\n")) as node, Server(path=folder / "socket") as server:
        moved = f"-MOVED 1 {node.address}\r\n".encode()
        server.behaviour = scripted(PING=b"+PONG\r\n", EXISTS=moved)
        verdict = ask(f"redis://localhost#key=a#unix-socket={server.path}")
    assert verdict.seen == f"{server.path} knows that {node.address} has the key a"


def test_login_that_opens_nothing(ask: Ask) -> None:
    """A server that took the login and asks for one again is not ready."""
    refused = b"-NOAUTH Authentication required.\r\n"
    with Server(scripted(AUTH=b"+OK\r\n", PING=refused)) as server:
        assert ask(f"redis://:pw@{server.address}").cause == "auth-required"
        assert ask(f"redis://{server.address}").ready


def test_unexpected_answers(ask: Ask) -> None:
    """A reply that its command never gets is `protocol`, and shown."""
    for word, answer, options in (
        ("PING", b"+HELLO\r\n", ""),
        ("AUTH", b":1\r\n", "#password-env=PATH"),
        ("INFO", b":1\r\n", "#role=primary"),
        ("CLUSTER", b":1\r\n", "#cluster"),
        ("EXISTS", b":2\r\n", "#key=a"),
        ("SENTINEL", b"$-1\r\n", "#sentinel=a"),
        ("SENTINEL", b"*2\r\n$2\r\nip\r\n$1\r\n \r\n", "#sentinel=a"),
    ):
        with Server(scripted(**{"PING": b"+PONG\r\n", word: answer})) as server:
            verdict = ask(f"redis://{server.address}{options}")
        assert verdict.cause == "protocol"
        assert word in verdict.seen or "with no address" in verdict.seen


# -- what is asked for


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("redis://a/cache", "the path is no number of a database"),
        ("redis://a/-1", "the path is no number of a database"),
        ("redis://a?db=x", "the path is no number of a database"),
        ("redis://a#link#role=primary", "#link with #role=primary"),
        ("redis://a#sentinel=b#link", "#link with #sentinel="),
        ("redis://a#sentinel=b#cluster", "#cluster with #sentinel="),
        ("redis://a#sentinel=b#unix-socket=/c", "#unix-socket with #sentinel="),
        ("redis://a#sentinel=b#role=replica", "#role=replica with #sentinel="),
        ("redis://a#role=master", "'master' is none of primary, replica"),
        ("redis://:pw@a#password-file=/b", "more than one password"),
        ("rediss://a#unix-socket=/b", "#unix-socket= with rediss://"),
        ("rediss://a#cert-key=/b", "#cert-key= without #cert="),
        ("redis://a#ca=/b", "no option 'ca'"),
    ],
)
def test_mistakes(text: str, wrong: str) -> None:
    """What can never hold is found before anything is asked."""
    with pytest.raises(OperatorError) as caught:
        target.parse(text)
    assert wrong in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:secret@cache", "redis://:***@cache:6379/"),
        ("redis://app:secret@cache/3", "redis://***:***@cache:6379/3"),
        (
            "redis://cache#password-file=/run/secret",
            "redis://cache:6379/#password-file=/run/secret",
        ),
        ("redis://cache?db=3&password=hidden", "redis://cache:6379/?db=3&password=***"),
        ("redis://[::1]:7000/1", "redis://[::1]:7000/1"),
    ],
)
def test_spellings(text: str, shown: str) -> None:
    """A password needs no user, and is never shown."""
    assert str(target.parse(text)).replace("app:", "***:") == shown
