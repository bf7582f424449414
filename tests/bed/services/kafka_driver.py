"""The oracle for Kafka: what its driver (kafka-python) experiences, in a process of its own.

    with Driver() as driver:
        driver.works(kafka.place, "orders")

Where it cannot begin it leaves threads and sockets behind, which end with that process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Self

with warnings.catch_warnings():
    # It reads its own tables in a way that Python's library is to lose.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka
    import kafka.admin
    import kafka.errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

__all__ = ["Driver", "kafka"]

_FAILURES = (kafka.errors.KafkaError, OSError)


class Driver:
    """Asks what can be done, now; `options` are those of the driver's clients."""

    def __enter__(self) -> Self:
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.shutdown()

    def works(
        self,
        place: str,
        topic: str = "orders",
        seconds: float = 3,
        options: Mapping[str, object] | None = None,
    ) -> bool:
        """Whether a message can be sent to each partition of a topic."""
        return self._told(_works, place, topic, int(seconds * 1000), dict(options or {}))

    def answers(self, place: str) -> bool:
        """Whether a broker is found there."""
        return self._told(_answers, place)

    def _told(self, question: Callable[..., bool], *arguments: object) -> bool:
        return self._process.submit(question, *arguments).result(60)


def _works(place: str, topic: str, limit: int, options: dict[str, object]) -> bool:
    with contextlib.suppress(*_FAILURES):
        producer = kafka.KafkaProducer(
            bootstrap_servers=place,
            bootstrap_timeout_ms=limit,
            max_block_ms=limit,
            request_timeout_ms=limit,
            delivery_timeout_ms=limit + 100,
            enable_idempotence=False,
            retries=0,
            **({"acks": 1} | options),
        )
        try:
            partitions = producer.partitions_for(topic)
            for partition in partitions:
                producer.send(topic, b"here", partition=partition).get(limit / 1000)
            return bool(partitions)
        finally:
            producer.close(0)
    return False


def _answers(place: str) -> bool:
    with contextlib.suppress(*_FAILURES):
        client = kafka.KafkaAdminClient(bootstrap_servers=place, bootstrap_timeout_ms=300)
        try:
            return bool(client.describe_cluster()["brokers"])
        finally:
            client.close()
    return False
