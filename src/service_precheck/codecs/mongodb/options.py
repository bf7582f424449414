"""What a `mongodb:` target asks for: its options, and what a connection string's own query says.

MongoDB's "Connection String URI Format" and its drivers' specifications "URI Options" and
"Authentication". Parameters about how an application reads and writes are none of a probe's business
and are ignored, such as `readPreference` and `w`.
"""

from __future__ import annotations

from ... import access
from ...model import Frozen, percent_decoded
from ...options import NUMBER, PATH, TEXT, Option, Target, choice
from .member import MOST_MEMBERS, Place, normal

# The parameters that are understood, as the field writes them; upper and lower case are alike.
QUERY = ("authMechanism", "authSource", "directConnection", "replicaSet", "ssl", "tls")
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN")
OPTIONS = (
    *access.LOGIN_OPTIONS,
    access.ON_AUTH_REFUSED,
    Option("role", choice("primary", "secondary"), "what at least one of the members must be"),
    Option("replica-set", TEXT, "the replica set that must answer; ?replicaSet= says the same"),
    Option("min-members", NUMBER, "how many primaries and secondaries must answer"),
    Option("unix-socket", PATH, "a Unix socket to connect to instead of the host"),
    access.TLS,
    *access.TLS_OPTIONS,
)
# What a connection string says about files, and how it is written here.
_WRITTEN_ELSE = {
    "tlscafile": "#ca=PATH",
    "tlscertificatekeyfile": "#cert=PATH",
    "tlsinsecure": "#insecure",
    "tlsallowinvalidcertificates": "#insecure",
    "tlsallowinvalidhostnames": "#server-name=NAME",
}


class Wish(Frozen):
    """What is asked for. `set_name`, `role` are empty and `least` is 0 where nothing is said; `named` are
    the places that the target names.

    `direct` asks the one host that is named and no other member of its set. `user` is empty without a
    login; `source` is the database that has the user; `mechanism` is empty where the server may say.
    """

    __slots__ = (
        "direct",
        "least",
        "mechanism",
        "named",
        "role",
        "set_name",
        "source",
        "tls",
        "user",
    )
    named: tuple[Place, ...]
    set_name: str
    role: str
    least: int
    direct: bool
    user: str
    source: str
    mechanism: str
    tls: bool

    def __init__(self, target: Target) -> None:
        query = _query(target)
        mechanism = query.get("authmechanism", "").upper()
        # The drivers' rules: what is written, the database of the path, the mechanism's own.
        source = query.get("authsource", "") or percent_decoded(target.path.removeprefix("/"))
        self._set(
            named=tuple(normal(*one) for one in target.hosts),
            set_name=target.text("replica-set") or query.get("replicaset", ""),
            role=target.text("role"),
            least=int(target.number("min-members") or 0),
            direct=query.get("directconnection") == "true" or bool(target.text("unix-socket")),
            user=target.text("user") or target.user,
            source=source or ("$external" if mechanism == "PLAIN" else "admin"),
            mechanism="" if mechanism == "DEFAULT" else mechanism,
            tls=access.wants_tls(target) or "true" in (query.get("tls"), query.get("ssl")),
        )

    @property
    def follows(self) -> bool:
        """Whether a member counts only by the name that its set's configuration has for it, as for the
        drivers."""
        return not self.direct and bool(self.set_name or self.role or self.least)


def _query(target: Target) -> dict[str, str]:
    """The parameters of the query, names in lower case."""
    pairs = (pair.partition("=") for pair in target.query.split("&"))
    return {name.lower(): percent_decoded(value) for name, _, value in pairs}


def check(target: Target) -> tuple[str, ...]:
    """What the table of options cannot say."""
    wish, query = Wish(target), _query(target)
    # A login by another mechanism is not spoken, and may need none.
    known = wish.mechanism in ("", *MECHANISMS)
    login = access.check_login(target, user_alone=not known)
    wrong = [*login, *access.check_tls_choice(target)]
    wrong += [
        f"?{name}= is not read here: write {instead}"
        for name, instead in _WRITTEN_ELSE.items()
        if query.get(name, "false") != "false"
    ]
    wrong += [
        f"?{name}= is neither true nor false"
        for name in ("tls", "ssl", "directconnection")
        if query.get(name, "true") not in ("true", "false")
    ]
    if wish.tls and "false" in (query.get("tls"), query.get("ssl")):
        wrong.append("?tls=false, and something else asks for TLS")
    if target.text("replica-set") and query.get("replicaset", wish.set_name) != wish.set_name:
        wrong.append("#replica-set= and ?replicaSet= name different sets")
    if len(target.hosts) > MOST_MEMBERS:
        wrong.append(f"{len(target.hosts)} hosts; a replica set has {MOST_MEMBERS} at most")
    if wish.direct and (len(target.hosts) > 1 or wish.least > 1):
        only = "#unix-socket=" if target.text("unix-socket") else "?directConnection=true"
        wrong.append(f"{only} asks one server only, and several are wanted")
    return (*wrong, *_check_mechanism(wish))


def _check_mechanism(wish: Wish) -> list[str]:
    if wish.mechanism and wish.mechanism not in MECHANISMS:
        spoken = ", ".join(MECHANISMS)
        why = f"?authMechanism={wish.mechanism} is not spoken here, only {spoken}"
        return [f"{why}; without a login it is asked what it tells anybody"]
    wrong = []
    if wish.mechanism and not wish.user:
        wrong.append("?authMechanism= without a user: #user=NAME")
    if wish.mechanism == "PLAIN" and not wish.tls:
        wrong.append("?authMechanism=PLAIN shows the password to the network: #tls")
    return wrong
