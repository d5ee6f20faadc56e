"""A4-1 to A4-6 as the assets of the executions system, on the demonstration's rows."""

from __future__ import annotations

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
        "expire file"
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
