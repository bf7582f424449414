"""What is asked of one member of etcd, by its v3 API over gRPC (etcd.io, "API reference: v3", and the
errors in etcd's own rpctypes): a login, a linearizable read, the member's status, the alarms.

- What needs a majority says `hasleader: true`, as etcd's own client can: a member without a leader then
  refuses at once instead of letting it wait.
- A want of rights is told only after the read was agreed upon, and so proves as much of the cluster as
  an answer. etcd's own health check takes it so, too.
"""

from __future__ import annotations

from .. import net
from ..errors import NotReady, blocked
from ..model import keep_for_now, let_go, seconds
from . import protobuf
from .grpc import UNIMPLEMENTED, Channel, Metadata, Refused
from .protobuf import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

_NEEDS_LEADER = (("hasleader", "true"),)
_NOT_ENABLED = "authentication is not enabled"
# Refusals by a part of their words: the cause, and what is known of it.
_REFUSALS = (
    ("no leader", "no-leader", "an election is under way, or too many members are missing for one"),
    ("leader changed", "no-leader", ""),
    ("not supported for learner", "not-ready", "a learner only copies until it is promoted"),
    # kine's words.
    ("alarm is not supported", "unsupported", "without #alarms none is asked for"),
    ("not capable", "starting", ""),
    # etcd 3.4 has the status UNKNOWN for it.
    ("deadline exceeded", "no-reply", ""),
    ("request timed out", "no-quorum", ""),
    ("unhealthy cluster", "no-quorum", ""),
    ("corrupt cluster", "alarm", "`etcdctl alarm list` names the member whose data differ"),
    ("permission denied", "forbidden", "`etcdctl role grant-permission ROLE read KEY` allows it"),
    ("user name is empty", "auth-required", "#user= with #password-file= logs in"),
    ("authentication failed", "auth-refused", ""),
    ("invalid auth token", "auth-refused", ""),
)
# AlarmType of rpc.proto.
_ALARMS = {1: "NOSPACE", 2: "CORRUPT"}


class Member:
    """The member that a channel leads to. Raises NotReady from every method.

    `cluster` and `number` are the ids of its cluster and its own, `version` is its etcd's: 0 and empty
    while it has told none, as other servers of the same API never do (kine). Use it in a `with` block:
    the token of a login is masked until its end.
    """

    __slots__ = (
        "_channel",
        "_deadline",
        "_masked",
        "_token",
        "cluster",
        "number",
        "peer",
        "version",
    )

    def __init__(self, channel: Channel, deadline: float) -> None:
        self._channel = channel
        self._deadline = deadline
        self._token: Metadata = ()
        self._masked: set[str] | None = None
        self.peer = channel.peer
        self.cluster = self.number = 0
        self.version = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._masked is not None:
            let_go(self._masked)
            self._masked = None

    def log_in(self, user: str, password: str) -> bool:
        """Log in. False where authentication is not enabled: no login is needed, and none is taken."""
        try:
            answer = self._agreed(
                "Auth/Authenticate", protobuf.text(1, user) + protobuf.text(2, password)
            )
        except Refused as refused:
            if _NOT_ENABLED in refused.words:
                return False
            raise
        token = answer.text(2)
        self._masked = keep_for_now(token)
        self._token = (("token", token),)
        return True

    def read(self, key: str) -> bool:
        """Whether there is such a key, by a linearizable read."""
        question = protobuf.text(1, key) + protobuf.number(9, 1)
        answer = self._agreed("KV/Range", question)
        # That of the store when it was read; an empty store has the first.
        if not answer.message(1).number(3):
            raise blocked("protocol", f"{self.peer} answers a read without a revision")
        return answer.number(4) > 0

    def alarms(self, insist: bool) -> tuple[str, ...]:
        """The alarms that are raised, whichever member raised them.

        The status tells them, since etcd 3.5 only to root where authentication is enabled. With `insist`
        they are then asked for by a call that every user may make, and that passes through the cluster's
        log as a login does; else none are told.
        """
        try:
            status = self._call("Maintenance/Status", b"", self._token)
        except Refused:
            if not insist:
                return ()
            raised = self._agreed("Maintenance/Alarm", b"").messages(2)
            return _sorted(_ALARMS.get(each.number(2), "unknown") for each in raised)
        self.version = status.text(2)
        words = " ".join(status.texts(8)).split()
        return _sorted(word[6:] for word in words if word.startswith("alarm:"))

    def goodbye(self) -> None:
        """End the conversation."""
        self._channel.goodbye()

    def _agreed(self, path: str, question: bytes) -> Message:
        """The answer to what a majority must agree upon. The rest of the time is for asking why not."""
        within = max(0.0, self._deadline - net.monotonic()) / 2
        try:
            return self._call(path, question, (*_NEEDS_LEADER, *self._token), within)
        except NotReady as error:
            known = _explained(error) if isinstance(error, Refused) else error
            if known.verdict.cause != "no-reply":
                raise known from error
            raise self._silence(within) from error

    def _silence(self, within: float) -> NotReady:
        """Why a majority did not agree, as far as the member knows by itself."""
        seen = f"{self.peer} did not answer a linearizable read within {seconds(within)}"
        try:
            leader = self._call("Maintenance/Status", b"", self._token).number(4)
        except Refused:
            return blocked("no-quorum", f"{seen}, and says nothing of a leader")
        if not leader:
            return blocked("no-leader", f"{seen}: it has no leader")
        hint = "more than half of the members must be up and see each other"
        return blocked("no-quorum", f"{seen}: its leader {leader:x} or a majority is silent", hint)

    def _call(
        self, path: str, question: bytes, metadata: Metadata, within: float | None = None
    ) -> Message:
        raw = self._channel.call(f"/etcdserverpb.{path}", question, metadata, within)
        answer = Message(raw, self.peer)
        if not answer.messages(1):
            seen = f"{self.peer} answers without the header that etcd's answers have"
            raise blocked("protocol", seen)
        header = answer.message(1)
        self.cluster, self.number = header.number(1), header.number(2)
        return answer


def _explained(refused: Refused) -> Refused:
    """A refusal with the cause that its words stand for."""
    if refused.code == UNIMPLEMENTED:
        seen = f"{refused.verdict.seen}: it speaks gRPC, and is no etcd"
        return Refused(refused.verdict.but(cause="protocol", seen=seen), refused.code, "")
    for words, cause, hint in _REFUSALS:
        if words in refused.words:
            verdict = refused.verdict.but(cause=cause, hint=hint)
            return Refused(verdict, refused.code, refused.words)
    return refused


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
