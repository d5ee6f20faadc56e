"""What the tables of a system hold now, and which of their rows are new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.base import Snapshot, Table, from_table
from maintenance_defs.databases.sizes import row_bytes, table_sizes, time_of
from maintenance_defs.growth.rates import DAY, change
from maintenance_defs.reconcile.reading.rows import column_of

VALUES = 50  # of a column that rows are counted by: more is no state


@dataclass
class Wanted:
    """What is asked of one table: what dates its rows, which columns are weighed alone, what counts them."""

    time: str | None = None
    columns: dict[str, None] = field(default_factory=dict)
    by: str | None = None

    def add(self, other: Wanted) -> None:
        """The same table under another name."""
        self.time, self.by = self.time or other.time, self.by or other.by
        self.columns |= other.columns


def wanted_tables(system: System) -> dict[str, Wanted]:
    """Every table that the declaration names, by the name that it uses, in order."""
    found: dict[str, Wanted] = {}
    for table, time, column in _named(system):
        one = found.setdefault(table, Wanted())
        one.time = one.time or time
        if column is not None:
            one.columns[column] = None
    for table, column in system.growth.by.items():
        found.setdefault(table, Wanted()).by = column
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
    """One entry a table, in order of declaration: table, declared (its names there), found, rows, estimated,
    size_bytes, new, by, message.

    new: rows dated in the window that are there still, with size_bytes of their own (no indexes) and of the columns
    asked for, over `days`; null where no time is declared, or the oldest row is not a day old. by: column and, for
    each of its values, `value`, `rows`, `change`.
    Raises SourceUnavailable where not one table could be measured.
    """
    window = system.growth.window
    entries: dict[str, dict[str, Any]] = {}
    tables: dict[str, tuple[Table, Wanted]] = {}
    for name, wanted in wanted_tables(system).items():
        try:
            table = snapshot.table(name)
        except SourceUnavailable as error:
            entries[name] = _entry(name, str(error))
            continue
        key = name if table is None else str(table)
        if key in tables:  # named in two ways
            entries[key]["declared"].append(name)
            tables[key][1].add(wanted)
            continue
        entries[key] = _entry(name, None) | {"table": key}
        if table is None:
            entries[key] |= {"found": False, "message": "there is no such table"}
        else:
            tables[key] = (table, wanted)
    sizes = table_sizes(snapshot, [table for table, _ in tables.values()])
    for key, (table, wanted) in tables.items():
        entry, size = entries[key], sizes[key]
        entry |= {"rows": size.rows, "estimated": size.estimated, "size_bytes": size.size_bytes}
        entry["message"] = size.message
        asked = {"by": partial(_by, wanted=wanted.by), "new": partial(_new, wanted=wanted, at=at, window=window)}
        for name, ask in asked.items():
            try:
                entry[name] = ask(snapshot, table)
            except SourceUnavailable as error:
                entry["message"] = entry["message"] or str(error)
    there = [entry for entry in entries.values() if entry["found"]]
    if there and all(entry["rows"] is None and entry["size_bytes"] is None for entry in there):
        raise SourceUnavailable(there[0]["message"] or "no table could be measured")
    return list(entries.values())


def _entry(name: str, message: str | None) -> dict[str, Any]:
    return {
        "table": name, "declared": [name], "found": True, "rows": None, "estimated": False, "size_bytes": None,
        "change": None, "new": None, "by": None, "message": message,
    }  # fmt: skip


def _by(snapshot: Snapshot, table: Table, wanted: str | None) -> dict[str, Any] | None:
    """Rows by the values of one column: a scan of the table."""
    if wanted is None:
        return None
    column = column_of(table, wanted, snapshot)
    text = snapshot.as_text(snapshot.quote(column), table.columns[column])
    sql = f"SELECT {text} AS v, COUNT(*) AS n FROM {from_table(snapshot, table)} GROUP BY {text} ORDER BY n DESC, v"
    counted = [{"value": row["v"], "rows": row["n"], "change": None} for row in snapshot.rows(sql, limit=VALUES + 1)]
    if len(counted) > VALUES:
        raise SourceUnavailable(f"column {column} of {table} has more than {VALUES} values; it is counted by none")
    return {"column": column, "values": counted}


def compare_tables(now: list[dict[str, Any]], before: list[dict[str, Any]], elapsed: timedelta) -> None:
    """Fill in how each table, and each value that it is counted by, changed since an earlier measurement."""
    then = {entry["table"]: entry for entry in before}
    for entry in now:
        old = then.get(entry["table"])
        if old is None:
            continue
        entry["change"] = change(entry, old, elapsed)
        if entry["by"] is None or old.get("by") is None or entry["by"]["column"] != old["by"]["column"]:
            continue
        values = entry["by"]["values"]
        counted = {one["value"]: one for one in old["by"]["values"]}
        values += [one | {"rows": 0} for value, one in counted.items() if value not in {v["value"] for v in values}]
        for one in values:
            one["change"] = change(one, counted.get(one["value"], {"rows": 0}), elapsed)


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
    rest = f"FROM {from_table(snapshot, table)} WHERE {time}"
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
