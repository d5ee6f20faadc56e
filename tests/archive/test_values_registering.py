"""Rows that are written with the slimming of a value, and taken back with it (S4-51)."""

from __future__ import annotations

from pathlib import Path

import pytest

from maintenance_defs.archive.values import restore_value, slimming
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.retention.migrate import apply as apply_migrations
from tests.archive.values_world import FOLDER, NAME, SHOT, World, declared, result

ROWS = """
SELECT j.id AS for_id, 'found-' || j.id || '-' || n AS id, j.id AS job_id,
       CAST(shot ->> 'stepIndex' AS int) AS step_index, shot ->> 'url' AS url,
       CAST(shot ->> 'width' AS int) AS width, CAST(shot ->> 'height' AS int) AS height,
       coalesce(CAST(shot ->> 'capturedAt' AS timestamptz), j.completed_at) AS captured_at
FROM public.jobs j CROSS JOIN LATERAL jsonb_array_elements(j.result -> 'screenshots') WITH ORDINALITY AS e (shot, n)
WHERE NOT EXISTS (SELECT FROM public.execution_screenshots e WHERE e.job_id = j.id AND e.url = shot ->> 'url')
"""
REGISTER = {
    "answers": "screenshots_unregistered",
    "table": "public.execution_screenshots",
    "id": "id",
    "rows": ROWS,
    "record": "public.registered_rows",
    "migration": "registered_rows",
}


@pytest.fixture
def world(pg_database: str, tmp_path: Path) -> World:
    made = World(pg_database, tmp_path, declared(register=REGISTER)).schema()
    apply_migrations(made.system, made.home, FOLDER, ["registered_rows"], chosen=["register"])
    return made


def shots(world: World) -> list[tuple[str, str, str]]:
    return [(a, b, c) for a, b, c in world.sql("SELECT id, job_id, url FROM execution_screenshots ORDER BY id")]


def recorded(world: World) -> list[str]:
    return [str(row[0]) for row in world.sql("SELECT row_id FROM registered_rows ORDER BY row_id")]


def registered(world: World, id: str, step: int, name: str) -> None:
    """As the application registers it."""
    world.sql("INSERT INTO execution_screenshots VALUES (%s, %s, %s, %s, 1, 1, now())", name, id, step,
              SHOT.format(id, step))  # fmt: skip


def test_missing_rows_are_written_with_the_slim_value_and_told(world: World) -> None:
    world.job("j1", result(1, shots=3))
    world.job("j2", result(2, shots=1))
    registered(world, "j1", 1, "mine")
    registered(world, "j2", 0, "mine-2")
    found, items = world.survey()
    assert found.listed == {}
    reasons = {item["row_id"]: item["reason"] for item in items}
    assert reasons["j1"].endswith("its rows for screenshots_unregistered are written with it")
    assert "screenshots" not in reasons["j2"]
    assert len(shots(world)) == 2  # a survey writes nothing
    done = world.act(items)
    assert (done["j1"].outcome, done["j1"].detail) == ("set", "2 rows were written to public.execution_screenshots")
    assert (done["j2"].outcome, done["j2"].detail) == ("set", None)
    assert shots(world) == [
        ("found-j1-1", "j1", SHOT.format("j1", 0)),
        ("found-j1-3", "j1", SHOT.format("j1", 2)),
        ("mine", "j1", SHOT.format("j1", 1)),
        ("mine-2", "j2", SHOT.format("j2", 0)),
    ]
    assert recorded(world) == ["found-j1-1", "found-j1-3"]


def test_a_restore_takes_back_what_was_written_and_is_unchanged_and_nothing_else(world: World) -> None:
    world.job("j1", result(1, shots=4))
    world.job("j2", result(2, shots=1))
    registered(world, "j1", 3, "mine")
    before = world.texts()
    world.run()
    world.sql("UPDATE execution_screenshots SET width = 7 WHERE id = 'found-j1-2'")
    restore_value(world.system, NAME, world.home, "j1")
    assert world.text("j1") == before["j1"]
    assert [row[0] for row in shots(world)] == ["found-j1-2", "found-j2-1", "mine"]
    assert recorded(world) == ["found-j2-1"]


