"""Kafka: do brokers answer where clients are sent to, and do the leaders of a topic lead.

The Kafka protocol guide, from Kafka 1.0 to 4.4. One broker is asked what it speaks (ApiVersions), for a
login (SaslHandshake, SaslAuthenticate), and for the brokers and topics it knows (Metadata, which never
makes a topic). Clients are sent on to the addresses that brokers advertise, so those are asked, too:
each leader of a topic for where its partitions end (ListOffsets), else one broker, or as many as
`brokers` says. Costs a connection to each broker asked, and a few small requests; nothing is written.
"""

from __future__ import annotations

from ..access import try_tls_files
from ..codecs.kafka import wire
from ..codecs.kafka.entry import MECHANISMS, Entry
from ..codecs.kafka.fault import check_cluster, check_topic, counted, trouble, unreached
from ..codecs.kafka.options import OPTIONS, check
from ..errors import NotReady, blocked
from ..kinds import is_name
from ..model import Verdict, ready
from ..net import is_address, monotonic
from ..options import Scheme, Target, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..codecs.kafka.talk import Talk
    from ..codecs.kafka.wire import Broker
    from ..stream import Attempt

    # Of a leader: its topics, and which of their partitions it leads.
    Led = dict[str, list[int]]

# A broker that may be left out gets at most a third of the time that is left.
_SHARE = 3
# Brokers that do not answer until no other is asked; more only where `brokers` asks for more.
MOST_FAILED = 8


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when what a client does first works: to find the brokers, and to reach those it needs."""
    try_tls_files(target)
    entry = Entry(target)
    with entry.begin(attempt) as talk:
        if talk.locked:
            return _locked(talk, bool(target.texts("topic") or target.number("brokers")))
        check_cluster(talk.peer, talk.cluster, int(target.number("brokers") or 1))
        led = _leaders(talk, target)
        need = int(target.number("brokers") or (0 if led else 1))
        answered = _visit(entry, attempt, talk, led, need)
        return ready(_proven(talk, answered, int(target.number("min-isr") or 0)))


def _locked(talk: Talk, more: bool) -> Verdict:
    """What to say of a broker that asks for a login, and got none."""
    asks = f"asks for a login by {', '.join(talk.locked)}"
    if more:
        hint = "#user= with #password-file= logs in"
        raise blocked("auth-required", f"{talk.peer} {asks} before it says more", hint)
    return ready(f"{talk.peer} answers, and {asks} (not tried)")


def _leaders(talk: Talk, target: Target) -> dict[int, Led]:
    """Who leads what of the topics that are asked for, once each of them is as it should be."""
    led: dict[int, Led] = {}
    found = {topic.name: topic for topic in talk.cluster.topics}
    for name in target.texts("topic"):
        if name not in found:
            raise blocked("protocol", f"{talk.peer} answers Metadata without the topic {name}")
        check_topic(talk.peer, found[name], target)
        for partition in found[name].partitions:
            led.setdefault(partition.leader, {}).setdefault(name, []).append(partition.index)
    unknown = led.keys() - {broker.node for broker in talk.cluster.brokers}
    if unknown:
        seen = f"{talk.peer} names broker {min(unknown)} as a leader, and knows no such"
        raise blocked("no-leader", seen)
    return led


def _visit(entry: Entry, attempt: Attempt, talk: Talk, led: dict[int, Led], need: int) -> list[int]:
    """Ask all leaders, and others until `need` brokers answered where they are advertised; who did."""
    answered: list[int] = []
    failed = 0
    # After the leaders the one with whom we talk already.
    order = sorted(
        talk.cluster.brokers,
        key=lambda one: (one.node not in led, (one.host, one.port) != entry.at, one.node),
    )
    for number, broker in enumerate(order):
        leads = broker.node in led
        if not leads and len(answered) >= need:
            break
        left = 1 if leads else min(_SHARE, len(order) - number)
        try:
            _ask(entry, attempt.part(left), talk, broker, led.get(broker.node, {}))
        except NotReady:
            failed += 1
            enough = failed >= max(MOST_FAILED, need) or monotonic() >= attempt.deadline
            if leads or enough or len(order) - failed < need:
                raise
        else:
            answered.append(broker.node)
    return answered


def _ask(entry: Entry, attempt: Attempt, talk: Talk, broker: Broker, led: Led) -> None:
    """See that a broker answers where it is advertised, and leads what it should."""
    told = f"{talk.peer} advertises broker {broker.node} at {place(broker.host, broker.port)}"
    known = is_address(broker.host) or is_name(broker.host)
    if not known or not 0 < broker.port < 65_536:
        raise blocked("protocol", f"{told}, which is no address")
    if (broker.host, broker.port) == entry.at:
        _question(talk, talk.cluster.name, told, broker, led)
        return
    try:
        other = entry.meet(broker.host, broker.port, attempt)
    except NotReady as error:
        raise unreached(told, broker.host, entry.at[0], error) from error
    with other:
        _question(other, talk.cluster.name, told, broker, led)


def _question(talk: Talk, cluster: str, told: str, broker: Broker, led: Led) -> None:
    if not talk.is_broker(cluster, broker.node):
        hint = "does a proxy, or a Service of several brokers, stand there?"
        raise blocked("not-ready", f"{told}, where another broker answers", hint)
    if not led:
        return
    if not talk.speaks(wire.LIST_OFFSETS):
        seen = f"{talk.peer} does not speak ListOffsets, by which a leader shows that it leads"
        raise blocked("unsupported", seen)
    answer = talk.ask(wire.LIST_OFFSETS, wire.offsets_request(led.items()), wire.read_offsets)
    errors = {(topic, index): error for topic, index, error in answer}
    for topic, indexes in led.items():
        for index in indexes:
            if error := errors.get((topic, index), -1):
                what = (
                    f"broker {broker.node} ({talk.peer}) answers for partition {index} of {topic}"
                )
                raise trouble(error, what)


def _proven(talk: Talk, answered: list[int], min_isr: int) -> str:
    known = counted(len(talk.cluster.brokers), "broker")
    nodes = ", ".join(map(str, sorted(answered)))
    one = len(answered) == 1
    which = (
        f"broker {nodes} answers where it is" if one else f"brokers {nodes} answer where they are"
    )
    told = f"{talk.peer} knows {known}, and {which} advertised"
    synced = f" and at least {counted(min_isr, 'in-sync replica')}" if min_isr else ""
    for topic in talk.cluster.topics:
        have = counted(len(topic.partitions), "partition")
        told += f"; {topic.name} has {have}, each with a leader that answers{synced}"
    return told


SCHEMES = (
    Scheme(
        "kafka",
        "hosts",
        probe,
        proves="a broker answers, and so do brokers where clients are sent to; with `topic` the leader of "
        "each partition",
        not_proves="that this user may write or read",
        example="kafka://kafka-0.kafka.shop,kafka-1.kafka.shop#topic=orders#min-isr=2",
        cost="a connection to each broker asked, and a few small requests",
        logins=MECHANISMS,
        causes=(
            *("no-leader", "not-ready", "too-few", "missing-object", "forbidden"),
            *("auth-required", "auth-refused", "unsupported"),
        ),
        options=OPTIONS,
        port=9092,
        floor=0.1,
        check=check,
    ),
)
