"""Months that left their table and that the catalogue does not know (any more) are told: nobody reads their rows."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maintenance_defs.archive.watching.health import Sign, signs
from maintenance_defs.control.home import Home
from tests.archive.world import COLD, FILL, LogWorld
from tests.support.postgres import execute as run


def stopped(world: LogWorld) -> Sign:
    (name,) = world.system.archives
    return next(s for s in signs(world.system, name, world.home, datetime.now(UTC)) if s.name == "nothing_stopped")


@pytest.mark.parametrize("undo_window", ["0 d", "7 d"], ids=["removed", "detached"])
def test_a_control_database_older_than_a_removal_is_told(tmp_path: Path, pg_database: str, undo_window: str) -> None:
    world = LogWorld(tmp_path, pg_database, {"undo_window": undo_window})
    run(pg_database, FILL.format(rows=400))
    assert world.apply(COLD).state == "done"
    assert stopped(world).well
    world.home.control.close()
    shutil.rmtree(world.home.path)
    world.home = Home(world.home.path, world.home.environment)
    (said,) = stopped(world).problems
    assert "2024-01 left public.logs, and this control database does not know it" in said


def test_rows_that_left_one_by_one_are_known_alike(tmp_path: Path, pg_database: str) -> None:
    world = LogWorld(tmp_path, pg_database)
    run(pg_database, "DROP TABLE logs", "CREATE TABLE logs (id bigint PRIMARY KEY, at timestamptz, org text, job text)")
    run(pg_database, "INSERT INTO logs VALUES (1, '2024-01-05Z', 'b', 'job-1')")
    assert world.apply(COLD).state == "done"
    assert stopped(world).well
    shutil.rmtree(world.home.path)
    world.home = Home(world.home.path, world.home.environment)
    assert stopped(world).numbers["unknown"] == 1


def test_an_archive_that_is_called_otherwise_now_is_told(tmp_path: Path, pg_database: str) -> None:
    world = LogWorld(tmp_path, pg_database)
    world.archived(400)
    world.system = world.system.model_copy(update={"archives": {"events": world.system.archives["logs"]}})
    (said,) = stopped(world).problems
    assert "rows of public.logs left it for archive logs, which is not declared any more" in said
