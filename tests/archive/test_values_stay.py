"""Rows that keep their values, and why: what is not surely finished, old and understood stays as it is."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.values import get_value
from tests.archive.values_world import AS_OF, NAME, SHOT, World, declared, result


@pytest.fixture
def world(pg_database: str, tmp_path: Path) -> World:
    return World(pg_database, tmp_path).schema()


def untouched(world: World, why: dict[str, int]) -> None:
    """Nothing is planned; and what a plan of before would do is not done."""
    before = world.texts()
    _, items = world.survey()
    assert items == []
    assert world.stays() == why
    forced = [
        {"row_id": id, "organisation": "org-default", "size_bytes": 10, "act": "archive", "key": "", "reason": ""}
        for id in before
    ]
    assert {one.outcome for one in world.act(forced).values()} <= {"skipped_kept", "skipped_held"}
    assert world.texts() == before
    assert (world.keys(), world.catalogue(), world.states()) == ([], {}, {})


def test_running_young_and_undated_jobs_keep_their_results(world: World) -> None:
    """S4-55, X-18: terminal and a day old; nobody knows how old a job without a time is."""
    world.job("j1", result(1), status="RUNNING")
    world.job("j2", result(2), at="2025-12-04 00:00:01Z")
    world.job("j3", result(3), at=None)
    world.job("j4", result(4), at="infinity")
    world.job("j5", result(5), status="PAUSED")
    untouched(world, {"running": 2, "young": 1, "undated": 2})
    assert world.survey()[0].listed == {
        "undated": [("j3", "its completed_at is empty"), ("j4", "its completed_at is empty")]
    }
    world.job("j6", result(6), at="2025-12-04 00:00:00Z")  # exactly a day old
    assert world.run() == {"j6": "set"}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([1, 2], "not_object"), ("text", "not_object"), (17, "not_object"), (True, "not_object"),
        ("null", "no_value"), (None, None), ({}, "unknown_shape"), ({"output": {"x": 1}}, "unknown_shape"),
        (result(1, success="yes"), "unknown_shape"), (result(1, stats=[]), "unknown_shape"),
        (result(1, stats={"totalSteps": 3}), "unknown_shape"), (result(1, screenshots="many"), "unknown_shape"),
        (result(1, screenshots=None), "unknown_shape"),
        ({"success": True, "stats": result(1)["stats"], "screenshotCount": 4}, "slim"),
    ],
)  # fmt: skip
def test_results_of_another_shape_are_held_and_listed(world: World, value: Any, why: str | None) -> None:
    """S4-50: not an object, or no summary can be made of it."""
    world.job("j1", value if value in (None, "null") else json.dumps(value))
    untouched(world, {why: 1} if why else {})
    if why in ("not_object", "unknown_shape"):
        assert [id for id, _ in world.survey()[0].listed[why]] == ["j1"]


def test_a_row_on_which_the_declared_sql_fails_stays_alone(world: World) -> None:
    """S4-50: one row of a thousand on which it fails holds back itself, not the others."""
    world.system = declared(slim="jsonb_build_object('n', jsonb_array_length(result -> 'screenshots'))")
    for number in range(9):
        world.job(f"j{number}", result(number))
    world.job("j4x", result(4, screenshots=5))
    found, items = world.survey()
    assert len(items) == 9
    assert found.listed == {"unknown_shape": [("j4x", "the declared SQL fails on it")]}
    forced = [*items, items[0] | {"row_id": "j4x"}]
    assert {id: one.outcome for id, one in world.act(forced).items() if one.outcome != "set"} == {"j4x": "skipped_kept"}


def test_screenshots_that_only_the_result_names_hold_it(world: World) -> None:
    """S4-51: every entry has its execution_screenshots row, or slimming would forget it; asked again in the act."""
    world.job("j1", result(1, shots=2))
    world.job("j2", result(2, shots=2))
    for step in range(2):
        world.sql("INSERT INTO execution_screenshots VALUES (%s, 'j1', %s, %s, 1, 1, now())", f"s{step}", step,
                  SHOT.format("j1", step))  # fmt: skip
    found, items = world.survey()
    assert [item["row_id"] for item in items] == ["j1"]
    assert found.listed == {"check": [("j2", "check screenshots_unregistered found it")]}
    world.sql("DELETE FROM execution_screenshots WHERE id = 's1'")
    before = world.texts()
    assert world.act(items)["j1"].outcome == "skipped_kept"
    assert world.texts() == before
    world.sql("INSERT INTO execution_screenshots VALUES ('s9', 'j1', 1, %s, 1, 1, now())", SHOT.format("j1", 1))
    assert world.run() == {"j1": "set"}


@pytest.mark.parametrize(
    "hold",
    [
        {"table": "public.jobs", "row_id": "j1"}, {"table": "jobs"}, {"row_id": "j1"}, {}, {"policy": NAME},
        {"store": "archive"}, {"store": "archive", "prefix": "job-results/org-default/"},
        {"store": "archive", "key": "job-results/org-default/j1.json.gz"},
    ],
    ids=str,
)  # fmt: skip
def test_a_hold_keeps_the_value_where_it_is(world: World, hold: dict[str, str]) -> None:
    """G93, V8: on the row, or wider."""
    world.job("j1", result(1))
    state = world.home.control.retention
    placed = state.add_hold("executions", "ada", "a lawsuit", **hold)
    untouched(world, {"held": 1})
    assert "a lawsuit" in world.survey()[0].listed["held"][0][1]
    state.release_hold(placed.id, "ada", "over")
    assert world.run() == {"j1": "set"}


def test_a_job_that_ran_again_keeps_its_new_result_and_the_archive_its_old(world: World) -> None:
    """V5: nothing is overwritten; the row is listed."""
    world.job("j1", result(1))
    old = world.text("j1")
    world.run()
    world.sql("UPDATE jobs SET result = %s", json.dumps(result(2)))
    new, keys = world.text("j1"), world.keys()
    found, items = world.survey()
    assert items == []
    assert [id for id, _ in found.listed["ran_again"]] == ["j1"]
    forced = {"row_id": "j1", "organisation": "x", "size_bytes": 1, "act": "archive", "key": "", "reason": ""}
    assert world.act([forced])["j1"].outcome == "skipped_kept"
    assert (world.text("j1"), world.keys()) == (new, keys)
    assert get_value(world.system, NAME, world.home, "j1").decode() == old


def test_in_doubt_after_a_kill_and_changed_since_it_stays(world: World) -> None:
    """V8: whether the old value was ever only in the archive nobody knows, so its object stays too."""
    world.job("j1", result(1))
    world.run()
    world.home.control.archive.mark_values("executions", NAME, ["j1"], "proven")  # killed before it was recorded
    world.sql("UPDATE jobs SET result = %s", json.dumps(result(2)))
    keys, texts = world.keys(), world.texts()
    assert world.run() == {}
    assert world.stays() == {"ran_again": 1}
    assert (world.keys(), world.texts()) == (keys, texts)


def test_many_reasons_are_counted_and_only_some_ids_listed(world: World) -> None:
    for number in range(130):
        world.job(f"j{number:03}", [number])
    found, _ = world.survey()
    assert found.stays == {"not_object": 130}
    assert len(found.listed["not_object"]) == 100


def test_the_age_is_that_of_the_declaration(world: World) -> None:
    world.system = declared(hot="30 d")
    world.job("j1", result(1), at="2025-11-20")
    assert world.stays() == {"young": 1}
    assert world.run(AS_OF + timedelta(days=15)) == {"j1": "set"}
