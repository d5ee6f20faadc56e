"""DuckDB as our calculator holds its limit on a machine of any size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maintenance_defs.reconcile.calculator import calculator

ROWS = 400_000


@pytest.mark.parametrize("cores", [None, 1, 16, 64])
def test_wide_rows_are_sorted_within_the_limit_on_any_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int | None
) -> None:
    """260 MB of rows, sorted under 300 MB: with a thread for each core of a large machine, DuckDB fails."""
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    with calculator(tmp_path, "300MB") as con:
        con.execute(
            f"COPY (SELECT n, repeat(md5(n::VARCHAR), 20) AS message FROM range({ROWS}) AS t (n)) "
            f"TO '{tmp_path / 'rows.parquet'}' (ROW_GROUP_SIZE 10_000)"
        )
        reader = con.sql(f"SELECT * FROM '{tmp_path / 'rows.parquet'}' ORDER BY message").to_arrow_reader(16_384)
        assert sum(batch.num_rows for batch in reader) == ROWS
