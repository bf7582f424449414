"""How the probes' tests ask: one attempt, as the gate would make it."""

from __future__ import annotations

from typing import Protocol

import pytest

from service_precheck import model, net, target
from service_precheck.dns import Names
from service_precheck.errors import NotReady
from service_precheck.model import Verdict
from service_precheck.options import Target
from service_precheck.stream import Attempt


class Ask(Protocol):
    """Ask a target once; its verdict, whether the probe returned or raised it."""

    def __call__(self, text: str, timeout: float = 5.0, alone: bool = True) -> Verdict: ...


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep one test's secrets from masking another one's texts."""
    monkeypatch.setattr(model, "_secrets", set())


def probe(text: str, names: Names, timeout: float = 5.0, alone: bool = True) -> Verdict:
    """Make one attempt on a target; its verdict, whether the probe returned or raised it."""
    leaf = target.parse(text)
    assert isinstance(leaf, Target)
    attempt = Attempt(net.monotonic() + timeout, names, lambda: alone)
    try:
        return leaf.scheme.probe(leaf, attempt)
    except NotReady as error:
        return error.verdict
    finally:
        if attempt.kept is not None:
            attempt.kept.close()


@pytest.fixture
def ask() -> Ask:
    """Return the function that makes one attempt on a target."""
    names = Names()

    def one(text: str, timeout: float = 5.0, alone: bool = True) -> Verdict:
        return probe(text, names, timeout, alone)

    return one
