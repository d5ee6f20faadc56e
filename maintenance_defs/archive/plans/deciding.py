"""What of an archive may leave its table, expire or be dropped at an instant, and why the rest stays.

Source: A4-1, A4-6, A4-13; archive hazards E73, G90, G93, G103; V8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from maintenance_defs.archive.plans.periods import Periods, period_of
from maintenance_defs.archive.plans.survey import Span, Survey
from maintenance_defs.control.archive import FileRow, UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import Covering
from maintenance_defs.core.archive import Archive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_duration, format_instant

Only = Literal["removal", "expiry"]  # what leaves its table, or what leaves the archive for good


@dataclass
class Lines:
    """What a survey came to: lines that are done when approved, and lines that stay."""

    items: list[dict[str, Any]] = field(default_factory=list)
    stays: list[dict[str, Any]] = field(default_factory=list)
    units: int = 0

    def begin(self) -> None:
        self.units += 1

    def add(self, act: str, span: Mapping[str, Any], organisation: str, rows: int, reason: str, **more: Any) -> None:
        line = {**span, "act": act, "organisation": organisation, "rows": rows, "reason": reason, "size_bytes": 0}
        self.items.append({**line, "unit": self.units - 1, **more})

    def of(self, only: Only) -> Lines:
        """Those of one kind, their units numbered anew. What stays is told as it is."""
        some = [line for line in self.items if (line["act"] == "expire_file") == (only == "expiry")]
        numbers = {unit: number for number, unit in enumerate(sorted({line["unit"] for line in some}))}
        return Lines([{**line, "unit": numbers[line["unit"]]} for line in some], self.stays, len(numbers))

    def stay(self, why: str, span: Mapping[str, Any], organisation: str, rows: int, reason: str) -> None:
        self.stays.append({**span, "why": why, "organisation": organisation, "rows": rows, "reason": reason})


def decide(system: System, name: str, home: Home, found: Survey, as_of: datetime) -> Lines:
    """What may leave, expire or be dropped at `as_of`, and why the rest stays."""
    archive = system.archives[name]
    state = home.control.archive
    lines = Lines()
    covering = home.control.retention.covering(system.name)
    units = [unit for unit in state.units(system.name, name) if unit.source == found.source]
    newest = {(unit.lower, unit.upper): unit for unit in units}  # the last part of each
    for span in found.spans:
        _decide_span(lines, archive, name, span, found.periods, newest.get((span.lower, span.upper)), covering, as_of)
    there = {span.part.oid for span in found.spans}
    for unit in units:
        if unit.method == "partition" and unit.left_at is None and unit.relation_oid not in there:
            _decide_broken_off(lines, unit)
        if unit.state == "detached" and unit.left_at is not None:
            _decide_drop(lines, archive, unit, as_of, covering, name)
    by_id = {unit.id: unit for unit in units}
    for file in state.files(system.name, name):
        if file.unit_id in by_id:  # another database's files are not ours to expire (G103)
            _decide_file(lines, home, archive, name, file, by_id[file.unit_id], found.periods, as_of, covering)
    return lines


def _decide_span(
    lines: Lines,
    archive: Archive,
    name: str,
    span: Span,
    periods: Periods,
    known: UnitRow | None,
    covering: Covering,
    as_of: datetime,
) -> None:
    said = {"label": span.label, "lower": span.lower, "upper": span.upper, "relation": str(span.part)}
    if span.upper > as_of - archive.hot:
        for organisation, rows in span.rows.items():
            lines.stay("hot", said, organisation, rows, f"hot for {format_duration(archive.hot)} after its month")
        return
    if not span.total and (known is not None and known.left_at is not None):
        return  # a late lane in which nothing has arrived
    if known is not None and known.left_at is None and known.relation_oid != span.part.oid:
        return  # the late lane of a month that a killed run was taking out
    hold = covering.hold_on(name, table=archive.table, row_id=span.label)
    if hold is not None or span.held is not None:
        why = hold.words() if hold is not None else f"a hold covers {span.held}"
        for organisation, rows in span.rows.items() or [("", 0)]:
            lines.stay("held", said, organisation, rows, why)
        return
    lines.begin()
    going = known is not None and known.left_at is None
    unit_id = known.id if known is not None and going else None
    if not span.rows:
        lines.add("archive", said, "", 0, "an empty month: only its partition leaves", unit_id=unit_id)
    for organisation, rows in span.rows.items():
        before = periods.expired_before(organisation, as_of)
        if before is not None and span.upper <= before:
            reason = f"older than {periods.words(organisation)}"
            lines.add("expire_rows", said, organisation, rows, reason, unit_id=unit_id)
        else:
            reason = f"cold for {format_duration(archive.hot)}; kept {periods.words(organisation)}"
            lines.add("archive", said, organisation, rows, reason, unit_id=unit_id)


def _decide_broken_off(lines: Lines, unit: UnitRow) -> None:
    """A run was killed after it had detached the partition: what it was allowed to do is completed."""
    said = {"label": unit.label, "lower": unit.lower, "upper": unit.upper, "relation": unit.relation}
    lines.begin()
    for group in unit.groups or [{"organisation": "", "rows": unit.rows or 0, "kept": True}]:
        act = "archive" if group["kept"] else "expire_rows"
        reason = "detached by a run that was broken off; its rows are still in the database"
        lines.add(act, said, group["organisation"], group["rows"], reason, unit_id=unit.id)


def _decide_drop(lines: Lines, archive: Archive, unit: UnitRow, as_of: datetime, covering: Covering, name: str) -> None:
    said = {"label": unit.label, "lower": unit.lower, "upper": unit.upper, "relation": unit.relation}
    due = unit.left_at + archive.undo_window if unit.left_at else as_of
    if hold := covering.hold_on(name, table=archive.table, row_id=unit.label):
        lines.stay("held", said, "", unit.rows or 0, hold.words())
    elif due > as_of:
        until = format_instant(due.replace(microsecond=0))
        lines.stay("waits", said, "", unit.rows or 0, f"detached; can be put back until {until}")
    else:
        lines.begin()
        reason = f"detached since {format_instant(unit.left_at or as_of)}; its rows are in the archive"
        lines.add("drop", said, "", unit.rows or 0, reason, unit_id=unit.id, size_bytes=unit.heap_bytes or 0)


def _decide_file(
    lines: Lines,
    home: Home,
    archive: Archive,
    name: str,
    file: FileRow,
    unit: UnitRow,
    periods: Periods,
    as_of: datetime,
    covering: Covering,
) -> None:
    said = {"label": unit.label, "lower": unit.lower, "upper": unit.upper, "relation": unit.relation}
    groups = home.control.archive.groups([file.id])
    due = []
    for group in groups:
        before = periods.expired_before(period_of(unit, archive, group.organisation), as_of)
        if before is not None and unit.upper <= before:
            due.append(group)
    if not due or unit.left_at is None:
        return  # rows that are still in the table expire with it
    hold = covering.hold_on(name, store=file.store, key=file.key) or covering.hold_on(
        name, table=archive.table, row_id=unit.label
    )
    if hold is not None:
        for group in due:
            lines.stay("held", said, group.organisation, group.rows, hold.words())
        return
    lines.begin()
    for group in due:
        share = round(file.size_bytes * group.rows / file.rows) if file.rows else file.size_bytes
        reason = f"older than {periods.words(period_of(unit, archive, group.organisation))}"
        lines.add(
            "expire_file", said, group.organisation, group.rows, reason,
            unit_id=unit.id, file_id=file.id, key=file.key, size_bytes=share,
        )  # fmt: skip
