"""The text of a kubeconfig file as values of JSON, whether it is JSON or YAML.

YAML's events are read one by one, and a plain word is nothing, a truth, a whole number or else a text: a
kubeconfig has no more, and what else YAML makes of words (dates, sums of minutes) only breaks. PyYAML,
which comes with `service-precheck[kubeconfig]`, parses; its libyaml is twenty times as fast where it is
there. JSON, which is YAML too, needs nothing.
"""

from __future__ import annotations

from ...errors import blocked
from .. import json_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_NOTHING = ("", "~", "null", "Null", "NULL")
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def read(text: str, path: str) -> object:
    """The value that a file's text stands for, None where there is none. Raises NotReady (`local`)."""
    try:
        return json_path.parse(text.encode())
    except ValueError:
        pass
    try:
        import yaml
    except ImportError as error:
        hint = "pip install 'service-precheck[kubeconfig]', or kubectl config view --raw -o json"
        raise blocked(
            "local", f"{path} is YAML, and PyYAML is not here to read it", hint
        ) from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Document(yaml.parse(text, loader)).value()
    except (yaml.YAMLError, RecursionError) as error:
        raise blocked("local", f"{path} is no YAML") from error


class _Document:
    """The first document of a stream of PyYAML's events."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, object] = {}

    def value(self) -> object:
        """What it stands for, read to its end: None where there is none."""
        values = [
            self._value(next(self._events))
            for event in self._events
            if _kind(event) == "DocumentStartEvent"
        ]
        return values[0] if values else None

    def _value(self, event: Any) -> object:  # noqa: ANN401 a class of PyYAML, which may not be here
        kind = _kind(event)
        if kind == "AliasEvent":
            return self._anchors.get(event.anchor)
        made: object
        if kind == "SequenceStartEvent":
            made = [self._value(one) for one in self._until("SequenceEndEvent")]
        elif kind == "MappingStartEvent":
            made = self._mapping()
        else:
            made = _plain(event.value) if event.implicit[0] else event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = made
        return made

    def _mapping(self) -> dict[str, object]:
        made: dict[str, object] = {}
        for event in self._until("MappingEndEvent"):
            key, value = self._value(event), self._value(next(self._events))
            if key == "<<":
                for one in value if isinstance(value, list) else [value]:
                    made = {**one, **made} if isinstance(one, dict) else made
            else:
                made[str(key)] = value
        return made

    def _until(self, end: str) -> Iterator[Any]:
        while _kind(event := next(self._events)) != end:
            yield event


def _kind(event: object) -> str:
    return type(event).__name__


def _plain(word: str) -> object:
    """What a word without quotes stands for."""
    if word in _NOTHING:
        return None
    if word.lower() in _TRUTHS and word in (word.lower(), word.upper(), word.capitalize()):
        return _TRUTHS[word.lower()]
    digits = word.removeprefix("-")
    # As JSON has them, so that none of it is lost.
    if digits.isascii() and digits.isdecimal() and len(digits) < 19 and str(int(word)) == word:
        return int(word)
    return word
