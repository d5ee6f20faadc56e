"""What `maintain demo` shows of retention: planned, approved, applied, and everything given back again.

What a policy deletes without a way back is planned only. Each policy is shown once: later runs tell of it from the
control database and change nothing, until the data is made afresh.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.quantities import format_size

if TYPE_CHECKING:
    from maintenance_defs.control.home import Home
    from maintenance_defs.control.retention import PlanRow
    from maintenance_defs.core.declaration import System
    from maintenance_defs.demo.data import DemoSystem

ACTOR = "maintain demo"
REASON = "to show how it works"
OURS = "demo-"  # how the run ids of the demonstration begin
SHORT = 8


def migrate_first(one: DemoSystem, home: Home) -> list[str]:
    """Apply what the system's policies and checks need in its database; a line for each that was not there."""
    from maintenance_defs.retention import migrate

    if not (one.source / "migrations").is_dir():
        return []
    return [f"migrated: {step.name}" for step in migrate.apply(one.system, home, one.source) if step.state == "applied"]


def give_back(one: DemoSystem, home: Home) -> None:
    """Finish and undo what a demonstration that broke off had begun. Raises Busy while its lease lasts."""
    from maintenance_defs.retention.gate import execute
    from maintenance_defs.retention.restore import restore

    state = home.control.retention
    for plan in state.plans(one.system.name, states=("approved", "executing", "partial", "done")):
        if not _ours(plan) or plan.policy not in one.system.retention:
            continue
        if plan.state != "done":
            execute(one.system, plan.id, home, run_id=_run_id())
        if next(iter(state.quarantined(one.system.name, plan_id=plan.id)), None) is not None:
            restore(one.system, home, actor=ACTOR, reason=REASON, plan_id=plan.id)


def show_retention(one: DemoSystem, home: Home, *, afresh: bool) -> Iterator[tuple[str, bool]]:
    """Lines of what happened, each with whether all is well; nothing for a system without policies.

    afresh: the data was made just now, so that nothing that was shown before is true of it.
    """
    from maintenance_defs.core.declaration import policy_digest
    from maintenance_defs.core.retention_rules import is_enabled
    from maintenance_defs.retention.planning import timings_here

    system = one.system
    if not system.retention:
        return
    try:
        for name, policy in system.retention.items():
            if not is_enabled(policy, home.environment):
                continue
            digest = policy_digest(system, name, timings_here(system, policy, home, datetime.now(UTC)))
            known = None if afresh else _shown(home, system, name, digest)
            yield f"{name}: {policy.describe}", True
            yield from _policy(system, name, home, known)
    except MaintenanceError as error:
        yield str(error), False


def _policy(system: System, name: str, home: Home, known: PlanRow | None) -> Iterator[tuple[str, bool]]:
    from maintenance_defs.reporting.retention_text import amount, outcome_lines
    from maintenance_defs.reporting.text import count
    from maintenance_defs.retention.gate import execute
    from maintenance_defs.retention.planning import take_plan
    from maintenance_defs.retention.restore import restore

    state = home.control.retention
    plan = known or take_plan(system, name, home, run_id=_run_id())
    kept = sum(plan.totals["kept"].values())
    stays = f"; {count(kept, 'item')} kept" if kept else ""
    if not plan.units:
        yield f"  nothing to do{stays}", True
        return
    facts = {"objects": plan.objects, "rows": plan.rows, "units": plan.units, "size_bytes": plan.size_bytes}
    yield f"  plan {plan.id[:SHORT]}: {amount(facts)}{stays}", True
    for why in plan.totals["limits_exceeded"]:
        yield f"  over its limit, so a person would have to accept that: {why}", True
    if system.retention[name].act.objects == "delete":
        yield f"  not applied here: this would delete {format_size(plan.size_bytes)} without a way back", True
    if plan.totals["limits_exceeded"] or system.retention[name].act.objects == "delete":
        return
    if plan.state == "planned":
        state.approve(plan.id, plan.digest, plan.units, ACTOR, REASON, expires_at=plan.expires_at)
        execute(system, plan.id, home, run_id=_run_id())
        restore(system, home, actor=ACTOR, reason=REASON, plan_id=plan.id)
    outcomes = state.plan(plan.id).totals.get("outcomes", {})
    left = sum(1 for _ in state.quarantined(system.name, plan_id=plan.id))
    restored = sum(1 for _ in state.quarantined(system.name, plan_id=plan.id, state="restored"))
    applied = ", ".join(outcome_lines(outcomes, "act", "acts"))
    yield f"  approved with its digest {plan.short_digest}, applied: {applied}", True
    yield f"  restored: {count(restored, 'act')}" + (f", {left} could not be" if left else ""), not left


def _shown(home: Home, system: System, name: str, digest: str) -> PlanRow | None:
    """The plan that an earlier demonstration showed of this policy as it is declared now."""
    for plan in home.control.retention.plans(system.name, name):
        if _ours(plan) and plan.config_digest == digest:
            return plan if plan.state == "done" or plan.expires_at > datetime.now(UTC) else None
    return None


def _ours(plan: PlanRow) -> bool:
    return (plan.run_id or "").startswith(OURS)


def _run_id() -> str:
    return OURS + uuid.uuid4().hex
