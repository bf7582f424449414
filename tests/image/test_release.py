"""The release: its dry run, what it refuses, and that the workflows only call make."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bed.process import need

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def artefacts(dist: Path) -> Path:
    if not list(dist.glob("*.whl")):
        pytest.fail(f"{dist} holds no wheel; `make package` builds it")
    return dist


def release(verb: str, dist: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "image.release", verb],
        cwd=ROOT,
        env={**os.environ, "PRECHECK_TEST_DIST": str(dist), **environment},
        capture_output=True,
        text=True,
    )


def test_the_dry_run_does_all_but_sign_and_upload(artefacts: Path) -> None:
    """It checks, sums, pushes to a registry of its own, reads back, and says what is left."""
    need("docker-registry", "docker-registry")
    need("skopeo", "skopeo")
    done = release("dry-run", artefacts)
    assert done.returncode == 0, done.stderr
    assert re.search(r"pushed sha256:[0-9a-f]{64} and read it back", done.stdout)
    assert "would run: cosign sign --yes --recursive $IMAGE_REPOSITORY@sha256:" in done.stdout
    assert f"would upload: service_precheck-{VERSION}-py3-none-any.whl" in done.stdout
    sums = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=artefacts)
    assert sums.returncode == 0


def test_a_tag_that_is_not_the_version_is_refused(artefacts: Path) -> None:
    """A tag must name the version that the project says it is."""
    done = release("check", artefacts, RELEASE_TAG="v999.0.0")
    assert done.returncode == 1
    assert f"the tag is v999.0.0, the project's version is {VERSION}" in done.stderr


def test_artefacts_of_another_build_are_refused(artefacts: Path, tmp_path: Path) -> None:
    """A bill of materials for another image, or none, stops the release."""
    shutil.copytree(artefacts, tmp_path, dirs_exist_ok=True, ignore=lambda *_: ["image"])
    bill = tmp_path / "image.spdx.json"
    bill.write_text(re.sub(r"[0-9a-f]{64}", "0" * 64, bill.read_text()))
    done = release("check", tmp_path)
    assert done.returncode == 1
    assert "describes another image" in done.stderr
    bill.unlink()
    done = release("check", tmp_path)
    assert done.returncode == 1
    assert "lacks image.spdx.json" in done.stderr


def test_a_push_without_a_repository_is_refused(artefacts: Path) -> None:
    """No registry is built in: which one is the releaser's to say."""
    done = release("image", artefacts, IMAGE_REPOSITORY="")
    assert done.returncode == 1
    assert "IMAGE_REPOSITORY" in done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_build_by_make_alone(path: Path) -> None:
    """What a workflow builds and tests is what a developer's make does, and each target exists."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflow: dict[str, Any] = yaml.safe_load(path.read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    called = {target for line in commands for target in re.findall(r"\bmake ([a-z-]+)", line)}
    called -= {"python"}  # of the line that installs Debian's packages
    assert called <= targets
    assert any(".ci/run" in command for command in commands)
    assert not [line for line in commands if re.search(r"\bpip\b|pytest|image\.build", line)]
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    assert workflow["permissions"] == {"contents": "read"}
