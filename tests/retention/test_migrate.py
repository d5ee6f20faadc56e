"""Migrations of the maintained systems: once, whole, and seen in the catalog (S0-19, S0-27, A0-11, S1-45, S3-37)."""

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import DeclarationError, Refused, SourceUnavailable
from maintenance_defs.demo.data import make_postgres_rows, make_sqlite_rows
from maintenance_defs.retention.migrate import Applied, apply, out_of_order, status
from maintenance_defs.retention.migration_files import migrations
from tests.support.postgres import connect, execute

ASSETS = Path(__file__).parents[2] / "assets"
REPORTS = ["archive_columns", "version_columns", "object_deleted_at"]
VERSIONS = {  # A0-6
    "fallback_1754968421525_o3gbze": (1, False),
    "fallback_1754968866964_owoiqx": (2, False),
    "fallback_1755035925041_76rwmq": (3, True),
    "fallback_1754700000000_aaaaaa": (1, True),
    "fallback_1754800000000_bbbbbb": (1, True),
    "fallback_1754900000000_cccccc": (2, False),
}


@dataclass
class World:
    """One system with its demonstration's rows, on one database."""

    system: System
    home: Home
    folder: Path
    url: str

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = connect(self.url) if "postgresql" in self.url else self._sqlite()
        cursor = connection.cursor()
        cursor.execute(sql)
        rows = list(cursor.fetchall()) if cursor.description else []
        connection.close()
        return rows

    def _sqlite(self) -> sqlite3.Connection:
        return sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)

    def states(self, done: list[Applied]) -> dict[str, str]:
        return {one.name: one.state for one in done}

    def apply(self, *names: str, dry_run: bool = False, chosen: Sequence[str] = ()) -> list[Applied]:
        return apply(self.system, self.home, self.folder, names or None, dry_run, chosen)


def made(name: str, url: str, tmp_path: Path) -> World:
    folder = tmp_path / name
    shutil.copytree(ASSETS / name, folder)
    sql = [(folder / "demo" / file).read_text() for file in ("schema.sql", "rows.sql")]
    if url.startswith("sqlite"):
        make_sqlite_rows(Path(url.removeprefix("sqlite:///")), sql)
    else:
        make_postgres_rows(url, [text.replace("DATETIME", "TIMESTAMP") for text in sql])
    system = System.model_validate(yaml.safe_load((folder / "defs.yaml").read_text())["attributes"])
    return World(system, Home(tmp_path / "home", {system.database.url_env: url}), folder, url)


@pytest.fixture(params=["sqlite", "postgresql"])
def reports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    file = tmp_path / "reports.db"
    url = f"sqlite:///{file}" if request.param == "sqlite" else request.getfixturevalue("pg_database")
    yield made("reports", url, tmp_path)


def test_migrations_are_applied_in_order_and_the_second_run_says_so(reports: World) -> None:
    assert reports.states(status(reports.system, reports.home, reports.folder)) == dict.fromkeys(REPORTS, "pending")
    assert reports.states(reports.apply()) == dict.fromkeys(REPORTS, "applied")
    before = reports.rows("SELECT * FROM report_assets ORDER BY id")
    assert reports.states(reports.apply()) == dict.fromkeys(REPORTS, "already_applied")
    assert reports.states(status(reports.system, reports.home, reports.folder)) == dict.fromkeys(
        REPORTS, "already_applied"
    )
    assert reports.rows("SELECT * FROM report_assets ORDER BY id") == before


def test_dry_run_changes_nothing_and_shows_the_version_map(reports: World) -> None:
    done = reports.apply(dry_run=True)
    assert reports.states(done) == dict.fromkeys(REPORTS, "pending")
    shown = {row["delivery_id"]: (row["version"], bool(row["is_latest"])) for row in done[1].rows}
    assert shown == VERSIONS
    with pytest.raises(Exception, match="archived"):
        reports.rows("SELECT archived FROM report_assets")


