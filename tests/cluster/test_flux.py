"""GitOps with Flux: the real kustomize-controller applies a revision and waits for all of it.

source-controller cannot be built from its module: the tests serve the archive of a revision and write
the GitRepository's status in its place. All else is Flux's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.bed import EXAMPLES, IMAGES, Cluster, Namespace, Object, condition, opened, until
from tests.cluster.test_describe import agrees
from tools.cluster.flux import Flux, missing

pytestmark = [pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def flux(cluster: Cluster) -> Iterator[Flux]:
    """Return the running controller."""
    if why := missing():
        pytest.skip(why)
    with Flux(cluster.inside()) as running:
        yield running


class Shop:
    """The Kustomization of `examples/kubernetes/flux` in a namespace, and the repository behind it."""

    def __init__(self, flux: Flux, namespace: Namespace) -> None:
        self.flux, self.namespace = flux, namespace

    def create(self, **spec: object) -> None:
        """Apply the example as it stands, but for names: of the namespace, and of images."""
        text = (EXAMPLES / "flux" / "flux.yaml").read_text()
        source, wanted = yaml.safe_load_all(text)
        swapped = [
            {"name": name, "newName": new.rpartition(":")[0], "newTag": new.rpartition(":")[2]}
            for name, new in IMAGES.items()
        ]
        wanted["spec"] |= {"targetNamespace": self.namespace.name, "images": swapped, **spec}
        self.namespace.apply(source, wanted)

    def push(self, number: int, files: dict[str, str]) -> str:
        """Make these files the newest revision; gives its name."""
        revision = f"main@sha1:{number:040x}"
        named = {
            path: text.replace(".namespace", f".{self.namespace.name}")
            for path, text in files.items()
        }
        self.flux.publish(self.namespace.name, "shop", revision, named)
        return revision

    def ready(self) -> Object:
        """The Kustomization's condition Ready; one without a status before it has any."""
        status = self.namespace.get("kustomization", "shop").get("status", {})
        found = [each for each in status.get("conditions", ()) if each["type"] == "Ready"]
        return found[0] if found else {"status": ""}

    def applied(self, revision: str) -> bool:
        """Whether it is Ready with this revision."""
        got = self.namespace.get("kustomization", "shop")
        newest = got.get("status", {}).get("lastAppliedRevision")
        return bool(newest == revision and self.ready()["status"] == "True")

    def story(self) -> str:
        """Why it did not come so far."""
        return f"{self.ready()}\n{self.namespace.story()}\n{self.flux.log[-3000:]}"

    def delete(self) -> None:
        """Delete it with all that it applied, as its finalizer has it."""
        self.namespace.kubectl("delete", "kustomization", "shop", "--timeout=60s", check=False)


@pytest.fixture
def shop(flux: Flux, namespace: Namespace) -> Iterator[Shop]:
    """Return a repository with nothing in it yet."""
    made = Shop(flux, namespace)
    yield made
    made.delete()


def files(story: str) -> dict[str, str]:
    """The manifests of a story."""
    return {path.name: path.read_text() for path in (EXAMPLES / story).glob("*.yaml")}


