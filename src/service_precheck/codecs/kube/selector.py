"""Whether a label selector is one that the API server understands, before it is asked.

Kubernetes documentation, "Labels and Selectors"; the grammar is that of `labels.Parse`
(k8s.io/apimachinery): `KEY`, `!KEY`, `KEY=VALUE` (`==`, `!=`, `>`, `<`), `KEY in (A,B)`, `notin`, with
commas between. What it refuses is answered with 400, and would be waited for in vain.
"""

from __future__ import annotations

from ...kinds import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKS = "(),!=<>"
_INNER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_OUTER = _INNER - frozenset("-_.")
_LONGEST = 63


def read_selector(written: str) -> str:
    """Labels, as given. Raises Wrong."""
    try:
        _Reader(list(_tokens(written))).read()
    except ValueError as error:
        raise Wrong(f"{written!r} is no selector as app=web,tier!=db: {error}") from error
    return written


def _tokens(text: str) -> Iterator[str]:
    """Words and marks; the last is empty."""
    word = ""
    at = 0
    while at < len(text):
        here = text[at]
        at += 1
        if here not in _MARKS and here != " ":
            word += here
            continue
        if word:
            yield word
            word = ""
        if here in "!=" and text[at : at + 1] == "=":
            here += "="
            at += 1
        if here != " ":
            yield here
    if word:
        yield word
    yield ""


class _Reader:
    """Goes through the tokens, one after another. Raises ValueError."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def _next(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        token = self._next
        # What is behind the end is the end.
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def read(self) -> None:
        """All requirements, with commas between."""
        while True:
            self._requirement()
            mark = self._take()
            if not mark:
                return
            if mark != ",":
                raise ValueError(f"a comma is missing before {mark!r}")

    def _requirement(self) -> None:
        denied = self._next == "!"
        if denied:
            self._take()
        key = self._take()
        if not key:
            raise ValueError("a label is missing")
        if key[0] in _MARKS:
            raise ValueError(f"{key!r} stands where a label is named")
        _check_key(key)
        if denied or self._next in ("", ","):
            return
        how = self._take()
        if how in ("in", "notin"):
            self._values(how)
        elif how in ("=", "==", "!=", ">", "<"):
            value = "" if self._next in ("", ",") else self._take()
            _check_value(value)
            if how in "<>" and not value.isdecimal():
                raise ValueError(f"{value!r} behind {how} is no number")
        else:
            raise ValueError(f"{how!r} stands behind {key}, instead of =, !=, in or notin")

    def _values(self, how: str) -> None:
        if self._take() != "(":
            raise ValueError(f"no ( follows {how}")
        while True:
            if self._next not in ("", ",", ")"):
                _check_value(self._take())
            mark = self._take()
            if mark == ")":
                return
            if not mark:
                raise ValueError("a ( is not closed; within a group , is written %2C and ) %29")
            if mark != ",":
                raise ValueError(f"a comma is missing before {mark!r}")


def _check_key(key: str) -> None:
    """A label's key: a name, with a domain and a slash before it or not."""
    domain, slash, name = key.rpartition("/")
    labels = domain.split(".")
    if slash and not all(
        label and label.strip("-") == label == label.lower() and set(label) <= _INNER - {"_"}
        for label in labels
    ):
        raise ValueError(f"{domain!r} before / is no domain")
    if not name:
        raise ValueError(f"{key!r} names no label")
    _check_value(name)


def _check_value(value: str) -> None:
    outer = {value[:1], value[-1:]} <= {"", *_OUTER}
    if not outer or not set(value) <= _INNER or len(value) > _LONGEST:
        letters = f"letters and digits, with -_. between them, {_LONGEST} at most"
        raise ValueError(f"{value!r} is no label or value: {letters}")
