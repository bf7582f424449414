"""The catalogue of faults, its page and the tests that hold it: no row without a test that names it.

A test names a row by `fault 12` in its docstring or in the id of a parameter; `faults 2, 67` and
`faults 25 to 28` name several.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faults.md"

ROWS = (
    *map(str, range(1, 11)),
    "10b",
    *map(str, range(11, 37)),
    *("36b", "36c", "36d", "36e"),
    *map(str, range(37, 47)),
    *("46b", "46c"),
    *map(str, range(47, 53)),
    *map(str, range(58, 66)),
    *("65b", "67", "68"),
)

_NUMBER = r"\d+[b-e]?\b"
_NAMED = re.compile(
    rf"\bfaults?\s+({_NUMBER}(?:\s*(?:,|and|to)\s*(?:and\s+)?(?:fault\s+)?{_NUMBER})*)",
    re.IGNORECASE,
)


def rows_in(text: str) -> set[str]:
    """The rows that a text names."""
    found = set()
    for named in _NAMED.findall(text):
        words = re.findall(rf"{_NUMBER}|to", named)
        for place, word in enumerate(words):
            if word == "to":
                first, last = int(words[place - 1]), int(words[place + 1])
                found |= {str(number) for number in range(first, last + 1)}
            else:
                found.add(word)
    return found


def _is_left_out(function: ast.FunctionDef) -> bool:
    """Whether a test never runs, or may fail."""
    decorators = " ".join(ast.unparse(one) for one in function.decorator_list)
    return "mark.skip(" in decorators or "mark.xfail" in decorators or "skipif(True" in decorators


def _looks(function: ast.FunctionDef) -> bool:
    """Whether a test can fail: it asserts something, or expects an error."""
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("raises"))
        for node in ast.walk(function)
    )


@cache
def naming_tests() -> dict[str, set[str]]:
    """Which tests (`path::name`) hold which row."""
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        if path.is_relative_to(ROOT / "tests" / "bed"):
            # They show that the fault can be made, not what the gate does about it.
            continue
        tree = ast.parse(path.read_text())
        ids = {
            name.id: rows_in(ast.unparse(node.value))
            for node in tree.body
            if isinstance(node, ast.Assign)
            for name in node.targets
            if isinstance(name, ast.Name) and "pytest.param" in ast.unparse(node.value)
        }
        for node in tree.body:
            if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
                continue
            if _is_left_out(node) or not _looks(node):
                continue
            text = f"{node.name.replace('_', ' ')} {ast.get_docstring(node) or ''}"
            rows = rows_in(text)
            for decorator in node.decorator_list:
                shown = ast.unparse(decorator)
                rows |= rows_in(shown)
                for name, named in ids.items():
                    if re.search(rf"\b{name}\b", shown):
                        rows |= named
            for row in rows:
                found.setdefault(row, set()).add(f"{path.relative_to(ROOT)}::{node.name}")
    return found


@cache
def page() -> dict[str, tuple[str, str, set[str]]]:
    """The page's table: row, what happens, the verdict, the test files that are linked."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and re.fullmatch(_NUMBER, cells[0]):
            files = {
                str((PAGE.parent / link).resolve().relative_to(ROOT))
                for link in re.findall(r"\]\(([^)]+)\)", cells[3])
            }
            assert cells[0] not in found, f"{cells[0]} stands there twice"
            found[cells[0]] = cells[1], cells[2], files
    return found


@pytest.mark.parametrize("row", ROWS)
def test_row_has_a_test(row: str) -> None:
    """Each row is named by a test that runs and can fail."""
    assert naming_tests().get(row), f"no test names fault {row}"


@pytest.mark.parametrize("row", ROWS)
def test_row_is_on_the_page(row: str) -> None:
    """The page says of each row what happens and what the verdict is, and links the tests that hold it."""
    happens, verdict, files = page()[row]
    assert happens
    assert verdict
    named = {test.partition("::")[0] for test in naming_tests().get(row, ())}
    assert files, f"fault {row} links no test"
    assert files <= named, f"fault {row}: {files - named} do not name it"


def test_page_has_no_other_rows() -> None:
    """The page and the catalogue have the same rows, in the same order."""
    assert tuple(page()) == ROWS


def test_tests_name_rows_that_exist() -> None:
    """A test that names a row outside the catalogue has a slip of the pen."""
    assert set(naming_tests()) <= set(ROWS)


def test_names_are_read() -> None:
    """Lists, ranges and letters are understood."""
    assert rows_in(
        "Fault 2: x, faults 25 to 27 and 36b; faults 3, 4 and 5, fault 20, fault 21"
    ) == {
        *("2", "25", "26", "27", "36b", "3", "4", "5", "20", "21"),
    }
    assert not rows_in("whose fault it is, default 3")
