"""The way in: publish an archive as an Iceberg table, keep it up, tell how it stands.

Source: archive_design 1; V5, V6, V10, V11, V13; archive hazards G100, G103, G105, H106; L12, L14.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pydantic
import sqlalchemy as sa

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.iceberg.standing import Standing
from maintenance_defs.archive.reading.door import Door
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError, Refused

if TYPE_CHECKING:
    from maintenance_defs.archive.iceberg.catalogs import Opened

INSTALL = "pip install 'maintenance-defs[iceberg]'"


class IcebergUnavailable(MaintenanceError):
    """The catalogue of tables could not be asked, or PyIceberg is not installed."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


def publish(system: System, name: str, home: Home, *, rebuild: bool = False) -> Standing:
    """Make the archive's Iceberg table hold exactly what the catalogue says, in one commit; may be repeated.

    rebuild: forget the table and make it anew from the catalogue; no object of the archive is touched. Also what
        takes it over where the database was replaced.
    Raises Refused (no_iceberg, not_ours, another_database, time_type, rows_deleted, same_but_for_case, commits),
    IcebergUnavailable, EnvironmentMissing, DeclarationError, SourceUnavailable, StoreUnavailable, FileDamaged. The
    table is then what it was, or right.
    """
    with _opened(system, name, home) as (door, opened):
        from maintenance_defs.archive.iceberg.bringing import bring, drop
        from maintenance_defs.archive.iceberg.tidying import tidy

        with archive_database(system, home).snapshot() as snapshot:
            source = snapshot.evidence.identity
        if rebuild:
            drop(opened)
        done = bring(door, opened, source)
        tidy(opened)
        return done


def compare(system: System, name: str, home: Home) -> Standing:
    """How the Iceberg table and the catalogue stand to each other; changes nothing. Raises like `publish`."""
    with _opened(system, name, home) as (door, opened):
        from maintenance_defs.archive.iceberg.bringing import standing

        return standing(door, opened)


def keep_up(system: System, name: str, home: Home, log: Callable[[str], None]) -> MaintenanceError | None:
    """Publish an archive that declares a table, after it changed. What went wrong is told and returned: the archive
    itself is as it should be, and the next publication puts the table right."""
    if system.archives[name].iceberg is None:
        return None
    try:
        done = publish(system, name, home)
    except MaintenanceError as error:
        log(f"The Iceberg table of {system.name}/{name} is not up to date: {error}")
        return error
    if done.added or done.removed:
        log(f"Iceberg table {done.table}: {done.added} files added, {done.removed} taken out")
    return None


@contextmanager
def _opened(system: System, name: str, home: Home) -> Iterator[tuple[Door, Opened]]:
    door = Door(system, name, home)
    declared = door.archive.iceberg
    if declared is None:
        raise Refused(
            "no_iceberg",
            f"archive {name} of {system.name} declares no Iceberg table. Nothing was done; add iceberg: {{catalog_env: "
            f"…, table: …}} to it.",
        )
    try:
        from maintenance_defs.archive.iceberg.catalogs import opened
    except ModuleNotFoundError as missing:
        raise IcebergUnavailable(
            f"{missing.name} is not installed, so the Iceberg table of {system.name}/{name} was not looked at. The "
            f"archive itself is as it was. Install it: {INSTALL}"
        ) from None
    with _worded(declared.catalog_env, declared.table), opened(door, declared) as found:
        yield door, found


@contextmanager
def _worded(variable: str, table: str) -> Iterator[None]:
    """Errors of the catalogue as ours, without its words: they may repeat its URL (V13)."""
    import requests
    from pyiceberg.exceptions import RESTError, ValidationException

    try:
        yield
    except (FileNotFoundError, ValidationException, pydantic.ValidationError) as error:
        raise Refused(
            "metadata_lost",
            f"metadata of the Iceberg table {table} is lost or damaged ({type(error).__name__}). The archive has every "
            f"row and was not changed; make the table anew: maintain archive publish SYSTEM ARCHIVE --rebuild",
        ) from None
    except (sa.exc.SQLAlchemyError, requests.RequestException, RESTError) as error:
        what = type(getattr(error, "orig", None) or error).__name__
        raise IcebergUnavailable(
            f"the catalogue that {variable} names did not answer as it should ({what}), so the Iceberg table {table} "
            f"was not brought up to date. Nothing of the archive was changed by that. Check {variable}, then publish "
            f"again.",
            transient=isinstance(error, sa.exc.OperationalError | requests.ConnectionError),
        ) from None
