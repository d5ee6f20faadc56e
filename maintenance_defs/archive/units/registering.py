"""The application's own catalogue of archived rows: one row per value of the lookup column and file (S4-42, X-17).

It follows ours. What our catalogue has is written, what has ended there is removed; both may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.iceberg import publish
from maintenance_defs.archive.units.cataloguing import Entry, entry_id, remove_catalogue, write_catalogue
from maintenance_defs.archive.units.exporting import Work
from maintenance_defs.control.archive import FileRow, UnitRow


def register_unit(work: Work, unit: UnitRow) -> None:
    """Write what the unit's live files hold, and remove what its ended ones held, in one transaction.

    Raises Refused("migration_missing") where the declared table is not there.
    """
    catalogue = work.archive.catalogue
    if catalogue is None:
        return
    state, system = work.home.control.archive, work.system.name
    live = state.files(system, work.name, unit_id=unit.id)
    ended = state.files(system, work.name, states=("superseded", "expired"), unit_id=unit.id)
    with archive_database(work.system, work.home, write=True).transaction() as connection:
        remove_catalogue(connection, catalogue, _ids(work, ended))
        write_catalogue(connection, catalogue, _entries(work, live))


def announce_unit(work: Work, unit: UnitRow) -> None:
    """Make every other catalogue say what ours says of a unit: the application's own, and the Iceberg table.

    What has ended is named by neither of them afterwards, so that its object may go (V11). Raises like `register_unit`
    and `iceberg.publish`.
    """
    register_unit(work, unit)
    if work.archive.iceberg is not None:
        publish(work.system, work.name, work.home)


def _ids(work: Work, files: Sequence[FileRow]) -> Iterator[str]:
    for file in files:
        for one in work.home.control.archive.index_of(file.id):
            yield entry_id(file.id, one.value)


def _entries(work: Work, files: Sequence[FileRow]) -> Iterator[Entry]:
    """Without a lookup column a file has one entry, whose value is ''."""
    for file in files:
        if work.archive.lookup is None:
            yield Entry(
                file.id, "", file.label, file.key, file.rows, file.size_bytes, file.first_at, file.last_at,
                file.created_at,
            )  # fmt: skip
            continue
        for one in work.home.control.archive.index_of(file.id):
            yield Entry(
                file.id, one.value, one.organisation, file.key, one.rows, file.size_bytes, one.first_at, one.last_at,
                file.created_at,
            )  # fmt: skip
