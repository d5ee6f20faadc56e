"""A plain table becomes a partitioned one while it is read and written (design §8, F83).

What takes long is done beforehand under locks that nobody minds: the index of the new key, the proof of the
old rows' bounds. The change itself is one short transaction in which no row is moved or read: the old table
becomes the first partition. When it cannot have its lock it is undone, and so is everything before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.ahead import NAMING
from maintenance_defs.databases.partitions.catalog import PartitionedTable, PlainTable, read_partitioned, read_table
from maintenance_defs.databases.partitions.conversion import PROOF, Conversion, convert_plan, key_index
from maintenance_defs.databases.partitions.sql import act, ask, name_taken, qualified, state_of, with_patience
from maintenance_defs.databases.partitions.swapping import Converted, limit_of, swap
from maintenance_defs.databases.statements import quote

LIMITS = ["lock_timeout", "statement_timeout", "transaction_timeout"]  # the last came with PostgreSQL 17
LOCK_TIMEOUT = "500ms"  # two locks are waited for at most: with the change itself, writers wait less than a second


def convert(
    database: ArchiveDatabase,
    table: str,
    time_column: str,
    *,
    now: datetime,
    months_ahead: int = 3,
    target: str | None = None,
    default_partition: bool = False,
    agreed: tuple[str, ...] = (),
    naming: str = NAMING,
    wait_seconds: float = 60.0,
    lock_timeout: str = LOCK_TIMEOUT,
) -> Converted:
    """Partition the table by month on `time_column`; what convert_plan says, with the same arguments.

    target: a name for the partitioned table, in the same schema; the old name is then a view of it.
    agreed: the foreign keys and unique keys of Conversion.to_agree that may go.
    Raises Refused, nothing changed: cannot_convert, not_agreed, name_taken, busy_table, another_key.
    Raises Refused (unfinished), saying what is left, when not even the preparation could be taken back.
    """
    with database.transaction() as connection:
        done = _done(connection, table, target, time_column)
        if done is not None:
            return done
        plan = convert_plan(connection, table, time_column, now=now, target=target)
        _refuse(connection, plan, agreed)
    patience = Patience(wait_seconds, lock_timeout)
    try:
        _prepare(database, plan, patience)

        def change() -> Converted:
            with database.transaction(lock_timeout=lock_timeout) as connection:
                fresh = convert_plan(connection, table, time_column, now=now, target=target)
                _refuse(connection, fresh, agreed)
                # The bounds that were proven are the ones that count, whatever was deleted meanwhile.
                fresh = replace(fresh, boundary=plan.boundary)
                return swap(connection, fresh, plan, now, months_ahead, default_partition, naming)

        return with_patience(change, wait_seconds)
    except (Refused, SourceUnavailable) as error:
        with database.transaction() as connection:
            done = _done(connection, table, target, time_column)  # the answer to our commit was lost
        if done is not None:
            return done
        left = abandon(database, plan.table, patience)
        if left or (isinstance(error, SourceUnavailable) and error.transient):
            raise Refused(
                "unfinished" if left else "busy_table",
                f"{plan.table} could not be had for a moment within {wait_seconds:.0f} s ({error}). No row was touched"
                f"{''.join(f'; {one}' for one in left)}. Run again when fewer long transactions are at work.",
            ) from None
        raise


@dataclass(frozen=True)
class Patience:
    """seconds: how long to try for a lock; lock_timeout: for how long the application may queue behind one try."""

    seconds: float = 60.0
    lock_timeout: str = LOCK_TIMEOUT

    def alone(self, database: ArchiveDatabase) -> dict[str, str]:
        """Settings of a session whose waiting holds nobody up, and which no other limit of the role ends half way."""
        with database.transaction() as connection:  # a session that begins with an unknown setting is refused
            known = ask(connection, "SELECT name FROM pg_settings WHERE name = ANY (%(names)s)", names=LIMITS)
        return {row["name"]: "0" for row in known} | {"lock_timeout": f"{max(1, int(self.seconds * 1000))}ms"}


def abandon(database: ArchiveDatabase, table: PlainTable, patience: Patience | None = None) -> list[str]:
    """Take away what a broken-off attempt left; sentences about what could not be taken away yet.

    Matters soon: the proof of that attempt refuses rows past its boundary.
    """
    patience, left = patience or Patience(), []

    def proof() -> None:
        with database.transaction(lock_timeout=patience.lock_timeout) as connection:
            if ask(
                connection,
                "SELECT FROM pg_constraint WHERE conrelid = CAST(%(oid)s AS oid) AND conname = %(name)s",
                oid=table.oid,
                name=PROOF,
            ):
                act(connection, f"ALTER TABLE {table.qualified} DROP CONSTRAINT {PROOF}")

    try:
        with_patience(proof, patience.seconds)
    except SourceUnavailable as error:
        if not error.transient:
            raise
        left.append(
            f"its constraint {PROOF} refuses rows of later months until the conversion is run again, or ALTER TABLE "
            f"{table.qualified} DROP CONSTRAINT {PROOF}"
        )
    index = qualified(table.schema, key_index(table))
    try:
        with database.autocommit("maintenance convert", patience.alone(database)) as connection:
            act(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
    except SourceUnavailable as error:
        if not error.transient:
            raise
        left.append(f"the index {index} waits to be dropped by the next run ({error})")
    return left


def _refuse(connection: Connection, plan: Conversion, agreed: tuple[str, ...]) -> None:
    if plan.obstacles:
        said = " ".join(one.message for one in plan.obstacles)
        raise Refused("cannot_convert", f"{plan.table} cannot be partitioned: {said} Nothing was changed.")
    missing = [name for name in plan.to_agree if name not in agreed]
    if missing:
        raise Refused(
            "not_agreed",
            f"partitioning {plan.table} ends {', '.join(missing)}. Nothing was changed; agree to it first.",
        )
    if plan.target != plan.table.name and name_taken(connection, plan.table.schema)(plan.target):
        raise Refused("name_taken", f"{plan.table.schema}.{plan.target} is there already. Nothing was changed.")


def _done(connection: Connection, table: str, target: str | None, time_column: str) -> Converted | None:
    """What an earlier run did; None while the table is plain."""
    found = _view_of(connection, table, target)
    if found is None:
        here = read_table(connection, table)
        found = here if isinstance(here, PartitionedTable) else None
    if found is None:
        return None
    if found.key_column != time_column:
        raise Refused("another_key", f"{found} is partitioned already, by {found.key_column}. Nothing was changed.")
    legacy = next((part for part in found.partitions if part.lower is None and not part.is_default), None)
    if legacy is None:
        raise Refused("another_key", f"{found} is partitioned already, and not by a conversion. Nothing was changed.")
    return Converted(found, legacy, (), 0.0, again=True)


def _view_of(connection: Connection, table: str, target: str | None) -> PartitionedTable | None:
    if target is None:
        return None
    kinds = ask(
        connection,
        "SELECT n.nspname AS schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = to_regclass(%(table)s) AND c.relkind = 'v'",
        table=table,
    )
    if not kinds:
        return None
    return read_partitioned(connection, qualified(kinds[0]["schema"], target))


def _prepare(database: ArchiveDatabase, plan: Conversion, patience: Patience) -> None:
    """The index of the new key, and the proof of the bounds; afresh when a broken-off attempt left them."""
    left = abandon(database, plan.table, patience)
    if left:
        raise SourceUnavailable(f"an earlier attempt could not be cleared away: {'; '.join(left)}.", transient=True)
    place = plan.table.qualified
    if plan.key is not None and plan.builds_key:
        columns = ", ".join(quote(column) for column in plan.key)
        with database.autocommit("maintenance convert", patience.alone(database)) as connection:
            act(connection, f"CREATE UNIQUE INDEX CONCURRENTLY {key_index(plan.table)} ON {place} ({columns})")
    key, limit = quote(plan.time_column), limit_of(plan)

    def promise() -> None:
        with database.transaction(lock_timeout=patience.lock_timeout) as connection:
            act(
                connection,
                f"ALTER TABLE {place} ADD CONSTRAINT {PROOF} CHECK ({key} IS NOT NULL AND {key} < {limit}) NOT VALID",
            )

    with_patience(promise, patience.seconds)
    with database.autocommit("maintenance convert", patience.alone(database)) as connection:
        try:
            act(connection, f"ALTER TABLE {place} VALIDATE CONSTRAINT {PROOF}")
        except DBAPIError as error:
            if state_of(error) != "23514":
                raise
            raise Refused(
                "cannot_convert",
                f"rows of {plan.table} are dated {plan.boundary:%Y-%m-%d} or later, or have no date. It is as it was; "
                f"look at them.",
            ) from None
