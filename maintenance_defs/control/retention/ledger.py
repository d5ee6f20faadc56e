"""The ledger: what was about to be done, and what became of it (I11, H07, H08).

Intent, act, outcome: without a recorded intent nothing is done, and an intent is recorded only for
who holds the plan's lease, with valid consent, outside every hold and pause; all of that is read in
the transaction that records. Rows are only appended, see `chain.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from maintenance_defs.control.retention import chain, consent, holds, registry
from maintenance_defs.control.retention.base import Part, instant, key_hash
from maintenance_defs.control.retention.chain import BATCH_ROWS, Broken
from maintenance_defs.control.retention.lease import PlanRow, own_plan
from maintenance_defs.control.retention.tables import act, plan
from maintenance_defs.control.retention.tables import chain as ends
from maintenance_defs.core.errors import Held, LeaseLost, Refused
from maintenance_defs.core.schemas import UTC_US

SUCCESS = ("deleted", "quarantined", "moved", "set", "already_absent", "restored", "purged")
OUTCOMES = (*SUCCESS, "skipped_changed", "skipped_referenced", "skipped_held", "skipped_kept", "failed", "unknown")
MAY_HAVE_ACTED = ("deleted", "quarantined", "moved", "set", "unknown")  # what the rolling guards count

ACTS = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("act", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("store", pa.string()),
        pa.field("key", pa.string()),
        pa.field("table", pa.string()),
        pa.field("row_id", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("tenant", pa.string()),
        pa.field("evidence", pa.string(), nullable=False),  # JSON
        pa.field("actor", pa.string(), nullable=False),
        pa.field("at", UTC_US, nullable=False),
        pa.field("of_plan", pa.string()),  # restore and purge: plan and seq of what is undone or made final
        pa.field("of_seq", pa.int64()),
        pa.field("outcome", pa.string()),  # null: not known yet
        pa.field("detail", pa.string()),
        pa.field("undo", pa.string()),  # JSON
        pa.field("ended_at", UTC_US),
    ]
)


@dataclass(frozen=True)
class Intent:
    """One step of one unit that is about to be done.

    An act of kind "object" has store and key, and the table and row_id of the row it is taken from, if there
    is one; a "row" has only the latter.
    """

    unit: int
    step: int
    act: str
    kind: str  # "object", "row"
    store: str | None = None
    key: str | None = None
    table: str | None = None
    row_id: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)  # why and what was seen; JSON and instants
    size_bytes: int | None = None  # counts in the rolling window
    tenant: str | None = None
    purge_at: datetime | None = None  # what is quarantined may be made final from then on
    of: tuple[str, int] | None = None  # (plan_id, seq) of the quarantine entry that is restored or purged


SAME = ("unit", "step", "act", "kind", "store", "key", "table", "row_id", "size_bytes", "tenant", "purge_at")
_SAME_OF = attrgetter(*SAME)  # columns of the ledger that an intent has under the same name


@dataclass(frozen=True)
class Outcome:
    """What became of the intent with this seq."""

    seq: int
    outcome: str
    detail: str | None = None  # never a secret or a signed URL
    undo: dict[str, Any] | None = None  # null: cannot be undone


@dataclass(frozen=True)
class OpenIntent:
    """Begun, and nobody wrote what became of it: to be looked at before anything else is done."""

    seq: int
    intent: Intent
    at: datetime
    actor: str


@dataclass(frozen=True)
class Window:
    """What was done, or may have been done, since an instant (G11)."""

    objects: int = 0
    rows: int = 0
    size_bytes: int = 0


class Ledger(Part):
    """Writing intents and outcomes of claimed plans; reading them; verifying the chain."""

    def intents(
        self, plan_id: str, owner: str, steps: Sequence[Intent], *, renew_seconds: float | None = None
    ) -> list[int]:
        """Record what is about to be done, all of it or nothing; the seq of each step.

        renew_seconds: the lease is renewed for so long by the same transaction.
        Raises LeaseLost (also when the lease merely lapsed and is not renewed), Paused, ConsentRefused
        (expired, revoked), Held with the positions that a hold covers,
        Refused("not_approved_unit"), Refused("repeated") for a step that is open or succeeded already
        (H07, H09), Refused("not_quarantined") for an `of` that is not there to be restored or purged.
        """
        with self._write() as connection:
            mine = own_plan(connection, plan_id, owner)
            now = self._clock()  # asked while the plan is locked: waiting for it makes nothing younger
            if renew_seconds is not None:
                mine = replace(mine, lease_until=now + timedelta(seconds=renew_seconds))
                connection.execute(plan.update().where(plan.c.id == plan_id).values(lease_until=mine.lease_until))
            if mine.lease_until is None or mine.lease_until <= now:
                raise LeaseLost(
                    plan_id,
                    f"the lease of {owner} on plan {plan_id} lapsed"
                    + (f" {instant(mine.lease_until)}" if mine.lease_until else "")
                    + ". Nothing was recorded, so nothing may be done. Renew the lease.",
                )
            holds.refuse_if_paused(connection, mine.system, mine.policy)
            _consented(mine, consent.require(connection, plan_id, mine.expires_at, now).units, steps)
            refuse_held(connection, mine, steps, now)
            _not_repeated(connection, plan_id, steps)
            return record_intents(connection, mine.system, plan_id, owner, steps, now, mine.lease_until)

    def outcomes(self, plan_id: str, owner: str, done: Sequence[Outcome]) -> None:
        """Record what became of intents; what is removed enters the quarantine registry with it.

        The same outcome again changes nothing. Raises LeaseLost; Refused("no_intent");
        Refused("outcome_differs") if another one is recorded. All of it or nothing.
        """
        with self._write() as connection:
            mine = own_plan(connection, plan_id, owner)
            record_outcomes(connection, mine.system, plan_id, owner, done, self._clock())

    def open_intents(self, plan_id: str) -> list[OpenIntent]:
        """Those without outcome, in order: at most what a killed run had begun."""
        ended = act.alias()
        query = (
            sa.select(act)
            .outerjoin(ended, _outcome_of(ended))
            .where(*_of_execution(plan_id), act.c.phase == "intent", ended.c.seq.is_(None))
        )
        with self._engine.connect() as connection:
            return [
                OpenIntent(row.seq, _intent(row), row.at, row.actor)
                for row in connection.execute(query.order_by(act.c.seq))
            ]

    def acts(self, plan_id: str) -> Iterator[pa.RecordBatch]:
        """Batches of ACTS in the order of seq: every intent with its outcome, restores and purges included."""
        ended = act.alias()
        outcome = [ended.c.outcome, ended.c.detail, ended.c.undo, ended.c.at.label("ended_at")]
        query = (
            sa.select(*(act.c[name] for name in ACTS.names[: -len(outcome)]), *outcome)
            .outerjoin(ended, _outcome_of(ended))
            .where(act.c.plan_id == plan_id, act.c.phase == "intent")
            .order_by(act.c.seq)
        )
        with self._engine.connect() as connection:
            for rows in connection.execution_options(yield_per=BATCH_ROWS).execute(query).partitions():
                columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), ACTS, strict=True)]
                yield pa.RecordBatch.from_arrays(columns, schema=ACTS)

    def verify_chain(self, system: str) -> Broken | None:
        """The first act that was edited, deleted or inserted, or null: everything stands as it was written (I11)."""
        with self._engine.connect() as connection:
            return chain.verify(connection, system)

    def chain_end(self, system: str) -> tuple[int, str]:
        """How many rows the chain has and the hash of the last: noted elsewhere, it convicts a whole forged chain."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(ends).where(ends.c.system == system)).one_or_none()
        return (0, chain.GENESIS) if row is None else (row.number + 1, row.hash)

    def window_totals(self, system: str, policy: str | None, since: datetime, *, but: str | None = None) -> Window:
        """Acts begun since then that removed or changed something, or may have; restoring gives none back (G11).

        but: a plan whose own acts do not count.
        """
        count, size = sa.func.count().label("acts"), sa.func.sum(act.c.size_bytes).label("size_bytes")
        query = _in_window(system, policy, since, but, act.c.kind, count, size).group_by(act.c.kind)
        with self._engine.connect() as connection:
            kinds = {row.kind: (row.acts, int(row.size_bytes or 0)) for row in connection.execute(query)}
        (objects, bytes_), (rows, more) = kinds.get("object", (0, 0)), kinds.get("row", (0, 0))
        return Window(objects, rows, bytes_ + more)

    def tenant_units(
        self, system: str, policy: str | None, since: datetime, *, but: str | None = None
    ) -> dict[str | None, int]:
        """Units that the same acts belong to, of each tenant; null: acts that named none."""
        units = _in_window(system, policy, since, but, act.c.tenant, act.c.plan_id, act.c.unit).distinct().subquery()
        query = sa.select(units.c.tenant, sa.func.count().label("units")).group_by(units.c.tenant)
        with self._engine.connect() as connection:
            return {row.tenant: row.units for row in connection.execute(query)}


