"""Reviewing, undoing, the ledger in words, holds, pauses, migrations: the verbs around a plan (A2-12, A0-11)."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.cli import shared
from tests.cli.conftest import World
from tests.cli.retention_world import AS_OF, CAT, DOG, GOLDEN, LION, files, late_record, made, masked, verb, waiting

# Review


def test_a_reviewed_file_decides_line_by_line(ready: World, tmp_path: Path) -> None:
    """S2-22, S2-23."""
    plan = waiting(ready)
    review = tmp_path / "review.csv"
    assert verb("plan", plan["plan"], "--export", str(review)).exit_code == 0
    with review.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["key"], row["decision"], row["size"]) for row in rows] == [
        (CAT, "", "180224"), (DOG, "", "180224"), (LION, "", "180224"),
    ]  # fmt: skip
    decide(review, rows, {CAT: ("delete", ""), DOG: ("keep", ""), LION: ("ignore", "the printer asked for it")})
    done = verb("approve", plan["plan"], "--only", str(review), "--count", "1", "--reason", "reviewed",
                "--confirm", plan["short_digest"], "--actor", "ada")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert ready.run("apply").exit_code == 0
    assert CAT not in files(ready)
    assert {DOG, LION} <= files(ready)
    assert f"key {LION} (ada: the printer asked for it)" in ready.run("hold", "list").stdout
    later = made(ready)
    assert [item["key"] for item in later["items"]] == [DOG]
    assert [(rule["rule"], rule["example"]) for rule in later["kept"]] == [("hold", LION)]


def decide(review: Path, rows: list[dict[str, str]], decisions: dict[str, tuple[str, str]]) -> None:
    with review.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            decision, note = decisions.get(row["key"], ("", ""))
            writer.writerow(row | {"decision": decision, "note": note})


def test_an_unknown_decision_or_key_is_named_and_nothing_approved(
    planned: tuple[World, dict[str, Any]], tmp_path: Path
) -> None:
    world, plan = planned
    given = ["approve", plan["plan"], "--count", "1", "--reason", "x", "--confirm", plan["short_digest"]]
    review = tmp_path / "review.csv"
    review.write_text(f"decision,key\ndelete,{CAT}\ndelet,{DOG}\n")
    done = verb(*given, "--only", str(review))
    assert done.exit_code == 3
    assert "row 3 says 'delet'. Did you mean 'delete'" in done.stderr
    review.write_text(f"{CAT}\nassets/owl/none.png\n")
    done = verb(*given, "--except", str(review))
    assert done.exit_code == 3
    assert "row 2: 'assets/owl/none.png' is not in plan" in done.stderr
    assert "waits for approval" in world.run("plan", "--list").stdout


# Undoing


def test_a_restored_file_is_as_it_was(ready: World) -> None:
    path = ready.store / LION
    path.write_bytes(b"the lion")
    os.utime(path, (1705256400, 1705256400))
    plan = made(ready)
    assert ready.run("apply", "--confirm", plan["short_digest"]).exit_code == 0
    assert not path.exists()
    done = ready.run("restore", "--key", LION)
    assert done.exit_code == 0, done.output
    assert (path.read_bytes(), path.stat().st_mtime) == (b"the lion", 1705256400)
    done = ready.run("restore", plan["plan"][:8])
    assert done.stdout == "2 items restored\n"
    assert len(files(ready)) == 153
    again = ready.run("restore", plan["plan"][:8])
    assert again.exit_code == 3
    assert "Nothing was restored" in again.stderr


def test_a_restore_overwrites_nothing(ready: World) -> None:
    plan = waiting(ready)
    assert ready.run("apply", "--confirm", plan["short_digest"]).exit_code == 0
    ready.put(LION, content=b"another lion")
    done = ready.run("restore", plan["plan"][:8])
    assert done.exit_code == 1, done.output
    assert LION in done.stdout
    assert (ready.store / LION).read_bytes() == b"another lion"
    assert {CAT, DOG} <= files(ready)


def test_a_purge_repeats_the_number_and_leaves_what_is_needed_again(ready: World) -> None:
    plan = waiting(ready)
    assert ready.run("apply", "--confirm", plan["short_digest"]).exit_code == 0
    assert "Nothing of colouring was in quarantine long enough" in ready.run("purge").stdout
    with closing(sqlite3.connect(ready.home.path / "control.db")) as connection, connection:
        connection.execute("UPDATE quarantine SET purge_at = '2020-01-01 00:00:00.000000'")
    ready.sql(late_record(ready))
    refused = ready.run("purge", "--reason", "over")
    assert refused.exit_code == 3
    assert f"NEEDED AGAIN, so they stay: 1 object.\n  pages: {LION}" in refused.stdout
    assert ready.run("purge", "--count", "3", "--reason", "over").exit_code == 3
    assert kept_away(ready) == 3
    done = ready.run("purge", "--count", "2", "--reason", "over")
    assert done.exit_code == 0, done.output
    assert kept_away(ready) == 1
    assert ready.run("restore", "--key", LION).exit_code == 0
    assert LION in files(ready)


def test_what_a_row_names_while_the_number_is_typed_is_not_purged(
    ready: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I04: whoever is asked may answer an hour later."""
    plan = waiting(ready)
    assert ready.run("apply", "--confirm", plan["short_digest"]).exit_code == 0
    with closing(sqlite3.connect(ready.home.path / "control.db")) as connection, connection:
        connection.execute("UPDATE quarantine SET purge_at = '2020-01-01 00:00:00.000000'")

    def typed(question: str, command: str) -> str:
        ready.sql(late_record(ready))
        return "3"

    monkeypatch.setattr(shared, "_typed", typed)
    done = ready.run("purge", "--reason", "over")
    assert done.exit_code == 1, done.output
    assert LION in done.stdout.split("There is no way back.")[1]
    assert kept_away(ready) == 1
    assert ready.run("restore", "--key", LION).exit_code == 0
    assert LION in files(ready)


