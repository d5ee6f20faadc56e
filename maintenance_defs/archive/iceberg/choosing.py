"""Which live files an Iceberg table of an archive names, and which columns it has.

In it are the months that have left their table: detached ones, and removed ones. A month that is archived and still in
its table is read there, so that table and Iceberg table together have each row once (V6); one whose rows are leaving
one by one comes when the last of them has left.

Columns are unified as in the views, as far as Iceberg's readers can do that while they read: a column that a file lacks
is null, integers, floats and decimals are widened. Where an older file's column would have to be cast or renamed, the
file is left out and named: a reader would fail on it, or take one thing for another (H106, H108).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from maintenance_defs.archive.iceberg.standing import LeftOut
from maintenance_defs.archive.reading.dataset import by_version
from maintenance_defs.archive.reading.door import Door
from maintenance_defs.archive.reading.shapes import Field, shape
from maintenance_defs.control.archive import FileRow, UnitRow
from maintenance_defs.core.errors import Refused


@dataclass(frozen=True)
class Chosen:
    """files: to be in the table, with these columns. in_table: labels of months whose rows are in their table."""

    files: tuple[FileRow, ...]
    columns: pa.Schema
    left_out: tuple[LeftOut, ...]
    in_table: tuple[str, ...]

    @property
    def by_month(self) -> bool:
        """Whether every file lies in one UTC month, as its rows' times say."""
        return all(
            file.first_at is not None
            and file.last_at is not None
            and (file.first_at.year, file.first_at.month) == (file.last_at.year, file.last_at.month)
            for file in self.files
        )


def choose(door: Door) -> Chosen:
    """What the catalogue says now; `door` has just been opened.

    Raises Refused where no reader could tell two columns from each other.
    """
    state = door.home.control.archive
    live = state.files(door.system.name, door.name)
    units = {unit.id: unit for unit in state.units(door.system.name, door.name)}  # after the files: they have theirs
    gone = [file for file in live if _has_left(units[file.unit_id])]
    here = dict.fromkeys(units[file.unit_id].label for file in live if not _has_left(units[file.unit_id]))
    listed = by_version(gone)
    fields = door.fields()
    taken, why = fitting(fields, list(listed))
    form = shape({version: fields[version] for version in taken or list(fields)})
    _told_apart(door, form.schema.names)
    files = [file for file in gone if file.schema_version in taken]
    left_out = [LeftOut(file, why[file.schema_version]) for file in gone if file.schema_version in why]
    return Chosen(tuple(files), form.schema, tuple(left_out), tuple(here))


def _has_left(unit: UnitRow) -> bool:
    return unit.left_at is not None and unit.state != "removing"


def fitting(fields: Mapping[int, Sequence[Field]], versions: Sequence[int]) -> tuple[list[int], dict[int, str]]:
    """The versions of `versions` that readers can bring under the newest of them, in order; and why not the others."""
    taken: list[int] = []
    why: dict[int, str] = {}
    for version in sorted(versions, reverse=True):
        newest = taken[-1] if taken else version
        # With the versions in between, of which no file may be left: what was dropped meanwhile is another column.
        between = shape({n: listed for n, listed in sorted(fields.items()) if version <= n <= newest})
        apart = [s.field for s in between.versions[version] if s.field is not None and s.field != s.column]
        if apart:
            why[version] = f"column {', '.join(sorted(apart))} has another type or meaning since"
            continue
        narrow = _not_widened(fields, [version, *taken])
        if narrow:
            why[version] = f"column {', '.join(narrow)} has another type since, which readers of Iceberg do not cast to"
            continue
        taken.insert(0, version)
    return taken, why


def _not_widened(fields: Mapping[int, Sequence[Field]], versions: Sequence[int]) -> list[str]:
    """Columns that some of these versions have in a type that is not read as that of them all."""
    whole = shape({version: fields[version] for version in versions})
    found: dict[str, None] = {}
    for version, sources in whole.versions.items():
        types = {field.name: field.type for field in fields[version]}
        for source, target in zip(sources, whole.schema, strict=True):
            if source.field is not None and not widens(types[source.field], target.type):
                found[target.name] = None
    return list(found)


def widens(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether Iceberg reads values of the first type as the second."""
    if one == other:
        return True
    if pa.types.is_list(one) and pa.types.is_list(other):
        return widens(one.value_type, other.value_type)
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return bool(one.bit_width <= other.bit_width)
    if pa.types.is_decimal(one) and pa.types.is_decimal(other):
        return bool(one.scale == other.scale and one.precision <= other.precision)
    return bool(one == pa.float32() and other == pa.float64())


def _told_apart(door: Door, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise Refused(
                "same_but_for_case",
                f"the columns {other!r} and {name!r} of {door.archive.table} differ in letter case alone, which Spark "
                f"and Trino do not tell apart. No Iceberg table was made or changed; the archive itself is read as "
                f"before.",
            )