def record_intents(
    connection: sa.Connection, system: str, plan_id: str, actor: str, steps: Sequence[Intent], now: datetime,
    until: datetime,
) -> list[int]:  # fmt: skip
    """Append them; entries that are restored or purged belong to this actor until `until`."""
    end = chain.lock(connection, system)  # always before the registry: no two writers wait for each other
    first = chain.next_seq(connection, plan_id)
    registry.take(connection, system, plan_id, steps, first, now, until)
    columns: dict[str, Any] = dict(zip(SAME, map(list, zip(*map(_SAME_OF, steps), strict=True)), strict=bool(steps)))
    seqs = list(range(first, first + len(steps)))
    of = [one.of or (None, None) for one in steps]
    columns |= {
        "seq": seqs, "key_hash": [key_hash(one.key) for one in steps],
        "evidence": [chain.dump(one.evidence) for one in steps],
        "of_plan": [plan for plan, _ in of], "of_seq": [seq for _, seq in of],
    }  # fmt: skip
    chain.append(connection, end, "intent", len(steps), {**columns, "plan_id": plan_id, "at": now, "actor": actor})
    return seqs


def record_outcomes(
    connection: sa.Connection, system: str, plan_id: str, actor: str, done: Sequence[Outcome], now: datetime
) -> None:
    for one in done:
        if one.outcome not in OUTCOMES:
            raise ValueError(f"outcome {one.outcome!r} is none of {', '.join(OUTCOMES)}")
    end = chain.lock(connection, system)
    began, ended = _recorded(connection, plan_id, [one.seq for one in done])
    new: dict[int, Outcome] = {}
    for one in done:
        if one.seq not in began:
            raise Refused(
                "no_intent", f"plan {plan_id} has no intent {one.seq}, so it has no outcome. Nothing was recorded."
            )
        known = new[one.seq].outcome if one.seq in new else ended.get(one.seq)
        if known not in (None, one.outcome):
            raise Refused(
                "outcome_differs",
                f"act {one.seq} of plan {plan_id} is recorded as {known}, not {one.outcome}. "
                "Nothing was recorded; the ledger is never rewritten.",
            )
        if known is None:
            new[one.seq] = one
    fresh, of = list(new.values()), [began[seq] for seq in new]
    first, after = chain.append(
        connection,
        end,
        "outcome",
        len(fresh),
        {
            "plan_id": plan_id, "at": now, "actor": actor,
            "seq": list(new), "outcome": [one.outcome for one in fresh], "detail": [one.detail for one in fresh],
            "undo": [chain.dump(one.undo) for one in fresh],
            "of_plan": [plan for plan, _ in of], "of_seq": [seq for _, seq in of],
        },
    )  # fmt: skip
    registry.fill(connection, system, first, after)
    registry.settle(connection, system, first, after, now)


