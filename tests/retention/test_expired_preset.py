"""A preset that expires between plan and act, or during it, decides nothing more (S1-5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maintenance_defs.core.errors import Refused
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.declarations import load_systems
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.reporting.doctor import examine
from maintenance_defs.reporting.report import Report
from maintenance_defs.reporting.retention_facts import plan_facts
from maintenance_defs.reporting.retention_text import plan_lines
from maintenance_defs.retention.gate import execute
from maintenance_defs.retention.planning import take_plan
from tests.components.conftest import PAPERS, Club, write
from tests.components.test_retention_assets import POLICIES, files

HOUR = timedelta(hours=1)


class Bench:
    def __init__(self, folder: Path, expires_in: timedelta) -> None:
        self.club = Club(folder / "club")
        self.club.environment["PAPERS_PRESET"] = "testing"
        self.club.sql("UPDATE docs SET changed_at = ?", f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d %H:%M:%S}")
        self.expires_at = datetime.now(UTC) + expires_in
        text = (PAPERS + POLICIES).replace(
            "testing: {unread: 180 s}", f"testing: {{unread: 180 s, expires_at: {format_instant(self.expires_at)}}}"
        )
        self.loaded = load_systems(write(folder / "p", {"assets/papers/defs.yaml": text}))["papers"]
        self.system, self.home = self.loaded.system, self.club.home
        self.diff = reconcile(self.system, self.home)

    def approved(self) -> str:
        plan = take_plan(self.system, "unread", self.home, run_id="r")
        assert plan.units == 2
        self.home.control.retention.approve(plan.id, plan.digest, plan.units, "ada", "T-1", expires_at=plan.expires_at)
        return plan.id


def test_after_it_expired_only_what_production_lets_go_is_planned(tmp_path: Path) -> None:
    bench = Bench(tmp_path, -HOUR)
    plan = take_plan(bench.system, "unread", bench.home, run_id="r")
    assert plan.units == 0  # two days old, and production keeps 30 days
    assert plan.totals["preset"]["holds"] == "production"
    told = "\n".join(plan_lines(plan_facts(bench.home, plan)))
    assert "NOTE: preset testing expired at " in told
    report = Report.load(bench.system, bench.home, bench.diff)
    assert report.facts["preset"]["holds"] == "production"
    assert "preset testing expired at " in report.to_text()
    [found] = [f for f in examine(bench.system, bench.home, where=str, folder=tmp_path) if f.subject == "preset"]
    assert (found.status, "so production holds" in found.what) == ("warn", True)


def test_within_a_day_of_its_end_it_is_told_and_still_holds(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 5 * HOUR)
    plan = take_plan(bench.system, "unread", bench.home, run_id="r")
    assert (plan.units, plan.totals["preset"]["holds"]) == (2, "testing")
    assert "from then on production holds" in plan.totals["preset"]["message"]
    [found] = [f for f in examine(bench.system, bench.home, where=str, folder=tmp_path) if f.subject == "preset"]
    assert found.status == "warn"


def test_a_plan_of_before_is_not_carried_out_after(tmp_path: Path) -> None:
    bench = Bench(tmp_path, HOUR)
    plan = bench.approved()
    with pytest.raises(Refused, match=r"or its preset expired\. Nothing was done"):
        execute(bench.system, plan, bench.home, run_id="r", clock=lambda: bench.expires_at)
    assert {"1.pdf", "2.pdf"} <= files(bench.club)


def test_a_plan_for_an_instant_of_before_is_not_carried_out_after(tmp_path: Path) -> None:
    bench = Bench(tmp_path, -HOUR)
    plan = take_plan(bench.system, "unread", bench.home, run_id="r", as_of=bench.expires_at - timedelta(minutes=1))
    assert plan.units == 2  # so it would have been
    bench.home.control.retention.approve(plan.id, plan.digest, 2, "ada", "T-1", expires_at=plan.expires_at)
    with pytest.raises(Refused, match="or its preset expired"):
        execute(bench.system, plan.id, bench.home, run_id="r")
    assert {"1.pdf", "2.pdf"} <= files(bench.club)


def test_an_execution_stops_at_the_batch_after_it_expired(tmp_path: Path) -> None:
    bench = Bench(tmp_path, HOUR)
    plan = bench.approved()
    done: list[int] = []

    def clock() -> datetime:
        return bench.expires_at if done else bench.expires_at - HOUR / 2

    with pytest.raises(Refused, match="the preset of papers expired"):
        execute(
            bench.system, plan, bench.home, run_id="r", clock=clock, progress=done.append, units_per_batch=1,
        )  # fmt: skip
    assert done == [1]
    assert len({"1.pdf", "2.pdf"} & files(bench.club)) == 1
    assert bench.home.control.retention.plan(plan).state == "partial"
