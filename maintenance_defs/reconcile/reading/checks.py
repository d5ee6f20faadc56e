"""The declared checks and queries of a system, asked on the snapshot that its references were read from."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from maintenance_defs.core.declaration import Query, Reference, RowCheck, System
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.schemas import REFERENCES
from maintenance_defs.databases.base import Snapshot, Table
from maintenance_defs.reconcile.reading.rows import (
    Found,
    Reading,
    as_json,
    column_of,
    from_table,
    read_lines,
    where_clause,
    write_by_store,
)

SAMPLE_ROWS = 10
QUERY_ROWS = 1000
_AS_OF = re.compile(r"(?<![:\w]):as_of\b")


def run_checks(reading: Reading, system: System, as_of: datetime, folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> describe, severity, and count with a sample of at most 10 rows; or a message where it could not run.

    The sample shows the id and the columns that the check shows, nothing else. A check that requires
    an object has its rows in <folder>/<name>.parquet instead: the diff counts those whose object is absent.
    """
    found = {}
    for name, check in system.checks.items():
        said: dict[str, Any] = {"describe": check.describe, "severity": check.severity}
        try:
            table = reading.snapshot.table(check.table)
            if table is None:
                missing = "which is optional" if check.optional else "so nothing is known"
                said |= {"count": None, "sample": [], "message": f"there is no table {check.table}, {missing}."}
            elif check.requires is not None:
                said |= _write_requiring(reading, name, check, table, as_of, folder)
            else:
                said |= _count(reading.snapshot, check, table, as_of)
        except SourceUnavailable as error:
            said |= {"count": None, "sample": [], "message": str(error)}
        found[name] = said
    return found


def _count(snapshot: Snapshot, check: RowCheck, table: Table, as_of: datetime) -> dict[str, Any]:
    parameters = {"as_of": as_of} if check.where and _AS_OF.search(check.where) else {}
    rest = f"FROM {from_table(snapshot, table)}{where_clause(check.where)}"
    shown = dict.fromkeys(column_of(table, name, snapshot) for name in (*check.id, *check.show))
    columns = ", ".join(snapshot.quote(column) for column in shown)
    order = ", ".join(snapshot.quote(column_of(table, name, snapshot)) for name in check.id)
    count = snapshot.rows(f"SELECT count(*) AS n {rest}", parameters)[0]["n"]
    sample = snapshot.rows(f"SELECT {columns} {rest}\nORDER BY {order}", parameters, limit=SAMPLE_ROWS)
    return {"count": count, "sample": [as_json(row) for row in sample]}


def _write_requiring(
    reading: Reading, name: str, check: RowCheck, table: Table, as_of: datetime, folder: Path
) -> dict[str, Any]:
    reference = Reference.model_validate(
        {"table": check.table, "id": check.id, "store": check.store, "object": check.requires, "protects_only": True}
    )
    where, parameters = check.where, []
    if where is not None:
        where, count = _AS_OF.subn("?", where)
        parameters = [as_of] * count
    counted = Found()
    lines = read_lines(reading, reference, table, where, parameters, counted)
    exact = (b.filter(pc.equal(b["kind"], "exact")).select([*REFERENCES.names, "store"]) for b in lines)
    write_by_store(reading, exact, reference, folder, f"{name}.parquet")
    store_folder = folder / reference.store[0]
    (store_folder / f"{name}.parquet").rename(folder / f"{name}.parquet")
    store_folder.rmdir()
    return {"rows": counted.rows, "no_key": counted.kinds.get("no_key", 0)}


def run_queries(snapshot: Snapshot, system: System, as_of: datetime, folder: Path | None) -> dict[str, dict[str, Any]]:
    """Name -> describe, columns, rows; or describe and a message where a migration or the table is missing."""
    return {
        name: {"describe": query.describe} | _query(snapshot, query, as_of, folder)
        for name, query in system.queries.items()
    }


def _query(snapshot: Snapshot, query: Query, as_of: datetime, folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {"message": "Not read: the folder of the system's SQL files was not given."}
    try:
        for wanted, columns in query.needs.items():
            if lacking := _lacking(snapshot, wanted, columns):
                migration = f"migration {query.migration} is not applied: " if query.migration else ""
                return {"message": f"{migration}{lacking} is missing."}
        sql = (folder / query.sql).read_text(encoding="utf-8")
        rows = snapshot.rows(sql, {"as_of": as_of} if _AS_OF.search(sql) else {}, limit=QUERY_ROWS)
    except FileNotFoundError:
        return {"message": f"{query.sql} is not in the system's folder."}
    except SourceUnavailable as error:
        return {"message": str(error)}
    return {"columns": list(rows[0]) if rows else [], "rows": [as_json(row) for row in rows]}


def _lacking(snapshot: Snapshot, wanted: str, columns: tuple[str, ...]) -> str | None:
    table = snapshot.table(wanted)
    if table is None:
        return f"table {wanted}"
    for column in columns:
        try:
            column_of(table, column, snapshot)
        except SourceUnavailable:
            return f"{wanted}.{column}"
    return None
