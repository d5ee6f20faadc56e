"""Streams of record batches to one Parquet file, and whether they came in key order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maintenance_defs.core.errors import ArtefactError

ROW_GROUP_ROWS = 131_072  # a row group is a key range: small enough to skip well, large enough to compress
GROUPS_WAITING = 2  # row groups held while the writer is behind: the bound on memory
LOW_CARDINALITY = 0.1  # a dictionary pays where fewer values than this share of rows are distinct


@dataclass(frozen=True)
class Written:
    """What stands in the file. `sorted`: keys never decrease in UTF-8 byte order (they may repeat)."""

    row_count: int
    size_bytes: int
    sorted: bool


def write_sorted(batches: Iterable[pa.RecordBatch], path: Path, schema: pa.Schema, *, key: str = "key") -> Written:
    """Write a stream to one Parquet file (zstd 1) while the next batches are being read.

    batches: hold the columns of `schema` by name; types are cast where they differ.
    key: the string column whose order is checked; the rows are written as they come.
    Leaves no file behind when the stream or the writing fails.
    Raises ArtefactError if a column that must not be null holds a null, and whatever the stream raises.
    """
    order = _Order(schema.get_field_index(key))
    row_count = 0
    try:
        with ThreadPoolExecutor(1, "parquet") as thread:
            writer: pq.ParquetWriter | None = None
            waiting: deque[Future[None]] = deque()
            try:
                for group in _row_groups(batches, schema):
                    writer = writer or _open(path, schema, group, key)
                    waiting.append(thread.submit(_write, writer, group, order))
                    row_count += group.num_rows
                    if len(waiting) > GROUPS_WAITING:
                        waiting.popleft().result()
                while waiting:
                    waiting.popleft().result()
                writer = writer or _open(path, schema, schema.empty_table(), key)
            finally:
                for future in waiting:
                    future.cancel()
                if writer is not None:
                    thread.submit(writer.close).result()
    except BaseException:  # also when the run is cancelled: a short file must not look like a whole one
        path.unlink(missing_ok=True)
        raise
    return Written(row_count, path.stat().st_size, order.kept)


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of ROW_GROUP_ROWS rows, the last one shorter; none for an empty stream."""
    held: list[pa.RecordBatch] = []
    held_rows = 0
    required = [field.name for field in schema if not field.nullable]
    for batch in batches:
        for name in required:
            if nulls := batch.column(name).null_count:
                raise ArtefactError(f"column {name!r} must not be null, {nulls} values are. No file was kept.")
        if batch.schema != schema:
            batch = batch.select(schema.names).cast(schema)
        start = 0
        while held_rows + batch.num_rows - start >= ROW_GROUP_ROWS:
            taken = ROW_GROUP_ROWS - held_rows
            yield pa.Table.from_batches([*held, batch.slice(start, taken)], schema)
            held, held_rows, start = [], 0, start + taken
        if start < batch.num_rows:
            held.append(batch.slice(start))
            held_rows += batch.num_rows - start
    if held:
        yield pa.Table.from_batches(held, schema)


def _open(path: Path, schema: pa.Schema, first: pa.Table, key: str) -> pq.ParquetWriter:
    few = [
        name
        for name in schema.names
        if first.num_rows and pc.count_distinct(first[name]).as_py() <= first.num_rows * LOW_CARDINALITY
    ]
    return pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, use_dictionary=few,
        write_statistics=[key], write_page_index=True,  # only keys are looked up by range
    )  # fmt: skip


def _write(writer: pq.ParquetWriter, group: pa.Table, order: _Order) -> None:
    order.see(group)
    writer.write_table(group, row_group_size=ROW_GROUP_ROWS)


class _Order:
    """Whether every key was at least its predecessor; Arrow compares strings by their UTF-8 bytes."""

    def __init__(self, column: int) -> None:
        self._column = column
        self._last: pa.Scalar | None = None
        self.kept = True

    def see(self, group: pa.Table) -> None:
        for keys in group.column(self._column).chunks:
            if not self.kept or not len(keys):
                continue
            follows = self._last is None or pc.less_equal(self._last, keys[0]).as_py()
            within = len(keys) == 1 or pc.all(pc.less_equal(keys[:-1], keys[1:])).as_py()
            self.kept = follows and within
            self._last = keys[-1]
