"""Archives by the command: plan, approve, apply, hold, pause, run, status; what they say, refuse, and leave behind."""

from __future__ import annotations

import csv
import json
import re
import shutil
from typing import Any

from tests.cli.archive_world import A_MONTH_LATER, AS_OF, LOG, ArchiveWorld
from tests.cli.retention_world import GOLDEN

# Plans


def test_the_plan_of_an_archive_in_words(untouched: ArchiveWorld) -> None:
    """A4-1 at a glance: what leaves, what expires, what stays hot, and the command that comes next."""
    plan = untouched.plan()
    shown = untouched.run("plan", plan["plan"][:8]).stdout
    assert masked_but_months(shown, plan) == (GOLDEN / "archive_plan.txt").read_text()


def test_the_json_of_an_archive_plan_keeps_its_shape(untouched: ArchiveWorld) -> None:
    plan = untouched.plan()
    going = [(line["act"], line["organisation"], line["month"], line["rows"]) for line in plan["lines"]]
    assert going == [
        ("expire_rows", "org-default", "2024-11", 1),
        ("archive", "org-default", "2024-12", 1),
        ("expire_rows", "org-90", "2025-08", 1),
        ("archive", "org-90", "2025-09", 1),
        ("archive", "org-default", "2025-10", 2),
    ]
    hot = [(one["why"], one["organisation"], one["month"], one["rows"]) for one in plan["stays"]]
    assert hot == [("hot", "org-default", "2025-11", 2), ("hot", "org-default", "2025-12", 1)]
    shape = {"plan": sorted(plan), "line": sorted(plan["lines"][0]), "stay": sorted(plan["stays"][0])}
    known = json.loads((GOLDEN / "archive_plan_fields.json").read_text())
    assert [name for name, fields in shape.items() if fields != known[name]] == []


def test_a_plan_of_an_archive_changes_nothing(untouched: ArchiveWorld) -> None:
    """V14."""
    untouched.plan()
    assert len(untouched.logs()) == 9
    assert not untouched.files()


def test_every_archive_is_planned_where_none_is_named(untouched: ArchiveWorld) -> None:
    told = untouched.told("plan", "executions", "--as-of", AS_OF)
    assert [(plan["kind"], plan["policy"]) for plan in told["plans"]] == [
        ("archive", LOG), ("archive", "phi_audit"), ("archive", "job_results"),
    ]  # fmt: skip
    listed = untouched.told("plan", "--list", "executions", "phi_audit")
    assert [plan["policy"] for plan in listed["plans"]] == ["phi_audit"]


def test_an_unknown_archive_is_suggested(untouched: ArchiveWorld) -> None:
    for verb in (["plan", "executions", "execution_logs"], ["archive", "run", "executions", "execution_logs"]):
        done = untouched.run(*verb)
        assert done.exit_code == 3, done.output
        assert "Did you mean 'execution_log'?" in done.stderr


def test_what_has_values_is_not_asked_for_months(untouched: ArchiveWorld) -> None:
    told = untouched.told("archive", "status", "executions", "job_results")
    assert (told["archives"], [one["archive"] for one in told["columns"]]) == ([], ["job_results"])
    done = untouched.run("archive", "run", "executions", "job_results")
    assert done.exit_code == 3
    assert "job_results of executions is an archived column" in done.stderr
    assert "`maintain plan executions job_results`" in done.stderr


def test_a_declaration_says_what_its_archives_take(untouched: ArchiveWorld) -> None:
    told = untouched.run("explain", "executions").stdout
    assert "What goes to files, proven first, once a plan of it was agreed to:" in told
    assert "execution_log (manual): public.execution_log_partitioned, to store archive after 30 d; kept 365 d" in told
    assert "job_results (manual): public.jobs, the values of result, to store archive after 1 d; kept forever." in told
    assert "kept forever; every read is on record." in told


def test_what_organisations_say_wrongly_is_listed_and_keeps_their_rows(executions: ArchiveWorld) -> None:
    """A4-13, G88."""
    executions.sql(
        "INSERT INTO organizations VALUES ('org-14', 'Short', 14), ('org-0', 'None', 0), ('org-minus', 'Less', -5)",
        "INSERT INTO jobs (id, organization_id, workflow_id, status, credential_ids, created_at) "
        "VALUES ('job-14', 'org-14', 'wf-1', 'COMPLETED', '{}', '2025-09-01Z')",
        "INSERT INTO execution_log_partitioned (id, job_id, step_index, level, message, timestamp) "
        "VALUES ('log-14', 'job-14', 0, 'INFO', 'x', '2025-09-02Z')",
    )
    plan = executions.plan()
    assert [(one["organisation"], one["said"]) for one in plan["invalid"]] == [
        ("org-0", "0"), ("org-14", "14"), ("org-minus", "-5"),
    ]  # fmt: skip
    mine = [line["act"] for line in plan["lines"] if line["organisation"] == "org-14"]
    assert mine == ["archive"]
    shown = executions.run("plan", plan["plan"]).stdout
    assert "NOT VALID: org-14 says '14': 14 d is shorter than the hot 30 d. It counts as the default" in shown


