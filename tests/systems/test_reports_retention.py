"""A0: superseded deliveries archived, replaced, numbered and purged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from maintenance_defs.reporting.report import Report
from maintenance_defs.retention.purge import due_for_purge
from tests.systems.acting import Acting, acting
from tests.systems.answers import check, found, query
from tests.systems.conftest import Bench

Make = Callable[..., Bench]
SUPERSEDED = [
    "asset_1754968422257_eyu1cwp2t",
    "asset_1754968422443_t7ahihtre",
    "asset_1754968867751_5tym7faoq",
    "asset_1754968867989_yn16wr3xm",
]
FILES = [
    "reports/fallback_1754968421525_o3gbze/asset_1754968422257_eyu1cwp2t.pdf",
    "reports/fallback_1754968421525_o3gbze/asset_1754968422443_t7ahihtre.html",
    "reports/fallback_1754968866964_owoiqx/asset_1754968867751_5tym7faoq.pdf",
    "reports/fallback_1754968866964_owoiqx/asset_1754968867989_yn16wr3xm.html",
]
NEWEST = ["asset_1755035926267_rf75hl6tg", "asset_1755035926033_o8ug1nuyk"]
AS_OF = datetime(2025, 8, 14, tzinfo=UTC)
ARCHIVED = "SELECT id FROM report_assets WHERE archived = true ORDER BY id"


@pytest.fixture(params=["sqlite", "postgresql"])
def reports(bench: Make, request: pytest.FixtureRequest) -> Acting:
    return acting(bench("reports"), dialect=request.param)


def report_of(reports: Acting) -> Report:
    return Report.load(reports.system, reports.home, reports.reconcile())


def deliver(reports: Acting, tracking_id: str, delivery: str, created: datetime) -> list[str]:
    """A complete delivery, as the orchestrator stores it."""
    made = []
    for n, file_type in enumerate(("pdf", "html")):
        asset = f"asset_{int(created.timestamp() * 1000)}_{delivery[-6:]}{n}"
        reports.sql(
            "INSERT INTO report_assets (id, tracking_id, delivery_id, file_type, size_bytes, created_at) "
            f"VALUES ('{asset}', '{tracking_id}', '{delivery}', '{file_type}', 4, '{created:%Y-%m-%d %H:%M:%S}')"
        )
        reports.put("reports", f"reports/{delivery}/{asset}.{file_type}", created)
        made.append(asset)
    return sorted(made)


def test_a_plan_names_the_four_superseded_assets_and_changes_nothing(reports: Acting) -> None:  # A0-2
    rows, objects = reports.sql("SELECT * FROM report_assets ORDER BY id"), reports.objects("reports")
    plan = reports.plan("superseded_reports")
    assert (reports.row_ids(plan), reports.keys(plan)) == (SUPERSEDED, [])
    assert (plan.units, plan.rows, plan.objects, plan.state) == (4, 4, 0, "planned")
    assert plan.totals["flags"] == ["C8NOHTML: newest delivery fallback_1754900000000_cccccc incomplete: no html"]
    assert sorted(reports.kept(plan)) == sorted(set(reports.column("SELECT id FROM report_assets")) - set(SUPERSEDED))
    assert (reports.sql("SELECT * FROM report_assets ORDER BY id"), reports.objects("reports")) == (rows, objects)


def test_archiving_marks_them_once_and_the_numbers_follow(reports: Acting) -> None:  # A0-3, A0-4, S0-41, S0-42
    objects = reports.objects("reports")
    assert reports.migrate("archive_columns") == {"archive_columns": "applied"}
    assert reports.apply("superseded_reports").counts == {"set": 4}
    assert reports.column(ARCHIVED) == SUPERSEDED
    stamps = reports.sql("SELECT DISTINCT archived_at FROM report_assets WHERE archived = true")
    assert [str(stamp)[:19].replace("T", " ") for (stamp,) in stamps] == ["2025-08-14 00:00:00"]
    active = reports.column(
        "SELECT id FROM report_assets_active WHERE tracking_id = 'M4A4SSPV' ORDER BY created_at DESC, id DESC"
    )
    assert active == NEWEST
    assert reports.objects("reports") == objects
    report = report_of(reports)
    ((total, archived, percent),) = query(report, "archived_ratio")
    assert (total, archived, Decimal(str(percent))) == (11, 4, Decimal("36.36"))
    assert query(report, "active_accumulation") == [("M4A4SSPV", 6, 2), ("C8NOHTML", 3, 3)]
    again = reports.plan("superseded_reports", as_of=AS_OF + timedelta(days=3))
    assert (again.units, again.state) == (0, "done")
    assert reports.sql("SELECT DISTINCT archived_at FROM report_assets WHERE archived = true") == stamps
    numbers = reports.migrate("archive_columns")
    assert numbers == {"archive_columns": "already_applied"}  # A0-11


def test_null_counts_as_active_and_is_archived_too(reports: Acting) -> None:
    reports.migrate("archive_columns")
    reports.sql(f"UPDATE report_assets SET archived = NULL WHERE id = '{SUPERSEDED[0]}'")
    reports.apply("superseded_reports")
    assert reports.column(ARCHIVED) == SUPERSEDED


def test_replacing_takes_objects_then_rows_and_keeps_the_full_rows(bench: Make) -> None:  # A0-5
    reports = acting(bench("reports"), REPORTS_REPLACE="true")
    before = {row[0]: row for row in reports.sql("SELECT * FROM report_assets")}
    plan = reports.plan("replaced_reports")
    assert (reports.keys(plan), reports.row_ids(plan)) == (FILES, SUPERSEDED)
    reports.approve(plan)
    done = reports.execute(plan)
    assert (done.state, done.counts) == ("done", {"quarantined": 4, "deleted": 4})
    assert len(reports.sql("SELECT * FROM report_assets")) == 7
    assert len(reports.objects("reports")) == 8
    assert reports.restore(plan).counts == {"restored": 8}  # the ledger held them as they were
    assert {row[0]: row for row in reports.sql("SELECT * FROM report_assets")} == before
    assert len(reports.objects("reports")) == 12


@pytest.mark.parametrize("mode", ["replaced_reports"])
def test_replacing_on_an_s3_server(bench: Make, mode: str) -> None:  # A0-5
    reports = acting(bench("reports"), s3=True, REPORTS_REPLACE="true")
    assert reports.apply(mode).counts == {"quarantined": 4, "deleted": 4}
    assert (len(reports.objects("reports")), len(reports.sql("SELECT * FROM report_assets"))) == (8, 7)


def test_numbering_gives_each_delivery_its_version(reports: Acting) -> None:  # A0-6, S0-28
    reports.set(REPORTS_VERSION="true")
    reports.migrate("version_columns")
    reports.sql("UPDATE report_assets SET version = 1, is_latest = true")  # what the defaults alone would say
    assert check(report_of(reports), "not_one_latest")["count"] == 9  # M4A4SSPV and C8NOHTML have several
    reports.apply("versioned_reports")
    versions = reports.sql(
        "SELECT tracking_id, substr(delivery_id, -6), version, is_latest, COUNT(*) FROM report_assets "
        "GROUP BY 1, 2, 3, 4 ORDER BY 1, 3"
        if "sqlite" in reports.bench.environment["REPORTS_DATABASE_URL"]
        else "SELECT tracking_id, right(delivery_id, 6), version, is_latest, COUNT(*) FROM report_assets "
        "GROUP BY 1, 2, 3, 4 ORDER BY 1, 3"
    )
    assert [(of, by, n, bool(latest), rows) for of, by, n, latest, rows in versions] == [
        ("B2SINGLE", "aaaaaa", 1, True, 2),
        ("C8NOHTML", "bbbbbb", 1, True, 2),
        ("C8NOHTML", "cccccc", 2, False, 1),
        ("M4A4SSPV", "o3gbze", 1, False, 2),
        ("M4A4SSPV", "owoiqx", 2, False, 2),
        ("M4A4SSPV", "76rwmq", 3, True, 2),
    ]
    assert check(report_of(reports), "not_one_latest")["count"] == 0


def test_more_than_one_active_generation_is_counted_until_archived(reports: Acting) -> None:  # S0-40
    reports.migrate("archive_columns")
    reports.sql("UPDATE report_assets SET archived = NULL")
    several = check(report_of(reports), "several_active_generations")
    assert several["count"] == 9  # the rows of M4A4SSPV and C8NOHTML
    reports.apply("superseded_reports")
    assert check(report_of(reports), "several_active_generations")["count"] == 3  # C8NOHTML waits for its HTML


def test_a_legacy_table_is_no_failed_check(bench: Make) -> None:
    """Before the migrations the columns do not exist: said, not counted."""
    report = bench("reports").reconcile()
    for name, migration in (("not_one_latest", "version"), ("several_active_generations", "archive")):
        one = check(report, name)
        assert one["count"] is None
        assert f"migration {migration}_columns is not applied" in one["message"]


def test_purging_waits_thirty_days_and_no_row_then_lacks_its_file(reports: Acting) -> None:  # A0-8
    reports.set(REPORTS_PURGE_ARCHIVED="true")
    reports.migrate()
    reports.apply("superseded_reports")
    assert reports.plan("purge_archived", as_of=AS_OF + timedelta(days=29)).units == 0
    assert reports.plan("purge_archived", as_of=AS_OF + timedelta(days=30)).units == 0  # not older, as old
    plan = reports.plan("purge_archived", as_of=AS_OF + timedelta(days=31))
    assert reports.keys(plan) == FILES
    reports.approve(plan)
    assert reports.execute(plan).counts == {"quarantined": 4, "set": 4}
    assert len(reports.objects("reports")) == 8
    due = due_for_purge(reports.system, reports.home, at=datetime.now(UTC) + timedelta(days=31))
    assert ([entry.key for entry in due.due], due.needed) == (FILES, [])  # the rows that were left do not count
    reports.sql(f"UPDATE report_assets SET object_deleted_at = NULL WHERE id = '{SUPERSEDED[1]}'")
    due = due_for_purge(reports.system, reports.home, at=datetime.now(UTC) + timedelta(days=31))
    assert [entry.key for entry, _ in due.needed] == [FILES[1]]
    assert reports.restore(plan).counts == {"restored": 8}  # also the row that is as it was
    assert len(reports.objects("reports")) == 12


def test_a_row_whose_file_was_purged_is_no_missing_file(reports: Acting) -> None:  # A0-8
    reports.set(REPORTS_PURGE_ARCHIVED="true")
    reports.migrate()
    reports.apply("superseded_reports")
    reports.apply("purge_archived", as_of=AS_OF + timedelta(days=31))
    report = Report.load(reports.system, reports.home, reports.reconcile(AS_OF + timedelta(days=31)))
    assert found(report, "missing_candidate") == []
    assert report.facts["summary"]["orphaned_records"] == 0
    assert len(reports.sql("SELECT * FROM report_assets")) == 11
    assert reports.plan("purge_archived", as_of=AS_OF + timedelta(days=32)).units == 0


def test_a_fourth_delivery_archives_the_third_once(reports: Acting) -> None:  # A0-9
    reports.migrate("archive_columns")
    reports.apply("superseded_reports")
    deliver(reports, "M4A4SSPV", "fallback_1755100000000_eeeeee", datetime(2025, 8, 13, 15, 46, 40, tzinfo=UTC))
    plan = reports.plan("superseded_reports")
    assert reports.row_ids(plan) == sorted(NEWEST)
    reports.approve(plan)
    assert reports.execute(plan).counts == {"set": 2}
    for _ in range(2):
        assert reports.plan("superseded_reports").units == 0


def test_a_row_that_the_database_refuses_fails_alone_and_is_tried_again(reports: Acting) -> None:  # A0-10
    reports.migrate("archive_columns")
    reports.sql("INSERT INTO profiles VALUES ('Z9MULTI1', NULL, '2025-08-01 00:00:00')")
    older = deliver(reports, "Z9MULTI1", "fallback_1754990000000_ffffff", AS_OF - timedelta(days=2))
    deliver(reports, "Z9MULTI1", "fallback_1755000000000_gggggg", AS_OF - timedelta(days=1))
    refuse(reports)
    plan = reports.plan("superseded_reports")
    reports.approve(plan)
    done = reports.execute(plan)
    assert (done.state, done.counts) == ("partial", {"set": 2, "failed": 4})
    assert reports.column(ARCHIVED) == older
    assert {problem["row_id"] for problem in done.problems} == set(SUPERSEDED)
    reports.sql("DROP TRIGGER refuse" + ("" if dialect(reports) == "sqlite" else " ON report_assets"))
    assert reports.execute(plan).state == "done"
    assert reports.column(ARCHIVED) == sorted([*older, *SUPERSEDED])


def dialect(reports: Acting) -> str:
    return "sqlite" if reports.bench.environment["REPORTS_DATABASE_URL"].startswith("sqlite") else "postgresql"


def refuse(reports: Acting) -> None:
    if dialect(reports) == "sqlite":
        reports.sql(
            "CREATE TRIGGER refuse BEFORE UPDATE ON report_assets WHEN OLD.tracking_id = 'M4A4SSPV' "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
        return
    reports.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$"
    )
    reports.sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON report_assets FOR EACH ROW "
        "WHEN (OLD.tracking_id = 'M4A4SSPV') EXECUTE FUNCTION refuse()"
    )


def test_tracking_ids_that_differ_in_case_supersede_nothing(reports: Acting) -> None:  # A0-17
    for n, tracking_id in enumerate(("AbC12345", "ABC12345")):
        reports.sql(f"INSERT INTO profiles VALUES ('{tracking_id}', NULL, '2025-08-01 00:00:00')")
        deliver(reports, tracking_id, f"fallback_17540000{n}_hhhhh{n}", AS_OF - timedelta(days=3 + n))
    assert reports.row_ids(reports.plan("superseded_reports")) == SUPERSEDED


def test_assets_of_no_tracking_id_are_held_and_never_grouped(reports: Acting) -> None:
    for number in (1, 2):
        deliver(reports, "B2SINGLE", f"fallback_175500000_iiiii{number}", AS_OF - timedelta(days=5 + number))
    reports.sql("UPDATE report_assets SET tracking_id = NULL WHERE tracking_id = 'B2SINGLE'")
    plan = reports.plan("superseded_reports")
    assert reports.row_ids(plan) == SUPERSEDED
    assert check(Report.load(reports.system, reports.home, reports.reconcile()), "without_tracking_id")["count"] == 6


def test_the_status_api_returns_fewer_rows_afterwards(reports: Acting) -> None:  # S0-16, S0-37, S0-39
    reports.migrate("archive_columns")
    assert [float(n) for n in query(report_of(reports), "status_rows")[0]] == [3, 3.67, 6, 3.67, 6]
    reports.apply("superseded_reports")
    report = report_of(reports)
    assert [float(n) for n in query(report, "status_rows")[0]] == [3, 3.67, 6, 2.33, 3]
    read = reports.home.control.latest("reports", "references")
    assert read is not None and 0 <= read.evidence["queries"]["status_rows"]["seconds"] < 600
