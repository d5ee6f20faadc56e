"""The declaration changes while months are archived, or on their way: what was archived before stays what it was."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.gate import run_archive
from maintenance_defs.archive.reading import get
from maintenance_defs.archive.reading.views import open_views
from maintenance_defs.archive.units.expiring import expire_file
from maintenance_defs.archive.units.leaving import drop
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive
from maintenance_defs.core.errors import Refused
from maintenance_defs.reporting.doctor_archives import examine_archives
from tests.archive.world import COLD, FILL, LATER, MUCH_LATER, LogWorld
from tests.support.postgres import execute as run

BY_ORG = {"organisation": {"column": "org"}, "keep_for": {"c": "forever"}}
BY_JOB = {"organisation": {"column": "job"}, "keep_for": {"job-1": "forever"}}
SWAPPED = (("line", "other"), ("job", "line"), ("other", "job"))
OF_NOBODY = {"organisation": None, "keep_by": None}


def declare(world: LogWorld, **archive: Any) -> None:
    """The same archive, declared otherwise from now on."""
    said = world.system.archives["logs"].model_dump(by_alias=True, exclude_unset=True) | archive
    changed = Archive.model_validate({name: value for name, value in said.items() if value is not None})
    world.system = world.system.model_copy(update={"archives": {"logs": changed}})


def move_to_another_store(world: LogWorld) -> None:
    other = world.folder / "other"
    other.mkdir()
    world.home = Home(world.home.path, {**world.home.environment, "OTHER": str(other)})
    stores = world.system.stores
    added = {"other": stores["files"].model_copy(update={"url_env": "OTHER"})}
    world.system = world.system.model_copy(update={"stores": stores | added})
    declare(world, store="other")


def waits(folder: Path, url: str) -> LogWorld:
    """January is detached, and can be put back for a week."""
    world = LogWorld(folder, url, {"undo_window": "7 d"})
    run(url, FILL.format(rows=400))
    assert world.apply(COLD).state == "done"
    return world


def dropped(world: LogWorld) -> str:
    """The state of January after its drop."""
    work, state = world.work(), world.home.control.archive
    mine = state.take_unit(world.unit().id, work.owner, 300)
    done = drop(work, mine)
    state.leave_unit(mine.id, work.owner)
    return done.state


@pytest.mark.parametrize(("before", "after"), [(OF_NOBODY, BY_ORG), (BY_ORG, BY_JOB)], ids=["none", "another"])
def test_rows_archived_under_another_organisation_are_kept_longest(
    tmp_path: Path, pg_database: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """V8: whose they are by the new declaration nobody knows, and somebody's are kept for ever."""
    world = LogWorld(tmp_path, pg_database)
    declare(world, **before)
    world.archived(400)
    planned = world.plan(MUCH_LATER)
    assert planned.units == 1
    declare(world, **after)
    assert world.plan(MUCH_LATER).state == "done"
    (file,) = world.files()
    lines = world.line(file, *(world.groups(file)))
    assert expire_file(world.work(MUCH_LATER), lines)[0] == "skipped_kept"
    assert len(world.read()) == 400


def test_a_detached_month_is_exported_again_for_its_new_organisations(tmp_path: Path, pg_database: str) -> None:
    world = waits(tmp_path, pg_database)
    declare(world, **BY_JOB)
    assert dropped(world) == "removed"
    (file,) = world.files()
    assert set(world.groups(file)) == {f"job-{n}" for n in range(20)}
    assert len(world.read()) == 400


def test_rows_of_an_organisation_that_their_month_does_not_know_are_no_empty_answer(
    tmp_path: Path, pg_database: str
) -> None:
    world = LogWorld(tmp_path, pg_database)
    declare(world, **OF_NOBODY)
    world.archived(400)
    declare(world, **BY_ORG)
    with pytest.raises(Refused, match="declared otherwise") as refused:
        get(world.system, "logs", world.home, value="job-5", organisation="b")
    assert refused.value.reason == "organisation_changed"
    assert get(world.system, "logs", world.home, value="job-5").read_all().num_rows == 20


