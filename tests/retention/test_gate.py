"""What the gate refuses, and what it leaves alone because the world has changed since the plan."""

from __future__ import annotations

import copy
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from maintenance_defs.core.errors import ConsentRefused, Refused
from maintenance_defs.retention.purge import due_for_purge
from maintenance_defs.retention.restore import restore
from tests.support.chaos import Chaos, Killed
from tests.support.promises import give_everything_back, hold
from tests.support.shop import POLICIES, Shop, declaration


def limited(shop: Shop, **limits: Any) -> None:
    policies = copy.deepcopy(POLICIES)
    for policy in policies.values():
        policy["limits"] = limits
    shop.system = declaration(policies)


def dump(shop: Shop) -> tuple[list[str], list[str]]:
    with closing(sqlite3.connect(shop.database)) as connection:
        return sorted(p.as_posix() for p in shop.files.root.rglob("*")), list(connection.iterdump())  # type: ignore[union-attr]


# -- the world has changed since the plan


@pytest.mark.parametrize("old", [True, False], ids=["same time", "new time"])
def test_an_object_written_again_since_the_plan_stays(shop: Shop, old: bool) -> None:
    """B07: also when nothing names the new content."""
    key, other = shop.app.upload(), shop.app.upload()
    plan = shop.planned("orphans")
    shop.app.put(key, old=old)
    shop.execute(plan.id)
    assert shop.files.get(key) == shop.app.objects[key]
    assert shop.files.get(other) is None
    hold(shop, settled=True)


def test_an_object_written_again_between_question_and_act_stays(shop: Shop, chaos: Chaos) -> None:
    """B07, in the last moment."""
    key = shop.app.upload()
    plan = shop.planned("orphans")
    chaos.before["before quarantine"] = [lambda: shop.app.put(key) and None]
    with chaos.installed():
        shop.execute(plan.id)
    assert shop.outcomes(plan.id) == {key: "skipped_changed"}
    assert shop.files.get(key) == shop.app.objects[key]


def test_an_object_that_is_gone_already_is_no_failure(shop: Shop) -> None:
    """B09"""
    key, other = shop.app.upload(), shop.app.upload()
    plan = shop.planned("orphans")
    shop.app.remove(key)
    run = shop.execute(plan.id)
    assert (run.state, run.counts) == ("done", {"already_absent": 1, "quarantined": 1})
    assert shop.files.get(other) is None


def test_an_object_made_anew_and_named_since_the_plan_stays(shop: Shop) -> None:
    """B10"""
    key = shop.app.upload()
    plan = shop.planned("orphans")
    shop.app.remove(key)
    shop.app.put(key)
    shop.app.render(key, "working")
    run = shop.execute(plan.id)
    assert set(run.counts) <= {"skipped_changed", "skipped_referenced"}
    assert shop.files.get(key) is not None
    hold(shop, settled=True)


def test_a_row_written_since_the_plan_is_found_in_any_declared_form(shop: Shop) -> None:
    """B02, H05: a URL inside JSON of another table; the question before the act is the plan's own."""
    key = shop.app.upload()
    plan = shop.planned("orphans")
    shop.app.share([key])
    run = shop.execute(plan.id)
    assert run.counts == {"skipped_referenced": 1}
    assert shop.acts(plan.id) == []  # it did not even begin
    assert shop.files.get(key) is not None


def test_a_row_whose_file_could_not_go_stays(shop: Shop) -> None:
    """H11: the file first; while its folder cannot be written, neither file nor row goes."""
    key = shop.app.upload()
    id = shop.app.render(key)
    plan = shop.planned("unsaved")
    store = shop.files.root / "media"  # type: ignore[union-attr]
    away = store.with_name("quarantine-is-a-file")
    (shop.files.root / ".maintenance").mkdir(exist_ok=True)  # type: ignore[union-attr]
    (shop.files.root / ".maintenance" / "quarantine").write_text(str(away))  # type: ignore[union-attr]
    run = shop.execute(plan.id)
    assert run.state == "partial"
    assert id in shop.app.rows("renders")
    assert shop.files.get(key) is not None


# -- what is not agreed to


