"""What storage costs a month, in plans and reports, only where a price is declared (S0-18)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.declaration import System, config_digest, policy_digest
from maintenance_defs.declarations import load_systems
from maintenance_defs.reporting.report import Report
from maintenance_defs.reporting.retention_facts import plan_facts
from maintenance_defs.reporting.retention_text import plan_lines
from tests.components.conftest import PAPERS, write
from tests.retention.small_world import OLD, SCOPES, SmallWorld

GB = 10**9
LOOSE = {"select": {"orphans": "files", "prefix": "docs/"}, "keep": [{"younger_than": "24 h"}],
         "act": {"objects": "quarantine"}}  # fmt: skip
MARKED = {"select": {"rows": "docs", "id": "id", "where": "old = 1",
                     "generations": {"of": "id", "by": "id", "order": "at", "tie": "id"}},
          "act": {"set": {"archived": True}}}  # fmt: skip


def world(tmp_path: Path, price: float | None = 0.02, **more: Any) -> SmallWorld:
    stores = {"files": {"url_env": "FILES", "scopes": SCOPES} | ({"price_per_gb_month": price} if price else {})}
    made = SmallWorld(tmp_path / "w", policies={"loose": LOOSE, "marked": MARKED}, more={"stores": stores} | more)
    made.sql("CREATE TABLE docs (id INTEGER PRIMARY KEY, key TEXT, old INTEGER, at TEXT, archived INTEGER)")
    for n, old in ((1, 1), (2, 1), (3, 0)):
        made.sql(f"INSERT INTO docs VALUES ({n}, 'docs/{n}', {old}, '2024-01-01', 0)")
        sparse(made, f"docs/{n}", n * GB)
    sparse(made, "docs/nobody", 10 * GB)
    return made


def sparse(made: SmallWorld, key: str, size_bytes: int) -> None:
    """So large, and no block of the disk."""
    made.put(key, size_bytes=0)
    with (made.folder / "files" / key).open("r+b") as file:
        file.truncate(size_bytes)
    os.utime(made.folder / "files" / key, (OLD.timestamp(), OLD.timestamp()))


def test_a_plan_says_what_its_objects_cost(tmp_path: Path) -> None:
    made = world(tmp_path)
    plan = made.plan("loose")
    assert plan.totals["costs"] == [
        {"store": "files", "what": "going", "size_bytes": 10 * GB, "price_per_gb_month": 0.02, "per_month": 0.2}
    ]
    told = "\n".join(plan_lines(plan_facts(made.home, plan)))
    assert "10 GB of store files that would go: 0.20 a month (at 0.02 per GB)" in told


def test_rows_that_are_only_marked_say_what_their_objects_go_on_costing(tmp_path: Path) -> None:
    made = world(tmp_path)
    [cost] = made.plan("marked").totals["costs"]
    assert (cost["what"], cost["size_bytes"], cost["per_month"]) == ("superseded", 3 * GB, 0.06)


def test_a_report_says_what_a_store_and_its_orphans_cost(tmp_path: Path) -> None:
    made = world(tmp_path, report="storage_maintenance")
    made.reconcile()
    report = Report.load(made.system, made.home)
    [store] = report.facts["stores"]
    assert store["cost"] == {"price_per_gb_month": 0.02, "per_month": 0.32, "orphans_per_month": 0.2}
    assert "Costs 0.32 a month at 0.02 per GB; its orphans 0.20." in report.to_text()
    assert report.to_storage_maintenance().endswith("\nCost of orphaned files per month: 0.20\n")


def test_without_a_price_nothing_is_said_of_cost(tmp_path: Path) -> None:
    made = world(tmp_path, None)
    plan = made.plan("loose")
    report = Report.load(made.system, made.home)
    assert (plan.totals["costs"], report.facts["stores"][0]["cost"]) == ([], None)
    assert "month" not in "\n".join(plan_lines(plan_facts(made.home, plan)))
    assert "month" not in report.to_text() + report.to_storage_maintenance()


def test_a_price_changes_no_digest(tmp_path: Path) -> None:
    """Else a price that is declared later would end standing approvals and make inventories stale."""
    made = world(tmp_path, None)
    without = made.system
    declared = without.model_dump(by_alias=True, exclude_none=True, exclude_unset=True)
    declared["stores"]["files"]["price_per_gb_month"] = 0.02
    priced = System.model_validate(declared)
    assert config_digest(priced) == config_digest(without)
    assert policy_digest(priced, "loose", {}) == policy_digest(without, "loose", {})
    declared["stores"]["files"]["may_be_absent"] = True
    assert config_digest(System.model_validate(declared)) != config_digest(without)


@pytest.mark.parametrize("price", ["-0.01", ".nan", ".inf", "cheap", "true"])
def test_a_price_that_cannot_be_is_a_load_error_with_its_line(tmp_path: Path, price: str) -> None:
    text = PAPERS.replace("limit: 1 MB", f"price_per_gb_month: {price}")
    with pytest.raises(Exception, match="price_per_gb_month") as error:
        load_systems(write(tmp_path / "bad", {"assets/papers/defs.yaml": text}))
    assert "assets/papers/defs.yaml:11" in str(error.value)
