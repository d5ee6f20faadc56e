"""SQLite files: opened read-only, one read transaction held while everything is read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote as url_quote

import pyarrow as pa

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.schemas import NOT_UTF8
from maintenance_defs.databases import columnar
from maintenance_defs.databases.base import DatabaseEvidence, Table
from maintenance_defs.databases.statements import for_driver, name_parts, quote

BUSY_SECONDS = 30.0  # a writer that commits in rollback-journal mode keeps readers out for a moment

# 'YYYY-MM-DD…' as SQLite reads it (with 'Z' or '+hh:mm' too), or a number of seconds, milliseconds or
# microseconds since 1970; anything else is NULL. Bare numbers in text would be Julian days: excluded.
INSTANT_SQL = """CASE
    WHEN typeof({0}) = 'text' AND {0} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
        THEN strftime('%Y-%m-%d %H:%M:%f', {0})
    WHEN typeof({0}) IN ('integer', 'real')
        THEN strftime('%Y-%m-%d %H:%M:%f', {0} / CASE
            WHEN abs({0}) >= 1e14 THEN 1000000.0 WHEN abs({0}) >= 1e11 THEN 1000.0 ELSE 1.0 END, 'unixepoch')
    END"""


class SqliteDatabase:
    """One SQLite file."""

    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.display_url = f"sqlite:///{path}"

    def __repr__(self) -> str:
        return f"SqliteDatabase({self.display_url!r})"

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        """See SourceDatabase. A missing file is SourceUnavailable and is not created.

        Without a write-ahead log, writers cannot commit while the snapshot is held.
        """
        try:
            path = self._path.resolve(strict=True)
        except OSError:
            raise SourceUnavailable(f"{self.display_url} does not exist. Nothing was read or created.") from None
        taken_at = datetime.now(UTC)  # the file has no clock of its own: this machine's, before the transaction
        with self._explained():
            # A stream may be read by another thread than the one that opened it, never by two at once.
            connection = sqlite3.connect(
                f"file:{url_quote(str(path))}?mode=ro",
                uri=True,
                isolation_level=None,
                timeout=BUSY_SECONDS,
                check_same_thread=False,
            )
        with closing(connection):
            connection.text_factory = text_of
            with self._explained():
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # only a read takes the snapshot
            yield SqliteSnapshot(
                connection,
                self._explained,
                DatabaseEvidence(
                    identity=f"sqlite:{path}",
                    version=f"SQLite {sqlite3.sqlite_version}",
                    taken_at=taken_at,
                    # An uncommitted writer cannot be seen. There is at most one, and as long as it is open
                    # it keeps every other writer out: one that outlives `in_flight` stops the application.
                    oldest_transaction_at=None,
                    oldest_transaction_known=True,
                ),
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", "") or ""
            raise SourceUnavailable(
                f"{self.display_url} could not be read: {error}. Nothing was concluded from it.",
                transient=code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")),
            ) from None


class SqliteSnapshot:
    """See Snapshot. Blobs in text columns are read as the text their bytes spell.

    Text that is not UTF-8 comes as NOT_UTF8 followed by its bytes, the wrong ones as \\xNN: visible, and never
    equal to a key by accident.
    """

    dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection, explained: Any, evidence: DatabaseEvidence) -> None:
        self.evidence = evidence
        self._connection = connection
        self._explained = explained

    def table(self, name: str) -> Table | None:
        schema, table = name_parts(name)
        if schema not in (None, "main"):
            return None
        # SQLite compares names without case, and so do the statements that will use them.
        return next((t for _, t in self._relations if t.name.lower() == table.lower()), None)

    def tables(self) -> list[Table]:
        return [table for kind, table in self._relations if kind == "table"]

    @cached_property
    def _relations(self) -> list[tuple[str, Table]]:
        found: dict[str, tuple[str, Table]] = {}
        sql = (
            "SELECT s.type, s.name, c.name, c.type FROM sqlite_schema s, pragma_table_xinfo(s.name) c "
            "WHERE s.type IN ('table', 'view') AND s.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND c.hidden <> 1 "
            "ORDER BY s.name, c.cid"
        )
        with self._explained():
            for kind, name, column, column_type in self._connection.execute(sql):
                _, table = found.setdefault(name, (kind, Table(None, name, {})))
                table.columns[column] = column_type
        return list(found.values())

    def quote(self, identifier: str) -> str:
        return quote(identifier)

    def as_text(self, column: str, type_name: str) -> str:
        return f"CAST({column} AS TEXT)"

    def as_instant(self, column: str, type_name: str) -> str:
        return f"({INSTANT_SQL.format(column)} {columnar.INSTANT})"

    def by_key_bytes(self, expression: str) -> str:
        return f"({expression}) COLLATE BINARY"

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> pa.RecordBatchReader:
        statement, values = for_driver(sql, [bound(value) for value in parameters], "qmark")
        with self._explained():
            cursor = self._execute(statement, values)

            def fetch(rows: int) -> list[tuple[Any, ...]]:
                with self._explained():
                    return cursor.fetchmany(rows)

            return columnar.reader([column[0] for column in cursor.description], sql, fetch, cursor.close)

    def rows(self, sql: str, parameters: dict[str, Any] | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        said = {name: bound(value) for name, value in (parameters or {}).items()}
        statement, values = for_driver(sql, said, "named")
        with self._explained(), closing(self._execute(statement, values)) as cursor:
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchmany(limit)]

    def _execute(self, statement: str, values: Any) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)


def text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return NOT_UTF8 + value.decode("utf-8", "backslashreplace")


def bound(value: Any) -> Any:
    """Instants as as_instant() writes them, so that the two compare as text."""
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.strftime("%Y-%m-%d %H:%M:%S.") + f"{aware.microsecond // 1000:03d}"
    return value
