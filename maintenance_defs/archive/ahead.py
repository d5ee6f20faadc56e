"""Months of archived tables made before their rows come. Runs apart from whatever removes, and no pause stops it (L7).

Source: S4-40; hazards E71, I125.
"""

from __future__ import annotations

from datetime import datetime

from maintenance_defs.archive.declared import find_archive
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive
from maintenance_defs.core.declaration import System
from maintenance_defs.databases.partitions.ahead import NAMING, Ahead, create_ahead


def make_ahead(system: System, name: str, home: Home, now: datetime) -> Ahead:
    """This month's partition and the declared number of later ones, as far as they are missing.

    Raises Refused("not_partitioned") for a plain table, and what create_ahead raises; what was made stays.
    """
    archive = find_archive(system, name)
    database = archive_database(system, home, write=True)
    return create_ahead(database, archive.table, archive.months_ahead, now, naming=naming_of(archive))


def naming_of(archive: Archive) -> str:
    """`{table}_p{year}_{month}` -> `_p%Y_%m`: what comes after the table's name."""
    if archive.partition_name is None:
        return NAMING
    after = archive.partition_name.removeprefix("{table}").replace("%", "%%")
    return after.replace("{year}", "%Y").replace("{month}", "%m")
