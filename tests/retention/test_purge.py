"""A purge asks once more, and takes only what it can judge (I04, I13)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.retention.purge import due_for_purge, purge_entries
from maintenance_defs.retention.restore import restore
from tests.retention.small_world import SmallWorld
from tests.support.chaos import Chaos, Killed
from tests.support.promises import hold
from tests.support.shop import Shop

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


@pytest.mark.parametrize("again", [False, True], ids=["restored once", "a restore died too"])
def test_what_a_killed_purge_took_is_on_record_as_purged_once_somebody_wants_it_back(
    shop: Shop, chaos: Chaos, again: bool
) -> None:
    """I07, I11: the purge died after the act and before its outcome; the registry must not promise a copy."""
    key = shop.app.upload()
    plan = shop.planned("orphans")
    shop.execute(plan.id)
    shop.reconcile()
    due = due_for_purge(shop.system, shop.home, at=shop.clock() + timedelta(days=31)).due
    chaos.before["after purge"] = [_die]
    with chaos.installed(), pytest.raises(Killed):
        purge_entries(shop.system, shop.home, due, actor="ada", reason="month over")
    assert [entry.state for entry in shop.state.quarantined("shop", state=None)] == ["purging"]
    shop.ahead += timedelta(minutes=11)
    if again:
        chaos.before["after restore"] = [_die]
        with chaos.installed(), pytest.raises(Killed):
            restore(shop.system, shop.home, actor="ada", reason="wanted back", plan_id=plan.id)
        shop.ahead += timedelta(minutes=11)
    undone = restore(shop.system, shop.home, actor="ada", reason="wanted back", plan_id=plan.id)
    assert undone.counts == {"purged": 1} and "by a purge that died" in undone.problems[0][1]
    assert [entry.state for entry in shop.state.quarantined("shop", state=None)] == ["purged"]
    assert shop.files.get(key) is None
    hold(shop, settled=True)


def test_a_copy_that_nobody_purged_and_is_gone_stays_on_record_as_it_is(shop: Shop) -> None:
    """I07: somebody emptied the quarantine by hand; that is said, and nothing is made of it."""
    key = shop.app.upload()
    plan = shop.planned("orphans")
    shop.execute(plan.id)
    [entry] = shop.state.quarantined("shop")
    shop.files.delete((entry.undo or {})["key"])
    undone = restore(shop.system, shop.home, actor="ada", reason="wanted back", plan_id=plan.id)
    assert undone.counts == {"failed": 1} and undone.problems == [(key, "the quarantined copy is gone")]
    assert [entry.state for entry in shop.state.quarantined("shop", state=None)] == ["quarantined"]


def _die() -> None:
    raise Killed
