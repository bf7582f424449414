"""The pages: links that lead somewhere, commands that exist, and a contributor's probe that works."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml

from service_precheck import net
from service_precheck.cli import understand
from service_precheck.dns import Names
from service_precheck.errors import NotReady
from service_precheck.options import Target
from service_precheck.stream import Attempt
from tests.bed.sockets import Server, close, hang, say

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file or folder of the project, and its anchor to a heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page.name}: {link}"


def test_make_targets_of_the_pages_exist() -> None:
    """Each `make TARGET` that a page promises is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for promised in re.findall(
            r"`make ([a-z -]+)`|^\$ make ([a-z-]+)", page.read_text(), re.MULTILINE
        ):
            for name in (promised[0] or promised[1]).split():
                assert name in targets, f"{page.name}: make {name}"


def test_readme_manifest_is_understood() -> None:
    """The manifest in the README parses as YAML, and its targets as targets."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (container,) = yaml.safe_load(block)["initContainers"]
    assert len(understand(container["args"], {}).root.members) == len(container["args"])


def test_readme_is_one_screen_to_the_first_success() -> None:
    """`make demo` stands within the first screen of the README."""
    assert any("make demo" in line for line in (ROOT / "README.md").read_text().splitlines()[:24])


def test_toolbox_help_names_the_verbs_of_the_pages() -> None:
    """Each `precheck VERB` that a page names is in `precheck --help`."""
    start = "import sys; sys.path.insert(0, 'src'); from service_precheck.toolbox import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", start, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for page in PAGES:
        for verb in re.findall(r"`precheck ([a-z]+)", page.read_text()):
            assert re.search(rf"^\s+{verb}\b", done.stdout, re.MULTILINE), f"{page.name}: {verb}"


def contributed() -> types.ModuleType:
    """The probe of CONTRIBUTING.md as a module."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"<!-- probe -->\n\s*```python\n(.*?)```", text, re.DOTALL)
    module = types.ModuleType("daytime")
    exec("\n".join(line.removeprefix("   ") for line in block.splitlines()), module.__dict__)
    return module


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        (say(b"Mon Nov 23 04:15:00 2026\r\n"), None),
        (say(b"never\r\n"), "unexpected-body"),
        (close, "closed-early"),
        (hang, "no-reply"),
    ],
    ids=["ready", "other text", "closed", "silent"],
)
def test_the_contributed_probe_works(behaviour: object, cause: str | None) -> None:
    """The probe that CONTRIBUTING shows is complete: it runs against a server and names each cause."""
    (scheme,) = contributed().SCHEMES
    with Server(behaviour) as server:  # type: ignore[arg-type]
        host, port = server.host, server.port
        target = Target(scheme, host=host, port=port, given=(("contains", "2026"),))
        attempt = Attempt(net.monotonic() + 1.0, Names())
        try:
            verdict = scheme.probe(target, attempt)
        except NotReady as error:
            verdict = error.verdict
    assert verdict.cause == cause
