"""An archive as assets: its months exported and proven, a plan, a person's approval, the removal, the expiry.

Exporting a month needs no consent, for nothing leaves its table. What leaves the table and what leaves the archive
for good are two plans, made together, each with a consent of its own and carried out in a run of its own (L7).
Source: archive hazards I118 to I125; DESIGN 5.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from maintenance_defs.archive.cycle import Cycle, act_on, waits_for
from maintenance_defs.archive.declared import find_any
from maintenance_defs.archive.gate import execute, run_archive
from maintenance_defs.archive.plans.planning import take_plan
from maintenance_defs.archive.units.months import how_to_retry, month_state, months_on_offer
from maintenance_defs.archive.values import take_values_plan
from maintenance_defs.components import archive_checks, archive_metadata, archive_words
from maintenance_defs.components.consent import (
    MAX_KINDS,
    Execute,
    Meant,
    Results,
    approval_asset,
    chosen_plan,
    log_lines,
    offer,
    step_spec,
)
from maintenance_defs.components.steps import TAG, Reconcile, job_name, told
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError, Refused

KINDS = ("parquet", "duckdb")


def archive_assets(system: System, name: str) -> list[dg.AssetsDefinition]:
    """plan, approval, removal, expiry; of rows also archive, with a partition for each month."""
    approval = approval_asset(system, name, find_any(system, name).mode, archive_words.describe_approval(system, name))
    months = [_months(system, name)] if name in system.archives else []
    return [
        *months, _plan(system, name), approval,
        _execution(system, name, "removal"), _execution(system, name, "expiry"),
    ]  # fmt: skip


def archive_names(system: System) -> list[str]:
    """Archives of rows, then those of values."""
    return [*system.archives, *system.archived_columns]


def automatic_names(system: System) -> list[str]:
    """Those that may act by themselves."""
    return [name for name in archive_names(system) if find_any(system, name).mode == "automatic"]


def archive_jobs(system: System) -> list[Any]:
    """`<system>_archive`: plan every archive; what is automatic is carried out in the same run."""
    names, automatic = archive_names(system), automatic_names(system)
    if not names:
        return []
    keys = [[system.name, f"{name}_plan"] for name in names]
    keys += [[system.name, f"{name}_{step}"] for name in automatic for step in ("removal", "expiry")]
    does = f"Plan what of {', '.join(names)} may leave"
    does += f", and carry out {', '.join(automatic)} where a standing approval allows it" if automatic else ""
    return [
        dg.define_asset_job(
            job_name(system.name, "archive"),
            selection=dg.AssetSelection.assets(*(dg.AssetKey(key) for key in keys)),
            description=f"{does}." + ("" if automatic else " Stops after the plans: a person approves them."),
            tags={TAG: system.name},
        )
    ]


def month_partitions(system: System, name: str) -> dg.DynamicPartitionsDefinition:
    """The cold months that the database really has; found by the plan and by the sensor, never computed (V7)."""
    return dg.DynamicPartitionsDefinition(name=f"{system.name}_{name}_months")


def parent_pool(system: System, name: str) -> str:
    """Whatever works on one table waits for the others that do (I125)."""
    table = find_any(system, name).table
    return f"archive_{system.name}_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in table)


def offer_months(instance: dg.DagsterInstance, home: Home, system: System, name: str) -> None:
    """Add what is new to the list of months; none is ever taken away. Values are of no month."""
    if name not in system.archives:
        return
    listed = str(month_partitions(system, name).name)
    known = set(instance.get_dynamic_partitions(listed))
    new = [label for label in months_on_offer(system, name, home) if label not in known]
    if new:
        instance.add_dynamic_partitions(listed, new)


def _months(system: System, name: str) -> dg.AssetsDefinition:
    spec = step_spec(system, name, "archive", archive_words.describe_archive(system, name), [], KINDS)

    @dg.multi_asset(
        name=f"{system.name}__{name}_archive",
        specs=[spec],
        partitions_def=month_partitions(system, name),
        pool=parent_pool(system, name),
    )
    def archive(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Results:
        label, log = context.partition_key, log_lines(context)
        with told(), _where_it_stopped(system, name, home, label):
            before = month_state(system, name, home, label)
            as_of = config.instant() or datetime.now(UTC)
            done = run_archive(system, name, home, run_id=context.run.run_id, as_of=as_of, label=label, log=log)
            after = month_state(system, name, home, label)
            if not after.units:
                raise Refused("not_cold", archive_words.not_cold(system, name, label))
        known = {unit.id: unit.changed_at for unit in before.units}
        nothing_new = all(unit.changed_at == known.get(unit.id) for unit in done)
        if nothing_new:
            context.log.info(f"Nothing was exported: {' '.join(after.words())}")
        yield dg.MaterializeResult(metadata=archive_metadata.of_month(system, name, after, home, nothing_new))

    return archive


def _plan(system: System, name: str) -> dg.AssetsDefinition:
    words = archive_words.describe_plan(system, name)
    of_rows = name in system.archives
    take = take_plan if of_rows else take_values_plan
    deps = [f"{name}_archive"] if of_rows else []

    @dg.multi_asset(
        name=f"{system.name}__{name}_plan",
        specs=[step_spec(system, name, "plan", words, deps, KINDS)],
        check_specs=archive_checks.plan_specs(system, name),
        pool=parent_pool(system, name),
    )
    def plan(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Results:
        run_id = context.run.run_id
        with told():
            home.control.retention.expire_plans(system.name)
            removal = take(system, name, home, run_id=run_id, as_of=config.instant(), only="removal")
            expiry = take(system, name, home, run_id=run_id, as_of=removal.as_of, only="expiry")
            plans = [(one, _next_step(system, one, home)) for one in (removal, expiry)]
        offer(context, home, system, name)
        offer_months(context.instance, home, system, name)
        for one, next_step in plans:
            context.log.info(f"{archive_metadata.amount(one)}. {next_step}")
        yield dg.MaterializeResult(metadata=archive_metadata.of_plans(plans, home))
        yield from archive_checks.of_plan(system, name, removal, home)

    return plan


def _execution(system: System, name: str, step: str) -> dg.AssetsDefinition:
    """`removal` or `expiry`: carries out the plans of its kind. A plan of both kinds is the removal's."""
    meant: Meant = lambda plan: (plan.totals.get("only") == "expiry") == (step == "expiry")  # noqa: E731  # typed
    words = archive_words.describe_expiry if step == "expiry" else archive_words.describe_removal
    kinds = KINDS if step == "expiry" else system.kinds[:MAX_KINDS]
    deps = [f"{name}_approval", f"{name}_plan"]
    spec = step_spec(system, name, step, words(system, name), deps, kinds, skippable=True)

    @dg.multi_asset(
        name=f"{system.name}__{name}_{step}",
        specs=[spec],
        check_specs=[archive_checks.complete_spec(system, name, step)],
        pool=parent_pool(system, name),
    )
    def execution(context: dg.AssetExecutionContext, config: Execute, home: dg.ResourceParam[Home]) -> Results:
        log, run_id = log_lines(context), context.run.run_id
        with told():
            plan, own = chosen_plan(context, config, system, name, home, meant)
            if own:
                cycle = act_on(system, plan, home, run_id=run_id, log=log)
            else:
                done = execute(system, plan.id, home, run_id=run_id, log=log)
                cycle = Cycle(done.plan, done)
        offer_months(context.instance, home, system, name)
        if cycle.execution is None and cycle.stopped != "nothing_to_do":
            context.log.warning(cycle.message)
            yield dg.AssetObservation(spec.key, metadata=archive_metadata.of_waiting(cycle))
        else:
            yield dg.MaterializeResult(metadata=archive_metadata.of_cycle(cycle, home))
        yield archive_checks.complete(system, name, step, cycle)

    return execution


def _next_step(system: System, plan: PlanRow, home: Home) -> str:
    if not plan.units:
        return "Nothing to do."
    stop = waits_for(system, plan, home)
    return stop[1] if stop else "Its standing approval lets this run carry it out."


@contextmanager
def _where_it_stopped(system: System, name: str, home: Home, label: str) -> Iterator[None]:
    """A failure for good tells step, cause and how to try again (I123); one that may be over soon is tried again."""
    try:
        yield
    except MaintenanceError as error:
        if error.transient:
            raise
        stopped = month_state(system, name, home, label).stopped
        facts = {
            "month": label,
            "step": stopped.state if stopped else "not begun",
            "cause": getattr(error, "reason", type(error).__name__),
            "retry": how_to_retry(system, name, label),
        }
        raise dg.Failure(str(error), metadata=facts, allow_retries=False) from None
