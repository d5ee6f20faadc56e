"""SQLite rows, changed while nobody else can write: BEGIN IMMEDIATE, foreign keys on."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote as url_quote

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases import acting_rows, acting_undo
from maintenance_defs.databases.acting import RowDone, RowImage
from maintenance_defs.databases.acting_cascades import sqlite_cascades
from maintenance_defs.databases.acting_rows import STORAGE, Column, Looked, RowError, Target
from maintenance_defs.databases.row_ids import IdColumn, by_texts, condition
from maintenance_defs.databases.sqlite import bound
from maintenance_defs.databases.statements import for_driver, name_parts, quote

REFERENCED = "FOREIGN KEY constraint failed"
COLUMNS = "SELECT c.name, c.type, c.hidden FROM sqlite_schema s, pragma_table_xinfo(s.name) c " \
    "WHERE s.type = 'table' AND lower(s.name) = lower(?) AND c.hidden <> 1 ORDER BY c.cid"  # fmt: skip
GENERATED = (2, 3)
CONVERT: dict[str, Callable[[str], Any]] = {
    "integer": int,
    "real": float,
    "text": str,
    "blob": bytes.fromhex,
    "text/hex": bytes.fromhex,
}
STEPS = 10_000  # of SQLite's machine, between two looks at the clock
# A value as text: fractions by quote(), which keeps every digit; the rest as it is.
EXACT = "typeof({0}), CASE typeof({0}) WHEN 'real' THEN quote({0}) ELSE {0} END"


class ActingSqlite:
    """See ActingDatabase. One writer at a time: while the file is locked, every row fails."""

    dialect = "sqlite"

    def __init__(self, path: Path, lock_seconds: float, statement_seconds: float) -> None:
        self._path = path
        self._lock_seconds = lock_seconds
        self._statement_seconds = statement_seconds
        self.display_url = f"sqlite:///{path}"

    def __repr__(self) -> str:
        return f"ActingSqlite({self.display_url!r})"

    def images(self, table: str, id_columns: Sequence[str], row_ids: Sequence[str]) -> dict[str, RowImage]:
        with self._session("BEGIN") as session:
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
        return self._change(table, id_columns, images, where, parameters, None, rehearse=rehearse)

    def update(
        self,
        table: str,
        id_columns: Sequence[str],
        images: Sequence[RowImage],
        where: str,
        parameters: Mapping[str, Any],
        values: Mapping[str, Mapping[str, Any]],
    ) -> list[RowDone]:
        return self._change(table, id_columns, images, where, parameters, values)

    def _change(
        self,
        table: str,
        id_columns: Sequence[str],
        images: Sequence[RowImage],
        where: str,
        parameters: Mapping[str, Any],
        values: Mapping[str, Mapping[str, Any]] | None,
        *,
        rehearse: bool = False,
    ) -> list[RowDone]:
        try:
            with self._session("BEGIN IMMEDIATE") as session:
                return acting_rows.change(
                    session, table, id_columns, images, where, parameters, values, rehearse=rehearse
                )
        except _Locked as error:
            return [RowDone(image.row_id, "failed", str(error), image) for image in images]

    def has(self, table: str, id_columns: Sequence[str], row_id: str, values: Mapping[str, Any]) -> bool:
        with self._session("BEGIN") as session:
            return session.has(session.target(table, id_columns), [row_id], values).get(row_id, False)

    def restore(self, images: Sequence[RowImage]) -> list[RowDone]:
        try:
            with self._session("BEGIN IMMEDIATE") as session:
                return acting_undo.restore(session, images)
        except _Locked as error:
            return [RowDone(image.row_id, "failed", str(error), image) for image in images]

    def revert(self, before: Sequence[RowImage], after: Sequence[RowImage]) -> list[RowDone]:
        try:
            with self._session("BEGIN IMMEDIATE") as session:
                return acting_undo.revert(session, before, after)
        except _Locked as error:
            return [RowDone(image.row_id, "failed", str(error), image) for image in before]

    def cascades(self, table: str, id_columns: Sequence[str], row_ids: Sequence[str]) -> dict[str, int]:
        with self._session("BEGIN") as session:
            target = session.target(table, id_columns)
            these, parameters = session.these(target, row_ids)
            return sqlite_cascades(session.texts, target, these, parameters)

    @contextmanager
    def script(self, *, read_only: bool = False) -> Iterator[SqliteSession]:
        with self._session("BEGIN" if read_only else "BEGIN IMMEDIATE") as session:
            if read_only:
                session.run("PRAGMA query_only = ON")
            yield session
            doubt = None if read_only else session.commit()
            if doubt is not None:
                raise SourceUnavailable(f"{self.display_url} could not be changed: {doubt[1]}.")

    @contextmanager
    def _session(self, begin: str) -> Iterator[SqliteSession]:
        try:
            path = self._path.resolve(strict=True)
        except OSError:
            raise SourceUnavailable(f"{self.display_url} does not exist. Nothing was changed or created.") from None
        try:
            uri = f"file:{url_quote(str(path))}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=self._lock_seconds)
            with closing(connection):
                yield SqliteSession(connection, begin, self._statement_seconds)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", "") or ""
            raise SourceUnavailable(
                f"{self.display_url} could not be changed: {error}. Nothing was changed.",
                transient=code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_INTERRUPT")),
            ) from None


class _Locked(SourceUnavailable):
    """Another connection is writing."""


class SqliteSession:
    """See Session. No row is busy alone: BEGIN IMMEDIATE has the whole file or nothing."""

    def __init__(self, connection: sqlite3.Connection, begin: str, statement_seconds: float) -> None:
        self._connection = connection
        connection.text_factory = bytes  # what is no UTF-8 stays what it is
        connection.execute("PRAGMA foreign_keys = ON")
        until = time.monotonic() + statement_seconds
        connection.set_progress_handler(lambda: int(time.monotonic() > until), STEPS)
        try:
            connection.execute(begin)
        except sqlite3.OperationalError as error:
            if not (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_BUSY"):
                raise
            raise _Locked(
                "another connection is writing to the database (database is locked)", transient=True
            ) from None

    def texts(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """Small results about the schema, with text as text."""
        rows = self._connection.execute(sql, parameters).fetchall()
        return [tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in rows]

    def ask(self, sql: str) -> list[dict[str, Any]]:
        cursor = self._connection.execute(sql)
        names = [column[0] for column in cursor.description]
        rows = [[v.decode() if isinstance(v, bytes) else v for v in row] for row in cursor]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def run(self, sql: str) -> None:
        self._connection.execute(sql)

    def target(self, table: str, id_columns: Sequence[str]) -> Target:
        return sqlite_target(self.texts, table, id_columns)

    def predicate(self, where: str, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
        return sqlite_predicate(where, parameters)

    def these(self, target: Target, row_ids: Sequence[str]) -> tuple[str, list[Any]]:
        """The condition that is true for these rows, and its parameters."""
        return condition("sqlite", target.ids, row_ids)

    def look(self, target: Target, row_ids: Sequence[str], predicate: Any = None, lock: bool = False) -> Looked:
        if not row_ids:
            return Looked({})
        permitted, asked = predicate or ("1", [])
        these, parameters = self.these(target, row_ids)
        shown = ", ".join([*(c.text for c in target.ids), *(c.text for c in target.columns), permitted])
        rows = self._connection.execute(f"SELECT {shown} FROM {target.sql} WHERE {these}", [*asked, *parameters])
        names, width = [column.name for column in target.columns], len(target.ids)

        def exact() -> Iterator[tuple[tuple[str | None, ...], dict[str, str | None], dict[str, str], Any]]:
            for row in rows:
                values = list(map(_exact, row[width:-1:2], row[width + 1 : -1 : 2]))
                texts = {name: text for name, (text, _) in zip(names, values, strict=True)}
                types = {name: kind for name, (_, kind) in zip(names, values, strict=True)}
                yield id_texts(row[:width]), texts, types, row[-1]

        return Looked(acting_rows.by_row_id(target, row_ids, exact()))

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        self._connection.execute("SAVEPOINT act")
        try:
            yield
        except (sqlite3.Error, RowError, OverflowError) as error:
            if not self._connection.in_transaction:  # RAISE(ROLLBACK) of a trigger, or a full disk, ended it all
                raise
            self._connection.execute("ROLLBACK TO act")
            self._connection.execute("RELEASE act")
            if isinstance(error, RowError):
                raise
            words = str(error)[:300]
            raise RowError(words, referenced=words.startswith(REFERENCED)) from None
        self._connection.execute("RELEASE act")

    def impatient(self) -> None:
        """Nobody is waited for: the whole file is ours."""

    def delete(self, target: Target, row_ids: Sequence[str], predicate: Any) -> dict[str, bool]:
        these, parameters = self.these(target, row_ids)
        ids = ", ".join(column.text for column in target.ids)
        sql = f"DELETE FROM {target.sql} WHERE {these} AND {predicate[0]} RETURNING {ids}"
        rows = self._connection.execute(sql, [*parameters, *predicate[1]]).fetchall()
        asked = by_texts(row_ids, len(target.ids))
        return {asked[texts]: True for texts in map(id_texts, rows) if texts in asked}

    def update(
        self, target: Target, row_ids: Sequence[str], predicate: Any, values: Mapping[str, Any]
    ) -> dict[str, bool]:
        these, parameters = self.these(target, row_ids)
        permitted, also = predicate or ("1", [])
        new = [stored(value) for value in values.values()]
        sets = ", ".join(f"{quote(name)} = ?" for name in values)
        ids = ", ".join(column.text for column in target.ids)
        sql = f"UPDATE {target.sql} SET {sets} WHERE {these} AND {permitted} RETURNING {ids}"
        changed = self._connection.execute(sql, [*new, *parameters, *also]).fetchall()
        has = self.has(target, row_ids, values)  # afterwards: RETURNING is written before the triggers that follow
        asked = by_texts(row_ids, len(target.ids))
        rows = [asked[texts] for row in changed if (texts := id_texts(row)) in asked]
        return {row_id: has.get(row_id, False) for row_id in rows}

    def has(self, target: Target, row_ids: Sequence[str], values: Mapping[str, Any]) -> dict[str, bool]:
        these, parameters = self.these(target, row_ids)
        ids = ", ".join(column.text for column in target.ids)
        took = " AND ".join(f"{quote(name)} IS ?" for name in values)
        new = [stored(value) for value in values.values()]
        found = self._connection.execute(f"SELECT {ids}, {took} FROM {target.sql} WHERE {these}", [*new, *parameters])
        asked = by_texts(row_ids, len(target.ids))
        return {asked[texts]: bool(row[-1]) for row in found if (texts := id_texts(row[:-1])) in asked}

    def insert(self, target: Target, image: RowImage) -> None:
        columns = [c.name for c in target.columns if c.name in image.columns and not c.generated]
        names = ", ".join(map(quote, columns))
        # Text that is no UTF-8 is bound as its bytes and cast: a plain blob would change its storage class.
        marks = ", ".join("CAST(? AS TEXT)" if image.types[name] == f"{STORAGE}text/hex" else "?" for name in columns)
        values = [self.value_of(image, name) for name in columns]
        self._connection.execute(f"INSERT INTO {target.sql} ({names}) VALUES ({marks})", values)

    def value_of(self, image: RowImage, column: str) -> Any:
        text, kind = image.columns[column], image.types[column].removeprefix(STORAGE)
        if text is None:
            return None
        convert = CONVERT.get(kind)
        if convert is None:
            raise RowError(f"the image holds a value stored as {kind!r}, which SQLite does not know")
        return convert(text)

    def commit(self) -> tuple[str, str] | None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:  # a deferred foreign key, a full disk
            return "failed", f"the transaction was refused as a whole, nothing was changed: {error}"
        return None


def sqlite_target(texts: Callable[..., list[tuple[Any, ...]]], table: str, id_columns: Sequence[str]) -> Target:
    """texts(sql, parameters) asks the schema. Raises SourceUnavailable for what is no table, or has no such column."""
    schema, name = name_parts(table)
    columns = texts(COLUMNS, (name,)) if schema in (None, "main") else []
    if not columns or name.lower().startswith("sqlite_"):
        raise SourceUnavailable(f"there is no table {table!r} whose rows can be changed. Nothing was changed.")
    types = {column: declared for column, declared, _ in columns}
    spelled = {column.lower(): column for column in types}
    unknown = [column for column in id_columns if column.lower() not in spelled]
    if unknown or not id_columns:
        what = ", ".join(unknown) or "to tell its rows by"
        raise SourceUnavailable(f"table {table} has no column {what}. Nothing was changed.")
    names = [spelled[column.lower()] for column in id_columns]
    return Target(
        table,
        quote(name),
        tuple(Column(c, declared, EXACT.format(quote(c)), hidden in GENERATED) for c, declared, hidden in columns),
        tuple(names),
        tuple(IdColumn(quote(c), types[c], f"CAST({quote(c)} AS TEXT)") for c in names),
    )


def sqlite_predicate(where: str, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """SQL that is 1 where the condition holds, else 0, and the values of its `?`."""
    values = {name: bound(value) for name, value in parameters.items()}
    sql, used = for_driver(f"SELECT (({where}\n) IS TRUE)", values, "qmark")
    return sql[len("SELECT ") :], list(used)


def _exact(kind: bytes, value: Any) -> tuple[str | None, str]:
    """(text, type) of an image's column."""
    name = kind.decode()
    if value is None:
        return None, f"{STORAGE}null"
    if isinstance(value, int):
        return str(value), f"{STORAGE}integer"
    if name == "blob":
        return bytes(value).hex(), f"{STORAGE}blob"
    try:
        return bytes(value).decode(), STORAGE + name
    except UnicodeDecodeError:
        return bytes(value).hex(), f"{STORAGE}text/hex"


def id_texts(row: Sequence[bytes | None]) -> tuple[str | None, ...]:
    return tuple(None if value is None else value.decode("utf-8", "surrogateescape") for value in row)


def stored(value: Any) -> Any:
    """A value as the application would store it: instants as CURRENT_TIMESTAMP writes them, in UTC."""
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.strftime("%Y-%m-%d %H:%M:%S" + (".%f" if aware.microsecond else ""))
    if isinstance(value, Mapping | list):
        return json.dumps(value)
    return value
