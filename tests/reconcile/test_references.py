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

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import AsOfInTheFuture
from maintenance_defs.core.resolve import prepare, resolve, rows_schema
from maintenance_defs.core.schemas import LOOSE_REFERENCES, REFERENCES
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reconcile.references import take_references

ASSETS = "CREATE TABLE assets (id TEXT PRIMARY KEY, path TEXT, size INTEGER, state TEXT, created_at TEXT)"


class World:
    """One SQLite database, two folders as stores, a home."""

    def __init__(self, path: Path, url: str | None = None) -> None:
        self.folder = path
        self.database = path / "app.db"
        self.home = Home(
            path / "home",
            {
                "DB": url or f"sqlite:///{self.database}",
                "FILES": str(path / "files"),
                "OTHER": str(path / "other"),
            },
        )
        for store in ("files", "other"):
            (path / store).mkdir()
        self.references: Artefact | None = None

    def sql(self, *statements: str) -> None:
        with sqlite3.connect(self.database) as connection:
            for statement in statements:
                connection.executescript(statement)
        connection.close()

    def put(self, *keys: str, store: str = "files") -> None:
        for key in keys:
            path = self.folder / store / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")

    def system(self, *references: dict[str, Any], **more: Any) -> System:
        scopes = [{"prefix": ""}]
        return System.model_validate(
            {
                "name": "app",
                "database": {"url_env": "DB"},
                "stores": {
                    "files": {
                        "url_env": "FILES",
                        "scopes": scopes,
                        "bucket": "files",
                        "hosts": "https://cdn.example.org/",
                    },
                    "other": {"url_env": "OTHER", "scopes": scopes, "bucket": "other"},
                },
                "references": [{"id": "id", "store": "files"} | reference for reference in references],
                "drift_scan": False,
            }
            | more
        )

    def list_stores(self, system: System) -> None:
        for store in system.stores:
            assert take_inventory(system, store, self.home, run_id="run").verdict == "complete"

    def take(self, system: System, **more: Any) -> Artefact:
        self.references = take_references(system, self.home, run_id="run", **more)
        return self.references

    def rows(self, file: str) -> list[dict[str, Any]]:
        assert self.references is not None and self.references.uri is not None
        table = pq.read_table(self.home.artefacts.local(self.references.uri, self.references.digest) / file)
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def keys(self, number: int = 0, store: str = "files") -> list[str]:
        return [row["key"] for row in self.rows(f"references/{store}/{number:02d}.parquet")]

    def loose(self, name: str = "00") -> list[tuple[Any, ...]]:
        return sorted(
            (row["kind"], row["store"], row["value"], row["row_id"]) for row in self.rows(f"loose/{name}.parquet")
        )


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


# Checks and queries


def test_check_counts_and_shows_only_what_it_declares(world: World) -> None:
    world.sql(
        "CREATE TABLE jobs (id, state, url, patient, updated_at)",
        *(
            f"INSERT INTO jobs VALUES ({n}, 'stuck', 'https://x/{n}?token=SECRET', 'PHI', '2025-01-01 00:00:00.000')"
            for n in range(12)
        ),
        "INSERT INTO jobs VALUES (99, 'stuck', NULL, NULL, '2030-01-01 00:00:00.000')",
        ASSETS,
    )
    check = {
        "describe": "stuck",
        "table": "jobs",
        "id": "id",
        "where": "state LIKE 'st%' AND updated_at < :as_of AND id % 1 = 0",
        "show": ["url"],
    }
    taken = world.take(world.system(COLUMN, checks={"stuck": check}), as_of=datetime(2025, 6, 1, tzinfo=UTC))
    said = taken.evidence["checks"]["stuck"]
    assert (said["count"], len(said["sample"]), said["severity"]) == (12, 10, "warn")
    assert said["sample"][0] == {"id": 0, "url": "https://x/0"}
    assert "SECRET" not in str(taken.evidence) and "PHI" not in str(taken.evidence)


def test_check_that_requires_an_object_hands_its_rows_to_the_diff(world: World) -> None:
    world.sql(ASSETS, "INSERT INTO assets VALUES ('2', 'b', 1, 'ready', '2025-01-01'), ('1', NULL, 1, 'ready', '2024')")
    check = {
        "describe": "ready without file",
        "table": "assets",
        "id": "id",
        "where": "state = 'ready' AND :as_of > '2020'",
        "requires": {"template": "final/{id}.wav"},
        "store": "files",
    }
    taken = world.take(world.system(COLUMN, checks={"ready": check}))
    assert "message" not in taken.evidence["checks"]["ready"], taken.evidence
    rows = world.rows("checks/ready.parquet")
    assert [(row["key"], row["row_id"]) for row in rows] == [("final/1.wav", "1"), ("final/2.wav", "2")]
    assert taken.evidence["checks"]["ready"]["rows"] == 2


