"""The assets of a day, a week and a month, and the schedules that ask for the one before (S1-29 to S1-31, S1-43)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from maintenance_defs.components.maintained_system import system_definitions
from maintenance_defs.components.pages import partition_before
from maintenance_defs.components.triggers import schedule_definition
from maintenance_defs.core.declaration import System
from maintenance_defs.core.triggers import Schedule
from tests.components.conftest import Club, Run


def test_a_month_is_told_on_its_partition(
    run: Run, club: Club, papers: System, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert run().success
    bound = dg.Definitions.merge(system_definitions(papers, tmp_path), dg.Definitions(resources={"home": club.home}))
    job = bound.resolve_job_def("papers_monthly_report")
    month = f"{datetime.now(UTC):%Y-%m}"
    result = job.execute_in_process(instance=instance, partition_key=month)
    [made] = result.get_asset_materialization_events()
    said = made.materialization.metadata
    assert made.materialization.partition == month
    assert "Reconciled 1 time, 1 complete." in str(said["summary"].value)
    assert (said["by_hand"].value, said["checks_failed"].value) == (0, 1)  # `untitled` found one
    assert "cost" not in said


def test_a_day_and_a_week_are_told_on_their_partitions(
    run: Run, club: Club, papers: System, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert run().success
    bound = dg.Definitions.merge(system_definitions(papers, tmp_path), dg.Definitions(resources={"home": club.home}))
    today = datetime.now(UTC)
    for name, partition in (
        ("daily_report", f"{today:%Y-%m-%d}"),
        ("weekly_report", f"{today - timedelta(days=today.weekday()):%Y-%m-%d}"),
    ):
        job = bound.resolve_job_def(f"papers_{name}")
        [made] = job.execute_in_process(instance=instance, partition_key=partition).get_asset_materialization_events()
        said = made.materialization.metadata
        assert "reconciliation: 1 run, none failed" in str(said["summary"].value)
        assert (said["orphans"].value, said["runs_failed"].value, said["success_percent"].value) == (2, 0, 100.0)


@pytest.mark.parametrize(
    ("run_", "day", "partition"),
    [
        ("monthly_report", (2025, 11, 1), "2025-10"),
        ("monthly_report", (2026, 1, 31), "2025-12"),
        ("daily_report", (2026, 3, 1), "2026-02-28"),
        ("weekly_report", (2025, 10, 20), "2025-10-13"),
        ("weekly_report", (2025, 10, 26), "2025-10-13"),
    ],
)
def test_a_tick_asks_for_the_one_that_is_over(
    club: Club, papers: System, tmp_path: Path, run_: str, day: tuple[int, int, int], partition: str
) -> None:
    tick = datetime(*day, 7, tzinfo=UTC)
    assert partition_before(run_, tick) == partition
    declared = Schedule.model_validate({"system": "papers", "run": run_, "cron": "0 7 1 * *"})
    schedule = schedule_definition(declared, "0 7 1 * *")
    more = dg.Definitions(schedules=[schedule], resources={"home": club.home})
    bound = dg.Definitions.merge(system_definitions(papers, tmp_path), more)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=tick, repository_def=bound.get_repository_def()
        )
        data = schedule.evaluate_tick(context)
    [request] = data.run_requests or ()
    assert (request.partition_key, request.run_key) == (partition, f"papers_{run_}:{partition}")
