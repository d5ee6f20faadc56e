"""report --month: what is on record of a month, and nothing else (S1-31, S1-43)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.declarations import load_systems
from maintenance_defs.reporting.monthly import month_facts, month_lines, parse_month
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


def record(club: Club, kind: str, name: str, at: datetime, **evidence: object) -> None:
    club.home.control.record(
        Artefact(
            id=f"{kind}{name}{at:%m%d%H%M%S}", system="papers", kind=kind, name=name, run_id="r", as_of=at,
            started_at=at, ended_at=at, verdict="complete", reason=None, uri=None, row_count=0, size_bytes=0,
            digest=None, evidence=evidence, config_digest="c", inputs=(),
        )
    )  # fmt: skip


def test_a_month_is_told_from_what_was_recorded_in_it(tmp_path: Path) -> None:
    club = Club(tmp_path / "club")
    files_of = {"assets/papers/defs.yaml": PRICED, "assets/papers/titles.sql": "SELECT title FROM docs"}
    system = load_systems(write(tmp_path / "p", files_of))["papers"].system
    before, after = OCTOBER - timedelta(seconds=1), datetime(2025, 11, 1, tzinfo=UTC)
    for at, size in ((before, 9), (OCTOBER, 1), (OCTOBER + timedelta(days=30), 3), (after, 9)):
        record(club, "inventory", "files", at, totals={"size_bytes": size * 10**9})
        told = {"titles": {"seconds": size / 10}, "gone": {"seconds": 1}, "unread": {"message": "no"}}
        record(club, "references", "", at, seconds=float(size), checks={"untitled": {"count": size - 1}}, queries=told)
        record(club, "orphan_diff", "", at)
    facts = month_facts(system, club.home, parse_month("2025-10"))
    assert facts["reconciliations"] == {"count": 2, "complete": 2}
    files, covers = facts["stores"]
    assert files == {
        "name": "files", "listings": 2, "first_bytes": 10**9, "last_bytes": 3 * 10**9, "mean_bytes": 2 * 10**9,
        "price_per_gb_month": 2.0, "cost": 4.0,
    }  # fmt: skip
    assert (covers["mean_bytes"], covers["cost"]) == (None, None)
    assert facts["reading"] == {"count": 2, "first_seconds": 1.0, "last_seconds": 3.0, "median_seconds": 2.0}
    assert facts["queries"] == [
        {"name": "titles", "count": 2, "first_seconds": 0.1, "last_seconds": 0.3, "median_seconds": 0.2},
        {"name": "unread", "count": 0},
    ]
    [check] = facts["checks"]
    assert (check["asked"], check["failed"], check["last_count"], check["worst_count"]) == (2, 1, 2, 2)
    told = "\n".join(month_lines(facts))
    assert "Store files: 1 GB -> 3 GB, mean 2 GB of 2 listings; cost 4.00 for the month." in told
    assert "Store covers: not listed." in told
    empty = month_facts(system, club.home, parse_month("2025-12"))
    assert (empty["reading"], empty["plans"]["executed"], empty["checks"][0]["asked"]) == (None, 0, 0)
    assert "Check untitled: never answered." in "\n".join(month_lines(empty))


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
    facts = month_facts(system, club.home, datetime(now.year, now.month, 1, tzinfo=UTC))
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
    assert month_facts(system, club.home, parse_month(month))["until"] == until
