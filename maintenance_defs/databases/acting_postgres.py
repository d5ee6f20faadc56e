"""PostgreSQL rows, changed under lock. Every setting is local to the transaction, as poolers need it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import errors
from sqlalchemy import URL, make_url

from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases import acting_rows, acting_undo
from maintenance_defs.databases.acting import RowDone, RowImage
from maintenance_defs.databases.acting_cascades import postgres_cascades
from maintenance_defs.databases.acting_rows import Column, Looked, RowError, Target
from maintenance_defs.databases.postgres import (
    CONNECT_SECONDS,
    RELATIONS,
    SET_LOCAL,
    PostgresDatabase,
    as_text,
    explained,
)
from maintenance_defs.databases.row_ids import IdColumn, by_texts, condition
from maintenance_defs.databases.statements import for_driver, name_parts, quote

SETTINGS = {
    "row_security": "off",  # an error instead of rows hidden in silence (A07)
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "idle_in_transaction_session_timeout": "60s",  # a worker that hangs lets its locks go
}
ASKED_AGAIN, ASKED_EVERY = 20, 0.1  # times, seconds: what became of a commit
IMPATIENT = "200ms"
REFERENCED = (errors.ForeignKeyViolation, errors.RestrictViolation)
LOCKS = (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected)
# The role's own search path serves the predicate and the triggers, but no temporary table shadows a name.
SEARCH_PATH = "SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), " \
    "'pg_temp'), true)"  # fmt: skip
# Types are named so that they mean the same whatever the search path is.
COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attgenerated <> ''
  FROM pg_attribute WHERE attrelid = CAST(%s AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


class ActingPostgres:
    """See ActingDatabase."""

    dialect = "postgresql"

    def __init__(self, url: str, lock_seconds: float, statement_seconds: float) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg2")
        self._waits = {
            "lock_timeout": f"{int(lock_seconds * 1000)}ms",
            "statement_timeout": f"{int(statement_seconds * 1000)}ms",
        }
        self.display_url = PostgresDatabase(url).display_url

    def __repr__(self) -> str:
        return f"ActingPostgres({self.display_url!r})"

    def images(self, table: str, id_columns: Sequence[str], row_ids: Sequence[str]) -> dict[str, RowImage]:
        with self._session(read_only=True) as session:
            rows = session.look(session.target(table, id_columns), row_ids).rows
            return acting_rows.only_ones(table, row_ids, rows)

    def delete(
        self,
        table: str,
        id_columns: Sequence[str],
        images: Sequence[RowImage],
        where: str,
        parameters: Mapping[str, Any],
        *,
        rehearse: bool = False,
    ) -> list[RowDone]:
        with self._session() as session:
            return acting_rows.change(session, table, id_columns, images, where, parameters, None, rehearse=rehearse)

    def update(
        self,
        table: str,
        id_columns: Sequence[str],
        images: Sequence[RowImage],
        where: str,
        parameters: Mapping[str, Any],
        values: Mapping[str, Mapping[str, Any]],
    ) -> list[RowDone]:
        with self._session() as session:
            return acting_rows.change(session, table, id_columns, images, where, parameters, values)

    def has(self, table: str, id_columns: Sequence[str], row_id: str, values: Mapping[str, Any]) -> bool:
        with self._session(read_only=True) as session:
            return session.has(session.target(table, id_columns), [row_id], values).get(row_id, False)

    def restore(self, images: Sequence[RowImage]) -> list[RowDone]:
        with self._session() as session:
            return acting_undo.restore(session, images)

    def revert(self, before: Sequence[RowImage], after: Sequence[RowImage]) -> list[RowDone]:
        with self._session() as session:
            return acting_undo.revert(session, before, after)

    def cascades(self, table: str, id_columns: Sequence[str], row_ids: Sequence[str]) -> dict[str, int]:
        with self._session(read_only=True) as session:
            target = session.target(table, id_columns)
            return postgres_cascades(session.rows, target, session.these(target, row_ids))

    @contextmanager
    def script(self, *, read_only: bool = False) -> Iterator[PostgresSession]:
        with self._session(read_only) as session:
            yield session
            doubt = None if read_only else session.commit()
            if doubt is not None:
                raise SourceUnavailable(f"{self.display_url} could not be changed: {doubt[1]}.")

    @contextmanager
    def _session(self, read_only: bool = False) -> Iterator[PostgresSession]:
        parts: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "maintenance act",
            **self._url.translate_connect_args(database="dbname", username="user"),
            **self._url.query,
            "client_encoding": "UTF8",
        }

        def connected() -> Any:
            connection = psycopg2.connect(**parts)
            connection.autocommit = True  # BEGIN and COMMIT are statements of ours
            return connection

        with acting_explained(self.display_url, self._url):
            connection = connected()
            try:
                session = PostgresSession(connection, self._waits, read_only, connected)
                yield session
            finally:
                connection.close()  # rolls back what was not committed


class PostgresSession:
    """See Session."""

    def __init__(self, connection: Any, waits: Mapping[str, str], read_only: bool, connected: Any) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._connected = connected
        self._cursor.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED {'READ ONLY' if read_only else 'READ WRITE'}")
        settings = {**SETTINGS, **waits}
        self.rows(SET_LOCAL.format(", ".join(f"('{name}', '{value}')" for name, value in settings.items())))
        self.rows(SEARCH_PATH)
        if not read_only:  # what would be refused at the end is refused at its statement, for its row
            self._cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def rows(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql, parameters)
        return list(self._cursor.fetchall())

    def bound(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> str:
        """The SQL with its parameters quoted into it, to be executed without any."""
        statement, values = for_driver(f"SELECT {sql}", parameters, "pyformat")
        return (self._cursor.mogrify(statement, values).decode() if values else statement)[len("SELECT ") :]

    def ask(self, sql: str) -> list[dict[str, Any]]:
        rows = self.rows(sql)
        names = [column.name for column in self._cursor.description]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def run(self, sql: str) -> None:
        self._cursor.execute(sql)

    def target(self, table: str, id_columns: Sequence[str]) -> Target:
        schema, name = name_parts(table)
        named = RELATIONS.format(which="c.relname = %s")
        relations = self.rows(f'SELECT schema, kind, "column", type FROM ({named}) r', [name])
        relations = [row for row in relations if schema in (None, row[0])]
        schemas = sorted({row[0] for row in relations})
        if len(schemas) != 1:
            fits = " and ".join(f"{schema}.{name}" for schema in schemas)
            found = f"fits {fits}; write the schema" if schemas else "is not there"
            raise SourceUnavailable(f"table {table!r} {found}. Nothing was changed.")
        if schemas == ["storage"]:
            raise Refused(
                "storage_schema",
                f"{table} belongs to the storage service: its rows are never changed by SQL, the objects would be left "
                f"behind unseen. Nothing was changed; delete the objects through the store.",
            )
        if relations[0][1] not in ("r", "p"):
            raise Refused("no_table", f"{table} is no table whose rows can be changed. Nothing was changed.")
        types = {row[2]: row[3] for row in relations}
        unknown = [column for column in id_columns if column not in types]
        if unknown or not id_columns:
            what = ", ".join(unknown) or "to tell its rows by"
            raise SourceUnavailable(f"table {table} has no column {what}. Nothing was changed.")
        sql = f"{quote(schemas[0])}.{quote(name)}"
        path = self.rows("SELECT current_setting('search_path'), set_config('search_path', 'pg_catalog', true)")[0][0]
        columns = [
            Column(column, type_name, _lossless(quote(column), types[column]), generated, types[column])
            for column, type_name, generated in self.rows(COLUMNS, [sql])
        ]
        self.rows("SELECT set_config('search_path', %s, true)", [path])
        ids = [IdColumn(quote(c), types[c], as_text(quote(c), types[c])) for c in id_columns]
        return Target(table, sql, tuple(columns), tuple(id_columns), tuple(ids))

    def predicate(self, where: str, parameters: Mapping[str, Any]) -> str:
        return self.bound(f"(({where}\n) IS TRUE)", parameters)

    def these(self, target: Target, row_ids: Sequence[str]) -> str:
        """The condition that is true for these rows."""
        return self.bound(*condition("postgresql", target.ids, row_ids))

    def look(self, target: Target, row_ids: Sequence[str], predicate: Any = None, lock: bool = False) -> Looked:
        if not row_ids:
            return Looked({})
        ids = [column.text for column in target.ids]
        shown = ", ".join([*ids, *(column.text for column in target.columns), str(predicate or "true")])
        sql = f"SELECT {shown} FROM {target.sql} WHERE {self.these(target, row_ids)}"
        busy: frozenset[str] = frozenset()
        try:
            with self._savepoint():
                found = self.rows(f"{sql} FOR UPDATE" if lock else sql)
        except LOCKS as error:
            if not lock:
                raise
            self.impatient()
            with self.savepoint(_words(error)):
                found = self.rows(f"{sql} FOR UPDATE SKIP LOCKED")
                there = self.rows(f"SELECT {', '.join(ids)} FROM {target.sql} WHERE {self.these(target, row_ids)}")
            asked = by_texts(row_ids, len(ids))
            got = {row[: len(ids)] for row in found}
            busy = frozenset(asked[row] for row in there if row in asked and row not in got)
        names, types = [c.name for c in target.columns], {c.name: c.type_name for c in target.columns}
        rows = ((row[: len(ids)], dict(zip(names, row[len(ids) : -1], strict=True)), types, row[-1]) for row in found)
        return Looked(acting_rows.by_row_id(target, row_ids, rows), busy)

    @contextmanager
    def savepoint(self, words: str | None = None) -> Iterator[None]:
        try:
            with self._savepoint():
                yield
        except psycopg2.Error as error:
            if error.pgcode is None or error.pgcode.startswith(("08", "57P")):  # the session is gone
                raise
            raise RowError(words or _words(error), referenced=isinstance(error, REFERENCED)) from None

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self._cursor.execute("SAVEPOINT act")
        try:
            yield
        except (psycopg2.Error, RowError):
            if not self._connection.closed:
                self._cursor.execute("ROLLBACK TO SAVEPOINT act")
            raise
        self._cursor.execute("RELEASE SAVEPOINT act")

    def impatient(self) -> None:
        self.rows(f"SELECT set_config('lock_timeout', '{IMPATIENT}', true)")

    def delete(self, target: Target, row_ids: Sequence[str], predicate: Any) -> dict[str, bool]:
        ids = ", ".join(column.text for column in target.ids)
        sql = f"DELETE FROM {target.sql} WHERE {self.these(target, row_ids)} AND {predicate} RETURNING {ids}"
        asked = by_texts(row_ids, len(target.ids))
        return {asked[row]: True for row in self.rows(sql) if row in asked}

    def update(
        self, target: Target, row_ids: Sequence[str], predicate: Any, values: Mapping[str, Any]
    ) -> dict[str, bool]:
        columns = {column.name: column for column in target.columns}
        wanted = {name: self._cast(columns[name], value) for name, value in values.items()}
        ids = ", ".join(column.text for column in target.ids)
        new = ", ".join(f"{quote(name)} = {value}" for name, value in wanted.items())
        sql = (
            f"UPDATE {target.sql} SET {new} WHERE {self.these(target, row_ids)} AND {predicate or 'true'} "
            f"RETURNING {self._are(target, values)}, {ids}"
        )
        asked = by_texts(row_ids, len(target.ids))
        return {asked[row[1:]]: bool(row[0]) for row in self.rows(sql) if row[1:] in asked}

    def has(self, target: Target, row_ids: Sequence[str], values: Mapping[str, Any]) -> dict[str, bool]:
        ids = ", ".join(column.text for column in target.ids)
        sql = f"SELECT {self._are(target, values)}, {ids} FROM {target.sql} WHERE {self.these(target, row_ids)}"
        asked = by_texts(row_ids, len(target.ids))
        return {asked[row[1:]]: bool(row[0]) for row in self.rows(sql) if row[1:] in asked}

    def _are(self, target: Target, values: Mapping[str, Any]) -> str:
        """Whether the columns have these values, compared as the database prints them."""
        columns = {column.name: column for column in target.columns}
        return " AND ".join(
            f'{columns[name].text} COLLATE "C" IS NOT DISTINCT FROM '
            f'{_lossless(self._cast(columns[name], value), columns[name].base)} COLLATE "C"'
            for name, value in values.items()
        )

    def insert(self, target: Target, image: RowImage) -> None:
        columns = [c for c in target.columns if c.name in image.columns and not c.generated]
        names = ", ".join(quote(column.name) for column in columns)
        values = ", ".join(self._cast(column, image.columns[column.name]) for column in columns)
        self._cursor.execute(f"INSERT INTO {target.sql} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})")

    def value_of(self, image: RowImage, column: str) -> Any:
        return image.columns[column]

    def _cast(self, column: Column, value: Any) -> str:
        if isinstance(value, Mapping):
            value = json.dumps(value)
        return f"CAST({self._cursor.mogrify('%s', [value]).decode()} AS {column.type_name})"

    def commit(self) -> tuple[str, str] | None:
        transaction = self.rows("SELECT txid_current()")[0][0]
        try:
            self._cursor.execute("COMMIT")
        except psycopg2.Error as error:
            if not self._connection.closed:
                return "failed", f"the transaction was refused as a whole, nothing was changed: {_words(error)}"
            return self._lost(transaction)
        return None

    def _lost(self, transaction: int) -> tuple[str, str] | None:
        """The answer to COMMIT did not arrive: the server is asked what became of it."""
        for _ in range(ASKED_AGAIN):
            time.sleep(ASKED_EVERY)  # a server that was still committing has finished
            try:
                connection = self._connected()
                try:
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT txid_status(%s)", [transaction])
                        status = cursor.fetchone()[0]
                finally:
                    connection.close()
            except psycopg2.Error:
                status = None
            if status == "committed":
                return None
            if status == "aborted":
                return "failed", "the connection was lost before the commit; nothing was changed"
        return "unknown", "the connection was lost at the commit, and the server did not say what became of it"


def _lossless(column: str, type_name: str) -> str:
    """SQL for the value's text as its type prints it."""
    text = as_text(column, type_name)
    return text if text.startswith("textin(") else f"CAST({column} AS text)"


def _words(error: psycopg2.Error) -> str:
    """What the server said, in one line and without the values it may name."""
    said = (error.diag.message_primary or str(error)).strip().split("\n")[0][:300]
    if (error.pgcode or "").startswith("22"):  # invalid input syntax for type uuid: "…"
        said = said.partition(":")[0]
    return f"{said} ({error.pgcode})"


@contextmanager
def acting_explained(display_url: str, url: URL) -> Iterator[None]:
    """The drivers' errors as ours; what is not yet committed then is not changed."""
    try:
        with explained(display_url, url):
            yield
    except SourceUnavailable as error:
        said = str(error).replace("could not be read", "could not be changed").partition(" Nothing was")[0]
        raise type(error)(f"{said} Nothing was changed.", transient=error.transient) from None
