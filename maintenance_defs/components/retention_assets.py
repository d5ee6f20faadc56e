"""A policy as three assets: its plan, a person's approval of one plan, and the deletion that executes it.

The plan is the rehearsal. Proof of consent is the control database's row, never an event of Dagster:
those can be reported by anybody who reaches the webserver.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from maintenance_defs.components import retention_checks, retention_metadata
from maintenance_defs.components.steps import TAG, Reconcile, job_name, told
from maintenance_defs.components.words import describe_approval, describe_deletion, describe_plan
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.policy import Policy
from maintenance_defs.retention.cycle import Cycle, act_on, how_to_approve, next_approved, waits_for
from maintenance_defs.retention.drill import drilled_stores
from maintenance_defs.retention.gate import execute
from maintenance_defs.retention.planning import stores_of, take_plan

RECONCILED = ("inventory", "references", "orphan_diff")
KEPT_PARTITIONS = 50  # plans in the approval's list; older ones are in the control database
OPEN = ("planned", "approved", "executing", "partial")
MAX_KINDS = 3
Results = Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any] | dg.AssetObservation]


class Approve(dg.Config):
    """Consent to the plan that is chosen as partition. Repeat what its page says, to show that you read it."""

    digest: str = Field(description="The plan's short digest, as its page says: 8 letters and digits, in quotes.")
    count: int = Field(description="The plan's count: how many units go.", ge=0)
    actor: str = Field(description="Your name or e-mail; it is written to the ledger.", min_length=1)
    reason: str = Field(description="Why this may go; the number of a ticket will do.", min_length=1)
    accept_limits: bool = Field(
        default=False, description="The plan exceeds its limits, and all of it is meant. Holds for this plan only."
    )
    standing: bool = Field(
        default=False,
        description="Automatic policies: also let every later plan act by itself, until the declaration changes.",
    )


class Execute(dg.Config):
    """Nothing needs to be filled in: in a job the plan of the same run, else the newest approved plan."""

    plan: str | None = Field(default=None, description="Another approved plan: its id, or at least 8 letters of it.")


def policy_assets(system: System, name: str) -> list[dg.AssetsDefinition]:
    """plan, approval, deletion."""
    partitions = dg.DynamicPartitionsDefinition(name=f"{system.name}_{name}_plans")
    return [_plan(system, name, partitions), _approval(system, name, partitions), _deletion(system, name)]


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
        description=f"Reconcile {system.name}, then {does}. "
        + ("" if automatic else "Stops after the plan: a person approves it. "),
        tags={TAG: system.name},
    )


def without_drill(system: System, assets: dg.AssetSelection) -> dg.AssetSelection:
    """The drill writes; it is run by its own job only."""
    return assets - drill_selection(system) if drilled_stores(system) else assets


def drill_selection(system: System) -> dg.AssetSelection:
    return dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey([system.name, "inventory"]), "restore_drill"))


def _spec(
    system: System, name: str, step: str, description: str, deps: list[str], kinds: set[str], skippable: bool = False
) -> dg.AssetSpec:
    return dg.AssetSpec(
        [system.name, f"{name}_{step}"],
        deps=[[system.name, dep] for dep in deps],
        description=description,
        group_name=system.name,
        owners=list(system.owners),
        tags={TAG: system.name, "maintenance/policy": name},
        kinds=kinds,
        skippable=skippable,
    )


def _plan(system: System, name: str, partitions: dg.DynamicPartitionsDefinition) -> dg.AssetsDefinition:
    policy = system.retention[name]
    words = describe_plan(system, name)

    @dg.multi_asset(
        name=f"{system.name}__{name}_plan",
        specs=[_spec(system, name, "plan", words, [_rests_on(system, policy)], {"parquet", "duckdb"})],
        check_specs=retention_checks.plan_specs(system, name),
        pool=f"db_{system.name}",
    )
    def plan(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Results:
        with told():
            home.control.retention.expire_plans(system.name)
            row = take_plan(system, name, home, run_id=context.run.run_id, as_of=config.instant())
            stop = waits_for(system, row, home, datetime.now(UTC)) if row.units else None
            next_step = _next_step(row, stop)
        _offer(context, home, system, name, partitions)
        context.log.info(f"{name}: {retention_metadata.amount(row)} would go. {next_step}")
        artefact = home.control.get(row.artefact_id)
        yield dg.MaterializeResult(metadata=retention_metadata.of_plan(system, row, artefact, home, next_step))
        yield from retention_checks.of_plan(system, row, home, datetime.now(UTC))

    return plan


def _approval(system: System, name: str, partitions: dg.DynamicPartitionsDefinition) -> dg.AssetsDefinition:
    spec = _spec(system, name, "approval", describe_approval(system, name), [f"{name}_plan"], {"human"})

    @dg.multi_asset(name=f"{system.name}__{name}_approval", specs=[spec], partitions_def=partitions)
    def approval(context: dg.AssetExecutionContext, config: Approve, home: dg.ResourceParam[Home]) -> Results:
        with told():
            _written_out(context)
            retention = home.control.retention
            plan = _of_policy(retention.plan(context.partition_key), system, name)
            if config.standing and system.retention[name].mode != "automatic":
                raise Refused(
                    "not_automatic",
                    f"{name} is a manual policy: each of its plans is approved by itself. Nothing was approved. Leave "
                    f"out standing.",
                )
            given = retention.approve(
                plan.id, config.digest.strip(), config.count, config.actor, config.reason,
                expires_at=plan.expires_at, accept_limits=config.accept_limits,
            )  # fmt: skip
            if config.standing:
                retention.standing_approve(system.name, name, plan.config_digest, config.actor, config.reason)
        context.log.info(f"{given.actor} approved {given.count:,} units of plan {plan.id}: {given.reason}")
        yield dg.MaterializeResult(metadata=retention_metadata.of_approval(plan, given, config.standing))

    return approval


def _deletion(system: System, name: str) -> dg.AssetsDefinition:
    spec = _spec(
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
    """The plan named, else that of this run, else the newest approved one."""

    def log(line: str) -> None:
        if line:
            context.log.info(line)

    retention, run_id = home.control.retention, context.run.run_id
    if config.plan is None:
        newest = retention.plans(system.name, name, limit=1)
        if newest and newest[0].run_id == run_id and newest[0].state in ("planned", "done"):
            return act_on(system, newest[0], home, run_id=run_id, log=log)
        waiting = next_approved(home, system.name, name)
        if waiting is None:
            hint = f" Plan {newest[0].short_digest} waits: {how_to_approve(newest[0])}" if _open(newest) else ""
            raise Refused("not_approved", f"no plan of {name} is approved. Nothing was done.{hint}")
        plan = waiting
    else:
        plan = _of_policy(retention.find_plan(config.plan.strip()), system, name)
    done = execute(system, plan.id, home, run_id=run_id, log=log)
    return Cycle(done.plan, done)


def _written_out(context: dg.AssetExecutionContext) -> None:
    """Raises Refused for {env: NAME}: the ledger and this page would show what stands in that variable."""
    ops: dict[str, Any] = dict(context.run.run_config).get("ops", {})  # type: ignore[assignment]  # what was typed
    given = ops.get(context.op_execution_context.op.name, {}).get("config", {})
    if any(isinstance(value, dict) for value in given.values()):
        raise Refused("not_written_out", "an approval is written out, not taken from variables. Nothing was approved.")


def _open(plans: list[PlanRow]) -> bool:
    return bool(plans) and plans[0].state == "planned"


def _of_policy(plan: PlanRow, system: System, name: str) -> PlanRow:
    if (plan.system, plan.policy) != (system.name, name):
        raise Refused(
            "wrong_policy",
            f"plan {plan.id} is of {plan.system}/{plan.policy}, not of {system.name}/{name}. Nothing was done.",
        )
    return plan


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


def _offer(
    context: dg.AssetExecutionContext, home: Home, system: System, name: str, partitions: dg.DynamicPartitionsDefinition
) -> None:
    """Plans that may be approved are the approval's partitions; old ones leave the list (never the ledger)."""
    listed = str(partitions.name)
    known = set(context.instance.get_dynamic_partitions(listed))
    plans = home.control.retention.plans(system.name, name, limit=KEPT_PARTITIONS)
    wanted = {plan.id for plan in plans if plan.units}
    new = [plan.id for plan in reversed(plans) if plan.units and plan.id not in known and plan.state in OPEN]
    if new:
        context.instance.add_dynamic_partitions(listed, new)
    for gone in known - wanted:
        context.instance.delete_dynamic_partition(listed, gone)
