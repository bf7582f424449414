"""`kube:` targets on a real cluster: what is watched, what it costs the API server, and which rights it takes.

The gate runs as a process in the first node's network, as a service account of the test's own, so that
the audit log tells its requests from all others. kubectl is the oracle.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from tests.bed.process import GATE, TOOLBOX, Gate
from tests.cluster.bed import Cluster, Namespace, Object, until
from tests.cluster.test_basics import BUSYBOX, OURS
from tests.probes.test_kube import NO_SELECTORS, SELECTORS
from tools.cluster import API, NODES
from tools.cluster.pki import PKI

pytestmark = [pytest.mark.timeout(600)]

# Ready once the test has said so: `release`.
HELD = {
    "name": "main",
    "image": BUSYBOX,
    "command": ["/bin/sh", "-c", "sleep infinity"],
    "readinessProbe": {"exec": {"command": ["/bin/cat", "/ready"]}, "periodSeconds": 1},
}


def thing(kind: str, name: str, version: str = "v1", **fields: object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}


def template(app: str, container: Object, **spec: object) -> Object:
    grace = {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    return {"metadata": {"labels": {"app": app}}, "spec": grace}


def workload(kind: str, name: str, container: Object = HELD, **spec: object) -> Object:
    chosen = {"matchLabels": {"app": name}}
    made = {"selector": chosen, "template": template(name, container), **spec}
    return thing(kind, name, "apps/v1", spec=made)


def job(name: str, script: str) -> Object:
    container = {"name": "main", "image": BUSYBOX, "command": ["/bin/sh", "-c", script]}
    made = template(name, container, restartPolicy="Never")
    return thing("Job", name, "batch/v1", spec={"backoffLimit": 0, "template": made})


class Account:
    """A service account of the test's namespace, and gates that ask as it."""

    def __init__(self, namespace: Namespace, folder: Path, name: str = "gate") -> None:
        self.namespace, self.name = namespace, name
        self.user = f"system:serviceaccount:{namespace.name}:{name}"
        namespace.kubectl("create", "serviceaccount", name)
        self.token = folder / f"{name}.token"
        self.renew()
        self.file = folder / f"{name}.kubeconfig"
        cluster = {"server": API, "certificate-authority": str(PKI / "ca.crt")}
        context = {"cluster": "c", "user": "u", "namespace": namespace.name}
        self.file.write_text(
            json.dumps(
                {
                    "current-context": "x",
                    "contexts": [{"name": "x", "context": context}],
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"tokenFile": str(self.token)}}],
                }
            )
        )

    def renew(self) -> None:
        """Write a new token."""
        new = self.token.with_suffix(".new")
        new.write_text(self.namespace.kubectl("create", "token", self.name))
        new.rename(self.token)

    def allow(self, role: str = "cluster-admin") -> None:
        """Give it all rights."""
        binding = f"{self.namespace.name}-{self.name}"
        words = (f"--clusterrole={role}", f"--serviceaccount={self.namespace.name}:{self.name}")
        self.namespace.kubectl("create", "rolebinding", binding, *words)

    def gate(self, *targets: str, options: tuple[str, ...] = ()) -> Gate:
        """A gate that asks as this account."""
        texts = [f"{target}#kubeconfig={self.file}" for target in targets]
        env = {"KUBECONFIG": str(self.file)}
        return Gate(*texts, *options, command=self.namespace.cluster.inside(*GATE), env=env)

    def check(self, target: str) -> tuple[int, str]:
        """One look: exit status and what was printed."""
        words = self.namespace.cluster.inside(*TOOLBOX, "check", f"{target}#kubeconfig={self.file}")
        done = subprocess.run(words, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def ready(self, targets: dict[str, str]) -> set[str]:
        """Those of the named targets that are ready, by one look at each."""
        return self._told(targets, None)

    def forbidden(self, targets: dict[str, str]) -> set[str]:
        """Those that it may not ask for."""
        return self._told(targets, "forbidden")

    def _told(self, targets: dict[str, str], cause: str | None) -> set[str]:
        texts = [f"{target}#kubeconfig={self.file}" for target in targets.values()]
        words = self.namespace.cluster.inside(*TOOLBOX, "check", "--output", "json", *texts)
        done = subprocess.run(words, capture_output=True, text=True)
        told = json.loads(done.stdout)["dependencies"]
        return {name for name, each in zip(targets, told, strict=True) if each["cause"] == cause}

    def requests(self) -> Counter[tuple[str, str, int]]:
        """What the API server was asked by it: (verb, resource, status), each request once."""
        seen = {}
        for event in self.namespace.cluster.audit():
            if event["user"].get("username") == self.user:
                what = event.get("objectRef", {}).get("resource") or event["requestURI"]
                status = event.get("responseStatus", {}).get("code", 0)
                seen[event["auditID"]] = (event["verb"], what, status)
        return Counter(seen.values())

    def refused(self, since: str) -> int:
        """How many requests for its namespace came with a token of nobody's since then (as the audit log
        has the time)."""
        return sum(
            event["userAgent"] == "service-precheck"
            and f"/namespaces/{self.namespace.name}/" in event["requestURI"]
            and event.get("responseStatus", {}).get("code") == 401
            and event["requestReceivedTimestamp"] >= since
            for event in self.namespace.cluster.audit()
        )


@pytest.fixture
def account(namespace: Namespace, tmp_path: Path) -> Account:
    """An account that may do anything in its namespace."""
    made = Account(namespace, tmp_path)
    made.allow()
    return made


PORTS = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
OBJECTS: dict[str, tuple[str, Object, tuple[str, ...]]] = {
    # What is asked for, the object, and how kubectl says that it is so.
    "pod": (
        "kube://pod/lone",
        thing("Pod", "lone", spec=template("lone", HELD)["spec"]),
        ("wait", "pod/lone", "--for=condition=Ready"),
    ),
    "deployment": (
        "kube://deploy/web",
        workload("Deployment", "web", replicas=2),
        ("rollout", "status", "deploy/web"),
    ),
    "statefulset": (
        "kube://sts/db",
        workload("StatefulSet", "db", serviceName="db"),
        ("rollout", "status", "sts/db"),
    ),
    "daemonset": (
        "kube://ds/agent",
        workload("DaemonSet", "agent"),
        ("rollout", "status", "ds/agent"),
    ),
    "job": (
        "kube://job/migrate",
        # It stays for a while, for what ends at once takes along whoever is still in it.
        job("migrate", "until [ -e /ready ]; do sleep 0.1; done; sleep 3"),
        ("wait", "job/migrate", "--for=condition=Complete"),
    ),
    "service": (
        "kube://service/web#min=2",
        thing("Service", "web", spec=PORTS),
        ("rollout", "status", "deploy/web"),
    ),
    "service that publishes early": (
        "kube://service/early#min=2",
        thing("Service", "early", spec=PORTS | {"publishNotReadyAddresses": True}),
        ("rollout", "status", "deploy/web"),
    ),
    "configmap": (
        "kube://cm/settings#key=url",
        thing("ConfigMap", "settings", data={"other": "x"}),
        ("wait", "cm/settings", "--for=jsonpath={.data.url}"),
    ),
    "secret": (
        "kube://secret/login",
        thing("ConfigMap", "unused"),
        ("get", "secret/login"),
    ),
    "selector": (
        "kube://pod#selector=app=web#min=2",
        thing("ConfigMap", "unused"),
        ("wait", "pod", "--selector=app=web", "--for=condition=Ready"),
    ),
    "condition": (
        "kube://deployment/web#condition=Available#jsonpath=.status.readyReplicas:2",
        thing("ConfigMap", "unused"),
        ("wait", "deploy/web", "--for=condition=Available"),
    ),
}


TARGETS = {name: target for name, (target, _, _) in OBJECTS.items()}


def release(namespace: Namespace, *pods: str) -> None:
    """Let these pods be ready, and a job's be done."""
    for pod in pods:
        namespace.kubectl("exec", pod, "--", "/bin/touch", "/ready")


def held(namespace: Namespace) -> set[str]:
    """The pods that run, are not ready, and are to stay."""
    return {
        pod["metadata"]["name"]
        for pod in namespace.pods()
        for status in pod["status"].get("containerStatuses", ())
        if "running" in status["state"] and not status["ready"]
        if "deletionTimestamp" not in pod["metadata"]
    }


def rolled_out(namespace: Namespace, what: str) -> bool:
    """Whether `kubectl rollout status` would end."""
    told = namespace.kubectl("rollout", "status", what, "--watch=false")
    return "successfully rolled out" in told or "roll out complete" in told


def roll_out(namespace: Namespace, what: str) -> None:
    """Let its pods be ready, one after the other, until it is rolled out."""

    def is_done() -> bool:
        release(namespace, *held(namespace))
        return rolled_out(namespace, what)

    until(is_done, namespace.story)


def running(namespace: Namespace) -> int:
    """How many pods run, ready or not."""
    statuses = [pod["status"].get("containerStatuses", [{}])[0] for pod in namespace.pods()]
    return sum("running" in status.get("state", ()) for status in statuses)


def serving(namespace: Namespace, service: str) -> list[bool]:
    """Of each endpoint of a service whether it serves."""
    slices = namespace.get("endpointslices", f"--selector=kubernetes.io/service-name={service}")
    ends = [end for each in slices["items"] for end in each.get("endpoints") or ()]
    return sorted(end["conditions"]["serving"] for end in ends)


def test_each_kind_is_watched_from_before_it_exists(account: Account, tmp_path: Path) -> None:
    """Gates wait for things that do not exist yet. None opens while all of it is there and nothing is
    ready, nor while one of two is; all do when the rest is, as kubectl has it, too; and each costs the
    API server one list and one watch."""
    namespace = account.namespace
    looks = Account(namespace, tmp_path, "looks")
    looks.allow()
    gates = {name: account.gate(target) for name, target in TARGETS.items()}

    def are_serving(pods: int) -> bool:
        wanted = [*[False] * (2 - pods), *[True] * pods]
        return all(serving(namespace, service) == wanted for service in ("web", "early"))

    def is_half() -> bool:
        found = namespace.get("deployment", "web")["status"].get("readyReplicas")
        return bool(found == 1)

    def is_held() -> None:
        assert looks.ready(TARGETS) == set()
        opened = [(name, gate.stderr) for name, gate in gates.items() if not gate.running()]
        assert opened == []

    try:
        for gate in gates.values():
            gate.__enter__()
        for gate in gates.values():
            gate.wait_output("[missing-object]")
        namespace.apply(*[each for _, each, _ in OBJECTS.values()])
        until(lambda: running(namespace) == 5 + len(NODES), namespace.story)
        until(lambda: are_serving(0), namespace.story)
        is_held()
        web = namespace.get("pods", "--selector=app=web")["items"]
        release(namespace, web[0]["metadata"]["name"])
        until(lambda: are_serving(1), namespace.story)
        until(is_half, namespace.story)
        is_held()
        release(namespace, *[pod["metadata"]["name"] for pod in namespace.pods()])
        namespace.apply(
            thing("ConfigMap", "settings", data={"url": "x"}),
            thing("Secret", "login", stringData={"password": "x"}),
        )
        for name, gate in gates.items():
            done = gate.wait(60)
            assert done.status == 0, (name, done.stderr)
            oracle = OBJECTS[name][2]
            limit = () if oracle[0] == "get" else ("--timeout=1s",)
            namespace.kubectl(*oracle, *limit)
        assert are_serving(2)
    finally:
        for gate in gates.values():
            gate.__exit__(None, None, None)
    requests = account.requests()
    by_verb = Counter[str]()
    for (verb, _, status), count in requests.items():
        assert status == 200, requests
        by_verb[verb] += count
    assert by_verb == {"list": len(OBJECTS), "watch": len(OBJECTS)}, requests


def test_a_fleet_waits_quietly(account: Account) -> None:
    """Forty gates cost the API server a list and a watch each, nothing while they wait, and all leave at
    the one change. What they cost is told; FLEET= sets their number."""
    count = int(os.environ.get("FLEET", "40"))
    server = next(
        path.parent
        for path in Path("/proc").glob("[0-9]*/comm")
        if path.read_text().strip() == "kube-apiserver"
    )

    def cost() -> tuple[float, float]:
        fields = (server / "stat").read_text().rpartition(")")[2].split()
        resident = int((server / "statm").read_text().split()[1]) / 256
        return (int(fields[11]) + int(fields[12])) / 100, resident

    cpu, memory = cost()
    words = account.namespace.cluster.inside(*GATE, f"kube://cm/settings#kubeconfig={account.file}")
    nowhere = subprocess.DEVNULL
    gates = [subprocess.Popen([*words, "-q"], stdout=nowhere, stderr=nowhere) for _ in range(count)]
    try:
        watches = ("watch", "configmaps", 200)
        until(lambda: account.requests()[watches] == count, "the watches")
        began = [after - before for after, before in zip(cost(), (cpu, memory), strict=True)]
        time.sleep(5)
        account.namespace.apply(thing("ConfigMap", "settings"))
        applied = time.monotonic()
        assert {gate.wait(60) for gate in gates} == {0}
    finally:
        for gate in gates:
            gate.kill()
            gate.wait()
    assert account.requests() == {watches: count, ("list", "configmaps", 200): count}
    print(
        f"\n{count} gates: {began[0]:.2f} s cpu and {began[1]:+.0f} MiB of the API server to begin; "
        f"the last left {time.monotonic() - applied:.2f} s after the change"
    )


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_new_revision_is_waited_for(account: Account, kind: str) -> None:
    """A gate that begins when something that was rolled out gets a new revision does not open before
    `kubectl rollout status` would end, and does then; so when it is scaled down."""
    namespace = account.namespace
    what = f"{kind.lower()}/web"
    namespace.apply(workload(kind, "web", replicas=2))
    roll_out(namespace, what)
    released: set[str] = set()

    def new() -> set[str]:
        return held(namespace) - released

    namespace.kubectl("set", "env", what, "REVISION=2")
    with account.gate(f"kube://{what}") as gate:
        gate.wait_output("[not-ready]")
        while len(released) < 2:
            until(lambda: bool(new()), namespace.story)
            assert not rolled_out(namespace, what)
            assert gate.running()
            pods = new()
            release(namespace, *pods)
            released |= pods
        assert gate.wait(60).status == 0
    assert rolled_out(namespace, what)
    assert "is rolled out, 2 of 2 replicas" in gate.stderr
    namespace.kubectl("scale", what, "--replicas=1")
    with account.gate(f"kube://{what}") as gate:
        assert gate.wait(60).status == 0
    assert rolled_out(namespace, what)
    assert "is rolled out, 1 of 1 replicas" in gate.stderr


def test_pods_that_are_still_to_end_are_waited_for(account: Account) -> None:
    """What is scaled down has no more pods than it wants when the gate opens. kubectl does not wait for
    those of a statefulset, kstatus does."""
    namespace = account.namespace
    what = "statefulset/web"
    namespace.apply(workload("StatefulSet", "web", replicas=2))
    roll_out(namespace, what)
    finalizers = '-p={"metadata":{"finalizers":%s}}'
    namespace.kubectl("patch", "pod", "web-1", finalizers % '["example.org/held"]')
    namespace.kubectl("scale", what, "--replicas=1")
    until(lambda: "deletionTimestamp" in namespace.get("pod", "web-1")["metadata"], "deletion")
    until(lambda: rolled_out(namespace, what), namespace.story)
    with account.gate(f"kube://{what}") as gate:
        gate.wait_output("2 replicas are there, 1 wanted")
        namespace.kubectl("patch", "pod", "web-1", finalizers % "null")
        assert gate.wait(60).status == 0
    assert namespace.get(*what.split("/"))["status"]["replicas"] == 1


def test_a_gate_is_as_quick_as_kubectl(account: Account) -> None:
    """The gate does not open while the pod runs and is not ready. Once kubectl's own wait has ended, it
    is open before a kubectl that begins then has looked; and it asked for no more than a list and a
    watch."""
    namespace = account.namespace
    words = ("wait", "pod/lone", "--for=condition=Ready", "--timeout=120s")
    with account.gate("kube://pod/lone") as gate:
        gate.wait_output("[missing-object]")
        namespace.apply(thing("Pod", "lone", spec=template("lone", HELD)["spec"]))
        until(lambda: running(namespace) == 1, namespace.story)
        with ThreadPoolExecutor() as pool:
            kubectl = pool.submit(namespace.kubectl, *words)
            gate.wait_output("is Running and not ready")
            assert gate.running()
            release(namespace, "lone")
            kubectl.result()
        namespace.kubectl(*words)
        assert not gate.running()
        assert gate.wait().status == 0
    assert account.requests() == {("list", "pods", 200): 1, ("watch", "pods", 200): 1}


def test_a_failed_job_ends_the_gate(account: Account) -> None:
    """A job that failed is final, exit 1; with failed=wait one of its name that is made anew opens."""
    namespace = account.namespace
    with (
        account.gate("kube://job/once") as once,
        account.gate("kube://job/once#failed=wait") as waits,
    ):
        once.wait_output("[missing-object]")
        namespace.apply(job("once", "exit 3"))
        done = once.wait(60)
        assert done.status == 1
        assert "job once in" in done.stderr
        assert "has failed (BackoffLimitExceeded" in done.stderr
        waits.wait_output("has failed")
        namespace.kubectl("delete", "job", "once")
        namespace.apply(job("once", "true"))
        assert waits.wait(60).status == 0


def test_what_is_absent(account: Account) -> None:
    """`absent` and `not(...)` open when the object is gone, and not while it is being deleted."""
    namespace = account.namespace
    held = thing("ConfigMap", "lock")
    held["metadata"]["finalizers"] = ["example.org/held"]
    namespace.apply(held)
    with account.gate("kube://cm/lock#absent") as gate:
        gate.wait_output("is still there")
        namespace.kubectl("delete", "cm", "lock", "--wait=false")
        until(lambda: "deletionTimestamp" in namespace.get("cm", "lock")["metadata"], "deletion")
        assert account.check("kube://cm/lock#absent")[0] == 1
        namespace.kubectl("patch", "cm", "lock", '-p={"metadata":{"finalizers":null}}')
        assert gate.wait(10).status == 0
    assert "there is no configmap lock" in gate.stderr


def test_forbidden_waits_and_says_what_to_grant(namespace: Namespace, tmp_path: Path) -> None:
    """fault 50: each 403 names verb and resource and prints the least role once; once all of them are
    granted as printed, the gate opens."""
    account = Account(namespace, tmp_path)
    namespace.apply(thing("Secret", "login", stringData={"a": "b"}), thing("ConfigMap", "settings"))
    targets = ("kube://secret/login", "kube://cm/settings", "kube://node/node-1")
    try:
        with account.gate(*targets) as gate:
            until(lambda: gate.stderr.count("hint for ") == len(targets), lambda: gate.stderr)
            hints = [line for line in gate.stderr.splitlines() if "hint for " in line]
            for hint in hints:
                for each in ("kubectl" + hint.partition("kubectl")[2]).split(" && "):
                    program, *words = each.split()
                    assert program == "kubectl"
                    namespace.cluster.kubectl(*words)
            assert gate.wait(30).status == 0
    finally:
        name = f"service-precheck-{namespace.name}:{account.name}:nodes:node-1"
        for kind in ("clusterrole", "clusterrolebinding"):
            namespace.cluster.kubectl("delete", kind, name, check=False)
    assert 'cannot list resource "secrets"' in gate.stderr
    assert gate.stderr.count("create role ") == 2
    assert gate.stderr.count("create clusterrole ") == 1
    statuses = {status for _, _, status in account.requests()}
    assert statuses == {200, 403}


def test_token_rotation_costs_one_failed_call(account: Account) -> None:
    """fault 49: a token that is refused is read again; once another one is there, at most the call that
    is just made is refused, and the list and the watch that follow are not."""
    namespace = account.namespace
    good = account.token.read_text()
    account.token.write_text("stale.token.text")
    with account.gate("kube://cm/settings") as gate:
        gate.wait_output("[auth-refused]")
        assert "stale.token" not in gate.stderr
        account.token.with_suffix(".new").write_text(good)
        account.token.with_suffix(".new").rename(account.token)
        rotated = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        gate.wait_output("[missing-object]")
        namespace.apply(thing("ConfigMap", "settings"))
        assert gate.wait(10).status == 0
    assert account.refused("") >= 1
    assert account.refused(rotated) <= 1
    assert account.requests() == {("list", "configmaps", 200): 1, ("watch", "configmaps", 200): 1}


@pytest.fixture
def custom(cluster: Cluster, namespace: Namespace) -> Iterator[Callable[[str, str], Object]]:
    """Install a kind of the test's own group, in a version, with a status; give an object of it."""
    group = f"{namespace.name}.example.org"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    installed = []

    def install(kind: str, version: str) -> Object:
        names = {"plural": f"{kind}s", "singular": kind, "kind": kind.title()}
        served = {
            "name": version,
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
        }
        definition = thing(
            "CustomResourceDefinition",
            f"{kind}s.{group}",
            "apiextensions.k8s.io/v1",
            spec={
                "group": group,
                "scope": "Namespaced",
                "names": names | {"shortNames": [kind[0] * 2]},
                "versions": [served],
            },
        )
        installed.append(f"{kind}s.{group}")
        cluster.kubectl("apply", "-f", "-", given=json.dumps(definition))
        established = ("--for=condition=Established", "--timeout=20s")
        cluster.kubectl("wait", f"crd/{kind}s.{group}", *established)
        return thing(kind.title(), "one", f"{group}/{version}", spec={"size": 1})

    yield install
    for each in installed:
        cluster.kubectl("delete", "crd", each, "--wait=false", check=False)


def test_a_kind_of_another_version_than_the_preferred(
    account: Account, custom: Callable[[str, str], Object]
) -> None:
    """A kind that its group serves in an older version alone is found in three requests, as by kubectl."""
    namespace = account.namespace
    group = f"{namespace.name}.example.org"
    custom("gadget", "v1")
    namespace.apply(custom("valve", "v1alpha1"))

    def versions() -> list[str]:
        told = json.loads(namespace.kubectl("get", "--raw", f"/apis/{group}"))
        assert told["preferredVersion"]["version"] == "v1"
        return [each["version"] for each in told["versions"]]

    until(lambda: versions() == ["v1", "v1alpha1"], "both versions")
    namespace.kubectl("get", f"valve.{group}", "one")
    status, told = account.check(f"kube://valve.{group}/one#exists")
    assert status == 0, told
    places = (f"/apis/{group}", f"/apis/{group}/v1", f"/apis/{group}/v1alpha1")
    assert account.requests() == {
        **{("get", place, 200): 1 for place in places},
        ("list", "valves", 200): 1,
    }


def test_a_kind_that_is_not_installed_yet(
    account: Account, custom: Callable[[str, str], Object], tmp_path: Path
) -> None:
    """A custom kind is waited for, discovered once, and judged by kstatus' rules without any option."""
    namespace = account.namespace
    looks = Account(namespace, tmp_path, "looks")
    looks.allow()
    group = f"{namespace.name}.example.org"
    with account.gate(f"kube://gadget.{group}/one", f"kube://gg.v1.{group}/one#exists") as gate:
        gate.wait_output("is served [missing-object]")
        one = custom("gadget", "v1")
        namespace.apply(one)
        gate.wait_output("has no status yet", timeout=20)

        def status(condition: str, generation: int) -> None:
            told = {
                "type": "Ready",
                "status": condition,
                "reason": "Test",
                "message": "by the test",
            }
            patch = {"status": {"observedGeneration": generation, "conditions": [told]}}
            words = (f"gadgets.{group}", "one", "--subresource=status", "--type=merge")
            namespace.kubectl("patch", *words, f"-p={json.dumps(patch)}")

        status("False", 1)
        until(lambda: looks.check(f"kube://gadget.{group}/one")[1].count("by the test") > 0, "it")
        status("True", 0)
        assert "has not seen yet" in looks.check(f"kube://gadget.{group}/one")[1]
        assert gate.running()
        status("True", 1)
        assert gate.wait(20).status == 0
    asked = Counter[str]()
    for (_, what, status_code), count in account.requests().items():
        if what.startswith("/apis/") and status_code == 200:
            asked[what] += count
    # Once for each of its names.
    assert asked[f"/apis/{group}/v1"] == 2


def test_half_open_watch_is_found(cluster: Cluster, account: Account) -> None:
    """fault 51: packets of a watch that are dropped without a word are found within 30 s, and the gate
    goes on watching when they flow again."""
    nft = cluster.inside("nft")
    table = f"half_{account.namespace.name.replace('-', '_')}"
    with account.gate("kube://cm/settings") as gate:
        gate.wait_output("[missing-object]")
        until(lambda: account.requests()[("watch", "configmaps", 200)] == 1, "the watch")
        port = local_port(cluster, gate.pid)
        rules = (
            f"add table inet {table}; "
            f"add chain inet {table} in {{ type filter hook input priority -10; }}; "
            f"add rule inet {table} in tcp dport 6443 tcp sport {port} drop; "
            f"add rule inet {table} in tcp sport 6443 tcp dport {port} drop"
        )
        subprocess.run([*nft, rules], check=True)
        try:
            dropped = time.monotonic()
            gate.wait_output("nothing new is known", timeout=40)
            found = time.monotonic() - dropped
            print(f"\nfound after {found:.1f} s")
            assert found < 30
        finally:
            subprocess.run([*nft, f"delete table inet {table}"], check=True)
        account.namespace.apply(thing("ConfigMap", "settings"))
        assert gate.wait(20).status == 0


def local_port(cluster: Cluster, pid: int) -> int:
    """The port of a process's one connection to the API server."""
    words = cluster.inside("ss", "-Htnp", "state", "established", "dport", "= :6443")
    for line in subprocess.run(
        words, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if f"pid={pid}," in line:
            return int(line.split()[2].rpartition(":")[2])
    raise AssertionError("no connection")


def rights(account: Account, *targets: str) -> list[Object]:
    """The objects that `precheck rbac` prints."""
    words = ("rbac", *targets, "--namespace", account.namespace.name)
    more = ("--service-account", account.name)
    done = subprocess.run([*TOOLBOX, *words, *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_rights_are_enough_and_each_is_needed(namespace: Namespace, tmp_path: Path) -> None:
    """What `precheck rbac` prints lets every target be asked, and goes on to when it is applied for
    another account; without any one of its rules one target is forbidden, and without the right to watch
    the gate waits."""
    account, other = Account(namespace, tmp_path), Account(namespace, tmp_path, "other")
    targets = (
        *("kube://job/migrate", "kube://service/db", "kube://pod#selector=app=web"),
        *("kube://cm/settings#key=url", "kube://node/node-1", "kube://kube-system/cm/coredns"),
    )
    fewer = ("kube://cm/settings", "kube://node/node-2", "kube://kube-system/cm/other")
    objects, others = rights(account, *targets), rights(other, *fewer)

    def apply(given: list[Object]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": given})
        namespace.cluster.kubectl("apply", "-f", "-", given=text)

    def forbidden() -> set[str]:
        return account.forbidden(dict(zip(targets, targets, strict=True)))

    assert forbidden() == set(targets)
    try:
        apply(objects)
        apply(others)
        assert forbidden() == other.forbidden(dict(zip(fewer, fewer, strict=True))) == set()
        roles = [each for each in objects if each["kind"] in ("Role", "ClusterRole")]
        assert sorted(len(role["rules"]) for role in roles) == [1, 1, 4]
        missed = set()
        for role in roles:
            for place in range(len(role["rules"])):
                kept = role["rules"][:place] + role["rules"][place + 1 :]
                apply([role | {"rules": kept}])
                lost = forbidden()
                assert len(lost) == 1
                missed |= lost
            apply([role])
        assert missed == set(targets)
        own = next(role for role in roles if role["metadata"].get("namespace") == namespace.name)
        apply([own | {"rules": [rule | {"verbs": ["list"]} for rule in own["rules"]]}])
        with account.gate("kube://job/migrate") as gate:
            gate.wait_output('cannot watch resource "jobs"')
    finally:
        for each in (*objects, *others):
            where = each["metadata"].get("namespace")
            inside = () if where is None else ("-n", where)
            words = ("delete", each["kind"], each["metadata"]["name"], *inside)
            namespace.cluster.kubectl(*words, check=False)


def test_selectors_are_read_alike(namespace: Namespace) -> None:
    """What is taken for a selector, and what is called a mistake, is so for the API server."""

    def is_taken(selector: str) -> bool:
        place = f"/api/v1/namespaces/{namespace.name}/pods?labelSelector={quote(selector)}"
        told = namespace.kubectl("get", "--raw", place, check=False)
        assert '"kind":"PodList"' in told or "(BadRequest)" in told, told
        return "PodList" in told

    assert {selector for selector in SELECTORS if not is_taken(selector)} == set()
    assert {selector for selector, _ in NO_SELECTORS if is_taken(selector)} == set()


def test_in_a_pod(account: Account) -> None:
    """A pod's init container asks by its service account, on its own node too, in 16 MiB."""
    namespace = account.namespace
    node = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    gate = {
        "name": "precheck",
        "image": OURS,
        "args": ["kube://configmap/settings", "kube://daemonset/agent#same-node"],
        "env": [node],
        "resources": {"limits": {"cpu": "100m", "memory": "16Mi"}},
    }
    main = {"name": "main", "image": BUSYBOX, "command": ["/bin/sleep", "infinity"]}
    spec = template("shop", main)["spec"] | {"initContainers": [gate], "serviceAccountName": "gate"}
    namespace.apply(thing("Pod", "shop", spec=spec))

    def log() -> str:
        return namespace.kubectl("logs", "shop", "-c", "precheck", check=False)

    until(lambda: log().count("[missing-object]") == 2, namespace.story)
    namespace.apply(thing("ConfigMap", "settings"), workload("DaemonSet", "agent"))
    until(lambda: running(namespace) == len(NODES), namespace.story)
    assert "ready: kube://daemonset" not in log()
    agents = namespace.get("pods", "--selector=app=agent")["items"]
    release(namespace, *[pod["metadata"]["name"] for pod in agents])
    until(lambda: namespace.get("pod", "shop")["status"]["phase"] == "Running", namespace.story)
    assert set(namespace.restarts().values()) == {0}
    assert "pod of daemonset agent" in log()
