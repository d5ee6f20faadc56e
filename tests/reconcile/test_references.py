"""The snapshot of the database: what it claims, what it protects, and when it refuses."""

from __future__ import annotations

import sqlite3
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maintenance_defs.control.home import Home
from maintenance_defs.core.errors import AsOfInTheFuture
from maintenance_defs.core.resolve import prepare, resolve, rows_schema
from maintenance_defs.core.schemas import LOOSE_REFERENCES, REFERENCES
from tests.support.reference_world import ASSETS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


COLUMN = {"table": "assets", "object": {"column": "path"}}


def test_exact_keys_are_written_sorted_by_bytes_with_what_the_row_says(world: World) -> None:
    world.sql(
        ASSETS,
        """INSERT INTO assets VALUES
        ('3', 'b', 7, 'ready', '2025-01-02 03:04:05'), ('2', 'é', NULL, 'queued', NULL), ('1', 'B', 1, NULL, NULL),
        ('4', NULL, 1, 'ready', NULL), ('5', 'null', 1, 'ready', NULL), ('6', 'a ', 1, 'ready', NULL)""",
    )
    system = world.system(COLUMN | {"size": "size", "dated_by": "created_at", "in_progress": "state = 'queued'"})
    taken = world.take(system)
    assert (taken.verdict, taken.reason) == ("complete", None)
    assert world.keys() == ["B", "a ", "b", "é"]
    rows = {row["row_id"]: row for row in world.rows("references/files/00.parquet")}
    assert rows["3"] == {
        "key": "b",
        "row_id": "3",
        "dated_at": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        "size_bytes": 7,
        "in_progress": False,
        "dirty": False,
    }
    assert rows["2"]["in_progress"] is True and rows["1"]["in_progress"] is False
    assert rows["6"]["dirty"] is True
    assert world.loose() == [("no_key", None, None, "4"), ("no_key", None, None, "5")]
    (source,) = taken.evidence["sources"]
    assert {name: source[name] for name in ("table", "rows", "keys", "no_key", "dirty", "missing_table")} == {
        "table": "assets",
        "rows": 6,
        "keys": 4,
        "no_key": 2,
        "dirty": 1,
        "missing_table": False,
    }


def test_files_have_the_agreed_schemas(world: World) -> None:
    world.sql(ASSETS, "INSERT INTO assets VALUES ('1', 'a', 1, NULL, NULL), ('2', NULL, 1, NULL, NULL)")
    taken = world.take(world.system(COLUMN))
    folder = world.home.artefacts.local(taken.uri or "")
    assert pq.read_schema(folder / "references/files/00.parquet").equals(REFERENCES)
    assert pq.read_schema(folder / "loose/00.parquet").equals(LOOSE_REFERENCES)
    assert pq.read_schema(folder / "loose/undeclared.parquet").names == LOOSE_REFERENCES.names


def test_several_ids_make_a_json_list(world: World) -> None:
    world.sql("CREATE TABLE t (a TEXT, b INTEGER, path TEXT)", "INSERT INTO t VALUES ('x\"y', 2, 'k')")
    world.take(world.system({"table": "t", "id": ["a", "b"], "object": {"column": "path"}}))
    assert [row["row_id"] for row in world.rows("references/files/00.parquet")] == ['["x\\"y","2"]']


def test_url_that_says_the_store_goes_to_the_file_of_that_store(world: World) -> None:
    world.sql(
        ASSETS,
        """INSERT INTO assets VALUES ('1', 'https://cdn.example.org/z%20a', 1, NULL, NULL),
        ('2', 's3://other/b', 1, NULL, NULL), ('3', 's3://other/a', 1, NULL, NULL),
        ('4', 's3://no/a', 1, NULL, NULL)""",
    )
    world.take(world.system({"table": "assets", "store": ["files", "other"], "object": {"url": "path"}}))
    assert world.keys() == ["z a"]
    assert world.keys(store="other") == ["a", "b"]
    assert world.loose() == [("unresolvable", None, "a", "4")]


