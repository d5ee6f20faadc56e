"""What goes without a copy is judged again where it goes: plans, exports and undo windows are days, and times, owners
and holds change meanwhile (V8, V14, G88, G93)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from maintenance_defs.archive import gate
from maintenance_defs.archive.gate import run_archive
from maintenance_defs.archive.units import leaving
from maintenance_defs.core.errors import Refused
from tests.archive.world import COLD, FILL, LATER, LogWorld
from tests.support.months import rows
from tests.support.postgres import execute as run

Copied = Callable[[], str]
EVERY = set(range(400))
LONGER = "UPDATE organisations SET days = 2557 WHERE id = 'a'"


def filled(folder: Path, url: str, **archive: object) -> LogWorld:
    """400 rows of January; a quarter are org a's, whose 90 days are over at LATER, all others stay for ever."""
    world = LogWorld(folder, url, {"keep": "forever"} | archive)
    run(url, FILL.format(rows=400))
    return world


def owned_by_jobs(folder: Path, url: str, **archive: object) -> LogWorld:
    """The same; whose a row is stands in another table."""
    jobs = "SELECT 'job-' || n, (ARRAY['a', 'b', 'c'])[1 + n % 3] FROM generate_series(0, 19) n"
    run(url, "CREATE TABLE jobs (id text PRIMARY KEY, owner text)", f"INSERT INTO jobs {jobs}")
    owner = {"table": "public.jobs", "by": {"job": "id"}, "column": "owner"}
    return filled(folder, url, organisation=owner, **archive)


def everywhere(world: LogWorld) -> set[int]:
    """Ids in the table, in the archive, and in the detached partition."""
    found = {id for (id,) in rows(world.url, "SELECT id FROM public.logs")} | {row["id"] for row in world.read()}
    for (name,) in rows(world.url, "SELECT oid::regclass::text FROM pg_class WHERE relname = 'logs_2024_01'"):
        found |= {id for (id,) in rows(world.url, f"SELECT id FROM {name}")}
    return found


@pytest.mark.parametrize("remove", ["partition", "rows"])
def test_what_is_to_be_kept_longer_than_at_its_export_is_exported_again(
    tmp_path: Path, pg_database: str, remove: str
) -> None:
    """G88: said between export and plan, so nobody agreed to lose it; and the plan can be carried out."""
    world = filled(tmp_path, pg_database, remove=remove)
    run_archive(world.system, "logs", world.home, run_id="test", as_of=LATER)
    run(pg_database, LONGER)
    assert world.apply(LATER).state == "done"
    assert {row["id"] for row in world.read()} == EVERY


@pytest.mark.parametrize("remove", ["partition", "rows"])
def test_what_is_to_be_kept_longer_than_when_it_was_agreed_to_is_archived(
    tmp_path: Path, pg_database: str, remove: str
) -> None:
    world = filled(tmp_path, pg_database, remove=remove)
    run_archive(world.system, "logs", world.home, run_id="test", as_of=LATER)
    plan = world.plan(LATER)
    run(pg_database, LONGER)
    assert world.apply(LATER, plan).state == "done"
    assert {row["id"] for row in world.read()} == EVERY


def test_rows_whose_organisation_is_another_one_now_are_archived(tmp_path: Path, pg_database: str) -> None:
    """G90: whose a row is stands in another table, so that its own text is as it was."""
    world = owned_by_jobs(tmp_path, pg_database)
    run_archive(world.system, "logs", world.home, run_id="test", as_of=LATER)
    plan = world.plan(LATER)
    assert any(line["act"] == "expire_rows" for line in plan.totals["lines"])
    run(pg_database, "UPDATE jobs SET owner = 'b' WHERE id = 'job-3'")
    done = world.apply(LATER, plan)
    assert done.state == "done", done.problems
    assert {row["id"] for row in world.read()} >= {id for id in EVERY if id % 20 == 3}


