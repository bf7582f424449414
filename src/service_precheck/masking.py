"""What may be shown of a target's text that did not parse: everything in it that could be a secret is masked.

Rather too much than too little. Loaded on the way to exit 2 only.
"""

from __future__ import annotations

from .options import masked_query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_IN_ADDRESSES = frozenset("0123456789abcdefABCDEF:.[]")
# Where the grammar takes a target apart.
_CUTS = frozenset("/?:@#,() ")
_MOST_CUTS = 24


def mask(text: str, harmless: Collection[str]) -> str:
    """`text` without what stands between the first colon and the last `@`, and without the value of
    every option and every parameter of a query (`?NAME`) that is not known to be `harmless`."""
    at = text.rfind("@")
    if at >= 0:
        start = _first_colon(text, at)
        text = f"{text[:start]}***{text[at:]}"
    front, *options = text.split("#")
    shown = [_mask_front(front, harmless)]
    for option in options:
        name, equals, value = option.partition("=")
        if name in harmless:
            # In a group the next member follows.
            end = min((i for i in (value.find(","), value.find(")")) if i >= 0), default=len(value))
            shown.append(f"{name}{equals}{value[:end]}{_mask_front(value[end:], harmless)}")
        elif equals:
            # What is no word may be the rest of a value that held a `#`.
            word = name.replace("-", "")
            shown.append(f"{name}=***" if word.isascii() and word.isalpha() else "***")
        else:
            shown.append("***")
    return "#".join(shown)


def _first_colon(text: str, at: int) -> int:
    """Where a password could begin: after the first colon that is not `://`'s, or after that."""
    start = 0
    while 0 <= (colon := text.find(":", start)) < at:
        if not text.startswith("://", colon):
            return colon + 1
        start = colon + 3
    return start


def _mask_front(text: str, harmless: Collection[str]) -> str:
    path, mark, query = text.partition("?")
    colon = path.find(":", _first_colon(path, len(path)) - 1)
    if colon >= 0:
        # A port, or a password whose @ was forgotten.
        end = next((i for i, c in enumerate(path) if i > colon and c in "/,) "), len(path))
        if end - colon > 6 and not set(path[colon + 1 : end]) <= _IN_ADDRESSES:
            path = f"{path[: colon + 1]}***{path[end:]}"
    known = [name[1:] for name in harmless if name.startswith("?")]
    return f"{path}{mark}{masked_query(query, known)}"


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


def hide(said: str, text: str, harmless: Collection[str]) -> str:
    """What is `said` of a target's `text`, without what `mask` takes from it: neither whole nor as words."""
    shown = mask(text, harmless)
    parts = {part for run in _taken(text, shown) for part in _parts(run)}
    for part in sorted(parts, key=len, reverse=True):
        said = said.replace(part, "***")
    for word in sorted(_words(text) - _words(shown), key=len, reverse=True):
        said = said.replace(word, "***")
    return said


def nearest(name: str, known: tuple[str, ...], form: str) -> str:
    """The known name that is most like `name`, in `form`; all of them where none is."""
    from difflib import get_close_matches

    near = get_close_matches(name[:80].lower(), known, 1, 0.6)
    if near:
        return f"did you mean {form.format(near[0])}?"
    return f"known are: {', '.join(known)}"
