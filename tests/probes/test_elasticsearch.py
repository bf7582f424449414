"""What no server here does: logins of Elasticsearch's own, versions that cannot be had, strange answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import target
from service_precheck.codecs.elasticsearch import fault as elasticsearch_fault
from service_precheck.codecs.elasticsearch import health
from service_precheck.codecs.elasticsearch.api import quoted
from service_precheck.codecs.http1 import Response
from service_precheck.errors import NotReady, OperatorError
from service_precheck.model import CAUSES
from service_precheck.options import Target
from tests.bed.pages import ScriptedHTTP, later, page
from tests.bed.tls import TLS, Authority
from tests.probes.conftest import Ask

HEALTH = {
    "cluster_name": "logs",
    "status": "green",
    "timed_out": False,
    "number_of_nodes": 3,
    "active_shards": 12,
    "initializing_shards": 0,
    "unassigned_shards": 0,
}
PLACE = "127.0.0.1:9200"


def says(answer: object, status: int = 200) -> bytes:
    return page(status, json.dumps(answer).encode())


def exception(kind: str, reason: str | None, status: int) -> bytes:
    error = {"type": kind, "reason": reason}
    return says({"error": {"root_cause": [error], **error}, "status": status}, status)


def ask_once(answer: object, ask: Ask, rest: str = "") -> tuple[str | None, str]:
    with ScriptedHTTP() as pages:
        pages.on("*", answer)  # type: ignore[arg-type]
        verdict = ask(f"elasticsearch://127.0.0.1:{pages.port}{rest}")
    return verdict.cause, verdict.seen


def test_one_request(pages: ScriptedHTTP, ask: Ask) -> None:
    """Without an index only health is asked for, with nothing to wait for but a master."""
    pages.on("*", says(HEALTH))
    verdict = ask(f"elasticsearch://127.0.0.1:{pages.port}")
    assert verdict.seen.endswith(": the cluster logs is green, 12 of 12 shards active, 3 nodes")
    (asked,) = pages.requests
    assert asked.target == "/_cluster/health?timeout=1s"
    assert asked.header("Authorization") is None


@pytest.mark.parametrize(
    ("login", "rest", "sent"),
    [
        ("me:s3cret-word@", "", "Basic bWU6czNjcmV0LXdvcmQ="),
        ("", "#api-key-file={secret}", "ApiKey s3cret-word"),
        ("", "#token-file={secret}", "Bearer s3cret-word"),
        ("me@", "#password-file={secret}", "Basic bWU6czNjcmV0LXdvcmQ="),
    ],
)
def test_logins(
    login: str, rest: str, sent: str, pages: ScriptedHTTP, tmp_path: Path, ask: Ask
) -> None:
    """A user, an API key or a token is sent with each question; a 401 to it is a refused login."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret-word\n")
    text = f"elasticsearch://{login}127.0.0.1:{pages.port}{rest.format(secret=secret)}"
    denied = exception("security_exception", "no: s3cret-word", 401)
    pages.on("*", page(), says(HEALTH), page(), denied)
    assert ask(text).ready
    assert pages.requests[-1].header("Authorization") == sent
    refused = ask(text)
    assert refused.cause == "auth-refused"
    assert "s3cret-word" not in refused.seen


def test_a_login_in_plain_text(pages: ScriptedHTTP, authority: Authority, ask: Ask) -> None:
    """It goes to who has answered a question without it, whatever the answer; in TLS it goes at once."""
    pages.on("*", page(405), says(HEALTH))
    assert ask(f"elasticsearch://me:s3cret-word@127.0.0.1:{pages.port}").ready
    first, second = pages.requests
    assert (first.method, first.header("Authorization")) == ("OPTIONS", None)
    assert second.header("Authorization") is not None
    with ScriptedHTTP(tls=TLS(authority.issue())) as secure:
        secure.on("*", says(HEALTH))
        text = f"elasticsearch://me:s3cret-word@{secure.address}#ca={authority.file}"
        assert ask(text).ready
        assert [asked.method for asked in secure.requests] == ["GET"]