def test_backfill_numbers_deliveries_by_their_first_file_and_leaves_rows_without_tracking_id(reports: World) -> None:
    reports.rows(
        "INSERT INTO report_assets (id, tracking_id, delivery_id, file_type, created_at) VALUES "
        "('z', NULL, 'd9', 'pdf', '2025-01-01 00:00:00'), ('y', NULL, 'd8', 'pdf', '2025-01-02 00:00:00')"
    )
    reports.apply("version_columns")
    found = reports.rows("SELECT delivery_id, version, is_latest FROM report_assets WHERE tracking_id IS NOT NULL")
    assert {delivery: (version, bool(latest)) for delivery, version, latest in found} == VERSIONS
    assert len(found) == 11
    untouched = reports.rows("SELECT version, is_latest FROM report_assets WHERE tracking_id IS NULL")
    assert [(version, bool(latest)) for version, latest in untouched] == [(1, True), (1, True)]
    assert reports.rows("SELECT COUNT(*) FROM report_assets_versions WHERE tracking_id IS NULL") == [(0,)]


def test_deliveries_of_one_second_are_ordered_by_their_lowest_id_and_the_newest_stands_in_for_a_complete_one(
    reports: World,
) -> None:
    reports.rows("INSERT INTO profiles VALUES ('T', 'x', '2025-01-01 00:00:00')")
    reports.rows(
        "INSERT INTO report_assets (id, tracking_id, delivery_id, file_type, created_at) VALUES "
        "('b', 'T', 'a-later', 'pdf', '2025-01-01 00:00:00'), ('a', 'T', 'z-earlier', 'pdf', '2025-01-01 00:00:00')"
    )
    reports.apply("version_columns")
    found = reports.rows("SELECT delivery_id, version, is_latest FROM report_assets WHERE tracking_id = 'T' ORDER BY 2")
    assert [(d, v, bool(latest)) for d, v, latest in found] == [("z-earlier", 1, False), ("a-later", 2, True)]


def test_null_counts_as_active_in_the_view(reports: World) -> None:
    reports.apply("archive_columns")
    true = "1" if "sqlite" in reports.url else "true"
    reports.rows(f"UPDATE report_assets SET archived = {true} WHERE delivery_id = 'fallback_1754968421525_o3gbze'")
    reports.rows("UPDATE report_assets SET archived = NULL WHERE tracking_id = 'B2SINGLE'")
    assert reports.rows("SELECT COUNT(*) FROM report_assets_active") == [(9,)]
    assert reports.rows("SELECT COUNT(*) FROM report_assets_active WHERE tracking_id = 'B2SINGLE'") == [(2,)]


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("archived TEXT", "archive_columns"),
        ("archived_at INTEGER", "archive_columns"),
        ("version TEXT", "version_columns"),
        ("is_latest TEXT", "version_columns"),
        ("object_deleted_at TEXT", "object_deleted_at"),
    ],
)
def test_column_of_another_type_is_refused_and_nothing_after_it_runs(reports: World, column: str, name: str) -> None:
    reports.rows(f"ALTER TABLE report_assets ADD COLUMN {column}")
    done = reports.apply()
    assert done[-1].name == name and done[-1].state == "refused"
    assert column.split()[0] in str(done[-1].detail) and "Nothing was changed" in str(done[-1].detail)
    assert [one.state for one in done[:-1]] == ["applied"] * (len(done) - 1)
    refused = reports.states(status(reports.system, reports.home, reports.folder))
    assert refused[name] == "refused"


def test_columns_that_were_added_by_hand_are_completed(reports: World) -> None:
    stamp = "DATETIME" if "sqlite" in reports.url else "TIMESTAMP"
    reports.rows("ALTER TABLE report_assets ADD COLUMN archived BOOLEAN DEFAULT false")
    reports.rows(f"ALTER TABLE report_assets ADD COLUMN archived_at {stamp} DEFAULT NULL")
    reports.rows("ALTER TABLE report_assets ADD COLUMN version INTEGER DEFAULT 1")
    assert reports.states(reports.apply()) == dict.fromkeys(REPORTS, "applied")
    assert reports.rows("SELECT COUNT(*) FROM report_assets_active") == [(11,)]
    assert reports.rows("SELECT MAX(version) FROM report_assets") == [(3,)]


