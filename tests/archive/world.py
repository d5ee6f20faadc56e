"""A small application whose log months are archived: organisations with times of their own, a folder or a bucket."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from maintenance_defs.archive.encryption import decryption_for
from maintenance_defs.archive.gate import Execution, execute
from maintenance_defs.archive.objects import open_archive_store
from maintenance_defs.archive.plans.planning import take_plan
from maintenance_defs.archive.units.exporting import Work
from maintenance_defs.control.archive import FileRow, UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.stores.immutable import ImmutableStore
from tests.support.months import rows
from tests.support.postgres import execute as run

COLD = datetime(2024, 3, 15, tzinfo=UTC)  # January is cold, nobody's time is over
LATER = datetime(2024, 7, 1, tzinfo=UTC)  # org a's is, after 90 days
MUCH_LATER = datetime(2025, 7, 1, tzinfo=UTC)  # the default's as well, after 365
KEY = base64.b64encode(bytes(range(32))).decode()
TABLES = """
CREATE TABLE public.organisations (id text PRIMARY KEY, days int);
INSERT INTO public.organisations VALUES ('a', 90), ('b', 2557), ('c', NULL);
CREATE TABLE public.logs (id bigint NOT NULL, at timestamptz NOT NULL, org text, job text, line text,
  amount numeric(10,2), facts jsonb, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE public.logs_2024_01 PARTITION OF public.logs
  FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2024-02-01 00:00+00');
"""
FILL = """
INSERT INTO public.logs SELECT n, timestamptz '2024-01-01 00:00+00' + n * interval '27 days' / {rows},
  (ARRAY['a', 'b', 'c', NULL])[1 + n % 4], 'job-' || n % 20, 'line ' || n || ' of patient Żółć', n / 3.0,
  jsonb_build_object('n', n) FROM generate_series(0, {rows} - 1) n
"""


@dataclass
class LogWorld:
    folder: Path
    url: str
    archive: dict[str, Any] = field(default_factory=dict)  # what differs of its declaration
    bucket_url: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    begun: bool = False  # by another process: its tables and folders are there

    def __post_init__(self) -> None:
        self.objects = self.folder / "archive"
        self.objects.mkdir(exist_ok=self.begun)
        self.home = Home(
            self.folder / "home",
            {"DB": self.url, "FILES": self.bucket_url or str(self.objects), "KEY": KEY} | self.environment,
        )
        credentials = {"access_key_env": "AK", "secret_key_env": "SK"} if "AK" in self.environment else None
        self.system = System.model_validate(
            {
                "name": "app",
                "database": {"url_env": "DB"},
                "stores": {"files": {"url_env": "FILES", "credentials": credentials,
                                     "scopes": [{"prefix": "logs/", "class": "archive"}]}},
                "references": [{"table": "logs", "id": "id", "store": "files", "object": {"column": "line"}}],
                "archives": {"logs": {
                    "describe": "log rows", "table": "public.logs", "time": "at", "lookup": "job",
                    "organisation": {"column": "org"}, "store": "files", "layout": "shared",
                    "path": "logs/month={month}/", "hot": "30 d", "keep": "365 d", "undo_window": "0 d",
                    "keep_by": {"table": "public.organisations", "id": "id", "days": "days"}, "row_group_rows": 1000,
                } | self.archive},
            }
        )  # fmt: skip
        if not self.begun:
            run(self.url, TABLES)

    def work(self, as_of: datetime = LATER, owner: str = "test") -> Work:
        return Work(self.system, "logs", self.home, owner, as_of, "test", lambda _: None)

    def plan(self, as_of: datetime) -> PlanRow:
        return take_plan(self.system, "logs", self.home, run_id="test", as_of=as_of)

    def apply(self, as_of: datetime, plan: PlanRow | None = None) -> Execution:
        plan = plan or self.plan(as_of)
        self.home.control.retention.approve(
            plan.id, digest=plan.digest, count=plan.units, actor="ann", reason="reviewed", expires_at=plan.expires_at
        )
        return execute(self.system, plan.id, self.home, run_id="test")

    def archived(self, count: int = 4000) -> None:
        """January is in the archive, and nowhere else."""
        run(self.url, FILL.format(rows=count))
        done = self.apply(COLD)
        assert done.state == "done", done.problems
        assert rows(self.url, "SELECT count(*) FROM public.logs") == [(0,)]

    def files(self, *states: str) -> list[FileRow]:
        return self.home.control.archive.files("app", "logs", states=states or ("live",))

    def units(self) -> list[UnitRow]:
        return self.home.control.archive.units("app", "logs")

    def unit(self) -> UnitRow:
        return self.units()[0]

    def groups(self, file: FileRow) -> dict[str, tuple[int, int, int]]:
        return {g.organisation: (g.rows, g.high, g.low) for g in self.home.control.archive.groups([file.id])}

    def store(self) -> ImmutableStore:
        return open_archive_store(self.system, "files", self.home)

    def stored_keys(self) -> list[str]:
        """What lies in the store."""
        found = [str(key) for batch in self.store().reading.list() for key in batch["key"].to_pylist()]
        return sorted(key for key in found if not key.startswith(".maintenance/"))

    def read(self, *files: FileRow) -> list[dict[str, Any]]:
        """The rows that readers would get, by id."""
        found: list[dict[str, Any]] = []
        for file in files or self.files():
            target = self.folder / "read.parquet"
            self.store().reading.get_file(file.key, target)
            key = decryption_for(self.home, self.system.archives["logs"], file)
            found += pq.read_table(target, decryption_properties=key and key.reading(), partitioning=None).to_pylist()
        return sorted(found, key=lambda row: row["id"])

    def of(self, *organisations: str | None) -> list[int]:
        """Ids of the rows these have in what readers get."""
        return [row["id"] for row in self.read() if row["org"] in organisations]

    def line(self, file: FileRow, *organisations: str) -> list[dict[str, Any]]:
        """Lines of a plan, as the gate hands them on."""
        return [{"file_id": file.id, "organisation": one} for one in organisations]

    def hold(self, **what: Any) -> Any:
        return self.home.control.retention.add_hold("app", "ann", "a case", **what)
