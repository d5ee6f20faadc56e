"""What stops a policy before it takes anything: checks that block, missing rights, plans that were touched."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from maintenance_defs.core.errors import EnvironmentMissing, Paused, Refused, SourceUnavailable
from maintenance_defs.retention.doors import open_store_for_acting
from maintenance_defs.retention.gate import execute
from tests.retention.small_world import ALL, AS_OF, SmallWorld

OLD_RAW: dict[str, Any] = {
    "select": {"objects": "files", "prefix": "raw/"},
    "keep": [{"younger_than": "1 d"}],
    "act": {"objects": "quarantine"},
}
DRAFTS: dict[str, Any] = {
    "select": {"rows": "docs", "id": "id", "where": "state = 'draft'"},
    "keep": [{"while": "state = 'final'"}],
    "act": {"objects": "quarantine", "rows": "delete"},
}
UNLINKED = {
    "describe": "Documents without a file.", "table": "docs", "id": "id", "where": "key IS NULL",
    "blocks": {"above_percent": 5, "among": "state = 'final'"},
}  # fmt: skip


def made(folder: Path, policy: dict[str, Any], rows: int = 0, **more: Any) -> SmallWorld:
    world = SmallWorld(folder, policies={"it": policy}, more=more)
    world.sql("CREATE TABLE docs (id TEXT PRIMARY KEY, key TEXT, state TEXT)")
    for n in range(rows):
        world.put(f"docs/{n}")
        world.sql(f"INSERT INTO docs VALUES ('{n}', 'docs/{n}', 'final')")
    return world


def unlink(world: SmallWorld, rows: int) -> None:
    world.sql(f"UPDATE docs SET key = NULL WHERE CAST(id AS INTEGER) < {rows}")


def test_nothing_is_planned_while_too_many_rows_are_unlinked(tmp_path: Path) -> None:
    """S3-51: their objects would only look unreferenced."""
    world = made(tmp_path, OLD_RAW, rows=60, checks={"unlinked": UNLINKED})
    world.sql("WITH n AS (SELECT * FROM docs LIMIT 40) INSERT INTO docs SELECT id || 'd', key, 'draft' FROM n")
    world.put("raw/1")
    unlink(world, 3)
    assert world.going(world.plan("it")) == (["raw/1"], [])  # 3 of 60 are 5 %, not more
    unlink(world, 4)
    with pytest.raises(
        Refused, match=r"4 of 60 rows of docs fail the check unlinked \(6.7 %; retention waits above 5 %"
    ):
        world.plan("it")


def test_rows_that_lose_their_link_after_the_plan_stop_its_execution(tmp_path: Path) -> None:
    world = made(tmp_path, OLD_RAW, rows=60, checks={"unlinked": UNLINKED})
    world.put("raw/1")
    plan = world.plan("it")
    unlink(world, 4)
    with pytest.raises(Refused, match="retention waits"):
        world.execute(plan)
    assert "raw/1" in world.objects()
    assert world.home.control.retention.plan(plan.id).state == "partial"


def test_damage_that_a_later_reconciliation_found_stops_an_approved_plan(tmp_path: Path) -> None:
    """S1-35: nobody planned since, so nobody else would have paused it."""
    damaged = {
        "describe": "Odd documents.", "table": "docs", "id": "id", "where": "state = 'odd'", "severity": "error",
        "pauses": True,
    }  # fmt: skip
    world = made(tmp_path, OLD_RAW, rows=1, checks={"odd": damaged})
    world.put("raw/1")
    plan = world.plan("it")
    world.sql("INSERT INTO docs VALUES ('o', NULL, 'odd')")
    world.reconcile()
    with pytest.raises(Paused, match="Odd documents"):
        world.execute(plan)
    assert "raw/1" in world.objects()


def test_a_plan_is_executed_for_its_own_system_only(tmp_path: Path) -> None:
    world = made(tmp_path, OLD_RAW, rows=1)
    world.put("raw/1")
    plan = world.plan("it")
    other = world.system.model_copy(update={"name": "other"})
    with pytest.raises(Refused, match="is of small, not of other"):
        execute(other, plan.id, world.home, run_id="test")
    assert "raw/1" in world.objects()


@pytest.mark.parametrize("optional", [False, True])
def test_a_check_that_cannot_be_asked_is_not_one_that_was_passed(tmp_path: Path, optional: bool) -> None:
    """S3-51: a table that was renamed has no rows that fail."""
    world = made(tmp_path, OLD_RAW, rows=1, checks={"unlinked": UNLINKED | {"table": "papers", "optional": optional}})
    world.put("raw/1")
    if optional:
        assert world.going(world.plan("it")) == (["raw/1"], [])
        return
    with pytest.raises(SourceUnavailable, match="no table papers, so nobody knows how many of its rows fail"):
        world.plan("it")


@pytest.mark.parametrize(("rows", "few"), [(9, True), (49, True), (50, False)])
def test_a_few_rows_are_no_ratio(tmp_path: Path, rows: int, few: bool) -> None:
    world = made(tmp_path, OLD_RAW, rows=rows, checks={"unlinked": UNLINKED})
    world.put("raw/1")
    unlink(world, 4)
    with nullcontext() if few else pytest.raises(Refused, match="4 of 50 rows of docs fail"):
        assert world.going(world.plan("it")) == (["raw/1"], [])


def test_a_plan_needs_no_credentials_that_write_and_an_act_no_others(tmp_path: Path) -> None:
    """H14: the plan is made by who can only read; who acts without the writer's variable does nothing."""
    world = made(tmp_path, DRAFTS, database={"url_env": "DB", "write_url_env": "WRITER"})
    world.put("docs/1")
    world.sql("INSERT INTO docs VALUES ('1', 'docs/1', 'draft')")
    plan = world.plan("it")
    assert world.going(plan) == (["docs/1"], ["1"])
    with pytest.raises(EnvironmentMissing, match="WRITER is not set"):
        world.execute(plan)
    assert world.objects() == ["docs/1"]
    assert world.sql("SELECT count(*) FROM docs") == [(1,)]


