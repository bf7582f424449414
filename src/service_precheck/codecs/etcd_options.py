"""What a target of etcd may say: its options, and the mistakes that the option table cannot tell."""

from __future__ import annotations

from ..access import (
    LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    TLS,
    TLS_OPTIONS_BESIDE_KEY,
    check_data_key,
    check_login,
    check_tls_choice,
)
from ..options import FLAG, TEXT, Option, Target

OPTIONS = (
    Option("member", FLAG, "every host named must serve as a voting member", False),
    Option("alarms", FLAG, "an alarm that is raised (NOSPACE, CORRUPT) blocks", False),
    Option("key", TEXT, "a key that must exist"),
    *LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    TLS,
    *TLS_OPTIONS_BESIDE_KEY,
)


def check(target: Target) -> tuple[str, ...]:
    """What the option table cannot say."""
    wrong = [*check_login(target), *check_tls_choice(target), *check_data_key(target)]
    if target.path not in ("", "/") or target.query:
        wrong.append("a path or query, which says nothing to etcd; #key=NAME asks for a key")
    if any(name != "h2" for name in target.texts("alpn")):
        wrong.append("#alpn= other than h2, which is what gRPC speaks")
    return tuple(wrong)
