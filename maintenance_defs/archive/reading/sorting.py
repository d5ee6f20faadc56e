"""Batches in order, from memory while they are few and from a folder when they are many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maintenance_defs.core.errors import Refused
from maintenance_defs.reconcile.calculator import calculator, literal

IN_MEMORY_BYTES = 64 << 20
BATCH_ROWS = 16_384


class Sorter:
    """Takes batches of one schema in any order."""

    def __init__(self, schema: pa.Schema, order: Sequence[str], *, may_spill: bool) -> None:
        """order: names of columns, the first counts most; nulls come last. Arrays are not compared.

        may_spill: False for rows that must not be written to this machine's disk (V13).
        """
        self._schema = schema
        self._order = [
            schema.get_field_index(name) for name in order if not pa.types.is_nested(schema.field(name).type)
        ]
        self._may_spill = may_spill
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._spilled: list[Path] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Raises Refused when rows that must not be written are too many for memory."""
        if not batch.num_rows:
            return
        self._held.append(batch)
        self._held_bytes += batch.nbytes
        if self._held_bytes > IN_MEMORY_BYTES:
            self._spill()

    def sorted(self) -> Iterator[pa.RecordBatch]:
        """All rows in order; call it once."""
        if not self._spilled:
            table = pa.Table.from_batches(self._held, self._schema)
            yield from self._in_order(table).to_batches(max_chunksize=BATCH_ROWS)
            return
        self._spill()
        try:
            yield from self._merged()
        finally:
            self.close()

    def close(self) -> None:
        self._held = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _in_order(self, table: pa.Table) -> pa.Table:
        keys = pa.table({str(place): _sortable(table.column(place)) for place in self._order})
        places = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
        return table.take(places)

    def _spill(self) -> None:
        if not self._held:
            return
        if not self._may_spill:
            raise Refused(
                "too_many_rows",
                f"more than {IN_MEMORY_BYTES >> 20} MiB of rows were found, and rows of class phi are not written to "
                f"this machine's disk. No answer was given; ask for a shorter time with since and until.",
            )
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="maintenance-sort-")
        path = Path(self._folder.name) / f"{len(self._spilled)}.parquet"

        table = pa.Table.from_batches(self._held, self._schema)
        # By place: DuckDB does not tell "A" from "a".
        pq.write_table(table.rename_columns([f"c{n}" for n in range(len(self._schema))]), path, compression="lz4")
        self._spilled.append(path)
        self._held, self._held_bytes = [], 0

    def _merged(self) -> Iterator[pa.RecordBatch]:
        if self._folder is None:
            return
        order = ", ".join(f"c{place} NULLS LAST" for place in self._order)
        files = ", ".join(literal(path) for path in self._spilled)
        with calculator(Path(self._folder.name)) as con:
            con.execute("SET preserve_insertion_order = true")
            con.execute("SET arrow_lossless_conversion = true")
            found = con.sql(f"SELECT * FROM read_parquet([{files}]) ORDER BY {order}").to_arrow_reader(BATCH_ROWS)
            for batch in found:
                yield _as(batch, self._schema)


def _as(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [a if a.type == f.type else a.cast(f.type) for a, f in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _sortable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.storage_type) if isinstance(column.type, pa.BaseExtensionType) else column