def test_a_bucket_is_acted_on_with_the_credentials_that_write(tmp_path: Path) -> None:
    """H14"""
    reading, writing = (
        {"access_key_env": f"{who}_KEY", "secret_key_env": f"{who}_SECRET"} for who in ("READ", "WRITE")
    )
    store = {
        "url_env": "BUCKET", "credentials": reading, "write_credentials": writing,
        "scopes": [{"prefix": "raw/", "exclusive": True, "class": "temporary"}],
    }  # fmt: skip
    world = made(tmp_path, OLD_RAW, stores={"files": store})
    world.home.environment = {**world.home.environment, "BUCKET": "s3://b", "READ_KEY": "r", "READ_SECRET": "r"}
    with pytest.raises(EnvironmentMissing, match="WRITE_KEY is not set"):
        open_store_for_acting(world.system, "files", world.home)


def test_a_plan_that_is_not_what_its_digest_says_is_not_executed(tmp_path: Path) -> None:
    """I9: whoever can edit the control database cannot lend an approval to another plan."""
    world = made(tmp_path, OLD_RAW, rows=1)
    world.put("raw/1")
    plan = world.plan("it")
    with world.home.control._engine.begin() as connection:
        connection.execute(sa.text("UPDATE plan SET digest = :digest"), {"digest": "0" * 64})
    with pytest.raises(Refused, match="is not what its digest says"):
        world.execute(world.home.control.retention.plan(plan.id))
    assert "raw/1" in world.objects()


def test_a_folder_goes_whole_or_not_at_all(tmp_path: Path) -> None:
    """S1-52: one young or held file keeps its whole folder; folders of other names are not meant."""
    select = {"objects": "files", "prefix": "raw/", "folders": ["storage-*"]}
    world = made(tmp_path, OLD_RAW | {"select": select}, rows=1)
    world.put("raw/storage-1/a", "raw/storage-1/b/c", "raw/storage-2/a", "raw/other/a", "raw/a")
    world.put("raw/storage-2/b/young", at=AS_OF)
    world.put("raw/storage-3/a", "raw/storage-3/b")
    world.home.control.retention.add_hold("small", "ada", "case 7", store="files", key="raw/storage-3/b")
    plan = world.plan("it")
    assert world.going(plan) == (["raw/storage-1/a", "raw/storage-1/b/c"], [])
    assert world.kept(plan)["raw/storage-2/a"] == "folders: something else in storage-2 stays"
    assert world.kept(plan)["raw/storage-3/a"] == "folders: something else in storage-3 stays"


