"""A table of months with rows in them, and what its tests ask of it over and over."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import psycopg2
import pyarrow as pa
import pytest
from sqlalchemy import Connection

from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from maintenance_defs.databases.partitions import Parked, Partition, PartitionedTable, read_partitioned
from tests.support.postgres import connect, execute

TABLE = "public.logs"
CREATE = """
CREATE TABLE public.logs (id bigint NOT NULL, at timestamptz NOT NULL, job text, line text,
  PRIMARY KEY (id, at)) PARTITION BY RANGE (at)
"""


@dataclass(frozen=True)
class Counted:
    """Contents, by the row text of one relation."""

    rows: int
    total: str


def month(number: int, name: str = "logs") -> str:
    """CREATE of one month of 2024."""
    upper = "2025-01-01" if number == 12 else f"2024-{number + 1:02d}-01"
    return (
        f"CREATE TABLE public.{name}_2024_{number:02d} PARTITION OF public.{name} "
        f"FOR VALUES FROM ('2024-{number:02d}-01 00:00+00') TO ('{upper} 00:00+00')"
    )


def fill(number: int, rows: int = 100, name: str = "logs") -> str:
    """Rows of one month of 2024, spread over its first 27 days."""
    return (
        f"INSERT INTO public.{name} (id, at, job, line) SELECT n, timestamptz '2024-{number:02d}-01 00:00+00' + n * "
        f"interval '27 days' / {rows}, 'job ' || n % 7, 'line ' || n FROM generate_series(0, {rows - 1}) n"
    )


def months(url: str, *numbers: int, rows: int = 100) -> ArchiveDatabase:
    """public.logs with these months of 2024 and so many rows in each."""
    statements = [CREATE]
    for number in numbers:
        statements += [month(number), fill(number, rows)]
    execute(url, *statements)
    return open_archive_database(url)


def read(database: ArchiveDatabase, table: str = TABLE) -> PartitionedTable:
    with database.transaction() as connection:
        return read_partitioned(connection, table)


def part(database: ArchiveDatabase, name: str = "logs_2024_01", table: str = TABLE) -> Partition:
    return next(one for one in read(database, table).partitions if one.name == name)


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())
    finally:
        connection.close()


def one(url: str, sql: str) -> Any:
    return rows(url, sql)[0][0]


def counted(connection: Connection, parked: Parked) -> Counted:
    return count_of(connection, parked.qualified)


def count_of(connection: Connection, relation: str) -> Counted:
    sql = f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {relation} t"
    found = connection.exec_driver_sql(sql).one()
    return Counted(found[0], found[1])


def hashed(database: ArchiveDatabase, relation: str, keys: list[str], where: str = "true") -> pa.RecordBatch:
    """The list that delete_rows takes, of the relation as it is now."""
    shown = ", ".join(f"t.{key}::text AS {key}" for key in keys)
    with database.transaction() as connection:
        found = connection.exec_driver_sql(
            f"SELECT {shown}, hashtextextended(t::text, 0) AS hash FROM {relation} t WHERE {where} ORDER BY {keys[0]}",
            execution_options={"no_parameters": True},
        ).all()
    types = [pa.string()] * len(keys) + [pa.int64()]
    arrays = [pa.array([row[n] for row in found], kind) for n, kind in enumerate(types)]
    return pa.RecordBatch.from_arrays(arrays, [*keys, "hash"])


@contextmanager
def overheard(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the server says about its own work (debug1) in every session that is opened meanwhile."""
    said: list[str] = []
    heard = SimpleNamespace(append=said.append)  # of a list of its own the driver keeps only the end
    real = psycopg2.connect

    def connected(*arguments: Any, **named: Any) -> Any:
        connection = real(*arguments, **named)
        connection.notices = heard
        return connection

    execute(url, f"ALTER DATABASE {one(url, 'SELECT current_database()')} SET client_min_messages = debug1")
    with monkeypatch.context() as patched:
        patched.setattr(psycopg2, "connect", connected)
        yield said


@contextmanager
def session(url: str, *statements: str) -> Iterator[Any]:
    """A transaction of the application that stays open: the cursor, after these statements."""
    connection = connect(url)
    connection.autocommit = False
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            yield cursor
        connection.rollback()
    finally:
        connection.close()


def until_it_waits(url: str, thread: threading.Thread, lock: str) -> None:
    """Start the thread and return once it waits for a lock; lock: a condition on pg_locks."""
    thread.start()
    deadline = time.monotonic() + 20
    while not one(url, f"SELECT count(*) FROM pg_locks WHERE NOT granted AND {lock}"):
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.01)
