"""Rows that come back are there once: after kills, a second time, and where a whole database was set back (V4, V6)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.gate import execute, run_archive
from maintenance_defs.archive.reading import dataset, get, query
from maintenance_defs.archive.units import exporting, leaving, returning
from maintenance_defs.archive.units.returning import into_place, put_back
from maintenance_defs.control.archive import ArchiveState
from maintenance_defs.control.archive.tables import unit as unit_table
from maintenance_defs.control.retention.tables import plan as plan_table
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.embedded import EmbeddedPostgres
from tests.archive.life_world import Killed, LifeWorld
from tests.archive.world import COLD, FILL, LogWorld
from tests.support.months import rows
from tests.support.postgres import connect
from tests.support.postgres import execute as run


def two_parts(folder: Path, url: str) -> LogWorld:
    """January left the table, and a row that came late for it."""
    world = LogWorld(folder, url, {"keep": "forever"})
    run(url, FILL.format(rows=40))
    assert world.apply(COLD).state == "done"
    run(url, "INSERT INTO logs VALUES (1000, '2024-01-05Z', 'b', 'job-1', 'late', 1, '{}')")
    assert world.apply(COLD).state == "done"
    return world


def dying(before: bool, real: Callable[..., object]) -> Callable[..., object]:
    def step(*args: object, **kwargs: object) -> object:
        if not before:
            real(*args, **kwargs)
        raise Killed

    return step


@pytest.mark.parametrize("step", ["_insert", "end_files", "register_unit"])
@pytest.mark.parametrize("before", [True, False])
def test_a_month_of_two_parts_is_put_in_place_once_whenever_the_run_is_killed(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch, step: str, before: bool
) -> None:
    """V4: and a second time, after it has left once more."""
    world = two_parts(tmp_path, pg_database)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        owner = ArchiveState if step == "end_files" else returning
        patch.setattr(owner, step, dying(before, getattr(owner, step)))
        into_place(world.work(), world.units(), actor="ann", reason="asked")
    for again in (False, True):
        into_place(world.work(), world.units(), actor="ann", reason="asked")
        assert rows(pg_database, "SELECT count(*), count(DISTINCT id) FROM logs") == [(41, 41)]
        assert world.read() == []
        with pytest.raises(Refused, match="returned, not removed"):
            into_place(world.work(), world.units(), actor="ann", reason="asked")
        if not again:
            for hold in world.home.control.retention.holds("app"):
                world.home.control.retention.release_hold(hold.id, "ann", "done")
            assert world.apply(COLD).state == "done"
            assert len(world.read()) == 41


def test_a_month_whose_return_was_cut_off_is_put_back_by_the_next_one(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D67: and until then no plan takes it for a further part of its month."""
    world = LogWorld(tmp_path, pg_database, {"keep": "forever", "undo_window": "7 d"})
    run(pg_database, FILL.format(rows=40))
    assert world.apply(COLD).state == "done"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(returning, "reattach", dying(False, returning.reattach))
        put_back(world.work(), world.unit(), actor="ann", reason="asked")
    for hold in world.home.control.retention.holds("app"):
        world.home.control.retention.release_hold(hold.id, "ann", "done")
    assert "set back" in str(world.apply(COLD).problems)
    put_back(world.work(), world.unit(), actor="ann", reason="asked")
    assert (world.unit().state, world.unit().left_at) == ("catalogued", None)
    assert rows(pg_database, "SELECT count(*) FROM logs") == [(40,)]


def test_rows_go_into_the_table_they_left_only(tmp_path: Path, pg_database: str, copied: Callable[[], str]) -> None:
    """G103: in place means that the files end; a copy of the database may load a copy of the rows."""
    world = two_parts(tmp_path, pg_database)
    world.home.environment = {**world.home.environment, "DB": copied()}
    with pytest.raises(Refused, match="from another database"):
        into_place(world.work(), world.units(), actor="ann", reason="asked")
    assert len(world.read()) == 41