def test_every_one_of_several_tables_claims(world: World) -> None:  # D03
    world.sql(*(f"CREATE TABLE t{n} (id, path); INSERT INTO t{n} VALUES ({n}, 'k{n}')" for n in range(3)))
    world.take(world.system(*({"table": f"t{n}", "object": {"column": "path"}} for n in range(3))))
    assert [world.keys(n) for n in range(3)] == [["k0"], ["k1"], ["k2"]]


def test_each_row_that_shares_a_file_claims_it(world: World) -> None:  # D05
    world.sql(ASSETS, *(f"INSERT INTO assets VALUES ('{n}', 'same', 1, NULL, NULL)" for n in range(3)))
    world.take(world.system(COLUMN))
    assert world.keys() == ["same", "same", "same"]


def test_json_lists_and_folders_are_read_and_broken_json_is_counted(world: World) -> None:  # D01, D02, D06, D11
    world.sql(
        "CREATE TABLE t (id, meta JSON, list TEXT, folder TEXT)",
        """INSERT INTO t VALUES (1, '{"files": [{"key": "a"}, {"key": ["b"]}]}', 'c, d', 'processed/1'),
        (2, '{"files": [', NULL, NULL)""",
    )
    taken = world.take(
        world.system(
            {"table": "t", "object": {"json": "meta", "at": "$.files[*].key"}},
            {"table": "t", "object": {"array": "list", "separator": ","}},
            {"table": "t", "object": {"prefix": "folder"}, "protects_only": True},
        )
    )
    assert taken.verdict == "complete"
    assert (world.keys(0), world.keys(1)) == (["a", "b"], ["c", "d"])
    assert world.loose("00") == [("unresolvable", None, None, "2")]
    assert world.loose("02") == [("no_key", None, None, "2"), ("prefix", "files", "processed/1/", "1")]
    assert [source["unresolvable"] for source in taken.evidence["sources"]] == [1, 0, 0]


def test_rows_are_read_without_any_predicate_unless_one_releases(world: World) -> None:  # A10
    world.sql(
        "CREATE TABLE t (id, path, deleted_at)",
        "INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', '2025-01-01'), (3, 'c', '')",
    )
    reference = {"table": "t", "object": {"column": "path"}}
    world.take(world.system(reference))
    assert world.keys() == ["a", "b", "c"]
    world.take(world.system(reference | {"releases_reference": "deleted_at > '2024' -- and a comment"}))
    assert world.keys() == ["a", "c"]


def test_predicate_that_is_null_releases_nothing(world: World) -> None:
    world.sql("CREATE TABLE t (id, path, gone)", "INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', 1), (3, 'c', 0)")
    world.take(world.system({"table": "t", "object": {"column": "path"}, "releases_reference": "gone"}))
    assert world.keys() == ["a", "c"]


@pytest.mark.parametrize(
    "broken",
    [
        {"table": "renamed", "object": {"column": "path"}},
        {"table": "assets", "object": {"column": "renamed"}},
        {"table": "assets", "object": {"column": "path"}, "dated_by": "renamed"},
        {"table": "assets", "object": {"column": "path"}, "releases_reference": "no_such_column = 1"},
    ],
)
def test_one_source_that_cannot_be_read_refuses_the_whole_step(world: World, broken: dict[str, Any]) -> None:  # A06
    world.sql(ASSETS, "INSERT INTO assets VALUES ('1', 'a', 1, NULL, NULL)")
    taken = world.take(world.system(COLUMN, broken))
    assert (taken.verdict, taken.reason, taken.uri) == ("refused", "source_unavailable", None)
    assert "Nothing was" in taken.evidence["message"]
    assert not list((world.home.path / "artefacts").rglob("*.parquet"))
    assert world.home.control.latest("app", "references") == taken


def test_database_that_is_down_or_not_named_is_refused(world: World) -> None:
    assert world.take(world.system(COLUMN)).reason == "source_unavailable"
    world.home = Home(world.folder / "home2", {})
    assert world.take(world.system(COLUMN)).reason == "environment_missing"


