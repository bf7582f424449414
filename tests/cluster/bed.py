"""The test cluster as a test sees it: objects in, states, events, logs and audit out.

    namespace.apply(EXAMPLES / "mysql")             # a folder of manifests, images swapped
    namespace.wait_ready()                          # every workload is rolled out
    namespace.restarts()                            # {"mysql-0/mysql": 0, ...}
    namespace.kubectl("logs", "shop", "-c", "precheck")

Manifests stand as users apply them; the images they name are replaced by kustomize's own `images:`, and
the namespace is set, so that what is tested is what is documented.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.cluster import BIN, STATE, images
from tools.cluster import __main__ as run
from tools.cluster.addons import KUBECTL
from tools.cluster.daemons import AUDIT, nodes

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "kubernetes"
# How the names of images in manifests are replaced: ours, and what the tests' own images stand in for.
IMAGES = {
    "registry.example/service-precheck": f"{images.REGISTRY}/service-precheck:1",
    "apache/hadoop": f"{images.REGISTRY}/hadoop:3.4.1",
    **dict.fromkeys(
        ("mariadb", "zookeeper", "gcr.io/etcd-development/etcd", "debian"),
        f"{images.REGISTRY}/services:1",
    ),
    "busybox": f"{images.REGISTRY}/busybox:1",
}
PATIENCE = 120.0

Object = dict[str, Any]


class Cluster:
    """The cluster that runs on this machine."""

    def __init__(self) -> None:
        self.first = run.first(run.pid())
        self._loaded: set[str] = set()
        self.load(images.ours(ROOT / "dist" / "image"))

    def load(self, archive: Path) -> None:
        """Give an image to both nodes, once."""
        if archive.name in self._loaded:
            return
        for node in nodes():
            images.put(node, archive)
        self._loaded.add(archive.name)

    def inside(self, *words: str) -> list[str]:
        """Words that run a program in the network of the first node, where the API server listens."""
        return ["nsenter", f"--net=/proc/{self.first}/ns/net", *words]

    def kubectl(self, *words: str, given: str | None = None, check: bool = True) -> str:
        """Run kubectl as administrator; its output. Fails with its error unless `check` is false."""
        # `kubectl wait` waits for a cluster that is gone, too.
        kubectl = self.inside("setpriv", "--pdeathsig", "KILL", *KUBECTL)
        done = subprocess.run([*kubectl, *words], input=given, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout if done.returncode == 0 else done.stderr

    def audit(self) -> Iterator[Object]:
        """The API server's audit events so far."""
        for line in AUDIT.read_text().splitlines():
            yield json.loads(line)

    def log(self, name: str) -> str:
        """What one of the cluster's own programs wrote (`kube-apiserver`, `node-1-kubelet`)."""
        return (STATE / "logs" / f"{name}.log").read_text(errors="replace")


