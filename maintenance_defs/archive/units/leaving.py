"""Rows leave their table: only what is proven and catalogued, and only while it is still what was proven (V1, V2).

catalogued -> detached -> removed for a partition, catalogued -> removing -> removed row by row. A partition is read
where it is until it is `detached`; while rows leave one by one the table's word counts, then the archive's (V6).
Source: S4-45; archive_design 4 and 5; archive hazards A1-A6, C41, D51-D69, F78-F82.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.objects import archive_stores, fetch
from maintenance_defs.archive.plans.periods import told_otherwise
from maintenance_defs.archive.plans.survey import Survey, counted, survey
from maintenance_defs.archive.rows.columns import read_columns
from maintenance_defs.archive.rows.digest import Fingerprint, fingerprint
from maintenance_defs.archive.rows.part import Part, within
from maintenance_defs.archive.rows.row_ids import not_among, read_row_ids, write_kept
from maintenance_defs.archive.units.exporting import Work, again, look, partition_of, scopes_of, spool
from maintenance_defs.archive.units.registering import register_unit
from maintenance_defs.archive.units.replacing import write_again
from maintenance_defs.archive.units.versions import catalogued
from maintenance_defs.control.archive import UnitRow
from maintenance_defs.control.retention import Covering, Hold
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.quantities import count
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.catalog import read_partitioned
from maintenance_defs.databases.partitions.deleting import delete_rows, refuse_deleting
from maintenance_defs.databases.partitions.detaching import detach, repair
from maintenance_defs.databases.partitions.making import open_late_lane
from maintenance_defs.databases.partitions.parking import Parked, park
from maintenance_defs.databases.partitions.preflight import preflight
from maintenance_defs.databases.partitions.removing import drop_parked
from maintenance_defs.databases.partitions.sql import ask

RELATION = """
SELECT ARRAY[n.nspname::text, c.relname::text] AS name, c.relispartition AS attached
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = CAST(%(oid)s AS oid)
"""
TRIES = 3  # exports of a unit that keeps changing, in one run; the next run goes on


def agree(work: Work, unit: UnitRow, expired: Mapping[str, int]) -> UnitRow:
    """Remember what was agreed to go without being archived: rows by organisation. Raises Refused: changed, held."""
    unit = _current(work, unit)
    evidence = unit.evidence | {"agreed": dict(expired)}
    return _agreed(work.home.control.archive.advance(unit.id, work.owner, unit.state, evidence=evidence))


def _agreed(unit: UnitRow) -> UnitRow:
    """The unit, unless more of it would go without being archived than was agreed to (V14)."""
    agreed = unit.evidence.get("agreed", {})
    for group in unit.groups or []:
        if not group["kept"] and group["rows"] > agreed.get(group["organisation"], 0):
            raise Refused(
                "changed",
                f"{unit.words()} has {group['rows']:,} expired rows of {group['organisation']}, agreed were "
                f"{agreed.get(group['organisation'], 0):,}. Nothing more left its table: plan again.",
            )
    return unit


def _current(work: Work, unit: UnitRow) -> UnitRow:
    """The unit, exported again unless what would go without a copy is what may: nobody's time became longer since, and
    every row is still the same organisation's, told in the same way (V8). Raises Refused("held") where a hold covers
    any of its rows."""
    for _ in range(TRIES):
        holds = work.home.control.retention.holds(work.system.name)
        if hold := Covering(holds).hold_on(work.name, table=work.archive.table, row_id=unit.label):
            raise _held(unit, hold.words())
        otherwise = told_otherwise(unit, work.archive)
        elsewhere = work.archive.organisation is not None and work.archive.organisation.table is not None
        if unit.state == "removing" or not (otherwise or elsewhere or _uncopied(unit) or _row_holds(holds)):
            return unit
        if _may_go(work, unit, holds) and not otherwise:
            return unit
        unit = again(work, unit)
        register_unit(work, unit)
    raise _keeps_changing(unit)


def _uncopied(unit: UnitRow) -> list[str]:
    """Organisations with rows that leave without a copy, because their time is over."""
    return [group["organisation"] for group in unit.groups or [] if group["rows"] and not group["kept"]]


def _row_holds(holds: Sequence[Hold]) -> set[int]:
    return {one.id for one in holds if one.row_id is not None}


def _may_go(work: Work, unit: UnitRow, holds: Sequence[Hold]) -> bool:
    """Whether the unit's rows are whose they were and as over as they were. Raises Refused("held")."""
    with archive_database(work.system, work.home).snapshot() as snapshot:
        found, part = look(work, unit, snapshot)
        rows: dict[str, int] = {}
        for row in counted(snapshot, work.archive, part, read_columns(snapshot, part.oid), found.key, holds):
            if row["held"]:
                raise _held(unit, "a hold covers some of its rows")
            rows[row["organisation"]] = rows.get(row["organisation"], 0) + row["rows"]
    kept = scopes_of(work.archive, found.periods, rows, unit.upper, work.as_of)
    return {group["organisation"]: group["rows"] for group in unit.groups or []} == rows and not any(
        one in kept for one in _uncopied(unit)
    )


