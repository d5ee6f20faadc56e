"""Files stay where they were stored when their archive's declaration names another store, or another path."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maintenance_defs.archive.objects import open_archive_store
from maintenance_defs.archive.reading import get
from maintenance_defs.archive.units.returning import restore
from maintenance_defs.archive.values import get_value, restore_value
from maintenance_defs.archive.watching.agreement import agreement
from maintenance_defs.archive.watching.drilling import archive_drill
from maintenance_defs.core.archive import Iceberg
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.reconcile.run import reconcile
from tests.archive.iceberg_world import ICEBERG, ids, published
from tests.archive.test_values_expiring import LATER as VALUES_OVER
from tests.archive.test_values_expiring import archived
from tests.archive.values_world import NAME, World, declared
from tests.archive.world import COLD, FILL, LATER, LogWorld
from tests.support.postgres import execute as run

CATALOGUE = {"table": "public.log_files", "columns": {"id": "id", "job": "value", "object": "key"}}


def elsewhere(system: System, kind: str, name: str, store: str) -> System:
    """Declared anew: from now on its files go to the store `later`, and the old one is still there."""
    archives = getattr(system, kind)
    later = system.stores[store].model_copy(update={"url_env": "LATER"})
    moved = archives[name].model_copy(update={"store": "later"})
    return system.model_copy(update={"stores": system.stores | {"later": later}, kind: archives | {name: moved}})


def made(folder: Path, url: str, environment: dict[str, str] | None = None, **more: object) -> LogWorld:
    later = folder / "later"
    later.mkdir()
    return LogWorld(folder, url, dict(more), environment={"LATER": str(later)} | (environment or {}))


def move(world: LogWorld) -> None:
    world.system = elsewhere(world.system, "archives", "logs", "files")


def signs(world: LogWorld) -> dict[str, tuple[str, ...]]:
    reconcile(world.system, world.home, folder=world.folder)
    return {sign.name: sign.problems for sign in agreement(world.system, "logs", world.home)}


def test_a_month_is_read_drilled_restored_and_expires_where_it_was_stored(tmp_path: Path, pg_database: str) -> None:
    run(pg_database, "CREATE TABLE public.log_files (id text PRIMARY KEY, job text, object text)")
    world = made(tmp_path, pg_database, layout="per_org", path="logs/{org}/{month}/", catalogue=CATALOGUE)
    world.archived(400)
    move(world)
    drilled = archive_drill(world.system, "logs", world.home, run_id="test", as_of=LATER)
    assert (drilled.files, drilled.damaged, drilled.not_restored) == (4, [], [])
    assert restore(world.work(), world.units()).same
    assert signs(world) == {"store_agrees": (), "catalogue_agrees": ()}
    plan = world.plan(LATER)
    assert world.apply(LATER, plan).counts == {"deleted": 1}
    acts = [act for batch in world.home.control.retention.acts(plan.id) for act in batch.to_pylist()]
    assert [(act["act"], act["store"]) for act in acts] == [("expire_file", "files")]
    assert get(world.system, "logs", world.home, value="job-1").read_all().num_rows == 20
    assert len(world.stored_keys()) == 3
    assert signs(world) == {"store_agrees": (), "catalogue_agrees": ()}

    lost = world.files()[0]
    (world.objects / lost.key).unlink()
    [problem] = signs(world)["store_agrees"]
    assert f"{lost.key} is not there" in problem


def test_files_below_a_path_of_before_are_there_and_are_named(tmp_path: Path, pg_database: str) -> None:
    run(pg_database, "CREATE TABLE public.log_files (id text PRIMARY KEY, job text, object text)")
    world = made(tmp_path, pg_database, catalogue=CATALOGUE)
    world.archived(400)
    now = world.system.archives["logs"].model_copy(update={"path": "logs/other/{month}/"})
    world.system = world.system.model_copy(update={"archives": {"logs": now}})
    assert signs(world) == {"store_agrees": (), "catalogue_agrees": ()}


def test_a_detached_month_is_dropped_after_its_file_was_found_where_it_is(tmp_path: Path, pg_database: str) -> None:
    world = made(tmp_path, pg_database, undo_window="1 s", keep="forever", keep_by=None)
    run(pg_database, FILL.format(rows=40))
    assert world.apply(COLD).state == "done"
    move(world)
    time.sleep(1.1)
    done = world.apply(None)  # type: ignore[arg-type]
    assert done.counts == {"deleted": 1}, done.problems
    assert world.unit().state == "removed"
    assert len(world.read()) == 40


def test_a_store_that_is_not_declared_any_more_is_named(tmp_path: Path, pg_database: str) -> None:
    world = made(tmp_path, pg_database)
    world.archived(40)
    move(world)
    kept = {"later": world.system.stores["later"]}
    world.system = world.system.model_copy(update={"stores": kept})
    for read in (
        lambda: get(world.system, "logs", world.home, value="job-1").read_all(),
        lambda: open_archive_store(world.system, "files", world.home),
    ):
        with pytest.raises(Refused, match="'files', in which files") as refused:
            read()
        assert refused.value.reason == "undeclared_store"


def test_an_iceberg_table_names_files_where_they_are(tmp_path: Path, pg_database: str) -> None:
    catalog = {"ICEBERG_CATALOG": f"sqlite:///{tmp_path / 'iceberg.db'}"}
    world = made(tmp_path, pg_database, catalog, iceberg=ICEBERG | {"table": "lake.before"})
    world.archived(40)
    move(world)
    with pytest.raises(Refused, match="Nothing was done") as refused:  # its own metadata lies in the old store
        published(world)
    assert refused.value.reason == "not_metadata"
    now = world.system.archives["logs"].model_copy(update={"iceberg": Iceberg.model_validate(ICEBERG)})
    world.system = world.system.model_copy(update={"archives": {"logs": now}})
    assert published(world).well
    assert len(ids(world)) == 40


def values(folder: Path, url: str, **more: str) -> World:
    later = folder / "later"
    later.mkdir()
    return World(url, folder, declared(**more), {"LATER": str(later)}).schema()


def move_values(world: World) -> None:
    world.system = elsewhere(world.system, "archived_columns", NAME, "archive")


def test_a_value_expires_in_the_store_that_it_lies_in(tmp_path: Path, pg_database: str) -> None:
    """V11: gone where it was, and not only where the next ones go."""
    world = values(tmp_path, pg_database, keep="365 d")
    archived(world, "j1")
    move_values(world)
    assert world.keys()
    assert world.run(VALUES_OVER) == {"j1": "deleted"}
    assert world.keys() == []
    assert world.states() == {"j1": "expired"}


def test_a_value_that_leaves_again_is_proven_where_it_is_read(tmp_path: Path, pg_database: str) -> None:
    """V1: its object may have been lost there meanwhile."""
    world = values(tmp_path, pg_database)
    archived(world, "j1")
    known = world.known("j1")
    assert known is not None
    whole = get_value(world.system, NAME, world.home, "j1")
    restore_value(world.system, NAME, world.home, "j1")
    (world.folder / "archive" / known.key).unlink()
    move_values(world)
    assert world.run(datetime.now(UTC) + timedelta(days=60)) == {"j1": "set"}
    assert get_value(world.system, NAME, world.home, "j1") == whole
