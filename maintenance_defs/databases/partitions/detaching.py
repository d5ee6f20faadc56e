"""Taking a partition out of its table while everybody goes on reading and writing.

The partition leaves by a plain DETACH, and the late lane takes its place in the same transaction: whoever writes to
the month waits a moment and meets no error (D62), and a run that dies leaves the table as it was. The moment is an
exclusive lock of the whole table. Hence: whoever would make us wait is looked for before anything starts (D51); a
lock that is not to be had is given up after a tenth of a second, then after longer, and at most after the lock
timeout, so that nobody queues behind us for longer (D58, V9); what else needs a lock then has a tenth of a second.

DETACH CONCURRENTLY would lock nobody out, but commits twice. In between the partition is *pending*: the table does
not show its rows and refuses inserts into its month, until every older transaction is over; and no statement leads
back. We never begin one. One that somebody else left is finished with FINALIZE (D52).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, repeat
from typing import Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases.archiving import LOCK_TIMEOUT, ArchiveDatabase
from maintenance_defs.databases.partitions.catalog import Partition, PartitionedTable, read_partitioned
from maintenance_defs.databases.partitions.making import attach, make_lane
from maintenance_defs.databases.partitions.sql import act, ask, state_of, with_patience, words_of

OLD = timedelta(seconds=5)  # transactions of an application that goes well are shorter
LOOK_EVERY = 1.0  # seconds
GENTLE_MS = (100, 200, 400, 800)  # first attempts at the lock: most get it so, and nobody notices
# A transaction whose beginning the role may not see counts as old: unknown means wait.
BLOCKERS = """
SELECT l.pid, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds, a.state, NULL AS prepared_gid
  FROM (SELECT DISTINCT pid FROM pg_locks WHERE relation = ANY (CAST(%(oids)s AS oid[])) AND granted AND pid IS NOT NULL
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) l
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.pid <> pg_backend_pid()
   AND (a.xact_start IS NULL OR a.xact_start <= clock_timestamp() - make_interval(secs => %(age)s))
UNION ALL
SELECT NULL, extract(epoch FROM clock_timestamp() - p.prepared)::float8, 'prepared', p.gid
  FROM pg_prepared_xacts p
 WHERE p.database = current_database() AND p.prepared <= clock_timestamp() - make_interval(secs => %(age)s)
   AND EXISTS (SELECT FROM pg_locks l JOIN pg_locks x ON x.virtualtransaction = l.virtualtransaction
                WHERE l.relation = ANY (CAST(%(oids)s AS oid[])) AND l.pid IS NULL AND x.pid IS NULL
                  AND x.locktype = 'transactionid' AND x.transactionid = p.transaction)
 ORDER BY seconds DESC NULLS FIRST
