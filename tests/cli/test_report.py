"""The report as JSON, text and Markdown, and its exit codes."""

import json
import re
from pathlib import Path
from typing import Any

from tests.cli.conftest import ROOT, World

GOLDEN = Path(__file__).with_name("golden")
INSTANT = re.compile(r"20(2[6-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")  # of this run, not of the data


def facts(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.report("--json").stdout)
    return found


def settled(text: str, world: World) -> str:
    """Without what differs from run to run."""
    text = text.replace(str(world.store), "STORE").replace(str(world.database), "DATABASE")
    text = re.sub(r'"SQLite [\d.]+"', '"SQLite"', text)
    return INSTANT.sub("NOW", re.sub(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b", "ID", text))


def test_the_json_is_as_in_the_golden_file(reports: World) -> None:
    """After a deliberate change: write the new text there, and look at the difference."""
    found = json.loads(settled(reports.report("--json").stdout, reports))
    for guard in found["guards"]:
        assert guard.pop("message")  # worded and tested in core/guards.py
        if guard["name"] == "stale_inputs":
            guard["measured"] = 0.0  # seconds: more on a busy machine
    assert found == json.loads((GOLDEN / "reports.json").read_text())


def documented(heading: str) -> set[str]:
    page = (ROOT / "docs" / "report.md").read_text()
    table = page.split(heading)[1].split("\n\n| field | |\n")[1].split("\n\n")[0]
    return {name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_every_field_is_documented_and_every_documented_field_is_there(reports: World) -> None:
    found = facts(reports)
    assert set(found) == documented("never 0.")
    assert set(found["stores"][0]) == documented("A store:")
    page = (ROOT / "docs" / "report.md").read_text().split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)`(?:, `\w+`)* \| (.*) \|$", page, re.M))
    for name in ("summary", "database", "guards", "checks", "queries", "sources"):
        value = found[name][0] if isinstance(found[name], list) else found[name]
        assert set(value) <= set(re.findall(r"`(\w+)`", rows[name])), name


def test_monitoring_numbers_of_the_reports_system(reports: World) -> None:
    found = facts(reports)
    queries = {query["name"]: query for query in found["queries"]}
    assert [tuple(row.values())[:2] for row in queries["accumulation"]["rows"]] == [("M4A4SSPV", 6), ("C8NOHTML", 3)]
    assert "archive_columns" in queries["active_accumulation"]["message"]
    assert found["summary"]["orphaned_files"] == 1
    assert found["summary"]["orphaned_records"] == 0
    assert found["stores"][0]["orphans"][0]["key"].endswith("asset_1754600000801_dddddddd1.pdf")


def test_text_and_markdown_say_the_same(reports: World) -> None:
    text, markdown = reports.report().stdout, reports.run("report", "--last", "--markdown").stdout
    for words in ("Orphaned files: 1", "187 kB", "8.33 %", "M4A4SSPV", "archive"):
        assert words in text
        assert words in markdown
    assert "migration" in text
    assert "| reports/ | product | 12 |" in markdown


def test_last_reads_neither_store_nor_database(reports: World) -> None:
    first = reports.report().stdout
    reports.store.rename(reports.store.with_name("elsewhere"))
    reports.database.unlink()
    done = reports.run("report", "--last")
    assert done.stdout == first
    assert done.exit_code == 0


def test_last_without_any_reconciliation_says_what_to_do(reports: World) -> None:
    done = reports.run("report", "--last")
    assert done.exit_code == 2
    assert "has not been reconciled yet. Run `maintain report reports` without --last." in done.stderr


def test_findings_fail_only_where_asked_for(reports: World) -> None:
    assert reports.report().exit_code == 0
    assert reports.report("--fail-on-findings").exit_code == 1


def test_a_clean_system_exits_0_also_where_findings_fail(colouring: World) -> None:
    for animal in ("lion", "cat", "dog"):
        (colouring.store / f"assets/{animal}/pl_preview.png").unlink()
    assert colouring.report("--fail-on-findings").exit_code == 0


def test_a_tripped_guard_exits_3_and_says_why(colouring: World) -> None:
    colouring.sql("DELETE FROM assets")
    done = colouring.report()
    assert done.exit_code == 3
    assert "=== Refused ===\n❌ empty_reference_set: " in done.stdout


def test_an_empty_bucket_has_no_ratio(reports: World) -> None:
    for file in reports.store.rglob("*.*"):
        file.unlink()
    reports.sql("DELETE FROM report_assets")
    store = facts(reports)["stores"][0]
    assert store["orphan_percent"] == 0
    assert store["scopes"][0]["average_bytes"] == 0


def test_reconcile_prints_one_line(reports: World) -> None:
    done = reports.run("reconcile", "--as-of", reports.as_of)
    assert done.stdout == (
        "reports as of 2025-08-14T00:00:00Z: complete, 12 objects, "
        "orphaned files 1, orphaned records 0, not decided 0\n"
    )


def test_no_secret_reaches_any_output_or_file(colouring: World, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLOURING_DATABASE_URL", "postgresql+psycopg2://joe:s3cr3tw0rd@127.0.0.1:1/none")
    done = colouring.report()
    assert done.exit_code in (2, 3)
    last = colouring.run("report", "--last", "--json")
    files = b"".join(path.read_bytes() for path in colouring.home.path.rglob("*") if path.is_file())
    assert "s3cr3tw0rd" not in done.output + last.output
    assert b"s3cr3tw0rd" not in files
