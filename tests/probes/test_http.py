"""`http:` and `https:` against pages that are scripted to the byte, nginx and an ASGI application."""

from __future__ import annotations

import base64
import os
import time
import tracemalloc
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from service_precheck import model, target
from service_precheck.errors import OperatorError
from tests.bed.fixtures import Enter
from tests.bed.pages import (
    HOLD,
    Answer,
    Proxy,
    Request,
    ScriptedHTTP,
    bomb,
    chunked,
    giant,
    head,
    later,
    long_head,
    page,
    redirect,
    slow,
)
from tests.bed.sockets import Behaviour, Connection, Full, Server, close, hang, reset, say
from tests.bed.tls import TLS, Authority
from tests.bed.webservers import Asgi, Health, Nginx
from tests.probes.conftest import Ask


def elsewhere(enter: Enter) -> ScriptedHTTP:
    """Return another origin whose pages are all there."""
    other = enter(ScriptedHTTP())
    other.on("*", page())
    return other


# -- what is sent


def test_the_request_is_as_small_as_it_can_be(pages: ScriptedHTTP, ask: Ask) -> None:
    """One GET with five headers, on a connection of its own, with the query as it was written."""
    pages.on("*", page(200, b"fine"))
    verdict = ask(f"{pages.url}/healthz?deep=1&x=%20y")
    assert verdict.ready
    assert verdict.seen == "GET /healthz?... answers 200"
    assert len(pages.requests) == 1
    assert pages.requests[0].raw.decode() == (
        "GET /healthz?deep=1&x=%20y HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{pages.port}\r\n"
        "User-Agent: service-precheck\r\n"
        "Accept: */*\r\n"
        "Accept-Encoding: identity\r\n"
        "Connection: close\r\n\r\n"
    )


def test_method(pages: ScriptedHTTP, ask: Ask) -> None:
    """`method` asks otherwise; HEAD reads no body that is not there, POST sends none."""
    pages.on("*", head(200, ("Content-Length", "5")))
    assert ask(f"{pages.url}/#method=HEAD").seen == "HEAD / answers 200"
    pages.on("*", page())
    assert ask(f"{pages.url}/#method=POST").ready
    assert pages.requests[-1].method == "POST"
    assert pages.requests[-1].header("Content-Length") == "0"


def test_header(pages: ScriptedHTTP, ask: Ask) -> None:
    """`header` adds headers, may repeat, and replaces what would be sent anyway."""
    pages.on("*", page())
    options = "#header=X-Key: s3same#header=Host: shop.example#header=accept: text/plain"
    assert ask(f"{pages.url}/{options}").ready
    names = [name.lower() for name, _ in pages.requests[0].headers]
    assert pages.requests[0].header("X-Key") == "s3same"
    assert pages.requests[0].header("Host") == "shop.example"
    assert pages.requests[0].header("Accept") == "text/plain"
    assert names.count("host") == names.count("accept") == 1


def test_header_file_is_read_anew(pages: ScriptedHTTP, ask: Ask, tmp_path: Path) -> None:
    """A header's value may stand in a file, without its line break, and may change between attempts."""
    pages.on("*", page())
    secret = tmp_path / "key"
    for value in ("first-key", "second-key"):
        secret.write_text(f"{value}\n")
        assert ask(f"{pages.url}/#header-file=X-Key={secret}").ready
        assert pages.requests[-1].header("X-Key") == value


def test_user_and_password(
    pages: ScriptedHTTP, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Basic credentials come from the address, a file or a variable."""
    pages.on("*", page())
    (tmp_path / "password").write_text("pä ss:wörd\n")
    monkeypatch.setenv("DB_PASSWORD", "pä ss:wörd")
    plain = pages.url.replace("http://", "http://me:p%C3%A4 ss%3Aw%C3%B6rd@")
    for text in (
        plain,
        f"{pages.url}/#user=me#password-file={tmp_path}/password",
        f"{pages.url.replace('//', '//me@')}/#password-env=DB_PASSWORD",
    ):
        assert ask(text).ready
        expected = base64.b64encode("me:pä ss:wörd".encode()).decode()
        assert pages.requests[-1].header("Authorization") == f"Basic {expected}"
    assert ask(f"{pages.url}/#user=me").ready
    assert pages.requests[-1].header("Authorization") == "Basic bWU6"


def test_token_file(pages: ScriptedHTTP, ask: Ask, tmp_path: Path) -> None:
    """A token goes as Bearer, read anew at each attempt."""
    pages.on("*", page())
    for value in ("token-one", "token-two"):
        (tmp_path / "token").write_text(value)
        assert ask(f"{pages.url}/#token-file={tmp_path}/token").ready
        assert pages.requests[-1].header("Authorization") == f"Bearer {value}"


def test_secrets_that_are_not_there_are_ours(
    pages: ScriptedHTTP, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing, empty, broken or unsendable secret is `local`, and nothing is asked without it."""
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("BYTES", os.fsdecode(b"\xff\xfe"))
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "lines").write_text("a\r\nX-Injected: b")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "long").write_bytes(b"x" * 70_000)
    os.mkfifo(tmp_path / "pipe")
    for options, words in (
        (
            f"#token-file={tmp_path}/none",
            f"{tmp_path}/none cannot be read: No such file or directory",
        ),
        (f"#token-file={tmp_path}", f"{tmp_path} cannot be read: Is a directory"),
        (f"#token-file={tmp_path}/empty", f"{tmp_path}/empty is empty"),
        (f"#token-file={tmp_path}/bytes", f"{tmp_path}/bytes holds no text"),
        (f"#token-file={tmp_path}/long", f"{tmp_path}/long is longer than 64 KiB"),
        (f"#token-file={tmp_path}/pipe", f"{tmp_path}/pipe is empty"),
        ("#user=me#password-env=NOT_SET", "the environment variable NOT_SET is not set, or empty"),
        ("#user=me#password-env=BYTES", "the environment variable BYTES holds no text"),
        (
            f"#header-file=X-Key={tmp_path}/lines",
            "the value of X-Key holds a line break or another control character, and cannot be sent",
        ),
    ):
        verdict = ask(f"{pages.url}/{options}")
        assert (verdict.cause, verdict.seen) == ("local", words)
    assert not pages.connections


