"""Who may not see what is being written does not act: replicas, and roles without a view of others (I5, A13)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases import open_database
from maintenance_defs.databases.embedded import EmbeddedPostgres
from tests.retention.small_world import SmallWorld
from tests.support.postgres import connect, execute

OLD_RAW: dict[str, Any] = {
    "select": {"objects": "files", "prefix": "raw/"},
    "keep": [{"younger_than": "1 d"}],
    "act": {"objects": "delete"},
}


def on(folder: Path, url: str) -> SmallWorld:
    """A world whose rows are in PostgreSQL: one document with its file, and one file that may go."""
    world = SmallWorld(folder, policies={"it": OLD_RAW})
    connect_to(world, url)
    world.put("docs/1", "raw/1")
    return world


def connect_to(world: SmallWorld, url: str) -> None:
    world.home.environment = {**world.home.environment, "DB": url}


DOCS = ("CREATE TABLE docs (id text PRIMARY KEY, key text)", "INSERT INTO docs VALUES ('1', 'docs/1')")


def test_nothing_is_planned_or_done_on_a_replica(tmp_path: Path) -> None:
    """A13: a row that was just written on the primary would be overlooked. The plan was made when this was one."""
    with EmbeddedPostgres(tmp_path / "server", durable=False) as server:
        execute(server.url(), *DOCS)
        world = on(tmp_path / "world", server.url())
        plan = world.plan("it")
        assert world.going(plan) == (["raw/1"], [])
        server.stop()
        (server.folder / "data" / "standby.signal").touch()
        server.start()
        connect_to(world, server.url())
        with open_database(server.url()).snapshot() as snapshot:
            assert snapshot.evidence.is_replica
        for act in (lambda: world.execute(plan), lambda: world.plan("it", again=False)):
            with pytest.raises(Refused, match="Plan and act on the primary") as caught:
                act()
            assert caught.value.reason == "not_authoritative"
    assert world.objects() == ["docs/1", "raw/1"]
    assert list(world.home.control.retention.acts(plan.id)) == []


def test_nothing_is_planned_or_done_while_the_role_cannot_see_an_open_transaction(
    tmp_path: Path, pg_database: str, reader_url: str
) -> None:
    """I5: what another session is writing at the moment may name the very object."""
    execute(pg_database, *DOCS)
    world = on(tmp_path / "world", reader_url)
    plan = world.plan("it")  # nobody else is there
    writer = connect(pg_database)
    try:
        writer.autocommit = False
        writer.cursor().execute("INSERT INTO docs VALUES ('2', 'raw/1')")
        for act in (lambda: world.execute(plan), lambda: world.plan("it", again=False)):
            with pytest.raises(Refused, match="Grant it pg_read_all_stats") as caught:
                act()
            assert caught.value.reason == "open_transactions_unknown"
        assert world.objects() == ["docs/1", "raw/1"]
        assert list(world.home.control.retention.acts(plan.id)) == []
        writer.rollback()
    finally:
        writer.close()
    execute(pg_database, f"GRANT pg_read_all_stats TO {make_url(reader_url).username}")
    again = world.plan("it")
    assert world.execute(again).counts == {"deleted": 1}
    assert world.objects() == ["docs/1"]
