"""What starts the export of a month and the execution of an archive's plan: once each, and it says why not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from maintenance_defs.components.archive_sensors import cold_months_sensor
from maintenance_defs.components.retention_sensors import approved_plans
from maintenance_defs.components.sensors import CAUSE_TAG
from maintenance_defs.components.steps import TAG
from maintenance_defs.core.triggers import ApprovedPlans, ColdMonths
from maintenance_defs.declarations import load_triggers
from maintenance_defs.reporting.alarms import alarms
from tests.components.archive_world import DIARY, Diary
from tests.components.conftest import write
from tests.support.months import execute, fill, month

TRIGGERS = """\
type: maintenance_defs.components.ColdMonths
attributes: {system: diary, every: 1 h}
---
type: maintenance_defs.components.Schedule
attributes: {system: diary, run: archive, cron: "0 4 * * *"}
---
type: maintenance_defs.components.ApprovedPlans
attributes: {system: diary, policy: logs}
"""


class Ticked(Diary):
    """The sensors are ticked by hand."""

    now = datetime(2026, 6, 1, tzinfo=UTC)
    cursor: str | None = None

    def tick(self, sensor: dg.SensorDefinition | None = None, after: timedelta = timedelta(hours=1)) -> object:
        self.now += after
        sensor = sensor or cold_months_sensor([ColdMonths(system="diary")], {"diary": self.system}, lambda: self.now)
        bound = dg.Definitions.merge(self.definitions, dg.Definitions(resources={"home": self.home}, sensors=[sensor]))
        context = dg.build_sensor_context(
            self.instance, self.cursor, resources={"home": self.home}, repository_def=bound.get_repository_def(),
            instance_ref=self.instance.get_ref(),
        )  # fmt: skip
        data = sensor.evaluate_tick(context)
        self.cursor = data.cursor
        for request in data.dynamic_partitions_requests or ():
            assert isinstance(request, dg.AddDynamicPartitionsRequest)
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        return data

    def started(self, after: timedelta = timedelta(hours=1)) -> tuple[list[tuple[str, str]], str]:
        """([(asset, month)], why nothing was started)."""
        data = self.tick(after=after)
        requests = list(data.run_requests or ())  # type: ignore[attr-defined]
        assert all(request.tags[TAG] == "diary" for request in requests)
        found = [(key.path[-1], r.partition_key or "") for r in requests for key in r.asset_selection or ()]
        return found, data.skip_message or ""  # type: ignore[attr-defined]


@pytest.fixture
def diary(pg_database: str, tmp_path: Path) -> Iterator[Ticked]:
    with dg.instance_for_test() as instance:  # of an ephemeral one, months of the same tick are not known yet
        yield Ticked(tmp_path / "diary", pg_database, instance)


def test_a_month_that_became_cold_is_exported_once(diary: Ticked) -> None:
    data = diary.tick()
    first, second = data.run_requests  # type: ignore[attr-defined]
    assert first.run_key.startswith("diary/logs/20240101T000000Z-20240201T000000Z-0-")
    assert (first.partition_key, first.tags[CAUSE_TAG]) == ("2024-01", "logs 2024-01 became cold")
    assert second.partition_key == "2024-02"
    assert diary.listed() == ["2024-01", "2024-02"]
    again = diary.tick().run_requests  # type: ignore[attr-defined]
    assert [request.run_key for request in again] == [first.run_key, second.run_key]  # Dagster starts a key once
    for label in ("2024-01", "2024-02"):
        assert diary.asset("logs_archive", partition=label).success
    assert diary.started() == ([], "No month became cold.")


def test_a_month_becomes_cold_when_the_whole_of_it_has_been_over_for_its_time(diary: Ticked) -> None:
    """E73: by the upper bound of the partition."""
    execute(diary.url, month(5), fill(5))
    hot = timedelta(days=30)
    diary.now = datetime(2024, 6, 1, tzinfo=UTC) + hot - timedelta(seconds=1)
    labels = [label for _, label in diary.started(timedelta(0))[0]]
    assert labels == ["2024-01", "2024-02"]
    diary.cursor = None
    labels = [label for _, label in diary.started(timedelta(seconds=1))[0]]
    assert labels == ["2024-01", "2024-02", "2024-05"]


def test_months_of_a_plain_table_are_those_of_its_newest_plan(diary: Ticked) -> None:
    assert ("notes_archive", "2024-05") not in diary.started()[0]
    diary.asset("notes_plan")
    assert ("notes_archive", "2024-05") in diary.started()[0]
    assert diary.listed("notes") == ["2024-05"]


def test_late_rows_are_exported_as_another_part(diary: Ticked) -> None:
    """D62."""
    diary.asset("logs_plan")
    diary.approve()
    diary.asset("logs_removal")
    assert diary.started()[0] == []  # their lanes are empty
    execute(diary.url, "INSERT INTO public.logs VALUES (7777, '2024-01-31 23:59+00', 'late', 'line')")
    diary.asset("logs_plan")
    [request] = diary.tick().run_requests  # type: ignore[attr-defined]
    assert request.run_key.startswith("diary/logs/20240101T000000Z-20240201T000000Z-1-")
    assert diary.asset("logs_archive", partition="2024-01").success
    assert diary.started()[0] == []


def test_a_paused_archive_a_stopped_month_and_a_lost_table_are_told(diary: Ticked) -> None:
    """I123: what fails does not stop the others."""
    (diary.folder / "cold/logs").write_text("in the way")
    assert not diary.month("2024-01").success
    found, why = diary.started()
    assert found == [("logs_archive", "2024-02")]
    execute(diary.url, "ALTER TABLE public.notes RENAME TO mislaid")
    found, why = diary.started()
    assert found == [("logs_archive", "2024-02")]
    diary.home.control.retention.pause("diary", "logs", "bob", "moving house")
    found, why = diary.started()
    assert found == []
    assert "bob: moving house" in why
    assert "diary/notes could not be asked" in why
    diary.home.control.retention.resume("diary", "logs", "bob", "moved")
    (diary.folder / "cold/logs").unlink()
    diary.month("2024-02")
    found, why = diary.started()
    assert found == []
    assert "diary/logs 2024-01 stopped" in why
    assert "maintain archive run diary logs --month 2024-01" in why


def test_a_table_is_asked_as_often_as_declared(diary: Ticked) -> None:
    assert diary.started()[0] != []
    assert diary.started(timedelta(minutes=10)) == ([], "No month became cold.")
    assert diary.started(timedelta(minutes=50))[0] != []


def test_an_approved_plan_is_carried_out_by_the_step_of_its_kind(diary: Ticked) -> None:
    diary.asset("logs_plan")
    plan = diary.plan()
    retention = diary.home.control.retention
    retention.approve(plan.id, plan.digest, plan.units, "ada", "T-1", expires_at=plan.expires_at)
    diary.now = datetime.now(UTC)
    sensor = approved_plans([ApprovedPlans(system="diary")], {"diary": diary.system}, lambda: diary.now)
    [request] = diary.tick(sensor, timedelta(minutes=2)).run_requests  # type: ignore[attr-defined]
    assert request.run_key == f"execute-{plan.id}"
    [key] = request.asset_selection
    assert key.path[-1] == "logs_removal"
    assert diary.asset("logs_removal", request.run_config["ops"]["diary__logs_removal"]["config"]).success
    assert retention.plan(plan.id).state == "done"
    diary.home.control.retention.pause("diary", "logs", "bob", "moving house")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("policy: logs", "policy: log", "has no policy 'log' (sensors/diary/defs.yaml:8). Did you mean 'logs'?"),
        ("every: 1 h", "archive: note", "has no archive 'note' (sensors/diary/defs.yaml:2). Did you mean 'notes'?"),
        ("every: 1 h", "every: 0 h", "every"),
        ("run: archive", "run: archives", "archive"),
        ("system: diary, every", "system: papers, every", "system 'papers' is not declared"),
    ],
)
def test_wrong_triggers_are_named_with_file_and_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    root = write(tmp_path, {"assets/diary/defs.yaml": DIARY, "sensors/diary/defs.yaml": TRIGGERS})
    assert len(load_triggers(root)) == 3
    write(root, {"sensors/diary/defs.yaml": TRIGGERS.replace(old, new, 1)})
    with pytest.raises(Exception, match=r"sensors/diary/defs.yaml:\d+") as error:
        load_triggers(root)
    assert said in str(error.value)


def test_a_system_without_archives_has_nothing_to_start(tmp_path: Path) -> None:
    reference = "{table: public.notes, id: id, store: cold, object: {column: line}}"
    text = DIARY[: DIARY.index("  archives:\n")] + f"  references:\n    - {reference}\n"
    root = write(tmp_path, {"assets/diary/defs.yaml": text, "sensors/diary/defs.yaml": TRIGGERS})
    with pytest.raises(Exception, match="diary has no archives") as error:
        load_triggers(root)
    assert str(error.value).count("diary has no archives") == 2


def test_a_month_that_stopped_and_a_plan_done_in_part_are_alarms_while_they_last(diary: Ticked) -> None:
    """I123."""
    assert alarms([diary.system], diary.home) == {}
    diary.asset("logs_plan")
    diary.approve()
    (diary.folder / "cold/logs").mkdir()
    (diary.folder / "cold/logs/2024-01").write_text("in the way")
    assert diary.asset("logs_removal").success
    assert diary.states() == {"2024-01": "planned", "2024-02": "removed"}
    told = alarms([diary.system], diary.home)
    assert sorted(name.split()[:2] for name in told) == [["diary/logs", "partial"], ["diary/logs", "stopped"]]
    assert all("could not be written" in text for text in told.values())
    (diary.folder / "cold/logs/2024-01").unlink()
    assert diary.asset("logs_removal").success  # the same plan goes on
    assert diary.states() == {"2024-01": "removed", "2024-02": "removed"}
    assert alarms([diary.system], diary.home) == {}
