"""What a diff found, item by item: read, ordered and written out as a stream."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.core.schemas import ORPHAN_DIFF, UTC_US
from maintenance_defs.reconcile.calculator import calculator, literal, written_instant

BATCH_ROWS = 20_000
ORPHANS = ("orphan_candidate",)

FINDINGS = pa.schema(
    [
        ("item", pa.string()),
        ("store", pa.string()),
        ("key", pa.string()),
        ("source", pa.string()),
        ("row_id", pa.string()),
        ("first_seen_at", UTC_US),
    ]
)

_QUOTED = """'"' || replace({}, '"', '""') || '"'"""
# shlex.quote in SQL: bare where the shell sees nothing special, else in single quotes.
_SHELL = r"""CASE WHEN regexp_full_match({0}, '[\w@%+=:,./-]+') THEN {0}
    ELSE '''' || replace({0}, '''', '''"''"''') || '''' END"""

# Instants in exports are whole seconds as people read them; Parquet keeps the microseconds.
_ORPHAN_COLUMNS = {
    "key": _QUOTED.format("key"),
    "size": "coalesce(size_bytes::VARCHAR, '')",
    "last_modified": "coalesce(" + written_instant("modified_at") + ", '')",
    "reason": "coalesce(" + _QUOTED.format("reason") + ", '')",
    "first_seen": "coalesce(" + written_instant("first_seen_at") + ", '')",
}
_TEXTS = ("item", "store", "key", "etag", "scope", "source", "row_id", "reason", "near_miss")
_ALL_COLUMNS = {
    **{name: f"coalesce({_QUOTED.format(name)}, '')" for name in _TEXTS},
    "size": _ORPHAN_COLUMNS["size"],
    "last_modified": _ORPHAN_COLUMNS["last_modified"],
    "first_seen": _ORPHAN_COLUMNS["first_seen"],
}
_JSON = (
    "to_json({item: item, store: store, key: key, size_bytes: size_bytes, last_modified: "
    + written_instant("modified_at")
    + ", etag: etag, scope: scope, source: source, row_id: row_id, reason: reason, near_miss: near_miss, first_seen: "
    + written_instant("first_seen_at")
    + "})::VARCHAR"
)

FORMATS = ("csv", "json", "parquet", "r2", "wrangler")


