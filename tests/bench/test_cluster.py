"""The benchmark on a cluster: what it counts, what it computes, and that its pages are its samples."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.__main__ import PAGES as LOCAL
from bench.cluster import PAGES, fleet, meters, outcome, stories
from bench.cluster.account import undisturbed
from bench.cluster.gates import Sampler, Used
from bench.cluster.meters import Audit, Written
from bench.cluster.watch import Pods
from bench.cluster.ways import WAYS, is_gate, pod_spec, rewritten, ungated
from bench.cluster.wire import Capture, most_within, question, route
from bench.launch import Failed, Run
from bench.pages import OUTPUT, Pages
from bench.rivals import GATE, GETADDRINFO, NSLOOKUP, WAIT4X
from tests.bed.fixtures import Enter
from tests.bed.world import World
from tests.cluster.bed import EXAMPLES
from tools import docs_tables
from tools.cluster.addons import COREFILE

Object = dict[str, Any]


def objects(story: str) -> list[Object]:
    """The objects of a story as its manifests have them."""
    files = sorted((EXAMPLES / story).glob("*.yaml"))
    return [each for file in files for each in yaml.safe_load_all(file.read_text())]


def workload(found: list[Object], name: str) -> Object:
    (one,) = [each for each in found if each["metadata"]["name"] == name and pod_spec(each)]
    return one


def write(verb: str, agent: str, namespace: str = "shop", **more: object) -> Object:
    """An event of the audit log."""
    return {
        "verb": verb,
        "userAgent": f"{agent}/v1.34.4 (linux/amd64) kubernetes/abc",
        "objectRef": {"resource": "pods", "namespace": namespace},
        "requestReceivedTimestamp": "2026-11-27T12:00:00.500000Z",
        **more,
    }


def test_writes_are_counted_by_program() -> None:
    """Writes to the namespace count, with their objects' bytes as JSON; reads and other namespaces do not."""
    events = [
        write("create", "kubectl", requestObject={"a": "é"}),
        write("patch", "kubelet", requestObject={"status": {}}),
        write("delete", "kubelet"),
        write("get", "kubelet"),
        write("patch", "kubelet", namespace="other", requestObject={"status": {}}),
        write("update", "kube-controller-manager", objectRef={"resource": "nodes"}),
    ]
    assert meters.written(events, "shop") == {
        "kubectl": Written(1, len(r'{"a":"\u00e9"}')),
        "kubelet": Written(2, len('{"status":{}}')),
    }
    assert meters.of_nodes(events) == 1


def test_a_story_begins_with_the_first_object() -> None:
    """The time is the API server's, of what kubectl brought first into the namespace."""
    later = "2026-11-27T12:00:07.250000Z"
    events = [
        write("create", "kube-controller-manager"),
        write("create", "kubectl", requestReceivedTimestamp=later),
        write("get", "kubectl"),
    ]
    assert meters.applied(events, "shop") % 60 == 7.25
    assert meters.applied(events, "other") == 0


def test_the_audit_log_is_read_on(tmp_path: Path) -> None:
    """Each reading has what is new since the one before; a line half written waits for its end."""
    file = tmp_path / "audit.log"
    file.write_text('{"place": 0}\n')
    audit = Audit(file)
    with file.open("a") as log:
        log.write('{"place": 1}\n{"pla')
        log.flush()
        assert list(audit.read()) == [{"place": 1}]
        log.write('ce": 2}\n')
    assert list(audit.read()) == [{"place": 2}]
    assert list(audit.read()) == []


def test_metrics_are_summed() -> None:
    """All series of a name count, or those with the labels that are asked for, and no other name's."""
    text = (
        "# HELP dns_requests_total Counter of requests.\n"
        'dns_requests_total{proto="udp",server="dns://:53",zone="."} 3\n'
        'dns_requests_total{proto="tcp",server="dns://:53",zone="."} 1e+02\n'
        'dns_requests_total_size{proto="udp"} 1000\n'
        "process_cpu_seconds_total 0.25\n"
    )
    assert meters.metric(text, "dns_requests_total") == 103
    assert meters.metric(text, "dns_requests_total", proto="udp") == 3
    assert meters.metric(text, "process_cpu_seconds_total") == 0.25


