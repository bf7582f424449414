"""The example package that adds a scheme, installed as anybody would, and used by all three faces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bed.fixtures import Enter
from tests.bed.process import PIP, SOURCE, run
from tests.bed.sockets import Server, say

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom-scheme"
PRECHECK = [str(Path(PIP[0]).with_name("precheck"))]
GREETING = b"220 mail.shop.example ESMTP\r\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed by pip, without a network."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, folder / "source")
    place = folder / "place"
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", place, source],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_gate_waits_by_the_added_scheme(enter: Enter, installed: Path) -> None:
    """`service-precheck smtp://...` opens on the greeting that the package looks for."""
    server = enter(Server(say(GREETING)))
    target = f"smtp://{server.address}#domain=mail.shop.example"
    done = run(target, "--timeout", "30s", command=PIP, env={"PYTHONPATH": str(installed)})
    assert done.status == 0, done.stderr
    assert "takes mail: mail.shop.example ESMTP" in done.stderr


def test_causes_of_the_added_scheme_are_told(enter: Enter, installed: Path) -> None:
    """What the package finds wrong is told with its cause, by the toolbox too."""
    busy = enter(Server(say(b"421 try later\r\n")))
    other = enter(Server(say(GREETING)))
    targets = (f"smtp://{busy.address}", f"smtp://{other.address}#domain=elsewhere")
    done = run("check", *targets, command=PRECHECK, env={"PYTHONPATH": str(installed)})
    assert done.status == 1
    assert "greets with '421 try later', not 220 [not-ready]" in done.stdout
    assert "not as elsewhere [unexpected-body]" in done.stdout


def test_options_of_the_added_scheme_are_known(installed: Path) -> None:
    """Explaining, completing and a mistake's nearest spelling come from the package's own table."""
    environment = {"PYTHONPATH": str(installed)}
    done = run("explain", "smtp://mail.shop", command=PRECHECK, env=environment)
    assert done.status == 0, done.stderr
    assert "ready proves  a mail server greets" in done.stdout
    assert "port 25" in done.stdout
    completion = run("completion", "bash", command=PRECHECK, env=environment)
    assert "smtp://" in completion.stdout
    assert "target:smtp) echo 'domain= " in completion.stdout
    wrong = run("smtp://mail.shop#domian=x", command=PIP, env=environment)
    assert wrong.status == 2
    assert "did you mean #domain=...?" in wrong.stderr


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("import no_such_driver", "ModuleNotFoundError: No module named 'no_such_driver'"),
        ("1 / 0", "ZeroDivisionError"),
        ("", "AttributeError"),
        ("SMTP = 'smtp'", "broken:SMTP is no Scheme"),
    ],
)
def test_a_package_that_does_not_load_is_told(tmp_path: Path, module: str, words: str) -> None:
    """A package that is broken is the operator's to mend: exit 2, no traceback, completion goes on."""
    (tmp_path / "broken.py").write_text(module)
    information = tmp_path / "broken-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[service_precheck.schemes]\nsmtp = broken:SMTP\n"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    done = run("smtp://mail.shop", command=PIP, env=environment)
    assert done.status == 2, done.stderr
    assert f"the package that has smtp:// cannot be loaded: {words}" in done.stderr
    completion = run("completion", "bash", command=PRECHECK, env=environment)
    assert completion.status == 0, completion.stderr
    assert "target:http)" in completion.stdout


def test_without_the_package_the_scheme_is_a_mistake() -> None:
    """Nothing of the example is built in."""
    done = run("smtp://mail.shop", command=PIP)
    assert done.status == 2
    assert "there is no scheme 'smtp'" in done.stderr


def test_library_knows_the_added_scheme(enter: Enter, installed: Path) -> None:
    """`wait` takes the scheme as the gate does."""
    server = enter(Server(say(GREETING)))
    code = (
        f"import service_precheck as s; print(s.wait('smtp://{server.address}', timeout=30).ready)"
    )
    environment = os.environ | {"PYTHONPATH": f"{installed}:{SOURCE}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "True", done.stderr
