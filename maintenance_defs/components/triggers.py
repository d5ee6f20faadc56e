"""Triggers as YAML components. A schedule is one per declaration; the sensors are one per kind (sensors.py)."""

import os
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from maintenance_defs.components.declared import Declared, Example
from maintenance_defs.components.pages import partition_before
from maintenance_defs.components.sensors import still_running
from maintenance_defs.components.steps import TAG, job_name
from maintenance_defs.core import triggers

DOES = {
    "reconciliation": "Starts the reconciliation of {}",
    "growth": "Measures how the stores and tables grow of {}",
    "restore_drill": "Tries whether what was quarantined from {} can be given back",
    "daily_report": "Writes the report of the day that is over, of {},",
    "weekly_report": "Writes the report of the week that is over, of {},",
    "monthly_report": "Writes the report of the month that is over, of {},",
    "archive": "Plans what of the archives of {} may leave, and carries out what is automatic,",
    "archive_ahead": "Makes the partitions of the months to come of {}",
    "archive_drill": "Tries whether what was archived of {} can be read and restored",
}


class ScheduleExample(Example):
    attributes = """\
  system: shop
  run: reconciliation            # growth, restore_drill, daily_report, archive, …; or policy: NAME
  cron: "30 2 * * *"             # minute, hour, day, month, weekday
  # cron_preset: cleanup         # instead of cron: what the system's chosen preset says
  # cron_env: SHOP_SCHEDULE      # a variable that overrides it; 'off' means no schedule
  # timezone: Europe/Warsaw      # UTC where absent
  # running: false               # wait until a person starts it in the UI
"""


class RowSensorExample(Example):
    attributes = """\
  system: shop
  run: reconciliation
  watch:
    table: public.orders
    where: state = 'shipped'     # optional; plain SQL of the database
    cursor: [updated_at, id]     # a column that only grows, and the row's id
    # says: order {id} was shipped
  every: 5 min                   # how often to look; 60 s where absent
"""


class HttpRequestExample(Example):
    attributes = """\
  system: shop                   # `maintain serve` answers for it
  run: reconciliation
"""


class BacklogExample(Example):
    attributes = """\
  system: shop
  policy: unsold_pictures
  above: 1000                    # units that the last plan left undone
  # every: 5 min                 # how often to look
"""


class BurnInExample(Example):
    attributes = """\
  system: shop                   # validated often in the first week of each of its policies
"""


class ApprovedPlansExample(Example):
    attributes = """\
  system: shop                   # its plans are executed soon after somebody approved them
  # policy: [unsold_pictures]    # only these
"""


class ColdMonthsExample(Example):
    attributes = """\
  system: shop                   # its months are exported and proven once they are cold; nothing leaves
  # archive: [order_log]         # only these
  # every: 1 h                   # how often to look
"""


@dg.scaffold_with(ScheduleExample)
class Schedule(Declared[triggers.Schedule]):
    """Starts a reconciliation, a drill, cycles of policies or archives by the clock, in a named time zone."""

    model = triggers.Schedule

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        if self.declared.cron_preset is not None:
            return dg.Definitions()  # its system says when: built where all systems are known (loading.py)
        cron = self.declared.effective_cron(os.environ, datetime.now(UTC))
        return dg.Definitions(schedules=[schedule_definition(self.declared, cron)] if cron else [])


def schedule_definition(declared: triggers.Schedule, cron: str) -> dg.ScheduleDefinition:
    """A schedule that holds. A cycle is not started while the one before is still running (A1-8)."""
    job = job_name(declared.system, declared.starts)
    cycles = bool(declared.policy) or declared.run in triggers.ARCHIVE_RUNS
    what = f"Runs {', '.join(declared.policy)} of {{}}" if declared.policy else DOES[declared.starts]
    by = declared.cron_env or (f"{declared.cron_preset} of the chosen preset" if declared.cron_preset else "")

    def cycle(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        why = still_running(context.instance, declared)
        return dg.SkipReason(why) if why else dg.RunRequest(tags={TAG: declared.system})

    def page(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        over = partition_before(declared.starts, context.scheduled_execution_time)
        return dg.RunRequest(run_key=f"{job}:{over}", partition_key=over, tags={TAG: declared.system})

    if declared.run in triggers.REPORTS:
        how: dict[str, Any] = {"execution_fn": page}
    else:
        how = {"execution_fn": cycle} if cycles else {"tags": {TAG: declared.system}}
    return dg.ScheduleDefinition(
        name=f"{job}_schedule",
        job_name=job,
        cron_schedule=cron,
        execution_timezone=declared.timezone,
        description=f"{what.format(declared.system)} by the clock" + (f"; {by} decides when." if by else "."),
        default_status=dg.DefaultScheduleStatus.RUNNING if declared.running else dg.DefaultScheduleStatus.STOPPED,
        **how,
    )


@dg.scaffold_with(RowSensorExample)
class RowSensor(Declared[triggers.RowSensor]):
    """Starts a reconciliation or cycles of policies when rows are new or have changed."""

    model = triggers.RowSensor

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions()  # all of them are one sensor, `row_changes`


@dg.scaffold_with(HttpRequestExample)
class HttpRequest(Declared[triggers.HttpRequest]):
    """Starts a reconciliation when `maintain serve` is asked for it."""

    model = triggers.HttpRequest

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions()  # all of them are one sensor, `requested_reconciliations`


@dg.scaffold_with(BacklogExample)
class Backlog(Declared[triggers.Backlog]):
    """Starts a cycle of policies when the last plan holds too much that was not done."""

    model = triggers.Backlog

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions()  # all of them are one sensor, `backlog`


@dg.scaffold_with(BurnInExample)
class BurnIn(Declared[triggers.BurnIn]):
    """Reconciles a system after each cycle, then 2-hourly, then daily in the first week of a policy that acts."""

    model = triggers.BurnIn

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions()  # all of them are one sensor, `burn_in`


@dg.scaffold_with(ApprovedPlansExample)
class ApprovedPlans(Declared[triggers.ApprovedPlans]):
    """Starts what a plan of a policy or an archive says once a person approved it."""

    model = triggers.ApprovedPlans

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions()  # all of them are one sensor, `approved_plans`


@dg.scaffold_with(ColdMonthsExample)
class ColdMonths(Declared[triggers.ColdMonths]):
    """Starts the export of a month of an archive once it is cold."""

    model = triggers.ColdMonths

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions()  # all of them are one sensor, `cold_months`
