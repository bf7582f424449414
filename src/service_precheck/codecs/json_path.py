"""One value out of a JSON text (RFC 8259), by a path such as `components.db[0].status`.

On the interpreter's own scanner: `json` costs 10 ms to import, most of it for `re`.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


# No counter has more digits than 128 bits. What is longer is a float, infinite if need be: CPython refuses
# to write an integer of more than 4300 digits.
_MOST_DIGITS = 40


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


class _Rules:
    """What the scanner wants to be told."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int: Callable[[str], int | float] = _number
    parse_constant: Callable[[str], float] = float


def parse(raw: bytes) -> object:
    """The value of a JSON text. Raises ValueError where it is none, or too deep."""
    text = raw.removeprefix(b"\xef\xbb\xbf").decode().strip(" \t\r\n")
    try:
        value, end = _json.make_scanner(_Rules)(text, 0)  # type: ignore[arg-type]
    # The scanner's own exception stands in `json.decoder`. Up to CPython 3.12 it is a SystemError where
    # nobody has imported that, later the scanner imports it.
    except (StopIteration, RecursionError, SystemError, ImportError) as error:
        raise ValueError("no JSON") from error
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def steps(path: str) -> tuple[str | int, ...]:
    """`a.b[0]` as ("a", "b", 0). Raises ValueError."""
    found: list[str | int] = []
    for part in path.split("."):
        name, *indexes = part.split("[")
        if name:
            found.append(name)
        elif not indexes or len(found) != 0:
            raise ValueError(f"a name is missing in {path!r}")
        for index in indexes:
            number = index.removesuffix("]")
            if not (index.endswith("]") and number.isascii() and number.isdecimal()):
                raise ValueError(f"[{index} is no index")
            found.append(int(number[:9]))
    return tuple(found)


def look(value: object, path: str) -> object:
    """The value at a path. Raises LookupError where there is none."""
    for step in steps(path):
        if isinstance(step, int) != isinstance(value, list):
            raise LookupError(path)
        # A string would take an index, too, and a number nothing.
        if not isinstance(value, list | dict):
            raise LookupError(path)
        value = value[step]  # type: ignore[index]
    return value


def shown(value: object) -> str:
    """A value as an operator writes it to compare: a string without quotes, a number, true, null."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return repr(value)
    return "an object" if isinstance(value, dict) else "a list"
