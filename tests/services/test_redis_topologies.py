"""`redis:` against replicas, sentinels and clusters; redis-py is the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel as SentinelClient

from tests.bed.fixtures import Enter
from tests.bed.opening import opened
from tests.bed.ports import free_port
from tests.bed.process import Gate
from tests.bed.services.redis import NAME, Redis, Sentinel, Valkey, cluster
from tests.bed.tls import Authority
from tests.probes.conftest import Ask
from tests.services.test_redis import BOTH, rights, works, writes

pytestmark = [pytest.mark.xdist_group("redis"), pytest.mark.timeout(120)]

# Fresh replicas wait this long for others that may share a copy; the usual are five seconds.
SOON = ("--repl-diskless-sync-delay", "1")


def replica_of(primary: Redis, *options: str) -> Redis:
    return type(primary)("--replicaof", f"127.0.0.1 {primary.port}", *options)


def follows(server: Redis) -> bool:
    """What the driver finds on a replica."""
    return works(lambda: server.client().info()["master_link_status"] == "up")


# -- primary and replica


@BOTH
def test_link_comes_up(
    make: type[Redis], enter: Enter, gate: Callable[..., Gate], ask: Ask
) -> None:
    """A replica answers at once, and `link` waits until its copy of the data is complete."""
    primary = enter(make(*SOON))
    primary.client().set("copied", "1")
    replica = replica_of(primary)
    started = gate("--output", "json", "-v", f"redis://{replica.place}#link#key=copied")
    enter(replica)
    assert ask(f"redis://{replica.place}").ready
    started.wait_output("has no link to its primary")
    assert ask(f"redis://{replica.place}#role=replica").ready
    seen = opened(started, lambda: follows(replica))
    assert "replica-lag" in seen
    assert seen <= {"refused", "replica-lag", "starting"}
    verdict = ask(f"redis://{replica.place}#link#role=replica")
    proven = f"{replica.place} is a replica of {primary.place} with its link up ("
    assert verdict.seen.startswith(proven)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Redis, Redis]]:
    """Return a primary and its replica, in step."""
    with Redis("--repl-diskless-sync-delay", "0") as primary, replica_of(primary) as replica:
        replica.daemon.wait_until(lambda: follows(replica))
        # The primary counts on it a little later.
        online = {"state": "online", "lag": 0}
        primary.daemon.wait_until(
            lambda: online.items() <= primary.client().info("replication")["slave0"].items()
        )
        yield primary, replica


def test_roles(pair: tuple[Redis, Redis], ask: Ask) -> None:
    """Each is what it is: a replica asked for writes is `read-only`, a primary is no replica."""
    primary, replica = pair
    assert ask(f"redis://{primary.place}#role=primary").ready
    assert ask(f"redis://{replica.place}#role=replica").ready
    verdict = ask(f"redis://{replica.place}#role=primary")
    assert verdict.cause == "read-only"
    assert verdict.seen == (
        f"{replica.place} is a replica of {primary.place}, a primary is asked for"
    )
    assert not writes(replica.client())
    for options in ("#role=replica", "#link"):
        verdict = ask(f"redis://{primary.place}{options}")
        assert verdict.cause == "not-ready"
        assert verdict.seen == f"{primary.place} is a primary, a replica is asked for"


def test_too_few_replicas(pair: tuple[Redis, Redis], ask: Ask) -> None:
    """Where min-replicas-to-write is not met no write is taken: `read-only`, found without writing."""
    primary, _ = pair
    client = primary.client()
    for wanted in (1, 2, 0):
        client.config_set("min-replicas-to-write", wanted)
        taken = wanted < 2
        primary.daemon.wait_until(lambda taken=taken: writes(client) is taken)  # type: ignore[misc]
        verdict = ask(f"redis://{primary.place}#role=primary")
        assert verdict.cause == (None if taken else "read-only")
        assert taken or "1 replicas keep up" in verdict.seen
        assert ask(f"redis://{primary.place}").ready


def test_too_few_replicas_without_rights(pair: tuple[Redis, Redis], ask: Ask) -> None:
    """Who may not ask how many are wanted takes one for enough; the page's further right tells."""
    primary, _ = pair
    login = f"redis://probe:pw@{primary.place}#role=primary"
    words = ("ACL", "SETUSER", "probe", "reset", "on", ">pw")
    primary.client().config_set("min-replicas-to-write", 2)
    primary.tell(*words, *rights("every target", "`role`, `link`"))
    assert ask(login).ready
    primary.tell(
        *words, *rights("every target", "`role`, `link`", "`min-replicas-to-write` above 1")
    )
    assert ask(login).cause == "read-only"
    primary.client().config_set("min-replicas-to-write", 0)
    assert ask(login).ready


