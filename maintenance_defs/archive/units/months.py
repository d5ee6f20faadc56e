"""The months of an archive: those that the database really has and are cold, and how far each one came.

A month is called by the UTC label of a real lower bound ('2025-10'); nothing is counted up from a calendar (V7).
Source: A4-2; archive hazards E71, I119, I123.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from maintenance_defs.archive.declared import find_archive
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.plans.survey import survey
from maintenance_defs.archive.units.exporting import LEFT
from maintenance_defs.control.archive import FileRow, UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_instant

Bounds = tuple[datetime, datetime]
UNPROVEN = ("planned", "exported", "verified")  # states in which an export is not finished


@dataclass(frozen=True)
class ColdMonth:
    """Rows that may be exported and are not. cause: names these rows, so that they are exported for it once."""

    label: str
    cause: str


@dataclass(frozen=True)
class MonthState:
    """What is recorded of one month. files: live ones; a month may be in several units (late rows: another part)."""

    label: str
    units: tuple[UnitRow, ...]
    files: tuple[FileRow, ...]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def heap_bytes(self) -> int:
        """As the partitions were; 0 where rows leave one by one, and no number belongs to them alone."""
        return sum(unit.heap_bytes or 0 for unit in self.units)

    @property
    def seconds(self) -> float:
        return round(sum(sum(unit.evidence.get("seconds", {}).values()) for unit in self.units), 3)

    @property
    def stopped(self) -> UnitRow | None:
        """The first unit that did not go on; its message says why."""
        return next((unit for unit in self.units if unit.message), None)

    def words(self) -> list[str]:
        """Where the rows are, a sentence for each unit."""
        return [f"{unit.words()}: {_where(unit)}" for unit in self.units]


def cold_months(system: System, name: str, home: Home, as_of: datetime) -> list[ColdMonth]:
    """Months that are cold and whose rows are in no proven file, by the partitions' bounds.

    It reads the catalog, not the table; rows of no bounded partition are known from the newest plan.
    Raises Refused, SourceUnavailable.
    """
    archive = find_archive(system, name)
    with archive_database(system, home).snapshot() as snapshot:
        found = survey(snapshot, archive, count=False)
    units = home.control.archive.units(system.name, name)
    newest = {(unit.lower, unit.upper): unit for unit in units if unit.source == found.source}
    cold: dict[str, ColdMonth] = {}
    for span in found.spans:
        unit = newest.get((span.lower, span.upper))
        if span.upper <= as_of - archive.hot and (unit is None or unit.state in UNPROVEN):
            _add(cold, span.label, found.source, (span.lower, span.upper), unit)
    plan = newest_plan(system, name, home)
    for planned in plan.totals["spans"] if plan is not None and plan.totals["source"] == found.source else ():
        bounds = (datetime.fromisoformat(planned["lower"]), datetime.fromisoformat(planned["upper"]))
        unit = newest.get(bounds)
        late = unit is not None and unit.state in LEFT and planned["rows"] and _before(unit, plan)
        if unit is None or unit.state in UNPROVEN or late:
            _add(cold, planned["label"], found.source, bounds, unit)
    return [cold[cause] for cause in sorted(cold)]


def months_on_offer(system: System, name: str, home: Home, cold: Iterable[ColdMonth] = ()) -> list[str]:
    """Labels of the cold months: those given, those of the newest plan, and all that are recorded."""
    labels = {month.label for month in cold}
    labels |= {unit.label for unit in home.control.archive.units(system.name, name)}
    plan = newest_plan(system, name, home)
    labels |= {span["label"] for span in plan.totals["spans"]} if plan is not None else set()
    return sorted(labels)


def month_state(system: System, name: str, home: Home, label: str) -> MonthState:
    """What is recorded of the month; no units where nothing is."""
    units = tuple(unit for unit in home.control.archive.units(system.name, name) if unit.label == label)
    mine = {unit.id for unit in units}
    files = tuple(file for file in home.control.archive.files(system.name, name) if file.unit_id in mine)
    return MonthState(label, units, files)


def newest_plan(system: System, name: str, home: Home) -> PlanRow | None:
    """The last one of what would leave the table."""
    plans = home.control.retention.plans(system.name, name)
    return next((plan for plan in plans if plan.totals.get("only") != "expiry"), None)


def how_to_retry(system: System, name: str, label: str) -> str:
    return f"maintain archive run {system.name} {name} --month {label}"


def _before(unit: UnitRow, plan: PlanRow | None) -> bool:
    """Whether the plan was made after the unit's rows had left: what it saw there are others."""
    return plan is not None and unit.left_at is not None and unit.left_at < plan.created_at


def _add(cold: dict[str, ColdMonth], label: str, source: str, bounds: Bounds, unit: UnitRow | None) -> None:
    part = 0 if unit is None else unit.part + (unit.state in LEFT)
    whose = hashlib.sha256(source.encode()).hexdigest()[:8]  # another database has its own months (G103)
    cause = f"{bounds[0]:%Y%m%dT%H%M%SZ}-{bounds[1]:%Y%m%dT%H%M%SZ}-{part}-{whose}"
    cold[cause] = ColdMonth(label, cause)


def _where(unit: UnitRow) -> str:
    if unit.state in ("removed", "expired"):
        when = f" on {format_instant(unit.removed_at)}" if unit.removed_at else ""
        return f"left the database{when}" + ("; its files have expired since" if unit.state == "expired" else "")
    if unit.state == "detached":
        return "detached from its table; it can be put back until it is dropped"
    if unit.state == "removing":
        return "rows are leaving their table"
    if unit.state == "catalogued":
        return "in proven files; its rows are in their table as well"
    return f"not proven yet ({unit.state})"