def _held(unit: UnitRow, why: str) -> Refused:
    return Refused("held", f"{unit.words()}: {why}. What has not left its table stays there.")


def leave(work: Work, unit: UnitRow) -> UnitRow:
    """Take a catalogued unit's rows out of their table. A detached partition waits to be dropped; it is left so.

    Raises Refused (blocked, referenced, no_key, changes_on, …) and Mismatch; rows are then where
    they were, or in both places, never in none.
    """
    if unit.state not in ("catalogued", "removing"):
        return unit
    register_unit(work, unit)
    database = archive_database(work.system, work.home, write=True)
    if unit.method == "rows":
        return _delete(work, database, unit)
    return _detach(work, database, unit)


def go_on(work: Work, unit: UnitRow) -> None:
    """Complete what a killed run left of a detach, so that the partition is either attached or parked (D52)."""
    if unit.method != "partition" or unit.left_at is not None:
        return
    database, partition = archive_database(work.system, work.home, write=True), partition_of(unit)
    repair(database, work.archive.table)
    with database.transaction() as connection:
        attached = read_partitioned(connection, work.archive.table).by_oid(partition.oid)
        there = ask(connection, RELATION, oid=partition.oid)
        if attached is None and there and not there[0]["attached"]:
            schema, name = there[0]["name"]
            _refuse_others(connection, Part(partition.oid, schema, name, work.archive.time, None, None), unit)
    if attached is None and there:
        _park(work, database, unit)


def _refuse_others(connection: Connection, part: Part, unit: UnitRow) -> None:
    """A table that somebody else detached takes rows of any time, and the archive has those of the month alone (V1).

    part: of the table, with no bounds.
    """
    mine = within(replace(part, lower=unit.lower, upper=unit.upper), read_columns(connection, part.oid))
    others = ask(connection, f"SELECT count(*) AS rows FROM {part.sql} t WHERE ({mine}) IS NOT TRUE")
    if number := others[0]["rows"]:
        raise Refused(
            "others",
            f"{part} was detached from {unit.table} and holds {count(number, 'row')} outside of {unit.label}, written "
            f"since. The table was kept, for they are in no file: move them where they belong, and run again.",
        )


def _detach(work: Work, database: ArchiveDatabase, unit: UnitRow) -> UnitRow:
    """Readers find the rows in the partition, attached or not, until `detached` says that the archive has them all."""
    partition = partition_of(unit)
    unit = _unchanged(work, unit)
    with database.transaction() as connection:
        table = read_partitioned(connection, work.archive.table)
        obstacles = preflight(connection, table, partition) if table.by_oid(partition.oid) is not None else []
    if obstacles:
        raise Refused(obstacles[0].code, " ".join(o.message for o in obstacles))
    detach(database, work.archive.table, partition, lane_of=unit.id)
    _park(work, database, unit)
    unit = _unchanged(work, unit)  # nobody can write to it any more
    unit = work.home.control.archive.advance(unit.id, work.owner, "detached", left_at=work.home.control.now())
    work.log(f"{unit.words()}: detached; its rows are read from the archive")
    return unit


def _park(work: Work, database: ArchiveDatabase, unit: UnitRow) -> None:
    with database.transaction() as connection:
        table = read_partitioned(connection, work.archive.table)
    park(database, table, partition_of(unit), unit.id)
    if table.default is None:  # else late rows have their place there; after our own detach it is open already
        open_late_lane(database, work.archive.table, unit.lower, unit.upper, unit.id)


def drop(work: Work, unit: UnitRow) -> UnitRow:
    """Drop a detached unit's table, after its files were fetched back once more and its rows compared under lock."""
    database = archive_database(work.system, work.home, write=True)
    for _ in range(TRIES):
        unit = _agreed(_current(work, unit))
        files_are_there(work, unit)
        expected = Fingerprint(unit.rows or 0, unit.fingerprint or "")
        work.home.control.archive.renew_unit(unit.id, work.owner, work.lease_seconds)
        try:
            drop_parked(database, unit.id, expected, partial(_contents, work, unit), actor=work.owner)
        except Refused as refused:
            if refused.reason != "differs":
                raise
            unit = again(work, unit)
            continue
        unit = work.home.control.archive.advance(unit.id, work.owner, "removed", removed_at=work.home.control.now())
        work.log(f"{unit.words()}: {count(expected.rows, 'row')} dropped from the database")
        return unit
    raise _keeps_changing(unit)


