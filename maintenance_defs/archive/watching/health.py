"""Signs that an archive is well, or not: looked at in the source database and in what is recorded. It changes nothing.

Source: S4-83; archive hazards D52, E71, I123; V4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from maintenance_defs.archive.declared import find_archive
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.iceberg import compare
from maintenance_defs.archive.units.months import how_to_retry
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_duration, format_instant
from maintenance_defs.databases.partitions.ahead import gaps, next_month
from maintenance_defs.databases.partitions.catalog import PartitionedTable, PlainTable, read_table
from maintenance_defs.databases.partitions.ours import left_here
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import quote

WHOLE_MONTH = timedelta(days=32)  # a whole month leaves, and a day to do it: 30 d hot are at most 62
SIGNS = {
    "hot_age": "No row in the table is older than the hot time and a month: what is cold leaves.",
    "no_pending_detach": "No partition is half detached: its rows would be out of sight, and inserts of it fail.",
    "months_ahead": "Partitions exist for the months to come, as many as declared.",
    "nothing_stopped": "No month stopped on its way; those that did say why and how to go on.",
}

PUBLISHED = "iceberg"
PUBLISHED_WORDS = "The Iceberg table names exactly the files of the months that have left their table."


@dataclass(frozen=True)
class Sign:
    """One thing that was looked at. problems: what is wrong and what to do; severe: it will not mend by itself."""

    name: str
    problems: tuple[str, ...] = ()
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)
    severe: bool = True

    @property
    def well(self) -> bool:
        return not self.problems


def signs(system: System, name: str, home: Home, as_of: datetime) -> Iterator[Sign]:
    """All of SIGNS, in their order. Raises Refused, SourceUnavailable: then nothing is known."""
    archive = find_archive(system, name)
    with archive_database(system, home).snapshot() as snapshot:
        table = read_table(snapshot.connection, archive.table)
        oldest = _oldest(snapshot, archive, table)
        left = left_here(snapshot.connection, str(table))
    yield _hot_age(system, name, archive, oldest, as_of)
    yield _pending(system, name, table)
    yield _ahead(system, archive, table, as_of)
    yield _stopped(system, name, home, left)


def _oldest(snapshot: PostgresSnapshot, archive: Archive, table: PlainTable) -> datetime | None:
    """The time of the oldest row that is dated; what stands in detached partitions has left."""
    time = f"t.{quote(archive.time)}"
    found = snapshot.rows(
        f"SELECT CAST(min({time}) AS timestamp) AS at FROM {table.qualified} t WHERE isfinite({time}) "
        f"AND {time} >= '0001-01-01'"
    )
    at = found[0]["at"]
    return None if at is None else at.replace(tzinfo=UTC)


def _hot_age(system: System, name: str, archive: Archive, oldest: datetime | None, as_of: datetime) -> Sign:
    if oldest is None:
        return Sign("hot_age", numbers={"days": 0})
    age, allowed = as_of - oldest, archive.hot + WHOLE_MONTH
    numbers = {"days": round(age / timedelta(days=1), 1), "allowed_days": allowed.days}
    if age < allowed:
        return Sign("hot_age", numbers=numbers)
    said = (
        f"the oldest row of {archive.table} is of {oldest:%Y-%m-%d}, {age.days} days ago; whole months should "
        f"leave within {format_duration(allowed)}. Nothing is lost by that; what waits for whom: maintain archive "
        f"status {system.name} {name}."
    )
    return Sign("hot_age", (said,), numbers, severe=False)


def _pending(system: System, name: str, table: PlainTable | PartitionedTable) -> Sign:
    found = [one for one in table.partitions if one.detach_pending] if isinstance(table, PartitionedTable) else []
    said = [
        f"{one} is half detached: its rows are out of sight of {table}, and inserts of its months fail. The next run "
        f"finishes it: maintain archive run {system.name} {name}."
        for one in found
    ]
    return Sign("no_pending_detach", tuple(said), {"pending": len(found)})


def _ahead(system: System, archive: Archive, table: PlainTable | PartitionedTable, as_of: datetime) -> Sign:
    if not isinstance(table, PartitionedTable) or not archive.months_ahead or table.partman is not None:
        return Sign("months_ahead", numbers={"declared": 0})  # nothing of ours makes them
    until = as_of.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(archive.months_ahead + 1):
        until = next_month(until)
    free = gaps(table, as_of, until)
    where = "go to its DEFAULT partition" if table.default is not None else "fail"
    said = [
        f"{table} has no partition from {format_instant(lower)} to {format_instant(upper)}: inserts of that time "
        f"{where}. Make them: maintain archive ahead {system.name}."
        for lower, upper in free
    ]
    covered = free[0][0] if free else until
    numbers: dict[str, int | float | str] = {
        "declared": archive.months_ahead, "covered_until": f"{covered:%Y-%m-%d}",
    }  # fmt: skip
    soon = bool(free) and free[0][0] < as_of + WHOLE_MONTH
    return Sign("months_ahead", tuple(said), numbers, severe=soon and table.default is None)


def _stopped(system: System, name: str, home: Home, left: Mapping[str, datetime | None]) -> Sign:
    units = home.control.archive.units(system.name)
    stopped = [unit for unit in units if unit.archive == name and unit.message]
    said = [f"{u.words()} stopped at {u.state}: {u.message} {how_to_retry(system, name, u.label)}." for u in stopped]
    table = system.archives[name].table
    named = {unit.id: unit.archive for unit in units}
    unknown = sorted(f"{lower:%Y-%m}" if lower else "?" for id, lower in left.items() if id not in named)
    if unknown:
        said.append(
            f"{', '.join(unknown)} left {table}, and this control database does not know it: nobody reads these rows. "
            f"Bring the control database back from a newer backup; the files are kept."
        )
    said += [
        f"rows of {table} left it for archive {other}, which is not declared any more: nobody reads them. Declare it "
        f"by that name again."
        for other in sorted({named[id] for id in left if id in named} - system.archives.keys())
    ]
    return Sign("nothing_stopped", tuple(said), {"stopped": len(stopped), "unknown": len(unknown)})


def published(system: System, name: str, home: Home) -> Sign:
    """How the archive's Iceberg table stands. Raises as `iceberg.compare`: then nothing is known."""
    found = compare(system, name, home)
    said: list[str] = []
    if not found.well:
        what = "is not there" if not found.exists else "; ".join(
            [*found.other, *(f"{one} is not in it" for one in found.missing[:3]),
             *(f"{one} is in it and should not be" for one in found.extra[:3])]
        )  # fmt: skip
        said.append(
            f"Iceberg table {found.table}: {what}. The archive itself is right: maintain archive publish {system.name} "
            f"{name}."
        )
    said += [
        f"{one.file.key} cannot be read through Iceberg: {one.why}. maintain archive query reads it."
        for one in found.left_out
    ]
    numbers: dict[str, int | float | str] = {
        "files": found.files, "missing": len(found.missing), "extra": len(found.extra),
        "left_out": len(found.left_out),
    }  # fmt: skip
    return Sign(PUBLISHED, tuple(said), numbers, severe=not found.well)
