"""The options of `redis:` and `rediss:`: what a target may say, and what is wrong with it."""

from __future__ import annotations

from ...access import LOGIN_OPTIONS, ON_AUTH_REFUSED, check_data_key, check_login, check_tls
from ...model import percent_decoded
from ...options import FLAG, PATH, TEXT, Option, choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target

OPTIONS = (
    *LOGIN_OPTIONS,
    ON_AUTH_REFUSED,
    Option(
        "role",
        choice("primary", "replica"),
        "primary: it takes writes; replica: it follows a primary",
    ),
    Option("link", FLAG, "a replica whose link to its primary is up, and its copy complete", False),
    Option("cluster", FLAG, "a node of a cluster that works and serves every slot", False),
    Option("key", TEXT, "a key that must exist"),
    Option(
        "sentinel",
        TEXT,
        "the name of a primary: the host is a sentinel, and the primary that it names must take writes",
    ),
    Option("unix-socket", PATH, "a Unix socket to connect to instead of the host"),
)


def database_number(target: Target) -> int | None:
    """The number of the database, None if what was written is none. As in redis-py `?db=` goes first."""
    text = percent_decoded(target.path.strip("/"))
    for pair in target.query.split("&"):
        name, _, value = pair.partition("=")
        text = value if name == "db" else text
    text = text or "0"
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def check(target: Target) -> tuple[str, ...]:
    """What the option table cannot say."""
    wrong = [*check_login(target, user_alone=True, password_alone=True)]
    if database_number(target) is None:
        wrong.append("the path is no number of a database, as in redis://cache/0")
    if target.flag("link") and target.text("role") == "primary":
        wrong.append("#link with #role=primary: only a replica has a link to its primary")
    if target.text("sentinel"):
        names = ("link", "cluster", "unix-socket")
        wrong += [f"#{name} with #sentinel=" for name in names if target.option(name)]
        if target.text("role") == "replica":
            wrong.append("#role=replica with #sentinel=, which leads to the primary")
    if target.scheme.name == "rediss":
        wrong += (*check_tls(target), *check_data_key(target))
        if target.text("unix-socket"):
            wrong.append("#unix-socket= with rediss://, though no TLS is spoken there: redis://")
    return tuple(wrong)
