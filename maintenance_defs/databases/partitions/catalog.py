"""What PostgreSQL's catalogs say about a table and its partitions.

Bounds come from the catalog, in UTC, never from names (E71, L11). Supported: RANGE on one column of type
timestamptz, timestamp or date (the last two are read as UTC).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.partitions.sql import ask, qualified
from maintenance_defs.databases.statements import name_parts

OLDEST_SERVER = 140000  # before it the catalog does not tell a pending detach
TIME_TYPES = ("timestamp with time zone", "timestamp without time zone", "date")
_BOUNDS = re.compile(r"FOR VALUES FROM \((?P<lower>MINVALUE|'[^']*')\) TO \((?P<upper>MAXVALUE|'[^']*')\)")

SESSION = """
SELECT current_setting('TimeZone') AS zone, current_setting('DateStyle') AS style,
       current_setting('server_version_num')::int AS version
"""
RELATION = """
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       pg_get_userbyid(c.relowner)::text AS owner, c.relispartition AS is_partition,
       c.relrowsecurity AS row_security, c.relforcerowsecurity AS row_security_forced,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid OR i.inhrelid = c.oid) AS inherits,
       p.partstrat::text AS strategy, p.partnatts AS key_columns, a.attname AS key_column,
       format_type(a.atttypid, NULL) AS key_type,
       ARRAY(SELECT t.tgname::text FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal ORDER BY 1)
         AS triggers,
       ARRAY(SELECT b.pubname::text FROM pg_publication b JOIN pg_publication_rel r ON r.prpubid = b.oid
              WHERE r.prrelid = c.oid UNION
             SELECT b.pubname::text FROM pg_publication b WHERE b.puballtables ORDER BY 1) AS publications
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND a.attnum > 0
 WHERE c.relname = %(name)s AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
   AND CASE WHEN CAST(%(schema)s AS text) IS NULL THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            ELSE n.nspname = %(schema)s END
"""
PARTITIONS = """
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds,
       i.inhdetachpending AS detach_pending, c.relkind::text AS kind, leaves.rows, leaves.size_bytes, leaves.foreign
  FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(greatest(l.reltuples, 0)), 0)::int8 AS rows,
              coalesce(sum(pg_total_relation_size(l.oid)), 0)::int8 AS size_bytes,
              coalesce(bool_or(l.relkind = 'f'), false) AS foreign
         FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid WHERE t.isleaf) leaves
 WHERE i.inhparent = %(oid)s
"""
REFERENCES = """
SELECT k.conname AS name, n.nspname AS schema, c.relname AS table, k.confdeltype::text AS on_delete,
       (SELECT array_agg(a.attname::text ORDER BY u.n) FROM unnest(k.conkey) WITH ORDINALITY u (attnum, n)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum) AS columns,
       (SELECT array_agg(a.attname::text ORDER BY u.n) FROM unnest(k.confkey) WITH ORDINALITY u (attnum, n)
          JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum) AS referred
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' AND k.confrelid = %(oid)s AND k.conparentid = 0
 ORDER BY n.nspname, c.relname, k.conname
"""
# pg_partman keeps its configuration in the schema that it was installed in, in versions 4 and 5 alike.
PARTMAN = """
SELECT n.nspname AS schema,
       EXISTS (SELECT FROM pg_attribute r WHERE r.attrelid = c.oid AND r.attname = 'retention') AS has_retention
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'parent_table' AND NOT a.attisdropped
 WHERE c.relname = 'part_config' AND c.relkind = 'r'
