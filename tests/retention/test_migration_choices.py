"""What a person chooses when a migration is applied: `--with`, step by step, and nothing lost (S4-11 … S4-13, A4-8)."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psycopg2
import pytest

from maintenance_defs.core.errors import DeclarationError, Refused, SourceUnavailable
from maintenance_defs.retention.migrate import status
from maintenance_defs.retention.migration_files import migrations
from tests.retention.test_migrate import World, made
from tests.support.postgres import connect, execute

LIMITS = {
    ("jobs", "error_message"): 2000,
    ("schedule_executions", "error_stack"): 10000,
    ("healing_attempts", "reasoning"): 2000,
    ("healing_suggestions", "error_pattern"): 1000,
    ("healing_suggestions", "dismiss_reason"): 500,
}
KEPT = "SELECT table_name, row_id, column_name, LENGTH(full_text) FROM overlong_values ORDER BY id"
LENGTHS = "SELECT id, LENGTH(reasoning) FROM healing_attempts ORDER BY id"


@pytest.fixture
def executions(pg_database: str, tmp_path: Path) -> World:
    return made("executions", pg_database, tmp_path)


def limits_of(world: World) -> list[tuple[str, bool]]:
    return world.rows("SELECT conname, convalidated FROM pg_constraint WHERE conname LIKE '%_limit' ORDER BY conname")


def test_values_that_are_too_long_are_listed_and_nothing_is_done(executions: World) -> None:
    for dry_run in (False, True):
        done = executions.apply("add_varchar_limits", dry_run=dry_run)
        assert executions.states(done) == {"add_varchar_limits": "refused"}
        assert [tuple(row.values()) for row in done[0].rows] == [("healing_attempts.reasoning", "ha-1", 2001)]
        assert "Nothing was changed" in str(done[0].detail) and "--with truncate" in str(done[0].detail)
    assert limits_of(executions) == []
    assert executions.rows(LENGTHS) == [("ha-1", 2001), ("ha-2", 2000)]


def test_truncating_cuts_at_the_limit_and_keeps_the_full_text(executions: World) -> None:
    before = executions.rows("SELECT reasoning FROM healing_attempts WHERE id = 'ha-1'")
    shown = executions.apply("add_varchar_limits", dry_run=True, chosen=["truncate"])[0]
    assert [tuple(row.values()) for row in shown.rows] == [("healing_attempts.reasoning", "ha-1", 2001)]
    assert executions.rows(LENGTHS) == [("ha-1", 2001), ("ha-2", 2000)]
    done = executions.apply("add_varchar_limits", chosen=["truncate"])
    assert executions.states(done) == {"add_varchar_limits": "applied"}
    assert executions.rows(LENGTHS) == [("ha-1", 2000), ("ha-2", 2000)]
    assert executions.rows(KEPT) == [("healing_attempts", "ha-1", "reasoning", 2001)]
    assert executions.rows("SELECT full_text FROM overlong_values") == before
    assert limits_of(executions) == sorted((f"{table}_{column}_limit", True) for table, column in LIMITS)
    again = executions.apply("add_varchar_limits", chosen=["truncate"])
    assert executions.states(again) == {"add_varchar_limits": "already_applied"}
    assert len(executions.rows(KEPT)) == 1


def test_limits_count_characters_and_refuse_one_more(executions: World) -> None:
    executions.rows("UPDATE healing_attempts SET reasoning = REPEAT('😀', 2000) WHERE id = 'ha-1'")
    executions.rows("INSERT INTO healing_suggestions VALUES ('hs', REPEAT('é', 1000), NULL, '2025-10-15Z')")
    assert executions.states(executions.apply("add_varchar_limits")) == {"add_varchar_limits": "applied"}
    with pytest.raises(psycopg2.errors.CheckViolation):
        executions.rows("UPDATE healing_attempts SET reasoning = REPEAT('😀', 2001) WHERE id = 'ha-1'")
    with pytest.raises(psycopg2.errors.UndefinedTable):
        executions.rows(KEPT)  # nothing was cut, so nothing is kept


def test_every_column_is_cut_also_two_of_one_row(executions: World) -> None:
    executions.rows(
        "UPDATE jobs SET error_message = REPEAT('e', 2500) WHERE id = 'job-0004';"
        "INSERT INTO schedule_executions VALUES ('se', REPEAT('s', 10001), '2025-10-15Z');"
        "INSERT INTO healing_suggestions VALUES ('hs-1', REPEAT('p', 1001), REPEAT('d', 501), '2025-10-15Z'),"
        "  ('hs-2', 'short', REPEAT('d', 700), '2025-10-15Z'), ('hs-3', 'short', NULL, '2025-10-15Z')"
    )
    executions.apply("add_varchar_limits", chosen=["truncate"])
    assert sorted(executions.rows(KEPT)) == [
        ("healing_attempts", "ha-1", "reasoning", 2001),
        ("healing_suggestions", "hs-1", "dismiss_reason", 501),
        ("healing_suggestions", "hs-1", "error_pattern", 1001),
        ("healing_suggestions", "hs-2", "dismiss_reason", 700),
        ("jobs", "job-0004", "error_message", 2500),
        ("schedule_executions", "se", "error_stack", 10001),
    ]
    assert executions.rows(
        "SELECT id, LENGTH(error_pattern), LENGTH(dismiss_reason) FROM healing_suggestions ORDER BY id"
    ) == [("hs-1", 1000, 500), ("hs-2", 5, 500), ("hs-3", 5, None)]


def test_triggers_cut_what_the_application_writes_and_keep_its_text(executions: World) -> None:
    executions.apply(chosen=["truncate"])  # everything, but what waits for a choice of its own
    assert executions.states(status(executions.system, executions.home, executions.folder))["cut_long_values"] == (
        "waiting"
    )
    with pytest.raises(psycopg2.errors.CheckViolation):
        executions.rows("INSERT INTO healing_attempts VALUES ('ha-3', REPEAT('r', 2500), '2025-10-16Z')")
    done = executions.apply("cut_long_values", chosen=["triggers"])
    assert executions.states(done) == {"cut_long_values": "applied"}
    role = "app_" + str(executions.rows("SELECT current_database()")[0][0])
    executions.rows(f"CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
    executions.rows(f"REVOKE ALL ON overlong_values FROM {role}")
    try:
        for sql in (
            "INSERT INTO healing_attempts VALUES ('ha-3', REPEAT('r', 2500), '2025-10-16 01:02:03.4Z')",
            "UPDATE jobs SET error_message = REPEAT('😀', 2001), status = 'FAILED' WHERE id = 'job-0001'",
        ):
            executions.rows(f"SET ROLE {role}; {sql}")
    finally:
        executions.rows(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert executions.rows("SELECT LENGTH(reasoning), created_at = '2025-10-16 01:02:03.4Z' FROM healing_attempts "
        "WHERE id = 'ha-3'") == [(2000, True)]  # fmt: skip
    assert executions.rows("SELECT LENGTH(error_message), status, result ->> 'success', credential_ids FROM jobs "
        "WHERE id = 'job-0001'") == [(2000, "FAILED", "true", ["cred-1", "cred-2"])]  # fmt: skip
    assert executions.rows(KEPT)[1:] == [
        ("healing_attempts", "ha-3", "reasoning", 2500),
        ("jobs", "job-0001", "error_message", 2001),
    ]


def test_limits_made_by_hand_count(executions: World) -> None:
    executions.rows("UPDATE healing_attempts SET reasoning = 'short'")
    for (table, column), most in LIMITS.items():
        executions.rows(f"ALTER TABLE {table} ALTER {column} TYPE VARCHAR({most})")
    assert executions.states(executions.apply("add_varchar_limits")) == {"add_varchar_limits": "already_applied"}
    executions.rows("ALTER TABLE jobs ALTER error_message TYPE VARCHAR(2001)")
    assert executions.states(executions.apply("add_varchar_limits")) == {"add_varchar_limits": "applied"}


def test_a_constraint_of_the_name_that_says_something_else_is_refused(executions: World) -> None:
    executions.rows("ALTER TABLE jobs ADD CONSTRAINT jobs_error_message_limit CHECK (char_length(error_message) <= 9)")
    done = executions.apply("add_varchar_limits", chosen=["truncate"])
    assert done[0].state == "refused" and "says something else" in str(done[0].detail)


def test_a_long_value_that_came_in_between_stops_the_proof_and_the_next_run_goes_on(executions: World) -> None:
    """As if it had been committed between the cut and the constraint."""
    file = next((executions.folder / "migrations").glob("050_*"))
    text = file.read_text()
    late = "INSERT INTO healing_suggestions VALUES ('hs', REPEAT('p', 1001), REPEAT('d', 501), '2025-10-15Z');\n"
    file.write_text(text.replace("-- end only\n-- next transaction\n", f"-- end only\n-- next transaction\n{late}"))
    with pytest.raises(SourceUnavailable, match=r"step 3 of 3(.|\n)*goes on from there"):
        executions.apply("add_varchar_limits", chosen=["truncate"])
    file.write_text(text)
    assert executions.rows(LENGTHS)[0] == ("ha-1", 2000)
    standing = executions.apply("add_varchar_limits")
    assert standing[0].state == "refused" and len(standing[0].rows) == 2
    done = executions.apply("add_varchar_limits", chosen=["truncate"])
    assert executions.states(done) == {"add_varchar_limits": "applied"}
    assert len(executions.rows(KEPT)) == 3


def test_a_table_that_is_in_use_is_waited_for_two_seconds_and_others_read_on_while_it_is_proven(
    executions: World,
) -> None:
    busy = connect(executions.url)
    busy.autocommit = False
    busy.cursor().execute("UPDATE jobs SET status = 'FAILED' WHERE id = 'job-0004'")
    begun = time.monotonic()
    try:
        with pytest.raises(SourceUnavailable, match="lock timeout"):
            executions.apply("add_varchar_limits", chosen=["truncate"])
        assert time.monotonic() - begun < 8  # 2 s; a session of ours waits 10 s otherwise
    finally:
        busy.rollback()
        busy.close()
    assert limits_of(executions) == []
    assert len(executions.rows(KEPT)) == 1  # what was cut was kept before
    file = next((executions.folder / "migrations").glob("050_*"))
    file.write_text(file.read_text() + "SELECT pg_sleep(3);\n")
    thread = threading.Thread(target=executions.apply, args=("add_varchar_limits",), kwargs={"chosen": ["truncate"]})
    thread.start()
    held = "SELECT 1 FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock' AND relation = 'jobs'::regclass AND granted"
    while not executions.rows(held) and thread.is_alive():
        time.sleep(0.05)
    assert thread.is_alive()
    execute(executions.url, "SET lock_timeout = '100ms'", "UPDATE jobs SET status = 'FAILED' WHERE id = 'job-0004'")
    thread.join()
    assert all(validated for _, validated in limits_of(executions))


@pytest.mark.parametrize(("names", "chosen"), [(None, "truncat"), (("add_archival_tables",), "truncate")])
def test_unknown_option_is_refused_with_the_known_ones(
    executions: World, names: tuple[str, ...] | None, chosen: str
) -> None:
    with pytest.raises(Refused, match=f"no option {chosen} here. Nothing was changed") as caught:
        executions.apply(*(names or ()), chosen=[chosen])
    assert caught.value.reason == "unknown_option"


HEAD = "-- x\n-- applied when: SELECT 1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "-- waits for: more\n", "option more"),
        (HEAD + "-- refuse rows unless more: SELECT 1 -- no\n", "option more"),
        (HEAD + "\n-- only with: more\nSELECT 1;\n-- end only\n", "option more"),
        (HEAD + "-- option more:\n", "option NAME"),
        (HEAD + "-- option more: x\n\n-- only with: more\nSELECT 1;\n", "ends with"),
        (HEAD + "\nSELECT 1;\n-- end only\n", "in pairs"),
        (HEAD + "-- option a: x\n\n-- only with: a\n-- only with: a\n-- end only\n", "in pairs"),
        (HEAD + "-- option a: x\n\n-- only with: a\n-- next transaction\n-- end only\n", "within one transaction"),
    ],
)
def test_choices_that_cannot_be_meant_do_not_load(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "010_one.sqlite.sql").write_text(text)
    with pytest.raises(DeclarationError, match=said):
        migrations(tmp_path, "sqlite")