def pod(name: str, app: str, phase: str = "Running", status: Object | None = None) -> Object:
    return {
        "metadata": {"uid": name, "name": name, "labels": {"app": app}},
        "status": {"phase": phase, **(status or {})},
    }


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def container(name: str, restarts: int = 0, identity: str = "", before: str = "") -> Object:
    ended = {"terminated": {"containerID": f"containerd://{before}"}} if before else {}
    return {
        "name": name,
        "restartCount": restarts,
        "containerID": f"containerd://{identity}",
        "lastState": ended,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    }


def test_pods_are_followed() -> None:
    """Ready and done pods count by app, as they were told of last; a pod that is about to go does not."""
    pods = Pods()
    going = pod("shop", "shop", status=READY)
    going["metadata"]["deletionTimestamp"] = "now"
    for one in (
        pod("mysql-0", "mysql"),
        pod("mysql-0", "mysql", status=READY),
        pod("mysql-1", "mysql", status=READY),
        pod("copy", "copy", "Succeeded"),
        going,
    ):
        pods.take({"type": "MODIFIED", "object": one})
    assert pods.ready() == Counter(mysql=2, copy=1)
    pods.take({"type": "MODIFIED", "object": pod("mysql-1", "mysql")})
    assert pods.ready() == Counter(mysql=1, copy=1)
    with pytest.raises(Failed, match="too old"):
        pods.take({"type": "ERROR", "object": {"message": "too old resource version"}})


def test_restarts_and_gates_are_told_apart() -> None:
    """Restarts of every container count, and pods of a Job that failed; gates are known by their names."""
    pods = Pods()
    gate = container("precheck", 1, identity="b", before="a")
    format_ = container("format", 2, identity="c")
    status = {"initContainerStatuses": [gate, container("precheck-1", identity="d"), format_]}
    pods.take({"type": "ADDED", "object": pod("namenode-0", "namenode", "Pending", status)})
    ended = {"containerStatuses": [container("copy", identity="e")]}
    failed = pod("copy", "copy", "Failed", ended)
    pods.take({"type": "ADDED", "object": failed})
    assert pods.restarts() == 1 + 2 + 1
    assert pods.gates == {"a", "b", "d"}
    assert "format: CrashLoopBackOff" in pods.told()


@pytest.mark.parametrize("story", ["mysql", "hdfs"])
def test_every_gate_is_replaced(story: str) -> None:
    """In each way gates alone differ: they stand as they are, are gone, or a rival stands for each."""
    given = objects(story)
    gated = {each["metadata"]["name"] for each in given if any(map(is_gate, inits(each)))}
    assert gated
    for way in WAYS:
        for before, after in zip(given, rewritten(given, way), strict=True):
            kept = [each for each in inits(before) if not is_gate(each)]
            assert [each for each in inits(after) if not is_gate(each)] == kept
            gates = [each for each in inits(after) if is_gate(each)]
            if way == GATE:
                assert after == before
            elif before["metadata"]["name"] in gated and pod_spec(before) and way != "nothing":
                assert gates
                assert all(way.split()[0] in each["image"] for each in gates)
            else:
                assert gates == []
    assert all(not any(map(is_gate, inits(each))) for each in ungated(given))


def inits(each: Object) -> list[Object]:
    return list((pod_spec(each) or {}).get("initContainers", ()))


