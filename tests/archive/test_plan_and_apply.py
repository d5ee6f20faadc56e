"""Planning changes nothing and waits for nobody; acting needs the primary."""

from __future__ import annotations

from pathlib import Path

from maintenance_defs.archive.planning import take_plan
from maintenance_defs.databases.embedded import EmbeddedPostgres
from tests.archive.life_world import AS_OF, LifeWorld
from tests.support.postgres import connect


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
