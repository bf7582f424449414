"""Redis and Valkey: does it answer commands, in the role, with the link, the slots or the key asked for.

Redis serialization protocol (RESP2), and the documentation of each command. Sends, each only where it is
asked for: AUTH, SELECT, PING; INFO (`role`, `link`), CLUSTER INFO (`cluster`), EXISTS (`key`); to a
sentinel SENTINEL MASTER and SENTINEL CKQUORUM. Never a command that could write. Costs the server a
connection and some microseconds.

PING is refused while data are loaded, while a script holds the server, by a replica that serves no
stale data, and where the last save failed (MISCONF). That last one is about writes, so it blocks only
where a primary is asked for. There is no goodbye: QUIT is deprecated, and clients just close.
"""

from __future__ import annotations

from .. import stream
from ..access import TLS_OPTIONS_BESIDE_KEY, tls_settings, try_tls_files
from ..codecs.redis.options import OPTIONS, check, database_number
from ..codecs.redis.resp import Client, Refusal
from ..errors import NotReady, blocked
from ..model import Verdict, printable, ready
from ..options import Option, Scheme, Target, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt, Stream

# A slot on its way: a node that does not have it, the one that hands it over, the one that takes it.
MOST_HOPS = 3


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the server, or the primary that a sentinel names, answers and is what is asked for."""
    try_tls_files(target)
    name = target.text("sentinel")
    with _connect(target, attempt) as connection:
        server = _client(target, connection, target.host)
        if not name:
            return ready(_judge(target, server, target.host, target.text("role")))
        from ..codecs.redis import nodes

        host, port = nodes.primary(server, name, lambda sentinel: _log_in(target, sentinel))
    known = f"the primary of {printable(name, 60)} by the sentinel {server.peer}"
    try:
        with stream.connect(host, port, attempt) as connection:
            said = _judge(target, _client(target, connection, host), host, "primary")
    except NotReady as error:
        seen = f"{place(host, port)} is {known}; {error.verdict.seen}"
        raise NotReady(error.verdict.but(seen=seen)) from error
    return ready(f"{said}, and is {known}, which has a quorum")


def _connect(target: Target, attempt: Attempt) -> Stream:
    assert target.port is not None
    if path := target.text("unix-socket"):
        return stream.connect_unix(path, attempt)
    return stream.connect(target.host, target.port, attempt)


def _client(target: Target, connection: Stream, host: str) -> Client:
    if target.scheme.name == "rediss":
        try:
            connection.upgrade(tls_settings(target), host)
        except NotReady as error:
            # Without TLS the server takes the handshake for a command whose line does not end.
            if error.verdict.cause not in ("tls-plaintext", "no-reply"):
                raise
            hint = "redis:// asks without TLS"
            raise NotReady(error.verdict.but(hint=hint)) from error
    return Client(connection, target.text("user") or target.user)


def _log_in(target: Target, server: Client) -> str:
    """Log in where the target has a login; what that proves, empty if there is none."""
    user = server.user
    if not (user or target.password or target.text("password-file") or target.text("password-env")):
        return ""
    from ..codecs import credentials

    password = credentials.password(target)
    words = ("AUTH", user, password) if user else ("AUTH", password)
    said = server.say(*words)
    # The words of Redis from 6 on, and of older ones. Commands are taken, so drivers go on.
    if isinstance(said, Refusal) and ("any password" in said.words or "no password" in said.words):
        return "asks for no password, though one was given"
    if isinstance(said, Refusal):
        raise server.refused(words, said)
    if said != "OK":
        raise server.strange("AUTH", said)
    return f"takes the login of {printable(user, 60)}" if user else "takes the login"


def _judge(target: Target, server: Client, host: str, role: str) -> str:
    """What is proven of a server at a host that holds data. Raises NotReady."""
    login = _log_in(target, server)
    proven = [login] if login else []
    key, database = target.text("key"), database_number(target)
    link, cluster = target.flag("link"), target.flag("cluster")
    if database:
        server.ask("SELECT", str(database))
        proven.append(f"has the database {database}")
    said = server.say("PING")
    if isinstance(said, Refusal) and said.code == "MISCONF" and role != "primary":
        proven.append(f"takes no writes for now ({printable(said.words, 100)})")
    elif isinstance(said, Refusal):
        if said.code == "NOAUTH" and not (login or role or key or link or cluster):
            return f"{server.peer} answers, and asks for a login (not tried)"
        raise server.refused(("PING",), said)
    elif said != "PONG":
        raise server.strange("PING", said)
    if role or link:
        from ..codecs.redis import info

        proven.append(info.standing(server, role, link))
    if cluster:
        from ..codecs.redis import nodes

        proven.append(nodes.check_cluster(server, whole=True))
    if key:
        proven.append(_find(target, server, host, key))
    return f"{server.peer} {', '.join(proven) or 'answers PING'}"


def _find(target: Target, server: Client, at: str, key: str, hops: int = 0) -> str:
    """What is proven of a key. In a cluster each node knows the one that has it, which is asked then."""
    said = server.say("EXISTS", key)
    if isinstance(said, Refusal) and said.code in ("MOVED", "ASK") and hops < MOST_HOPS:
        from ..codecs.redis import nodes

        host, port = nodes.moved(server, said)
        # Without a host it is the one that the answer came from.
        host = host or at
        with stream.connect(host, port, server.stream.attempt) as connection:
            node = _client(target, connection, host)
            _log_in(target, node)
            if said.code == "ASK":
                node.ask("ASKING")
            return _find(target, node, host, key, hops + 1)
    if isinstance(said, Refusal):
        raise server.refused(("EXISTS", key), said)
    if said == 0:
        raise blocked("missing-object", f"{server.peer} has no key {printable(key, 100)}")
    if said != 1:
        raise server.strange("EXISTS", said)
    said = f"has the key {printable(key, 100)}"
    return f"knows that {server.peer} {said}" if hops else said


_LOGINS = ("AUTH password", "AUTH user password")
_CAUSES = (
    *("starting", "read-only", "replica-lag", "no-leader", "no-quorum", "overloaded", "alarm"),
    *(
        "auth-required",
        "auth-refused",
        "no-such-database",
        "missing-object",
        "not-ready",
        "failed",
        "forbidden",
    ),
    *("too-few", "redirect", "unsupported"),
)


def _scheme(
    name: str, proves: str, example: str, options: tuple[Option, ...], floor: float
) -> Scheme:
    return Scheme(
        name,
        "url",
        probe,
        proves=proves,
        not_proves="without `role` that writes are taken; of its data more than `key` says",
        example=example,
        cost="a connection and one to five commands that read",
        logins=_LOGINS,
        causes=_CAUSES,
        query=("db",),
        options=options,
        port=6379,
        floor=floor,
        check=check,
    )


SCHEMES = (
    _scheme(
        "redis",
        "commands are answered, in the role, with the link, slots and key that are asked for",
        "redis://cache.shop#role=primary",
        OPTIONS,
        0.05,
    ),
    _scheme(
        "rediss",
        "as redis, over TLS with a certificate that is trusted",
        "rediss://cache.shop/3#user=app#password-file=/run/secrets/redis",
        (*OPTIONS, *TLS_OPTIONS_BESIDE_KEY),
        0.1,
    ),
)
