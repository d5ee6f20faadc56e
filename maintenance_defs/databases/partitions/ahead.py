"""Months made before their rows come, so that no insert fails at midnight on the first.

Runs apart from everything that removes (L7). Bounds are UTC months, fitted to what is there (E71).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.catalog import Partition, PartitionedTable, read_partitioned
from maintenance_defs.databases.partitions.making import attach, create_like, overlaps
from maintenance_defs.databases.partitions.reattaching import HOLD_SECONDS, from_default
from maintenance_defs.databases.partitions.sql import act, ask, fitted, name_taken, state_of, with_patience

NAMING = "_%Y_%m"  # after the table's name


@dataclass(frozen=True)
class Note:
    """Something a person should know. code: partman, odd_bounds, hole, default_rows, default_large."""

    code: str
    message: str


@dataclass(frozen=True)
class Ahead:
    """moved_rows: that had gone to the DEFAULT partition, and are in their month now."""

    created: tuple[Partition, ...]
    moved_rows: int
    notes: tuple[Note, ...]


def create_ahead(
    database: ArchiveDatabase,
    table: str,
    months_ahead: int,
    now: datetime,
    *,
    naming: str = NAMING,
    wait_seconds: float = 60.0,
    hold_seconds: float = HOLD_SECONDS,
) -> Ahead:
    """Make what is missing of this month and the `months_ahead` next ones. Doing it again makes nothing.

    naming: strftime of the lower bound, put after the table's name; a name that is taken gets a number.
    hold_seconds: how long a DEFAULT partition may be locked while it is looked through and rows leave it.
    Raises Refused (naive_time, not_partitioned, side_effects, …), SourceUnavailable for want of a lock; what was
    made until then stays.
    """
    if now.tzinfo is None:
        raise Refused("naive_time", "the present has no time zone. No partition was made.")
    with database.transaction() as connection:
        found = read_partitioned(connection, table)
    if found.partman is not None:
        return Ahead((), 0, (Note("partman", f"{found} is managed by pg_partman ({found.partman.schema}.part_config), "
                                  f"which makes its partitions. None was made."),))  # fmt: skip
    created: list[Partition] = []
    notes: list[Note] = []
    moved = 0
    for lower, upper in months_of(now, months_ahead):
        for gap in gaps(found, lower, upper):

            def once(gap: tuple[datetime, datetime] = gap) -> tuple[Partition | None, int, Note | None]:
                with database.transaction() as connection:
                    return make_month(connection, table, *gap, naming, hold_seconds)

            part, rows, note = with_patience(once, wait_seconds)
            created += [part] if part is not None else []
            notes += [note] if note is not None else []
            moved += rows
        notes += [
            Note(
                "odd_bounds",
                f"{part} {part.bounds} is no whole month of UTC; what it leaves free of {lower:%Y-%m} has a partition "
                f"of its own.",
            )
            for part in found.partitions
            if overlaps(part, lower, upper) and _cuts(part, lower, upper)
        ]
    with database.transaction() as connection:
        notes += holes(read_partitioned(connection, table))
    return Ahead(tuple(created), moved, tuple(dict.fromkeys(notes)))


def gaps(table: PartitionedTable, lower: datetime, upper: datetime) -> list[tuple[datetime, datetime]]:
    """The parts of [lower, upper) that no partition holds, the DEFAULT aside."""
    free, at = [], lower
    for part in table.partitions:  # by lower bound
        if part.is_default or not overlaps(part, lower, upper):
            continue
        if part.lower is not None and part.lower > at:
            free.append((at, part.lower))
        if part.upper is None:
            return free
        at = max(at, part.upper)
    return free + [(at, upper)] * (at < upper)


def holes(table: PartitionedTable) -> list[Note]:
    """Spans between partitions into which an insert fails (E71); none where a DEFAULT takes the rows."""
    if table.default is not None:
        return []
    found, before = [], None
    for part in table.partitions:
        if before is not None and before.upper is not None and part.lower is not None and part.lower > before.upper:
            found.append(
                Note(
                    "hole",
                    f"{table} has no partition from {before.upper.isoformat()} to {part.lower.isoformat()}, between "
                    f"{before} and {part}: an insert there fails.",
                )
            )
        before = part
    return found


def months_of(now: datetime, ahead: int) -> list[tuple[datetime, datetime]]:
    """This month of UTC and the `ahead` next ones, half-open."""
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    starts = [first]
    for _ in range(max(0, ahead) + 1):
        starts.append(next_month(starts[-1]))
    return list(pairwise(starts))


def next_month(start: datetime) -> datetime:
    """The first instant of the month after the one of `start`, which is one itself."""
    return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)


def make_month(
    connection: Connection, table: str, lower: datetime, upper: datetime, naming: str, hold_seconds: float
) -> tuple[Partition | None, int, Note | None]:
    """One partition for a free span, inside the caller's transaction: (what was made, rows moved, what to know)."""
    found = read_partitioned(connection, table)
    if (lower, upper) not in gaps(found, lower, upper):
        return None, 0, None  # somebody else made it meanwhile
    name = fitted(found.name, lower.strftime(naming), name_taken(connection, found.schema))
    create_like(connection, found, name)
    moved = 0
    if found.default is not None:
        oid = ask(
            connection,
            "SELECT c.oid::int8 AS oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %(schema)s AND c.relname = %(name)s",
            schema=found.schema,
            name=name,
        )[0]["oid"]
        future = Partition(oid, found.schema, name, "", lower, upper)
        # What takes too long is undone to here, and the month is left to the DEFAULT partition.
        act(connection, f"SET LOCAL statement_timeout = {max(1, int(hold_seconds * 1000))}")
        transaction = connection.begin_nested()
        try:
            moved = from_default(connection, found, oid, future)
            attach(connection, found, name, lower, upper)
            transaction.commit()
        except DBAPIError as error:
            transaction.rollback()
            if state_of(error) != "57014":
                raise
            act(connection, f"DROP TABLE {future.qualified}")
            return None, 0, Note(
                "default_large",
                f"{found.default} could not be looked through for rows of {lower:%Y-%m} in {hold_seconds:g} s, for so "
                f"long it may be locked. No partition was made for them, and their rows go on into it; make it in a "
                f"quiet hour with a longer limit.",
            )  # fmt: skip
    else:
        attach(connection, found, name, lower, upper)
    return next(part for part in read_partitioned(connection, table).partitions if part.name == name), moved, None


def _cuts(part: Partition, lower: datetime, upper: datetime) -> bool:
    """Whether one of its bounds lies inside the span."""
    return any(bound is not None and lower < bound < upper for bound in (part.lower, part.upper))
