"""Where the rows are: source databases, read in one consistent read-only snapshot.

Belongs here: how to reach a database, how its dialect says things. Does not: what a row refers to.
"""

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.base import SourceDatabase
from maintenance_defs.databases.d1 import D1Database
from maintenance_defs.databases.generic import GenericDatabase
from maintenance_defs.databases.postgres import PostgresDatabase
from maintenance_defs.databases.sqlite import SqliteDatabase

__all__ = ["open_database"]


def open_database(url: str) -> SourceDatabase:
    """The database of a URL: postgresql[+psycopg2]://…, sqlite:///path, d1://…, or any other SQLAlchemy URL.

    Connects to nothing yet. Raises SourceUnavailable for what is no such URL; the URL is not repeated.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        parsed, backend = None, ""
    # A bare @ in the password: its end would be taken for the host, and shown.
    if parsed is None or (backend != "sqlite" and "@" in f"{parsed.host}{parsed.database}"):
        raise SourceUnavailable(
            "the database URL cannot be read. Write postgresql+psycopg2://user:password@host/database (with "
            "signs such as @ and / in the password percent-encoded), sqlite:///folder/file.db, or "
            "d1://account/database. Nothing was read."
        )
    if backend in ("postgresql", "postgres"):
        return PostgresDatabase(url)
    if backend == "d1":
        return D1Database(url)
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise SourceUnavailable("a SQLite database in memory holds nothing to read; write sqlite:///folder/file.db")
        return SqliteDatabase(Path(parsed.database))
    return GenericDatabase(url)
