"""Retention on a bench: the same calls as the command makes, and what stores and tables hold afterwards."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from moto.s3.models import s3_backends

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.retention.choosing import STEPS_FILE
from maintenance_defs.retention.gate import Execution, execute
from maintenance_defs.retention.migrate import apply as apply_migrations
from maintenance_defs.retention.planning import KEPT_FILE, take_plan
from maintenance_defs.retention.restore import Undone, restore
from tests.support.postgres import connect
from tests.systems.conftest import Bench

ROW_ACTS = ("set", "delete_row")


@dataclass
class Acting:
    """One system whose stores and database are copies that may be changed."""

    bench: Bench
    log: list[str] = field(default_factory=list)
    folders: dict[str, Path] = field(default_factory=dict)

    @property
    def system(self) -> System:
        return self.bench.system

    @cached_property
    def home(self) -> Home:
        """Opened when everything is in the environment."""
        return Home(self.bench.folder / "home", self.bench.environment)

    def set(self, **environment: str) -> None:
        """Variables, also after the home was opened."""
        self.bench.environment |= environment
        self.__dict__.pop("home", None)

    # The data ------------------------------------------------------------------------------------

    def objects(self, store: str) -> list[str]:
        """The keys that the application sees, sorted."""
        url = self.bench.environment[self.system.stores[store].url_env]
        if url.startswith("s3://"):
            bucket = s3_backends["123456789012"]["aws"].buckets[url.removeprefix("s3://").partition("?")[0]]
            keys = list(bucket.keys)
        else:
            keys = [file.relative_to(url).as_posix() for file in Path(url).rglob("*") if not file.is_dir()]
        return sorted(key for key in keys if not key.startswith(".maintenance/"))

    def put(self, store: str, key: str, modified_at: datetime, size_bytes: int = 4) -> Path:
        file = self.folders[store] / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(size_bytes))
        os.utime(file, (modified_at.timestamp(), modified_at.timestamp()))
        return file

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """As the application would, committed; the rows of a SELECT."""
        url = self.bench.environment[self.system.database.url_env]
        if url.startswith("sqlite"):
            connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        else:
            connection = connect(url)
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def column(self, statement: str) -> list[str]:
        """The first column as text."""
        return [str(row[0]) for row in self.sql(statement)]

    # Retention -----------------------------------------------------------------------------------

    def migrate(self, *names: str) -> dict[str, str]:
        done = apply_migrations(self.system, self.home, self.bench.one.source, names or None)
        return {one.name: one.state for one in done}

    def reconcile(self, as_of: datetime | None = None) -> Artefact:
        return reconcile(self.system, self.home, folder=self.bench.one.source, as_of=as_of or self.bench.one.as_of)

    def plan(self, policy: str, *, as_of: datetime | None = None) -> PlanRow:
        """A plan on a reconciliation made for it."""
        self.reconcile(as_of)
        return take_plan(self.system, policy, self.home, run_id="test")

    def approve(self, plan: PlanRow, **more: Any) -> None:
        self.home.control.retention.approve(
            plan.id, plan.digest, more.pop("count", plan.units), "ada", "looked at it",
            expires_at=datetime.now(UTC) + timedelta(hours=1), **more,
        )  # fmt: skip

    def execute(self, plan: PlanRow) -> Execution:
        self.log.clear()
        return execute(
            self.system, plan.id, self.home, run_id="test", log=lambda line: self.log.append(line) if line else None
        )

    def apply(self, policy: str, *, as_of: datetime | None = None) -> Execution:
        """Plan, approve, execute; a plan without anything to do is executed as it is."""
        plan = self.plan(policy, as_of=as_of)
        if plan.units:
            self.approve(plan)
        return self.execute(plan)

    def restore(self, plan: PlanRow) -> Undone:
        return restore(self.system, self.home, actor="ada", reason="a mistake", plan_id=plan.id)

    def _read(self, plan: PlanRow, file: str) -> list[dict[str, Any]]:
        uri = self.home.control.get(plan.artefact_id).uri
        assert uri is not None
        return pq.read_table(self.home.artefacts.local(uri) / file).to_pylist()

    def steps(self, plan: PlanRow) -> list[dict[str, Any]]:
        return self._read(plan, STEPS_FILE)

    def keys(self, plan: PlanRow) -> list[str]:
        """The objects that would go, sorted."""
        return sorted(step["key"] for step in self.steps(plan) if step["key"] is not None)

    def row_ids(self, plan: PlanRow, table: str | None = None) -> list[str]:
        """The rows that would go or change, sorted."""
        chosen = [s for s in self.steps(plan) if s["act"] in ROW_ACTS and table in (None, s["table_name"])]
        return sorted({step["row_id"] for step in chosen})

    def kept(self, plan: PlanRow) -> dict[str, str]:
        """Item -> '<rule>: <reason>', all of them."""
        found: dict[str, str] = {}
        for row in self._read(plan, KEPT_FILE):
            said = f"{row['rule']}: {row['reason']}"
            found[row["item"]] = f"{found[row['item']]}; {said}" if row["item"] in found else said
        return found

    def outcomes(self, plan: PlanRow) -> dict[str, str]:
        """Key, or table and row id -> the last outcome on record."""
        found: dict[str, str] = {}
        for batch in self.home.control.retention.acts(plan.id):
            for act in batch.to_pylist():
                found[act["key"] or f"{act['table']} {act['row_id']}"] = act["outcome"]
        return found


def acting(bench: Bench, *, dialect: str | None = None, s3: bool = False, **environment: str) -> Acting:
    """Copies of every store and the database; s3: the stores of buckets as buckets."""
    folders = {}
    for name in bench.system.stores:
        if bench.one.store(name).exists():
            folders[name] = bench.own_store(name)
        else:
            folders[name] = bench.folder / name
            folders[name].mkdir()
            bench.environment[bench.system.stores[name].url_env] = str(folders[name])
    if s3:
        bench.on_s3(**folders)
    bench.own_database(dialect)
    bench.environment |= environment
    return Acting(bench, folders=folders)


def drop(folder: Path) -> None:
    shutil.rmtree(folder)


def with_policy(system: System, name: str, change: Mapping[str, Any]) -> System:
    """The system with one policy declared otherwise, loaded as YAML would be."""
    declared = system.model_dump(by_alias=True, exclude_none=True, exclude_unset=True)
    declared["retention"][name] |= change
    return System.model_validate(declared)