def test_optional_table_that_is_absent_is_noted(world: World) -> None:
    world.sql(ASSETS, "INSERT INTO assets VALUES ('1', 'a', 1, NULL, NULL)")
    taken = world.take(world.system(COLUMN, {"table": "jingles", "object": {"column": "path"}, "optional": True}))
    assert taken.verdict == "complete"
    assert [source["missing_table"] for source in taken.evidence["sources"]] == [False, True]


def test_fewer_rows_than_the_server_counts_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # S1-54
    from maintenance_defs.databases.sqlite import SqliteSnapshot

    world.sql(ASSETS, *(f"INSERT INTO assets VALUES ('{n}', 'k{n}', 1, NULL, NULL)" for n in range(20)))
    whole = SqliteSnapshot.read
    cut = lambda self, sql, parameters=(): whole(self, f"SELECT * FROM ({sql}) LIMIT 10", parameters)  # noqa: E731
    monkeypatch.setattr(SqliteSnapshot, "read", cut)
    taken = world.take(world.system(COLUMN))
    assert (taken.verdict, taken.reason, taken.uri) == ("refused", "rows_lost", None)
    assert "holds 20 rows in this snapshot, but 10 were read" in taken.evidence["message"]


def test_inputs_are_the_inventories_that_were_there_before(world: World) -> None:  # I4
    world.sql(ASSETS)
    system = world.system(COLUMN)
    assert world.take(system).inputs == ()
    world.list_stores(system)
    newest = [world.home.control.latest("app", "inventory", store) for store in ("files", "other")]
    assert world.take(system).inputs == tuple(artefact.id for artefact in newest if artefact)


def test_instant_by_hand_is_kept_and_a_later_one_refused(world: World) -> None:
    world.sql(ASSETS)
    at = datetime(2025, 1, 1, tzinfo=UTC)
    assert world.take(world.system(COLUMN), as_of=at).as_of == at
    with pytest.raises(AsOfInTheFuture):
        world.take(world.system(COLUMN), as_of=datetime.now(UTC) + timedelta(hours=1))


def test_template_filled_with_a_blank_protects_the_object_that_it_names(world: World) -> None:
    world.sql(ASSETS, "INSERT INTO assets VALUES ('1', '', 1, NULL, NULL), ('2', '', 1, NULL, NULL)")
    world.put("f/1-.png")
    system = world.system({"table": "assets", "object": {"template": "f/{id}-{path}.png"}})
    world.list_stores(system)
    world.take(system)
    assert world.loose() == [("no_key", None, None, "1"), ("no_key", None, None, "2")]
    assert world.loose("undeclared") == [("undeclared", "files", "f/1-.png", "1")]  # 2's object does not exist


VALUES = st.text(st.sampled_from("aAbé/ %'\"\\\u200b\n日"), max_size=6)


@settings(max_examples=15, deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.just("null"), st.just("https://x/y?token=1"), VALUES), max_size=30))
def test_sorted_stream_of_a_column_says_what_the_resolver_says_of_each_value(values: list[str | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.sql(ASSETS)
        with sqlite3.connect(world.database) as connection:
            connection.executemany(
                "INSERT INTO assets (id, path) VALUES (?, ?)", [(str(n), v) for n, v in enumerate(values)]
            )
        connection.close()
        system = world.system(COLUMN)
        assert world.take(system).verdict == "complete"
        written = {(row["key"], row["row_id"]) for row in world.rows("references/files/00.parquet")}
        loose = {(kind, row_id) for kind, _, _, row_id in world.loose()}
        with duckdb.connect() as con:
            prepare(con)
            for n, value in enumerate(values):
                row = pa.Table.from_pylist([{"row_id": str(n), "v0": value}], schema=rows_schema(system.references[0]))
                for line in resolve(con, system.references[0], (), row).to_arrow_table().to_pylist():
                    if line["kind"] == "exact":
                        written.remove((line["key"], str(n)))
                    elif line["kind"] != "undeclared":
                        loose.remove((line["kind"], str(n)))
        assert (written, loose) == (set(), set())
