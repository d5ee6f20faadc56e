"""Archived columns by the command: the same plan, approve and apply as other archives."""

from __future__ import annotations

from tests.cli.archive_world import AS_OF, ArchiveWorld

RESULTS = "job_results"


def test_results_are_planned_applied_and_given_back(executions: ArchiveWorld) -> None:
    """A4-7, S4-50."""
    plan = executions.plan(AS_OF, RESULTS)
    assert [(line["act"], line["organisation"], line["rows"]) for line in plan["lines"]] == [
        ("archive_value", "org-90", 1), ("archive_value", "org-default", 2),
    ]  # fmt: skip
    shown = executions.run("plan", plan["plan"][:8]).stdout
    assert "2 units: 3 rows to the archive" in shown
    assert "to a file; a summary stays" in shown
    whole = executions.rows("SELECT id, result::text FROM jobs WHERE result IS NOT NULL ORDER BY id")

    done = executions.run("apply", plan["plan"], "--confirm", plan["short_digest"])
    assert done.exit_code == 0, done.output
    assert "3 rows: values in files of their own; a summary stays in the row" in done.stdout
    slim = executions.rows("SELECT id, result::text FROM jobs WHERE result IS NOT NULL ORDER BY id")
    assert all(len(after) < len(before) for (_, after), (_, before) in zip(slim, whole, strict=True))
    assert len(list(executions.archive.rglob("*.json.gz"))) == 3
    (told,) = executions.told("archive", "status", "executions")["columns"]
    assert (told["archive"], told["column"], told["states"], told["values"]) == (
        RESULTS, "result", {"slimmed": 3}, 3,
    )  # fmt: skip
    assert told["size_bytes"] > 0 and told["value_bytes"] > 0
    status = executions.run("archive", "status", "executions", RESULTS)
    assert "3 archived: a summary is in the row" in status.stdout
    report = executions.run("report", "executions", "--plan", plan["plan"][:8])
    assert report.exit_code == 0, report.output

    for id, text in whole:
        assert executions.run("archive", "restore", "executions", RESULTS, id).exit_code == 0
        assert executions.rows(f"SELECT result::text FROM jobs WHERE id = '{id}'") == [(text,)]


def test_a_plan_of_results_is_listed_for_review(executions: ArchiveWorld) -> None:
    plan = executions.plan(AS_OF, RESULTS)
    file = executions.folder / "review.csv"
    done = executions.run("plan", "--export", str(file), plan["plan"][:8])
    assert done.exit_code == 0, done.output
    assert "org-default, 2 rows" in file.read_text()
