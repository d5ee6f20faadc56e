"""What starts a cycle or a deletion: once each, never beside another, and it says why not."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from maintenance_defs.components.loading import deployment
from maintenance_defs.components.retention_sensors import approved_plans, backlog
from maintenance_defs.components.sensors import CAUSE_TAG, row_changes
from maintenance_defs.components.steps import TAG
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.triggers import ApprovedPlans, Backlog, RowSensor, Schedule
from maintenance_defs.declarations import load_systems, load_triggers
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.retention.planning import take_plan
from tests.components.conftest import PAPERS, Club, write
from tests.components.test_retention_assets import POLICIES, Room

TRIGGERS = """\
type: maintenance_defs.components.RowSensor
attributes:
  system: papers
  policy: loose
  watch: {table: docs, cursor: [changed_at, id], says: "new paper {key} ({id})"}
---
type: maintenance_defs.components.Schedule
attributes: {system: papers, policy: [unread, loose], name: cleanup, cron_preset: cleanup}
---
type: maintenance_defs.components.Backlog
attributes: {system: papers, policy: [unread, loose], name: cleanup, above: 1}
---
type: maintenance_defs.components.ApprovedPlans
attributes: {system: papers}
"""
TIMED = POLICIES.replace("unread: 180 s", 'unread: 180 s, cleanup: "*/3 * * * *"').replace(
    "unread: 30 d", 'unread: 30 d, cleanup: "0 * * * *"'
)


class Sensors(Room):
    """The same room, whose triggers are ticked by hand."""

    def __init__(self, club: Club, instance: dg.DagsterInstance, folder: Path) -> None:
        super().__init__(club, instance, folder, PAPERS + TIMED)
        write(folder, {"sensors/papers/defs.yaml": TRIGGERS})
        self.folder = folder
        self.now = datetime.now(UTC)
        self.cursor: str | None = None

    def declared(self, kind: type[Any]) -> Any:
        found = load_triggers(self.folder, load_systems(self.folder), self.club.environment)
        return next(loaded.trigger for loaded in found if isinstance(loaded.trigger, kind))

    def tick(self, kind: type[Any]) -> tuple[list[dg.RunRequest], str]:
        """(requests, why nothing was started)."""
        systems, jobs = {"papers": self.system}, list(self.room_jobs())
        self.now += timedelta(minutes=2)
        one = self.declared(kind)
        sensor = {
            RowSensor: lambda: row_changes([one], systems, jobs, clock=self.now.timestamp),
            Backlog: lambda: backlog([one], systems, jobs, clock=lambda: self.now),
            ApprovedPlans: lambda: approved_plans([one], systems, clock=lambda: self.now),
        }[kind]()
        location = dg.Definitions.merge(self.declared_defs(), dg.Definitions(resources={"home": self.club.home}))
        context = dg.build_sensor_context(
            self.instance, self.cursor, resources={"home": self.club.home},
            repository_def=location.get_repository_def(),
        )  # fmt: skip
        data = sensor.evaluate_tick(context)
        if kind is RowSensor:
            self.cursor = data.cursor
        assert all(request.tags[TAG] == "papers" for request in data.run_requests or ())
        return list(data.run_requests or ()), data.skip_message or ""

    def declared_defs(self) -> dg.Definitions:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.club.environment.items():
                patch.setenv(name, value)
            return deployment(self.folder)

    def room_jobs(self) -> Any:
        return self.declared_defs().jobs or ()

    def make_plan(self, policy: str) -> PlanRow:
        reconcile(self.system, self.club.home)
        return take_plan(self.system, policy, self.club.home, run_id=uuid.uuid4().hex)


@pytest.fixture
def room(club: Club, instance: dg.DagsterInstance, tmp_path: Path) -> Sensors:
    return Sensors(club, instance, tmp_path / "ticked")


def running(room: Sensors, job: str) -> None:
    create_run_for_test(room.instance, job_name=job, status=dg.DagsterRunStatus.STARTED)


def test_new_rows_start_one_cycle_and_say_which(room: Sensors, club: Club) -> None:  # A0-9, S0-30
    assert room.tick(RowSensor)[0] == []
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-02')")
    club.sql("INSERT INTO docs VALUES (12, 'docs/12.pdf', 'T', '2023-01-02')")
    [request], _ = room.tick(RowSensor)
    assert (request.job_name, request.tags[CAUSE_TAG]) == ("papers_loose", "new paper docs/12.pdf (12)")
    assert [room.tick(RowSensor)[0] for _ in range(2)] == [[], []]


def test_a_cycle_that_is_still_running_is_waited_for_and_the_news_is_kept(room: Sensors, club: Club) -> None:  # A1-8
    room.tick(RowSensor)
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-02')")
    running(room, "papers_loose")
    requests, why = room.tick(RowSensor)
    assert requests == []
    assert why.startswith("The previous cycle of papers_loose is still running (run ")
    [run] = room.instance.get_runs()
    room.instance.report_run_canceled(run)
    assert len(room.tick(RowSensor)[0]) == 1


def test_a_schedule_skips_while_the_previous_cycle_runs(room: Sensors) -> None:  # A1-8
    [schedule] = room.declared_defs().schedules or ()
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.cron_schedule == "0 * * * *"  # S1-4

    with dg.instance_for_test() as instance:

        def tick() -> Any:
            return schedule.evaluate_tick(dg.build_schedule_context(instance))

        assert [request.tags[TAG] for request in tick().run_requests] == ["papers"]
        create_run_for_test(instance, job_name="papers_cleanup", status=dg.DagsterRunStatus.STARTED)
        assert not tick().run_requests
        assert "papers_cleanup is still running" in tick().skip_message


def test_the_schedule_is_that_of_the_chosen_preset(room: Sensors) -> None:  # S1-2
    schedule = room.declared(Schedule)
    assert schedule.effective_cron({"PAPERS_PRESET": "testing"}, datetime.now(UTC), room.system) == "*/3 * * * *"


def test_one_run_is_one_cycle_of_several_policies(room: Sensors) -> None:  # S1-7
    location = dg.Definitions.merge(room.declared_defs(), dg.Definitions(resources={"home": room.club.home}))
    job = location.resolve_job_def("papers_cleanup")
    result = job.execute_in_process(instance=room.instance)
    assert result.success
    made = {event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key}
    assert made == {"inventory", "references", "orphan_diff", "unread_plan", "loose_plan"}


def test_a_backlog_starts_a_cycle_only_where_it_would_be_done(room: Sensors, club: Club) -> None:  # S1-24
    assert room.tick(Backlog) == ([], "No backlog is too large.")
    plan = room.make_plan("loose")
    requests, why = room.tick(Backlog)
    assert requests == []
    assert "standing approval" in why
    club.home.control.retention.standing_approve("papers", "loose", plan.config_digest, "ada", "T-1")
    [request], _ = room.tick(Backlog)
    assert (request.job_name, request.run_key) == ("papers_cleanup", f"backlog-{plan.id}")
    assert request.tags[CAUSE_TAG] == "2 units of loose wait, more than 1"
    running(room, "papers_cleanup")
    assert "still running" in room.tick(Backlog)[1]


def test_an_approval_by_the_command_starts_the_deletion_once(room: Sensors, club: Club) -> None:
    plan = room.make_plan("unread")
    assert room.tick(ApprovedPlans) == ([], "No approved plan waits.")
    retention = club.home.control.retention
    retention.approve(plan.id, plan.digest, plan.units, "ada", "T-1", expires_at=plan.expires_at)
    [request], _ = room.tick(ApprovedPlans)
    assert request.run_key == f"execute-{plan.id}"  # Dagster starts a key once
    [key] = request.asset_selection or ()
    result = room.asset(key.path[-1], request.run_config["ops"]["papers__unread_deletion"]["config"])
    assert result.success
    assert retention.plan(plan.id).state == "done"
    assert room.tick(ApprovedPlans)[0] == []


def test_an_approved_plan_of_a_paused_policy_waits(room: Sensors, club: Club) -> None:
    plan = room.make_plan("unread")
    retention = club.home.control.retention
    retention.approve(plan.id, plan.digest, plan.units, "ada", "T-1", expires_at=plan.expires_at)
    retention.pause("papers", None, "bob", "moving house")
    requests, why = room.tick(ApprovedPlans)
    assert requests == []
    assert "bob: moving house" in why


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("policy: loose", "policy: lose", "has no policy 'lose' (sensors/papers/defs.yaml:4). Did you mean 'loose'?"),
        ("policy: loose", "run: reconciliation\n  policy: loose", "say what is started"),
        ("name: cleanup, cron_preset", "cron_preset", "several policies, and only they, need a name"),
        ("cron_preset: cleanup", "cron_preset: unread", "presets.testing.unread of papers: '180 s' is not a cron"),
        ("cron_preset: cleanup", "cron_preset: tidy", "has no 'tidy'"),
        ("name: cleanup, cron", "name: loose, cron", "'loose' is taken by another job of papers"),
        ("above: 1", "above: -1", "above"),
        ("({id})", "({id)", "has a brace"),
    ],
)
def test_wrong_triggers_are_named_with_file_and_line(room: Sensors, old: str, new: str, said: str) -> None:
    write(room.folder, {"sensors/papers/defs.yaml": TRIGGERS.replace(old, new, 1)})
    with pytest.raises(Exception, match=r"sensors/papers/defs.yaml:\d+") as error:
        load_triggers(room.folder)
    assert said in str(error.value)
