"""What is taken away from a module before it goes into the image changes nothing that it does."""

from __future__ import annotations

from pathlib import Path

from image.root import _bare_code

MODULE = '''"""About the module."""

from __future__ import annotations

from typing import NamedTuple


class Point(NamedTuple):
    """About the class."""

    x: Undefined
    y: int = 2

    def sum(self, *more: Undefined) -> Undefined:
        """About the method."""
        total: Undefined = self.x + self.y
        return total + sum(more)


class Plain:
    """Nothing else."""

    kind: Undefined
    size: int = 3


def empty() -> Undefined:
    """Nothing else."""


assert Point(1).x == 1
'''


def test_bare_code_does_the_same(tmp_path: Path) -> None:
    """Docstrings, annotations and the import of `__future__` are gone; fields, defaults and asserts stay."""
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    names: dict[str, object] = {"__name__": "module"}
    code = _bare_code(path, "module.py")
    exec(code, names)
    point, plain, empty = names["Point"], names["Plain"], names["empty"]
    assert point(1).sum(4) == 7  # type: ignore[operator]
    assert (plain.size, empty()) == (3, None)  # type: ignore[attr-defined,operator]
    assert not hasattr(plain, "kind")
    assert [each.__doc__ for each in (plain, empty, point.sum)] == [None] * 3  # type: ignore[attr-defined]
    assert empty.__annotations__ == {}
    assert "__future__" not in code.co_names
    assert "About the module." not in code.co_consts
