"""HDFS with automatic failover, every daemon behind the gate: ten pods at once, a file at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tools.cluster.hadoop
from tests.cluster.bed import EXAMPLES, Cluster, Namespace, Object, condition, documented, opened

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("services")]

STORY = EXAMPLES / "hdfs"
# Fifteen JVMs start one after another, on the two cores that a small machine has.
PATIENCE = 400
SAID = "all is well\n"


@pytest.fixture(scope="module")
def story(cluster: Cluster, services: None) -> Iterator[Namespace]:
    """Return a namespace where the story has come to its end."""
    archive = tools.cluster.hadoop.archive()
    if not archive.exists():
        pytest.skip("needs the image of Hadoop (`python -m tools.servers cluster`)")
    cluster.load(archive)
    namespace = Namespace(cluster, "hdfs")
    namespace.create()
    namespace.apply(STORY)
    print(f"all ready after {namespace.wait_ready(PATIENCE):.0f} s")
    yield namespace
    namespace.delete()


def test_nothing_restarts(story: Namespace) -> None:
    """Every daemon is ready without one restart, each after what it waits for (fault 26)."""
    restarts = story.restarts()
    assert set(restarts.values()) == {0}, restarts
    # The name nodes have four containers each, the others two.
    assert len(restarts) == 2 * 4 + 8 * 2
    journals = [since(pod, "journal") for pod in pods(story, "journal")]
    first, second = pods(story, "namenode")
    assert gate(first)["finishedAt"] >= max(*journals)
    assert since(second, "namenode") >= condition(first)
    (datanode,) = pods(story, "datanode")
    assert since(datanode, "datanode") >= gate(datanode)["finishedAt"] >= condition(first)
    copy = story.pod("copy")
    assert opened(copy)["finishedAt"] >= since(datanode, "datanode")


def test_the_file_is_read(story: Namespace) -> None:
    """The Job wrote a file to the name service when its gate opened, and read it again."""
    copy = story.pod("copy")["metadata"]["name"]
    assert story.kubectl("logs", copy, "-c", "copy").endswith(SAID)


def test_the_gates_say_what_is_documented(story: Namespace) -> None:
    """The log has the lines of the page, and an open gate leaves no termination message."""
    for name, pod in (
        ("namenode", pods(story, "namenode")[0]),
        ("datanode", story.pod("datanode")),
        ("copy", story.pod("copy")),
    ):
        told = story.told(pod)
        assert set(documented(f"hdfs-{name}")) <= set(told), told
        assert "message" not in gate(pod)


def test_a_name_node_comes_back(story: Namespace) -> None:
    """With the active name node gone the file is still read; the new one copies all, and stands by."""
    assert hdfs(story, "haadmin", "-getServiceState", "nn0") == "active\n"
    story.kubectl("delete", "pod", "namenode-0")
    assert hdfs(story, "dfs", "-cat", "/told") == SAID
    assert hdfs(story, "haadmin", "-getServiceState", "nn1") == "active\n"
    story.wait_ready(PATIENCE)
    assert hdfs(story, "haadmin", "-getServiceState", "nn0") == "standby\n"
    assert set(story.restarts().values()) == {0}


def pods(story: Namespace, app: str) -> list[Object]:
    """The pods with this `app` label, by their names."""
    found: list[Object] = story.get("pods", f"--selector=app={app}")["items"]
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def gate(pod: Object) -> Object:
    """How the pod's gate ended, which may have other init containers behind it."""
    ended: Object = pod["status"]["initContainerStatuses"][0]["state"]["terminated"]
    return ended


def since(pod: Object, container: str) -> str:
    """When this container of a pod started."""
    (status,) = [e for e in pod["status"]["containerStatuses"] if e["name"] == container]
    return str(status["state"]["running"]["startedAt"])


def hdfs(story: Namespace, *words: str) -> str:
    """What a command of HDFS says, run in the data node's pod."""
    inside = ("exec", "datanode-0", "-c", "datanode", "--")
    return story.kubectl(*inside, "hdfs", "--config", "/config", *words)
