"""What turning a plain table into a partitioned one would take and cost; said before anybody agrees (F83)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.partitions.ahead import next_month
from maintenance_defs.databases.partitions.catalog import TIME_TYPES, PlainTable, read_relation
from maintenance_defs.databases.partitions.preflight import Obstacle
from maintenance_defs.databases.partitions.sql import ask
from maintenance_defs.databases.statements import quote

MARGIN = timedelta(days=1)  # the old rows' partition reaches so far at least: writers go on while we prepare
PROOF = "maintenance_bounds"  # the CHECK that proves the old rows' bounds; it is there while a conversion is at work

TABLE = """
SELECT c.relpersistence::text AS persistence, c.reloftype <> 0 AS typed, c.relreplident::text AS replica_identity,
       greatest(c.reltuples, 0)::int8 AS rows, pg_total_relation_size(c.oid)::int8 AS size_bytes,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owns,
       ARRAY(SELECT r.rulename::text FROM pg_rewrite r WHERE r.ev_class = c.oid ORDER BY 1) AS rules,
       ARRAY(SELECT b.pubname::text FROM pg_publication b JOIN pg_publication_rel r ON r.prpubid = b.oid
              WHERE r.prrelid = c.oid ORDER BY 1) AS published
  FROM pg_class c WHERE c.oid = CAST(%(oid)s AS oid)
"""
COLUMN = """
SELECT format_type(a.atttypid, NULL) AS type, a.attnotnull AS not_null, a.attgenerated <> '' AS generated,
       a.attidentity <> '' AS identity
  FROM pg_attribute a WHERE a.attrelid = CAST(%(oid)s AS oid) AND a.attname = %(name)s AND a.attnum > 0
