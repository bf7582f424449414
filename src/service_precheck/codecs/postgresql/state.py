"""What a session is asked in its one query, and what the answer means.

PostgreSQL documentation, "System Administration Functions" ("Recovery Control Functions") and "The
Cumulative Statistics System" (`pg_stat_wal_receiver`, whose `pid` any user sees). No function here
takes a lock, nor is any kept from unprivileged users.
"""

from __future__ import annotations

from ...errors import blocked
from ...model import printable, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...options import Target

# In seconds. Nothing is further behind.
_CENTURY = 3.2e9
_RECEIVES = (
    "EXISTS (SELECT FROM pg_stat_wal_receiver WHERE coalesce(status, 'streaming') = 'streaming')"
)
# A standby that has replayed all that it received is level with its primary, as long as it receives:
# else the last transaction it knows of may be old only because nobody writes. A receiver that has just
# connected counts from the beginning of its segment until something new comes (`WalReceiverMain`): when
# nothing came for a moment, there is nothing new.
_RECEIVED, _REPLAYED = "pg_last_wal_receive_lsn()", "pg_last_wal_replay_lsn()"
_LAG = (
    f"CASE WHEN {_RECEIVES} AND ({_RECEIVED} = {_REPLAYED} OR {_RECEIVED} < {_REPLAYED} "
    f"AND pg_sleep(0.2) IS NOT NULL AND {_RECEIVED} <= {_REPLAYED}) THEN 0 "
    "ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END"
)


def question(target: Target) -> str:
    """The query that tells what the target wants to know."""
    columns = ["pg_is_in_recovery()", "current_setting('transaction_read_only')"]
    if target.option("max-lag") is not None:
        columns += [_LAG, _RECEIVES]
    if table := target.text("table"):
        # Unlike a read of it: no lock to wait for, and no error in the log while it is missing.
        # Of this form whatever `standard_conforming_strings` and `backslash_quote` are.
        found = "to_regclass(E'{}')".format(table.replace("\\", "\\\\").replace("'", "''"))
        columns += [f"{found} IS NOT NULL", f"has_any_column_privilege({found}, 'SELECT')"]
    return f"SELECT {', '.join(columns)}"


def judge(target: Target, peer: str, row: tuple[str | None, ...]) -> str:
    """What the answer proves, for people: "takes writes".

    Raises `read-only`, `not-ready` (no replica), `replica-lag`, `missing-object`, `forbidden`,
    `protocol`.
    """
    row = (*row, *(None for _ in range(6)))
    if row[0] not in ("t", "f") or row[1] not in ("on", "off"):
        raise blocked("protocol", f"{peer} does not say whether it is in recovery and read-only")
    standby, read_only = row[0] == "t", row[1] == "on"
    role = target.text("role")
    if role == "primary" and standby:
        raise blocked("read-only", f"{peer} is a standby: it takes no writes")
    if role == "primary" and read_only:
        raise blocked("read-only", f"{peer} takes no writes: default_transaction_read_only is on")
    if role == "replica" and not standby:
        raise blocked("not-ready", f"{peer} is a primary, a replica is asked for")
    words = {"primary": "takes writes", "replica": "serves reads"}.get(role, "answers queries")
    rest = list(row[2:])
    if target.option("max-lag") is not None:
        lag, receives = rest[:2]
        del rest[:2]
        if standby:
            words += f", {_behind(target, peer, lag, receives == 't')}"
    if table := printable(target.text("table"), 100):
        if rest[0] != "t":
            raise blocked("missing-object", f"{peer} has no {table} in this database")
        if rest[1] != "t":
            raise blocked(
                "forbidden",
                f"{peer} has {table}, which this user may not read",
                f"GRANT SELECT ON {table} TO ...",
            )
        words += f", {table} can be read"
    return words


def _behind(target: Target, peer: str, text: str | None, receives: bool) -> str:
    """How far a standby is behind, for people. Raises `replica-lag`, `protocol`."""
    silent = "" if receives else ", and receives nothing from its primary"
    if text is None:
        raise blocked("replica-lag", f"{peer} has replayed no transaction since its start{silent}")
    try:
        lag = float(text[:40])
    except ValueError:
        lag = _CENTURY
    if not -_CENTURY < lag < _CENTURY:
        # NaN is within no bounds.
        raise blocked("protocol", f"{peer} gives no number for its lag")
    most = target.number("max-lag") or 0.0
    if lag > most:
        asked = f"at most {seconds(most)} are asked for"
        raise blocked("replica-lag", f"{peer} is {seconds(lag)} behind{silent}, {asked}")
    # The two clocks may differ.
    return f"{seconds(max(0.0, lag))} behind"
