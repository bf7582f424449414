"""The pages of the schemes: each target in them is understood, and each cause is one that can come."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from service_precheck import schemes, target
from service_precheck.errors import OperatorError
from tests.docs.test_tables import DOCS, OF_CONNECTIONS, PACKAGE, causes_in
from tools import docs_tables

PAGES = sorted((DOCS / "schemes").glob("*.md"))
page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
TARGET = re.compile(r"(?:[a-z+]+://|(?:all|any|quorum|atleast|not)\()\S")
# In a line, `http://HOST:PORT` and `kube://shop/pod#selector=...` are forms of targets.
FORM = re.compile(r"\b[A-Z]{4,}\b|\.\.\.|…")
# What a page says is a mistake, and what is a target once the example's package is installed.
MISTAKES = {"kube://pod/A_b", "smtp://mail.shop:25"}


def in_blocks(text: str) -> list[str]:
    """The targets of a page's blocks: what stands alone in a line, and the arguments of a command."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("service-precheck "):
                found += shlex.split(line)[1:]
            elif line.startswith("$ precheck "):
                found += filter(TARGET.match, shlex.split(line))
            elif TARGET.match(line):
                found.append(line)
    return found


def in_lines(text: str) -> list[str]:
    """The targets that a page has in its sentences and tables."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", prose)]
    return [span for span in spans if TARGET.match(span) and not FORM.search(span)]


@page_by_page
def test_targets_are_understood(page: Path) -> None:
    """Each target of a page parses, but for those that it says are mistakes."""
    text = page.read_text()
    for one in (*in_blocks(text), *in_lines(text)):
        if one in MISTAKES:
            with pytest.raises(OperatorError):
                target.parse(one)
        else:
            target.parse(one)


def schemes_of(page: Path) -> list[str]:
    """The schemes that a page is about."""
    found = re.findall(r"^<!-- options:(\w+) -->$", page.read_text(), re.MULTILINE)
    return [name for name in found if name in schemes.BUILT_IN]


@pytest.mark.parametrize("name", schemes.BUILT_IN)
def test_a_page_has_examples(name: str) -> None:
    """The page of a scheme shows some of its targets in blocks."""
    page = docs_tables.page_of(name, DOCS)
    assert page
    shown = in_blocks((DOCS / "schemes" / page).read_text())
    assert any(one.startswith(f"{name}://") for one in shown)
    assert len(shown) >= 2


@pytest.mark.parametrize(
    "page", [page for page in PAGES if schemes_of(page)], ids=lambda page: page.stem
)
def test_causes_are_those_of_the_code(page: Path) -> None:
    """A page's table of causes has those of its schemes' own, and no other than can come."""
    table = page.read_text().partition("\n## Causes")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (\[?`[^|]*) \|", table, re.MULTILINE)
    listed = {word for cell in cells for word in re.findall(r"`([a-z-]+)`", cell)}
    own: set[str] = set()
    known = set(OF_CONNECTIONS)
    for name in schemes_of(page):
        scheme = docs_tables.scheme(name)
        own |= set(scheme.causes)
        known |= causes_in(PACKAGE / "probes" / f"{schemes.BUILT_IN[name]}.py", set())
        if scheme.option("ca") is not None:
            known |= causes_in(PACKAGE / "tls.py", set())
        if name == "unix":
            known |= causes_in(PACKAGE / "stream.py", set())
    assert len(listed) >= 3
    assert (listed - known, own - listed) == (set(), set())