"""
INDEXES = """
SELECT x.relname AS name, i.indisprimary AS is_primary, i.indisunique AS is_unique, i.indisvalid AS valid,
       i.indisexclusion AS excludes, k.conname AS constraint, coalesce(k.condeferrable, false) AS deferrable,
       (SELECT array_agg(a.attname::text ORDER BY u.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY u (attnum, n)
          LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum WHERE u.n <= i.indnkeyatts)
         AS columns
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
  LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
 WHERE i.indrelid = CAST(%(oid)s AS oid) ORDER BY i.indisprimary DESC, x.relname
"""
# Constraints, defaults, triggers and statistics go along, or are looked at by themselves.
DEPENDENTS = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) AS what FROM pg_depend d
 WHERE d.deptype = 'n' AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_attrdef'::regclass,
                                             'pg_trigger'::regclass, 'pg_statistic_ext'::regclass)
   AND ((d.refclassid = 'pg_class'::regclass AND d.refobjid = CAST(%(oid)s AS oid)) OR
        (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (
           SELECT t.oid FROM pg_type t JOIN pg_class c ON c.reltype IN (t.oid, t.typelem)
            WHERE c.oid = CAST(%(oid)s AS oid))))
 ORDER BY 1
"""
TRIGGERS = """
SELECT tgname::text AS name FROM pg_trigger WHERE tgrelid = CAST(%(oid)s AS oid) AND NOT tgisinternal
   AND (tgenabled <> 'O' OR tgoldtable IS NOT NULL OR tgnewtable IS NOT NULL) ORDER BY 1
"""
UNPROVEN = """
SELECT conname::text AS name FROM pg_constraint WHERE conrelid = CAST(%(oid)s AS oid) AND contype IN ('f', 'c')
   AND NOT convalidated AND conname <> %(ours)s ORDER BY 1
"""


@dataclass(frozen=True)
class Conversion:
    """What convert() would do. boundary: upper bound of the partition that the present rows become.

    key: the primary key's new columns, None without one; builds_key: whether an index is built for it first.
    consequences: sentences for whoever agrees. to_agree: names of foreign keys and unique keys that go, to be
    given back as `agreed`. obstacles: why it cannot be done; nothing is begun while there is one.
    """

    table: PlainTable
    time_column: str
    key_type: str
    target: str
    boundary: datetime
    key: tuple[str, ...] | None
    builds_key: bool
    row_estimate: int
    size_bytes: int
    consequences: tuple[str, ...]
    to_agree: tuple[str, ...]
    obstacles: tuple[Obstacle, ...]


def convert_plan(
    connection: Connection, table: str, time_column: str, *, now: datetime, target: str | None = None
) -> Conversion:
    """Read what there is; change nothing. target: the partitioned table's name, the table's own without one.

    Raises Refused: no_table, no_column.
    """
    found = read_relation(connection, table)
    facts, column = ask(connection, TABLE, oid=found.oid)[0], ask(connection, COLUMN, oid=found.oid, name=time_column)
    if not column:
        raise Refused("no_column", f"{found} has no column {time_column}. Nothing was changed.")
    indexes = [row for row in ask(connection, INDEXES, oid=found.oid) if not _ours(row, found)]
    obstacles = _obstacles(connection, found, facts, column[0], indexes, time_column)
    newest = _newest(connection, found, time_column, column[0], obstacles)
    primary = next((row for row in indexes if row["is_primary"]), None)
    key = tuple(primary["columns"]) if primary else None
    builds = key is not None and time_column not in key
    if key is not None and builds:
        key = (*key, time_column)
    lost = [row for row in indexes if row["is_unique"] and not row["is_primary"] and time_column not in row["columns"]]
    boundary = _boundary(now, newest)
    return Conversion(
        table=found,
        time_column=time_column,
        key_type=column[0]["type"],
        target=target or found.name,
        boundary=boundary,
        key=key,
        builds_key=builds,
        row_estimate=facts["rows"],
        size_bytes=facts["size_bytes"],
        consequences=tuple(_consequences(found, primary, key, builds, lost, boundary, target)),
        to_agree=(*(one.name for one in found.references), *(row["name"] for row in lost)),
        obstacles=tuple(obstacles),
    )


def _obstacles(
    connection: Connection, table: PlainTable, facts: dict[str, Any], column: dict[str, Any],
    indexes: list[dict[str, Any]], time_column: str,
) -> list[Obstacle]:  # fmt: skip
    found = []

    def stands(code: str, when: object, message: str) -> None:
        if when:
            found.append(Obstacle(code, message))

    name = str(table)
    stands("not_owner", not facts["owns"], f"this role does not own {name}, which belongs to {table.owner}.")
    stands("is_partition", table.is_partition or table.inherits, f"{name} inherits, or is inherited from.")
    stands("not_plain", facts["persistence"] != "p" or facts["typed"], f"{name} is unlogged, temporary or typed.")
    stands(
        "key_type",
        column["type"] not in TIME_TYPES or column["generated"],
        f"{time_column} is {column['type']}{', generated' if column['generated'] else ''}: no time to partition by.",
    )
    stands("row_security", table.row_security, f"{name} has row-level security, whose policies would not go along.")
    stands("rules", facts["rules"], f"{name} has rules: {', '.join(facts['rules'])}.")
    stands(
        "published",
        facts["published"],
        f"{name} is published by {', '.join(facts['published'])}; take it out first, and add the partitioned table.",
    )
    stands("replica_identity", facts["replica_identity"] == "i", f"{name} has an index as its replica identity.")
    dependents = [row["what"] for row in ask(connection, DEPENDENTS, oid=table.oid)]
    stands(
        "depended_on",
        dependents,
        f"what depends on {name} would go on seeing the old rows alone: {', '.join(dependents)}. Drop it, and create "
        f"it again afterwards.",
    )
    triggers = [row["name"] for row in ask(connection, TRIGGERS, oid=table.oid)]
    stands(
        "triggers", triggers, f"triggers with transition tables, or that are not simply enabled: {', '.join(triggers)}."
    )
    unproven = [row["name"] for row in ask(connection, UNPROVEN, oid=table.oid, ours=PROOF)]
    stands("unproven", unproven, f"constraints of {name} are not validated: {', '.join(unproven)}.")
    odd = [row["name"] for row in indexes if row["excludes"] or not row["valid"] or row["deferrable"]]
    stands("indexes", odd, f"indexes that exclude, are invalid or deferrable: {', '.join(odd)}.")
    return found


def _newest(
    connection: Connection, table: PlainTable, time_column: str, column: dict[str, Any], obstacles: list[Obstacle]
) -> datetime | None:
    """The latest time of a row; rows with none, or past the calendar, are obstacles."""
    if column["type"] not in TIME_TYPES:
        return None
    name, place = quote(time_column), table.qualified
    if not column["not_null"]:
        without = ask(connection, f"SELECT count(*) AS rows FROM {place} WHERE {name} IS NULL")[0]["rows"]
        if without:
            obstacles.append(
                Obstacle("no_time", f"{without:,} rows of {table} have no {time_column}, and fit no month.")
            )
    beyond = ask(connection, f"SELECT count(*) AS rows FROM {place} WHERE {name} >= '9000-01-01'")[0]["rows"]
    if beyond:
        obstacles.append(
            Obstacle("far_future", f"{beyond:,} rows of {table} are dated after the year 9000, and fit no month.")
        )
    newest = ask(
        connection, f"SELECT max({name})::timestamp::text AS at FROM {place} WHERE {name} < '9000-01-01'"
    )[0]["at"]  # fmt: skip
    if newest is None or newest == "-infinity" or newest.endswith(" BC"):
        return None
    return datetime.fromisoformat(newest).replace(tzinfo=UTC)


def _boundary(now: datetime, newest: datetime | None) -> datetime:
    """The first of the month after everything that is there, and after the days in which the change is made."""
    latest = max(now.astimezone(UTC) + MARGIN, newest or now.astimezone(UTC))
    return next_month(latest.replace(day=1, hour=0, minute=0, second=0, microsecond=0))


def _consequences(
    table: PlainTable, primary: dict[str, Any] | None, key: tuple[str, ...] | None, builds: bool,
    lost: list[dict[str, Any]], boundary: datetime, target: str | None,
) -> list[str]:  # fmt: skip
    said = []
    if primary and key and builds:
        old = ", ".join(primary["columns"])
        said.append(
            f"({old}) alone is no longer unique in {table}: the key becomes ({', '.join(key)}), and the same ({old}) "
            f"in another month is accepted. Statements with ON CONFLICT ({old}) fail."
        )
    said += [
        f"{row['name']} ({', '.join(column or 'an expression' for column in row['columns'])}) stays unique among the "
        f"present rows only, and new months have no such index."
        for row in lost
    ]
    said += [f"the foreign key {one} is dropped: what it points at is no longer unique." for one in table.references]
    said.append(
        f"the present rows become one partition up to {boundary:%Y-%m-%d}, which cannot be dropped month by month: its "
        f"old rows are archived and deleted one by one."
    )
    if target not in (None, table.name):
        said.append(f"{table} becomes a view of {target}, through which old statements go on reading and writing.")
    return said


def _ours(index: dict[str, Any], table: PlainTable) -> bool:
    return bool(index["name"] == key_index(table))


def key_index(table: PlainTable) -> str:
    """The name of the index that is built for the new key; known, so that a failed attempt is found again."""
    return f"maintenance_key_{table.oid}"
