"""What may be shown of a target's text that did not parse: everything in it that could be a secret is masked.

Rather too much than too little. Loaded on the way to exit 2 only.
"""

from __future__ import annotations

from .errors import Mistake
from .model import redacted
from .options import masked_query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    # What was given, what is wrong with it, what would be right, and the names whose values may be shown.
    Said = tuple[str, str, str, frozenset[str]]

_IN_ADDRESSES = frozenset("0123456789abcdefABCDEF:.[]")
# With more options than that none is looked at for a slip: it takes time.
_MOST_NEAR = 30
# Flags that many schemes have, and people look for in the others.
_FLAGS = ("tls", "ssl", "insecure")
# What Java puts before a scheme of ours.
_JDBC = ("jdbc:mysql://", "jdbc:mariadb://", "jdbc:postgresql://")
# Where the grammar takes a target apart.
_CUTS = frozenset("/?:@#,() ")
_MOST_CUTS = 24
# Stands for a secret where a text is read without its own. Too short to be taken for one.
_STAND_IN = "xx"


def mask(text: str, harmless: Collection[str]) -> str:
    """`text` without what stands between the first colon and the last `@`, and without the value of
    every option and every parameter of a query (`?NAME`) that is not known to be `harmless`; of a value
    that has a name before its colon (`NAME:`) that name stays."""
    at = text.rfind("@")
    if at >= 0:
        colon = _colon(text)
        slashes = text.rfind("://", 0, at)
        start = colon + 1 if 0 <= colon < at else slashes + 3 if slashes >= 0 else 0
        text = f"{text[:start]}***{text[at:]}"
    front, *options = text.split("#")
    shown = [_mask_front(front, harmless)]
    for option in options:
        # In a group the next member follows.
        end = min((i for i in (option.find(","), option.find(")")) if i >= 0), default=len(option))
        name, equals, _ = option.partition("=")
        if name in harmless or (end < len(name) and option[:end] in harmless):
            shown.append(f"{option[:end]}{_mask_front(option[end:], harmless)}")
        elif equals:
            # What is no word may be the rest of a value that held a `#`.
            word = name.replace("-", "")
            kept = _named(option) if f"{name}:" in harmless else f"{name}="
            shown.append(f"{kept}***" if word.isascii() and word.isalpha() else "***")
        elif len(options) < _MOST_NEAR and is_near(option[:end], harmless):
            shown.append(f"{option[:end]}{_mask_front(option[end:], harmless)}")
        else:
            shown.append("***")
    return "#".join(shown)


def is_near(name: str, harmless: Collection[str]) -> bool:
    """Whether a word is all but the name of an option, so that it is no secret but a slip."""
    if name in _FLAGS:
        return True
    if not 2 < len(name) < 40:
        return False
    from difflib import get_close_matches

    known = [one for one in harmless if not one.startswith("?")]
    return any(name in one for one in known) or bool(get_close_matches(name, known, 1, 0.8))


def _named(option: str) -> str:
    """What may be shown of `header=NAME: VALUE`: all before the value, if the name is one."""
    name, equals, value = option.partition("=")
    word, colon, _ = value.partition(":")
    known = (
        colon and len(word) < 40 and all(c.isascii() and (c.isalnum() or c in "-_.") for c in word)
    )
    return f"{name}={word}:" if known else f"{name}{equals}"


def _colon(text: str, start: int = 0) -> int:
    """The next colon that belongs to no scheme, -1 without one."""
    while (colon := text.find(":", start)) >= 0 and _is_of_scheme(text, colon):
        start = colon + 1
    return colon


def _is_of_scheme(text: str, colon: int) -> bool:
    return text.startswith("://", colon) or (colon > 3 and text.startswith(_JDBC, colon - 4))


