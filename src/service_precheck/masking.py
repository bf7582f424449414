"""What may be shown of a target's text that did not parse: everything in it that could be a secret is masked.

Rather too much than too little. Loaded on the way to exit 2 only.
"""

from __future__ import annotations

from .options import masked_query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_IN_ADDRESSES = frozenset("0123456789abcdefABCDEF:.[]")


def mask(text: str, harmless: Collection[str]) -> str:
    """`text` without what stands between the first colon and the last `@`, without the values of its
    queries, and without the value of every option that is not known to be `harmless`."""
    at = text.rfind("@")
    if at >= 0:
        start = _first_colon(text, at)
        text = f"{text[:start]}***{text[at:]}"
    front, *options = text.split("#")
    shown = [_mask_front(front)]
    for option in options:
        name, equals, value = option.partition("=")
        if name in harmless:
            # In a group the next member follows.
            end = min((i for i in (value.find(","), value.find(")")) if i >= 0), default=len(value))
            shown.append(f"{name}{equals}{value[:end]}{_mask_front(value[end:])}")
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


def _mask_front(text: str) -> str:
    path, mark, query = text.partition("?")
    colon = path.find(":", _first_colon(path, len(path)) - 1)
    if colon >= 0:
        # A port, or a password whose @ was forgotten.
        end = next((i for i, c in enumerate(path) if i > colon and c in "/,) "), len(path))
        if end - colon > 6 and not set(path[colon + 1 : end]) <= _IN_ADDRESSES:
            path = f"{path[: colon + 1]}***{path[end:]}"
    return f"{path}{mark}{masked_query(query)}"


def _words(text: str) -> set[str]:
    spaced = "".join(c if c.isalnum() else " " for c in text)
    return {word for word in spaced.split() if len(word) > 2}


def hide(said: str, text: str, harmless: Collection[str]) -> str:
    """What is `said` of a target's `text`, without the words that `mask` takes from it."""
    for word in sorted(_words(text) - _words(mask(text, harmless)), key=len, reverse=True):
        said = said.replace(word, "***")
    return said


def nearest(name: str, known: tuple[str, ...], form: str) -> str:
    """The known name that is most like `name`, in `form`; all of them where none is."""
    from difflib import get_close_matches

    near = get_close_matches(name[:80].lower(), known, 1, 0.5)
    if near:
        return f"did you mean {form.format(near[0])}?"
    return f"known are: {', '.join(known)}"
