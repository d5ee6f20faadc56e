"""New partitions: made beside the table and attached, which stops no reader and no writer.

CREATE TABLE … PARTITION OF would lock the whole table (design §5); LIKE and ATTACH lock it against changes of
its shape only. A DEFAULT partition is locked for the moment of ATTACH, since the server looks into it.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.catalog import Partition, PartitionedTable, read_partitioned
from maintenance_defs.databases.partitions.sql import (
    act,
    ask,
    fitted,
    literal,
    name_taken,
    qualified,
    with_patience,
)

LANE = "maintenance late lane of unit "


def open_late_lane(
    database: ArchiveDatabase,
    table: str,
    lower: datetime,
    upper: datetime,
    unit_id: str,
    *,
    wait_seconds: float = 60.0,
) -> Partition | None:
    """A partition for rows of a month that has left, where its detach did not open one: it was somebody else's.

    None when the table has a DEFAULT partition, which takes them. Opening it again answers the same.
    Raises Refused (covered) when another partition holds part of the span.
    """

    def once() -> Partition | None:
        with database.transaction() as connection:
            found = read_partitioned(connection, table)
            lane = find_late_lane(connection, found, unit_id)
            if lane is not None or found.default is not None:
                return lane
            for other in found.partitions:
                if overlaps(other, lower, upper):
                    raise Refused(
                        "covered", f"{other} {other.bounds} holds rows of this span. No late lane was opened."
                    )
            attach(connection, found, make_lane(connection, found, lower, unit_id), lower, upper)
            return find_late_lane(connection, read_partitioned(connection, table), unit_id)

    return with_patience(once, wait_seconds)


def make_lane(connection: Connection, table: PartitionedTable, lower: datetime | None, unit_id: str) -> str:
    """An empty table, not attached yet, that find_late_lane will know; its name."""
    when = "first" if lower is None else f"{lower:%Y_%m}"
    name = fitted(f"{table.name}_{when}", "_late", name_taken(connection, table.schema))
    create_like(connection, table, name)
    act(connection, f"COMMENT ON TABLE {qualified(table.schema, name)} IS {literal(LANE + unit_id)}")
    return name


def find_late_lane(connection: Connection, table: PartitionedTable, unit_id: str) -> Partition | None:
    """The unit's late lane, known by its comment."""
    found = ask(
        connection,
        "SELECT d.objoid::int8 AS oid FROM pg_description d JOIN pg_inherits i ON i.inhrelid = d.objoid "
        "WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0 AND i.inhparent = CAST(%(parent)s AS oid) "
        "AND d.description = %(comment)s",
        parent=table.oid,
        comment=LANE + unit_id,
    )
    return table.by_oid(found[0]["oid"]) if found else None


def create_like(connection: Connection, table: PartitionedTable, name: str) -> None:
    """An empty table of the same shape, owner and replica identity. Identity columns stay the parent's alone."""
    place = qualified(table.schema, name)
    act(connection, f"CREATE TABLE {place} (LIKE {table.qualified} INCLUDING ALL EXCLUDING IDENTITY)")
    kept = ask(
        connection,
        "SELECT pg_get_userbyid(c.relowner) = current_user AS ours, quote_ident(pg_get_userbyid(c.relowner)) AS owner, "
        "c.relreplident::text AS identity FROM pg_class c WHERE c.oid = CAST(%(oid)s AS oid)",
        oid=table.oid,
    )[0]
    if kept["identity"] in ("f", "n"):  # publications name the partition by it, not by the parent's
        act(connection, f"ALTER TABLE {place} REPLICA IDENTITY {'FULL' if kept['identity'] == 'f' else 'NOTHING'}")
    if not kept["ours"]:
        act(connection, f"ALTER TABLE {place} OWNER TO {kept['owner']}")


def attach(
    connection: Connection, table: PartitionedTable, name: str, lower: datetime | None, upper: datetime | None
) -> None:
    """ATTACH a table of the parent's schema to it."""
    act(
        connection,
        f"ALTER TABLE {table.qualified} ATTACH PARTITION {qualified(table.schema, name)} "
        f"FOR VALUES FROM ({bound(table, lower, 'MINVALUE')}) TO ({bound(table, upper, 'MAXVALUE')})",
    )


def bound(table: PartitionedTable, at: datetime | None, otherwise: str) -> str:
    """An instant as the table's key has it."""
    if at is None:
        return otherwise
    if table.key_type == "timestamp with time zone":
        return f"'{at.isoformat(sep=' ')}'"
    if table.key_type == "date" and (at.hour, at.minute, at.second, at.microsecond) != (0, 0, 0, 0):
        raise Refused("bounds", f"{at} is no date, and {table} is partitioned by dates. Nothing was changed.")
    return f"'{at.replace(tzinfo=None).isoformat(sep=' ')}'"


def overlaps(partition: Partition, lower: datetime, upper: datetime) -> bool:
    """Whether the partition holds rows of [lower, upper); the DEFAULT does not count."""
    if partition.is_default:
        return False
    return (partition.lower is None or partition.lower < upper) and (partition.upper is None or partition.upper > lower)
