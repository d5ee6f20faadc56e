"""What every reader needs of one archive: its stores, its caches, its files as they may be read now."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.parquet as pq

from maintenance_defs.archive.cache import cache_of
from maintenance_defs.archive.encryption import decryption_for
from maintenance_defs.archive.objects import declared_store
from maintenance_defs.archive.reading.shapes import Field, file_fields
from maintenance_defs.archive.reading.stored import Reads, StoredFile
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import ArtefactError, UnknownName
from maintenance_defs.core.problems import known_names
from maintenance_defs.stores import open_store
from maintenance_defs.stores.base import ObjectStore


class Door:
    """One archive, opened for reading."""

    def __init__(self, system: System, name: str, home: Home, reads: Reads | None = None) -> None:
        """Raises UnknownName."""
        if name not in system.archives:
            hint = known_names(name, system.archives)
            raise UnknownName("unknown_archive", f"{system.name} has no archive {name!r}. Nothing was read. {hint}")
        self.system = system
        self.name = name
        self.home = home
        self.archive: Archive = system.archives[name]
        self.reads = reads or Reads()
        self.cache = cache_of(home, self.archive)
        self._stores: dict[str, ObjectStore] = {}
        self._fields: dict[int, list[Field]] | None = None

    def fields(self) -> dict[int, list[Field]]:
        """The fields of the files of each schema version, oldest first."""
        if self._fields is None:
            listed = self.home.control.archive.schemas(self.system.name, self.name)
            self._fields = {version: file_fields(columns) for version, columns in listed.items()}
        return self._fields

    def opened(self, file: FileRow) -> StoredFile:
        """A live file. Raises ArtefactError where the catalogue does not know its columns."""
        if file.schema_version not in self.fields():
            raise ArtefactError(
                f"archive file {file.key!r} has schema version {file.schema_version}, which the control database does "
                f"not hold. No answer was given. Bring the control database back from its backup."
            )
        names = [field.name for field in self.fields()[file.schema_version]]
        return StoredFile(file, self.store(file.store), self.cache, self.reads, names, self._decryption(file))

    def readable(self, files: Sequence[FileRow]) -> tuple[list[FileRow], list[FileRow]]:
        """These files, and apart those whose key was destroyed: their rows are gone, others' stay readable (G100)."""
        found: list[FileRow] = []
        shredded: list[FileRow] = []
        keys: dict[str, bool] = {}
        for file in files:
            if file.key_id is not None and file.key_id not in keys:
                key = self.home.control.archive.key(file.key_id)
                keys[file.key_id] = key is not None and key.destroyed_at is not None
            (shredded if file.key_id is not None and keys[file.key_id] else found).append(file)
        return found, shredded

    def store(self, name: str) -> ObjectStore:
        if name not in self._stores:
            self._stores[name] = open_store(name, declared_store(self.system, name), self.home.value)
        return self._stores[name]

    def _decryption(self, file: FileRow) -> pq.FileDecryptionProperties | None:
        """Raises Refused("shredded") once the organisation's key is destroyed, whatever is cached (G100)."""
        key = decryption_for(self.home, self.archive, file)
        return None if key is None else key.reading()
