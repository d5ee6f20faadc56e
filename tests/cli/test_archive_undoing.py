"""Archived rows brought back, let go for good, and tables given their next months, by the command."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import psycopg2
import pytest

from tests.cli.archive_world import A_MONTH_LATER, AS_OF, LOG, ArchiveWorld
from tests.support.postgres import connect

KEY = base64.b64encode(bytes(range(32))).decode()


def rows_of(world: ArchiveWorld, table: str) -> list[tuple[Any, ...]]:
    return world.rows(f"SELECT t::text FROM {table} t ORDER BY 1")


# Restore


def test_a_detached_month_is_put_back_and_held(executions: ArchiveWorld) -> None:
    """D67."""
    before = rows_of(executions, "execution_log_partitioned")
    assert executions.apply().exit_code == 0
    done = executions.apply(A_MONTH_LATER)
    assert "Undo: maintain archive restore executions execution_log 2025-11" in done.stdout
    assert executions.logs() == ["log-09"]
    back = executions.run("archive", "restore", "executions", LOG, "2025-11", "--reason", "too early")
    assert back.exit_code == 0, back.output
    assert executions.logs() == ["log-02", "log-03", "log-09"]
    assert set(rows_of(executions, "execution_log_partitioned")) < set(before)
    (release,) = re.findall(r"maintain (hold executions release \d+)", back.stdout)
    assert [one["why"] for one in executions.plan(A_MONTH_LATER)["stays"] if one["month"] == "2025-11"] == ["held"]
    assert executions.run(*release.split(), "--reason", "again").exit_code == 0
    assert [line["month"] for line in executions.plan(A_MONTH_LATER)["lines"]] == ["2025-11"]


def test_a_copy_of_a_removed_month_equals_what_left(executions: ArchiveWorld) -> None:
    """V12, H114: the table itself stays as it is."""
    october = "SELECT t::text FROM execution_log_partitioned t WHERE id IN ('log-01', 'log-04') ORDER BY 1"
    before = executions.rows(october)
    assert executions.apply().exit_code == 0
    told = executions.told("archive", "restore", "executions", LOG, "2025-10")
    assert (told["how"], told["rows"], told["same"], told["holds"]) == ("copy", 2, True, [])
    assert told["table"] == "maintenance_restored.execution_log_partitioned_2025_10"
    assert rows_of(executions, told["table"]) == before
    assert executions.logs() == ["log-02", "log-03", "log-09"]
    again = executions.run("archive", "restore", "executions", LOG, "2025-10")
    assert again.exit_code == 3
    assert "already there" in again.stderr
    other = executions.told("archive", "restore", "executions", LOG, "2025-10", "--schema", "mine", "--table", "copy")
    assert other["table"] == "mine.copy"
    copies = executions.told("archive", "status", "executions", LOG)["archives"][0]["copies"]
    assert [(one["table"], one["month"]) for one in copies] == [
        ("maintenance_restored.execution_log_partitioned_2025_10", "2025-10"), ("mine.copy", "2025-10"),
    ]  # fmt: skip
    shown = executions.run("archive", "status", "executions", LOG).stdout
    (drop,) = re.findall(r'Restored: 2025-10 in mine\.copy .* since\n.*: (DROP TABLE "mine"\."copy";)\n', shown)
    executions.sql(drop)
    assert "mine.copy" not in executions.run("archive", "status", "executions", LOG).stdout


def test_a_removed_month_goes_back_into_its_table_only_when_asked_to(executions: ArchiveWorld) -> None:
    before = rows_of(executions, "execution_log_partitioned")
    assert executions.apply().exit_code == 0
    done = executions.run("archive", "restore", "executions", LOG, "2025-10", "--in-place")
    assert done.exit_code == 0, done.output
    assert executions.logs() == ["log-01", "log-02", "log-03", "log-04", "log-09"]
    assert set(rows_of(executions, "execution_log_partitioned")) < set(before)
    counted = executions.told("archive", "query", "SELECT count(*) AS n FROM execution_log_all")["rows"]
    assert counted == [{"n": 7}]
    swept = executions.told("archive", "sweep", "executions", LOG)["archives"][0]
    assert (swept["gone"], len(swept["waiting"])) == ([], 1)


def test_what_is_in_its_table_is_not_restored(executions: ArchiveWorld) -> None:
    assert executions.run("archive", "run", "executions", LOG, "--as-of", AS_OF).exit_code == 0
    done = executions.run("archive", "restore", "executions", LOG, "2025-10")
    assert done.exit_code == 3
    assert "the rows of execution_log 2025-10 are in their table" in done.stderr
    unknown = executions.run("archive", "restore", "executions", LOG, "2025-11")
    assert "Did you mean '2025-10'?" in unknown.stderr
    both = executions.run("archive", "restore", "executions", LOG, "2025-10", "--in-place", "--table", "x")
    assert both.exit_code == 2


# Expiry


def test_what_expires_is_planned_by_itself(executions: ArchiveWorld) -> None:
    """A4-6: the months that leave are another plan, and neither stands for the other."""
    assert executions.apply().exit_code == 0
    leaving = executions.plan(A_MONTH_LATER)
    told = executions.told("archive", "expire", "executions", LOG, "--as-of", A_MONTH_LATER)["plans"][0]
    assert told["only"] == "expiry"
    assert [(line["act"], line["month"], line["organisation"]) for line in told["lines"]] == [
        ("expire_file", "2024-12", "org-default"), ("expire_file", "2025-09", "org-90"),
    ]  # fmt: skip
    assert len(executions.files()) == 3
    which = executions.run("apply", "executions")
    assert which.exit_code == 3
    assert leaving["plan"][:8] in which.stderr
    assert told["plan"][:8] in which.stderr
    done = executions.run("apply", told["plan"], "--confirm", told["short_digest"])
    assert done.exit_code == 0, done.output
    assert "2 rows: deleted from the archive, their time was over" in done.stdout
    assert [file.parent.name for file in executions.files()] == ["month=2025-10"]
    status = executions.run("archive", "status", "executions", LOG).stdout
    assert re.search(r"2024-12  expired: deleted from the archive", status)


# Keys


@pytest.fixture
def encrypted(executions: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> ArchiveWorld:
    executions.declare("      encryption: store", "      encryption: {key_env: PHI_KEY}")
    monkeypatch.setenv("PHI_KEY", KEY)
    assert executions.apply(AS_OF, "phi_audit").exit_code == 0
    return executions


def test_a_copy_of_an_encrypted_month_is_whole(encrypted: ArchiveWorld) -> None:
    told = encrypted.told("archive", "restore", "executions", "phi_audit", "2025-06", "--actor", "ada")
    assert (told["rows"], told["same"]) == (3, True)
    assert [(one["actor"], one["verb"]) for one in encrypted.told("archive", "reads", "executions")["reads"]] == [
        ("ada", "restore")
    ]


def test_a_key_is_destroyed_after_its_digest_was_repeated(encrypted: ArchiveWorld) -> None:
    """G100."""
    given = ("archive", "shred", "executions", "phi_audit", "org-90")
    assert encrypted.run(*given).exit_code == 2
    shown = encrypted.run(*given, "--reason", "contract 9")
    assert shown.exit_code == 3
    assert "the key of org-90 opens 1 file with 1 row" in shown.stdout
    assert encrypted.run(*given, "--reason", "contract 9", "--confirm", "00000000").exit_code == 3
    assert encrypted.told("archive", "restore", "executions", "phi_audit", "2025-06")["rows"] == 3
    digest = re.findall(r"digest ([0-9a-f]{8})", shown.stdout)[0]
    done = encrypted.run(*given, "--reason", "contract 9", "--confirm", digest)
    assert done.exit_code == 0, done.output
    refused = encrypted.run("archive", "restore", "executions", "phi_audit", "2025-06", "--table", "again")
    assert refused.exit_code == 3
    assert "was destroyed on" in refused.stderr
    again = encrypted.run(*given, "--reason", "contract 9", "--confirm", digest)
    assert again.exit_code == 3
    assert "'org-90' has no key" in again.stderr
    assert KEY not in done.output + refused.output


def test_an_archive_without_keys_cannot_be_shredded(untouched: ArchiveWorld) -> None:
    done = untouched.run("archive", "shred", "executions", LOG, "org-90", "--reason", "x")
    assert done.exit_code == 3
    assert "has no keys of its own" in done.stderr


# Months ahead


def test_months_are_made_ahead_once(executions: ArchiveWorld) -> None:
    """S4-40."""
    window = "      undo_window: 7 d"
    executions.declare(window, f"{window}\n      partition_name: '{{table}}_p{{year}}_{{month}}'")
    executions.sql(
        "INSERT INTO execution_log_partitioned (id, job_id, step_index, level, message) "
        "VALUES ('now', 'job-0004', 0, 'INFO', 'x')"
    )
    first = executions.told("archive", "ahead", "executions")["archives"]
    assert [facts["archive"] for facts in first] == [LOG]
    assert len(first[0]["created"]) == 4
    assert re.fullmatch(r"public\.execution_log_partitioned_p\d{4}_\d\d", first[0]["created"][0])
    assert first[0]["moved_rows"] == 1
    again = executions.run("archive", "ahead", "executions", LOG)
    assert "every month is there." in again.stdout
    plain = executions.run("archive", "ahead", "executions", "phi_audit")
    assert plain.exit_code == 3
    assert "is not partitioned" in plain.stderr


# Doctor


def of_archives(world: ArchiveWorld) -> dict[str, list[str]]:
    told = world.run("doctor", "executions", "--json")
    found: dict[str, list[str]] = {}
    for finding in json.loads(told.stdout)["findings"]:
        if finding["subject"] == f"archive {LOG}":
            found.setdefault(finding["status"], []).append(f"{finding['what']} {finding['todo']}")
    return found


def test_doctor_says_what_an_archive_lacks(executions: ArchiveWorld) -> None:
    before = of_archives(executions)
    assert any("has no partition from" in what and "maintain archive ahead" in what for what in before["warn"])
    assert any("the oldest row of public.execution_log_partitioned is" in what for what in before["warn"])
    assert executions.apply().exit_code == 0
    assert executions.run("archive", "ahead", "executions").exit_code == 0
    executions.sql("DELETE FROM execution_log_partitioned WHERE timestamp < now() - interval '61 days'")
    well = of_archives(executions)
    assert set(well) == {"ok"}, well
    lost, other, *_ = executions.files()
    lost.unlink()
    other.write_bytes(other.read_bytes()[:-20])
    (other.parent / "strange.parquet").write_bytes(b"x")
    ill = of_archives(executions)
    assert any("is not there" in what and lost.name in what for what in ill["fail"])
    assert any("were archived" in what and other.name in what for what in ill["fail"])
    assert any("in no catalogue" in what and "strange.parquet" in what for what in ill["fail"])


def test_doctor_and_status_tell_of_half_a_detach(executions: ArchiveWorld) -> None:
    """D52: the server keeps a detach that was cut off; its rows are out of sight until it is finished."""
    executions.sql("DROP TABLE execution_log_partitioned_default")
    leave_half_detached(executions)
    assert executions.logs() == []
    ill = of_archives(executions)
    assert any("is half detached" in what and "inserts of its months fail" in what for what in ill["fail"])
    status = executions.run("archive", "status", "executions", LOG, "--fail-on-findings")
    assert status.exit_code == 1
    assert "DETACH PENDING: public.execution_log_partitioned_p2025_11" in status.stdout


def leave_half_detached(world: ArchiveWorld) -> None:
    """A reader holds the table while the detach waits; the wait is cut off."""
    reader = connect(world.url)
    reader.autocommit = False
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM execution_log_partitioned")
    detaching = connect(world.url)
    with detaching.cursor() as cursor:
        cursor.execute("SET lock_timeout = '300ms'")
        with pytest.raises(psycopg2.Error):
            cursor.execute(
                "ALTER TABLE execution_log_partitioned DETACH PARTITION execution_log_partitioned_p2025_11 CONCURRENTLY"
            )
    detaching.close()
    reader.rollback()
    reader.close()


# Conversion


def test_a_plain_table_is_partitioned_after_its_consequences_were_shown(executions: ArchiveWorld) -> None:
    """F83, S4-78."""
    before = rows_of(executions, "phi_audit_logs")
    shown = executions.run("archive", "convert", "executions", "phi_audit")
    assert shown.exit_code == 3
    assert "CONSEQUENCE: " in shown.stdout
    assert "is not unique" in shown.stdout or "no longer unique" in shown.stdout
    assert "Nobody is at a terminal" in shown.stderr
    digest = re.findall(r"digest ([0-9a-f]{8})", shown.stdout)[0]
    assert executions.run("archive", "convert", "executions", "phi_audit", "--confirm", "00000000").exit_code == 3
    assert executions.rows("SELECT relkind FROM pg_class WHERE relname = 'phi_audit_logs'") == [("r",)]
    done = executions.run("archive", "convert", "executions", "phi_audit", "--confirm", digest)
    assert done.exit_code == 0, done.output
    assert executions.rows("SELECT relkind FROM pg_class WHERE relname = 'phi_audit_logs'") == [("p",)]
    assert rows_of(executions, "phi_audit_logs") == before
    again = executions.run("archive", "convert", "executions", "public.phi_audit_logs")
    assert again.exit_code == 0
    assert "partitioned by created_at already. Nothing was done." in again.stdout


def test_a_key_that_would_go_is_agreed_to_by_name(executions: ArchiveWorld) -> None:
    executions.sql(
        "CREATE TABLE notes (phi_id TEXT CONSTRAINT notes_of REFERENCES phi_audit_logs(id))",
        "INSERT INTO notes VALUES ('phi-1')",
    )
    shown = executions.run("archive", "convert", "executions", "phi_audit")
    assert shown.exit_code == 3
    assert "TO AGREE TO: notes_of would go: --agree notes_of" in shown.stdout
    assert "partitioning public.phi_audit_logs ends notes_of. Nothing was changed" in shown.stderr
    agreed = executions.run("archive", "convert", "executions", "phi_audit", "--agree", "notes_of")
    digest = re.findall(r"digest ([0-9a-f]{8})", agreed.stdout)[0]
    other = re.findall(r"digest ([0-9a-f]{8})", shown.stdout)[0]
    assert digest != other
    done = executions.told("archive", "convert", "executions", "phi_audit", "--agree", "notes_of", "--confirm", digest)
    assert done["legacy"]["name"].startswith("public.phi_audit_logs")
    assert done["locked_seconds"] < 1


def test_a_table_of_no_archive_needs_its_column(untouched: ArchiveWorld) -> None:
    done = untouched.run("archive", "convert", "executions", "public.healing_attempts")
    assert done.exit_code == 2
    assert "--time COLUMN" in done.output