def test_rivals_are_given_what_they_can_say() -> None:
    """The loop gets each name once; wait4x a container for each target, with what it has for a role,
    for a quorum and for `any`."""
    orders = workload(rewritten(objects("mysql"), NSLOOKUP), "orders")
    (loop,) = inits(orders)
    assert loop["args"] == [
        f"{name}.namespace" for name in ("mysql-0.mysql", "mysql-1.mysql", "mysql-read")
    ]
    orders = workload(rewritten(objects("mysql"), WAIT4X), "orders")
    first = inits(orders)[0]
    dsn = "app:$(MYSQL_PWD)@tcp(mysql-0.mysql.namespace:3306)/shop"
    assert first["args"] == ["mysql", dsn, "--timeout", "0"]
    assert [each["name"] for each in first["env"]] == ["MYSQL_PWD"]
    hdfs = rewritten(objects("hdfs"), WAIT4X)
    words = [" ".join(each["args"]) for each in inits(workload(hdfs, "namenode")) if is_gate(each)]
    assert sum(each.startswith("tcp zookeeper-") for each in words) == 3
    assert sum(each.startswith("tcp journal-") for each in words) == 3
    assert sum(each.startswith("dns A journal-") for each in words) == 3
    assert len(words) == 9
    copy = workload(hdfs, "copy")
    assert "backoffLimit" not in copy["spec"]
    active, operational = (each["args"] for each in inits(copy))
    page = "http://namenode-0.namenode.namespace:9870/jmx?qry=Hadoop:service=NameNode,name="
    assert active[1:4] == [
        f"{page}NameNodeStatus",
        "--expect-body-json",
        'beans.#(State=="active")',
    ]
    query = 'beans.#(FSState=="Operational")#|#(NumLiveDataNodes==1)'
    assert operational[1:4] == [f"{page}FSNamesystemState", "--expect-body-json", query]


def test_layers_of_the_critical_path() -> None:
    """Each object of HDFS is in one layer, none twice; MySQL's apps wait for others and are in none."""
    given = ungated(objects("hdfs"))
    layers = stories.layers(stories.HDFS, given)
    assert [each for objects, _ in layers for each in objects if each not in given] == []
    assert sum(len(objects) for objects, _ in layers) == len(given)
    needed = [dict(then) for _, then in layers]
    assert needed[0] == {"zookeeper": 2, "journal": 3}
    assert needed[-1] == {"zookeeper": 3, "journal": 3, "namenode": 2, "datanode": 1, "copy": 1}
    zookeeper = workload(layers[0][0], "zookeeper")["spec"]["template"]["spec"]
    (command,) = [each["command"] for each in zookeeper["containers"]]
    assert command[2].startswith("until getent hosts $HOSTNAME.zookeeper-headless;")
    assert command[-2:] == ["bash", "/scripts/start.sh"]
    ((alone, then),) = stories.layers(stories.MYSQL, ungated(objects("mysql")))
    assert then == {"mysql": 3}
    assert {each["kind"] for each in alone} == {"Service", "Secret", "ConfigMap", "StatefulSet"}


def figures(time: float, **more: float) -> outcome.Figures:
    return {"time": time, "restarts": 0, "writes": 10, "writes/kubelet": 10, **more}


def test_a_story_is_held_against_its_critical_path() -> None:
    """Each round against its own: 1.05 times and a second; and no restart in any round."""
    found = [
        {GATE: figures(11.0), outcome.PATH: figures(10.0), WAIT4X: figures(30.0, restarts=2)},
        {GATE: figures(23.0), outcome.PATH: figures(20.0)},
    ]
    failed = ["Round 2, wait4x, not measured: never Ready"]
    rows = {row.key: row for row in outcome.rows("s", found, failed, "Idle.")}
    assert rows["s/beyond"].samples == {GATE: [0.5, 2.0], WAIT4X: [19.5]}
    (goal,) = rows["s/beyond"].goals
    assert rows["s/beyond"].reached(goal) == (1.25, False)
    (goal,) = rows["s/restarts"].goals
    assert rows["s/restarts"].reached(goal) == (0, True)
    assert rows["s/time"].note == "Round 2, wait4x, not measured: never Ready."
    assert rows["s/writes/kubelet"].samples[GATE] == [10, 10]
    assert rows["s/queries"].samples[WAIT4X] == [0]
    assert "s/gates-cpu" in rows
    assert rows["s/gates-cpu"].samples == {}
    lines = outcome.summary({"s": list(rows.values())})
    assert ["s", GATE, "0", "17.0 s", "10"] in lines
    assert ["s", NSLOOKUP, *["not measured"] * 3] in lines


