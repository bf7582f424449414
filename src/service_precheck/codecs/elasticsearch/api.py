"""The REST API of Elasticsearch and OpenSearch: a question, and its answer in JSON.

Elasticsearch Guide, "REST APIs"; OpenSearch documentation, "REST API reference". An answer is at most
64 KiB, that about a cluster's state 1 MiB.
"""

from __future__ import annotations

from ...errors import blocked
from .. import http1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target
    from ...stream import Stream
    from ..http1 import Place

MOST, MOST_STATE = 65_536, 1 << 20
# Shards and nodes are counted in 32 bits, with a sign.
MOST_COUNTED = 1 << 31
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~*")
Json = dict[str, object]


def login(target: Target) -> tuple[tuple[str, str], ...]:
    """The header to log in with, none without a login; secrets are read anew. Raises NotReady (`local`)."""
    value = ""
    if user := target.text("user") or target.user:
        from .. import credentials

        value = credentials.basic(user, credentials.password(target))
    for option, scheme in (("token-file", "Bearer"), ("api-key-file", "ApiKey")):
        if path := target.text(option):
            from .. import credentials

            value = f"{scheme} {credentials.from_file(path)}"
    if not value:
        return ()
    if fault := http1.check_header("Authorization", value):
        raise blocked("local", f"{fault}, and cannot be sent")
    return (("Authorization", value),)


def quoted(name: str) -> str:
    """A name of an index as a part of a path; a `*` in it stays."""
    raw = name.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)


def greet(connection: Stream, place: Place) -> None:
    """Return when HTTP is spoken there, whatever is answered; nobody has to log in for this question."""
    _send(connection, place, "OPTIONS", "/_cluster/health", ())
    head = http1.read_head(connection, "OPTIONS")
    for _ in http1.body(connection, head):
        pass


def ask(connection: Stream, place: Place, path: str, extra: tuple[tuple[str, str], ...]) -> Json:
    """The answer to GET `path` below `place`. Raises what its status and its words mean."""
    _send(connection, place, "GET", path, extra)
    head = http1.read_head(connection, "GET")
    about_state = path.startswith("/_cluster/state")
    most = MOST_STATE if about_state else MOST
    raw = bytearray()
    for piece in http1.body(connection, head):
        raw += piece
        if len(raw) > most:
            said = f"{connection.peer} answers {path.partition('?')[0]} with more than {most >> 10} KiB"
            if about_state:
                raise blocked("unsupported", said, "a narrower pattern, or fewer indexes, say less")
            raise blocked("protocol", said)
    answer = _parsed(bytes(raw))
    # A health that was not reached in the time it was given is a health.
    if answer is not None and (head.status == 200 or (head.status == 408 and "status" in answer)):
        return answer
    from . import fault as elasticsearch_fault

    asked = f"{connection.peer} answers {head} to {path.partition('?')[0]}"
    raise elasticsearch_fault.explain(head, answer, bytes(raw), asked, bool(extra))


def _send(
    connection: Stream, place: Place, method: str, path: str, extra: tuple[tuple[str, str], ...]
) -> None:
    headers = [
        ("Host", place.authority),
        ("User-Agent", "service-precheck"),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    connection.write(http1.request(method, place.path.rstrip("/") + path, (*headers, *extra)))


def _parsed(raw: bytes) -> Json | None:
    """The object that a text holds, None where it holds something else."""
    from .. import json_path

    try:
        value = json_path.parse(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def objects(value: object, *names: str) -> Json:
    """The object below `names`, empty where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def count(answer: Json, name: str, peer: str) -> int:
    """A number of an answer, 0 where there is none. Raises `protocol` where it counts nothing."""
    value = answer.get(name, 0)
    if isinstance(value, int) and 0 <= value < MOST_COUNTED:
        return value
    raise blocked("protocol", f"{peer} tells no number for {name}: no Elasticsearch?")


def text(answer: Json, name: str) -> str:
    """A text of an answer, empty where there is none."""
    value = answer.get(name)
    return value if isinstance(value, str) else ""
