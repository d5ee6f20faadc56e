"""PostgreSQL as the source of an archive: row text that never changes with a session, and sessions that may write.

The text of a row (`t::text`) depends on settings; what is compared on two days must be written in one way (A12).
Every setting is local to its transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
from adbc_driver_postgresql import dbapi as adbc
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from maintenance_defs.core.errors import RowSecurity, SourceUnavailable
from maintenance_defs.databases.postgres import CONNECT_SECONDS, SETTINGS, PostgresDatabase, set_local
from maintenance_defs.databases.statements import for_driver

PINNED = {
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "search_path": "pg_catalog",  # every name of ours is qualified; regclass and the like write theirs in full
}
LOCK_TIMEOUT = "2s"  # nothing of the application queues behind a statement of ours for longer (V9)


class ArchiveDatabase(PostgresDatabase):
    """One PostgreSQL database, opened for archiving. `snapshot()` reads; `transaction()` and `autocommit()` write."""

    settings = SETTINGS | PINNED

    @contextmanager
    def transaction(self, *, lock_timeout: str = LOCK_TIMEOUT) -> Iterator[Connection]:
        """One transaction with every setting pinned; commits at the end, rolls back when an error leaves it.

        Raises SourceUnavailable (transient where trying again may help, as after a lock timeout). It says so when
        the answer to COMMIT was lost: then nothing is known until somebody looks.
        """
        with self._changing(), self._engine().connect() as connection:
            with ExitStack() as open_:
                transaction = open_.enter_context(connection.begin())
                connection.exec_driver_sql(set_local(self.settings | {"lock_timeout": lock_timeout}))
                yield connection
                open_.pop_all()
            try:
                transaction.commit()
            except OperationalError as error:
                if getattr(error.orig, "pgcode", None):
                    raise
                raise SourceUnavailable(
                    f"the connection to {self.display_url} was lost while a transaction committed: it may have taken "
                    f"effect. Run again: what it left is looked at first.",
                    transient=True,
                ) from None

    @contextmanager
    def autocommit(
        self, name: str = "maintenance archive", settings: Mapping[str, str] | None = None
    ) -> Iterator[Connection]:
        """A session in which each statement is a transaction of its own, as CREATE INDEX CONCURRENTLY needs (D60).

        settings: in force from the start of the session. They travel with the connection, never in a statement:
            behind a pooler a statement's setting would stay for the application (D59, L10).
        """
        with self._changing(), self._engine(name, settings).connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def loading(self) -> Iterator[LoadingSession]:
        """One transaction that takes streams of record batches; commits at the end, else nothing has happened.

        Raises SourceUnavailable (transient where trying again may help).
        """
        with self.bulk_session("maintenance archive") as connection:
            with self._explained(), connection.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute(set_local(self.settings))
                cursor.fetchall()
            session = LoadingSession(self, connection)
            yield session
            session.run("COMMIT")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The drivers' errors as ours, in the words of a change."""
        try:
            with self._explained():
                yield
        except RowSecurity:
            raise
        except SourceUnavailable as error:
            said = str(error).replace("could not be read: ", "could not be changed: ")
            said = said.replace("Nothing was concluded from it.", "The statement was undone.")
            raise SourceUnavailable(said, transient=error.transient) from None

    def _engine(self, name: str = "maintenance archive", settings: Mapping[str, str] | None = None) -> Engine:
        arguments: dict[str, object] = {
            "connect_timeout": CONNECT_SECONDS, "application_name": name, "client_encoding": "UTF8",
        }  # fmt: skip
        if settings:
            given = self._url.query.get("options", "")
            ours = [f"-c {key}={value}" for key, value in settings.items()]
            arguments["options"] = " ".join([given if isinstance(given, str) else " ".join(given), *ours]).strip()
        return create_engine(self._url, poolclass=NullPool, connect_args=arguments)


class LoadingSession:
    """Rows into a database. What has not been committed when the session ends was never there."""

    def __init__(self, database: ArchiveDatabase, connection: adbc.Connection) -> None:
        self._database = database
        self._connection = connection

    def run(self, sql: str) -> None:
        """One statement without parameters."""
        with self._database._explained(), self._connection.cursor() as cursor:
            cursor.execute(sql)

    def take(self, table: str, batches: pa.RecordBatchReader) -> int:
        """Append the stream to a temporary table; answers how many rows."""
        with self._database._explained(), self._connection.cursor() as cursor:
            return int(cursor.adbc_ingest(table, batches, mode="append", temporary=True))

    def read(self, sql: str) -> pa.RecordBatchReader:
        """A whole answer, of numbers, instants and texts."""
        with self._database._explained(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            found = cursor.fetch_arrow_table()
        return pa.table(found).to_reader()

    def rows(self, sql: str, parameters: dict[str, Any] | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        """A small answer; parameters are whole numbers and texts."""
        statement, values = for_driver(sql, parameters or {}, "pyformat")
        written = {name: str(v) if isinstance(v, int) else as_literal(v) for name, v in dict(values).items()}
        return list(self.read(statement % written if written else statement).read_all().slice(0, limit).to_pylist())


def as_literal(value: str) -> str:
    """Text as a PostgreSQL literal, whatever standard_conforming_strings says."""
    if "\0" in value:
        raise SourceUnavailable("a text of PostgreSQL cannot hold a zero byte. Nothing was read.")
    quoted = value.replace("'", "''")
    return " E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"


def open_archive_database(url: str) -> ArchiveDatabase:
    """Raises SourceUnavailable for another kind of database."""
    if make_url(url).get_backend_name() not in ("postgresql", "postgres"):
        raise SourceUnavailable("archives are made from PostgreSQL databases only. Nothing was read.")
    return ArchiveDatabase(url)
