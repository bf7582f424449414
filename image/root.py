"""The image's file system: what goes where, and from which package each file comes.

Two layers. The lower one is Debian's and changes with Debian; the upper one is ours, so that a new
release of ours costs a node only that. Neither holds a source file, a shell, or anything that can be
written to.
"""

from __future__ import annotations

import ast
import importlib.util
import marshal
import struct
import subprocess
import tempfile
from pathlib import Path
from types import CodeType

from image import closure, loader
from image.packages import Archive, Failed, Package

# Debian's names: of the architecture, and of its folder of libraries.
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
LIBRARY = "usr/lib/python3.11"
MODULES = "usr/lib/service-precheck/modules"
# The demo writes files and starts servers, which this root gives no place to.
INSTEAD = {
    "service_precheck.toolbox.demo": Path(__file__).with_name("demo.py"),
    "service_precheck.toolbox.demo_certificates": None,
}
# The awaitable face is for programs; in the image there is none but the two commands.
UNCALLED = {("service_precheck.library", "asyncio")}
CERTIFICATES = "etc/ssl/certs"
# What libc opens by name when it is needed, so that no ELF header shows it: a daemonic thread that
# wakes while the interpreter ends is ended by pthread_exit, which aborts without libgcc_s.
OPENED_LATE = {"libc.so.6": ["libgcc_s.so.1"]}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

COMMANDS = {"service-precheck": "start", "precheck": "toolbox"}
# A script is compiled at each start, so it does no more than hand over to code that is compiled.
SCRIPT = """\
#!/usr/bin/python3 -IS
import marshal
import sys

modules = open("/{path}", "rb", buffering=0)
loader, index = marshal.loads(modules.read({head}))
exec(loader)
sys.meta_path.insert(0, Modules(modules, {head}, index))
from service_precheck.{module} import main

sys.exit(main())
"""


class File:
    """A file, or a symbolic link where `link` is set. Who may run it is all there is to its mode."""

    __slots__ = ("data", "executable", "link", "package")

    def __init__(
        self,
        data: bytes = b"",
        *,
        package: Package | None = None,
        executable: bool = False,
        link: str = "",
    ) -> None:
        self.data = data
        self.package = package
        self.executable = executable
        self.link = link


Layer = dict[str, File]


def build(archive: Archive, source: Path, licence: Path, openssl: list[str]) -> tuple[Layer, Layer]:
    """Debian's layer and ours, files by path without a leading slash.

    `source` is the folder of the package `service_precheck`, `openssl` the command that hashes
    certificates on this machine.
    """
    minimal = archive.need("python3.11-minimal")
    base = archive.need("libpython3.11-minimal")
    rest = archive.need("libpython3.11-stdlib")
    library = closure.Library(
        [package.folder / LIBRARY for package in (base, rest)],
        [package.folder / LIBRARY / "lib-dynload" for package in (base, rest)],
    )
    modules = closure.modules(source, library, instead=INSTEAD, uncalled=UNCALLED)
    for command, module in COMMANDS.items():
        if f"{source.name}.{module}" not in modules:
            raise Failed(f"{source} has no module {module}, which {command} starts")

    debian: Layer = {
        "lib": File(link="usr/lib"),
        "usr/bin/python3": File(link="python3.11", package=minimal),
    }
    binaries = [(_put(debian, minimal, "usr/bin/python3.11"), minimal)]
    for name, path in modules.items():
        if _is_ours(name, source):
            continue
        package = next(p for p in (base, rest) if path.is_relative_to(p.folder))
        target = str(path.relative_to(package.folder))
        if path.suffix == ".so":
            binaries.append((_put(debian, package, target), package))
        else:
            debian[f"{target}c"] = File(_compiled(path, f"/{target}"), package=package)
    _loader(debian, archive, binaries[0][0])
    _shared_libraries(debian, archive, binaries)
    _certificates(debian, archive, openssl)
    _about(debian, archive)

    return debian, _ours(source, modules, licence)


def _ours(source: Path, modules: dict[str, Path], licence: Path) -> Layer:
    for path in source.rglob("*"):
        if path.parent.name == "__pycache__" or not path.is_file():
            continue
        if path.suffix != ".py" and path.name != "py.typed":
            raise Failed(f"{path} is no module; the image holds modules only")
    index: loader.Index = {}
    codes = b""
    for name, path in modules.items():
        if _is_ours(name, source):
            is_package = path.name == "__init__.py"
            # The path that a traceback names.
            shown = f"{name.replace('.', '/')}{'/__init__' if is_package else ''}.py"
            code = marshal.dumps(_bare_code(path, shown))
            index[name] = (len(codes), len(code), is_package)
            codes += code
    start = Path(loader.__file__)
    head = marshal.dumps((_bare_code(start, start.name), index))
    layer: Layer = {MODULES: File(head + codes)}
    for command, module in COMMANDS.items():
        script = SCRIPT.format(path=MODULES, head=len(head), module=module)
        layer[f"usr/bin/{command}"] = File(script.encode(), executable=True)
    layer["usr/share/doc/service-precheck/copyright"] = File(licence.read_bytes())
    return layer


def _is_ours(name: str, source: Path) -> bool:
    return name.partition(".")[0] == source.name


def _code(path: Path, shown: str) -> CodeType:
    code: CodeType = compile(path.read_bytes(), shown, "exec", dont_inherit=True, optimize=0)
    return code


