"""One archive file as DuckDB reads it: every field by its place, because DuckDB does not tell "A" from "a"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.archive.rows.columns import columns_of
from maintenance_defs.archive.rows.part import ALL, UNKNOWN
from maintenance_defs.reconcile.calculator import literal

if TYPE_CHECKING:
    from maintenance_defs.archive.encryption import FileEncryption  # which asks about holds, which ask about files

ORGANISATION = b"maintenance:organisation"  # the file's field that says whose a row is; '' where all are of one
TIME_COLUMN = b"maintenance:time_column"
ROW = "place_in_file"  # counts the rows from 0, where asked for
BATCH_BYTES = 4 << 20
BATCH_ROWS = 16_384
DAY_US = 86_400_000_000


class KeptFile:
    """What the file says of itself, and the SQL that reads it.

    encryption: of an encrypted file. Raises ArtefactError where the file was not written by the archive.
    """

    def __init__(self, path: Path, encryption: FileEncryption | None = None) -> None:
        self.path = path
        self.encryption = encryption
        self.schema = pq.read_schema(path, decryption_properties=encryption and encryption.reading())
        self.columns = {column.name: column for column in columns_of(self.schema)}
        self.organisation: str | None = self.schema.metadata[ORGANISATION].decode() or None
        self.time_column: str = self.schema.metadata[TIME_COLUMN].decode()
        self._places = {field.name: f"c{place}" for place, field in enumerate(self.schema)}

    def open(self) -> pq.ParquetFile:
        properties = self.encryption and self.encryption.reading()
        return pq.ParquetFile(
            self.path, page_checksum_verification=True, pre_buffer=False, decryption_properties=properties
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Every row, each page's checksum looked at, in batches of a few MiB: none spans two row groups.

        Raises pa.ArrowException or OSError where the file is damaged.
        """
        with self.open() as parquet:
            for place in range(parquet.num_row_groups):
                group = parquet.metadata.row_group(place)
                rows = BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
                yield from parquet.iter_batches(min(max(rows, 64), BATCH_ROWS), [place])

    def source(self, con: duckdb.DuckDBPyConnection, *, numbered: bool = False) -> str:
        """SQL to stand after FROM: the fields as c0, c1, …; numbered: and ROW. Makes the key known to `con`."""
        further = ", file_row_number = true" if numbered else ""
        if self.encryption is not None:
            further += self.encryption.known_to(con)
        names = [*self._places.values(), *([ROW] if numbered else [])]
        return (
            f"read_parquet({literal(exactly(self.path))}, hive_partitioning = false{further}) AS f({', '.join(names)})"
        )

    def fields(self, column: str) -> tuple[str, str | None]:
        """The places of a column's own field and of its companion."""
        companion = self.columns[column].companion
        return self._places[column], self._places[companion] if companion else None

    def text(self, column: str) -> str:
        """The canonical text that the digest is made of."""
        return self.columns[column].canonical_kept(*self.fields(column))

    def is_null(self, column: str) -> str:
        field, companion = self.fields(column)
        return f"{field} IS NULL" + (f" AND {companion} IS NULL" if companion else "")

    @cached_property
    def owner(self) -> str:
        """The organisation of a row."""
        if self.organisation is None:
            return literal(ALL)
        joined = self.organisation not in self.columns
        said = self._places[self.organisation] if joined else self.text(self.organisation)
        return f"coalesce({said}, {literal(UNKNOWN)})"

    @cached_property
    def micros(self) -> str:
        """The row's time in microseconds since 1970."""
        at = self._places[self.time_column]
        if self.columns[self.time_column].builtin == "date":
            return f"CAST({at} - DATE '1970-01-01' AS BIGINT) * {DAY_US}"
        return f"epoch_us({at})"


def exactly(file: Path) -> str:
    """The path as DuckDB reads it for this one file: elsewhere `[`, `*` and `?` stand for other names."""
    return re.sub(r"([*?\[])", r"[\1]", str(file))