def kept_away(world: World) -> int:
    return sum(path.name.endswith(".png") for path in (world.store / ".maintenance").rglob("*"))


# The ledger in words


def test_the_ledger_tells_who_why_and_what_became_of_it(ready: World) -> None:
    plan = waiting(ready)
    ready.run("apply", "--confirm", plan["short_digest"], "--actor", "ada", "--reason", "reviewed with Ben")
    ready.run("restore", "--key", LION, "--actor", "ben")
    told = ready.run("report", "--plan", plan["plan"][:8])
    assert told.exit_code == 0, told.output
    assert masked(told.stdout, plan) == (GOLDEN / "ledger.txt").read_text()
    told = ready.run("report", "--history", LION)
    assert masked(told.stdout, plan) == (GOLDEN / "history.txt").read_text()
    with closing(sqlite3.connect(ready.home.path / "control.db")) as connection, connection:
        connection.execute("DROP TRIGGER IF EXISTS act_no_update")
        connection.execute("UPDATE act SET key = 'other' WHERE seq = 0 AND phase = 'intent'")
    told = ready.run("report", "--plan", plan["plan"][:8])
    assert told.exit_code == 2
    assert "THE LEDGER WAS ALTERED" in told.stdout


# Holds and pauses


def test_a_hold_keeps_what_was_approved_already(ready: World) -> None:
    plan = waiting(ready)
    verb("approve", plan["plan"], "--count", "3", "--reason", "x", "--confirm", plan["short_digest"])
    assert ready.run("hold", "add", "--key", LION, "--reason", "lawsuit").exit_code == 0
    done = ready.run("apply")
    assert "left alone: a hold covers it" in done.stdout or "a reason to keep it" in done.stdout
    assert LION in files(ready)
    assert not {CAT, DOG} & files(ready)
    assert ready.run("hold", "release", "1", "--reason", "settled").exit_code == 0
    assert ready.run("hold").stdout == "colouring has no hold.\n"
    assert "released by" in ready.run("hold", "list", "--all").stdout


@pytest.mark.parametrize(
    "options",
    [
        ["add", "--reason", "x"],
        ["add", "--key", "a"],
        ["add", "--row", "1", "--reason", "x"],
        ["add", "--store", "nope", "--reason", "x"],
        ["add", "--table", "nope", "--reason", "x"],
        ["add", "--key", "a", "--everything", "--reason", "x"],
        ["release", "--reason", "x"],
        ["release", "7", "--reason", "x"],
        ["list", "--key", "a"],
    ],
)
def test_a_hold_that_makes_no_sense_is_not_placed(planned: tuple[World, dict[str, Any]], options: list[str]) -> None:
    world, _ = planned
    assert world.run("hold", *options).exit_code == 2
    assert world.home.control.retention.holds("colouring", open_only=False) == []


def test_a_paused_policy_is_not_even_approved(ready: World) -> None:
    plan = waiting(ready)
    assert ready.run("pause", "--reason", "moving buckets", "--actor", "ada").exit_code == 0
    done = ready.run("apply", "--confirm", plan["short_digest"])
    assert done.exit_code == 3
    assert "paused since" in done.stderr
    assert "moving buckets" in done.stderr
    assert len(files(ready)) == 153
    listed = ready.run("plan", "--list").stdout
    assert "system colouring is paused since" in listed
    assert "waits for approval" in listed
    assert ready.run("resume", "orphaned_files", "--reason", "x").stdout.startswith("colouring/orphaned_files was not")
    assert ready.run("resume", "--reason", "moved").stdout == "colouring goes on again.\n"
    assert ready.run("apply", "--confirm", plan["short_digest"]).exit_code == 0


