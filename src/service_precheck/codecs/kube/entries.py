"""What stands in kubeconfig files, each field checked where it is read.

Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files". Whatever a file holds, it is
told which field of it cannot be used, and waited for, since it may be mended.
"""

from __future__ import annotations

import base64
from pathlib import Path

from ...errors import NotReady, blocked
from ...model import printable
from .. import credentials
from .api import Json, objects, part, text
from .written import read

# The most that a file may hold: those of hundreds of clusters, with their certificates, have a MiB or so.
MOST = 8 << 20


class Entry:
    """A context, cluster or user, or a part of one, and the file that has it.

    A field that cannot be used raises NotReady (`local`).
    """

    __slots__ = ("_fields", "_file", "_what")

    def __init__(self, fields: Json, what: str, file: Path) -> None:
        self._fields = fields
        self._what = what
        self._file = file

    def wrong(self, name: str, why: str, hint: str = "", cause: str = "local") -> NotReady:
        """The obstacle that a field is."""
        return blocked(cause, f"{name} of {self._what} in {self._file} {why}", hint)

    def has(self, name: str) -> bool:
        """Whether a field says anything."""
        return bool(self._fields.get(name))

    def lines(self, name: str) -> str:
        """Text of any number of lines, empty where there is none."""
        value = self._fields.get(name)
        return "" if value is None else self._is_text(name, value)

    def text(self, name: str) -> str:
        """One line of text, empty where there is none."""
        found = self.lines(name)
        if not found.isprintable():
            raise self.wrong(name, "holds a line break or another control character")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, list):
            raise self.wrong(name, "is no list")
        return tuple(self._is_text(name, one) for one in value or ())

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """A list of variables of the environment."""
        found = []
        for one in objects(self._fields, name):
            variable = self._is_text(name, one.get("name"))
            if not variable or "=" in variable:
                raise self.wrong(name, "has a variable whose name is empty, or holds a =")
            found.append((variable, self._is_text(name, one.get("value") or "")))
        return tuple(found)

    def flag(self, name: str) -> bool:
        """True or false, which it is where it is not given."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "is neither true nor false")
        return value is True

    def data(self, name: str) -> bytes:
        """What stands in base64."""
        # Go passes over line breaks, and nothing else.
        written = self.lines(name).replace("\r", "").replace("\n", "")
        try:
            return base64.b64decode(written, validate=True)
        except ValueError as error:
            raise self.wrong(name, "is no base64") from error

    def path(self, name: str) -> str:
        """A path, which begins at the file; empty where there is none."""
        path = self.text(name)
        return path and str(self._file.parent / path)

    def part(self, name: str) -> Entry | None:
        """What stands below a field."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "is no object")
        return Entry(value, f"{name} of {self._what}", self._file) if value else None

    def extension(self, name: str) -> object:
        """What an extension of that name holds, None where there is none."""
        for one in objects(self._fields, "extensions"):
            if text(one, "name") == name:
                return one.get("extension")
        return None

    def _is_text(self, name: str, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.wrong(name, "is no text")
        if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise self.wrong(name, "holds what no text does: a NUL, or half a character")
        return value


class Files:
    """Files taken together: the first to name something has it."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = ", ".join(paths)
        self._read = [(_read(path), Path(path)) for path in paths]

    def context(self, asked: str) -> Entry:
        """The context that was asked for, else the current one."""
        named = (str(file.get("current-context") or "") for file, _ in self._read)
        name = asked or next(filter(None, named), "")
        if not name:
            known = [
                text(one, "name") for file, _ in self._read for one in objects(file, "contexts")
            ]
            there = printable(", ".join(filter(None, known)), 200)
            hint = f"#context= names one{there and f', of {there}'}"
            raise blocked("local", f"{self._paths} has no current-context", hint)
        return self.entry("context", name)

    def entry(self, what: str, name: str) -> Entry:
        """A context, cluster or user."""
        for file, path in self._read:
            for one in objects(file, f"{what}s"):
                if str(one.get("name", "")) == name:
                    return Entry(part(one, what), f"{what} {printable(name, 100)}", path)
        raise blocked("local", f"{self._paths} has no {what} {printable(name, 100)!r}")


def _read(path: str) -> Json:
    value = read(credentials.read(path, MOST), path)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise blocked("local", f"{path} is no kubeconfig file")
    return value