"""


@dataclass(frozen=True)
class Blocker:
    """A transaction that holds a lock on the table. seconds: how long it runs, None when the role may not see it."""

    pid: int | None
    seconds: float | None
    state: str | None
    prepared_gid: str | None

    def __str__(self) -> str:
        who = f"prepared transaction {self.prepared_gid!r}" if self.prepared_gid is not None else f"pid {self.pid}"
        since = "for a time that this role may not see" if self.seconds is None else f"for {self.seconds:,.0f} s"
        return f"{who} ({self.state or 'state unknown'}) {since}"


@dataclass(frozen=True)
class Detached:
    """how: `now`; `finalized` when somebody else's detach was finished; `already` when it had left before.

    seconds: how long it took.
    """

    partition: Partition
    how: Literal["now", "finalized", "already"]
    seconds: float


def blockers(
    connection: Connection, table: PartitionedTable, older_than: timedelta = OLD, partition: Partition | None = None
) -> list[Blocker]:
    """Transactions, prepared ones too, that hold a lock on the table (or the partition) for longer."""
    oids = [table.oid] if partition is None else [table.oid, partition.oid]
    return [Blocker(**row) for row in ask(connection, BLOCKERS, oids=oids, age=older_than.total_seconds())]


def detach(
    database: ArchiveDatabase,
    table: str,
    partition: Partition,
    *,
    lane_of: str,
    wait_seconds: float = 60.0,
    older_than: timedelta = OLD,
) -> Detached:
    """Take the partition out of its table; on return it is an ordinary table under its own name.

    lane_of: the unit for whose late rows a lane takes the partition's place; a DEFAULT partition takes them instead.
    wait_seconds: how long to wait for older transactions before anything starts, and how long to try for the lock.
    Raises Refused, nothing changed: gone, changed, blocked, detach_pending, referenced.
    Raises Refused (detach_pending) where somebody else's detach of it could not be finished.
    """
    began = time.monotonic()
    with database.transaction() as connection:
        found = read_partitioned(connection, table)
        here = identified(connection, found, partition)
    if here is None:
        return Detached(partition, "already", 0.0)
    if here.detach_pending:
        return _finalized(database, table, partition, wait_seconds, began)
    if found.pending is not None:
        raise Refused(
            "detach_pending",
            f"{found.pending} is being detached from {found}: the table does not show its rows. Nothing was changed. "
            f"If nobody is at work on it, repair the table first.",
        )
    _wait_for_others(database, found, wait_seconds, older_than)
    limits = chain((f"{ms}ms" for ms in GENTLE_MS), repeat(LOCK_TIMEOUT))
    try:
        with_patience(lambda: _at_once(database, table, partition, lane_of, next(limits)), wait_seconds)
    except SourceUnavailable as error:
        if not error.transient:
            raise
        with database.transaction() as connection:
            if identified(connection, read_partitioned(connection, table), partition) is None:
                return Detached(partition, "now", time.monotonic() - began)  # the answer to our COMMIT was lost
            by = blockers(connection, found, timedelta(), partition)
        raise Refused(
            "blocked",
            f"{partition} could not be taken out of {found}: in {wait_seconds:.0f} s nobody let go of the table for a "
            f"moment ({'; '.join(str(one) for one in by[:5]) or error}). Nothing was changed; run again when fewer "
            f"long transactions are at work.",
        ) from None
    return Detached(partition, "now", time.monotonic() - began)


def repair(database: ArchiveDatabase, table: str, *, wait_seconds: float = 60.0) -> Partition | None:
    """Finish a detach that a killed run left pending; the partition it was, or None when nothing was pending.

    Raises Refused (detach_pending), with whom it waited for, when the locks were not to be had in wait_seconds.
    """
    with database.transaction() as connection:
        pending = read_partitioned(connection, table).pending
    if pending is not None:
        _finalized(database, table, pending, wait_seconds, time.monotonic())
    return pending


def identified(connection: Connection, table: PartitionedTable, partition: Partition) -> Partition | None:
    """The partition as it is attached now; None when it is a table of its own already.

    Raises Refused when the oid is gone (gone), or stands for another table or other bounds (changed) (D66).
    """
    here = table.by_oid(partition.oid)
    if here is None:
        found = ask(
            connection,
            "SELECT c.relispartition AS attached, n.nspname AS schema, c.relname AS name FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = CAST(%(oid)s AS oid)",
            oid=partition.oid,
        )
        if not found:
            raise Refused(
                "gone",
                f"{partition} (oid {partition.oid}) is not there any more; whatever has its name now is another "
                f"table. Nothing was changed.",
            )
        if found[0]["attached"]:
            raise Refused(
                "changed", f"{partition} (oid {partition.oid}) belongs to another table than {table}. Nothing changed."
            )
        return None
    if (here.schema, here.name, here.bounds) != (partition.schema, partition.name, partition.bounds):
        raise Refused(
            "changed",
            f"{partition} {partition.bounds} is now {here} {here.bounds}. Nothing was changed; plan it again.",
        )
    return here


def _wait_for_others(
    database: ArchiveDatabase, table: PartitionedTable, wait_seconds: float, older_than: timedelta
) -> None:
    until = time.monotonic() + wait_seconds
    while True:
        with database.transaction() as connection:
            found = blockers(connection, table, older_than)
        if not found:
            return
        if time.monotonic() >= until:
            unseen = any(one.seconds is None for one in found)
            raise Refused(
                "blocked",
                f"{len(found)} transactions hold {table}: {'; '.join(str(one) for one in found[:5])}. Its partition "
                f"was not detached and nothing was changed; end them, or run again later."
                + (" Grant the role pg_read_all_stats so that it sees how old they are." if unseen else ""),
            )
        time.sleep(min(LOOK_EVERY, max(0.05, until - time.monotonic())))


def _at_once(database: ArchiveDatabase, table: str, partition: Partition, lane_of: str, lock_timeout: str) -> None:
    """The partition out and its late lane in: in one transaction, so that its range always has a place."""
    with database.transaction() as connection:
        found = read_partitioned(connection, table)
        here = identified(connection, found, partition)
        if here is None:
            return  # an earlier attempt's answer to COMMIT was lost
        lane = None if found.default is not None else make_lane(connection, found, here.lower, lane_of)
        try:
            act(
                connection,
                # A vacuum of the month ends when somebody has waited for a second; nobody else minds this lock.
                f"LOCK TABLE ONLY {here.qualified} IN SHARE UPDATE EXCLUSIVE MODE",
                f"SET LOCAL lock_timeout = '{lock_timeout}'",
                f"LOCK TABLE ONLY {found.qualified} IN ACCESS EXCLUSIVE MODE",
                # Everybody waits for us now: no other lock for long, and no long look through what refers to the table.
                f"SET LOCAL lock_timeout = '{GENTLE_MS[0]}ms'",
                f"SET LOCAL statement_timeout = '{LOCK_TIMEOUT}'",
                f"ALTER TABLE {found.qualified} DETACH PARTITION {here.qualified}",
            )
            if lane is not None:
                attach(connection, found, lane, here.lower, here.upper)
        except DBAPIError as error:
            _explain_refusal(error, found, partition)
            raise


def _explain_refusal(error: DBAPIError, table: PartitionedTable, partition: Partition) -> None:
    if state_of(error) == "23503":
        raise Refused(
            "referenced",
            f"{partition} cannot leave {table}: {words_of(error)}. Nothing was changed and nothing is pending; archive "
            f"the rows that refer to it first, or drop the foreign key.",
        ) from None


def _finalized(
    database: ArchiveDatabase, table: str, partition: Partition, wait_seconds: float, began: float
) -> Detached:
    def once() -> None:
        with database.transaction() as connection:
            found = read_partitioned(connection, table)
            here = found.by_oid(partition.oid)
            if here is not None and here.detach_pending:
                act(connection, f"ALTER TABLE {found.qualified} DETACH PARTITION {here.qualified} FINALIZE")

    try:
        with_patience(once, wait_seconds)
    except SourceUnavailable as error:
        if not error.transient:
            raise
        with database.transaction() as connection:
            found = blockers(connection, read_partitioned(connection, table), timedelta())
        raise Refused(
            "detach_pending",
            f"the detach of {partition} from {table} has begun and could not be finished in {wait_seconds:.0f} s"
            f": {'; '.join(str(one) for one in found[:5]) or error}. Its rows are "
            f"kept, but the table does not show them and refuses inserts into its range until it is finished: run "
            f"again.",
        ) from None
    return Detached(partition, "finalized", time.monotonic() - began)
