"""Writing that never waits: whole lines or none, on pipes, files and terminals of every mood."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from service_precheck import report

SOURCE = str(Path(report.__file__).parents[2])


def filled_pipe() -> tuple[int, int]:
    """A pipe that takes nothing more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    return reading, writing


def test_line_for_a_full_pipe_is_left_out_whole() -> None:
    """A stuck pipe gets nothing and holds nobody up; once read, the next line arrives whole."""
    reading, writing = filled_pipe()
    try:
        report.write(writing, "lost\n")
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.read(reading, 65536)
        os.set_blocking(reading, True)
        report.write(writing, "kept\n")
        os.close(writing)
        rest = b""
        while piece := os.read(reading, 65536):
            rest += piece
        assert rest == b"kept\n"
    finally:
        os.close(reading)


def test_long_text_is_cut_at_line_ends_only() -> None:
    """Of more text than a pipe takes, what arrives ends with a whole line."""
    reading, writing = os.pipe()
    try:
        lines = [f"{number:04} {'y' * 995}" for number in range(200)]
        report.write(writing, "\n".join(lines) + "\n")
        os.close(writing)
        got = b""
        while piece := os.read(reading, 65536):
            got += piece
        arrived = got.decode().splitlines()
        assert got.endswith(b"\n")
        assert 10 < len(arrived) < 200
        assert arrived == lines[: len(arrived)]
    finally:
        os.close(reading)


def test_line_cut_off_by_a_full_disk_does_not_swallow_the_next(tmp_path: Path) -> None:
    """After a torn line the next one begins on a line of its own."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import os, resource\n"
        "from service_precheck import report\n"
        "report.write(1, 'a' * 600 + '\\n')\n"
        "report.write(1, 'b' * 600 + '\\n')\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "report.write(1, 'c\\n')\n"
    )
    file = tmp_path / "out"
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with file.open("wb") as out:
        # SIGXFSZ is ignored by the interpreter, so the write that meets the limit is cut short.
        done = subprocess.run(
            [sys.executable, "-c", script, SOURCE],
            stdout=out,
            check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited)),
        )
    assert done.returncode == 0
    assert file.read_text() == "a" * 600 + "\n" + "b" * 399 + "\nc\n"


@pytest.mark.parametrize("text", ["line\n", "x" * 10_000 + "\n"])
def test_full_device_and_closed_reader_are_no_error(text: str) -> None:
    """Fault 44: /dev/full and a pipe without a reader take the text without an exception."""
    full = os.open("/dev/full", os.O_WRONLY)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        report.write(full, text)
        report.write(writing, text)
    finally:
        os.close(full)
        os.close(writing)


def test_descriptor_closed_at_the_start_never_gets_our_text() -> None:
    """Fault 44: with stderr closed its number goes to the next socket, which must not be written to."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import os\n"
        "from service_precheck import report\n"
        "os.close(2)\n"
        "report.choose('plain', False, False, '')\n"
        "reading, writing = os.pipe()\n"
        "assert 2 in (reading, writing) or os.dup2(writing, 2)\n"
        "other, writing = os.pipe(); os.dup2(writing, 2)\n"
        "report.write(2, 'secret')\n"
        "os.set_blocking(other, False)\n"
        "try: os.read(other, 9); os._exit(1)\n"
        "except BlockingIOError: os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, SOURCE], capture_output=True, timeout=50)
    assert done.returncode == 0


def test_terminal_that_nobody_reads_holds_nobody_up() -> None:
    """A terminal with room for less than a line gets part of it at most, and the caller goes on."""
    ours, theirs = os.openpty()
    try:
        for _ in range(200):
            report.write(theirs, "z" * 4000 + "\n")
        assert os.get_blocking(theirs)
    finally:
        os.close(ours)
        os.close(theirs)
