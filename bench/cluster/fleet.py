"""A fleet of gates that wait for names which appear after five minutes: what that costs CoreDNS.

Each gate is a process in the network of the first node with a pod's `/etc/resolv.conf`, and waits for a
name of its own, of a pod of a headless Service in another namespace. One EndpointSlice publishes all
names at once. CoreDNS starts anew for each kind of gate, so that none finds another's cache.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode

from bench import pages
from bench.cluster import meters
from bench.cluster.account import account, quiet, undisturbed
from bench.cluster.place import Network, answers, standing
from bench.cluster.wire import Capture, most_within, route
from bench.launch import Failed, Launcher, Run
from bench.results import MEBI, Goal, Row
from bench.rivals import GATE, GETADDRINFO, NAME, NSLOOKUP, Field
from tests.bed.world import Etc, inside, resolv_conf
from tests.cluster.bed import Cluster, Namespace, until
from tools.cluster import DNS_SERVICE
from tools.cluster.addons import COREFILE

RIVALS = (GATE, NSLOOKUP, GETADDRINFO)
ZONE = "svc.cluster.local"
# What the kubelet writes for a pod of the namespace `shop`.
POD = resolv_conf(DNS_SERVICE, search=[f"shop.{ZONE}", ZONE, "cluster.local"], options="ndots:5")
SERVICE = "fleet"
# The names that tell when CoreDNS knows, each asked for once: a denial may be cached.
PROBES = 400
WINDOW = 0.025
PATIENCE = 120.0
THOUSAND = 1000
Figures = dict[str, float]

CACHED = COREFILE.replace("       disable denial cluster.local\n", "")
assert CACHED != COREFILE


def uncached(field: Field, *, quick: bool) -> Iterator[Row]:
    """With kubeadm's Corefile."""
    return measured("fleet", COREFILE, field, quick)


def cached(field: Field, *, quick: bool) -> Iterator[Row]:
    """With denials of the cluster's own zone cached for 30 s."""
    return measured("fleet-cached", CACHED, field, quick)


def measured(measure: str, corefile: str, field: Field, quick: bool) -> Iterator[Row]:
    """A few of each kind at once, then a fleet of each kind alone. What fails is told and left out."""
    few, many, seconds = (5, 40, 20.0) if quick else (20, 200, 300.0)
    found: dict[str, dict[str, Figures]] = {"few": {}, "many": {}}
    failed: list[str] = []
    with standing() as cluster:
        for size, count, kinds in (
            ("few", few, RIVALS),
            *(("many", many, (rival,)) for rival in RIVALS),
        ):
            text = f"{count} of each {' and '.join(kinds)}"
            try:
                some = undisturbed(
                    partial(waited, cluster, field, kinds, corefile, count, seconds),
                    lambda some: next(iter(some.values()))["others"],
                )
            except (Failed, AssertionError, OSError) as error:
                told = f"not measured: {' '.join(str(error).split())[:400]}"
                failed.append(f"{text}, {told}")
            else:
                found[size] |= some
                told = ", ".join(f"{one['seen']:.0f}" for one in some.values()) + " queries a gate"
                told += f", {some[kinds[0]]['others']:.0f}% of the machine taken by others"
            print(f"  {measure}, {text}: {told}", file=sys.stderr, flush=True)
    yield from rows(measure, found, failed, few, many, seconds, goals=not quick)


