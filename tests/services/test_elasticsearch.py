"""Elasticsearch and OpenSearch; opensearch-py says what an application meets at both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import opensearchpy
import pytest

from tests.bed.fixtures import Enter
from tests.bed.opening import opened
from tests.bed.ports import free_port
from tests.bed.process import Gate, run
from tests.bed.services.elasticsearch import (
    Elasticsearch5,
    Elasticsearch7,
    Elasticsearch8,
    Node,
    OpenSearch,
)
from tests.bed.tls import Authority
from tests.bed.webservers import Nginx
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("elasticsearch"), pytest.mark.timeout(120)]

logging.getLogger("opensearch").setLevel(logging.CRITICAL)
PRODUCTS = [OpenSearch, Elasticsearch5, Elasticsearch7, Elasticsearch8]
INDEXES = [f"orders-{number}" for number in range(8)]


def document(node: Node, index: str) -> str:
    """The path of a document; Elasticsearch 5 has types."""
    return f"/{index}/{'order' if isinstance(node, Elasticsearch5) else '_doc'}/1"


@pytest.fixture(scope="module", params=PRODUCTS)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node with eight indexes whose replicas have no place, one without replicas, and odd ones."""
    with request.param() as started:
        for index in INDEXES:
            started.ask("PUT", document(started, index), {"state": "new"})
        alone = {"settings": {"number_of_replicas": 0}}
        for index in ("alone", "shut", "kept"):
            started.ask("PUT", f"/{index}", alone)
        started.ask("POST", "/_aliases", {"actions": [{"add": {"index": "alone", "alias": "al"}}]})
        started.ask("POST", "/shut/_close")
        started.ask("PUT", "/kept/_settings", {"index.blocks.read_only_allow_delete": True})
        started.wait()
        yield started


def target(node: Node, rest: str = "", login: str = "") -> str:
    return f"elasticsearch://{login}{node.place}{rest}"


def driver(node: Node) -> Any:  # noqa: ANN401 the driver has no types
    return opensearchpy.OpenSearch(
        [{"host": "127.0.0.1", "port": node.port}], timeout=10, max_retries=0
    )


def refusal(call: Callable[[], object]) -> str:
    """What the driver gets: empty when it works, else the type of the exception that it is told."""
    try:
        call()
    except opensearchpy.TransportError as error:
        return str(error.error)
    return ""


def test_the_version_is_listed(node: Node, tested: Tested) -> None:
    """The servers that are tested are those that the documentation names."""
    tested("elasticsearch", node.version)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", ": the cluster bed is yellow, "),
        ("/", " shards active, 1 node"),
        ("#status=yellow#nodes=1", " is yellow, "),
        ("#index=alone#status=green", ": the index alone is green, "),
        ("#index=al#status=green", ": the index al is green, "),
        ("#index=orders-*#index=alone", ": each of orders-*, alone is yellow, "),
        ("#writable", ", no block of the cluster keeps writes out"),
        ("#index=alone#writable", ", no block keeps writes out of alone"),
        ("#index=kept", ", writes are blocked: kept is read_only_allow_delete"),
    ],
)
def test_ready(node: Node, rest: str, said: str, ask: Ask) -> None:
    """Ready says of what it is, and what was seen of it."""
    verdict = ask(target(node, rest))
    assert verdict.ready, verdict.seen
    assert verdict.seen.startswith(f"{node.place}: ")
    assert said in verdict.seen


@pytest.mark.parametrize(
    ("rest", "cause", "said"),
    [
        ("#status=green", "not-ready", "is yellow"),
        ("#index=orders-1#status=green", "not-ready", "the index orders-1 is yellow"),
        ("#nodes=2", "too-few", "1 node, 2 nodes are expected"),
        ("#index=gone", "missing-object", "has no index gone"),
        ("#index=alone#index=gone-*", "missing-object", "has no index gone-*"),
        ("#index=shut", "not-ready", "the index shut is closed"),
        ("#index=kept#writable", "read-only", "kept is read_only_allow_delete"),
    ],
)
def test_not_ready(node: Node, rest: str, cause: str, said: str, ask: Ask) -> None:
    """Each obstacle has its cause, in the server's words."""
    verdict = ask(target(node, rest))
    assert (verdict.cause, said in verdict.seen) == (cause, True), verdict.seen


def test_a_login_where_none_is_needed(node: Node, ask: Ask) -> None:
    """Without security a login is no obstacle."""
    verdict = ask(target(node, "#index=alone", "me:any-secret@"))
    assert verdict.ready, verdict.seen


