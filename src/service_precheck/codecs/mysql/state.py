"""How a server stands among others: whether it takes writes, how it replicates, its place in Galera.

What is asked is a statement each, and needs: nothing for writes and Galera; for replication the right
`REPLICATION CLIENT` on MySQL, `REPLICA MONITOR` (`SLAVE MONITOR`) on MariaDB.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import seconds
from .wire import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Conversation, Row

# Where a variable tells what it is by a number or by a word.
_OFF = ("0", "OFF")
_SYNTAX = 1064
_GALERA = ("cluster_size", "cluster_state_uuid", "cluster_status", "local_state_comment", "ready")


def writable(server: Conversation) -> str:
    """That it takes writes. Raises `read-only`, and `protocol` where it does not say.

    `super_read_only` (MySQL) keeps administrators out as well, `innodb_read_only` says it on Aurora, and
    `transaction_read_only` is what every session begins with.
    """
    old = server.greeting.mariadb or server.greeting.version.startswith("5.")
    names = ["read_only", "innodb_read_only", "tx_read_only" if old else "transaction_read_only"]
    if not server.greeting.mariadb:
        names.insert(0, "super_read_only")
    rows = server.ask("SELECT " + ", ".join(f"@@global.{name} AS {name}" for name in names))
    row = rows[0] if rows else {}
    if any(row.get(name) is None for name in names):
        raise blocked("protocol", f"{server.peer} does not say whether it is read-only")
    on = [name for name in names if row[name] not in _OFF]
    if on:
        raise blocked(
            "read-only",
            f"{server.peer} takes no writes: {on[0]} is on",
            "" if on == names[-1:] else "a replica, or a primary that was not promoted yet",
        )
    return "takes writes"


def replicating(server: Conversation, most: float | None) -> str:
    """That all of its replication runs, `most` seconds behind. Raises `replica-lag`, `not-ready`."""
    rows = _replication(server)
    if not rows:
        raise blocked("not-ready", f"{server.peer} replicates from nobody", "a primary?")
    told = []
    for row in rows:
        source = f"{_field(row, 'Host')}:{_field(row, 'Port')}"
        for thread in ("IO", "SQL"):
            state = _field(row, f"{thread}_Running") or "No"
            if state != "Yes":
                raise _stopped(server, row, source, thread, state)
        behind = _field(row, "Seconds_Behind") or ""
        # A number it is, and of a length that `int` takes.
        lag = int(behind) if behind.isdecimal() and behind.isascii() and len(behind) < 12 else None
        if most is not None and (lag is None or lag > most):
            how = "an unknown time" if lag is None else seconds(lag)
            raise blocked(
                "replica-lag",
                f"{server.peer} is {how} behind {source}, at most {seconds(most)} are asked for",
            )
        told.append(f"replicates from {source}" + ("" if lag is None else f", {lag} s behind"))
    return " and ".join(told)


def synced(server: Conversation) -> str:
    """That a Galera node takes part. Raises `no-quorum`, `starting`, `not-ready`."""
    listed = ", ".join(f"'wsrep_{name}'" for name in _GALERA)
    rows = server.ask(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({listed})")
    status = {row.get("Variable_name"): row.get("Value") or "" for row in rows}
    component = status.get("wsrep_cluster_status", "")
    state = status.get("wsrep_local_state_comment", "")
    here = (
        f"{server.peer} is {state or 'a node without a state'} in a component that is {component}"
    )
    if not component or (
        component == "Disconnected" and not status.get("wsrep_cluster_state_uuid")
    ):
        raise blocked("not-ready", f"{server.peer} is no node of a Galera cluster")
    if component.lower() != "primary":
        raise blocked("no-quorum", here, "too few of its nodes see each other")
    if state != "Synced":
        if state.startswith("Donor"):
            raise blocked(
                "not-ready", here, "it gives its data to another node, or wsrep_desync is on"
            )
        raise blocked("starting", here)
    if status.get("wsrep_ready") != "ON":
        raise blocked(
            "starting", f"{here}, and wsrep_ready is {status.get('wsrep_ready') or 'unset'}"
        )
    return f"is Synced in a Primary component of {status.get('wsrep_cluster_size') or '?'}"


def _replication(server: Conversation) -> list[Row]:
    """A row for each source that it replicates from."""
    if server.greeting.mariadb:
        return server.ask("SHOW ALL SLAVES STATUS")
    try:
        return server.ask("SHOW REPLICA STATUS")
    except Refusal as refusal:
        if refusal.code != _SYNTAX:
            raise
        # Before MySQL 8.0.22.
        return server.ask("SHOW SLAVE STATUS")


def _field(row: Row, name: str) -> str | None:
    """A field by its bare name: `Seconds_Behind_Source`, or `Seconds_Behind_Master`."""
    own, other = ("Slave", "Master") if "Slave_IO_Running" in row else ("Replica", "Source")
    if name.endswith("_Running"):
        return row.get(f"{own}_{name}")
    return row.get(f"{name}_{other}" if name == "Seconds_Behind" else f"{other}_{name}")


def _stopped(server: Conversation, row: Row, source: str, thread: str, state: str) -> NotReady:
    why = row.get(f"Last_{thread}_Error")
    number = row.get(f"Last_{thread}_Errno") or ""
    hint = "" if why else "START REPLICA"
    if why and thread == "SQL":
        # Behind that stand the statement and values of its rows.
        kept = why.partition("'")[0].partition(";")[0].strip()
        why = "of a statement" if kept in ("", "Error") else kept
        shows = "SHOW ALL SLAVES STATUS" if server.greeting.mariadb else "SHOW REPLICA STATUS"
        hint = f"{shows} has the whole error, and what it was about"
    words = f": {number} {why}" if why else ""
    how = "is stopped" if state == "No" else f"is {state.lower()}"
    return blocked(
        "not-ready",
        f"{server.peer} does not replicate from {source}, its {thread} thread {how}{words}",
        hint,
    )