def waited(
    cluster: Cluster,
    field: Field,
    kinds: Sequence[str],
    corefile: str,
    count: int,
    seconds: float,
) -> dict[str, Figures]:
    """Let so many gates of each kind wait so long, then publish their names.

    What CoreDNS and the machine tell is that of all kinds together.
    """
    for rival in kinds:
        if rival not in field.rivals:
            raise Failed(field.missing.get(rival, f"{rival} was left out"))
    network = Network(cluster)
    server = renewed(cluster, network, corefile)
    namespace = Namespace(cluster, "fleet")
    namespace.create()
    quiet()
    try:
        with (
            Etc(POD) as etc,
            Launcher(network, etc) as launcher,
            Capture(network.file, route(network.file, server), server) as capture,
        ):
            before, spent = meters.coredns(cluster), account()
            began = time.time()
            runs: dict[str, Run] = {}
            # Kinds in turn, so that none has the machine for itself when it starts.
            for place in range(count):
                for kind, rival in enumerate(kinds):
                    label = f"gate-{kind}-{place}"
                    target = f"{label}.{SERVICE}.{namespace.name}"
                    words = field.rivals[rival].command(NAME, target) or []
                    runs[label] = launcher.start(words)
            for run in runs.values():
                launcher.started(run)
            time.sleep(seconds)
            ended = time.time()
            busy, _ = pages.spent(spent.jiffies)
            others = spent.others()
            after = meters.coredns(cluster)
            for run in runs.values():
                if run.status is not None:
                    raise Failed(f"{' '.join(run.argv)[:80]} ended by itself: {launcher.tail()}")
            known = published(namespace, network, list(runs))
            for run in runs.values():
                launcher.good(run, PATIENCE)
            lost = capture.lost()
        took = ended - began
        whole = {
            "each": _grown("coredns_dns_requests_total", before, after) / len(runs),
            "rate": _grown("coredns_dns_requests_total", before, after) / took,
            "coredns": _grown("process_cpu_seconds_total", before, after) / took * 100,
            "busy": busy * 100,
            "others": others,
            "lost": lost,
        }
        found = {}
        for kind, rival in enumerate(kinds):
            mine = [label for label in runs if label.startswith(f"gate-{kind}-")]
            times = [capture.times.get(label, ()) for label in mine]
            found[rival] = whole | figures(times, [runs[each] for each in mine], ended, known)
        return found
    finally:
        namespace.delete()


def figures(
    times: Sequence[Sequence[float]], runs: Sequence[Run], until: float, known: float
) -> Figures:
    """What the wire and the gates themselves tell.

    `times` are each gate's questions; those `until` the names were published make the counts. `known` is
    when CoreDNS knew the names.
    """
    waiting = [int(at) for sent in times for at in sent if at < until]
    late = [run.ended - known for run in runs]
    return {
        "seen": len(waiting) / len(runs),
        "busiest": max(Counter(waiting).values(), default=0),
        "together": max((most_within(sent, WINDOW) for sent in times), default=0),
        "last": max(late),
        "half": median(late),
        "cpu": sum(run.cpu for run in runs),
        "peak": max(run.peak for run in runs) * MEBI,
    }


def _grown(name: str, before: str, after: str) -> float:
    return meters.metric(after, name) - meters.metric(before, name)


def renewed(cluster: Cluster, network: Network, corefile: str) -> str:
    """Start CoreDNS anew with this Corefile; gives the address of its pod."""
    system = ("-n", meters.SYSTEM)
    patch = json.dumps({"data": {"Corefile": corefile}})
    cluster.kubectl(*system, "patch", "configmap", "coredns", "-p", patch)
    cluster.kubectl(*system, "rollout", "restart", "deployment/coredns")
    cluster.kubectl(*system, "rollout", "status", "deployment/coredns", "--timeout=60s")
    listed = (*system, "get", "pods", "-l=k8s-app=kube-dns", "-o=name")
    until(lambda: len(cluster.kubectl(*listed).split()) == 1, "the end of the CoreDNS before")
    until(lambda: answers(network, DNS_SERVICE), "CoreDNS")
    address: str = meters.coredns_pod(cluster)["status"]["podIP"]
    return address


def published(namespace: Namespace, network: Network, labels: Sequence[str]) -> float:
    """Publish names with these labels; gives the `monotonic()` time from which CoreDNS knew them."""
    names = [*labels, *(f"probe-{place}" for place in range(PROBES))]
    endpoints = [
        {
            "hostname": name,
            "addresses": [f"10.79.{place >> 8}.{place & 255}"],
            "conditions": {"ready": True},
        }
        for place, name in enumerate(names)
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
    }
    published = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": SERVICE, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"port": 80}],
    }
    namespace.apply(service)
    suffix = f"{SERVICE}.{namespace.name}.{ZONE}."
    probe = Probe(network, suffix)
    namespace.apply(published)
    return probe.known()