def told(world: LogWorld) -> list[str]:
    """What doctor says of the store."""
    found = examine_archives(world.system, world.home, datetime.now(UTC))
    return [one.status for one in found if "live file" in one.what or "is not there" in one.what]


def test_files_of_an_earlier_path_or_store_are_not_missed(tmp_path: Path, pg_database: str) -> None:
    world = LogWorld(tmp_path, pg_database)
    world.archived(400)
    declare(world, path="logs/anew/{month}/")
    assert told(world) == ["ok"]
    move_to_another_store(world)
    assert told(world) == ["ok"]
    (file,) = world.files()
    (world.objects / file.key).unlink()
    assert told(world) == ["fail"]


def all_rows(world: LogWorld) -> int:
    with open_views(world.home, [world.system], hot=True) as views:
        return int(views.con.execute("SELECT count(*) FROM app.logs_all").fetchall()[0][0])


def test_rows_of_a_table_that_was_made_anew_are_read_once(tmp_path: Path, pg_database: str) -> None:
    """D66: the old months hang on the table that was renamed, and a copy of their rows is in the new one."""
    world = LogWorld(tmp_path, pg_database)
    run(pg_database, FILL.format(rows=400))
    run_archive(world.system, "logs", world.home, run_id="test", as_of=COLD)
    run(
        pg_database,
        "ALTER TABLE logs RENAME TO logs_old",
        "CREATE TABLE logs (LIKE logs_old INCLUDING ALL) PARTITION BY RANGE (at)",
        "CREATE TABLE logs_new PARTITION OF logs FOR VALUES FROM ('2024-01-01Z') TO ('2024-02-01Z')",
        "INSERT INTO logs SELECT * FROM logs_old",
    )
    assert all_rows(world) == 400
    assert get(world.system, "logs", world.home, value="job-5").read_all().num_rows == 20


def test_columns_that_were_renamed_since_the_export_are_exported_again(tmp_path: Path, pg_database: str) -> None:
    """V2: two that changed their names with each other have the same text as before."""
    world = LogWorld(tmp_path, pg_database)
    declare(world, lookup=None)
    run(pg_database, FILL.format(rows=400))
    run_archive(world.system, "logs", world.home, run_id="test", as_of=COLD)
    run(pg_database, *(f"ALTER TABLE logs RENAME {one} TO {other}" for one, other in SWAPPED))
    assert world.apply(COLD).state == "done"
    assert {row["line"] for row in world.read()} == {f"job-{n}" for n in range(20)}


def test_a_detached_month_is_exported_again_though_its_table_has_other_columns(
    tmp_path: Path, pg_database: str
) -> None:
    world = waits(tmp_path, pg_database)
    run(pg_database, "ALTER TABLE logs ADD COLUMN more int", "ALTER TABLE logs DROP COLUMN facts")
    declare(world, **BY_JOB)
    assert dropped(world) == "removed"
    assert {row["facts"] for row in world.read()} == {f'{{"n": {n}}}' for n in range(400)}
    assert all_rows(world) == 400


def test_months_that_are_indexed_by_another_column_are_looked_through(tmp_path: Path, pg_database: str) -> None:
    world = LogWorld(tmp_path, pg_database)
    world.archived(400)

    def found(value: str, **asked: str) -> int:
        return get(world.system, "logs", world.home, value=value, **asked).read_all().num_rows

    declare(world, lookup="line")
    assert found("line 5 of patient Żółć") == 1
    assert found("line 5 of patient Żółć", organisation="b") == 1
    assert found("line 5 of patient Żółć", organisation="c") == 0
    assert found("job-5") == 0
    assert world.apply(LATER).state == "done"  # written again, without org a
    assert (found("line 4 of patient Żółć"), found("line 5 of patient Żółć")) == (0, 1)
    declare(world, lookup="job")
    assert found("job-5") == 20