def test_unix_socket(enter: Enter, folder: Path, ask: Ask) -> None:
    """A request goes over a Unix socket, with the target's host as the Host; so do its redirects."""
    pages = enter(ScriptedHTTP(path=folder / "s"))
    pages.on("/a", redirect("/b"))
    pages.on("/b", page())
    assert ask(f"http://docker.example/a#unix-socket={folder}/s").ready
    assert [request.header("Host") for request in pages.requests] == ["docker.example"] * 2
    assert ask(f"http://x/#unix-socket={folder}/none").cause == "missing-object"


# -- statuses


def test_status(pages: ScriptedHTTP, ask: Ask) -> None:
    """2xx by default; other statuses and ranges by name, several together."""
    pages.on("/204", page(204))
    pages.on("/302", redirect("/204"))
    pages.on("/418", page(418))
    assert ask(f"{pages.url}/204").ready
    assert ask(f"{pages.url}/418#status=418").seen == "GET /418 answers 418"
    assert ask(f"{pages.url}/418#status=200#status=400-499").ready
    assert ask(f"{pages.url}/418#status=4xx").ready
    assert ask(f"{pages.url}/302#status=302").ready
    verdict = ask(f"{pages.url}/204#status=200#status=300-399#status=5xx")
    assert verdict.cause == "unexpected-status"
    assert verdict.seen == "GET /204 answers 204 No Content, 200, 3xx, 5xx is expected"


def test_status_is_spelled_as_it_was_given() -> None:
    """Ranges survive the way through the parser and back."""
    text = "http://x:80/#status=200#status=3xx#status=400-450"
    leaf = target.parse(text)
    assert leaf.spelled() == text
    assert target.parse(leaf.spelled()) == leaf


def test_fault_16_each_answer_counts_for_itself(pages: ScriptedHTTP, ask: Ask) -> None:
    """Fault 16: 500 and 200 in turn are just that, one verdict each."""
    pages.on("/", page(500), page(200), cycle=True)
    verdicts = [ask(f"{pages.url}/").cause for _ in range(6)]
    assert verdicts == ["unexpected-status", None] * 3


def test_fault_17_login(enter: Enter, ask: Ask, tmp_path: Path) -> None:
    """Fault 17: 401 tells a missing login from a refused one, 403 is apart; each may be expected."""
    nginx = enter(
        Nginx(
            """
            location = /in { auth_basic x; auth_basic_user_file users; try_files /users =500; }
            location = /no { return 403; }
            """,
            files={"users": "me:{PLAIN}right-password\n"},
        )
    )
    (tmp_path / "right").write_text("right-password")
    (tmp_path / "wrong").write_text("wrong-password")
    page_in = f"{nginx.url}/in"
    verdict = ask(page_in)
    assert verdict.cause == "auth-required"
    assert verdict.seen == "GET /in answers 401 Unauthorized, it asks for Basic"
    assert verdict.hint
    assert ask(f"{page_in}#status=401").ready
    assert ask(f"{page_in}#user=me#password-file={tmp_path}/right").ready
    verdict = ask(f"{page_in}#user=me#password-file={tmp_path}/wrong")
    assert verdict.cause == "auth-refused"
    assert verdict.seen == "GET /in answers 401 Unauthorized to the credentials that were sent"
    assert ask(f"{page_in}#header=X-Api-Key: wr0ng").cause == "auth-refused"
    assert ask(f"{nginx.url}/no").cause == "forbidden"
    assert ask(f"{nginx.url}/no#status=403").ready


