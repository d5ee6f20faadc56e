"""An archive in the Dagster UI, as a person sees it: months, plan, approval, removal, checks."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from maintenance_defs.control.home import Home
from tests.cli.conftest import ROOT
from tests.cli.test_serving import COMMAND
from tests.ui.conftest import approve, shoot, wait_until

AUDIT = "phi_audit"
MONTHS = {"2025-06": 3, "2025-11": 1}  # rows of the demonstration, cold by any clock of today

pytestmark = pytest.mark.real


def test_months_are_archived_approved_and_removed_by_button(page: Any, ui: str, home: dict[str, str]) -> None:
    control = Home.open(home).control

    def months(state: str) -> list[str]:
        return [unit.label for unit in control.archive.units("executions", AUDIT) if unit.state == state]

    def plan() -> Any:
        found = control.retention.plans("executions", AUDIT, limit=5)
        return next((one for one in found if one.totals.get("only") == "removal"), None)

    def show(step: str, *said: str) -> None:
        page.goto(f"{ui}/assets/executions/{AUDIT}_{step}")
        for text in said:
            page.get_by_text(text).first.wait_for()

    # Nobody knows the months of a table without partitions before a plan has looked at its rows.
    page.set_viewport_size({"width": 1500, "height": 1330})
    show("plan", "it is the rehearsal")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("have not been materialized yet").wait_for()  # Dagster's own question: no month was archived
    page.get_by_role("button", name="Confirm").click()
    wait_until(lambda: plan() is not None)
    show("plan", plan().short_digest, "2 units: 4 rows would leave the table for the archive", "maintain approve")
    shoot(page, "archive_plan")

    show("archive", "Nothing leaves the table here")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("All", exact=True).click()
    dialog.get_by_text("2 partitions").wait_for()
    dialog.get_by_role("button", name=re.compile("Launch")).click()
    wait_until(lambda: months("catalogued") == list(MONTHS), lambda: control.archive.units("executions", AUDIT))
    show("archive", "in proven files; its rows are in their table as well")
    page.locator("img[alt='chart']").wait_for()
    shoot(page, "archive")

    approve(page, ui, "executions", AUDIT, plan(), 9999)
    page.get_by_text("would act on 2 units, not 9,999. Nothing was approved.").first.wait_for()
    shoot(page, "archive_refused")
    assert plan().state == "planned"
    assert months("catalogued") == list(MONTHS)  # nothing left
    approve(page, ui, "executions", AUDIT, plan(), 2)
    wait_until(lambda: plan().state in ("approved", "executing", "done"), plan)
    show("removal", "Only what is proven leaves")
    page.get_by_role("button", name="Materialize").first.click()
    wait_until(lambda: plan().state == "done", plan)
    show("removal", "3 of 3 steps", "approved_by", "ada: T-1")
    shoot(page, "archive_removal")
    show("removal?view=checks", "complete", "Succeeded")

    show("plan?view=checks", "nothing_stopped", "Succeeded")
    checks = page.locator("body").inner_text()
    for name, state in {"enabled": "Succeeded", "periods_valid": "Succeeded", "nothing_stopped": "Succeeded"}.items():
        assert f"{name}\n{state}" in checks, checks
    shoot(page, "archive_checks")

    told = subprocess.run(
        [*COMMAND, "archive", "status", "executions", AUDIT, "--json"],
        cwd=ROOT,
        env=home,
        capture_output=True,
        text=True,
    )
    (archive,) = json.loads(told.stdout)["archives"]
    assert {unit["month"]: (unit["state"], unit["rows"]) for unit in archive["units"]} == {
        month: ("removed", rows) for month, rows in MONTHS.items()
    }
