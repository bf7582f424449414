"""The live table on real terminals: in place, never wider, and the terminal given back in every case."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from service_precheck.report.live import WRAP
from tests.bed.process import GATE, SOURCE, Gate
from tests.bed.sockets import Server, echo, hang
from tests.report.screen import Screen

START = Callable[..., Gate]


def whole(waiting: Gate, text: str) -> str:
    """What was written when a frame with the text was complete."""
    waiting.wait_output(text)
    while True:
        written, end, _ = waiting.stdout.rpartition(f"{WRAP}\r")
        if text in written:
            return written + end
        os.sched_yield()


def screen_of(text: str, columns: int, rows: int) -> Screen:
    """The screen after all that was written."""
    screen = Screen(columns, rows)
    screen.feed(text)
    return screen


@pytest.mark.parametrize(("columns", "rows"), [(100, 30), (80, 24), (40, 24), (20, 24)])
def test_table_is_redrawn_in_place_and_leaves_a_summary(
    gate: START, columns: int, rows: int
) -> None:
    """Frames never scroll, no line is wider than the screen, the cursor is back, the summary stays."""
    with Server(hang, opened=False) as late, Server(hang) as there:
        waiting = gate(
            f"{late.address}#name=late", f"{there.address}#name=there", tty=(columns, rows)
        )
        text = whole(waiting, ", 2 s" if columns < 50 else "after 2 s")
        during = screen_of(text, columns, rows)
        late.open()
        done = waiting.wait()
    assert done.status == 0
    assert not during.cursor
    assert (during.scrolled, during.folded) == (0, 0)
    assert len(during.frames) >= 2
    assert during.lines[0].endswith("2 s")
    assert any("late" in line and "waiting" in line for line in during.lines)
    after = screen_of(done.stdout, columns, rows)
    assert after.cursor
    assert after.wraps
    assert (after.scrolled, after.folded) == (0, 0)
    text = " ".join(" ".join(after.lines).split())
    assert "• waiting" not in text
    assert text.count("✓ ready") == 2
    assert "all 2 dependencies hold" in text


def test_more_dependencies_than_rows_fit_all_the_same(gate: START) -> None:
    """Thirty that wait and ten that hold on 24 rows: the ready ones are counted, the rest is told."""
    with Server(hang, opened=False) as late, Server(hang) as there:
        targets = [f"{late.address}#name=late-{number}" for number in range(30)]
        targets += [f"{there.address}#name=there-{number}" for number in range(10)]
        waiting = gate(*targets, tty=(80, 24))
        waiting.wait_output("10 others")
        screen = screen_of(whole(waiting, "after 1 s"), 80, 24)
        waiting.signal(signal.SIGTERM)
        done = waiting.wait()
    assert (screen.scrolled, screen.folded) == (0, 0)
    shown = sum("waiting" in line for line in screen.lines)
    assert f"  and {30 - shown} more that wait" in screen.lines
    assert "✓ ready   10 others" in screen.lines
    assert len(screen.lines) <= 24
    # The summary has them all.
    assert done.stdout.rpartition("\x1b[J")[2].count("late-") == 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_gives_the_terminal_back(gate: START, number: int) -> None:
    """After a signal the cursor is shown and the last line names the signal."""
    with Server(hang, opened=False) as late:
        waiting = gate(late.address, tty=(80, 24))
        waiting.wait_output("waiting")
        waiting.signal(number)
        done = waiting.wait()
    screen = screen_of(done.stdout, 80, 24)
    assert (done.status, screen.cursor, screen.wraps) == (128 + number, True, True)
    assert screen.lines[-1].startswith(f"ended by {signal.Signals(number).name} after ")


def test_failure_is_told_in_full(gate: START) -> None:
    """What stays after a failure has each reason uncut, the hint, and what this is."""
    with Server(hang, opened=False) as late:
        waiting = gate(late.address, "--timeout", "1s", tty=(40, 24))
        done = waiting.wait()
    screen = screen_of(done.stdout, 40, 24)
    text = " ".join(" ".join(screen.lines).split())
    assert f"{late.address} refused the connection [refused]" in text
    assert "exit status 124: time ran out" in text
    assert "precheck causes refused" in text


def test_gate_that_opens_at_once_draws_no_frame(gate: START) -> None:
    """Nothing flashes by: a summary and no cursor hidden."""
    with Server(hang) as there:
        done = gate(there.address, tty=(80, 24)).wait()
    assert done.status == 0
    assert screen_of(done.stdout, 80, 24).lines[0].startswith("✓ ready   ")


def test_narrowed_window_is_followed(gate: START) -> None:
    """After the terminal became narrower, frames have its width."""
    with Server(hang, opened=False) as late:
        waiting = gate(late.address, tty=(100, 24))
        waiting.wait_output("after 1 s")
        terminal = waiting._ours["stdout"]
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
        waiting.wait_output("hold, ")
        tail = waiting.stdout.rpartition("0 of 1 hold, ")[2]
        waiting.signal(signal.SIGTERM)
        waiting.wait()
    rest = Screen(30, 24)
    rest.feed(tail)
    assert rest.folded <= 1


def test_stop_and_go(gate: START) -> None:
    """At Ctrl-Z the cursor is given back; continued, the table goes on below."""
    with Server(hang, opened=False) as late:
        waiting = gate(late.address, tty=(80, 24))
        waiting.wait_output("waiting")
        waiting.signal(signal.SIGTSTP)
        waiting.wait_output("\x1b[?25h")
        while waiting.status_line("State")[0] != "T":
            os.sched_yield()
        stopped = screen_of(waiting.stdout, 80, 24)
        so_far = len(waiting.stdout)
        waiting.signal(signal.SIGCONT)
        waiting.wait_output("\x1b[?25l\r\x1b[?7l", after=so_far)
        late.open()
        done = waiting.wait()
    assert stopped.cursor
    assert done.status == 0
    assert screen_of(done.stdout, 80, 24).cursor


def test_terminal_that_stopped_reading_holds_nothing_up(gate: START) -> None:
    """Fault 44: with output suspended (Ctrl-S) the gate opens all the same."""
    with Server(hang, opened=False) as late:
        waiting = gate(late.address, tty=(80, 24))
        waiting.wait_output("waiting")
        os.write(waiting._ours["stdout"], b"\x13")
        late.open()
        assert waiting.wait().status == 0


@pytest.mark.parametrize(
    ("env", "there", "gone"),
    [
        ({}, "\x1b[33m• waiting", ""),
        ({"NO_COLOR": "1"}, "• waiting", "\x1b[33m"),
        ({"LC_ALL": "de_DE.ISO-8859-1"}, ". waiting", "•"),
    ],
)
def test_colours_and_marks_as_the_terminal_has_them(
    gate: START, env: dict[str, str], there: str, gone: str
) -> None:
    """NO_COLOR leaves the marks and words; a locale of another encoding gets ASCII."""
    with Server(hang, opened=False) as late:
        waiting = gate(late.address, tty=(80, 24), env=env)
        waiting.wait_output("waiting")
        waiting.signal(signal.SIGTERM)
        done = waiting.wait()
    assert there in done.stdout
    assert not gone or gone not in done.stdout


def test_dumb_terminal_gets_lines(gate: START) -> None:
    """TERM=dumb is a log: no escape sequence at all."""
    with Server(hang) as there:
        done = gate(there.address, tty=(80, 24), env={"TERM": "dumb"}).wait()
    assert "\x1b" not in done.stdout
    assert "open" in done.stdout


def test_live_into_a_file_keeps_what_is_there(gate: START, tmp_path: Path) -> None:
    """Asked for without a terminal, the table goes where the file ends and is shown at 80 columns."""
    log = tmp_path / "log"
    log.write_text("before\n")
    with Server(hang) as there, log.open("ab") as file:
        done = gate(there.address, "--output", "live", stderr=file).wait()
    assert done.status == 0
    text = log.read_text()
    assert text.startswith("before\n")
    assert f"{there.address} accepts connections" in text


def test_live_with_stderr_closed_opens_all_the_same(gate: START) -> None:
    """Fault 44: with no standard error there is nothing to draw on, and nothing else is drawn on."""
    with Server(echo) as there:
        shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", *GATE]
        done = gate(there.address, "--output", "live", command=shell).wait()
        assert done.status == 0
        assert all(connection.received == b"" for connection in there.connections)


def test_defect_of_ours_gives_the_terminal_back(gate: START) -> None:
    """A traceback is shown below the frame, with the cursor back; exit 70."""
    with Server(hang, opened=False) as late:
        code = (
            f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
            "from service_precheck import start, gate\n"
            "judge = gate.Gate._judge\n"
            "def broken(self, now):\n"
            "    if self.waited() > 1: raise ZeroDivisionError('ours')\n"
            "    return judge(self, now)\n"
            "gate.Gate._judge = broken\n"
            "start.main()\n"
        )
        done = gate(late.address, command=[sys.executable, "-c", code], tty=(80, 24)).wait()
    screen = screen_of(done.stdout.replace("\t", " "), 80, 24)
    assert (done.status, screen.cursor, screen.wraps) == (70, True, True)
    assert screen.lines[-1] == "ZeroDivisionError: ours"
    assert any("waiting" in line for line in screen.lines)