def test_rows_without_a_job_and_without_a_time_are_told(executions: ArchiveWorld) -> None:
    """S4-47, G90: nobody's rows are kept longest; rows that no month holds stay."""
    executions.sql(
        "INSERT INTO execution_log_partitioned (id, job_id, step_index, level, message, timestamp) VALUES "
        "('log-10', 'job-gone', 0, 'INFO', 'x', '2023-01-02Z'), ('log-11', 'job-0001', 0, 'INFO', 'x', 'infinity')"
    )
    executions.sql("UPDATE organizations SET log_retention_days = 3650 WHERE id = 'org-2555'")
    plan = executions.plan()
    (line,) = [line for line in plan["lines"] if line["month"] == "2023-01"]
    assert (line["organisation"], line["act"]) == ("__unknown__", "archive")
    assert plan["totals"]["undated_rows"] == 1
    shown = executions.run("plan", plan["plan"]).stdout
    assert "2023-01  (not known)      1  to the archive" in shown
    assert "1 row without a usable time: no month is theirs, so they are never archived." in shown


def test_many_organisations_are_told_by_month(executions: ArchiveWorld) -> None:
    executions.sql(
        "INSERT INTO organizations SELECT 'org-x' || n, 'x', NULL FROM generate_series(1, 60) n",
        "INSERT INTO jobs (id, organization_id, workflow_id, status, credential_ids, created_at) "
        "SELECT 'job-x' || n, 'org-x' || n, 'wf-1', 'COMPLETED', '{}', '2025-09-01Z' FROM generate_series(1, 60) n",
        "INSERT INTO execution_log_partitioned (id, job_id, step_index, level, message, timestamp) "
        "SELECT 'log-x' || n, 'job-x' || n, 0, 'INFO', 'x', '2025-09-02Z' FROM generate_series(1, 60) n",
    )
    plan = executions.plan()
    assert len(plan["lines"]) == 65
    shown = executions.run("plan", plan["plan"]).stdout
    assert re.search(r"2025-09  61 organisations +61  to the archive", shown)
    assert "org-x7" not in shown


# Consent


def test_a_month_leaves_after_its_digest_was_repeated(executions: ArchiveWorld) -> None:
    """A4-2."""
    plan = executions.plan()
    for wrong in ("00000000", plan["short_digest"][:7]):
        assert executions.run("apply", plan["plan"], "--confirm", wrong).exit_code == 3
    assert executions.run("apply", "executions").exit_code == 3
    assert len(executions.logs()) == 9
    done = executions.run("apply", "executions", "--confirm", plan["short_digest"])
    assert done.exit_code == 0, done.output
    assert executions.logs() == ["log-02", "log-03", "log-09"]
    assert len(executions.files()) == 3
    assert "2 rows: deleted, their time was over\n  4 rows: in the archive; gone from the database" in done.stdout


def test_applied_again_nothing_is_left_to_do(executions: ArchiveWorld) -> None:
    """A4-5."""
    plan = executions.plan()
    assert executions.run("apply", plan["plan"], "--confirm", plan["short_digest"]).exit_code == 0
    again = executions.run("apply", plan["plan"])
    assert again.exit_code == 0
    assert "executed already; nothing was done" in again.stdout
    after = executions.plan()
    assert (after["units"], after["lines"], after["state"]) == (0, [], "done")
    assert "Nothing to do." in executions.run("plan", after["plan"]).stdout


