"""A plain table is converted under a new name, and whatever its key or time is."""

import pytest
from psycopg2 import errors

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import open_archive_database
from maintenance_defs.databases.partitions import (
    PartitionedTable,
    convert,
    read_table,
)
from tests.databases.test_partitions_converting import LOGS, NOW, contents, plain
from tests.support.months import TABLE, fill, one, rows
from tests.support.postgres import execute


def test_a_new_name_leaves_a_view_under_the_old_one(pg_database: str) -> None:
    """S4-40: execution_logs becomes execution_log_partitioned, and old statements go on reading and writing."""
    execute(
        pg_database,
        "CREATE ROLE app_c",
        LOGS.replace("logs", "execution_logs"),
        fill(1, name="execution_logs"),
        "GRANT SELECT, INSERT ON execution_logs TO app_c",
    )
    database = open_archive_database(pg_database)
    try:
        done = convert(
            database, "public.execution_logs", "at", now=NOW, target="execution_log_partitioned", default_partition=True
        )
        assert str(done.table) == "public.execution_log_partitioned"
        assert [part.name for part in done.table.partitions] == [
            "execution_logs_legacy",
            "execution_log_partitioned_2024_04",
            "execution_log_partitioned_2024_05",
            "execution_log_partitioned_2024_06",
            "execution_log_partitioned_default",
        ]
        assert convert(database, "public.execution_logs", "at", now=NOW, target="execution_log_partitioned").again
        execute(
            pg_database,
            "SET ROLE app_c",
            "INSERT INTO execution_logs VALUES (7000, '2024-04-05+00', 'j', 'new')",
            "INSERT INTO execution_logs VALUES (7001, '2034-04-05+00', 'j', 'far')",
        )
        assert one(pg_database, "SELECT count(*) FROM execution_logs") == 102
        assert rows(
            pg_database, "SELECT tableoid::regclass::text FROM execution_log_partitioned WHERE id >= 7000 ORDER BY id"
        ) == [("execution_log_partitioned_2024_04",), ("execution_log_partitioned_default",)]
        with pytest.raises(errors.InsufficientPrivilege):
            execute(pg_database, "SET ROLE app_c", "DELETE FROM execution_logs")
    finally:
        execute(pg_database, "DROP OWNED BY app_c", "DROP ROLE app_c")


def test_a_new_name_that_is_taken_is_refused(pg_database: str) -> None:
    database = plain(pg_database, "CREATE TABLE other (id int)")
    with pytest.raises(Refused, match="is there already"):
        convert(database, TABLE, "at", now=NOW, target="other")


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE logs (id int, at timestamptz, job text, line text)",
        "CREATE TABLE logs (id int, at timestamptz, job text, line text, PRIMARY KEY (at, id))",
        "CREATE TABLE logs (id int PRIMARY KEY, at timestamp, job text, line text)",
        "CREATE TABLE logs (id int PRIMARY KEY, at date NOT NULL, job text, line text)",
        "CREATE TABLE logs (line text, job text, at timestamptz, gone int, id int PRIMARY KEY)",
    ],
)
def test_tables_without_a_key_or_with_another_one_or_another_time_are_converted(pg_database: str, table: str) -> None:
    execute(pg_database, table)
    if "gone" in table:
        execute(pg_database, "ALTER TABLE logs DROP COLUMN gone")
    execute(pg_database, fill(1), fill(2).replace("SELECT n,", "SELECT n + 100,"))
    before = contents(pg_database)
    database = open_archive_database(pg_database)
    convert(database, TABLE, "at", now=NOW)
    assert contents(pg_database) == before
    with database.transaction() as connection:
        assert isinstance(read_table(connection, TABLE), PartitionedTable)
    execute(pg_database, "INSERT INTO logs (id, at) VALUES (9000, '2024-04-30'), (9001, '2024-03-31')")