@pytest.mark.usefixtures("services")
def test_ready_once_all_is(shop: Shop) -> None:
    """A revision is Ready only when every workload of the MySQL story is, and nothing restarted; the next
    one, with one dependency more, rolls out while the app goes on serving."""
    namespace = shop.namespace
    shop.create()
    first = files("mysql")
    revision = shop.push(1, first)
    seen = set()

    def done() -> bool:
        seen.add((shop.ready()["status"], shop.ready().get("reason", "")))
        return shop.applied(revision)

    until(done, shop.story, 200)
    assert namespace.unready() == []
    assert ("Unknown", "Progressing") in seen
    assert not any(status == "False" for status, _ in seen), seen
    restarts = namespace.restarts()
    assert set(restarts.values()) == {0}, restarts
    assert len(restarts) == 7
    pods = {each["metadata"]["name"]: each["metadata"]["uid"] for each in namespace.pods()}
    assert shop.ready()["lastTransitionTime"] >= max(condition(p) for p in namespace.pods())

    cache = (EXAMPLES / "component" / "shop" / "cache.yaml").read_text()
    known = "            - mysql-read.namespace\n"
    assert known in first["shop.yaml"]
    more = first["shop.yaml"].replace(known, known + "            - http://cache.namespace/ready\n")
    revision = shop.push(2, first | {"cache.yaml": cache, "shop.yaml": more})
    available = []

    def rolled() -> bool:
        status = namespace.get("deployment", "shop")["status"]
        available.append(status.get("availableReplicas", 0))
        return shop.applied(revision)

    until(rolled, shop.story, 200)
    assert namespace.unready() == []
    assert min(available) == 1
    until(lambda: len(namespace.get("pods", "--selector=app=shop")["items"]) == 1, shop.story)
    restarts = namespace.restarts()
    assert set(restarts.values()) == {0}, restarts
    after = {each["metadata"]["name"]: each["metadata"]["uid"] for each in namespace.pods()}
    kept = {name for name, uid in pods.items() if after.get(name) == uid}
    assert kept == {name for name in pods if not name.startswith("shop-")}
    told = namespace.told(namespace.pod("shop"))
    assert any("http://cache.namespace:80/ready: GET /ready answers 200" in line for line in told)
    assert opened(namespace.pod("shop"))["exitCode"] == 0


DESCRIBE = ("describe", "pods", "--selector=app=shop")
LOG = ("logs", "deployment/shop", "-c", "precheck")
NEVER = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
spec:
  selector:
    matchLabels: {app: shop}
  template:
    metadata:
      labels: {app: shop}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 0
      initContainers:
        - name: precheck
          image: registry.example/service-precheck:0.1.0
          args: [cache.namespace]
      containers:
        - name: shop
          image: busybox:1.37
          command: [sleep, infinity]
"""
CACHE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "cache"},
    "spec": {"ports": [{"port": 6379}]},
}


def test_a_dependency_that_never_comes(shop: Shop) -> None:
    """Without a time limit of its own the gate waits, Flux says so, and once the dependency is there all
    goes on with nothing restarted."""
    namespace = shop.namespace
    shop.create(timeout="30s", retryInterval="20s")
    revision = shop.push(1, {"shop.yaml": NEVER})
    agrees(namespace, "flux.md", "flux:progress", "get", "kustomization", "shop")
    agrees(namespace, "flux.md", "flux:waits", "describe", "kustomization", "shop")
    agrees(namespace, "flux.md", "describe:waits", *DESCRIBE)
    agrees(namespace, "flux.md", "log:waits", *LOG)
    events = namespace.kubectl("get", "events", "--field-selector=type=Warning", "-o=name")
    assert "pod" not in events
    namespace.apply(CACHE)
    until(lambda: shop.applied(revision), shop.story)
    assert set(namespace.restarts().values()) == {0}


def test_a_dependency_that_never_comes_with_a_time_limit(shop: Shop) -> None:
    """With `--timeout` Flux says the same, the pod says what blocked, and the wait begins anew each time:
    once the dependency is there, it is found after the kubelet's pause."""
    namespace = shop.namespace
    shop.create(timeout="30s", retryInterval="20s")
    limited = NEVER.replace("[cache.", '["--timeout=3s", cache.')
    shop.push(1, {"shop.yaml": limited})
    # The condition and its words are the same.
    agrees(namespace, "flux.md", "flux:waits", "describe", "kustomization", "shop")
    agrees(namespace, "flux.md", "describe:gave-up", *DESCRIBE)
    agrees(namespace, "flux.md", "log:gave-up", *LOG)
    namespace.apply(CACHE)
    began = time.monotonic()
    until(lambda: not namespace.unready(), shop.story)
    print(f"\nready {time.monotonic() - began:.0f} s after the dependency")
    assert max(namespace.restarts().values()) >= 1
