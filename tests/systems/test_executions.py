"""A4: the base state of executions, and what reconciling its archive will mean."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.systems.answers import check, counts, found, query
from tests.systems.conftest import Bench

Make = Callable[..., Bench]
ARCHIVE = "https://acme.blob.core.windows.net/execution-archive/"


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_every_screenshot_has_its_row_and_the_archive_is_empty(bench: Make, where: str) -> None:
    report = bench("executions", where).reconcile()
    assert report.diff.verdict == "complete", report.facts["message"]
    assert counts(report, "screenshots") == {"matched": 6}
    assert counts(report, "archive") == {}
    summary = report.facts["summary"]
    assert (summary["orphaned_files"], summary["orphaned_records"]) == (0, 0)
    assert [source["missing_table"] for source in report.facts["sources"]] == [False, False, True, True]


def test_rows_per_month_and_organisation(bench: Make) -> None:  # the rows of A4-1
    report = bench("executions").reconcile()
    assert [row[:3] for row in query(report, "logs_per_month")] == [
        ("org-90", "2025-08", 1),
        ("org-90", "2025-09", 1),
        ("org-default", "2024-11", 1),
        ("org-default", "2024-12", 1),
        ("org-default", "2025-10", 2),
        ("org-default", "2025-11", 2),
        ("org-default", "2025-12", 1),
    ]


def test_old_and_homeless_log_rows_are_counted(bench: Make) -> None:  # S4-46, S4-83
    report = bench("executions").reconcile()
    assert check(report, "logs_older_than_hot")["count"] == 5
    assert check(report, "logs_in_default_partition")["count"] == 7
    assert check(report, "logs_without_job")["count"] == 0


def test_a_screenshot_only_the_result_names_stays_and_is_listed(bench: Make) -> None:  # S4-51
    executions = bench("executions")
    executions.own_database()("DELETE FROM execution_screenshots WHERE id = 'shot-job-0001-0'")
    report = executions.reconcile()
    assert counts(report, "screenshots") == {"matched": 6}
    assert [row["id"] for row in check(report, "screenshots_unregistered")["sample"]] == ["job-0001"]


def test_the_archive_is_compared_both_ways(bench: Make) -> None:  # S4-53, L10
    executions = bench("executions")
    archive = executions.own_store("archive")
    shared = "execution_log/org=org-default/month=2025-10/part-000.parquet"
    stray = "job-results/org-90/job-0003.json.gz"
    for key in (shared, stray):
        (archive / key).parent.mkdir(parents=True)
        (archive / key).write_bytes(b"blob")
        os.utime(archive / key, (1764000000, 1764000000))
    run = executions.own_database()
    run(
        "CREATE TABLE execution_log_archives (id TEXT PRIMARY KEY, job_id TEXT NOT NULL, organization_id TEXT NOT NULL,"
        " archive_blob_url TEXT NOT NULL, record_count BIGINT NOT NULL, compressed_size BIGINT NOT NULL,"
        " start_date TIMESTAMPTZ NOT NULL, end_date TIMESTAMPTZ NOT NULL, archived_at TIMESTAMPTZ NOT NULL);"
        "CREATE TABLE job_result_archives (id TEXT PRIMARY KEY, job_id TEXT UNIQUE NOT NULL, blob_url TEXT NOT NULL,"
        " size INT NOT NULL, archived_at TIMESTAMPTZ NOT NULL)"
    )
    for job in ("job-0001", "job-0004"):
        run(
            f"INSERT INTO execution_log_archives VALUES ('log-{job}', '{job}', 'org-default', '{ARCHIVE}{shared}',"
            " 2, 4, '2025-10-01Z', '2025-11-01Z', '2025-11-24Z')"
        )
    run(
        "INSERT INTO job_result_archives VALUES ('result-1', 'job-0001',"
        f" '{ARCHIVE}job-results/org-default/job-0001.json.gz', 4, '2025-11-24Z')"
    )
    report = executions.reconcile()
    assert counts(report, "archive") == {"matched": 1, "orphan_candidate": 1}
    assert found(report, "orphan_candidate") == [stray]
    assert found(report, "missing_candidate") == ["result-1"]


def test_an_organisation_below_the_hot_days_is_listed(bench: Make) -> None:  # A4-13
    executions = bench("executions")
    run = executions.own_database()
    for days in (14, 0, -5):
        run(f"INSERT INTO organizations VALUES ('org{days}', 'x', {days})")
    assert check(executions.reconcile(), "invalid_retention")["count"] == 3