def test_reconciling_and_planning_change_nothing(shop: Shop) -> None:
    """H01: store and database are byte for byte what they were; there is no other command than execute that acts."""
    for number in range(4):
        shop.app.render(shop.app.upload(), "done" if number % 2 else "expired")
        shop.app.upload(prefix="tmp/")
    shop.app.upload()
    before = dump(shop)
    shop.reconcile()
    for policy in POLICIES:
        plan = shop.plan(policy)
        assert plan.units
        with pytest.raises(ConsentRefused):
            shop.execute(plan.id)
    assert dump(shop) == before


def test_only_this_very_plan_is_agreed_to_and_not_for_ever(shop: Shop) -> None:
    """H02, H04: another digest, another count, a plan that is too old."""
    policies = copy.deepcopy(POLICIES)
    policies["orphans"]["approval_lasts"] = "1 h"
    shop.system = declaration(policies)
    shop.app.upload()
    shop.reconcile()
    plan = shop.plan("orphans")
    end = shop.clock() + timedelta(days=30)
    for digest, count in (("0" * 64, plan.units), (plan.digest, plan.units + 1)):
        with pytest.raises(ConsentRefused):
            shop.state.approve(plan.id, digest, count, "ada", "looked at", expires_at=end)
    shop.approve(plan)
    shop.ahead += timedelta(hours=2)
    before = dump(shop)
    with pytest.raises(ConsentRefused):
        shop.execute(plan.id)
    assert dump(shop) == before


def test_a_rule_taken_away_since_the_plan_refuses_it(shop: Shop) -> None:
    """H19, I9: the plan was made under another declaration."""
    key = shop.app.upload()
    plan = shop.planned("orphans")
    policies = copy.deepcopy(POLICIES)
    policies["orphans"]["keep"] = [{"younger_than": "48 h"}]
    shop.system = declaration(policies)
    with pytest.raises(Refused) as caught:
        shop.execute(plan.id)
    assert caught.value.reason == "declaration_changed"
    assert shop.files.get(key) is not None


def test_a_done_plan_run_again_changes_nothing(shop: Shop) -> None:
    """H09"""
    shop.app.upload()
    plan = shop.planned("orphans")
    shop.execute(plan.id)
    before, acts = dump(shop), shop.acts(plan.id)
    assert shop.execute(plan.id).message == "it was executed already; nothing was done"
    assert (dump(shop), shop.acts(plan.id)) == (before, acts)


# -- limits


def test_a_plan_above_a_limit_is_not_begun_unless_it_was_looked_at(shop: Shop) -> None:
    """G01, G05, G13: planned and said, refused before the first act, and allowed once for exactly this plan."""
    keys = [shop.app.upload() for _ in range(4)]
    limited(shop, max_objects=3)
    shop.reconcile()
    plan = shop.plan("orphans")
    assert plan.units == 4
    assert any("limit 3" in message for message in plan.totals["limits_exceeded"])
    end = shop.clock() + timedelta(hours=1)
    with pytest.raises(ConsentRefused):
        shop.state.approve(plan.id, plan.digest, 4, "ada", "looked at", expires_at=end)
    with pytest.raises(ConsentRefused):
        shop.execute(plan.id)
    assert all(shop.files.get(key) for key in keys)
    shop.approve(plan)
    assert shop.execute(plan.id).counts == {"quarantined": 4}


def test_many_small_plans_count_together(shop: Shop) -> None:
    """G11: each within its limit, together above it, until the window is over."""
    limited(shop, max_objects=3, window="1 h")
    for _ in range(2):
        shop.app.upload()
    first = shop.planned("orphans")
    shop.execute(first.id)
    keys = [shop.app.upload() for _ in range(2)]
    shop.reconcile()
    second = shop.plan("orphans")
    assert second.totals["limits_exceeded"]
    shop.ahead += timedelta(hours=2)
    assert not shop.plan("orphans").totals["limits_exceeded"]
    assert all(shop.files.get(key) for key in keys)


