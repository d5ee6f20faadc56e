"""A deployment with two archives of one PostgreSQL database: months of logs, and notes in a plain table."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from maintenance_defs.components.archive_assets import month_partitions
from maintenance_defs.components.maintained_system import system_definitions
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.declarations import load_systems
from tests.components.conftest import write
from tests.support import months

DIARY = """\
type: maintenance_defs.components.MaintainedSystem
attributes:
  name: diary
  owners: ["team:club"]
  kinds: [postgres]
  database: {url_env: DIARY_DATABASE_URL}
  stores:
    cold:
      url_env: DIARY_COLD_URL
      scopes:
        - {prefix: logs/, class: archive, exclusive: true}
        - {prefix: notes/, class: archive, exclusive: true}
  archives:
    logs:
      describe: Lines of jobs, once they are cold.
      table: public.logs
      time: at
      lookup: job
      store: cold
      path: "logs/{month}/"
      layout: shared
      hot: 30 d
      keep: forever
      undo_window: 0 d
      months_ahead: 2
    notes:
      describe: Notes that nobody reads any more.
      table: public.notes
      time: at
      store: cold
      path: "notes/{month}/"
      layout: shared
      hot: 30 d
      keep: forever
"""
NOTES = """
CREATE TABLE public.notes (id bigint PRIMARY KEY, at timestamptz NOT NULL, line text);
INSERT INTO public.notes SELECT n, timestamptz '2024-05-03 00:00+00' + n * interval '1 day', 'note ' || n
  FROM generate_series(1, 9) n
"""
Result = dg.ExecuteInProcessResult


@dataclass
class Diary:
    """Its assets and jobs run in process. url: of a database of its own, with the given months of 2024."""

    folder: Path
    url: str
    instance: dg.DagsterInstance
    text: str = DIARY
    numbers: tuple[int, ...] = (1, 2)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        months.months(self.url, *self.numbers)
        months.execute(self.url, NOTES)
        (self.folder / "cold").mkdir(parents=True)
        self.environment = {
            "DIARY_DATABASE_URL": self.url,
            "DIARY_COLD_URL": str(self.folder / "cold"),
            "MAINTENANCE_HOME": str(self.folder / "home"),
        } | self.environment
        self.system: System = load_systems(
            write(self.folder / "deployment", {"assets/diary/defs.yaml": self.text}), self.environment
        )["diary"].system
        self.definitions = system_definitions(self.system, self.folder)
        self.home = Home.open(self.environment)

    def beside(self, instance: dg.DagsterInstance) -> Diary:
        """The same deployment seen by another process: its own home object, its own instance."""
        other = copy(self)
        other.instance, other.home = instance, Home.open(self.environment)
        return other

    def job(self, name: str) -> Result:
        bound = dg.Definitions.merge(self.definitions, dg.Definitions(resources={"home": self.home}))
        return bound.resolve_job_def(name).execute_in_process(instance=self.instance, raise_on_error=False)

    def asset(self, name: str, config: dict[str, Any] | None = None, partition: str | None = None) -> Result:
        return dg.materialize(
            list(self.definitions.assets or ()),  # type: ignore[arg-type]
            resources={"home": self.home}, instance=self.instance, raise_on_error=False,
            selection=[dg.AssetKey([self.system.name, name])], partition_key=partition,
            run_config={"ops": {f"{self.system.name}__{name}": {"config": config}}} if config else None,
        )  # fmt: skip

    def month(self, label: str, archive: str = "logs") -> Result:
        """Export one month, chosen by hand."""
        listed = str(month_partitions(self.system, archive).name)
        self.instance.add_dynamic_partitions(listed, [label])
        return self.asset(f"{archive}_archive", partition=label)

    def plan(self, archive: str = "logs", only: str = "removal") -> PlanRow:
        plans = self.home.control.retention.plans(self.system.name, archive)
        return next(plan for plan in plans if plan.totals["only"] == only)

    def approve(self, archive: str = "logs", only: str = "removal", **other: Any) -> Result:
        plan = self.plan(archive, only)
        consent = {"digest": plan.short_digest, "count": plan.units, "actor": "ada", "reason": "T-1"} | other
        return self.asset(f"{archive}_approval", consent, plan.id)

    def states(self, archive: str = "logs") -> dict[str, str]:
        return {unit.label: unit.state for unit in self.home.control.archive.units(self.system.name, archive)}

    def files(self) -> list[str]:
        cold = self.folder / "cold"
        return sorted(file.parent.relative_to(cold).as_posix() for file in cold.rglob("*.parquet"))

    def listed(self, archive: str = "logs") -> list[str]:
        return sorted(self.instance.get_dynamic_partitions(str(month_partitions(self.system, archive).name)))

    def count(self, sql: str) -> Any:
        return months.one(self.url, sql)


Make = Callable[..., Diary]
