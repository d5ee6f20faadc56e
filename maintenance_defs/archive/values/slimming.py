"""The statement that takes values out of rows: only of rows that are still the ones that were read (F85, V2).

The rows are locked and compared with the settings that their text was read with, then changed with the role's own
search path, which the application's triggers expect. The catalogue's rows share the transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.archive.units.cataloguing import Entry, write_catalogue
from maintenance_defs.archive.values.registering import register
from maintenance_defs.archive.values.source import Row, Source, sha256
from maintenance_defs.core.archive import Catalogue
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.statements import for_driver, quote

_OF_THE_SESSION = ("08", "40", "53", "55P03", "57")  # not one row's fault


@dataclass
class Slimmed:
    """What the transaction did. Rows in neither were changed or locked by somebody else, and keep their value."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)  # row id -> why
    registered: Counter[str] = field(default_factory=Counter)  # row id -> rows written for it


class _Otherwise(MaintenanceError):
    """A row came out otherwise than it was computed, or is not registered."""


def slim(
    database: ArchiveDatabase,
    source: Source,
    rows: Sequence[Row],
    catalogue: Catalogue | None,
    entries: Mapping[str, Entry],
) -> Slimmed:
    """One transaction: lock the rows that are unchanged, set their slim values, write their catalogue rows.

    Raises SourceUnavailable when it could not commit; then nothing was changed, or nobody knows until the rows are
    looked at.
    """
    done = Slimmed()
    with database.transaction() as connection:
        locked = _rows(connection, _lock(source), {
            "ids": [row.row_id for row in rows], "hashes": [row.hash for row in rows],
        })  # fmt: skip
        mine = {row["row_id"] for row in locked}
        going = [row for row in rows if row.row_id in mine]
        connection.exec_driver_sql("SET LOCAL search_path TO DEFAULT")
        _apply(connection, source, going, catalogue, entries, done)
    return done


def _lock(source: Source) -> str:
    # READ COMMITTED asks the condition again of a version that was written meanwhile.
    return f"""
SELECT {source.id_text} AS row_id
  FROM {source.sql}
  JOIN unnest(CAST(:ids AS text[]), CAST(:hashes AS bigint[]))
       AS "maintenance read" ("maintenance id", "maintenance hash")
    ON {source.id} = CAST("maintenance id" AS {source.id_type})
 WHERE {source.whole} = "maintenance hash"
   FOR UPDATE OF {quote(source.table.name)} SKIP LOCKED"""


def _update(source: Source) -> str:
    return f"""
WITH "maintenance done" AS (
  UPDATE {source.sql} SET {source.assigned} = CAST((\n{source.slim}\n) AS {source.kind})
   WHERE {source.ids()} AND (\n{source.finished}\n) IS TRUE AND {source.is_object}
  RETURNING {source.id_text} AS row_id, {sha256(f"CAST({source.column} AS text)")} AS digest)
SELECT row_id, digest FROM "maintenance done\""""


def _apply(
    connection: Connection, source: Source, rows: Sequence[Row], catalogue: Catalogue | None,
    entries: Mapping[str, Entry], done: Slimmed,
) -> None:  # fmt: skip
    """All of them at once; where that fails, by halves, so that one row's fault is its own."""
    if not rows:
        return
    try:
        with connection.begin_nested():
            registered = _registered(connection, source, rows)
            found = _changed(connection, source, rows, registered)
            if catalogue is not None:
                write_catalogue(connection, catalogue, (entries[row_id] for row_id in found))
    except (DBAPIError, _Otherwise) as error:
        code = getattr(getattr(error, "orig", None), "pgcode", None) or ""
        if isinstance(error, DBAPIError) and (not code or code.startswith(_OF_THE_SESSION)):
            raise
        if len(rows) == 1:
            done.failed[rows[0].row_id] = _words(error, code)
            return
        half = len(rows) // 2
        _apply(connection, source, rows[:half], catalogue, entries, done)
        _apply(connection, source, rows[half:], catalogue, entries, done)
        return
    done.done |= found
    done.registered += registered


def _registered(connection: Connection, source: Source, rows: Sequence[Row]) -> Counter[str]:
    """While the values are whole: rows for what only they say. Raises _Otherwise where the check is not answered."""
    if (one := source.registering) is None:
        return Counter()
    ids = [row.row_id for row in rows]
    made = register(connection, one, ids, source.id_type)
    still = f"SELECT 1 AS n FROM {source.sql} WHERE {source.ids()} AND (\n{source.checks[one.check]}\n) LIMIT 1"
    if _rows(connection, still, {"ids": ids}):
        raise _Otherwise(f"check {one.check} finds it still, after its rows were written to {one.table}")
    return made


def _changed(connection: Connection, source: Source, rows: Sequence[Row], registered: Collection[str]) -> set[str]:
    """The rows that are slim now. Raises _Otherwise when one is not what was computed, or registered but not slim."""
    expected = {row.row_id: row.slim_sha256 for row in rows}
    found = {row["row_id"]: row["digest"] for row in _rows(connection, _update(source), {"ids": list(expected)})}
    if any(digest != expected.get(row_id) for row_id, digest in found.items()):
        raise _Otherwise("the row came out otherwise than its slim value was computed: a trigger changed it")
    if not set(registered) <= set(found):
        raise _Otherwise("it is not finished any more")
    return set(found)


def _words(error: Exception, code: str) -> str:
    """What the server said, without the values it may name (V13)."""
    if not isinstance(error, DBAPIError):
        return f"{error}. It was left as it was"
    said = str(getattr(getattr(error.orig, "diag", None), "message_primary", None) or "refused")
    return f"the database refused: {said.partition(':')[0]} ({code}). It was left as it was"


def _rows(connection: Connection, sql: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    statement, values = for_driver(sql, parameters, "pyformat")
    return [dict(row) for row in connection.exec_driver_sql(statement, values).mappings()]
