"""Sensors over plans: a backlog starts a cycle, an approval starts what it is for. They read the control database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import dagster as dg

from maintenance_defs.archive import cycle as archive_cycle
from maintenance_defs.components.archive_assets import archive_names
from maintenance_defs.components.sensors import CAUSE_TAG, Job, still_running
from maintenance_defs.components.steps import TAG, job_name
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.triggers import ApprovedPlans, Backlog
from maintenance_defs.retention.cycle import obstacle, waits_for

GRACE = timedelta(seconds=60)  # `maintain apply` approves and executes at once: let it begin
APPROVED_SECONDS = 30
PLANS = 20  # approved plans looked at a policy
UNDONE = ("planned", "expired")  # a partial one failed, and would fail again


def backlog(
    declared: Sequence[Backlog],
    systems: Mapping[str, System],
    jobs: Sequence[Job],
    clock: Callable[[], datetime] = utc_now,
) -> dg.SensorDefinition:
    """Starts a cycle when the last plan of a whole policy was not executed and holds more units than allowed.

    Nothing is started that would only make the same plan again: without a standing approval, while
    paused, outside the window, while a cycle runs. `run_key` is the plan, so that it is tried once.
    """

    @dg.sensor(
        name="backlog",
        jobs=jobs,
        minimum_interval_seconds=max(1, int(min(one.every for one in declared).total_seconds())),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a cycle when too much waits:\n\n"
        + "\n".join(f"- {one.system}: {', '.join(one.policy)} above {one.above:,}" for one in declared),
    )
    def sensor(context: dg.SensorEvaluationContext, home: dg.ResourceParam[Home]) -> dg.SensorResult | dg.SkipReason:
        requests, reasons = [], []
        for one in declared:
            system = systems[one.system]
            for policy in one.policy:
                plan = _last(home, one.system, policy)
                if plan is None or plan.state not in UNDONE or plan.units <= one.above:
                    continue
                stop = waits_for(system, plan, home, clock())
                why = stop[1] if stop else still_running(context.instance, one)
                if why:
                    reasons.append(f"{one.system}/{policy}: {why}")
                    continue
                said = f"{plan.units:,} units of {policy} wait, more than {one.above:,}"
                tags = {TAG: one.system, CAUSE_TAG: said}
                job = job_name(one.system, one.starts)
                requests.append(dg.RunRequest(f"backlog-{plan.id}", job_name=job, tags=tags))
                break  # one cycle takes all of them
        if not requests:
            return dg.SkipReason(" ".join(reasons) or "No backlog is too large.")
        return dg.SensorResult(run_requests=requests)

    return sensor


def approved_plans(
    declared: Sequence[ApprovedPlans], systems: Mapping[str, System], clock: Callable[[], datetime] = utc_now
) -> dg.SensorDefinition:
    """Starts the execution of every plan that a person approved, once: `run_key` is the plan.

    Whether it may be executed is decided by the gate, from the control database; this only starts it.
    """
    policies = [(one.system, name) for one in declared for name in one.policy or _names(systems[one.system])]
    keys = [dg.AssetKey([name, step]) for name, policy in policies for step in _steps(systems[name], policy)]

    @dg.sensor(
        name="approved_plans",
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=APPROVED_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Carries out plans that were approved, by the asset or by `maintain approve`: "
        + ", ".join(sorted({one.system for one in declared}))
        + ".",
    )
    def sensor(context: dg.SensorEvaluationContext, home: dg.ResourceParam[Home]) -> dg.SensorResult | dg.SkipReason:
        requests, reasons = [], []
        for name, policy in policies:
            try:
                for plan in _approved(home, name, policy, clock()):
                    if stop := _obstacle(systems[name], policy, home, clock()):
                        reasons.append(f"{name}/{policy}: {stop[1]}")
                        continue
                    requests.append(_execution(systems[name], plan))
            except MaintenanceError as error:
                reasons.append(f"{name}/{policy}: {error}")
        if not requests:
            return dg.SkipReason(" ".join(reasons) or "No approved plan waits.")
        return dg.SensorResult(run_requests=requests)

    return sensor


def _last(home: Home, system: str, policy: str) -> PlanRow | None:
    found = home.control.retention.plans(system, policy, limit=1, whole=True)
    return found[0] if found else None


def _approved(home: Home, system: str, policy: str, now: datetime) -> Iterator[PlanRow]:
    """Approved for a while and not expired, oldest first."""
    for plan in reversed(home.control.retention.plans(system, policy, ("approved",), limit=PLANS)):
        given = home.control.retention.approval_of(plan.id)
        if given is not None and given.complete and given.approved_at + GRACE <= now < given.expires_at:
            yield plan


def _names(system: System) -> list[str]:
    """Whatever has plans."""
    return [*system.retention, *archive_names(system)]


def _steps(system: System, name: str) -> list[str]:
    """The assets that carry out its plans."""
    return [f"{name}_deletion"] if name in system.retention else [f"{name}_removal", f"{name}_expiry"]


def _obstacle(system: System, name: str, home: Home, now: datetime) -> tuple[str, str] | None:
    if name in system.retention:
        return obstacle(system, name, home, now)
    return archive_cycle.obstacle(system, name, home)


def _execution(system: System, plan: PlanRow) -> dg.RunRequest:
    steps = _steps(system, plan.policy)
    step = steps[-1] if plan.totals.get("only") == "expiry" else steps[0]
    return dg.RunRequest(
        run_key=f"execute-{plan.id}",
        asset_selection=[dg.AssetKey([plan.system, step])],
        run_config={"ops": {f"{plan.system}__{step}": {"config": {"plan": plan.id}}}},
        tags={TAG: plan.system, CAUSE_TAG: f"plan {plan.short_digest} of {plan.policy} was approved"},
    )