class Probe:
    """Asks CoreDNS for a new name of a Service every few milliseconds, until it knows one."""

    def __init__(self, network: Network, suffix: str) -> None:
        self._suffix = suffix
        self._at = 0.0
        self._thread = threading.Thread(
            target=lambda: inside(network.file, self._watch), daemon=True
        )
        self._thread.start()

    def known(self) -> float:
        """When the question was sent that first had an answer, by `monotonic()`."""
        self._thread.join(PATIENCE)
        if not self._at:
            raise Failed("CoreDNS does not know the names")
        return self._at

    def _watch(self) -> None:
        for place in range(PROBES):
            question = dns.message.make_query(f"probe-{place}.{self._suffix}", "A")
            at = time.monotonic()
            with contextlib.suppress(dns.exception.DNSException, OSError):
                if dns.query.udp(question, DNS_SERVICE, 1.0).answer:
                    self._at = at
                    return
            time.sleep(0.01)


def rows(
    measure: str,
    found: dict[str, dict[str, Figures]],
    failed: list[str],
    few: int,
    many: int,
    seconds: float,
    *,
    goals: bool,
) -> Iterator[Row]:
    """The rows of a few gates and of all fleets, and what a thousand gates would come to."""
    period = f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
    notes = [f"{each.rstrip('.')}." for each in failed]
    notes += [
        f"{rival}: {one['lost']:.0f} packets were not seen."
        for some in found.values()
        for rival, one in some.items()
        if one["lost"]
    ]
    aims = [Goal(0.85, NSLOOKUP), Goal(0.22, GETADDRINFO)] if goals else []
    apart = Goal(1, subject=GATE, figure="max")
    rate, share = "queries a second", "percent of a cpu"

    def row(size: str, key: str, title: str, unit: str, *aims: Goal, note: str = "") -> Row:
        samples = {rival: [one[key]] for rival, one in found[size].items()}
        return Row(f"{measure}/{size}-{key}", title, unit, samples, *aims, note=note)

    asked = f"DNS queries a gate in {period}, missing a.b.c"
    together = "most queries of one gate within 25 ms"
    left = "names appear, half of the gates have left", "names appear, the last gate has left"
    kinds = f"{few} of each kind at once"
    note = "\n\n".join(notes)
    yield row("few", "seen", f"{kinds}: {asked}", "queries", *aims, note=note)
    yield row("few", "together", f"{kinds}: {together}", "queries", apart)
    yield row("few", "half", f"{kinds}: {left[0]}", "s")
    yield row("few", "last", f"{kinds}: {left[1]}", "s")
    kind = f"{many} of a kind"
    yield row("many", "each", f"{kind}: {asked}", "queries", *aims)
    yield row("many", "seen", f"{kind}: the same, counted on the wire", "queries")
    yield row("many", "together", f"{kind}: {together}", "queries", apart)
    yield row("many", "half", f"{kind}: {left[0]}", "s")
    yield row("many", "last", f"{kind}: {left[1]}", "s")
    yield row("many", "rate", f"{kind}: at CoreDNS", rate)
    yield row("many", "busiest", f"{kind}: in the busiest second", rate)
    yield row("many", "coredns", f"{kind}: cpu of CoreDNS", share)
    yield row("many", "cpu", f"{kind}: cpu of the gates", "cpu s")
    yield row("many", "peak", f"{kind}: peak memory of the largest gate", "MiB")
    yield row("many", "busy", f"{kind}: the machine was busy", "%")
    yield row("many", "others", f"{kind}: of that, taken by others", "%")
    more = THOUSAND / many
    for key, title, unit in (
        ("rate", "at CoreDNS", rate),
        ("busiest", "in the busiest second", rate),
        ("coredns", "cpu of CoreDNS", share),
    ):
        yield Row(
            f"{measure}/computed-{key}",
            f"1,000 of a kind, computed: {title}",
            unit,
            {rival: [one[key] * more] for rival, one in found["many"].items()},
            note=f"Computed, not measured: {more:g} times what {many} gates came to.",
        )