"""


@dataclass(frozen=True)
class Partition:
    """One partition. lower, upper: aware UTC, half-open; None where it is open, or past what a calendar holds.

    bounds: the server's own text of them, under UTC. The fields that have defaults describe the moment of
    reading; the others identify the partition, and may be stored and built again.
    """

    oid: int
    schema: str
    name: str
    bounds: str
    lower: datetime | None
    upper: datetime | None
    is_default: bool = False
    detach_pending: bool = False
    is_partitioned: bool = False
    has_foreign_tables: bool = False
    row_estimate: int = 0
    size_bytes: int = 0

    @property
    def qualified(self) -> str:
        return qualified(self.schema, self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Reference:
    """A foreign key that points at the table. on_delete: a, r, c, n, d as pg_constraint has it."""

    name: str
    schema: str
    table: str
    on_delete: str
    columns: tuple[str, ...]
    referred: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} of {self.schema}.{self.table}"


@dataclass(frozen=True)
class Partman:
    """pg_partman manages the table. retention: its own word for when it drops partitions, or None."""

    schema: str
    retention: str | None


@dataclass(frozen=True)
class PlainTable:
    """A table that is not partitioned. is_partition: it is itself part of another."""

    oid: int
    schema: str
    name: str
    owner: str
    row_security: bool
    row_security_forced: bool
    inherits: bool
    is_partition: bool
    triggers: tuple[str, ...]
    publications: tuple[str, ...]
    references: tuple[Reference, ...]

    @property
    def qualified(self) -> str:
        return qualified(self.schema, self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class PartitionedTable(PlainTable):
    """A table in ranges of one time column. partitions: by lower bound, the default last."""

    key_column: str
    key_type: str
    partitions: tuple[Partition, ...]
    partman: Partman | None = field(default=None)

    @property
    def default(self) -> Partition | None:
        return next((part for part in self.partitions if part.is_default), None)

    @property
    def pending(self) -> Partition | None:
        """The partition whose detach is under way or was broken off; the server allows one at a time."""
        return next((part for part in self.partitions if part.detach_pending), None)

    def by_oid(self, oid: int) -> Partition | None:
        return next((part for part in self.partitions if part.oid == oid), None)


def read_table(connection: Connection, table: str) -> PartitionedTable | PlainTable:
    """The table as the catalogs describe it at this moment.

    connection: of ArchiveDatabase.transaction(), whose time zone is pinned.
    Raises Refused: no_table, not_range, key_type, bounds, not_pinned, old_server.
    """
    row = _relation(connection, table)
    common = _common(connection, row)
    if row["kind"] == "r":
        return PlainTable(**common)
    if row["strategy"] != "r" or row["key_columns"] != 1 or row["key_column"] is None:
        raise Refused(
            "not_range",
            f"{row['schema']}.{row['name']} is not partitioned by RANGE of one column, so its partitions are no spans "
            f"of time. Nothing was changed; it can be archived only row by row.",
        )
    if row["key_type"] not in TIME_TYPES:
        raise Refused(
            "key_type",
            f"{row['schema']}.{row['name']} is partitioned by {row['key_column']} of type {row['key_type']}, which is "
            f"no time. Nothing was changed.",
        )
    partitions = [_partition(part, row) for part in ask(connection, PARTITIONS, oid=row["oid"])]
    earliest = datetime.min.replace(tzinfo=UTC)
    partitions.sort(key=lambda part: (part.is_default, part.lower or earliest, part.oid))
    return PartitionedTable(
        **common,
        key_column=row["key_column"],
        key_type=row["key_type"],
        partitions=tuple(partitions),
        partman=_partman(connection, row["schema"], row["name"]),
    )


def read_partitioned(connection: Connection, table: str) -> PartitionedTable:
    """As read_table. Raises Refused (not_partitioned) for a plain one."""
    found = read_table(connection, table)
    if not isinstance(found, PartitionedTable):
        raise Refused("not_partitioned", f"{table} is not partitioned. Nothing was changed; convert it first.")
    return found


def read_relation(connection: Connection, table: str) -> PlainTable:
    """What every table has, however it is partitioned. Raises Refused: no_table, not_pinned, old_server."""
    return PlainTable(**_common(connection, _relation(connection, table)))


def read_references(connection: Connection, oid: int) -> tuple[Reference, ...]:
    """Foreign keys that point at the relation itself; those of its partitions derive from them."""
    return tuple(
        Reference(**{**row, "columns": tuple(row["columns"]), "referred": tuple(row["referred"])})
        for row in ask(connection, REFERENCES, oid=oid)
    )


def _relation(connection: Connection, table: str) -> dict[str, Any]:
    session = ask(connection, SESSION)[0]
    if session["zone"] != "UTC" or not session["style"].startswith("ISO"):
        raise Refused(
            "not_pinned",
            f"the session's time zone is {session['zone']}: bounds of partitions are read under UTC only. Nothing was "
            f"read; use ArchiveDatabase.transaction().",
        )
    if session["version"] < OLDEST_SERVER:
        raise Refused(
            "old_server",
            "partitions are archived from PostgreSQL 14 on: older servers cannot detach one without stopping every "
            "reader of the table. Nothing was changed.",
        )
    schema, name = name_parts(table)
    found = ask(connection, RELATION, schema=schema, name=name)
    if len(found) != 1:
        fits = " and ".join(f"{row['schema']}.{row['name']}" for row in found)
        raise Refused("no_table", f"{table} {f'fits {fits}; write the schema' if found else 'is not there'}.")
    row = found[0]
    if row["kind"] not in ("r", "p"):
        raise Refused("no_table", f"{table} is no table with rows of its own. Nothing was changed.")
    return row


def _common(connection: Connection, row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: row[key] for key in ("oid", "schema", "name", "owner", "row_security", "row_security_forced")},
        "inherits": row["inherits"] and row["kind"] == "r" and not row["is_partition"],
        "is_partition": row["is_partition"],
        "triggers": tuple(row["triggers"]),
        "publications": tuple(row["publications"]),
        "references": read_references(connection, row["oid"]),
    }


def _partition(row: dict[str, Any], table: dict[str, Any]) -> Partition:
    known = {key: row[key] for key in ("oid", "schema", "name", "bounds", "detach_pending", "size_bytes")}
    more = {
        "is_partitioned": row["kind"] == "p",
        "has_foreign_tables": row["foreign"],
        "row_estimate": row["rows"],
    }
    if row["bounds"] == "DEFAULT":
        return Partition(**known, **more, lower=None, upper=None, is_default=True)
    bounds = _BOUNDS.fullmatch(row["bounds"] or "")
    if bounds is None:
        raise Refused(
            "bounds",
            f"the bounds of {row['schema']}.{row['name']} cannot be read: {row['bounds']}. Nothing was changed.",
        )
    where = f"{row['schema']}.{row['name']}, a partition of {table['schema']}.{table['name']}"
    return Partition(
        **known, **more, lower=_instant(bounds["lower"], False, where), upper=_instant(bounds["upper"], True, where)
    )


def _instant(text: str, is_upper: bool, where: str) -> datetime | None:
    """A bound as aware UTC. Past the calendar's ends it is open; on the wrong side of them it is refused."""
    if text in ("MINVALUE", "MAXVALUE"):
        return None
    value = text.strip("'")
    beyond = value == "infinity" or re.match(r"\d{5,}-", value) is not None
    before = value == "-infinity" or value.endswith(" BC")
    if beyond if is_upper else before:
        return None
    if beyond or before:
        raise Refused("bounds", f"a bound of {where} is {value}, which no calendar holds. Nothing was changed.")
    instant = datetime.fromisoformat(value)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _partman(connection: Connection, schema: str, name: str) -> Partman | None:
    for row in ask(connection, PARTMAN):
        retention = "retention" if row["has_retention"] else "NULL"
        place = qualified(row["schema"], "part_config").replace("%", "%%")
        found = ask(
            connection,
            f"SELECT {retention} AS retention FROM {place} WHERE parent_table = %(parent)s",
            parent=f"{schema}.{name}",
        )
        if found:
            return Partman(row["schema"], found[0]["retention"])
    return None
