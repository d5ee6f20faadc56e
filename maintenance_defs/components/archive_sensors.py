"""The sensor over cold months: it offers them as partitions, and starts the export of each, once.

It reads the catalog of the database and our control database, no rows; `run_key` names the rows of the month, so
that a month is started once for them, and again when late rows make another part.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import dagster as dg

from maintenance_defs.archive.cycle import obstacle
from maintenance_defs.archive.units.months import ColdMonth, cold_months, how_to_retry, month_state, months_on_offer
from maintenance_defs.components.archive_assets import month_partitions
from maintenance_defs.components.sensors import CAUSE_TAG, SLACK_SECONDS
from maintenance_defs.components.steps import TAG
from maintenance_defs.control.home import Home
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.triggers import ColdMonths


def cold_months_sensor(
    declared: Sequence[ColdMonths], systems: Mapping[str, System], clock: Callable[[], datetime] = utc_now
) -> dg.SensorDefinition:
    """Starts `<archive>_archive` of every month that is cold and in no proven file.

    An archive that is off, or a month that stopped, is told and not started; one archive that cannot be asked does
    not keep the others from being started.
    """
    archives = [(one, name) for one in declared for name in one.archive or systems[one.system].archives]
    keys = [dg.AssetKey([one.system, f"{name}_archive"]) for one, name in archives]

    @dg.sensor(
        name="cold_months",
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=max(1, int(min(one.every for one in declared).total_seconds())),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Exports months that became cold: "
        + ", ".join(f"{one.system}/{name}" for one, name in archives)
        + ".",
    )
    def sensor(context: dg.SensorEvaluationContext, home: dg.ResourceParam[Home]) -> dg.SensorResult:
        looked: dict[str, float] = json.loads(context.cursor) if context.cursor else {}
        kept, now = {}, clock()
        requests: list[dg.RunRequest] = []
        offered, reasons = [], []
        for one, name in archives:
            who = f"{one.system}/{name}"
            last = looked.get(who)
            due = last is None or not 0 <= now.timestamp() - last < one.every.total_seconds() - SLACK_SECONDS
            kept[who] = now.timestamp() if due or last is None else last
            if not due:
                continue
            system = systems[one.system]
            try:
                if stop := obstacle(system, name, home):
                    reasons.append(stop[1])
                    continue
                cold = cold_months(system, name, home, now)
            except MaintenanceError as error:
                reasons.append(f"{who} could not be asked: {error}")
                continue
            listed = month_partitions(system, name)
            known = set(context.instance.get_dynamic_partitions(str(listed.name)))
            new = [label for label in months_on_offer(system, name, home, cold) if label not in known]
            offered += [listed.build_add_request(new)] if new else []
            for month in cold:
                stopped = month_state(system, name, home, month.label).stopped
                if stopped is None:
                    requests.append(_export(system, name, month))
                else:
                    again = how_to_retry(system, name, month.label)
                    reasons.append(f"{who} {month.label} stopped: {stopped.message} Try again: {again}")
        for reason in reasons:
            context.log.warning(reason)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else dg.SkipReason(" ".join(reasons) or "No month became cold."),
            dynamic_partitions_requests=offered,
            cursor=json.dumps(kept),
        )

    return sensor


def _export(system: System, name: str, month: ColdMonth) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{system.name}/{name}/{month.cause}",
        asset_selection=[dg.AssetKey([system.name, f"{name}_archive"])],
        partition_key=month.label,
        tags={TAG: system.name, CAUSE_TAG: f"{name} {month.label} became cold"},
    )
