"""What else is read on the snapshot: checks, queries, and columns that nobody declared."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.reference_world import ASSETS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


COLUMN = {"table": "assets", "object": {"column": "path"}}


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
    assert said["states"].pop("seconds") >= 0
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
