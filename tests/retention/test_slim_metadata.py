"""The copies in execution_metadata: a view first, and they go only without drift (S4-60 … S4-63, A4-11)."""

from __future__ import annotations

from pathlib import Path

import pytest

from maintenance_defs.core.errors import SourceUnavailable
from tests.retention.test_migrate import World, made

VIEW, DROP = "slim_execution_metadata", "drop_copied_metadata"


@pytest.fixture
def executions(pg_database: str, tmp_path: Path) -> World:
    return made("executions", pg_database, tmp_path)


def drop(world: World) -> list[tuple[str, ...]]:
    """The rows that speak against it; none when it was applied."""
    done = world.apply(DROP, chosen=["drop_columns"])[0]
    assert done.state == ("refused" if done.rows else "applied")
    return [tuple(row.values()) for row in done.rows]


def test_the_view_has_the_old_columns_with_equal_values_and_then_they_go(executions: World) -> None:
    before = executions.rows("SELECT * FROM execution_metadata ORDER BY id")
    names = "SELECT attname FROM pg_attribute WHERE attrelid = 'execution_metadata{}'::regclass AND attnum > 0 " \
        "AND NOT attisdropped ORDER BY attnum"  # fmt: skip
    columns = executions.rows(names.format(""))
    assert executions.states(executions.apply(VIEW)) == {VIEW: "applied"}
    assert executions.rows("SELECT * FROM execution_metadata_full ORDER BY id") == before
    assert executions.rows(names.format("_full")) == columns
    assert executions.states(executions.apply(DROP)) == {DROP: "waiting"}
    assert drop(executions) == []
    assert executions.rows("SELECT * FROM execution_metadata_full ORDER BY id") == before
    assert len(executions.rows(names.format(""))) == len(columns) - 9
    again = executions.apply(VIEW, DROP, chosen=["drop_columns"])
    assert executions.states(again) == dict.fromkeys((VIEW, DROP), "already_applied")


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE workflows SET name = 'renamed'", "workflow_name"),
        ("DELETE FROM clients", "client_name client_npi"),
        ("UPDATE claim_submissions SET patient_name = 'other'", "insuree_name"),
        ("UPDATE credentials SET account_name = 'other' WHERE id = 'cred-2'", "all_account_names"),
        ("UPDATE jobs SET credential_ids = '{cred-1}'", "account_count all_account_ids all_account_names"),
    ],
)
def test_a_copy_that_differs_from_its_source_is_listed_and_stays(executions: World, sql: str, found: str) -> None:
    executions.apply(VIEW)
    executions.rows("DELETE FROM execution_metadata WHERE id <> 'meta-job-0001'")
    executions.rows(sql)
    assert sorted(drop(executions)) == [(name, "meta-job-0001") for name in found.split()]
    assert executions.rows("SELECT workflow_name, client_name FROM execution_metadata") == [
        ("Eligibility check", "Northside Family Practice")
    ]


def test_copies_that_new_code_leaves_out_are_no_drift(executions: World) -> None:
    executions.apply(VIEW)
    executions.rows(
        "INSERT INTO execution_metadata (id, job_id, organization_id, workflow_id, status, progress_percent,"
        " total_steps, completed_steps, created_at)"
        " VALUES ('m', 'job-0004', 'org-default', 'wf-1', 'RUNNING', 0, 3, 0, '2025-12-04Z')"
    )
    assert drop(executions) == []


def test_a_copy_written_after_the_look_stops_the_drop(executions: World) -> None:
    executions.apply(VIEW)
    file = next((executions.folder / "migrations").glob("040_*"))
    late = "UPDATE public.execution_metadata SET client_name = 'late';\nLOCK TABLE public.jobs"
    file.write_text(file.read_text().replace("LOCK TABLE public.jobs", late))
    with pytest.raises(SourceUnavailable, match="written meanwhile"):
        drop(executions)
    assert executions.rows("SELECT COUNT(DISTINCT client_name) FROM execution_metadata") == [(1,)]


def test_without_the_view_nothing_is_dropped(executions: World) -> None:
    done = executions.apply(DROP, chosen=["drop_columns"])[0]
    assert done.state == "refused" and "comes first" in str(done.detail)
