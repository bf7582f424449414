"""Apps that wait for a cluster of etcd, all applied at once."""

from __future__ import annotations

from collections.abc import Iterator

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

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("services")]

STORY = EXAMPLES / "etcd"


@pytest.fixture(scope="module")
def story(cluster: Cluster, services: None) -> Iterator[Namespace]:
    """Return a namespace where the story has come to its end."""
    namespace = Namespace(cluster, "etcd")
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
    members = story.get("pods", "--selector=app=etcd")["items"]
    serving = sorted(condition(member) for member in members)
    agent, config = story.pod("agent"), story.pod("config")
    # Names say that the members have addresses; behind the Service's address is one that is Ready.
    assert opened(agent)["finishedAt"] >= addressed(members)
    assert opened(config)["finishedAt"] >= serving[0]


def test_the_gates_say_what_is_documented(story: Namespace) -> None:
    """The log has the lines of the page, and an open gate leaves no termination message."""
    agent, config = story.pod("agent"), story.pod("config")
    assert set(documented("etcd-names")) <= set(story.told(agent)), story.told(agent)
    assert set(documented("etcd-quorum")) <= set(story.told(config)), story.told(config)
    for pod in (agent, config):
        assert "message" not in opened(pod)


def test_the_app_was_elected(story: Namespace) -> None:
    """The app could write when it started: it leads the election that it came for."""
    name = story.pod("config")["metadata"]["name"]
    until(lambda: name in story.kubectl("logs", name, "-c", "config"), "the app's election")
