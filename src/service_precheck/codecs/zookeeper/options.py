"""What a `zookeeper:` target may say, and what is wrong with one."""

from __future__ import annotations

from ... import net
from ...access import (
    LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    TLS,
    TLS_OPTIONS,
    check_login,
    check_tls_choice,
)
from ...model import percent_decoded
from ...options import NUMBER, TEXT, Option, Target, choice

OPTIONS = (
    Option(
        "mode",
        choice("any", "leader", "follower", "observer", "standalone"),
        "what a server must be to count",
        "any",
    ),
    Option("voters", NUMBER, "how many leaders and followers must serve, all in one ensemble"),
    Option("path", TEXT, "a znode that must exist; it may stand behind the hosts instead"),
    *LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    TLS,
    *TLS_OPTIONS,
)


def znode(target: Target) -> str:
    """The path of the znode that must exist, empty for none."""
    behind = percent_decoded(target.path) if target.path != "/" else ""
    return target.text("path") or behind


def check(target: Target) -> tuple[str, ...]:
    """What the table cannot say."""
    wrong = list(check_login(target) + check_tls_choice(target))
    path = znode(target)
    if target.text("path") and target.path not in ("", "/"):
        wrong.append("a path behind the hosts and #path=: write one, from the root")
    elif path:
        wrong += _check_path(path)
    if target.query:
        wrong.append("a ? behind the hosts: ZooKeeper's connection strings have no query")
    voters = int(target.number("voters") or 0)
    if voters and target.text("mode") != "any":
        wrong.append("#voters= counts leaders and followers, so #mode= has nothing to say")
    # A name may have an address for each server.
    if voters > len(target.hosts) and all(net.is_address(host) for host, _ in target.hosts):
        wrong.append(f"#voters={voters}, and the servers named are {len(target.hosts)}")
    user = target.text("user") or target.user
    if ":" in user:
        wrong.append("a colon in the user's name")
    return tuple(wrong)


def _check_path(path: str) -> list[str]:
    """The rules of ZooKeeper's own `PathUtils.validatePath`, as far as people break them."""
    if not path.startswith("/"):
        return [f"the path {path!r} does not start at the root: /{path}"]
    parts = path[1:].split("/")
    if path != "/" and not all(parts):
        return [f"the path {path!r} has an empty part"]
    if {".", ".."} & set(parts):
        return [f"the path {path!r} has a part . or .."]
    if not path.isprintable():
        return ["a control character in the path"]
    return []
