"""A2: orphaned pages, reviewed or after a month."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from maintenance_defs.core.errors import DeclarationError, MaintenanceError, Refused
from maintenance_defs.declarations import load_systems, load_triggers
from maintenance_defs.reporting.report import Report
from maintenance_defs.retention.gate import execute
from maintenance_defs.retention.planning import take_plan
from tests.systems.acting import Acting, acting
from tests.systems.answers import found
from tests.systems.conftest import ROOT, Bench

Make = Callable[..., Bench]
CAT, DOG, LION = (f"assets/{page}/pl_preview.png" for page in ("cat", "dog", "lion"))
ORPHANS = [CAT, DOG, LION]
AS_OF = datetime(2024, 1, 15, 3, tzinfo=UTC)


def report_of(colouring: Acting) -> Report:
    return Report.load(colouring.system, colouring.home, colouring.reconcile())


def record_for(colouring: Acting, key: str) -> None:
    """The application writes the record it had missed."""
    colouring.sql(
        "INSERT INTO assets (id, job_id, page_slug, locale, kind, storage_key, created_at) "
        f"SELECT 'ffffffff-0000-4000-8000-000000000001', job_id, page_slug, 'pl', kind, '{key}', created_at "
        "FROM assets WHERE storage_key = 'assets/owl/en_page.pdf'"
    )


def test_without_consent_nothing_goes(bench: Make) -> None:  # A2-5
    colouring = acting(bench("colouring"))
    plan = colouring.plan("orphaned_files")
    with pytest.raises(Refused, match="approv"):
        colouring.execute(plan)
    for wrong in ({"count": 2}, {"digest": "0" * 64}):
        with pytest.raises(Refused):
            colouring.home.control.retention.approve(
                plan.id, wrong.get("digest", plan.digest), wrong.get("count", 3), "ada", "a guess",  # type: ignore[arg-type]
                expires_at=datetime.now(UTC) + timedelta(hours=1),
            )  # fmt: skip
    assert len(colouring.objects("pages")) == 153


@pytest.mark.parametrize(("dialect", "s3"), [("postgresql", False), ("sqlite", True)])
def test_three_reviewed_files_go_and_the_report_is_clean(bench: Make, dialect: str, s3: bool) -> None:  # A2-6
    colouring = acting(bench("colouring"), dialect=dialect, s3=s3)
    plan = colouring.plan("orphaned_files")
    assert (colouring.keys(plan), plan.objects, plan.rows) == (ORPHANS, 3, 0)
    colouring.approve(plan)
    assert colouring.execute(plan).counts == {"quarantined": 3}
    assert len(colouring.objects("pages")) == 150
    report = report_of(colouring)
    assert found(report, "orphan_candidate") == []
    assert (report.facts["summary"]["orphaned_files"], report.facts["summary"]["orphaned_records"]) == (0, 0)
    assert colouring.restore(plan).counts == {"restored": 3}
    assert len(colouring.objects("pages")) == 153


def test_a_record_written_after_the_review_keeps_its_file(bench: Make) -> None:  # A2-7
    colouring = acting(bench("colouring"))
    plan = colouring.plan("orphaned_files")
    colouring.approve(plan)
    record_for(colouring, LION)
    done = colouring.execute(plan)
    assert done.counts == {"quarantined": 2, "skipped_referenced": 1}
    assert colouring.outcomes(plan) == {CAT: "quarantined", DOG: "quarantined"}
    assert LION in colouring.objects("pages")
    assert len(colouring.objects("pages")) == 151


def test_two_of_three_are_approved(bench: Make) -> None:  # S2-22
    colouring = acting(bench("colouring"))
    plan = colouring.plan("orphaned_files")
    units = [step["unit"] for step in colouring.steps(plan) if step["key"] != LION]
    colouring.approve(plan, only=units, count=2)
    assert colouring.execute(plan).counts == {"quarantined": 2}
    assert [key for key in ORPHANS if key in colouring.objects("pages")] == [LION]


@pytest.mark.parametrize("value", [None, "false", "False", "0", "", "off", "no"])
def test_deleting_by_itself_is_off_unless_said(bench: Make, value: str | None) -> None:  # A2-8, G09
    colouring = acting(bench("colouring"), **({} if value is None else {"AUTO_DELETE_ORPHANS": value}))
    for days in (0, 0, 40):
        colouring.reconcile(AS_OF + timedelta(days=days))
    plan = take_plan(colouring.system, "old_orphans", colouring.home, run_id="daily")
    with pytest.raises(Refused, match="not enabled"):
        colouring.approve(plan)
        execute(colouring.system, plan.id, colouring.home, run_id="daily")
    assert len(colouring.objects("pages")) == 153


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        (AS_OF, []),
        (datetime(2024, 2, 13, 3, tzinfo=UTC), [DOG]),
        (datetime(2024, 2, 14, 3, tzinfo=UTC), ORPHANS),
    ],
)
def test_orphans_older_than_thirty_days_go(bench: Make, as_of: datetime, expected: list[str]) -> None:  # A2-9
    colouring = acting(bench("colouring"), AUTO_DELETE_ORPHANS="true")
    colouring.reconcile(as_of - timedelta(days=1))
    plan = colouring.plan("old_orphans", as_of=as_of)
    assert colouring.keys(plan) == expected
    if expected:
        state = colouring.home.control.retention
        expires = datetime.now(UTC) + timedelta(hours=1)
        with pytest.raises(Refused):  # nobody has agreed that it may act by itself
            state.approve_standing(plan.id, expires_at=expires)
        state.standing_approve("colouring", "old_orphans", plan.config_digest, "ada", "reviewed for a month")
        state.approve_standing(plan.id, expires_at=expires)
    colouring.execute(plan)
    assert [key for key in ORPHANS if key not in colouring.objects("pages")] == expected


def test_one_look_alone_lets_nothing_go_by_itself(bench: Make) -> None:  # B13
    colouring = acting(bench("colouring"), AUTO_DELETE_ORPHANS="true")
    plan = colouring.plan("old_orphans", as_of=AS_OF + timedelta(days=60))
    assert plan.units == 0
    assert "1 of 2 complete reconciliations" in colouring.kept(plan)[DOG]


def test_a_variable_sets_the_age(bench: Make) -> None:  # S2-28
    colouring = acting(bench("colouring"), AUTO_DELETE_ORPHANS="yes", AUTO_DELETE_AFTER_DAYS="1")
    colouring.reconcile()
    plan = colouring.plan("old_orphans")
    assert colouring.keys(plan) == [DOG]  # cat and lion are less than a day old
    assert plan.totals["timings"]["AUTO_DELETE_AFTER_DAYS"] == "1 d"


WRONG = [("AUTO_DELETE_AFTER_DAYS", value) for value in ("0", "-1", "30d", "1.5")] + [("AUTO_DELETE_ORPHANS", "maybe")]


@pytest.mark.parametrize(("variable", "value"), WRONG)
def test_a_variable_that_cannot_be_understood_is_an_error_at_load(bench: Make, variable: str, value: str) -> None:
    """A2-10, G06, G09: named with its value and line, and no mode that deletes is active."""
    with pytest.raises(DeclarationError) as refused:
        load_systems(ROOT, {variable: value, "AUTO_DELETE_ORPHANS": "true"} | {variable: value})
    (said,) = refused.value.problems
    assert f"{variable} is {value!r}" in said
    assert "assets/colouring/defs.yaml:" in said
    colouring = acting(bench("colouring"), **{variable: value})
    with pytest.raises(MaintenanceError, match=variable):
        colouring.plan("old_orphans", as_of=AS_OF + timedelta(days=60))
    assert len(colouring.objects("pages")) == 153


def test_a_schedule_that_cannot_be_understood_is_an_error_at_load() -> None:  # A2-10
    with pytest.raises(DeclarationError) as refused:
        load_triggers(ROOT, environment={"CRON_MAINTENANCE_SCHEDULE": "61 3 * * *"})
    (said,) = refused.value.problems
    assert "CRON_MAINTENANCE_SCHEDULE" in said
    assert "'61 3 * * *'" in said
