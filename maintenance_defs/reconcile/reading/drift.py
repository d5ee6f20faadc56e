"""Columns that nobody declared and that hold keys all the same (D12, D14).

An application grows a column, a statistics table, a version table: its objects would look
unreferenced. So every text, JSON and list column of the schemas at hand is sampled, what its
values may mean is compared with the inventories, and a column with a hit is read whole. What it
names is protected until somebody declares the column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.core import value_parts
from maintenance_defs.core.declaration import Reference, System
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.resolve import UNREAD, resolving, rows_schema
from maintenance_defs.databases.base import Table
from maintenance_defs.reconcile.calculator import literal, one
from maintenance_defs.reconcile.reading.rows import Reading, column_of, from_table

SAMPLE_VALUES = 1000  # per column
SAMPLE_CHARACTERS = 10_000_000  # … of together so many: a sample of long texts must fit into memory
LONG_TEXT_ROWS = 2048  # values in one batch: articles and JSON documents are long
HOLDS_TEXT = re.compile(r"text|char|clob|json|string", re.IGNORECASE)

_VALUES = pa.schema([pa.field("source", pa.string()), pa.field("value", pa.string())])


@dataclass(frozen=True)
class Column:
    table: Table
    name: str

    def __str__(self) -> str:
        return f"{self.table}.{self.name}"


def scan(
    reading: Reading, system: System, inventories: dict[str, Path], aside: list[tuple[Reference, Path]], folder: Path
) -> dict[str, Any]:
    """Write loose/undeclared.parquet: kind 'undeclared', the column as its reason; say which columns hit.

    inventories: store -> inventory.parquet, of stores whose newest listing is complete.
    aside: what declared references want protected without naming it (their lines of kind 'undeclared').
    Returns `undeclared`: [{column, type, store, keys}], and `unread`: columns that could not be sampled.
    """
    con = reading.con
    con.execute("CREATE OR REPLACE TEMP TABLE meant (source VARCHAR, store VARCHAR, key VARCHAR)")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE undeclared (store VARCHAR, value VARCHAR, row_id VARCHAR, reason VARCHAR)"
    )
    listed = [
        f"SELECT {literal(store)} AS store, key FROM read_parquet({literal(path)})"
        for store, path in inventories.items()
    ]
    nothing = "SELECT NULL::VARCHAR AS store, NULL::VARCHAR AS key WHERE false"
    con.execute(f"CREATE OR REPLACE TEMP VIEW listed AS {' UNION ALL '.join([*listed, nothing])}")
    exact = [
        f"SELECT {literal(path.parent.name)} AS store, key FROM read_parquet({literal(path)})"
        for path in (folder / "references").glob("*/*.parquet")
    ]
    con.execute(f"CREATE OR REPLACE TEMP VIEW named_exactly AS {' UNION ALL '.join([*exact, nothing])}")
    for reference, file in aside:  # kept where an object has that key, or may have it
        con.execute(
            f"""
            CREATE OR REPLACE TEMP VIEW set_aside AS
            SELECT store, value AS key, row_id, {literal(f"{reference}: ")} || reason AS reason
            FROM read_parquet({literal(file)}) WHERE reason <> {literal(UNREAD)};
            INSERT INTO undeclared FROM set_aside SEMI JOIN listed USING (store, key);
            INSERT INTO undeclared FROM set_aside WHERE NOT list_contains({_texts(inventories)}, store)
            """
        )
        _protect_unread(con, reference, file)
    found: dict[str, Any] = {"undeclared": [], "unread": []}
    if system.drift_scan and inventories:
        columns = list(undeclared_columns(reading, system))
        hit = _hits(reading, columns, found["unread"])
        for column in columns:
            if str(column) in hit:
                found["undeclared"] += _scan_whole(reading, column)
    (folder / "loose").mkdir(exist_ok=True)
    con.execute(
        f"""
        COPY (SELECT 'undeclared' AS kind, store, value, min(row_id) AS row_id, reason
              FROM undeclared GROUP BY store, value, reason)
        TO {literal(folder / "loose" / "undeclared.parquet")} (FORMAT parquet, COMPRESSION zstd)
        """
    )
    return found


def _protect_unread(con: duckdb.DuckDBPyConnection, reference: Reference, file: Path) -> None:
    """Of values that could not be read, the pieces that end in a key of an object, whatever stands around it.

    What is kept is the object's key: nothing of the value itself.
    """
    pieces = f"SELECT store, value, row_id FROM read_parquet({literal(file)}) WHERE reason = {literal(UNREAD)}"
    if not one(con, f"SELECT count(*) FROM ({pieces})")[0]:
        return
    value_parts.install(con)
    con.execute(
        f"""
        INSERT INTO undeclared
        SELECT DISTINCT l.store, l.key, row_id, {literal(f"{reference}: {UNREAD}")}
        FROM listed l JOIN (
            SELECT store, row_id, unnest(path_suffixes(loose_key(part))) AS suffix
            FROM (SELECT store, row_id, unnest(value_parts(value)) AS part FROM ({pieces}))
        ) p ON l.store = p.store AND hash(loose_key(l.key)) = hash(p.suffix)
        ANTI JOIN named_exactly n ON n.store = l.store AND n.key = l.key
        """
    )


def undeclared_columns(reading: Reading, system: System) -> Iterator[Column]:
    """Columns that may hold text, of the tables this role may read, in the schemas of declared tables."""
    snapshot = reading.snapshot
    schemas, declared = set(), set()
    for reference in system.references:
        table = snapshot.table(reference.table)
        if table is not None:
            schemas.add(table.schema)
            declared |= {(str(table), column_of(table, name, snapshot)) for name in reference.object.columns}
    for table in snapshot.tables():
        for name, type_name in table.columns.items():
            holds_text = HOLDS_TEXT.search(type_name) or not type_name  # SQLite: no type takes any value
            if table.schema in schemas and holds_text and (str(table), name) not in declared:
                yield Column(table, name)


def _hits(reading: Reading, columns: list[Column], unread: list[dict[str, str]]) -> set[str]:
    """The columns of whose sample at least one value names an object. All samples are resolved at once."""
    samples = reading.spool / "samples.parquet"
    with pq.ParquetWriter(samples, _VALUES, compression="zstd", compression_level=1) as writer:
        for column in columns:
            try:
                rows = reading.snapshot.rows(_select(reading, column), limit=SAMPLE_VALUES)
            except SourceUnavailable as error:
                unread.append({"column": str(column), "message": str(error)})
                continue
            lengths = accumulate(len(str(row["v0"])) for row in rows)
            values = [str(row["v0"]) for row, length in zip(rows, lengths, strict=True) if length <= SAMPLE_CHARACTERS]
            writer.write_table(pa.table([pa.array([str(column)] * len(values), pa.string()), values], schema=_VALUES))
    _collect(reading, samples)
    hits = reading.con.execute("SELECT DISTINCT source FROM meant SEMI JOIN listed USING (store, key)").fetchall()
    return {source for (source,) in hits}


def _scan_whole(reading: Reading, column: Column) -> list[dict[str, Any]]:
    """Put every key that the column names among the undeclared; say how many for each store."""
    values = reading.spool / "column.parquet"
    with pq.ParquetWriter(values, _VALUES, compression="zstd", compression_level=1) as writer:
        for batch in reading.snapshot.read(_select(reading, column)):
            sources = pa.array([str(column)], pa.string()).take(pa.array([0] * batch.num_rows, pa.int64()))
            writer.write_batch(pa.record_batch([sources, batch["v0"].cast(pa.string())], schema=_VALUES))
    _collect(reading, values)
    values.unlink()
    con = reading.con
    con.execute(
        "INSERT INTO undeclared SELECT DISTINCT store, key, '', source FROM meant SEMI JOIN listed USING (store, key)"
    )
    counted = con.execute(
        "SELECT store, count(*) FROM undeclared WHERE reason = ? GROUP BY store ORDER BY store", [str(column)]
    ).fetchall()
    type_name = column.table.columns[column.name]
    return [{"column": str(column), "type": type_name, "store": store, "keys": keys} for store, keys in counted]


def _select(reading: Reading, column: Column) -> str:
    quoted = reading.snapshot.quote(column.name)
    text = reading.snapshot.as_text(quoted, column.table.columns[column.name])
    return f"SELECT {text} AS v0 FROM {from_table(reading.snapshot, column.table)} WHERE {quoted} IS NOT NULL"


# A value is a key or path, holds links, or is JSON with either inside.
_READINGS: tuple[tuple[dict[str, str], str], ...] = (
    ({"path": "value"}, "true"),
    ({"text": "value"}, "value LIKE '%/%'"),
    ({"json": "value", "at": "$", "form": "path"}, "regexp_matches(value, '^\\s*[\\[{\"]') AND json_valid(value)"),
)


def _collect(reading: Reading, values: Path) -> None:
    """Fill `meant` with what the values of a file (source, value) may name, by the one resolver."""
    con = reading.con
    con.execute("TRUNCATE meant")
    stores = [names.store for names in reading.stores]
    for form, applies in _READINGS:
        reference = Reference.model_validate(
            {"table": "undeclared", "id": "source", "store": stores, "object": form, "protects_only": True}
        )
        chosen = f"FROM read_parquet({literal(values)}) WHERE {applies}"
        if not con.execute(f"SELECT 1 {chosen} LIMIT 1").fetchall():
            continue
        with con.cursor() as source:  # a stream of its own beside the query that takes it
            rows = source.sql(
                f"""
                SELECT source || '|' AS row_id, value AS v0, NULL::TIMESTAMPTZ AS dated_at, NULL::BIGINT AS size_bytes,
                       false AS in_progress
                {chosen}
                """
            ).to_arrow_reader(LONG_TEXT_ROWS)
            _take(con, resolving(con, reference, reading.stores, rows.cast(rows_schema(reference))), stores)


def _take(con: duckdb.DuckDBPyConnection, lines: str, stores: list[str]) -> None:
    # The path of a URL on a host that nobody declared may end in a key of any store (C06).
    con.execute(
        f"""
        INSERT INTO meant
        SELECT DISTINCT source, store, key FROM (
            SELECT regexp_replace(row_id, '\\|(\\[\\d+\\])?$', '') AS source,
                unnest(CASE WHEN kind = 'exact' THEN [store] ELSE {_texts(stores)} END) AS store,
                CASE WHEN kind = 'exact' THEN [key] ELSE path_suffixes(value) END AS keys
            FROM ({lines})
            WHERE kind = 'exact' OR kind IN ('external', 'unresolvable') AND value IS NOT NULL
        ), unnest(keys) AS k(key)
        """
    )


def _texts(values: Iterable[str]) -> str:
    return f"[{', '.join(literal(value) for value in values)}]::VARCHAR[]"
