"""The closure follows the code: what a made-up package imports, and what it must not."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from image.closure import LEFT_OUT, Binary, Library, modules
from image.packages import Failed
from tests.bed.process import need

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "service-precheck")
Closure = Callable[..., dict[str, Path]]


@pytest.fixture
def closure(dist: Path, tmp_path: Path) -> Closure:
    """The closure of a package with these modules, over the library that is in the image."""
    document = json.loads((dist / "image.spdx.json").read_text())
    unpacked = [
        CACHE / "unpacked/amd64" / f"{entry['name']}_{entry['versionInfo']}_amd64"
        for entry in document["packages"]
        if re.fullmatch(r"SPDXRef-amd64-libpython3.11-(minimal|stdlib)", entry["SPDXID"])
    ]
    folders = [folder / "usr/lib/python3.11" for folder in unpacked]
    library = Library(folders, [folder / "lib-dynload" for folder in folders])

    def of(
        instead: dict[str, Path | None] | None = None,
        uncalled: Collection[tuple[str, str]] = (),
        **sources: str,
    ) -> dict[str, Path]:
        package = tmp_path / "package"
        package.mkdir()
        (package / "__init__.py").touch()
        for name, text in sources.items():
            (package / f"{name}.py").write_text(text)
        return modules(package, library, instead=instead, uncalled=uncalled)

    return of


def test_holds_every_module_and_what_starts_the_interpreter(closure: Closure) -> None:
    """A module that nothing imports is loaded by name, so all of the package is in."""
    found = closure(alone="")
    assert {"package", "package.alone", "encodings", "encodings.utf_8"} <= found.keys()
    assert "json" not in found


@pytest.mark.parametrize(
    "text",
    [
        "import json",
        "def late():\n    import json",
        "def late():\n    from json import loads",
        "try:\n    import json\nexcept ImportError:\n    pass",
        "class A:\n    async def late(self):\n        import json.decoder",
    ],
)
def test_follows_an_import_anywhere(text: str, closure: Closure) -> None:
    """An import in a function is as much part of the program as one at the top."""
    found = closure(user=text)
    assert {"json", "json.decoder", "json.scanner", "re"} <= found.keys()


def test_does_not_follow_the_type_checker(closure: Closure) -> None:
    """What only the type checker imports is not there at run time."""
    text = "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import json\nelse:\n    import csv"
    found = closure(user=text)
    assert "json" not in found
    assert "csv" in found


def test_a_module_that_python_does_not_have_fails_the_build(closure: Closure) -> None:
    """A third party's module fails when the image is built, not when it runs."""
    with pytest.raises(Failed, match=r"package\.user imports yaml"):
        closure(user="import yaml")


def test_a_module_of_the_package_that_is_not_there_fails_the_build(closure: Closure) -> None:
    """A half-finished rename is found before anything runs."""
    with pytest.raises(Failed, match=r"package\.user imports package\.gone, which is not there"):
        closure(user="from .gone import thing")


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_a_module_left_out_fails_the_build_when_it_is_used(name: str, closure: Closure) -> None:
    """What is left out on purpose cannot be missed silently, not even by a late import."""
    with pytest.raises(Failed):
        closure(user=f"def late():\n    import {name}")


def test_a_function_that_nothing_calls_brings_nothing(closure: Closure) -> None:
    """An import named as uncalled is not followed; another module's of the same is."""
    late = "def late():\n    import csv"
    assert "csv" not in closure(uncalled={("package.user", "csv")}, user=late)


def test_only_the_named_import_is_uncalled(closure: Closure) -> None:
    """The same import by another module is followed."""
    late = "def late():\n    import csv"
    assert "csv" in closure(uncalled={("package.user", "csv")}, user=late, other=late)


def test_a_module_can_be_replaced(closure: Closure, tmp_path: Path) -> None:
    """Another file stands for a module, and what only the module imported is not there."""
    (tmp_path / "other.py").write_text("import json")
    instead = {"package.user": tmp_path / "other.py"}
    found = closure(instead=instead, user="import csv")
    assert found["package.user"] == tmp_path / "other.py"
    assert "json" in found
    assert "csv" not in found


def test_a_module_left_out_must_not_be_used(closure: Closure) -> None:
    """A command that came to need it would find it missing; the build says so."""
    with pytest.raises(Failed, match=r"imports package\.gone, which is left out"):
        closure(instead={"package.gone": None}, gone="", user="def late():\n    from . import gone")


def test_a_replacement_for_nothing_fails_the_build(closure: Closure) -> None:
    """A module that was renamed would otherwise come back with all that it imports."""
    with pytest.raises(Failed, match=r"has no package\.renamed"):
        closure(instead={"package.renamed": None}, user="")


def test_newer_syntax_fails_the_build(closure: Closure) -> None:
    """Code that the image's Python cannot compile is named by file and line."""
    with pytest.raises(Failed, match=r"user\.py:2: "):
        closure(user="pass\ntype A = B C")


def test_reads_elf_as_binutils_does() -> None:
    """The needed libraries and the interpreter of a real program are those that readelf prints."""
    readelf = need("readelf", "binutils")
    program = Path(need("tar", "tar")).resolve()
    printed = subprocess.run(
        [readelf, "--wide", "--dynamic", "--program-headers", program],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    binary = Binary(program)
    assert binary.needed()
    for name in binary.needed():
        assert f"(NEEDED)             Shared library: [{name}]" in printed
    assert f"[Requesting program interpreter: {binary.interpreter()}]" in printed


def test_refuses_what_is_not_elf(tmp_path: Path) -> None:
    """A script where a library should be is an error, not an empty list."""
    (tmp_path / "script").write_text("#!/bin/sh\n")
    with pytest.raises(Failed, match="not a 64-bit"):
        Binary(tmp_path / "script")
