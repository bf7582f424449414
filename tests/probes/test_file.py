"""`file:` against files of every kind."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from service_precheck import target
from service_precheck.errors import OperatorError
from service_precheck.probes.file import MOST
from tests.probes.conftest import Ask


def test_what_is_there_is_ready(tmp_path: Path, ask: Ask) -> None:
    """A file, a folder, a device, a pipe, a socket and a link to one of them are there, at once."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for path in ("", "/file", "/pipe", "/link", "/socket"):
        verdict = ask(f"file://{tmp_path}{path}")
        assert verdict.ready
        assert verdict.seen == f"{tmp_path}{path} is there"
    assert ask("file:///dev/null").ready


def test_what_is_not_there_is_missing(tmp_path: Path, ask: Ask) -> None:
    """No file, no folder on the way, a link that leads nowhere: `missing-object`."""
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for path in ("none", "none/deeper", "file/deeper", "link"):
        verdict = ask(f"file://{tmp_path}/{path}")
        assert (verdict.cause, verdict.seen) == ("missing-object", f"there is no {tmp_path}/{path}")


def test_names_with_anything_in_them(tmp_path: Path, ask: Ask) -> None:
    """A percent-encoded path reaches files that a target could not name otherwise."""
    (tmp_path / "a#b c,d)ü%").touch()
    assert ask(f"file://{tmp_path}/a%23b%20c,d)%C3%BC%25").ready


def test_absent(tmp_path: Path, ask: Ask) -> None:
    """`absent` holds when nothing is there, and not a moment before."""
    lock = tmp_path / "lock"
    lock.touch()
    verdict = ask(f"file://{lock}#absent")
    assert (verdict.cause, verdict.seen) == ("not-ready", f"{lock} is still there")
    lock.unlink()
    assert ask(f"file://{lock}#absent").seen == f"there is no {lock}"


def test_min_size(tmp_path: Path, ask: Ask) -> None:
    """The size is exact, and only a regular file has one."""
    (tmp_path / "file").write_bytes(b"x" * 1000)
    assert ask(f"file://{tmp_path}/file#min-size=1000").seen == (
        f"{tmp_path}/file is there, holds 1000 bytes"
    )
    verdict = ask(f"file://{tmp_path}/file#min-size=1K")
    assert verdict.ready
    verdict = ask(f"file://{tmp_path}/file#min-size=1Ki")
    assert verdict.cause == "not-ready"
    assert verdict.seen == f"{tmp_path}/file holds 1000 of 1024 bytes"
    assert ask(f"file://{tmp_path}#min-size=1").seen == f"{tmp_path} is no regular file"


def test_max_age(tmp_path: Path, ask: Ask) -> None:
    """The age is by this host's clock; a change in the future counts as now."""
    heartbeat = tmp_path / "heartbeat"
    heartbeat.touch()
    now = time.time()
    for age, ready in ((0, True), (50, True), (70, False), (-3600, True)):
        os.utime(heartbeat, (now - age, now - age))
        assert ask(f"file://{heartbeat}#max-age=1m").ready is ready
    os.utime(heartbeat, (now - 5400, now - 5400))
    verdict = ask(f"file://{heartbeat}#max-age=1m")
    assert verdict.cause == "not-ready"
    assert (
        verdict.seen == f"{heartbeat} was last changed 1 h 30 min ago, 1 min at most is asked for"
    )


def test_contains(tmp_path: Path, ask: Ask) -> None:
    """Each text must be in the first 1 MiB, also across the pieces in which it is read."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 65_530 + "schlüssel".encode() + b"x" * MOST + b"late")
    assert ask(f"file://{file}#contains=schlüssel#contains=x").seen == (
        f"{file} is there, with 'schlüssel', with 'x'"
    )
    verdict = ask(f"file://{file}#contains=x#contains=late")
    assert verdict.cause == "unexpected-body"
    assert verdict.seen == f"{file} is there, without 'late' in its first 1 MiB"
    file.write_bytes(b"x" * (MOST - 4) + b"edge")
    assert ask(f"file://{file}#contains=edge").ready
    file.write_bytes(b"x" * (MOST - 3) + b"edge")
    assert ask(f"file://{file}#contains=edge").cause == "unexpected-body"


def test_contains_reads_what_has_no_size(ask: Ask) -> None:
    """Files of the kernel say that they are empty and are not."""
    assert ask("file:///proc/self/status#contains=Threads:").ready
    assert ask("file:///proc/self/status#min-size=1").cause == "not-ready"


def test_a_pipe_is_never_waited_for(tmp_path: Path, ask: Ask) -> None:
    """Looking for text in a pipe that nobody writes to ends at once."""
    os.mkfifo(tmp_path / "pipe")
    verdict = ask(f"file://{tmp_path}/pipe#contains=x")
    assert (verdict.cause, verdict.seen) == ("not-ready", f"{tmp_path}/pipe is no regular file")


def test_what_we_may_not_see_is_ours(tmp_path: Path, ask: Ask) -> None:
    """Too long a name, a circle of links and missing rights are `local`."""
    (tmp_path / "circle").symlink_to("circle")
    assert ask(f"file:///{'x' * 300}").cause == "local"
    assert ask(f"file://{tmp_path}/circle").cause == "local"
    assert ask(f"file://{tmp_path}/circle#absent").cause == "local"
    if os.geteuid() != 0:
        pytest.skip("needs root, to ask as somebody else")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    os.seteuid(65534)
    try:
        verdict = ask(f"file://{secret}#contains=x")
    finally:
        os.seteuid(0)
    assert verdict.cause == "local"
    assert verdict.seen == f"{secret} cannot be looked at: Permission denied"
    assert verdict.hint


def test_no_descriptor_is_left(tmp_path: Path, ask: Ask) -> None:
    """Looking for text closes what it opened, found or not."""
    (tmp_path / "file").write_text("abc")
    before = os.listdir("/proc/self/fd")
    for text in ("abc", "xyz"):
        ask(f"file://{tmp_path}/file#contains={text}")
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file://etc/x", "not absolute"),
        ("file:///x#absent#min-size=1", "what is not there"),
        ("file:///x#absent#contains=1", "what is not there"),
        ("file:///x#absent#max-age=1s", "what is not there"),
        ("file:///x#min-size=many", "no size"),
        ("file:///x#max-age=0", "not longer than nothing"),
        ("file:///x#contains=", "empty"),
    ],
)
def test_mistakes_are_found_before_anything_is_asked(text: str, words: str) -> None:
    """What cannot be meant is the operator's to mend."""
    with pytest.raises(OperatorError, match=words):
        target.parse(text)
