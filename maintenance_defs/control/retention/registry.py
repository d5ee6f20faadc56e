"""The rows of the quarantine registry: what policies removed, and what became of it (I01, I04, I11, I12).

    quarantined ── take ──> restoring ──> restored        (failed: back to quarantined)
                            purging   ──> purged
    gone                                                  (removed without a way back)

It is filled from outcomes in their own transaction. Whoever restores or purges takes the entry first,
by compare-and-swap: a purge never removes what somebody is restoring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from maintenance_defs.control.retention import chain
from maintenance_defs.control.retention.tables import act, plan, quarantine
from maintenance_defs.core.errors import Refused

if TYPE_CHECKING:
    from maintenance_defs.control.retention.ledger import Intent

REMOVED = ("deleted", "quarantined", "moved", "set")
UNDOING = {"restore": "restoring", "purge": "purging"}


@dataclass(frozen=True)
class Entry:
    """One thing that was removed or changed, named by the act that did it: (plan_id, seq)."""

    plan_id: str
    seq: int
    system: str
    number: int  # of its outcome in the ledger: larger is later
    policy: str
    unit: int
    step: int
    kind: str
    store: str | None
    key: str | None
    table: str | None
    row_id: str | None
    size_bytes: int | None
    outcome: str
    state: str
    removed_at: datetime
    purge_at: datetime | None
    taken_by: str | None
    taken_seq: int | None
    taken_until: datetime | None
    ended_at: datetime | None
    undo: dict[str, Any] | None
    evidence: dict[str, Any]


def fill(connection: sa.Connection, system: str, first: int, after: int) -> None:
    """Enter what the outcomes numbered [first, after) removed."""
    began, ended = act.alias("began"), act.alias("ended")
    values: dict[str, Any] = {
        "plan_id": ended.c.plan_id, "seq": ended.c.seq, "system": ended.c.system, "number": ended.c.number,
        "policy": plan.c.policy,
        **{
            name: began.c[name]
            for name in ("unit", "step", "kind", "store", "key", "key_hash", "table", "row_id", "size_bytes")
        },
        "outcome": ended.c.outcome,
        "state": sa.case((ended.c.undo.is_(None), "gone"), else_="quarantined"),
        "removed_at": ended.c.at, "purge_at": began.c.purge_at,
    }  # fmt: skip
    query = (
        sa.select(*(column.label(name) for name, column in values.items()))
        .select_from(ended)
        .join(began, sa.and_(began.c.plan_id == ended.c.plan_id, began.c.seq == ended.c.seq))
        .join(plan, plan.c.id == ended.c.plan_id)
        .where(began.c.phase == "intent", began.c.of_plan.is_(None))
        .where(ended.c.system == system, ended.c.number >= first, ended.c.number < after)
        .where(ended.c.outcome.in_(REMOVED))
    )
    connection.execute(quarantine.insert().from_select(list(values), query))


def take(
    connection: sa.Connection, system: str, plan_id: str, steps: Sequence[Intent], first: int, now: datetime,
    until: datetime,
) -> None:  # fmt: skip
    """Entries named by `of` belong to the intents numbered from `first`, until `until`.

    Raises Refused("not_quarantined").
    """
    for seq, one in enumerate(steps, first):
        if one.of is None:
            continue
        mine = sa.and_(quarantine.c.plan_id == one.of[0], quarantine.c.seq == one.of[1], quarantine.c.system == system)
        lapsed = sa.and_(quarantine.c.state.in_(tuple(UNDOING.values())), quarantine.c.taken_until <= now)
        swapped = connection.execute(
            quarantine.update()
            .where(mine, sa.or_(quarantine.c.state == "quarantined", lapsed))
            .values(state=UNDOING[one.act], taken_by=plan_id, taken_seq=seq, taken_until=until)
        )
        if swapped.rowcount != 1:
            row = connection.execute(sa.select(quarantine.c.state).where(mine)).one_or_none()
            state = "not recorded" if row is None else row.state
            raise Refused(
                "not_quarantined",
                f"act {one.of[1]} of plan {one.of[0]} is {state}, so there is nothing to {one.act}. "
                "Nothing was recorded, so nothing may be done.",
            )


def settle(connection: sa.Connection, system: str, first: int, after: int, now: datetime) -> None:
    """Carry the outcomes numbered [first, after) of restores and purges to their entries.

    The image of a purged row leaves the ledger too; its digest stays.
    """
    ended = sa.select(act.c.plan_id, act.c.seq, act.c.number, act.c.outcome, act.c.of_plan, act.c.of_seq).where(
        act.c.system == system, act.c.number >= first, act.c.number < after, act.c.of_plan.is_not(None)
    )
    for row in connection.execute(ended).all():
        over = row.outcome in ("restored", "purged")
        mine = sa.and_(quarantine.c.plan_id == row.of_plan, quarantine.c.seq == row.of_seq)
        connection.execute(
            quarantine.update()
            .where(mine, quarantine.c.taken_by == row.plan_id, quarantine.c.taken_seq == row.seq)
            .values(
                state=row.outcome if over else "quarantined",
                ended_at=now if over else None,
                ended_number=row.number if over else None,
            )
        )
        if row.outcome == "purged":
            kind = connection.execute(sa.select(quarantine.c.kind).where(mine)).scalar_one()
            if kind == "row":
                chain.erase(connection, row.of_plan, row.of_seq)


def entries() -> sa.Select[Any]:
    """Of all systems; narrow it down, then hand its rows to `entry`."""
    began, ended = act.alias("began"), act.alias("ended")
    same = [(phase.c.plan_id == quarantine.c.plan_id) & (phase.c.seq == quarantine.c.seq) for phase in (began, ended)]
    return (
        sa.select(quarantine, began.c.evidence, ended.c.undo)
        .join(began, same[0] & (began.c.phase == "intent"))
        .join(ended, same[1] & (ended.c.phase == "outcome"))
    )


def entry(row: sa.Row[Any]) -> Entry:
    values = dict(row._mapping)
    values |= {name: chain.load(values[name]) for name in ("evidence", "undo")}
    return Entry(**{name: values[name] for name in Entry.__dataclass_fields__})