@pytest.mark.parametrize("answer", [b"", b"\x15\x03\x03\x00\x02\x02\x0a", b"220 mail\r\n"])
def test_a_login_for_who_speaks_no_http(answer: bytes, pages: ScriptedHTTP, ask: Ask) -> None:
    """A port that speaks something else is never sent a secret."""
    pages.on("*", answer)
    assert not ask(f"elasticsearch://me:s3cret-word@127.0.0.1:{pages.port}").ready
    (asked,) = pages.requests
    assert asked.header("Authorization") is None


def test_a_secret_that_cannot_be_sent(tmp_path: Path, pages: ScriptedHTTP, ask: Ask) -> None:
    """A line break in a token is `local`, and nothing is sent."""
    secret = tmp_path / "secret"
    secret.write_text("one\ntwo")
    verdict = ask(f"elasticsearch://127.0.0.1:{pages.port}#token-file={secret}")
    assert verdict.cause == "local"
    assert not pages.requests


@pytest.mark.parametrize(
    ("answer", "cause", "said"),
    [
        (exception("security_exception", "missing authentication credentials", 401),
         "auth-required", "missing authentication credentials"),
        (exception("security_exception", "action [cluster:monitor/health] is unauthorized for user", 403),
         "forbidden", "[cluster:monitor/health] is unauthorized"),
        (exception("circuit_breaking_exception", "Data too large", 429), "overloaded", "Data too l"),
        (exception("master_not_discovered_exception", None, 503), "no-leader", "master_not_disc"),
        (exception("cluster_manager_not_discovered_exception", None, 503), "no-leader", "cluster_m"),
        (exception("cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];", 503),
         "starting", "state not recovered"),
        (page(503, b"OpenSearch Security not initialized."), "starting", "Security not initialized"),
        (says({"error": "overwhelmed", "status": 500}, 500), "not-ready", "overwhelmed"),
        (page(502, b"<html>no</html>"), "not-ready", "answers 502 Bad Gateway to /_cluster/health"),
        (page(404, b"<html>no</html>"), "protocol", "not how Elasticsearch answers"),
        (page(200, b"<html>hello</html>"), "protocol", "not how Elasticsearch answers"),
        (page(200, b"[1]"), "protocol", "not how Elasticsearch answers"),
        (page(200, b"{" * 5000), "protocol", "not how Elasticsearch answers"),
        (says({"status": "UP"}), "protocol", "tells no status of a cluster"),
        (page(200, b'{"a": "' + b"x" * 70_000 + b'"}'), "protocol", "with more than 64 KiB"),
        (page(408, b""), "protocol", "not how Elasticsearch answers"),
    ],
)  # fmt: skip
def test_other_answers(answer: bytes, cause: str, said: str, ask: Ask) -> None:
    """Each status has its cause; the exception's own words are kept."""
    got, seen = ask_once(answer, ask)
    assert (got, said in seen) == (cause, True), seen


@pytest.mark.parametrize(
    ("login", "answer", "cause", "hint"),
    [
        ("", page(401, b"Unauthorized"), "auth-required", "#password-file="),
        ("me:s3cret-word@", page(401, b"Unauthorized"), "auth-refused", ""),
        ("me:s3cret-word@", page(401, b"Authentication finally failed"), "auth-refused", "is blocked"),
        ("", exception("security_exception", "no permissions for [a] and User [b]", 403),
         "forbidden", "`cluster_monitor`"),
        ("", exception("security_exception", "action [a] is unauthorized for user [b]", 403),
         "forbidden", "privilege `monitor`"),
        ("", page(503, b"OpenSearch Security not initialized."), "starting", "`securityadmin.sh`"),
    ],
)  # fmt: skip
def test_hints(
    login: str, answer: bytes, cause: str, hint: str, pages: ScriptedHTTP, ask: Ask
) -> None:
    """What to do about logins and rights, in the words of the product that answers."""
    pages.on("*", answer)
    verdict = ask(f"elasticsearch://{login}127.0.0.1:{pages.port}")
    assert (verdict.cause, hint in verdict.hint) == (cause, True), verdict.hint
    assert bool(hint) == bool(verdict.hint)
    # Asked without a login is a login that failed, for who counts them.
    assert verdict.again == (30 if cause == "auth-required" else None)


