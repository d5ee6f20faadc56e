"""How far the months of an archive came, what comes next and when, and why one stopped; as JSON of a stable shape.

The control database says what was done, the source database what is there now: partitions, a detach that was begun
and not finished, how long each organisation's rows are kept.
Source: hazards D52, I118, I119, I123; V4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from maintenance_defs.archive.declared import find_archive
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.plans.periods import Periods, period_of
from maintenance_defs.archive.plans.survey import Survey, survey
from maintenance_defs.archive.units.copies import Copy, find_copies
from maintenance_defs.control.archive import FileRow, Group, UnitRow
from maintenance_defs.control.archive.values import STATES as VALUE_STATES
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import FOREVER, Archive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.quantities import format_duration, format_instant
from maintenance_defs.core.retention_rules import enabled_by
from maintenance_defs.databases.partitions.catalog import PartitionedTable

IN_THE_ARCHIVE = ("proven", "slimmed", "restored")  # states of values whose object is proven and still needed
ON_THE_WAY = ("planned", "exported", "verified")
SHORT = 8


@dataclass(frozen=True)
class Seen:
    """The source database at one moment; message: why it could not be asked."""

    survey: Survey | None = None
    message: str | None = None
    copies: tuple[Copy, ...] = ()

    @property
    def pending(self) -> list[str]:
        table = self.survey.table if self.survey else None
        found = table.partitions if isinstance(table, PartitionedTable) else ()
        return [f"{one.schema}.{one.name}" for one in found if one.detach_pending]


def look(system: System, name: str, home: Home) -> Seen:
    """The partitions and periods as they are now; no rows are counted."""
    try:
        with archive_database(system, home).snapshot() as snapshot:
            copies = tuple(find_copies(snapshot, system.name, name))
            return Seen(survey(snapshot, system.archives[name], count=False), copies=copies)
    except MaintenanceError as error:
        return Seen(message=str(error))


def status_facts(system: System, name: str, home: Home, as_of: datetime, seen: Seen | None = None) -> dict[str, Any]:
    """One archive. as_of: the instant by which a month is hot or cold. Raises Refused for an unknown name."""
    archive = find_archive(system, name)
    seen = seen or look(system, name, home)
    state = home.control.archive
    units = state.units(system.name, name)
    files = state.files(system.name, name)
    groups = state.groups([file.id for file in files])
    of_unit: dict[str, list[FileRow]] = {}
    for file in files:
        of_unit.setdefault(file.unit_id, []).append(file)
    of_file: dict[str, list[Group]] = {}
    for group in groups:
        of_file.setdefault(group.file_id, []).append(group)
    told = [
        _unit(system, name, home, unit, of_unit.get(unit.id, []), of_file, seen, as_of) for unit in units
    ]  # fmt: skip
    paused = home.control.retention.paused(system.name, name)
    heap = sum(unit["heap_bytes"] or 0 for unit in told if unit["ratio"] is not None)
    packed = sum(unit["size_bytes"] for unit in told if unit["ratio"] is not None)
    return {
        "system": system.name,
        "archive": name,
        "describe": archive.describe,
        "table": archive.table,
        "mode": archive.mode,
        "enabled": enabled_by(archive.enabled, archive.enabled_env, home.environment),
        "paused": paused.words() if paused else None,
        "as_of": format_instant(as_of),
        "hot": format_duration(archive.hot),
        "keep": FOREVER if archive.keep is None else format_duration(archive.keep),
        "undo_window": format_duration(archive.undo_window) if archive.undo_window else None,
        "units": told,
        "waiting": _waiting(archive, seen, units, as_of),
        "pending_detaches": seen.pending,
        "copies": [_copy(one) for one in seen.copies],
        "database": seen.message,
        "totals": {
            "units": len(told),
            "files": len(files),
            "rows": sum(file.rows for file in files),
            "size_bytes": sum(file.size_bytes for file in files),
            "heap_bytes": heap,
            "ratio": _ratio(packed, heap),
            "stopped": sum(unit["message"] is not None for unit in told),
            "states": {one: n for one in dict.fromkeys(unit["state"] for unit in told)
                       if (n := sum(unit["state"] == one for unit in told))},
        },
    }  # fmt: skip


def _copy(copy: Copy) -> dict[str, Any]:
    return {
        "table": f"{copy.schema}.{copy.name}",
        "month": copy.month,
        "restored_at": format_instant(copy.restored_at),
        "size_bytes": copy.size_bytes,
        "drop": f"DROP TABLE {copy.qualified};",
    }


def column_facts(system: System, name: str, home: Home) -> dict[str, Any]:
    """One archived column: how many values came how far, and how much room they take; of the recorded alone."""
    archive = system.archived_columns[name]
    counted = home.control.archive.count_values(system.name, name)
    paused = home.control.retention.paused(system.name, name)
    there = [numbers for state, numbers in counted.items() if state in IN_THE_ARCHIVE]
    return {
        "system": system.name,
        "archive": name,
        "describe": archive.describe,
        "table": archive.table,
        "column": archive.column,
        "mode": archive.mode,
        "enabled": enabled_by(archive.enabled, archive.enabled_env, home.environment),
        "paused": paused.words() if paused else None,
        "hot": format_duration(archive.hot),
        "keep": FOREVER if archive.keep is None else format_duration(archive.keep),
        "states": {state: counted[state][0] for state in VALUE_STATES if state in counted},
        "values": sum(n for n, _, _ in there),
        "size_bytes": sum(size for _, size, _ in there),
        "value_bytes": sum(whole for _, _, whole in there),
    }


def _unit(
    system: System,
    name: str,
    home: Home,
    unit: UnitRow,
    files: Sequence[FileRow],
    groups: Mapping[str, Sequence[Group]],
    seen: Seen,
    as_of: datetime,
) -> dict[str, Any]:
    archive = system.archives[name]
    size_bytes = sum(file.size_bytes for file in files)
    held = [group for file in files for group in groups.get(file.id, [])]
    what, at, who = _next(archive, unit, held, seen.survey.periods if seen.survey else None)
    busy = unit.lease_until is not None and unit.lease_until > home.control.now()
    return {
        "unit": unit.id,
        "month": unit.label,
        "part": unit.part,
        "relation": unit.relation,
        "lower": format_instant(unit.lower),
        "upper": format_instant(unit.upper),
        "method": unit.method,
        "state": unit.state,
        "generation": unit.generation,
        "rows": unit.rows,
        "archived_rows": sum(file.rows for file in files),
        "files": len(files),
        "organisations": len({group.organisation for group in held}),
        "heap_bytes": unit.heap_bytes or None,
        "size_bytes": size_bytes,
        "ratio": _ratio(size_bytes, unit.heap_bytes or 0) if files else None,
        "since": _second(unit.changed_at),
        "left_at": _second(unit.left_at),
        "removed_at": _second(unit.removed_at),
        "next": what,
        "next_at": _second(at),
        "next_organisation": who,
        "due": at is not None and at <= as_of,
        "at_work": unit.lease_owner if busy else None,
        "message": unit.message,
        "retry": _retry(system, name, home, unit) if unit.message else None,
        "another_database": bool(seen.survey) and seen.survey is not None and unit.source != seen.survey.source,
    }


def _next(
    archive: Archive, unit: UnitRow, held: Sequence[Group], periods: Periods | None
) -> tuple[str | None, datetime | None, str | None]:
    """The next step of a unit, from when on, and whose rows it concerns where not everybody's."""
    if unit.state in ON_THE_WAY:
        return "export", unit.upper + archive.hot, None
    if unit.state in ("catalogued", "removing"):
        return "leave", unit.upper + archive.hot, None
    if unit.state == "detached" and unit.left_at is not None:
        return "drop", unit.left_at + archive.undo_window, None
    if unit.state == "removed" and held:
        if periods is None:
            return "expire", None, None
        whose = {group.organisation: period_of(unit, archive, group.organisation) for group in held}
        ages = [(age, who) for who, known in whose.items() if (age := periods.of(known)) is not None]
        if ages:
            age, who = min(ages)
            return "expire", unit.upper + age, who if len(held) > 1 else None
    return None, None, None


