"""What Redis tells of itself in INFO, and what follows from it for roles and writes.

Redis documentation, "INFO". Its words master and slave are ours primary and replica; servers that use
ours are understood too.
"""

from __future__ import annotations

from ...errors import blocked
from ...model import printable, seconds
from ...options import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .resp import Client

_ROLES = {"master": "primary", "slave": "replica"}
_MAKES = ("Valkey", "Dragonfly")


class Info:
    """The fields of a reply, by their names; `peer` is the server for people."""

    __slots__ = ("_fields", "peer")

    def __init__(self, peer: str, text: str) -> None:
        self.peer = peer
        pairs = (line.partition(":") for line in text.split("\r\n"))
        self._fields = {name: value for name, colon, value in pairs if colon}

    def text(self, name: str) -> str:
        """A field, empty if it is not there."""
        return printable(self._fields.get(name, ""), 100)

    def number(self, name: str) -> int:
        """A field of a whole number, -1 if it is not there or none."""
        digits = self._fields.get(name, "")
        return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 19 else -1

    @property
    def role(self) -> str:
        """`primary`, `replica`, or what the server says in their place (`sentinel`)."""
        role = self.text("role") or self.text("redis_mode") or "server without a role"
        return _ROLES.get(role, role)

    @property
    def version(self) -> str:
        """`Redis 7.0.15`, `Valkey 9.1.2`."""
        make = next((one for one in _MAKES if self.text(f"{one.lower()}_version")), "Redis")
        return f"{make} {self.text(f'{make.lower()}_version')}".rstrip()

    @property
    def upstream(self) -> str:
        """A replica's primary, as `host:port`."""
        return place(self.text("master_host"), max(0, self.number("master_port")))

    def progress(self) -> str:
        """How far loading is, empty if the server does not tell."""
        percent, left = self.text("loading_loaded_perc"), self.number("loading_eta_seconds")
        if not percent:
            return ""
        return f"{percent}% loaded, {seconds(left)} left" if left >= 0 else f"{percent}% loaded"

    def evicts(self) -> bool:
        """Whether a full memory makes room by itself: the policy allows it, and some key may go."""
        policy = self.text("maxmemory_policy")
        if not policy.startswith("volatile"):
            return policy != "noeviction"
        databases = (value for name, value in self._fields.items() if name.startswith("db"))
        return any(",expires=" in one and ",expires=0" not in one for one in databases)


def standing(client: Client, role: str, link: bool) -> str:
    """What is proven of a server's role, which is `primary`, `replica` or, with `link`, empty.

    Raises NotReady: `read-only`, `alarm`, `not-ready`, `starting`, `replica-lag`.
    """
    info = Info(client.peer, client.text("INFO"))
    if role != "primary":
        _check_replica(info, link)
        up = " with its link up" if link else ""
        return f"is a replica of {info.upstream}{up} ({info.version})"
    _check_primary(info)
    if info.number("min_slaves_good_slaves") >= 0:
        _check_followers(client, info.number("min_slaves_good_slaves"))
    if info.text("cluster_enabled") == "1":
        from . import nodes

        nodes.check_cluster(client, whole=False)
    return f"takes writes ({info.version})"


def _check_primary(info: Info) -> None:
    wanted = "a primary is asked for"
    if info.role == "replica":
        raise blocked("read-only", f"{info.peer} is a replica of {info.upstream}, {wanted}")
    if info.role != "primary":
        hint = "#sentinel=NAME asks it for its primary" if info.role == "sentinel" else ""
        raise blocked("not-ready", f"{info.peer} is a {info.role}, {wanted}", hint)
    handover = info.text("master_failover_state")
    if handover not in ("", "no-failover"):
        raise blocked("read-only", f"{info.peer} hands over to a replica ({handover})")
    # As getMaxmemoryState of Redis counts; its words are OOM command not allowed.
    most = info.number("maxmemory")
    used = info.number("used_memory") - max(0, info.number("mem_not_counted_for_evict"))
    if 0 < most < used and not info.evicts():
        policy = info.text("maxmemory_policy")
        raise blocked(
            "alarm",
            f"{info.peer} takes no writes: its memory is full ({used} of {most} bytes), and its "
            f"maxmemory-policy {policy} finds nothing to evict",
            "raise maxmemory, or choose a maxmemory-policy that evicts",
        )


def _check_followers(client: Client, good: int) -> None:
    """Whether enough replicas keep up. INFO has their number only where min-replicas-to-write is set."""
    wanted = "1"
    if good:
        # The right to ask may be missing, and is not needed where one is enough.
        said = client.say("CONFIG", "GET", "min-replicas-to-write")
        wanted = said[1] or "" if isinstance(said, tuple) and len(said) == 2 else ""
    if not good or (
        wanted.isascii() and wanted.isdecimal() and len(wanted) < 9 and good < int(wanted)
    ):
        raise blocked(
            "read-only",
            f"{client.peer} takes no writes: {good} replicas keep up, less than its min-replicas-to-write",
        )


def _check_replica(info: Info, link: bool) -> None:
    if info.role != "replica":
        raise blocked("not-ready", f"{info.peer} is a {info.role}, a replica is asked for")
    if link and info.text("master_sync_in_progress") == "1":
        left = info.number("master_sync_left_bytes")
        told = f", {left} bytes are left" if left > 0 else ""
        raise blocked("starting", f"{info.peer} copies the data of {info.upstream}{told}")
    if link and info.text("master_link_status") != "up":
        down = info.number("master_link_down_since_seconds")
        told = f", for {seconds(down)}" if down >= 0 else ""
        raise blocked(
            "replica-lag", f"{info.peer} has no link to its primary {info.upstream}{told}"
        )
