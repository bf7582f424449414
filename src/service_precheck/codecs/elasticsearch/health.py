"""What the health and the state of a cluster mean: Elasticsearch's and OpenSearch's own words as a cause."""

from __future__ import annotations

from ...errors import blocked
from ...model import printable
from .api import count, objects, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target
    from .api import Json

# The numbers of blocks that a cluster puts on itself (GatewayService, NoMasterBlockService).
NOT_RECOVERED, NO_MASTER = "1", "2"
WRITE_BLOCKS = ("read_only", "read_only_allow_delete", "write")


def unblocked(target: Target, state: Json, name: str, peer: str) -> str:
    """What is told of blocks. Raises `no-leader`, `starting`, `missing-object`, `not-ready`, `read-only`."""
    blocks = objects(state, "blocks", "global")
    if NO_MASTER in blocks:
        raise blocked("no-leader", f"{peer} has no master")
    if NOT_RECOVERED in blocks:
        raise blocked("starting", f"{peer} has not recovered the state of its cluster")
    found = objects(state, "metadata", "indices")
    if name and not found:
        raise blocked("missing-object", f"{peer} has no index {name}")
    keeping = []
    for index in found:
        if objects(found, index).get("state") == "close":
            raise blocked("not-ready", f"{peer}: the index {index} is closed", "its _open opens it")
        for block, value in objects(found, index, "settings", "index", "blocks").items():
            if block in WRITE_BLOCKS and value in ("true", True):
                keeping.append(f"{index} is {block}")
    for number in blocks:
        each = objects(blocks, number)
        levels = each.get("levels")
        if isinstance(levels, list) and "write" in levels:
            keeping.append(text(each, "description") or f"block {number}")
    if not keeping:
        where = (
            f"keeps writes out of {printable(name, 80)}"
            if name
            else "of the cluster keeps writes out"
        )
        return f"no block {where}" if target.flag("writable") else ""
    told = f"writes are blocked: {printable(', '.join(keeping), 200)}"
    if not target.flag("writable"):
        return told
    full = "read_only_allow_delete" in told
    hint = "mostly set when a disk is full: make room, and see that the block goes" * full
    raise blocked("read-only", f"{peer}: {told}", hint)


def judged(target: Target, health: Json, peer: str) -> str:
    """What health says, for people. Raises `starting`, `not-ready`, `too-few`, `missing-object`, `protocol`."""
    status = health.get("status")
    if status not in ("green", "yellow", "red"):
        raise blocked("protocol", f"{peer} tells no status of a cluster: no Elasticsearch?")
    names = target.texts("index")
    what = f"the cluster {printable(text(health, 'cluster_name'), 60)}"
    if names:
        what = f"the index {names[0]}" if len(names) == 1 else f"each of {', '.join(names)}"
    active, coming, unassigned = (
        count(health, f"{name}_shards", peer) for name in ("active", "initializing", "unassigned")
    )
    shards = active + coming + unassigned
    nodes = count(health, "number_of_nodes", peer)
    said = f"{peer}: {what} is {status}, {active} of {shards} shards active, "
    said += "1 node" if nodes == 1 else f"{nodes} nodes"
    if names and health.get("timed_out") is True and not shards:
        raise blocked("missing-object", f"{peer}: {what} is not there")
    wanted = target.text("status")
    if status == "red" or (status == "yellow" and wanted == "green"):
        hint = "`GET /_cluster/allocation/explain` says why a shard has no place"
        if status == "yellow":
            hint = "a replica needs a node of its own; #status=yellow does without"
        expected = f"{said}, {wanted} is expected"
        raise blocked("starting", expected) if coming else blocked("not-ready", expected, hint)
    if nodes < (target.number("nodes") or 0):
        raise blocked("too-few", f"{said}, {target.option('nodes')} nodes are expected")
    return said
