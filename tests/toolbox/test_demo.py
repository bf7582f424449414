"""The demo for real: the order of what it shows, its end, and that nothing stays."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from service_precheck.toolbox import demo, demo_certificates
from tests.bed.process import TOOLBOX, Finished, Gate
from tests.report.screen import Screen

ROOT = Path(__file__).parents[2]


def port_of(text: str, name: str) -> int:
    """The port of one of the demo's servers, from the command line that it shows."""
    match = re.search(rf"127\.0\.0\.1:(\d+)[^ ]*#name={name}'", text)
    assert match, text
    return int(match[1])


def shown(done: Finished, tmp_path: Path) -> None:
    """What holds of every demo that ran to its end."""
    assert done.status == 0
    assert re.search(
        r"opened \d+ ms after the last\s+of them came up: exit status 0\.", done.stdout
    )
    assert not list(tmp_path.glob("demo-*"))
    with pytest.raises(ConnectionRefusedError), socket.socket() as probe:
        probe.connect(("127.0.0.1", port_of(done.stdout, "shop")))


def test_demo_tells_what_blocks_and_opens(gate: Callable[..., Gate], tmp_path: Path) -> None:
    """Plain lines: four causes first, then each server in its order, then open; exit 0."""
    env = {"TMPDIR": str(tmp_path), "PRECHECK_TIMEOUT": "1ms", "PRECHECK_OUTPUT": "json"}
    done = gate("demo", "--duration", "4s", command=TOOLBOX, env=env).wait()
    shown(done, tmp_path)
    lines = [line.split(" ", 1)[1] for line in done.stderr.splitlines()]
    blocked = sorted(line for line in lines if line.startswith("waiting: "))
    assert [re.findall(r"waiting: ([^:]+): .*\[(.+)\]$", line)[0] for line in blocked] == [
        ("cache", "refused"),
        ("db.demo.test", "name-not-found"),
        ("shop", "not-ready"),
        ("vault", "tls-name"),
    ]
    came = [line.split(": ")[1] for line in lines if line.startswith("ready: ")]
    assert came == ["db.demo.test", "cache", "vault", "shop"]
    assert re.fullmatch(r"open after .*: all 4 dependencies hold", lines[-1])


def test_demo_on_a_terminal_is_a_table(gate: Callable[..., Gate], tmp_path: Path) -> None:
    """On a terminal the table shows all of it in place, and a summary stays."""
    env = {"TMPDIR": str(tmp_path)}
    done = gate("demo", "--duration=4s", command=TOOLBOX, env=env, tty=(100, 30)).wait()
    shown(done, tmp_path)
    screen = Screen(100, 30)
    screen.feed(done.stdout)
    assert screen.cursor
    assert screen.scrolled == 0
    held = [sum("✓ ready" in line for line in frame) for frame in screen.frames]
    assert held == sorted(held)
    assert {0, 1, 2, 3} <= set(held)
    first = "\n".join(
        line for frame, n in zip(screen.frames, held, strict=True) if not n for line in frame
    )
    for cause in ("name-not-found: ", "refused: ", "tls-name: "):
        assert cause in first
    assert sum("✓ ready" in line for line in screen.lines) == 4


def test_make_demo_is_the_demo() -> None:
    """`make demo` runs it from the checkout, with any Python and nothing installed."""
    done = subprocess.run(
        ["make", "-s", "demo", "ARGS=--duration 1s"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    assert "all 4 dependencies hold" in done.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_demo_ends_at_once_and_takes_its_gate_along(
    gate: Callable[..., Gate], tmp_path: Path, number: int, status: int
) -> None:
    """Interrupted, it ends with the signal's status; no gate, server or file is left."""
    running = gate("demo", command=TOOLBOX, env={"TMPDIR": str(tmp_path)})
    running.wait_output("[refused]")
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert len(children) == 1
    running.signal(number)
    done = running.wait()
    assert done.status == status
    assert "Traceback" not in done.stderr
    assert f"ended by {signal.Signals(number).name}" in done.stderr
    assert not Path(f"/proc/{children[0]}").exists()
    assert not list(tmp_path.glob("demo-*"))


@pytest.mark.parametrize("arguments", [["--duration"], ["--duration", "soon"], ["--fast"], ["x"]])
def test_demo_refuses_what_it_does_not_know(
    gate: Callable[..., Gate], arguments: list[str]
) -> None:
    """A mistake is exit 2 with a line that says what would be right."""
    done = gate("demo", *arguments, command=TOOLBOX).wait()
    assert done.status == 2
    assert done.stderr.startswith("precheck demo: ")
    assert "--duration" in done.stderr


def test_demo_certificates_outlive_the_demo() -> None:
    """The certificates hold for generations, and the authority's key is not among what is shipped."""
    x509 = pytest.importorskip("cryptography.x509")
    authority, wrong, right = (
        x509.load_pem_x509_certificate(text.encode())
        for text in (demo_certificates.AUTHORITY, demo_certificates.WRONG, demo_certificates.RIGHT)
    )
    for each in (authority, wrong, right):
        assert each.not_valid_before_utc.year == 2020
        assert each.not_valid_after_utc.year == 2120
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(demo_certificates.KEY.encode(), None).public_key()
    assert key == wrong.public_key() == right.public_key()
    assert key != authority.public_key()
    assert demo.LASTS <= 15
