"""Rows of a table set aside while a query runs over them: Parquet in a temporary folder.

Rows of class phi lie there encrypted, with a key that only this process ever had (V13).
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

GROUP_ROWS = 65_536
GROUP_BYTES = 32 << 20
KEY_BYTES = 32


class Spool:
    """Takes batches of one schema; read once all are there."""

    def __init__(self, folder: Path, schema: pa.Schema, *, secret: bool) -> None:
        """secret: what is written must be unreadable to others."""
        folder.mkdir(mode=0o700)
        self._path = folder / "rows.parquet"
        self._schema = schema
        self._key = os.urandom(KEY_BYTES) if secret else None
        self._writer = pq.ParquetWriter(
            self._path, schema, compression="lz4",
            encryption_properties=None if self._key is None else pe.create_encryption_properties(self._key),
        )  # fmt: skip
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._held_bytes += batch.nbytes
        if self._held_rows >= GROUP_ROWS or self._held_bytes >= GROUP_BYTES:
            self._write()

    def data_set(self) -> ds.Dataset:
        """All rows; nothing is added afterwards."""
        self._write()
        self._writer.close()
        options = ds.ParquetFragmentScanOptions(
            decryption_properties=None if self._key is None else pe.create_decryption_properties(self._key)
        )
        return ds.dataset(
            self._path, schema=self._schema, format=ds.ParquetFileFormat(default_fragment_scan_options=options)
        )

    def _write(self) -> None:
        if self._held:
            table = pa.Table.from_batches(self._held, self._schema)
            self._writer.write_table(table, row_group_size=table.num_rows)
        self._held, self._held_rows, self._held_bytes = [], 0, 0
