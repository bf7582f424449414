"""What a page must hold: literal text, and values in its JSON. At most 64 KiB of it are kept."""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import printable
from .. import http1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...stream import Stream
    from ..http1 import Response

MOST = 65_536


def check(
    stream: Stream, head: Response, words: str, texts: tuple[str, ...], values: tuple[str, ...]
) -> str:
    """What was found, for people. Raises `unexpected-body` and what reading raises.

    Without `values` reading ends as soon as all of `texts` were found: a page may be without end.
    """
    missing = {text: text.encode() for text in texts}
    page = bytearray()
    whole = True
    for piece in http1.body(stream, head):
        before = len(page)
        page += piece
        for text, raw in tuple(missing.items()):
            if page.find(raw, max(0, before - len(raw) + 1), MOST) >= 0:
                del missing[text]
        if len(page) >= MOST or not (missing or values):
            whole = False
            break
    del page[MOST:]
    if missing:
        text = next(iter(missing))
        where = f"its {len(page)} bytes" if whole else f"the first {len(page)} bytes"
        raise _unexpected(
            head, page, f"{words} answers {head.status}, without '{printable(text, 80)}' in {where}"
        )
    found = [f"with '{printable(text, 80)}'" for text in texts]
    if values:
        found.append(_compare(head, bytes(page), whole, words, values))
    return ", ".join(found)


def _compare(head: Response, page: bytes, whole: bool, words: str, values: tuple[str, ...]) -> str:
    from .. import json_path

    said = f"{words} answers {head.status}"
    if not whole:
        raise blocked(
            "unexpected-body", f"{said} with more than {MOST >> 10} KiB, too much for JSON"
        )
    try:
        top = json_path.parse(page)
    except ValueError as error:
        raise _unexpected(head, page, f"{said}, not with JSON") from error
    found = []
    for each in values:
        path, _, wanted = each.partition(":")
        try:
            value = json_path.shown(json_path.look(top, path))
        except LookupError as error:
            raise _unexpected(head, page, f"{said}, without {path}") from error
        if value != wanted:
            raise blocked(
                "unexpected-body",
                f"{said}, but {path} is {printable(value, 80)}, {wanted} is expected",
            )
        found.append(f"{path} is {printable(value, 80)}")
    return ", ".join(found)


def _unexpected(head: Response, page: bytes | bytearray, said: str) -> NotReady:
    """The exception for a page that lacks something, with how it begins."""
    coding = head.header("content-encoding").lower()
    if coding not in ("", "identity"):
        hint = (
            f"the page is compressed ({coding}) though that was not asked for, and taken as it is"
        )
        return blocked("unexpected-body", said, hint)
    start = bytes(page[:120]).decode("utf-8", "replace").strip()
    begins = f"; it begins with '{printable(start, 60)}'" if start else "; it is empty"
    return blocked("unexpected-body", f"{said}{begins}")
