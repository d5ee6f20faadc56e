"""Sorted record batches to archive files: a new file for each label, and when one grows large.

Everything here runs on the writing thread, while the next batches are being read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maintenance_defs.archive.encryption import FileEncryption
from maintenance_defs.archive.rows.kept import DAY_US, instant
from maintenance_defs.core.parquet import LOW_CARDINALITY

FILE_BYTES = 256 << 20  # a larger file is cut: scans spread over files, and a damaged one costs less
# A row group is closed at this size even before its rows are complete. It bounds the memory of writing, and that of
# everybody who reads a row group at a time.
GROUP_BYTES = 32 << 20
LEADING = 2  # columns before those of the file
MOST_GROUPS = 30_000  # Parquet counts row groups in 16 bits


@dataclass(frozen=True)
class Sidecar:
    """A small Parquet file beside an archive file."""

    path: Path
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Counted:
    """The rows of one organisation in one file, as they were given to the writer; None: see GroupStat."""

    rows: int
    min_at: datetime | None
    max_at: datetime | None


@dataclass(frozen=True)
class Written:
    """One archive file as it stands in the folder."""

    label: str
    path: Path
    rows: int
    size_bytes: int
    sha256: str  # of the bytes read back from the folder
    organisations: Mapping[str, Counted]
    schema: pa.Schema
    row_groups: int
    row_ids: Sidecar | None  # of each row in the file's order: the key's texts and its hash
    encryption: FileEncryption | None = None  # the file's own key; its row in the catalogue holds it wrapped


@dataclass(frozen=True)
class Settings:
    """How files are written."""

    codec: str
    level: int | None
    row_group_rows: int
    time_field: str
    sorted_by: Sequence[str]  # fields
    statistics: Sequence[str]  # fields whose least and greatest value stand in the footer
    file_bytes: int = field(default_factory=lambda: FILE_BYTES)
    encryption: Callable[[str], FileEncryption] | None = None  # a fresh key for a new file of this label


class Roller:
    """Takes batches of label, organisation (as places in `labels` and `organisations`), fields…, row id columns…"""

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        row_ids: pa.Schema | None,
        settings: Settings,
        labels: Sequence[str],
        organisations: Sequence[str],
    ) -> None:
        self._folder = folder
        self._labels = labels
        self._organisations = organisations
        self._schema = schema
        self._row_ids = row_ids
        self._settings = settings
        self._file: _File | None = None
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0
        self._label = -1
        self.written: list[Written] = []

    def take(self, batch: pa.RecordBatch) -> None:
        for label, part in _runs(batch):
            if label != self._label:
                self._close()
                self._label = label
            self._hold(part)

    def _hold(self, batch: pa.RecordBatch) -> None:
        start, rows = 0, self._settings.row_group_rows
        while start < batch.num_rows:
            taken = batch.slice(start, rows - self._held_rows)
            self._held.append(taken)
            self._held_rows += taken.num_rows
            self._held_bytes += taken.nbytes
            start += taken.num_rows
            if self._held_rows >= rows or self._held_bytes >= GROUP_BYTES:
                self._write_group()

    def _write_group(self) -> None:
        if not self._held:
            return
        group = pa.Table.from_batches(self._held)
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        if self._file is None:
            self._file = self._open(group)
        self._file.write(group)
        if self._file.size_bytes >= self._settings.file_bytes or self._file.row_groups >= MOST_GROUPS:
            self._finish()

    def _open(self, first: pa.Table) -> _File:
        number = len(self.written)
        path = self._folder / f"{number:06}.parquet"
        label = self._labels[self._label]
        return _File(label, path, self._schema, self._row_ids, self._settings, self._organisations, first)

    def _finish(self) -> None:
        if self._file is not None:
            self.written.append(self._file.close())
            self._file = None

    def _close(self) -> None:
        self._write_group()
        self._finish()

    def close(self) -> list[Written]:
        """All files; every one is whole."""
        self._close()
        return self.written

    def abandon(self) -> None:
        """A short file must not look like a whole one: none is kept."""
        if self._file is not None:
            self._file.abandon()
        for written in self.written:
            written.path.unlink(missing_ok=True)
            if written.row_ids is not None:
                written.row_ids.path.unlink(missing_ok=True)


class _File:
    def __init__(
        self,
        label: str,
        path: Path,
        schema: pa.Schema,
        row_ids: pa.Schema | None,
        settings: Settings,
        organisations: Sequence[str],
        first: pa.Table,
    ) -> None:
        self.label = label
        self.path = path
        self.row_groups = 0
        self._rows = 0
        self._schema = schema
        self._settings = settings
        self._organisations = organisations
        self._groups: dict[str, Counted] = {}
        self._encryption = settings.encryption(label) if settings.encryption else None
        self._sink = pa.OSFile(str(path), "wb")
        few = []
        for place, (name, kind) in enumerate(zip(schema.names, schema.types, strict=True)):
            values = first.column(LEADING + place)
            # Ids, an extension type, are as many as rows.
            if pa.types.is_nested(kind) or isinstance(values.type, pa.BaseExtensionType):
                continue
            if pc.count_distinct(values).as_py() <= first.num_rows * LOW_CARDINALITY:
                few.append(name)
        sorting = [pq.SortingColumn(schema.get_field_index(name)) for name in settings.sorted_by]
        self._writer = pq.ParquetWriter(
            self._sink, schema, version="2.6", compression=settings.codec, compression_level=settings.level,
            use_dictionary=few, write_statistics=list(settings.statistics), write_page_index=True,
            write_page_checksum=True, sorting_columns=sorting or None,
            encryption_properties=self._encryption and self._encryption.properties,
        )  # fmt: skip
        self._ids_path = path.with_suffix(".rows.parquet")
        self._ids = row_ids and pq.ParquetWriter(self._ids_path, row_ids, compression="zstd")

    @property
    def size_bytes(self) -> int:
        return int(self._sink.tell())

    def write(self, group: pa.Table) -> None:
        fields = len(self._schema)
        table = pa.Table.from_arrays(group.columns[LEADING : LEADING + fields], schema=self._schema)
        self._writer.write_table(table, row_group_size=table.num_rows)
        if self._ids is not None:
            ids = group.columns[LEADING + fields :]
            self._ids.write_table(pa.Table.from_arrays(ids, schema=self._ids.schema))
        self._count(group.column(1), table.column(self._settings.time_field))
        self.row_groups += 1
        self._rows += table.num_rows

    def _count(self, organisations: pa.ChunkedArray, times: pa.ChunkedArray) -> None:
        seen = pa.table({"organisation": organisations, "at": micros(times)}).group_by(
            "organisation", use_threads=False
        )
        counted = seen.aggregate([([], "count_all"), ("at", "count"), ("at", "min"), ("at", "max")])
        for row in counted.to_pylist():
            first, last = (instant(row[name]) for name in ("at_min", "at_max"))
            known = row["at_count"] == row["count_all"] and first is not None and last is not None
            found = Counted(row["count_all"], first if known else None, last if known else None)
            name = self._organisations[row["organisation"]]
            self._groups[name] = _both(self._groups[name], found) if name in self._groups else found

    def close(self) -> Written:
        self._writer.close()
        self._sink.close()
        ids = None
        if self._ids is not None:
            self._ids.close()
            ids = _sidecar(self._ids_path, self._rows)
        return Written(
            self.label, self.path, self._rows, self.path.stat().st_size, sha256(self.path), self._groups, self._schema,
            self.row_groups, ids, self._encryption,
        )  # fmt: skip

    def abandon(self) -> None:
        with suppress(pa.ArrowException, OSError):  # a full disk, perhaps: the file is thrown away all the same
            self._writer.close()
            if self._ids is not None:
                self._ids.close()
        self._sink.close()
        self.path.unlink(missing_ok=True)
        self._ids_path.unlink(missing_ok=True)


def _runs(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The batch cut where the label, its first column, changes."""
    runs = pc.run_end_encode(batch.column(0))
    start = 0
    for label, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield label, batch.slice(start, end - start)
        start = end


def _both(a: Counted, b: Counted) -> Counted:
    if a.min_at is None or a.max_at is None or b.min_at is None or b.max_at is None:
        return Counted(a.rows + b.rows, None, None)
    return Counted(a.rows + b.rows, min(a.min_at, b.min_at), max(a.max_at, b.max_at))


def micros(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates and instants as microseconds since 1970."""
    if pa.types.is_date32(times.type):
        return pc.multiply(times.cast(pa.int32()).cast(pa.int64()), DAY_US)
    return times.cast(pa.int64())


def _sidecar(path: Path, rows: int) -> Sidecar:
    return Sidecar(path, rows, path.stat().st_size, sha256(path))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
