"""What a target of HTTP may say: its options, and the mistakes that the option table cannot tell."""

from __future__ import annotations

from ...access import LOGIN_OPTIONS, ON_AUTH_REFUSED, check_login, check_tls
from ...model import keep_secret
from ...options import PATH, TEXT, Kind, Option, Target, Wrong, choice
from .. import http1
from ..http1 import Place

# What these headers hold is no secret, and masking it would make holes in every text.
HARMLESS = frozenset(
    ("accept", "accept-language", "cache-control", "content-type", "host", "range", "user-agent")
)


def _read_status(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if len(text) == 3 and text.isascii() and text[0].isdecimal() and text[1:].lower() == "xx":
        low, high = f"{text[0]}00", f"{text[0]}99"
    elif not dash:
        high = low
    if not all(len(x) == 3 and x.isascii() and x.isdecimal() and x >= "100" for x in (low, high)):
        raise Wrong(f"{text!r} is no status; write for example 200, 2xx, 300-399")
    if low > high:
        raise Wrong(f"{text!r} ends before it begins; {high}-{low}")
    return int(low), int(high)


def write_status(value: object) -> str:
    """A range of statuses as a target writes it: `200`, `2xx`, `300-399`."""
    assert isinstance(value, tuple)
    low, high = value
    if low == high:
        return str(low)
    return f"{low // 100}xx" if low % 100 == 0 and high == low + 99 else f"{low}-{high}"


def _read_method(text: str) -> str:
    if not text or not http1.TOKEN.issuperset(text) or text == "CONNECT":
        raise Wrong(f"{text!r} is no method to ask with; write for example GET, HEAD, POST")
    return text


def _read_header(text: str) -> str:
    name, _, value = text.partition(":")
    if name.strip().lower() not in HARMLESS:
        keep_secret(value.strip())
        keep_secret(value.rpartition(" ")[2])
    return text


def _read_header_file(text: str) -> str:
    name, _, path = text.partition("=")
    if http1.check_header(name, "") or not path:
        raise Wrong(
            f"{text!r} is no NAME=PATH; write for example Authorization=/run/secrets/header"
        )
    return text


def _read_json(text: str) -> str:
    from .. import json_path

    path, colon, _ = text.partition(":")
    try:
        json_path.steps(path)
    except ValueError as error:
        raise Wrong(f"{error}; write for example status:UP, nodes[0].state:ready") from error
    if not colon:
        raise Wrong(f"{text!r} names no value; write for example {path}:UP")
    return text


def _read_proxy(text: str) -> str:
    keep_secret(text.rpartition("@")[0].rpartition("//")[2].partition(":")[2])
    if proxy_place(text) is None:
        raise Wrong("it is no proxy; write http://HOST:PORT")
    return text


OPTIONS = (
    Option(
        "status",
        Kind("200|2xx|300-399", _read_status, write_status),
        "a status, or a range of them, that is as it should be",
        ((200, 299),),
        many=True,
    ),
    Option("method", Kind("METHOD", _read_method), "what to ask with", "GET"),
    Option(
        "header",
        Kind("NAME: VALUE", _read_header),
        "a header to send; it also replaces one that would be sent anyway",
        many=True,
        secret=True,
    ),
    Option(
        "header-file",
        Kind("NAME=PATH", _read_header_file),
        "a header to send whose value is in a file",
        many=True,
    ),
    *LOGIN_OPTIONS,
    Option("token-file", PATH, "a file with a token to log in with (Bearer)"),
    ON_AUTH_REFUSED,
    Option("contains", TEXT, "text that must be in the first 64 KiB of the page", many=True),
    Option(
        "json",
        Kind("PATH:VALUE", _read_json),
        "a value that must be in the page's JSON, such as status:UP",
        many=True,
    ),
    Option(
        "redirects",
        choice("same-origin", "none", "any"),
        "which redirects to follow, ten at most; credentials never leave the origin",
        "same-origin",
    ),
    Option(
        "proxy",
        Kind("http://HOST:PORT", _read_proxy),
        "a proxy to ask by way of; none is taken from the environment",
        secret=True,
    ),
    Option("unix-socket", PATH, "a Unix socket to connect to instead of the host"),
)


def check(target: Target) -> tuple[str, ...]:
    """What the option table cannot say. Values of headers are never repeated: they may be secret."""
    wrong = []
    names = [text.partition("=")[0].lower() for text in target.texts("header-file")]
    for text in target.texts("header"):
        name, colon, value = text.partition(":")
        names.append(name.lower())
        if fault := http1.check_header(name, value) or ("" if colon else "a colon is missing"):
            wrong.append(f"#header=: {fault}; #header=Name: value")
    user = target.text("user") or target.user
    wrong += check_login(target, user_alone=True)
    if ":" in user:
        wrong.append("a colon in the user's name, which Basic cannot carry")
    logins = [bool(user), bool(target.text("token-file")), "authorization" in names]
    if sum(logins) > 1:
        wrong.append("more than one login: a user, a token or an Authorization header")
    if target.text("unix-socket") and target.text("proxy"):
        wrong.append("#proxy= with #unix-socket=: one way there, not two")
    if target.text("unix-socket") and target.text("redirects") == "any":
        wrong.append("#redirects=any with #unix-socket=: a socket leads to one server")
    if target.text("method") == "HEAD" and (target.texts("contains") or target.texts("json")):
        wrong.append("#method=HEAD asks for no page, so nothing can be found in it")
    if target.scheme.name == "https":
        wrong += check_tls(target)
        if any(name != "http/1.1" for name in target.texts("alpn")):
            wrong.append("#alpn= other than http/1.1, which is what is spoken here")
    return tuple(wrong)


def proxy_place(text: str) -> Place | None:
    """Where a proxy is, None if the text is empty or names none."""
    if not text:
        return None
    from .. import location

    return location.follow(Place("http", "", 80, "/"), text) if text.startswith("http://") else None