def _retry(system: System, name: str, home: Home, unit: UnitRow) -> str:
    """The command that goes on with a unit that stopped."""
    if unit.state in ON_THE_WAY and unit.left_at is None:
        return f"maintain archive run {system.name} {name} --month {unit.label}"
    for plan in home.control.retention.plans(system.name, name, ("partial", "approved"), limit=1):
        return f"maintain apply {plan.id[:SHORT]}"
    return f"maintain plan {system.name} {name}"


def run_facts(
    system: System, name: str, home: Home, *, month: str | None, as_of: datetime, began: datetime,
    failed: MaintenanceError | None,
) -> dict[str, Any]:  # fmt: skip
    """What `archive run` came to. archived: by this run; already: before it; stopped: with why, and how to go on."""
    seen = look(system, name, home)
    facts = status_facts(system, name, home, as_of, seen)
    mine = [unit for unit in facts["units"] if month in (None, unit["month"])]
    done = [unit for unit in mine if unit["message"] is None and unit["state"] not in ON_THE_WAY]
    fresh = {unit.id for unit in home.control.archive.units(system.name, name) if unit.changed_at >= began}
    return {
        "system": system.name,
        "archive": name,
        "as_of": format_instant(as_of),
        "month": month,
        "archived": [unit for unit in done if unit["unit"] in fresh and unit["state"] == "catalogued"],
        "already": [unit for unit in done if unit["unit"] not in fresh or unit["state"] != "catalogued"],
        "stopped": [unit for unit in mine if unit["message"] is not None and unit["state"] in ON_THE_WAY],
        "waiting": [one for one in facts["waiting"] if month in (None, one["month"])],
        "failed": None if failed is None else str(failed),
    }


def _waiting(archive: Archive, seen: Seen, units: Sequence[UnitRow], as_of: datetime) -> list[dict[str, Any]]:
    """Partitions that no unit speaks for yet: hot ones, and cold ones that nobody exported."""
    if seen.survey is None:
        return []
    known = {(unit.source, unit.lower, unit.upper) for unit in units}  # of one that left, a late lane stands there
    found = []
    for span in seen.survey.spans:
        if (seen.survey.source, span.lower, span.upper) in known:
            continue
        cold_at = span.upper + archive.hot
        found.append(
            {
                "month": span.label,
                "relation": str(span.part),
                "lower": format_instant(span.lower),
                "upper": format_instant(span.upper),
                "rows_estimate": max(span.partition.row_estimate, 0) if span.partition else None,
                "heap_bytes": span.heap_bytes,
                "cold": cold_at <= as_of,
                "cold_at": format_instant(cold_at),
            }
        )
    return found


def _ratio(packed: int, heap: int) -> float | None:
    """Bytes in the archive for each byte in the database."""
    return round(packed / heap, 4) if heap else None


def _second(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at.replace(microsecond=0))
