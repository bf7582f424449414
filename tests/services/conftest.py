"""Real servers: each service's suite starts its own, asks them by the gate, and asks a driver too.

One process has all tests of a file (`--dist loadfile`), so that its servers start once; how to start one
stands in `tests/bed/services`. `loadgroup` would not do: pytest 9.2 does not let pytest-xdist 3.8 put the
group into a test's name, and each test would go wherever there is room.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Protocol

import pytest

from service_precheck import model
from service_precheck.dns import Names
from service_precheck.model import Verdict
from tests.probes.conftest import Ask, probe

TESTED = Path(__file__).with_name("tested.toml")


class Tested(Protocol):
    """Say which server of which version was tested: `tested("mysql", "MariaDB 10.11.19")`."""

    def __call__(self, scheme: str, server: str) -> None: ...


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep one test's secrets from masking another one's texts."""
    monkeypatch.setattr(model, "_secrets", set())


@pytest.fixture
def ask() -> Ask:
    """Return the function that makes one attempt on a target."""
    names = Names()

    def one(text: str, timeout: float = 5.0, alone: bool = True) -> Verdict:
        return probe(text, names, timeout, alone)

    return one


@pytest.fixture
def tested() -> Tested:
    """Return a function that fails unless `tested.toml`, and so the documentation, has that version."""
    listed: dict[str, list[str]] = tomllib.loads(TESTED.read_text())

    def one(scheme: str, server: str) -> None:
        known = listed.get(scheme, [])
        assert any(
            server == one or server.startswith((f"{one}.", f"{one}-", f"{one}+")) for one in known
        ), f"{server} is not among {known} of {scheme} in {TESTED.name}"

    return one
