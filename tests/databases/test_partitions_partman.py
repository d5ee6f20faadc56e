"""A table whose months pg_partman makes: it makes them, we take them out, and neither minds the other (D64).

The extension is in no wheel: `apt-get install postgresql-15-partman`, then --pg=system; skipped in sight elsewhere.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from maintenance_defs.databases.partitions import Partition, create_ahead, detach, park, preflight
from tests.support.months import CREATE, TABLE, one, read, rows
from tests.support.postgres import execute


@pytest.fixture(params=[False, True], ids=["", "with default"])
def managed(request: pytest.FixtureRequest, pg_database: str) -> str:
    """public.logs, made by pg_partman with months behind and ahead of now, which it would drop after a week."""
    try:
        execute(pg_database, "CREATE SCHEMA partman", "CREATE EXTENSION pg_partman SCHEMA partman")
    except (psycopg2.errors.UndefinedFile, psycopg2.errors.FeatureNotSupported) as error:
        pytest.skip(f"this server has no pg_partman: {str(error).splitlines()[0]}")
    major = int(one(pg_database, "SELECT extversion FROM pg_extension WHERE extname = 'pg_partman'").split(".")[0])
    how = "p_type := 'native', p_interval := 'monthly'" if major < 5 else "p_interval := '1 month'"
    execute(
        pg_database,
        CREATE,
        f"SELECT partman.create_parent(p_parent_table := 'public.logs', p_control := 'at', p_premake := 3, {how})",
        "INSERT INTO logs SELECT n, now() - n * interval '1 day' FROM generate_series(0, 75) n",
        "UPDATE partman.part_config SET retention = '7 days', retention_keep_table = false",
    )
    if not request.param:
        execute(
            pg_database, "DROP TABLE logs_default" if one(pg_database, "SELECT to_regclass('logs_default')") else ""
        )
    return pg_database


def attached(database: ArchiveDatabase) -> list[str]:
    return [one.name for one in read(database).partitions]


def cold(database: ArchiveDatabase) -> Partition:
    """The last month that ended 30 days ago."""
    month_ago = datetime.now(UTC) - timedelta(days=30)
    return [one for one in read(database).partitions if one.upper and one.upper <= month_ago][-1]


def test_what_is_said_of_its_retention_is_all_that_has_to_be_run(managed: str) -> None:
    database = open_archive_database(managed)
    month = cold(database)
    with database.transaction() as connection:
        (obstacle,) = preflight(connection, read(database), month)
    assert obstacle.code == "partman"
    execute(managed, obstacle.message.partition("Run: ")[2])
    with database.transaction() as connection:
        assert preflight(connection, read(database), month) == []
    before = attached(database)
    execute(managed, "SELECT partman.run_maintenance('public.logs')")
    assert set(attached(database)) >= set(before)  # it removes nothing any more


def test_it_goes_on_making_months_while_ours_leave(managed: str) -> None:
    execute(managed, "UPDATE partman.part_config SET retention = NULL")
    database = open_archive_database(managed)
    table, month = read(database), cold(database)
    held = one(managed, f"SELECT count(*) FROM {month.qualified}")
    assert held > 0
    detach(database, TABLE, month, lane_of="u1")
    park(database, table, month, "u1")
    execute(
        managed,
        "UPDATE partman.part_config SET premake = 6",
        "SELECT partman.run_maintenance('public.logs')",
        f"INSERT INTO logs VALUES (1000, '{month.lower}')",  # late
    )
    after = read(database)
    latest = max(one.upper for one in after.partitions if one.upper)
    assert latest > max(one.upper for one in table.partitions if one.upper)  # it made more
    assert after.by_oid(month.oid) is None  # and did not bring back ours
    assert one(managed, f"SELECT count(*) FROM maintenance_archive.{month.name}") == held
    assert rows(managed, "SELECT count(*) FROM logs WHERE id = 1000") == [(1,)]
    made = create_ahead(database, TABLE, 12, datetime.now(UTC))
    assert (made.created, [note.code for note in made.notes]) == ((), ["partman"])
