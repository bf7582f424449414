"""What a `kafka:` target asks for: its options, and what can be wrong with them."""

from __future__ import annotations

from ... import access
from ...options import NUMBER, Kind, Option, Target, Wrong, choice
from .entry import MECHANISMS


def _read_topic(text: str) -> str:
    # What Kafka itself allows (`Topic.validate`).
    plain = all(c.isascii() and (c.isalnum() or c in "._-") for c in text)
    if not plain or text in ("", ".", "..") or len(text) > 249:
        raise Wrong(f"{text!r} is no topic's name: up to 249 letters, digits, dots, _ and -")
    return text


OPTIONS = (
    Option("topic", Kind("TOPIC", _read_topic), "a topic that must be there", many=True),
    Option("partitions", NUMBER, "how many partitions each topic must have at least"),
    Option("min-isr", NUMBER, "how many in-sync replicas each partition must have at least"),
    Option("brokers", NUMBER, "how many brokers must answer where they are advertised"),
    *access.LOGIN_OPTIONS,
    Option("mechanism", choice(*MECHANISMS), "how to log in, instead of the strongest on offer"),
    access.ON_AUTH_REFUSED,
    access.TLS,
    *access.TLS_OPTIONS,
)


def check(target: Target) -> tuple[str, ...]:
    """What the table cannot say."""
    wrong = [*access.check_login(target), *access.check_tls_choice(target)]
    user = target.text("user") or target.user
    if target.text("mechanism") and not user:
        wrong.append("#mechanism= without a user: #user=NAME")
    wrong += [
        f"#{name}= without #topic=: of which one?"
        for name in ("partitions", "min-isr")
        if target.number(name) and not target.texts("topic")
    ]
    if len(set(target.texts("topic"))) < len(target.texts("topic")):
        wrong.append("a topic is named twice")
    if target.path not in ("", "/"):
        wrong.append(f"a path means nothing to Kafka: #topic={target.path.strip('/')}")
    return tuple(wrong)
