"""The sensor that validates the system of a new policy as often as its burn-in asks. It reads our own tables."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import dagster as dg

from maintenance_defs.components.sensors import CAUSE_TAG, Job, still_running
from maintenance_defs.components.steps import TAG, job_name
from maintenance_defs.control.home import Home
from maintenance_defs.core.burn_in import BurnIn
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.triggers import BurnIn as Declared
from maintenance_defs.retention.burning_in import burn_ins

SECONDS = 60


def burn_in_sensor(
    declared: Sequence[Declared],
    systems: Mapping[str, System],
    jobs: Sequence[Job],
    clock: Callable[[], datetime] = utc_now,
) -> dg.SensorDefinition:
    """Starts the reconciliation of a system, with all its checks, when the burn-in of one of its policies asks for it.

    `run_key` is what is due, so that it is started once; a reconciliation that is still running is waited for.
    """

    @dg.sensor(
        name="burn_in",
        jobs=jobs,
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Validates systems in the first week of a policy that acts: after each cycle for 30 min, every "
        "2 h to 24 h, daily to 7 d: " + ", ".join(one.system for one in declared) + ".",
    )
    def sensor(context: dg.SensorEvaluationContext, home: dg.ResourceParam[Home]) -> dg.SensorResult | dg.SkipReason:
        requests, reasons, now = [], [], clock()
        for one in declared:
            due = _most_urgent(burn_ins(systems[one.system], home, now), now)
            if due is None or due.due_at is None:
                continue
            if why := still_running(context.instance, one):
                reasons.append(why)
                continue
            key = f"burn-in:{one.system}:{due.policy}:{format_instant(due.due_at)}"
            tags = {TAG: one.system, CAUSE_TAG: due.words()}
            requests.append(dg.RunRequest(key, job_name=job_name(one.system, one.starts), tags=tags))
        if not requests:
            return dg.SkipReason(" ".join(reasons) or "No validation is due.")
        return dg.SensorResult(run_requests=requests)

    return sensor


def _most_urgent(found: Sequence[BurnIn], now: datetime) -> BurnIn | None:
    """One validation is one for all policies of the system."""
    due = [one for one in found if one.due_at is not None and one.due_at <= now]
    return min(due, key=lambda one: one.due_at or now, default=None)
