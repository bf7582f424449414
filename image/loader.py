"""Imports the package out of one file: what the image's start script runs first.

A module in a folder costs a search of the folder and ten system calls; here it costs one. That is a
tenth of what the gate takes to start and look at a port. It is never imported: its code stands at
the head of the file, and runs before any signal handler does, so it is short.
"""

from __future__ import annotations

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from io import FileIO
    from types import CodeType, ModuleType

# For each module: where its code stands behind the head, its length, whether it is a package.
Index = dict[str, tuple[int, int, bool]]


class Modules:
    """Finds and loads the modules of an index (`importlib.abc.MetaPathFinder` and `Loader`)."""

    def __init__(self, file: FileIO, head: int, index: Index) -> None:
        self._file = file
        self._head = head
        self._index = index
        self._spec = type(sys.__spec__)

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 (names that importlib passes)
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The module's specification, None if it is not in the file."""
        if name not in self._index:
            return None
        return self._spec(name, self, is_package=self._index[name][2])  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """None: an ordinary module will do."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code in it."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        """The code of a module of the file."""
        start, size, _ = self._index[name]
        code: CodeType = marshal.loads(posix.pread(self._file.fileno(), size, self._head + start))
        return code