@pytest.mark.parametrize("remove", ["partition", "rows"])
def test_archived_rows_are_kept_as_long_as_those_of_who_owned_them_when_they_left(
    tmp_path: Path, pg_database: str, remove: str
) -> None:
    """V8: job-0 was org a's when its month was exported; a plan says whose its rows are now."""
    world = owned_by_jobs(tmp_path, pg_database, remove=remove, undo_window="1 s")
    run(pg_database, LONGER)
    run_archive(world.system, "logs", world.home, run_id="test", as_of=COLD)

    def owned() -> dict[str, int]:
        groups = world.home.control.archive.groups([file.id for file in world.files()])
        return {one.organisation: one.rows for one in groups}

    assert owned() == {"a": 140, "b": 140, "c": 120}
    run(pg_database, "UPDATE jobs SET owner = 'b' WHERE id = 'job-0'")
    assert world.apply(COLD).state == "done"
    assert owned() == {"a": 120, "b": 160, "c": 120}
    if remove == "partition":  # it waits in its window, and goes with those who own its rows then
        run(pg_database, "UPDATE jobs SET owner = 'c' WHERE id = 'job-0'")
        time.sleep(1.1)
        assert world.apply(None).state == "done"  # type: ignore[arg-type]
        assert owned() == {"a": 120, "b": 140, "c": 140}


def test_rows_whose_time_is_over_since_their_month_was_detached_are_agreed_to_first(
    tmp_path: Path, pg_database: str
) -> None:
    """V14: they are another organisation's now, and would go with the detached month, without a copy."""
    world = owned_by_jobs(tmp_path, pg_database, undo_window="1 s")
    assert world.apply(LATER).state == "done"
    run(pg_database, "UPDATE jobs SET owner = 'a' WHERE owner = 'b'")
    time.sleep(1.1)
    done = world.apply(None)  # type: ignore[arg-type]
    assert "280 expired rows of a, agreed were 140" in str(done.problems)
    assert world.unit().state == "detached"
    assert everywhere(world) == EVERY


def test_a_longer_time_is_seen_before_a_detached_month_is_dropped(tmp_path: Path, pg_database: str) -> None:
    world = filled(tmp_path, pg_database, undo_window="1 s")
    assert world.apply(LATER).state == "done"
    assert world.unit().state == "detached"
    run(pg_database, LONGER)
    time.sleep(1.1)
    assert world.apply(None).state == "done"  # type: ignore[arg-type]
    assert world.unit().state == "removed"
    assert {row["id"] for row in world.read()} == EVERY


def test_a_hold_on_one_row_keeps_a_detached_month_from_being_dropped(tmp_path: Path, pg_database: str) -> None:
    """K11, G93: the row is org a's, in no file."""
    world = filled(tmp_path, pg_database, undo_window="1 s")
    assert world.apply(LATER).state == "done"
    time.sleep(1.1)
    plan = world.plan(None)  # type: ignore[arg-type]
    hold = world.hold(table="public.logs", row_id="job-4")
    done = world.apply(None, plan)  # type: ignore[arg-type]
    assert done.counts == {"skipped_held": 1}, done.problems
    assert world.unit().state == "detached"
    assert everywhere(world) == EVERY
    world.home.control.retention.release_hold(hold.id, "ann", "settled")
    assert world.apply(None).counts == {"deleted": 1}  # type: ignore[arg-type]


