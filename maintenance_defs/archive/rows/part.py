"""Which rows an archive file is made of: a relation, a range of time, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from maintenance_defs.archive.rows.columns import Column, Source, ask
from maintenance_defs.core.archive import UNKNOWN as UNKNOWN  # also of rows whose organisation is gone (G90)
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import as_literal
from maintenance_defs.databases.statements import quote

ALL = "__all__"  # the organisation of every row of a table that has none

# A joined table must not multiply rows: one row at most for the joined columns.
ONE_ROW_EACH = """
SELECT count(*) FILTER (WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
            AND (SELECT array_agg(a.attname::text)
                   FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k (n)  -- not what is only carried along
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n) <@ CAST(:columns AS text[])
       ) AS unique_indexes,
       bool_or(c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid)) AS has_children
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_index i ON i.indrelid = c.oid
 WHERE n.nspname = :schema AND c.relname = :name
"""
TIME_TYPES = ("timestamptz", "timestamp", "date")


@dataclass(frozen=True)
class Join:
    """An organisation that stands in another table."""

    schema: str
    name: str
    on: tuple[tuple[str, str], ...]  # (column of the part, column of this table)
    column: str  # of this table: the organisation
    stored_as: str  # the name of the field it gets in the file


@dataclass(frozen=True)
class Part:
    """Rows of one relation with `lower <= time_column < upper`; a bound that is None is not there.

    schema, name: a partition, a detached table, a plain table, or a parent that is read whole.
    organisation: None, a column of the relation, or a join.
    """

    oid: int
    schema: str
    name: str
    time_column: str
    lower: datetime | None
    upper: datetime | None
    organisation: str | Join | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


def settled(part: Part, columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns for this part: a time column with both bounds is always finite and needs no companion.

    Raises Refused when the time column is not there or is no time, or a joined field has a column's name.
    """
    found = next((column for column in columns if column.name == part.time_column), None)
    if found is None or found.builtin not in TIME_TYPES:
        what = f"is {found.type_name}" if found else "is not there"
        raise Refused(
            "no_time_column",
            f"column {part.time_column!r} of {part} {what}: rows are archived by a date or timestamp. Nothing was "
            f"archived.",
        )
    names = {field.name for column in columns for field in column.fields()}
    if isinstance(part.organisation, Join) and part.organisation.stored_as in names:
        raise Refused(
            "reserved_column",
            f"the organisation of {part} is to be stored as {part.organisation.stored_as!r}, but the table has a "
            f"column of that name. Nothing was archived; choose another name.",
        )
    bounded = part.lower is not None and part.upper is not None
    return tuple(replace(c, always_finite=True) if bounded and c is found else c for c in columns)


def within(part: Part, columns: Sequence[Column], row: str = "t") -> str:
    """SQL that is true for the rows between the bounds."""
    column = next(c for c in columns if c.name == part.time_column)
    value = f"{row}.{quote(part.time_column)}"
    said = [f"{value} >= {_bound(part, column, part.lower)}"] if part.lower else []
    said += [f"{value} < {_bound(part, column, part.upper)}"] if part.upper else []
    return " AND ".join(said) or "true"


def _bound(part: Part, column: Column, at: datetime) -> str:
    if at.tzinfo is None:
        raise ValueError("a bound without a time zone means nothing")
    written = at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    if column.builtin == "timestamptz":
        return f"TIMESTAMPTZ '{written}+00'"
    if column.builtin == "timestamp":
        return f"TIMESTAMP '{written}'"
    if not written.endswith(" 00:00:00"):
        raise Refused(
            "bound_within_a_day",
            f"{part} is bounded at {written} UTC, but its time column {column.name!r} is a date. Nothing was archived.",
        )
    return f"DATE '{written[:10]}'"


def check_join(source: Source, part: Part) -> None:
    """Raises Refused unless the joined table has at most one row for each row of the part."""
    join = part.organisation
    if not isinstance(join, Join):
        return
    columns = "{" + ",".join('"' + c.replace("\\", "\\\\").replace('"', '\\"') + '"' for _, c in join.on) + "}"
    found = ask(source, ONE_ROW_EACH, {"schema": join.schema, "name": join.name, "columns": columns})[0]
    if not found["unique_indexes"] or found["has_children"]:
        joined = ", ".join(column for _, column in join.on)
        raise Refused(
            "join_multiplies",
            f"the organisation of {part} is looked up in {join.schema}.{join.name} by {joined}, but no unique index "
            f"says that there is one row for each. Rows would be archived twice. Nothing was archived; create a "
            f"unique index on {joined}.",
        )


def organisation_of(part: Part, columns: Sequence[Column]) -> tuple[str, str]:
    """(SQL of the organisation of row `t`, NULL where it has none; what to add to FROM)."""
    if part.organisation is None:
        return as_literal(ALL), ""
    if isinstance(part.organisation, str):
        column = next((c for c in columns if c.name == part.organisation), None)
        if column is None:
            raise Refused(
                "no_organisation_column",
                f"{part} has no column {part.organisation!r} that says whose a row is. Nothing was archived.",
            )
        return column.canonical("t"), ""
    join = part.organisation
    on = " AND ".join(f"o.{quote(theirs)} = t.{quote(ours)}" for ours, theirs in join.on)
    found = f"o.{quote(join.column)}"
    written = f"CASE WHEN {found} IS NOT NULL THEN format('%s', {found}) END"
    return written, f" LEFT JOIN {quote(join.schema)}.{quote(join.name)} o ON {on}"


def selected_from(part: Part, columns: Sequence[Column]) -> tuple[str, str]:
    """(SQL of the organisation, `FROM … WHERE …` of the part's rows as `t`)."""
    organisation, joined = organisation_of(part, columns)
    return organisation, f"FROM {part.sql} t{joined} WHERE {within(part, columns)}"
