"""Doing the verified steps of one batch: intents on record, the act, outcomes on record, in this order (I11)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from itertools import groupby
from typing import Any

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.consent import Approval
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.control.retention.ledger import SUCCESS, Intent, Outcome
from maintenance_defs.core.declaration import System, config_digest
from maintenance_defs.core.errors import Held, MaintenanceError
from maintenance_defs.core.policy import Move, Policy
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.databases.acting import ActingDatabase, RowImage
from maintenance_defs.reconcile.reading.rows import column_of, from_table
from maintenance_defs.retention.batches import UNIT_STAYS, Step
from maintenance_defs.retention.cascading import ID_BATCH, Along, along_of
from maintenance_defs.retention.doors import open_database_for_acting, open_store_for_acting
from maintenance_defs.retention.evidence import Evidence
from maintenance_defs.retention.images import keep_images
from maintenance_defs.retention.restore import restore_object
from maintenance_defs.stores.acting import ActingStore, Done, Seen

BULK, ROW_BULK = 2000, 1000  # objects, and rows, of one intent transaction; the rows of one transaction as well
IN_FLIGHT = 4  # bulks of objects at once: the ledger is written while stores answer; a killed run leaves so many open

Outcomes = list[tuple[int, int, str, str | None]]
Images = dict[tuple[str, str], RowImage]  # (table, row id) -> the row before the snapshot


@dataclass
class Actor:
    """One run's hands: the doors that write, and what it may write on."""

    system: System
    policy: Policy
    plan: PlanRow
    home: Home
    owner: str
    approval: Approval | None
    clock: Callable[[], datetime]
    lease_seconds: float
    images_uri: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    @cached_property
    def stores(self) -> dict[str, ActingStore]:
        """Every store of the system; opened once."""
        return {name: open_store_for_acting(self.system, name, self.home) for name in self.system.stores}

    @cached_property
    def database(self) -> ActingDatabase:
        return open_database_for_acting(self.system, self.home)

    @cached_property
    def _along(self) -> Along:
        return along_of(self.system, self.policy, self.home, self.plan.totals["cascades"])

    @cached_property
    def system_digest(self) -> str:
        return config_digest(self.system)

    @cached_property
    def _why(self) -> dict[str, Any]:
        """What every intent says of the plan and of who approved it (I07)."""
        return {
            "policy": self.plan.policy, "digest": self.plan.digest, "as_of": format_instant(self.plan.as_of),
            "approver": self.approval.actor if self.approval else None,
            "why_approved": self.approval.reason if self.approval else None,
        }  # fmt: skip

    def id_columns(self, table: str) -> tuple[str, ...]:
        """The columns that name a row of this table."""
        select = self.policy.select
        return select.owns.id if select.owns is not None and table == select.owns.table else (select.id or ())

    def take_images(self, steps: Sequence[Step]) -> Images:
        """The rows as they are before anything is asked: an act later demands that they are still so."""
        found: Images = {}
        tables = dict.fromkeys(s.table_name for s in steps if s.table_name is not None)
        for table in tables:
            ids = list(dict.fromkeys(s.row_id for s in steps if s.table_name == table and s.row_id is not None))
            for row_id, image in self.database.images(table, self.id_columns(table), ids).items():
                found[table, row_id] = image
        return found

    def predicates(self, evidence: Evidence) -> dict[str, str]:
        """What the statement that changes a row repeats, by table: the policy's own conditions, on the row as it is."""
        select = self.policy.select
        if select.rows is None:
            return {}
        snapshot = evidence.snapshot
        table = snapshot.table(select.rows)
        if table is None:
            return {}
        parts = [f"({select.where})"]
        for rule in self.policy.keep:
            if rule.while_ is not None:
                parts.append(f"((\n{rule.while_}\n) IS FALSE)")
            elif rule.rows is not None and rule.match not in select.columns:
                column = column_of(table, rule.match or "", snapshot)
                mine = snapshot.as_text(
                    f"{from_table(snapshot, table)}.{snapshot.quote(column)}", table.columns[column]
                )
                mine = (
                    mine
                    if snapshot.dialect != "postgresql"
                    else f"({snapshot.quote(table.name)}.{snapshot.quote(column)})::text"
                )
                theirs = snapshot.as_text("v", "")
                parts.append(
                    f"NOT EXISTS (WITH protecting (v) AS (\n{rule.rows}\n) SELECT 1 FROM protecting "
                    f"WHERE lower(trim({theirs})) = lower(trim({mine})))"
                )
        found = {select.rows: "\nAND ".join(parts)}
        if (owns := select.owns) is not None:
            other = snapshot.table(owns.table)
            if other is not None and len(owns.id) == 1:
                by, id_ = column_of(table, owns.by, snapshot), column_of(other, owns.id[0], snapshot)
                pointing = f"pointing.{snapshot.quote(by)}"
                own = f"{snapshot.quote(other.name)}.{snapshot.quote(id_)}"
                found[owns.table] = (
                    f"NOT EXISTS (SELECT 1 FROM {from_table(snapshot, table)} AS pointing WHERE {pointing} = {own})"
                )
        return found

    # Acting --------------------------------------------------------------------------------------

    def act(
        self,
        steps: Sequence[Step],
        going: Sequence[Step],
        known: Mapping[tuple[int, int], str],
        images: Images,
        predicates: Mapping[str, str],
        log: Callable[[str], None],
    ) -> Outcomes:
        """Phase by phase: a unit one of whose steps was refused is left alone; one that fails gets no further."""
        may = {(s.unit, s.number) for s in going}
        stopped = {
            s.unit for s in steps if (s.unit, s.number) not in may and known.get((s.unit, s.number)) not in SUCCESS
        }
        away: dict[int, list[Step]] = {}
        outcomes = self._refused(going, images, predicates)
        stopped |= {unit for unit, _, _, _ in outcomes}
        self._keep_images(going, images)
        order = sorted(going, key=lambda s: (s.position, s.act, s.store or s.table_name or "", s.unit, s.number))
        if any(s.is_object for s in order) and "objects" in self.policy.log:
            log(self.policy.log["objects"].replace("{n}", str(sum(s.is_object for s in order))))
        for _, phase in groupby(order, key=lambda s: (s.position, s.act, s.store or s.table_name)):
            group = list(phase)
            left = [s for s in group if s.unit not in stopped]
            with closing(self._do(left, images, predicates)) as doing:  # whatever ends this, what is in flight lands
                for step, done in doing:
                    outcomes.append((step.unit, step.number, done.outcome, done.detail))
                    if done.outcome not in SUCCESS:
                        stopped.add(step.unit)
                        if step.is_object and done.outcome in ("failed", "unknown") and "failed" in self.policy.log:
                            log(f"{self.policy.log['failed']}: {step.key}")
                    elif done.undo is not None and step.is_object:
                        away.setdefault(step.unit, []).append(step)
        # A row that turned out to be needed gets its object back at once.
        needed = {u for u, _, outcome, _ in outcomes if outcome.startswith("skipped_")}
        for unit in sorted(needed & away.keys()):
            for step in away[unit]:
                outcomes += self._give_back(step)
        noted = {(u, n) for u, n, _, _ in outcomes}
        for step in steps:
            place = (step.unit, step.number)
            if place in may and place not in noted:
                outcomes.append((*place, "skipped_kept", UNIT_STAYS))
        return outcomes

    def _refused(self, going: Sequence[Step], images: Images, predicates: Mapping[str, str]) -> Outcomes:
        """Rows that stay with their objects: more would go along with them than was agreed to, or the database would
        not let them go, by a foreign key or a trigger. Rows of `owns` go after what points at them; only the former is
        asked of them."""
        found: Outcomes = []
        by_table: dict[str, dict[str, Step]] = {}
        for s in going:
            if s.act == "delete_row" and (s.table_name or "", s.row_id) in images:
                by_table.setdefault(s.table_name or "", {})[s.row_id or ""] = s
        for table, rows in by_table.items():
            for some in _parts(list(rows), ID_BATCH):
                for row_id, why in self._along.refused(table, some).items():
                    found.append((rows[row_id].unit, rows[row_id].number, "skipped_referenced", why))
        stopped = {unit for unit, _, _, _ in found}
        with_objects = {s.unit for s in going if s.is_object} - stopped
        table = self.policy.select.rows or ""
        rows = {row_id: s for row_id, s in by_table.get(table, {}).items() if s.unit in with_objects}
        for some in _parts(list(rows), ROW_BULK):
            where, parameters = self._where(table, predicates)
            those = [images[table, row_id] for row_id in some]
            for one in self.database.delete(table, self.id_columns(table), those, where, parameters, rehearse=True):
                if one.outcome != "deleted":
                    step = rows[one.row_id]
                    found.append((step.unit, step.number, one.outcome, one.detail))
        return found

    def _where(self, table: str, predicates: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        """The predicate that a change of the table repeats, and its parameters."""
        where = predicates[table]
        return where, {"as_of": self.plan.as_of} if ":as_of" in where else {}

    def _do(self, steps: Sequence[Step], images: Images, predicates: Mapping[str, str]) -> Generator[tuple[Step, Done]]:
        """Steps of one kind, in bulks: intents, the act, outcomes. Bulks of objects are in flight beside each other."""
        at_once, size = (IN_FLIGHT, BULK) if steps and steps[0].is_object else (1, ROW_BULK)
        flying: deque[tuple[list[Step], list[int], Future[list[Done]]]] = deque()
        with ThreadPoolExecutor(at_once, "acting") as threads:
            try:
                for start in range(0, len(steps), size):
                    held, left, seqs = self._begin(steps[start : start + size])
                    yield from held
                    if left:
                        work = (
                            partial(self._objects, left)
                            if left[0].is_object
                            else partial(self._rows, left, images, predicates)
                        )
                        flying.append((left, seqs, threads.submit(work)))
                    while len(flying) >= at_once:
                        yield from self._end(*flying.popleft())
                while flying:
                    yield from self._end(*flying.popleft())
            finally:  # what is in flight lands; what became of it is settled by looking
                for _, _, future in flying:
                    future.cancel()

    def _begin(self, steps: Sequence[Step]) -> tuple[list[tuple[Step, Done]], list[Step], list[int]]:
        """Intents on record, without those that a hold covers."""
        state = self.home.control.retention
        held: list[tuple[Step, Done]] = []
        left = list(steps)
        purge_at = self.clock() + self.policy.quarantine_for
        while left:
            intents = [self._intent(s, purge_at if s.act == "quarantine" else None) for s in left]
            try:
                return held, left, state.intents(self.plan.id, self.owner, intents, renew_seconds=self.lease_seconds)
            except Held as error:
                held += [
                    (left[n], Done(left[n].key or "", "skipped_held", f"hold {hold}: maintain hold {self.system.name}"))
                    for n, hold in error.places.items()
                ]
                left = [s for n, s in enumerate(left) if n not in error.places]
        return held, [], []

    def _end(self, steps: list[Step], seqs: list[int], future: Future[list[Done]]) -> list[tuple[Step, Done]]:
        """Outcomes on record."""
        done = future.result()
        self.home.control.retention.outcomes(
            self.plan.id,
            self.owner,
            [Outcome(seq, d.outcome, d.detail, d.undo) for seq, d in zip(seqs, done, strict=True)],
        )
        return list(zip(steps, done, strict=True))

    def _intent(self, step: Step, purge_at: datetime | None) -> Intent:
        evidence = self._why | {"reason": step.reason}
        if step.is_object:
            evidence |= {"size_bytes": step.size_bytes, "modified_at": step.modified_at, "etag": step.etag}
        else:
            image = self.images_uri.get((step.table_name or "", step.row_id or ""))
            evidence |= {"images": image[0], "image": image[1]} if image else {}
            evidence |= {"detail": step.detail} if step.detail else {}
        return Intent(
            step.unit, step.number, step.act, "object" if step.is_object else "row", step.store, step.key,
            self.policy.select.rows if step.is_object else step.table_name, step.row_id, evidence,
            step.size_bytes, step.tenant, purge_at,
        )  # fmt: skip

    def _objects(self, steps: Sequence[Step]) -> list[Done]:
        store = self.stores[steps[0].store or ""]
        seen = [Seen(s.key or "", s.size_bytes, s.modified_at, s.etag) for s in steps]
        match steps[0].act:
            case "quarantine":
                return store.quarantine(seen, self.plan.id)
            case "delete":
                return store.delete(seen, checked=True)
            case _:
                move = self.policy.act.objects
                if not isinstance(move, Move):
                    return [Done(s.key, "failed", "the policy does not move objects") for s in seen]
                return store.move(seen, self.stores[move.move_to], {s.key: move.prefix + s.key for s in seen})

    def _rows(self, steps: Sequence[Step], images: Images, predicates: Mapping[str, str]) -> list[Done]:
        table = steps[0].table_name or ""
        columns = self.id_columns(table)
        where, parameters = self._where(table, predicates)
        present = [images[table, s.row_id or ""] for s in steps if (table, s.row_id) in images]
        if steps[0].act == "delete_row":
            found = self.database.delete(table, columns, present, where, parameters)
        else:
            values = {s.row_id or "": json.loads(s.detail or "{}") for s in steps}
            found = self.database.update(table, columns, present, where, parameters, values)
        by_id = {one.row_id: one for one in found}
        after = {(table, one.row_id): one.after for one in found if one.after is not None}
        kept_after = keep_images(self.system, self.plan, self.home, after, "after") if after else {}
        done = []
        for step in steps:
            row_id = step.row_id or ""
            one = by_id.get(row_id)
            if one is None:
                done.append(Done(row_id, "already_absent"))
                continue
            undo: dict[str, str] | None = None
            if one.outcome in ("deleted", "set") and (table, row_id) in self.images_uri:
                uri, digest = self.images_uri[table, row_id]
                undo = {"kind": "row" if one.outcome == "deleted" else "update", "images": uri, "image": digest}
                if (table, row_id) in kept_after:
                    undo |= {"after_images": kept_after[table, row_id][0], "after": kept_after[table, row_id][1]}
            done.append(Done(row_id, one.outcome, one.detail, undo))
        return done

    def _keep_images(self, going: Sequence[Step], images: Images) -> None:
        """Row images are on disk before their intent names them (I11)."""
        wanted = {(s.table_name or "", s.row_id or "") for s in going if not s.is_object}
        some = {place: image for place, image in images.items() if place in wanted}
        if some:
            self.images_uri |= keep_images(self.system, self.plan, self.home, some, "before")

    def _give_back(self, step: Step) -> Outcomes:
        """Restore an object whose row must stay; said as the outcome of its step."""
        place = (step.unit, step.number)
        try:
            done = restore_object(
                self.system, self.home, self.stores, self.plan.id, step.store or "", step.key or "", self.owner,
                "its row turned out to be needed",
            )  # fmt: skip
        except MaintenanceError as error:
            return [(*place, "unknown", f"its row stays, but it could not be given back: {error}")]
        if done.outcome == "restored":
            return [(*place, "skipped_kept", "given back: its row turned out to be needed")]
        return [(*place, "unknown", f"its row stays, but it could not be given back: {done.detail}")]


def _parts(row_ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(row_ids), size):
        yield row_ids[start : start + size]