def frame(name: str, server: str, *, port: int = 53, answer: bool = False) -> bytes:
    """An Ethernet frame with a question (RFC 1035) in UDP in IPv4."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    flags = 0x8180 if answer else 0x0100
    message = struct.pack("!6H", 7, flags, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
    udp = struct.pack("!4H", 40000, port, 8 + len(message), 0) + message
    addresses = socket.inet_aton("10.78.1.1") + socket.inet_aton(server)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    return bytes(12) + b"\x08\x00" + header + addresses + udp


def test_questions_are_read_off_the_wire() -> None:
    """A question to the server gives its name; answers, other ports, other servers and scraps do not."""
    server = socket.inet_aton("10.78.1.2")
    good = frame("Gate-7.fleet.x", "10.78.1.2")
    assert question(good, server) == "gate-7.fleet.x"
    assert question(frame("gate-7.fleet.x", "10.77.0.53"), server) == ""
    assert question(frame("gate-7.fleet.x", "10.78.1.2", port=5353), server) == ""
    assert question(frame("gate-7.fleet.x", "10.78.1.2", answer=True), server) == ""
    for size in range(len(good)):
        question(good[:size], server)


def test_the_wire_is_listened_to(enter: Enter) -> None:
    """Questions that go out are seen once each, under the first label, in their order."""
    world = enter(World("10.78.1.2"))
    network = f"/run/netns/{world.name}"
    with Capture(network, "lo", "10.78.1.2") as capture:
        asker = world.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for name in ("gate-0.a.b", "gate-1.a.b", "gate-0.c"):
            asker.sendto(frame(name, "10.78.1.2")[42:], ("10.78.1.2", 53))
        asker.close()
        while sum(map(len, list(capture.times.values()))) < 3:
            pass
        assert capture.lost() == 0
    assert {label: len(times) for label, times in capture.times.items()} == {
        "gate-0": 2,
        "gate-1": 1,
    }
    first, second = capture.times["gate-0"]
    assert first < capture.times["gate-1"][0] < second


def test_the_way_to_a_server_is_found(enter: Enter) -> None:
    """The most specific route leads there; without one nothing can be measured."""
    world = enter(World("10.78.1.2"))
    network = f"/run/netns/{world.name}"
    with pytest.raises(Failed, match="no route"):
        route(network, "10.78.1.9")
    lines = ["link add cable type veth", "link set cable up"]
    lines += ["route add 10.78.0.0/16 dev lo", "route add 10.78.1.0/24 dev cable"]
    batch = ["ip", "-netns", world.name, "-batch", "-"]
    subprocess.run(batch, input="\n".join(lines), text=True, check=True)
    assert route(network, "10.78.1.9") == "cable"
    assert route(network, "10.78.2.9") == "lo"


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([1.0], 1), ([1.0, 1.0251], 1), ([1.0, 1.024], 2), ([1.0, 1.02, 1.04, 1.044], 3)],
)
def test_queries_are_told_apart_by_their_spacing(times: list[float], most: int) -> None:
    """Those less than 25 ms apart are together; those that far apart are not."""
    assert most_within(array("d", times), 0.025) == most


def run(ended: float, cpu: float = 0.5, peak: int = 8 << 20) -> Run:
    one = Run(["gate"])
    one.ended, one.cpu, one.peak = ended, cpu, peak
    return one


def test_a_fleet_is_summed_up() -> None:
    """Queries a gate, the busiest second, the closest pair, and when the half and the last have left."""
    times = [[1.0, 1.01, 5.0, 99.0], [1.5, 9.0, 9.3]]
    runs = [run(100.25), run(103.0, peak=9 << 20)]
    told = fleet.figures(times, runs, until=98.0, known=100.0)
    assert told["seen"] == 3
    assert told["busiest"] == 3
    assert told["together"] == 2
    assert (told["half"], told["last"]) == (1.625, 3.0)
    assert (told["cpu"], told["peak"]) == (1.0, 9.0)


def test_goals_and_a_thousand_gates() -> None:
    """The goals are held against both loops; what a thousand come to is computed, and says so."""
    keys = (
        "each",
        "seen",
        "together",
        "rate",
        "busiest",
        "coredns",
        "busy",
        "others",
        "half",
        "last",
        "cpu",
        "peak",
        "lost",
    )
    found = {rival: dict.fromkeys(keys, 100.0) for rival in (GATE, NSLOOKUP, GETADDRINFO)}
    found[GATE] |= {"each": 80.0, "seen": 20.0, "together": 1.0, "rate": 4.0, "lost": 0.0}
    found[NSLOOKUP]["lost"] = 3.0
    found[GETADDRINFO]["lost"] = 0.0
    both = {"few": found, "many": found}
    rows = {row.key: row for row in fleet.rows("f", both, [], 20, 200, 300, goals=True)}
    for key, reached in (("few-seen", [True, True]), ("many-each", [True, False])):
        verdicts = rows[f"f/{key}"].verdicts()
        assert [verdict.endswith("reached") for verdict in verdicts] == reached
    assert rows["f/few-seen"].note == "\n\n".join(["nslookup loop: 3 packets were not seen."] * 2)
    (spacing,) = rows["f/many-together"].verdicts()
    assert spacing.endswith("reached")
    computed = rows["f/computed-rate"]
    assert computed.samples[GATE] == [20.0]
    assert "computed" in computed.title
    assert "5 times" in computed.note
    quick = fleet.rows("f", both, [], 5, 40, 20, goals=False)
    assert not any(row.goals for row in quick if not row.key.endswith("together"))


def test_what_others_disturbed_is_measured_again() -> None:
    """A run of which others took much is repeated, twice at most; the last counts whatever they took."""
    for shares, counts in (([2.0], 2.0), ([50.0, 3.0], 3.0), ([50.0, 40.0, 60.0], 60.0)):
        left = iter(shares)
        assert undisturbed(left.__next__, float) == counts
        assert list(left) == []


def test_the_corefiles_differ_in_denials_alone() -> None:
    """The second one caches denials of the cluster's zone, and still not what it knows."""
    told = fleet.CACHED.splitlines()
    assert [line for line in COREFILE.splitlines() if line not in told] == [
        "       disable denial cluster.local"
    ]