@BOTH
def test_primary_lost_and_replica_promoted(
    make: type[Redis], enter: Enter, gate: Callable[..., Gate], ask: Ask
) -> None:
    """A replica that lost its primary has no link, may serve nothing, and takes writes once promoted."""
    primary = enter(make("--repl-diskless-sync-delay", "0"))
    replica = enter(replica_of(primary))
    replica.daemon.wait_until(lambda: follows(replica))
    primary.kill()
    replica.daemon.wait_until(lambda: not follows(replica))
    assert ask(f"redis://{replica.place}#role=replica").ready
    verdict = ask(f"redis://{replica.place}#link")
    assert verdict.cause == "replica-lag"
    assert verdict.seen.startswith(f"{replica.place} has no link to its primary {primary.place}")
    # A replica may refuse to serve what is stale.
    client = replica.client()
    client.config_set("replica-serve-stale-data", "no")
    assert not works(lambda: client.exists("a") == 0)
    for options in ("", "#role=replica", "#link", "#key=a"):
        verdict = ask(f"redis://{replica.place}{options}")
        assert verdict.cause == "replica-lag"
        assert "MASTERDOWN" in verdict.seen
    started = gate("--output", "json", "-v", f"redis://{replica.place}#role=primary")
    started.wait_output("MASTERDOWN")
    client.replicaof("NO", "ONE")
    assert opened(started, lambda: writes(client)) == {"replica-lag"}


# -- sentinels


def named(sentinel: Redis) -> redis.Redis:
    """Return the driver's client of the primary that a sentinel names."""
    watching = SentinelClient([("127.0.0.1", sentinel.port)], socket_timeout=2)  # type: ignore[no-untyped-call]
    client: redis.Redis = watching.master_for(NAME)  # type: ignore[no-untyped-call]
    return client


def test_sentinel(pair: tuple[Redis, Redis], enter: Enter, ask: Ask) -> None:
    """A sentinel leads to the primary; a name it does not know is `missing-object`."""
    primary, replica = pair
    sentinel = enter(Sentinel(primary))
    verdict = ask(f"redis://{sentinel.place}#sentinel={NAME}")
    assert verdict.ready
    assert verdict.seen == (
        f"{primary.place} takes writes (Redis 7.0.15), and is the primary of {NAME} by the sentinel "
        f"{sentinel.place}, which has a quorum"
    )
    assert writes(named(sentinel))
    verdict = ask(f"redis://{sentinel.place}#sentinel=nobody")
    assert verdict.cause == "missing-object"
    verdict = ask(f"redis://{replica.place}#sentinel={NAME}")
    assert verdict.cause == "unsupported"
    assert "26379" in verdict.hint
    verdict = ask(f"redis://{sentinel.place}#role=primary")
    assert verdict.cause == "not-ready"
    assert verdict.seen == f"{sentinel.place} is a sentinel, a primary is asked for"
    assert "#sentinel=" in verdict.hint


def test_sentinels_without_quorum(pair: tuple[Redis, Redis], enter: Enter, ask: Ask) -> None:
    """Too few sentinels to decide on a failover are `no-quorum`, though the primary works."""
    primary, _ = pair
    sentinel = enter(Sentinel(primary, 2))
    verdict = ask(f"redis://{sentinel.place}#sentinel={NAME}")
    assert verdict.cause == "no-quorum"
    assert "NOQUORUM" in verdict.seen
    assert writes(named(sentinel))
    second = enter(Sentinel(primary, 2))
    target = f"redis://{sentinel.place}#sentinel={NAME}"
    sentinel.daemon.wait_until(lambda: ask(target).ready)
    second.kill()


