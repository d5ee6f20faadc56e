"""The door to an archive's database, to read or to change it (H14)."""

from __future__ import annotations

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from maintenance_defs.databases.same import refuse_another_writer
from maintenance_defs.databases.urls import reading_url, writing_url


def archive_database(system: System, home: Home, *, write: bool = False) -> ArchiveDatabase:
    """Raises EnvironmentMissing, SourceUnavailable; Refused (another_database) where the writer's URL names another."""
    url = reading_url(system, home.value)
    if write:
        writes = writing_url(system, home.value)
        refuse_another_writer(system.name, url, writes)
        url = writes
    return open_archive_database(url)
