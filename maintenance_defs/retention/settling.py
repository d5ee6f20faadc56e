"""What a killed run had begun: looked at where it happened, and written down as it turned out (F16, H07)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from maintenance_defs.control.retention.ledger import Intent, OpenIntent, Outcome
from maintenance_defs.core.errors import MaintenanceError, StoreUnavailable
from maintenance_defs.core.policy import Move
from maintenance_defs.core.quantities import parse_instant
from maintenance_defs.retention.acting import Actor
from maintenance_defs.retention.images import keep_images, read_image
from maintenance_defs.retention.verifying import LOOK_BATCH
from maintenance_defs.stores.acting import Done, Seen, changed, quarantine_key
from maintenance_defs.stores.base import ObjectFacts

NOTHING = "an earlier run was interrupted before it was done; nothing of it was changed"


def settle(actor: Actor, log: Callable[[str], None]) -> None:
    """Give every open intent of the plan its outcome. What was not done is `failed` and is tried again.

    Raises what the store or database raises: then the intents stay open, and nothing else is begun.
    """
    state = actor.home.control.retention
    found = state.open_intents(actor.plan.id)
    if not found:
        return
    log(f"An earlier run was interrupted: {len(found):,} acts are looked at first.")
    there = _look(actor, [one.intent for one in found if one.intent.kind == "object"])
    outcomes = []
    for one in found:
        place = one.intent.store or "", one.intent.key or ""
        done = _object(actor, one.intent, there[place]) if one.intent.kind == "object" else _row(actor, one)
        outcomes.append(Outcome(one.seq, done.outcome, done.detail, done.undo))
    state.outcomes(actor.plan.id, actor.owner, outcomes)


def _look(actor: Actor, intents: Sequence[Intent]) -> dict[tuple[str, str], ObjectFacts | StoreUnavailable | None]:
    """How the objects of these acts are now, by store and key."""
    keys: dict[str, list[str]] = {}
    for one in intents:
        keys.setdefault(one.store or "", []).append(one.key or "")
    found: dict[tuple[str, str], ObjectFacts | StoreUnavailable | None] = {}
    for name, mine in keys.items():
        for start in range(0, len(mine), LOOK_BATCH):
            looked = actor.stores[name].look(mine[start : start + LOOK_BATCH], dense=True)
            found |= {(name, key): now for key, now in looked.items()}
    return found


def _object(actor: Actor, intent: Intent, now: ObjectFacts | StoreUnavailable | None) -> Done:
    key, store = intent.key or "", actor.stores[intent.store or ""]
    seen = Seen(key, intent.size_bytes, _instant(intent.evidence.get("modified_at")), intent.evidence.get("etag"))
    if isinstance(now, ObjectFacts):
        different = changed(seen, now)
        if different is None:
            return Done(key, "failed", NOTHING)
        copy = quarantine_key(actor.plan.id, key)
        if intent.act == "quarantine" and isinstance(store.look([copy])[copy], ObjectFacts):
            different += f"; what was planned lies at {copy}, where an interrupted run had brought it"
        return Done(key, "skipped_changed", different)
    if now is not None:
        return Done(key, "unknown", "the store does not say whether it is there")
    if intent.act == "quarantine":
        return store.after_crash(seen, actor.plan.id)
    if intent.size_bytes is None:  # it was not there when the plan was made either
        return Done(key, "already_absent")
    if intent.act == "move" and isinstance(actor.policy.act.objects, Move):
        move = actor.policy.act.objects
        target = move.prefix + key
        there = actor.stores[move.move_to].look([target])[target]
        if isinstance(there, ObjectFacts) and there.size_bytes == seen.size_bytes:
            return Done(key, "moved", "completed by an interrupted run")
        return Done(key, "unknown", "it is gone, and not where it was to go")
    undo = store.after_crash(seen, actor.plan.id).undo if store.capabilities().versioned else None
    return Done(key, "deleted", "completed by an interrupted run", undo)


def _row(actor: Actor, one: OpenIntent) -> Done:
    intent = one.intent
    table, row_id = intent.table or "", intent.row_id or ""
    now = actor.database.images(table, actor.id_columns(table), [row_id]).get(row_id)
    evidence = intent.evidence
    if "images" not in evidence:
        return Done(row_id, "already_absent" if now is None else "failed", NOTHING)
    undo = {"images": str(evidence["images"]), "image": str(evidence["image"])}
    if intent.act == "delete_row":
        if now is None:
            return Done(row_id, "deleted", "completed by an interrupted run", {"kind": "row"} | undo)
        return Done(row_id, "failed", NOTHING)
    try:
        before = read_image(actor.home, undo["images"], undo["image"])
    except MaintenanceError as error:
        return Done(row_id, "unknown", str(error))
    if now is None or now == before:
        return Done(row_id, "failed", NOTHING)
    wanted: dict[str, Any] = json.loads(str(evidence.get("detail") or "{}"))
    others = {name for name in before.columns if name not in wanted}
    same = all(now.columns.get(name) == before.columns[name] for name in others)
    if same and actor.database.has(table, actor.id_columns(table), row_id, wanted):
        uri, digest = keep_images(actor.system, actor.plan, actor.home, {(table, row_id): now}, "after")[table, row_id]
        undo |= {"kind": "update", "after_images": uri, "after": digest}
        return Done(row_id, "set", "completed by an interrupted run", undo)
    return Done(row_id, "unknown", "the row has changed meanwhile; whether this act did it is not known")


def _instant(value: Any) -> datetime | None:
    if isinstance(value, datetime) or value is None:
        return value
    return parse_instant(str(value))
