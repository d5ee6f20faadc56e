"""The door to an archive's database, to read or to change it (H14)."""

from __future__ import annotations

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database


def archive_database(system: System, home: Home, *, write: bool = False) -> ArchiveDatabase:
    """Raises EnvironmentMissing, SourceUnavailable."""
    declared = system.database
    variable = (declared.write_url_env if write else None) or declared.url_env
    return open_archive_database(home.value(variable, f"the database of {system.name}"))