def test_a_limit_reached_after_approval_refuses_at_the_gate(shop: Shop) -> None:
    """G01, G11: the window is asked again before the first act of a plan that was agreed to when there was room."""
    limited(shop, max_objects=3)
    for _ in range(2):
        shop.app.upload()
    shop.reconcile()
    end = shop.clock() + timedelta(hours=1)
    plans = [shop.plan("orphans") for _ in range(2)]
    for plan in plans:
        shop.state.approve(plan.id, plan.digest, 2, "ada", "looked at", expires_at=end)
    shop.execute(plans[0].id)
    before = dump(shop)
    with pytest.raises(Refused) as caught:
        shop.execute(plans[1].id)
    assert caught.value.reason == "limits"
    assert dump(shop) == before
    assert shop.acts(plans[1].id) == []


@pytest.mark.parametrize("limits", [{"max_objects": 3}, {"tenant": "2", "max_items_per_tenant": 3}], ids=str)
def test_an_interrupted_plan_is_not_over_its_limit_when_it_goes_on(
    shop: Shop, chaos: Chaos, limits: dict[str, Any]
) -> None:
    """H07, G11: what it did before it died is part of it, and not counted on top."""
    limited(shop, **limits)
    of_tenants(shop, acme=3)
    shop.reconcile()
    plan = shop.plan("orphans")
    end = shop.clock() + timedelta(hours=1)
    shop.state.approve(plan.id, plan.digest, 3, "ada", "looked at", expires_at=end)
    chaos.hard = True
    chaos.at = 12
    with chaos.installed(), pytest.raises(Killed):
        shop.execute(plan.id, units_per_batch=1)
    assert "quarantined" in shop.outcomes(plan.id).values()
    chaos.calm()
    shop.lapse()
    assert shop.execute(plan.id).counts == {"quarantined": 3}


TENANTS: dict[str, Any] = {"tenant": "2", "max_items_per_tenant": 2}  # media/<tenant>/…


def of_tenants(shop: Shop, **counts: int) -> list[str]:
    keys = [f"media/{name}/{n}.bin" for name, count in counts.items() for n in range(count)]
    return [shop.app.put(key) for key in keys]


def test_no_tenant_loses_more_than_its_limit_unless_it_was_looked_at(shop: Shop) -> None:
    """G01: as a limit of the whole plan; another tenant's share does not make up for it."""
    limited(shop, **TENANTS)
    keys = of_tenants(shop, acme=3, small=1)
    shop.reconcile()
    plan = shop.plan("orphans")
    assert any("over it: acme 3" in said for said in plan.totals["limits_exceeded"]), plan.totals["limits_exceeded"]
    end = shop.clock() + timedelta(hours=1)
    with pytest.raises(ConsentRefused):
        shop.state.approve(plan.id, plan.digest, 4, "ada", "looked at", expires_at=end)
    with pytest.raises(ConsentRefused):
        shop.execute(plan.id)
    assert all(shop.files.get(key) for key in keys)
    shop.approve(plan)
    assert shop.execute(plan.id).counts == {"quarantined": 4}


def test_what_a_tenant_lost_to_an_earlier_plan_counts(shop: Shop) -> None:
    """G11: when planning, and again at the gate for a plan that was agreed to when there was room."""
    limited(shop, **TENANTS, window="1 h")
    of_tenants(shop, acme=2, small=1)
    shop.reconcile()
    end = shop.clock() + timedelta(hours=3)
    plans = [shop.plan("orphans") for _ in range(2)]
    for plan in plans:
        assert not plan.totals["limits_exceeded"]
        shop.state.approve(plan.id, plan.digest, 3, "ada", "looked at", expires_at=end)
    shop.execute(plans[0].id)
    before = dump(shop)
    with pytest.raises(Refused, match="over it: acme 4") as caught:
        shop.execute(plans[1].id)
    assert caught.value.reason == "limits"
    assert dump(shop) == before and shop.acts(plans[1].id) == []
    shop.app.put("media/acme/one_more.bin")
    shop.reconcile()
    assert any("over it: acme 3" in said for said in shop.plan("orphans").totals["limits_exceeded"])
    shop.ahead += timedelta(hours=2)
    assert not shop.plan("orphans").totals["limits_exceeded"]


