"""A file that is written again is replaced by one that came back whole, by whoever holds its unit, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.units import replacing
from maintenance_defs.archive.units.expiring import expire_file, sweep
from maintenance_defs.core.errors import LeaseLost, ObjectDamaged
from tests.archive.life_world import Killed
from tests.archive.world import LogWorld
from tests.support.months import rows
from tests.support.postgres import execute as run

Meanwhile = Callable[[str], None]


@pytest.fixture
def world(tmp_path: Path, pg_database: str) -> LogWorld:
    made = LogWorld(tmp_path, pg_database)
    made.archived(400)
    return made


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Callable[[Meanwhile], None]:
    """What happens, with the new object's key, as soon as it is stored."""

    def arrange(meanwhile: Meanwhile) -> None:
        real = replacing.put_once

        def put(store: Any, key: str, path: Path, sha256: str) -> Any:
            done = real(store, key, path, sha256)
            meanwhile(key)
            return done

        monkeypatch.setattr(replacing, "put_once", put)

    return arrange


def test_a_new_file_that_does_not_come_back_as_it_was_written_is_never_shown(
    world: LogWorld, stored: Callable[[Meanwhile], None]
) -> None:
    """C39: one byte of the footer, which no checksum covers and no value is in."""

    def flip(key: str) -> None:
        path = world.objects / key
        whole = path.read_bytes()
        at = whole.rindex(b"parquet-cpp")
        path.chmod(0o600)
        path.write_bytes(whole[:at] + b"P" + whole[at + 1 :])

    stored(flip)
    (file,) = world.files()
    with pytest.raises(ObjectDamaged, match="sha256"):
        expire_file(world.work(), world.line(file, "a"))
    assert world.files() == [file]
    assert len(world.of("a")) == 100


def test_the_applications_catalogue_names_the_new_file_only(tmp_path: Path, pg_database: str) -> None:
    run(pg_database, "CREATE TABLE public.log_files (id text PRIMARY KEY, job text, object text)")
    catalogue = {"table": "public.log_files", "columns": {"id": "id", "job": "value", "object": "key"}}
    world = LogWorld(tmp_path, pg_database, {"catalogue": catalogue})
    world.archived(400)
    (old,) = world.files()
    assert rows(pg_database, "SELECT DISTINCT object FROM public.log_files") == [(old.key,)]
    assert expire_file(world.work(), world.line(old, "a"))[0] == "set"
    (new,) = world.files()
    assert rows(pg_database, "SELECT DISTINCT object FROM public.log_files") == [(new.key,)]


def test_who_lost_the_unit_while_writing_again_replaces_nothing(
    world: LogWorld, stored: Callable[[Meanwhile], None]
) -> None:
    """C42."""
    (file,) = world.files()
    state = world.home.control.archive

    def taken(_: str) -> None:
        state.leave_unit(file.unit_id, "test")
        state.take_unit(file.unit_id, "another", 60)

    stored(taken)
    with pytest.raises(LeaseLost):
        expire_file(world.work(), world.line(file, "a"))
    assert world.files() == [file]
    assert world.unit().lease_owner == "another"


def test_the_object_of_a_rewriting_that_was_killed_is_known_and_goes(
    world: LogWorld, stored: Callable[[Meanwhile], None]
) -> None:
    """V4, C36."""

    def killed(_: str) -> None:
        raise Killed

    stored(killed)
    (file,) = world.files()
    with pytest.raises(Killed):
        expire_file(world.work(), world.line(file, "a"))
    (begun,) = world.files("stored")
    assert set(world.stored_keys()) == {file.key, begun.key}
    assert world.files() == [file]
    assert sweep(world.work(), grace=timedelta(0)).gone == [begun.key]
    assert world.stored_keys() == [file.key]
