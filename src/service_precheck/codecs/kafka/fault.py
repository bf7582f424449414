"""What keeps a Kafka cluster or topic from being used, as Metadata and ListOffsets tell it.

Raises NotReady: `no-leader`, `missing-object`, `forbidden`, `too-few`, `protocol`.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from . import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target
    from .wire import Cluster, Topic

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_cluster(peer: str, cluster: Cluster, brokers: int) -> None:
    """See that there is a controller, and at least so many brokers."""
    known = counted(len(cluster.brokers), "broker")
    if cluster.controller < 0:
        raise blocked("no-leader", f"{peer} knows {known} and no controller")
    if len(cluster.brokers) < brokers:
        raise _too_few(f"{peer} knows {known}", brokers)


def check_topic(peer: str, topic: Topic, target: Target) -> None:
    """See that a topic is there, and its partitions as they are asked for."""
    name = topic.name
    if topic.error == wire.UNKNOWN_TOPIC_OR_PARTITION:
        raise blocked("missing-object", f"{peer} knows no topic {name}")
    if topic.error:
        raise trouble(topic.error, f"{peer} answers for the topic {name}")
    partitions = int(target.number("partitions") or 1)
    if len(topic.partitions) < partitions:
        have = counted(len(topic.partitions), "partition")
        raise _too_few(f"{name} has {have}", partitions)
    for partition in topic.partitions:
        if partition.leader < 0 and partition.error in (0, *wire.LEADERLESS):
            said = f": {wire.error_name(partition.error)}" if partition.error else ""
            raise blocked("no-leader", f"partition {partition.index} of {name} has no leader{said}")
        if partition.error not in (0, wire.REPLICA_NOT_AVAILABLE):
            raise trouble(
                partition.error, f"{peer} answers for partition {partition.index} of {name}"
            )
    least = int(target.number("min-isr") or 0)
    for partition in topic.partitions:
        if len(partition.in_sync) < least:
            have = counted(len(partition.in_sync), "in-sync replica")
            raise _too_few(f"partition {partition.index} of {name} has {have}", least)


def _too_few(has: str, asked: int) -> NotReady:
    return blocked("too-few", f"{has}, {asked} {'is' if asked == 1 else 'are'} asked for")


def trouble(error: int, what: str) -> NotReady:
    """What to raise for an error code of a topic or partition."""
    cause = "no-leader" if error in wire.LEADERLESS else "protocol"
    hint = ""
    if error in wire.FORBIDDEN:
        cause, hint = "forbidden", "the right Describe on the topic is needed"
    return blocked(cause, f"{what} with {wire.error_name(error)}", hint)


def unreached(told: str, host: str, asked: str, error: NotReady) -> NotReady:
    """What to raise where a broker is advertised, as `told`, at a host that is no way to it."""
    verdict = error.verdict
    hint = "advertised.listeners must have what clients can look up and reach"
    if verdict.cause in ("refused", "unreachable", "connect-timeout", "closed-early"):
        hint = f"a broker that died is known for some seconds; if it lives, {hint}"
    if host in _LOOPBACK and asked not in _LOOPBACK:
        hint = f"{host} is each client's own machine: mend advertised.listeners"
    return NotReady(verdict.but(seen=f"{told}, but {verdict.seen}", hint=verdict.hint or hint))


def counted(number: int, thing: str) -> str:
    """`no broker`, `1 broker`, `2 brokers`."""
    return f"{number or 'no'} {thing}{'s' if number > 1 else ''}"
