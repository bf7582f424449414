"""The API server's HTTP: a list, a watch, and what its errors mean.

Kubernetes documentation, "Kubernetes API Concepts". A list is read in pages of 50 objects; a watch
goes on from the version that the list had, and where the server ends one, from the last version that
it told (bookmarks included). A page of a list or an event is at most 4 MiB.
"""

from __future__ import annotations

from ... import net, stream
from ...errors import NotReady, blocked
from ...model import printable
from .. import http1, json_path
from .kinds import encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ...stream import Attempt, Stream
    from ..http1 import Response
    from .access import Access
    from .kinds import Question

Json = dict[str, object]

MOST = 4 << 20
# etcd takes no object above 1.5 MiB; fifty of the usual ones have far less together.
PAGE = 50
MOST_PAGES = 200
# A watch is asked for so many seconds, as client-go does; twice as many at most, drawn.
WATCH = 300
# A server that says nothing for so long after that is gone.
LATE = 30.0


class Gone(Exception):
    """The version that was to be gone on from is too old (410): list again."""


class Talk:
    """Requests to one API server, on one connection as long as that stands. Use it in a `with` block."""

    __slots__ = ("_access", "_attempt", "_stream", "_token")

    def __init__(self, access: Access, attempt: Attempt) -> None:
        self._access = access
        self._attempt = attempt
        self._stream: Stream | None = None
        self._token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def get(self, path: str) -> Json:
        """The object at a path. Raises what the answer's status means."""
        head = self._ask(path, "application/json")
        return self._object(head)

    def pages(self, question: Question) -> Iterator[tuple[str, list[Json]]]:
        """The list that a question asks for, as (version, objects of a page). Raises Gone, NotReady."""
        path = f"{question.path()}&limit={PAGE}"
        more = ""
        for _ in range(MOST_PAGES):
            accept = _accepted(question, "PartialObjectMetadataList")
            head = self._ask(path + (more and f"&continue={encoded(more)}"), accept)
            page = self._object(head)
            items = page.get("items")
            listed = items if isinstance(items, list) else []
            yield (
                text(page, "metadata", "resourceVersion"),
                [o for o in listed if isinstance(o, dict)],
            )
            more = text(page, "metadata", "continue")
            if not more:
                return
        raise blocked("protocol", f"{self._peer} has more than {MOST_PAGES * PAGE} objects to list")

    def watch(self, question: Question, version: str) -> Iterator[Json]:
        """The events after a version, until the server ends the watch. Raises Gone, NotReady."""
        span = WATCH + int.from_bytes(net.os.urandom(2), "big") % WATCH
        path = (
            f"{question.path()}&watch=true&allowWatchBookmarks=true&timeoutSeconds={span}"
            f"&resourceVersion={encoded(version)}"
        )
        head = self._ask(path, _accepted(question, "PartialObjectMetadata"))
        assert self._stream is not None
        self._stream.keep_alive()
        self._stream.deadline = net.monotonic() + span + LATE
        rest = bytearray()
        for piece in http1.body(self._stream, head):
            rest += piece
            if b"\n" in piece:
                *lines, left = bytes(rest).split(b"\n")
                rest = bytearray(left)
                yield from map(self._event, filter(bytes.strip, lines))
            if len(rest) > MOST:
                raise blocked(
                    "protocol", f"{self._peer} sent an event of more than {MOST >> 20} MiB"
                )

    @property
    def _peer(self) -> str:
        return "the API server" if self._stream is None else self._stream.peer

    def _event(self, raw: bytes) -> Json:
        event = self._parsed(raw)
        if event.get("type") == "ERROR":
            status = part(event, "object")
            if status.get("code") == 410:
                raise Gone
            raise self._refused(f"{status.get('code')}", status, None)
        return event

    def _parsed(self, raw: bytes) -> Json:
        try:
            value = json_path.parse(raw)
        except ValueError as error:
            begins = printable(raw[:120].decode("utf-8", "replace").strip(), 60)
            raise blocked("protocol", f"{self._peer} sent '{begins}', which is no JSON") from error
        if not isinstance(value, dict):
            raise blocked("protocol", f"{self._peer} sent JSON that is no object")
        return value

    def _object(self, head: Response) -> Json:
        assert self._stream is not None
        raw = bytearray()
        for piece in http1.body(self._stream, head):
            raw += piece
            if len(raw) > MOST:
                raise blocked("protocol", f"{self._peer} answers with more than {MOST >> 20} MiB")
        value = self._parsed(bytes(raw))
        if "close" in head.header("connection").lower():
            self._hang_up()
        return value

    def _ask(self, path: str, accept: str) -> Response:
        """The head of a good answer. A token that is refused is tried once more where it is another by now."""
        self._token = self._access.token(None)
        while True:
            head = self._send(path, accept)
            if head.status == 200:
                return head
            if head.status == 401:
                sent, self._token = self._token, self._access.token(self._token)
                if self._token != sent:
                    self._hang_up()
                    continue
            if head.status == 410:
                raise Gone
            raise self._fault(head, path)

    def _send(self, path: str, accept: str) -> Response:
        access, token = self._access, self._token
        if self._stream is None:
            self._stream = self._connected()
        secure = access.settings is not None
        place = http1.Place("https" if secure else "http", access.host, access.port, path)
        headers = [
            ("Host", place.authority),
            ("User-Agent", "service-precheck"),
            ("Accept", accept),
            ("Accept-Encoding", "identity"),
        ]
        if token:
            if fault := http1.check_header("Authorization", token):
                raise blocked("local", f"{fault}: the token cannot be sent")
            headers.append(("Authorization", f"Bearer {token}"))
        self._stream.write(http1.request("GET", access.path + path, headers))
        return http1.read_head(self._stream, "GET")

    def _connected(self) -> Stream:
        access = self._access
        connection = stream.connect(access.host, access.port, self._attempt)
        try:
            if access.settings is not None:
                connection.upgrade(access.settings, access.host)
        except BaseException:
            connection.close()
            raise
        return connection

    def _fault(self, head: Response, path: str) -> NotReady:
        """What a status that is not 200 means, with the server's own words."""
        peer = self._peer
        assert self._stream is not None
        raw = b""
        try:
            for piece in http1.body(self._stream, head):
                raw += piece
                if len(raw) > 65_536:
                    break
            said = json_path.parse(raw)
        except (NotReady, ValueError):
            said = raw[:200].decode("utf-8", "replace").strip()
        status = said if isinstance(said, dict) else {"message": said}
        if head.status == 404:
            asked = f"{self._access.path}{path}".partition("?")[0]
            words = printable(text(status, "message"), 300)
            seen = f"{peer} answers {head} to {asked}{words and f': {words}'}"
            return blocked("missing-object", seen)
        return self._refused(str(head), status, head)

    def _refused(self, status: str, said: Json, head: Response | None) -> NotReady:
        """The exception for a Status object of the API server, or an answer that has none."""
        code = status.partition(" ")[0]
        words = printable(text(said, "message"), 300)
        seen = f"{self._peer} answers {status}{words and f': {words}'}"
        again = None if head is None else head.retry_after()
        seconds = number(said, "details", "retryAfterSeconds")
        if again is None and seconds:
            again = float(seconds)
        again = None if again is None else min(again, 300.0)
        if code == "401":
            settings = self._access.settings
            shown = self._token or (settings is not None and settings.cert)
            return blocked("auth-refused" if shown else "auth-required", seen)
        if code == "403":
            return blocked("forbidden", seen, again=5.0)
        if code == "429":
            return blocked("overloaded", seen, again=1.0 if again is None else again)
        if code in ("500", "503", "504"):
            return blocked("not-ready", seen, again=again)
        return blocked("unexpected-status", seen)


def _accepted(question: Question, form: str) -> str:
    """What to accept: a form of the objects without all but their metadata, where that is enough."""
    short = f"application/json;as={form};g=meta.k8s.io;v=v1," if question.metadata else ""
    return f"{short}application/json"


def part(value: object, *names: str) -> Json:
    """The object below `names`, empty where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def text(value: object, *names: str) -> str:
    """The text below `names`, empty where there is none."""
    found = part(value, *names[:-1]).get(names[-1])
    return found if isinstance(found, str) else ""


def number(value: object, *names: str, default: int = 0) -> int:
    """The whole number below `names`."""
    found = part(value, *names[:-1]).get(names[-1])
    return found if isinstance(found, int) else default


def objects(value: object, *names: str) -> list[Json]:
    """The objects of the list below `names`."""
    found = part(value, *names[:-1]).get(names[-1])
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
