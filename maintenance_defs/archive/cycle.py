"""What a plan of an archive waits for, and the second half of a cycle: carry it out where nothing is against it.

It acts by itself only for an automatic archive whose present declaration has a standing approval (X-29).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maintenance_defs.archive.declared import find_any
from maintenance_defs.archive.gate import Execution, execute
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow, how_to_approve
from maintenance_defs.core.declaration import System
from maintenance_defs.core.retention_rules import enabled_by

Stop = tuple[str, str]  # one word for machines, a sentence for people


@dataclass(frozen=True)
class Cycle:
    """What one cycle came to. stopped: one word, null where the plan was executed."""

    plan: PlanRow
    execution: Execution | None = None
    stopped: str | None = None  # nothing_to_do, or a word of waits_for: manual, paused, migration_missing, …
    message: str = ""


def _silent(_: Any) -> None:
    return None


def act_on(
    system: System, plan: PlanRow, home: Home, *, run_id: str, log: Callable[[str], None] = _silent,
    progress: Callable[[int], None] = _silent,
) -> Cycle:  # fmt: skip
    """Execute the plan that the first half made; one that waits for something stays planned. Raises as `execute`."""
    if plan.state == "done":
        return Cycle(plan, None, "nothing_to_do", "Nothing to do: no month is cold, and nothing is over its time.")
    if stop := waits_for(system, plan, home):
        return Cycle(plan, None, *stop)
    home.control.retention.approve_standing(plan.id, expires_at=plan.expires_at)
    done = execute(system, plan.id, home, run_id=run_id, log=log, progress=progress)
    return Cycle(done.plan, done)


def waits_for(system: System, plan: PlanRow, home: Home) -> Stop | None:
    """Why a plan that was just made is not executed by itself; None when nothing is in its way."""
    if stop := obstacle(system, plan.policy, home):
        return stop
    if lacking := plan.totals["lacking"]:
        return "migration_missing", (
            f"{', '.join(lacking)} does not exist yet. Nothing was done: apply the migration that adds it (maintain "
            f"migrate {system.name}), then plan again."
        )
    archive = find_any(system, plan.policy)
    if archive.mode == "manual":
        return "manual", f"Waits for a person: {how_to_approve(plan)}"
    if plan.totals["shortened"]:
        return "second_person", (
            f"Periods became shorter: {'; '.join(plan.totals['shortened'])}. Two persons must agree to that: "
            f"{how_to_approve(plan)}"
        )
    if home.control.retention.standing_approval(system.name, plan.policy, plan.config_digest) is None:
        return "no_standing_approval", (
            f"A dry run: {plan.policy} may not act by itself before somebody gave a standing approval of its present "
            f"declaration (maintain approve --standing {system.name} {plan.policy}). This plan alone: "
            f"{how_to_approve(plan)}"
        )
    return None


def obstacle(system: System, name: str, home: Home) -> Stop | None:
    """Why nothing would leave now, whoever approved: the archive is disabled or paused."""
    archive = find_any(system, name)
    try:
        enabled = enabled_by(archive.enabled, archive.enabled_env, home.environment)
    except ValueError as error:
        return "disabled", f"{error}. Nothing was done."
    if not enabled:
        how = f" or {archive.enabled_env}=true" if archive.enabled_env else ""
        return "disabled", f"{name} of {system.name} is not enabled: set enabled: true{how}. Nothing was done."
    if pause := home.control.retention.paused(system.name, name):
        return "paused", f"{pause.words()}. Nothing was done. {pause.then()}"
    return None
