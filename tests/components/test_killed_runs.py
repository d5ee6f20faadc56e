"""kill -9 of a real `dagster` process in the middle of a removal or a deletion, and the same asset again (I118, H07).

The process is the one that users start: the command, the code location, an instance on disk. It is killed at a random
moment after it has claimed the plan.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive.plans.planning import take_plan as plan_archive
from maintenance_defs.control.archive import tables as archive_tables
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.control.retention import tables as retention_tables
from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.retention.planning import take_plan as plan_policy
from maintenance_defs.retention.restore import restore
from tests.components.archive_world import DIARY, Diary
from tests.components.conftest import LONG_AGO
from tests.support.months import rows
from tests.support.postgres import execute

MONTHS = (1, 2, 3)
POLICY = """\
  retention:
    unwanted:
      describe: A drawing that nobody wants any more.
      select: {rows: public.drawings, id: id, where: unwanted}
      keep: [{while: wanted_again}]
      act: {objects: quarantine, rows: delete}
      limits: {max_percent: 100}
"""
STORE = "    drawings: {url_env: DIARY_DRAWINGS_URL, scopes: [{prefix: d/, exclusive: true}]}\n"
REFERENCE = "    - {table: public.drawings, id: id, store: drawings, object: {column: key}}\n"
TEXT = DIARY.replace("  archives:\n", f"{STORE}  references:\n{REFERENCE}  archives:\n") + POLICY
DRAWINGS = (
    "CREATE TABLE public.drawings (id int PRIMARY KEY, key text, unwanted bool, wanted_again bool NOT NULL)",
    "INSERT INTO public.drawings SELECT n, 'd/' || n, n % 3 > 0, n % 7 = 0 FROM generate_series(1, 60) n",
)


class Killing:
    """A deployment whose assets are run by the command, each time in a process that may be killed."""

    def __init__(self, folder: Path, url: str, seed: int) -> None:
        self.random = random.Random(seed)
        (folder / "drawings/d").mkdir(parents=True)
        self.drawings = folder / "drawings"
        for n in range(1, 61):
            file = self.drawings / f"d/{n}"
            file.write_bytes(b"x" * n)
            os.utime(file, (LONG_AGO, LONG_AGO))
        execute(url, *DRAWINGS)
        self.diary = Diary(
            folder / "diary", url, dg.DagsterInstance.ephemeral(), TEXT, MONTHS,
            {"DIARY_DRAWINGS_URL": str(self.drawings)},
        )  # fmt: skip
        (folder / "dagster").mkdir()
        (folder / "dagster/dagster.yaml").write_text("telemetry: {enabled: false}\n")
        self.environment = os.environ | self.diary.environment | {
            "DAGSTER_HOME": str(folder / "dagster"), "MAINTENANCE_ROOT": str(folder / "diary/deployment"),
        }  # fmt: skip
        self.home = self.diary.home
        self.state = self.home.control.retention
        self.deaths = 0

    def approve(self, plan: PlanRow) -> None:
        until = datetime.now(UTC) + timedelta(hours=1)
        self.state.approve(plan.id, plan.digest, plan.units, "ada", "looked at it", expires_at=until)

    def until_done(self, asset: str, plan: PlanRow, deaths: int) -> None:
        """Run the asset; the first `deaths` processes are killed while they carry the plan out."""
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", f"key:diary/{asset}",
                   "-m", "maintenance_defs.definitions"]  # fmt: skip
        for attempt in range(deaths + 1):
            with subprocess.Popen(
                command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as process:
                if attempt < deaths:
                    while process.poll() is None and self.state.plan(plan.id).state != "executing":
                        time.sleep(0.005)
                    time.sleep(self.random.uniform(0, 0.6))
                    if process.poll() is None:
                        process.send_signal(signal.SIGKILL)
                said, _ = process.communicate(timeout=180)
            if process.returncode == -signal.SIGKILL:
                self.deaths += 1
                self.lapse()
                continue
            assert process.returncode == 0, said[-4000:]
            if self.state.plan(plan.id).state == "done":
                return
        raise AssertionError(f"{self.state.plan(plan.id)} after {said[-4000:]}")

    def lapse(self) -> None:
        """The leases of the dead, which last minutes, are over."""
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        with self.home.control._engine.begin() as connection:
            for table in (retention_tables.plan, archive_tables.unit):
                held = table.update().where(table.c.lease_until.is_not(None))
                connection.execute(held.values(lease_until=long_ago))

    def explained(self, plan: PlanRow) -> None:
        """Every step ended well once, none is open, and nobody changed the ledger."""
        acts = [row for batch in self.state.acts(plan.id) for row in batch.to_pylist() if not row["of_plan"]]
        done = Counter((act["unit"], act["step"]) for act in acts if act["outcome"] in SUCCESS)
        assert set(done.values()) == {1}
        assert len({unit for unit, _ in done}) == plan.units
        assert list(self.state.open_intents(plan.id)) == []
        assert self.state.verify_chain("diary") is None


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 12))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_removal_that_is_killed_goes_on_in_the_next_run(tmp_path: Path, pg_database: str, seed: int) -> None:
    world = Killing(tmp_path, pg_database, seed)
    plan = plan_archive(world.diary.system, "logs", world.home, run_id="test", only="removal")
    world.approve(plan)
    world.until_done("logs_removal", plan, deaths=2)
    assert world.deaths
    world.explained(plan)
    assert world.diary.states() == {f"2024-0{n}": "removed" for n in MONTHS}
    assert world.diary.count("SELECT count(*) FROM public.logs") == 0
    assert world.diary.count("SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == 0
    assert world.diary.count("SELECT count(*) FROM maintenance_archive.parked") == 0
    found = Counter(
        (row["at"].month, row["id"])
        for file in world.home.control.archive.files("diary", "logs")
        for row in pq.read_table(tmp_path / "diary/cold" / file.key, partitioning=None).to_pylist()
    )
    assert found == Counter({(month, id): 1 for month in MONTHS for id in range(100)})


@pytest.mark.parametrize("seed", SEEDS)
def test_a_deletion_that_is_killed_goes_on_in_the_next_run(tmp_path: Path, pg_database: str, seed: int) -> None:
    world = Killing(tmp_path, pg_database, seed)
    reconcile(world.diary.system, world.home, folder=tmp_path)
    plan = plan_policy(world.diary.system, "unwanted", world.home, run_id="test")
    going = {n for n in range(1, 61) if n % 3 and n % 7}
    assert plan.units == len(going)
    world.approve(plan)
    world.until_done("unwanted_deletion", plan, deaths=2)
    assert world.deaths
    world.explained(plan)
    live = {int(file.name) for file in (world.drawings / "d").iterdir()}
    named = {id for (id,) in rows(pg_database, "SELECT id FROM public.drawings")}
    assert live == named == set(range(1, 61)) - going
    undone = restore(world.diary.system, world.home, actor="ada", reason="all back", plan_id=plan.id)
    assert undone.counts == {"restored": 2 * len(going)}
    assert {file.name: file.stat().st_size for file in (world.drawings / "d").iterdir()} == {
        str(n): n for n in range(1, 61)
    }
    assert rows(pg_database, "SELECT count(*) FROM public.drawings") == [(60,)]
