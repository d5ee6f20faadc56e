"""Rows back: a detached month into its table, or archived rows into a table of their own (D67, H114, V12).

What is put back is held, so that the next run does not archive it again; releasing the hold lets it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.encryption import FileEncryption, decryption_for
from maintenance_defs.archive.iceberg import keep_up
from maintenance_defs.archive.objects import archive_stores, fetch
from maintenance_defs.archive.rows.columns import columns_of, read_columns
from maintenance_defs.archive.rows.loading import load
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.archive.units.copies import comment_of
from maintenance_defs.archive.units.exporting import Work, spool
from maintenance_defs.archive.units.registering import register_unit
from maintenance_defs.control.archive import UnitRow
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.catalog import read_partitioned, read_table
from maintenance_defs.databases.partitions.ours import ensure_ours
from maintenance_defs.databases.partitions.parking import find_parked
from maintenance_defs.databases.partitions.reattaching import Reattached, reattach
from maintenance_defs.databases.partitions.sql import act, ask, qualified, words_of
from maintenance_defs.databases.statements import quote

SCHEMA = "maintenance_restored"
DRILL = "maintenance_drill"


@dataclass(frozen=True)
class Restored:
    """A table with the rows of one month as they were archived. same: its text equals the one before it left."""

    schema: str
    table: str
    rows: int
    files: int
    same: bool | None  # None: some of the month's rows expired or were not archived, so there is nothing to equal


def put_back(work: Work, unit: UnitRow, *, actor: str, reason: str) -> Reattached:
    """Undo inside the window: the detached month is part of its table again, and readers find it there.

    Raises Refused("not_detached") once it was dropped: restore its rows from the archive then.
    """
    if unit.state != "detached":
        raise Refused(
            "not_detached",
            f"{unit.words()} is {unit.state}, not detached: there is no table to put back. Nothing was changed; "
            f"restore its rows from the archive into a table of their own.",
        )
    control = work.home.control
    control.retention.add_hold(
        work.system.name, actor, f"put back: {reason}", table=work.archive.table, row_id=unit.label, policy=work.name
    )
    state = control.archive
    state.take_unit(unit.id, work.owner, work.lease_seconds)
    try:
        database = archive_database(work.system, work.home, write=True)
        done = _is_back(database, work.archive.table, unit) or reattach(database, work.archive.table, unit.id)
        state.advance(unit.id, work.owner, "catalogued", left_at=None)
    finally:
        state.leave_unit(unit.id, work.owner)
    keep_up(work.system, work.name, work.home, work.log)
    return done


def _is_back(database: ArchiveDatabase, table: str, unit: UnitRow) -> Reattached | None:
    """What a killed run had done already: the mark of the parked table goes in the transaction that attaches it."""
    with database.transaction() as connection:
        partition = read_partitioned(connection, table).by_oid(unit.relation_oid)
        back = partition is not None and find_parked(connection, unit.id) is None
    return Reattached(partition, 0, (), 0.0) if partition is not None and back else None


def restore(
    work: Work, units: list[UnitRow], schema: str = SCHEMA, table: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Restored:  # fmt: skip
    """Load what the archive holds of one month into a new table of its own; nothing else is touched.

    units: the parts of one month. Every file is fetched back whole and compared first.
    Raises Refused (nothing_archived, target_exists, other_columns, published, shredded), ObjectDamaged, Mismatch.
    """
    state, archive = work.home.control.archive, work.archive
    files = [f for unit in units for f in state.files(work.system.name, work.name, unit_id=unit.id)]
    if not files:
        month = f"{units[0].label} of {work.system.name}/{work.name}" if units else "this month"
        raise Refused(
            "nothing_archived",
            f"the archive holds no rows of {month}: they are in their table, or their time is over. Nothing "
            f"was restored; `maintain archive status {work.system.name} {work.name}` says which.",
        )
    if len({file.schema_version for file in files}) > 1:
        raise Refused("other_columns", "the table was changed between two parts of this month; restore each by itself.")
    stores = archive_stores(work.system, work.home)
    name = table or f"{archive.table.rpartition('.')[2]}_{units[0].label.replace('-', '_')}"
    database = archive_database(work.system, work.home, write=True)
    with TemporaryDirectory(prefix="restore-", dir=spool(work.home)) as folder:
        paths: list[Path] = []
        keys: dict[Path, FileEncryption] = {}
        for number, file in enumerate(files):
            path = Path(folder) / f"{number}.parquet"
            key = decryption_for(work.home, archive, file)
            keys |= {} if key is None else {path: key}
            fetch(stores(file.store).reading, file.key, path, file.sha256, size_bytes=file.size_bytes)
            paths.append(path)
        with database.transaction() as connection:
            if not ask(connection, "SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s", schema=schema):
                act(connection, f"CREATE SCHEMA {qualified(schema, 'x').rpartition('.')[0]}")
        columns = columns_of(KeptFile(paths[0], keys.get(paths[0])).schema)
        told = comment_of(work.system.name, work.name, units[0].label, work.home.control.now())
        loaded = load(
            database, paths, columns, schema, name, None, encryption=keys, comment=told, progress=progress
        )  # fmt: skip
    whole = len(units) == 1 and loaded.rows == units[0].rows
    same = loaded.fingerprint.total == units[0].fingerprint if whole else None
    return Restored(schema, name, loaded.rows, len(files), same)


def into_place(work: Work, units: list[UnitRow], *, actor: str, reason: str) -> Restored:
    """Rows of a removed month back into their table, all of them or none; from then on readers find them there.

    units: the parts of one month; those that were put back earlier stay as they are. Its files end, and their objects
    go with a later sweep. Raises Refused (not_removed, another_database, nothing_archived, conflict, triggers, columns)
    and what `restore` raises; nothing was changed then.
    """
    control, label = work.home.control, units[0].label
    state = control.archive
    mine = [unit for unit in units if unit.state == "removed"]
    # A run that was killed may have recorded that they are back, and no more.
    cut_off = [u for u in units if u.state == "returned" and state.files(u.system, u.archive, unit_id=u.id)]
    waiting = [unit for unit in units if unit.state not in ("removed", "returned")]
    if waiting or not (mine or cut_off):
        one = (waiting or units)[0]
        raise Refused("not_removed", f"{one.words()} is {one.state}, not removed. Nothing was restored.")
    database = archive_database(work.system, work.home, write=True)
    with database.snapshot() as snapshot:
        if any(unit.source != snapshot.evidence.identity for unit in units):
            raise Refused(
                "another_database",
                f"{units[0].words()} was archived from another database. Nothing was restored; load a copy instead.",
            )
    said = f"put back: {reason}"
    control.retention.add_hold(work.system.name, actor, said, table=work.archive.table, row_id=label, policy=work.name)
    name = f"back_{units[0].id}"
    with database.transaction() as connection:
        done = {unit.id: _returned(connection, unit.id) for unit in mine}
        act(connection, f"DROP TABLE IF EXISTS {qualified(SCHEMA, name)} RESTRICT")  # of a run that was killed
    rows = sum(found or 0 for found in done.values())
    back = [unit for unit in mine if done[unit.id] is None]
    if back:
        restored = restore(work, back, SCHEMA, name)
        with database.transaction() as connection:
            _insert(connection, work, name, restored.rows, back)
        rows += restored.rows
    for unit in [*mine, *cut_off]:
        state.take_unit(unit.id, work.owner, work.lease_seconds)
        files = state.files(work.system.name, work.name, unit_id=unit.id)
        state.advance(unit.id, work.owner, "returned")
        state.end_files([file.id for file in files], "superseded", said)
        register_unit(work, unit)
        state.leave_unit(unit.id, work.owner)
    keep_up(work.system, work.name, work.home, work.log)
    with database.transaction() as connection:
        act(connection, f"DROP TABLE IF EXISTS {qualified(SCHEMA, name)} RESTRICT")
    return Restored(work.archive.table.partition(".")[0], work.archive.table, rows, 0, None)


def _returned(connection: Connection, unit_id: str) -> int | None:
    """How many rows an earlier run put back, whose end nobody recorded."""
    ensure_ours(connection)
    found = ask(
        connection, "SELECT rows FROM maintenance_archive.ledger WHERE unit_id = %(unit)s AND act = 'returned'",
        unit=unit_id,
    )  # fmt: skip
    return found[0]["rows"] if found else None


def _insert(connection: Connection, work: Work, name: str, rows: int, units: list[UnitRow]) -> None:
    """The rows of the scratch table into the real one, with the ledger's rows, in the caller's transaction."""
    found = read_table(connection, work.archive.table)
    if found.triggers:
        raise Refused(
            "triggers",
            f"inserting into {found} would set off {', '.join(found.triggers)}. Nothing was put back; the rows "
            f"stand in {SCHEMA}.{name}, for you to move.",
        )
    known = {column.name: column for column in read_columns(connection, found.oid)}
    kept = [column.name for column in read_columns(connection, read_table(connection, f"{SCHEMA}.{name}").oid)]
    if lacking := [column for column in kept if column not in known]:
        raise Refused(
            "columns",
            f"{found} has no column {', '.join(map(repr, lacking))} any more, which the archived rows have values of. "
            f"Nothing was put back, for these would be lost; add the column again, or restore a copy of the month.",
        )
    listed = ", ".join(quote(column) for column in kept if not known[column].generated)
    sums = "coalesce(sum(hashtextextended(CAST(x.* AS text), 0)), 0)::text AS total, count(*) AS rows"
    there = ask(connection, f"SELECT {sums} FROM (SELECT {listed} FROM {qualified(SCHEMA, name)}) x")[0]
    try:
        here = ask(
            connection,
            f"WITH back AS (INSERT INTO {found.qualified} ({listed}) OVERRIDING SYSTEM VALUE SELECT {listed} FROM "
            f"{qualified(SCHEMA, name)} RETURNING {listed}) SELECT {sums} FROM back x",
        )[0]
    except DBAPIError as error:
        raise Refused(
            "conflict", f"the rows do not fit into {found} as it is now: {words_of(error)}. Nothing was put back."
        ) from None
    if here != there or here["rows"] != rows:
        raise Refused("changed", f"{found} changed rows as they were inserted. Nothing was put back.")
    for unit in units:
        files = work.home.control.archive.files(work.system.name, work.name, unit_id=unit.id)
        ask(
            connection,
            "INSERT INTO maintenance_archive.ledger (unit_id, act, relation, lower, upper, rows, actor) VALUES "
            "(%(unit)s, 'returned', %(relation)s, %(lower)s, %(upper)s, %(rows)s, %(actor)s) RETURNING 1",
            unit=unit.id, relation=str(found), lower=unit.lower, upper=unit.upper,
            rows=sum(file.rows for file in files), actor=work.owner,
        )  # fmt: skip


def drill(work: Work, unit: UnitRow) -> Restored:
    """Restore one unit, compare it with what was archived, and remove it again (V12)."""
    name = f"drill_{uuid.uuid4().hex[:12]}"
    try:
        return restore(work, [unit], DRILL, name)
    finally:
        with archive_database(work.system, work.home, write=True).transaction() as connection:
            act(connection, f"DROP TABLE IF EXISTS {qualified(DRILL, name)} RESTRICT")
