"""The benchmark measures what it says, and its tables and goals say what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import draw
from bench.launch import FLOOR, PYTHON, Failed, Launcher
from bench.results import Goal, Row, as_json, from_json, table
from bench.signals import flooded
from tests.bed.process import need_root

ROOT = Path(__file__).parents[2]
BURN = "import time\nwhile time.process_time() < {}: pass"
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _interpreter() -> None:
    if not Path(PYTHON).exists():
        pytest.skip(f"needs {PYTHON} (Debian package python3)")


def python(program: str) -> list[str]:
    return [PYTHON, "-IS", "-c", program]


def test_cpu_is_the_programs_own() -> None:
    """A program that computes for a third of a second is told from one that sleeps as long."""
    with Launcher() as launcher:
        burner = launcher.run(python(BURN.format(0.3)))
        sleeper = launcher.run(["sleep", "0.3"])
    assert burner.cpu >= 0.3
    assert sleeper.cpu < 0.1
    assert sleeper.ended - sleeper.began >= 0.3


def test_cpu_of_a_loops_children_counts() -> None:
    """What a shell's children spend is the shell's."""
    inner = f"{PYTHON} -IS -c '{BURN.format(0.1)}'"
    with Launcher() as launcher:
        run = launcher.run(["/bin/sh", "-c", f"{inner}; {inner}; true"])
    assert run.cpu >= 0.2


def test_peak_is_the_programs_own() -> None:
    """Memory that was touched is in the peak; the benchmark's own size is not."""
    ballast = bytearray(64 * MIB)
    with Launcher() as launcher:
        large = launcher.run(python(f"x = bytearray({48 * MIB})"))
        small = launcher.run(python("pass"))
        floor = launcher.run(FLOOR)
    assert ballast.count(0) == 64 * MIB
    assert 48 * MIB < large.peak < 80 * MIB
    assert floor.peak <= small.peak < 32 * MIB


def test_end_is_seen_when_it_happens() -> None:
    """The time of an end lies between what a program itself saw last and what we see next."""
    with Launcher() as launcher:
        began = time.monotonic()
        run = launcher.run(["sleep", "0.2"])
        after = time.monotonic()
    assert began + 0.2 <= run.ended <= after


def test_a_failed_run_is_no_measurement() -> None:
    """What exits with an error, or cannot be started, is told with what it said."""
    with Launcher() as launcher, pytest.raises(Failed, match="no luck"):
        launcher.run(["/bin/sh", "-c", "echo no luck; exit 3"])
    with Launcher() as launcher, pytest.raises(Failed, match="no-such-program"):
        launcher.run(["no-such-program"])


def test_what_was_started_ends_with_the_launcher() -> None:
    """Nothing outlives a measurement, whatever state it is in."""
    with Launcher() as launcher:
        run = launcher.started(launcher.start(["sleep", "1000"]))
        assert Path(f"/proc/{run.pid}").exists()
    end = time.monotonic() + 30
    while Path(f"/proc/{run.pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ratios_are_those_of_pairs() -> None:
    """A slow minute slows both of a pair, and the ratio stays; without pairs medians are compared."""
    samples = {"ours": [1.0, 10.0, 3.0], "theirs": [2.0, 20.0, 6.0]}
    assert Row("k", "t", "ms", samples).ratio("ours", "theirs") == 0.5
    skewed = {"ours": [1.0, 10.0, 3.0], "theirs": [20.0, 2.0, 6.0]}
    assert Row("k", "t", "ms", skewed, paired=False).ratio("ours", "theirs") == 0.5
    assert Row("k", "t", "ms", {"ours": [1.0]}).ratio("ours", "theirs") is None


def test_goals_are_judged_as_they_are() -> None:
    """Reached, missed and not measured are told apart, by the figure that the goal names."""
    row = Row(
        "k",
        "t",
        "ms",
        {"ours": [1.0, 2.0, 9.0], "theirs": [2.0, 2.0, 2.0]},
        Goal(1.0, "theirs"),
        Goal(8.0, subject="ours", figure="max"),
        Goal(1.0, "nobody"),
    )
    reached, missed, absent = row.verdicts()
    assert reached.endswith("reached")
    assert missed.endswith("**missed**")
    assert absent.endswith("not measured")
    assert "**missed**" in table([row])


def test_rows_survive_being_written() -> None:
    """What is written down is what was measured, counts to the letter, too."""
    most = Goal(3.0, subject="a", figure="max")
    row = Row("k", "t", "ms", {"a": [1, 2.5, 3]}, most, paired=False, note="n")
    written = json.dumps(as_json(row))
    assert json.dumps(as_json(from_json(json.loads(written)))) == written


@pytest.mark.parametrize("most", [3.0, 5000.0])
def test_pictures_are_valid_and_complete(most: float) -> None:
    """A picture names each rival, has a dot for each sample, and follows the reader's colours."""
    row = Row("k", "x < y", "ms", {"ours": [1.0, 2.0], "theirs": [1.0, most]}, Goal(2.0))
    (picture,) = draw.pictures("s", [row]).values()
    root = ElementTree.fromstring(picture)
    assert sum(element.tag.endswith("circle") for element in root.iter()) == 4
    assert {"ours", "theirs"} <= {element.text for element in root.iter()}
    assert "prefers-color-scheme" in picture


def test_a_flood_finds_when_a_signal_is_heard() -> None:
    """As process 1, a shell that sets its trap late is ended no earlier than that."""
    need_root("a pid namespace")
    seconds = flooded([], ["/bin/sh", "-c", "sleep 0.3; trap 'exit 0' TERM; while :; do :; done"])
    assert seconds >= 0.3


def test_a_quick_run_writes_what_it_found(tmp_path: Path) -> None:
    """`--quick` with one measure and one rival fills tables, samples and pictures; goals that need
    another rival are not measured, and nothing is said to be reached."""
    need_root("a network namespace")
    if not Path("/usr/lib/python3.11").exists():
        pytest.skip("needs CPython 3.11 as the system's own (Debian 12)")
    words = [sys.executable, "-m", "bench", "--quick", "--only", "cost"]
    words += ["--rival", "service-precheck", "--output", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads((tmp_path / "results.json").read_text())
    rows = {row["key"]: row for row in data["sections"]["cost"]["rows"]}
    assert {"cpu/name", "cpu/port", "cpu/page", "cpu/https-ca"} <= set(rows)
    for row in rows.values():
        assert all(value > 0 for value in row["samples"]["service-precheck"])
        assert not any(goal["reached"] for goal in row["goals"])
    told = (tmp_path / "results.md").read_text()
    assert "not measured" in told
    for name in ("cost-ms.svg", "cost-mib.svg"):
        if (tmp_path / name).exists():
            ElementTree.parse(tmp_path / name)