def _mask_front(text: str, harmless: Collection[str]) -> str:
    path, mark, query = text.partition("?")
    # What stands before an @ is masked already.
    start = path.rfind("@") + 1
    pieces = [path[:start]]
    while (colon := _colon(path, start)) >= 0:
        # A port, or a password whose @ was forgotten.
        end = next((i for i in range(colon, len(path)) if path[i] in "/,) "), len(path))
        secret = end - colon > 6 and not set(path[colon + 1 : end]) <= _IN_ADDRESSES
        pieces += [path[start : colon + 1], "***" if secret else path[colon + 1 : end]]
        start = end
    pieces.append(path[start:])
    known = [name[1:] for name in harmless if name.startswith("?")]
    return f"{''.join(pieces)}{mark}{masked_query(query, known)}"


def _words(text: str) -> set[str]:
    spaced = "".join(c if c.isalnum() else " " for c in text)
    return {word for word in spaced.split() if len(word) > 2}


def _taken(text: str, shown: str) -> list[str]:
    """The runs of `text` that stand as `***` in what is `shown` of it."""
    first, *pieces = shown.split("***")
    runs = []
    at = len(first)
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces)
        end = len(text) - len(piece) if last else text.find(piece, at) if piece else at
        runs.append(text[at : end if end >= at else len(text)])
        at = max(end, at) + len(piece)
    return runs


def _parts(run: str) -> set[str]:
    """The whole of a secret, and what is left of it where the grammar cuts: a message shows either."""
    cuts = [-1, *[i for i, c in enumerate(run) if c in _CUTS][:_MOST_CUTS], len(run)]
    parts = {run[cuts[i] + 1 : end] for i in range(len(cuts)) for end in cuts[i + 1 :]}
    return {form for part in parts if len(part) > 2 for form in (part, repr(part)[1:-1])}


class _View:
    """A target's text as it may be shown, and what of it may not."""

    __slots__ = ("_innocent", "_of_others", "_open", "_parts", "_shown")

    def __init__(
        self, text: str, harmless: Collection[str], read: Callable[[str], Iterable[Said]]
    ) -> None:
        self._shown = mask(text, harmless)
        runs = _taken(text, self._shown)
        parts = {part for run in runs for part in _parts(run)}
        words = _words(text) - _words(self._shown)
        self._parts = [*_longest_first(parts), *_longest_first(words)]
        # Secrets that stand in the open as well, such as a password that is the user's name; and whether one
        # of another target does.
        self._open = [run for run in runs if len(run) > 2 and run in self._shown]
        self._of_others = redacted(self._shown) != self._shown
        # What is said of the text without its secrets too has none of them in it.
        stripped = self._shown.replace("***", _STAND_IN)
        self._innocent = {sentence for said in read(stripped) for sentence in said[1:3]}

    def given(self, shown: str) -> str:
        """A masked part of the text."""
        if shown not in self._shown:
            return self._hidden(shown)
        for secret in self._open:
            shown = shown.replace(secret, "***")
        return redacted(shown)

    def sentence(self, said: str) -> str:
        """What is said of the text."""
        if said not in self._innocent or self._open:
            return self._hidden(said)
        return redacted(said) if self._of_others else said

    def _hidden(self, said: str) -> str:
        for part in self._parts:
            said = said.replace(part, "***")
        return redacted(said)


def _longest_first(texts: set[str]) -> list[str]:
    return sorted(texts, key=len, reverse=True)


def told(
    text: str, mistakes: Iterable[Said], read: Callable[[str], Iterable[Said]]
) -> Iterator[Mistake]:
    """The `mistakes` in a target's `text` without what `mask` takes from it, neither whole nor as words;
    `read` finds the mistakes of any text."""
    views: dict[frozenset[str], _View] = {}
    for given, wrong, right, harmless in mistakes:
        if harmless not in views:
            views[harmless] = _View(text, harmless, read)
        view = views[harmless]
        shown = view.given(mask(given, harmless))
        yield Mistake(shown, view.sentence(wrong), view.sentence(right), masked=True)


def nearest(name: str, known: tuple[str, ...], form: str) -> str:
    """The known name that is most like `name`, in `form`; all of them where none is."""
    from difflib import get_close_matches

    near = get_close_matches(name[:80].lower(), known, 1, 0.6)
    if near:
        return f"did you mean {form.format(near[0])}?"
    return f"known are: {', '.join(known)}"