def test_told_to_wait(pages: ScriptedHTTP, ask: Ask) -> None:
    """Retry-After is honoured, up to five minutes."""
    pages.on("*", later(7), later(7000, 503))
    text = f"elasticsearch://127.0.0.1:{pages.port}"
    assert ask(text).again == 7
    assert ask(text).again == 300


@pytest.mark.parametrize(
    ("changes", "rest", "cause", "said"),
    [
        ({"status": "red", "initializing_shards": 3}, "", "starting", "is red, 12 of 15 shards"),
        ({"status": "red", "unassigned_shards": 3}, "", "not-ready", "is red, 12 of 15 shards"),
        ({"status": "yellow", "unassigned_shards": 1}, "", None, "is yellow, 12 of 13 shards"),
        ({"status": "yellow", "unassigned_shards": 1}, "#status=green", "not-ready", "is yellow"),
        ({"status": "yellow", "initializing_shards": 1}, "#status=green", "starting", "is yellow"),
        ({}, "#nodes=3", None, "3 nodes"),
        ({}, "#nodes=4", "too-few", "3 nodes, 4 nodes are expected"),
        ({"number_of_nodes": "many"}, "", "protocol", "tells no number for number_of_nodes"),
        ({"active_shards": None}, "", "protocol", "tells no number for active_shards"),
        ({"active_shards": -5}, "", "protocol", "tells no number for active_shards"),
        ({"active_shards": 12.5}, "", "protocol", "tells no number for active_shards"),
        ({"unassigned_shards": 1 << 31}, "", "protocol", "tells no number for unassigned_shards"),
    ],
)
def test_health(
    changes: dict[str, object], rest: str, cause: str | None, said: str, ask: Ask
) -> None:
    """The status that is asked for, and the number of nodes."""
    got, seen = ask_once(says(HEALTH | changes), ask, rest)
    assert (got, said in seen) == (cause, True), seen


@pytest.mark.parametrize("number", ["9" * 39, "9" * 4300, "-" + "9" * 4300, "9" * 5000, "1e400"])
def test_huge_numbers(number: str, ask: Ask) -> None:
    """A number that counts no shards is `protocol`, however long, and no traceback (fault 67)."""
    shards = f'"active_shards":{number},"initializing_shards":{number},"unassigned_shards":0'
    raw = f'{{"cluster_name":"x","status":"yellow","number_of_nodes":1,{shards}}}'
    cause, seen = ask_once(page(200, raw.encode()), ask)
    assert (cause, "tells no number for active_shards" in seen) == ("protocol", True), seen


def test_an_index_that_goes_meanwhile(pages: ScriptedHTTP, ask: Ask) -> None:
    """An index that is gone between two questions is missed: its health waits in vain, and is no 200."""
    gone = HEALTH | {"status": "red", "timed_out": True, "active_shards": 0}
    pages.on("*", says({"metadata": {"indices": {"a": {"state": "open"}}}}), says(gone, 408))
    verdict = ask(f"elasticsearch://127.0.0.1:{pages.port}#index=a")
    assert verdict.cause == "missing-object"
    assert [asked.target.partition("?")[0] for asked in pages.requests] == [
        "/_cluster/state/metadata,blocks/a",
        "/_cluster/health/a",
    ]


