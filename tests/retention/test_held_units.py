"""A hold on any part of a unit leaves the whole unit as it is: rows, what they own, and all of their objects (K11)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.retention.small_world import DOCS, SmallWorld

GONE: dict[str, Any] = {
    "select": {
        "rows": "docs",
        "id": "id",
        "where": "gone = 1",
        "owns": {"table": "folders", "id": "id", "by": "folder"},
    },
    "keep": [{"while": "id = 0"}],
    "act": {"objects": "delete", "rows": "delete"},
}
HELD: dict[str, dict[str, str]] = {
    "row": {"table": "docs", "row_id": "1"}, "owned row": {"table": "folders", "row_id": "7"},
    "object": {"store": "files", "key": "docs/1"}, "owned object": {"store": "files", "key": "final/7"},
}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> SmallWorld:
    made = SmallWorld(tmp_path, references=(DOCS, DOCS | {"table": "folders"}), policies={"gone": GONE})
    made.sql(
        "CREATE TABLE folders (id INTEGER PRIMARY KEY, key TEXT)",
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, key TEXT, gone INTEGER, folder INTEGER)",
        "INSERT INTO folders VALUES (7, 'final/7'), (8, 'final/8')",
        "INSERT INTO docs VALUES (1, 'docs/1', 1, 7), (2, 'docs/2', 1, 8), (3, 'docs/3', 0, NULL)",
    )
    made.put("docs/1", "docs/2", "docs/3", "final/7", "final/8")
    return made


@pytest.mark.parametrize("what", HELD.values(), ids=HELD)
@pytest.mark.parametrize("since_the_plan", [False, True], ids=["before", "since"])
def test_a_hold_on_a_part_keeps_the_whole(world: SmallWorld, what: dict[str, str], since_the_plan: bool) -> None:
    held = world.home.control.retention.add_hold
    if not since_the_plan:
        held("small", "ada", "case 7", **what)  # type: ignore[arg-type]
    plan = world.plan("gone")
    assert plan.units == (2 if since_the_plan else 1)
    if since_the_plan:
        held("small", "ada", "case 7", **what)  # type: ignore[arg-type]
    done = world.execute(plan)
    assert world.objects() == ["docs/1", "docs/3", "final/7"]
    assert world.sql("SELECT id FROM docs ORDER BY id") == [(1,), (3,)]
    assert world.sql("SELECT id FROM folders") == [(7,)]
    assert done.counts["deleted"] == 4
    assert ("skipped_held" in done.counts) is since_the_plan
