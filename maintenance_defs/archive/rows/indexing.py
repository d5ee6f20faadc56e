"""Where the rows of each value of the lookup column stand in a file: which row groups, how many, from when to when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC
from itertools import accumulate
from pathlib import Path

import pyarrow.parquet as pq

from maintenance_defs.archive.encryption import FileEncryption
from maintenance_defs.archive.rows import kept
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.control.archive import IndexRow


def write_index(file: Path, lookup: str, target: Path, *, encryption: FileEncryption | None = None) -> None:
    """Write value, organisation, rows, first_group, last_group, first_at, last_at of `file` to Parquet.

    Rows whose value is null are in no entry: nobody can ask for them.
    """
    with KeptFile(file, encryption).open() as parquet:
        footer = parquet.metadata
    starts = [0, *accumulate(footer.row_group(n).num_rows for n in range(footer.num_row_groups))][:-1]
    kept.write_index(file, lookup, starts, target, encryption=encryption)


def read_index(entries: Iterable[tuple[str, Path]]) -> Iterator[IndexRow]:
    """The entries of several files, streaming. entries: (file id, what write_index wrote)."""
    for file_id, path in entries:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches():
                for row in batch.to_pylist():
                    first, last = row.pop("first_at"), row.pop("last_at")
                    yield IndexRow(
                        file_id=file_id, first_at=first and first.replace(tzinfo=UTC),
                        last_at=last and last.replace(tzinfo=UTC), **row,
                    )  # fmt: skip
