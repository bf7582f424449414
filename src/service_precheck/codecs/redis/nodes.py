"""What one server of Redis tells of others: a cluster's state and nodes, the primary that a sentinel knows.

Redis cluster specification, "CLUSTER INFO", MOVED and ASK redirection; "Redis Sentinel", its commands.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...kinds import is_name, read_port
from ...model import Verdict, printable
from ...net import is_address
from ...options import place
from .info import Info
from .resp import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .resp import Client, Value

SLOTS = 16_384


def check_cluster(client: Client, *, whole: bool) -> str:
    """What is proven of a cluster as one node sees it; with `whole` every slot must be served.

    Raises NotReady: `too-few`, `not-ready`; `failed` where there is no cluster.
    """
    said = client.say("CLUSTER", "INFO")
    if isinstance(said, Refusal) and "cluster support disabled" in said.words:
        seen = f"{client.peer} is no node of a cluster: {printable(said.words, 100)}"
        raise NotReady(Verdict("failed", seen, "cluster-enabled yes makes it one", final=True))
    if isinstance(said, Refusal):
        raise client.refused(("CLUSTER", "INFO"), said)
    if not isinstance(said, str):
        raise client.strange("CLUSTER INFO", said)
    info = Info(client.peer, said)
    state, served = info.text("cluster_state"), max(0, info.number("cluster_slots_ok"))
    told = f"{client.peer} says cluster_state:{state}"
    if served < SLOTS and (whole or state != "ok"):
        assigned = max(0, info.number("cluster_slots_assigned"))
        seen = f"{told}, {served} of {SLOTS} slots served, {assigned} assigned"
        raise blocked("too-few", seen)
    if state != "ok":
        raise blocked("not-ready", told)
    return f"is in a cluster that serves all {SLOTS} slots"


def moved(client: Client, said: Refusal) -> tuple[str, int]:
    """The host and port of a redirection, `MOVED 3999 10.0.0.7:6379`; the host is empty where it is the
    same. Raises `protocol`."""
    host, _, port = said.words.rpartition(" ")[2].rpartition(":")
    return _address(client, said, host, port)


def primary(sentinel: Client, name: str, log_in: Callable[[Client], str]) -> tuple[str, int]:
    """The host and port of the primary that a sentinel knows by that name, and finds up, with a quorum.

    The sentinel gets the login only if it asks for one: most have none of their own. SENTINEL MASTER
    tells more than GET-MASTER-ADDR-BY-NAME: whether the primary is down, before anybody waits for it.
    Raises NotReady: `no-leader`, `no-quorum`, `missing-object`, `auth-required`, `forbidden`, `protocol`.
    """
    question = ("SENTINEL", "MASTER", name)
    said = sentinel.say(*question)
    if isinstance(said, Refusal) and said.code == "NOAUTH" and log_in(sentinel):
        said = sentinel.say(*question)
    if isinstance(said, Refusal):
        raise sentinel.refused(question, said)
    if not isinstance(said, tuple):
        raise sentinel.strange("SENTINEL MASTER", said)
    told = {key or "": value or "" for key, value in zip(said[::2], said[1::2], strict=False)}
    host, port = _address(sentinel, said, told.get("ip") or "?", told.get("port", ""))
    flags = told.get("flags", "").split(",")
    if "s_down" in flags or "o_down" in flags:
        words = f"{place(host, port)}, the primary of {printable(name, 60)}"
        shown = printable(",".join(flags), 80)
        raise blocked("no-leader", f"{sentinel.peer} finds {words}, down (flags {shown})")
    sentinel.ask("SENTINEL", "CKQUORUM", name)
    return host, port


def _address(client: Client, said: Value, host: str, port: str) -> tuple[str, int]:
    number = read_port(port)
    if number is None or not (not host or is_address(host) or is_name(host)):
        raise client.strange("with no address", said)
    return host, number
