"""Right before an act: the policy is asked again, about these steps only, on a fresh snapshot (I6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.core.policy import Policy
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.databases.row_ids import row_filter
from maintenance_defs.reconcile.calculator import one
from maintenance_defs.retention.batches import Step
from maintenance_defs.retention.blocking import refuse_if_blocked
from maintenance_defs.retention.choosing import choice_of
from maintenance_defs.retention.choosing.judging import Listing
from maintenance_defs.retention.choosing.selected import of_groups
from maintenance_defs.retention.evidence import Evidence, take_evidence
from maintenance_defs.stores.acting import ActingStore, Seen, changed
from maintenance_defs.stores.base import ObjectFacts

LOOK_BATCH, LOOKING = 2000, 16  # keys of one look; looks at once, with a connection each
LOOKED = pa.schema([pa.field("store", pa.string()), *INVENTORY])


@dataclass
class Verified:
    """What may still be done, and why not the rest: (unit, number) -> (outcome, detail)."""

    going: list[Step]
    refused: dict[tuple[int, int], tuple[str, str]]


class Look:
    """Asks the stores how objects are now, and remembers it for the comparison with the plan."""

    def __init__(self, stores: Mapping[str, ActingStore]) -> None:
        self._stores = stores
        self.seen: dict[tuple[str, str], ObjectFacts | StoreUnavailable | None] = {}

    def __call__(self, wanted: Mapping[str, Sequence[str]]) -> pa.Table:
        """A table of LOOKED: objects that exist; those that nobody could ask for count as not there to be taken."""
        rows: list[tuple[str, ObjectFacts]] = []
        for store, keys in wanted.items():
            parts = [keys[start : start + LOOK_BATCH] for start in range(0, len(keys), LOOK_BATCH)]
            with ThreadPoolExecutor(LOOKING, "looking") as threads:
                for found in threads.map(partial(self._stores[store].look, dense=True), parts):
                    self.seen |= {(store, key): facts for key, facts in found.items()}
                    rows += [(store, facts) for facts in found.values() if isinstance(facts, ObjectFacts)]
        columns = [
            [store for store, _ in rows], [f.key for _, f in rows], [f.size_bytes for _, f in rows],
            [f.modified_at for _, f in rows], [f.etag for _, f in rows], [None] * len(rows),
        ]  # fmt: skip
        return pa.Table.from_arrays(
            [pa.array(column, field.type) for column, field in zip(columns, LOOKED, strict=True)], schema=LOOKED
        )

    def listed(self, store: str, after: str, until: str) -> Iterator[pa.RecordBatch]:
        return self._stores[store].reading.list(after=after, until=until)


@contextmanager
def _evidence(system: System, home: Home, steps: Sequence[Step], work: Path) -> Iterator[Evidence]:
    """A fresh snapshot; undeclared columns are compared with the objects of these steps."""
    listed: dict[str, Path] = {}
    for store in dict.fromkeys(s.store for s in steps if s.store is not None):
        of_store = sorted({s.key or "": s for s in steps if s.store == store}.values(), key=lambda s: s.key or "")
        listed[store] = work / f"planned-{store}.parquet"
        columns = [
            [s.key for s in of_store], [s.size_bytes for s in of_store], [s.modified_at for s in of_store],
            [s.etag for s in of_store], [None] * len(of_store),
        ]  # fmt: skip
        arrays = [pa.array(column, field.type) for column, field in zip(columns, INVENTORY, strict=True)]
        pq.write_table(pa.Table.from_arrays(arrays, schema=INVENTORY), listed[store])
    with take_evidence(system, home, listed, work) as evidence:
        yield evidence


@contextmanager
def verified(
    system: System,
    policy: Policy,
    name: str,
    home: Home,
    steps: Sequence[Step],
    done: Mapping[tuple[int, int], str],
    listings: Mapping[str, Listing],
    stores: Mapping[str, ActingStore],
    as_of: datetime,
    timings: Mapping[str, str],
) -> Iterator[tuple[Verified, Evidence]]:
    """Which steps the policy still chooses now; `done` are steps of the same units that were done before.

    The snapshot stays open while the caller acts on it only as long as it wants its SQL.
    """
    with TemporaryDirectory() as folder, _evidence(system, home, steps, Path(folder)) as evidence:
        look = Look(stores)
        holds = home.control.retention.holds_on(system.name, name)  # one on a part of a unit keeps the whole
        choice = choice_of(policy)(evidence, policy, name, as_of, timings, listings, holds=holds, look=look)
        if policy.select.rows is not None:
            table = evidence.snapshot.table(policy.select.rows)
            ids = sorted(
                {s.row_id for s in steps if s.table_name in (None, policy.select.rows) and s.row_id is not None}
            )
            if table is not None:
                choice.only = _restricted(evidence, policy, ids)
        else:
            choice.only_keys = sorted({s.key for s in steps if s.key is not None})
        refuse_if_blocked(evidence, as_of)
        choice.run()
        yield _compare(evidence, steps, done, look), evidence


def _restricted(evidence: Evidence, policy: Policy, ids: Sequence[str]) -> tuple[str, list[object]]:
    """A condition for the rows at hand; with generations, for all rows of what they belong to."""
    snapshot, select = evidence.snapshot, policy.select
    table = snapshot.table(select.rows or "")
    if table is None:
        return "1 = 0", []
    condition, parameters = row_filter(snapshot, table, select.id or (), ids)
    if select.generations is None:
        return condition, list(parameters)
    from maintenance_defs.reconcile.reading.rows import column_of, from_table

    of = column_of(table, select.generations.of, snapshot)
    text = snapshot.as_text(snapshot.quote(of), table.columns[of])
    groups = [
        row["v"]
        for batch in snapshot.read(
            f"SELECT DISTINCT {text} AS v FROM {from_table(snapshot, table)} WHERE {condition}", parameters
        )
        for row in batch.to_pylist()
        if row["v"] is not None
    ]
    whole, values = of_groups(snapshot, policy, groups)
    return f"{condition} OR {whole}", [*parameters, *values]


def _compare(evidence: Evidence, steps: Sequence[Step], done: Mapping[tuple[int, int], str], look: Look) -> Verified:
    """A planned step may go if the policy chooses the same step now, and its object is the one that was planned."""
    con = evidence.con
    fresh = {
        ((act, store, key) if table is None else (act, table, row_id)): detail
        for act, store, key, table, row_id, detail in con.execute(
            "SELECT act, store, key, table_name, row_id, detail FROM steps"
        ).fetchall()
    }
    reasons = dict(con.execute("SELECT item, min(rule || ': ' || reason) FROM kept GROUP BY item").fetchall())
    judged = {  # only what needs an explanation
        (store, key): (item, reason)
        for store, key, item, reason in con.execute(
            "SELECT store, key, item, reason FROM verdicts ANTI JOIN steps USING (store, key)"
        ).fetchall()
    }
    is_rows = one(con, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'selected'")[0]
    still = (
        {row_id for (row_id,) in con.execute("SELECT row_id FROM selected WHERE chosen").fetchall()}
        if is_rows
        else None
    )
    found = Verified([], {})
    for step in steps:
        place = (step.unit, step.number)
        if place in done and done[place] in ("deleted", "quarantined", "moved", "set", "already_absent"):
            continue
        why = _why_not(step, fresh, reasons, judged, still, look)
        if why is None:
            found.going.append(step)
        else:
            found.refused[place] = why
    return found


def _why_not(
    step: Step,
    fresh: Mapping[tuple[str, str | None, str | None], str | None],
    reasons: Mapping[str, str],
    judged: Mapping[tuple[str | None, str | None], tuple[str, str]],
    still: set[str] | None,
    look: Look,
) -> tuple[str, str] | None:
    if step.is_object:
        now = look.seen.get((step.store or "", step.key or ""))
        if isinstance(now, StoreUnavailable):
            return "unknown", f"the store does not say how it is now ({now.reason})"
        if now is None and still is None:
            return None  # gone already: the act says so
    if step.identity not in fresh:
        item = step.key if step.is_object and still is None else step.row_id
        reason = reasons.get(item or "")
        verdict = judged.get((step.store, step.key)) if step.is_object else None
        if verdict is not None and verdict[0] == "matched":
            return "skipped_referenced", f"referenced since the plan: {verdict[1]}"
        if reason is not None and reason.startswith("hold:"):
            return "skipped_held", f"since the plan: {reason}"
        if reason is not None:
            kind = (
                "skipped_referenced"
                if reason.startswith(("rows:", "referenced_elsewhere:", "matched:"))
                else "skipped_kept"
            )
            return kind, f"kept since the plan: {reason}"
        if still is not None and step.row_id not in still and not step.is_object:
            return "skipped_changed", "the row is gone, or the policy does not select it any more"
        if verdict is not None:
            return "skipped_kept", f"{verdict[0]}: {verdict[1]}"
        return "skipped_changed", "the policy does not choose it any more"
    if not step.is_object:
        if fresh[step.identity] != step.detail:
            return "skipped_changed", "it would be set to other values now"
        return None
    now = look.seen.get((step.store or "", step.key or ""))
    if isinstance(now, ObjectFacts):
        if step.size_bytes is None:
            return "skipped_changed", "the object was not there when the plan was made"
        if step.etag and (now.etag, now.size_bytes, now.modified_at) == (step.etag, step.size_bytes, step.modified_at):
            return None
        seen = Seen(step.key or "", step.size_bytes, step.modified_at, step.etag)
        if different := changed(seen, now):
            return "skipped_changed", f"changed since the plan: {different}"
    return None
