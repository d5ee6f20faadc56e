"""Archive objects for whatever reads files through fsspec: DuckDB in a notebook, polars, pandas; no extension (H117).

A path is `archive://<system>/<store>/<key>`; the store is reached as its declaration says, with its credentials. Only
live files of the catalogue can be opened, and only for reading. Encrypted ones cannot: their bytes would be of no use.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from maintenance_defs.archive.objects import declared_store
from maintenance_defs.archive.reading.stored import FileDamaged
from maintenance_defs.control.archive import FileRow, file_id
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.stores import open_store
from maintenance_defs.stores.base import ObjectStore

PROTOCOL = "archive"
BLOCK_BYTES = 1 << 20


def path_of(file: FileRow) -> str:
    return f"{PROTOCOL}://{file.system}/{file.store}/{file.key}"


class ArchiveFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """duckdb.connect().register_filesystem(ArchiveFileSystem(home, systems))"""

    protocol = PROTOCOL
    cachable = False  # fsspec would keep one for ever, and with it a home

    def __init__(self, home: Home, systems: Sequence[System]) -> None:
        super().__init__()
        self._home = home
        self._systems = {system.name: system for system in systems}
        self._stores: dict[tuple[str, str], ObjectStore] = {}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        file = self._file(path)
        return {"name": path, "size": file.size_bytes, "type": "file"}

    def modified(self, path: str) -> datetime:
        return self._file(path).created_at  # never afterwards

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The file itself: folders are not listed, for the catalogue says what there is."""
        return [self.info(path)] if detail else [path]

    def glob(self, path: str, **_: Any) -> list[str]:
        return [self._strip_protocol(path)]

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **_: Any) -> ArchiveObject:
        if mode != "rb":
            raise Refused("read_only", "an archive is only read through this. Nothing was changed.")
        file = self._file(path)
        return ArchiveObject(self, path, file, self._store(file), block_size or BLOCK_BYTES)

    def _file(self, path: str) -> FileRow:
        """Raises FileNotFoundError for what is no live file, as fsspec has it."""
        parts = self._strip_protocol(path).split("/", 2)
        found = self._home.control.archive.file(file_id(*parts)) if len(parts) == 3 else None
        if found is None or found.system not in self._systems:
            raise FileNotFoundError(f"{path} is no archive file")
        if found.state != "live":
            raise FileNotFoundError(f"{path} is {found.state}: make the views anew")
        if found.key_id is not None:
            raise Refused("encrypted", f"{path} is encrypted; query the archive through `maintain`. Nothing was read.")
        return found

    def _store(self, file: FileRow) -> ObjectStore:
        at = (file.system, file.store)
        if at not in self._stores:
            declared = declared_store(self._systems[file.system], file.store)
            self._stores[at] = open_store(file.store, declared, self._home.value)
        return self._stores[at]


class ArchiveObject(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """One object, read by ranges."""

    def __init__(self, system: ArchiveFileSystem, path: str, file: FileRow, store: ObjectStore, block: int) -> None:
        self._row = file
        self._store = store
        super().__init__(system, path, "rb", block_size=block, cache_type="readahead", size=file.size_bytes)

    def _fetch_range(self, start: int, end: int) -> bytes:
        end = min(end, self._row.size_bytes)
        found = self._store.read_range(self._row.key, start, end - start) if end > start else b""
        if found is None:
            raise FileDamaged(self._row, "is not in the store", "missing")
        if len(found) != max(0, end - start):
            raise FileDamaged(self._row, "ends too early", "truncated")
        return found
