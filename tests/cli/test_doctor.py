"""What doctor sees, and what it says to do."""

import json
import os
import uuid

import pytest
from sqlalchemy import make_url

from tests.cli.conftest import ROOT, World
from tests.support.postgres import execute


def findings(world: World, *arguments: str) -> list[dict[str, str]]:
    done = world.run("doctor", "--json", *arguments)
    found: list[dict[str, str]] = json.loads(done.stdout)["findings"]
    return found


def said(found: list[dict[str, str]], status: str) -> str:
    return "\n".join(f"{f['subject']}: {f['what']} {f['todo']}" for f in found if f["status"] == status)


def test_a_healthy_system_has_no_failures(colouring: World) -> None:
    done = colouring.run("doctor")
    assert done.exit_code == 0, done.output
    assert "FAIL" not in done.stdout


def test_templates_are_previewed_on_five_rows(reports: World) -> None:
    ok = said(findings(reports), "ok")
    assert "of 11 rows: exact 11. First: reports/fallback_" in ok
    assert ok.count(".pdf") + ok.count(".html") >= 5


def test_a_renamed_column_is_named_with_file_and_line(colouring: World) -> None:
    colouring.sql("ALTER TABLE assets RENAME COLUMN storage_key TO object_key")
    done = colouring.run("doctor")
    assert done.exit_code == 2
    assert "table assets: has no column storage_key (assets/colouring/defs.yaml:" in done.stdout
    assert "object_key" in done.stdout


def test_a_missing_table_is_named(colouring: World) -> None:
    colouring.sql("ALTER TABLE assets RENAME TO pages")
    fails = said(findings(colouring), "fail")
    assert "table assets: is not there (assets/colouring/defs.yaml:" in fails
    assert "pages" in fails


def test_a_migration_that_a_query_needs_is_named(reports: World) -> None:
    found = findings(reports)
    assert "migration archive_columns is not applied: report_assets.archived missing." in said(found, "warn")
    assert not said(found, "fail")


def test_how_far_the_migrations_came_is_told_and_a_wrong_order_fails(reports: World) -> None:  # S0-36
    assert "migrations: 0 of 3 applied (none); not applied: archive_columns" in said(findings(reports), "ok")
    assert reports.run("migrate", "archive_columns", "--apply").exit_code == 0
    assert "migrations: 1 of 3 applied (archive_columns)" in said(findings(reports), "ok")
    reports.sql("DROP VIEW report_assets_active")
    reports.sql("DROP INDEX idx_report_assets_archived")
    reports.sql("ALTER TABLE report_assets DROP COLUMN archived")
    reports.sql("ALTER TABLE report_assets ADD COLUMN object_deleted_at DATETIME DEFAULT NULL")
    assert "object_deleted_at is applied, but archive_columns" in said(findings(reports), "fail")


def test_an_unset_variable_is_named_and_no_value_is_shown(colouring: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLOURING_BUCKET_URL")
    monkeypatch.setenv("COLOURING_DATABASE_URL", "postgresql+psycopg2://joe:s3cr3t@127.0.0.1:1/none")
    done = colouring.run("doctor")
    assert done.exit_code == 2
    assert "COLOURING_BUCKET_URL: is not set" in done.stdout
    assert "s3cr3t" not in done.output


def test_the_bare_scheme_is_refused(colouring: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_PG_URL", "postgresql://joe:s3cr3t@db/dagster")
    done = colouring.run("doctor")
    assert done.exit_code == 2
    assert "postgresql+psycopg2://" in done.stdout
    assert "s3cr3t" not in done.output


def test_an_absent_folder_is_no_empty_store(colouring: World) -> None:
    colouring.store.rename(colouring.store.with_name("elsewhere"))
    assert "does not exist" in said(findings(colouring), "fail")


def test_copied_times_suggest_first_seen(colouring: World) -> None:
    # Every file of this world was written just now and dated 2024: exactly what a copy looks like.
    assert "age_by: first_seen" in said(findings(colouring), "warn")
    for path in colouring.store.rglob("*.*"):
        os.utime(path)
    assert "age_by: first_seen" not in said(findings(colouring), "warn")


def test_a_canary_is_written_only_when_asked_and_leaves_nothing(colouring: World) -> None:
    before = {path for path in colouring.store.rglob("*") if path.is_file()}
    assert "a canary was" not in said(findings(colouring), "ok")
    assert "a canary was written and removed" in said(findings(colouring, "--write"), "ok")
    assert {path for path in colouring.store.rglob("*") if path.is_file()} == before


def test_production_lists_the_six_points(colouring: World) -> None:
    found = findings(colouring, "--production")
    subjects = [f["subject"] for f in found if f["subject"][:1].isdigit()]
    assert [subject[0] for subject in subjects] == list("123456")
    assert "MAINTENANCE_CONTROL_URL" in said(found, "fail")


def test_a_pair_is_only_accepted_after_it_was_refused(colouring: World) -> None:
    done = colouring.run("doctor", "--accept-pair", "moved to the new bucket")
    assert done.exit_code == 3
    assert "refused no pair" in done.stderr


def on_postgres(colouring: World, pg_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same world on PostgreSQL, read by a role of its own; the role's name."""
    source = ROOT / "assets" / "colouring" / "demo"
    role = f"reporter_{uuid.uuid4().hex[:8]}"
    execute(
        pg_database,
        (source / "schema.sql").read_text(),
        (source / "rows.sql").read_text(),
        "ANALYZE",
        f"CREATE ROLE {role} LOGIN PASSWORD 'reading-only'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    url = make_url(pg_database).set(username=role, password="reading-only")
    monkeypatch.setenv("COLOURING_DATABASE_URL", url.render_as_string(hide_password=False))
    return role


def test_a_role_that_only_reads_is_well_and_one_that_writes_is_not(
    colouring: World, pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = on_postgres(colouring, pg_database, monkeypatch)
    assert "can only read the declared tables" in said(findings(colouring), "ok")
    execute(pg_database, f"GRANT DELETE ON assets TO {role}")
    assert "database role: may write to public.assets." in said(findings(colouring), "warn")


def test_row_level_security_is_a_failure_that_names_the_table(
    colouring: World, pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_postgres(colouring, pg_database, monkeypatch)
    execute(pg_database, "ALTER TABLE assets ENABLE ROW LEVEL SECURITY")
    done = colouring.run("doctor")
    assert done.exit_code == 2
    assert "row-level security hides rows of table 'assets'" in done.stdout
    assert "reading-only" not in done.output


def test_a_large_table_is_told_which_index_makes_sorting_free(
    colouring: World, pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_postgres(colouring, pg_database, monkeypatch)
    monkeypatch.setattr("maintenance_defs.reporting.doctor_database.INDEX_WORTH_ROWS", 0)
    hint = 'CREATE INDEX CONCURRENTLY ON public.assets ("storage_key" COLLATE "C", "id");'
    assert hint in said(findings(colouring), "warn")
    execute(pg_database, hint)
    assert "CREATE INDEX" not in said(findings(colouring), "warn")
