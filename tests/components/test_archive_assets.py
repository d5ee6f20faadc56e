"""Months, plan, approval, removal and expiry of an archive, in process on a real PostgreSQL and a real folder."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from tests.components.archive_world import DIARY, Diary, Make
from tests.components.test_assets import checks, failures, materialised
from tests.support.months import execute, fill


@pytest.fixture
def diary(pg_database: str, instance: dg.DagsterInstance, tmp_path: Path) -> Make:
    """diary(), or diary(text=…, numbers=…)."""

    def make(**other: object) -> Diary:
        return Diary(tmp_path / "diary", pg_database, instance, **other)  # type: ignore[arg-type]

    return make


def test_a_month_is_exported_and_nothing_leaves_its_table(diary: Make) -> None:
    club = diary()
    result = club.month("2024-01")
    assert result.success
    page = materialised(result)["logs_archive"]
    assert (page["rows"], page["files"], page["state"]) == (100, 1, "catalogued")
    assert (page["dagster/partition_row_count"], page["dagster/row_count"]) == (100, 100)
    assert page["heap_bytes"] > page["size_bytes"] > 0
    assert page["ratio"] == round(page["size_bytes"] / page["heap_bytes"], 3)
    assert page["seconds"] > 0
    assert [column.name for column in page["dagster/column_schema"].columns] == ["id", "at", "job", "line"]
    assert club.files() == ["logs/2024-01"]
    assert club.count("SELECT count(*) FROM public.logs") == 200


def test_months_on_offer_are_those_of_the_database(diary: Make) -> None:
    """V7, E71: by real bounds; a month of which there is no partition is not counted up."""
    club = diary(numbers=(1, 3, 12))
    execute(club.url, "CREATE TABLE public.hot PARTITION OF public.logs FOR VALUES FROM ('2199-01-01') TO (MAXVALUE)")
    assert club.listed() == []
    assert club.asset("logs_plan").success
    assert club.listed() == ["2024-01", "2024-03", "2024-12"]
    assert club.asset("notes_plan").success
    assert club.listed("notes") == ["2024-05"]


def test_a_plan_shows_what_would_leave_and_changes_nothing(diary: Make) -> None:
    club = diary()
    result = club.asset("logs_plan")
    plan, expiry = club.plan(), club.plan(only="expiry")
    page = materialised(result)["logs_plan"]
    assert (page["count"], page["digest"], page["plan"], page["rows"]) == (2, plan.short_digest, plan.id, 200)
    assert [(row["month"], row["what"], row["rows"]) for row in page["months"]] == [
        ("2024-01", "archive", "100"), ("2024-02", "archive", "100"),
    ]  # fmt: skip
    assert f"maintain approve {plan.short_digest} --count 2" in page["next"]
    assert "200 rows would leave the table for the archive" in page["summary"]
    assert len(page["summary"]) < 1000
    assert len(page) <= 13
    assert (expiry.state, expiry.units) == ("done", 0)
    assert club.instance.get_dynamic_partitions("diary_logs_plans") == [plan.id]
    assert (club.states(), club.files(), club.count("SELECT count(*) FROM public.logs")) == ({}, [], 200)


def test_an_approved_plan_takes_the_months_out_once(diary: Make) -> None:
    club = diary()
    club.asset("logs_plan")
    refused = club.approve(count=9)
    assert "would act on 2 units, not 9" in failures(refused)["diary__logs_approval"]
    assert "no plan of logs is approved" in failures(club.asset("logs_removal"))["diary__logs_removal"]
    assert club.count("SELECT count(*) FROM public.logs") == 200

    assert club.approve().success
    result = club.asset("logs_removal")
    page = materialised(result)["logs_removal"]
    assert (page["state"], page["succeeded"], page["approved_by"]) == ("done", 2, "ada: T-1")
    assert [(row["what"], row["outcome"]) for row in page["outcomes"]] == [("archive", "deleted")]
    assert checks(result)["logs_removal.complete"][0]
    assert club.states() == {"2024-01": "removed", "2024-02": "removed"}
    assert club.count("SELECT count(*) FROM public.logs") == 0
    assert club.files() == ["logs/2024-01", "logs/2024-02"]
    again = club.asset("logs_removal", {"plan": club.plan().short_digest})
    assert materialised(again)["logs_removal"]["succeeded"] == 0


def test_an_event_is_no_proof_of_consent(diary: Make) -> None:
    club = diary()
    club.asset("logs_plan")
    plan = club.plan()
    club.instance.report_runless_asset_event(dg.AssetMaterialization(["diary", "logs_approval"], partition=plan.id))
    for config in (None, {"plan": plan.id}):
        assert "approve" in failures(club.asset("logs_removal", config))["diary__logs_removal"]
    assert club.count("SELECT count(*) FROM public.logs") == 200


def test_a_month_that_has_left_is_not_exported_again(diary: Make) -> None:
    """I119, V5: no export of an empty lane over a good archive; the page says what became of the month."""
    club = diary()
    club.asset("logs_plan")
    club.approve()
    club.asset("logs_removal")
    before = [(u.id, u.generation, u.rows) for u in club.home.control.archive.units("diary")]
    result = club.month("2024-01")
    page = materialised(result)["logs_archive"]
    assert "Nothing was exported" in page["summary"]
    assert "left the database on" in page["summary"]
    assert (page["rows"], page["state"]) == (100, "removed")
    assert [(u.id, u.generation, u.rows) for u in club.home.control.archive.units("diary")] == before
    assert club.files() == ["logs/2024-01", "logs/2024-02"]


def test_rows_that_arrive_after_their_month_left_become_another_part(diary: Make) -> None:
    """D62."""
    club = diary()
    club.asset("logs_plan")
    club.approve()
    club.asset("logs_removal")
    execute(club.url, "INSERT INTO public.logs VALUES (7777, '2024-01-31 23:59:59.999999+00', 'late', 'line')")
    page = materialised(club.month("2024-01"))["logs_archive"]
    assert (page["rows"], page["files"], page["state"]) == (101, 2, "removed, catalogued")


def test_twenty_four_months_are_exported_one_by_one(diary: Make) -> None:
    """I119: a backfill, and the same backfill again."""
    club = diary(numbers=())
    for year in (2023, 2024):
        for number in range(1, 13):
            upper = f"{year + number // 12}-{number % 12 + 1:02d}-01"
            execute(
                club.url,
                f"CREATE TABLE public.logs_{year}_{number} PARTITION OF public.logs "
                f"FOR VALUES FROM ('{year}-{number:02d}-01 00:00+00') TO ('{upper} 00:00+00')",
                fill(number).replace("2024-", f"{year}-"),
            )
    club.asset("logs_plan")
    labels = club.listed()
    assert len(labels) == 24
    for label in (*labels, *labels[::8]):
        assert club.asset("logs_archive", partition=label).success
    units = club.home.control.archive.units("diary")
    assert [(u.label, u.state, u.generation, u.rows) for u in units] == [(n, "catalogued", 0, 100) for n in labels]
    assert len(club.files()) == 24


@pytest.mark.parametrize("label", ["2024-07", "2199-01"])
def test_a_month_that_is_not_there_or_still_hot_is_refused(diary: Make, label: str) -> None:
    club = diary()
    execute(
        club.url, "CREATE TABLE public.hot PARTITION OF public.logs FOR VALUES FROM ('2199-01-01') TO ('2199-02-01')"
    )
    result = club.month(label)
    assert f"has no month {label} that has been over for 30 d" in failures(result)["diary__logs_archive"]
    assert (club.states(), club.files()) == ({}, [])


def test_a_month_that_fails_shows_step_cause_and_how_to_retry(diary: Make) -> None:
    """I123."""
    club = diary()
    (club.folder / "cold/logs").write_text("a file where a folder must be")
    result = club.month("2024-01")
    [event] = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    told = event.step_failure_data.user_failure_data
    assert told is not None
    shown = {name: item.value for name, item in told.metadata.items()}
    assert (shown["month"], shown["retry"]) == ("2024-01", "maintain archive run diary logs --month 2024-01")
    assert shown["step"] == "planned"
    assert shown["cause"]
    assert club.count("SELECT count(*) FROM public.logs") == 200
    (club.folder / "cold/logs").unlink()
    assert club.month("2024-01").success


def test_one_table_that_fails_does_not_stop_the_other(diary: Make) -> None:
    """I123."""
    club = diary()
    execute(club.url, "ALTER TABLE public.notes RENAME TO mislaid")
    result = club.job("diary_archive")
    assert not result.success
    assert list(materialised(result)) == ["logs_plan"]
    assert "notes" in failures(result)["diary__notes_plan"]


AUTOMATIC = DIARY.replace("      undo_window: 0 d\n", "      undo_window: 0 d\n      mode: automatic\n")


def test_the_first_cycle_of_an_automatic_archive_is_a_dry_run(diary: Make) -> None:
    """X-29."""
    club = diary(text=AUTOMATIC)
    first = club.job("diary_archive")
    assert first.success
    assert sorted(materialised(first)) == ["logs_expiry", "logs_plan", "notes_plan"]
    passed, severity, why = checks(first)["logs_removal.complete"]
    assert (passed, severity) == (False, "WARN")
    assert "standing" in why
    assert club.count("SELECT count(*) FROM public.logs") == 200
    assert club.approve(standing=True).success
    second = club.job("diary_archive")
    assert materialised(second)["logs_removal"]["succeeded"] == 2
    assert club.count("SELECT count(*) FROM public.logs") == 0
    third = club.job("diary_archive")
    assert materialised(third)["logs_removal"]["state"] == "nothing_to_do"


def test_a_manual_archive_gets_no_standing_approval(diary: Make) -> None:
    club = diary()
    club.asset("logs_plan")
    assert "is manual" in failures(club.approve(standing=True))["diary__logs_approval"]
    assert club.plan().state == "planned"


def test_paused_and_disabled_archives_say_so_and_nothing_leaves(diary: Make) -> None:
    club = diary(text=AUTOMATIC.replace("mode: automatic", "mode: automatic\n      enabled_env: DIARY_LOGS"))
    club.asset("logs_plan")
    club.approve(standing=True)
    club.home.control.retention.pause("diary", "logs", "bob", "moving house")
    paused = club.job("diary_archive")
    passed, severity, why = checks(paused)["logs_plan.enabled"]
    assert (passed, severity) == (False, "WARN")
    assert "bob: moving house" in why
    assert "paused" in failures(club.month("2024-01"))["diary__logs_archive"]
    club.home.control.retention.resume("diary", "logs", "bob", "moved")
    club.environment["DIARY_LOGS"] = "no"
    club.home = type(club.home).open(club.environment)
    disabled = club.job("diary_archive")
    assert r"DIARY\_LOGS=true" in checks(disabled)["logs_plan.enabled"][2]
    assert "logs_removal" not in materialised(disabled)
    assert club.count("SELECT count(*) FROM public.logs") == 200


def test_a_month_whose_removal_was_killed_goes_on_and_is_not_archived_twice(diary: Make) -> None:
    """I118, V6: the state that a run leaves behind which is killed between its record and the detach."""
    club = diary()
    club.month("2024-01")
    state = club.home.control.archive
    [unit] = state.units("diary", "logs")
    state.take_unit(unit.id, "killed", 60)
    state.advance(unit.id, "killed", "removing", left_at=club.home.control.now())
    state.leave_unit(unit.id, "killed")
    assert materialised(club.month("2024-01"))["logs_archive"]["state"] == "removing"
    club.asset("logs_plan")
    assert club.approve().success
    assert checks(club.asset("logs_removal"))["logs_removal.complete"][0]
    assert club.states() == {"2024-01": "removed", "2024-02": "removed"}
    assert sum(file.rows for file in state.files("diary", "logs")) == 200
    assert [unit.part for unit in state.units("diary", "logs")] == [0, 0]
