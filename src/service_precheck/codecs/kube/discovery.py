"""Which resource a kind's name stands for, asked of the API server.

Kubernetes API Concepts, "API discovery": `GET /apis/GROUP` has the versions, `GET /apis/GROUP/VERSION` a
version's resources. As client-go does, the preferred version is looked into first, then the others in
the group's own order: it may serve a kind in one of those alone. Any user with a login may ask. What was
found is kept as long as the process lives; what is missing is asked for again every 10 s at most, whoever
asks.
"""

from __future__ import annotations

from ... import net
from ...errors import NotReady, blocked
from ...model import printable
from .api import objects, text
from .kinds import Kind, built_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .access import Access
    from .api import Json, Talk

AGAIN = 10.0

_found: dict[tuple[str, int, str], Kind] = {}
# When it was missing, and the verdict.
_missing: dict[tuple[str, int, str], tuple[float, NotReady]] = {}
_asking = net.Lock()


def kind_of(word: str, access: Access, talk: Talk) -> Kind:
    """The kind that a target's word names. Raises NotReady: `missing-object` where nobody serves it."""
    if known := built_in(word):
        return known
    key = (access.host, access.port, word)
    # One at a time: targets of one kind ask once together.
    with _asking:
        if key not in _found:
            since, missing = _missing.get(key, (0.0, None))
            left = since + AGAIN - net.monotonic()
            if missing is not None and left > 0:
                raise NotReady(missing.verdict.but(again=left))
            try:
                _found[key] = _discovered(word, talk)
            except NotReady as error:
                if error.verdict.cause == "missing-object":
                    _missing[key] = net.monotonic(), error
                raise
        return _found[key]


def forget(word: str, access: Access) -> None:
    """The kind is not served any more: its definition was deleted, or has another version now."""
    _found.pop((access.host, access.port, word), None)


def _discovered(word: str, talk: Talk) -> Kind:
    name, _, rest = word.partition(".")
    version, _, group = rest.partition(".")
    missing = blocked(
        "missing-object",
        f"no kind {printable(word, 200)} is served",
        "its CustomResourceDefinition is not installed yet?",
        again=AGAIN,
    )
    if _is_version(version) and group:
        versions = [version]
    else:
        group = rest
        versions = _versions(_get(talk, f"/apis/{group}"))
    for version in versions:
        if found := _served(name, group, version, _get(talk, f"/apis/{group}/{version}")):
            return found
    raise missing


def _get(talk: Talk, path: str) -> Json:
    """The object at a path, empty where there is none."""
    try:
        return talk.get(path)
    except NotReady as error:
        if error.verdict.cause == "missing-object":
            return {}
        raise


def _versions(group: Json) -> list[str]:
    """The names of a group's versions, the preferred one's first."""
    preferred = text(group, "preferredVersion", "version")
    others = [text(one, "version") for one in objects(group, "versions")]
    return list(dict.fromkeys(filter(None, [preferred, *others])))


def _served(name: str, group: str, version: str, listed: Json) -> Kind | None:
    """The kind of that name among a version's resources."""
    resources = objects(listed, "resources")
    plurals = {text(one, "name") for one in resources}
    for one in resources:
        plural = text(one, "name")
        if "/" not in plural and plural and name in _names(one):
            singular = text(one, "singularName") or text(one, "kind").lower()
            has_status = f"{plural}/status" in plurals
            inside = one.get("namespaced") is True
            return Kind(printable(singular, 63), plural, group, version, inside, has_status)
    return None


def _names(resource: Json) -> set[str]:
    """All that a resource may be called."""
    short = resource.get("shortNames")
    called = {
        text(resource, "name"),
        text(resource, "singularName"),
        text(resource, "kind").lower(),
    }
    return (
        called | {one for one in short if isinstance(one, str)}
        if isinstance(short, list)
        else called
    )


def _is_version(word: str) -> bool:
    """Whether it is as `v1` or `v2beta3` are: a group of such a name has none below it."""
    return word[:1] == "v" and word[1:2].isdecimal()
