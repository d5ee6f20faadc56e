"""Making final what was quarantined: a second act, agreed to and verified on its own (I7, I04).

Before anything is removed for good, the database is asked once more whether a row names the key again;
what is needed again stays, and restoring it is proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import Entry, Outcome
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Held, MaintenanceError, Refused
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.databases.row_ids import row_filter
from maintenance_defs.reconcile.calculator import literal
from maintenance_defs.reconcile.comparing.inputs import Inputs
from maintenance_defs.reconcile.inventory import FILE
from maintenance_defs.reconcile.reading.rows import column_of, from_table
from maintenance_defs.retention.choosing.judging import Listing, judge_objects, start_verdicts
from maintenance_defs.retention.evidence import Evidence, take_evidence
from maintenance_defs.retention.restore import Doors, Undone
from maintenance_defs.stores.acting import Done, Seen

PAGE = 1000


@dataclass
class Purge:
    """What may be made final now, and what may not, with the reason."""

    due: list[Entry] = field(default_factory=list)
    needed: list[tuple[Entry, str]] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def objects(self) -> int:
        return len(self.due)


def due_for_purge(system: System, home: Home, *, at: datetime, plan_id: str | None = None) -> Purge:
    """Objects in quarantine whose time is over and whose keys no row names now. Changes nothing.

    Raises SourceUnavailable and Refused: whoever cannot ask must not purge.
    """
    found = [
        entry
        for entry in home.control.retention.quarantined(system.name, plan_id=plan_id, due_before=at)
        if entry.kind == "object" and (entry.undo or {}).get("kind") in ("copy", "marker")
    ]
    purge = Purge()
    if not found:
        return purge
    inventories = Inputs.newest(system, home).inventories
    with TemporaryDirectory() as folder:
        path = Path(folder)
        files: dict[str, Path] = {}
        for store in dict.fromkeys(entry.store or "" for entry in found):
            files[store] = _as_inventory(path / f"away-{store}.parquet", [e for e in found if e.store == store])
        work = path / "evidence"
        work.mkdir()
        with take_evidence(system, home, files, work) as evidence:
            start_verdicts(evidence, None)
            _leave_out_left_rows(evidence, found)
            for store, file in files.items():
                inventory = inventories.get(store)
                if inventory is None or inventory.verdict != "complete" or inventory.uri is None:
                    raise Refused(
                        "not_listed", f"store '{store}' has no complete inventory. Nothing was purged: reconcile first."
                    )
                whole = home.artefacts.local(inventory.uri, inventory.digest) / FILE
                listing = Listing(whole, inventory.started_at)
                judge_objects(
                    evidence, store, listing, f"SELECT * FROM read_parquet({literal(file)})", at, timedelta(0)
                )
            verdicts = {
                (store, key): (item, reason)
                for store, key, item, reason in evidence.con.execute(
                    "SELECT store, key, item, reason FROM verdicts"
                ).fetchall()
            }
    for entry in found:
        item, reason = verdicts.get((entry.store, entry.key), ("unknown", "it could not be judged"))
        if item in ("orphan_candidate", "young"):  # outside every scope nothing is judged, so nothing is final
            purge.due.append(entry)
            purge.size_bytes += entry.size_bytes or 0
        else:
            purge.needed.append((entry, f"{item}: {reason}"))
    return purge


def _leave_out_left_rows(evidence: Evidence, entries: Sequence[Entry]) -> None:
    """Rows that a policy left without their object do not count, while what it wrote in them still stands (C-11)."""
    places: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        policy = evidence.system.retention.get(entry.policy)
        left = policy is not None and policy.act.set and policy.select.rows == entry.table
        if left and entry.table is not None and entry.row_id is not None:
            places.setdefault((entry.policy, entry.table), set()).add(entry.row_id)
    snapshot = evidence.snapshot
    for (name, table_name), row_ids in places.items():
        policy, table = evidence.system.retention[name], snapshot.table(table_name)
        if table is None:
            continue
        written = [column_of(table, column, snapshot) for column, value in policy.act.set.items() if value is not None]
        ids = sorted(row_ids)
        for start in range(0, len(ids), PAGE):
            batch = ids[start : start + PAGE]
            condition, parameters = row_filter(snapshot, table, policy.select.id or (), batch)
            stands = " AND ".join([f"({condition})", *(f"{snapshot.quote(column)} IS NOT NULL" for column in written)])
            columns = [column_of(table, column, snapshot) for column in policy.select.id or ()]
            texts = [snapshot.as_text(snapshot.quote(column), table.columns[column]) for column in columns]
            selected = ", ".join(f"{text} AS i{n}" for n, text in enumerate(texts))
            for found in snapshot.read(
                f"SELECT {selected} FROM {from_table(snapshot, table)} WHERE {stands}", parameters
            ):
                names = ", ".join(found.schema.names)
                row_id = f"{names}::VARCHAR" if len(columns) == 1 else f"to_json([{names}]::VARCHAR[])::VARCHAR"
                evidence.con.register("left_rows", pa.Table.from_batches([found]))
                evidence.con.execute(f"INSERT INTO going SELECT ?, {row_id} FROM left_rows", [table_name])
                evidence.con.unregister("left_rows")


def purge_entries(
    system: System,
    home: Home,
    entries: Sequence[Entry],
    *,
    actor: str,
    reason: str,
    progress: Callable[[int], None] = lambda items: None,
) -> Undone:
    """Remove these quarantined copies for good, as `due_for_purge` chose them a moment ago."""
    doors = Doors(system, home)
    state = home.control.retention
    undone = Undone("purged")
    for plan_id in dict.fromkeys(entry.plan_id for entry in entries):
        mine = [entry for entry in entries if entry.plan_id == plan_id]
        for start in range(0, len(mine), PAGE):
            page = mine[start : start + PAGE]
            try:
                seqs = state.begin_undo("purge", plan_id, [entry.seq for entry in page], actor, reason)
            except Held as error:
                for place in error.places:
                    undone.add(page[place].key or "", Done(page[place].key or "", "skipped_held", str(error)))
                page = [entry for n, entry in enumerate(page) if n not in error.places]
                if not page:
                    continue
                seqs = state.begin_undo("purge", plan_id, [entry.seq for entry in page], actor, reason)
            outcomes = []
            for seq, entry in zip(seqs, page, strict=True):
                try:
                    undo = {name: str(value) for name, value in (entry.undo or {}).items()}
                    done = doors[entry.store or ""].purge(undo, _seen(entry))
                except MaintenanceError as error:
                    done = Done(entry.key or "", "failed", str(error))
                outcome = "purged" if done.outcome == "already_absent" else done.outcome
                outcomes.append(Outcome(seq, outcome, done.detail))
                undone.add(entry.key or "", Done(done.key, outcome, done.detail))
            state.end_undo(plan_id, actor, outcomes)
            progress(len(page))
    return undone


def _seen(entry: Entry) -> Seen:
    modified = entry.evidence.get("modified_at")
    if isinstance(modified, str):
        modified = datetime.fromisoformat(modified)
    return Seen(entry.key or "", entry.size_bytes, modified, entry.evidence.get("etag"))


def _as_inventory(path: Path, entries: Sequence[Entry]) -> Path:
    newest = {entry.key: entry for entry in entries if entry.key is not None}
    rows = [_seen(newest[key]) for key in sorted(newest)]
    columns = [[s.key for s in rows], [s.size_bytes for s in rows], [s.modified_at for s in rows],
               [s.etag for s in rows], [None] * len(rows)]  # fmt: skip
    arrays = [pa.array(column, field.type) for column, field in zip(columns, INVENTORY, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=INVENTORY), path)
    return path
