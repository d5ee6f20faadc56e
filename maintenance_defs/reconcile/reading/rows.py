"""Reading the rows of one reference out of a snapshot, resolving them, writing what they name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maintenance_defs.core.declaration import Reference
from maintenance_defs.core.errors import ArtefactError, MaintenanceError, Refused, SourceUnavailable
from maintenance_defs.core.parquet import write_sorted
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.resolve import StoreNames, needed_columns, resolve, rows_schema
from maintenance_defs.core.schemas import LOOSE_KINDS, LOOSE_REFERENCES, REFERENCES
from maintenance_defs.databases.base import Snapshot, Table
from maintenance_defs.databases.base import from_table as from_table
from maintenance_defs.reconcile.calculator import literal

Progress = Callable[[int], None]

BATCH_ROWS = 65_536
_PLACED = REFERENCES.append(pa.field("store", pa.string()))


@dataclass
class Reading:
    """One snapshot being read with one resolver."""

    snapshot: Snapshot
    con: duckdb.DuckDBPyConnection  # a `calculator`, made ready for the resolver
    stores: Sequence[StoreNames]
    spool: Path  # a folder for what is not kept
    progress: Progress | None = None


@dataclass
class Found:
    """What one reference gave; counts are lines of the resolver, `rows` rows of the table."""

    rows: int = 0
    keys: int = 0
    dirty: int = 0
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, lines: pa.RecordBatch) -> None:
        for counted in pc.value_counts(lines["kind"]).to_pylist():
            self.kinds[counted["values"]] = self.kinds.get(counted["values"], 0) + counted["counts"]
        self.keys = self.kinds.get("exact", 0)
        self.dirty += pc.sum(lines["dirty"]).as_py() or 0

    def evidence(self) -> dict[str, int]:
        counts = {kind: self.kinds.get(kind, 0) for kind in LOOSE_KINDS}
        return {"rows": self.rows, "keys": self.keys, "dirty": self.dirty} | counts


def column_of(table: Table, name: str, snapshot: Snapshot) -> str:
    """The column as the database spells it. Raises SourceUnavailable when there is none, or it may not be read."""
    if name in table.unreadable:
        raise SourceUnavailable(
            f"this role may not read column {name!r} of {table}. Nothing was read: {right_to_read(table, name)}"
        )
    if name in table.columns:
        return name
    if snapshot.dialect == "sqlite":  # compares names without case
        for column in table.columns:
            if column.lower() == name.lower():
                return column
    raise SourceUnavailable(
        f"table {table} has no column {name!r}; it has {', '.join(table.columns)}. Nothing was read: correct the "
        f"declaration, or apply the migration that adds it."
    )


def right_to_read(table: Table, *columns: str) -> str:
    """What gives a role of PostgreSQL the right to read these columns."""
    names = ", ".join(f'"{column}"' for column in columns)
    return f"GRANT USAGE ON SCHEMA {table.schema}, and GRANT SELECT ({names}) ON {table}, to it."


def select_rows(snapshot: Snapshot, table: Table, reference: Reference, where: str | None) -> str:
    """A SELECT of i0… (the id), v0… (the needed columns), dated_at, size_bytes as text, in_progress as 0 or 1."""

    def text(name: str) -> str:
        column = column_of(table, name, snapshot)
        return snapshot.as_text(snapshot.quote(column), table.columns[column])

    def value(name: str) -> str:
        column = column_of(table, name, snapshot)
        if snapshot.dialect == "postgresql" and table.columns[column].startswith("bytea"):
            if table.columns[column] != "bytea":
                raise SourceUnavailable(
                    f"column {name} of {table} is {table.columns[column]}: its keys cannot be read."
                )
            return f"convert_from({snapshot.quote(column)}, 'UTF8')"  # its text would be '\\x6b6579'; fails if no UTF-8
        return text(name)

    selected = [f"{text(name)} AS i{n}" for n, name in enumerate(reference.id)]
    selected += [f"{value(name)} AS v{n}" for n, name in enumerate(needed_columns(reference))]
    if reference.dated_by is not None:
        column = column_of(table, reference.dated_by, snapshot)
        selected.append(f"{snapshot.as_instant(snapshot.quote(column), table.columns[column])} AS dated_at")
    if reference.size is not None:
        selected.append(f"{text(reference.size)} AS size_bytes")
    if reference.in_progress is not None:
        selected.append(f"CASE WHEN (\n{reference.in_progress}\n) THEN 1 ELSE 0 END AS in_progress")
    order = ""
    if reference.object.column is not None:  # keys as they are: the database may have an index in this order
        order = f"\nORDER BY {snapshot.by_key_bytes(value(reference.object.column))}"
    return f"SELECT {', '.join(selected)}\nFROM {from_table(snapshot, table)}{where_clause(where)}{order}"


def where_clause(where: str | None) -> str:
    return f"\nWHERE (\n{where}\n)" if where is not None else ""


def not_released(reference: Reference) -> str | None:
    """Rows that still need their object; a predicate that is NULL releases nothing (A10, I1)."""
    return None if reference.releases_reference is None else f"({reference.releases_reference}\n) IS NOT TRUE"


class _Rows:
    """The rows of a SELECT as the resolver takes them, counted on the way."""

    def __init__(self, raw: pa.RecordBatchReader, reference: Reference, progress: Progress | None) -> None:
        self._raw = raw
        self._reference = reference
        self._progress = progress
        self.count = 0
        self.failure: MaintenanceError | None = None  # DuckDB hands on only the text of what happens in a stream

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(rows_schema(self._reference), self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        schema = rows_schema(self._reference)
        names = self._raw.schema.names
        ids = [f"i{n}" for n in range(len(self._reference.id))]
        columns = [
            f"coalesce({ids[0]}::VARCHAR, '')" if len(ids) == 1 else f"to_json([{', '.join(ids)}]::VARCHAR[])::VARCHAR",
            *(f"{name}::VARCHAR" for name in schema.names if name.startswith("v")),
            "dated_at::TIMESTAMPTZ" if "dated_at" in names else "NULL::TIMESTAMPTZ",
            "TRY_CAST(size_bytes AS BIGINT)" if "size_bytes" in names else "NULL::BIGINT",
            "in_progress = 1" if "in_progress" in names else "false",
        ]
        try:
            with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as con:
                con.execute("SET TimeZone = 'UTC'")
                for batch in self._raw:
                    con.register("batch", pa.Table.from_batches([batch]))
                    cast = con.sql(f"SELECT {', '.join(columns)} FROM batch").to_arrow_table()
                    yield from cast.rename_columns(schema.names).cast(schema).combine_chunks().to_batches()
                    self.count += batch.num_rows
                    if self._progress is not None:
                        self._progress(batch.num_rows)
        except MaintenanceError as error:
            self.failure = error
            raise


def read_lines(
    reading: Reading, reference: Reference, table: Table, where: str | None, parameters: Sequence[Any], found: Found
) -> Iterator[pa.RecordBatch]:
    """What the rows name, as the resolver says it, in the order of the SELECT.

    Raises SourceUnavailable, and Refused("rows_lost") when a count in the same transaction says that
    there are more or fewer rows than were read (S1-54).
    """
    snapshot = reading.snapshot
    sql = select_rows(snapshot, table, reference, where)
    rows = _Rows(snapshot.read(sql, parameters), reference, reading.progress)
    try:
        with resolve(reading.con, reference, reading.stores, rows.reader()).to_arrow_reader(BATCH_ROWS) as lines:
            for batch in lines:
                found.add(batch)
                yield batch
    except (duckdb.Error, pa.ArrowException, OSError):
        if rows.failure is not None:
            raise rows.failure from None
        raise
    count_sql = f"SELECT count(*) AS n FROM {from_table(snapshot, table)}{where_clause(where)}"
    if parameters:
        (expected,) = (batch["n"][0].as_py() for batch in snapshot.read(count_sql, parameters))
    else:
        expected = snapshot.rows(count_sql)[0]["n"]
    if expected != rows.count:
        raise Refused(
            "rows_lost",
            f"{table} holds {expected} rows in this snapshot, but {rows.count} were read. Nothing was kept: a driver, "
            f"proxy or view cuts results short.",
        )
    found.rows = rows.count


def write_reference(
    reading: Reading, reference: Reference, number: int, table: Table, folder: Path
) -> tuple[Found, Path]:
    """references/<store>/<NN>.parquet for each store, loose/<NN>.parquet; sorted by key bytes.

    Returns what was found, and a file of what is to be protected without being named outright: kind
    'undeclared', for `drift.py` to compare with the inventories.
    """
    found = Found()
    stem = f"{number:02d}.parquet"
    loose, aside = folder / "loose" / stem, reading.spool / f"aside-{stem}"
    loose.parent.mkdir(exist_ok=True)
    with (
        pq.ParquetWriter(loose, LOOSE_REFERENCES, compression="zstd", compression_level=1) as to_loose,
        pq.ParquetWriter(aside, LOOSE_REFERENCES, compression="zstd", compression_level=1) as to_aside,
    ):

        def exact_lines() -> Iterator[pa.RecordBatch]:
            for batch in read_lines(reading, reference, table, not_released(reference), (), found):
                is_exact, is_aside = pc.equal(batch["kind"], "exact"), pc.equal(batch["kind"], "undeclared")
                for writer, rest in ((to_aside, is_aside), (to_loose, pc.invert(pc.or_(is_exact, is_aside)))):
                    if pc.any(rest).as_py():
                        writer.write_batch(batch.filter(rest).select(LOOSE_REFERENCES.names).cast(LOOSE_REFERENCES))
                yield batch.filter(is_exact).select(_PLACED.names)

        write_by_store(reading, exact_lines(), reference, folder / "references", stem)
    return found, aside


def write_by_store(
    reading: Reading, batches: Iterator[pa.RecordBatch], reference: Reference, folder: Path, stem: str
) -> None:
    """<folder>/<store>/<stem>, each sorted by key bytes; without a second pass where the keys came in order."""
    for store in reference.store:
        (folder / store).mkdir(parents=True, exist_ok=True)
    if reference.object.column is not None:
        path = folder / reference.store[0] / stem
        if write_sorted(batches, path, REFERENCES).sorted:
            return
        placed = path.rename(reading.spool / f"unsorted-{stem}")
        placed_in = f"(SELECT *, {literal(reference.store[0])} AS store FROM read_parquet({literal(placed)}))"
    else:
        placed = reading.spool / f"unsorted-{stem}"
        write_sorted(batches, placed, _PLACED)
        placed_in = f"read_parquet({literal(placed)})"
    for store in reference.store:
        path = folder / store / stem
        with reading.con.sql(
            f"SELECT {', '.join(REFERENCES.names)} FROM {placed_in} WHERE store = {literal(store)} ORDER BY key"
        ).to_arrow_reader(BATCH_ROWS) as ordered:
            if not write_sorted(ordered, path, REFERENCES).sorted:
                raise ArtefactError(f"the references in {path.name} could not be sorted by key. Nothing was kept.")
    placed.unlink()


def as_json(value: Any) -> Any:
    """A database's value as JSON can hold it; the query of a URL, which may be signed, is left out."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        return format_instant(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(name): as_json(item) for name, item in value.items()}
    text = bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)
    if "://" in text:
        text = text.partition("?")[0]
    return json.loads(json.dumps(text))
