"""A SQLite database, a folder, and policies given as a test needs them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.retention.choosing import STEPS_FILE
from maintenance_defs.retention.gate import Execution, execute
from maintenance_defs.retention.planning import KEPT_FILE, take_plan

AS_OF = datetime(2025, 6, 15, 12, tzinfo=UTC)
OLD = AS_OF - timedelta(days=90)
SCOPES = [
    {"prefix": "docs/", "exclusive": True},
    {"prefix": "raw/", "exclusive": True, "class": "temporary"},
    {"prefix": "final/", "exclusive": True},
]
DOCS = {"table": "docs", "id": "id", "store": "files", "object": {"column": "key"}}
ALL = {"max_objects": 1000, "max_rows": 1000, "max_percent": 100, "max_growth": 1000}


@dataclass
class SmallWorld:
    """Application rows and objects; `plan` reconciles first."""

    folder: Path
    references: Sequence[dict[str, Any]] = (DOCS,)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)  # of the declaration

    def __post_init__(self) -> None:
        (self.folder / "files").mkdir(parents=True)
        self.home = Home(
            self.folder / "home", {"DB": f"sqlite:///{self.folder / 'app.db'}", "FILES": str(self.folder / "files")}
        )

    @property
    def system(self) -> System:
        return System.model_validate(
            {
                "name": "small",
                "database": {"url_env": "DB"},
                "stores": {"files": {"url_env": "FILES", "scopes": SCOPES}},
                "references": list(self.references),
                "drift_scan": False,
                "guards": {"max_orphan_percent": 100, "max_missing_percent": 100, "max_inventory_shrink_percent": 100,
                           "max_reference_shrink_percent": 100},
                "retention": {name: {"describe": name, "limits": ALL} | given for name, given in self.policies.items()},
            }
            | self.more
        )  # fmt: skip

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with closing(sqlite3.connect(self.folder / "app.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            for statement in statements:
                rows = connection.execute(statement).fetchall()
        return rows

    def put(self, *keys: str, at: datetime = OLD, size_bytes: int = 4) -> None:
        for key in keys:
            file = self.folder / "files" / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes(size_bytes))
            os.utime(file, (at.timestamp(), at.timestamp()))

    def objects(self) -> list[str]:
        root = self.folder / "files"
        found = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
        return sorted(key for key in found if not key.startswith(".maintenance/"))

    def reconcile(self, as_of: datetime = AS_OF) -> None:
        reconcile(self.system, self.home, folder=self.folder, as_of=as_of)

    def plan(self, policy: str, as_of: datetime = AS_OF, *, again: bool = True) -> PlanRow:
        """again: on a reconciliation of its own."""
        if again:
            self.reconcile(as_of)
        return take_plan(self.system, policy, self.home, run_id="test")

    def execute(self, plan: PlanRow, **how: Any) -> Execution:
        self.home.control.retention.approve(
            plan.id, plan.digest, plan.units, "ada", "looked at it", expires_at=datetime.now(UTC) + timedelta(hours=1)
        )
        return execute(self.system, plan.id, self.home, run_id="test", **how)

    def _read(self, plan: PlanRow, file: str) -> list[dict[str, Any]]:
        uri = self.home.control.get(plan.artefact_id).uri
        assert uri is not None
        return pq.read_table(self.home.artefacts.local(uri) / file).to_pylist()

    def going(self, plan: PlanRow) -> tuple[list[str], list[str]]:
        """Keys and row ids that would go, sorted."""
        steps = self._read(plan, STEPS_FILE)
        keys = sorted(step["key"] for step in steps if step["key"] is not None)
        return keys, sorted({step["row_id"] for step in steps if step["table_name"] is not None})

    def kept(self, plan: PlanRow) -> dict[str, str]:
        """Item -> '<rule>: <reason>' of one of the rules that keep it."""
        return {row["item"]: f"{row['rule']}: {row['reason']}" for row in self._read(plan, KEPT_FILE)}
