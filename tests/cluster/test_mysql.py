"""The post's first story: apps that wait for MySQL's primary and its replicas, all applied at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.bed import (
    EXAMPLES,
    Cluster,
    Namespace,
    condition,
    documented,
    opened,
    started,
    until,
)

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("services")]

STORY = EXAMPLES / "mysql"


@pytest.fixture(scope="module")
def story(cluster: Cluster, services: None) -> Iterator[Namespace]:
    """Return a namespace where the story has come to its end."""
    namespace = Namespace(cluster, "mysql")
    namespace.create()
    namespace.apply(STORY)
    namespace.wait_ready()
    yield namespace
    namespace.delete()


def test_nothing_restarts(story: Namespace) -> None:
    """Everything is ready without one restart, the apps after what they wait for (fault 26)."""
    restarts = story.restarts()
    assert set(restarts.values()) == {0}, restarts
    assert len(restarts) == 7
    pods = {pod["metadata"]["name"]: pod for pod in story.pods()}
    shop, orders = story.pod("shop"), story.pod("orders")
    assert started(shop) >= opened(shop)["finishedAt"] >= condition(pods["mysql-0"])
    assert started(orders) >= opened(orders)["finishedAt"] >= condition(pods["mysql-1"])


def test_the_gates_say_what_is_documented(story: Namespace) -> None:
    """The log has the lines of the page, and an open gate leaves no termination message."""
    shop, orders = story.pod("shop"), story.pod("orders")
    told = story.told(shop)
    assert set(documented("mysql-names")) <= set(told), told
    # The name of a Service with a cluster address says nothing of a pod behind it: it comes first.
    ready = [line.split()[1] for line in told if line.startswith("ready: ")]
    assert ready == ["mysql-read.namespace:", "mysql-0.mysql.namespace:"]
    told = story.told(orders)
    assert set(documented("mysql-roles")) <= set(told), told
    for pod in (shop, orders):
        assert opened(pod)["exitCode"] == 0
        assert "message" not in opened(pod)


def test_what_is_written_is_replicated(story: Namespace) -> None:
    """What the app wrote to the primary when it started is read from the last replica."""
    read = ["mariadb", "--no-defaults", "--socket=/tmp/mysql.sock", "--user=root", "shop"]
    query = ["-BNe", "SELECT COUNT(*) FROM orders"]
    until(
        lambda: story.kubectl("exec", "mysql-2", "--", *read, *query, check=False) == "1\n",
        "the order on the second replica",
    )


def test_the_app_needs_its_gate(namespace: Namespace) -> None:
    """The same app without a gate exits and is restarted: the story proves what it seems to."""
    objects = namespace.rendered(STORY)
    (secret,) = [each for each in objects if each["kind"] == "Secret"]
    (shop,) = [each for each in objects if each["metadata"]["name"] == "shop"]
    del shop["spec"]["template"]["spec"]["initContainers"]
    namespace.apply(secret, shop)
    until(lambda: sum(namespace.restarts().values()) > 0, namespace.story)
