"""What a target of AMQP may say: its options, its virtual host, and the mistakes no option table can tell."""

from __future__ import annotations

from ...access import (
    LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    TLS_OPTIONS,
    check_login,
    check_needs_login,
    check_tls,
)
from ...model import percent_decoded
from ...options import FLAG, TEXT, Option, Target, choice

OPTIONS = (
    *LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    Option("queue", TEXT, "a queue that must be there", many=True),
    Option("exchange", TEXT, "an exchange that must be there", many=True),
    Option(
        "alarms", FLAG, "an alarm for memory or disk blocks, rather than being told only", False
    ),
)
TLS_ONLY = (
    Option(
        "mechanism",
        choice("plain", "external"),
        "plain: log in with user and password; external: with the client's certificate",
        "plain",
    ),
    *TLS_OPTIONS,
)
# What RabbitMQ's own clients call it in the query of a URI.
QUERY = ("auth_mechanism",)
# What only a login can see.
NEED_LOGIN = ("queue", "exchange", "alarms")


def vhost(target: Target) -> str:
    """The virtual host: the path without its first slash, `/` where it is empty, as clients have it."""
    return percent_decoded(target.path[1:]) or "/"


def external(target: Target) -> bool:
    """Whether the client's certificate is the login."""
    asked = "auth_mechanism=external" in target.query.lower().split("&")
    return target.scheme.name == "amqps" and (asked or target.text("mechanism") == "external")


def check(target: Target) -> tuple[str, ...]:
    """What the option table cannot say."""
    path = "a vhost" if vhost(target) != "/" else ""
    wrong = [
        *check_login(target, user_alone=external(target)),
        *check_needs_login(target, NEED_LOGIN, path, certificate=external(target)),
    ]
    if "/" in target.path[1:]:
        wrong.append("a slash in the vhost, which is written %2F")
    for what, name in (
        ("the vhost", vhost(target)),
        *(("#queue=", name) for name in target.texts("queue")),
        *(("#exchange=", name) for name in target.texts("exchange")),
    ):
        if len(name.encode("utf-8", "surrogateescape")) > 255:
            wrong.append(f"{what} is longer than 255 bytes")
    if target.scheme.name == "amqps":
        wrong += check_tls(target)
    if external(target):
        if not target.text("cert"):
            wrong.append("the mechanism external without #cert=: the certificate is the login")
        if target.text("user") or target.user:
            wrong.append("a user with the mechanism external: the certificate names the user")
    return tuple(wrong)
