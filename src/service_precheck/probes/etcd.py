"""etcd: does a cluster answer what more than half of its members must agree upon.

The v3 API over gRPC (see `codecs/etcd`). Sends HTTP/2's preface; Authenticate where there is a login;
Range, a linearizable read that counts one key and returns nothing of it; Status; a GOAWAY. A read
costs the cluster one round of agreement between its members and no write. A login costs more: it
passes through the cluster's log, and checks the password with bcrypt, some 0.1 s of a processor.
"""

from __future__ import annotations

from .. import stream
from ..access import tls_settings, try_tls_files, wants_tls, without_tls
from ..codecs import etcd, grpc, hosts
from ..codecs.etcd_options import OPTIONS, check
from ..codecs.grpc import Refused
from ..errors import NotReady, blocked
from ..model import Verdict, printable, ready
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..codecs.etcd import Member
    from ..stream import Attempt

# What etcd's own health check reads; it need not exist.
_ANY_KEY = "health"
# Any other member would say the same.
_OF_THE_CLUSTER = ("alarm", "auth-required", "auth-refused", "forbidden", "missing-object")
# Of several members that do not serve, the one that knows most of why.
_TELLING = ("no-quorum", "no-leader", "starting", "not-ready", "overloaded", "no-reply")


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when one of the hosts, or with `member` each of them, answers a linearizable read."""
    try_tls_files(target)
    if target.flag("member"):
        return _each(target, attempt)
    _, told = hosts.first(
        target,
        attempt,
        lambda *one: _serving(target, *one),
        telling=_TELLING,
        final=_OF_THE_CLUSTER,
    )
    return ready(told)


def _each(target: Target, attempt: Attempt) -> Verdict:
    """Every host serves, and all of them in one cluster. A learner does not serve."""
    found = [_serving(target, *one) for one in hosts.in_turn(target, attempt)]
    member, told = found[0]
    if len(found) == 1:
        return ready(f"{told}, as a voting member")
    for other, _ in found:
        if not other.cluster:
            hint = "without #member it is enough that one of them serves"
            seen = f"{other.peer} answers without saying of which cluster it is"
            raise blocked("unsupported", seen, hint)
        if other.cluster != member.cluster:
            raise blocked(
                "not-ready",
                f"{member.peer} is of the cluster {member.cluster:x}, {other.peer} of another one, "
                f"{other.cluster:x}",
                "each cluster needs a target of its own",
            )
    voters = len({other.number for other, _ in found})
    every = ", ".join(other.peer for other, _ in found)
    return ready(f"{told}; {every} all do, {voters} voting members of one cluster")


def _serving(target: Target, host: str, port: int, attempt: Attempt) -> tuple[Member, str]:
    """The member at a host, and what it has proven."""
    secure = wants_tls(target)
    with stream.connect(host, port, attempt) as connection:
        try:
            settings = tls_settings(target, "h2") if secure else None
            channel = grpc.Channel(connection, host, port, settings, hint=_hint(target, secure))
        except NotReady as error:
            if not secure:
                raise
            if error.verdict.cause == "no-reply":
                hint = error.verdict.hint or _hint(target, secure)
                raise NotReady(error.verdict.but(hint=hint)) from error
            raise without_tls(error) from error
        with etcd.Member(channel, attempt.deadline) as member:
            login = _log_in(target, member)
            proven = [f"{member.peer} {_read(target, member)}"]
            raised = member.alarms(target.flag("alarms"))
            alarms = " and ".join(printable(each, 20) for each in raised)
            version = printable(member.version, 20)
            member.goodbye()
    if alarms and target.flag("alarms"):
        hint = "NOSPACE blocks writes until it is disarmed; `etcdctl alarm list` names the members"
        raise blocked("alarm", f"{member.peer} tells of the alarm {alarms}", hint)
    if version:
        proven[0] += f" (etcd {version})"
    if login:
        proven.append(login)
    if alarms:
        proven.append(f"the alarm {alarms} is raised")
    elif target.flag("alarms"):
        proven.append("no alarm is raised")
    return member, ", ".join(proven)


def _log_in(target: Target, member: Member) -> str:
    """What is proven of the login, empty without one."""
    user = target.text("user") or target.user
    if not user:
        return ""
    from ..codecs import credentials

    if member.log_in(user, credentials.password(target)):
        return f"takes the login of {printable(user, 60)}"
    return "has authentication not enabled"


def _read(target: Target, member: Member) -> str:
    """What is proven by a linearizable read, of `key` if that is asked for."""
    key = target.text("key")
    # Which cluster it is stands in answers, and not in refusals.
    needed = key or (target.flag("member") and len(target.hosts) > 1)
    try:
        found = member.read(key or _ANY_KEY)
    except Refused as refused:
        cause = refused.verdict.cause
        if needed and cause == "forbidden":
            hint = f"`etcdctl role grant-permission ROLE read {printable(key or _ANY_KEY, 100)}` allows it"
            if not key:
                hint += "; #member needs it, to see that all are of one cluster"
            raise NotReady(refused.verdict.but(hint=hint)) from refused
        if needed or cause not in ("forbidden", "auth-required"):
            raise
        unasked = ", and asks for a login (not tried)" if cause == "auth-required" else ""
        return f"has a majority for reads{unasked}"
    if key and not found:
        raise blocked("missing-object", f"{member.peer} has no key {printable(key, 100)}")
    return f"has the key {printable(key, 100)}" if key else "answers linearizable reads"


def _hint(target: Target, secure: bool) -> str:
    """What to know of a server that hangs up, says nothing, or speaks something else."""
    silent = "a member that has not joined its cluster accepts and is silent, for want of a quorum"
    if not secure:
        return f"{silent}; if it wants TLS: #tls"
    if target.text("cert"):
        return silent
    return f"{silent}; if it wants a client's certificate: #cert= and #cert-key="


SCHEMES = (
    Scheme(
        "etcd",
        "hosts",
        probe,
        proves="the cluster answers a linearizable read, which more than half of its members agree upon",
        not_proves="that it takes writes: an alarm for space blocks them (`alarms`)",
        example="etcd://etcd-0.etcd.infra,etcd-1.etcd.infra,etcd-2.etcd.infra#ca=/tls/ca.crt",
        cost="a linearizable read and a status; with a login an entry in the log and a bcrypt",
        logins=("password", "client certificate"),
        causes=(
            *("no-leader", "no-quorum", "starting", "not-ready", "overloaded", "alarm"),
            *("auth-required", "auth-refused", "forbidden", "missing-object", "unsupported"),
        ),
        options=OPTIONS,
        port=2379,
        floor=0.1,
        check=check,
    ),
)
