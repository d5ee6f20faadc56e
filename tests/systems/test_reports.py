"""A0: reports that pile up."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.systems.answers import check, counts, found, query, sample_ids
from tests.systems.conftest import Bench

Make = Callable[..., Bench]
STRAY = "reports/fallback_1754600000000_dddddd/asset_1754600000801_dddddddd1.pdf"


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_the_file_without_a_row_is_found_and_no_row_lacks_its_file(bench: Make, where: str) -> None:  # A0-7
    report = bench("reports", where).reconcile()
    assert report.diff.verdict == "complete", report.facts["message"]
    assert found(report, "orphan_candidate") == [STRAY]
    assert counts(report, "reports") == {"matched": 11, "orphan_candidate": 1}
    assert found(report, "missing_candidate") == []


def test_monitoring_before_the_migration_counts_and_names_it(bench: Make) -> None:  # A0-1
    report = bench("reports").reconcile()
    assert query(report, "accumulation") == [("M4A4SSPV", 6), ("C8NOHTML", 3)]
    assert [(total, archived, float(percent)) for total, archived, percent in query(report, "archived_ratio")] == [
        (11, 0, 0.00)
    ]
    assert [(row[0], row[2]) for row in query(report, "superseded")] == [("M4A4SSPV", 4)]
    active = next(one for one in report.facts["queries"] if one["name"] == "active_accumulation")
    assert "archive_columns" in active["message"]


def test_each_run_more_is_counted_with_its_bytes(bench: Make) -> None:
    """S0-14: objects and bytes by the ordinal of a delivery, and how many tracking ids have how many."""
    reports = bench("reports")
    reports.own_database("postgresql")
    for report in (bench("reports").reconcile(), reports.reconcile()):  # the shipped SQLite, then PostgreSQL
        assert query(report, "by_generation") == [(1, 3, 6, 928_702), (2, 2, 3, 612_950), (3, 1, 2, 312_254)]
        assert query(report, "generations") == [(1, 1), (2, 1), (3, 1)]


def test_monitoring_after_the_migration_counts_null_as_active(bench: Make) -> None:  # numbers of A0-3, X-2
    reports = bench("reports")
    run = reports.own_database()
    run("ALTER TABLE report_assets ADD COLUMN archived BOOLEAN DEFAULT false")
    run(
        "UPDATE report_assets SET archived = true WHERE tracking_id = 'M4A4SSPV' AND created_at < '2025-08-12 21:00:00'"
    )
    run("UPDATE report_assets SET archived = NULL WHERE tracking_id = 'C8NOHTML'")
    report = reports.reconcile()
    assert query(report, "active_accumulation") == [("M4A4SSPV", 6, 2), ("C8NOHTML", 3, 3)]
    ((total, archived, percent),) = query(report, "archived_ratio")
    assert (total, archived, Decimal(str(percent))) == (11, 4, Decimal("36.36"))


def test_an_empty_table_has_no_percentage_and_no_orphan_may_be_claimed(bench: Make) -> None:  # S0-41, A01
    reports = bench("reports")
    reports.own_database()("DELETE FROM report_assets")
    report = reports.reconcile()
    assert query(report, "archived_ratio") == [(0, 0, None)]
    assert (report.diff.verdict, report.diff.reason) == ("refused", "empty_reference_set")


def test_the_newest_delivery_without_html_is_flagged(bench: Make) -> None:  # S0-44
    report = bench("reports").reconcile()
    assert sample_ids(report, "incomplete_newest_delivery") == ["asset_1754900000801_cccccccc1"]
    assert check(report, "without_profile")["count"] == 0


def test_rows_whose_profile_is_gone_are_listed(bench: Make) -> None:  # S0-11
    reports = bench("reports")
    reports.own_database()("DELETE FROM profiles WHERE tracking_id = 'B2SINGLE'")
    assert sample_ids(reports.reconcile(), "without_profile") == [
        "asset_1754700000801_aaaaaaaa1",
        "asset_1754700001002_aaaaaaaa2",
    ]


def test_tracking_ids_that_differ_in_case_are_two_profiles(bench: Make) -> None:  # A0-17
    reports = bench("reports")
    store = reports.own_store("reports")
    run = reports.own_database()
    for tracking_id in ("AbC12345", "ABC12345"):
        run(f"INSERT INTO profiles VALUES ('{tracking_id}', NULL, '2025-08-01 00:00:00')")
        for number, file_type in enumerate(("pdf", "html")):
            asset = f"asset_{tracking_id}_{number}"
            run(
                "INSERT INTO report_assets VALUES "
                f"('{asset}', '{tracking_id}', 'one_{tracking_id}', '{file_type}', 4, '2025-08-01 00:0{number}:00')"
            )
            file = store / "reports" / f"one_{tracking_id}" / f"{asset}.{file_type}"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"test")
            os.utime(file, (1754000000, 1754000000))
    report = reports.reconcile()
    assert [row[0] for row in query(report, "superseded")] == ["M4A4SSPV"]
    assert [row[0] for row in query(report, "accumulation")] == ["M4A4SSPV", "C8NOHTML"]
    assert counts(report, "reports") == {"matched": 15, "orphan_candidate": 1}
