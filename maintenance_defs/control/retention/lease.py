"""A plan's row, and whether a run still holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

import sqlalchemy as sa

from maintenance_defs.control.retention.tables import plan
from maintenance_defs.core.errors import LeaseLost, Refused

SHORT_DIGEST = 8  # hex digits of a digest that people repeat


@dataclass(frozen=True)
class PlanRow:
    """One plan and how far it came; its units stand in the artefact's files.

    totals: counts, guards, kept, cascades, as the planner and the gate write them. Three entries are read
    here: `second_person` (true: two persons must approve), `limits_exceeded` (sentences; approval must
    accept them) and `groups` (only these were planned; absent: the whole policy).
    """

    id: str  # that of the artefact
    system: str
    policy: str
    artefact_id: str
    digest: str  # of plan, configuration and inputs: what consent binds to (I9)
    config_digest: str
    as_of: datetime
    created_at: datetime
    expires_at: datetime  # nothing is approved or done after it
    state: str
    units: int  # numbered from 0
    objects: int
    rows: int
    size_bytes: int
    totals: dict[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    claimed_at: datetime | None = None
    finished_at: datetime | None = None
    message: str | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that it was limited to; none: the whole policy."""
        return tuple(self.totals.get("groups") or ())

    @property
    def short_digest(self) -> str:
        """What a person repeats."""
        return self.digest[:SHORT_DIGEST]


def how_to_approve(plan: PlanRow) -> str:
    """The command, and where it is done in the UI."""
    return (
        f"maintain approve {plan.short_digest} --count {plan.units} --reason …, or the asset "
        f"{plan.system}/{plan.policy}_approval, partition {plan.id}."
    )


def lock_plan(connection: sa.Connection, plan_id: str) -> sa.Row[Any] | None:
    """The plan's row, which nobody else changes before this transaction ends. (On SQLite, writers are alone.)"""
    return connection.execute(sa.select(plan).where(plan.c.id == plan_id).with_for_update()).one_or_none()


def plan_row(row: sa.Row[Any]) -> PlanRow:
    values = row._mapping
    return PlanRow(**{name: values[name] for name in PlanRow.__dataclass_fields__})


def unknown(plan_id: str) -> NoReturn:
    raise Refused(
        "unknown_plan",
        f"no plan {plan_id} is recorded here. Nothing was done. A plan is named by at least 8 digits of its id or "
        f"digest; `maintain plan --list SYSTEM` lists them.",
    )


def own_plan(connection: sa.Connection, plan_id: str, owner: str) -> PlanRow:
    """The plan, locked for this transaction. Raises LeaseLost unless `owner` holds it."""
    found = lock_plan(connection, plan_id) or unknown(plan_id)
    if found.state != "executing" or found.lease_owner != owner:
        raise lease_lost(connection, plan_id, owner)
    return plan_row(found)


def lease_lost(connection: sa.Connection, plan_id: str, owner: str) -> LeaseLost:
    row = connection.execute(sa.select(plan).where(plan.c.id == plan_id)).one_or_none() or unknown(plan_id)
    holder = f"held by {row.lease_owner}" if row.lease_owner else row.state
    return LeaseLost(
        plan_id,
        f"{owner} no longer holds plan {plan_id}: it is {holder}. Nothing was recorded. Stop acting; "
        "what had begun is settled by whoever claims the plan next.",
    )
