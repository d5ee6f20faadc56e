"""`maintain growth`: what it prints, its JSON, and its exit codes."""

from __future__ import annotations

import json
import shutil
from typing import Any

from tests.cli.conftest import World

FIELDS = {
    "version", "system", "artefact", "run_id", "as_of", "verdict", "reason", "message", "window_days", "warn_percent",
    "fail_percent", "floor_bytes", "database", "stores", "tables", "projections", "projected_per_month",
    "expected_per_month", "savings", "savings_per_month", "before",
}  # fmt: skip


def told(world: World, *arguments: str) -> dict[str, Any]:
    done = world.run("growth", "--json", *arguments)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_not_listed_yet_is_said_and_exits_with_1(reports: World) -> None:
    """K14: and the tables are told."""
    done = reports.run("growth", "--as-of", reports.as_of)
    assert done.exit_code == 1
    assert "NOT KNOWN (not_run): It has not been listed yet." in done.stdout
    assert "report_assets    11" in done.stdout


def test_stores_and_tables_are_told_after_a_report(reports: World) -> None:
    """S0-2, S0-14, S0-15."""
    reports.report()
    done = reports.run("growth", "--as-of", reports.as_of)
    assert done.exit_code == 0, done.output
    assert "12 objects, 2.04 MB, listed 2025-08-14T00:00:00Z. Its growth is not known yet" in done.stdout
    assert "reports/       12  2.04 MB" in done.stdout
    found = told(reports, "--last")
    assert set(found) == FIELDS
    assert (found["stores"][0]["level"], found["tables"][0]["rows"]) == ("unknown", 11)
    assert found["tables"][0]["new"]["rows"] == 11


def test_last_reads_no_database(reports: World) -> None:
    assert reports.run("growth", "--last").exit_code == 2
    reports.report()
    first = told(reports, "--as-of", reports.as_of)
    reports.database.unlink()
    assert told(reports, "--last") == first
    wrong = reports.run("growth", "--last", "--as-of", reports.as_of)
    assert (wrong.exit_code, "takes no --as-of" in wrong.output) == (2, True)


def test_growth_above_the_limits_is_a_finding_where_that_is_asked_for(reports: World) -> None:
    """S1-53: 12 objects of 2 MB the day before, and 500 MB more."""
    reports.run("report", "--as-of", "2025-08-13T00:00:00Z")
    with reports.put("reports/fallback_1/asset_1.pdf").open("wb") as file:
        file.truncate(500_000_000)
    reports.report()
    found = reports.run("growth", "--as-of", reports.as_of)
    assert (found.exit_code, "GROWS TOO FAST" in found.stdout) == (0, True)
    assert "+500 MB a day over 1 d. In 24 h: +24" in found.stdout
    assert reports.run("growth", "--as-of", reports.as_of, "--fail-on-findings").exit_code == 1


def test_neither_store_nor_database_exits_with_2(reports: World) -> None:
    reports.report()
    shutil.rmtree(reports.store)
    reports.database.unlink()
    reports.report()
    done = reports.run("growth")
    assert done.exit_code == 2
    assert "Last listed to its end 2025-08-14T00:00:00Z: 2.04 MB." in done.stdout
    assert "TABLES NOT MEASURED" in done.stdout


def test_before_needs_a_measurement_of_then(reports: World) -> None:
    """S4-1."""
    reports.report()
    assert reports.run("growth", "--as-of", "2025-08-01T00:00:00Z").exit_code == 1  # not listed by then
    done = reports.run("growth", "--as-of", reports.as_of, "--before", "2025-08-02T00:00:00Z")
    assert "Before (2025-08-01T00:00:00Z) and now" in done.stdout
    wrong = reports.run("growth", "--last", "--before", "2025-07-01T00:00:00Z")
    assert (wrong.exit_code, "was not measured by 2025-07-01" in wrong.output) == (2, True)
