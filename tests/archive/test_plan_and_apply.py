"""Planning changes nothing and waits for nobody; acting needs the primary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.plans.planning import take_plan
from maintenance_defs.archive.plans.survey import survey
from maintenance_defs.archive.rows import export
from maintenance_defs.archive.units import exporting
from maintenance_defs.archive.units.exporting import catalogue_unit, unit_of
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.embedded import EmbeddedPostgres
from tests.archive.life_world import AS_OF, LifeWorld
from tests.archive.world import COLD, FILL, LogWorld
from tests.support.months import rows
from tests.support.postgres import connect
from tests.support.postgres import execute as run


def test_a_plan_takes_no_lock_that_anybody_could_feel_and_changes_nothing(tmp_path: Path, pg_database: str) -> None:
    """I121, V14: beside EXCLUSIVE locks of others only ACCESS SHARE is granted."""
    world = LifeWorld(tmp_path, pg_database, "with default")
    other = connect(pg_database)
    other.autocommit = False
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE logs, logs_01, logs_02, logs_03, logs_rest IN EXCLUSIVE MODE")
    try:
        plan = take_plan(world.system, "logs", world.home, run_id="test", as_of=AS_OF)
    finally:
        other.rollback()
        other.close()
    assert {line["label"] for line in plan.totals["lines"]} == {"2025-01", "2025-02"}
    assert list((tmp_path / "archive").iterdir()) == []
    assert world.home.control.archive.units("life") == []
    assert world.sql("SELECT to_regnamespace('maintenance_archive')") == [(None,)]
    world.check()


def test_nothing_leaves_a_table_of_a_replica(tmp_path: Path) -> None:
    """A16: the plan was made when this server was the primary; now it follows another one."""
    with EmbeddedPostgres(tmp_path / "server", durable=False) as server:
        world = LifeWorld(tmp_path / "world", server.url(), "partitions")
        take_plan(world.system, "logs", world.home, run_id="test", as_of=AS_OF)
        world.app.close()
        server.stop()
        (server.folder / "data" / "standby.signal").touch()
        server.start()
        world.home.environment = {**world.home.environment, "DB": server.url()}
        world.app = connect(server.url())
        done = world.archive()
        assert done is not None and done.state == "partial"
        assert {problem["outcome"] for problem in done.problems} == {"failed"}
        assert world.home.control.archive.units("life", "logs", ("detached", "removed")) == []
        world.check()
        world.app.close()


@pytest.mark.parametrize("changes", [False, True])
def test_what_was_written_with_another_value_stays_and_the_column_is_named(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    """V1: a writer that bends the values of one column. changes: the source has moved on when the columns are sought,
    so that nobody can say any more which they were."""
    world = LifeWorld(tmp_path, pg_database, "partitions")
    world.acts_left = 0
    query, prove_file = export._query, exporting.prove_file

    def bent(*arguments: Any) -> str:
        return query(*arguments).replace('CAST(t."body" AS text)', """CAST(t."body" || '.' AS text)""")

    def late(*arguments: Any) -> Any:
        if changes:
            world.sql("UPDATE logs SET org = org, body = body || '!', job = job || '!'")
            world.model = {id: (*row[:2], row[2] + "!", row[3], row[4] + "!") for id, row in world.model.items()}
        return prove_file(*arguments)

    monkeypatch.setattr(export, "_query", bent)
    monkeypatch.setattr(exporting, "prove_file", late)
    done = world.archive()
    assert done is not None and done.problems
    for problem in done.problems:
        assert problem["outcome"] == "failed"
        assert "with other values" in problem["detail"]
        assert ("in column 'body': digest" in problem["detail"]) is not changes
        assert "'job'" not in problem["detail"]
        assert "The rows were kept where they are." in problem["detail"]
    assert world.home.control.archive.units("life", "logs", ("catalogued", "detached", "removed")) == []
    assert world.sql("SELECT count(*) FROM logs") == [(len(world.model),)]
    world.check()


def test_no_month_leaves_a_table_that_somebody_else_drops_months_of(tmp_path: Path, pg_database: str) -> None:
    """D64: what stands in the way is asked where a month leaves, whatever was planned before."""
    world = LogWorld(tmp_path, pg_database)
    run(pg_database, FILL.format(rows=40))
    plan = world.plan(COLD)
    run(
        pg_database, "CREATE SCHEMA partman",
        "CREATE TABLE partman.part_config (parent_table text PRIMARY KEY, control text, partition_interval text, "
        "premake int, retention text, retention_schema text, retention_keep_table boolean)",
        "INSERT INTO partman.part_config VALUES ('public.logs', 'at', '1 mon', 4, '3 months', NULL, false)",
    )  # fmt: skip
    [problem] = {one["detail"] for one in world.apply(COLD, plan).problems}
    assert "pg_partman drops or detaches partitions of public.logs after 3 months" in problem
    assert rows(pg_database, "SELECT count(*) FROM logs") == [(40,)]
    assert world.unit().state == "catalogued"


def test_a_unit_of_another_database_is_not_exported_from_this_one(tmp_path: Path, pg_database: str) -> None:  # G103
    """Where the address leads elsewhere since the unit was found."""
    world = LogWorld(tmp_path, pg_database)
    run(pg_database, FILL.format(rows=40))
    work, state = world.work(COLD), world.home.control.archive
    with archive_database(world.system, world.home).snapshot() as snapshot:
        found = survey(snapshot, work.archive, count=False)
    theirs = state.add_unit(replace(unit_of(work, found, found.spans[0]), id="theirs", source="another"))
    state.take_unit(theirs.id, work.owner, 60)
    with pytest.raises(Refused, match="belongs to another database") as refused:
        catalogue_unit(work, theirs)
    assert refused.value.reason == "another_database"
    assert world.stored_keys() == []
    assert state.unit(theirs.id).state == "planned"
