"""Why Redis refused a command: the first word of its error reply as a cause.

Loaded when the first error comes. The words are those of Redis 2.8 to 8 and of Valkey, which kept them.
"""

from __future__ import annotations

from ... import net
from ...access import USER_ALONE
from ...errors import NotReady, blocked
from ...model import printable
from . import info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .resp import Client, Refusal

# The first word, the cause, and what to do.
_CODES = {
    "LOADING": ("starting", ""),
    "NOAUTH": ("auth-required", "#password-file= gives the password, #user= the user of an ACL"),
    "WRONGPASS": ("auth-refused", ""),
    "NOPERM": ("forbidden", ""),
    "DENIED": ("forbidden", "give the server a password, or switch its protected mode off"),
    "MASTERDOWN": ("replica-lag", "with replica-serve-stale-data yes it would serve what it has"),
    "CLUSTERDOWN": ("not-ready", "#cluster says what the cluster lacks"),
    "TRYAGAIN": ("not-ready", ""),
    "MOVED": ("redirect", "the cluster's nodes differ on who has the slot"),
    "ASK": ("redirect", "the cluster's nodes differ on who has the slot"),
    "MISCONF": ("alarm", "it cannot save to disk, which may be full: its log says why"),
    "OOM": ("alarm", "raise maxmemory, or choose a maxmemory-policy that evicts"),
    "READONLY": ("read-only", ""),
    "NOREPLICAS": ("read-only", ""),
    "BUSY": ("overloaded", "SCRIPT KILL ends a script that has not written yet"),
    "NOQUORUM": ("no-quorum", "bring up more sentinels"),
}
# What the server says after ERR, in lower case.
_PHRASES = (
    ("max number of clients", "overloaded", "raise maxclients; CLIENT LIST shows who is there"),
    ("unknown command", "unsupported", "the server renamed the command, or is a proxy without it"),
    ("db index", "no-such-database", "the server's setting `databases` says how many there are"),
    ("select is not allowed", "no-such-database", "a cluster has the database 0 alone"),
    ("no such master", "missing-object", "compare the name with `sentinel monitor NAME ...`"),
)
# Most are a sentence or two; DENIED brings a page.
_LONGEST = 160
# How long a server that loads may take to say how far it is, in seconds: it listens now and then only.
_PATIENCE = 0.5


def explain(client: Client, words: tuple[str, ...], refusal: Refusal) -> NotReady:
    """The exception for an error reply to the command `words`."""
    said = printable(refusal.words.rstrip(), _LONGEST)
    cause, hint = _CODES.get(refusal.code, ("protocol", ""))
    if refusal.code not in _CODES:
        for phrase, known, advice in _PHRASES:
            if phrase in refusal.words.lower():
                cause, hint = known, advice
    if words[0] == "AUTH" and (cause == "auth-refused" or refusal.code == "ERR"):
        return _login_refused(client, words[-1], said, cause, hint)
    # A command is named with its subcommand, without its arguments.
    named = words[: 2 if words[0] in ("CLUSTER", "SENTINEL") else 1]
    told = f"{client.peer} answers {' '.join(named)} with {said}"
    if words[0] == "SENTINEL" and cause == "unsupported":
        hint = "a sentinel listens on port 26379 unless told otherwise"
    if refusal.code == "LOADING":
        told += _progress(client)
    if refusal.code == "NOPERM":
        rule = f"+{'|'.join(named).lower()}"
        if words[0] == "EXISTS" and "to access" in said:
            rule = f"~{words[1]}"
        hint = f"ACL SETUSER {client.user or 'default'} {rule}"
    return blocked(cause, told, hint)


def _login_refused(client: Client, password: str, said: str, cause: str, hint: str) -> NotReady:
    if "wrong number of arguments" in said:
        told = f"{client.peer} knows no users, only a password: {said}"
        return blocked("unsupported", told, "before version 6 leave the user out")
    if cause in ("overloaded", "unsupported"):
        return blocked(cause, f"{client.peer} answers AUTH with {said}", hint)
    whom = f"of {printable(client.user, 60)}" if client.user else "with a password alone"
    told = f"{client.peer} refuses the login {whom}: {said}"
    return blocked("auth-refused", told, hint if password else USER_ALONE)


def _progress(client: Client) -> str:
    """How far a server is that loads, if it tells soon."""
    stream = client.stream
    stream.deadline = min(stream.deadline, net.monotonic() + _PATIENCE)
    try:
        told = client.say("INFO")
    except NotReady:
        return ""
    progress = info.Info(client.peer, told).progress() if isinstance(told, str) else ""
    return f" ({progress})" if progress else ""
