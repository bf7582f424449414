"""GitOps order without order: the MySQL story object by object, in any order, ends the same.

Ten namespaces at once, each with a random order of its own, and one where the apply stops halfway and
goes on later. The seed of an order is in its namespace's name, so that a failure can be had again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.cluster.bed import EXAMPLES, Cluster, Namespace, Object, until

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("services")]

STORY = EXAMPLES / "mysql"
ORDERS = 10
# All of them start at once, on the two cores that a small machine has.
PATIENCE = 300


@contextmanager
def order(cluster: Cluster, seed: int) -> Iterator[tuple[Namespace, list[Object]]]:
    """A namespace, and the story's objects in the order of a seed, with one replica to spare cpu."""
    namespace = Namespace(cluster, f"order-{seed}")
    namespace.create()
    try:
        objects = namespace.rendered(STORY)
        for each in objects:
            if each["kind"] == "StatefulSet":
                each["spec"]["replicas"] = 2
        random.Random(seed).shuffle(objects)
        yield namespace, objects
    finally:
        namespace.delete()


def end(namespace: Namespace) -> dict[str, int]:
    """Wait for the end of the story: how often each container was restarted, pods by their apps."""
    # kubectl watches here: ten that ask again and again would take the cpu from what they wait for.
    for workload in ("statefulset/mysql", "deployment/shop", "deployment/orders"):
        namespace.kubectl("rollout", "status", workload, f"--timeout={PATIENCE}s")
    assert namespace.unready() == []
    found = {}
    for pod in namespace.pods():
        status = pod["status"]
        for each in (*status.get("initContainerStatuses", ()), *status["containerStatuses"]):
            name = pod["metadata"]["labels"].get("apps.kubernetes.io/pod-index", "")
            found[f"{pod['metadata']['labels']['app']}{name}/{each['name']}"] = each["restartCount"]
    return found


# Where every order ends: what runs, and that nothing was restarted.
END = {
    **dict.fromkeys(("mysql0/mysql", "mysql1/mysql"), 0),
    **dict.fromkeys(("shop/precheck", "shop/shop", "orders/precheck", "orders/orders"), 0),
}


def test_ten_random_orders(cluster: Cluster) -> None:
    """Object by object in ten random orders at once: each ends in the same state, without a restart."""

    def one(seed: int) -> dict[str, int]:
        with order(cluster, seed) as (namespace, objects):
            for each in objects:
                namespace.apply(each)
            return end(namespace)

    with ThreadPoolExecutor(ORDERS) as together:
        seeds = random.sample(range(10_000), ORDERS)
        ends = dict(zip(seeds, together.map(one, seeds), strict=True))
    assert ends == dict.fromkeys(seeds, END)


def test_a_pause_in_the_middle(cluster: Cluster) -> None:
    """The apps come first and alone; what they need comes once they wait, and nothing restarts."""
    with order(cluster, 0) as (namespace, objects):
        apps = [each for each in objects if each["kind"] == "Deployment"]
        namespace.apply(*apps)
        log = ("logs", "--selector=app=shop", "--container=precheck")
        until(
            lambda: namespace.kubectl(*log, check=False).count("[name-not-found]") == 2,
            namespace.story,
        )
        # The other app's pod has not come so far: it mounts the Secret.
        assert {pod["status"]["phase"] for pod in namespace.pods()} == {"Pending"}
        namespace.apply(*(each for each in objects if each not in apps))
        assert end(namespace) == END
