"""ZooKeeper: does it keep a session, which takes a quorum, and has it a znode.

ZooKeeper Administrator's Guide ("The Four Letter Words") and the client protocol of 3.4 to 3.9. Each
server is asked `srvr` first: without a quorum it says so, and is asked nothing more. One that serves is
asked for a session, with `path` for a znode (`exists`; with a login `getData`), and to end the session.
With `voters` the same session goes on at one server after the other. Each asks the leader whether it
may, so all are of one ensemble, and its leader lives.

While there is no quorum an attempt costs a server one line in its log. When there is, it costs the
ensemble two writes, where the session begins and where it ends, however many servers keep it.
"""

from __future__ import annotations

from ..access import try_tls_files
from ..codecs import hosts
from ..codecs.zookeeper.ensemble import Keeping, Server, servers
from ..codecs.zookeeper.options import OPTIONS, check, znode
from ..errors import NotReady, blocked
from ..model import Verdict, ready
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt

# Of several obstacles the one that tells most.
TELLING = ("read-only", "no-quorum", "too-few", "no-reply", "not-ready", "unsupported")
# Seconds from one session to the next at the least: each costs the ensemble writes, or a log a stack trace.
NEXT_SESSION = 0.5


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when a server, or `voters` of them, keep a session, and the znode is there."""
    try_tls_files(target)
    obstacles: list[Verdict] = []
    refusals: list[Verdict] = []
    serving: list[Server] = []
    # A session that finds no password has cost the ensemble its writes for nothing.
    password = _password(target)
    untried = servers(target, attempt, obstacles)
    need = int(target.number("voters") or 1)
    with Keeping(target, attempt) as keeping:
        while untried:
            try:
                serving.append(_serving(target, untried.pop(0), attempt.part(len(untried) + 1)))
            except NotReady as error:
                obstacles.append(error.verdict)
            # A session costs writes: none before enough servers say that they serve.
            while serving and len(keeping.servers) + len(serving) >= need:
                try:
                    keeping.add(serving.pop(0), attempt.part(len(serving) + len(untried) + 1))
                except NotReady as error:
                    refusals.append(error.verdict)
                if len(keeping.servers) == need:
                    try:
                        return _judge(target, keeping, password)
                    except NotReady as error:
                        raise _later(error) from error
    if refusals:
        raise _later(hosts.together(refusals, TELLING, obstacles))
    if serving:
        few = f"{len(serving)} of {need} voters serve: {', '.join(map(str, serving))}"
        raise hosts.together([Verdict("too-few", few)], TELLING, obstacles)
    raise hosts.together(obstacles, TELLING)


def _serving(target: Target, server: Server, attempt: Attempt) -> Server:
    """The server, once it said that it serves, and that it is what counts. Raises NotReady."""
    server.ask_mode(target, attempt)
    voters, wanted = target.number("voters"), target.text("mode")
    if not server.mode and (voters or wanted != "any"):
        raise blocked(
            "unsupported",
            f"{server} does not say what it is: srvr is not in its whitelist",
            "put srvr into 4lw.commands.whitelist, or leave out #mode= and #voters=",
        )
    if voters and server.mode not in ("leader", "follower"):
        raise blocked("not-ready", f"{server} has no vote")
    if wanted not in ("any", server.mode):
        raise blocked("not-ready", f"{server} is not {wanted}")
    return server


def _password(target: Target) -> str:
    """The user's password, empty without a user. Raises NotReady (`local`)."""
    if not (target.text("user") or target.user):
        return ""
    from ..codecs import credentials

    return credentials.password(target)


def _judge(target: Target, keeping: Keeping, password: str) -> Verdict:
    """See whether the znode is there, and end the session, which takes the quorum's consent."""
    there = ""
    path = znode(target)
    if path or target.text("user") or target.user:
        from ..codecs.zookeeper import znode as zookeeper_znode

        there = zookeeper_znode.look(target, keeping.connection, path, password)
    if not keeping.end():
        # `enforce.auth.enabled`: the session was granted, and runs out by itself.
        there = ", and wants a login for all else, which was not tried"
    many = len(keeping.servers)
    kept = " keeps a session" if many == 1 else f" keep one session, {many} voters of one ensemble"
    return ready(", ".join(map(str, keeping.servers)) + kept + there)


def _later(error: NotReady) -> NotReady:
    """The same obstacle, met with a session: not to be tried again at once."""
    return NotReady(error.verdict.but(again=NEXT_SESSION))


SCHEMES = (
    Scheme(
        "zookeeper",
        "hosts",
        probe,
        proves="a server of a quorum, or as many as asked for, keeps a session, and the znode is there",
        not_proves="that the other servers are up, unless voters says how many",
        example="zookeeper://zk-0.zk.hdfs,zk-1.zk.hdfs,zk-2.zk.hdfs#voters=2",
        cost="a line in its log without a quorum; two writes, when a session begins and ends, with one",
        logins=("digest",),
        causes=(
            "no-quorum",
            "read-only",
            "too-few",
            "not-ready",
            "missing-object",
            "auth-required",
            "auth-refused",
            "overloaded",
            "unsupported",
        ),
        options=OPTIONS,
        port=2181,
        floor=0.1,
        check=check,
    ),
)
