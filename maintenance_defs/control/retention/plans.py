"""Plans: recorded once, found by a person, claimed by one run at a time.

    planned ── approve ──> approved ── claim ──> executing ── release ──> done
       │                      │                   │  ^                    partial ── claim ──> executing
       └── cancel, expire ────┘                   └──┘ claim again, once the lease lapsed

Every arrow is a compare-and-swap; a plan that is done stays done (H09).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control.retention import consent, holds, ledger
from maintenance_defs.control.retention.base import Part, instant, said
from maintenance_defs.control.retention.lease import (
    SHORT_DIGEST,
    PlanRow,
    lease_lost,
    lock_plan,
    own_plan,
    plan_row,
    unknown,
)
from maintenance_defs.control.retention.tables import plan
from maintenance_defs.core.errors import Busy, ConsentRefused, Refused

STATES = ("planned", "approved", "executing", "partial", "done", "refused", "expired", "cancelled")
IDS = 500  # asked for in one statement
RELEASED = ("partial", "done", "refused", "expired", "cancelled")


class Plans(Part):
    """Recording, finding and claiming plans."""

    def record_plan(self, new: PlanRow) -> None:
        """Written once. Raises Refused("plan_exists") for a known id."""
        if new.state not in ("planned", "refused", "done"):
            raise ValueError(f"a new plan is planned, done (empty) or refused, not {new.state}")
        try:
            with self._write() as connection:
                connection.execute(plan.insert(), asdict(new))
        except sa.exc.IntegrityError:
            raise Refused(
                "plan_exists", f"plan {new.id} is recorded already. It was kept as it is: use a fresh id."
            ) from None

    def plan(self, id: str) -> PlanRow:
        """Raises Refused("unknown_plan")."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(plan).where(plan.c.id == id)).one_or_none()
        return unknown(id) if row is None else plan_row(row)

    def plans(
        self,
        system: str,
        policy: str | None = None,
        states: Iterable[str] | None = None,
        limit: int = 50,
        *,
        whole: bool = False,
    ) -> list[PlanRow]:
        """The ones recorded last, newest first. whole: without those that were limited to some groups."""
        query = sa.select(plan).where(plan.c.system == system)
        if policy is not None:
            query = query.where(plan.c.policy == policy)
        if states is not None:
            query = query.where(plan.c.state.in_(list(states)))
        if whole:
            query = query.where(plan.c.totals["groups"].as_string().is_(None))
        with self._engine.connect() as connection:
            return [plan_row(row) for row in connection.execute(query.order_by(plan.c.number.desc()).limit(limit))]

    def executed(self, system: str, policy: str) -> tuple[datetime | None, datetime | None]:
        """When the first of its plans was claimed, and when an execution last ended; None where none was."""
        ended = sa.func.max(sa.func.coalesce(plan.c.finished_at, plan.c.claimed_at), type_=plan.c.claimed_at.type)
        query = sa.select(sa.func.min(plan.c.claimed_at), ended).where(
            plan.c.system == system, plan.c.policy == policy, plan.c.claimed_at.is_not(None)
        )
        with self._engine.connect() as connection:
            first, last = connection.execute(query).one()
        return first, last

    def executed_between(self, system: str, since: datetime, until: datetime) -> list[PlanRow]:
        """The plans of all policies and archives that were last claimed in [since, until), oldest first."""
        query = sa.select(plan).where(plan.c.system == system, plan.c.claimed_at >= since, plan.c.claimed_at < until)
        with self._engine.connect() as connection:
            return [plan_row(row) for row in connection.execute(query.order_by(plan.c.number))]

    def plans_of(self, ids: Sequence[str]) -> dict[str, PlanRow]:
        """Those of these ids that are recorded."""
        found: dict[str, PlanRow] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(ids), IDS):
                some = sa.select(plan).where(plan.c.id.in_(ids[start : start + IDS]))
                found |= {row.id: plan_row(row) for row in connection.execute(some)}
        return found

    def find_plan(self, prefix: str) -> PlanRow:
        """By id, or by the beginning of id or digest, at least 8 characters of it.

        Raises Refused("unknown_plan" or "ambiguous_plan"), the latter with the plans it could be.
        """
        matches = plan.c.id == prefix
        if len(prefix) >= SHORT_DIGEST:
            begins = [sa.func.substr(column, 1, len(prefix)) == prefix for column in (plan.c.id, plan.c.digest)]
            matches = sa.or_(matches, *begins)
        query = sa.select(plan).where(matches).order_by((plan.c.id == prefix).desc(), plan.c.number.desc()).limit(6)
        with self._engine.connect() as connection:
            found = [plan_row(row) for row in connection.execute(query)]
        if not found:
            unknown(prefix)
        if len(found) == 1 or found[0].id == prefix:
            return found[0]
        some = "; ".join(f"{one.id} ({one.system}/{one.policy}, {one.state})" for one in found)
        raise Refused("ambiguous_plan", f"{prefix} may mean {some}. Nothing was done. Give the whole id.")

    def cancel_plan(self, plan_id: str, actor: str, reason: str) -> None:
        """It will not be executed (any more). Raises Refused("not_open") once it ended, Busy while it runs."""
        said(actor, reason, "cancelling a plan")
        with self._write() as connection:
            found = lock_plan(connection, plan_id) or unknown(plan_id)
            if found.state == "executing":
                raise _busy(plan_row(found), self._clock())
            if found.state not in ("planned", "approved", "partial"):
                raise Refused("not_open", f"plan {plan_id} is {found.state} already. Nothing was changed.")
            _set(connection, plan_id, state="cancelled", finished_at=self._clock(), message=f"{actor}: {reason}")

    def expire_plans(self, system: str) -> int:
        """Open plans whose time is over become `expired`; how many did."""
        now = self._clock()
        late = plan.update().where(
            plan.c.system == system, plan.c.state.in_(("planned", "approved")), plan.c.expires_at <= now
        )
        with self._write() as connection:
            return connection.execute(late.values(state="expired", finished_at=now)).rowcount

    # Claim and lease

    def claim(self, plan_id: str, owner: str, lease_seconds: float, *, run_id: str | None = None) -> bool:
        """Become the only one who executes this plan, and the only executor of its system.

        owner: unique to this attempt; a run that is started again needs another one, and waits until
            the lease of the killed one lapsed.
        Returns False if the plan is done: nothing is left to do (H09). An approved plan is claimed, a
        partial one resumed, an executing one taken over once its lease lapsed; then `open_intents` must
        be settled first, which is possible even if consent or plan expired meanwhile: what is refused
        then is the next intent.
        Raises Busy, naming who holds the system and since when; Paused; ConsentRefused (not approved,
        expired: H02, H04); Refused("not_open").
        """
        if not owner.strip():
            raise ValueError("a claim needs an owner")
        try:
            with self._write() as connection:
                found = plan_row(lock_plan(connection, plan_id) or unknown(plan_id))
                now = self._clock()
                if found.state == "done":
                    return False
                if found.state == "executing":
                    if found.lease_until is not None and found.lease_until > now:
                        raise _busy(found, now)
                    if found.lease_owner == owner:  # the killed run could not be told from this one
                        raise ValueError(f"{owner} held plan {plan_id} before; a new attempt needs a new owner")
                else:
                    self._may_begin(connection, found, now)
                changes: dict[str, Any] = {"claimed_at": now, "finished_at": None, "message": None}
                if run_id is not None:
                    changes["run_id"] = run_id
                until = now + timedelta(seconds=lease_seconds)
                _set(connection, plan_id, state="executing", lease_owner=owner, lease_until=until, **changes)
        except sa.exc.IntegrityError:  # another plan of the system was faster: only one can be executing
            with self._engine.connect() as connection:
                other = _executing(connection, found.system)
            raise _busy(other or found, now) from None
        return True

    def _may_begin(self, connection: sa.Connection, found: PlanRow, now: datetime) -> None:
        if found.state not in ("approved", "partial"):
            if found.state == "planned":
                raise ConsentRefused(
                    "not_approved", f"plan {found.id} is not approved. Nothing was done. Approve it, then apply it."
                )
            raise Refused("not_open", f"plan {found.id} is {found.state}. Nothing was done. Make a new plan.")
        other = _executing(connection, found.system)
        if other is not None:
            raise _busy(other, now)
        holds.refuse_if_paused(connection, found.system, found.policy)
        consent.require(connection, found.id, found.expires_at, now)

    def renew(self, plan_id: str, owner: str, lease_seconds: float) -> None:
        """Keep the plan, also after the lease lapsed as long as nobody took it. Raises LeaseLost."""
        until = self._clock() + timedelta(seconds=lease_seconds)
        mine = plan.update().where(plan.c.id == plan_id, plan.c.state == "executing", plan.c.lease_owner == owner)
        with self._write() as connection:
            if connection.execute(mine.values(lease_until=until)).rowcount != 1:
                raise lease_lost(connection, plan_id, owner)

    def release(
        self, plan_id: str, owner: str, state: str, totals: dict[str, Any] | None = None, message: str | None = None
    ) -> None:
        """The end of an execution: `done`, `partial` (may be resumed), `refused`, `expired` or `cancelled`.

        totals: added to those of the plan.
        Raises LeaseLost; Refused("open_intents") while an act has no outcome: the ledger would not say
        what became of it.
        """
        if state not in RELEASED:
            raise ValueError(f"a plan is released as one of {', '.join(RELEASED)}, not {state}")
        with self._write() as connection:
            found = own_plan(connection, plan_id, owner)
            if (unsettled := ledger.count_open(connection, plan_id)) > 0:
                raise Refused(
                    "open_intents",
                    f"plan {plan_id} has {unsettled} acts without an outcome, so it cannot end as {state}. "
                    "Nothing was changed. Look what became of them and record it.",
                )
            totals = found.totals | (totals or {})
            _set(
                connection, plan_id, state=state, totals=totals, message=message, finished_at=self._clock(),
                lease_owner=None, lease_until=None,
            )  # fmt: skip


def _busy(other: PlanRow, now: datetime) -> Busy:
    since = f"{other.lease_owner} executes plan {other.id} ({other.system}/{other.policy})"
    since += f" since {instant(other.claimed_at)}" if other.claimed_at else ""
    lapsed = other.lease_until is not None and other.lease_until <= now
    until = f"; its lease {'lapsed' if lapsed else 'ends'} {instant(other.lease_until)}" if other.lease_until else ""
    what = "Apply that plan again first, so that what it had begun is settled." if lapsed else "Try again later."
    return Busy(
        f"{since}{until}. Nothing was done. {what}", plan_id=other.id, owner=other.lease_owner, since=other.claimed_at
    )


def _executing(connection: sa.Connection, system: str) -> PlanRow | None:
    row = connection.execute(sa.select(plan).where(plan.c.system == system, plan.c.state == "executing")).one_or_none()
    return None if row is None else plan_row(row)


def _set(connection: sa.Connection, plan_id: str, **values: Any) -> None:
    connection.execute(plan.update().where(plan.c.id == plan_id).values(**values))
