"""Rows that are written together with the slimming of a value, for what the value alone said, and taken back with it.

They are written, recorded and proven to answer the declared check in the transaction that slims; a restore removes
those on record that are as they were written. What anything else could depend on is never removed.
Source: S4-51.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from maintenance_defs.core.archive import Register
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import for_driver, quote
from maintenance_defs.reconcile.reading.rows import column_of, from_table

NEW = '"maintenance new"'
HASH = f"hashtextextended(({NEW}.*)::text, 0)"  # with the settings of our own transactions
RECORD = ("table_name", "row_id", "for_id", "row_hash")


@dataclass(frozen=True)
class Registering:
    """SQL of one declaration."""

    check: str
    table: str  # as declared
    sql: str
    id: str
    id_type: str
    rows: str
    record: str


def open_registering(snapshot: PostgresSnapshot, declared: Register, rows: str) -> Registering:
    """rows: the declared SELECT, with its parameters. Raises SourceUnavailable for what is not there."""
    table, record = snapshot.table(declared.table), snapshot.table(declared.record)
    if table is None:
        raise SourceUnavailable(f"there is no table {declared.table}, which register names. Nothing was archived.")
    if record is None or not set(RECORD) <= set(record.columns):
        first = f" Apply the migration {declared.migration} first." if declared.migration else ""
        raise SourceUnavailable(
            f"there is no table {declared.record} with the columns {', '.join(RECORD)}, which remembers the rows that "
            f"are registered. Nothing was archived.{first}"
        )
    id_ = column_of(table, declared.id, snapshot)
    snapshot.rows(f"SELECT for_id, {quote(id_)} FROM (\n{rows}\n) AS found WHERE false")
    return Registering(
        declared.answers, declared.table, from_table(snapshot, table), quote(id_),
        re.sub(r"\(.*\)", "", table.columns[id_]), rows, from_table(snapshot, record),
    )  # fmt: skip


def register(connection: Connection, one: Registering, ids: Sequence[str], id_type: str) -> Counter[str]:
    """Insert what is missing of these rows; how many were, by row id. id_type: of the archived rows' id."""
    wanted = f"SELECT * FROM (\n{one.rows}\n) AS found WHERE for_id = ANY(CAST(:ids AS {id_type}[]))"
    names = connection.exec_driver_sql(*for_driver(f"{wanted} LIMIT 0", {"ids": []}, "pyformat")).keys()
    columns = ", ".join(quote(name) for name in names if name != "for_id")
    found = _run(connection, f"""
WITH "maintenance wanted" AS MATERIALIZED ({wanted}),
"maintenance made" AS (
  INSERT INTO {one.sql} AS {NEW} ({columns}) SELECT {columns} FROM "maintenance wanted"
  RETURNING {NEW}.{one.id} AS made_id, {HASH} AS row_hash)
INSERT INTO {one.record} (table_name, row_id, for_id, row_hash)
SELECT :table, CAST(made_id AS text), CAST(for_id AS text), row_hash
  FROM "maintenance made" JOIN "maintenance wanted" ON {one.id} = made_id
RETURNING for_id""", {"ids": list(ids), "table": one.table})  # fmt: skip
    return Counter(row["for_id"] for row in found)


def unregister(connection: Connection, one: Registering, row_id: str) -> int:
    """Remove what was registered for this row and is as it was written; how many. Its record ends in any case.

    Where a foreign key points at the table nothing is removed: somebody may depend on the rows by now.
    """
    return len(_run(connection, f"""
WITH "maintenance mine" AS (
  DELETE FROM {one.record} WHERE table_name = :table AND for_id = :id RETURNING row_id, row_hash)
DELETE FROM {one.sql} AS {NEW} USING "maintenance mine" AS mine
 WHERE {NEW}.{one.id} = CAST(mine.row_id AS {one.id_type}) AND {HASH} = mine.row_hash
   AND NOT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = CAST(:sql AS regclass))
RETURNING 1 AS gone""", {"table": one.table, "id": row_id, "sql": one.sql}))  # fmt: skip


def _run(connection: Connection, sql: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    statement, values = for_driver(sql, parameters, "pyformat")
    return [dict(row) for row in connection.exec_driver_sql(statement, values).mappings()]
