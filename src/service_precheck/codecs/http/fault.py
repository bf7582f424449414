"""Why an answer of HTTP is not the expected one: its status and its first words as a cause.

Loaded when the first answer is not as it should be.
"""

from __future__ import annotations

from ... import net
from ...errors import NotReady, blocked
from ...model import printable
from .. import http1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...stream import Stream
    from ..http1 import Response

# How much of a page is read for its first line, and for how long.
MOST, PATIENCE = 2048, 0.25
LONGEST_LINE = 200
# A longer time to come back is not believed: it would hide that the service came up.
LONGEST_AGAIN = 300.0

# What nginx, Go, Apache and Tomcat answer when a plain request meets their TLS port.
_PLAIN_TO_TLS = (
    b"plain http request was sent to https port",
    b"http request to an https server",
    b"speaking plain http to an ssl-enabled server port",
    b"combination of host and port requires tls",
)


def explain(stream: Stream, head: Response, words: str, wanted: str, logged_in: bool) -> NotReady:
    """The exception for an unexpected status.

    401 is `auth-refused` if credentials were sent, else `auth-required`; 403 `forbidden`; 429
    `overloaded`; 503 `not-ready`: it is how a health page says so; all else `unexpected-status`.
    """
    start = _start(stream, head)
    line = _first_line(start)
    said = f"{words} answers {head}{line and f' ({line})'}"
    if head.status == 400 and any(mark in start.lower() for mark in _PLAIN_TO_TLS):
        return blocked("protocol", f"{stream.peer} speaks TLS: {said}", "https:// asks in TLS")
    if head.status == 401:
        if logged_in:
            return blocked("auth-refused", f"{said} to the credentials that were sent")
        scheme = head.header("www-authenticate").partition(" ")[0]
        asked = f", it asks for {scheme}" if scheme else ""
        hint = "#user= with #password-file= (Basic), or #token-file= (Bearer), logs in"
        return blocked("auth-required", f"{said}{asked}", hint)
    if head.status == 403:
        return blocked("forbidden", said)
    if head.status in (429, 503):
        wait = head.retry_after()
        again = None if wait is None else min(wait, LONGEST_AGAIN)
        cause = "overloaded" if head.status == 429 else "not-ready"
        return blocked(cause, f"{said}, {wanted} is expected", again=again)
    hint = ""
    if head.status == 404:
        hint = "is the path right?"
    elif head.status in (502, 504):
        hint = "a proxy answers, the service behind it does not"
    return blocked("unexpected-status", f"{said}, {wanted} is expected", hint)


def _start(stream: Stream, head: Response) -> bytes:
    """The beginning of the page, as far as it comes soon."""
    stream.deadline = min(stream.deadline, net.monotonic() + PATIENCE)
    start = b""
    try:
        for piece in http1.body(stream, head):
            start += piece
            if len(start) >= MOST:
                break
    except NotReady:
        pass
    return start[:MOST]


def _first_line(start: bytes) -> str:
    """The first line of a short text; nothing of a page for browsers."""
    text = start.decode("utf-8", "replace").strip()
    if not text or text.startswith("<") or "\ufffd" in text:
        return ""
    return printable(text.splitlines()[0], LONGEST_LINE)