class Bare(ast.NodeTransformer):
    """Takes away what only people and type checkers read: it is a tenth of what a start has to load."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Drop a docstring."""
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.copy_location(ast.Pass(), node.body[0])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        return super().generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Leave the annotations of a named tuple: they are its fields."""
        if not any(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases):
            return self.generic_visit(node)
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        rest = [each for each in node.body if not isinstance(each, ast.AnnAssign)]
        node.body = rest or [ast.copy_location(ast.Pass(), node)]
        self.generic_visit(node)
        node.body += fields
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Leave the assignment, if it is one."""
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Drop the import of `__future__`, which would read a file at each start for what a flag of the
        compiler says as well."""
        return ast.copy_location(ast.Pass(), node) if node.module == "__future__" else node


def _bare_code(path: Path, shown: str) -> CodeType:
    tree = ast.fix_missing_locations(Bare().visit(ast.parse(path.read_bytes())))
    flags = annotations.compiler_flag
    code: CodeType = compile(tree, shown, "exec", flags, dont_inherit=True, optimize=0)
    return code


def _compiled(path: Path, shown: str) -> bytes:
    """A module's .pyc that is never checked against its source, since there is none (PEP 552)."""
    header = importlib.util.MAGIC_NUMBER + struct.pack("<I", 1)
    return (
        header + importlib.util.source_hash(path.read_bytes()) + marshal.dumps(_code(path, shown))
    )


def _put(layer: Layer, package: Package, path: str) -> Path:
    """Put a package's file where the package has it, under /usr. Gives the file itself."""
    found = package.find(path)
    if found is None:
        raise Failed(f"{package.deb.name} has no {path}")
    executable = bool(found.stat().st_mode & 0o100)
    layer[path] = File(found.read_bytes(), package=package, executable=executable)
    return found


def _loader(layer: Layer, archive: Archive, python: Path) -> None:
    """The dynamic loader, at the path that is written into every program."""
    libc = archive.need("libc6")
    path = closure.Binary(python).interpreter().lstrip("/")
    link = libc.find(path)
    if link is None:
        raise Failed(f"{libc.deb.name} has no {path}")
    real = f"usr/lib/{TRIPLETS[archive.architecture]}/{link.readlink().name}"
    _put(layer, libc, real)
    folder, _, name = path.partition("/")
    if folder != "lib":
        layer[folder] = File(link=f"usr/{folder}")
    layer[f"usr/{folder}/{name}"] = File(link=f"/{real}", package=libc)


def _shared_libraries(layer: Layer, archive: Archive, binaries: list[tuple[Path, Package]]) -> None:
    """Every shared library that the binaries ask for, from the packages that theirs depend on."""
    folder = f"usr/lib/{TRIPLETS[archive.architecture]}"
    todo = list(binaries)
    while todo:
        binary, owner = todo.pop()
        wanted = closure.Binary(binary).needed()
        for name in [*wanted, *(late for w in wanted for late in OPENED_LATE.get(w, []))]:
            if f"{folder}/{name}" in layer or name.startswith("ld-linux"):
                continue
            provider = _provider(archive, owner, f"{folder}/{name}")
            todo.append((_put(layer, provider, f"{folder}/{name}"), provider))


def _provider(archive: Archive, owner: Package, path: str) -> Package:
    seen = [owner.name]
    for name in seen:
        package = archive.get(name)
        if package and package.find(path):
            return package
        if package and len(seen) < 100:
            seen += [depended for depended in package.depends() if depended not in seen]
    raise Failed(f"no package that {owner.name} depends on has {path}")


def _certificates(layer: Layer, archive: Archive, openssl: list[str]) -> None:
    """The public roots, each under the hash of its subject, where OpenSSL looks one up.

    A folder of hashes costs a third of what one bundle does: only the root that is asked for is
    read and parsed.
    """
    package = archive.need("ca-certificates")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for root in sorted((package.folder / "usr/share/ca-certificates").rglob("*.crt")):
            (folder / root.name).write_bytes(root.read_bytes())
        subprocess.run([*openssl, "rehash", folder], check=True)
        for link in sorted(folder.iterdir()):
            if link.is_symlink():
                layer[f"{CERTIFICATES}/{link.name}"] = File(link.read_bytes(), package=package)
    # Where OpenSSL itself looks by default.
    layer["usr/lib/ssl/certs"] = File(link=f"/{CERTIFICATES}")


def _about(layer: Layer, archive: Archive) -> None:
    """What scanners and lawyers read: the distribution, the packages, their copyright."""
    release = archive.need("base-files")
    _put(layer, release, "usr/lib/os-release")
    layer["etc/os-release"] = File(link="../usr/lib/os-release", package=release)
    for package in {file.package for file in layer.values() if file.package}:
        layer[f"var/lib/dpkg/status.d/{package.name}"] = File(
            package.control.encode(), package=package
        )
        path = f"usr/share/doc/{package.name}/copyright"
        layer[path] = File(_copyright(archive, package).read_bytes(), package=package)


def _copyright(archive: Archive, package: Package) -> Path:
    for candidate in [package, *(archive.get(name) for name in package.depends())]:
        # Packages of one source often share a folder: a link into another package.
        path = candidate and candidate.folder / f"usr/share/doc/{candidate.name}/copyright"
        if candidate and path and path.exists() and candidate.source == package.source:
            return path
    raise Failed(f"{package.deb.name} has no copyright file")
