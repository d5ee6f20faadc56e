"""The door to an archive's database, to read or to change it (H14)."""

from __future__ import annotations

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from maintenance_defs.databases.same import refuse_another_writer


def archive_database(system: System, home: Home, *, write: bool = False) -> ArchiveDatabase:
    """Raises EnvironmentMissing, SourceUnavailable; Refused (another_database) where the writer's URL names another."""
    declared = system.database
    url = home.value(declared.url_env, f"the database of {system.name}")
    if write and declared.write_url_env is not None:
        writes = home.value(declared.write_url_env, f"the database of {system.name}")
        refuse_another_writer(system.name, url, writes)
        url = writes
    return open_archive_database(url)
