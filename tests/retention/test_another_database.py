"""A variable that leads to another database or store: nothing is judged by it, changed in it, or called gone (E06)."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.errors import Refused
from maintenance_defs.retention.purge import due_for_purge, purge_entries
from maintenance_defs.retention.restore import restore
from tests.retention.small_world import SmallWorld

RAW: dict[str, Any] = {
    "select": {"objects": "files", "prefix": "raw/"},
    "keep": [{"younger_than": "1 d"}],
    "act": {"objects": "delete"},
}
GONE: dict[str, Any] = {
    "select": {"rows": "docs", "id": "id", "where": "state = 'gone'"},
    "keep": [{"while": "state = 'live'"}],
    "act": {"rows": "delete"},
}


@pytest.fixture
def world(tmp_path: Path) -> SmallWorld:
    made = SmallWorld(tmp_path / "world", policies={"raw": RAW, "gone": GONE})
    made.sql(
        "CREATE TABLE docs (id TEXT PRIMARY KEY, key TEXT, state TEXT)",
        "INSERT INTO docs VALUES ('1', 'docs/1', 'live'), ('2', 'docs/2', 'gone')",
    )
    made.put("docs/1", "docs/2", "raw/1")
    return made


def copied(world: SmallWorld) -> Path:
    """As of now."""
    other = world.folder / "other.db"
    shutil.copy(world.folder / "app.db", other)
    return other


def test_what_refers_to_an_object_is_not_asked_of_a_copy(world: SmallWorld) -> None:
    """H05, G103: the copy does not know the row that was written since; to plan on it is refused as well."""
    plan = world.plan("raw")
    assert world.going(plan) == (["raw/1"], [])
    other = copied(world)
    world.sql("INSERT INTO docs VALUES ('3', 'raw/1', 'live')")
    world.home.environment = {**world.home.environment, "DB": f"sqlite:///{other}"}
    with pytest.raises(Refused, match="leads to") as caught:
        world.execute(plan)
    assert caught.value.reason == "another_database"
    with pytest.raises(Refused, match="leads to"):
        world.plan("raw", again=False)
    assert "raw/1" in world.objects()


def test_rows_are_not_deleted_through_a_writer_of_another_database(world: SmallWorld) -> None:
    other = copied(world)
    world.more = {"database": {"url_env": "DB", "write_url_env": "WRITER"}}
    world.home.environment = {**world.home.environment, "WRITER": f"sqlite:///{other}"}
    plan = world.plan("gone")
    assert world.going(plan) == ([], ["2"])
    with pytest.raises(Refused, match="write_url_env names"):
        world.execute(plan)
    for file in (world.folder / "app.db", other):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT count(*) FROM docs").fetchone() == (2,)


def test_what_another_store_does_not_have_is_not_called_gone(world: SmallWorld) -> None:
    """V4, I12: neither by a deletion, whose rows would follow, nor by a purge, after which nothing is given back."""
    world.policies = world.policies | {"raw": RAW | {"act": {"objects": "quarantine"}}}
    assert world.execute(world.plan("raw")).state == "done"
    world.put("raw/2")
    plan = world.plan("raw")
    home, elsewhere = world.home.environment, world.folder / "elsewhere"
    elsewhere.mkdir()
    world.home.environment = {**home, "FILES": str(elsewhere)}
    with pytest.raises(Refused, match="another one was listed last") as caught:
        world.execute(plan)
    assert caught.value.reason == "another_store"
    later = datetime.now(UTC) + timedelta(days=400)
    due = due_for_purge(world.system, world.home, at=later).due
    assert [entry.key for entry in due] == ["raw/1"]
    purged = purge_entries(world.system, world.home, due, actor="ada", reason="month over")
    assert purged.counts == {"failed": 1}
    world.home.environment = home
    assert restore(world.system, world.home, actor="ada", reason="asked", key="raw/1").counts == {"restored": 1}
    assert {"raw/1", "raw/2"} <= set(world.objects())
