"""The tables of plans, consent, ledger, quarantine, holds and pauses; revision 0002 creates them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Named, TypedColumns
from sqlalchemy.engine import Dialect

from maintenance_defs.control.tables import Number, UtcDateTime, metadata

ESCAPE = "\x1b"  # begins what stands for a NUL, which PostgreSQL keeps in no text


class ExactText(sa.types.TypeDecorator[str]):
    """Text that reads back exactly, NUL included: what is acted on and restored must be the very key."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or ("\0" not in value and ESCAPE not in value):
            return value
        return value.replace(ESCAPE, ESCAPE + "1").replace("\0", ESCAPE + "0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or ESCAPE not in value:
            return value
        return value.replace(ESCAPE + "0", "\0").replace(ESCAPE + "1", ESCAPE)


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    return sa.Index(name, *columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


class PlanColumns(TypedColumns):
    number: Named[int] = Column(Number, sa.Identity(), primary_key=True)
    id: Named[str] = Column(sa.Text, unique=True)
    system: Named[str] = Column(sa.Text)
    policy: Named[str] = Column(sa.Text)
    artefact_id: Named[str] = Column(sa.Text)
    digest: Named[str] = Column(sa.Text)
    config_digest: Named[str] = Column(sa.Text)
    as_of: Named[datetime] = Column(UtcDateTime)
    created_at: Named[datetime] = Column(UtcDateTime)
    expires_at: Named[datetime] = Column(UtcDateTime)
    state: Named[str] = Column(sa.Text)
    units: Named[int] = Column(sa.BigInteger)
    objects: Named[int] = Column(sa.BigInteger)
    rows: Named[int] = Column(sa.BigInteger)
    size_bytes: Named[int] = Column(sa.BigInteger)
    totals: Named[dict[str, Any]] = Column(sa.JSON)
    run_id: Named[str | None] = Column(sa.Text)
    lease_owner: Named[str | None] = Column(sa.Text)
    lease_until: Named[datetime | None] = Column(UtcDateTime)
    claimed_at: Named[datetime | None] = Column(UtcDateTime)
    finished_at: Named[datetime | None] = Column(UtcDateTime)
    message: Named[str | None] = Column(sa.Text)


plan = sa.Table(
    "plan",
    metadata,
    PlanColumns,
    sa.Index("plan_newest", "system", "policy", "number"),
    # At most one executing plan a system: two claimers never both win, whatever either of them read (M04).
    _partial("plan_executing", "system", where="state = 'executing'", unique=True),
)


class ApprovalColumns(TypedColumns):
    """One person's consent to one plan; two rows where a second person is asked for."""

    id: Named[int] = Column(Number, sa.Identity(), primary_key=True)
    plan_id: Named[str] = Column(sa.Text)
    place: Named[int] = Column(sa.Integer)  # 1, or 2 for the second person
    digest: Named[str] = Column(sa.Text)
    unit_count: Named[int] = Column(sa.BigInteger)
    actor: Named[str] = Column(sa.Text)
    reason: Named[str] = Column(sa.Text)
    approved_at: Named[datetime] = Column(UtcDateTime)
    expires_at: Named[datetime] = Column(UtcDateTime)
    units: Named[list[int] | None] = Column(sa.JSON(none_as_null=True))  # null: all of the plan
    accept_limits: Named[bool] = Column(sa.Boolean)
    standing_id: Named[int | None] = Column(sa.BigInteger)


approval = sa.Table(
    "approval", metadata, ApprovalColumns, sa.UniqueConstraint("plan_id", "place", name="approval_once")
)


class StandingApprovalColumns(TypedColumns):
    """Consent to every later plan of one policy, as long as its configuration stays this one (X-29)."""

    id: Named[int] = Column(Number, sa.Identity(), primary_key=True)
    system: Named[str] = Column(sa.Text)
    policy: Named[str] = Column(sa.Text)
    config_digest: Named[str] = Column(sa.Text)
    actor: Named[str] = Column(sa.Text)
    reason: Named[str] = Column(sa.Text)
    approved_at: Named[datetime] = Column(UtcDateTime)
    revoked_at: Named[datetime | None] = Column(UtcDateTime)
    revoked_by: Named[str | None] = Column(sa.Text)
    revoke_reason: Named[str | None] = Column(sa.Text)


standing_approval = sa.Table(
    "standing_approval",
    metadata,
    StandingApprovalColumns,
    _partial("standing_approval_open", "system", "policy", "config_digest", where="revoked_at IS NULL", unique=True),
)


class HoldColumns(TypedColumns):
    id: Named[int] = Column(Number, sa.Identity(), primary_key=True)
    system: Named[str] = Column(sa.Text)
    store: Named[str | None] = Column(sa.Text)
    key: Named[str | None] = Column(ExactText)
    prefix: Named[str | None] = Column(ExactText)
    table: Named[str | None] = Column(sa.Text)
    row_id: Named[str | None] = Column(ExactText)
    policy: Named[str | None] = Column(sa.Text)
    until: Named[datetime | None] = Column(UtcDateTime)
    actor: Named[str] = Column(sa.Text)
    reason: Named[str] = Column(sa.Text)
    placed_at: Named[datetime] = Column(UtcDateTime)
    released_at: Named[datetime | None] = Column(UtcDateTime)
    released_by: Named[str | None] = Column(sa.Text)
    release_reason: Named[str | None] = Column(sa.Text)


hold = sa.Table("hold", metadata, HoldColumns, sa.Index("hold_system", "system", "released_at"))


class PauseColumns(TypedColumns):
    id: Named[int] = Column(Number, sa.Identity(), primary_key=True)
    system: Named[str] = Column(sa.Text)
    policy: Named[str | None] = Column(sa.Text)  # null: the whole system
    actor: Named[str] = Column(sa.Text)
    reason: Named[str] = Column(sa.Text)
    paused_at: Named[datetime] = Column(UtcDateTime)
    resumed_at: Named[datetime | None] = Column(UtcDateTime)
    resumed_by: Named[str | None] = Column(sa.Text)
    resume_reason: Named[str | None] = Column(sa.Text)


pause = sa.Table("pause", metadata, PauseColumns, sa.Index("pause_system", "system", "resumed_at"))


class ChainColumns(TypedColumns):
    """Where the ledger of a system ends: the row that every writer locks, and what a cut end is noticed by."""

    system: Named[str] = Column(sa.Text, primary_key=True)
    number: Named[int] = Column(sa.BigInteger)  # of the last act; -1: none
    hash: Named[str] = Column(sa.String(64))


chain = sa.Table("chain", metadata, ChainColumns)


class ActColumns(TypedColumns):
    """The ledger: an intent and later an outcome for each act; rows are only appended (I11).

    An outcome repeats nothing of its intent but (plan_id, seq).
    """

    system: Named[str] = Column(sa.Text, primary_key=True)
    number: Named[int] = Column(sa.BigInteger, primary_key=True, autoincrement=False)  # without gaps in a system
    plan_id: Named[str] = Column(sa.Text)
    seq: Named[int] = Column(sa.BigInteger)
    phase: Named[str] = Column(sa.String(7))  # "intent", "outcome"
    at: Named[datetime] = Column(UtcDateTime)
    actor: Named[str] = Column(sa.Text)  # the lease's owner, or the person who restores or purges
    unit: Named[int | None] = Column(sa.BigInteger)
    step: Named[int | None] = Column(sa.Integer)
    act: Named[str | None] = Column(sa.Text)
    kind: Named[str | None] = Column(sa.Text)
    store: Named[str | None] = Column(sa.Text)
    key: Named[str | None] = Column(ExactText)
    key_hash: Named[str | None] = Column(sa.String(32))
    table: Named[str | None] = Column(sa.Text)
    row_id: Named[str | None] = Column(ExactText)
    size_bytes: Named[int | None] = Column(sa.BigInteger)
    tenant: Named[str | None] = Column(ExactText)
    purge_at: Named[datetime | None] = Column(UtcDateTime)
    of_plan: Named[str | None] = Column(sa.Text)  # restore and purge: the act that is undone or made final
    of_seq: Named[int | None] = Column(sa.BigInteger)
    outcome: Named[str | None] = Column(sa.Text)
    detail: Named[str | None] = Column(ExactText)
    evidence: Named[str | None] = Column(sa.Text)  # canonical JSON
    undo: Named[str | None] = Column(sa.Text)  # canonical JSON
    prev_hash: Named[str] = Column(sa.String(64))
    hash: Named[str] = Column(sa.String(64))


act = sa.Table(
    "act",
    metadata,
    ActColumns,
    sa.UniqueConstraint("plan_id", "seq", "phase", name="act_once"),
    _partial("act_unit", "plan_id", "unit", where="unit IS NOT NULL"),  # intents
    _partial("act_window", "system", "at", where="unit IS NOT NULL"),
    _partial("act_of", "of_plan", "of_seq", where="of_plan IS NOT NULL"),
)


class QuarantineColumns(TypedColumns):
    """What policies removed or changed, one row an act: filled from outcomes in their own transaction (I01, I11)."""

    plan_id: Named[str] = Column(sa.Text, primary_key=True)
    seq: Named[int] = Column(sa.BigInteger, primary_key=True, autoincrement=False)
    system: Named[str] = Column(sa.Text)
    number: Named[int] = Column(sa.BigInteger)  # of the outcome in the ledger: what is later
    policy: Named[str] = Column(sa.Text)
    unit: Named[int] = Column(sa.BigInteger)
    step: Named[int] = Column(sa.Integer)
    kind: Named[str] = Column(sa.Text)
    store: Named[str | None] = Column(sa.Text)
    key: Named[str | None] = Column(ExactText)
    key_hash: Named[str | None] = Column(sa.String(32))
    table: Named[str | None] = Column(sa.Text)
    row_id: Named[str | None] = Column(ExactText)
    size_bytes: Named[int | None] = Column(sa.BigInteger)
    outcome: Named[str] = Column(sa.Text)
    state: Named[str] = Column(sa.Text)  # quarantined, gone, restoring, purging, restored, purged
    removed_at: Named[datetime] = Column(UtcDateTime)
    purge_at: Named[datetime | None] = Column(UtcDateTime)
    taken_by: Named[str | None] = Column(sa.Text)  # plan and seq of the restore or purge that has it, or had it
    taken_seq: Named[int | None] = Column(sa.BigInteger)
    taken_until: Named[datetime | None] = Column(UtcDateTime)
    ended_at: Named[datetime | None] = Column(UtcDateTime)
    ended_number: Named[int | None] = Column(sa.BigInteger)


quarantine = sa.Table(
    "quarantine",
    metadata,
    QuarantineColumns,
    sa.Index("quarantine_key", "system", "key_hash"),
    sa.Index("quarantine_due", "system", "state", "purge_at"),
)
