"""What the values of options may be: each kind reads text, says what is wrong with it, and writes it back."""

from __future__ import annotations

from .model import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Wrong(ValueError):
    """A value that its kind does not allow; the text says what is wrong and what would be right."""


class Kind(Frozen):
    """What values an option takes: `shape` as help shows it, `read` from text, `write` back to it."""

    __slots__ = ("read", "shape", "write")
    shape: str
    read: Callable[[str], object]
    write: Callable[[object], str]

    def __init__(
        self, shape: str, read: Callable[[str], object], write: Callable[[object], str] = str
    ) -> None:
        self._set(shape=shape, read=read, write=write)


UNITS = (("ms", 0.001), ("us", 1e-6), ("h", 3600.0), ("m", 60.0), ("s", 1.0))


def read_duration(text: str) -> float:
    """A duration in seconds, written as Kubernetes and Go do: `1500ms`, `5m`, `1h30m`; a bare number
    is seconds. Raises Wrong."""
    rest = text.strip()
    total = 0.0
    try:
        if rest.replace(".", "", 1).isdecimal() and rest.isascii():
            total, rest = float(rest), ""
        while rest:
            digits = len(rest) - len(rest.lstrip("0123456789."))
            number, rest = float(rest[:digits]), rest[digits:]
            unit, size = next((u, size) for u, size in UNITS if rest.startswith(u))
            total += number * size
            rest = rest[len(unit) :]
        if text.strip() and total < 1e9:
            # Finer than a microsecond is noise of the sum.
            return round(total, 6)
    except (ValueError, StopIteration):
        pass
    raise Wrong(f"{text!r} is no duration; write for example 500ms, 30s, 5m, 1h30m")


def write_duration(value: object) -> str:
    """The shortest exact spelling of a duration given in seconds."""
    assert isinstance(value, int | float)
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        if value >= size and value == int(value) and int(value) % size == 0:
            return f"{int(value) // size}{unit}"
    milliseconds = round(value * 1000, 3)
    if milliseconds == int(milliseconds):
        return f"{int(milliseconds)}ms"
    return f"{value:.6f}".rstrip("0") + "s"


def _count(least: int, most: int = 1_000_000) -> Callable[[str], object]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 9):
            raise Wrong(f"{text!r} is no whole number")
        if not least <= int(text) <= most:
            raise Wrong(f"{text} is out of range; {least} to {most}")
        return int(text)

    return read


def read_port(text: str) -> int | None:
    """The number of a port, None where the text is none."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
    return number if 0 < number < 65_536 else None


def is_name(text: str) -> bool:
    """Whether DNS can be asked for a name that a server told (RFC 1035 section 3.1)."""
    bare = text.removesuffix(".")
    return (
        len(bare) < 254
        and all(c.isascii() and (c.isalnum() or c in "-._") for c in bare)
        and all(0 < len(label) < 64 for label in bare.split("."))
    )


_SIZES = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "KI": 1024, "MI": 1024**2, "GI": 1024**3}


def _size(text: str) -> int:
    upper = text.upper().removesuffix("B")
    number = upper.rstrip("KMGI")
    unit = upper[len(number) :]
    if not (number.isascii() and number.isdecimal() and len(number) < 16) or unit not in _SIZES:
        raise Wrong(f"{text!r} is no size; write bytes, or for example 4Ki, 10M")
    return int(number) * _SIZES[unit]


def _flag(text: str) -> bool:
    if text in ("", "true"):
        return True
    if text == "false":
        return False
    raise Wrong(f"{text!r} is neither true nor false")


def _text(text: str) -> str:
    if not text:
        raise Wrong("it is empty")
    return text


def _positive_duration(text: str) -> float:
    duration = read_duration(text)
    if duration <= 0:
        raise Wrong(f"{text!r} is not longer than nothing")
    return duration


def choice(*values: str) -> Kind:
    """The kind of one word out of a few."""

    def read(text: str) -> str:
        if text not in values:
            raise Wrong(f"{text!r} is none of {', '.join(values)}")
        return text

    return Kind("|".join(values), read)


def _write_flag(value: object) -> str:
    return "true" if value else "false"


TEXT = Kind("TEXT", _text)
PATH = Kind("PATH", _text)
# The name of an environment variable, which must be set before anything is asked.
VARIABLE = Kind("NAME", _text)
FLAG = Kind("true|false", _flag, _write_flag)
NUMBER = Kind("N", _count(1))
COUNT = Kind("N", _count(0))
SIZE = Kind("BYTES", _size)
DURATION = Kind("DURATION", _positive_duration, write_duration)
PORT = Kind("PORT", _count(1, 65535))
