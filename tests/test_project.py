"""What a developer and a packager rely on: the lock, the make targets, the licence, the wheel."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def canonical(requirement: str) -> str:
    name = re.split(r"[ =<>!;\[]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    """Each entry of the lock by its canonical name, its hashes included."""
    text = (ROOT / "requirements/dev.txt").read_text().replace("\\\n", " ")
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    return {canonical(line): line for line in lines}


def test_lock_pins_every_entry_with_hashes() -> None:
    """Each locked package has one exact version and at least one SHA-256, and nothing else is said."""
    entries = locked()
    assert entries
    for name, line in entries.items():
        pinned = re.fullmatch(
            r"[\w.-]+==[\w.!+-]+( ; [^\\]+?)?((\s+--hash=sha256:[0-9a-f]{64})+)\s*", line
        )
        assert pinned, f"{name}: {line[:120]}"


def test_lock_covers_what_is_asked_for() -> None:
    """Every requirement of dev.in stands in dev.txt, so that nobody forgot `make lock`."""
    lines = (ROOT / "requirements/dev.in").read_text().splitlines()
    asked = {canonical(line) for line in lines if line.strip() and not line.startswith("#")}
    assert asked <= locked().keys()


def test_requirements_name_no_registry() -> None:
    """Where packages come from is the machine's business: no address and no index option."""
    for file in (ROOT / "requirements").iterdir():
        text = file.read_text()
        for said in ("://", "index-url", "find-links", "trusted-host", "--index", "git+", " @ "):
            assert said not in text, f"{file.name} says {said}"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_help_is_the_default_and_lists_the_promised_targets() -> None:
    """`make` alone prints a sentence for each target that people are told to use."""
    listing = make()
    assert listing.returncode == 0, listing.stderr
    listed = dict(line.split(maxsplit=1) for line in listing.stdout.splitlines())
    promised = {"help", "demo", "test", "check", "bench", "image", "image-test", "lock", "clean"}
    assert promised <= listed.keys()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_listed_targets_exist() -> None:
    """Every target in the list is one that make knows how to bring about."""
    for line in make("help").stdout.splitlines():
        target = line.split()[0]
        # A recipe that calls make again would run even so; none does.
        dry = make("--dry-run", target)
        assert dry.returncode == 0, f"{target}: {dry.stderr}"


def test_licence_is_the_one_declared() -> None:
    """pyproject.toml says MIT, names the file, and the file is the MIT licence of the holder."""
    assert PROJECT["license"] == "MIT"
    assert PROJECT["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License\n")
    assert "The service-precheck authors" in text
    assert "Permission is hereby granted, free of charge" in text


def test_no_runtime_dependencies() -> None:
    """The package alone is enough to run the gate and the toolbox."""
    assert PROJECT["dependencies"] == []


def test_every_test_says_what_it_holds() -> None:
    """Each test function of the suite opens with a docstring."""
    functions = [
        (file, node)
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_")
    ]
    assert functions
    silent = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file, node in functions
        if not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source archive, built from a copy beside them with the installed backend."""
    built = tmp_path_factory.mktemp("built")
    copy = built / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    shutil.copytree(
        ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    build = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", built, copy],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert build.returncode == 0, build.stdout
    return built


def test_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """The wheel is the package's folder, file by file with py.typed, and its metadata."""
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"service_precheck-{PROJECT['version']}-py3-none-any.whl"
    metadata = f"service_precheck-{PROJECT['version']}.dist-info"
    names = set(zipfile.ZipFile(wheel).namelist())
    package = built / "source/src/service_precheck"
    assert {name for name in names if not name.startswith(f"{metadata}/")} == {
        f"service_precheck/{file.relative_to(package)}"
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert "service_precheck/py.typed" in names
    assert f"{metadata}/licenses/LICENSE" in names


def test_wheel_metadata_is_what_was_declared(built: Path) -> None:
    """Name, licence and Python version arrive, no dependency does, and both commands are there."""
    (wheel,) = built.glob("*.whl")
    metadata = f"service_precheck-{PROJECT['version']}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        fields = Parser().parsestr(archive.read(f"{metadata}/METADATA").decode())
        entry_points = archive.read(f"{metadata}/entry_points.txt").decode()
    assert fields["Name"] == "service-precheck"
    assert fields["License-Expression"] == "MIT"
    assert fields["Requires-Python"] == ">=3.11"
    assert fields.get_all("Requires-Dist") == ['PyYAML >=6 ; extra == "kubeconfig"']
    assert "service-precheck=service_precheck.start:main" in entry_points.replace(" ", "")
    assert "precheck=service_precheck.toolbox:main" in entry_points.replace(" ", "")


def test_source_archive_can_be_built_from(built: Path) -> None:
    """The source archive holds the package, its metadata and its licence."""
    (archive,) = built.glob("*.tar.gz")
    stem = f"service_precheck-{PROJECT['version']}"
    with tarfile.open(archive) as opened:
        names = set(opened.getnames())
    for name in ("pyproject.toml", "LICENSE", "PKG-INFO", "src/service_precheck/py.typed"):
        assert f"{stem}/{name}" in names


@pytest.mark.parametrize(
    ("fails", "times", "status"),
    [("none", 0, 0), ("test", 1, 0), ("test", 2, 2), ("cluster-test", 1, 0), ("check", 1, 1)],
)
def test_ci_runs_again_alone_what_failed(
    tmp_path: Path, fails: str, times: int, status: int
) -> None:
    """Only tests get a second run, alone; failing twice is red, and passing then is told (decision 9)."""
    stub = tmp_path / "make"
    stub.write_text(f"""#!/bin/sh
echo "make $*" >>{tmp_path}/log
[ "$1" = {fails} ] && [ "$(grep -c "^make $1\\b" {tmp_path}/log)" -le {times} ] && exit 2
exit 0
""")
    stub.chmod(0o755)
    ran = subprocess.run(
        [ROOT / ".ci/run"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.returncode == status, ran.stderr
    log = (tmp_path / "log").read_text().splitlines()
    targets = ["check", "test", "services-test", "image", "image-test", "cluster-test"]
    expected = [f"make {target}" for target in targets]
    if times:
        place = targets.index(fails) + 1
        again = f"make {fails} ARGS=-n0 --last-failed --last-failed-no-failures=none"
        rest = [] if status else expected[place:]
        expected = expected[:place] + ([again] if fails != "check" else []) + rest
    # What it asks to learn of a missing Python is not of interest here.
    assert [line for line in log if line != "make python"] == expected
    assert ("failed at first" in ran.stdout) == (times == 1 and fails != "check")
