"""The post's second story: daemons that wait for a ZooKeeper quorum, all applied at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.bed import (
    EXAMPLES,
    Cluster,
    Namespace,
    addressed,
    condition,
    documented,
    opened,
    until,
)
from tools.cluster.images import REGISTRY

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("services")]

STORY = EXAMPLES / "zookeeper"


@pytest.fixture(scope="module")
def story(cluster: Cluster, services: None) -> Iterator[Namespace]:
    """Return a namespace where the story has come to its end."""
    namespace = Namespace(cluster, "zookeeper")
    namespace.create()
    namespace.apply(STORY)
    namespace.wait_ready()
    yield namespace
    namespace.delete()


def test_nothing_restarts(story: Namespace) -> None:
    """Everything is ready without one restart, the apps after what they wait for (fault 26)."""
    restarts = story.restarts()
    assert set(restarts.values()) == {0}, restarts
    assert len(restarts) == 10


def test_names_prove_addresses(story: Namespace) -> None:
    """With `publishNotReadyAddresses` names resolve before any server serves; without, once so many do."""
    servers = story.get("pods", "--selector=app=zookeeper")["items"]
    # Ready means for these that they serve; each waited for the names of all three before it began.
    first, second, _ = sorted(condition(server) for server in servers)
    assert all(opened(server)["finishedAt"] <= first for server in servers)
    # The names' gate opens between the two; the quorum's only when so many serve.
    assert addressed(servers) <= opened(story.pod("daemon"))["finishedAt"] <= first
    assert opened(story.pod("locks"))["finishedAt"] >= second


def test_the_gates_say_what_is_documented(story: Namespace) -> None:
    """The log has the lines of the page, and an open gate leaves no termination message."""
    daemon, locks = story.pod("daemon"), story.pod("locks")
    assert set(documented("zookeeper-names")) <= set(story.told(daemon)), story.told(daemon)
    told = story.told(locks)
    ready = [line for line in told if line.startswith("ready: zookeeper:")]
    assert len(ready) == 1, told
    assert ready[0].endswith("keep one session, 2 voters of one ensemble")
    assert any("[no-quorum]" in line or "[refused]" in line for line in told), told
    for pod in (daemon, locks):
        assert "message" not in opened(pod)


def test_a_name_that_waits_for_itself(namespace: Namespace) -> None:
    """Without `publishNotReadyAddresses` a pod that waits for its own name waits until that is mended."""
    objects = [each for each in namespace.rendered(STORY) if each["kind"] != "Deployment"]
    (headless,) = [e for e in objects if e["metadata"]["name"] == "zookeeper-headless"]
    headless["spec"]["publishNotReadyAddresses"] = False
    namespace.apply(*objects)
    until(lambda: len(unready_addresses(namespace)) == 3, namespace.story)
    # The pods have addresses, and their names do not resolve.
    name = f"zookeeper-0.zookeeper-headless.{namespace.name}"
    namespace.apply(asking(f"not({name})"))
    until(lambda: namespace.get("pod", "ask")["status"]["phase"] == "Succeeded", namespace.story)
    log = namespace.kubectl("logs", "zookeeper-0", "-c", "precheck")
    assert f"ready: {name}" not in log
    assert "[name-not-found]" in log

    headless["spec"]["publishNotReadyAddresses"] = True
    namespace.apply(headless)
    namespace.wait_ready()
    assert set(namespace.restarts().values()) == {0}


def test_a_server_needs_its_own_name(namespace: Namespace) -> None:
    """Without a gate a ZooKeeper that starts before its own name is known ends with exit status 14."""
    objects = [each for each in namespace.rendered(STORY) if each["kind"] != "Deployment"]
    for each in objects:
        if each["kind"] == "Service":
            each["spec"]["publishNotReadyAddresses"] = False
        if each["kind"] == "StatefulSet":
            each["spec"]["replicas"] = 1
            del each["spec"]["template"]["spec"]["initContainers"]
    namespace.apply(*objects)
    until(lambda: sum(namespace.restarts().values()) > 0, namespace.story)
    (status,) = namespace.pod("zookeeper")["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["exitCode"] == 14


def unready_addresses(namespace: Namespace) -> list[str]:
    """The addresses behind the headless service that it does not publish."""
    slices = namespace.get("endpointslices", "-l=kubernetes.io/service-name=zookeeper-headless")
    return [
        endpoint["addresses"][0]
        for each in slices["items"]
        for endpoint in each["endpoints"] or ()
        if not endpoint["conditions"]["ready"]
    ]


def asking(target: str) -> dict[str, Any]:
    """A pod that is done once the target holds."""
    gate = {
        "name": "ask",
        "image": f"{REGISTRY}/service-precheck:1",
        "imagePullPolicy": "IfNotPresent",
        "args": [target],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "ask"},
        "spec": {"restartPolicy": "Never", "containers": [gate]},
    }
