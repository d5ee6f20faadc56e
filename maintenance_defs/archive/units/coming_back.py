"""Rows that left their table once and are in it again are not archived a second time: they would count twice (V6).

A backup may bring them back, with all that the database knew of their leaving, or a hand writes them again. They are
known by their key in the files of rows that left; where a table has no key, by an organisation's rows of a month all
being there again. What they are in the table for, nobody here can know: such a month stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs

from maintenance_defs.archive.plans.survey import Survey
from maintenance_defs.archive.reading.dataset import ArchiveFiles, by_version, data_set, version_schema
from maintenance_defs.archive.reading.door import Door
from maintenance_defs.archive.reading.shapes import shape
from maintenance_defs.archive.reading.views import exposed, union
from maintenance_defs.archive.rows.digest import GroupStat
from maintenance_defs.archive.rows.writing import Written
from maintenance_defs.control.archive import FileRow, UnitRow
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.quantities import count
from maintenance_defs.databases.partitions.catalog import PartitionedTable
from maintenance_defs.databases.partitions.ours import was_removed
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import quote
from maintenance_defs.reconcile.calculator import calculator, one


def refuse_set_back(units: Sequence[UnitRow], unit: UnitRow, snapshot: PostgresSnapshot, found: Survey) -> None:
    """Raises Refused("set_back") where an earlier part of the unit has left, and the database does not know it.

    units: of the archive.
    """
    for other in units:
        if (other.source, other.lower, other.upper) != (unit.source, unit.lower, unit.upper) or other.part >= unit.part:
            continue
        attached = isinstance(found.table, PartitionedTable) and found.table.by_oid(other.relation_oid) is not None
        parked_again = other.state == "detached" and other.method == "partition" and attached
        if parked_again or (other.state == "removed" and was_removed(snapshot.connection, other.id) is None):
            raise Refused(
                "set_back",
                f"{other.words()} left {other.table}, and the database does not know it: it was set back to a time "
                f"before, or a restore was cut off. Nothing was archived, for its rows would count twice. Run the "
                f"restore again; after a backup, compare the rows with the archive's, and delete from the table what "
                f"came back.",
            )


def refuse_archived(
    door: Door, unit: UnitRow, key: Sequence[str], version: int, groups: Mapping[str, GroupStat],
    written: Sequence[Written], folder: Path,
) -> None:  # fmt: skip
    """Raises Refused("set_back") where rows about to be stored are in the archive already, of rows that left.

    key: columns that identify a row; none where there are none. groups: of the rows in `written`, by organisation.
    Only files whose times meet the unit's are looked at, and of them the key's columns: none for the first part of a
    month. Raises FileDamaged where one cannot be read.
    """
    control = door.home.control.archive
    left = {other.id for other in control.units(door.system.name, door.name) if other.left_at is not None}
    files, _ = door.readable(control.files(door.system.name, door.name))
    near = [file for file in files if file.unit_id in left - {unit.id} and _meets(file, unit)]
    if not near or not written:
        return
    again = _same_keys(door, near, key, version, written, folder) if key else _same_groups(door, near, groups)
    if again:
        named = f"by {', '.join(key)}" if key else "an organisation's rows of a month, all of them"
        raise Refused(
            "set_back",
            f"{count(again, 'row')} of {unit.words()} left {unit.table} before and are in the archive ({named}): a "
            f"backup brought them back, or they were written again. Nothing was archived, for they would count twice. "
            f"Compare them with the archive's, and delete from the table what came back. Who wants to change archived "
            f"rows puts their month back first: maintain archive restore {unit.system} {unit.archive} {unit.label} "
            f"--in-place.",
        )


def _meets(file: FileRow, unit: UnitRow) -> bool:
    return file.first_at is None or file.last_at is None or (file.first_at < unit.upper and file.last_at >= unit.lower)


def _same_keys(
    door: Door, files: Sequence[FileRow], key: Sequence[str], version: int, written: Sequence[Written], folder: Path
) -> int:
    """How many rows of these files have the key of a row that is written."""
    fields, handler = door.fields(), ArchiveFiles()
    listed = by_version(files)
    form = shape({number: fields[number] for number in sorted({*listed, version})})
    shown = dict(zip(form.schema.names, exposed(form.schema.names), strict=True))
    same = " AND ".join(f"n.{quote(shown[name])} = o.{quote(shown[name])}" for name in key)
    with calculator(folder / "keys") as con:
        con.register("new", _local(written, version_schema(fields[version])))
        for number, rows in listed.items():
            con.register(f"old_{number}", data_set(door, rows, version_schema(fields[number]), handler))
        old = union(form, [(number, f"old_{number}") for number in listed], fields)
        new = union(form, [(version, "new")], fields)
        try:
            # The new rows are the fewer: they are held, the archived ones stream by.
            sql = f"SELECT count(*) FROM ({old}) o WHERE EXISTS (SELECT 1 FROM ({new}) n WHERE {same})"
            return int(one(con, sql)[0])
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise handler.failed or Refused(
                "not_compared",  # in no words of DuckDB: they may quote a value
                f"{count(sum(file.rows for file in files), 'archived row')} could not be compared with those about to "
                f"be archived ({type(error).__name__}). Nothing was archived; run again.",
            ) from None


def _local(written: Sequence[Written], schema: pa.Schema) -> ds.Dataset:
    """The files that were just written, and are not stored yet."""
    here = fs.LocalFileSystem()
    forms = [
        ds.ParquetFileFormat(
            default_fragment_scan_options=ds.ParquetFragmentScanOptions(
                decryption_properties=file.encryption and file.encryption.reading()
            )
        )
        for file in written
    ]
    fragments = [form.make_fragment(str(file.path), here) for form, file in zip(forms, written, strict=True)]
    return ds.FileSystemDataset(fragments, schema, ds.ParquetFileFormat(), here)


def _same_groups(door: Door, files: Sequence[FileRow], groups: Mapping[str, GroupStat]) -> int:
    """How many rows belong to organisations whose rows are, to the last value, what one unit holds of them."""
    held: dict[tuple[str, str], GroupStat] = {}
    unit_of = {file.id: file.unit_id for file in files}
    for group in door.home.control.archive.groups(list(unit_of)):
        stat = GroupStat(group.rows, group.high, group.low)
        place = (unit_of[group.file_id], group.organisation)
        held[place] = held[place] + stat if place in held else stat
    known = {(owner, stat.rows, stat.hi, stat.lo) for (_, owner), stat in held.items()}
    return sum(stat.rows for owner, stat in groups.items() if (owner, stat.rows, stat.hi, stat.lo) in known)