def test_migration_that_fails_in_the_middle_leaves_nothing(reports: World) -> None:
    for file in (reports.folder / "migrations").glob("010_*"):
        file.write_text(file.read_text() + "\nCREATE VIEW broken AS SELECT 1;\nSELECT * FROM nowhere;\n")
    with pytest.raises(SourceUnavailable, match="nowhere"):
        reports.apply()
    for sql in ("SELECT archived FROM report_assets", "SELECT * FROM broken", "SELECT * FROM report_assets_active"):
        with pytest.raises(Exception, match=r"archived|broken|report_assets_active"):
            reports.rows(sql)


def test_migration_that_does_not_make_what_it_says_is_undone(reports: World) -> None:
    reports.apply("archive_columns")
    for file in (reports.folder / "migrations").glob("030_*"):
        file.write_text(file.read_text().replace("ADD COLUMN object_deleted_at", "ADD COLUMN something_else"))
    with pytest.raises(Refused, match="nothing was changed") as caught:
        reports.apply("object_deleted_at")
    assert caught.value.reason == "migration_incomplete"
    with pytest.raises(Exception, match="something_else"):
        reports.rows("SELECT something_else FROM report_assets")


def test_unknown_name_is_refused_with_the_known_ones(reports: World) -> None:
    with pytest.raises(Refused, match="archive_columns, version_columns, object_deleted_at"):
        reports.apply("archive_colums")


KILLED = """
import sys
from pathlib import Path
import yaml
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.retention.migrate import apply
folder, url = Path(sys.argv[1]), sys.argv[2]
system = System.model_validate(yaml.safe_load((folder / "defs.yaml").read_text())["attributes"])
print("begun", flush=True)
apply(system, Home(folder / "home", {system.database.url_env: url}), folder)
"""


