"""HTTP and HTTPS: does a page answer as it should.

RFC 9110 and RFC 9112 (HTTP/1.1). Sends one request a look-up, and one for each redirect it follows,
each on a connection of its own with `Connection: close`. Costs the server what that page costs it.

Credentials (every `header`, user and token, a client's certificate) are sent to the origin that the
target names and to no other, whatever a redirect says. `HTTP_PROXY` and its kin are not read.
"""

from __future__ import annotations

from .. import net, stream
from ..access import TLS_OPTIONS, tls_settings, try_tls_files
from ..codecs import http1
from ..codecs.http.options import HARMLESS, OPTIONS, check, proxy_place, write_status
from ..codecs.http1 import Place
from ..errors import NotReady, blocked
from ..model import Verdict, ready
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..codecs.http1 import Response
    from ..stream import Attempt, Stream
    from ..tls import Settings

MOST_REDIRECTS = 10
# How much is read of an answer that says all by its status, and for how long: closing the connection
# before its end is a reset, which servers log.
MOST_READ, LINGER = 65_536, 0.02


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the page answers with an expected status, and holds what it should."""
    assert target.port is not None
    try_tls_files(target)
    query = f"?{target.query}" if target.query else ""
    place = first = Place(target.scheme.name, target.host, target.port, target.path + query)
    method = target.text("method")
    extra = _extra_headers(target)
    own = True
    asked: set[tuple[str, Place]] = set()
    while True:
        asked.add((method, place))
        words = f"{method} {place.shown_path if place.origin == first.origin else place}"
        with _connect(target, attempt, place) as connection:
            _open(target, connection, place, own)
            connection.write(_request(target, method, place, extra if own else []))
            head = http1.read_head(connection, method)
            onward = _redirected(target, head, place, first, words)
            if onward is None:
                return _judge(target, connection, head, words, own and _secret(extra))
        # A chain that leaves the origin and comes back may be somebody's trick.
        own = own and onward.origin == first.origin
        if head.status == 303 or (head.status in (301, 302) and method == "POST"):
            method = "HEAD" if method == "HEAD" else "GET"
        if (method, onward) in asked:
            raise blocked("redirect", f"{words} answers {head}, in a circle to {onward}")
        if len(asked) > MOST_REDIRECTS:
            raise blocked("redirect", f"more than {MOST_REDIRECTS} redirects, the last to {onward}")
        place = onward


def _connect(target: Target, attempt: Attempt, place: Place) -> Stream:
    if path := target.text("unix-socket"):
        return stream.connect_unix(path, attempt)
    proxy = proxy_place(target.text("proxy"))
    where = proxy or place
    return stream.connect(where.host, where.port, attempt)


def _open(target: Target, connection: Stream, place: Place, own: bool) -> None:
    """Get from an open connection to where the request can be sent."""
    if place.scheme != "https":
        return
    if target.text("proxy"):
        headers = [("Host", place.tunnel), *_proxy_login(target)]
        connection.write(http1.request("CONNECT", place.tunnel, headers))
        head = http1.read_head(connection, "CONNECT")
        if head.status == 407:
            raise _proxy_refuses(target, head)
        if not 200 <= head.status < 300:
            raise blocked(
                "unreachable",
                f"the proxy {connection.peer} answers {head} to CONNECT {place.tunnel}",
            )
    try:
        connection.upgrade(_tls(target, own), place.host)
    except NotReady as error:
        if error.verdict.cause != "tls-plaintext":
            raise
        verdict = error.verdict.but(hint="http:// asks without TLS")
        raise NotReady(verdict) from error


def _tls(target: Target, own: bool) -> Settings:
    from ..tls import Settings

    if target.scheme.name != "https":
        return Settings(alpn=("http/1.1",), alpn_optional=True)
    settings = tls_settings(target, "http/1.1")
    if own:
        return settings
    # The name and the certificate are for the origin that the target names.
    return Settings(
        ca=settings.ca, insecure=settings.insecure, alpn=settings.alpn, alpn_optional=True
    )


def _request(target: Target, method: str, place: Place, extra: list[tuple[str, str]]) -> bytes:
    headers = [
        ("Host", place.authority),
        ("User-Agent", "service-precheck"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    given = {name.lower() for name, _ in extra}
    headers = [header for header in headers if header[0].lower() not in given]
    asked = place.path
    if target.text("proxy") and place.scheme == "http":
        asked = f"http://{place.authority}{place.path}"
        headers += _proxy_login(target)
    return http1.request(method, asked, [*headers, *extra])


def _extra_headers(target: Target) -> list[tuple[str, str]]:
    """What the target adds to a request, its secrets read anew. Raises NotReady (`local`)."""
    extra = []
    for text in target.texts("header"):
        name, _, value = text.partition(":")
        extra.append((name, value.strip()))
    for text in target.texts("header-file"):
        from ..codecs import credentials

        name, _, path = text.partition("=")
        extra.append((name, credentials.from_file(path)))
    if path := target.text("token-file"):
        from ..codecs import credentials

        extra.append(("Authorization", f"Bearer {credentials.from_file(path)}"))
    if user := target.text("user") or target.user:
        from ..codecs import credentials

        extra.append(("Authorization", credentials.basic(user, credentials.password(target))))
    for name, value in extra:
        if fault := http1.check_header(name, value):
            raise blocked("local", f"{fault}, and cannot be sent")
    return extra


def _secret(extra: list[tuple[str, str]]) -> bool:
    """Whether there is something to log in with among the headers."""
    return any(name.lower() not in HARMLESS for name, _ in extra)


def _proxy_login(target: Target) -> list[tuple[str, str]]:
    login = target.text("proxy").removeprefix("http://").rpartition("@")[0]
    if not login:
        return []
    from ..codecs import credentials

    user, _, password = login.partition(":")
    return [("Proxy-Authorization", credentials.basic(user, password))]


def _proxy_refuses(target: Target, head: Response) -> NotReady:
    cause = "auth-refused" if _proxy_login(target) else "auth-required"
    return blocked(
        cause, f"the proxy answers {head}", "#proxy=http://USER:PASSWORD@HOST:PORT logs in"
    )


def _redirected(
    target: Target, head: Response, place: Place, first: Place, words: str
) -> Place | None:
    """Where to ask next, None if this is the answer. Raises `redirect`."""
    text = head.header("location")
    if head.status not in (301, 302, 303, 307, 308) or not text or _expected(target, head.status):
        return None
    from ..codecs import location

    onward = location.follow(place, text)
    if onward is None:
        raise blocked("redirect", f"{words} answers {head}, to what is no address of HTTP")
    allowed = target.text("redirects")
    if allowed == "any" or (allowed == "same-origin" and onward.origin == first.origin):
        return onward
    hint = f"write {onward} if that is what is meant"
    if allowed == "same-origin":
        hint += ", or #redirects=any, which follows without credentials"
    raise blocked("redirect", f"{words} answers {head}, to {onward}", hint)


def _expected(target: Target, status: int) -> bool:
    ranges: tuple[tuple[int, int], ...] = target.values("status")  # type: ignore[assignment]
    return any(low <= status <= high for low, high in ranges)


def _judge(
    target: Target, connection: Stream, head: Response, words: str, logged_in: bool
) -> Verdict:
    if head.status == 407 and target.text("proxy") and not _expected(target, 407):
        raise _proxy_refuses(target, head)
    if not _expected(target, head.status):
        from ..codecs.http import fault as http_fault

        wanted = ", ".join(write_status(each) for each in target.values("status"))
        raise http_fault.explain(connection, head, words, wanted, logged_in)
    if target.texts("contains") or target.texts("json"):
        from ..codecs.http import page

        found = page.check(connection, head, words, target.texts("contains"), target.texts("json"))
        return ready(f"{words} answers {head.status}, {found}")
    connection.deadline = min(connection.deadline, net.monotonic() + LINGER)
    try:
        read = 0
        for piece in http1.body(connection, head):
            read += len(piece)
            if read > MOST_READ:
                break
    except NotReady:
        pass
    return ready(f"{words} answers {head.status}")


SCHEMES = (
    Scheme(
        "http",
        "url",
        probe,
        proves="the page answers with an expected status, and holds what it should",
        not_proves="more than the page itself looks at: a start page says little of a database",
        example="http://api.shop/healthz#json=status:UP",
        options=OPTIONS,
        port=80,
        floor=0.05,
        check=check,
    ),
    Scheme(
        "https",
        "url",
        probe,
        proves="the page answers with an expected status over TLS, with a certificate that is trusted",
        not_proves="more than the page itself looks at: a start page says little of a database",
        example="https://vault.example.org:8200/v1/sys/health#ca=/etc/vault/ca.pem",
        options=(*OPTIONS, *TLS_OPTIONS),
        port=443,
        floor=0.1,
        check=check,
    ),
)