@pytest.mark.parametrize("again", ["written to", "held", "named by a row"])
@pytest.mark.parametrize("units_per_batch", [1, 1000])
def test_a_folder_that_is_used_again_after_the_plan_stays_whole(
    tmp_path: Path, again: str, units_per_batch: int
) -> None:
    """S1-52, H05: what keeps a part of a folder when it is planned keeps it before the act, too."""
    select = {"objects": "files", "prefix": "raw/", "folders": ["storage-*"]}
    world = made(tmp_path, OLD_RAW | {"select": select}, rows=1)
    world.put("raw/storage-1/a", "raw/storage-2/a", "raw/storage-2/b/c", "raw/storage-20/a", "raw/storage-3/a")
    world.put("raw/storage-4")  # no folder
    plan = world.plan("it")
    assert plan.units == 6
    if again == "written to":
        world.put("raw/storage-2/b/new", at=datetime.now(UTC))
        world.put("raw/storage-9/new", at=datetime.now(UTC))
    elif again == "held":
        world.home.control.retention.add_hold("small", "ada", "case 7", store="files", key="raw/storage-2/b/c")
    else:
        world.sql("INSERT INTO docs VALUES ('again', 'raw/storage-2/b/c', 'final')")
    done = world.execute(plan, units_per_batch=units_per_batch)
    assert [key for key in world.objects() if key.startswith("raw/") and not key.endswith("new")] == [
        "raw/storage-2/a", "raw/storage-2/b/c",
    ]  # fmt: skip
    assert done.counts["quarantined"] == 4


@pytest.mark.parametrize(("only", "stays"), [(0, ["docs/large", "docs/small"]), (1, ["docs/large"])])
def test_what_was_approved_is_weighed_not_guessed_from_its_number(tmp_path: Path, only: int, stays: list[str]) -> None:
    """G11: one of three objects may be nearly all of the bytes."""
    limits = {"limits": ALL | {"max_bytes": "1 kB"}}
    orphans = {"select": {"orphans": "files", "prefix": "docs/"}, "keep": [{"younger_than": "2 d"}]}
    world = made(tmp_path, orphans | limits | {"act": {"objects": "quarantine"}}, rows=1)
    world.put("docs/first", size_bytes=600)
    earlier = world.plan("it")
    world.sql("INSERT INTO docs VALUES ('f', 'docs/first', 'final')")
    world.put("docs/large", size_bytes=900)
    world.put("docs/small", "docs/tiny")
    plan = world.plan("it")
    assert world.going(plan) == (["docs/large", "docs/small", "docs/tiny"], [])
    world.sql("DELETE FROM docs WHERE id = 'f'")
    assert world.execute(earlier).counts == {"quarantined": 1}
    end = datetime.now(UTC) + timedelta(hours=1)
    world.home.control.retention.approve(plan.id, plan.digest, 1, "ada", "yes", expires_at=end, only=[only])
    with pytest.raises(Refused, match="exceeds its limits") if only == 0 else nullcontext():
        execute(world.system, plan.id, world.home, run_id="test")
    assert world.objects() == ["docs/0", *stays, "docs/tiny"]


def test_rows_that_go_along_count_at_the_gate_as_they_did_in_the_plan(tmp_path: Path) -> None:
    """G11, J06: with what an earlier plan took they are too many."""
    rows = DRAFTS | {"act": {"rows": "delete"}, "limits": ALL | {"max_rows": 4, "max_cascaded_rows": 4}}
    world = made(tmp_path, rows, rows=1)
    world.sql("CREATE TABLE pages (doc TEXT REFERENCES docs (id) ON DELETE CASCADE)")
    world.sql("INSERT INTO docs VALUES ('a', NULL, 'draft'), ('b', NULL, 'final')")
    world.sql("INSERT INTO pages VALUES ('b'), ('b'), ('b')")
    earlier = world.plan("it")
    world.sql("UPDATE docs SET state = CASE id WHEN 'a' THEN 'final' ELSE 'draft' END WHERE id <> '0'")
    plan = world.plan("it")
    assert (plan.rows, sum(plan.totals["cascades"].values()), plan.totals["limits_exceeded"]) == (1, 3, [])
    world.sql("UPDATE docs SET state = 'draft' WHERE id = 'a'")
    assert world.execute(earlier).counts == {"deleted": 1}
    with pytest.raises(Refused, match="5 rows"):
        world.execute(plan)
    assert world.sql("SELECT count(*) FROM pages") == [(3,)]
