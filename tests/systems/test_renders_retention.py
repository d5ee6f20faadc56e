"""A1: unsaved renders cleaned up, saved ones never; temporary files."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.quantities import parse_duration
from maintenance_defs.reporting.report import Report
from tests.support.fault_proxy import Fault, fault_proxy
from tests.systems.acting import Acting, acting, drop
from tests.systems.answers import check, query
from tests.systems.conftest import Bench

Make = Callable[..., Bench]
JOB = "aaaaaaaa-0000-4000-8000-00000000000"
USER = "11111111-1111-4111-8111-111111111111"
UNSAVED = [f"{USER}/scene_175932000000{n}_test.{'png' if n == 4 else 'mp4'}" for n in range(1, 5)]
SAVED, YOUNG = f"{USER}/scene_1759310000005_saved.mp4", f"{USER}/scene_1759320000006_young.mp4"
AS_OF = datetime(2025, 10, 1, 12, tzinfo=UTC)
JOBS = "SELECT id FROM render_jobs ORDER BY id"


def for_testing(bench: Make, **more: bool) -> Acting:
    return acting(bench("renders"), RENDERS_PRESET="testing", **more)  # type: ignore[arg-type]


def jobs(*numbers: int) -> list[str]:
    return [f"{JOB}{n}" for n in numbers]


def everything(renders: Acting) -> list[str]:
    return sorted(renders.objects("videos") + renders.objects("images"))


def save(renders: Acting, number: int, job: str | None = None) -> None:
    renders.sql(
        "INSERT INTO user_assets (id, user_id, asset_type, bucket, metadata, created_at) VALUES "
        f"('eeeeeeee-0000-4000-8000-00000000000{number}', '{USER}', 'generated_saved', 'videos', "
        f"'{{\"render_job_id\": \"{job or JOB + str(number)}\"}}', '2025-10-01 11:58:00Z')"
    )


def validation(renders: Acting, at: datetime = AS_OF) -> tuple[int, str, str | None]:
    """Rows, severity and words of the check that says whether cleanups work."""
    found = check(Report.load(renders.system, renders.home, renders.reconcile(at)), "no_overdue_orphans")
    return found["count"], found["severity"], found["message"]


def test_the_testing_preset_takes_the_four_unsaved_renders(bench: Make) -> None:  # A1-2
    renders = for_testing(bench)
    plan = renders.plan("unsaved_renders")
    assert (renders.keys(plan), renders.row_ids(plan)) == (sorted(UNSAVED), jobs(1, 2, 3, 4))
    kept = renders.kept(plan)
    assert sorted(kept) == jobs(5, 6, 8)  # j7 is no candidate: it is not completed
    assert "not" in kept[JOB + "8"] and "unreadable" in kept[JOB + "8"].replace("unparseable", "unreadable")
    assert "saved to assets" in kept[JOB + "5"]
    assert "younger than 3 min" in kept[JOB + "6"]


def test_the_production_preset_takes_nothing_yet(bench: Make) -> None:  # A1-3
    renders = acting(bench("renders"))
    plan = renders.plan("unsaved_renders")
    assert (plan.units, plan.state) == (0, "done")
    assert sorted(renders.kept(plan)) == jobs(1, 2, 3, 4, 5, 6, 8)
    renders.set(RENDERS_PRESET="slow")
    with pytest.raises(MaintenanceError, match="RENDERS_PRESET is 'slow'; write one of testing, production"):
        renders.plan("unsaved_renders")


@pytest.mark.parametrize("s3", [False, True])
def test_a_cleanup_cycle_says_its_five_lines_and_leaves_what_is_needed(bench: Make, s3: bool) -> None:  # A1-4, S1-23
    renders = for_testing(bench, s3=s3)
    done = renders.apply("unsaved_renders")
    assert (done.state, done.counts) == ("done", {"quarantined": 4, "deleted": 4})
    assert everything(renders) == sorted([SAVED, YOUNG])
    assert renders.column(JOBS) == jobs(5, 6, 7, 8)
    assert renders.log == [
        "Starting comprehensive cleanup cycle",
        "Cleaning up 4 orphaned Supabase files",
        "Successfully deleted 4 orphaned files",
        "Successfully deleted 4 orphaned render job records",
        "Comprehensive cleanup cycle completed",
    ]
    assert (validation(renders)[:2], "1 of 1 held" in str(validation(renders)[2])) == ((1, "warn"), True)


def test_validation_passes_warns_or_fails_by_what_is_overdue(bench: Make) -> None:  # S1-22, X-7
    """The horizon is age, interval and grace of the preset: seven minutes here, not four."""
    renders = for_testing(bench)
    assert validation(renders)[:2] == (1, "warn")  # j1 to j4 are four minutes old: the next cycle may take them
    count, severity, message = validation(renders, AS_OF + timedelta(minutes=4))
    assert (count, severity) == (5, "error")
    assert "1 of 5 held" in str(message)
    renders.sql(f"DELETE FROM render_jobs WHERE id = '{JOB}8'")
    assert validation(renders) == (0, "error", None)
    renders.set(RENDERS_PRESET="production")
    assert validation(renders, AS_OF + timedelta(minutes=40))[0] == 0
    assert validation(renders, AS_OF + timedelta(hours=3))[0] == 5


def test_the_presets_intervals_are_those_of_their_schedules(bench: Make) -> None:
    from croniter import croniter

    for preset in bench("renders").system.presets.values():
        ticks = croniter(preset["cleanup"], AS_OF)
        first = ticks.get_next(datetime)
        assert ticks.get_next(datetime) - first == parse_duration(preset["interval"])


def test_a_store_that_refuses_one_delete_keeps_its_row_for_the_next_run(bench: Make) -> None:  # A1-5
    renders = for_testing(bench, s3=True)
    url = renders.bench.environment["RENDERS_VIDEOS_URL"]
    with fault_proxy(renders.bench.s3) as proxy:
        proxied = url.replace(renders.bench.s3, proxy.url)
        renders.set(RENDERS_VIDEOS_URL=proxied)
        plan = renders.plan("unsaved_renders")
        renders.approve(plan)
        proxy.add(
            Fault(on=lambda r: "scene_1759320000002" in r.target and r.method != "HEAD" and r.method != "GET",
                  status=403, code="AccessDenied")
        )  # fmt: skip
        done = renders.execute(plan)
        assert done.state == "partial"
        assert everything(renders) == sorted([UNSAVED[1], SAVED, YOUNG])
        assert renders.column(JOBS) == jobs(2, 5, 6, 7, 8)
        proxy.faults.clear()  # the store's permission is back
        assert renders.execute(plan).state == "done"
    assert renders.column(JOBS) == jobs(5, 6, 7, 8)
    assert everything(renders) == sorted([SAVED, YOUNG])


def test_a_render_saved_after_planning_is_skipped(bench: Make) -> None:  # A1-6, K06
    renders = for_testing(bench)
    plan = renders.plan("unsaved_renders")
    renders.approve(plan)
    save(renders, 3)
    done = renders.execute(plan)
    assert done.counts == {"quarantined": 3, "deleted": 3, "skipped_referenced": 2}
    assert everything(renders) == sorted([UNSAVED[2], SAVED, YOUNG])
    assert renders.column(JOBS) == jobs(3, 5, 6, 7, 8)
    assert any("since the plan" in str(problem["detail"]) for problem in done.problems)


def test_a_saved_link_is_recognised_in_any_spelling(bench: Make) -> None:  # K06
    renders = for_testing(bench)
    save(renders, 1, (JOB + "1").upper())
    save(renders, 2, f" {JOB}2 ")
    assert renders.row_ids(renders.plan("unsaved_renders")) == jobs(3, 4)


def test_temporary_files_older_than_an_hour_go(bench: Make) -> None:  # A1-7
    renders = for_testing(bench)
    plan = renders.plan("temp_files")
    assert renders.keys(plan) == ["render_old.tmp", "sub/old.tmp"]
    renders.approve(plan)
    assert renders.execute(plan).counts == {"deleted": 2}
    assert renders.objects("temp") == ["render_new.tmp"]


def test_without_the_saved_assets_nothing_is_planned_and_the_next_cycle_works(bench: Make) -> None:  # A1-9
    renders = for_testing(bench)
    before = everything(renders)
    renders.sql("ALTER TABLE user_assets RENAME TO user_assets_old")
    with pytest.raises(MaintenanceError):
        renders.plan("unsaved_renders")
    renders.sql("ALTER TABLE user_assets_old RENAME TO user_assets")
    plan = renders.plan("unsaved_renders")
    renders.approve(plan)
    renders.sql("ALTER TABLE user_assets RENAME TO user_assets_old")
    with pytest.raises(MaintenanceError):
        renders.execute(plan)
    assert (everything(renders), len(renders.column(JOBS))) == (before, 8)
    renders.sql("ALTER TABLE user_assets_old RENAME TO user_assets")
    assert renders.execute(plan).counts == {"quarantined": 4, "deleted": 4}


def test_a_row_whose_object_is_gone_already_goes(bench: Make) -> None:  # A1-10
    renders = for_testing(bench)
    (renders.folders["videos"] / UNSAVED[0]).unlink()
    plan = renders.plan("unsaved_renders")
    renders.approve(plan)
    done = renders.execute(plan)
    assert done.counts == {"already_absent": 1, "quarantined": 3, "deleted": 4}
    assert renders.outcomes(plan)[UNSAVED[0]] == "already_absent"
    assert renders.column(JOBS) == jobs(5, 6, 7, 8)


@pytest.mark.parametrize("preset", ["testing", "production"])
def test_a_url_that_is_none_is_never_deleted_until_it_is_corrected(bench: Make, preset: str) -> None:  # A1-11
    renders = acting(bench("renders"), RENDERS_PRESET=preset)
    later = AS_OF + timedelta(days=3)
    for _ in range(2):
        renders.apply("unsaved_renders", as_of=later)
    assert renders.column(JOBS) == jobs(5, 7, 8)
    renders.put("videos", f"{USER}/scene_1759310000008_late.mp4", AS_OF - timedelta(hours=5))
    renders.sql(
        "UPDATE render_jobs SET output_url = 'https://abcdefghijklmnopqrst.supabase.co/storage/v1/object/sign/videos/"
        f"{USER}/scene_1759310000008_late.mp4?token=demo.signature' WHERE id = '{JOB}8'"
    )
    renders.apply("unsaved_renders", as_of=later)
    assert renders.column(JOBS) == jobs(5, 7)
    assert everything(renders) == [SAVED]


def test_a_completed_job_without_url_is_held_and_listed(bench: Make) -> None:  # X-34, S1-55
    renders = for_testing(bench)
    renders.sql(f"UPDATE render_jobs SET output_url = NULL WHERE id = '{JOB}1'")
    plan = renders.plan("unsaved_renders")
    assert renders.row_ids(plan) == jobs(2, 3, 4)
    assert JOB + "1" in renders.kept(plan)


def test_links_out_of_the_temp_directory_are_never_followed(bench: Make, tmp_path: Path) -> None:  # A1-18
    renders = for_testing(bench)
    outside = tmp_path / "outside.txt"
    outside.write_text("not ours")
    os.utime(outside, (1_700_000_000, 1_700_000_000))
    link = renders.folders["temp"] / "old.lnk"
    link.symlink_to(outside)
    os.utime(link, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    renders.apply("temp_files")
    assert outside.read_text() == "not ours"
    assert link.is_symlink()
    drop(renders.folders["temp"])
    assert renders.plan("temp_files").units == 0
    assert outside.read_text() == "not ours"


def test_age_counts_from_completion(bench: Make) -> None:  # K05, X-6
    """Created two hours ago, completed one minute ago: young."""
    renders = for_testing(bench)
    renders.sql(
        "UPDATE render_jobs SET created_at = '2025-10-01 10:00:00Z', completed_at = '2025-10-01 11:59:00Z' "
        f"WHERE id = '{JOB}1'"
    )
    plan = renders.plan("unsaved_renders")
    assert renders.row_ids(plan) == jobs(2, 3, 4)
    assert "younger than" in renders.kept(plan)[JOB + "1"]
    renders.sql(f"UPDATE render_jobs SET completed_at = NULL WHERE id = '{JOB}1'")  # then its creation counts
    assert renders.row_ids(renders.plan("unsaved_renders")) == jobs(1, 2, 3, 4)


def test_a_file_of_two_jobs_stays_when_one_is_saved(bench: Make) -> None:  # K07, C-8
    renders = for_testing(bench)
    renders.sql(
        f"UPDATE render_jobs SET output_url = (SELECT output_url FROM render_jobs WHERE id = '{JOB}5') "
        f"WHERE id = '{JOB}1'"
    )
    (renders.folders["videos"] / UNSAVED[0]).unlink()
    plan = renders.plan("unsaved_renders")
    assert SAVED not in renders.keys(plan)
    renders.approve(plan)
    renders.execute(plan)
    assert SAVED in everything(renders)
    assert JOB + "5" in renders.column(JOBS)


def test_the_seeds_query_finds_five_before(bench: Make) -> None:  # A1-1
    renders = for_testing(bench)
    report = Report.load(renders.system, renders.home, renders.reconcile())
    assert query(report, "overdue_unsaved") == [(5,)]
