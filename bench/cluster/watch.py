"""The pods of a namespace as they come, start, become Ready and are restarted."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from bench.cluster.ways import is_gate
from bench.launch import Failed
from tests.cluster.bed import Cluster
from tools.cluster.addons import KUBECTL

if TYPE_CHECKING:
    from types import TracebackType

Object = dict[str, Any]


class Pods:
    """What a watch has told of the pods so far."""

    def __init__(self) -> None:
        self._pods: dict[str, Object] = {}
        # The container ids of gates, and of what stands for them.
        self.gates: set[str] = set()

    def take(self, event: Object) -> None:
        """Take an event of the API's watch."""
        pod = event["object"]
        if event["type"] == "ERROR":
            raise Failed(f"the watch ended: {pod.get('message')}")
        self._pods[pod["metadata"]["uid"]] = pod
        for status in pod["status"].get("initContainerStatuses", ()):
            if is_gate(status):
                self.gates |= {identity for identity in _identities(status) if identity}

    def ready(self) -> Counter[str]:
        """How many pods of each `app` are Ready or done."""
        return Counter(
            pod["metadata"]["labels"]["app"] for pod in self._pods.values() if _good(pod)
        )

    def restarts(self) -> int:
        """How often a container was started again; a pod that a Job made after one that failed counts."""
        return sum(
            sum(status["restartCount"] for status in _statuses(pod))
            + (pod["status"]["phase"] == "Failed")
            for pod in self._pods.values()
        )

    def told(self) -> str:
        """The pods that are not Ready, and why, in a line."""
        told = []
        for pod in self._pods.values():
            if not _good(pod):
                waits = [
                    f"{status['name']}: {kind.get('reason', '')}"
                    for status in _statuses(pod)
                    for state, kind in status["state"].items()
                    if state != "running" and kind.get("reason") != "Completed"
                ]
                told.append(f"{pod['metadata']['name']} ({', '.join(waits)})")
        return "; ".join(told)


def _good(pod: Object) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod["status"].get("conditions", ())
    return pod["status"]["phase"] == "Succeeded" or any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )


def _statuses(pod: Object) -> list[Object]:
    status = pod["status"]
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _identities(status: Object) -> list[str]:
    ended = status.get("lastState", {}).get("terminated", {}).get("containerID", "")
    return [each.rpartition("/")[2] for each in (status.get("containerID", ""), ended)]


class Watch:
    """A watch on a namespace's pods, from entering on to leaving."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._words = cluster.inside(
            *KUBECTL, "get", "--raw", f"/api/v1/namespaces/{namespace}/pods?watch=1"
        )
        self.pods = Pods()
        self._changed = threading.Condition()
        self._at = 0.0
        self._error = ""

    def __enter__(self) -> Self:
        self._popen = subprocess.Popen(
            self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._popen.kill()
        self._thread.join()
        self._popen.communicate()

    def until(self, wanted: Counter[str], patience: float, settle: float = 0.0) -> float:
        """Wait until so many pods of each app are Ready, and still are `settle` seconds later.

        Gives when they first were, by `time.time()`.
        """
        end = time.monotonic() + patience
        with self._changed:
            while True:
                if self._error:
                    raise Failed(self._error)
                if self.pods.ready() >= wanted:
                    at = self._at
                    if not self._changed.wait_for(
                        lambda: bool(self._error) or not self.pods.ready() >= wanted, settle
                    ):
                        return at
                elif not self._changed.wait(end - time.monotonic()):
                    raise Failed(f"not Ready after {patience:.0f} s: {self.pods.told()}")

    def _read(self) -> None:
        assert self._popen.stdout is not None
        try:
            for line in self._popen.stdout:
                event = json.loads(line)
                with self._changed:
                    self._at = time.time()
                    self.pods.take(event)
                    self._changed.notify_all()
            error = "the watch on pods ended"
        except (Failed, ValueError) as why:
            error = str(why)
        with self._changed:
            self._error = error
            self._changed.notify_all()
