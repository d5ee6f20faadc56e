"""One number pair per organisation that every value of every row went into, computed alike by PostgreSQL and DuckDB.

A row's text is the concatenation over its columns of `<bytes>:<value>`, or `~` for NULL: no value can look like
two, and '' is not NULL (A19). Its md5 gives two 64-bit numbers; a group's digest is the sum of each, modulo
2^64. Sums, because two equal rows would cancel each other out in an exclusive or (A08).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from maintenance_defs.archive.rows.columns import Column, Source, ask, ask_all
from maintenance_defs.archive.rows.part import UNKNOWN, Part, check_join, selected_from, settled, within
from maintenance_defs.databases.archiving import as_literal
from maintenance_defs.databases.statements import quote

MODULUS = 2**64
# Years that Python's datetime and every report can hold; a group with another instant has no known limits.
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class GroupStat:
    """The rows of one organisation. `min_at`, `max_at`: None where a row has no instant in the years 1 to 9999."""

    rows: int
    hi: int  # sum of the upper halves of the rows' md5, modulo 2^64
    lo: int
    min_at: datetime | None = None
    max_at: datetime | None = None
    nulls: tuple[int, ...] = field(default=(), repr=False)  # per column, in their order

    def __add__(self, other: GroupStat) -> GroupStat:
        known = None not in (self.min_at, self.max_at, other.min_at, other.max_at)
        instants = [at for at in (self.min_at, self.max_at, other.min_at, other.max_at) if at is not None]
        return GroupStat(
            self.rows + other.rows,
            (self.hi + other.hi) % MODULUS,
            (self.lo + other.lo) % MODULUS,
            min(instants) if known else None,
            max(instants) if known else None,
            tuple(a + b for a, b in zip(self.nulls, other.nulls, strict=True)),
        )


@dataclass(frozen=True)
class Fingerprint:
    """What the source alone says about a part's rows; compared between two days (A01 to A03)."""

    rows: int
    total: str  # sum of the rows' 64-bit hashes, in decimal


FINGERPRINT = "SELECT count(*) AS rows, coalesce(sum(hashtextextended(CAST(t.* AS text), 0)), 0)::text AS total"


def fingerprint(source: Source, part: Part, columns: Sequence[Column]) -> Fingerprint:
    """Cheap, of any type of column, and never by itself the proof of an archive.

    source: a snapshot of ArchiveDatabase or a connection of its transaction(), where every setting that a row's
        text depends on is pinned (A12).
    """
    found = ask_all(source, f"{FINGERPRINT} FROM {part.sql} t WHERE {within(part, columns)}")[0]
    return Fingerprint(found["rows"], found["total"])


def row_text(values: Sequence[str], length: str) -> str:
    """The concatenation, in either dialect; `length` counts the UTF-8 bytes of `{v}`."""
    return "concat(" + ", ".join(f"coalesce({length.replace('{v}', v)} || ':' || {v}, '~')" for v in values) + ")"


def source_groups(
    source: Source, part: Part, columns: Sequence[Column], *, only: str | None = None
) -> dict[str, GroupStat]:
    """The digest of a part's rows by organisation, computed by PostgreSQL.

    only: the digest of this one column instead of all.
    Raises Refused where the organisation's join could multiply rows, SourceUnavailable when the part cannot be read.
    """
    check_join(source, part)
    columns = settled(part, columns)
    utf8 = ask(source, "SELECT getdatabaseencoding() = 'UTF8' AS utf8", {})[0]["utf8"]
    chosen = [column for column in columns if only in (None, column.name)]
    names = [f"v{n}" for n in range(len(chosen))]
    values = "".join(f", {column.canonical('t')} AS {name}" for column, name in zip(chosen, names, strict=True))
    line = row_text(names, "octet_length({v})" if utf8 else "octet_length(convert_to({v}, 'UTF8'))")
    hashed = f"md5({line})" if utf8 else f"md5(convert_to({line}, 'UTF8'))"
    organisation, rows = selected_from(part, columns)
    nulls = ", ".join(f"count(*) - count({name})" for name in names)
    # OFFSET '0' has each value and each hash computed once; written as text it is a constant from the start, and
    # parallel workers may share the work (OFFSET 0 would forbid it).
    sql = f"""
        SELECT organisation, count(*) AS rows, sum({_half(1)})::text AS hi, sum({_half(17)})::text AS lo,
               CASE WHEN count(*) = count(at) THEN min(at) END AS min_at,
               CASE WHEN count(*) = count(at) THEN max(at) END AS max_at, concat_ws(',', {nulls}) AS nulls
          FROM (SELECT {hashed} AS hashed, line.*
                  FROM (SELECT coalesce({organisation}, {as_literal(UNKNOWN)}) COLLATE "C" AS organisation,
                               {_instant(part, columns)} AS at{values} {rows} OFFSET '0') line OFFSET '0') made
         GROUP BY organisation"""
    return {
        row["organisation"]: GroupStat(
            row["rows"],
            int(row["hi"]) % MODULUS,
            int(row["lo"]) % MODULUS,
            row["min_at"] and row["min_at"].astimezone(UTC),
            row["max_at"] and row["max_at"].astimezone(UTC),
            tuple(int(n) for n in row["nulls"].split(",")),
        )
        for row in ask_all(source, sql)
    }


def _half(start: int) -> str:
    return f"CAST(CAST('x' || substr(hashed, {start}, 16) AS bit(64)) AS bigint)"


def _instant(part: Part, columns: Sequence[Column]) -> str:
    """PostgreSQL: the row's time as timestamptz, NULL outside of the years that can be written."""
    kind = next(c.builtin for c in columns if c.name == part.time_column)
    value = f"t.{quote(part.time_column)}"
    if kind != "timestamptz":
        value = f"(CAST({value} AS timestamp) AT TIME ZONE 'UTC')"
    return f"CASE WHEN {value} >= '{FIRST:%Y-%m-%d}Z' AND {value} < '{LAST.isoformat()}' THEN {value} END"
