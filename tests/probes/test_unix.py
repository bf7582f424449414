"""`unix:` against sockets that accept, refuse, leave, or are none."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bed.fixtures import Enter
from tests.bed.sockets import Connection, Server, close, hang, reset, say
from tests.bed.webservers import Nginx
from tests.probes.conftest import Ask


def test_a_listening_socket_is_ready(enter: Enter, folder: Path, ask: Ask) -> None:
    """A server that accepts and stays is ready, also if it greets, and in both looks."""
    for behaviour in (hang, say(b"hello")):
        server = enter(Server(behaviour, path=folder / "s"))
        for alone in (True, False):
            verdict = ask(f"unix://{folder}/s", alone=alone)
            assert verdict.ready
            assert verdict.seen == f"{folder}/s accepts connections"
        server.__exit__(None, None, None)


def test_real_nginx(enter: Enter, ask: Ask) -> None:
    """A real server's socket is ready."""
    assert ask(f"unix://{enter(Nginx('location / { return 200; }')).socket}").ready


@pytest.mark.parametrize("behaviour", [close, reset(after=0.02)])
def test_one_that_leaves_is_closed_early(
    behaviour: Callable[[Connection], None], enter: Enter, folder: Path, ask: Ask
) -> None:
    """Accepted, then closed, is not ready; `settle` says how long to look."""
    enter(Server(behaviour, path=folder / "s"))
    assert ask(f"unix://{folder}/s#settle=5s").cause == "closed-early"


def test_what_is_there_but_does_not_accept(folder: Path, ask: Ask) -> None:
    """Nothing there, a dead socket, a file, a datagram socket and a full backlog are told apart."""
    path = folder / "s"
    assert ask(f"unix://{path}").cause == "missing-object"
    assert ask(f"unix://{path}/deeper").seen == f"there is no {path}/deeper"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        verdict = ask(f"unix://{path}")
        assert (verdict.cause, verdict.seen) == ("refused", f"nothing listens at {path}")
        dead.listen(0)
        verdicts = []
        held = []
        for _ in range(4):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].setblocking(False)
            held[-1].connect_ex(str(path))
            verdicts.append(ask(f"unix://{path}").cause)
        assert verdicts[-1] == "overloaded"
        for each in held:
            each.close()
    path.unlink()
    path.write_text("")
    assert ask(f"unix://{path}").cause in ("refused", "protocol")
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(path))
        assert ask(f"unix://{path}").cause == "protocol"


def test_paths_that_cannot_be_used_are_ours(folder: Path, ask: Ask) -> None:
    """A path that is too long, or in a folder we may not pass, says so as `local`."""
    assert ask(f"unix:///{'x' * 200}").cause == "local"
    if os.geteuid() != 0:
        pytest.skip("needs root, to ask as somebody else")
    inner = folder / "inner"
    inner.mkdir(mode=0o700)
    (inner / "s").touch()
    os.seteuid(65534)
    try:
        verdict = ask(f"unix://{inner}/s")
    finally:
        os.seteuid(0)
    assert verdict.cause == "local"
    assert verdict.hint
