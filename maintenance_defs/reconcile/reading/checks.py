"""The declared checks and queries of a system, asked on the snapshot that its references were read from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.core.declaration import Query, Reference, RowCheck, System
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.parameters import named_parameters, placed_parameters
from maintenance_defs.core.schemas import REFERENCES
from maintenance_defs.databases.base import Snapshot, Table
from maintenance_defs.reconcile.calculator import literal
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


def run_checks(
    reading: Reading, system: System, as_of: datetime, folder: Path, timings: Mapping[str, str], loose: Path
) -> dict[str, dict[str, Any]]:
    """Name -> describe, severity, seconds, and count with a sample of at most 10 rows; or a message why it did not run.

    The sample shows the id and the columns that the check shows, nothing else. A check that requires
    an object has its rows in <folder>/<name>.parquet instead: the diff counts those whose object is absent.
    timings: of the chosen preset. loose: where the references were written (LOOSE_REFERENCES): rows in there
    are `held` with the reason where the check says so; when all are, the severity is "warn".
    """
    found = {}
    for name, check in system.checks.items():
        said: dict[str, Any] = {"describe": check.describe, "severity": check.severity}
        began = time.monotonic()
        try:
            table = reading.snapshot.table(check.table)
            if table is None:
                missing = "which is optional" if check.optional else "so nothing is known"
                said |= {"count": None, "sample": [], "message": f"there is no table {check.table}, {missing}."}
            elif lacking := _lacking(reading.snapshot, check.table, check.needs):
                said |= {"count": None, "sample": [], "message": _not_migrated(check.migration, lacking)}
            elif check.requires is not None:
                said |= _write_requiring(reading, name, check, table, as_of, timings, folder)
            else:
                said |= _count(reading.snapshot, check, table, as_of, timings)
                if check.holds_unreadable and said["count"]:
                    said |= _held(reading, system, check, table, as_of, timings, loose, said["count"])
        except SourceUnavailable as error:
            said |= {"count": None, "sample": [], "message": str(error)}
        found[name] = said | {"seconds": round(time.monotonic() - began, 4)}
    return found


def _count(
    snapshot: Snapshot, check: RowCheck, table: Table, as_of: datetime, timings: Mapping[str, str]
) -> dict[str, Any]:
    parameters = named_parameters(check.where, as_of, timings)
    rest = f"FROM {from_table(snapshot, table)}{where_clause(check.where)}"
    shown = dict.fromkeys(column_of(table, name, snapshot) for name in (*check.id, *check.show))
    columns = ", ".join(snapshot.quote(column) for column in shown)
    order = ", ".join(snapshot.quote(column_of(table, name, snapshot)) for name in check.id)
    count = snapshot.rows(f"SELECT count(*) AS n {rest}", parameters)[0]["n"]
    sample = snapshot.rows(f"SELECT {columns} {rest}\nORDER BY {order}", parameters, limit=SAMPLE_ROWS)
    return {"count": count, "sample": [as_json(row) for row in sample]}


def _held(
    reading: Reading, system: System, check: RowCheck, table: Table, as_of: datetime, timings: Mapping[str, str],
    loose: Path, count: int,
) -> dict[str, Any]:  # fmt: skip
    """How many of the rows name something that nobody could follow, by reason; only those: the severity is "warn"."""
    snapshot, con = reading.snapshot, reading.con
    files = [
        path
        for number, reference in enumerate(system.references)
        if reference.table == check.table and not reference.protects_only
        and (path := loose / f"{number:02d}.parquet").exists()
    ]  # fmt: skip
    if not files:
        return {}
    columns = [column_of(table, name, snapshot) for name in check.id]
    ids = ", ".join(f"{snapshot.as_text(snapshot.quote(c), table.columns[c])} AS i{n}" for n, c in enumerate(columns))
    where, parameters = placed_parameters(check.where or "1 = 1", as_of, timings)
    con.execute("CREATE OR REPLACE TEMP TABLE checked (row_id VARCHAR)")
    names = [f"i{n}" for n in range(len(columns))]
    row_id = f"{names[0]}::VARCHAR" if len(names) == 1 else f"to_json([{', '.join(names)}]::VARCHAR[])::VARCHAR"
    for batch in snapshot.read(f"SELECT {ids} FROM {from_table(snapshot, table)}{where_clause(where)}", parameters):
        con.register("batch", pa.Table.from_batches([batch]))
        con.execute(f"INSERT INTO checked SELECT {row_id} FROM batch")
        con.unregister("batch")
    listed = ", ".join(literal(path) for path in files)
    held = con.execute(
        f"""
        SELECT reason, count(*) FROM (
            SELECT c.row_id, min(coalesce(l.reason, l.kind)) AS reason
            FROM read_parquet([{listed}]) l JOIN checked c ON regexp_replace(l.row_id, '\\[[0-9]+\\]$', '') = c.row_id
            WHERE l.kind IN ('unresolvable', 'external') GROUP BY c.row_id)
        GROUP BY reason ORDER BY 2 DESC, 1
        """
    ).fetchall()
    if not held:
        return {}
    number = sum(rows for _, rows in held)
    reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in held)
    found: dict[str, Any] = {"held": dict(held), "message": f"{number:,} of {count:,} held: {reasons}."}
    return found | ({"severity": "warn"} if number == count else {})


def _write_requiring(
    reading: Reading, name: str, check: RowCheck, table: Table, as_of: datetime, timings: Mapping[str, str],
    folder: Path,
) -> dict[str, Any]:  # fmt: skip
    reference = Reference.model_validate(
        {"table": check.table, "id": check.id, "store": check.store, "object": check.requires, "protects_only": True}
    )
    where, parameters = check.where, list[Any]()
    if where is not None:
        where, parameters = placed_parameters(where, as_of, timings)
    counted = Found()
    lines = read_lines(reading, reference, table, where, parameters, counted)
    exact = (b.filter(pc.equal(b["kind"], "exact")).select([*REFERENCES.names, "store"]) for b in lines)
    write_by_store(reading, exact, reference, folder, f"{name}.parquet")
    store_folder = folder / reference.store[0]
    (store_folder / f"{name}.parquet").rename(folder / f"{name}.parquet")
    store_folder.rmdir()
    return {"rows": counted.rows, "no_key": counted.kinds.get("no_key", 0)}


def run_queries(snapshot: Snapshot, system: System, as_of: datetime, folder: Path | None) -> dict[str, dict[str, Any]]:
    """Name -> describe, columns, rows, seconds; or describe and a message where a migration or the table is missing."""
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
                return {"message": _not_migrated(query.migration, lacking)}
        sql = (folder / query.sql).read_text(encoding="utf-8")
        began = time.monotonic()
        rows = snapshot.rows(sql, named_parameters(sql, as_of, {}), limit=QUERY_ROWS)
        seconds = round(time.monotonic() - began, 4)
    except FileNotFoundError:
        return {"message": f"{query.sql} is not in the system's folder."}
    except SourceUnavailable as error:
        return {"message": str(error)}
    return {"columns": list(rows[0]) if rows else [], "rows": [as_json(row) for row in rows], "seconds": seconds}


def _not_migrated(migration: str | None, lacking: str) -> str:
    return f"{f'migration {migration} is not applied: ' if migration else ''}{lacking} is missing."


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
