"""The fixtures over the test bed; `tests/conftest.py` loads them for every test.

| fixture     | gives                                                                          |
|-------------|--------------------------------------------------------------------------------|
| `enter`     | a function that enters a context manager for the rest of the test              |
| `gate`      | a function like `process.Gate(...)`, entered; ended with the test              |
| `names`     | a `ScriptedDNS` without any name                                               |
| `pages`     | a `ScriptedHTTP` without any page                                              |
| `authority` | an `Authority`, one for all tests of a process                                 |
| `world`     | a `World` with 10.53.0.2 and fd00:53::2, to be had in addition to 127.0.0.1    |
| `folder`    | a folder with a short name, for unix sockets (their path has 107 bytes at most)|
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.bed.names import ScriptedDNS
from tests.bed.pages import ScriptedHTTP
from tests.bed.process import Gate
from tests.bed.tls import Authority
from tests.bed.world import World

T = TypeVar("T")


class Enter(Protocol):
    """The type of the fixture `enter`."""

    def __call__(self, manager: AbstractContextManager[T], /) -> T:
        """Enter it, and leave it when the test ends."""
        ...


@pytest.fixture
def enter() -> Iterator[Enter]:
    """Return a function that enters a context manager for the rest of the test."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def gate(enter: Enter) -> Callable[..., Gate]:
    """Return a function that starts the gate; it takes what `Gate` takes."""

    def start(*arguments: str, **options: object) -> Gate:
        return enter(Gate(*arguments, **options))  # type: ignore[arg-type]

    return start


@pytest.fixture
def names() -> Iterator[ScriptedDNS]:
    """Return a scripted DNS server without any name."""
    with ScriptedDNS() as server:
        yield server


@pytest.fixture
def pages() -> Iterator[ScriptedHTTP]:
    """Return a scripted HTTP server without any page."""
    with ScriptedHTTP() as server:
        yield server


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """Return a certificate authority."""
    with Authority() as made:
        yield made


@pytest.fixture
def world() -> Iterator[World]:
    """Return a network of the test's own."""
    with World("10.53.0.2", "fd00:53::2") as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="bed-") as made:
        yield Path(made)
