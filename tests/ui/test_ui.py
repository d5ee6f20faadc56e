"""The Dagster UI as a person sees it: materialise a system by button, read what was found, stop it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from maintenance_defs.control.home import Home
from tests.cli.conftest import ROOT
from tests.cli.test_serving import COMMAND
from tests.ui.conftest import approve, shoot, wait_for_success, wait_until

LINEAGE = "/locations/maintenance/asset-groups/colouring/lineage"
JOBS = "/locations/maintenance/jobs"

pytestmark = pytest.mark.real


def test_system_is_materialised_by_button_and_its_findings_are_shown(page: Any, ui: str, home: dict[str, str]) -> None:
    page.set_viewport_size({"width": 1600, "height": 760})
    page.goto(ui + LINEAGE)
    for asset in ("inventory", "references", "orphan_diff"):
        page.get_by_text(asset, exact=True).first.wait_for()
    page.goto(f"{ui}{JOBS}/colouring_reconciliation")
    page.get_by_role("button", name="Materialize all").click()
    wait_for_success(ui, "colouring_reconciliation")
    # The group's own picture shows no words beside so many assets.
    page.goto(f"{ui}/assets/colouring/orphan_diff?view=lineage&lineageScope=upstream&lineageDepth=5")
    page.get_by_text("orphan_diff", exact=True).first.wait_for()
    page.get_by_text("Materialized", exact=True).nth(2).wait_for()
    page.get_by_text("8 / 8 Passed").wait_for()
    shoot(page, "lineage")

    page.set_viewport_size({"width": 1500, "height": 1900})
    page.goto(f"{ui}/assets/colouring/orphan_diff")
    page.get_by_text("assets/lion/pl_preview.png").wait_for()
    chart = page.locator("img[alt='chart']")
    chart.wait_for()
    assert chart.evaluate("image => image.decode().then(() => image.naturalWidth)") == 340
    page.get_by_text("colouring_reconciliation").wait_for()  # the side column comes last
    shoot(page, "orphan_diff")
    text = page.locator("body").inner_text()

    done = subprocess.run(
        [*COMMAND, "report", "colouring", "--last", "--json"], cwd=ROOT, env=home, capture_output=True, text=True
    )
    summary = json.loads(done.stdout)["summary"]
    assert (summary["orphaned_files"], summary["orphaned_records"]) == (3, 0)
    assert f"{summary['orphaned_files']} orphaned objects (541 kB). {summary['orphaned_records']} rows without" in text


def test_a_plan_is_approved_in_the_launchpad_and_executed(page: Any, ui: str, home: dict[str, str]) -> None:
    retention = Home.open(home).control.retention

    def plan() -> Any:
        return retention.plans("colouring", "orphaned_files", limit=1)[0]

    page.goto(f"{ui}{JOBS}/colouring_orphaned_files")
    page.get_by_role("button", name="Materialize all").click()
    wait_for_success(ui, "colouring_orphaned_files")
    page.goto(f"{ui}/assets/colouring/orphaned_files_plan")
    page.get_by_text(plan().short_digest).first.wait_for()
    shoot(page, "plan")

    approve(page, ui, "colouring", "orphaned_files", plan(), 9999)
    page.get_by_text("would act on 3 units, not 9,999. Nothing was approved.").first.wait_for()
    assert plan().state == "planned"
    approve(page, ui, "colouring", "orphaned_files", plan(), 3)
    wait_until(lambda: plan().state == "approved", plan)
    page.goto(f"{ui}/assets/colouring/orphaned_files_deletion")
    page.get_by_role("button", name="Materialize").first.click()
    wait_until(lambda: plan().state == "done", plan)
    page.goto(f"{ui}/assets/colouring/orphaned_files_deletion")
    page.get_by_text("3 of 3 steps").wait_for()
    page.get_by_text("assets/lion/pl_preview.png").wait_for()
    shoot(page, "deletion")
