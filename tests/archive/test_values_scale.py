"""Many values, and large ones: memory stays what one group of them takes."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.values import carry_out, survey_values
from tests.archive.values_world import AS_OF, NAME, World
from tests.support.peak import peak_mib

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.archive.values_child"])
ROOM = 96  # MiB: a group of 32 MB as text, as bytes and packed


def archive_all(url: str, folder: str, answer: Connection) -> None:
    """Plan and act as a run does, batch by batch; tells outcomes and the memory it took above what it began with."""
    world = World(url, Path(folder))
    began = peak_mib()
    with archive_database(world.system, world.home).snapshot() as snapshot:
        batches = list(survey_values(snapshot, world.system, NAME, world.archive, world.home, AS_OF).items)
    outcomes: dict[str, int] = {}
    for batch in batches:
        for one in carry_out(world.system, NAME, world.archive, world.home, batch, AS_OF):
            outcomes[one.outcome] = outcomes.get(one.outcome, 0) + 1
    answer.send((outcomes, peak_mib() - began))


def archived(world: World) -> tuple[dict[str, int], float]:
    mine, theirs = PROCESSES.Pipe()
    child = PROCESSES.Process(target=archive_all, args=(world.url, str(world.folder), theirs))
    child.start()
    theirs.close()
    found: tuple[dict[str, int], float] = mine.recv()
    child.join()
    assert child.exitcode == 0
    return found


@pytest.mark.parametrize("count", [1_500, pytest.param(50_000, marks=pytest.mark.long)])
def test_many_values_are_archived_in_bounded_memory(pg_database: str, tmp_path: Path, count: int) -> None:
    world = World(pg_database, tmp_path).schema()
    world.jobs(count, 600)
    outcomes, mib = archived(world)
    assert outcomes == {"set": count}
    assert mib < ROOM
    assert world.stays() == {"slim": count}
    assert world.sql("SELECT count(*) FROM job_result_archives") == [(count,)]
    assert len(world.keys()) == count


def test_large_values_are_held_a_few_at_a_time(pg_database: str, tmp_path: Path) -> None:
    """300 MB of results of 3 MB each."""
    world = World(pg_database, tmp_path).schema()
    world.jobs(100, 3_000_000)
    outcomes, mib = archived(world)
    assert outcomes == {"set": 100}
    assert mib < 2 * ROOM
