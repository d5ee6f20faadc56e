"""A4: log months of executions, archived; case by case on the demonstration's rows."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from sqlalchemy import make_url

from maintenance_defs.archive import objects
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.gate import Execution, execute
from maintenance_defs.archive.plans.planning import take_plan
from maintenance_defs.archive.plans.recording import read_items
from maintenance_defs.archive.reading import get
from maintenance_defs.archive.units import exporting, returning
from maintenance_defs.control.archive import UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import ConsentRefused
from tests.support import real_servers
from tests.systems.conftest import Bench

Make = Callable[..., Bench]
AS_OF = datetime(2025, 12, 5, tzinfo=UTC)
LOG = "execution_log"


class Executions:
    """The system on a database of its own, months leaving at once; its archive in a folder or an Azure container."""

    def __init__(
        self, bench: Bench, *, undo_window: timedelta = timedelta(0), azure: tuple[str, str] | None = None
    ) -> None:
        self.bench = bench
        self.sql = bench.own_database()
        self.sql((bench.one.source / "migrations/010_add_archival_tables.postgresql.sql").read_text())
        self.archive_folder = bench.own_store("archive")
        self.azure = azure  # endpoint, container
        if azure is not None:
            real_servers.azure_put(azure[0], f"/{azure[1]}", query="restype=container")
            bench.environment["EXECUTIONS_ARCHIVE_URL"] = f"az://devstoreaccount1/{azure[1]}?endpoint={azure[0]}"
        self.home = Home(bench.folder / "home", bench.environment)
        archives = dict(bench.system.archives)
        archives[LOG] = archives[LOG].model_copy(update={"undo_window": undo_window})
        self.system: System = bench.system.model_copy(update={"archives": archives})

    def plan(self, name: str = LOG, as_of: datetime = AS_OF) -> Any:
        return take_plan(self.system, name, self.home, run_id="test", as_of=as_of)

    def work(self) -> exporting.Work:
        return exporting.Work(self.system, LOG, self.home, "test-owner", AS_OF, "test", print)

    def approve(self, plan: Any) -> None:
        self.home.control.retention.approve(
            plan.id, digest=plan.short_digest, count=plan.units, actor="ann", reason="reviewed",
            expires_at=plan.expires_at,
        )  # fmt: skip

    def apply(self, plan: Any) -> Execution:
        self.approve(plan)
        return execute(self.system, plan.id, self.home, run_id="test", log=print)

    def stored(self) -> list[Path]:
        """The archive's Parquet files as they are in the store, below a folder of the test."""
        store = objects.open_archive_store(self.system, "archive", self.home).reading
        fetched = self.bench.folder / "fetched"
        shutil.rmtree(fetched, ignore_errors=True)
        keys = [str(key) for batch in store.list() for key in batch["key"].to_pylist()]
        for key in keys:
            (fetched / key).parent.mkdir(parents=True, exist_ok=True)
            store.get_file(key, fetched / key)
        return sorted(file.relative_to(fetched) for file in fetched.rglob("*.parquet"))

    def overwrite(self, key: str, body: bytes) -> None:
        """Somebody else's hand on an object."""
        if self.azure is None:
            (self.archive_folder / key).write_bytes(body)
        else:
            endpoint, container = self.azure
            real_servers.azure_put(endpoint, f"/{container}/{key}", body, x_ms_blob_type="BlockBlob")

    def ids(self) -> list[str]:
        return [row["id"] for row in self.rows("SELECT id FROM public.execution_log_partitioned ORDER BY id")]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with archive_database(self.system, self.home).snapshot() as snapshot:
            return snapshot.rows(sql)


