"""Runs that are killed, and an application that writes meanwhile: every value is in its row or in its object."""

from __future__ import annotations

import json
import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.values import acting, get_value
from tests.archive.values_child import main
from tests.archive.values_world import AS_OF, NAME, World, declared, executions, result
from tests.support.postgres import connect

LATER = AS_OF + timedelta(days=400)


@pytest.fixture
def world(pg_database: str, tmp_path: Path) -> World:
    return World(pg_database, tmp_path).schema()


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.archive.values_child"])


def killed_at(world: World, at: int, as_of: datetime = AS_OF, keep: str = "forever") -> bool:
    """Run in a process of its own that is killed at its n-th step; False when it got through before."""
    child = PROCESSES.Process(target=main, args=(world.url, str(world.folder), at, as_of, keep))
    child.start()
    child.join()
    assert child.exitcode in (0, -9)
    return child.exitcode == -9


def test_killed_at_every_step_nothing_is_lost_and_the_next_run_ends_it(world: World) -> None:
    """V1, V4, C36: each attempt dies one step later, and only then the next begins."""
    steps = 0
    whole: dict[str, str] = {}
    for at in range(1, 60):
        world.job(f"j{at}a", result(at))
        world.job(f"j{at}b", result(at, note="ä" * at))
        whole = {**whole, f"j{at}a": world.text(f"j{at}a"), f"j{at}b": world.text(f"j{at}b")}
        died = killed_at(world, at)
        world.nothing_is_lost(whole)
        if not died:
            break
        steps = at
        # What is slim is in the catalogue and nothing else is: they share a transaction.
        slim = {id for id, text in world.texts().items() if text != whole[id]}
        assert set(world.catalogue()) == slim
        world.job(f"j{at}c", result(at))  # so that there is something to do
        whole[f"j{at}c"] = world.text(f"j{at}c")
        assert set(world.run().values()) == {"set"}
        world.nothing_is_lost(whole)
        assert set(world.states().values()) == {"slimmed"}
        assert world.stays() == {"slim": len(whole)}
    assert steps >= 10
    for id, text in whole.items():
        assert get_value(world.system, NAME, world.home, id).decode() == text
    assert len(world.keys()) == len(world.catalogue()) == len(whole)


def test_what_a_killed_run_did_is_settled_by_looking(world: World) -> None:
    """V4: after a kill between commit and record, the next run sees what the row shows, and does nothing twice."""
    said: set[tuple[str, ...]] = set()
    for at in range(1, 40):
        id = f"j{at}"
        world.job(id, result(at))
        whole = world.text(id)
        _, items = world.survey()
        if not killed_at(world, at):
            break
        row, keys = world.text(id), world.keys()
        done = world.act(items)[id]
        known = world.known(id) or pytest.fail("lost")
        assert known.state == "slimmed"
        if row != whole:
            assert (world.text(id), world.keys()) == (row, keys)
        said.add((row != whole, done.outcome))
    assert {slim for slim, _ in said} == {True, False}


def test_killed_while_objects_expire_the_next_run_removes_them(world: World) -> None:
    """V11: hidden from readers first, then removed; a kill in between leaves nothing behind for good."""
    died = 0
    for at in range(1, 30):
        world.job(f"j{at}", result(at))
        world.system = executions()
        assert world.run() == {f"j{at}": "set"}
        slim = world.text(f"j{at}")
        world.system = declared(keep="365 d")
        if not killed_at(world, at, LATER, "365 d"):
            break
        died = at
        readable = (world.known(f"j{at}") or pytest.fail("lost")).state == "slimmed"
        assert bool(world.catalogue()) >= readable
        assert readable <= bool(world.keys())
        assert set(world.run(LATER).values()) <= {"deleted"}
        assert (world.keys(), world.catalogue()) == ([], {})
        assert world.text(f"j{at}") == slim
    assert died >= 5
    assert set(world.states().values()) == {"expired"}


def meddling(monkeypatch: pytest.MonkeyPatch, act: Callable[[str], Any]) -> None:
    """Run `act` with the key of each object after it was proven, before its row is slimmed."""
    store = acting.store_value

    def storing(opened: Any, key: str, value: bytes, folder: Path) -> int:
        size = store(opened, key, value, folder)
        act(key)
        return size

    monkeypatch.setattr(acting, "store_value", storing)


