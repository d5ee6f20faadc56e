"""A whole value back: as bytes, or into its row. Missing is an error, never an empty answer (H113, V12)."""

from __future__ import annotations

from datetime import UTC, datetime

from maintenance_defs.archive.declared import find_store
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.values.blobs import load_value, spool
from maintenance_defs.archive.values.registering import unregister
from maintenance_defs.archive.values.source import Source, open_source, sha256
from maintenance_defs.control.archive import ValueRow
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.base import instant
from maintenance_defs.core.archive import ColumnArchive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.problems import did_you_mean
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.statements import for_driver
from maintenance_defs.stores import open_store


def find_column_archive(system: System, name: str) -> ColumnArchive:
    """Raises Refused that names the known ones."""
    if name not in system.archived_columns:
        known = ", ".join(system.archived_columns) or "none"
        raise Refused(
            "unknown_archive",
            f"{system.name} has no archived column {name!r}.{did_you_mean(name, system.archived_columns)} "
            f"Known: {known}.",
        )
    return system.archived_columns[name]


def get_value(system: System, name: str, home: Home, row_id: str) -> bytes:
    """The whole value that was archived from a row: its exact text as UTF-8.

    Raises Refused ("unknown_archive", "not_archived", "expired"), ObjectDamaged, StoreUnavailable.
    """
    find_column_archive(system, name)
    known = home.control.archive.value(system.name, name, row_id)
    if known is None or known.state == "planned":
        raise Refused("not_archived", f"no value of row {row_id} is archived in {name}; what it has is in the row.")
    if known.state in ("expiring", "expired"):
        raise Refused("expired", f"the value of row {row_id} expired at {instant(known.changed_at)} and was deleted.")
    with spool(home) as folder:
        return load_value(open_store(known.store, find_store(system, known.store), home.value), known, folder)


def restore_value(system: System, name: str, home: Home, row_id: str) -> ValueRow:
    """Put the whole value back into its row, equal as text. The object stays, and the value rests for `hot` again.

    Rows that were registered with its slimming go again, where they are as they were written.

    Only where the row still holds the slim value that was written. Raises Refused ("changed", "no_row", and as
    get_value), ObjectDamaged, SourceUnavailable; then the row is as it was.
    """
    archive = find_column_archive(system, name)
    whole = get_value(system, name, home, row_id).decode()
    state = home.control.archive
    known = state.values_of(system.name, name, [row_id])[row_id]
    database = archive_database(system, home, write=True)
    with database.snapshot() as snapshot:
        source = open_source(snapshot, system, archive, home, datetime.now(UTC))
        if snapshot.evidence.identity != known.source:
            raise Refused(
                "other_source",
                f"the value of row {row_id} was archived from another database. Nothing was changed; read it instead.",
            )
    _put_back(database, source, known, whole)
    state.mark_values(system.name, name, [row_id], "restored")
    return state.values_of(system.name, name, [row_id])[row_id]


def _put_back(database: ArchiveDatabase, source: Source, known: ValueRow, whole: str) -> None:
    digest = sha256(f"CAST({source.column} AS text)")
    where = source.ids()
    with database.transaction() as connection:
        sql = f"SELECT {digest} AS digest, {source.whole} AS hash FROM {source.sql} WHERE {where} FOR UPDATE"
        statement, values = for_driver(sql, {"ids": [known.row_id]}, "pyformat")
        row = connection.exec_driver_sql(statement, values).one_or_none()
        if row is None:
            raise Refused("no_row", f"there is no row {known.row_id}. Nothing was changed; read the value instead.")
        if row.digest == known.sha256:
            return  # a run that died before it was recorded
        if row.digest != known.slim_sha256:
            raise Refused(
                "changed",
                f"row {known.row_id} does not hold the slim value any more. It was left as it is; read the archived "
                f"value instead.",
            )
        connection.exec_driver_sql("SET LOCAL search_path TO DEFAULT")  # the application's triggers expect it
        sql = (
            f'WITH "maintenance done" AS (UPDATE {source.sql} SET {source.assigned} = CAST(:whole AS {source.kind}) '
            f'WHERE {where} RETURNING {digest} AS digest) SELECT digest FROM "maintenance done"'
        )
        statement, values = for_driver(sql, {"ids": [known.row_id], "whole": whole}, "pyformat")
        found = connection.exec_driver_sql(statement, values).one_or_none()
        if found is None or found.digest != known.sha256:
            raise Refused(
                "came_out_otherwise",
                f"row {known.row_id} did not come out as it was archived: a trigger changed it. It was left as it is.",
            )
        if source.registering is not None:
            unregister(connection, source.registering, known.row_id)
