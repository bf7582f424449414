"""Why Elasticsearch or OpenSearch does not answer a question: its status and its exception as a cause.

Loaded when the first such answer arrives.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import printable
from .api import objects, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..http1 import Response
    from .api import Json

LONGEST = 200
# A longer time to come back is not believed: it would hide that the service came up.
LONGEST_AGAIN = 300.0
# Who asks without a login fails to log in, and OpenSearch may be told to block an address that often does.
WITHOUT_LOGIN_AGAIN = 30.0


def explain(
    head: Response, answer: Json | None, raw: bytes, said: str, logged_in: bool
) -> NotReady:
    """The exception for a status that is not 200, or an answer that is no JSON object."""
    kind, words = _words(answer, raw)
    said = f"{said}{words and f': {words}'}"
    if head.status == 401:
        if logged_in:
            # OpenSearch says so to an address it has blocked, and asks everybody else for a login.
            hint = "or too many logins failed, and this address is blocked for a while"
            return blocked("auth-refused", said, hint * ("finally failed" in words))
        hint = "#user= with #password-file=, #api-key-file= or #token-file= log in"
        return blocked("auth-required", said, hint, WITHOUT_LOGIN_AGAIN)
    if head.status == 403:
        hint = "the user needs the cluster privilege `monitor`"
        if words.startswith("security_exception: no permissions for"):
            hint = "a role of the user needs `cluster_monitor` among its cluster permissions"
        return blocked("forbidden", said, hint)
    wait = head.retry_after()
    again = None if wait is None else min(wait, LONGEST_AGAIN)
    if head.status == 429:
        return blocked("overloaded", said, again=again)
    if head.status in (502, 504):
        return blocked("not-ready", said, "a proxy answers, the service behind it does not", again)
    if head.status == 503 and "not_discovered" in kind:
        hint = "its nodes have not found each other, or too few of them can vote"
        return blocked("no-leader", said, hint)
    if head.status == 503 and "Security not initialized" in words:
        hint = "if it stays so, nobody gave it a configuration: its `securityadmin.sh` does"
        return blocked("starting", said, hint)
    if head.status == 503 and ("not recovered" in words or "not initialized" in words):
        return blocked("starting", said)
    if head.status >= 500:
        return blocked("not-ready", said, again=again)
    return blocked("protocol", f"{said}, which is not how Elasticsearch answers")


def _words(answer: Json | None, raw: bytes) -> tuple[str, str]:
    """The type of the exception, and it with its reason for people; a short text where it is no JSON."""
    error = objects(answer, "error")
    if error:
        kind, reason = text(error, "type"), text(error, "reason")
        return kind, printable(": ".join(filter(None, (kind, reason))), LONGEST)
    if answer is not None:
        return "", printable(text(answer, "error"), LONGEST)
    page = raw[: LONGEST * 4].decode("utf-8", "replace").strip()
    if not page or page.startswith("<") or "\ufffd" in page:
        return "", ""
    return "", printable(page.splitlines()[0], LONGEST)
