"""DuckDB as our calculator over Parquet: bounded memory, no extension download, UTC."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from maintenance_defs.core import near_miss
from maintenance_defs.core.errors import ArtefactError
from maintenance_defs.core.quantities import parse_size

MEMORY_LIMIT = "512MB"
THREAD_BYTES = 256_000_000  # of the limit, for each thread: with less, sorts of wide rows fail instead of spilling


@contextmanager
def calculator(temporary: Path, memory_limit: str = MEMORY_LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose tables spill to the folder `temporary`; it knows the macros of `near_miss`."""
    with duckdb.connect(":memory:") as con:
        con.execute("SET enable_progress_bar = false")
        con.execute("SET autoinstall_known_extensions = false")
        con.execute("SET autoload_known_extensions = false")
        con.execute("SET preserve_insertion_order = false")  # lets COPY and INSERT stream
        con.execute("SET TimeZone = 'UTC'")
        limit_memory(con, memory_limit)
        con.execute(f"SET temp_directory = {literal(str(temporary))}")
        near_miss.install(con)
        yield con


def limit_memory(con: duckdb.DuckDBPyConnection, memory_limit: str) -> None:
    """Hold the connection to a limit such as `512MB`, with as many threads as can work within it."""
    threads = max(1, min(os.cpu_count() or 1, parse_size(memory_limit) // THREAD_BYTES))
    con.execute(f"SET memory_limit = {literal(memory_limit)}")
    con.execute(f"SET threads = {threads}")


def one(con: duckdb.DuckDBPyConnection, sql: str, values: dict[str, Any] | None = None) -> tuple[Any, ...]:
    """The single row of a query."""
    row = con.execute(sql, values).fetchone()
    if row is None:
        raise ArtefactError(f"a query that always answers gave no row: {sql}")
    return tuple(row)


def literal(value: str | Path | None) -> str:
    """Text as an SQL literal, where a parameter cannot stand: views, file names, CREATE TABLE AS."""
    if value is None:
        return "NULL::VARCHAR"
    text = str(value)
    if "\0" in text:
        raise ValueError("SQL text cannot hold a NUL character")
    return "'" + text.replace("'", "''") + "'"


def instant(at: datetime) -> str:
    """An aware instant as an SQL literal."""
    return f"TIMESTAMPTZ '{at.astimezone(UTC).isoformat(sep=' ')}'"


def written_instant(column: str) -> str:
    """SQL that writes a TIMESTAMPTZ as 2024-01-15T03:00:00Z."""
    return f"strftime({column}, '%Y-%m-%dT%H:%M:%SZ')"
