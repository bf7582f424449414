"""What a program uses: modules by reading imports, shared libraries by reading ELF.

Nothing is imported or executed, so that the closure for a foreign architecture is found as well,
and imports inside functions, which run late or never, are seen like any other.
"""

from __future__ import annotations

import ast
import struct
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from image.packages import Failed

# Reached from the standard library's own code only by calls that we never make. A module-level
# import of one of these by something included is an error, unless it is guarded by `try`.
LEFT_OUT = {
    "_aix_support": "another system",
    "_bootsubprocess": "builds CPython itself",
    "_osx_support": "another system",
    "_posixshmem": "shared memory",
    "_pydecimal": "_decimal's twin in Python",
    "bz2": "shutil and tarfile unpack nothing here",
    "concurrent.futures.process": "process pools",
    "ctypes": "foreign functions",
    "distutils": "builds extensions",
    "doctest": "runs a module's own tests",
    "ftplib": "urllib's ftp:",
    "lzma": "shutil and tarfile unpack nothing here",
    "multiprocessing": "process pools",
    "pdb": "the debugger",
    "plistlib": "another system",
    "pydoc": "help() at a prompt",
    "readline": "a prompt",
    "statistics": "random's own test",
    "tarfile": "shutil unpacks nothing here",
    "test": "CPython's own tests",
    "unittest": "tests",
    "webbrowser": "a desktop",
    "xmlrpc": "a protocol of pydoc and multiprocessing",
}
# Used by everything, and what they import inside functions serves calls that we never make, such as
# os.popen, or that find what a sourceless folder does not hold.
CORE = {"codecs", "importlib._bootstrap", "importlib._bootstrap_external", "os"}
# Found by name at run time, so no import statement shows them. json tells UTF-16 and UTF-32 apart
# by itself, and any text may begin with a byte order mark.
CODECS = (
    *("ascii", "idna", "latin_1", "utf_8", "utf_8_sig"),
    *("utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le"),
)


class Library:
    """A standard library: a folder of sources and a folder of extension modules."""

    def __init__(self, sources: Iterable[Path], extensions: Iterable[Path]) -> None:
        self._sources = list(sources)
        self._extensions = {
            path.name.partition(".")[0]: path
            for folder in extensions
            for path in folder.glob("*.so")
        }

    def find(self, name: str) -> Path | None:
        """The file that holds a module, None for one built into the interpreter or not there."""
        relative = name.replace(".", "/")
        for folder in self._sources:
            for path in (folder / f"{relative}/__init__.py", folder / f"{relative}.py"):
                if path.exists():
                    return path
        return self._extensions.get(name)


def modules(
    package: Path,
    library: Library,
    *,
    instead: Mapping[str, Path | None] | None = None,
    uncalled: Collection[tuple[str, str]] = (),
) -> dict[str, Path]:
    """Every module of `package`, a folder, and what it imports of `library`: file by name.

    `instead` gives other files for some modules of the package, None for those to leave out.
    `uncalled` are imports not to follow: a module of the package and what it imports in a function
    that nothing calls. Raises Failed for an import that cannot be satisfied.
    """
    instead = instead or {}
    sources = {_name(path, package): path for path in sorted(package.rglob("*.py"))}
    if unknown := instead.keys() - sources.keys():
        raise Failed(f"{package} has no {', '.join(sorted(unknown))}")
    replaced = ((name, instead.get(name, path)) for name, path in sources.items())
    ours = {name: path for name, path in replaced if path}
    found: dict[str, Path] = {}
    todo: list[tuple[str, str, bool]] = [("encodings", "the interpreter", False)]
    todo += [(f"encodings.{codec}", "the interpreter", False) for codec in CODECS]
    for name, path in ours.items():
        for imported, optional in _imports(path, name):
            first = imported.partition(".")[0]
            if imported in sources and imported not in ours:
                raise Failed(f"{name} imports {imported}, which is left out")
            if first == package.name:
                if imported not in sources and not optional:
                    raise Failed(f"{name} imports {imported}, which is not there")
                continue
            if (name, imported) in uncalled:
                continue
            known = first in sys.builtin_module_names or library.find(first)
            if not known and not optional:
                raise Failed(f"{name} imports {imported}, which Debian's Python does not have")
            todo.append((imported, name, False))
    while todo:
        name, importer, optional = todo.pop()
        parents = [name[:i] for i, char in enumerate(name) if char == "."]
        for module in (*parents, name):
            if module in LEFT_OUT:
                if not optional:
                    raise Failed(f"{importer} imports {module}: {LEFT_OUT[module]}; it is left out")
                break
            file = library.find(module)
            if file is None or module in found:
                continue
            found[module] = file
            if file.suffix == ".py":
                todo += [
                    (child, module, late)
                    for child, late in _imports(file, module)
                    if not (late and module in CORE)
                ]
    return dict(sorted(found.items())) | ours


def _name(path: Path, package: Path) -> str:
    parts = [*path.relative_to(package.parent).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, name: str) -> Iterator[tuple[str, bool]]:
    """What a module imports, and whether it can do without (in a function or inside `try`)."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise Failed(f"{path}:{error.lineno}: {error.msg} (CPython 3.11)") from error
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, optional = todo.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, optional
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: -node.level + 1 or None] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, optional
            # `from a import b` may name a module; if it does not, the library does not know it.
            for alias in node.names:
                yield f"{module}.{alias.name}", True
        elif isinstance(node, ast.If) and _never(node.test):
            todo += [(child, optional) for child in node.orelse]
        else:
            late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Try)
            todo += [(child, optional or late) for child in ast.iter_child_nodes(node)]


def _never(test: ast.expr) -> bool:
    """Whether a condition is false in the image: for the type checker, another system, a script."""
    text = ast.unparse(test)
    return text in {
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
        "__name__ == '__main__'",
        "sys.platform == 'win32'",
        "sys.platform == 'darwin'",
        "os.name == 'nt'",
        "_mswindows",
    }


class Binary:
    """What the headers of a 64-bit little-endian ELF file say (System V ABI, chapters 4 and 5)."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        if self._data[:6] != b"\x7fELF\x02\x01":
            raise Failed(f"{path} is not a 64-bit little-endian ELF file")
        (table,) = struct.unpack_from("<Q", self._data, 32)
        size, count = struct.unpack_from("<HH", self._data, 54)
        # Each segment: type, flags, offset, address, physical address, size in the file.
        self._segments = [
            struct.unpack_from("<IIQQQQ", self._data, table + size * i) for i in range(count)
        ]

    def needed(self) -> list[str]:
        """The shared libraries that it asks for."""
        entries = list(struct.iter_unpack("<qQ", self._segment(2)))  # PT_DYNAMIC
        strings = next((value for tag, value in entries if tag == 5), 0)  # DT_STRTAB
        base = next(
            (
                offset + strings - address
                for kind, _, offset, address, _, size in self._segments
                if kind == 1 and address <= strings < address + size  # PT_LOAD
            ),
            0,
        )
        return [self._text(base + value) for tag, value in entries if tag == 1]  # DT_NEEDED

    def interpreter(self) -> str:
        """The path of the dynamic loader that a program asks the kernel for."""
        return self._segment(3).rstrip(b"\0").decode()  # PT_INTERP

    def _segment(self, wanted: int) -> bytes:
        for kind, _, offset, _, _, size in self._segments:
            if kind == wanted:
                return self._data[offset : offset + size]
        return b""

    def _text(self, offset: int) -> str:
        return self._data[offset : self._data.index(b"\0", offset)].decode()
