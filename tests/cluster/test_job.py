"""A migration that must come first: a Job that waits for its database, an app that waits for the Job."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.bed.process import TOOLBOX
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

STORY = EXAMPLES / "job"


@pytest.fixture(scope="module")
def story(cluster: Cluster, services: None) -> Iterator[Namespace]:
    """Return a namespace where the story has come to its end."""
    namespace = Namespace(cluster, "job")
    namespace.create()
    namespace.apply(STORY)
    namespace.wait_ready()
    yield namespace
    namespace.delete()


def test_nothing_restarts(story: Namespace) -> None:
    """The database, the migration and the app come one after another, without one restart."""
    restarts = story.restarts()
    assert set(restarts.values()) == {0}, restarts
    assert len(restarts) == 5
    database, migrate, shop = (story.pod(app) for app in ("database", "migrate", "shop"))
    (ran,) = migrate["status"]["containerStatuses"]
    migrated = ran["state"]["terminated"]
    assert migrated["startedAt"] >= opened(migrate)["finishedAt"] >= condition(database)
    assert started(shop) >= opened(shop)["finishedAt"] >= migrated["finishedAt"]
    # Complete by its condition, the first time: no pod of it failed.
    assert story.get("job", "migrate")["status"].get("failed", 0) == 0


def test_the_gates_say_what_is_documented(story: Namespace) -> None:
    """The log has the lines of the page, and an open gate leaves no termination message."""
    for app in ("migrate", "shop"):
        pod = story.pod(app)
        told = story.told(pod)
        assert set(documented(f"job-{app}")) <= set(told), told
        assert "message" not in opened(pod)


def test_the_rights_are_those_that_are_printed(story: Namespace) -> None:
    """The Role and the RoleBinding of the example are what `precheck rbac` prints for its target."""
    words = ("rbac", "--name=shop", "--service-account=shop", f"--namespace={story.name}")
    printed = subprocess.run(
        [*TOOLBOX, *words, "kube://job/migrate"], capture_output=True, text=True, check=True
    )
    kinds = ("Role", "RoleBinding")
    written = {each["kind"]: each for each in story.rendered(STORY) if each["kind"] in kinds}
    assert {each["kind"]: each for each in yaml.safe_load_all(printed.stdout)} == written


def test_a_job_that_is_gone(story: Namespace) -> None:
    """A pod that starts after the Job was removed waits until it is run again: do not let it expire."""
    story.kubectl("delete", "job", "migrate")
    story.kubectl("delete", "pods", "--selector=app=shop")
    until(
        lambda: "[missing-object]" in story.kubectl("logs", "-lapp=shop", "-cprecheck"), story.story
    )
    (job,) = [each for each in story.rendered(STORY) if each["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["args"] = ["--execute=SELECT 1"]
    story.apply(job)
    story.wait_ready()
    assert set(story.restarts().values()) == {0}
