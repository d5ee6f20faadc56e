"""What the tables of a system hold now, and which of their rows are new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.base import Snapshot, Table
from maintenance_defs.databases.sizes import qualified, row_bytes, table_sizes, time_of
from maintenance_defs.growth.rates import DAY
from maintenance_defs.reconcile.reading.rows import column_of


@dataclass
class Wanted:
    """What is asked of one table: by which column its rows are dated, and the size of which columns alone."""

    time: str | None = None
    columns: dict[str, None] = field(default_factory=dict)


def wanted_tables(system: System) -> dict[str, Wanted]:
    """Every table that the declaration names, by the name that it uses, in order."""
    found: dict[str, Wanted] = {}
    for table, time, column in _named(system):
        one = found.setdefault(table, Wanted())
        one.time = one.time or time
        if column is not None:
            one.columns[column] = None
    return found


def _named(system: System) -> Iterator[tuple[str, str | None, str | None]]:
    for projection in system.growth.projections.values():  # first: a time that stands there is meant
        if projection.table is not None:
            yield projection.table, projection.time, projection.column
    for reference in system.references:
        yield reference.table, reference.dated_by, None
    for policy in system.retention.values():
        if policy.select.rows is not None:
            yield policy.select.rows, None, None
        if policy.select.owns is not None:
            yield policy.select.owns.table, None, None
    for archive in system.archives.values():
        yield archive.table, archive.time, None
    for values in system.archived_columns.values():
        yield values.table, values.time, None
    for table in system.growth.tables:
        yield table, None, None


def measure_tables(snapshot: Snapshot, system: System, at: datetime) -> list[dict[str, Any]]:
    """One entry a table, in order of declaration: table, found, rows, estimated, size_bytes, new, message.

    new: rows dated in the window that are there still, with size_bytes of their own (no indexes) and of the columns
    asked for, over `days`; null where no time is declared, or the oldest row is not a day old.
    """
    wanted = wanted_tables(system)
    tables: dict[str, Table] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name in wanted:
        try:
            table = snapshot.table(name)
        except SourceUnavailable as error:
            entries[name] = _entry(name, str(error))
            continue
        if table is None:
            entries[name] = _entry(name, "there is no such table") | {"found": False}
        elif str(table) not in {str(other) for other in tables.values()}:
            tables[name] = table
    sizes = table_sizes(snapshot, list(tables.values()))
    for name, table in tables.items():
        size = sizes[str(table)]
        known = {"rows": size.rows, "estimated": size.estimated, "size_bytes": size.size_bytes}
        entries[name] = _entry(name, size.message) | {"table": str(table)} | known
        try:
            entries[name]["new"] = _new(snapshot, table, wanted[name], at, system.growth.window)
        except SourceUnavailable as error:
            entries[name]["message"] = entries[name]["message"] or str(error)
    return [entries[name] for name in wanted if name in entries]


def _entry(name: str, message: str | None) -> dict[str, Any]:
    return {
        "table": name, "declared": name, "found": True, "rows": None, "estimated": False, "size_bytes": None,
        "change": None, "new": None, "message": message,
    }  # fmt: skip


def _new(snapshot: Snapshot, table: Table, wanted: Wanted, at: datetime, window: timedelta) -> dict[str, Any] | None:
    if wanted.time is None:
        return None
    column = column_of(table, wanted.time, snapshot)
    time = time_of(snapshot, column, table.columns[column])
    readable = [name for name in table.columns if name not in table.unreadable]
    sums = {"all": row_bytes(snapshot, readable)}
    sums |= {name: row_bytes(snapshot, [column_of(table, name, snapshot)]) for name in wanted.columns}
    known = [name for name, sql in sums.items() if sql is not None]
    parts = ["COUNT(*) AS n", f"MIN({time}) AS first_at"]
    parts += [f"COALESCE(SUM({sums[name]}), 0) AS b{n}" for n, name in enumerate(known)]
    rest = f"FROM {qualified(snapshot, table)} WHERE {time}"
    asked = {"since": at - window, "until": at}
    [seen] = snapshot.rows(f"SELECT {', '.join(parts)} {rest} >= :since AND {time} < :until", asked)
    days = window
    if not snapshot.rows(f"SELECT 1 AS n {rest} < :since", asked, limit=1):  # younger than the window
        first = _instant(seen["first_at"])
        days = at - first if first is not None else timedelta(0)
    if days < DAY:
        return None
    sizes = {name: int(seen[f"b{n}"]) for n, name in enumerate(known)}
    return {
        "rows": seen["n"],
        "size_bytes": sizes.get("all"),
        "columns": {name: sizes.get(name) for name in wanted.columns},
        "days": round(days / DAY, 3),
    }


def _instant(value: Any) -> datetime | None:
    """What MIN gave: an instant, or its text in SQLite; naive ones are UTC."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(found, datetime):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
