"""A policy as three assets: its plan, a person's approval of one plan, and the deletion that executes it.

The plan is the rehearsal. Proof of consent is the control database's row, never an event of Dagster:
those can be reported by anybody who reaches the webserver.
"""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from maintenance_defs.components import retention_checks, retention_metadata
from maintenance_defs.components.consent import (
    MAX_KINDS,
    Execute,
    Results,
    approval_asset,
    chosen_plan,
    log_lines,
    offer,
    step_spec,
)
from maintenance_defs.components.steps import TAG, Planning, job_name, told
from maintenance_defs.components.words import describe_approval, describe_deletion, describe_plan
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow, how_to_approve
from maintenance_defs.core.declaration import System
from maintenance_defs.core.policy import Policy
from maintenance_defs.retention.cycle import Cycle, act_on, waits_for
from maintenance_defs.retention.drill import drilled_stores
from maintenance_defs.retention.gate import execute
from maintenance_defs.retention.planning import stores_of, take_plan

RECONCILED = ("inventory", "references", "orphan_diff")


def policy_assets(system: System, name: str) -> list[dg.AssetsDefinition]:
    """plan, approval, deletion."""
    policy = system.retention[name]
    approval = approval_asset(system, name, policy.mode, describe_approval(system, name))
    return [_plan(system, name), approval, _deletion(system, name)]


def policy_job(system: System, name: str) -> Any:
    """Everything from the inventory to the plan; for an automatic policy also the deletion."""
    return cycle_job(system, job_name(system.name, name), [name])


def cycle_job(system: System, job: str, policies: list[str]) -> Any:
    """One run is one cycle of these policies (S1-7)."""
    automatic = [name for name in policies if system.retention[name].mode == "automatic"]
    keys = [[system.name, step] for step in RECONCILED]
    keys += [[system.name, f"{name}_plan"] for name in policies]
    keys += [[system.name, f"{name}_deletion"] for name in automatic]
    does = f"plan {', '.join(policies)}"
    if automatic:
        does += f", and execute {', '.join(automatic)} where a standing approval allows it"
    assets = dg.AssetSelection.assets(*(dg.AssetKey(key) for key in keys))
    return dg.define_asset_job(
        job,
        selection=without_drill(system, assets),
        description=f"Reconcile {system.name}, then {does}."
        + ("" if automatic else " Stops after the plan: a person approves it."),
        tags={TAG: system.name},
    )


def without_drill(system: System, assets: dg.AssetSelection) -> dg.AssetSelection:
    """The drill writes; it is run by its own job only."""
    return assets - drill_selection(system) if drilled_stores(system) else assets


def drill_selection(system: System) -> dg.AssetSelection:
    return dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey([system.name, "inventory"]), "restore_drill"))


def _plan(system: System, name: str) -> dg.AssetsDefinition:
    policy = system.retention[name]
    words = describe_plan(system, name)

    @dg.multi_asset(
        name=f"{system.name}__{name}_plan",
        specs=[step_spec(system, name, "plan", words, [_rests_on(system, policy)], {"parquet", "duckdb"})],
        check_specs=retention_checks.plan_specs(system, name),
        pool=f"db_{system.name}",
    )
    def plan(context: dg.AssetExecutionContext, config: Planning, home: dg.ResourceParam[Home]) -> Results:
        with told():
            home.control.retention.expire_plans(system.name)
            row = take_plan(system, name, home, run_id=context.run.run_id, as_of=config.instant(), groups=config.groups)
            stop = waits_for(system, row, home, datetime.now(UTC)) if row.units else None
            next_step = _next_step(row, stop)
        offer(context, home, system, name)
        context.log.info(f"{name}: {retention_metadata.amount(row)} would go. {next_step}")
        artefact = home.control.get(row.artefact_id)
        yield dg.MaterializeResult(metadata=retention_metadata.of_plan(system, row, artefact, home, next_step))
        yield from retention_checks.of_plan(system, row, home, datetime.now(UTC))

    return plan


def _deletion(system: System, name: str) -> dg.AssetsDefinition:
    spec = step_spec(
        system, name, "deletion", describe_deletion(system, name), [f"{name}_approval", f"{name}_plan"],
        set(system.kinds[:MAX_KINDS]), skippable=True,
    )  # fmt: skip

    @dg.multi_asset(
        name=f"{system.name}__{name}_deletion",
        specs=[spec],
        check_specs=retention_checks.deletion_specs(system, name),
        pool=f"db_{system.name}",
    )
    def deletion(context: dg.AssetExecutionContext, config: Execute, home: dg.ResourceParam[Home]) -> Results:
        with told():
            cycle = _execute(context, config, system, name, home)
        if cycle.execution is not None:
            given = home.control.retention.approval_of(cycle.plan.id)
            yield dg.MaterializeResult(metadata=retention_metadata.of_execution(cycle.execution, given, home))
        elif cycle.stopped == "nothing_to_do":
            yield dg.MaterializeResult(metadata=retention_metadata.of_nothing(cycle))
        else:
            context.log.warning(cycle.message)
            yield dg.AssetObservation(spec.key, metadata=retention_metadata.of_nothing(cycle))
        yield retention_checks.of_deletion(system, name, cycle)

    return deletion


def _execute(context: dg.AssetExecutionContext, config: Execute, system: System, name: str, home: Home) -> Cycle:
    plan, own = chosen_plan(context, config, system, name, home)
    log, run_id = log_lines(context), context.run.run_id
    if own:
        return act_on(system, plan, home, run_id=run_id, log=log)
    done = execute(system, plan.id, home, run_id=run_id, log=log)
    return Cycle(done.plan, done)


def _next_step(plan: PlanRow, stop: tuple[str, str] | None) -> str:
    if not plan.units:
        return "Nothing to do."
    if plan.totals["limits_exceeded"]:
        return f"Above its limits: look at it; if it is meant, accept them with the approval: {how_to_approve(plan)}"
    return stop[1] if stop else "Its standing approval lets the deletion of this run execute it."


def _rests_on(system: System, policy: Policy) -> str:
    """The asset that a plan needs to be fresh."""
    stores = stores_of(system, policy)
    if not stores:
        return "references"
    return "orphan_diff" if set(stores) & set(system.referenced_stores) else "inventory"
