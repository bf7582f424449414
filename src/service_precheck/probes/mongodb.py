"""MongoDB: does a server, or a replica set, serve reads and writes.

MongoDB Wire Protocol (OP_MSG) and the drivers' specification "Server Discovery And Monitoring". Sends
`hello`, to the server that counts also a login of two or three messages (with a user) and `ping`, and
closes: the protocol has no goodbye. Costs each server that is asked one connection.

Where a role, a set or a number of members is asked for, members count by the names that the set's own
configuration has for them, as they do for the drivers, and members that it lists are asked as well.
"""

from __future__ import annotations

from .. import net, stream
from ..access import tls_settings, try_tls_files, without_tls
from ..codecs.mongodb import member as members
from ..codecs.mongodb.member import Member, Place, serving
from ..codecs.mongodb.options import OPTIONS, QUERY, Wish, check
from ..codecs.mongodb.wire import ask
from ..errors import NotReady, blocked
from ..model import Verdict, ready
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt, Stream

# How long a member is waited for that could only contradict what is proven.
PATIENCE = 0.25
# Members that are named and members that are listed, together.
MOST_ASKED = 100
# What no other member would say otherwise; a refused login is not repeated.
_FINAL = ("auth-refused", "unsupported", "missing-object")


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when a server serves as what is asked for, and takes the login if there is one."""
    try_tls_files(target)
    wish = Wish(target)
    attempt.several = len(wish.named) > 1
    waiting = list(wish.named)
    asked: set[Place] = set()
    found: list[Member] = []
    missed: list[tuple[Place, NotReady]] = []
    proof = ""
    while waiting and len(asked) < MOST_ASKED:
        proven = bool(proof) and len(serving(found, wish.follows)) >= wish.least
        if proven:
            # Those that are named must be of the set, if they answer.
            waiting = [one for one in waiting if wish.set_name and one in wish.named]
            if not waiting:
                break
        piece = attempt.part(len(waiting))
        if proven:
            piece.deadline = min(piece.deadline, net.monotonic() + PATIENCE)
        where, *waiting = waiting
        asked.add(where)
        try:
            with _connect(target, where, piece) as connection:
                if wish.tls:
                    _secure(target, connection, where)
                member = _hello(connection, where, wish)
                if not proof and _suits(member, wish):
                    proof = _proof(target, wish, connection, member)
        except NotReady as error:
            if error.verdict.cause in _FINAL:
                raise
            missed.append((where, error))
            continue
        found.append(member)
        if wish.follows:
            _add_listed(waiting, asked, member, wish)
    return _judge(wish, found, missed, proof)


def _connect(target: Target, where: Place, attempt: Attempt) -> Stream:
    if path := target.text("unix-socket"):
        return stream.connect_unix(path, attempt)
    return stream.connect(*where, attempt)


def _secure(target: Target, connection: Stream, where: Place) -> None:
    try:
        connection.upgrade(tls_settings(target), where[0])
    except NotReady as error:
        raise without_tls(error) from error


def _hello(connection: Stream, where: Place, wish: Wish) -> Member:
    about = f"{wish.source}.{wish.user}" if wish.user and not wish.mechanism else ""
    member = members.hello(connection, where, about)
    other = member.set_name != wish.set_name and member.kind != members.UNCONFIGURED
    if wish.set_name and other:
        raise blocked("missing-object", f"{member.peer} is {member}, not of {wish.set_name}")
    return member


def _suits(member: Member, wish: Wish) -> bool:
    """Whether a member is what is asked for, under the name by which clients find it."""
    if wish.follows and not member.is_listed:
        return False
    if wish.role == members.SECONDARY:
        return member.kind == members.SECONDARY
    alone = member.kind in (members.PRIMARY, members.STANDALONE, members.ROUTER)
    return alone and member.writable if wish.role else alone or member.kind == members.SECONDARY


def _proof(target: Target, wish: Wish, connection: Stream, member: Member) -> str:
    """What a member does that suits, once it has taken the login and answers `ping`. Raises NotReady."""
    does = {"primary": "takes writes", "secondary": "serves reads"}.get(wish.role, "answers")
    proof = f"{connection.peer} {does} as {member}"
    if wish.user:
        from ..codecs import credentials
        from ..codecs.mongodb.login import login

        mechanism = login(connection, wish, credentials.password(target), member)
        proof += f", and took the login ({mechanism})"
    else:
        proof += "; no login was tried"
    ask(connection, {"ping": 1}, "admin", login=bool(wish.user))
    return proof


def _add_listed(waiting: list[Place], asked: set[Place], member: Member, wish: Wish) -> None:
    """Have the members asked as well that a member lists, who it takes for the primary first."""
    waiting += [one for one in member.listed if one not in asked and one not in waiting]
    primary = member.primary
    if wish.role == members.PRIMARY and primary is not None and primary not in asked:
        if primary in waiting:
            waiting.remove(primary)
        waiting.insert(0, primary)


def _judge(
    wish: Wish, found: list[Member], missed: list[tuple[Place, NotReady]], proof: str
) -> Verdict:
    count = len(serving(found, wish.follows))
    if proof and count >= wish.least:
        serve = f"; {count} member{' serves' if count == 1 else 's serve'}" if wish.least else ""
        return ready(proof + serve)
    from ..codecs.mongodb import fault

    if proof:
        raise fault.too_few(wish, found, missed)
    raise fault.explain(wish, found, missed)


SCHEMES = (
    Scheme(
        "mongodb",
        "hosts",
        probe,
        proves="a server answers and serves; with a user it takes the login, with `role` it is the "
        "primary or a secondary of its set",
        not_proves="that a database or collection is there, or that the user may read it: none is named",
        example="mongodb://mongo-0.mongo,mongo-1.mongo/?replicaSet=rs0#role=primary",
        cost="a connection to each member asked; a login on one of them",
        logins=("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN (with TLS)"),
        causes=(
            "missing-object",
            "not-ready",
            "starting",
            "no-leader",
            "read-only",
            "too-few",
            "auth-required",
            "auth-refused",
            "forbidden",
            "unsupported",
            "overloaded",
        ),
        query=QUERY,
        options=OPTIONS,
        port=members.PORT,
        floor=0.1,
        check=check,
    ),
)
