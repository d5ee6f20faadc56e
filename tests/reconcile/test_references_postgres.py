"""The same snapshot on a real PostgreSQL: its types, its row-level security, its concurrency."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from maintenance_defs.core.declaration import System
from maintenance_defs.databases.postgres import PostgresSnapshot
from tests.support.postgres import execute
from tests.support.reference_world import World


class PostgresWorld(World):
    def __init__(self, path: Path, url: str) -> None:
        super().__init__(path, url)
        self.url = url

    def sql(self, *statements: str) -> None:
        execute(self.url, *statements)


@pytest.fixture
def world(tmp_path: Path, pg_database: str) -> PostgresWorld:
    return PostgresWorld(tmp_path, pg_database)


ASSETS = """CREATE TABLE assets (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), path text, urls text[], meta jsonb, padded char(6),
    size numeric(12, 2), state varchar(20), created_at timestamptz DEFAULT '2025-01-02 03:04:05+02')"""
COLUMN = {"table": "public.assets", "object": {"column": "path"}}
ID = "00000000-0000-4000-8000-00000000000"


def test_types_of_the_database_arrive_as_they_are_meant(world: PostgresWorld) -> None:  # D01, D02, C12
    world.sql(
        ASSETS,
        f"""INSERT INTO assets VALUES ('{ID}1', 'b', ARRAY['s3://files/x y', NULL, 'https://cdn.example.org/%C3%A9'],
            '{{"files": [{{"key": "m1"}}, {{"key": "m/é"}}]}}', 'ab', 7, 'queued')""",
        f"INSERT INTO assets (id, path, size) VALUES ('{ID}2', 'B', NULL), ('{ID}3', 'é', 1.5)",
    )
    system = world.system(
        COLUMN | {"size": "size", "dated_by": "created_at", "in_progress": "state = 'queued'"},
        {"table": "assets", "object": {"array": "urls", "form": "url"}},
        {"table": "assets", "object": {"json": "meta", "at": "$.files[*].key"}},
        {"table": "assets", "object": {"column": "padded"}},
        {"table": "assets", "object": {"template": "final/{id}.wav"}},
    )
    taken = world.take(system)
    assert taken.verdict == "complete", taken.evidence
    assert world.keys(0) == ["B", "b", "é"]
    row = world.rows("references/files/00.parquet")[1]
    assert (row["row_id"], row["size_bytes"], row["in_progress"]) == (f"{ID}1", 7, True)
    assert row["dated_at"].isoformat() == "2025-01-02T01:04:05+00:00"
    assert world.keys(1) == ["x y", "é"]
    assert world.keys(2) == ["m/é", "m1"]
    assert [(row["key"], row["dirty"]) for row in world.rows("references/files/03.parquet")] == [("ab    ", True)]
    assert world.keys(4) == [f"final/{ID}{n}.wav" for n in (1, 2, 3)]
    assert {source["columns"]["path"] for source in taken.evidence["sources"]} == {"text"}


def test_rows_hidden_by_row_level_security_refuse_the_step(world: PostgresWorld) -> None:  # A07
    user = f"r{make_url(world.url).database}"
    world.sql(
        ASSETS,
        "INSERT INTO assets (path) VALUES ('a'), ('b'), ('c')",
        f"CREATE ROLE {user} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON assets TO {user}",
        "ALTER TABLE assets ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY one ON assets TO {user} USING (path = 'a')",
    )
    try:
        url = make_url(world.url).set(username=user, password="x").render_as_string(hide_password=False)
        world.home.environment = dict(world.home.environment) | {"DB": url}
        taken = world.take(world.system(COLUMN))
        assert (taken.verdict, taken.reason, taken.uri) == ("refused", "rls_filtered", None)
        assert "'assets'" in taken.evidence["message"]
    finally:
        world.sql(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_undeclared_table_under_row_level_security_is_only_noted(world: PostgresWorld) -> None:
    user = f"r{make_url(world.url).database}"
    world.sql(
        ASSETS,
        "CREATE TABLE secrets (id int, note text)",
        "INSERT INTO secrets VALUES (1, 'k')",
        f"CREATE ROLE {user} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON assets, secrets TO {user}",
        "ALTER TABLE secrets ENABLE ROW LEVEL SECURITY",
    )
    world.put("k")
    try:
        system = world.system(COLUMN, drift_scan=True)
        world.list_stores(system)
        url = make_url(world.url).set(username=user, password="x").render_as_string(hide_password=False)
        world.home.environment = dict(world.home.environment) | {"DB": url}
        taken = world.take(system)
        assert taken.verdict == "complete"
        assert [unread["column"] for unread in taken.evidence["unread"]] == ["public.secrets.note"]
    finally:
        world.sql(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_row_that_moves_between_two_tables_meanwhile_is_seen_once(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:  # A11
    world.sql(
        "CREATE TABLE drafts (id int, path text)",
        "CREATE TABLE published (id int, path text)",
        "INSERT INTO published VALUES (1, 'p')",
    )
    system = world.system(
        {"table": "drafts", "object": {"column": "path"}}, {"table": "published", "object": {"column": "path"}}
    )
    whole, read = PostgresSnapshot.read, threading.Event()

    def read_then_move(self: PostgresSnapshot, sql: str, parameters: Any = ()) -> Any:
        reader = whole(self, sql, parameters)
        if '"drafts"' in sql:  # the row moves to the table that has been read, away from the one that will be
            world.sql("WITH moved AS (DELETE FROM published RETURNING *) INSERT INTO drafts SELECT * FROM moved")
            read.set()
        return reader

    monkeypatch.setattr(PostgresSnapshot, "read", read_then_move)
    assert world.take(system).verdict == "complete"
    assert read.is_set()
    assert world.keys(0) + world.keys(1) == ["p"]


def test_name_that_fits_tables_of_two_schemas_is_refused(world: PostgresWorld) -> None:  # A09
    world.sql(ASSETS, "CREATE SCHEMA old", "CREATE TABLE old.assets (id int, path text)")
    taken = world.take(world.system({"table": "assets", "object": {"column": "path"}}))
    assert (taken.verdict, taken.reason) == ("refused", "source_unavailable")
    assert world.take(world.system(COLUMN)).verdict == "complete"


def test_check_with_a_wrong_predicate_does_not_spoil_the_others(world: PostgresWorld) -> None:
    world.sql(ASSETS, "INSERT INTO assets (path, state) VALUES ('100%', 'x')")
    check = {"describe": "d", "table": "assets", "id": "id", "where": "no_such = 1"}
    checks = {
        "wrong": check,
        "right": check | {"where": "path LIKE '%\\%' AND created_at < CAST(:as_of AS timestamptz) AND 7 % 4 = 3"},
        "plain": check | {"where": "path LIKE '100%' AND 7 % 4 = 3", "show": ["created_at", "meta"]},
        "needs": check | {"where": "created_at < :as_of", "requires": {"template": "{id}"}, "store": "files"},
    }
    taken = world.take(world.system(COLUMN, checks=checks))
    assert taken.verdict == "complete"
    said = taken.evidence["checks"]
    assert said["wrong"]["count"] is None and "no_such" in said["wrong"]["message"]
    assert (said["right"]["count"], said["plain"]["count"], said["needs"]["rows"]) == (1, 1, 1)
    assert said["plain"]["sample"][0]["created_at"].startswith("2025-01-02T01:04:05")


def test_undeclared_json_and_array_columns_are_found(world: PostgresWorld) -> None:  # D12
    world.sql(
        ASSETS,
        "INSERT INTO assets (path, urls, meta) "
        "VALUES ('a', ARRAY['u1', 's3://files/u2'], '{\"x\": {\"y\": [\"m1\"]}}')",
    )
    world.put("a", "u1", "u2", "m1", "orphan")
    system: System = world.system(COLUMN, drift_scan=True)
    world.list_stores(system)
    world.take(system)
    found = {(row["value"], row["reason"]) for row in world.rows("loose/undeclared.parquet")}
    assert found == {
        ("u1", "public.assets.urls"),
        ("u2", "public.assets.urls"),
        ("m1", "public.assets.meta"),
    }


def test_bytes_that_are_utf8_are_read_as_keys_and_no_others(world: PostgresWorld) -> None:
    world.sql("CREATE TABLE blobs (id int, path bytea)", "INSERT INTO blobs VALUES (1, convert_to('a/é.png', 'UTF8'))")
    system = world.system({"table": "blobs", "object": {"column": "path"}})
    assert world.take(system).verdict == "complete"
    assert world.keys(0) == ["a/é.png"]
    world.sql("INSERT INTO blobs VALUES (2, '\\xff'::bytea)")
    assert (world.take(system).verdict, world.take(system).uri) == ("refused", None)


def test_lists_of_bytes_are_refused(world: PostgresWorld) -> None:
    world.sql("CREATE TABLE blobs (id int, paths bytea[])", "INSERT INTO blobs VALUES (1, ARRAY['a'::bytea])")
    taken = world.take(world.system({"table": "blobs", "object": {"array": "paths"}}))
    assert (taken.verdict, taken.reason) == ("refused", "source_unavailable")
    assert "bytea[]" in taken.evidence["message"]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (["CREATE MATERIALIZED VIEW seen AS SELECT * FROM assets"], "materialized view"),
        (
            [
                "CREATE FOREIGN DATA WRAPPER elsewhere",
                "CREATE SERVER far FOREIGN DATA WRAPPER elsewhere",
                "CREATE FOREIGN TABLE seen (id int, path text) SERVER far",
            ],
            "foreign table",
        ),
    ],
    ids=["materialized view", "foreign table"],
)
def test_source_that_is_not_of_the_snapshot_is_refused(world: PostgresWorld, made: list[str], why: str) -> None:
    world.sql(ASSETS, *made)
    taken = world.take(world.system({"table": "seen", "object": {"column": "path"}}))
    assert (taken.verdict, taken.reason, taken.uri) == ("refused", "source_unavailable", None)
    assert why in taken.evidence["message"]
