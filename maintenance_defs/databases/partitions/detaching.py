"""Taking a partition out of its table while everybody goes on reading and writing.

DETACH CONCURRENTLY commits twice. Between the two the partition is *pending*: new queries no longer see its
rows and inserts into its range fail, until every transaction that had touched the table before is over. No
statement leads back from there, only forward. Hence: whoever would make us wait is looked for before
anything starts (D51); once started, the statement is never cancelled by us, since that would leave the
partition pending and FINALIZE waits for more transactions than the statement did; and if its session is
ended by somebody else, the detach is finished with FINALIZE (D52). When our process dies, the server goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.catalog import Partition, PartitionedTable, read_partitioned
from maintenance_defs.databases.partitions.sql import act, ask, state_of, with_patience, words_of

OLD = timedelta(seconds=5)  # transactions of an application that goes well are shorter
LOOK_EVERY = 1.0  # seconds
LIMITS = ["lock_timeout", "statement_timeout", "transaction_timeout"]  # the last came with PostgreSQL 17
# A transaction whose beginning the role may not see counts as old: unknown means wait.
BLOCKERS = """
SELECT l.pid, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds, a.state, NULL AS prepared_gid
  FROM (SELECT DISTINCT pid FROM pg_locks WHERE relation = CAST(%(oid)s AS oid) AND granted AND pid IS NOT NULL
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) l
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.pid <> pg_backend_pid()
   AND (a.xact_start IS NULL OR a.xact_start <= clock_timestamp() - make_interval(secs => %(age)s))
