"""Archive files as pyarrow data sets: columns and row groups that a query does not need are not read.

Files come from the catalogue, never from a listing: staged, superseded and expired ones are in no answer (V6). Footers
are compared with the catalogue before anything is read, pages with their checksums while they are (H113).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import date, datetime

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs

from maintenance_defs.archive.reading.door import Door
from maintenance_defs.archive.reading.shapes import Field, Shape, shape
from maintenance_defs.archive.reading.stored import StoredFile
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError, Refused

SHREDDED = b"maintenance:shredded_files"  # of an answer's schema: so many files are left out, their key was destroyed


class ArchiveFiles(fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """A file system for pyarrow whose paths are ids of archive files. It can only read."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}
        self._lock = threading.Lock()
        self.failed: MaintenanceError | None = None  # the first error; on its way through Arrow it becomes a text

    def add(self, file: StoredFile) -> str:
        with self._lock:
            self._files[file.row.id] = file
        return file.row.id

    def open_input_file(self, path: str) -> pa.NativeFile:
        ranges = self._files[path].opened()
        fetch = ranges.fetch

        def remembered(start: int, length: int) -> bytes:
            try:
                return fetch(start, length)
            except MaintenanceError as error:
                with self._lock:
                    self.failed = self.failed or error
                raise

        ranges.fetch = remembered
        return pa.PythonFile(ranges, mode="r")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def get_file_info(self, paths: Sequence[str]) -> list[fs.FileInfo]:
        return [fs.FileInfo(path, fs.FileType.File, size=self._files[path].row.size_bytes) for path in paths]

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        raise self._read_only()  # nothing is listed: the catalogue says what there is

    def get_type_name(self) -> str:
        return "archive"

    def normalize_path(self, path: str) -> str:
        return path

    def create_dir(self, path: str, recursive: bool) -> None:
        raise self._read_only()

    def delete_dir(self, path: str) -> None:
        raise self._read_only()

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        raise self._read_only()

    def delete_root_dir_contents(self) -> None:
        raise self._read_only()

    def delete_file(self, path: str) -> None:
        raise self._read_only()

    def move(self, src: str, dest: str) -> None:
        raise self._read_only()

    def copy_file(self, src: str, dest: str) -> None:
        raise self._read_only()

    def open_output_stream(self, path: str, metadata: Mapping[str, str]) -> pa.NativeFile:
        raise self._read_only()

    def open_append_stream(self, path: str, metadata: Mapping[str, str]) -> pa.NativeFile:
        raise self._read_only()

    @staticmethod
    def _read_only() -> Refused:
        return Refused("read_only", "an archive is only read through this. Nothing was changed.")


def data_set(door: Door, files: Sequence[FileRow], schema: pa.Schema, handler: ArchiveFiles) -> ds.Dataset:
    """These files as one data set with this schema; every footer is read. Raises FileDamaged."""
    system = fs.PyFileSystem(handler)
    fragments = []
    for row in files:
        stored = door.opened(row)
        # Each has a format of its own: a key belongs to one file.
        form = ds.ParquetFileFormat(
            default_fragment_scan_options=ds.ParquetFragmentScanOptions(
                page_checksum_verification=True, decryption_properties=stored.decryption
            )
        )
        span = _span(row, door.archive.time, schema)
        fragment = form.make_fragment(handler.add(stored), system, partition_expression=span)
        with stored.explained():
            fragment.ensure_complete_metadata()
        stored.check(fragment.metadata, fragment.physical_schema.names)
        fragments.append(fragment)
    return ds.FileSystemDataset(fragments, schema, ds.ParquetFileFormat(), system)


def _span(row: FileRow, time: str, schema: pa.Schema) -> ds.Expression | None:
    """What is known of the file's rows without opening it."""
    if row.first_at is None or row.last_at is None or time not in schema.names:
        return None
    kind = schema.field(time).type
    column = ds.field(time)
    return (column >= pa.scalar(_at(row.first_at, kind), kind)) & (column <= pa.scalar(_at(row.last_at, kind), kind))


def _at(instant: datetime, kind: pa.DataType) -> datetime | date:
    if pa.types.is_date(kind):
        return instant.date()
    return instant if kind.tz else instant.replace(tzinfo=None)


def by_version(files: Sequence[FileRow]) -> dict[int, list[FileRow]]:
    found: dict[int, list[FileRow]] = {}
    for file in sorted(files, key=lambda file: file.schema_version):
        found.setdefault(file.schema_version, []).append(file)
    return found


def version_schema(fields: Sequence[Field]) -> pa.Schema:
    return pa.schema([(field.name, field.type) for field in fields])


def dataset(home: Home, system: System, name: str) -> ds.Dataset:
    """The live files of an archive with one schema, for analysts: `.to_table(columns=…, filter=…)`.

    Rows that are still in the table, too, are among them until they have left it; `query` tells them apart. Files
    whose key was destroyed are left out, and counted in the schema's metadata.
    Raises Refused where a column has two types that are not one: `query` shows both.
    """
    door = Door(system, name, home)
    files, shredded = door.readable(home.control.archive.files(system.name, name))
    listed = by_version(files)
    form: Shape = shape({version: door.fields()[version] for version in listed})
    for version, sources in form.versions.items():
        for source in sources:
            if source.field is not None and source.field != source.column:
                raise Refused(
                    "two_types",
                    f"column {source.field!r} of archive {name!r} has another type or meaning since version {version} "
                    f"of its columns: one data set cannot hold both. Nothing was read; query the archive, which shows "
                    f"the older rows in {source.column!r}.",
                )
    schema = form.schema.with_metadata({SHREDDED: str(len(shredded))} if shredded else None)
    return data_set(door, [file for rows in listed.values() for file in rows], schema, ArchiveFiles())
