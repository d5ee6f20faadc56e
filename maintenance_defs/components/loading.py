"""From the declared folders to one set of Dagster definitions."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
from croniter import croniter

from maintenance_defs.components.alerts import alert_sensors
from maintenance_defs.components.archive_assets import archive_names, automatic_names
from maintenance_defs.components.archive_sensors import cold_months_sensor
from maintenance_defs.components.archive_upkeep import is_made_ahead
from maintenance_defs.components.burn_in import burn_in_sensor
from maintenance_defs.components.retention_assets import RECONCILED, cycle_job
from maintenance_defs.components.retention_sensors import approved_plans, backlog
from maintenance_defs.components.sensors import Job, requested_reconciliations, row_changes
from maintenance_defs.components.steps import job_name
from maintenance_defs.components.triggers import schedule_definition
from maintenance_defs.core.declaration import System
from maintenance_defs.core.triggers import (
    ApprovedPlans,
    Backlog,
    BurnIn,
    ColdMonths,
    HttpRequest,
    RowSensor,
    Schedule,
    Trigger,
)
from maintenance_defs.declarations import ASSETS, SENSORS, AnyTrigger, load_systems, load_triggers

ORIGIN = "dagster/component_origin"  # the UI shows it on every page, with "Invalid Date"; the source link stays
TICKS = 400  # enough to meet the longest pause of a weekly or monthly schedule
LATE, LOST = 1.25, 2.0  # of the longest pause: one run is overdue, a whole one is missing


def deployment(root: Path) -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors of root/assets and root/sensors, without resources.

    Raises DeclarationError with everything that is wrong, before Dagster reads the same files.
    """
    systems = load_systems(root)
    declared_systems = {name: loaded.system for name, loaded in systems.items()}
    triggers = [loaded.trigger for loaded in load_triggers(root, systems)]
    declared = load_folders(root, ASSETS, SENSORS)
    shared = {
        job_name(t.system, t.starts): cycle_job(declared_systems[t.system], job_name(t.system, t.starts), [*t.policy])
        for t in triggers
        if isinstance(t, Trigger) and t.name is not None
    }
    jobs = {job.name: job for job in [*(declared.jobs or ()), *shared.values()]}
    schedules = _preset_schedules(triggers, declared_systems)
    sensors = list(_sensors(triggers, declared_systems, jobs))
    fresh = _freshness([t for t in triggers if isinstance(t, Schedule) and t.running], declared_systems)

    def finished(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = fresh.get(spec.key)
        spec = spec if policy is None else spec.replace_attributes(freshness_policy=policy)
        return spec.replace_attributes(metadata={key: said for key, said in spec.metadata.items() if key != ORIGIN})

    more = dg.Definitions(jobs=list(shared.values()), schedules=schedules, sensors=sensors)
    return dg.Definitions.merge(declared, more).map_asset_specs(func=finished)


def _preset_schedules(triggers: Sequence[AnyTrigger], systems: Mapping[str, System]) -> list[dg.ScheduleDefinition]:
    found = []
    for trigger in triggers:
        if isinstance(trigger, Schedule) and trigger.cron_preset is not None:
            cron = trigger.effective_cron(os.environ, datetime.now(UTC), systems[trigger.system])
            found += [schedule_definition(trigger, cron)] if cron else []
    return found


def _sensors(
    triggers: Sequence[AnyTrigger], systems: Mapping[str, System], jobs: Mapping[str, Job]
) -> Iterator[dg.SensorDefinition]:
    """One for every kind of trigger that is declared."""

    def of(causes: Sequence[Trigger]) -> list[Job]:
        return [jobs[name] for name in sorted({job_name(cause.system, cause.starts) for cause in causes})]

    if rows := [trigger for trigger in triggers if isinstance(trigger, RowSensor) and trigger.running]:
        yield row_changes(rows, systems, of(rows))
    if http := [trigger for trigger in triggers if isinstance(trigger, HttpRequest)]:
        yield requested_reconciliations([trigger.system for trigger in http], of(http))
    if waiting := [trigger for trigger in triggers if isinstance(trigger, Backlog) and trigger.running]:
        yield backlog(waiting, systems, of(waiting))
    if new := [trigger for trigger in triggers if isinstance(trigger, BurnIn) and trigger.running]:
        yield burn_in_sensor(new, systems, of(new))
    if approved := [trigger for trigger in triggers if isinstance(trigger, ApprovedPlans) and trigger.running]:
        yield approved_plans(approved, systems)
    if cold := [trigger for trigger in triggers if isinstance(trigger, ColdMonths) and trigger.running]:
        yield cold_months_sensor(cold, systems)
    yield from alert_sensors(systems)


def load_folders(root: Path, *folders: str) -> dg.Definitions:
    """Everything that components and Python files below the folders define."""
    parts = []
    for folder in folders:
        if (root / folder).is_dir():
            tree = dg.ComponentTree.from_module(_package(folder, root / folder), root)
            # The folder, not the tree's root: several trees merge, and no installed package is scanned.
            parts.append(tree.build_defs(root / folder))
    return dg.Definitions.merge(*parts)


def _package(name: str, path: Path) -> ModuleType:
    """The folder as a namespace package, importable although it is neither installed nor on sys.path."""
    module = sys.modules.get(name)
    if module is None or list(getattr(module, "__path__", []))[:1] != [str(path)]:
        spec = ModuleSpec(name, loader=None, is_package=True)
        spec.submodule_search_locations = [str(path)]
        module = sys.modules[name] = module_from_spec(spec)
    return module


def _freshness(schedules: Sequence[Schedule], systems: Mapping[str, System]) -> dict[dg.AssetKey, Any]:
    """Asset -> how old its answer may get: late after its schedule's longest pause, lost after two (S1-32)."""
    policies: dict[dg.AssetKey, Any] = {}
    for schedule in schedules:
        cron = schedule.effective_cron(os.environ, datetime.now(UTC), systems[schedule.system])
        if cron is None:
            continue
        pause = longest_pause(cron, schedule.timezone)
        policy = dg.FreshnessPolicy.time_window(fail_window=pause * LOST, warn_window=pause * LATE)
        steps = {"reconciliation": list(RECONCILED), "growth": ["growth"]}.get(schedule.run or "", [])
        for name in schedule.policy:
            automatic = systems[schedule.system].retention[name].mode == "automatic"
            steps += [f"{name}_plan", *([f"{name}_deletion"] if automatic else [])]
        steps += _archive_steps(schedule, systems[schedule.system])
        policies |= {dg.AssetKey([schedule.system, step]): policy for step in steps}
    return policies


def _archive_steps(schedule: Schedule, system: System) -> list[str]:
    """The assets that a schedule of archives materialises each time."""
    if schedule.run == "archive_ahead":
        return [f"{name}_ahead" for name in system.archives if is_made_ahead(system, name)]
    if schedule.run == "archive_drill":
        return [f"{name}_drill" for name in system.archives]
    if schedule.run != "archive":
        return []
    plans = [f"{name}_plan" for name in archive_names(system)]
    return plans + [f"{name}_{step}" for name in automatic_names(system) for step in ("removal", "expiry")]


def longest_pause(cron: str, timezone: str = "UTC") -> timedelta:
    """The longest time between two ticks: three days for '0 3 * * 1-5', over the weekend."""
    ticks = croniter(cron, datetime(2026, 1, 1, tzinfo=ZoneInfo(timezone)))
    times = [ticks.get_next(datetime).astimezone(UTC) for _ in range(TICKS)]
    return max(later - earlier for earlier, later in pairwise(times))
