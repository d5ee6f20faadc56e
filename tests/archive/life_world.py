"""A table that only grows, the application that goes on writing to it, and deaths at any step of its archive."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive import gate
from maintenance_defs.archive.plans.planning import take_plan
from maintenance_defs.archive.units import exporting, leaving
from maintenance_defs.control.archive import ArchiveState, UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import RetentionState
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Busy, MaintenanceError, Refused
from maintenance_defs.databases.partitions import deleting
from tests.support.postgres import connect

MONTHS = ("2025-01", "2025-02", "2025-03")
AS_OF = datetime(2025, 4, 15, tzinfo=UTC)  # March is hot
PARTITIONED = """
CREATE TABLE logs (id INT NOT NULL, org TEXT, job TEXT, at TIMESTAMPTZ NOT NULL, body TEXT, PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE logs_01 PARTITION OF logs FOR VALUES FROM ('2025-01-01Z') TO ('2025-02-01Z');
CREATE TABLE logs_02 PARTITION OF logs FOR VALUES FROM ('2025-02-01Z') TO ('2025-03-01Z');
CREATE TABLE logs_03 PARTITION OF logs FOR VALUES FROM ('2025-03-01Z') TO ('2025-05-01Z')
"""
PLAIN = "CREATE TABLE logs (id INT PRIMARY KEY, org TEXT, job TEXT, at TIMESTAMPTZ NOT NULL, body TEXT)"
SHAPES = {
    "partitions": PARTITIONED,
    "with default": PARTITIONED + "; CREATE TABLE logs_rest PARTITION OF logs DEFAULT",
    "plain": PLAIN,
}
STEPS: tuple[tuple[Any, str], ...] = (
    *((exporting, name) for name in ("export", "put_once", "fetch", "prove_file", "write_index")),
    *((leaving, name) for name in ("register_unit", "preflight", "detach", "park", "open_late_lane", "drop_parked",
                                   "delete_rows")),
    (deleting, "delete_batch"),
    *((ArchiveState, name) for name in ("add_unit", "take_unit", "advance", "store_files", "publish_files",
                                        "leave_unit")),
    *((RetentionState, name) for name in ("claim", "intents", "outcomes", "release")),
)  # fmt: skip
Row = tuple[int, str, str, datetime, str]


class Killed(BaseException):
    """kill -9: nothing of this attempt runs any more, its cleaning up included."""


@dataclass
class LifeWorld:
    """model: what the application wrote and did not delete, by id."""

    folder: Path
    url: str
    shape: str
    undo_window: str = "0 s"
    seed: int = 0
    model: dict[int, Row] = field(default_factory=dict)
    ticks: int = 0
    acts_left: int = 25
    dies_at: int | None = None
    dead: bool = False
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        (self.folder / "archive").mkdir(parents=True)
        self.home = Home(self.folder / "home", {"DB": self.url, "ARCHIVE": str(self.folder / "archive")})
        self.app = connect(self.url)
        self.sql("SET lock_timeout = '300ms'", "SET TimeZone = 'Europe/Warsaw'", SHAPES[self.shape])
        self.system = System.model_validate(
            {
                "name": "life",
                "database": {"url_env": "DB"},
                "stores": {"archive": {"url_env": "ARCHIVE", "scopes": [{"prefix": "logs/", "class": "archive"}]}},
                "references": [{"table": "logs", "id": "id", "store": "archive", "object": {"column": "body"}}],
                "archives": {
                    "logs": {
                        "describe": "logs", "table": "public.logs", "time": "at", "lookup": "job", "store": "archive",
                        "organisation": {"column": "org"}, "path": "logs/{org}/{month}/", "layout": "per_org",
                        "hot": "30 d", "keep": "365 d", "undo_window": self.undo_window,
                        "row_group_rows": 1000,
                    }
                },
            }
        )  # fmt: skip
        for month in MONTHS:
            for _ in range(self.random.randrange(3, 12)):
                self.insert(month)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with self.app.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
        return rows

    # The application

    def insert(self, month: str) -> None:
        id = max(self.model, default=0) + 1 + self.random.randrange(3)
        at = datetime.fromisoformat(f"{month}-01T00:00:00+00:00") + timedelta(
            seconds=self.random.choice([0, self.random.randrange(28 * 86400), 28 * 86400 - 1]),
            microseconds=self.random.choice([0, 999_999]),
        )
        org = self.random.choice(["a", "b", "c/d é"])
        row = (id, org, f"job-{self.random.randrange(4)}", at, self.random.choice(["", "x" * 40, "ü|:~\n\\", str(id)]))
        if self._change("INSERT INTO logs VALUES (%s, %s, %s, %s, %s)", row) == 1:
            self.model[id] = row

    def act(self) -> None:
        """One thing that the application does: mostly in cold months, where it hurts."""
        month = self.random.choice(MONTHS)
        what = self.random.random()
        if what < 0.4:
            self.insert(month)
            return
        if not self.model:
            return
        id = self.random.choice(sorted(self.model))
        if what < 0.7:
            body = f"changed {self.ticks}"
            if self._change("UPDATE logs SET body = %s WHERE id = %s", (body, id)) == 1:
                self.model[id] = (*self.model[id][:4], body)
        elif self._change("DELETE FROM logs WHERE id = %s", (id,)) == 1:
            del self.model[id]

    def _change(self, sql: str, values: tuple[Any, ...]) -> int:
        """Rows changed; 0 where the application has to try again: the table is locked for longer than it waits."""
        try:
            with self.app.cursor() as cursor:
                cursor.execute(sql, values)
                return int(cursor.rowcount)
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
            return 0

    # Time passing, and death

    def tick(self, name: str) -> None:
        if self.dead:
            raise Killed
        self.ticks += 1
        if self.acts_left and self.random.random() < 0.15:
            self.acts_left -= 1
            self.act()
        if self.dies_at is not None and self.ticks >= self.dies_at:
            self.dead = True
            raise Killed(name)

    @contextmanager
    def chaos(self, dies_after: int | None = None) -> Iterator[None]:
        """Ticks before and after every step; the attempt dies at one of them."""
        self.dead, self.dies_at = False, None if dies_after is None else self.ticks + dies_after
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in STEPS:
                patch.setattr(owner, name, self._ticking(name, getattr(owner, name)))
            yield

    def _ticking(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.tick(f"before {name}")
            result = real(*args, **kwargs)
            self.tick(f"after {name}")
            return result

        return step

    # The archive

    def archive(self, as_of: datetime = AS_OF) -> gate.Execution | None:
        """One whole attempt: plan, consent, apply; None where there was nothing to do."""
        state = self.home.control.retention
        open_plan = next(iter(state.plans("life", "logs", ("approved", "partial", "executing"))), None)
        plan = open_plan or take_plan(self.system, "logs", self.home, run_id="test", as_of=as_of)
        if plan.state == "done":
            return None
        if plan.state == "planned":
            state.approve(plan.id, plan.short_digest, plan.units, "ann", "test", expires_at=plan.expires_at)
        return gate.execute(
            self.system, plan.id, self.home, run_id="test", lease_seconds=0.2, log=print
        )  # fmt: skip

    def until_done(self, deaths: int) -> None:
        """Attempts that die and attempts that do not, until there is nothing left to do."""
        for attempt in range(deaths + 12):
            dies = self.random.randrange(1, 60) if attempt < deaths else None
            try:
                with self.chaos(dies):
                    done = self.archive()
                if dies is None and done is None:
                    return
            except Killed as death:
                self.told.append(f"died {death}")
                time.sleep(0.25)  # the lease of the dead lapses
            except (Busy, Refused) as refused:
                self.told.append(f"refused {refused}")
                time.sleep(0.25)
            except MaintenanceError as error:
                self.told.append(f"error {error}")
            self.check()
        raise AssertionError(f"the archive never came to an end: {self.told[-20:]}")

    # What must hold

    def check(self) -> None:
        """Every row that the application wrote is there once, as it wrote it: in the table or in the archive (V6)."""
        units = self.home.control.archive.units("life", "logs")
        hot = {row[0]: row for row in self._hot(units)}
        archived: dict[int, Row] = {}
        for unit in units:
            if unit.left_at is None:
                continue
            for file in self.home.control.archive.files("life", "logs", unit_id=unit.id):
                for row in pq.ParquetFile(self.folder / "archive" / file.key).read().to_pylist():
                    assert row["id"] not in archived, f"row {row['id']} is in two files: {self.told}"
                    if unit.state != "removing" or row["id"] in self.model:  # deleted while its unit was leaving
                        archived[row["id"]] = (row["id"], row["org"], row["job"], row["at"], row["body"])
        settled = {id for id in archived.keys() & hot.keys() for unit in units if unit.state in ("detached", "removed")
                   and unit.lower <= archived[id][3] < unit.upper}  # fmt: skip
        assert not settled, f"rows {settled} are hot although they left: {self.told}"
        assert archived | hot == self.model, self._difference(archived | hot)

    def _hot(self, units: list[UnitRow]) -> list[Row]:
        """The table, and partitions that are detached but not yet recorded as having left."""
        relations = ["logs"]
        for unit in units:
            if unit.method == "partition" and unit.left_at is None:
                sql = f"SELECT oid::regclass::text FROM pg_class WHERE oid = {unit.relation_oid} AND NOT relispartition"
                relations += [name for (name,) in self.sql(sql)]
        sql = " UNION ALL ".join(f"SELECT id, org, job, at, body FROM {relation}" for relation in relations)
        return [(id, org, job, at.astimezone(UTC), body) for id, org, job, at, body in self.sql(sql)]

    def _difference(self, found: dict[int, Row]) -> str:
        lost = sorted(self.model.keys() - found.keys())
        more = sorted(found.keys() - self.model.keys())
        other = sorted(id for id in found.keys() & self.model.keys() if found[id] != self.model[id])
        return f"lost {lost}, too many {more}, other {other}; " + "; ".join(self.told)

    def pending(self) -> list[tuple[Any, ...]]:
        return self.sql("SELECT inhrelid::regclass FROM pg_inherits WHERE inhdetachpending")