def count_open(connection: sa.Connection, plan_id: str) -> int:
    """Intents of the plan's execution without an outcome."""
    count = sa.func.sum(sa.case((act.c.phase == "intent", 1), else_=-1))
    return int(connection.execute(sa.select(count).where(*_of_execution(plan_id))).scalar_one() or 0)


def _of_execution(plan_id: str) -> list[sa.ColumnElement[bool]]:
    # A person who restores or purges appends to the plan that acted: not the executor's business.
    return [act.c.plan_id == plan_id, act.c.of_plan.is_distinct_from(plan_id)]


def _outcome_of(ended: Any) -> sa.ColumnElement[bool]:
    return sa.and_(ended.c.plan_id == act.c.plan_id, ended.c.seq == act.c.seq, ended.c.phase == "outcome")


def _consented(mine: PlanRow, units: tuple[int, ...] | None, steps: Sequence[Intent]) -> None:
    for one in steps:
        if units is None:
            approved = 0 <= one.unit < mine.units
        else:
            at = bisect_left(units, one.unit)
            approved = at < len(units) and units[at] == one.unit
        if not approved:
            raise Refused(
                "not_approved_unit",
                f"unit {one.unit} of plan {mine.id} was not approved. Nothing was recorded, so nothing may be done.",
            )