def test_check_of_a_missing_table_says_so_and_counts_nothing(world: World) -> None:
    world.sql(ASSETS)
    check = {"describe": "d", "table": "segments", "id": "id", "where": "1"}
    taken = world.take(world.system(COLUMN, checks={"c": check, "o": check | {"optional": True}}))
    assert taken.verdict == "complete"
    assert {said["count"] for said in taken.evidence["checks"].values()} == {None}
    assert "there is no table segments" in taken.evidence["checks"]["c"]["message"]


def test_query_gives_its_rows_and_a_missing_migration_is_said_not_crashed(world: World) -> None:  # A0-1
    world.sql(ASSETS, "INSERT INTO assets VALUES ('1', 'a', 1, 'ready', NULL)")
    (world.folder / "a.sql").write_text("-- how many\nSELECT state, count(*) AS assets FROM assets GROUP BY state;\n")
    (world.folder / "b.sql").write_text("SELECT archived FROM assets")
    queries = {
        "states": {"describe": "by state", "sql": "a.sql"},
        "archived": {
            "describe": "archived",
            "sql": "b.sql",
            "needs": {"assets": ["id", "archived"]},
            "migration": "archive_columns",
        },
        "wrong": {"describe": "wrong", "sql": "b.sql"},
    }
    taken = world.take(world.system(COLUMN, queries=queries), folder=world.folder)
    assert taken.verdict == "complete"
    said = taken.evidence["queries"]
    assert said["states"] == {
        "describe": "by state",
        "columns": ["state", "assets"],
        "rows": [{"state": "ready", "assets": 1}],
    }
    assert said["archived"]["message"] == "migration archive_columns is not applied: assets.archived is missing."
    assert "archived" in said["wrong"]["message"]


# Drift


def test_undeclared_column_that_holds_keys_protects_them(world: World) -> None:  # D12, D14
    world.sql(
        ASSETS,
        "INSERT INTO assets VALUES ('1', 'a', 1, 'ready', NULL)",
        "CREATE TABLE sites (id, favicon TEXT, body TEXT, extra JSON, site VARCHAR(200))",
        """INSERT INTO sites VALUES
        (1, 'icons/1.ico', '<img src="https://cdn.example.org/pics/x%20y.png">', '{"deep": ["/files/j/1"]}',
         'https://elsewhere.example/mirror/icons/2.ico?sig=SECRET'), (2, 'never.ico', 'words', '{', 'https://x.y/z')""",
        "CREATE TABLE asset_versions (id, asset_id, path TEXT)",
        "INSERT INTO asset_versions VALUES (1, '1', 'old/a')",
    )
    world.put("a", "icons/1.ico", "icons/2.ico", "pics/x y.png", "j/1", "old/a", "orphan")
    system = world.system(COLUMN, drift_scan=True)
    world.list_stores(system)
    taken = world.take(system)
    assert {(row["value"], row["reason"]) for row in world.rows("loose/undeclared.parquet")} == {
        ("icons/1.ico", "sites.favicon"),
        ("pics/x y.png", "sites.body"),
        ("j/1", "sites.extra"),
        ("icons/2.ico", "sites.site"),
        ("old/a", "asset_versions.path"),
    }
    assert {(found["column"], found["store"], found["keys"]) for found in taken.evidence["undeclared"]} == {
        ("sites.favicon", "files", 1),
        ("sites.body", "files", 1),
        ("sites.extra", "files", 1),
        ("sites.site", "files", 1),
        ("asset_versions.path", "files", 1),
    }
    assert "SECRET" not in str(world.rows("loose/undeclared.parquet"))


def test_column_with_a_hit_is_read_whole(world: World) -> None:
    world.sql(
        ASSETS,
        "CREATE TABLE stats (id, file TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1499) "
        "INSERT INTO stats SELECT i, 'k/' || i FROM n",
    )
    world.put("k/0", "k/1499")
    system = world.system(COLUMN, drift_scan=True)
    world.list_stores(system)
    world.take(system)
    assert {row["value"] for row in world.rows("loose/undeclared.parquet")} == {"k/0", "k/1499"}


def test_drift_scan_can_be_switched_off_and_needs_an_inventory(world: World) -> None:
    world.sql(ASSETS, "CREATE TABLE stats (id, file TEXT)", "INSERT INTO stats VALUES (1, 'k')")
    world.put("k")
    world.list_stores(world.system(COLUMN))
    world.take(world.system(COLUMN))
    assert world.rows("loose/undeclared.parquet") == []
    world.take(world.system(COLUMN, drift_scan=True))
    assert len(world.rows("loose/undeclared.parquet")) == 1