def test_only_the_months_that_were_reviewed_leave(executions: ArchiveWorld) -> None:
    plan = executions.plan()
    file = executions.folder / "review.csv"
    done = executions.run("plan", "--export", str(file), plan["plan"])
    assert "5 lines written" in done.stdout
    decisions = {"2024-12": "delete", "2025-09": "ignore"}
    with file.open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    with file.open("w", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        writer.writerows(line | {"decision": decisions.get(line["row_id"], "")} for line in lines)
    given = ("approve", plan["plan"], "--only", str(file), "--reason", "seen", "--confirm", plan["short_digest"])
    assert executions.run(*given, "--count", "5").exit_code == 3
    done = executions.run(*given, "--count", "1")
    assert done.exit_code == 0, done.output
    assert "1 held from now on" in done.stdout
    assert executions.run("apply", plan["plan"]).exit_code == 0
    assert "log-06" not in executions.logs()
    assert len(executions.logs()) == 8
    stays = [(one["why"], one["month"]) for one in executions.plan()["stays"] if one["why"] == "held"]
    assert stays == [("held", "2025-09")]


def test_a_month_that_is_named_for_one_organisation_is_not_approved_for_another(executions: ArchiveWorld) -> None:
    """A month leaves whole or not at all: a review that lets only some of its rows go lets none go."""
    executions.sql(
        "INSERT INTO execution_log_partitioned (id, job_id, step_index, level, message, timestamp) "
        "VALUES ('log-12', 'job-0003', 0, 'INFO', 'x', '2025-10-02Z')"
    )
    plan = executions.plan()
    file = executions.folder / "review.csv"
    executions.run("plan", "--export", str(file), plan["plan"])
    text = file.read_text(encoding="utf-8")
    (mine,) = [line for line in text.splitlines() if "org-90, 1 rows" in line and '"2025-10"' in line]
    file.write_text(text.replace(mine, mine.replace('""', '"delete"', 1)), encoding="utf-8")
    done = executions.run(
        "approve", plan["plan"], "--only", str(file), "--count", "0", "--reason", "x", "--confirm", plan["short_digest"]
    )
    assert done.exit_code == 0, done.output
    assert "the file lets nothing go" in done.stdout


def test_an_emergency_takes_the_oldest_months_only(executions: ArchiveWorld) -> None:
    plan = executions.plan()
    done = executions.run("apply", plan["plan"], "--confirm", plan["short_digest"], "--older-than", "300 d")
    assert done.exit_code == 0, done.output
    assert len(executions.logs()) == 7
    assert {"log-05", "log-06"}.isdisjoint(executions.logs())


def test_a_standing_approval_is_of_an_automatic_archive(executions: ArchiveWorld) -> None:
    """X-29."""
    given = ("approve", "--standing", "executions", LOG, "--reason", "watched", "--json")
    done = executions.run(*given, "--confirm", "00000000")
    assert json.loads(done.stdout)["error"]["reason"] == "manual"
    executions.declare("      undo_window: 7 d", "      undo_window: 7 d\n      mode: automatic")
    assert json.loads(executions.run(*given).stdout)["error"]["reason"] == "never_planned"
    plan = executions.plan()
    digest = executions.home.control.retention.plan(plan["plan"]).config_digest
    done = executions.run(*given, "--confirm", digest[:8])
    assert done.exit_code == 0, done.output
    state = executions.home.control.retention
    assert state.approve_standing(plan["plan"], expires_at=state.plan(plan["plan"]).expires_at).standing_id
    done = executions.run("apply", plan["plan"])
    assert done.exit_code == 0, done.output
    assert len(executions.logs()) == 3
    assert executions.told("approve", "--standing", "--revoke", "executions", LOG, "--reason", "x")["revoked"] == 1


def test_a_held_row_keeps_its_month_and_the_others_leave(executions: ArchiveWorld) -> None:
    """V8: one job of a month is held, by a value of the lookup column."""
    table = "public.execution_log_partitioned"
    held = executions.run("hold", "executions", "add", "--table", table, "--row", "job-0003", "--reason", "claim 7")
    assert held.exit_code == 0, held.output
    plan = executions.plan()
    assert {one["month"] for one in plan["stays"] if one["why"] == "held"} == {"2025-08", "2025-09"}
    assert plan["totals"]["held_rows"] == 2
    assert "HELD" in executions.run("plan", plan["plan"]).stdout
    executions.run("apply", plan["plan"], "--confirm", plan["short_digest"])
    assert {"log-07", "log-08"} < set(executions.logs())


def test_a_hold_after_the_approval_stops_the_month(executions: ArchiveWorld) -> None:
    plan = executions.plan()
    executions.run("hold", "executions", "add", "--policy", LOG, "--everything", "--reason", "audit")
    done = executions.run("apply", plan["plan"], "--confirm", plan["short_digest"])
    assert len(executions.logs()) == 9
    assert "a hold covers it" in done.stdout


def test_a_paused_or_disabled_archive_does_nothing(executions: ArchiveWorld) -> None:
    plan = executions.plan()
    assert executions.run("pause", "executions", LOG, "--reason", "incident").exit_code == 0
    done = executions.run("apply", plan["plan"], "--confirm", plan["short_digest"])
    assert done.exit_code == 3
    assert "is paused since" in done.stderr
    assert f"maintain resume executions {LOG} --reason" in done.stderr
    assert "PAUSED" in executions.run("plan", plan["plan"]).stdout
    assert executions.run("archive", "run", "executions", LOG, "--as-of", AS_OF).exit_code == 3
    assert executions.run("resume", "executions", LOG, "--reason", "over").exit_code == 0
    executions.declare("      undo_window: 7 d", "      undo_window: 7 d\n      enabled: false")
    done = executions.run("apply", plan["plan"], "--confirm", plan["short_digest"])
    assert done.exit_code == 3
    assert "is not enabled" in done.stderr
    assert len(executions.logs()) == 9


def test_a_changed_declaration_needs_a_new_plan(executions: ArchiveWorld) -> None:
    """V14: what was approved is not what is declared now."""
    plan = executions.plan()
    executions.declare("keep: 365 d", "keep: 300 d")
    done = executions.run("apply", plan["plan"], "--confirm", plan["short_digest"])
    assert done.exit_code == 3
    assert "plan again" in done.stderr
    assert len(executions.logs()) == 9


def test_what_fails_is_partial_and_can_be_gone_on_with(executions: ArchiveWorld) -> None:
    """One cause is said once, for all the months it stopped."""
    shutil.move(executions.archive, executions.folder / "elsewhere")
    plan = executions.plan()
    done = executions.run("apply", plan["plan"], "--confirm", plan["short_digest"])
    assert done.exit_code == 1, done.output
    told = done.stdout.split("Not as planned:")[1]
    assert told.count("does not exist") == 1
    assert "2024-12 of org-default, 2025-09 of org-90, 2025-10 of org-default: failed: left as it was" in told
    assert f"Go on: maintain apply {plan['plan'][:8]}" in told
    shutil.move(executions.folder / "elsewhere", executions.archive)
    assert executions.run("apply", plan["plan"]).exit_code == 0
    assert executions.logs() == ["log-02", "log-03", "log-09"]


def test_the_ledger_tells_of_an_archive_plan(executions: ArchiveWorld) -> None:
    plan = executions.plan()
    executions.run("apply", plan["plan"], "--confirm", plan["short_digest"], "--actor", "ada", "--reason", "seen")
    done = executions.run("report", "executions", "--plan", plan["plan"])
    assert done.exit_code == 0
    assert "Approved by ada" in done.stdout
    assert re.search(r"2025-10  in the archive; gone from the database", done.stdout)
    assert "The ledger of this system stands as it was written." in done.stdout


# Run and status


def test_a_run_writes_and_proves_and_removes_nothing(executions: ArchiveWorld) -> None:
    told = executions.told("archive", "run", "executions", LOG, "--as-of", AS_OF)["archives"][0]
    assert [(unit["month"], unit["archived_rows"]) for unit in told["archived"]] == [
        ("2024-11", 0), ("2024-12", 1), ("2025-08", 0), ("2025-09", 1), ("2025-10", 2),
    ]  # fmt: skip
    assert len(executions.logs()) == 9
    assert len(executions.files()) == 3
    again = executions.run("archive", "run", "executions", LOG, "--as-of", AS_OF)
    assert again.exit_code == 0
    assert "5 months archived before.\n  Nothing had to be done." in again.stdout
    assert len(executions.files()) == 3


def test_one_month_is_run_and_a_hot_one_is_not(executions: ArchiveWorld) -> None:
    done = executions.run("archive", "run", "executions", LOG, "--month", "2025-10", "--as-of", AS_OF)
    assert done.exit_code == 0, done.output
    assert len(executions.files()) == 1
    hot = executions.run("archive", "run", "executions", LOG, "--month", "2025-11", "--as-of", AS_OF)
    assert hot.exit_code == 0
    assert "2025-11 is hot until 2025-12-31. Nothing was done." in hot.stdout
    assert executions.run("archive", "run", "executions", LOG, "--month", "2025-13").exit_code == 2


def test_a_month_that_left_is_not_exported_again(executions: ArchiveWorld) -> None:
    """I119."""
    assert executions.apply().exit_code == 0
    files = executions.files()
    done = executions.run("archive", "run", "executions", LOG, "--month", "2025-10", "--as-of", AS_OF)
    assert done.exit_code == 0
    assert re.search(r"2025-10 left the table at 20\S+; the archive is where its rows are read", done.stdout)
    assert executions.files() == files


def test_a_run_cannot_be_as_of_a_later_day(untouched: ArchiveWorld) -> None:
    done = untouched.run("archive", "run", "executions", LOG, "--as-of", "2999-01-01T00:00:00Z")
    assert done.exit_code == 3
    assert "lies in the future. Nothing was done" in done.stderr


def test_the_status_says_what_is_where_and_what_comes_next(executions: ArchiveWorld) -> None:
    before = executions.told("archive", "status", "executions", LOG, "--as-of", AS_OF)["archives"][0]
    assert before["units"] == []
    assert [(one["month"], one["cold"], one["cold_at"]) for one in before["waiting"]] == [
        ("2025-11", False, "2025-12-31T00:00:00Z")
    ]
    assert executions.apply().exit_code == 0
    assert executions.run("archive", "run", "executions", LOG, "--as-of", A_MONTH_LATER).exit_code == 0
    after = executions.told("archive", "status", "executions", LOG, "--as-of", A_MONTH_LATER)["archives"][0]
    assert [(unit["month"], unit["state"], unit["next"], unit["next_at"]) for unit in after["units"]] == [
        ("2024-11", "removed", None, None),
        ("2024-12", "removed", "expire", "2026-01-01T00:00:00Z"),
        ("2025-08", "removed", None, None),
        ("2025-09", "removed", "expire", "2025-12-30T00:00:00Z"),
        ("2025-10", "removed", "expire", "2026-11-01T00:00:00Z"),
        ("2025-11", "catalogued", "leave", "2025-12-31T00:00:00Z"),
    ]
    last = after["units"][-1]
    assert last["ratio"] == round(last["size_bytes"] / last["heap_bytes"], 4)
    assert (after["totals"]["files"], after["totals"]["rows"]) == (4, 6)
    shape = {"archive": sorted(after), "unit": sorted(last), "waiting": sorted(before["waiting"][0])}
    assert shape == json.loads((GOLDEN / "archive_status_fields.json").read_text())
    shown = executions.run("archive", "status", "executions", LOG, "--as-of", A_MONTH_LATER).stdout
    assert re.search(r"2024-11  gone, its time was over +1\n", shown)
    assert re.search(r"2025-11  archived; still in the table +2 .* leaves with the next plan", shown)


def test_a_month_that_stopped_says_why_and_how_to_go_on(executions: ArchiveWorld) -> None:
    """I123: the others go on."""
    (executions.archive / "execution_log").mkdir()
    (executions.archive / "execution_log" / "org=org-90").write_text("a file where a folder would be")
    done = executions.run("archive", "run", "executions", LOG, "--as-of", AS_OF)
    assert done.exit_code == 1, done.output
    assert "4 months archived now, 1 month stopped." in done.stdout
    assert "Try again: maintain archive run executions execution_log --month 2025-09" in done.stdout
    status = executions.told("archive", "status", "executions", LOG, "--as-of", AS_OF)["archives"][0]
    assert status["totals"]["stopped"] == 1
    (unit,) = [unit for unit in status["units"] if unit["message"]]
    assert unit["month"] == "2025-09"
    assert executions.run("archive", "status", "executions", LOG, "--fail-on-findings").exit_code == 1
    (executions.archive / "execution_log" / "org=org-90").unlink()
    assert executions.run(*unit["retry"].split()[1:], "--as-of", AS_OF).exit_code == 0
    assert executions.run("archive", "status", "executions", LOG, "--fail-on-findings").exit_code == 0


def test_a_database_that_cannot_be_asked_is_said_with_what_was_recorded(
    executions: ArchiveWorld, monkeypatch: Any
) -> None:
    executions.run("archive", "run", "executions", LOG, "--as-of", AS_OF)
    monkeypatch.setenv("EXECUTIONS_DATABASE_URL", "postgresql+psycopg2://nobody@127.0.0.1:1/none")
    done = executions.run("archive", "status", "executions", LOG)
    assert done.exit_code == 1
    assert "THE DATABASE COULD NOT BE ASKED" in done.stdout
    assert "2025-10" in done.stdout


def masked_but_months(text: str, plan: dict[str, Any]) -> str:
    text = text.replace(plan["plan"][:8], "PLAN").replace(plan["short_digest"], "DIGEST")
    return re.sub(r"until 20\d\d-\S+Z", "until INSTANT", text)
