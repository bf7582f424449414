"""The image that `make image` built, for all tests of it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from tests.image.containers import Image

ROOT = Path(__file__).parents[2]
# Another folder than make's, when the build itself is being worked on.
DIST = Path(os.environ.get("PRECHECK_TEST_DIST", ROOT / "dist"))
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@pytest.fixture(scope="session")
def dist() -> Path:
    if not (DIST / "image/index.json").exists():
        pytest.fail(f"{DIST} holds no image; `make image` builds it")
    return DIST


@pytest.fixture(scope="session", params=["amd64", "arm64"])
def image(request: pytest.FixtureRequest, dist: Path) -> Image:
    return Image(dist / "image", request.param)


@pytest.fixture(scope="session")
def own_image(dist: Path) -> Image:
    machine = platform.machine()
    if machine not in MACHINES:
        pytest.skip(f"needs amd64 or arm64, this is {machine}")
    return Image(dist / "image", MACHINES[machine])


@pytest.fixture(scope="session")
def root(own_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = own_image.unpack(tmp_path_factory.mktemp("root"))
    for path in (folder, *folder.parents):
        if path != Path("/tmp") and path.stat().st_uid == os.geteuid():
            path.chmod(path.stat().st_mode | 0o555)
    return folder