def test_a_server_that_is_not_well_says_why(pages: ScriptedHTTP, ask: Ask) -> None:
    """The first line of a short text goes with the status; a page for browsers does not."""
    pages.on("/", page(500, b"\n  database \x1b[31mgone\nstack trace\n"))
    assert ask(f"{pages.url}/").seen == (
        r"GET / answers 500 Internal Server Error (database \x1b[31mgone), 2xx is expected"
    )
    pages.on("/", page(500, b"<html>\n<body>x</body>"))
    assert ask(f"{pages.url}/").seen == "GET / answers 500 Internal Server Error, 2xx is expected"
    pages.on("/", b"HTTP/1.1 500 Own Words\r\n\r\n\xff\xfe\x00")
    assert ask(f"{pages.url}/").seen == "GET / answers 500 Own Words, 2xx is expected"
    pages.on("/", page(404))
    assert ask(f"{pages.url}/").hint == "is the path right?"


def test_a_page_that_never_comes_does_not_hide_its_status(pages: ScriptedHTTP, ask: Ask) -> None:
    """The status is told although the body hangs, and long before the attempt is over."""
    pages.on("/", [head(500, ("Content-Length", "10")), b"half", HOLD])
    verdict = ask(f"{pages.url}/", timeout=60)
    assert verdict.cause == "unexpected-status"
    assert "(half)" in verdict.seen


def test_503_is_how_a_service_says_that_it_is_not_ready(enter: Enter, ask: Ask) -> None:
    """A health page turns from 503 `not-ready` to ready, under a real application server."""
    health = Health()
    server = enter(Asgi(health))
    verdict = ask(server.url)
    assert verdict.cause == "not-ready"
    assert verdict.seen.startswith("GET / answers 503 Service Unavailable")
    health.ready = True
    assert ask(f"{server.url}#json=status:UP").seen == "GET / answers 200, status is UP"


def test_502_and_504_are_somebody_elses(enter: Enter, ask: Ask) -> None:
    """nginx before a dead and before a hanging service: the hint says where to look."""
    dead, silent = enter(Server(opened=False)), enter(Server(hang))
    nginx = enter(
        Nginx(
            f"""
            location /dead {{ proxy_pass http://{dead.address}; }}
            location /slow {{ proxy_pass http://{silent.address}; proxy_read_timeout 200ms; }}
            """
        )
    )
    for path, status in (("/dead", "502"), ("/slow", "504")):
        verdict = ask(f"{nginx.url}{path}")
        assert verdict.cause == "unexpected-status"
        assert f" {status} " in verdict.seen
        assert "the service behind it" in verdict.hint


def test_fault_24_retry_after(pages: ScriptedHTTP, ask: Ask) -> None:
    """Fault 24: 429 and 503 say when to come back, in seconds or as a date, five minutes at most."""
    for answer, cause, least, most in (
        (later(7), "overloaded", 7, 7),
        (later(9, 503), "not-ready", 9, 9),
        (later(100_000), "overloaded", 300, 300),
        (later(formatdate(time.time() + 60, usegmt=True)), "overloaded", 30, 60),
        (later(formatdate(time.time() - 60, usegmt=True)), "overloaded", 0, 0),
    ):
        pages.on("/", answer)
        verdict = ask(f"{pages.url}/")
        assert verdict.cause == cause
        assert verdict.again is not None
        assert least <= verdict.again <= most
    for answer in (page(429), later("soon"), later(5, 500)):
        pages.on("/", answer)
        assert ask(f"{pages.url}/").again is None


# -- redirects


@pytest.mark.parametrize("location", ["/b", "b", "./b", "?x=1", "http://127.0.0.1:{port}/b"])
def test_redirects_within_the_origin_are_followed(
    location: str, pages: ScriptedHTTP, ask: Ask
) -> None:
    """The same scheme, host and port: followed with all that was to be sent."""
    pages.on("/a", redirect(location.format(port=pages.port)))
    pages.on("/a?x=1", page())
    pages.on("/b", page())
    verdict = ask(f"{pages.url}/a#header=X-Key: s3same")
    assert verdict.ready
    assert [request.header("X-Key") for request in pages.requests] == ["s3same"] * 2


def test_redirects_change_the_method_as_browsers_do(pages: ScriptedHTTP, ask: Ask) -> None:
    """RFC 9110 section 15.4: 303 asks by GET, POST becomes GET at 301 and 302, 307 and 308 keep it."""
    pages.on("/b", page())
    for status, method, then in (
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (302, "OPTIONS", "OPTIONS"),
    ):
        pages.on("/a", redirect("/b", status))
        assert ask(f"{pages.url}/a#method={method}").ready
        assert pages.requests[-1].method == then


def test_fault_18_another_host(enter: Enter, pages: ScriptedHTTP, ask: Ask, tmp_path: Path) -> None:
    """Fault 18: a redirect to another origin is `redirect`, and nobody there is asked anything."""
    other = elsewhere(enter)
    (tmp_path / "token").write_text("t0ken-of-mine")
    pages.on("/", redirect(f"{other.url}/login?session=abc"))
    verdict = ask(f"{pages.url}/#token-file={tmp_path}/token")
    assert verdict.cause == "redirect"
    assert verdict.seen == f"GET / answers 302 Found, to {other.url}/login?..."
    assert "#redirects=any" in verdict.hint
    assert not other.connections


