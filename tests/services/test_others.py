"""The page on services without a scheme of their own: each example, against a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import need, run
from tests.bed.services.postgresql import PostgreSQL
from tests.probes.conftest import Ask

PAGE = Path(__file__).parents[2] / "docs" / "schemes" / "others.md"

pytestmark = [pytest.mark.xdist_group("others"), pytest.mark.timeout(120)]


def example(*swaps: tuple[str, str]) -> str:
    """The page's one example that has the first of each pair, with the second in its place."""
    (text,) = re.findall(
        rf"^service-precheck '(.*{swaps[0][0]}.*)'$", PAGE.read_text(), re.MULTILINE
    )
    assert isinstance(text, str)
    for there, here in swaps:
        text = text.replace(there, here)
    return text


def here(place: str, port: int) -> tuple[str, str]:
    return place, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def nats() -> Iterator[tuple[int, int]]:
    """Return the ports of a NATS server: for clients, and for monitoring."""
    port, monitoring = free_port(), free_port()
    words = ("-a", "127.0.0.1", "-p", str(port), "-m", str(monitoring))
    with Daemon(need("nats-server", "nats-server"), *words) as server:
        server.wait_until(lambda: run(f"127.0.0.1:{monitoring}", "--timeout=1s").status == 0)
        yield port, monitoring


def test_health_page(nats: tuple[int, int], ask: Ask) -> None:
    """NATS's health page says that it is ready."""
    _, monitoring = nats
    verdict = ask(example(here("nats.shop:8222", monitoring)))
    assert verdict.ready, verdict
    refused = ask(f"http://127.0.0.1:{monitoring}/healthz#json=status:down")
    assert refused.cause == "unexpected-body"


def test_greeting(nats: tuple[int, int], ask: Ask) -> None:
    """NATS greets with what it is; its monitoring port does not."""
    port, monitoring = nats
    verdict = ask(example(here("nats.shop:4222", port)))
    assert verdict.ready, verdict
    assert ask(example(here("nats.shop:4222", monitoring)), timeout=0.5).cause == "no-reply"


def test_question_and_answer(ask: Ask) -> None:
    """Memcached tells its version; before it listens, and while it hangs, it does not."""
    port = free_port()
    text = example(here("cache.shop:11211", port))
    assert ask(text).cause == "refused"
    words = ("-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "nobody")
    with Daemon(need("memcached", "memcached"), *words) as server:
        server.wait_until(lambda: ask(text).ready)
        server.pause()
        assert ask(text, timeout=0.5).cause == "no-reply"
        server.resume()


def test_client_of_its_own() -> None:
    """pg_isready tells by its exit status whether somebody serves; the sentence has its words."""
    need("pg_isready", "postgresql-client")
    port = free_port()
    text = example(("db.shop", "127.0.0.1"), ("5432", str(port)))
    done = run(text, "--timeout=1s", "--output=plain")
    assert done.status == 124
    assert "no response" in done.stderr
    with PostgreSQL() as server:
        done = run(text.replace(str(port), str(server.port)), "--timeout=30s", "--output=plain")
    assert done.status == 0, done.stderr