@pytest.mark.parametrize("own", [(), ("requirepass pw",)])
def test_sentinels_with_logins(enter: Enter, ask: Ask, own: tuple[str, ...]) -> None:
    """The login is for the primary, and for a sentinel only if that asks; least rights suffice."""
    primary = enter(Redis("--requirepass", "pw"))
    sentinel = enter(Sentinel(primary, 1, f"sentinel auth-pass {NAME} pw", *own))
    place = sentinel.place
    verdict = ask(f"redis://:pw@{place}/2#sentinel={NAME}")
    assert verdict.ready
    assert verdict.seen.startswith(
        f"{primary.place} takes the login, has the database 2, takes writes"
    )
    assert ask(f"redis://{place}#sentinel={NAME}").cause == "auth-required"
    assert ask(f"redis://:wrong@{place}#sentinel={NAME}").cause == "auth-refused"
    if not own:
        return
    rule = ("ACL", "SETUSER", "probe", "reset", "on", ">pw")
    sentinel.tell(*rule, *rights("`sentinel`, at the sentinel"), password="pw")
    primary.tell(*rule, *rights("every target", "`role`, `link`"), password="pw")
    target = f"redis://probe:pw@{sentinel.place}#sentinel={NAME}"
    assert ask(target).ready
    sentinel.tell(*rule, "+sentinel|master", password="pw")
    verdict = ask(target)
    assert verdict.cause == "forbidden"
    assert verdict.hint == "ACL SETUSER probe +sentinel|ckquorum"


def test_sentinels_in_tls(enter: Enter, authority: Authority, ask: Ask) -> None:
    """With `rediss:` a sentinel and its primary are both asked in TLS, by address or a name they share."""
    certificate = authority.issue("127.0.0.1", "redis.example")
    words = {
        "tls-cert-file": certificate.chain,
        "tls-key-file": certificate.key,
        "tls-ca-cert-file": authority.file,
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }
    port = free_port()
    options = [text for name, value in words.items() for text in (f"--{name}", str(value))]
    primary = enter(Redis("--port", "0", "--tls-port", str(port), *options, port=port))
    own = free_port()
    settings = [f"{name} {value}" for name, value in words.items()]
    sentinel = enter(Sentinel(primary, 1, "port 0", f"tls-port {own}", *settings, port=own))
    target = f"rediss://127.0.0.1:{sentinel.port}#sentinel={NAME}#ca={authority.file}"
    for more in ("", "#server-name=redis.example"):
        verdict = ask(target + more)
        assert verdict.ready
        assert verdict.seen.startswith(f"{primary.place} takes writes")
    assert ask(f"{target}#server-name=other.example").cause == "tls-name"


def test_no_harm_to_sentinels(pair: tuple[Redis, Redis], enter: Enter, ask: Ask) -> None:
    """Hundreds of probes leave no line in a sentinel's log nor its primary's."""
    primary, _ = pair
    sentinel = enter(Sentinel(primary))
    sentinel.daemon.wait_until(
        lambda: "saved on disk" in sentinel.log.partition("+slave slave")[2], 20
    )
    logs = primary.log, sentinel.log
    for _ in range(300):
        assert ask(f"redis://{sentinel.place}#sentinel={NAME}").ready
    assert (primary.log, sentinel.log) == logs


def test_failover(enter: Enter, gate: Callable[..., Gate], ask: Ask) -> None:
    """The primary is killed: `no-leader`, until the sentinel names the replica, and that takes writes."""
    primary = enter(Redis("--repl-diskless-sync-delay", "0"))
    replica = enter(replica_of(primary))
    replica.daemon.wait_until(lambda: follows(replica))
    sentinel = enter(Sentinel(primary))
    sentinel.daemon.wait_until(lambda: "+slave slave" in sentinel.log, 20)
    target = f"redis://{sentinel.place}#sentinel={NAME}"
    assert ask(target).ready
    primary.kill()
    verdict = ask(target)
    assert verdict.cause == "refused"
    assert verdict.seen == (
        f"{primary.place} is the primary of {NAME} by the sentinel {sentinel.place}; "
        f"{primary.place} refused the connection"
    )
    started = gate("--output", "json", "-v", target)
    started.wait_output(f"finds {primary.place}, the primary of {NAME}, down (flags s_down")
    seen = opened(started, lambda: writes(named(sentinel)))
    assert "no-leader" in seen
    assert seen <= {"refused", "no-leader", "read-only"}
    assert ask(target).seen.startswith(f"{replica.place} takes writes")


# -- clusters


def joined(nodes: list[Redis]) -> Callable[[], bool]:
    """Return what the driver needs: that it finds a cluster, and writes to the first slot and the last."""

    def holds() -> bool:
        try:
            with RedisCluster("127.0.0.1", nodes[0].port, retry=Retry(NoBackoff(), 0)) as client:
                # {3560} and {39296} have the slots 0 and 16383.
                return bool(client.set("{3560}", "1")) and bool(client.set("{39296}", "1"))
        except (redis.RedisError, RedisClusterException):
            return False

    return holds


