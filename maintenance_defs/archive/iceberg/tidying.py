"""Metadata that the table does not name any more: its objects go an hour later, like those of the archive (V11).

Only objects of our own folder for metadata are looked at, in which no file of the archive ever is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pyiceberg.table import Table

from maintenance_defs.archive.iceberg.catalogs import Opened
from maintenance_defs.archive.iceberg.files import OWN_NAMES
from maintenance_defs.archive.units.expiring import READER_GRACE

LAST = chr(0x10FFFF)  # after every other character


def tidy(opened: Opened, *, grace: timedelta = READER_GRACE) -> list[str]:
    """Keys that were removed. grace: for readers that began before, and writers that have not committed yet."""
    store, folder = opened.place.store, f"{opened.place.folder}metadata/"
    before = store.reading.clock() - grace
    table = opened.table()  # after the clock: what is written from now on is younger
    needed = {opened.place.key(location) for location in _named(table)} if table is not None else set()
    gone: list[str] = []
    for batch in store.reading.list(after=folder, until=folder + LAST):
        for row in batch.select(["key", "modified_at"]).to_pylist():
            key = row["key"]
            ours = key.startswith(folder) and key.endswith(OWN_NAMES)
            if ours and key not in needed and row["modified_at"] is not None and row["modified_at"] < before:
                store.remove(key)
                gone.append(key)
    return gone


def _named(table: Table) -> Iterator[str]:
    """Locations of all metadata that the table needs, or names."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    for snapshot in table.metadata.snapshots:
        yield snapshot.manifest_list
        yield from (manifest.manifest_path for manifest in snapshot.manifests(table.io))
    yield from (one.statistics_path for one in table.metadata.statistics)
