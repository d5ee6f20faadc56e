"""One cycle of a policy: reconcile if asked, plan, and, where everything allows it, act.

The command, the schedules and the sensors run this. It acts by itself only for an automatic policy whose
present configuration has a standing approval: the first plan of a policy is a dry run (S1-26, X-29).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow, how_to_approve
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.retention_rules import is_enabled
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.retention.gate import Execution, execute, still_in_window
from maintenance_defs.retention.pausing import pause_on_damage
from maintenance_defs.retention.planning import find_policy, take_plan
from maintenance_defs.retention.publishing import publish

Stop = tuple[str, str]  # one word for machines, a sentence for people


@dataclass(frozen=True)
class Cycle:
    """What one cycle came to. stopped: one word, null where the plan was executed."""

    plan: PlanRow
    execution: Execution | None = None
    stopped: str | None = None  # nothing_to_do, manual, no_standing_approval, disabled, paused, outside_window, …
    message: str = ""


def _silent(_: Any) -> None:
    return None


def run_cycle(
    system: System,
    name: str,
    home: Home,
    *,
    run_id: str,
    reconcile_first: bool = False,
    folder: Path | None = None,
    as_of: datetime | None = None,
    log: Callable[[str], None] = _silent,
    progress: Callable[[int], None] = _silent,
    clock: Callable[[], datetime] = utc_now,
) -> Cycle:
    """Plan the policy and act on the plan if nothing is against it.

    folder: of the system's SQL files, for reconciling.
    Raises what planning and executing raise; limits that are exceeded are Refused("limits_exceeded").
    """
    if reconcile_first:
        reconcile(system, home, folder=folder, as_of=as_of, run_id=run_id)
        for published in publish(system, home).values():
            log(published.words())
    plan = take_plan(system, name, home, run_id=run_id, as_of=as_of, clock=clock)
    return act_on(system, plan, home, run_id=run_id, log=log, progress=progress, clock=clock)


def act_on(
    system: System,
    plan: PlanRow,
    home: Home,
    *,
    run_id: str,
    log: Callable[[str], None] = _silent,
    progress: Callable[[int], None] = _silent,
    clock: Callable[[], datetime] = utc_now,
) -> Cycle:
    """The second half of a cycle, on the plan that the first half made.

    A plan that waits for something is left planned, and the cycle says for what.
    Raises Refused("limits_exceeded") and whatever `execute` raises.
    """
    if plan.state == "done":
        return Cycle(plan, None, "nothing_to_do", "Nothing to do: no item may go.")
    stop = waits_for(system, plan, home, clock())
    if stop is not None:
        return Cycle(plan, None, *stop)
    if exceeded := plan.totals.get("limits_exceeded"):
        raise Refused("limits_exceeded", f"plan {plan.id[:8]} exceeds its limits: {' '.join(exceeded)}")
    home.control.retention.approve_standing(plan.id, expires_at=plan.expires_at)
    done = execute(system, plan.id, home, run_id=run_id, log=log, progress=progress, clock=clock)
    return Cycle(done.plan, done)


def waits_for(system: System, plan: PlanRow, home: Home, now: datetime) -> Stop | None:
    """Why a plan that was just made is not executed by itself; None when nothing is in its way."""
    if stop := obstacle(system, plan.policy, home, now):
        return stop
    policy = find_policy(system, plan.policy)
    if lacking := plan.totals.get("lacking"):
        return "migration_missing", (
            f"{', '.join(lacking)} does not exist yet. Nothing was done: apply the migration that adds it (maintain "
            f"migrate {system.name}), then plan again."
        )
    if policy.mode == "manual":
        return "manual", f"Waits for a person: {how_to_approve(plan)}"
    if home.control.retention.standing_approval(system.name, plan.policy, plan.config_digest) is None:
        return "no_standing_approval", (
            f"A dry run: {plan.policy} may not act by itself before somebody gave a standing approval of its present "
            f"declaration (maintain approve --standing {system.name} {plan.policy}). This plan alone: "
            f"{how_to_approve(plan)}"
        )
    return None


def obstacle(system: System, name: str, home: Home, now: datetime) -> Stop | None:
    """Why a policy would not act now, whoever approved: disabled, paused, outside its window."""
    policy = find_policy(system, name)
    try:
        enabled = is_enabled(policy, home.environment)
    except ValueError as error:
        return "disabled", f"{error}. Nothing was done."
    if not enabled:
        how = f" or {policy.enabled_env}=true" if policy.enabled_env else ""
        return "disabled", f"{name} of {system.name} is not enabled: set enabled: true{how}. Nothing was done."
    pause_on_damage(system, home)
    if pause := home.control.retention.paused(system.name, name):
        return "paused", f"{pause.words()}. Nothing was done. {pause.then()}"
    try:
        still_in_window(policy, now)
    except Refused as refused:
        return refused.reason, str(refused)
    return None
