"""Rows that cannot be told apart do not begin to leave one by one: readers see each of them once (V6, F79)."""

from __future__ import annotations

from pathlib import Path

import pytest

from maintenance_defs.archive.reading import get
from tests.archive.world import COLD, FILL, LogWorld
from tests.support.months import rows
from tests.support.postgres import execute as run

PLAIN = "CREATE TABLE logs (LIKE was INCLUDING DEFAULTS)"
DEFAULT = "CREATE TABLE logs (LIKE was) PARTITION BY RANGE (at); CREATE TABLE logs_rest PARTITION OF logs DEFAULT"


@pytest.mark.parametrize("shape", [PLAIN, DEFAULT], ids=["plain", "default"])
def test_rows_without_a_key_stay_and_are_read_once(tmp_path: Path, pg_database: str, shape: str) -> None:
    world = LogWorld(tmp_path, pg_database)
    run(pg_database, "ALTER TABLE logs RENAME TO was", *shape.split(";"), FILL.format(rows=400))
    done = world.apply(COLD)
    assert done.state == "partial"
    assert "cannot be told apart" in done.problems[0]["detail"]
    assert rows(pg_database, "SELECT count(*) FROM logs") == [(400,)]
    assert world.unit().state == "catalogued"
    assert get(world.system, "logs", world.home, value="job-5").read_all().num_rows == 20
