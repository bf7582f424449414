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
from pathlib import Path

import pytest
import yaml

from tests.bed.process import GATE, TOOLBOX, Gate
from tests.cluster.bed import Cluster, Namespace, Object, until
from tests.cluster.test_basics import BUSYBOX, OURS
from tools.cluster import API
from tools.cluster.pki import PKI

pytestmark = [pytest.mark.timeout(600)]

# Ready two seconds after its start.
SLOW = {
    "name": "main",
    "image": BUSYBOX,
    "command": ["/bin/sh", "-c", "sleep 2; touch /ready; sleep infinity"],
    "readinessProbe": {"exec": {"command": ["/bin/cat", "/ready"]}, "periodSeconds": 1},
}


def thing(kind: str, name: str, version: str = "v1", **fields: object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}


def template(app: str, container: Object, **spec: object) -> Object:
    grace = {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    return {"metadata": {"labels": {"app": app}}, "spec": grace}


def workload(kind: str, name: str, container: Object = SLOW, **spec: object) -> Object:
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

    def requests(self) -> Counter[tuple[str, str, int]]:
        """What the API server was asked by it: (verb, resource, status), each request once."""
        seen = {}
        for event in self.namespace.cluster.audit():
            if event["user"].get("username") == self.user:
                what = event.get("objectRef", {}).get("resource") or event["requestURI"]
                status = event.get("responseStatus", {}).get("code", 0)
                seen[event["auditID"]] = (event["verb"], what, status)
        return Counter(seen.values())


@pytest.fixture
def account(namespace: Namespace, tmp_path: Path) -> Account:
    """An account that may do anything in its namespace."""
    made = Account(namespace, tmp_path)
    made.allow()
    return made


OBJECTS: dict[str, tuple[str, Object, tuple[str, ...]]] = {
    # What is asked for, the object, and how kubectl says that it is so.
    "pod": (
        "kube://pod/lone",
        thing("Pod", "lone", spec=template("lone", SLOW)["spec"]),
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
        job("migrate", "sleep 1"),
        ("wait", "job/migrate", "--for=condition=Complete"),
    ),
    "service": (
        "kube://service/web#min=2",
        thing("Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]}),
        ("wait", "service/web", "--for=jsonpath={.spec.clusterIP}"),
    ),
    "configmap": (
        "kube://cm/settings#key=url",
        thing("ConfigMap", "settings", data={"url": "x"}),
        ("wait", "cm/settings", "--for=jsonpath={.data.url}"),
    ),
    "secret": (
        "kube://secret/login",
        thing("Secret", "login", stringData={"password": "x"}),
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


def test_each_kind_is_watched_from_before_it_exists(account: Account) -> None:
    """Gates wait for ten things that do not exist yet, open when kubectl says that they hold, and cost
    the API server one list and one watch each."""
    namespace = account.namespace
    gates = {name: account.gate(target) for name, (target, _, _) in OBJECTS.items()}
    try:
        for gate in gates.values():
            gate.__enter__()
        for gate in gates.values():
            gate.wait_output("[missing-object]")
        namespace.apply(*[each for _, each, _ in OBJECTS.values()])
        for name, gate in gates.items():
            done = gate.wait(60)
            assert done.status == 0, (name, done.stderr)
            oracle = OBJECTS[name][2]
            limit = () if oracle[0] == "get" else ("--timeout=1s",)
            namespace.kubectl(*oracle, *limit)
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


def test_a_gate_is_as_quick_as_kubectl(account: Account) -> None:
    """The gate opens within a moment of kubectl's own wait, and not before the pod is ready."""
    namespace = account.namespace
    with account.gate("kube://pod/lone") as gate:
        gate.wait_output("[missing-object]")
        namespace.apply(thing("Pod", "lone", spec=template("lone", SLOW)["spec"]))
        namespace.kubectl("wait", "pod/lone", "--for=condition=Ready", "--timeout=60s")
        kubectl = time.monotonic()
        assert gate.wait(10).status == 0
    late = time.monotonic() - kubectl
    print(f"\nopened {late * 1000:+.0f} ms after kubectl")
    conditions = namespace.get("pod", "lone")["status"]["conditions"]
    assert {each["type"]: each["status"] for each in conditions}["Ready"] == "True"


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
    """fault 50: a 403 names verb and resource and prints the least role once; once that is granted as
    printed, the gate opens."""
    account = Account(namespace, tmp_path)
    namespace.apply(thing("Secret", "login", stringData={"a": "b"}))
    with account.gate("kube://secret/login") as gate:
        gate.wait_output("[forbidden]")
        gate.wait_output("kubectl")
        hint = next(line for line in gate.stderr.splitlines() if "create role" in line)
        command = "kubectl" + hint.partition("kubectl")[2]
        for each in command.split(" && "):
            words = each.split()
            assert words[:3] == ["kubectl", "-n", namespace.name]
            namespace.kubectl(*words[3:])
        assert gate.wait(30).status == 0
    assert 'cannot list resource "secrets"' in gate.stderr
    assert gate.stderr.count("create role ") == 1
    statuses = {status for _, _, status in account.requests()}
    assert statuses == {200, 403}


def test_token_rotation_costs_one_failed_call(account: Account) -> None:
    """fault 49: a token that is refused is read again; what was put there meanwhile is sent at once."""
    namespace = account.namespace
    good = account.token.read_text()
    account.token.write_text("stale.token.text")
    with account.gate("kube://cm/settings") as gate:
        gate.wait_output("[auth-refused]")
        assert "stale.token" not in gate.stderr
        account.token.write_text(good)
        gate.wait_output("[missing-object]")
        namespace.apply(thing("ConfigMap", "settings"))
        assert gate.wait(10).status == 0


@pytest.fixture
def custom(cluster: Cluster, namespace: Namespace) -> Iterator[Callable[[], Object]]:
    """Install a kind of the test's own, with a status; give an object of it."""
    group = f"{namespace.name}.example.org"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "shortNames": ["gg"]}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    definition = thing(
        "CustomResourceDefinition",
        f"gadgets.{group}",
        "apiextensions.k8s.io/v1",
        spec={"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    )

    def install() -> Object:
        cluster.kubectl("apply", "-f", "-", given=json.dumps(definition))
        established = ("--for=condition=Established", "--timeout=20s")
        cluster.kubectl("wait", f"crd/gadgets.{group}", *established)
        return thing("Gadget", "one", f"{group}/v1", spec={"size": 1})

    yield install
    cluster.kubectl("delete", "crd", f"gadgets.{group}", "--wait=false", check=False)


def test_a_kind_that_is_not_installed_yet(account: Account, custom: Callable[[], Object]) -> None:
    """A custom kind is waited for, discovered once, and judged by kstatus' rules without any option."""
    namespace = account.namespace
    group = f"{namespace.name}.example.org"
    with account.gate(f"kube://gadget.{group}/one", f"kube://gg.v1.{group}/one#exists") as gate:
        gate.wait_output("is served [missing-object]")
        one = custom()
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
        until(lambda: account.check(f"kube://gadget.{group}/one")[1].count("by the test") > 0, "it")
        status("True", 0)
        assert "has not seen yet" in account.check(f"kube://gadget.{group}/one")[1]
        status("True", 1)
        assert gate.wait(20).status == 0
    asked = Counter[str]()
    for (_, what, status_code), count in account.requests().items():
        if what.startswith("/apis/") and status_code == 200:
            asked[what] += count
    discovered = f"/apis/{group}/v1"
    # The gate once a name, and once each single look.
    assert asked[discovered] <= 2 + 5


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
    """What `precheck rbac` prints lets every target be asked; without any one of its rules one target
    is forbidden, and without the right to watch the gate waits."""
    account = Account(namespace, tmp_path)
    targets = (
        *("kube://job/migrate", "kube://service/db", "kube://pod#selector=app=web"),
        *("kube://cm/settings#key=url", "kube://node/node-1", "kube://kube-system/cm/coredns"),
    )
    objects = rights(account, *targets)

    def apply(given: list[Object]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": given})
        namespace.cluster.kubectl("apply", "-f", "-", given=text)

    def forbidden() -> set[str]:
        texts = [f"{target}#kubeconfig={account.file}" for target in targets]
        words = namespace.cluster.inside(*TOOLBOX, "check", "--output", "json", *texts)
        done = subprocess.run(words, capture_output=True, text=True)
        told = json.loads(done.stdout)["dependencies"]
        pairs = zip(targets, told, strict=True)
        return {target for target, each in pairs if each["cause"] == "forbidden"}

    assert forbidden() == set(targets)
    try:
        apply(objects)
        assert forbidden() == set()
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
        for each in objects:
            where = each["metadata"].get("namespace")
            inside = () if where is None else ("-n", where)
            words = ("delete", each["kind"], each["metadata"]["name"], *inside)
            namespace.cluster.kubectl(*words, check=False)


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
    until(lambda: namespace.get("pod", "shop")["status"]["phase"] == "Running", namespace.story)
    assert set(namespace.restarts().values()) == {0}
    assert "pod of daemonset agent" in log()
