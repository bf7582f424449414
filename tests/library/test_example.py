"""The example under pytest runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.bed.process import SOURCE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "pytest" / "test_shop.py"


def test_pytest_example_passes(tmp_path: Path) -> None:
    """Both tests of the example pass in a pytest of their own, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_page_shows_what_the_example_has() -> None:
    """The lines of the fixture on the library's page stand in the example."""
    page = (ROOT / "docs/library.md").read_text()
    (block,) = re.findall(r"```python\n(@pytest.fixture\n.*?)```", page, re.DOTALL)
    lines = {line.strip() for line in EXAMPLE.read_text().splitlines()}
    # The page leaves out types and what is of no use to understand it.
    for line in block.splitlines():
        plain = line.strip()
        if plain.startswith(("def ", "with ")):
            continue
        assert plain in lines, plain
