"""How many rows tables have and what they weigh, as each dialect says it. Reads catalogs, and counts small tables."""

from __future__ import annotations

from dataclasses import dataclass

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.base import Snapshot, Table, from_table

COUNTED_BYTES = 64_000_000  # rows of a table up to this size are counted; a larger one is estimated
# A parent has no rows of its own: those of its partitions are its. Estimated as the planner does: by the rows of a
# page when it was last analysed, and the pages it has now.
_POSTGRES = """
WITH RECURSIVE tree (oid) AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :schema AND c.relname = :name
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid
), part AS (
    SELECT c.relkind, c.reltuples, c.relpages, pg_total_relation_size(c.oid) AS total, pg_relation_size(c.oid) AS own
      FROM tree JOIN pg_class c ON c.oid = tree.oid
)
SELECT SUM(total)::int8 AS size_bytes, SUM(own)::int8 AS own_bytes,
       BOOL_OR(own > 0 AND (reltuples < 0 OR relpages = 0)) AS unknown,
       SUM(CASE WHEN relpages > 0 AND reltuples > 0
           THEN reltuples / relpages * (own / current_setting('block_size')::int8) ELSE 0 END)::int8 AS estimate
  FROM part
"""
# Pages of the table and of its indexes; the text is read by SQLite itself, page by page.
_SQLITE = """
SELECT s.tbl_name AS name, SUM(d.pgsize) AS size_bytes
  FROM dbstat d JOIN sqlite_schema s ON s.name = d.name
 WHERE d.aggregate = TRUE GROUP BY s.tbl_name
"""
_WHOLE = {
    "postgresql": "SELECT pg_database_size(current_database()) AS size_bytes",
    "sqlite": "SELECT page_count * page_size AS size_bytes FROM pragma_page_count, pragma_page_size",
}


@dataclass(frozen=True)
class TableSize:
    """None is not known, and `message` says why. Bytes are those of the table, its indexes, TOAST and partitions."""

    rows: int | None
    estimated: bool
    size_bytes: int | None
    message: str | None = None


def database_size(snapshot: Snapshot) -> int | None:
    """All of it on its disk; None where this dialect or this role cannot say."""
    if snapshot.dialect not in _WHOLE:
        return None
    try:
        return int(snapshot.rows(_WHOLE[snapshot.dialect])[0]["size_bytes"])
    except SourceUnavailable:
        return None


def table_sizes(snapshot: Snapshot, tables: list[Table]) -> dict[str, TableSize]:
    """Of each table by its written name. A table that cannot be asked has a message, never 0."""
    if snapshot.dialect == "postgresql":
        return {str(table): _postgres(snapshot, table) for table in tables}
    sizes, why = _sqlite_sizes(snapshot) if snapshot.dialect == "sqlite" else ({}, _NO_SIZE)
    found = {}
    for table in tables:
        try:
            found[str(table)] = TableSize(_count(snapshot, table), False, sizes.get(table.name), why)
        except SourceUnavailable as error:
            found[str(table)] = TableSize(None, False, sizes.get(table.name), str(error))
    return found


_NO_SIZE = "this kind of database says no size of a table"


def _sqlite_sizes(snapshot: Snapshot) -> tuple[dict[str, int], str | None]:
    try:
        return {row["name"]: row["size_bytes"] for row in snapshot.rows(_SQLITE, limit=100_000)}, None
    except SourceUnavailable:
        return {}, "this build of SQLite has no dbstat, so the size of a table is not known"


def _postgres(snapshot: Snapshot, table: Table) -> TableSize:
    try:
        [seen] = snapshot.rows(_POSTGRES, {"schema": table.schema, "name": table.name})
    except SourceUnavailable as error:
        return TableSize(None, False, None, str(error))
    estimate = None if seen["unknown"] else seen["estimate"]
    if seen["own_bytes"] > COUNTED_BYTES:
        message = "it was never analysed, so its rows are not known" if estimate is None else None
        return TableSize(estimate, estimate is not None, seen["size_bytes"], message)
    try:
        return TableSize(_count(snapshot, table), False, seen["size_bytes"])
    except SourceUnavailable as error:  # the catalog is open to a role that may not read the rows
        return TableSize(estimate, estimate is not None, seen["size_bytes"], str(error))


def _count(snapshot: Snapshot, table: Table) -> int:
    return int(snapshot.rows(f"SELECT COUNT(*) AS n FROM {from_table(snapshot, table)}")[0]["n"])


def row_bytes(snapshot: Snapshot, columns: list[str]) -> str | None:
    """SQL for the bytes of these columns of a row, compressed as they lie there; None where it cannot be said."""
    if snapshot.dialect == "postgresql":
        each = "COALESCE(pg_column_size({}), 0)"
    elif snapshot.dialect == "sqlite":
        each = "COALESCE(LENGTH(CAST({} AS BLOB)), 0)"
    else:
        return None
    return " + ".join(each.format(snapshot.quote(column)) for column in columns) or "0"


def time_of(snapshot: Snapshot, column: str, type_name: str) -> str:
    """SQL for the column as a UTC instant to be compared; bare where that lets an index or partitions serve."""
    quoted = snapshot.quote(column)
    if snapshot.dialect == "postgresql" and type_name.startswith("timestamp"):
        return quoted
    return snapshot.as_instant(quoted, type_name)