@pytest.fixture(params=["folder", pytest.param("azurite", marks=pytest.mark.real)])
def executions(bench: Make, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Executions:
    """On a folder, and on the Azure container that the seed names, with the account's key in the environment."""
    if request.param == "folder":
        return Executions(bench("executions"))
    endpoint = request.getfixturevalue("azurite")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", real_servers.AZURITE_KEY)
    return Executions(bench("executions"), azure=(endpoint, f"execution-archive-{uuid.uuid4().hex[:8]}"))


def lines(executions: Executions, plan: Any) -> list[tuple[str, str, str, int]]:
    return [(i["act"], i["organisation"], i["label"], i["rows"]) for i in read_items(executions.home, plan)]


PLANNED = [
    ("expire_rows", "org-default", "2024-11", 1),
    ("archive", "org-default", "2024-12", 1),
    ("expire_rows", "org-90", "2025-08", 1),
    ("archive", "org-90", "2025-09", 1),
    ("archive", "org-default", "2025-10", 2),
]
HOT = [("org-default", "2025-11", 2), ("org-default", "2025-12", 1)]


def test_the_plan_says_what_leaves_what_expires_and_what_stays_hot(executions: Executions) -> None:
    """A4-1."""
    plan = executions.plan()
    assert lines(executions, plan) == PLANNED
    hot = [(s["organisation"], s["label"], s["rows"]) for s in plan.totals["stays"] if s["why"] == "hot"]
    assert hot == HOT
    totals = plan.totals["totals"]
    assert totals["archive_rows"] + totals["expire_rows_rows"] + totals["hot_rows"] == 9


def test_cold_months_leave_and_expired_ones_are_gone(executions: Executions) -> None:
    """A4-2."""
    done = executions.apply(executions.plan())
    assert (done.state, done.counts) == ("done", {"deleted": 5}), done.problems
    assert executions.ids() == ["log-02", "log-03", "log-09"]
    files = executions.home.control.archive.files("executions", LOG)
    assert [(f.label, f.rows) for f in files] == [("org-default", 1), ("org-90", 1), ("org-default", 2)]
    assert len(executions.stored()) == 3
    catalogue = executions.rows("SELECT * FROM public.execution_log_archives ORDER BY job_id")
    assert [(r["job_id"], r["record_count"], r["start_date"], r["end_date"]) for r in catalogue] == [
        ("job-0001", 2, datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 10, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("job-0002", 1, datetime(2024, 12, 1, tzinfo=UTC), datetime(2024, 12, 1, tzinfo=UTC)),
        ("job-0003", 1, datetime(2025, 9, 30, 12, tzinfo=UTC), datetime(2025, 9, 30, 12, tzinfo=UTC)),
    ]
    keys = {f.key for f in files}
    assert {r["archive_blob_url"].partition("/execution-archive/")[2] for r in catalogue} == keys


def test_applying_again_does_nothing(executions: Executions) -> None:
    """A4-5."""
    executions.apply(executions.plan())
    before = executions.home.control.archive.files("executions", LOG)
    again = executions.plan()
    assert (again.state, again.units) == ("done", 0)
    assert executions.home.control.archive.files("executions", LOG) == before


def test_files_hold_every_value_exactly(executions: Executions) -> None:
    """A4-3."""
    hot = {r["id"]: r for r in executions.rows("SELECT * FROM public.execution_log_partitioned")}
    executions.apply(executions.plan())
    stored = executions.stored()
    assert [f.parent.as_posix() for f in stored] == [
        "execution_log/org=org-90/month=2025-09",
        "execution_log/org=org-default/month=2024-12",
        "execution_log/org=org-default/month=2025-10",
    ]
    files = [executions.bench.folder / "fetched" / file for file in stored]
    with_duckdb = duckdb.sql(
        f"SELECT * FROM read_parquet({[str(f) for f in files]}, hive_partitioning = false)"
    ).to_arrow_table()
    with_pyarrow = pa.concat_tables([pq.ParquetFile(f).read() for f in files])
    for table in (with_pyarrow, with_duckdb):
        found = {row["id"]: row for row in table.to_pylist()}
        assert sorted(found) == ["log-01", "log-04", "log-06", "log-08"]
        for id, row in found.items():
            assert row["timestamp"] == hot[id]["timestamp"]
            assert (json.loads(row["metadata"]) if row["metadata"] else None) == hot[id]["metadata"]
            assert {k: row[k] for k in ("job_id", "step_index", "step_name", "level", "message", "duration")} == {
                k: hot[id][k] for k in ("job_id", "step_index", "step_name", "level", "message", "duration")
            }
    october = pq.ParquetFile(files[2])
    assert october.read().column("id").to_pylist() == ["log-04", "log-01"]  # by job_id, then time
    assert october.metadata.row_group(0).column(0).compression == "ZSTD"


def test_the_session_zone_of_the_server_changes_nothing(executions: Executions) -> None:
    """A4-23."""
    database = make_url(executions.home.environment["EXECUTIONS_DATABASE_URL"]).database
    executions.sql(f"ALTER DATABASE \"{database}\" SET timezone = 'Europe/Warsaw'")
    assert lines(executions, executions.plan()) == PLANNED


def test_wrong_periods_are_listed_and_shorten_nothing(executions: Executions) -> None:
    """A4-13."""
    executions.sql(
        "INSERT INTO organizations VALUES ('org-14', 'A', 14), ('org-0', 'B', 0), ('org-minus', 'C', -5); "
        "INSERT INTO jobs (id, organization_id, workflow_id, status, credential_ids, created_at) "
        "SELECT 'job-' || id, id, 'wf-1', 'COMPLETED', '{}', '2025-08-01Z' FROM organizations WHERE name < 'D' "
        "AND length(name) = 1; "
        "INSERT INTO execution_log_partitioned (id, job_id, step_index, level, message, timestamp) "
        "SELECT 'log-' || id, 'job-' || id, 0, 'INFO', 'x', '2025-08-15Z' FROM organizations WHERE length(name) = 1"
    )
    plan = executions.plan()
    assert {(i["organisation"], i["said"]) for i in plan.totals["invalid"]} == {
        ("org-14", "14"), ("org-0", "0"), ("org-minus", "-5"),
    }  # fmt: skip
    acts = {(act, organisation) for act, organisation, label, _ in lines(executions, plan) if label == "2025-08"}
    assert acts == {("archive", "org-14"), ("archive", "org-0"), ("archive", "org-minus"), ("expire_rows", "org-90")}


def test_health_data_is_archived_and_never_let_go(executions: Executions) -> None:
    """A4-10, G92."""
    plan = executions.plan("phi_audit")
    assert lines(executions, plan) == [
        ("archive", "org-90", "2025-06", 1), ("archive", "org-default", "2025-06", 2),
    ]  # fmt: skip
    assert executions.apply(plan).state == "done"
    assert [r["id"] for r in executions.rows("SELECT id FROM public.phi_audit_logs")] == ["phi-4"]
    declared = executions.bench.system.model_dump(by_alias=True, mode="json")
    with pytest.raises(ValidationError, match="below the floor of 2192 d"):
        Archive.model_validate({**_as_written(declared["archives"]["phi_audit"]), "keep": "365 d"})


def _as_written(archive: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in archive.items() if k in ("describe", "table", "time", "organisation", "store", "path",
            "layout", "class", "encryption")} | {"hot": "90 d"}  # fmt: skip


def test_what_was_damaged_on_the_way_leaves_everything_where_it_was(
    executions: Executions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A4-15, C38: the blob is cut before it is read back."""
    real = objects.put_once

    def cut(store: Any, key: str, path: Path, sha256: str) -> Any:
        stored = real(store, key, path, sha256)
        executions.overwrite(key, path.read_bytes()[:-20])
        return stored

    monkeypatch.setattr(exporting, "put_once", cut)
    done = executions.apply(executions.plan())
    assert done.state == "partial"
    assert done.counts == {"failed": 3, "deleted": 2}  # expired months have no blob
    assert "bytes instead of" in done.problems[0]["detail"]
    assert executions.home.control.archive.files("executions", LOG) == []
    assert set(executions.ids()) >= {"log-01", "log-04", "log-06", "log-08"}


def test_a_partition_is_detached_waits_and_is_dropped(bench: Make) -> None:
    """2026-01-05 with an undo window: November is a partition of its own."""
    executions = Executions(bench("executions"), undo_window=timedelta(days=7))
    as_of = datetime(2026, 1, 5, tzinfo=UTC)
    plan = executions.plan(as_of=as_of)
    assert ("archive", "org-default", "2025-11", 2) in lines(executions, plan)
    done = executions.apply(plan)
    assert done.state == "done", done.problems
    assert done.counts["moved"] == 1
    assert executions.ids() == ["log-09"]
    waits = executions.plan(as_of=as_of)
    assert [s["label"] for s in waits.totals["stays"] if s["why"] == "waits"] == ["2025-11"]
    assert waits.units == 0
    later = executions.plan(as_of=datetime.now(UTC))
    assert later.totals["totals"]["drop_rows"] == 0  # the window runs from the detach, which was now


def detached(bench: Make) -> tuple[Executions, UnitRow]:
    """November as a detached partition, in its undo window."""
    executions = Executions(bench("executions"), undo_window=timedelta(days=7))
    executions.apply(executions.plan(as_of=datetime(2026, 1, 5, tzinfo=UTC)))
    (unit,) = executions.home.control.archive.units("executions", LOG, ("detached",))
    return executions, unit


def test_a_detached_month_can_be_put_back_and_then_stays(bench: Make) -> None:
    """D67."""
    executions, unit = detached(bench)
    executions.sql(
        "INSERT INTO execution_log_partitioned (id, job_id, step_index, level, message, timestamp) "
        "VALUES ('log-late', 'job-0001', 9, 'INFO', 'late', '2025-11-20Z')"
    )
    done = returning.put_back(executions.work(), unit, actor="ann", reason="audit")
    assert done.late_rows == 1
    assert executions.ids() == ["log-02", "log-03", "log-09", "log-late"]
    plan = executions.plan(as_of=datetime(2026, 1, 5, tzinfo=UTC))
    assert ("held", "2025-11") in {(s["why"], s["label"]) for s in plan.totals["stays"]}
    assert "2025-11" not in {line[2] for line in lines(executions, plan)}


def test_a_month_comes_back_from_the_archive_as_it_was(bench: Make) -> None:
    """H114."""
    executions, unit = detached(bench)
    restored = returning.restore(executions.work(), [unit])
    assert (restored.rows, restored.same) == (2, True)
    found = executions.rows(f"SELECT id FROM {restored.schema}.{restored.table} ORDER BY id")
    assert [r["id"] for r in found] == ["log-02", "log-03"]
    assert returning.drill(executions.work(), unit).same is True


def test_what_arrives_late_is_a_further_part(executions: Executions) -> None:
    """S4-46, D62: October has left; a row for it lands in the DEFAULT partition."""
    executions.apply(executions.plan())
    executions.sql(
        "INSERT INTO execution_log_partitioned (id, job_id, step_index, level, message, timestamp) "
        "VALUES ('log-late', 'job-0001', 9, 'INFO', 'late', '2025-10-20Z')"
    )
    plan = executions.plan()
    assert lines(executions, plan) == [("archive", "org-default", "2025-10", 1)]
    assert executions.apply(plan).state == "done"
    files = executions.home.control.archive.files("executions", LOG)
    october = [f for f in files if "month=2025-10" in f.key]
    assert sorted((f.rows, f.key.rpartition("/")[2][:8]) for f in october) == [(1, "part-001"), (2, "part-000")]


def test_a_month_goes_back_into_its_table(executions: Executions) -> None:
    before = executions.rows(
        "SELECT * FROM public.execution_log_partitioned WHERE id IN ('log-01', 'log-04') ORDER BY id"
    )
    executions.apply(executions.plan())
    state = executions.home.control.archive
    october = [unit for unit in state.units("executions", LOG) if unit.label == "2025-10"]
    assert returning.into_place(executions.work(), october, actor="ann", reason="audit").rows == 2
    after = executions.rows(
        "SELECT * FROM public.execution_log_partitioned WHERE id IN ('log-01', 'log-04') ORDER BY id"
    )
    assert after == before
    assert executions.rows("SELECT * FROM public.execution_log_archives WHERE job_id = 'job-0001'") == []
    assert [s["label"] for s in executions.plan().totals["stays"] if s["why"] == "held"] == ["2025-10"]
    executions.home.control.retention.release_hold(1, "ann", "done")
    again = executions.plan()
    assert lines(executions, again) == [("archive", "org-default", "2025-10", 2)]
    assert executions.apply(again).state == "done"
    assert executions.ids() == ["log-02", "log-03", "log-09"]
    files = [f for f in state.files("executions", LOG) if "2025-10" in f.key]
    assert [(f.rows, f.key.rpartition("/")[2][:8]) for f in files] == [(2, "part-001")]


def test_one_jobs_log_in_order_of_time_and_the_second_time_from_the_cache(executions: Executions) -> None:
    """A4-4."""
    executions.apply(executions.plan())

    def ask() -> tuple[list[str], int]:
        got = get(executions.system, LOG, executions.home, value="job-0001")
        return got.read_all().column("id").to_pylist(), got.reads.requests

    ids, requests = ask()
    assert ids == ["log-04", "log-01", "log-02", "log-03"]
    assert requests > 0
    assert ask() == (ids, 0)
    assert get(executions.system, LOG, executions.home, value="job-9999").read_all().num_rows == 0


def test_a_month_later_more_leaves_and_what_is_over_is_gone_from_the_store(executions: Executions) -> None:
    """A4-6."""
    executions.apply(executions.plan())
    plan = executions.plan(as_of=datetime(2026, 1, 5, tzinfo=UTC))
    assert lines(executions, plan) == [
        ("archive", "org-default", "2025-11", 2),
        ("expire_file", "org-default", "2024-12", 1),
        ("expire_file", "org-90", "2025-09", 1),
    ]
    assert executions.apply(plan).state == "done"
    left = [f.parts[1:3] for f in executions.stored()]
    assert left == [("org=org-default", "month=2025-10"), ("org=org-default", "month=2025-11")]
    state = executions.home.control.archive
    tombstones = state.files("executions", LOG, states=("expired",))
    assert sorted((f.label, f.rows) for f in tombstones) == [("org-90", 1), ("org-default", 1)]
    assert all(f.object_gone_at is not None for f in tombstones)
    gone = get(executions.system, LOG, executions.home, value="job-0003")
    assert gone.read_all().num_rows == 0
    assert [f.label for f in gone.expired] == ["org-90"]
    jobs = executions.rows("SELECT job_id FROM public.execution_log_archives ORDER BY job_id")
    assert [r["job_id"] for r in jobs] == ["job-0001", "job-0001"]


def test_a_shorter_period_needs_a_second_person(executions: Executions) -> None:
    """G91: once kept 730 days, now 31."""
    executions.sql("UPDATE organizations SET log_retention_days = 730 WHERE id = 'org-90'")
    executions.apply(executions.plan())
    executions.sql("UPDATE organizations SET log_retention_days = 31 WHERE id = 'org-90'")
    plan = executions.plan()
    assert plan.totals["shortened"] == ["org-90: kept 730 d before, now 31 d"]
    executions.approve(plan)
    with pytest.raises(ConsentRefused):
        execute(executions.system, plan.id, executions.home, run_id="test")


def test_more_expired_rows_than_were_agreed_to_do_not_go(executions: Executions) -> None:
    """V14: one more row for a month that was to go without being archived."""
    plan = executions.plan()
    executions.approve(plan)
    executions.sql(
        "INSERT INTO execution_log_partitioned (id, job_id, step_index, level, message, timestamp) "
        "VALUES ('log-more', 'job-0003', 1, 'INFO', 'more', '2025-08-20Z')"
    )
    done = execute(executions.system, plan.id, executions.home, run_id="test")
    assert done.counts == {"deleted": 4, "skipped_changed": 1}
    assert "agreed were 1" in done.problems[0]["detail"]
    assert {"log-07", "log-more"} < set(executions.ids())


def test_what_is_held_after_it_was_agreed_to_stays(executions: Executions) -> None:
    """G93: a hold on one job, placed between consent and act."""
    plan = executions.plan()
    executions.approve(plan)
    hold = executions.home.control.retention.add_hold
    hold("executions", "ann", "a court asks", table="public.execution_log_partitioned", row_id="job-0001")
    done = execute(executions.system, plan.id, executions.home, run_id="test")
    assert done.counts == {"deleted": 4, "skipped_held": 1}
    assert {"log-01", "log-04"} < set(executions.ids())
