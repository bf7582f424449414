"""A test of a service, with a fixture that waits until the service can be used.

The fixture starts a web server on a free port. Starting takes a while, and how long nobody knows: the
fixture asks until the page is there, instead of sleeping, and fails with the reason when it never is.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_precheck import WaitTimeout, wait


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that answers."""
    (tmp_path / "health").write_text("ok")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as server:
        try:
            wait(f"http://127.0.0.1:{port}/health#contains=ok", timeout=30)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def test_shop_is_healthy(shop: str) -> None:
    """What the fixture gives can be used at once."""
    with urllib.request.urlopen(f"{shop}/health") as answer:
        assert answer.read() == b"ok"


def test_reason_is_told() -> None:
    """A service that never comes up fails the test with what was seen, not with a stack of retries."""
    with pytest.raises(WaitTimeout, match=r"refused the connection \[refused\]"):
        wait(f"127.0.0.1:{free_port()}", timeout=0.5)
