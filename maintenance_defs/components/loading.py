"""From the declared folders to one set of Dagster definitions."""

import os
import sys
from collections.abc import Sequence
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

from maintenance_defs.components.maintained_system import job_name
from maintenance_defs.components.sensors import Job, requested_reconciliations, row_changes
from maintenance_defs.core.triggers import HttpRequest, RowSensor, Schedule
from maintenance_defs.declarations import ASSETS, SENSORS, load_systems, load_triggers

TICKS = 400  # enough to meet the longest pause of a weekly or monthly schedule
LATE, LOST = 1.25, 2.0  # of the longest pause: one run is overdue, a whole one is missing


def deployment(root: Path) -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors of root/assets and root/sensors, without resources.

    Raises DeclarationError with everything that is wrong, before Dagster reads the same files.
    """
    systems = load_systems(root)
    triggers = [loaded.trigger for loaded in load_triggers(root, systems)]
    declared = load_folders(root, ASSETS, SENSORS)
    jobs = {job.name: job for job in declared.jobs or ()}

    def of(causes: Sequence[RowSensor] | Sequence[HttpRequest]) -> list[Job]:
        return [jobs[name] for name in sorted({job_name(cause.system, cause.run) for cause in causes})]

    sensors = []
    rows = [trigger for trigger in triggers if isinstance(trigger, RowSensor) and trigger.running]
    if rows:
        sensors.append(row_changes(rows, {name: loaded.system for name, loaded in systems.items()}, of(rows)))
    http = [trigger for trigger in triggers if isinstance(trigger, HttpRequest)]
    if http:
        sensors.append(requested_reconciliations([trigger.system for trigger in http], of(http)))
    policies = _freshness([t for t in triggers if isinstance(t, Schedule) and t.running])

    def fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = policies.get(spec.group_name or "")
        return spec if policy is None else spec.replace_attributes(freshness_policy=policy)

    return dg.Definitions.merge(declared, dg.Definitions(sensors=sensors)).map_asset_specs(func=fresh)


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


def _freshness(schedules: Sequence[Schedule]) -> dict[str, Any]:
    """System -> how old its answers may get: late after its schedule's longest pause, lost after two."""
    policies = {}
    for schedule in schedules:
        cron = schedule.effective_cron(os.environ)
        if cron is not None:
            pause = longest_pause(cron, schedule.timezone)
            policies[schedule.system] = dg.FreshnessPolicy.time_window(
                fail_window=pause * LOST, warn_window=pause * LATE
            )
    return policies


def longest_pause(cron: str, timezone: str = "UTC") -> timedelta:
    """The longest time between two ticks: three days for '0 3 * * 1-5', over the weekend."""
    ticks = croniter(cron, datetime(2026, 1, 1, tzinfo=ZoneInfo(timezone)))
    times = [ticks.get_next(datetime).astimezone(UTC) for _ in range(TICKS)]
    return max(later - earlier for earlier, later in pairwise(times))