@pytest.mark.parametrize("remove", ["partition", "rows"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_hold_on_one_row_after_the_plan_keeps_its_month_in_the_table(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch, remove: str, begun: bool
) -> None:
    """G93: also where every row has its copy. begun: the run has looked at the holds once."""
    world = filled(tmp_path, pg_database, remove=remove)
    run_archive(world.system, "logs", world.home, run_id="test", as_of=COLD)
    plan, real = world.plan(COLD), gate.catalogue_unit

    def hold(*args: object) -> object:
        world.hold(table="logs", row_id="8")
        return real(*args)  # type: ignore[arg-type]

    if begun:
        monkeypatch.setattr(gate, "catalogue_unit", hold)
    else:
        world.hold(table="logs", row_id="8")
    done = world.apply(COLD, plan)
    assert "a hold covers some of its rows" in str(done.problems)
    assert (world.unit().state, rows(pg_database, "SELECT count(*) FROM logs")) == ("catalogued", [(400,)])


@pytest.mark.parametrize("dropping", [False, True])
def test_a_hold_on_the_month_that_is_placed_meanwhile_keeps_it_where_it_is(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch, dropping: bool
) -> None:
    """V8: after the run had said on the ledger what it is about to do."""
    world = filled(tmp_path, pg_database, undo_window="1 s")
    if dropping:
        assert world.apply(LATER).state == "done"
        time.sleep(1.1)
    real = gate.catalogue_unit

    def meanwhile(*args: object) -> object:
        world.hold(table="public.logs", row_id="2024-01")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(gate, "catalogue_unit", meanwhile)
    done = world.apply(None if dropping else LATER)  # type: ignore[arg-type]
    assert set(done.counts) == {"skipped_held"}, done.problems
    assert world.unit().state == ("detached" if dropping else "catalogued")
    assert everywhere(world) == EVERY


@pytest.mark.parametrize("said", ['["8", "2024-01-01 12:57:36+00"]', "[8, null]", " JOB-8", "job-8 "])
def test_a_hold_is_read_as_loosely_for_rows_that_go_without_a_copy(tmp_path: Path, pg_database: str, said: str) -> None:
    """G93: by a key of several columns, in another case or with blanks around it."""
    world = filled(tmp_path, pg_database)
    world.hold(table="public.logs", row_id=said)
    plan = world.plan(LATER)
    assert plan.units == 0
    assert {line["why"] for line in plan.totals["stays"]} == {"held"}


def test_a_hold_placed_while_rows_are_leaving_stops_them(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K11: and the run that goes on spares what would go without a copy."""
    world = filled(tmp_path, pg_database, remove="rows")
    real = leaving.delete_rows

    def meanwhile(*args: object, **kwargs: object) -> object:
        world.hold(table="public.logs", row_id="job-4")
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(leaving, "delete_rows", meanwhile)
    plan = world.plan(LATER)
    assert set(world.apply(LATER, plan).counts) == {"skipped_held"}
    monkeypatch.undo()
    assert rows(pg_database, "SELECT count(*) FROM public.logs") == [(400,)]
    unit = world.home.control.archive.take_unit(world.unit().id, "test", 60.0)
    leaving.leave(world.work(), unit)
    assert everywhere(world) == EVERY
    assert rows(pg_database, "SELECT count(*), min(org) FROM public.logs") == [(100, "a")]


@pytest.mark.parametrize("what", [{}, {"table": "public.logs"}, {"table": "logs", "row_id": "2024-01"}], ids=str)
def test_a_hold_on_more_than_rows_stops_rows_that_are_leaving(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch, what: dict[str, str]
) -> None:
    """K11: on all of the system, the table, or the month."""
    world = filled(tmp_path, pg_database, remove="rows")
    real = leaving.delete_rows

    def meanwhile(*args: object, **kwargs: object) -> object:
        world.hold(**what)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(leaving, "delete_rows", meanwhile)
    assert set(world.apply(COLD).counts) == {"skipped_held"}
    assert rows(pg_database, "SELECT count(*) FROM public.logs") == [(400,)]


def test_of_two_times_for_one_organisation_the_longest_holds(tmp_path: Path, pg_database: str) -> None:
    """G15, G88: in whatever order the table has them; it is listed."""
    world = LogWorld(tmp_path, pg_database, {"keep": "forever"})
    more = "INSERT INTO organisations VALUES ('a', 3650), ('b', 90), ('a', 60), ('c', 90)"
    run(pg_database, "ALTER TABLE organisations DROP CONSTRAINT organisations_pkey", more, FILL.format(rows=400))
    plan = world.plan(LATER)
    assert {line["act"] for line in plan.totals["lines"]} == {"archive"}
    twice = [one["organisation"] for one in plan.totals["invalid"] if "more than once" in one["why"]]
    assert sorted(twice) == ["a", "b", "c"]
    assert world.apply(LATER, plan).state == "done"
    assert {row["id"] for row in world.read()} == EVERY


def test_a_plan_is_carried_out_on_its_own_database_only(tmp_path: Path, pg_database: str, copied: Copied) -> None:
    """G103: the variable leads to a copy of the same shape by the time somebody applies it."""
    world = filled(tmp_path, pg_database)
    plan = world.plan(COLD)
    other = copied()
    world.home.environment = {**world.home.environment, "DB": other}
    with pytest.raises(Refused, match="was made on") as caught:
        world.apply(COLD, plan)
    assert caught.value.reason == "another_database"
    assert rows(other, "SELECT count(*) FROM public.logs") == [(400,)]


@pytest.mark.parametrize("remove", ["partition", "rows"])
def test_nothing_leaves_through_a_writer_of_another(
    tmp_path: Path, pg_database: str, copied: Copied, remove: str
) -> None:
    """V10, E06: `write_url_env` is set to a copy; its rows are as alike as can be."""
    world = filled(tmp_path, pg_database, remove=remove)
    other = copied()
    world.home.environment = {**world.home.environment, "WRITER": other}
    database = world.system.database.model_copy(update={"write_url_env": "WRITER"})
    world.system = world.system.model_copy(update={"database": database})
    done = world.apply(COLD)
    assert set(done.counts) == {"failed"}
    assert "another database" in str(done.problems)
    for url in (pg_database, other):
        assert rows(url, "SELECT count(*) FROM public.logs") == [(400,)]