def test_a_restore_removes_no_row_that_a_foreign_key_may_point_at(world: World) -> None:
    world.sql("CREATE TABLE notes (shot TEXT REFERENCES execution_screenshots (id) ON DELETE CASCADE)")
    world.job("j1", result(1, shots=1))
    world.run()
    world.sql("INSERT INTO notes SELECT id FROM execution_screenshots")
    restore_value(world.system, NAME, world.home, "j1")
    assert len(shots(world)) == 1
    assert world.sql("SELECT COUNT(*) FROM notes") == [(1,)]


def test_rows_and_slim_value_are_one_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at the commit: neither is there, and the next run does both."""
    world.job("j1", result(1, shots=2))
    before = world.texts()
    real = slimming._changed

    def killed(*arguments: object) -> set[str]:
        real(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(slimming, "_changed", killed)
        with pytest.raises(KeyboardInterrupt):
            world.run()
    assert (world.texts(), shots(world), recorded(world)) == (before, [], [])
    assert world.run() == {"j1": "set"}
    assert len(shots(world)) == len(recorded(world)) == 2


def test_a_row_whose_entries_cannot_be_written_fails_alone(world: World) -> None:
    """An id that is taken, an entry without a url, and one that comes out as another row: nothing of these is slim."""
    world.job("j1", result(1, shots=1))
    world.job("j2", result(2, shots=1))
    registered(world, "j9", 0, "found-j2-1")
    world.job("j3", result(3, screenshots=[{"stepIndex": 0}]))
    world.job("j4", result(4, shots=1))
    world.sql(
        "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.url := 'other'; RETURN NEW; END $$;"
        "CREATE TRIGGER other BEFORE INSERT ON execution_screenshots FOR EACH ROW WHEN (NEW.job_id = 'j4')"
        " EXECUTE FUNCTION other()"
    )
    before = world.texts()
    _, items = world.survey()
    done = world.act(items)
    assert {id: one.outcome for id, one in done.items()} == {
        "j1": "set",
        "j2": "failed",
        "j3": "failed",
        "j4": "failed",
    }
    assert "finds it still" in str(done["j4"].detail)
    after = world.texts()
    assert [id for id in before if before[id] != after[id]] == ["j1"]
    assert [row[0] for row in shots(world)] == ["found-j1-1", "found-j2-1"]


def test_a_row_that_its_own_entries_set_going_again_keeps_its_value(world: World) -> None:
    """Nothing of a job that is not finished any more leaves, and nothing is registered for it."""
    world.job("j1", result(1, shots=1))
    world.job("j2", result(2, shots=1))
    world.sql(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE jobs SET status = 'RUNNING' WHERE id = NEW.job_id; RETURN NULL; END $$;"
        "CREATE TRIGGER again AFTER INSERT ON execution_screenshots FOR EACH ROW WHEN (NEW.job_id = 'j2')"
        " EXECUTE FUNCTION again()"
    )
    before = world.texts()
    _, items = world.survey()
    done = world.act(items)
    assert {id: one.outcome for id, one in done.items()} == {"j1": "set", "j2": "failed"}
    assert "it is not finished any more" in str(done["j2"].detail)
    assert world.text("j2") == before["j2"]
    assert [row[0] for row in shots(world)] == ["found-j1-1"]
    assert world.sql("SELECT status FROM jobs WHERE id = 'j2'") == [("COMPLETED",)]


def test_other_checks_hold_the_row_as_ever(world: World) -> None:
    world.system = declared(register=REGISTER, holds=["screenshots_unregistered", "results_of_unknown_shape"])
    world.job("j1", result(1, shots=1))
    _, items = world.survey()
    world.sql("UPDATE jobs SET result = '[]'")
    assert world.act(items)["j1"].outcome == "skipped_kept"
    assert shots(world) == []


def test_without_its_table_nothing_is_archived(world: World) -> None:
    world.sql("DROP TABLE registered_rows")
    world.job("j1", result(1, shots=1))
    with pytest.raises(SourceUnavailable, match="Apply the migration registered_rows first"):
        world.survey()
    assert world.keys() == []


def test_what_it_answers_must_be_a_hold() -> None:
    with pytest.raises(ValueError, match="must be one of holds"):
        declared(register=REGISTER | {"answers": "results_of_unknown_shape"})
