"""Consent: who said that this very plan may be executed, and until when (H02, H04, I9, X-29).

An approval names the plan's digest and repeats its count, so that it stands for what was looked at
and for nothing else. The plan goes from planned to approved in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control import findings
from maintenance_defs.control.retention.base import Part, instant, said, same_person
from maintenance_defs.control.retention.lease import SHORT_DIGEST, lock_plan, unknown
from maintenance_defs.control.retention.tables import approval, plan, standing_approval
from maintenance_defs.core.errors import ConsentRefused, Refused


@dataclass(frozen=True)
class Approval:
    """The consent to one plan, of one person or of two."""

    plan_id: str
    digest: str
    count: int  # units
    actor: str
    reason: str
    approved_at: datetime
    expires_at: datetime  # never after the plan itself
    units: tuple[int, ...] | None  # only these, ascending; null: all of the plan
    accept_limits: bool  # exceeding the limits was looked at and accepted, once (G13)
    second_actor: str | None = None
    standing_id: int | None = None
    complete: bool = True  # false: the second person is missing


@dataclass(frozen=True)
class StandingApproval:
    """Consent to every plan that this policy makes while its configuration stays what it is."""

    id: int
    system: str
    policy: str
    config_digest: str
    actor: str
    reason: str
    approved_at: datetime


class Consent(Part):
    """Approvals of single plans, and standing ones of automatic policies."""

    def approve(
        self, plan_id: str, digest: str, count: int, actor: str, reason: str, *, expires_at: datetime,
        only: Iterable[int] | None = None, accept_limits: bool = False, second: bool = False,
    ) -> Approval:  # fmt: skip
        """Consent to this plan, or to some of its units.

        digest: the plan's, or at least its first 8 characters. count: of its units, or of `only`.
        second: this is meant to be the second person's approval.
        Where the plan asks for a second person it stays `planned` until two different persons approved
        the same units (`Approval.complete`).
        Raises ConsentRefused with the numbers; Refused("unknown_plan"). Nothing is recorded then.
        """
        said(actor, reason, "an approval")
        units = None if only is None else sorted(set(only))
        with self._write() as connection:
            found, now = _planned(connection, plan_id, self._clock)
            _same_digest(found, digest)
            _same_count(found, count, units)
            if exceeded := found.totals.get("limits_exceeded"):
                _accepted(plan_id, exceeded, accept_limits)
            if expires_at <= now:
                raise ConsentRefused(
                    "approval_expired",
                    f"the approval of plan {plan_id} would end {instant(expires_at)}, and it is {instant(now)}. "
                    "Nothing was approved. Give a later end.",
                    expected=now, given=expires_at,
                )  # fmt: skip
            first = connection.execute(_of(plan_id)).one_or_none()
            _may_be(plan_id, first, actor, units, second=second)
            place = 1 if first is None else 2
            connection.execute(
                approval.insert(),
                {
                    "plan_id": plan_id, "place": place, "digest": found.digest, "unit_count": count,
                    "actor": actor.strip(), "reason": reason.strip(), "approved_at": now,
                    "expires_at": min(expires_at, found.expires_at), "units": units,
                    "accept_limits": accept_limits,
                },
            )  # fmt: skip
            if place == 2 or not found.totals.get("second_person"):
                connection.execute(plan.update().where(plan.c.id == plan_id).values(state="approved"))
            return _given(connection, plan_id) or _lost(plan_id)

    def approve_standing(self, plan_id: str, *, expires_at: datetime) -> Approval:
        """Approve by the standing approval of the plan's policy and configuration.

        Raises ConsentRefused: there is none (X-29), limits are exceeded, a second person is asked for.
        """
        with self._write() as connection:
            found, now = _planned(connection, plan_id, self._clock)
            standing = connection.execute(_standing(found.system, found.policy, found.config_digest)).one_or_none()
            if standing is None:
                raise ConsentRefused(
                    "no_standing_approval",
                    f"policy {found.system}/{found.policy} has no standing approval of its present configuration. "
                    "Nothing was approved. Approve this plan by hand, or give a standing approval.",
                    expected=found.config_digest,
                )
            if exceeded := found.totals.get("limits_exceeded"):
                _accepted(plan_id, exceeded, False)
            if found.totals.get("second_person"):
                raise ConsentRefused(
                    "second_person", f"plan {plan_id} asks for two persons, which a standing approval is not. "
                    "Nothing was approved. Approve it by hand."
                )  # fmt: skip
            connection.execute(
                approval.insert(),
                {
                    "plan_id": plan_id, "place": 1, "digest": found.digest, "unit_count": found.units,
                    "actor": standing.actor, "reason": f"standing approval {standing.id}: {standing.reason}",
                    "approved_at": now, "expires_at": min(expires_at, found.expires_at), "units": None,
                    "accept_limits": False, "standing_id": standing.id,
                },
            )  # fmt: skip
            connection.execute(plan.update().where(plan.c.id == plan_id).values(state="approved"))
            return _given(connection, plan_id) or _lost(plan_id)

    def approval_of(self, plan_id: str) -> Approval | None:
        """What was approved so far; `complete` is false while the second person is missing."""
        with self._engine.connect() as connection:
            return _given(connection, plan_id)

    def standing_approve(self, system: str, policy: str, config_digest: str, actor: str, reason: str) -> None:
        """Every later plan of this policy may be approved by itself, until the configuration changes."""
        said(actor, reason, "a standing approval")
        values = {
            "system": system, "policy": policy, "config_digest": config_digest,
            "actor": actor.strip(), "reason": reason.strip(), "approved_at": self._clock(),
        }  # fmt: skip
        with self._write() as connection:
            connection.execute(findings.insert(connection, standing_approval).values(values).on_conflict_do_nothing())

    def standing_approval(self, system: str, policy: str, config_digest: str) -> StandingApproval | None:
        with self._engine.connect() as connection:
            row = connection.execute(_standing(system, policy, config_digest)).one_or_none()
        if row is None:
            return None
        return StandingApproval(**{name: row._mapping[name] for name in StandingApproval.__dataclass_fields__})

    def revoke_standing(self, system: str, policy: str, actor: str, reason: str) -> int:
        """End the standing approvals of a policy, and what was approved by them and not begun; how many ended."""
        said(actor, reason, "revoking a standing approval")
        mine = standing_approval.c
        with self._write() as connection:
            ended = connection.execute(
                standing_approval.update()
                .where(mine.system == system, mine.policy == policy, mine.revoked_at.is_(None))
                .values(revoked_at=self._clock(), revoked_by=actor, revoke_reason=reason)
            )
            return ended.rowcount


def require(connection: sa.Connection, plan_id: str, plan_expires_at: datetime, now: datetime) -> Approval:
    """The consent that covers acting now. Raises ConsentRefused (H02, H04)."""
    given = _given(connection, plan_id)
    if given is None or not given.complete:
        raise ConsentRefused("not_approved", f"plan {plan_id} is not approved. Nothing was done. Approve it first.")
    until = min(given.expires_at, plan_expires_at)
    if until <= now:
        raise ConsentRefused(
            "approval_expired",
            f"the approval of plan {plan_id} ended {instant(until)}, and it is {instant(now)}. "
            "Nothing more was done. Make a new plan and approve that.",
            expected=until, given=now,
        )  # fmt: skip
    if given.standing_id is not None:
        revoked = connection.execute(
            sa.select(standing_approval.c.revoked_by).where(
                standing_approval.c.id == given.standing_id, standing_approval.c.revoked_at.is_not(None)
            )
        ).one_or_none()
        if revoked is not None:
            raise ConsentRefused(
                "standing_revoked",
                f"{revoked.revoked_by} revoked the standing approval that plan {plan_id} rests on. "
                "Nothing more was done. Make a new plan and approve it by hand.",
            )
    return given


def _planned(connection: sa.Connection, plan_id: str, clock: Callable[[], datetime]) -> tuple[Any, datetime]:
    """The plan, locked, and the time after the lock was got."""
    found = lock_plan(connection, plan_id) or unknown(plan_id)
    now = clock()
    if found.state != "planned":
        raise ConsentRefused(
            "not_planned",
            f"plan {plan_id} is {found.state}; only a planned one can be approved. Nothing was changed.",
            expected="planned", given=found.state,
        )  # fmt: skip
    if found.expires_at <= now:
        raise ConsentRefused(
            "plan_expired",
            f"plan {plan_id} expired {instant(found.expires_at)}, and it is {instant(now)}. "
            "Nothing was approved. Make a new plan.",
            expected=found.expires_at, given=now,
        )  # fmt: skip
    return found, now


def _same_digest(found: Any, digest: str) -> None:
    if len(digest) < SHORT_DIGEST or not found.digest.startswith(digest):
        raise ConsentRefused(
            "wrong_digest",
            f"plan {found.id} has the digest {found.digest[:SHORT_DIGEST]}, not {digest}. Nothing was approved. "
            "Look at the plan again: what you reviewed is another one.",
            expected=found.digest, given=digest,
        )  # fmt: skip


def _same_count(found: Any, count: int, units: list[int] | None) -> None:
    if units is not None and (not units or units[0] < 0 or units[-1] >= found.units):
        raise ConsentRefused(
            "unknown_units",
            f"plan {found.id} has the units 0 to {found.units - 1}; {len(units)} others or none were chosen. "
            "Nothing was approved. Choose from this plan's own list.",
            expected=found.units, given=len(units),
        )  # fmt: skip
    expected = found.units if units is None else len(units)
    if count != expected:
        raise ConsentRefused(
            "wrong_count",
            f"plan {found.id} would act on {expected:,} units, not {count:,}. Nothing was approved. "
            "Look at the plan again, then repeat its count.",
            expected=expected, given=count,
        )  # fmt: skip


def _accepted(plan_id: str, exceeded: Any, accept_limits: bool) -> None:
    if not accept_limits:
        said = " ".join(map(str, exceeded)) if isinstance(exceeded, list) else str(exceeded)
        raise ConsentRefused(
            "limits_exceeded",
            f"plan {plan_id[:8]} exceeds its limits: {said} Nothing was approved. If all of it is meant, accept its "
            f"limits with the approval: --accept-limits on the command line.",
        )


def _may_be(plan_id: str, first: Any, actor: str, units: list[int] | None, *, second: bool) -> None:
    if first is None:
        if second:
            raise ConsentRefused("no_first_approval", f"nobody approved plan {plan_id} yet. Nothing was approved.")
        return
    if same_person(first.actor, actor):
        raise ConsentRefused(
            "same_person",
            f"{first.actor} approved plan {plan_id} already; it asks for a second person. Nothing was changed.",
            expected="another person", given=actor,
        )  # fmt: skip
    if first.units != units:
        raise ConsentRefused(
            "other_units",
            f"{first.actor} approved {first.unit_count:,} units of plan {plan_id}, and these are not the same. "
            "Nothing was changed. Approve the same ones.",
            expected=first.unit_count, given=None if units is None else len(units),
        )  # fmt: skip


def _of(plan_id: str) -> sa.Select[Any]:
    return sa.select(approval).where(approval.c.plan_id == plan_id).order_by(approval.c.place)


def _given(connection: sa.Connection, plan_id: str) -> Approval | None:
    rows = connection.execute(_of(plan_id)).all()
    if not rows:
        return None
    first, last = rows[0], rows[-1]
    totals = connection.execute(sa.select(plan.c.totals).where(plan.c.id == plan_id)).scalar_one()
    return Approval(
        plan_id=plan_id, digest=first.digest, count=first.unit_count, actor=first.actor, reason=first.reason,
        approved_at=last.approved_at, expires_at=min(row.expires_at for row in rows),
        units=None if first.units is None else tuple(first.units),
        accept_limits=all(row.accept_limits for row in rows),
        second_actor=last.actor if len(rows) > 1 else None, standing_id=first.standing_id,
        complete=len(rows) > 1 or not totals.get("second_person"),
    )  # fmt: skip


def _lost(plan_id: str) -> Approval:
    raise Refused("not_recorded", f"the approval of plan {plan_id} was not recorded. Nothing was changed.")


def _standing(system: str, policy: str, config_digest: str) -> sa.Select[Any]:
    mine = standing_approval.c
    return sa.select(standing_approval).where(
        mine.system == system, mine.policy == policy, mine.config_digest == config_digest, mine.revoked_at.is_(None)
    )
