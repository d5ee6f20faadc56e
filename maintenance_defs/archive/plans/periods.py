"""How long each organisation's archived rows are kept: the longest of floor and what was said for it (V8).

What is said wrongly is listed and never shortens anything; nobody's rows are kept longest.
Source: S4-43, S4-47, S4-70, S4-80; archive hazards G88, G90, G91, G92; A4-13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from maintenance_defs.control.archive import UnitRow
from maintenance_defs.core.archive import FOREVER, PHI_FLOOR, UNKNOWN, Archive, ColumnArchive, parse_keep
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.quantities import format_duration
from maintenance_defs.databases.postgres import PostgresSnapshot

MANY = 1_000_000  # organisations; more is no table of organisations


@dataclass(frozen=True)
class Invalid:
    """Something said for an organisation that cannot be meant."""

    organisation: str
    said: str
    why: str


@dataclass(frozen=True)
class Periods:
    """Ages from the row's own time after which rows of an organisation expire; None: never.

    own: only organisations for which something valid was said.
    """

    default: timedelta | None
    own: Mapping[str, timedelta | None] = field(default_factory=dict)
    invalid: tuple[Invalid, ...] = ()
    floor: timedelta = timedelta(0)

    def of(self, organisation: str) -> timedelta | None:
        if organisation == UNKNOWN:
            return self._longest()
        age = self.own.get(organisation, self.default)
        return None if age is None else max(age, self.floor)

    def expired_before(self, organisation: str, as_of: datetime) -> datetime | None:
        """Rows of units that ended at this instant or earlier are expired; None: nothing ever is."""
        age = self.of(organisation)
        return None if age is None else as_of - age

    def words(self, organisation: str) -> str:
        """`365 d`, `forever`."""
        age = self.of(organisation)
        return FOREVER if age is None else format_duration(age)

    def class_of(self, organisation: str) -> str:
        """`r365`, `forever`: the label of files that expire together."""
        age = self.of(organisation)
        return FOREVER if age is None else f"r{age / timedelta(days=1):g}"

    def _longest(self) -> timedelta | None:
        ages = [self.default, *self.own.values()]
        return None if any(age is None for age in ages) else max(age for age in (*ages, self.floor) if age is not None)


def told(archive: Archive) -> dict[str, Any]:
    """What a unit remembers of its export: from where its rows' organisations were taken, and what is indexed."""
    whose = archive.organisation.words if archive.organisation else None
    return {"organisation": whose, "lookup": archive.lookup}


def told_otherwise(unit: UnitRow, archive: Archive, *names: str) -> bool:
    """Whether one of these, or of all that `told` says, was declared otherwise when the unit was exported."""
    now = told(archive)
    return any(unit.evidence.get(name, now[name]) != now[name] for name in names or now)


def period_of(unit: UnitRow, archive: Archive, organisation: str) -> str:
    """For whom to look up how long these rows of the unit are kept: nobody's, the longest, where it is not known."""
    return UNKNOWN if told_otherwise(unit, archive, "organisation") else organisation


def read_periods(snapshot: PostgresSnapshot, archive: Archive | ColumnArchive) -> Periods:
    """What the declaration and the organisations' table say at the snapshot's moment.

    A period shorter than `hot`, of 0 or less, or no whole number of days is listed as invalid, and the longer
    default holds. Raises SourceUnavailable where the table or a column is not there.
    """
    floor = PHI_FLOOR if archive.class_ == "phi" else timedelta(0)
    more = archive.hot if archive.keep_from == "archived" else timedelta(0)

    def whole(age: timedelta | None) -> timedelta | None:
        return None if age is None else age + more

    default = whole(archive.keep)
    own: dict[str, timedelta | None] = {}
    invalid: list[Invalid] = []
    known: set[str] | None = None
    if archive.keep_by is not None:
        rows = _rows(snapshot, archive)
        known = {row["id"] for row in rows}
        said_of: dict[str, list[timedelta | None]] = {}
        for row in rows:
            ages = said_of.setdefault(row["id"], [])
            try:
                ages.append(default if row["said"] is None else whole(_period(row["said"], archive, floor)))
            except ValueError as error:
                invalid.append(Invalid(row["id"], row["said"], str(error)))
                ages.append(default)  # which is longer: it is more than `hot`, and not below the floor
            if row["said"] is not None or row["id"] in own:
                own[row["id"]] = None if None in ages else max(age for age in ages if age is not None)
            if len(ages) == 2 and row["id"] in own:
                invalid.append(Invalid(row["id"], row["said"] or "NULL", "said more than once; the longest holds"))
    for organisation, age in archive.keep_for.items():
        own[organisation] = whole(age)
        if known is not None and organisation not in known:
            invalid.append(Invalid(organisation, format_duration(age) if age else FOREVER, "no such organisation"))
    return Periods(default, own, tuple(invalid), floor)


def _period(said: str, archive: Archive | ColumnArchive, floor: timedelta) -> timedelta | None:
    text = said.strip()
    age = parse_keep(f"{text} d" if text.isascii() and text.isdigit() else text)
    if age is None:
        return None
    if archive.keep_from == "written" and age < archive.hot:
        raise ValueError(f"{format_duration(age)} is shorter than the hot {format_duration(archive.hot)}")
    if age < floor:
        raise ValueError(f"{format_duration(age)} is below the floor of {format_duration(floor)}")
    return age


def _rows(snapshot: PostgresSnapshot, archive: Archive | ColumnArchive) -> list[dict[str, Any]]:
    said = archive.keep_by
    if said is None:
        return []
    table = snapshot.table(said.table)
    if table is None:
        raise SourceUnavailable(f"table {said.table} of keep_by does not exist. Nothing was planned.")
    for column in (said.id, said.days):
        if column not in table.columns:
            raise SourceUnavailable(f"{said.table} has no column {column!r}, which keep_by names. Nothing was planned.")
    quote = snapshot.quote
    return snapshot.rows(
        f"SELECT {quote(said.id)}::text AS id, {quote(said.days)}::text AS said "
        f"FROM {quote(table.schema or 'public')}.{quote(table.name)} WHERE {quote(said.id)} IS NOT NULL",
        limit=MANY,
    )