def test_killed_in_the_middle_it_leaves_nothing_and_runs_again(tmp_path: Path) -> None:
    world = made("reports", f"sqlite:///{tmp_path / 'reports.db'}", tmp_path)
    file = world.folder / "migrations" / "010_archive_columns.sqlite.sql"
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n;"
    text = file.read_text()
    file.write_text(text + endless)
    process = subprocess.Popen([sys.executable, "-c", KILLED, world.folder, world.url], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    deadline = time.monotonic() + 30
    while not (tmp_path / "reports.db-journal").exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # until it has begun to write
    time.sleep(0.2)
    process.kill()
    process.wait()
    file.write_text(text)
    assert world.states(status(world.system, world.home, world.folder)) == dict.fromkeys(REPORTS, "pending")
    assert world.states(world.apply()) == dict.fromkeys(REPORTS, "applied")


def test_indexes_of_renders_are_made_once(pg_database: str, tmp_path: Path) -> None:
    world = made("renders", pg_database, tmp_path)
    assert world.states(world.apply()) == {"indexes": "already_applied"}  # the demonstration has them
    execute(pg_database, "DROP INDEX idx_user_assets_render_job")
    assert world.states(world.apply()) == {"indexes": "applied"}
    assert world.states(world.apply()) == {"indexes": "already_applied"}


def test_playable_segments_are_the_ready_ones_whose_file_was_seen(pg_database: str, tmp_path: Path) -> None:
    world = made("radio", pg_database, tmp_path)
    expected = {"audio_expired_at": "applied", "asset_health": "applied"}
    assert world.states(world.apply()) == expected
    assert world.states(world.apply()) == dict.fromkeys(expected, "already_applied")
    assert world.rows("SELECT id FROM playable_segments") == []  # nothing was looked at yet
    a = "bbbbbbbb-0000-4000-8000-00000000000"
    world.rows(
        f"INSERT INTO asset_health VALUES ('{a}3', '2025-11-18Z', 'final/{a}3.wav', 'ok', NULL), "
        f"('{a}6', '2025-11-18Z', NULL, 'broken', 'no file'), ('{a}7', '2025-11-18Z', 'final/{a}7.wav', 'ok', NULL)"
    )
    s = "cccccccc-0000-4000-8000-00000000000"
    assert world.rows("SELECT CAST(id AS text) FROM playable_segments") == [(s + "3",)]  # A3-3
    world.rows(f"UPDATE asset_health SET effective_key = 'raw/other.wav' WHERE asset_id = '{a}3'")
    assert world.rows("SELECT id FROM playable_segments") == []  # not a file of this record


def test_table_of_another_shape_is_refused(pg_database: str, tmp_path: Path) -> None:
    world = made("radio", pg_database, tmp_path)
    execute(pg_database, "CREATE TABLE asset_health (asset_id text)")
    assert world.states(world.apply()) == {"audio_expired_at": "applied", "asset_health": "refused"}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("archive.sqlite.sql", "-- x\n-- applied when: SELECT 1\n", "is named"),
        ("010_archive.mysql.sql", "-- x\n-- applied when: SELECT 1\n", "is named"),
        ("040_more.sqlite.sql", "SELECT 1;", "applied when"),
        ("040_more.sqlite.sql", "-- x\nSELECT 1;", "applied when"),
        ("040_more.sqlite.sql", "-- x\n-- applied when: SELECT 1\n-- refuse when: SELECT 1\n", "says why"),
        ("030_more.sqlite.sql", "-- x\n-- applied when: SELECT 1\n", "'30' is used twice"),
        ("040_archive_columns.sqlite.sql", "-- x\n-- applied when: SELECT 1\n", "'archive_columns' is used twice"),
    ],
)
def test_files_that_are_no_migrations_are_named(tmp_path: Path, file: str, text: str, said: str) -> None:
    shutil.copytree(ASSETS / "reports" / "migrations", tmp_path / "migrations")
    (tmp_path / "migrations" / file).write_text(text)
    with pytest.raises(DeclarationError, match=said):
        migrations(tmp_path, "sqlite")


def test_every_shipped_file_says_what_it_is_for() -> None:
    assert migrations(ASSETS / "colouring", "sqlite") == []
    for system in ASSETS.iterdir():
        for dialect in ("sqlite", "postgresql"):
            for migration in migrations(system, dialect):
                assert migration.description.endswith(".") and migration.refusals


def test_a_migration_is_not_applied_before_the_one_it_builds_on(reports: World) -> None:  # S0-36
    with pytest.raises(Refused, match="builds on archive_columns, which is not applied"):
        reports.apply("object_deleted_at")
    assert reports.states(reports.apply(dry_run=True))["object_deleted_at"] == "pending"
    reports.apply("archive_columns")
    assert reports.states(reports.apply("object_deleted_at")) == {"object_deleted_at": "applied"}


def test_what_was_applied_by_hand_out_of_order_is_said(reports: World) -> None:
    reports.rows("ALTER TABLE report_assets ADD COLUMN object_deleted_at TIMESTAMP DEFAULT NULL")
    [said] = out_of_order(status(reports.system, reports.home, reports.folder))
    assert said.startswith("object_deleted_at is applied, but archive_columns, which it builds on, is not: ")
    assert "columns archived and archived_at" in said
    reports.apply("archive_columns")
    assert out_of_order(status(reports.system, reports.home, reports.folder)) == []


def test_a_migration_builds_only_on_one_before_it(reports: World) -> None:
    file = next((reports.folder / "migrations").glob("010_*.sqlite.sql"))
    file.write_text(file.read_text().replace("-- applied when:", "-- after: object_deleted_at\n-- applied when:", 1))
    with pytest.raises(DeclarationError, match="there is no such migration before it"):
        migrations(reports.folder, "sqlite")