def test_a_standing_approval_is_for_what_somebody_has_seen(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTO_DELETE_ORPHANS", "true")
    given = ["approve", "--standing", "colouring", "old_orphans", "--reason", "watched it"]
    manual = verb("approve", "--standing", "colouring", "orphaned_files", "--reason", "x")
    assert manual.exit_code == 3
    assert "manual" in manual.stderr
    assert "no plan of its present declaration" in verb(*given).stderr
    ready.run("plan", "old_orphans", "--reconcile", "--as-of", AS_OF)
    assert verb(*given).exit_code == 3  # nobody typed the digest
    state = ready.home.control.retention
    digest = state.plans("colouring", "old_orphans")[0].config_digest
    assert verb(*given, "--confirm", digest[:8]).exit_code == 0
    assert state.standing_approval("colouring", "old_orphans", digest) is not None
    assert verb(*given, "--revoke").exit_code == 0
    assert state.standing_approval("colouring", "old_orphans", digest) is None


# Migrations and checks


def test_a_migration_is_applied_once(reports: World) -> None:
    """A0-11."""
    assert "archive_columns: not applied" in reports.run("migrate").stdout
    sql = reports.run("migrate", "archive_columns", "--dry-run").stdout
    assert "ALTER TABLE report_assets ADD COLUMN archived BOOLEAN" in sql
    assert "not applied" in reports.run("migrate").stdout
    first = reports.run("migrate", "--apply")
    assert first.exit_code == 0, first.output
    assert "archive_columns: applied" in first.stdout
    second = reports.run("migrate", "--apply")
    assert second.exit_code == 0
    assert second.stdout == "".join(
        f"{name}: already applied\n" for name in ("archive_columns", "version_columns", "object_deleted_at")
    )


def test_a_migration_that_does_not_fit_is_refused(reports: World) -> None:
    reports.sql("ALTER TABLE report_assets ADD COLUMN archived BLOB")
    done = reports.run("migrate", "--apply")
    assert done.exit_code == 3
    assert "archive_columns: REFUSED" in done.stdout


def test_a_plan_that_lacks_a_migration_says_which_command_comes_first(reports: World) -> None:
    done = reports.run("plan", "superseded_reports", "--reconcile", "--as-of", reports.as_of)
    assert "MISSING: report_assets.archived, report_assets.archived_at" in done.stdout
    assert "Next: maintain migrate reports --apply, then plan again." in done.stdout
    digest = reports.home.control.retention.plans("reports")[0].short_digest
    refused = reports.run("apply", "--confirm", digest)
    assert refused.exit_code == 3
    assert "maintain migrate reports" in refused.stderr
    reports.run("migrate", "--apply")
    done = reports.run("plan", "superseded_reports", "--as-of", reports.as_of, "--json")
    plan = json.loads(done.stdout)["plans"][0]
    done = reports.run("apply", "--confirm", plan["short_digest"])
    assert done.exit_code == 0, done.output
    assert "4 rows of report_assets changed" in done.stdout
    assert reports.run("restore", plan["plan"][:8]).stdout == "4 items restored\n"


def test_validate_names_the_checks_that_do_not_hold(colouring: World) -> None:
    done = colouring.run("validate", "--as-of", AS_OF)
    assert done.exit_code == 0, done.output
    assert "ok    records_without_key: holds." in done.stdout
    assert "ok    The ledger of this system stands as it was written." in done.stdout
    colouring.sql("UPDATE assets SET job_id = 'gone' WHERE id = (SELECT min(id) FROM assets)")
    done = colouring.run("validate", "--as-of", AS_OF, "--json")
    statuses = {check["name"]: check["status"] for check in json.loads(done.stdout)["checks"]}
    assert statuses["records_without_job"] == "warn"


def test_two_persons_approve_what_asks_for_two(ready: World) -> None:
    plan = waiting(ready)
    with closing(sqlite3.connect(ready.home.path / "control.db")) as connection, connection:
        connection.execute("UPDATE plan SET totals = json_set(totals, '$.second_person', json('true'))")
    given = ["approve", plan["plan"], "--count", "3", "--reason", "x", "--confirm", plan["short_digest"]]
    refused = ready.run("apply", "--confirm", plan["short_digest"])
    assert refused.exit_code == 3
    assert "asks for two persons" in refused.stderr
    command = f"maintain approve {plan['plan'][:8]} --count 3 --reason '...'"
    assert f"The second: {command} --second\n" in refused.stderr
    told = verb("plan", plan["plan"]).stdout.splitlines()
    assert f"  Next: {command}" in told
    assert f"  Then, by a second person: {command} --second" in told
    first = verb(*given, "--actor", "ada")
    assert "a second person must approve it too" in first.stdout
    assert verb(*given, "--actor", "Ada ", "--second").exit_code == 3
    assert ready.run("apply", "--confirm", plan["short_digest"]).exit_code == 3
    assert len(files(ready)) == 153
    assert verb(*given, "--actor", "ben", "--second").exit_code == 0
    assert ready.run("apply").exit_code == 0
    assert "Approved by ada and ben" in ready.run("report", "--plan", plan["plan"]).stdout


def test_a_withdrawn_plan_is_not_done(ready: World) -> None:
    plan = waiting(ready)
    assert verb("plan", plan["plan"], "--cancel").exit_code == 2
    assert verb("plan", plan["plan"], "--cancel", "--reason", "another day").exit_code == 0
    assert ready.run("apply", "--confirm", plan["short_digest"]).exit_code == 3
    assert verb("apply", plan["plan"], "--confirm", plan["short_digest"]).exit_code == 3
    assert len(files(ready)) == 153
