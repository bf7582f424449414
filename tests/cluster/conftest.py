"""A real Kubernetes for the tests: one for the session, a namespace for each test.

| fixture     | gives                                                                      |
|-------------|----------------------------------------------------------------------------|
| `cluster`   | the `Cluster` of `tests/cluster/bed.py`, up until the session ends         |
| `services`  | nothing: the cluster has the image of MariaDB, ZooKeeper and etcd           |
| `namespace` | a `Namespace` of the test's own, deleted behind it                         |

With `PRECHECK_CLUSTER=keep` a cluster that is up already is used and left as it is: for work by hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import tools.cluster.services
from tests.cluster.bed import Cluster, Namespace
from tools.cluster import __main__ as run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what needs the cluster down before it is up."""
    items.sort(key=lambda item: "cluster" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return a running cluster."""
    if why := run.missing():
        pytest.skip(why)
    kept = os.environ.get("PRECHECK_CLUSTER") == "keep" and run.pid()
    try:
        if not kept:
            run.down()
            assert run.up(owner=os.getpid()) == 0
        yield Cluster()
    finally:
        if not kept:
            run.down()


@pytest.fixture(scope="session")
def services(cluster: Cluster) -> None:
    """Give the nodes the image of services."""
    archive = tools.cluster.services.archive()
    if not archive.exists():
        pytest.skip("needs the image of services (`python -m tools.servers cluster`)")
    cluster.load(archive)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """Return a new namespace."""
    made = Namespace(cluster, request.node.name)
    made.create()
    yield made
    made.delete()
