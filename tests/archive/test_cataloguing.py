"""The application's own catalogue of archived rows: written once per value and file, in any number."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from maintenance_defs.archive.units.cataloguing import Entry, entry_id, remove_catalogue, write_catalogue
from maintenance_defs.core.archive import Catalogue
from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from tests.support.postgres import connect, execute

AT = datetime(2025, 10, 31, 23, 59, 59, 999999, tzinfo=UTC)
TABLE = """CREATE TABLE logs (id TEXT PRIMARY KEY, job_id VARCHAR(40) NOT NULL, "Org Id" TEXT NOT NULL,
  archive_blob_url TEXT NOT NULL, record_count INT NOT NULL, compressed_size BIGINT NOT NULL,
  start_date TIMESTAMPTZ NOT NULL, end_date TIMESTAMPTZ NOT NULL, archived_at TIMESTAMPTZ NOT NULL, note TEXT)"""
CATALOGUE = Catalogue.model_validate({
    "table": "public.logs", "url": "https://acme.example/archive/{key}", "migration": "add_archival_tables",
    "columns": {"id": "id", "job_id": "value", "Org Id": "organisation", "archive_blob_url": "url",
                "record_count": "rows", "compressed_size": "size_bytes", "start_date": "first_at",
                "end_date": "last_at", "archived_at": "archived_at"},
})  # fmt: skip
ENTRY = Entry("file1", "job-1", "org", "execution_log/org=org/month=2025-10/g0-ab c%.parquet", 2, 900, AT, AT, AT)


@pytest.fixture
def database(pg_database: str) -> ArchiveDatabase:
    execute(pg_database, TABLE)
    return open_archive_database(pg_database)


def rows(url: str, sql: str = "SELECT * FROM logs ORDER BY job_id") -> list[tuple[Any, ...]]:
    with connect(url).cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def test_an_entry_is_written_as_declared_and_writing_it_again_changes_nothing(
    database: ArchiveDatabase, pg_database: str
) -> None:
    """S4-45, V4."""
    for _ in range(2):
        with database.transaction() as connection:
            assert write_catalogue(connection, CATALOGUE, [ENTRY]) == 1
    url = "https://acme.example/archive/execution_log/org=org/month=2025-10/g0-ab%20c%25.parquet"
    assert rows(pg_database) == [(entry_id("file1", "job-1"), "job-1", "org", url, 2, 900, AT, AT, AT, None)]


def test_an_entry_that_differs_is_made_equal_and_other_columns_stay(
    database: ArchiveDatabase, pg_database: str
) -> None:
    with database.transaction() as connection:
        write_catalogue(connection, CATALOGUE, [ENTRY])
    execute(pg_database, "UPDATE logs SET note = 'theirs', record_count = 7")
    with database.transaction() as connection:
        write_catalogue(connection, CATALOGUE, [ENTRY])
    assert rows(pg_database, "SELECT record_count, note FROM logs") == [(2, "theirs")]


def test_values_of_two_files_are_two_rows_and_go_one_by_one(database: ArchiveDatabase, pg_database: str) -> None:
    other = replace(ENTRY, file_id="file2")
    with database.transaction() as connection:
        write_catalogue(connection, CATALOGUE, [ENTRY, other])
        assert remove_catalogue(connection, CATALOGUE, [ENTRY.id, "unknown"]) == 1
    assert rows(pg_database, "SELECT id FROM logs") == [(other.id,)]


def test_fifty_thousand_entries_stream_through(database: ArchiveDatabase, pg_database: str) -> None:
    def entries() -> Iterator[Entry]:
        return (replace(ENTRY, value=f"job-{n}") for n in range(50_000))

    tracemalloc.start()
    with database.transaction() as connection:
        assert write_catalogue(connection, CATALOGUE, entries()) == 50_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert remove_catalogue(connection, CATALOGUE, (e.id for e in entries() if e.value != "job-7")) == 49_999
    assert peak < 32 << 20
    assert rows(pg_database, "SELECT job_id FROM logs") == [("job-7",)]


def test_a_missing_table_or_column_is_refused_by_the_name_of_its_migration(
    database: ArchiveDatabase, pg_database: str
) -> None:
    execute(pg_database, 'ALTER TABLE logs RENAME COLUMN "Org Id" TO organization')
    for what in ("column Org Id of public.logs", "table public.logs"):
        said = pytest.raises(Refused, match=f"{what}.*apply migration add_archival_tables")
        with said as refused, database.transaction() as connection:
            write_catalogue(connection, CATALOGUE, [ENTRY])
        assert refused.value.reason == "migration_missing"
        execute(pg_database, "DROP TABLE IF EXISTS logs")


def test_a_number_too_large_for_its_column_is_an_error(database: ArchiveDatabase, pg_database: str) -> None:
    with pytest.raises(SourceUnavailable, match="out of range"), database.transaction() as connection:
        write_catalogue(connection, CATALOGUE, [replace(ENTRY, rows=1 << 40)])
    assert rows(pg_database) == []
