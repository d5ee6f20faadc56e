"""The asset of a month, and the schedule that asks for the month before (S1-31, S1-43)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from maintenance_defs.components.maintained_system import system_definitions
from maintenance_defs.components.monthly import month_before
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


@pytest.mark.parametrize(("day", "month"), [((2025, 11, 1), "2025-10"), ((2026, 1, 31), "2025-12")])
def test_a_tick_asks_for_the_month_that_is_over(
    club: Club, papers: System, tmp_path: Path, day: tuple[int, int, int], month: str
) -> None:
    tick = datetime(*day, 7, tzinfo=UTC)
    assert month_before(tick) == month
    schedule = schedule_definition(Schedule(system="papers", run="monthly_report", cron="0 7 1 * *"), "0 7 1 * *")
    more = dg.Definitions(schedules=[schedule], resources={"home": club.home})
    bound = dg.Definitions.merge(system_definitions(papers, tmp_path), more)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=tick, repository_def=bound.get_repository_def()
        )
        data = schedule.evaluate_tick(context)
    [request] = data.run_requests or ()
    assert (request.partition_key, request.run_key) == (month, f"papers_monthly_report:{month}")
