"""What an archive's table holds now: spans of time, whose rows, and how each could leave. It changes nothing.

A span is a partition as the catalog bounds it, or one UTC month of rows that stand in no bounded partition (a
plain table, a DEFAULT or an open partition).
Source: S4-40, S4-43, S4-46, S4-47; archive hazards D54, E71, E72, E73, E75, F79, G90; V7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from maintenance_defs.archive.holding import parts_of, same_text
from maintenance_defs.archive.plans.periods import Periods, read_periods
from maintenance_defs.archive.rows.columns import Column, read_columns
from maintenance_defs.archive.rows.part import UNKNOWN, Join, Part, check_join, organisation_of, settled, within
from maintenance_defs.control.retention import Hold
from maintenance_defs.core.archive import Archive
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import as_literal
from maintenance_defs.databases.partitions.catalog import Partition, PartitionedTable, PlainTable, read_table
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import name_parts, quote

MANY = 2**31 - 1

KEY = """
SELECT (SELECT array_agg(a.attname::text ORDER BY k.n)
          FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY k (attnum, n)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS columns
  FROM pg_index i WHERE i.indrelid = CAST(:oid AS oid) AND i.indisprimary
"""


@dataclass(frozen=True)
class Span:
    """Rows of one relation between two instants. rows: by organisation, all of them.

    partition: what is detached where the method is 'partition'. held: the words of a hold on some of the rows.
    """

    part: Part
    method: Literal["partition", "rows"]
    label: str  # '2025-10', the UTC month of the lower bound
    rows: Mapping[str, int]
    heap_bytes: int
    partition: Partition | None = None
    held: str | None = None

    @property
    def lower(self) -> datetime:
        return _known(self.part.lower)

    @property
    def upper(self) -> datetime:
        return _known(self.part.upper)

    @property
    def total(self) -> int:
        return sum(self.rows.values())


@dataclass(frozen=True)
class Survey:
    """An archive's table at one moment. spans: by lower bound. undated: rows without a time; they stay."""

    source: str  # which database: a fork is another one
    table: PartitionedTable | PlainTable
    columns: tuple[Column, ...]
    key: tuple[str, ...]  # columns that identify a row; empty where there are none
    spans: tuple[Span, ...]
    undated: int
    periods: Periods


Place = tuple[str, datetime, datetime]  # a relation, and from when to when


def survey(
    snapshot: PostgresSnapshot,
    archive: Archive,
    holds: Sequence[Hold] = (),
    *,
    count: bool = True,
    only: Place | None = None,
) -> Survey:
    """Read the table's partitions, columns and rows per organisation and month.

    count: without, only partitions are told, with no rows. only: just this span, if it is there.
    Raises Refused: no_table, no_time_column, join_multiplies, bounds, …, and SourceUnavailable.
    """
    table = read_table(snapshot.connection, archive.table)
    columns = read_columns(snapshot, table.oid)
    whole = part_of(archive, table)
    settled(whole, columns)
    check_join(snapshot, whole)
    _no_folder_like_a_column(archive, columns)
    key = archive.id or tuple(snapshot.rows(KEY, {"oid": table.oid})[0]["columns"] if _has_key(snapshot, table) else ())
    spans: list[Span] = []
    undated = 0
    for place in _relations(archive, table):
        if only is not None:
            if str(place.part) != only[0] or (place.partition and (place.part.lower, place.part.upper) != only[1:]):
                continue
            place = replace(place, part=replace(place.part, lower=only[1], upper=only[2]))
        found = list(counted(snapshot, archive, place.part, columns, key, holds)) if count else []
        undated += sum(row["rows"] for row in found if row["month"] is None)
        dated = [row for row in found if row["month"] is not None]
        if place.partition is not None:
            spans.append(_span(place, dated, place.partition))
        else:
            for month in sorted({row["month"] for row in dated}):
                mine = [row for row in dated if row["month"] == month]
                spans.append(_span(place.cut(month.replace(tzinfo=UTC)), mine))
    spans.sort(key=lambda span: (span.lower, span.part.oid))
    return Survey(
        snapshot.evidence.identity, table, columns, key, tuple(spans), undated, read_periods(snapshot, archive)
    )


def part_of(archive: Archive, table: PlainTable) -> Part:
    """The whole table, with the organisation as the archive declares it."""
    declared = archive.organisation
    organisation: str | Join | None = None
    if declared is not None and declared.table is None:
        organisation = declared.column
    elif declared is not None:
        schema, name = name_parts(declared.table or "")
        organisation = Join(schema or "public", name, tuple(declared.by.items()), declared.column, declared.column)
    return Part(table.oid, table.schema, table.name, archive.time, None, None, organisation)


def _no_folder_like_a_column(archive: Archive, columns: Sequence[Column]) -> None:
    """'month=2025-10/' in a path is read as a column `month` by many readers, in place of the file's own (B34)."""
    names = {column.name.casefold() for column in columns}
    for folder in re.findall(r"([^/=]+)=", archive.path):
        if folder.casefold() in names:
            raise Refused(
                "path",
                f"path {archive.path!r} has a folder {folder}=…, and {archive.table} a column {folder!r}: readers "
                f"would take the folder's value for the column's. Nothing was archived; name the folder p_{folder}=.",
            )


@dataclass(frozen=True)
class _Place:
    """One relation with rows. partition: where it leaves as a whole; bounds: where it does not, and has some."""

    part: Part
    heap_bytes: int
    partition: Partition | None = None
    bounds: tuple[datetime | None, datetime | None] = (None, None)

    def cut(self, month: datetime) -> _Place:
        """The relation's rows of that month. Of a week it is no more: two weeks of a month are two units."""
        lower, upper = self.part.lower or self.bounds[0], self.part.upper or self.bounds[1]
        part = replace(self.part, lower=max(month, lower or month), upper=min(_next(month), upper or _next(month)))
        return replace(self, part=part)


def _relations(archive: Archive, table: PartitionedTable | PlainTable) -> Iterator[_Place]:
    whole = part_of(archive, table)
    if not isinstance(table, PartitionedTable):
        yield _Place(whole, 0)
        return
    if table.key_column != archive.time:
        raise Refused(
            "time_column",
            f"{table} is partitioned by {table.key_column}, and the archive is by {archive.time}. Nothing was planned; "
            f"declare time: {table.key_column}.",
        )
    for one in table.partitions:
        mine = replace(whole, oid=one.oid, schema=one.schema, name=one.name)
        if one.lower is not None and one.upper is not None and archive.remove != "rows":
            yield _Place(replace(mine, lower=one.lower, upper=one.upper), one.size_bytes, one)
        else:
            yield _Place(mine, one.size_bytes, bounds=(one.lower, one.upper))


def counted(
    snapshot: PostgresSnapshot,
    archive: Archive,
    part: Part,
    columns: Sequence[Column],
    key: Sequence[str],
    holds: Sequence[Hold],
) -> list[dict[str, Any]]:
    """month (naive UTC; None for rows whose time is none), organisation, rows, whether some are held, by a value."""
    organisation, joined = organisation_of(part, columns)
    time = f"t.{quote(part.time_column)}"
    kind = next(c for c in columns if c.name == part.time_column).builtin
    utc = f"({time} AT TIME ZONE 'UTC')" if kind == "timestamptz" else f"CAST({time} AS timestamp)"
    # What no calendar holds stays: infinity, and years that no report can write.
    sane = f"isfinite({time}) AND {utc} >= TIMESTAMP '0001-01-01' AND {utc} < TIMESTAMP '9999-01-01'"
    held = _held_rows(archive, key, columns, holds)
    return snapshot.rows(
        f"SELECT CASE WHEN {sane} THEN date_trunc('month', {utc}) END AS month, "
        f"coalesce({organisation}, {as_literal(UNKNOWN)}) AS organisation, count(*) AS rows, "
        f"coalesce(bool_or({held}), false) AS held FROM {part.sql} t{joined} WHERE {within(part, columns)} "
        f"GROUP BY 1, 2",
        limit=MANY,
    )


def _held_rows(archive: Archive, key: Sequence[str], columns: Sequence[Column], holds: Sequence[Hold]) -> str:
    """SQL that is true for rows which a hold may name: by a value of the lookup column or of a key column, or by a key
    of several columns. Read as loosely as in `holding`, for rows that go without a copy are gone (G93)."""
    said = sorted({one.row_id for one in holds if one.row_id is not None})
    names = [name for name in dict.fromkeys((archive.lookup, *key)) if name is not None]
    if not said or not names:
        return "false"
    listed = ", ".join(as_literal(value.strip().lower()) for value in said)
    ways = [f"{_loosely(name)} IN ({listed})" for name in names]
    same = {column.name for column in columns if same_text(column)}
    for value in said:
        parts = parts_of(value, tuple(key))
        if parts is not None:
            known = [
                f"{_loosely(name)} = {as_literal(part.strip().lower())}"
                for name, part in zip(key, parts, strict=True)
                if part is not None and name in same
            ]
            ways.append(" AND ".join(known) if known else "true")
    return " OR ".join(f"({way})" for way in ways)


def _loosely(name: str) -> str:
    return f"lower(btrim(CAST(t.{quote(name)} AS text)))"


def _span(place: _Place, found: Sequence[Mapping[str, Any]], partition: Partition | None = None) -> Span:
    rows: dict[str, int] = {}
    for row in found:
        rows[row["organisation"]] = rows.get(row["organisation"], 0) + row["rows"]
    lower = _known(place.part.lower)
    return Span(
        place.part,
        "partition" if partition is not None else "rows",
        f"{lower:%Y-%m}",
        dict(sorted(rows.items())),
        place.heap_bytes if partition is not None else 0,
        partition,
        "some of its rows" if any(row["held"] for row in found) else None,
    )


def _has_key(snapshot: PostgresSnapshot, table: PlainTable) -> bool:
    return bool(snapshot.rows(KEY, {"oid": table.oid}))


def _next(month: datetime) -> datetime:
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def _known(at: datetime | None) -> datetime:
    if at is None:
        raise ValueError("a span has both bounds")
    return at
