"""The last look of a run: what was referenced while the run worked comes back at once (B02, K06).

Between the question and the act lie seconds. A row that was written in them names an object that is now in
quarantine; nobody should have to notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from maintenance_defs.reconcile.calculator import literal
from maintenance_defs.retention.acting import Actor
from maintenance_defs.retention.batches import Work
from maintenance_defs.retention.choosing.judging import Listing, judge_objects, start_verdicts
from maintenance_defs.retention.evidence import take_evidence
from maintenance_defs.retention.restore import restore_object


def restore_late_references(
    actor: Actor, work: Work, listings: Mapping[str, Listing], log: Callable[[str], None]
) -> int:
    """Ask once more for every object that this run put away; give back what a row names exactly now.

    Returns how many came back; each is noted as skipped_referenced.
    """
    work.may_come_back([s for s in work.deleted_from() if actor.stores[s].capabilities().versioned])
    stores = work.put_away()
    if not stores:
        return 0
    restored = 0
    with TemporaryDirectory() as folder:
        path = Path(folder)
        files = {store: work.write_put_away(store, path / f"away-{store}.parquet") for store in stores}
        evidence_folder = path / "evidence"
        evidence_folder.mkdir()
        with take_evidence(actor.system, actor.home, files, evidence_folder) as evidence:
            start_verdicts(evidence, None)
            if actor.policy.act.set and actor.policy.select.rows is not None:  # rows that are left on purpose (C-11)
                evidence.con.register("left_rows", work.rows_put_away())
                evidence.con.execute("INSERT INTO going SELECT ?, row_id FROM left_rows", [actor.policy.select.rows])
                evidence.con.unregister("left_rows")
            for store, file in files.items():
                if store not in actor.system.referenced_stores or store not in listings:
                    continue
                judge_objects(
                    evidence, store, listings[store], f"SELECT * FROM read_parquet({literal(file)})",
                    actor.clock(), timedelta(0),
                )  # fmt: skip
                needed = evidence.con.execute(
                    "SELECT key, reason FROM verdicts WHERE store = ? AND item = 'matched' ORDER BY key", [store]
                ).fetchall()
                for key, reason in needed:
                    restored += _give_back(actor, work, store, key, reason, log)
    return restored


def _give_back(actor: Actor, work: Work, store: str, key: str, reason: str, log: Callable[[str], None]) -> int:
    entries = actor.home.control.retention.quarantined(
        actor.system.name, state=None, plan_id=actor.plan.id, key=key, store=store
    )
    if all(entry.state == "restored" for entry in entries):  # by an earlier attempt, or by a person
        work.note([(*work.place_of(store, key), "skipped_referenced", f"given back before; {reason}")])
        return 0
    done = restore_object(actor.system, actor.home, actor.stores, actor.plan.id, store, key, actor.owner, reason)
    place = work.place_of(store, key)
    if done.outcome == "restored":
        work.note([(*place, "skipped_referenced", f"given back: {reason} since the act")])
        log(f"Given back, because it was {reason} meanwhile: {key}")
        return 1
    work.note([(*place, "unknown", f"{reason} since the act, but not given back: {done.detail}")])
    log(f"Needed again, but not given back ({done.detail}): {key}")
    return 0
