"""Archived rows go back into their table as they were, all of them, or not at all: their files end with it (V12)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.units import expiring
from maintenance_defs.archive.units.returning import into_place, put_back
from maintenance_defs.core.errors import Refused
from tests.archive.world import COLD, FILL, LogWorld
from tests.support.months import rows
from tests.support.postgres import execute as run

HEAR = "CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"


def left(folder: Path, url: str, **archive: Any) -> LogWorld:
    """40 rows of January are in the archive alone."""
    world = LogWorld(folder, url, {"keep": "forever", **archive})
    run(url, FILL.format(rows=40))
    assert world.apply(COLD).state == "done"
    return world


def back(world: LogWorld) -> int:
    return into_place(world.work(), world.units(), actor="ann", reason="asked").rows


@pytest.mark.parametrize(
    ("change", "undo", "reason"),
    [
        (  # its values would be rounded
            "ALTER TABLE logs ALTER COLUMN amount TYPE numeric(10,1)",
            "ALTER TABLE logs ALTER COLUMN amount TYPE numeric(10,2)",
            "changed",
        ),
        (  # its values would go nowhere
            "ALTER TABLE logs DROP COLUMN facts",
            "ALTER TABLE logs ADD COLUMN facts jsonb",
            "columns",
        ),
        (
            "ALTER TABLE logs RENAME COLUMN line TO words",
            "ALTER TABLE logs RENAME COLUMN words TO line",
            "columns",
        ),
        (  # an application that hears of them would act on them
            f"{HEAR}; CREATE TRIGGER hear BEFORE INSERT ON logs FOR EACH ROW EXECUTE FUNCTION hear()",
            "DROP TRIGGER hear ON logs",
            "triggers",
        ),
        (
            "INSERT INTO logs VALUES (7, timestamptz '2024-01-01 00:00+00' + 7 * interval '27 days' / 40, 'b')",
            "DELETE FROM logs",
            "conflict",
        ),
    ],
    ids=["rounded", "dropped", "renamed", "trigger", "key"],
)
def test_rows_that_would_not_be_what_they_were_are_not_put_back(
    tmp_path: Path, pg_database: str, change: str, undo: str, reason: str
) -> None:
    world = left(tmp_path, pg_database)
    run(pg_database, change)
    before, hot = world.read(), rows(pg_database, "SELECT id FROM logs")
    with pytest.raises(Refused) as refused:
        back(world)
    assert refused.value.reason == reason, refused.value
    assert world.read() == before
    assert rows(pg_database, "SELECT id FROM logs") == hot
    assert [unit.state for unit in world.units()] == ["removed"]
    run(pg_database, undo)
    assert back(world) == 40
    assert rows(pg_database, "SELECT count(*), count(line), count(facts) FROM logs") == [(40, 40, 40)]


def test_a_column_that_came_meanwhile_has_its_default(tmp_path: Path, pg_database: str) -> None:
    world = left(tmp_path, pg_database)
    run(pg_database, "ALTER TABLE logs ADD COLUMN tier text DEFAULT 'old'")
    assert back(world) == 40
    assert rows(pg_database, "SELECT DISTINCT tier FROM logs") == [("old",)]


def test_the_objects_of_what_is_back_go_and_no_row_with_them(tmp_path: Path, pg_database: str) -> None:
    world = left(tmp_path, pg_database)
    before = world.read()
    assert back(world) == 40
    swept = expiring.sweep(world.work(), grace=expiring.timedelta(0))
    assert len(swept.gone) == 1
    assert world.stored_keys() == []
    found = rows(pg_database, "SELECT id, line, amount FROM logs ORDER BY id")
    assert found == [(row["id"], row["line"], row["amount"]) for row in before]


def test_a_month_that_somebody_else_attached_is_not_called_back(tmp_path: Path, pg_database: str) -> None:
    """V10: it still refuses every write, and its grants are gone; only our own undo gives them back."""
    world = left(tmp_path, pg_database, undo_window="7 d")
    [(lane,)] = rows(pg_database, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'logs'::regclass")
    attach = "ALTER TABLE logs ATTACH PARTITION maintenance_archive.logs_2024_01"
    run(
        pg_database,
        f"ALTER TABLE logs DETACH PARTITION {lane}",
        f"{attach} FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2024-02-01 00:00+00')",
    )
    with pytest.raises(Refused, match="somebody else changed it") as refused:
        put_back(world.work(), world.unit(), actor="ann", reason="asked")
    assert refused.value.reason == "not_ours"
    assert world.unit().state == "detached"
