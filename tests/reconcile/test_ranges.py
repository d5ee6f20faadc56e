"""Key ranges: whatever the row groups say, every key lies in exactly one."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance_defs.reconcile.calculator import literal
from maintenance_defs.reconcile.comparing.ranges import key_ranges

# Quotes, the last code point, surrogate neighbours: what SQL text and byte order may trip over.
KEY = st.text(st.sampled_from("ab/'\"\\%\n\u00e9\ud7ff\ue000\uffff\U0010ffff"), max_size=6)
FILES = st.lists(st.tuples(st.lists(KEY, max_size=30), st.integers(1, 7), st.booleans()), min_size=1, max_size=3)


def write(path: Path, keys: list[str], group_rows: int, statistics: bool = True) -> Path:
    table = pa.table({"size": range(len(keys)), "key": pa.array(sorted(keys, key=str.encode), pa.string())})
    pq.write_table(table, path, row_group_size=group_rows, write_statistics=statistics)
    return path


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, range_rows=st.integers(1, 40))
def test_every_key_lies_in_exactly_one_range(
    tmp_path: Path, files: list[tuple[list[str], int, bool]], range_rows: int
) -> None:
    paths = [write(tmp_path / f"{n}.parquet", *given) for n, given in enumerate(files)]
    ranges = key_ranges(paths, range_rows=range_rows)
    assert ranges[0].low is None
    assert ranges[-1].high is None
    assert [r.low for r in ranges[1:]] == [r.high for r in ranges[:-1]]
    lows = [r.low.encode() for r in ranges[1:] if r.low is not None]
    assert lows == sorted(set(lows))
    assert sum(r.rows for r in ranges) == sum(len(keys) for keys, _, _ in files)
    with duckdb.connect() as con:
        for path, (keys, _, _) in zip(paths, files, strict=True):
            found = []
            for key_range in ranges:
                sql = f"SELECT key FROM read_parquet({literal(path)}) WHERE {key_range.where()}"
                found += [key for (key,) in con.execute(sql).fetchall()]
            assert sorted(found) == sorted(keys)


def test_ranges_are_as_small_as_asked_where_row_groups_allow(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.parquet", [f"{n}{i:04d}" for i in range(1000)], 10) for n in "ab"]
    ranges = key_ranges(paths, range_rows=100)
    assert len(ranges) == 20
    assert max(r.rows for r in ranges) == 100


def test_key_that_fills_many_row_groups_stays_in_one_range(tmp_path: Path) -> None:
    path = write(tmp_path / "one.parquet", ["a", *["b"] * 100, "c"], 10)
    ranges = key_ranges([path], range_rows=20)
    assert [(r.low, r.high) for r in ranges] == [(None, "b"), ("b", None)]


def test_file_without_statistics_is_one_range(tmp_path: Path) -> None:
    path = write(tmp_path / "one.parquet", [f"{i:04d}" for i in range(100)], 10, statistics=False)
    assert [(r.low, r.high) for r in key_ranges([path], range_rows=20)] == [(None, None)]


@pytest.mark.parametrize("length", [64, 1024, 5000])
def test_long_keys_are_parted_too_or_stay_together(tmp_path: Path, length: int) -> None:
    """Writers drop or cut the statistics of long values: fewer ranges, never wrong ones."""
    keys = ["\u00e9" * length + f"{i:04d}" for i in range(60)]
    path = write(tmp_path / "one.parquet", keys, 10)
    ranges = key_ranges([path], range_rows=20)
    with duckdb.connect() as con:
        counts = [
            con.execute(f"SELECT count(*) FROM read_parquet({literal(path)}) WHERE {r.where()}").fetchone()
            for r in ranges
        ]
    assert sum(count for (count,) in counts) == 60  # type: ignore[misc]
