"""The pages of these schemes: each target in them is understood, and each cause is one that exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from service_precheck import target
from service_precheck.model import CAUSES

PAGES = Path(__file__).parents[2] / "docs" / "schemes"


@pytest.mark.parametrize("name", ["tls", "http", "unix", "file", "exec"])
def test_what_a_page_says_is_understood(name: str) -> None:
    """Targets in code blocks parse, and the table of causes holds words of the closed list."""
    text = (PAGES / f"{name}.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) >= 3
    for line in lines:
        for word in shlex.split(line)[1:] if line.startswith("service-precheck ") else [line]:
            target.parse(word)
    causes = re.findall(r"^\| `([a-z-]+)` \|", text.partition("## Causes")[2], re.MULTILINE)
    assert len(causes) >= 3
    assert set(causes) <= set(CAUSES)