def files_are_there(work: Work, unit: UnitRow) -> None:
    """Fetch every live file of the unit back and compare its bytes (C41). Raises naming the key that is not."""
    files = work.home.control.archive.files(work.system.name, work.name, unit_id=unit.id)
    stores = archive_stores(work.system, work.home)
    with TemporaryDirectory(prefix="archive-", dir=spool(work.home)) as folder:
        for number, file in enumerate(files):
            back = Path(folder) / f"{number}.parquet"
            fetch(stores(file.store).reading, file.key, back, file.sha256, size_bytes=file.size_bytes)
            back.unlink()


def _delete(work: Work, database: ArchiveDatabase, unit: UnitRow) -> UnitRow:
    state, again_at_work = work.home.control.archive, unit.state == "removing"
    with database.snapshot() as snapshot:
        found = survey(snapshot, work.archive, count=False)
    if not again_at_work:
        # From `removing` on readers tell by the key what has left: without one they would see each row twice.
        refuse_deleting(database, unit.relation, found.key, work.archive.time, unit.lower, unit.upper)
        unit = _unchanged(work, unit)
        unit = state.advance(unit.id, work.owner, "removing", left_at=work.home.control.now())
    files_are_there(work, unit)
    known = _row_holds(work.home.control.retention.holds(work.system.name))
    longer = scopes_of(work.archive, found.periods, dict.fromkeys(_uncopied(unit)), unit.upper, work.as_of)
    spared = bool(_uncopied(unit)) and (bool(longer) or (again_at_work and bool(known)))

    def nothing_new_is_held() -> None:
        holds = work.home.control.retention.holds(work.system.name)
        if not _row_holds(holds) <= known or Covering(holds).hold_on(
            work.name, table=work.archive.table, row_id=unit.label
        ):
            raise _held(unit, "a hold was placed while its rows were leaving")

    done = delete_rows(
        database, unit.relation, found.key, read_row_ids(work.home, unit.row_ids, uncopied=not spared),
        unit_id=unit.id, time_column=work.archive.time, lower=unit.lower, upper=unit.upper, actor=work.owner,
        before_batch=nothing_new_is_held,
        progress=lambda _: state.renew_unit(unit.id, work.owner, work.lease_seconds),
    )  # fmt: skip
    if done.kept:
        _take_back(work, database, unit, found)
    unit = state.advance(unit.id, work.owner, "removed", removed_at=work.home.control.now())
    stay = f"; {count(done.kept, 'row')} had changed, and stayed" if done.kept else ""
    if spared:
        stay += "; rows that would have gone without a copy are kept longer or may be held now, and stayed"
    work.log(f"{unit.words()}: {count(done.deleted, 'row')} deleted from the database{stay}")
    return unit


def _take_back(work: Work, database: ArchiveDatabase, unit: UnitRow, found: Survey) -> None:
    """Rows that did not leave are not the archive's: they changed, or somebody else deleted them (F78, V6)."""
    state = work.home.control.archive
    with TemporaryDirectory(prefix="kept-", dir=spool(work.home)) as folder:
        keys = Path(folder) / "keys.parquet"
        write_kept(database, unit, found.columns, found.key, keys)
        for file in state.files(work.system.name, work.name, unit_id=unit.id):
            organisations = {group.organisation for group in state.groups([file.id])}
            gone = write_again(
                work, unit, file, drop=organisations, held=lambda kept: not_among(kept, found.key, keys),
                why="{n} rows that stayed in the table",
            )  # fmt: skip
            if gone is None:
                state.end_files([file.id], "superseded", "all of its rows stayed in the table")
    register_unit(work, unit)


def _unchanged(work: Work, unit: UnitRow) -> UnitRow:
    """The unit once its rows and columns are what was exported; exported again as often as it takes, a few times."""
    state = work.home.control.archive
    for _ in range(TRIES):
        with archive_database(work.system, work.home).snapshot() as snapshot:
            found, part = look(work, unit, snapshot)
            now = fingerprint(snapshot, part, found.columns)
        columns = state.schema_version(work.system.name, work.name, catalogued(part, found.columns))
        if (now.rows, now.total, columns) == (unit.rows, unit.fingerprint, unit.schema_version):
            return _agreed(unit)
        unit = again(work, unit)
        register_unit(work, unit)
    raise _keeps_changing(unit)


def _contents(work: Work, unit: UnitRow, connection: Connection, parked: Parked) -> Fingerprint:
    whole = Part(parked.oid, parked.schema, parked.name, work.archive.time, None, None)
    _refuse_others(connection, whole, unit)
    return fingerprint(connection, whole, read_columns(connection, parked.oid))


def _keeps_changing(unit: UnitRow) -> Refused:
    return Refused(
        "changes_on",
        f"rows of {unit.words()} changed during each of {TRIES} exports. They are where they were; run it again when "
        f"fewer writers are at work on a month that long ended.",
    )