class Namespace:
    """A namespace of one test."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        words = re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("test_"))[:40].strip("-")
        self.name = f"{words}-{time.monotonic_ns() & 0xFFFFFF:x}"

    def create(self) -> None:
        """Create it, and wait for its account: no pod is admitted before that exists."""
        self.cluster.kubectl("create", "namespace", self.name)
        account = ("get", "serviceaccount", "default", "-o=name", "--ignore-not-found")
        until(lambda: bool(self.kubectl(*account)), "the default service account")

    def delete(self) -> None:
        """Delete it with all that is in it, without waiting for pods to say goodbye."""
        # First the namespace: then nobody makes pods anew.
        self.cluster.kubectl("delete", "namespace", self.name, "--wait=false", check=False)
        self.kubectl("delete", "pods", "--all", "--grace-period=0", "--force", check=False)

    def kubectl(self, *words: str, given: str | None = None, check: bool = True) -> str:
        """Run kubectl in it."""
        return self.cluster.kubectl("--namespace", self.name, *words, given=given, check=check)

    def rendered(self, folder: Path) -> list[Object]:
        """The objects of a folder of manifests, by kustomize: images swapped, the namespace set."""
        resources = sorted(path.name for path in folder.glob("*.yaml"))
        with tempfile.TemporaryDirectory() as work:
            for name in resources:
                text = (folder / name).read_text()
                # Names of other services in arguments have their namespace written out, and so have
                # the subjects of a RoleBinding.
                for written in (".namespace", "namespace: namespace"):
                    text = text.replace(written, written.removesuffix("namespace") + self.name)
                (Path(work) / name).write_text(text)
            swapped = [
                {"name": name, "newName": new.rpartition(":")[0], "newTag": new.rpartition(":")[2]}
                for name, new in IMAGES.items()
            ]
            (Path(work) / "kustomization.yaml").write_text(
                json.dumps({"resources": resources, "namespace": self.name, "images": swapped})
            )
            made = subprocess.run(
                [str(BIN / "kustomize"), "build", work], capture_output=True, text=True
            )
        assert made.returncode == 0, made.stderr
        return [each for each in yaml.safe_load_all(made.stdout) if each]

    def apply(self, *what: Path | Object) -> list[Object]:
        """Apply folders and objects, all at once; gives the objects."""
        objects: list[Object] = []
        for each in what:
            objects += self.rendered(each) if isinstance(each, Path) else [each]
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "-f", "-", given=json.dumps(listed))
        return objects

    def get(self, kind: str, name: str = "") -> Object:
        """An object, or the list of a kind."""
        got: Object = json.loads(self.kubectl("get", kind, *([name] if name else []), "-o=json"))
        return got

    def pods(self) -> list[Object]:
        """Its pods."""
        got: list[Object] = self.get("pods")["items"]
        return got

    def pod(self, app: str) -> Object:
        """The one pod with this `app` label."""
        (pod,) = self.get("pods", f"--selector=app={app}")["items"]
        found: Object = pod
        return found

    def told(self, pod: Object, container: str = "precheck") -> list[str]:
        """What a gate said, as `normal` has it."""
        log = self.kubectl("logs", pod["metadata"]["name"], "-c", container)
        return normal(log.replace(self.name, "namespace"))

    def restarts(self) -> dict[str, int]:
        """How often each container was restarted, by `pod/container`, init containers included."""
        found = {}
        for pod in self.pods():
            status = pod["status"]
            for each in (
                *status.get("initContainerStatuses", ()),
                *status.get("containerStatuses", ()),
            ):
                found[f"{pod['metadata']['name']}/{each['name']}"] = each["restartCount"]
        return found

    def unready(self) -> list[str]:
        """The workloads that are not rolled out, and the pods that are not ready or done."""
        found = []
        for workload in self.get("deployments,statefulsets,daemonsets,jobs")["items"]:
            kind, status = workload["kind"], workload.get("status", {})
            spec = workload["spec"]
            if kind == "Job":
                done = status.get("succeeded", 0) >= spec.get("completions", 1)
            elif kind == "DaemonSet":
                done = (
                    status.get("numberReady", 0) == status.get("desiredNumberScheduled", -1)
                    and status.get("observedGeneration") == workload["metadata"]["generation"]
                )
            else:
                wanted = spec.get("replicas", 1)
                done = (
                    status.get("observedGeneration") == workload["metadata"]["generation"]
                    and status.get("readyReplicas", 0) == wanted
                    and status.get("updatedReplicas", wanted) == wanted
                )
            if not done:
                found.append(f"{kind}/{workload['metadata']['name']}")
        return found

    def wait_ready(self, patience: float = PATIENCE) -> float:
        """Wait until every workload is rolled out; gives the seconds it took."""
        began = time.monotonic()
        until(lambda: not self.unready(), self.story, patience)
        return time.monotonic() - began

    def story(self) -> str:
        """What stands in the way, for a test that fails: pods, events, the gates' last words."""
        told = [", ".join(self.unready()), self.kubectl("get", "pods", "-o=wide", check=False)]
        told.append(self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:])
        for pod in self.pods():
            for each in pod["spec"].get("initContainers", ()):
                name = pod["metadata"]["name"]
                log = self.kubectl("logs", name, "-c", each["name"], "--tail=5", check=False)
                told.append(f"{name}/{each['name']}: {log}")
        return "\n".join(told)


def normal(log: str) -> list[str]:
    """The lines of a gate's log without their times; what differs each time is written the same."""
    alike = {
        r"\b10(\.\d+){3}\b": "10.0.0.1",
        # Which of several hosts it was.
        r"-\d+(\.\S+ \(10\.0\.0\.1:)": r"-0\1",
        r"after (\d+ min( \d+ s)?|[\d.]+ m?s)": "after 1.0 s",
        r"\d+ m?s behind": "0 s behind",
    }
    for pattern, instead in alike.items():
        log = re.sub(pattern, instead, log)
    return [line.partition("Z ")[2] for line in log.strip().splitlines()]


def documented(story: str) -> list[str]:
    """The lines of the log that `docs/stories.md` shows under this marker, as `normal` has them."""
    page = (ROOT / "docs" / "stories.md").read_text()
    block = page.partition(f"<!-- log:{story} -->")[2].split("```")[1]
    return normal(block.removeprefix("text"))


def condition(pod: Object, kind: str = "Ready") -> str:
    """Since when this condition of a pod holds."""
    (found,) = [each for each in pod["status"]["conditions"] if each["type"] == kind]
    assert found["status"] == "True", found
    return str(found["lastTransitionTime"])


def addressed(pods: list[Object]) -> str:
    """Since when all of these pods have addresses, before any of their containers starts."""
    return max(condition(pod, "PodReadyToStartContainers") for pod in pods)


def started(pod: Object) -> str:
    """When the pod's one container started, in its only run."""
    (status,) = pod["status"]["containerStatuses"]
    return str(status["state"]["running"]["startedAt"])


def opened(pod: Object) -> Object:
    """How the pod's gate ended; it was run once."""
    (status,) = pod["status"]["initContainerStatuses"]
    assert status["restartCount"] == 0
    ended: Object = status["state"]["terminated"]
    return ended


def until(
    holds: Callable[[], bool], what: str | Callable[[], str], patience: float = PATIENCE
) -> None:
    """Wait for it; fail with what was awaited, or with the story of why it did not come."""
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(
                f"not within {patience:.0f} s: {what if isinstance(what, str) else what()}"
            )
        time.sleep(0.1)
