"""What holds say about an archive: whole files, or single rows of them, that must stay (G93).

A row is named by its id, or by its value of the lookup column: a hold on a job covers the job's rows. What a hold
means is read loosely, which only ever keeps more.
"""

from __future__ import annotations

import json
from datetime import datetime

import pyarrow as pa

from maintenance_defs.archive.rows.columns import Column
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import Covering, Hold
from maintenance_defs.core.archive import Archive
from maintenance_defs.reconcile.calculator import literal

SAME_TEXT = ("int2", "int4", "int8", "oid", "uuid", "bool")


class Holding:
    """The open holds of a moment, asked about one archive."""

    def __init__(self, home: Home, system: str, name: str, archive: Archive) -> None:
        self._archive, self._name = archive, name
        self._holds = home.control.retention.holds(system)
        self._covering = Covering(self._holds)

    def on_table(self) -> Hold | None:
        """One on anything of the table, be it a single row."""
        return next(iter(self._on_rows()), None)

    def on_file(self, file: FileRow) -> Hold | None:
        """One that covers the file whole: its object, its store, the table or the system."""
        whole = (self._covering.hold_on(self._name, store=file.store, key=file.key),
                 self._covering.hold_on(self._name, table=self._archive.table))  # fmt: skip
        return whole[0] or whole[1]

    def placed_since(self, at: datetime) -> Hold | None:
        """One on anything of the table that is younger: it may mean rows that only an ended file still holds."""
        return next((one for one in self._on_rows() if one.placed_at >= at), None)

    @property
    def rows(self) -> tuple[str, ...]:
        """Row ids and values of the lookup column, as people wrote them."""
        return tuple(sorted({hold.row_id for hold in self._on_rows() if hold.row_id is not None}))

    def _on_rows(self) -> list[Hold]:
        table = self._archive.table
        return [one for one in self._holds if Covering([one]).hold_on(self._name, table=table, row_id=one.row_id)]


def held_rows(kept: KeptFile, rows: tuple[str, ...], lookup: str | None, id: tuple[str, ...]) -> str:
    """SQL that is true for the rows of a file that these row ids may mean.

    lookup, id: columns. Of an id of several columns those count whose text is the same everywhere (not instants,
    which every reader writes in another way). Where no column can be compared, every row counts.
    """
    ways: list[str] = []
    for said in rows:
        parts = parts_of(said, id)
        if parts is not None:
            same = [_equal(kept, column, part) for column, part in zip(id, parts, strict=True)]
            known = [one for one in same if one is not None]
            ways.append(" AND ".join(known) if known else "true")
        columns = [name for name in (lookup, *id) if name is not None]
        equal = [_equal(kept, name, said) for name in columns]
        ways += [one for one in equal if one is not None]
        if all(one is None for one in equal) and parts is None:
            ways.append("true")
    return " OR ".join(f"({way})" for way in dict.fromkeys(ways)) or "false"


def parts_of(said: str, id: tuple[str, ...]) -> list[str | None] | None:
    """The texts of a row id of several columns, which is a JSON list; None for another one."""
    if len(id) < 2 or not said.lstrip().startswith("["):
        return None
    try:
        parts = json.loads(said)
    except ValueError:
        return None
    if not isinstance(parts, list) or len(parts) != len(id):
        return None
    return [None if part is None else str(part) for part in parts]


def same_text(column: Column) -> bool:
    """Whether every reader writes the column's values in the same way."""
    return pa.types.is_string(column.form.arrow) or column.builtin in SAME_TEXT


def _equal(kept: KeptFile, name: str, said: str | None) -> str | None:
    """SQL that compares a column's text with what a hold says; None where the two may be written differently."""
    column = kept.columns.get(name)
    if column is None:
        return None
    field, companion = kept.fields(name)
    if said is None:
        return f"{field} IS NULL"
    if companion is not None or not same_text(column):
        return None
    return f"coalesce(lower(trim({kept.text(name)})) = lower(trim({literal(said)})), false)"
