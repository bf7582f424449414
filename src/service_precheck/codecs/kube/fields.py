"""Whether an object says of itself what it should: conditions, fields, and kstatus' rules.

kstatus: `sigs.k8s.io/cli-utils/pkg/kstatus`, the rules for objects of any kind. One is stricter here: an
object whose kind has a status, and which has none yet, was not looked at by its controller; kstatus
takes it for done.
"""

from __future__ import annotations

from ...kinds import Wrong
from ...model import Verdict, printable, ready
from ..json_path import shown, steps
from .api import Json, number, part
from .rules import LONGEST, condition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target


def read_condition(written: str) -> str:
    """`Ready`, `Ready:False` or kubectl's `Ready=False`, as given. Raises Wrong."""
    name, status = _parted(written)
    if not name or (status is not None and status.lower() not in ("true", "false", "unknown")):
        raise Wrong(f"{written!r} is not as in Ready, Ready:False or Ready:Unknown")
    return written


def read_path(written: str) -> str:
    """`.status.phase:Running`, or a path alone; kubectl's braces may stand around it. Raises Wrong."""
    try:
        if not _steps(_path(written)[0]):
            raise ValueError("it names nothing")
    except ValueError as error:
        raise Wrong(f"{written!r} is not as in .status.phase:Running: {error}") from error
    return written


def _parted(written: str) -> tuple[str, str | None]:
    """What stands before the first `:` or `=` that is in no brackets, and behind it; None without one."""
    depth = 0
    for place, mark in enumerate(written):
        depth += (mark == "[") - (mark == "]")
        if mark in ":=" and not depth:
            return written[:place], written[place + 1 :]
    return written, None


def _path(written: str) -> tuple[str, str | None]:
    """The path and the value of `.status.phase:Running` or `{.status.phase}=Running`; None without one.

    Neither a field's name nor a label's or an annotation's has a `:` or a `=`.
    """
    if written.startswith("{"):
        path, brace, value = written[1:].partition("}")
        if not brace or (value and value[0] not in ":="):
            raise ValueError("the brace is not closed, or no : follows it")
        return path, value[1:] if value else None
    return _parted(written)


def _steps(path: str) -> tuple[str | int, ...]:
    """As for kubectl, a dot within a name has a backslash before it."""
    bare = path.removeprefix("$").removeprefix(".").replace("\\.", "\0")
    if any(mark in bare for mark in "*?@(\"'"):
        raise ValueError("only names and [INDEX] can stand in it")
    found = steps(bare)
    return tuple(one.replace("\0", ".") if isinstance(one, str) else one for one in found)


def fields(thing: Json, target: Target, *, hidden: bool = False) -> Verdict:
    """Whether all conditions and fields are as `condition` and `jsonpath` ask for.

    With `hidden` no field's value is shown: what a Secret holds stands in its annotations, too.
    """
    told = []
    for written in target.texts("condition"):
        name, wanted = _parted(written)
        status, said = condition(thing, name)
        expected = wanted or "True"
        if status.lower() != expected.lower():
            now = f"is {status}{said and f' ({said})'}" if status else "is not told"
            return Verdict("not-ready", f"is there, but {name} {now}, {expected} is expected")
        told.append(f"{name} is {status}")
    for written in target.texts("jsonpath"):
        path, value = _path(written)
        found = _look(thing, path)
        if found is None:
            return Verdict("not-ready", f"is there without {path}")
        seen = "***" if hidden else printable(shown(found), 80)
        if value is not None and shown(found) != value:
            value = "another value" if hidden else value
            return Verdict("not-ready", f"is there, but {path} is {seen}, {value} is expected")
        told.append(f"{path} is {seen}")
    return ready(f"is there, {', '.join(told)}")


def _look(value: object, path: str) -> object:
    """The value at a path, None where there is none."""
    for step in _steps(path):
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and step < len(value) else None
    return value


def status(thing: Json, has_status: bool) -> Verdict:
    """kstatus' rules; `has_status` says that the kind has a status."""
    seen = part(thing, "status").get("observedGeneration")
    if isinstance(seen, int) and seen != number(thing, "metadata", "generation"):
        return Verdict("not-ready", "has a new form that its controller has not seen yet")
    if has_status and not part(thing, "status"):
        hint = "if its controller never fills a status in, #exists asks only that it is there"
        return Verdict("not-ready", "has no status yet", hint)
    for name, words, cause in (
        ("Reconciling", "is being reconciled", "not-ready"),
        ("Stalled", "is stalled", "failed"),
    ):
        told, said = condition(thing, name, outdated=True)
        if told == "True":
            return Verdict(cause, f"{words}{said and f' ({said})'}")
    told, said = condition(thing, "Ready")
    if told == "True":
        return ready(f"is ready{said and f' ({printable(said, LONGEST)})'}")
    if told:
        return Verdict("not-ready", f"is not ready{said and f' ({said})'}")
    return ready("is there, and says nothing against it")
