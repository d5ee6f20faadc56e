"""What PyIceberg may do in a store: read and write the table's own metadata, and nothing else.

Every path goes through here, so that no operation of a table format can reach an object of the archive, whatever it is
asked to do (L14). Metadata is written once, like everything in the store (V5).
"""

from __future__ import annotations

import io
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream

from maintenance_defs.core.errors import Refused, StoreUnavailable
from maintenance_defs.stores.base import ObjectStore
from maintenance_defs.stores.cloud import CloudStore
from maintenance_defs.stores.immutable import ImmutableStore
from maintenance_defs.stores.local import LocalStore
from maintenance_defs.stores.s3 import S3Store

PLACE = "maintenance.files"  # property of a catalogue: which Place its files are in
OWN_NAMES = (".metadata.json", ".avro", ".gz.metadata.json")
_places: WeakValueDictionary[str, Place] = WeakValueDictionary()


class Place:
    """The folder of one table's metadata in a store, and how Spark and Trino call it.

    folder: 'iceberg/logs.execution_log/'. spool: a folder of this machine for what is on its way.
    """

    def __init__(self, store: ImmutableStore, folder: str, spool: Path) -> None:
        self.store, self.folder, self.spool = store, folder, spool
        self.base = base_of(store.reading)
        self.token = uuid.uuid4().hex
        _places[self.token] = self

    @property
    def location(self) -> str:
        return self.base + self.folder.rstrip("/")

    def key(self, location: str) -> str:
        """Raises Refused for whatever is not metadata of this table."""
        own = f"{self.location}/metadata/"
        name = location[len(own) :]
        if not location.startswith(own) or "/" in name or not name.endswith(OWN_NAMES):
            raise Refused(
                "not_metadata",
                f"{location} is not below {own}, where the metadata of this Iceberg table is; nothing else is read or "
                f"changed for it. Nothing was done. A catalogue that chooses locations by itself cannot be used, nor "
                f"a table from before the archive's store or the table's path was changed: declare another name.",
            )
        return self.folder + "metadata/" + name


def base_of(store: ObjectStore) -> str:
    """What stands before a key in the locations that readers use."""
    if isinstance(store, S3Store):
        return f"s3://{store.access.bucket}/"
    if isinstance(store, LocalStore):
        return f"file://{store.root}/"
    if isinstance(store, CloudStore) and store.kind == "azure":
        account, container = store.display_url.removeprefix("az://").split("/", 1)
        return f"abfss://{container}@{account}.dfs.core.windows.net/"
    return f"{store.display_url}/"


class MetadataFiles(FileIO):
    """Named in the properties of a catalogue; PyIceberg makes one for each table that it opens."""

    def __init__(self, properties: dict[str, Any]) -> None:
        super().__init__(properties)
        self._place = _places[properties[PLACE]]

    def new_input(self, location: str) -> InputFile:
        return _Input(self._place, location)

    def new_output(self, location: str) -> OutputFile:
        return _Output(self._place, location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Only what an attempt wrote that was not committed; see tidying.py for the rest."""
        named = location if isinstance(location, str) else location.location
        self._place.store.remove(self._place.key(named))


class _Input(InputFile):
    def __init__(self, place: Place, location: str) -> None:
        super().__init__(location)
        self._place = place
        self._key = place.key(location)

    def __len__(self) -> int:
        facts = self._place.store.reading.head(self._key)
        if facts is None or facts.size_bytes is None:
            raise FileNotFoundError(self.location)
        return facts.size_bytes

    def exists(self) -> bool:
        return self._place.store.reading.head(self._key) is not None

    def open(self, seekable: bool = True) -> InputStream:
        size = len(self)
        found = self._place.store.reading.read_range(self._key, 0, size)
        if found is None:
            raise FileNotFoundError(self.location)
        if len(found) != size:
            raise StoreUnavailable(f"{self.location} did not come whole. Nothing was changed.", transient=True)
        return io.BytesIO(found)


class _Output(OutputFile):
    def __init__(self, place: Place, location: str) -> None:
        super().__init__(location)
        self._place = place
        self._key = place.key(location)

    def __len__(self) -> int:
        return len(self.to_input_file())

    def exists(self) -> bool:
        return self.to_input_file().exists()

    def to_input_file(self) -> InputFile:
        return _Input(self._place, self.location)

    def create(self, overwrite: bool = False) -> OutputStream:
        return _Once(self._place, self._key)


class _Once(io.BytesIO):
    """Stored when it is closed without an error: whole, under a name that was never used."""

    def __init__(self, place: Place, key: str) -> None:
        super().__init__()
        self._place, self._key = place, key

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            super().close()
            return
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        data = self.getvalue()
        super().close()
        with tempfile.NamedTemporaryFile(dir=self._place.spool, prefix="iceberg-") as file:
            file.write(data)
            file.flush()
            made = self._place.store.create(self._key, Path(file.name))
        if not made and self._place.store.reading.read_range(self._key, 0, len(data) + 1) != data:
            raise StoreUnavailable(f"{self._key} holds other bytes than were written. Nothing was committed.")