def test_fault_18_from_https_to_http(
    enter: Enter, authority: Authority, ask: Ask, tmp_path: Path
) -> None:
    """Fault 18: from TLS to plain text is another origin: not followed, or without credentials."""
    plain = elsewhere(enter)
    secure = enter(ScriptedHTTP(tls=TLS(authority.issue())))
    secure.on("*", redirect(f"{plain.url}/x"))
    where = f"https://localhost:{secure.port}/#ca={authority.file}#header=X-Key: s3same"
    assert ask(where).cause == "redirect"
    assert not plain.connections
    assert ask(f"{where}#redirects=any").ready
    assert secure.requests[-1].header("X-Key") == "s3same"
    assert plain.requests[-1].header("X-Key") is None


def test_redirects_any_forwards_no_credential(
    enter: Enter, pages: ScriptedHTTP, ask: Ask, tmp_path: Path
) -> None:
    """Elsewhere no header, user or token is sent, and not even on the way back."""
    (tmp_path / "secret").write_text("s3cret-of-mine")
    other = enter(ScriptedHTTP())
    pages.on("/", redirect(f"{other.url}/there"))
    other.on("/there", redirect(f"{pages.url}/back"))
    pages.on("/back", page())
    for options in (
        f"#user=me#password-file={tmp_path}/secret",
        f"#token-file={tmp_path}/secret",
        f"#header-file=X-Key={tmp_path}/secret",
        "#header=Cookie: s3cret-of-mine#header=Host: inner.example",
    ):
        assert ask(f"{pages.url}/{options}#redirects=any").ready
        first, there, back = pages.requests[-2], other.requests[-1], pages.requests[-1]
        extra = {name.lower() for name, _ in first.headers} & {"authorization", "x-key", "cookie"}
        assert len(extra) == 1
        for request in (there, back):
            assert not {"authorization", "x-key", "cookie"} & {
                n.lower() for n, _ in request.headers
            }
        assert there.header("Host") == other.address


def test_redirects_any_keeps_the_client_certificate(
    enter: Enter, authority: Authority, ask: Ask
) -> None:
    """A client's certificate and a name that was set are for the first origin only."""
    mine = authority.client()
    other_tls = TLS(authority.issue(), demand=authority)
    other = enter(ScriptedHTTP(tls=other_tls))
    first_tls = TLS(authority.issue("inner.example"), demand=authority)
    first = enter(ScriptedHTTP(tls=first_tls))
    first.on("*", redirect(f"https://localhost:{other.port}/"))
    verdict = ask(
        f"https://localhost:{first.port}/#ca={authority.file}#cert={mine.chain}#key={mine.key}"
        "#server-name=inner.example#redirects=any"
    )
    assert first.requests
    assert verdict.cause == "tls-client-cert"
    assert other_tls.names == ["localhost"]
    assert not other.requests