@pytest.mark.parametrize("shape", ["partitions", "plain"])
def test_rows_that_a_backup_brings_back_are_not_archived_twice(tmp_path: Path, shape: str) -> None:
    """V6: the server is restored to a moment before its months left, and is the same server by every sign."""
    with EmbeddedPostgres(tmp_path / "server", durable=False) as server:
        world = LifeWorld(tmp_path / "world", server.url(), shape, acts_left=0)
        data, backup = server.folder / "data", tmp_path / "backup"

        def restart(meanwhile: Callable[[], object]) -> None:
            world.app.close()
            server.stop()
            meanwhile()
            server.start()
            world.home.environment = {**world.home.environment, "DB": server.url()}
            world.app = connect(server.url())

        def restored() -> None:
            shutil.rmtree(data)
            copy(backup, data)

        restart(lambda: copy(data, backup))
        done = world.archive()
        assert done is not None and done.state == "done"
        world.check()
        restart(restored)
        hot = world.sql("SELECT count(*) FROM logs")
        assert shown(world) == len(world.model) == hot[0][0]
        done = world.archive()
        assert done is not None and set(done.counts) == {"failed"}
        assert "set back" in str(done.problems)
        assert world.sql("SELECT count(*) FROM logs") == hot
        assert shown(world) == len(world.model)
        units = world.home.control.archive.units("life")
        assert [(unit.part, unit.state) for unit in units] == [(0, "removed"), (1, "planned")] * 2
        world.app.close()


def shown(world: LifeWorld | LogWorld) -> int:
    """How many rows there are, by whoever is asked for hot and archived ones in one question."""
    [answer] = query(world.home, [world.system], "SELECT count(*) AS rows FROM logs_all").read_all().to_pylist()
    jobs = query(world.home, [world.system], "SELECT DISTINCT job FROM logs_all").read_all()["job"].to_pylist()
    got = sum(get(world.system, "logs", world.home, value=job).read_all().num_rows for job in jobs)
    assert got == answer["rows"]
    return got


ENCRYPTED = {"layout": "per_org", "path": "logs/{org}/month={month}/", "encryption": {"key_env": "KEY"}}


@pytest.mark.parametrize(
    ("said", "plain"), [({}, False), ({}, True), (ENCRYPTED, False)], ids=["partitions", "plain", "encrypted"]
)
def test_rows_that_are_written_again_are_not_archived_twice(
    tmp_path: Path, pg_database: str, said: dict[str, Any], plain: bool
) -> None:
    """V6: a hand puts rows of January back from a dump, after they left; what is new is archived as ever."""
    world = LogWorld(tmp_path, pg_database, {"keep": "forever", **said})
    run(pg_database, FILL.format(rows=40), "CREATE TABLE dumped AS SELECT * FROM logs")
    if plain:
        run(
            pg_database,
            "DROP TABLE logs",
            "CREATE TABLE logs AS SELECT * FROM dumped",
            "ALTER TABLE logs ADD PRIMARY KEY (id)",
        )
    assert world.apply(COLD).state == "done"
    run(
        pg_database,
        "INSERT INTO logs SELECT * FROM dumped WHERE id % 4 < 2",
        "UPDATE logs SET line = 'other' WHERE id = 1",
    )
    for _ in range(2):
        assert shown(world) == 40
        done = world.apply(COLD)
        assert "20 rows of logs 2024-01 (part 1) left public.logs before" in str(done.problems)
    assert rows(pg_database, "SELECT count(*) FROM logs") == [(20,)]
    assert len(world.read()) == dataset(world.home, world.system, "logs").count_rows() == 40
    run(
        pg_database, "DELETE FROM logs WHERE id < 40",
        "INSERT INTO logs SELECT id + 1000, at, org, job, line FROM dumped WHERE id % 4 < 2",
    )  # fmt: skip
    assert world.apply(COLD).state == "done"
    assert rows(pg_database, "SELECT count(*) FROM logs") == [(0,)]
    assert shown(world) == len(world.read()) == 60


