"""What the plans of policies and of archives share: a list to choose from, a person's approval, what is executed.

Proof of consent is the control database's row, never an event of Dagster: those can be reported by anybody who
reaches the webserver.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from maintenance_defs.components import retention_metadata
from maintenance_defs.components.steps import TAG, told
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow, how_to_approve
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused

POLICY_TAG = "maintenance/policy"
KEPT_PARTITIONS = 50  # plans in the approval's list; older ones are in the control database
OPEN = ("planned", "approved", "executing", "partial")
MAX_KINDS = 3
Results = Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any] | dg.AssetObservation]
Meant = Callable[[PlanRow], bool]


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
        description="Where the mode is automatic: also let every later plan act by itself, until the declaration "
        "changes.",
    )


class Execute(dg.Config):
    """Nothing needs to be filled in: in a job the plan of the same run, else the newest approved plan."""

    plan: str | None = Field(default=None, description="Another approved plan: its id, or at least 8 letters of it.")


def plan_partitions(system: System, name: str) -> dg.DynamicPartitionsDefinition:
    """The plans that may be approved."""
    return dg.DynamicPartitionsDefinition(name=f"{system.name}_{name}_plans")


def step_spec(
    system: System, name: str, step: str, description: str, deps: Collection[str], kinds: Collection[str],
    skippable: bool = False, metadata: dict[str, Any] | None = None,
) -> dg.AssetSpec:  # fmt: skip
    """The asset `<name>_<step>` of a policy or an archive."""
    return dg.AssetSpec(
        [system.name, f"{name}_{step}"],
        deps=[[system.name, dep] for dep in deps],
        description=description,
        group_name=system.name,
        owners=list(system.owners),
        tags={TAG: system.name, POLICY_TAG: name},
        kinds=set(kinds),
        skippable=skippable,
        metadata=metadata,
    )


def approval_asset(system: System, name: str, mode: str, description: str) -> dg.AssetsDefinition:
    """`<name>_approval`: a person's consent to one plan, which is the partition."""
    spec = step_spec(system, name, "approval", description, [f"{name}_plan"], {"human"})

    @dg.multi_asset(name=f"{system.name}__{name}_approval", specs=[spec], partitions_def=plan_partitions(system, name))
    def approval(context: dg.AssetExecutionContext, config: Approve, home: dg.ResourceParam[Home]) -> Results:
        with told():
            _written_out(context)
            retention = home.control.retention
            plan = _of(retention.plan(context.partition_key), system, name)
            if config.standing and mode != "automatic":
                raise Refused(
                    "not_automatic",
                    f"{name} is manual: each of its plans is approved by itself. Nothing was approved. Leave out "
                    f"standing.",
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


def offer(context: dg.AssetExecutionContext, home: Home, system: System, name: str) -> None:
    """Plans that may be approved are the approval's partitions; old ones leave the list (never the ledger)."""
    listed = str(plan_partitions(system, name).name)
    known = set(context.instance.get_dynamic_partitions(listed))
    plans = home.control.retention.plans(system.name, name, limit=KEPT_PARTITIONS)
    wanted = {plan.id for plan in plans if plan.units}
    new = [plan.id for plan in reversed(plans) if plan.units and plan.id not in known and plan.state in OPEN]
    if new:
        context.instance.add_dynamic_partitions(listed, new)
    for gone in known - wanted:
        context.instance.delete_dynamic_partition(listed, gone)


def _every(plan: PlanRow) -> bool:
    return True


def chosen_plan(
    context: dg.AssetExecutionContext, config: Execute, system: System, name: str, home: Home, meant: Meant = _every
) -> tuple[PlanRow, bool]:
    """The plan to execute: the one named, else that of this run, else the newest approved one, else one that a killed
    run was at, which only a lease that still lasts protects.

    meant: which of the plans this step executes.
    The second value is whether it is this run's own, which may wait for something. Raises Refused("not_approved").
    """
    retention, run_id = home.control.retention, context.run.run_id
    if config.plan is not None:
        return _of(retention.find_plan(config.plan.strip()), system, name), False
    plans = [plan for plan in retention.plans(system.name, name) if meant(plan)]
    if plans and plans[0].run_id == run_id and plans[0].state in ("planned", "done"):
        return plans[0], True
    begun = ("approved", "partial", "executing")
    waiting = [plan for plan in retention.plans(system.name, name, begun) if meant(plan)]
    waiting.sort(key=lambda plan: plan.state == "executing")
    if not waiting:
        newest = plans[0] if plans and plans[0].state == "planned" else None
        hint = f" Plan {newest.short_digest} waits: {how_to_approve(newest)}" if newest else ""
        raise Refused("not_approved", f"no plan of {name} is approved. Nothing was done.{hint}")
    return waiting[0], False


def log_lines(context: dg.AssetExecutionContext) -> Callable[[str], None]:
    """What a run says of itself, as Dagster's log; empty lines only look well in a terminal."""

    def log(line: str) -> None:
        if line:
            context.log.info(line)

    return log


def _written_out(context: dg.AssetExecutionContext) -> None:
    """Raises Refused for {env: NAME}: the ledger and this page would show what stands in that variable."""
    ops: dict[str, Any] = dict(context.run.run_config).get("ops", {})  # type: ignore[assignment]  # what was typed
    given = ops.get(context.op_execution_context.op.name, {}).get("config", {})
    if any(isinstance(value, dict) for value in given.values()):
        raise Refused("not_written_out", "an approval is written out, not taken from variables. Nothing was approved.")


def _of(plan: PlanRow, system: System, name: str) -> PlanRow:
    if (plan.system, plan.policy) != (system.name, name):
        raise Refused(
            "wrong_policy",
            f"plan {plan.id} is of {plan.system}/{plan.policy}, not of {system.name}/{name}. Nothing was done.",
        )
    return plan
