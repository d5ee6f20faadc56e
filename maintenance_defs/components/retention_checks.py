"""Checks of a policy: is it on, is its profile meant for here, did its plan stay in its limits, did all of it go."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from maintenance_defs.components import metadata
from maintenance_defs.components.checks import ERROR, WARN
from maintenance_defs.components.metadata import plain, table
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.core.presets import PRODUCTION, preset_at
from maintenance_defs.retention.cycle import Cycle, obstacle
from maintenance_defs.retention.drill import drilled_stores, restore_drill

TESTING = "testing"  # the preset that must not decide in production


def plan_specs(system: System, name: str) -> list[dg.AssetCheckSpec]:
    key = [system.name, f"{name}_plan"]
    specs = [
        dg.AssetCheckSpec("enabled", asset=key, description="The policy is on: neither disabled nor paused."),
        dg.AssetCheckSpec("within_limits", asset=key, description="The plan takes no more than its limits allow."),
    ]
    if _may_be_testing(system, name):
        words = (
            "Its timings are not those for testing, unless MAINTENANCE_ENVIRONMENT says that this is none; its "
            "preset neither expired nor will within a day."
        )
        specs.append(dg.AssetCheckSpec("profile", asset=key, description=words))
    return specs


def deletion_specs(system: System, name: str) -> list[dg.AssetCheckSpec]:
    words = "The last execution did all that its plan says, or says why not."
    return [dg.AssetCheckSpec("complete", asset=[system.name, f"{name}_deletion"], description=words)]


def of_plan(system: System, plan: PlanRow, home: Home, now: Any) -> Iterator[dg.AssetCheckResult]:
    """All of `plan_specs`."""
    key = [system.name, f"{plan.policy}_plan"]
    stop = obstacle(system, plan.policy, home, now)
    off = stop is not None and stop[0] in ("disabled", "paused")
    yield shown(key, "enabled", not off, WARN, [stop[1]] if off and stop else [], {"why_not": stop[0] if stop else "-"})
    exceeded = plan.totals["limits_exceeded"]
    yield shown(key, "within_limits", not exceeded, ERROR, exceeded, {"guards": len(plan.totals["guards"])})
    if _may_be_testing(system, plan.policy):
        where = home.environment.get("MAINTENANCE_ENVIRONMENT", PRODUCTION).casefold()
        found = preset_at(system, home.environment, plan.as_of)
        preset = found.holds if found else "none"
        misplaced = preset == TESTING and where == PRODUCTION
        passed = not misplaced and not (found and found.message)
        words = [found.message] if found and found.message else []
        words += [] if not misplaced else [
            f"The profile is testing, and this is production: {plan.policy} takes what is minutes old. Set "
            f"{system.preset_env or 'preset'}, or MAINTENANCE_ENVIRONMENT if this is no production."
        ]  # fmt: skip
        yield shown(key, "profile", passed, WARN, words, {"profile": preset, "environment": where})


def of_deletion(system: System, name: str, cycle: Cycle) -> dg.AssetCheckResult:
    """`complete`: an error after a partial execution, a warning while the plan waits for something."""
    key = [system.name, f"{name}_deletion"]
    done = cycle.execution
    if done is None:
        passed = cycle.stopped == "nothing_to_do"
        return shown(key, "complete", passed, WARN, [] if passed else [cycle.message], {"state": cycle.stopped or ""})
    words = [done.message] if done.message else []
    words += [f"{p['key'] or p['row_id']}: {p['outcome']} {p['detail'] or ''}" for p in done.problems[:5]]
    failed = sum(done.counts.get(outcome, 0) for outcome in ("failed", "unknown"))
    numbers = {"state": done.state, "succeeded": done.succeeded, "failed": failed}
    return shown(key, "complete", done.state == "done", ERROR, words if done.state != "done" else [], numbers)


def drill_check(system: System) -> dg.AssetChecksDefinition | None:
    """`restore_drill` on the inventory, in a job of its own: it writes a canary, which reports may not."""
    stores = drilled_stores(system)
    if not stores:
        return None

    @dg.asset_check(
        name="restore_drill",
        asset=dg.AssetKey([system.name, "inventory"]),
        description=f"What was quarantined from {', '.join(stores)} can be given back: the oldest copy is looked at, "
        f"and a canary of our own is restored. Nothing that is in use is touched.",
        op_tags={"maintenance/drill": system.name},
    )
    def restore_drill_check(home: dg.ResourceParam[Home]) -> dg.AssetCheckResult:
        drill = restore_drill(system, home)
        words = metadata.markdown([f"- {plain(problem)}" for problem in drill.problems])
        return dg.AssetCheckResult(
            passed=not drill.problems,
            severity=ERROR,
            metadata={
                "stores": table(("store", "what", "result"), drill.found),
                **({"why": dg.MetadataValue.md(words)} if drill.problems else {}),
            },
        )

    return restore_drill_check


def _may_be_testing(system: System, name: str) -> bool:
    return TESTING in system.presets and bool(system.retention[name].timings)


def shown(
    key: Sequence[str], name: str, passed: bool, severity: dg.AssetCheckSeverity, words: Sequence[str],
    numbers: dict[str, Any],
) -> dg.AssetCheckResult:  # fmt: skip
    text = metadata.markdown([f"- {plain(word)}" for word in words])
    return dg.AssetCheckResult(
        asset_key=list(key), check_name=name, passed=passed, severity=severity,
        metadata={**numbers, **({"why": dg.MetadataValue.md(text)} if words else {})},
    )  # fmt: skip
