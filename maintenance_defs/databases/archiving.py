"""PostgreSQL as the source of an archive: row text that never changes with a session, and sessions that may write.

The text of a row (`t::text`) depends on settings; what is compared on two days must be written in one way (A12).
Every setting is local to its transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.pool import NullPool

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.postgres import CONNECT_SECONDS, SETTINGS, PostgresDatabase, set_local

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

        Raises SourceUnavailable (transient where trying again may help, as after a lock timeout).
        """
        with self._explained(), self._engine().connect() as connection, connection.begin():
            connection.exec_driver_sql(set_local(self.settings | {"lock_timeout": lock_timeout}))
            yield connection

    @contextmanager
    def autocommit(self, name: str = "maintenance archive") -> Iterator[Connection]:
        """A session in which each statement is a transaction of its own, as DETACH CONCURRENTLY needs (D60).

        Nothing is set in it: behind a pooler a setting would stay for the application.
        """
        with self._explained(), self._engine(name).connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def _engine(self, name: str = "maintenance archive") -> Engine:
        return create_engine(
            self._url,
            poolclass=NullPool,
            connect_args={
                "connect_timeout": CONNECT_SECONDS, "application_name": name, "client_encoding": "UTF8",
            },
        )  # fmt: skip


def open_archive_database(url: str) -> ArchiveDatabase:
    """Raises SourceUnavailable for another kind of database."""
    if make_url(url).get_backend_name() not in ("postgresql", "postgres"):
        raise SourceUnavailable("archives are made from PostgreSQL databases only. Nothing was read.")
    return ArchiveDatabase(url)