def test_gates_are_looked_at_until_they_are_gone(tmp_path: Path) -> None:
    """The last look at a container stays; of others, and of those never seen, nothing is told."""
    for kind in ("", "besteffort"):
        for name in ("gate", "app"):
            where = Path("cluster/node-1/kubepods", kind, f"pod{kind}", kind + name)
            for hierarchy, file, value in (
                ("cpuacct", "cpuacct.usage", 25_000_000),
                ("memory", "memory.max_usage_in_bytes", 4096),
            ):
                (tmp_path / hierarchy / where).mkdir(parents=True, exist_ok=True)
                (tmp_path / hierarchy / where / file).write_text(f"{value}\n")
    sampler = Sampler(tmp_path, "cluster")
    sampler.look()
    gone = tmp_path / "cpuacct/cluster/node-1/kubepods/pod/gate"
    (gone / "cpuacct.usage").unlink()
    sampler.look()
    assert sampler.used(["gate", "besteffortgate", "never"]) == [Used(0.025, 4096)] * 2


@pytest.mark.parametrize("pages", [LOCAL, PAGES], ids=lambda pages: pages.stem)
def test_pages_are_their_samples(pages: Pages, tmp_path: Path) -> None:
    """The tables and pictures under docs/benchmarks are what is made of the samples beside them."""
    machine, sections = pages.read(OUTPUT)
    assert sections
    pages.write(tmp_path, machine, sections)
    for made in tmp_path.iterdir():
        assert made.read_text() == (OUTPUT / made.name).read_text(), made.name


def test_the_stories_table_is_what_was_measured() -> None:
    """Each row of the table in docs/stories.md has the medians of cluster.json."""
    data = json.loads((OUTPUT / "cluster.json").read_text())["sections"]
    table = docs_tables.content("cluster:ended")
    assert table in (OUTPUT.parent / "stories.md").read_text()
    for story in ("mysql", "hdfs"):
        rows = {row["key"]: row for row in data[story]["rows"]}
        for way in rows[f"{story}/restarts"]["samples"]:
            assert f"| {story} | {way} |" in table
