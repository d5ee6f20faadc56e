"""What must hold of a shop at any moment: nothing needed is gone, what went comes back, the ledger says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maintenance_defs.control.retention.registry import Entry
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.retention.images import read_image
from maintenance_defs.retention.restore import restore
from tests.support.shop import BASE, Shop

UNFINISHED = ("executing", "partial")


def hold(shop: Shop, *, settled: bool = False) -> None:
    """Raises AssertionError for a broken promise. settled: no plan is unfinished, so there is no excuse either."""
    assert shop.state.verify_chain("shop") is None
    entries = list(shop.state.quarantined("shop", state=None))
    begun = {
        one.intent.key or one.intent.row_id
        for plan in shop.state.plans("shop", limit=1000)
        for one in shop.state.open_intents(plan.id)
    }
    assert not (settled and begun), begun
    _rows(shop, entries, begun)
    _objects(shop, entries, begun, settled)
    for entry in entries:
        _restorable(shop, entry)


def _rows(shop: Shop, entries: list[Entry], begun: set[str | None]) -> None:
    app, now = shop.app, shop.app.rows("renders")
    acted: dict[str | None, list[str]] = {}
    for entry in entries:
        if entry.kind == "row":
            acted.setdefault(entry.row_id, []).append(entry.state)
    for id, one in app.renders.items():
        if id not in now:
            assert id in begun or "quarantined" in acted.get(id, []), f"{id} is gone, and the ledger does not say why"
            assert app.expendable(id), f"{id} was needed"
            continue
        key, status, created_at, gone_at = now[id]
        assert (key, status, created_at) == (one.key, one.status, one.created_at)
        if gone_at != one.gone_at:
            assert id in begun or id in acted, f"{id} was changed, and the ledger does not say why"
            assert app.expendable(id) and one.status == "expired", f"{id} was needed"
            app.renders[id] = replace(one, gone_at=gone_at)
    assert set(app.rows("saved")) == set(app.saved)
    assert shop.files.get(BASE) is not None and "base" in now


def _objects(shop: Shop, entries: list[Entry], begun: set[str | None], settled: bool) -> None:
    app, needed = shop.app, shop.app.needed_keys()
    states = {plan.id: plan.state for plan in shop.state.plans("shop", limit=1000)}
    away: dict[str | None, list[Entry]] = {}
    for entry in entries:
        if entry.kind == "object" and entry.state != "restored":
            away.setdefault(entry.key, []).append(entry)
    for key, body in app.objects.items():
        now = shop.files.get(key)
        if now is not None:
            assert now == body, f"{key} has other bytes"
            continue
        mine = away.get(key, [])
        assert key in begun or mine, f"{key} is gone, and the ledger does not say why"
        if key in needed:
            unfinished = key in begun or any(states[entry.plan_id] in UNFINISHED for entry in mine)
            assert unfinished and not settled, f"{key} is needed and gone: {[(e.state, e.outcome) for e in mine]}"


def _restorable(shop: Shop, entry: Entry) -> None:
    undo: dict[str, Any] = entry.undo or {}
    if entry.state == "quarantined" and entry.kind == "object":
        kept = shop.files.kept(undo, entry.key or "")
        assert kept is not None, f"{entry.key} cannot be restored"
        assert kept in shop.app.history[entry.key or ""] and len(kept) == entry.size_bytes
    if entry.state == "quarantined" and entry.kind == "row":
        image = read_image(shop.home, undo["images"], undo["image"])
        one = shop.app.renders.get(entry.row_id or "")
        if one is not None:
            found = (image.columns["key"], image.columns["status"], image.columns["created_at"])
            assert found == (one.key, one.status, one.created_at)


def finish(shop: Shop) -> None:
    """Every unfinished plan is taken up again until it is done."""
    for _ in range(6):
        shop.lapse()
        shop.reconcile()
        for plan in shop.state.plans("shop", states=UNFINISHED, limit=1000):
            shop.execute(plan.id)
        if not shop.state.plans("shop", states=UNFINISHED, limit=1000):
            return
    left = [(p.id, p.state, p.message) for p in shop.state.plans("shop", states=UNFINISHED, limit=1000)]
    raise AssertionError(f"never done: {left}")


def give_everything_back(shop: Shop) -> None:
    """Restore all that is in quarantine; only what is occupied, or what the application deleted, may stay there."""
    problems: list[tuple[str, str]] = []
    for _ in range(2):  # a row that one plan set may have been deleted by another, which comes back in its turn
        problems = []
        for plan in shop.state.plans("shop", limit=1000):
            try:
                undone = restore(shop.system, shop.home, actor="ada", reason="all back", plan_id=plan.id)
            except MaintenanceError as error:
                assert getattr(error, "reason", "") == "not_quarantined", error
                continue
            problems += undone.problems
    for what, why in problems:
        if "deleted since" in why:
            assert what.split()[-1] not in shop.app.renders, (what, why)
        else:
            assert "occupied" in why or "there" in why or "changed" in why, (what, why)
    for entry in shop.state.quarantined("shop", state=None):
        if entry.kind == "object" and entry.state == "quarantined":
            assert shop.files.get(entry.key or "") is not None, f"{entry.key} did not come back"