def test_only_the_approved_units_of_a_tenant_count(shop: Shop) -> None:
    limited(shop, **TENANTS)
    of_tenants(shop, acme=2)
    shop.reconcile()
    plans = [shop.plan("orphans") for _ in range(2)]
    end = shop.clock() + timedelta(hours=1)
    for only, plan in enumerate(plans):
        shop.state.approve(plan.id, plan.digest, 1, "ada", "looked at", expires_at=end, only=[only])
        shop.execute(plan.id)
    assert shop.files.keys() == ["media/base.bin"]


@pytest.mark.parametrize(("young", "refused"), [(0, True), (60, False)])
def test_a_percentage_is_of_the_objects_in_scope(shop: Shop, young: int, refused: bool) -> None:
    """G03: 60 of some 260 are too many, 60 of 660 are not."""
    for _ in range(60):
        shop.app.upload()
    for _ in range(young * 10):
        shop.app.upload(old=False)
    shop.app.share([shop.app.upload() for _ in range(200)]) if not young else None
    limited(shop, max_percent=10)
    shop.reconcile()
    plan = shop.plan("orphans")
    assert any("%" in said for said in plan.totals["limits_exceeded"]) is refused


# -- the ledger, and what is away


def test_the_ledger_of_one_act_says_who_why_what_and_how_to_undo_it(shop: Shop) -> None:
    """I07, I11: with the row's own image beside its file, restorable together."""
    key = shop.app.upload()
    id = shop.app.render(key)
    row = shop.app.rows("renders")[id or ""]
    plan = shop.planned("unsaved")
    shop.execute(plan.id)
    entries = {entry.kind: entry for entry in shop.state.quarantined("shop", plan_id=plan.id)}
    for entry in entries.values():
        assert entry.evidence["approver"] == "ada" and entry.evidence["why_approved"] == "looked at"
        assert entry.evidence["policy"] == "unsaved" and entry.evidence["digest"] == plan.digest
        assert entry.evidence["reason"] and entry.evidence["as_of"] and entry.undo
    assert entries["object"].evidence["size_bytes"] == len(shop.app.objects[key])
    restore(shop.system, shop.home, actor="ada", reason="wanted back", plan_id=plan.id)  # I02
    assert shop.files.get(key) == shop.app.objects[key]
    assert shop.app.rows("renders")[id or ""] == row
    hold(shop, settled=True)


def test_a_restore_never_overwrites_and_says_so(shop: Shop) -> None:
    """I03: the key has another content by now."""
    key = shop.app.upload()
    plan = shop.planned("orphans")
    shop.execute(plan.id)
    shop.app.put(key)
    undone = restore(shop.system, shop.home, actor="ada", reason="wanted back", plan_id=plan.id)
    assert undone.counts == {"failed": 1} and "occupied" in undone.problems[0][1]
    assert shop.files.get(key) == shop.app.objects[key]
    hold(shop, settled=True)


def test_what_is_named_again_is_not_purged(shop: Shop) -> None:
    """I04, I7: its time is over, and a row names it."""
    keys = [shop.app.upload() for _ in range(2)]
    plan = shop.planned("orphans")
    shop.execute(plan.id)
    shop.app.sql(("INSERT INTO renders VALUES ('again', ?, 'working', '2024-01-01 00:00:00', NULL)", [keys[0]]))
    found = due_for_purge(shop.system, shop.home, at=shop.clock() + timedelta(days=31))
    assert [entry.key for entry in found.due] == [keys[1]]
    assert [entry.key for entry, _ in found.needed] == [keys[0]]
    assert not due_for_purge(shop.system, shop.home, at=shop.clock() + timedelta(days=29)).due


def test_the_same_key_taken_twice_is_kept_twice_and_never_taken_for_the_applications(shop: Shop) -> None:
    """I05, E07: two runs keep two copies, and no plan ever selects one of them."""
    key = shop.app.upload()
    first = shop.planned("orphans")
    shop.execute(first.id)
    shop.app.put(key)
    second = shop.planned("orphans")
    assert second.objects == 1
    shop.execute(second.id)
    shop.reconcile()
    assert shop.plan("orphans").units == 0
    kept = [shop.files.kept(e.undo or {}, key) for e in shop.state.quarantined("shop", key=key)]
    assert kept == shop.app.history[key]
    give_everything_back(shop)