@pytest.mark.parametrize("index", ["alone", "al", "kept", "shut", "gone"])
def test_as_the_driver_meets_it(node: Node, index: str, ask: Ask) -> None:
    """Ready if and only if the driver can search; with `writable` if and only if it can write."""
    client = driver(node)
    searched = refusal(lambda: client.search(index=index))
    assert ask(target(node, f"#index={index}")).ready == (not searched), searched
    if index != "gone":
        # A write would make an index that is not there.
        written = node.ask("PUT", document(node, index), {"state": "new"})
        writable = ask(target(node, f"#index={index}#writable"))
        assert writable.ready == (written[0] in (200, 201)), written


def test_a_cluster_that_takes_no_writes(node: Node, ask: Ask) -> None:
    """A block of the whole cluster is told, and with `writable` it is `read-only`, as for the driver."""
    block = {"transient": {"cluster.blocks.read_only": True}}
    assert node.ask("PUT", "/_cluster/settings", block)[0] == 200
    try:
        told, asked = ask(target(node, "#index=alone")), ask(target(node, "#writable"))
        status, answer = node.ask("PUT", document(node, "alone"), {"state": "new"})
    finally:
        block["transient"]["cluster.blocks.read_only"] = None  # type: ignore[assignment]
        assert node.ask("PUT", "/_cluster/settings", block)[0] == 200
    assert told.ready
    assert told.seen.endswith(", writes are blocked: cluster read-only (api)")
    assert asked.cause == "read-only"
    assert (status, answer["error"]["type"]) == (403, "cluster_block_exception")
    assert ask(target(node, "#writable")).ready


def test_it_does_no_harm(node: Node, ask: Ask) -> None:
    """Three hundred probes: nothing in the log, no index more, no connection left, no shard asked."""
    log, indexes = len(node.log), node.ask("GET", "/_aliases")
    stats = "/_stats/search,get,indexing?filter_path=_all.total.*.*_total"
    before, connections = node.ask("GET", stats), connections_of(node)
    for _ in range(100):
        for rest in ("#index=alone#writable", "#index=gone", "#nodes=9"):
            # Nobody asks for the login, and what goes ahead of one is no harm either.
            ask(target(node, rest, "me:any-secret@" * (rest == "#index=gone")))
    assert node.told(log) == []
    assert node.ask("GET", "/_aliases") == indexes
    assert node.ask("GET", stats) == before

    node.daemon.wait_until(lambda: connections_of(node) <= connections)


def connections_of(node: Node) -> int:
    """How many connections of HTTP a node has open."""
    (stats,) = node.ask("GET", "/_nodes/stats/http")[1]["nodes"].values()
    return int(stats["http"]["current_open"])


def test_hangs(node: Node, ask: Ask) -> None:
    """fault 3: a server that was stopped accepts and says nothing; it goes on, and is ready."""
    # Elasticsearch 8 then logs a line for who gave up, at some time: this comes after the log was looked at.
    node.daemon.pause()
    try:
        assert ask(target(node), timeout=0.3).cause == "no-reply"
    finally:
        node.daemon.resume()
    assert ask(target(node)).ready


