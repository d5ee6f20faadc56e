"""report --day, --week, --month: what is on record of them, and nothing else (S1-29, S1-30, S1-31, S1-43)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.core.declaration import System
from maintenance_defs.core.periods import Kind, Period
from maintenance_defs.core.triggers import Schedule, ticks
from maintenance_defs.declarations import load_systems
from maintenance_defs.reporting.pages import page_facts
from maintenance_defs.reporting.pages_text import page_lines
from maintenance_defs.retention.cycle import run_cycle
from tests.cli.conftest import World
from tests.components.conftest import PAPERS, Club, write
from tests.components.test_retention_assets import POLICIES

OCTOBER = datetime(2025, 10, 1, tzinfo=UTC)
QUERIES = """\
  queries:
    titles: {describe: Titles., sql: titles.sql}
    unread: {describe: Not read., sql: titles.sql}
"""
PRICED = PAPERS.replace("limit: 1 MB", "price_per_gb_month: 2.0") + QUERIES


def page(
    system: System, club: Club, kind: Kind, text: str, schedules: Sequence[Schedule] = (), now: datetime | None = None
) -> dict[str, Any]:
    period = Period.parse(kind, text)
    return page_facts(system, club.home, period, schedules=schedules, now=now or datetime.now(UTC))


def record(
    club: Club,
    kind: str,
    name: str,
    at: datetime,
    verdict: str = "complete",
    took: int = 0,
    **evidence: object,
) -> None:
    club.home.control.record(
        Artefact(
            id=f"{kind}{name}{at:%m%d%H%M%S}", system="papers", kind=kind, name=name, run_id=f"r{at:%d%H%M}", as_of=at,
            started_at=at, ended_at=at + timedelta(seconds=took), verdict=verdict, reason=None,
            uri=None, row_count=0, size_bytes=0, digest=None, evidence=evidence, config_digest="c", inputs=(),
        )
    )  # fmt: skip


def test_a_month_is_told_from_what_was_recorded_in_it(tmp_path: Path) -> None:
    club = Club(tmp_path / "club")
    files_of = {"assets/papers/defs.yaml": PRICED, "assets/papers/titles.sql": "SELECT title FROM docs"}
    system = load_systems(write(tmp_path / "p", files_of))["papers"].system
    before, after = OCTOBER - timedelta(seconds=1), datetime(2025, 11, 1, tzinfo=UTC)
    for at, size in ((before, 9), (OCTOBER, 1), (OCTOBER + timedelta(days=30), 3), (after, 9)):
        record(club, "inventory", "files", at, totals={"size_bytes": size * 10**9})
        rows = [{"title": f"T{size}"}]
        told = {
            "titles": {"seconds": size / 10, "columns": ["title"], "rows": rows},
            "gone": {"seconds": 1},
            "unread": {"message": "no"},
        }
        record(club, "references", "", at, seconds=float(size), checks={"untitled": {"count": size - 1}}, queries=told)
        record(club, "orphan_diff", "", at)
    facts = page(system, club, "month", "2025-10")
    assert facts["reconciliations"] == {"count": 2, "complete": 2}
    files, covers = facts["stores"]
    assert files == {
        "name": "files", "listings": 2, "first_bytes": 10**9, "last_bytes": 3 * 10**9, "mean_bytes": 2 * 10**9,
        "price_per_gb_month": 2.0, "cost": 4.0, "first_cost": 2.0, "last_cost": 6.0,
    }  # fmt: skip
    assert (covers["mean_bytes"], covers["cost"]) == (None, None)
    assert facts["reading"] == {"count": 2, "first_seconds": 1.0, "last_seconds": 3.0, "median_seconds": 2.0}
    assert facts["queries"] == [
        {"name": "titles", "count": 2, "first_seconds": 0.1, "last_seconds": 0.3, "median_seconds": 0.2},
        {"name": "unread", "count": 0},
    ]
    [check] = facts["checks"]
    assert (check["asked"], check["failed"], check["last_count"], check["worst_count"]) == (2, 1, 2, 2)
    told = "\n".join(page_lines(facts))
    assert "Store files: 1 GB -> 3 GB, mean 2 GB of 2 listings; cost 4.00 for the month." in told
    assert "Store covers: not listed." in told
    empty = page(system, club, "month", "2025-12")
    assert (empty["reading"], empty["plans"]["executed"], empty["checks"][0]["asked"]) == (None, 0, 0)
    assert "Check untitled: never answered." in "\n".join(page_lines(empty))


def test_acts_of_people_are_counted_apart(tmp_path: Path) -> None:
    club = Club(tmp_path / "club")
    system = load_systems(write(tmp_path / "p", {"assets/papers/defs.yaml": PAPERS + POLICIES}))["papers"].system
    state = club.home.control.retention
    first = run_cycle(system, "loose", club.home, run_id="r", reconcile_first=True)
    state.standing_approve("papers", "loose", first.plan.config_digest, "ada", "T-1")
    run_cycle(system, "loose", club.home, run_id="r", reconcile_first=True)
    by_hand = run_cycle(system, "unread", club.home, run_id="r", reconcile_first=True).plan
    state.approve(by_hand.id, by_hand.digest, by_hand.units, "ada", "T-2", expires_at=by_hand.expires_at)
    from maintenance_defs.retention.gate import execute

    execute(system, by_hand.id, club.home, run_id="r")
    now = datetime.now(UTC)
    facts = page(system, club, "month", f"{now:%Y-%m}")
    assert facts["plans"] == {"executed": 2, "by_hand": 1, "by_standing_approval": 1, "partial": 0, "units": 4}


def test_the_command_tells_of_a_month_and_refuses_what_is_none(colouring: World) -> None:
    told = colouring.run("report", "--month", "2024-01", "--json")
    assert told.exit_code == 0
    assert json.loads(told.stdout)["reconciliations"] == {"count": 0, "complete": 0}
    for wrong in ("2024", "2024-13", "January"):
        assert colouring.run("report", "--month", wrong).exit_code == 2
    assert "each stand alone" in colouring.run("report", "--month", "2024-01", "--last").stderr


@pytest.mark.parametrize(("month", "until"), [("2025-12", "2026-01-01T00:00:00Z"), ("2024-02", "2024-03-01T00:00:00Z")])
def test_a_month_ends_where_the_next_begins(tmp_path: Path, month: str, until: str) -> None:
    club = Club(tmp_path / "club")
    system = load_systems(write(tmp_path / "p", {"assets/papers/defs.yaml": PAPERS}))["papers"].system
    assert page(system, club, "month", month)["until"] == until


DAY = datetime(2025, 10, 14, tzinfo=UTC)  # a Tuesday
NIGHTLY = Schedule(system="papers", run="reconciliation", cron="0 3 * * *", cron_env="PAPERS_CRON")
CLEANUP = Schedule(system="papers", policy=("loose",), cron="0 */6 * * *")


def night(club: Club, at: datetime, orphans: int, size: int, verdict: str = "complete", why: str = "") -> None:
    record(club, "inventory", "files", at, totals={"size_bytes": size})
    rows = [{"title": f"T{n}"} for n in range(orphans)]
    told = {"titles": {"seconds": 0.5, "columns": ["title"], "rows": rows}}
    record(club, "references", "", at, seconds=2.0, queries=told)
    stores = {"files": {"counts": {"orphan_candidate": orphans}}}
    record(club, "orphan_diff", "", at, verdict, 20, stores=stores, message=why)


def test_a_day_tells_what_ran_what_failed_and_how_old_the_last_success_is(tmp_path: Path) -> None:  # S1-29
    club = Club(tmp_path / "club")
    files_of = {"assets/papers/defs.yaml": PRICED + POLICIES, "assets/papers/titles.sql": "SELECT title FROM docs"}
    system = load_systems(write(tmp_path / "p", files_of))["papers"].system
    night(club, DAY - timedelta(hours=21), 7, 900)  # the day before
    night(club, DAY + timedelta(hours=3), 7, 1000)
    night(club, DAY + timedelta(hours=9), 12, 1500)
    for hour in (12, 18):
        night(club, DAY + timedelta(hours=hour), 0, 1500, "incomplete", "the store was away.")
    now = DAY + timedelta(hours=20)
    facts = page(system, club, "day", "2025-10-14", [NIGHTLY, CLEANUP], now)
    assert (facts["day"], facts["since"], facts["until"]) == (
        "2025-10-14", "2025-10-14T00:00:00Z", "2025-10-15T00:00:00Z",
    )  # fmt: skip
    reconciled, unread, loose = facts["runs"]
    assert reconciled == {
        "name": "reconciliation", "runs": 4, "failed": 2, "success_percent": 50.0, "due": 5, "median_seconds": 20.0,
        "last_success_at": "2025-10-14T09:00:20Z", "last_success_age_seconds": 11 * 3600 - 20,
        "errors": [{"last_at": "2025-10-14T18:00:20Z", "count": 2, "message": "the store was away."}],
    }  # fmt: skip
    assert (unread["due"], loose["due"], loose["runs"], loose["success_percent"]) == (None, 4, 0, None)
    assert facts["orphans"] == {"first": 7, "last": 12}
    told = "\n".join(page_lines(facts))
    assert "papers on 2025-10-14" in told
    assert (
        "reconciliation: 4 runs of 5 due, 2 failed (50 % succeeded); last success 2025-10-14T09:00:20Z, 10 h earlier."
        in told
    )
    assert "failed 2025-10-14T18:00:20Z (2 times): the store was away." in told
    assert "loose: no run came to an end of 4 due; no success is on record." in told
    assert "Store files: 1.5 kB, +500 B (+50.0 %) between 4 listings." in told
    assert "Orphans: 12, +5 in between." in told
    quiet = page(system, club, "day", "2025-10-15", now=now + timedelta(days=1))
    assert (quiet["runs"][0]["success_percent"], quiet["runs"][0]["last_success_at"]) == (None, "2025-10-14T09:00:20Z")
    assert quiet["orphans"] is None
    assert "reconciliation: did not run; last success 2025-10-14T09:00:20Z, 34 h earlier." in "\n".join(
        page_lines(quiet)
    )


def test_a_week_tells_answers_costs_and_times(tmp_path: Path) -> None:  # S1-30
    club = Club(tmp_path / "club")
    files_of = {"assets/papers/defs.yaml": PRICED + POLICIES, "assets/papers/titles.sql": "SELECT title FROM docs"}
    system = load_systems(write(tmp_path / "p", files_of))["papers"].system
    monday = DAY - timedelta(days=1)
    night(club, monday - timedelta(seconds=1), 1, 9 * 10**9)
    night(club, monday, 2, 2 * 10**9)
    night(club, monday + timedelta(days=6, hours=23), 8, 3 * 10**9)
    night(club, monday + timedelta(days=7), 1, 9 * 10**9)
    facts = page(system, club, "week", "2025-10-14", [NIGHTLY])
    assert (facts["week"], facts["runs"][0]["runs"], facts["runs"][0]["due"]) == ("2025-10-13", 2, 7)
    [titles, unread] = facts["answers"]
    assert (titles["row_count"], titles["rows"][0], unread["message"]) == (8, {"title": "T0"}, "Not read.")
    told = "\n".join(page_lines(facts))
    assert "papers in the week from 2025-10-13" in told
    assert "Cost of files: 4.00 -> 6.00 a month." in told
    assert "Reading the database took 2 s usually" in told
    assert "titles: title T0; title T1; title T2; title T3; title T4 (3 more)" in told
    assert "Check untitled: never answered." in told


def test_a_page_fits_on_a_screen(tmp_path: Path) -> None:
    club = Club(tmp_path / "club")
    system = load_systems(write(tmp_path / "p", {"assets/papers/defs.yaml": PAPERS + POLICIES}))["papers"].system
    for minute in range(60):
        night(club, DAY + timedelta(minutes=minute), 1, 1, "incomplete", f"broken in way {minute}.")
    assert len(list(page_lines(page(system, club, "day", "2025-10-14")))) < 20


def test_a_schedule_that_is_off_is_never_due(tmp_path: Path) -> None:
    club = Club(tmp_path / "club")
    club.environment["PAPERS_CRON"] = "off"
    system = load_systems(write(tmp_path / "p", {"assets/papers/defs.yaml": PAPERS}))["papers"].system
    [reconciled] = page(system, club, "day", "2025-10-14", [NIGHTLY])["runs"]
    assert reconciled["due"] is None


def test_a_tick_counts_from_its_first_instant_to_before_its_last() -> None:
    def of(since: datetime, until: datetime) -> int:
        return ticks("0 3 * * *", "UTC", since, until)

    three = DAY + timedelta(hours=3)
    assert of(three, three + timedelta(days=1)) == 1
    assert of(three + timedelta(seconds=1), three + timedelta(days=1)) == 0
    assert of(three, three) == 0
    assert (
        ticks("30 2 * * *", "Europe/Warsaw", datetime(2025, 3, 29, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)) == 3
    )


@pytest.mark.parametrize(
    ("kind", "day", "since", "until"),
    [
        ("day", date(2024, 2, 29), "2024-02-29", "2024-03-01"),
        ("week", date(2025, 10, 13), "2025-10-13", "2025-10-20"),
        ("week", date(2025, 10, 19), "2025-10-13", "2025-10-20"),
        ("week", date(2026, 1, 1), "2025-12-29", "2026-01-05"),
        ("month", date(2025, 12, 31), "2025-12-01", "2026-01-01"),
        ("month", date(2024, 2, 1), "2024-02-01", "2024-03-01"),
    ],
)
def test_a_period_begins_and_ends_where_people_expect(kind: Kind, day: date, since: str, until: str) -> None:
    found = Period.around(kind, day)
    assert (f"{found.since:%Y-%m-%d}", f"{found.until:%Y-%m-%d}") == (since, until)
    assert Period.before(kind, day).until == found.since


def test_the_command_tells_of_the_last_day_and_week(colouring: World) -> None:
    assert colouring.run("reconcile").exit_code == 0
    day = colouring.run("report", "--day")
    assert day.exit_code == 0, day.stderr
    assert "colouring in the 24 hours to " in day.stdout
    assert "reconciliation: 1 run" in day.stdout
    week = json.loads(colouring.run("report", "--week", "--json").stdout)
    assert (week["week"], week["runs"][0]["runs"]) == (None, 1)
    assert week["answers"][0]["message"] is None
    wrong = colouring.run("report", "--day", "yesterday")
    assert wrong.exit_code == 2
    assert "'yesterday' is not a day; write it such as 2025-10-31" in wrong.stderr
    assert colouring.run("report", "--day", "2025-02-30").exit_code == 2
    assert colouring.run("report", "--day", "--last").exit_code == 2
