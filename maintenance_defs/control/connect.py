"""Opening the control database: which URLs, which settings, and migration under a lock."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from maintenance_defs.core.errors import DeclarationError, SourceUnavailable

VARIABLE = "MAINTENANCE_CONTROL_URL"
BUSY_SECONDS = 120  # longer than the findings of a million objects take to be written
MIGRATION_LOCK = 0x6D61696E74656E  # "mainten": one number for all processes on one PostgreSQL database
VERSION_TABLE = "maintenance_version"
HEAD = "0003"  # the newest of migrations/versions; a test compares


def connect(url: str) -> sa.Engine:
    """An engine on an up-to-date database; an empty one is filled.

    url: sqlite:///<path> or postgresql+psycopg2://…; bare postgresql:// means the latter, since
        SQLAlchemy 2.1 would look for another driver.
    Raises DeclarationError for any other URL, SourceUnavailable if the database does not open or
        was written by a newer version of ours.
    """
    parsed = _parse(url)
    engine = _sqlite(Path(str(parsed.database))) if parsed.get_backend_name() == "sqlite" else _postgres(parsed)
    try:
        with _alone(parsed):
            _migrate(engine)
    except (sa.exc.DBAPIError, OSError) as error:
        engine.dispose()
        why = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error).strip().splitlines()[0]
        raise SourceUnavailable(
            f"the control database {_shown(parsed)} did not open: {why}. "
            f"Nothing was read or written. Check {VARIABLE}.",
            transient=isinstance(error, sa.exc.OperationalError),
        ) from None  # the original carries the URL
    except BaseException:
        engine.dispose()
        raise
    return engine


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # the latter for a port that is no number
        raise DeclarationError([f"{VARIABLE} is not a database URL. Known: {_KNOWN}."]) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg2")
    if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    if parsed.drivername == "postgresql+psycopg2":
        return parsed
    raise DeclarationError([f"{VARIABLE} begins with {parsed.drivername}://, which cannot be used. Known: {_KNOWN}."])


_KNOWN = "sqlite:///<file>, postgresql+psycopg2://<user>:<password>@<host>/<database>"


def _shown(url: sa.URL) -> str:
    """Without user, password and options."""
    return f"{url.host}/{url.database}" if url.host else str(url.database)


def _postgres(url: sa.URL) -> sa.Engine:
    return sa.create_engine(url, pool_pre_ping=True, json_serializer=_json, hide_parameters=True)


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_SECONDS},
        json_serializer=_json,
        hide_parameters=True,  # errors do not print what they were given
    )

    @sa.event.listens_for(engine, "connect")
    def _settings(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we begin ourselves: the module would leave DDL outside
        connection.execute("PRAGMA journal_mode = WAL")  # who reads does not wait for who writes; stays in the file
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a verdict once recorded survives a power cut

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A reader that turns writer fails at once when another has written; so writers say it first.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    return engine


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


@contextmanager
def _alone(url: sa.URL) -> Iterator[None]:
    """No other process of this machine opens the same SQLite file meanwhile.

    SQLite's own waiting does not cover the change to WAL: two processes at once on a new file
    would see "database is locked".
    """
    if url.get_backend_name() != "sqlite":
        yield
        return
    path = Path(f"{url.database}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _migrate(engine: sa.Engine) -> None:
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        current = _revision(connection)
        if current != HEAD:
            from maintenance_defs.control.upgrading import upgrade

            upgrade(connection, current)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one_or_none()
