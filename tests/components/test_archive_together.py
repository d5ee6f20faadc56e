"""Whatever works on an archived table starts at once, and each ends and says how (I125, L7)."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest

from maintenance_defs.components.archive_assets import month_partitions
from tests.components.archive_world import Diary
from tests.components.test_assets import failures
from tests.support.months import connect


@pytest.fixture
def diary(pg_database: str, instance: dg.DagsterInstance, tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary", pg_database, instance, numbers=(1, 2, 3))


def test_every_step_of_one_table_uses_one_pool(diary: Diary) -> None:
    pools = {
        key.path[-1]: definition.op.pool
        for definition in diary.definitions.assets or ()
        if isinstance(definition, dg.AssetsDefinition)
        for key in definition.keys
    }
    mine = [f"logs_{step}" for step in ("archive", "plan", "removal", "expiry", "ahead", "drill")]
    assert {pools[name] for name in mine} == {"archive_diary_public_logs"}
    assert pools["notes_removal"] == "archive_diary_public_notes"


def test_premake_export_removal_and_drill_at_once_end_without_a_deadlock(diary: Diary) -> None:
    """Without the pool even: two daemons, the command beside a run. Each step has an instance of its own."""
    diary.asset("logs_plan")
    approved = diary.plan().id
    assert diary.approve().success
    start, stop = threading.Barrier(5), threading.Event()
    slowest: list[float] = []

    def step(name: str, partition: str | None = None) -> tuple[str, dict[str, str]]:
        with dg.DagsterInstance.ephemeral() as instance:
            if partition:
                instance.add_dynamic_partitions(str(month_partitions(diary.system, "logs").name), [partition])
            mine = Diary.beside(diary, instance)
            start.wait()
            return name, failures(mine.asset(name, partition=partition))

    def application() -> None:
        """A reader of another month, whom nothing may hold up for long."""
        connection = connect(diary.url)
        with connection.cursor() as cursor:
            start.wait()
            while not stop.is_set():
                began = time.monotonic()
                cursor.execute("SELECT count(*) FROM public.logs WHERE at >= '2024-03-10'")
                slowest.append(time.monotonic() - began)
        connection.close()

    with ThreadPoolExecutor(5) as pool:
        reader = pool.submit(application)
        wanted = [("logs_ahead", None), ("logs_archive", "2024-02"), ("logs_removal", None), ("logs_plan", None)]
        done = [pool.submit(step, *one) for one in wanted]
        found = dict(one.result(timeout=300) for one in done)
        stop.set()
        reader.result(timeout=30)
    said = {name: next(iter(told.values()), "") for name, told in found.items()}
    assert said["logs_ahead"] == ""
    assert said["logs_plan"] == ""
    for name in ("logs_archive", "logs_removal"):
        assert said[name] == "" or "works on logs" in said[name] or "executes plan" in said[name], said
    assert max(slowest) < 5
    assert diary.asset("logs_removal", {"plan": approved}).success  # what had to wait is done now
    assert set(diary.states().values()) == {"removed"}
    assert diary.count("SELECT count(*) FROM public.logs") == 0
