"""A purge asks once more, and takes only what it can judge (I04, I13)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from maintenance_defs.retention.purge import due_for_purge
from tests.retention.small_world import SmallWorld

ORPHANS: dict[str, Any] = {
    "select": {"orphans": "files", "prefix": "docs/"},
    "keep": [{"younger_than": "2 d"}],
    "act": {"objects": "quarantine"},
    "quarantine_for": "1 s",
}
LATER = datetime.now(UTC) + timedelta(days=1)


def put_away(folder: Path) -> SmallWorld:
    world = SmallWorld(folder, policies={"it": ORPHANS})
    world.sql("CREATE TABLE docs (id TEXT PRIMARY KEY, key TEXT)", "INSERT INTO docs VALUES ('1', 'docs/1')")
    world.put("docs/1", "docs/2")
    assert world.execute(world.plan("it")).counts == {"quarantined": 1}
    return world


def test_what_nobody_names_is_due(tmp_path: Path) -> None:
    world = put_away(tmp_path)
    world.reconcile()
    assert [entry.key for entry in due_for_purge(world.system, world.home, at=LATER).due] == ["docs/2"]


def test_what_a_row_names_again_is_not_due(tmp_path: Path) -> None:
    world = put_away(tmp_path)
    world.sql("INSERT INTO docs VALUES ('2', 'docs/2')")
    world.reconcile()
    found = due_for_purge(world.system, world.home, at=LATER)
    assert found.due == []
    assert [why for _, why in found.needed] == ["matched: referenced by docs 2"]


def test_a_key_whose_scope_was_taken_out_of_the_declaration_is_not_due(tmp_path: Path) -> None:
    """I13: outside every scope nothing is judged, so nothing is final; least of all what a row names."""
    world = put_away(tmp_path)
    world.policies = {}
    world.more = {"stores": {"files": {"url_env": "FILES", "scopes": [{"prefix": "final/", "exclusive": True}]}}}
    world.put("final/1")
    world.reconcile()
    assert due_for_purge(world.system, world.home, at=LATER).due == []
    world.sql("INSERT INTO docs VALUES ('2', 'docs/2')")
    world.reconcile()
    found = due_for_purge(world.system, world.home, at=LATER)
    assert found.due == []
    assert [why for _, why in found.needed] == ["matched: referenced by docs 2"]
