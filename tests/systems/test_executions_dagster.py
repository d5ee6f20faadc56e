"""A4-1 to A4-6 as the assets of the executions system, on the demonstration's rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from maintenance_defs.components.maintained_system import system_definitions
from maintenance_defs.control.retention import PlanRow
from tests.components.test_assets import checks, failures, materialised
from tests.systems.conftest import Bench
from tests.systems.test_executions_archive import LOG, Executions

THEN, LATER = "2025-12-05T00:00:00Z", "2026-01-05T00:00:00Z"


class Room:
    """Assets of the system, materialised one by one in process."""

    def __init__(self, executions: Executions, instance: dg.DagsterInstance) -> None:
        self.executions, self.instance = executions, instance
        self.assets = list(system_definitions(executions.system, executions.bench.one.source).assets or ())

    def run(self, name: str, config: dict[str, Any] | None = None, partition: str | None = None) -> Any:
        result = dg.materialize(
            self.assets,  # type: ignore[arg-type]
            resources={"home": self.executions.home}, instance=self.instance, raise_on_error=False,
            selection=[dg.AssetKey(["executions", name])], partition_key=partition,
            run_config={"ops": {f"executions__{name}": {"config": config}}} if config else None,
        )  # fmt: skip
        assert result.success, failures(result)
        return result

    def page(self, name: str, config: dict[str, Any] | None = None, partition: str | None = None) -> dict[str, Any]:
        return materialised(self.run(name, config, partition))[name]

    def newest(self, only: str) -> PlanRow:
        plans = self.executions.home.control.retention.plans("executions", LOG)
        return next(plan for plan in plans if plan.totals["only"] == only)

    def approve(self, only: str) -> None:
        plan = self.newest(only)
        consent = {"digest": plan.short_digest, "count": plan.units, "actor": "ann", "reason": "reviewed"}
        self.run(f"{LOG}_approval", consent, plan.id)


@pytest.fixture
def room(bench: Callable[..., Bench]) -> Any:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Room(Executions(bench("executions")), instance)


def test_months_are_exported_leave_and_expire_each_with_its_own_consent(room: Room) -> None:
    page = room.page(f"{LOG}_plan", {"as_of": THEN})
    assert (page["count"], page["rows"]) == (5, 6)  # A4-1
    assert "expiry_count" not in page
    months = room.instance.get_dynamic_partitions(f"executions_{LOG}_months")
    assert months == ["2024-11", "2024-12", "2025-08", "2025-09", "2025-10"]

    page = room.page(f"{LOG}_archive", {"as_of": THEN}, "2025-10")
    assert (page["rows"], page["files"]) == (2, 1)
    page = room.page(f"{LOG}_archive", {"as_of": THEN}, "2025-08")
    assert (page["rows"], page["files"]) == (0, 0)
    assert "1 row of it not archived: over their time" in page["summary"]
    assert len(room.executions.ids()) == 9

    room.approve("removal")
    done = room.run(f"{LOG}_removal")  # A4-2
    assert checks(done)[f"{LOG}_removal.complete"][0]
    assert room.executions.ids() == ["log-02", "log-03", "log-09"]
    assert len(list(room.executions.archive_folder.rglob("*.parquet"))) == 3
    page = room.page(f"{LOG}_archive", {"as_of": THEN}, "2025-10")  # I119
    assert "Nothing was exported" in page["summary"]

    page = room.page(f"{LOG}_plan", {"as_of": THEN})  # A4-5
    assert (page["count"], page["next"]) == (0, "Nothing to do.")

    page = room.page(f"{LOG}_plan", {"as_of": LATER})  # A4-6
    assert (page["count"], page["expiry_count"]) == (1, 2)
    assert [row["what"].replace("\N{NO-BREAK SPACE}", " ") for row in page["months"]] == ["archive"] + 2 * [
        "delete file"
    ]
    room.approve("expiry")
    page = room.page(f"{LOG}_expiry")
    assert (page["state"], page["succeeded"]) == ("done", 2)
    assert room.executions.ids() == ["log-02", "log-03", "log-09"]  # that is another plan's
    left = room.executions.home.control.archive.files("executions", LOG)
    assert [(file.label, file.rows) for file in left] == [("org-default", 2)]
    ended = room.executions.home.control.archive.files("executions", LOG, states=("expired",))
    assert len(ended) == 2  # tombstones
    assert len(list(room.executions.archive_folder.rglob("*.parquet"))) == 1


RESULTS = "job_results"


def test_results_of_jobs_are_planned_approved_and_slimmed(room: Room) -> None:
    """A4-7, S4-51: the whole goes to a file, the summary stays; what nobody understands is told and stays."""
    executions = room.executions
    odd = """'{"id": "job-odd", "result": [1]}'"""
    executions.sql(f"INSERT INTO jobs SELECT (jsonb_populate_record(j, {odd})).* FROM jobs j WHERE id = 'job-0001'")
    done = room.run(f"{RESULTS}_plan", {"as_of": THEN})
    page = materialised(done)[f"{RESULTS}_plan"]
    assert (page["count"], page["rows"]) == (2, 3)
    assert [(row["whose"], row["what"], row["values"]) for row in page["values"]] == [
        ("org-90", "archive", "1"), ("org-default", "archive", "2"),
    ]  # fmt: skip
    assert "3 values would leave their rows for the archive" in page["summary"]
    passed, severity, why = checks(done)[f"{RESULTS}_plan.values_understood"]
    assert (passed, severity) == (False, "WARN")
    assert "job-odd" in why
    assert room.instance.get_dynamic_partitions(f"executions_{RESULTS}_months") == []

    plan = executions.home.control.retention.plan(page["plan"])
    consent = {"digest": plan.short_digest, "count": plan.units, "actor": "ann", "reason": "reviewed"}
    room.run(f"{RESULTS}_approval", consent, plan.id)
    assert sizes(executions)["job-0001"] > 500
    page = room.page(f"{RESULTS}_removal")
    assert (page["state"], page["succeeded"]) == ("done", 2)
    assert [(row["what"], row["outcome"].strip()) for row in page["outcomes"]] == [("archive", "set")]
    slim = {"success", "stats", "screenshotCount"}
    found = executions.rows("SELECT id, result::text AS result FROM public.jobs WHERE result IS NOT NULL ORDER BY id")
    assert [row["id"] for row in found if slim == set(json.loads(row["result"]))] == [
        "job-0001",
        "job-0002",
        "job-0003",
    ]
    assert len(list(executions.archive_folder.rglob("*.json.gz"))) == 3
    again = room.page(f"{RESULTS}_plan", {"as_of": THEN})
    assert (again["count"], again["next"]) == (0, "Nothing to do.")


def sizes(executions: Executions) -> dict[str, int]:
    found = executions.rows("SELECT id, length(result::text) AS size FROM public.jobs WHERE result IS NOT NULL")
    return {row["id"]: row["size"] for row in found}


def test_values_that_fail_leave_the_others_to_go_on_and_are_done_later(room: Room) -> None:
    """I123, I118: the same plan goes on; each act ends well once."""
    executions = room.executions
    room.run(f"{RESULTS}_plan", {"as_of": THEN})
    [plan] = [p for p in executions.home.control.retention.plans("executions", RESULTS) if p.units]
    consent = {"digest": plan.short_digest, "count": plan.units, "actor": "ann", "reason": "reviewed"}
    room.run(f"{RESULTS}_approval", consent, plan.id)
    blocked = executions.archive_folder / "job-results/org-90"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where a folder must be")
    whole = sizes(executions)
    done = room.run(f"{RESULTS}_removal")
    page = materialised(done)[f"{RESULTS}_removal"]
    assert (page["state"], page["succeeded"], page["retry"]) == ("partial", 1, f"maintain apply {plan.short_digest}")
    passed, severity, why = checks(done)[f"{RESULTS}_removal.complete"]
    assert (passed, severity) == (False, "ERROR")
    assert "job-0003" in why
    assert sizes(executions)["job-0003"] == whole["job-0003"]
    assert sizes(executions)["job-0001"] < whole["job-0001"]
    blocked.unlink()
    page = room.page(f"{RESULTS}_removal")
    assert (page["state"], page["succeeded"]) == ("done", 1)
    assert sizes(executions)["job-0003"] < whole["job-0003"]
    acts = [act for batch in executions.home.control.retention.acts(plan.id) for act in batch.to_pylist()]
    assert sorted((act["unit"], act["outcome"]) for act in acts) == [(0, "failed"), (0, "set"), (1, "set")]
