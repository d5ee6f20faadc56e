"""Reading the quarantine registry, and taking things out of it again: restore and purge (I02, I04, I11, I12).

Both are acts like any other: intent, act, outcome. A person's restore needs no plan; it is appended to
the plan that removed the thing. A purge passes holds and pauses like every other way of removing (K11).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import sqlalchemy as sa

from maintenance_defs.control.retention import chain, holds, ledger, registry
from maintenance_defs.control.retention.base import Part, key_hash, said
from maintenance_defs.control.retention.chain import BATCH_ROWS
from maintenance_defs.control.retention.lease import lock_plan, plan_row, unknown
from maintenance_defs.control.retention.ledger import Intent, Outcome
from maintenance_defs.control.retention.registry import Entry
from maintenance_defs.control.retention.tables import act, quarantine
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.schemas import UTC_US

PAGE_ROWS = 1000

REMOVED_KEYS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("table", pa.string()),  # the row it was taken from, where the policy left one
        pa.field("row_id", pa.string()),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("plan_id", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("removed_at", UTC_US, nullable=False),
    ]
)


class Quarantine(Part):
    """What was removed: listed, restored, purged."""

    def quarantined(
        self, system: str, *, state: str | None = "quarantined", key: str | None = None, store: str | None = None,
        plan_id: str | None = None, due_before: datetime | None = None,
    ) -> Iterator[Entry]:  # fmt: skip
        """Entries in this state (null: in any), oldest first; due_before: whose time to be purged is not later.

        "quarantined" are also those that a dead process had begun to restore or purge, once its time is over.
        Read page by page, so that entries may be restored or purged while this is iterated.
        """
        query = registry.entries().where(quarantine.c.system == system)
        if state is not None:
            wanted = quarantine.c.state == state
            if state == "quarantined":
                begun = quarantine.c.state.in_(tuple(registry.UNDOING.values()))
                wanted = sa.or_(wanted, sa.and_(begun, quarantine.c.taken_until <= self._clock()))
            query = query.where(wanted)
        if key is not None:
            query = query.where(quarantine.c.key_hash == key_hash(key))
        if store is not None:
            query = query.where(quarantine.c.store == store)
        if plan_id is not None:
            query = query.where(quarantine.c.plan_id == plan_id)
        if due_before is not None:
            query = query.where(quarantine.c.purge_at <= due_before)
        query = query.order_by(quarantine.c.number).limit(PAGE_ROWS)
        after = -1
        while True:
            with self._engine.connect() as connection:
                page = [registry.entry(row) for row in connection.execute(query.where(quarantine.c.number > after))]
            yield from page
            if len(page) < PAGE_ROWS:
                return
            after = page[-1].number

    def begin_undo(
        self, act: str, plan_id: str, seqs: Sequence[int], actor: str, reason: str, *, lease_seconds: float = 600
    ) -> list[int]:
        """Intents to "restore" or "purge" entries of one plan, in their order; all of them or none.

        For `lease_seconds` nobody else may take these entries; then they may be taken over.
        Raises Refused("not_quarantined"); for a purge also Held and Paused.
        """
        said(actor, reason, f"a {act}")
        if act not in registry.UNDOING:
            raise ValueError(f"{act!r} is neither restore nor purge")
        with self._write() as connection:
            return self._begin(connection, act, plan_id, seqs, actor, reason, timedelta(seconds=lease_seconds))

    def end_undo(self, plan_id: str, actor: str, done: Sequence[Outcome]) -> None:
        """What became of it: "restored", "purged", or "failed" and "unknown", which leave the entry quarantined.

        Raises Refused("no_intent"); Refused("outcome_differs") if the entry was taken over meanwhile.
        """
        with self._write() as connection:
            system = plan_row(lock_plan(connection, plan_id) or unknown(plan_id)).system
            ledger.record_outcomes(connection, system, plan_id, actor, done, self._clock())

    def purge_was_begun(self, plan_id: str, seq: int) -> bool:
        """Whether somebody ever began to purge this entry: then what was kept may be gone without a word."""
        begun = sa.select(act.c.seq).where(act.c.of_plan == plan_id, act.c.of_seq == seq, act.c.act == "purge")
        with self._engine.connect() as connection:
            return connection.execute(begun.limit(1)).first() is not None

    def mark_restored(self, plan_id: str, seqs: Sequence[int], actor: str, reason: str) -> None:
        """Record that these were put back, by hand for example. Raises Refused("not_quarantined")."""
        self._mark("restore", "restored", plan_id, seqs, actor, reason)

    def mark_purged(self, plan_id: str, seqs: Sequence[int], actor: str, reason: str) -> None:
        """Record that these are gone for good; row images are erased. Raises as begin_undo does for a purge."""
        self._mark("purge", "purged", plan_id, seqs, actor, reason)

    def _mark(self, act: str, outcome: str, plan_id: str, seqs: Sequence[int], actor: str, reason: str) -> None:
        said(actor, reason, f"a {act}")
        with self._write() as connection:
            begun = self._begin(connection, act, plan_id, seqs, actor, reason, timedelta(0))
            system = plan_row(lock_plan(connection, plan_id) or unknown(plan_id)).system
            done = [Outcome(seq, outcome) for seq in begun]
            ledger.record_outcomes(connection, system, plan_id, actor, done, self._clock())

    def _begin(
        self, connection: sa.Connection, act: str, plan_id: str, seqs: Sequence[int], actor: str, reason: str,
        lease: timedelta,
    ) -> list[int]:  # fmt: skip
        mine = plan_row(lock_plan(connection, plan_id) or unknown(plan_id))
        chain.lock(connection, mine.system)
        now = self._clock()
        found = _entries(connection, plan_id, seqs)
        steps = [
            Intent(
                unit=one.unit, step=one.step, act=act, kind=one.kind, store=one.store, key=one.key,
                table=one.table, row_id=one.row_id, size_bytes=one.size_bytes, evidence={"reason": reason},
                of=(plan_id, one.seq),
            )
            for one in found
        ]  # fmt: skip
        if act == "purge":
            holds.refuse_if_paused(connection, mine.system, mine.policy)
            ledger.refuse_held(connection, mine, steps, now)
        abandoned = [
            Outcome(one.taken_seq, "unknown", "its run ended without a word; taken over")
            for one in found
            if one.state in registry.UNDOING.values() and one.taken_by == plan_id
            and one.taken_seq is not None and one.taken_until is not None and one.taken_until <= now
        ]  # fmt: skip
        ledger.record_outcomes(connection, mine.system, plan_id, actor, abandoned, now)
        return ledger.record_intents(connection, mine.system, plan_id, actor, steps, now, now + lease)

    def removed_keys(self, system: str, store: str) -> Iterator[pa.RecordBatch]:
        """Batches of REMOVED_KEYS: keys whose newest removal by a policy was not taken back (C-11).

        A row that names one is not missing its file. Whether the key was written again later, the
        inventory says; what was written after `removed_at` and is gone is missing.
        """
        later = quarantine.alias()
        again = (
            sa.exists()
            .where(later.c.system == system, later.c.store == store, later.c.key_hash == quarantine.c.key_hash)
            .where(
                sa.or_(
                    later.c.number > quarantine.c.number,
                    sa.and_(later.c.state == "restored", later.c.ended_number > quarantine.c.number),
                )
            )
        )
        query = sa.select(*(quarantine.c[name] for name in REMOVED_KEYS.names)).where(
            quarantine.c.system == system, quarantine.c.store == store, quarantine.c.kind == "object", ~again
        )
        with self._engine.connect() as connection:
            for rows in connection.execution_options(yield_per=BATCH_ROWS).execute(query).partitions():
                columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), REMOVED_KEYS, strict=True)]
                yield pa.RecordBatch.from_arrays(columns, schema=REMOVED_KEYS)


def _entries(connection: sa.Connection, plan_id: str, seqs: Sequence[int]) -> list[Entry]:
    found: dict[int, Entry] = {}
    query = registry.entries().where(quarantine.c.plan_id == plan_id)
    for some in ledger.among(quarantine.c.seq, seqs):
        found |= {row.seq: registry.entry(row) for row in connection.execute(query.where(some))}
    for seq in seqs:
        if seq not in found:
            raise Refused(
                "not_quarantined", f"act {seq} of plan {plan_id} removed nothing that is recorded. Nothing was done."
            )
    return [found[seq] for seq in dict.fromkeys(seqs)]
