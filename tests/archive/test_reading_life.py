"""Readers while rows leave: at every step, and from many threads, each row is there once (V6, H109)."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from maintenance_defs.archive.gate import execute as execute_plan
from maintenance_defs.archive.reading import get, query
from tests.archive.life_world import SHAPES, LifeWorld, Row
from tests.archive.world import COLD, FILL, LogWorld
from tests.support.postgres import execute

SELECT = 'SELECT id, org, job, "at", body FROM logs_all'


def rows_of(table: pa.Table) -> list[Row]:
    columns = [table[name].to_pylist() for name in ("id", "org", "job", "at", "body")]
    return [(id, org, job, at.astimezone(UTC), body) for id, org, job, at, body in zip(*columns, strict=True)]


class ReadWorld(LifeWorld):
    """Reads between the steps of every attempt, with the readers that people have."""

    reads = 0
    reading = False

    def tick(self, name: str) -> None:
        super().tick(name)
        if self.random.random() < 0.1 and not self.reading and not name.endswith("delete_batch"):
            self.reading = True
            try:
                self.compare()
            finally:
                self.reading = False

    def check(self) -> None:
        self.compare()

    def compare(self) -> None:
        self.reads += 1
        self._same(rows_of(query(self.home, [self.system], SELECT).read_all()), self.model)
        job = f"job-{self.random.randrange(4)}"
        found = rows_of(get(self.system, "logs", self.home, value=job).read_all())
        self._same(found, {id: row for id, row in self.model.items() if row[2] == job})
        assert [row[3] for row in found] == sorted(row[3] for row in found)

    def _same(self, found: list[Row], model: dict[int, Row]) -> None:
        twice = [id for id, count in Counter(row[0] for row in found).items() if count > 1]
        assert not twice, f"{twice} are there twice; {self.told}"
        leaving = [u for u in self.home.control.archive.units("life", "logs") if u.state == "removing"]
        kept = {
            row[0]: row
            for row in found
            # Deleted by the application after its unit began to leave: the archive has it, and keeps it.
            if row[0] in self.model or not any(unit.lower <= row[3] < unit.upper for unit in leaving)
        }
        assert kept == model, self._difference(kept)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 12))])
def test_readers_see_each_row_once_between_any_two_steps(
    seed: int, shape: str, tmp_path: Path, pg_database: str
) -> None:
    world = ReadWorld(tmp_path, pg_database, shape, seed=seed)
    world.until_done(deaths=1)
    assert world.reads > 3


@pytest.mark.parametrize("partitioned", [True, False], ids=["partition", "rows"])
def test_readers_on_other_threads_see_each_row_once_all_the_while(
    partitioned: bool, tmp_path: Path, pg_database: str
) -> None:
    """The gate archives and removes a month while four readers ask without a pause."""
    world = LogWorld(tmp_path, pg_database)
    execute(pg_database, FILL.format(rows=4000))
    if not partitioned:
        execute(
            pg_database, "CREATE TABLE flat (LIKE logs INCLUDING ALL)", "INSERT INTO flat SELECT * FROM logs",
            "DROP TABLE logs", "ALTER TABLE flat RENAME TO logs",
        )  # fmt: skip
    ended = threading.Event()
    breaths = [0.0]  # seconds between a reader's questions; the last one counts
    wrong: list[str] = []
    answers = Counter[str]()

    def asking(name: str, question: Callable[[], list[Any]], expected: list[Any]) -> None:
        try:
            while not ended.wait(breaths[-1]):
                found = question()
                answers[name] += 1
                if found != expected:
                    wrong.append(f"{name}: {len(found)} of {len(expected)}")
        except BaseException as error:
            wrong.append(f"{name}: {error!r}")
            raise

    def count() -> list[Any]:
        sql = "SELECT count(*) n, count(DISTINCT id) d, sum(id) s FROM logs_all"
        return query(world.home, [world.system], sql).read_all().to_pylist()

    def of_job(job: str) -> list[int]:
        ids: list[int] = get(world.system, "logs", world.home, value=job).read_all()["id"].to_pylist()
        return ids

    chosen = random.Random(7).sample(range(20), 3)
    threads = [
        threading.Thread(target=asking, args=("count", count, [{"n": 4000, "d": 4000, "s": 4000 * 3999 // 2}])),
        *(
            threading.Thread(target=asking, args=(f"job-{n}", lambda n=n: of_job(f"job-{n}"), list(range(n, 4000, 20))))
            for n in chosen
        ),
    ]
    for thread in threads:
        thread.start()
    try:
        done = world.apply(COLD)
        for seconds in (0.5, 1.0, 2.0, 4.0):  # on a busy machine a question may hold the table for longer than we wait
            if any("nobody let go" in str(problem["detail"]) for problem in done.problems):
                breaths.append(seconds)
                done = execute_plan(world.system, done.plan.id, world.home, run_id="again")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert done.state == "done", "\n".join(str(problem["detail"]) for problem in done.problems)
    assert not wrong, wrong
    assert len(answers) == 4
    assert world.unit().state == "removed"
    ended.clear()
    assert count() == [{"n": 4000, "d": 4000, "s": 4000 * 3999 // 2}]
