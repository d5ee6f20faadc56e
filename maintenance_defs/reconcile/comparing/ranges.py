"""Key ranges over sorted Parquet files, cut where their row groups begin.

Any set of boundaries is correct: ranges are half-open, the first and the last are open, so every
key lies in exactly one. Statistics only make the ranges even, and let DuckDB skip what lies outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from maintenance_defs.reconcile.calculator import literal

RANGE_ROWS = 2_000_000  # of all files in one range, half of which a hash join holds at once: about 300 MiB


@dataclass(frozen=True)
class KeyRange:
    """Keys in [low, high) by UTF-8 bytes; None is open. `rows`: about how many rows of the files lie in it."""

    low: str | None
    high: str | None
    rows: int

    def where(self, column: str = "key") -> str:
        """The range as an SQL condition; DuckDB compares text by its UTF-8 bytes."""
        low = f"{column} >= {literal(self.low)}" if self.low is not None else ""
        high = f"{column} < {literal(self.high)}" if self.high is not None else ""
        return " AND ".join(filter(None, (low, high))) or "true"


def key_ranges(files: Sequence[Path], *, column: str = "key", range_rows: int = RANGE_ROWS) -> list[KeyRange]:
    """Ranges that hold about `range_rows` rows of all the files together, at least one.

    A row group whose statistics are missing or do not end in whole characters offers no boundary;
    its rows are counted to the group before. A key that repeats for more than `range_rows` rows
    stays in one range.
    """
    starts: list[tuple[bytes, int]] = []  # where a row group begins, and its rows
    for file in files:
        metadata = pq.read_metadata(file)
        position = metadata.schema.names.index(column)
        start = b""
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            start = _first_key(group.column(position)) or start
            starts.append((start, group.num_rows))
    lows: list[str | None] = [None]
    rows = [0]
    for start, group_rows in sorted(starts):
        low = start.decode()
        if rows[-1] and rows[-1] + group_rows > range_rows and low != (lows[-1] or ""):
            lows.append(low)
            rows.append(0)
        rows[-1] += group_rows
    return [KeyRange(*edges) for edges in zip(lows, [*lows[1:], None], rows, strict=True)]


def _first_key(chunk: pq.ColumnChunkMetaData) -> bytes | None:
    """The smallest key of a row group as its statistics say, if they say so in whole characters."""
    if not chunk.is_stats_set or not chunk.statistics.has_min_max:
        return None
    try:
        low = chunk.statistics.min
    except UnicodeDecodeError:  # truncated in the middle of a character
        return None
    return low.encode() if isinstance(low, str) and "\0" not in low else None
