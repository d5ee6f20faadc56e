"""A run that dies at any of its steps: the next one goes on, and nothing is lost, done twice or left unexplained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.retention.restore import restore
from tests.support.chaos import Chaos, Killed
from tests.support.promises import finish, give_everything_back, hold
from tests.support.servers import moto_server
from tests.support.shop import POLICIES, Files, Shop, made_shop


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, endpoint: str) -> Iterator[Shop]:
    with made_shop(tmp_path, request.param, endpoint) as made:
        yield made


def fill(shop: Shop, policy: str, count: int) -> None:
    for _ in range(count):
        key = shop.app.upload(prefix="tmp/" if policy == "temporary" else "media/")
        if policy == "unsaved":
            shop.app.render(key)
        if policy == "expired":
            shop.app.render(key, "expired")
    shop.app.save(shop.app.render(shop.app.upload()) or "")


WITH_ROWS = ("unsaved", "expired")
LONG = [
    pytest.param(kind, policy, hard, marks=() if (kind, policy) == ("folder", "unsaved") and hard else pytest.mark.long)
    for kind in ("folder", "plain", "versioned")
    for policy in ("unsaved", "expired", "orphans", "temporary")
    for hard in (True, False)
]


@pytest.mark.parametrize(("shop", "policy", "hard"), LONG, indirect=["shop"])
def test_dying_at_every_step_loses_nothing_and_repeats_nothing(shop: Shop, policy: str, hard: bool) -> None:
    """H07, F16, I11: each attempt dies one point later than the one before, until one gets through.

    A unit is done whole or not at all. It stays, whole, only where a run that had time to tidy up died between an
    object and its row, and so gave the object back; never after kill -9, never where a policy takes objects alone.
    """
    fill(shop, policy, 3)
    plan = shop.planned(policy)
    chaos = Chaos(shop)
    for at in range(1, 60):
        chaos.calm()
        chaos.at, chaos.hard = at, hard
        try:
            with chaos.installed():
                shop.execute(plan.id, units_per_batch=2)
            break
        except Killed:
            hold(shop)
        shop.lapse()
    assert at > 5
    finish(shop)
    hold(shop, settled=True)
    assert shop.state.plan(plan.id).state == "done"
    acts = shop.acts(plan.id)
    succeeded = [a for a in acts if a["outcome"] in SUCCESS and not a["of_plan"]]
    assert set(Counter((a["unit"], a["step"]) for a in succeeded).values()) == {1}
    back = {a["of_seq"] for a in acts if a["outcome"] == "restored"}
    stayed = {a["unit"]: a["key"] for a in succeeded if a["seq"] in back}
    done = Counter(a["unit"] for a in succeeded if a["seq"] not in back)
    assert not stayed or (not hard and policy in WITH_ROWS)
    assert set(done.values()) <= {(plan.objects + plan.rows) // plan.units}
    assert done.keys().isdisjoint(stayed)
    assert done.keys() | stayed.keys() == set(range(plan.units))
    assert all(map(shop.app.lives, stayed.values()))
    give_everything_back(shop)
    hold(shop, settled=True)


@pytest.mark.parametrize(("shop", "changed"), [("folder", False), ("folder", True)], indirect=["shop"])
def test_a_row_that_a_killed_run_had_set_can_be_set_back(shop: Shop, changed: bool) -> None:
    """H07, I02, I11: unless the application has written the same column meanwhile: that is nobody's act to undo."""
    fill(shop, "expired", 1)
    plan = shop.planned("expired")
    chaos = Chaos(shop)
    chaos.hard = True
    chaos.before["after update of rows"] = [chaos.die]
    with chaos.installed(), pytest.raises(Killed):
        shop.execute(plan.id)
    [id] = [id for id, one in shop.app.rows("renders").items() if one[3] is not None]
    if changed:
        shop.app.sql(("UPDATE renders SET gone_at = 'long ago' WHERE id = ?", [id]))
    shop.lapse()
    shop.execute(plan.id)
    outcomes = {a["row_id"]: a["outcome"] for a in shop.acts(plan.id) if a["act"] == "set"}
    assert outcomes == {id: "unknown" if changed else "set"}
    undone = restore(shop.system, shop.home, actor="ada", reason="all back", plan_id=plan.id)
    assert undone.counts == {"restored": 1 if changed else 2}
    assert shop.app.rows("renders")[id][3] == ("long ago" if changed else None)


def test_a_row_that_was_set_is_set_back_with_its_object(tmp_path: Path) -> None:
    """I02, I11."""
    (tmp_path / "files").mkdir()
    shop = Shop(tmp_path, Files(tmp_path / "files"))
    fill(shop, "expired", 1)
    before = shop.app.rows("renders")
    plan = shop.planned("expired")
    assert shop.execute(plan.id).counts == {"quarantined": 1, "set": 1}
    assert shop.app.rows("renders") != before
    undone = restore(shop.system, shop.home, actor="ada", reason="all back", plan_id=plan.id)
    assert undone.counts == {"restored": 2}, undone.problems
    assert shop.app.rows("renders") == before


def test_what_was_missing_all_along_is_not_said_to_be_deleted_by_a_killed_run(tmp_path: Path) -> None:
    """I11: who looks for a lost file must not be told that retention took it."""
    at_once = {**POLICIES["unsaved"], "act": {"objects": "delete", "rows": "delete"}}
    (tmp_path / "files").mkdir()
    shop = Shop(tmp_path, Files(tmp_path / "files"), {"unsaved": at_once})
    key = shop.app.upload()
    shop.app.render(key)
    shop.files.delete(key)
    del shop.app.objects[key]
    plan = shop.planned("unsaved")
    chaos = Chaos(shop)
    chaos.hard = True
    chaos.before["after delete"] = [chaos.die]
    with chaos.installed(), pytest.raises(Killed):
        shop.execute(plan.id)
    shop.lapse()
    shop.execute(plan.id)
    assert shop.outcomes(plan.id) == {key: "already_absent", "r0003": "deleted"}
    hold(shop, settled=True)