def test_behind_a_proxy(
    node: Node, authority: Authority, enter: Enter, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS, below a path and with a login, as a proxy in front of it asks for."""
    locations = f"""
        location /search/ {{
            auth_basic search; auth_basic_user_file users;
            proxy_pass http://{node.place}/; proxy_http_version 1.1;
        }}
        location / {{ return 404; }}
    """
    files = {"users": "me:{PLAIN}s3cret-word"}
    nginx = enter(Nginx(locations, certificate=authority.issue(), files=files))
    monkeypatch.setenv("SECRET", "s3cret-word")
    place = f"localhost:{nginx.https_port}/search#ca={authority.file}#index=alone#writable"
    verdict = ask(f"elasticsearch://me@{place}#password-env=SECRET")
    assert verdict.ready, verdict.seen
    assert ask(f"elasticsearch://{place}").cause == "auth-required"
    refused = ask(f"elasticsearch://me:other-word@{place}")
    assert refused.cause == "auth-refused"
    assert "other-word" not in refused.seen
    elsewhere = ask(f"elasticsearch://127.0.0.1:{nginx.port}/other")
    assert elsewhere.cause == "protocol"
    assert "not how Elasticsearch answers" in elsewhere.seen
    final = run(f"elasticsearch://me:other-word@{place}#on-auth-refused=fail")
    assert final.status == 1, final.stderr


def test_the_wrong_one_of_tls_and_plain_text(
    node: Node, authority: Authority, enter: Enter, ask: Ask
) -> None:
    """Asked in the other way than it is served, the hint tells of the right one."""
    tls = ask(target(node, "#tls"))
    assert tls.cause in ("tls-plaintext", "closed-early"), tls.seen
    assert "without #tls" in tls.hint or tls.cause == "closed-early"
    nginx = enter(Nginx("location / { return 200; }", certificate=authority.issue()))
    plain = ask(f"elasticsearch://127.0.0.1:{nginx.https_port}")
    assert plain.cause == "protocol"


def masterless(kind: type[Node]) -> Node:
    """A node that waits for another one, which does not come."""
    if kind is Elasticsearch5:
        others = (
            "discovery.zen.ping.unicast.hosts=127.0.0.1:1",
            "discovery.zen.minimum_master_nodes=2",
        )
    else:
        master = "cluster_manager" if kind is OpenSearch else "master"
        others = ("discovery.seed_hosts=127.0.0.1:1", f"cluster.initial_{master}_nodes=two")
    several = "multi-node" if kind is Elasticsearch8 else "zen"
    alone = (f"discovery.type={several}", "discovery.initial_state_timeout=0s")
    return kind(*alone, *others, awaited=False)


@pytest.mark.parametrize("kind", [OpenSearch, Elasticsearch5, Elasticsearch8])
def test_no_master(kind: type[Node], ask: Ask) -> None:
    """A node without a master opens its port, and is `no-leader` for every question."""
    with masterless(kind) as node:
        node.daemon.wait_until(lambda: ask(target(node)).cause != "refused", 60)
        for rest in ("", "#index=orders", "#writable"):
            verdict = ask(target(node, rest))
            assert verdict.cause == "no-leader", verdict.seen
        client = driver(node)
        asked = "/_cluster/health?timeout=100ms"
        error = refusal(lambda: client.transport.perform_request("GET", asked))
        assert error.endswith("not_discovered_exception")


def test_a_second_node(ask: Ask) -> None:
    """Two nodes are green and two; when one is killed, the other is neither."""
    first, second = free_port(), free_port()
    both = (
        "discovery.type=zen",
        f"discovery.seed_hosts=127.0.0.1:{first},127.0.0.1:{second}",
        "cluster.initial_cluster_manager_nodes=one",
        "discovery.cluster_formation_warning_timeout=60s",
        "cluster.fault_detection.follower_check.interval=200ms",
        "discovery.initial_state_timeout=5s",
    )
    one = OpenSearch(*both, f"transport.port={first}")
    two = OpenSearch(*both, f"transport.port={second}", "node.name=two", "node.roles=data")
    with one as node:
        node.ask("PUT", document(node, "orders"), {"state": "new"})
        pair = target(node, "#status=green#nodes=2")
        assert ask(pair).cause == "not-ready"
        with two, Gate(pair) as gate:
            assert gate.wait().status == 0
            assert node.health() == "green"
            two.kill()
            node.daemon.wait_until(lambda: node.health() != "green")
            assert ask(pair).cause == "not-ready"
        assert ask(target(node, "#nodes=2")).cause == "too-few"


def all_found(node: Node) -> bool:
    """Whether the driver finds the document of every index, with no shard failing."""
    try:
        found = driver(node).search(index="orders-*")
    except opensearchpy.OpenSearchException:
        return False
    total = found["hits"]["total"]
    count = total["value"] if isinstance(total, dict) else total
    return bool(found["_shards"]["failed"] == 0 and count == len(INDEXES))


@pytest.mark.parametrize("end", [Node.stop, Node.kill], ids=["restarted", "killed"])
def test_the_start_under_a_gate(node: Node, end: Callable[[Node], None]) -> None:
    """A gate that waits while shards recover opens when the driver finds all, and never before."""
    end(node)
    with Gate("--output", "json", target(node)) as gate:
        gate.wait_output('"change"')
        node.launch()
        try:
            causes = opened(gate, lambda: all_found(node))
        finally:
            node.wait()
    assert causes <= {"refused", "starting", "not-ready", "no-leader", "closed-early", "no-reply"}
    assert causes & {"starting", "not-ready"}, "the window in which it answers was not seen"