def test_a_row_updated_between_read_and_slimming_keeps_its_value(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """F85: the update is skipped by its hash, no output is lost, and the next run archives the new value."""
    for number in range(5):
        world.job(f"j{number}", result(number))
    new = json.dumps(result(99, note="written meanwhile"))
    with monkeypatch.context() as patch:
        meddling(
            patch, lambda key: world.sql("UPDATE jobs SET result = %s WHERE id = 'j3'", new) if "j3" in key else None
        )
        outcomes = world.run()
    assert outcomes == {"j0": "set", "j1": "set", "j2": "set", "j3": "skipped_changed", "j4": "set"}
    assert json.loads(world.text("j3")) == json.loads(new)
    assert set(world.catalogue()) == {"j0", "j1", "j2", "j4"}
    text = world.text("j3")
    assert world.run() == {"j3": "set"}
    assert get_value(world.system, NAME, world.home, "j3").decode() == text
    assert len(world.keys()) == 5


def test_another_column_changed_meanwhile_is_a_change_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """F85: a job that is started again keeps its whole result."""
    world.job("j1", result(1))
    text = world.text("j1")
    with monkeypatch.context() as patch:
        meddling(patch, lambda key: world.sql("UPDATE jobs SET status = 'RUNNING' WHERE id = 'j1'"))
        assert world.run() == {"j1": "skipped_changed"}
    assert world.text("j1") == text
    assert world.stays() == {"running": 1}


def test_a_row_that_another_session_has_locked_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """V9: the others go on at once."""
    world.job("j1", result(1))
    world.job("j2", result(2))
    _, items = world.survey()
    with connect(world.url) as other, other.cursor() as cursor:
        other.autocommit = False
        cursor.execute("SELECT 1 FROM jobs WHERE id = 'j1' FOR UPDATE")
        began = time.monotonic()
        outcomes = {id: one.outcome for id, one in world.act(items).items()}
        assert time.monotonic() - began < 2
        other.rollback()
    assert outcomes == {"j1": "skipped_changed", "j2": "set"}
    assert world.run() == {"j1": "set"}


def test_a_hold_placed_meanwhile_keeps_the_value(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """G93, V8."""
    world.job("j1", result(1))
    text = world.text("j1")
    holds = world.home.control.retention
    with monkeypatch.context() as patch:
        meddling(patch, lambda key: holds.add_hold("executions", "ada", "a lawsuit", table="public.jobs", row_id="j1"))
        assert world.run() == {"j1": "skipped_held"}
    assert world.text("j1") == text
    assert world.stays() == {"held": 1}
    holds.release_hold(holds.holds("executions")[0].id, "ada", "over")
    assert world.run() == {"j1": "set"}


@pytest.mark.parametrize("seed", range(3))
def test_writers_that_change_results_while_it_runs_lose_nothing(world: World, seed: int) -> None:
    """F85, V1: whatever the application wrote last is in the row, or exactly that is in the object."""
    count, stop = 60, threading.Event()
    last: dict[str, str] = {}
    for number in range(count):
        world.job(f"j{number}", result(number))
    last = world.texts()
    wrote = [0]

    def write(thread: int) -> None:
        rng = random.Random(f"{seed}-{thread}")
        connection = connect(world.url)
        connection.autocommit = False
        with connection.cursor() as cursor:
            while not stop.is_set():
                id = f"j{rng.randrange(thread, count, 3)}"  # each thread has its own rows, so that it knows the last
                cursor.execute("UPDATE jobs SET result = %s WHERE id = %s RETURNING result::text",
                               (json.dumps(result(rng.randrange(10**6), filler=rng.randrange(200))), id))  # fmt: skip
                text = cursor.fetchone()[0]
                time.sleep(rng.random() * 0.01)
                if rng.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()
                    last[id] = text
                    wrote[0] += 1
        connection.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    outcomes = []
    try:
        for _ in range(4):
            outcomes += list(world.run().values())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrote[0] > 50
    assert {"set", "skipped_changed"} <= set(outcomes)
    for id, text in world.texts().items():
        if text == last[id]:
            continue
        known = world.known(id)
        assert known is not None and known.state == "slimmed", id
        assert world.blob(known.key).decode() == last[id]
    world.run()
    assert set(world.states().values()) == {"slimmed"}