def test_redirects_any_goes_from_http_to_https(
    enter: Enter,
    pages: ScriptedHTTP,
    authority: Authority,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plain page that sends everybody to TLS can be followed there, verified by the system's roots."""
    secure = enter(ScriptedHTTP(tls=TLS(authority.issue())))
    secure.on("*", page())
    pages.on("*", redirect(f"https://localhost:{secure.port}/", 301))
    where = f"{pages.url}/#redirects=any"
    assert ask(where).cause == "tls-untrusted"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert ask(where).ready


def test_redirects_none(pages: ScriptedHTTP, ask: Ask) -> None:
    """`none` follows nothing."""
    pages.on("/a", redirect("/b", 307))
    verdict = ask(f"{pages.url}/a#redirects=none")
    assert verdict.cause == "redirect"
    assert verdict.seen == f"GET /a answers 307 Temporary Redirect, to {pages.url}/b"
    assert len(pages.requests) == 1


def test_fault_19_loops(pages: ScriptedHTTP, ask: Ask) -> None:
    """Fault 19: a circle is seen at once, a chain without end after ten redirects."""
    pages.on("/a", redirect("/b"))
    pages.on("/b", redirect("/a"))
    verdict = ask(f"{pages.url}/a")
    assert verdict.cause == "redirect"
    assert verdict.seen == f"GET /b answers 302 Found, in a circle to {pages.url}/a"
    assert len(pages.requests) == 2
    pages.on("*", lambda request: redirect(f"{request.target}x"))
    verdict = ask(f"{pages.url}/n")
    assert verdict.cause == "redirect"
    assert verdict.seen == f"more than 10 redirects, the last to {pages.url}/n{'x' * 11}"
    assert pages.count() == 2 + 11


def test_a_chain_of_ten_is_followed(pages: ScriptedHTTP, ask: Ask) -> None:
    """Ten redirects are not too many."""
    for number in range(10):
        pages.on(f"/{number}", redirect(f"/{number + 1}"))
    pages.on("/10", page())
    assert ask(f"{pages.url}/0").ready


def test_redirects_that_lead_nowhere(pages: ScriptedHTTP, ask: Ask) -> None:
    """Another scheme is `redirect` and is not repeated; none at all is just the wrong status."""
    pages.on("/", redirect("myapp://login?token=abc"))
    verdict = ask(f"{pages.url}/#redirects=any")
    assert verdict.cause == "redirect"
    assert verdict.seen == "GET / answers 302 Found, to what is no address of HTTP"
    pages.on("/", page(302))
    assert ask(f"{pages.url}/").cause == "unexpected-status"


# -- what the page holds


def test_contains(pages: ScriptedHTTP, ask: Ask) -> None:
    """Each text must be there, also across chunks; what is missing is named with how the page begins."""
    pages.on("/", chunked(b"<h1>Wel", b"come</h1> gr", "üß".encode()[:1], "üß".encode()[1:]))
    verdict = ask(f"{pages.url}/#contains=Welcome#contains=grüß")
    assert verdict.seen == "GET / answers 200, with 'Welcome', with 'grüß'"
    verdict = ask(f"{pages.url}/#contains=Welcome#contains=welcome")
    assert verdict.cause == "unexpected-body"
    assert verdict.seen == (
        "GET / answers 200, without 'welcome' in its 23 bytes; "
        "it begins with '<h1>Welcome</h1> grüß'"
    )
    pages.on("/", page())
    assert ask(f"{pages.url}/#contains=x").seen.endswith("in its 0 bytes; it is empty")


def test_contains_does_not_wait_for_the_end(pages: ScriptedHTTP, ask: Ask) -> None:
    """A page without end is ready as soon as the text came."""
    pages.on("/", [head(200), b"data: up\n", HOLD])
    assert ask(f"{pages.url}/#contains=up", timeout=60).ready
    verdict = ask(f"{pages.url}/#contains=down", timeout=0.3)
    assert verdict.cause == "no-reply"
    assert verdict.seen.endswith("did not finish its answer within 0.3 s")


def test_json(pages: ScriptedHTTP, ask: Ask) -> None:
    """Values by their path: strings, numbers, true, null, inside lists; a value may hold a colon."""
    body = b'{"status":"UP","db":[{"n":1,"url":"a:b"},true,null],"x":{}}'
    pages.on("/", page(200, body))
    options = "#json=status:UP#json=db[0].n:1#json=db[0].url:a:b#json=db[1]:true#json=db[2]:null"
    assert ask(f"{pages.url}/{options}").seen == (
        "GET / answers 200, status is UP, db[0].n is 1, db[0].url is a:b, db[1] is true, db[2] is null"
    )
    for option, words in (
        ("status:DOWN", "but status is UP, DOWN is expected"),
        ("db[0].n:1.0", "but db[0].n is 1, 1.0 is expected"),
        ("x:1", "but x is an object, 1 is expected"),
        ("db[7]:1", "without db[7]; it begins with"),
        ("status.x:1", "without status.x; it begins with"),
    ):
        verdict = ask(f"{pages.url}/#json={option}")
        assert verdict.cause == "unexpected-body"
        assert f"GET / answers 200, {words}" in verdict.seen


def test_what_is_no_json(pages: ScriptedHTTP, ask: Ask) -> None:
    """Text, a cut page, nesting without end and too much are `unexpected-body`, never a crash."""
    for body in (b"hello", b"", b'{"a":', b"\xff", b"[" * 50_000, b"{} {}"):
        pages.on("/", page(200, body))
        verdict = ask(f"{pages.url}/#json=a:1")
        assert verdict.cause == "unexpected-body"
        assert "not with JSON" in verdict.seen
    pages.on("/", page(200, b'{"a":1}' + b" " * 70_000))
    assert ask(f"{pages.url}/#json=a:1").seen == (
        "GET / answers 200 with more than 64 KiB, too much for JSON"
    )


@pytest.mark.parametrize("options", ["", "#contains=zz", "#json=a:1"])
@pytest.mark.parametrize("answer", [giant(1 << 30), bomb(64 << 20), chunked(*[b"x" * 1024] * 500)])
def test_faults_20_and_21_bodies_are_bounded(
    answer: Answer, options: str, pages: ScriptedHTTP, ask: Ask
) -> None:
    """Fault 20, fault 21: a giant body or a gzip bomb costs us no more than what is kept of it."""
    sent = 0

    def counting(request: Request) -> Iterator[bytes | float]:
        nonlocal sent
        given = answer(request) if callable(answer) else answer
        for part in (given,) if isinstance(given, bytes) else given:
            sent += len(part) if isinstance(part, bytes) else 0
            yield part

    pages.on("/", counting)
    ask(f"{pages.url}/#contains=warm")
    sent = 0
    tracemalloc.start()
    try:
        verdict = ask(f"{pages.url}/{options}")
        # The server's own pieces are among it: 64 KiB each, and 512 KiB for the chunks.
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert verdict.cause == ("unexpected-body" if options else None)
    assert peak < 2 << 20
    # What the kernel holds between the two is not ours to bound.
    assert sent < 32 << 20


def test_fault_21_a_compressed_page_is_taken_as_it_is(pages: ScriptedHTTP, ask: Ask) -> None:
    """Fault 21: nothing is inflated; that it is compressed against our word is said."""
    pages.on("/", bomb(1 << 20))
    verdict = ask(f"{pages.url}/#contains=00")
    assert verdict.cause == "unexpected-body"
    assert "compressed (gzip)" in verdict.hint
    assert pages.requests[-1].header("Accept-Encoding") == "identity"


def test_fault_22_headers_are_bounded(pages: ScriptedHTTP, ask: Ask) -> None:
    """Fault 22: 1 MiB of headers is `protocol`; 60 KiB are not too much."""
    pages.on("/", long_head(1 << 20))
    verdict = ask(f"{pages.url}/")
    assert verdict.cause == "protocol"
    assert verdict.seen == f"{pages.address} sent more than 64 KiB of headers"
    pages.on("/", long_head(60 << 10))
    assert ask(f"{pages.url}/").ready


def test_fault_23_proxies_of_the_environment_are_ignored(
    enter: Enter, pages: ScriptedHTTP, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 23: HTTP_PROXY and its kin change nothing."""
    proxy = enter(Proxy())
    for name in (
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.setenv(name, proxy.url)
    pages.on("*", page())
    assert ask(f"{pages.url}/").ready
    assert not proxy.connections


# -- proxies


def test_proxy_for_a_plain_page(enter: Enter, pages: ScriptedHTTP, ask: Ask) -> None:
    """A plain page is asked for by its whole address."""
    proxy = enter(Proxy())
    pages.on("*", page(200, b"by proxy"))
    assert ask(f"{pages.url}/x?y#proxy={proxy.url}#contains=by proxy").ready
    assert proxy.requests[0].raw.startswith(f"GET {pages.url}/x?y HTTP/1.1\r\n".encode())
    assert proxy.requests[0].header("Host") == pages.address


def test_proxy_for_a_page_in_tls(
    enter: Enter, authority: Authority, ask: Ask, tmp_path: Path
) -> None:
    """A page in TLS is asked for in a tunnel: the proxy sees no credential of the page's."""
    proxy = enter(Proxy())
    pages = enter(ScriptedHTTP(tls=TLS(authority.issue())))
    pages.on("*", page())
    (tmp_path / "token").write_text("t0ken-of-mine")
    where = f"https://localhost:{pages.port}/#ca={authority.file}#token-file={tmp_path}/token"
    assert ask(f"{where}#proxy={proxy.url.replace('//', '//me:pr0xy-pass@')}").ready
    assert pages.requests[0].header("Authorization") == "Bearer t0ken-of-mine"
    assert pages.requests[0].header("Proxy-Authorization") is None
    login = base64.b64encode(b"me:pr0xy-pass").decode()
    assert proxy.requests[0].raw.decode() == (
        f"CONNECT localhost:{pages.port} HTTP/1.1\r\nHost: localhost:{pages.port}\r\n"
        f"Proxy-Authorization: Basic {login}\r\n\r\n"
    )


def test_a_proxy_that_refuses(enter: Enter, pages: ScriptedHTTP, ask: Ask) -> None:
    """Its 407 is a login at the proxy, its refusal of a tunnel says that nothing is reached."""
    pages.on("*", page(407))
    for where in ("http://x.example/", "https://x.example/"):
        verdict = ask(f"{where}#proxy={pages.url}")
        assert verdict.cause == "auth-required"
        assert verdict.seen == "the proxy answers 407 Proxy Authentication Required"
        login = pages.url.replace("//", "//me:pr0xy-pass@")
        assert ask(f"{where}#proxy={login}").cause == "auth-refused"
    dead = enter(Server(opened=False))
    proxy = enter(Proxy())
    verdict = ask(f"https://{dead.address}/#proxy={proxy.url}")
    assert verdict.cause == "unreachable"
    assert verdict.seen == (
        f"the proxy {proxy.address} answers 502 Bad Gateway to CONNECT {dead.address}"
    )
    assert ask(f"{pages.url}/#proxy=http://{dead.address}").cause == "refused"


# -- TLS


def test_https_takes_all_options_of_tls(enter: Enter, authority: Authority, ask: Ask) -> None:
    """The page is asked for only where the certificate is as it should be."""
    mine = authority.client()
    secured = TLS(authority.issue("inner.example", days=20.5), demand=authority, alpn=("http/1.1",))
    pages = enter(ScriptedHTTP(tls=secured))
    pages.on("*", page())
    where = f"https://localhost:{pages.port}/"
    good = (
        f"#ca={authority.file}#server-name=inner.example#cert={mine.chain}#key={mine.key}"
        "#alpn=http/1.1"
    )
    assert ask(where + good + "#min-days=20").ready
    for options, cause in (
        (good + "#min-days=30", "tls-expired"),
        (good.replace("#server-name=inner.example", ""), "tls-name"),
        (good.replace(f"#ca={authority.file}", ""), "tls-untrusted"),
        (f"#ca={authority.file}#server-name=inner.example", "tls-client-cert"),
    ):
        assert ask(where + options).cause == cause
    assert len(pages.requests) == 1
    assert ask(f"{where}#insecure#cert={mine.chain}#key={mine.key}").ready


def test_http_1_1_is_offered_and_not_insisted_on(
    enter: Enter, authority: Authority, ask: Ask
) -> None:
    """A server without ALPN is fine; one that has it hears that HTTP/1.1 is meant."""
    chosen = []

    def behave(connection: Connection) -> None:
        connection.read()
        chosen.append(connection.socket.selected_alpn_protocol())  # type: ignore[attr-defined]
        connection.write(page())

    for alpn in ((), ("h2", "http/1.1")):
        server = enter(Server(behave, tls=TLS(authority.issue(), alpn=alpn)))
        assert ask(f"https://localhost:{server.port}/#ca={authority.file}").ready
    assert chosen == [None, "http/1.1"]


def test_plain_text_at_a_port_of_tls(enter: Enter, authority: Authority, ask: Ask) -> None:
    """A TLS port asked in plain text is `protocol`, and the hint says what to write."""
    nginx = enter(Nginx("location / { return 200; }", certificate=authority.issue()))
    verdict = ask(f"http://localhost:{nginx.https_port}/")
    assert verdict.cause == "protocol"
    assert verdict.seen.startswith(f"127.0.0.1:{nginx.https_port} speaks TLS: GET / answers 400 ")
    assert verdict.hint == "https:// asks in TLS"
    alert = enter(Server(say(b"\x15\x03\x01\x00\x02\x02\x46", then=close)))
    verdict = ask(f"http://{alert.address}/")
    assert verdict.cause == "protocol"
    assert verdict.seen == f"{alert.address} answers in TLS to a plain request"
    assert verdict.hint == "https:// asks in TLS"


def test_tls_at_a_port_of_plain_text(enter: Enter, ask: Ask) -> None:
    """A plain port asked in TLS is `tls-plaintext`, and the hint says what to write."""
    nginx = enter(Nginx("location / { return 200; }"))
    verdict = ask(f"https://localhost:{nginx.port}/")
    assert verdict.cause == "tls-plaintext"
    assert verdict.hint == "http:// asks without TLS"


def test_real_nginx(enter: Enter, authority: Authority, ask: Ask) -> None:
    """A real server by name, by TLS, over its socket, through a redirect of its own."""
    nginx = enter(
        Nginx(
            """
            location = /ok { return 200 fine; }
            location = /moved { absolute_redirect off; return 301 /ok; }
            location = /big { try_files /data =404; }
            """,
            certificate=authority.issue(),
            files={"data": "x" * 300_000},
        )
    )
    for where in (nginx.url, nginx.https_url, "http://any.example"):
        options = f"#unix-socket={nginx.socket}" if "any" in where else ""
        options += f"#ca={authority.file}" if where.startswith("https") else ""
        assert ask(f"{where}/ok{options}#contains=fine").ready
        assert ask(f"{where}/moved{options}").ready
        assert ask(f"{where}/big{options}").ready
        assert ask(f"{where}/big{options}#contains=y").cause == "unexpected-body"
    assert nginx.requests()[:3] == ["GET /ok 200", "GET /moved 301", "GET /ok 200"]


# -- connections


def test_servers_that_do_not_answer(enter: Enter, ask: Ask) -> None:
    """Each way of not answering has the cause of any stream; what is no HTTP is shown."""
    behaviours: tuple[tuple[Behaviour, str], ...] = (
        (close, "closed-early"),
        (reset(), "closed-early"),
        (hang, "no-reply"),
        (say(b"HTTP/1.1 200 OK\r\nContent-Le"), "no-reply"),
        (say(b"HTTP/1.1 200 OK\r\nContent-Le", then=close), "closed-early"),
        (say(b"SSH-2.0-OpenSSH_9.2\r\n"), "protocol"),
        (say(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03"), "protocol"),
    )
    for behaviour, cause in behaviours:
        server = enter(Server(behaviour))
        assert ask(f"http://{server.address}/", timeout=0.5).cause == cause
    server = enter(Server(say(b"-ERR unknown\x1b[2J command")))
    verdict = ask(f"http://{server.address}/")
    assert verdict.cause == "protocol"
    assert verdict.seen == (
        rf"{server.address} does not speak HTTP, it said '-ERR unknown\x1b[2J command'"
    )
    assert ask(f"http://{enter(Server(opened=False)).address}/").cause == "refused"
    assert ask(f"http://{enter(Full()).address}/", timeout=0.3).cause == "connect-timeout"


def test_a_slow_page_ends_at_the_deadline(pages: ScriptedHTTP, ask: Ask) -> None:
    """A byte now and then does not extend the attempt; without a need for the page it is not read."""
    pages.on("/", slow(b"x" * 100, every=0.1))
    began = time.monotonic()
    assert ask(f"{pages.url}/#contains=y", timeout=0.5).cause == "no-reply"
    assert time.monotonic() - began < 8
    assert ask(f"{pages.url}/", timeout=0.5).ready


def test_a_body_that_stops_short_is_closed_early(pages: ScriptedHTTP, ask: Ask) -> None:
    """A page that was announced longer than it came is not searched as if it were whole."""
    pages.on("/", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
    assert ask(f"{pages.url}/#contains=zz").cause == "closed-early"
    assert ask(f"{pages.url}/#contains=hello").ready


def test_a_small_page_is_read_to_its_end(enter: Enter, ask: Ask) -> None:
    """The server meets an orderly end and not a reset, though nobody needs the page."""
    ends: list[bytes | OSError] = []

    def behave(connection: Connection) -> None:
        connection.read()
        connection.write(page(200, b"x" * 20_000))
        try:
            ends.append(connection.socket.recv(1))
        except OSError as error:
            ends.append(error)

    server = enter(Server(behave))
    assert ask(f"http://{server.address}/").ready
    assert server.connections[0].ended.wait(10)
    assert ends == [b""]


# -- mistakes and secrets


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("#status=6", "no status"),
        ("#status=abc", "no status"),
        ("#status=099", "no status"),
        ("#status=300-200", "ends before it begins"),
        ("#method=G ET", "no method"),
        ("#method=CONNECT", "no method"),
        ("#header=no colon", "no name of a header"),
        ("#header=X-Key", "a colon is missing"),
        ("#header=X-Key: a%0D%0AX-Injected: b", "line break"),
        ("#header=: x", "no name of a header"),
        ("#header-file=X-Key", "NAME=PATH"),
        ("#header-file==/x", "NAME=PATH"),
        ("#user=a:b", "colon in the user's name"),
        ("#password-file=/x", "without a user"),
        ("#password-env=X", "without a user"),
        ("#user=a#password-file=/x#password-env=X", "more than one password"),
        ("#user=a#token-file=/x", "more than one login"),
        ("#token-file=/x#header=Authorization: y", "more than one login"),
        ("#token-file=/x#header-file=authorization=/y", "more than one login"),
        ("#json=status", "names no value"),
        ("#json=:x", "a name is missing"),
        ("#json=a[x]:1", "no index"),
        ("#redirects=all", "none of same-origin, none, any"),
        ("#proxy=https://x:1", "not valid"),
        ("#proxy=x:1", "not valid"),
        ("#proxy=http://x:0", "not valid"),
        ("#proxy=http://x:1#unix-socket=/s", "one way there"),
        ("#redirects=any#unix-socket=/s", "leads to one server"),
        ("#method=HEAD#contains=x", "asks for no page"),
        ("#method=HEAD#json=a:1", "asks for no page"),
        ("#ca=/x", "no option 'ca'"),
    ],
)
def test_mistakes_are_found_before_anything_is_asked(options: str, words: str) -> None:
    """What cannot be meant is the operator's to mend."""
    with pytest.raises(OperatorError, match=words):
        target.parse(f"http://x/{options}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://a:b@x/#user=c", "besides a user before the host"),
        ("http://a:b@x/#password-file=/x", "more than one password"),
        ("http://a:b%0A@x/", "character that cannot be seen"),
        ("https://x/#alpn=h2", "other than http/1.1"),
        ("https://x/#key=/k", "without #cert="),
    ],
)
def test_mistakes_in_the_address_are_found_too(text: str, words: str) -> None:
    """What stands in the address and what stands in the options must fit together."""
    with pytest.raises(OperatorError, match=words):
        target.parse(text)


CANARY = "c4nary-v4lue"


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("http://me:c4nary-v4lue@{address}/", ""),
        ("http://{address}/?token=c4nary-v4lue", ""),
        ("http://{address}/#header=X-Key: c4nary-v4lue", ""),
        ("http://{address}/#header=Authorization: Bearer c4nary-v4lue", ""),
        ("http://{address}/#header-file=X-Key={folder}/secret", CANARY),
        ("http://{address}/#token-file={folder}/secret", CANARY),
        ("http://{address}/#user=me#password-file={folder}/secret", CANARY),
        ("http://{address}/#user=me#password-env=CANARY", ""),
        ("http://{address}/#proxy=http://me:c4nary-v4lue@{address}", ""),
    ],
)
def test_fault_68_a_secret_that_is_echoed_stays_one(
    text: str,
    files: str,
    pages: ScriptedHTTP,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault 68: a server that repeats all it was sent, plain and decoded, cannot make us tell it."""
    monkeypatch.setenv("CANARY", CANARY)
    (tmp_path / "secret").write_text(files)

    def echo(request: Request) -> bytes:
        raw = request.raw
        words = [base64.b64decode(word) for word in raw.split() if word.startswith(b"bWU6")]
        return page(500, b" ".join((*words, *raw.replace(b"\r\n", b" ").split())))

    pages.on("*", echo)
    filled = text.format(address=pages.address, folder=tmp_path)
    encoded = base64.b64encode(f"me:{CANARY}".encode()).decode()
    for options in ("", "#contains=zzzz#status=500", "#json=a:1#status=500"):
        verdict = ask(filled + options)
        assert verdict.cause in ("unexpected-status", "unexpected-body")
        for shown in (verdict.seen, verdict.hint, str(target.parse(filled))):
            assert CANARY not in shown
            assert encoded not in shown
    pages.on("*", redirect(f"http://{CANARY}.example/{CANARY}?{CANARY}"))
    assert CANARY not in ask(filled).seen
    assert model._secrets