def test_rows_that_cannot_be_compared_with_the_archives_are_not_archived(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V6, V13: a disk that loses what was just written to it; unknown is not new, and no value is told."""
    world = LogWorld(tmp_path, pg_database, {"keep": "forever"})
    run(pg_database, FILL.format(rows=40))
    assert world.apply(COLD).state == "done"
    run(pg_database, "INSERT INTO logs VALUES (1000, '2024-01-05Z', 'b', 'job-1', 'late', 1, '{}')")
    real = exporting.refuse_archived

    def lost(*arguments: Any) -> None:
        for one in arguments[5]:
            one.path.write_bytes(bytes(one.size_bytes))
        real(*arguments)

    monkeypatch.setattr(exporting, "refuse_archived", lost)
    [problem] = world.apply(COLD).problems
    assert "40 archived rows could not be compared with those about to be archived" in problem["detail"]
    assert "late" not in problem["detail"]
    assert rows(pg_database, "SELECT id FROM logs") == [(1000,)]
    assert len(world.read()) == 40
    monkeypatch.undo()
    assert world.apply(COLD).state == "done"
    assert len(world.read()) == 41


def test_an_organisation_that_is_written_again_whole_is_not_archived_twice_without_a_key(
    tmp_path: Path, pg_database: str
) -> None:
    """V6: one row that equals an archived one in everything may be a new one, where nothing tells rows apart."""
    world = LogWorld(tmp_path, pg_database, {"keep": "forever"})
    run(
        pg_database,
        "ALTER TABLE logs DROP CONSTRAINT logs_pkey",
        FILL.format(rows=40),
        "CREATE TABLE dumped AS SELECT * FROM logs",
    )
    assert world.apply(COLD).state == "done"
    run(pg_database, "INSERT INTO logs SELECT * FROM dumped WHERE org = 'a' OR id = 1")
    done = world.apply(COLD)
    assert "10 rows of logs 2024-01 (part 1) left public.logs before" in str(done.problems)
    assert len(world.read()) == 40
    run(pg_database, "DELETE FROM logs WHERE org = 'a'")
    assert world.apply(COLD).state == "done"
    assert shown(world) == len(world.read()) == 41


def test_what_had_not_left_its_table_is_archived_from_the_database_it_was_moved_to(
    tmp_path: Path, pg_database: str, copied: Callable[[], str]
) -> None:
    """It came back from nowhere: its month was exported, and stayed."""
    world = LogWorld(tmp_path, pg_database, {"keep": "forever"})
    run(pg_database, FILL.format(rows=40))
    assert [unit.state for unit in run_archive(world.system, "logs", world.home, run_id="x", as_of=COLD)] == [
        "catalogued"
    ]
    world.home.environment = {**world.home.environment, "DB": copied()}
    assert world.apply(COLD).state == "done"
    assert shown(world) == 40


def copy(source: Path, target: Path) -> None:
    """With owners, which a server insists on."""
    subprocess.run(["cp", "-a", source, target], check=True)


@pytest.mark.parametrize("keep", ["forever", "365 d"])
def test_a_month_that_was_cut_off_right_after_its_detach_goes_on_with_the_same_plan(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    """I118, V4: out of its table and nowhere recorded as such; consent is still there, so nobody has to plan again."""
    world = LogWorld(tmp_path, pg_database, {"keep": keep})
    run(pg_database, FILL.format(rows=40))
    plan = world.plan(COLD)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(leaving, "park", dying(True, leaving.park))
        world.apply(COLD, plan)
    assert [unit.state for unit in world.units()] == ["catalogued"]
    assert rows(pg_database, "SELECT count(*) FROM logs") == [(0,)]
    with world.home.control._engine.begin() as connection:  # the lease of the dead is over
        connection.execute(plan_table.update().values(lease_until=datetime(2020, 1, 1, tzinfo=UTC)))
        connection.execute(unit_table.update().values(lease_until=datetime(2020, 1, 1, tzinfo=UTC)))
    done = execute(world.system, plan.id, world.home, run_id="again")
    assert (done.state, set(done.counts)) == ("done", {"deleted"}), done.problems
    assert [unit.state for unit in world.units()] == ["removed"]
    assert len(world.read()) == 40