def test_a_pattern_that_matches_many(pages: ScriptedHTTP, ask: Ask) -> None:
    """Ten thousand indexes are read; beyond 1 MiB it is told to name fewer, and not that it is no cluster."""
    indices = {f"logs-2026.11.23-{number:06}": {"state": "open"} for number in range(10_000)}
    state = json.dumps({"metadata": {"indices": indices}}, separators=(",", ":")).encode()
    assert 400_000 < len(state) < 1 << 20
    pages.on("*", page(200, state), says(HEALTH), page(200, state + b" " * (1 << 20)))
    text = f"elasticsearch://127.0.0.1:{pages.port}#index=logs-*"
    assert ask(text).ready
    verdict = ask(text)
    assert verdict.cause == "unsupported"
    assert verdict.seen.endswith("/_cluster/state/metadata,blocks/logs-* with more than 1024 KiB")
    assert "fewer indexes" in verdict.hint


def test_names_are_encoded() -> None:
    """A name is one part of the path, whatever it holds; a pattern stays one."""
    assert quoted("logs-*") == "logs-*"
    assert quoted("<logs-{now/d}>") == "%3Clogs-%7Bnow%2Fd%7D%3E"
    assert quoted("a?b é") == "a%3Fb%20%C3%A9"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("elasticsearch://a@es#token-file=/x", "more than one login"),
        ("elasticsearch://es#api-key-file=/x#token-file=/y", "more than one login"),
        ("elasticsearch://es#user=a:b", "a colon in the user's name"),
        ("elasticsearch://es#password-file=/x", "#password-file= without a user"),
        ("elasticsearch://es#index=a,b", "a comma in #index="),
        ("elasticsearch://es#status=red", "none of yellow, green"),
        ("elasticsearch://es#tls=false#ca=/x", "#tls= says no"),
    ],
)
def test_mistakes(text: str, wrong: str) -> None:
    """What cannot be asked for is said before anything is sent."""
    with pytest.raises(OperatorError) as caught:
        target.parse(text)
    assert wrong in str(caught.value)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = """blocks global 1 2 9 levels write description metadata indices a state close settings index
read_only true status red yellow green error type reason cluster_name number_of_nodes active_shards
initializing_shards unassigned_shards timed_out"""
WORDS = st.sampled_from(NAMES.split())
JSON = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
)
TARGETS = tuple(
    target.parse(f"elasticsearch://es{rest}")
    for rest in ("", "#index=a", "#index=a#writable", "#writable#status=green#nodes=2")
)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", [""]),
        ("#writable", ["no block of the cluster keeps writes out"]),
        (
            "#index=a#index=b*#writable",
            ["no block keeps writes out of a", "no block keeps writes out of b*"],
        ),
    ],
)
def test_no_block_is_told_of_what_was_looked_at(rest: str, said: list[str]) -> None:
    """The block of a full disk is one of indexes: without one nothing is said of it."""
    leaf = target.parse(f"elasticsearch://es{rest}")
    assert isinstance(leaf, Target)
    state: dict[str, object] = {"metadata": {"indices": {"a": {"state": "open"}}}}
    names = leaf.texts("index") or [""] * len(said)
    assert [health.unblocked(leaf, state, name, PLACE) for name in names] == said


@given(answer=st.dictionaries(WORDS, JSON, max_size=5), leaf=st.sampled_from(TARGETS))
def test_any_answer(answer: dict[str, object], leaf: Target) -> None:
    """Whatever JSON comes is a verdict, never a traceback."""
    causes = set()
    try:
        assert health.judged(leaf, answer, PLACE)
    except NotReady as error:
        causes.add(error.verdict.cause)
    try:
        health.unblocked(leaf, answer, "a", PLACE)
    except NotReady as error:
        causes.add(error.verdict.cause)
    for status in (200, 401, 403, 408, 429, 503, 504):
        head = Response(status, "", (), 0)
        fault = elasticsearch_fault.explain(head, answer, b"", "said", logged_in=False)
        causes.add(fault.verdict.cause)
    assert causes <= set(CAUSES)
