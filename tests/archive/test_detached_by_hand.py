"""A month that somebody else detached is a table of its own, into which rows of any time can be written (V1, V2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from maintenance_defs.archive.gate import run_archive
from maintenance_defs.archive.units.leaving import drop
from maintenance_defs.core.errors import Refused
from tests.archive.world import COLD, FILL, LogWorld
from tests.support.months import rows
from tests.support.postgres import execute as run

STRANGER = "(id, at, org, job) VALUES (9999, '2024-05-05Z', 'c', 'job-1')"


def archived(folder: Path, url: str, **archive: str) -> LogWorld:
    world = LogWorld(folder, url, dict(archive))
    run(url, FILL.format(rows=400))
    run_archive(world.system, "logs", world.home, run_id="test", as_of=COLD)
    return world


def test_rows_of_another_month_in_it_keep_it_until_they_are_moved(tmp_path: Path, pg_database: str) -> None:
    world = archived(tmp_path, pg_database)
    run(pg_database, "ALTER TABLE logs DETACH PARTITION logs_2024_01", f"INSERT INTO logs_2024_01 {STRANGER}")
    done = world.apply(COLD)
    assert done.state == "partial"
    assert "holds 1 row outside of 2024-01" in done.problems[0]["detail"]
    assert rows(pg_database, "SELECT count(*) FROM logs_2024_01") == [(401,)]
    run(pg_database, "DELETE FROM logs_2024_01 WHERE id = 9999")
    assert world.apply(COLD).state == "done"
    assert world.unit().state == "removed"
    assert len(world.read()) == 400


def test_it_is_looked_at_again_under_the_lock_of_its_drop(tmp_path: Path, pg_database: str) -> None:
    world = archived(tmp_path, pg_database, undo_window="7 d")
    assert world.apply(COLD).state == "done"
    ((name,),) = rows(pg_database, "SELECT relation::oid::regclass::text FROM maintenance_archive.parked")
    run(pg_database, f"ALTER TABLE {name} DISABLE TRIGGER USER", f"INSERT INTO {name} {STRANGER}")
    work, state = world.work(COLD), world.home.control.archive
    with pytest.raises(Refused, match="holds 1 row outside of 2024-01"):
        drop(work, state.take_unit(world.unit().id, work.owner, 300))
    assert rows(pg_database, f"SELECT count(*) FROM {name}") == [(401,)]