UNION ALL
SELECT NULL, extract(epoch FROM clock_timestamp() - p.prepared)::float8, 'prepared', p.gid
  FROM pg_prepared_xacts p
 WHERE p.database = current_database() AND p.prepared <= clock_timestamp() - make_interval(secs => %(age)s)
   AND EXISTS (SELECT FROM pg_locks l JOIN pg_locks x ON x.virtualtransaction = l.virtualtransaction
                WHERE l.relation = CAST(%(oid)s AS oid) AND l.pid IS NULL AND x.pid IS NULL
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
    """how: in which way the partition left the table; `already` when it had before. seconds: how long it took."""

    partition: Partition
    how: Literal["concurrently", "blocking", "finalized", "already"]
    seconds: float


Waiting = Callable[[list[Blocker]], None]


def blockers(connection: Connection, table: PartitionedTable, older_than: timedelta = OLD) -> list[Blocker]:
    """Transactions, prepared ones too, that hold a lock on the table for longer: a detach would wait for them."""
    found = ask(connection, BLOCKERS, oid=table.oid, age=older_than.total_seconds())
    return [Blocker(**row) for row in found]


def detach(
    database: ArchiveDatabase,
    table: str,
    partition: Partition,
    *,
    wait_seconds: float = 60.0,
    blocking_allowed: bool = False,
    older_than: timedelta = OLD,
    waiting: Waiting | None = None,
) -> Detached:
    """Take the partition out of its table; on return it is an ordinary table under its own name.

    wait_seconds: how long to wait for older transactions before anything starts, and how long to try for
        locks that are asked for with a limit.
    blocking_allowed: with a DEFAULT partition only a plain DETACH is possible, which stops readers of the
        whole table for a moment, and at most for the lock timeout at an attempt.
    waiting: called about once a second with whoever is waited for, once the detach has begun and waits
        longer than wait_seconds: the rows of the partition are hidden from its table meanwhile.
    Raises Refused, nothing changed: gone, changed, blocked, default_partition, detach_pending, referenced.
    Raises Refused (detach_pending) saying so when somebody ended our session and repair() is needed.
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
            f"{found.pending} is being detached from {found}, and the server allows one at a time. Nothing was "
            f"changed. If no run is at work on it, repair the table first.",
        )
    if found.default is not None and not blocking_allowed:
        raise Refused(
            "default_partition",
            f"{found} has a DEFAULT partition ({found.default}): with one, no partition can be detached while others "
            f"read. Nothing was changed. Allow a blocking detach, or remove the DEFAULT partition.",
        )
    _wait_for_others(database, found, wait_seconds, older_than)
    if found.default is not None:
        _blocking(database, found, here, wait_seconds)
        return Detached(partition, "blocking", time.monotonic() - began)
    try:
        _concurrently(database, found, here, wait_seconds, waiting)
    except SourceUnavailable as error:
        # Whatever ended the statement: the catalog tells what became of it.
        state = _state(database, table, partition)
        if state == "attached":
            raise
        if state == "pending":
            return _finalized(database, table, partition, wait_seconds, began, because=str(error))
    if _state(database, table, partition) != "detached":
        raise Refused("detach_pending", f"{here} is still a partition of {found} after its detach. Look at the server.")
    return Detached(partition, "concurrently", time.monotonic() - began)


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


def unlimited(database: ArchiveDatabase) -> dict[str, str]:
    """Settings of a session in which no time limit of the role or the server ends a statement half way.

    Only those that the server knows: it refuses a session that begins with another.
    """
    with database.transaction() as connection:
        known = ask(connection, "SELECT name FROM pg_settings WHERE name = ANY (%(names)s)", names=LIMITS)
    return {row["name"]: "0" for row in known}


def _concurrently(
    database: ArchiveDatabase,
    table: PartitionedTable,
    partition: Partition,
    wait_seconds: float,
    waiting: Waiting | None,
) -> None:
    statement = f"ALTER TABLE {table.qualified} DETACH PARTITION {partition.qualified} CONCURRENTLY"
    with (
        database.autocommit(f"maintenance detach {partition.oid}"[:63], unlimited(database)) as connection,
        ThreadPoolExecutor(1) as pool,  # leaving it waits for the statement: it is never left alone
    ):
        running: Future[int] = pool.submit(act, connection, statement)
        done, _ = wait([running], wait_seconds)
        while not done:
            if waiting is not None:
                with database.transaction() as watcher:
                    waiting(blockers(watcher, table, timedelta()))
            done, _ = wait([running], LOOK_EVERY)
        try:
            running.result()
        except DBAPIError as error:
            _explain_refusal(error, table, partition)
            raise


def _blocking(database: ArchiveDatabase, table: PartitionedTable, partition: Partition, wait_seconds: float) -> None:
    def once() -> None:
        with database.transaction() as connection:
            try:
                act(connection, f"ALTER TABLE {table.qualified} DETACH PARTITION {partition.qualified}")
            except DBAPIError as error:
                _explain_refusal(error, table, partition)
                raise

    with_patience(once, wait_seconds)


def _explain_refusal(error: DBAPIError, table: PartitionedTable, partition: Partition) -> None:
    if state_of(error) == "23503":
        raise Refused(
            "referenced",
            f"{partition} cannot leave {table}: {words_of(error)}. Nothing was changed and nothing is pending; archive "
            f"the rows that refer to it first, or drop the foreign key.",
        ) from None


def _finalized(
    database: ArchiveDatabase, table: str, partition: Partition, wait_seconds: float, began: float, because: str = ""
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
            f"{f' ({because})' if because else ''}: {'; '.join(str(one) for one in found[:5]) or error}. Its rows are "
            f"kept, but the table does not show them and refuses inserts into its range until it is finished: run "
            f"again.",
        ) from None
    return Detached(partition, "finalized", time.monotonic() - began)


def _state(database: ArchiveDatabase, table: str, partition: Partition) -> Literal["attached", "pending", "detached"]:
    def once() -> Literal["attached", "pending", "detached"]:
        with database.transaction() as connection:
            here = read_partitioned(connection, table).by_oid(partition.oid)
        return "detached" if here is None else "pending" if here.detach_pending else "attached"

    return with_patience(once, 30.0)
