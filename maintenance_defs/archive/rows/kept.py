"""What stands in an archive file, as DuckDB reads it: digests by organisation, and where a value's rows are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from maintenance_defs.archive.encryption import FileEncryption
from maintenance_defs.archive.rows.digest import FIRST, LAST, MODULUS, GroupStat, row_text
from maintenance_defs.archive.rows.opened import DAY_US as DAY_US
from maintenance_defs.archive.rows.opened import ORGANISATION as ORGANISATION
from maintenance_defs.archive.rows.opened import ROW, KeptFile
from maintenance_defs.archive.rows.opened import TIME_COLUMN as TIME_COLUMN
from maintenance_defs.reconcile.calculator import calculator, literal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FEW_ROWS = 4096


def read_groups(
    file: Path, *, only: str | None = None, encryption: FileEncryption | None = None, where: str = "true"
) -> dict[str, GroupStat]:
    """The digest of an archive file by organisation, computed from every value in it.

    only: the digest of this one column instead of all. where: SQL over the names of KeptFile, for some of the rows.
    """
    kept = KeptFile(file, encryption)
    chosen = [name for name in kept.columns if only in (None, name)]
    nulls = ", ".join(f"count(*) FILTER (WHERE {kept.is_null(name)})" for name in chosen)
    between = f"micros >= {_micros(FIRST)} AND micros < {_micros(LAST)}"
    line = row_text([kept.text(name) for name in chosen], "strlen({v})")
    with reader(kept) as con:
        found = con.execute(f"""
        SELECT organisation, count(*), sum(('0x' || substr(hashed, 1, 16))::UBIGINT),
               sum(('0x' || substr(hashed, 17, 16))::UBIGINT),
               CASE WHEN count(*) = count(*) FILTER (WHERE {between}) THEN min(micros) END,
               CASE WHEN count(*) = count(*) FILTER (WHERE {between}) THEN max(micros) END, [{nulls}]
          FROM (SELECT {kept.owner} AS organisation, {kept.micros} AS micros, md5({line}) AS hashed, *
                  FROM {kept.source(con)} WHERE {where})
         GROUP BY organisation""").fetchall()
    return {
        owner: GroupStat(rows, int(hi) % MODULUS, int(lo) % MODULUS, _at(first), _at(last), tuple(empty))
        for owner, rows, hi, lo, first, last, empty in found
    }


def write_index(
    file: Path, column: str, groups: Sequence[int], index: Path, *, encryption: FileEncryption | None = None
) -> int:
    """Write where the rows of each value of a column are; answers how many entries there are.

    groups: the first row of each row group. A row of the index: value (text), organisation, rows, first_group,
    last_group (places of row groups), first_at, last_at (null where the years cannot be written). Sorted by value.
    Rows without a value are in no index.
    """
    kept = KeptFile(file, encryption)
    value = kept.text(column)
    starts = ", ".join(f"({start}, {place})" for place, start in enumerate(groups))
    with reader(kept) as con:
        row = con.execute(f"""
        COPY (
            SELECT value, organisation, rows, a.place::INTEGER AS first_group, b.place::INTEGER AS last_group,
                   CASE WHEN known THEN make_timestamptz(low) END AS first_at,
                   CASE WHEN known THEN make_timestamptz(high) END AS last_at
              FROM (SELECT {value} AS value, {kept.owner} AS organisation, count(*) AS rows,
                           min({ROW}) AS first, max({ROW}) AS last, min(micros) AS low,
                           max(micros) AS high, bool_and(coalesce(micros >= {_micros(FIRST)} AND
                           micros < {_micros(LAST)}, false)) AS known
                      FROM (SELECT *, {kept.micros} AS micros FROM {kept.source(con, numbered=True)})
                     WHERE {value} IS NOT NULL GROUP BY ALL) found
              ASOF JOIN (VALUES {starts}) AS a (start, place) ON found.first >= a.start
              ASOF JOIN (VALUES {starts}) AS b (start, place) ON found.last >= b.start
             ORDER BY value, organisation
        ) TO {literal(index)} (FORMAT parquet, COMPRESSION zstd)""").fetchone()
    return int(row[0]) if row else 0


@contextmanager
def reader(kept: KeptFile) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with threads for a file of this shape, and a working folder of its own."""
    with kept.open() as parquet:
        found = parquet.metadata
    # Each thread holds a few copies of a row group. Groups with so few rows were closed for their size (GROUP_BYTES).
    large_rows = found.num_row_groups > 1 and found.num_rows / found.num_row_groups < FEW_ROWS
    with tempfile.TemporaryDirectory(prefix="maintenance-kept-") as temporary, calculator(Path(temporary)) as con:
        if large_rows:
            con.execute("SET threads = 1")
        yield con


def _micros(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND


def _at(micros: int | None) -> datetime | None:
    return None if micros is None else EPOCH + micros * MICROSECOND


def instant(micros: int | None) -> datetime | None:
    """Microseconds since 1970 as an aware instant; None outside of the years that can be written."""
    known = micros is not None and _micros(FIRST) <= micros < _micros(LAST)
    return _at(micros) if known else None