def test_cluster(enter: Enter, gate: Callable[..., Gate], ask: Ask) -> None:
    """A cluster that lacks a slot is `too-few`; a gate opens when all are served; one node lost closes."""
    nodes = enter(cluster(3))
    first, _, third = nodes
    target = f"redis://{first.place}#cluster"
    verdict = ask(target)
    assert verdict.cause == "too-few"
    assert "0 of 16384 slots served, 0 assigned" in verdict.seen
    assert ask(f"redis://{first.place}").ready
    assert ask(f"redis://{first.place}#role=primary").cause == "too-few"
    for node, (low, high) in zip(nodes, ((0, 5000), (5001, 10_000), (10_001, 16_382)), strict=True):
        node.tell("CLUSTER", "ADDSLOTSRANGE", low, high)
    first.daemon.wait_until(lambda: "16383 of 16384 slots served" in ask(target).seen)
    assert not joined(nodes)()
    assert ask(f"redis://{first.place}#key=a").cause == "not-ready"
    assert "CLUSTERDOWN" in ask(f"redis://{first.place}#key=a").seen

    started = gate("--output", "json", "-v", *(f"redis://{node.place}#cluster" for node in nodes))
    started.wait_output("16383 of 16384 slots served")
    third.tell("CLUSTER", "ADDSLOTS", 16_383)
    assert opened(started, joined(nodes)) <= {"too-few", "not-ready", "lost"}
    for node in nodes:
        seen = ask(f"redis://{node.place}#cluster#role=primary").seen
        assert seen == (
            f"{node.place} takes writes (Redis 7.0.15), is in a cluster that serves all 16384 slots"
        )

    # A key lies on one node, and each of them leads there.
    for node in nodes:
        found = (
            "has the key {39296}"
            if node is third
            else f"knows that {third.place} has the key {{39296}}"
        )
        assert ask(f"redis://{node.place}#key={{39296}}").seen == f"{node.place} {found}"
        assert ask(f"redis://{node.place}#key={{39296}}none").cause == "missing-object"
    verdict = ask(f"redis://{first.place}/1")
    assert verdict.cause == "no-such-database"

    # The page's rights are enough on a node, also for what lies on another one.
    for node in nodes:
        words = rights("every target", "`cluster`", "`key=jobs:ready`")
        node.tell("ACL", "SETUSER", "probe", "reset", "on", ">pw", *words)
    login = f"redis://probe:pw@{first.place}#cluster#key=jobs:ready"
    assert ask(login).cause == "missing-object"

    # Without full coverage the others go on, and the slots that are missing still count.
    for node in nodes:
        node.client().config_set("cluster-require-full-coverage", "no")
    third.kill()
    first.daemon.wait_until(lambda: ask(target).cause == "too-few")
    first.daemon.wait_until(lambda: "cluster_state:ok" in ask(target).seen)
    assert ask(f"redis://{first.place}#role=primary").ready
    assert works(lambda: first.client().set("{3560}", "1"))


def test_slot_on_its_way(enter: Enter, ask: Ask) -> None:
    """A key of a slot that moves is found on either side: ASK is followed as MOVED is."""
    nodes = enter(cluster(2))
    source, sink = nodes
    source.tell("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    source.daemon.wait_until(lambda: ask(f"redis://{source.place}#cluster").ready)
    sink.daemon.wait_until(lambda: ask(f"redis://{sink.place}#cluster").ready)
    ids = [str(node.tell("CLUSTER", "MYID")) for node in nodes]
    source.client().set("{39296}moved", "1")
    source.client().set("{39296}left", "1")
    sink.tell("CLUSTER", "SETSLOT", 16_383, "IMPORTING", ids[0])
    source.tell("CLUSTER", "SETSLOT", 16_383, "MIGRATING", ids[1])
    source.tell("MIGRATE", "127.0.0.1", sink.port, "{39296}moved", 0, 5000)
    for key in ("moved", "left"):
        for node in nodes:
            assert ask(f"redis://{node.place}#key={{39296}}{key}").ready
    assert ask(f"redis://{source.place}#key={{39296}}none").cause == "missing-object"


@pytest.mark.parametrize("make", [Redis, Valkey])
def test_no_cluster(make: type[Redis], enter: Enter, ask: Ask, gate: Callable[..., Gate]) -> None:
    """A server that is in no cluster never will be: the gate ends at once."""
    server = enter(make())
    verdict = ask(f"redis://{server.place}#cluster")
    assert verdict.cause == "failed"
    assert verdict.final
    assert gate(f"redis://{server.place}#cluster").wait().status == 1