def refuse_held(connection: sa.Connection, mine: PlanRow, steps: Sequence[Intent], now: datetime) -> None:
    """Raises Held if a hold covers any of these steps of a plan (K11)."""
    covering = holds.Covering(holds.open_holds(connection, mine.system, now))
    places: dict[int, int] = {}
    words = ""
    for place, one in enumerate(steps):
        if one.act == "restore":  # gives back; nothing goes
            continue
        found = covering.hold_on(mine.policy, store=one.store, key=one.key, table=one.table, row_id=one.row_id)
        if found is not None:
            places[place] = found.id
            words = words or found.words()
    if places:
        raise Held(
            f"{len(places)} of {len(steps)} steps are held, the first by {words}. "
            "Nothing was recorded, so nothing may be done. Leave them out; release the hold if it is over.",
            places,
        )


def _not_repeated(connection: sa.Connection, plan_id: str, steps: Sequence[Intent]) -> None:
    wanted = [(one.unit, one.step) for one in steps]
    twice = len(set(wanted)) < len(wanted)
    ended = act.alias()
    query = (
        sa.select(act.c.unit, act.c.step)
        .outerjoin(ended, _outcome_of(ended))
        .where(*_of_execution(plan_id), act.c.phase == "intent")
        .where(sa.or_(ended.c.seq.is_(None), ended.c.outcome.in_(SUCCESS)))
    )
    for units in among(act.c.unit, [unit for unit, _ in wanted]):
        known = {(row.unit, row.step) for row in connection.execute(query.where(units))}
        for unit, step in wanted if twice else known.intersection(wanted):
            raise Refused(
                "repeated",
                f"step {step} of unit {unit} of plan {plan_id} was begun already. Nothing was recorded: "
                "each step is done once. Settle the open intents, then go on with what is left.",
            )


def _recorded(
    connection: sa.Connection, plan_id: str, seqs: Sequence[int]
) -> tuple[dict[int, tuple[str | None, int | None]], dict[int, str | None]]:
    """Of the acts with these numbers: what each intent undoes or makes final, and the outcomes that are known."""
    of_plan = [act.c.plan_id == plan_id]
    began: dict[int, tuple[str | None, int | None]] = {}
    ended: dict[int, str | None] = {}
    for some in among(act.c.seq, seqs):
        intents = sa.select(act.c.seq, act.c.of_plan, act.c.of_seq).where(*of_plan, some, act.c.phase == "intent")
        outcomes = sa.select(act.c.seq, act.c.outcome).where(*of_plan, some, act.c.phase == "outcome")
        began |= {seq: (plan, number) for seq, plan, number in connection.execute(intents)}
        ended |= {row.seq: row.outcome for row in connection.execute(outcomes)}
    return began, ended


def among(column: Any, values: Sequence[int], size: int = 500) -> Iterator[sa.ColumnElement[bool]]:
    """Conditions that together find these values, in one range where they lie so dense that it hardly finds others."""
    ordered = sorted(set(values))
    if ordered and ordered[-1] - ordered[0] < 2 * len(ordered):
        yield column.between(ordered[0], ordered[-1])
        return
    for start in range(0, len(ordered), size):
        yield column.in_(ordered[start : start + size])


def _intent(row: Any) -> Intent:
    of = None if row.of_plan is None else (row.of_plan, row.of_seq)
    return Intent(**{name: row._mapping[name] for name in SAME}, evidence=chain.load(row.evidence), of=of)


def _in_window(system: str, policy: str | None, since: datetime, but: str | None, *columns: Any) -> sa.Select[Any]:
    """Columns of intents since then that were done, or may have been."""
    ended = act.alias()
    query: sa.Select[Any] = sa.select(*columns).select_from(act).outerjoin(ended, _outcome_of(ended))
    query = query.where(
        act.c.system == system,
        act.c.unit.is_not(None),
        act.c.phase == "intent",
        act.c.at >= since,
        act.c.of_plan.is_(None),
        sa.or_(ended.c.seq.is_(None), ended.c.outcome.in_(MAY_HAVE_ACTED)),
    )
    if policy is not None:
        plans = sa.select(plan.c.id).where(plan.c.system == system, plan.c.policy == policy)
        query = query.where(act.c.plan_id.in_(plans))
    return query if but is None else query.where(act.c.plan_id != but)