class Found:
    """The classified items of one diff.

    folder: the diff artefact's files (objects/<store>.parquet, rows.parquet); None when it has none.
    """

    def __init__(self, folder: Path | None) -> None:
        files = [] if folder is None else [*sorted((folder / "objects").glob("*.parquet")), folder / "rows.parquet"]
        self._files = [str(file) for file in files if file.exists()]

    @contextmanager
    def _open(self, findings: Iterable[pa.RecordBatch] | None) -> Iterator[duckdb.DuckDBPyConnection]:
        with (
            tempfile.TemporaryDirectory(prefix="maintain-") as spill,
            calculator(Path(spill)) as con,
        ):
            reader = pa.RecordBatchReader.from_batches(
                FINDINGS, (batch.select(FINDINGS.names).cast(FINDINGS) for batch in findings or ())
            )
            con.register("incoming", reader)
            con.execute("CREATE TEMP TABLE finding AS SELECT * FROM incoming")
            con.read_parquet(self._files).create_view("diff")
            yield con

    def batches(
        self,
        items: Sequence[str],
        *,
        findings: Iterable[pa.RecordBatch] | None = None,
        store: str | None = None,
        limit: int | None = None,
        select: str = "*",
    ) -> Iterator[pa.RecordBatch]:
        """ORPHAN_DIFF rows of these classes and first_seen_at; newest first, then by key, table and row."""
        if not self._files:
            return
        sql = f"""
            SELECT {select} FROM (
                SELECT d.*, f.first_seen_at
                FROM diff d LEFT JOIN finding f
                  ON f.item = d.item AND f.key IS NOT DISTINCT FROM d.key AND f.store IS NOT DISTINCT FROM d.store
                 AND f.source IS NOT DISTINCT FROM d.source AND f.row_id IS NOT DISTINCT FROM d.row_id
                WHERE d.item IN (SELECT unnest($items)) AND ($store IS NULL OR d.store = $store))
            ORDER BY modified_at DESC NULLS LAST, key, source, row_id {"" if limit is None else f"LIMIT {limit:d}"}"""
        with self._open(findings) as con:
            reader: pa.RecordBatchReader = con.sql(sql, params={"items": list(items), "store": store}).to_arrow_reader(
                BATCH_ROWS
            )
            yield from reader

    def rows(self, items: Sequence[str], limit: int, *, store: str | None = None) -> list[dict[str, Any]]:
        """The first of these items, for a screen."""
        return [row for batch in self.batches(items, store=store, limit=limit) for row in batch.to_pylist()]

    def export(
        self,
        target: Path | IO[bytes],
        format_: str,
        items: Sequence[str] = ORPHANS,
        *,
        findings: Iterable[pa.RecordBatch] | None = None,
        buckets: dict[str, str] | None = None,
    ) -> int:
        """Write these items to a file or stream; the number of them.

        csv      orphans: key, size, last_modified, reason, first_seen (A2-12); other choices: every column.
                 Texts are always quoted and keys never altered: import them as text, because a
                 spreadsheet may take a key that begins with = + - @ for a formula.
        json     one object a line
        parquet  ORPHAN_DIFF and first_seen_at, with microseconds
        r2, wrangler   one shell command an orphan; buckets: store name -> bucket name
        A file appears whole or not at all.
        """
        if isinstance(target, Path):
            part = target.with_name(f".{target.name}.part")
            try:
                with part.open("wb") as stream:
                    row_count = self._write(stream, format_, items, findings, buckets or {})
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
            return row_count
        return self._write(target, format_, items, findings, buckets or {})

    def _write(
        self,
        stream: IO[bytes],
        format_: str,
        items: Sequence[str],
        findings: Iterable[pa.RecordBatch] | None,
        buckets: dict[str, str],
    ) -> int:
        if format_ == "parquet":
            return self._write_parquet(stream, items, findings)
        if format_ == "csv":
            columns = _ORPHAN_COLUMNS if tuple(items) == ORPHANS else _ALL_COLUMNS
            stream.write((",".join(columns) + "\n").encode())
            line = " || ',' || ".join(columns.values())
        elif format_ == "json":
            line = _JSON
        else:
            line = _command(format_, buckets)
        row_count = 0
        for batch in self.batches(items, findings=findings, select=f"{line} AS line"):
            stream.write(("\n".join(batch.column(0).to_pylist()) + "\n").encode())
            row_count += batch.num_rows
        return row_count

    def _write_parquet(self, stream: IO[bytes], items: Sequence[str], findings: Iterable[pa.RecordBatch] | None) -> int:
        schema = ORPHAN_DIFF.append(pa.field("first_seen_at", UTC_US))
        row_count = 0
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            for batch in self.batches(items, findings=findings):
                writer.write_table(pa.Table.from_batches([batch]).cast(schema))
                row_count += batch.num_rows
        return row_count


def _command(format_: str, buckets: dict[str, str]) -> str:
    """SQL for one shell command a row; a store without a known bucket name is an error, not a guess."""
    cases = " ".join(f"WHEN store = {literal(store)} THEN {literal(name)}" for store, name in buckets.items())
    bucket = f"(CASE {cases} ELSE error('no bucket name for store ' || store) END)"
    if format_ == "r2":
        return f"'r2 object delete ' || {_shell(bucket)} || ' ' || {_shell('key')}"
    both = f"({bucket} || '/' || key)"
    return f"'wrangler r2 object delete ' || {_shell(both)}"


def _shell(sql: str) -> str:
    return f"({_SHELL.format(sql)})"
