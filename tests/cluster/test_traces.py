"""A cluster that ends leaves nothing behind, however it ends: with it down before and after."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.bed import until
from tools.cluster import CONTROL_GROUPS, GROUP, STATE
from tools.cluster import __main__ as run

pytestmark = [pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
FOLDERS = "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods"


def traces() -> set[str]:
    """What a running cluster can be known by, seen from the machine.

    All that it runs is in namespaces of its own, but for what holds it.
    """
    found = set(Path("/proc/self/mountinfo").read_text().splitlines())
    for kind in ("pid", "net", "mnt"):
        for process in glob.glob(f"/proc/[0-9]*/ns/{kind}"):
            try:
                found.add(os.readlink(process))
            except OSError:
                continue
    for process in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = Path(process).read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        found |= {words} if "tools.cluster" in words or str(STATE) in words else set()
    found.update(map(str, CONTROL_GROUPS.glob(f"*/{GROUP}*")))
    for folder in (str(STATE), *FOLDERS):
        found.update(glob.glob(f"{folder}/**", recursive=True, include_hidden=True))
    return found


def is_up() -> bool:
    """Whether all of it runs, containers included."""
    told = STATE / "told"
    return told.exists() and told.read_text().startswith("ready")


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, lambda: bool(run.pid())),
        (signal.SIGINT, is_up),
        (signal.SIGKILL, is_up),
    ],
    ids=["Ctrl-C on its way up", "Ctrl-C", "killed"],
)
def test_nothing_is_left_behind(number: int, moment: Callable[[], bool]) -> None:
    """Tests that are interrupted, or killed, leave no process, mount, namespace, control group or file."""
    if why := run.missing():
        pytest.skip(why)
    if run.pid():
        pytest.skip("a cluster is up")
    run.down()
    before = traces()
    one = "tests/cluster/test_basics.py"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", one]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as tests:
        try:
            until(moment, lambda: f"not up: {tests.poll()}")
            assert str(STATE / "pid") in traces()
            tests.send_signal(number)
            output = tests.communicate(timeout=120)[0]
        finally:
            tests.kill()
    assert tests.returncode != 0, output
    until(lambda: traces() <= before, lambda: "\n".join(traces() - before))
