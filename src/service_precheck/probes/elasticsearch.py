"""Elasticsearch and OpenSearch: does the cluster have a master and its shards, is an index there.

Elasticsearch Guide, "Cluster health" and "Cluster state"; OpenSearch documentation, the same. HTTP/1.1
as in RFC 9112. Sends `GET /_cluster/health`, which the elected master answers; for each index, and for
`writable`, `GET /_cluster/state` before it, narrowed to that index and answered by the node itself.
Each on a connection of its own. Costs the cluster a look at what the master keeps in memory anyway; no
shard is asked.

In plain text a login goes only to who has answered an `OPTIONS` in HTTP: a port that wants TLS may write
what it was sent into its log, the password with it.

`GET /` is left out: it answers 200 while the shards are not there, and knows nothing that health does
not. Health never waits for a status, and a second at most for a master.
"""

from __future__ import annotations

from .. import stream
from ..access import (
    LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    TLS,
    TLS_OPTIONS,
    check_login,
    check_tls_choice,
    tls_settings,
    try_tls_files,
    wants_tls,
)
from ..codecs.elasticsearch.api import ask, greet, login, quoted
from ..codecs.elasticsearch.health import judged, unblocked
from ..codecs.http1 import Place
from ..errors import NotReady
from ..model import Verdict, ready
from ..options import FLAG, NUMBER, PATH, TEXT, Option, Scheme, Target, choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ..codecs.elasticsearch.api import Json
    from ..stream import Attempt, Stream

    Answer = TypeVar("Answer")

_FIELDS = "blocks.global,metadata.indices.*.state,metadata.indices.*.settings.index.blocks"
_OPTIONS = (
    *LOGIN_OPTIONS,
    Option("api-key-file", PATH, "a file with an API key to log in with, encoded (ApiKey)"),
    Option("token-file", PATH, "a file with a token to log in with (Bearer)"),
    ON_AUTH_REFUSED,
    Option(
        "status",
        choice("yellow", "green"),
        "yellow: every primary shard is there; green: every replica too",
        "yellow",
    ),
    Option("nodes", NUMBER, "how many nodes the cluster must have"),
    Option("index", TEXT, "an index, an alias or a pattern; the status is then its own", many=True),
    Option(
        "writable",
        FLAG,
        "no block of the cluster may keep writes out, nor of each `index`: without one no index is looked at",
        False,
    ),
    TLS,
    *TLS_OPTIONS,
)


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when master, nodes, shards and indexes are there as the options want them."""
    try_tls_files(target)
    extra = login(target)
    names = target.texts("index")
    told = []
    if extra and not wants_tls(target):
        _conversation(target, attempt, greet)
    for name in names or ("",) * target.flag("writable"):
        peer, state = _asked(target, attempt, _state(name), extra)
        told.append(unblocked(target, state, name, peer))
    peer, health = _asked(target, attempt, _health(names), extra)
    return ready(", ".join(filter(None, (judged(target, health, peer), *told))))


def _asked(
    target: Target, attempt: Attempt, path: str, extra: tuple[tuple[str, str], ...]
) -> tuple[str, Json]:
    """Who answers a question, and what."""
    return _conversation(
        target,
        attempt,
        lambda connection, place: (connection.peer, ask(connection, place, path, extra)),
    )


def _conversation(
    target: Target, attempt: Attempt, hold: Callable[[Stream, Place], Answer]
) -> Answer:
    """What comes of a conversation on a connection of its own."""
    assert target.port is not None
    secure = wants_tls(target)
    place = Place("https" if secure else "http", target.host, target.port, target.path)
    with stream.connect(target.host, target.port, attempt) as connection:
        try:
            if secure:
                connection.upgrade(tls_settings(target, "http/1.1"), target.host)
            return hold(connection, place)
        except NotReady as error:
            raise _hinted(error, secure) from error


def _state(name: str) -> str:
    if not name:
        return "/_cluster/state/blocks?local=true&filter_path=blocks.global"
    return f"/_cluster/state/metadata,blocks/{quoted(name)}?local=true&filter_path={_FIELDS}"


def _health(names: tuple[str, ...]) -> str:
    named = ",".join(map(quoted, names))
    return f"/_cluster/health{named and f'/{named}'}?timeout=1s"


def _hinted(error: NotReady, secure: bool) -> NotReady:
    """An obstacle that the other of plain text and TLS may be the way around."""
    cause, seen = error.verdict.cause, error.verdict.seen
    if cause == "tls-plaintext":
        return NotReady(error.verdict.but(hint="without #tls it is asked in plain text"))
    if not secure and (cause == "closed-early" or (cause == "protocol" and "in TLS" in seen)):
        hint = "#tls asks in TLS, as Elasticsearch 8 and OpenSearch's Security want it by default"
        return NotReady(error.verdict.but(hint=hint))
    return error


def _check(target: Target) -> tuple[str, ...]:
    wrong = [*check_login(target), *check_tls_choice(target)]
    user = target.text("user") or target.user
    if ":" in user:
        wrong.append("a colon in the user's name, which Basic cannot carry")
    if bool(user) + bool(target.text("token-file")) + bool(target.text("api-key-file")) > 1:
        wrong.append("more than one login: a user, an API key or a token")
    if any("," in name for name in target.texts("index")):
        wrong.append("a comma in #index=; write #index= once for each")
    return tuple(wrong)


SCHEMES = (
    Scheme(
        "elasticsearch",
        "url",
        probe,
        proves="the cluster has a master, and as many of its shards as `status` asks for",
        not_proves="that a search or a write succeeds; with `writable`, more than that no "
        "block is set on the cluster and on each `index`",
        example="elasticsearch://search.logs#index=orders#status=green#nodes=3",
        cost="one request that no shard answers, another for each `index` or for `writable`, "
        "and one ahead of a login in plain text",
        logins=("Basic", "ApiKey", "Bearer", "client certificate"),
        causes=(
            "auth-refused",
            "auth-required",
            "forbidden",
            "missing-object",
            "no-leader",
            "not-ready",
            "overloaded",
            "read-only",
            "starting",
            "too-few",
            "unsupported",
        ),
        options=_OPTIONS,
        port=9200,
        floor=0.1,
        check=_check,
    ),
)
