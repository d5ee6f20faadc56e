"""What a killed run had begun is looked at where it happened, and never called done on a guess (F16, H07, I11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.policy import Policy
from maintenance_defs.retention.acting import Actor
from maintenance_defs.retention.batches import open_work
from maintenance_defs.retention.settling import settle
from maintenance_defs.stores.acting import Seen, quarantine_key
from maintenance_defs.stores.base import ObjectFacts
from tests.retention.small_world import SCOPES, SmallWorld

OLD_RAW: dict[str, Any] = {"select": {"objects": "files", "prefix": "raw/"}, "keep": [{"younger_than": "1 d"}]}
OLD_ROWS: dict[str, Any] = {"select": {"rows": "docs", "id": "id", "where": "state = 'old'"}}
DELETE_ROW: dict[str, Any] = OLD_ROWS | {"keep": [{"while": "state = 'final'"}], "act": {"rows": "delete"}}
SET_ROW: dict[str, Any] = OLD_ROWS | {"act": {"set": {"state": "gone"}}}


def made(folder: Path, policy: dict[str, Any]) -> SmallWorld:
    stores = {"files": {"url_env": "FILES", "scopes": SCOPES}, "away": {"url_env": "AWAY", "scopes": [{"prefix": ""}]}}
    world = SmallWorld(folder, policies={"it": policy}, more={"stores": stores})
    (folder / "away").mkdir()
    world.home.environment = {**world.home.environment, "AWAY": str(folder / "away")}
    world.sql("CREATE TABLE docs (id TEXT PRIMARY KEY, key TEXT, state TEXT, note TEXT)")
    world.sql("INSERT INTO docs VALUES ('1', 'docs/1', 'final', 'one'), ('2', 'docs/2', 'old', 'two')")
    world.put("docs/1", "docs/2", "raw/1")
    return world


@contextmanager
def begun(
    world: SmallWorld, before: Callable[[], object] = lambda: None, act: Callable[[Actor], object] = lambda actor: None
) -> Iterator[Callable[[], tuple[str, Any]]]:
    """The only step of a plan as a killed run leaves it: its intent on record, nothing else. Yields what settles it.

    before: what the application did right before the act. act: what the run still did itself.
    """
    plan, state = world.plan("it"), world.home.control.retention
    end = datetime.now(UTC) + timedelta(hours=1)
    approval = state.approve(plan.id, plan.digest, plan.units, "ada", "looked at it", expires_at=end)
    assert state.claim(plan.id, "killed", 60, run_id="test")
    policy: Policy = world.system.retention["it"]
    actor = Actor(world.system, policy, plan, world.home, "killed", approval, lambda: datetime.now(UTC), 60)
    with open_work(world.home, plan, None) as work:
        work.remember(iter(()))
        steps, _ = work.todo(10, -1)
    before()
    images = actor.take_images(steps)
    actor._keep_images(steps, images)
    actor._begin(steps)
    act(actor)

    def settled() -> tuple[str, Any]:
        settle(actor, lambda line: None)
        [(outcome, undo)] = [
            (act["outcome"], act["undo"]) for batch in state.acts(plan.id) for act in batch.to_pylist()
        ]
        return outcome, undo

    yield settled


def test_an_object_that_nobody_can_ask_for_is_not_called_deleted(tmp_path: Path) -> None:
    """I1: the folder is not mounted when the next run looks."""
    world = made(tmp_path, OLD_RAW | {"act": {"objects": "delete"}})
    with begun(world) as settled:
        (tmp_path / "files").rename(tmp_path / "unmounted")
        assert settled()[0] == "unknown"


def test_a_new_object_under_the_key_is_not_the_one_that_a_killed_run_took(tmp_path: Path) -> None:
    """I11: where its copy lies is told, and nothing is said to be as it was."""
    world = made(tmp_path, OLD_RAW | {"act": {"objects": "quarantine"}})

    def taken(actor: Actor) -> None:
        store = actor.stores["files"]
        now = store.look(["raw/1"])["raw/1"]
        assert isinstance(now, ObjectFacts)
        [done] = store.quarantine([Seen("raw/1", now.size_bytes, now.modified_at, now.etag)], actor.plan.id)
        assert done.outcome == "quarantined"
        world.put("raw/1", size_bytes=9)

    with begun(world, act=taken) as settled:
        assert settled() == ("skipped_changed", None)
    [plan] = world.home.control.retention.plans("small")
    [act] = [act for batch in world.home.control.retention.acts(plan.id) for act in batch.to_pylist()]
    copy = quarantine_key(plan.id, "raw/1")
    assert act["detail"] == (
        f"9 bytes instead of 4; what was planned lies at {copy}, where an interrupted run had brought it"
    )
    assert (tmp_path / "files" / copy).read_bytes() == bytes(4)
    assert world.objects() == ["docs/1", "docs/2", "raw/1"]


@pytest.mark.parametrize(("arrived", "outcome"), [(b"1234", "moved"), (b"another", "unknown"), (None, "unknown")])
def test_a_move_is_done_when_the_whole_object_is_where_it_was_to_go(
    tmp_path: Path, arrived: bytes | None, outcome: str
) -> None:
    world = made(tmp_path, OLD_RAW | {"act": {"objects": {"move_to": "away"}}})
    with begun(world) as settled:
        (tmp_path / "files/raw/1").unlink()
        if arrived is not None:
            (tmp_path / "away/raw").mkdir()
            (tmp_path / "away/raw/1").write_bytes(arrived)
        assert settled()[0] == outcome


def test_a_row_that_was_gone_before_the_act_is_not_said_to_be_deleted_by_it(tmp_path: Path) -> None:
    """Nobody could put it back."""
    world = made(tmp_path, DELETE_ROW)
    with begun(world, lambda: world.sql("DELETE FROM docs WHERE id = '2'")) as settled:
        assert settled() == ("already_absent", None)


@pytest.mark.parametrize(
    ("since", "outcome"),
    [
        (None, "failed"),  # as it was: it is tried again
        ("state = 'gone'", "set"),
        ("state = 'mended'", "unknown"),  # by the application
        ("state = 'gone', note = 'by hand'", "unknown"),  # a restore would set its note back
    ],
)
def test_a_row_was_set_by_the_act_when_nothing_else_of_it_has_changed(
    tmp_path: Path, since: str | None, outcome: str
) -> None:
    world = made(tmp_path, SET_ROW)
    with begun(world) as settled:
        if since is not None:
            world.sql(f"UPDATE docs SET {since} WHERE id = '2'")
        found, undo = settled()
        assert (found, undo is not None) == (outcome, outcome == "set")
