"""Triggers as YAML components. A schedule is one per declaration; the sensors are one per kind (sensors.py)."""

import os

import dagster as dg

from maintenance_defs.components.declared import Declared, Example
from maintenance_defs.components.maintained_system import TAG, job_name
from maintenance_defs.core import triggers


class ScheduleExample(Example):
    attributes = """\
  system: shop
  run: reconciliation
  cron: "30 2 * * *"             # minute, hour, day, month, weekday
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
  every: 5 min                   # how often to look; 60 s where absent
"""


class HttpRequestExample(Example):
    attributes = """\
  system: shop                   # `maintain serve` answers for it
  run: reconciliation
"""


@dg.scaffold_with(ScheduleExample)
class Schedule(Declared[triggers.Schedule]):
    """Starts a reconciliation by the clock, in a named time zone."""

    model = triggers.Schedule

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        declared = self.declared
        cron = declared.effective_cron(os.environ)
        if cron is None:
            return dg.Definitions()
        job = job_name(declared.system, declared.run)
        schedule = dg.ScheduleDefinition(
            name=f"{job}_schedule",
            job_name=job,
            cron_schedule=cron,
            execution_timezone=declared.timezone,
            tags={TAG: declared.system},
            description=f"Reconciles {declared.system} by the clock"
            + (f"; {declared.cron_env} overrides when." if declared.cron_env else "."),
            default_status=dg.DefaultScheduleStatus.RUNNING if declared.running else dg.DefaultScheduleStatus.STOPPED,
        )
        return dg.Definitions(schedules=[schedule])


@dg.scaffold_with(RowSensorExample)
class RowSensor(Declared[triggers.RowSensor]):
    """Starts a reconciliation when rows are new or have changed."""

    model = triggers.RowSensor

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions()  # all of them are one sensor, `row_changes`


@dg.scaffold_with(HttpRequestExample)
class HttpRequest(Declared[triggers.HttpRequest]):
    """Starts a reconciliation when `maintain serve` is asked for it."""

    model = triggers.HttpRequest

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions()  # all of them are one sensor, `requested_reconciliations`
