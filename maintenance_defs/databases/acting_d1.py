"""Rows of Cloudflare D1, changed by statements that say themselves what they may change.

No transaction stays open between two requests, and no row is locked. So the statement that changes rows names them
with everything they held when they were seen, and takes those only that hold it still; what it left behind is asked in
the same request, which is one transaction. A request that was not answered is not sent again: the rows are looked at
when it must be over.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NoReturn

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases import acting_rows, acting_undo, d1_schema
from maintenance_defs.databases.acting import RowDone, RowImage
from maintenance_defs.databases.acting_cascades import sqlite_cascades
from maintenance_defs.databases.acting_rows import STORAGE, Looked, RowError, Target
from maintenance_defs.databases.acting_sqlite import sqlite_predicate, sqlite_target, stored
from maintenance_defs.databases.d1 import D1Database
from maintenance_defs.databases.d1_http import Answer, D1Client, D1Refused, D1Unsure, Statement
from maintenance_defs.databases.d1_values import NAMES, NotUtf8, code_of, code_of_value, codes, said, value_of
from maintenance_defs.databases.row_ids import by_texts, condition
from maintenance_defs.databases.statements import for_driver, quote

ROWS = 200  # of one request
CODE_BYTES = 500_000  # of the rows that one statement names; D1 takes values of 2 MB
NOT_SAME = "json(CASE count(*) WHEN 1 THEN '1' ELSE '{' END)"  # fails its request unless there is one such row
SUCCESS = ("deleted", "set", "restored")


class ActingD1:
    """See ActingDatabase. Rows of one call are changed in several transactions: each of them whole, or not at all."""

    dialect = "sqlite"

    def __init__(self, database: D1Database) -> None:
        self._client = database.client
        self.display_url = database.display_url

    def __repr__(self) -> str:
        return f"ActingD1({self.display_url!r})"

    def images(self, table: str, id_columns: Sequence[str], row_ids: Sequence[str]) -> dict[str, RowImage]:
        with self._session() as session:
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
        if rehearse:
            return []

        def act(session: D1Session, some: Sequence[RowImage]) -> list[RowDone]:
            return acting_rows.change(session, table, id_columns, some, where, parameters, None)

        return self._in_parts(images, act)

    def update(
        self,
        table: str,
        id_columns: Sequence[str],
        images: Sequence[RowImage],
        where: str,
        parameters: Mapping[str, Any],
        values: Mapping[str, Mapping[str, Any]],
    ) -> list[RowDone]:
        def act(session: D1Session, some: Sequence[RowImage]) -> list[RowDone]:
            return acting_rows.change(session, table, id_columns, some, where, parameters, values)

        return self._in_parts(images, act)

    def has(self, table: str, id_columns: Sequence[str], row_id: str, values: Mapping[str, Any]) -> bool:
        with self._session() as session:
            return session.has(session.target(table, id_columns), [row_id], values).get(row_id, False)

    def restore(self, images: Sequence[RowImage]) -> list[RowDone]:
        with self._session() as session:  # not in parts: a row may need another one of the list
            return session.told(acting_undo.restore(session, images))

    def revert(self, before: Sequence[RowImage], after: Sequence[RowImage]) -> list[RowDone]:
        return self._in_parts(before, lambda session, some: acting_undo.revert(session, some, after))

    def cascades(self, table: str, id_columns: Sequence[str], row_ids: Sequence[str]) -> dict[str, int]:
        with self._session() as session:
            target = session.target(table, id_columns)
            these, parameters = condition("sqlite", target.ids, row_ids)
            return sqlite_cascades(session.texts_or_rows, target, these, parameters)

    @contextmanager
    def script(self, *, read_only: bool = False) -> Iterator[D1Script]:
        if not read_only:
            self._cannot_run()
        yield D1Script(self._client, self._cannot_run)

    def _cannot_run(self) -> NoReturn:
        raise Refused(
            "cannot_act",
            f"{self.display_url} cannot run statements that look at what the ones before them did: over HTTP no "
            f"transaction stays open. Nothing was changed; apply a migration's file with `wrangler d1 execute "
            f"--remote --file`.",
        )

    def _in_parts(
        self, images: Sequence[RowImage], act: Callable[[D1Session, Sequence[RowImage]], list[RowDone]]
    ) -> list[RowDone]:
        done: list[RowDone] = []
        with self._session() as session:
            for part in _parts(images):
                done += session.told(act(session, part))
        return done

    @contextmanager
    def _session(self) -> Iterator[D1Session]:
        (said,) = self._client.read([d1_schema.SCHEMA])
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as schema:
            d1_schema.make(schema, said)
            yield D1Session(self._client, schema)


def _parts(images: Sequence[RowImage]) -> Iterator[list[RowImage]]:
    part: list[RowImage] = []
    size = 0
    for image in images:
        more = sum(2 * len((text or "").encode()) + 2 for text in image.columns.values())
        if part and (len(part) == ROWS or size + more > CODE_BYTES):
            yield part
            part, size = [], 0
        part.append(image)
        size += more
    if part:
        yield part


class D1Script:
    """See Script: asks only."""

    def __init__(self, client: D1Client, refuse: Callable[[], NoReturn]) -> None:
        self._client = client
        self._refuse = refuse

    def ask(self, sql: str) -> list[dict[str, Any]]:
        statement, _ = for_driver(sql, {}, "qmark")
        (answer,) = self._client.read([Statement(statement)])
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def run(self, sql: str) -> None:
        self._refuse()


class D1Session:
    """See Session. What is done is committed with its request; what a request left is remembered for the next look."""

    def __init__(self, client: D1Client, schema: sqlite3.Connection) -> None:
        self._client = client
        self._schema = schema
        self._seen: dict[str, str] = {}  # by row id: the code of the row that was judged
        self._left: dict[str, list[tuple[RowImage, bool]]] = {}  # by row id: what the last change left, not looked at
        self._unsure: dict[str, str] = {}  # by row id: why it is not known what was done

    def texts_or_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The schema is asked here, rows are asked there."""
        if not sql.startswith("WITH RECURSIVE"):
            return self._schema.execute(sql, parameters).fetchall()
        (answer,) = self._client.read([Statement(sql, parameters)])
        return [tuple(row) for row in answer.rows]

    def target(self, table: str, id_columns: Sequence[str]) -> Target:
        return sqlite_target(self.texts_or_rows, table, id_columns)

    def predicate(self, where: str, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
        return sqlite_predicate(where, parameters)

    def look(self, target: Target, row_ids: Sequence[str], predicate: Any = None, lock: bool = False) -> Looked:
        if row_ids and not lock and all(row_id in self._left for row_id in row_ids):
            return Looked({row_id: rows for row_id in row_ids if (rows := self._left.pop(row_id))})
        found: dict[str, list[tuple[RowImage, bool]]] = {}
        for start in range(0, len(row_ids), ROWS):
            part = row_ids[start : start + ROWS]
            (answer,) = self._client.read([self._look(target, part, predicate)])
            found |= self._rows(target, part, answer)
        if lock:
            self._seen |= {row_id: _code(rows[0][0]) for row_id, rows in found.items() if len(rows) == 1}
        return Looked(found)

    def _look(self, target: Target, row_ids: Sequence[str], predicate: Any) -> Statement:
        permitted, asked = predicate or ("1", [])
        these, parameters = condition("sqlite", target.ids, row_ids)
        ids, row = code_of([column.text for column in target.ids]), _row_code(target)
        return Statement(
            f"SELECT {ids} AS ids, {row} AS code, {permitted} AS may FROM {target.sql} WHERE {these}",
            [*asked, *parameters],
        )

    def _rows(self, target: Target, row_ids: Sequence[str], answer: Answer) -> dict[str, list[tuple[RowImage, bool]]]:
        names = [column.name for column in target.columns]

        def exact() -> Iterator[tuple[tuple[str | None, ...], dict[str, str | None], dict[str, str], Any]]:
            for ids, row, permitted in answer.rows:
                pairs = [_exact(code) for code in codes(row, len(names))]
                texts = dict(zip(names, (text for text, _ in pairs), strict=True))
                types = dict(zip(names, (kind for _, kind in pairs), strict=True))
                yield _texts(ids, target), texts, types, permitted

        return acting_rows.by_row_id(target, row_ids, exact())

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A request that is refused has done nothing; there is nothing to undo."""
        try:
            yield
        except D1Refused as error:
            raise RowError(error.words, referenced="FOREIGN KEY" in error.words) from None

    def impatient(self) -> None:
        """Nobody is waited for: D1 takes one request after the other."""

    def delete(self, target: Target, row_ids: Sequence[str], predicate: Any) -> dict[str, bool]:
        return self._act(target, row_ids, predicate, f"DELETE FROM {target.sql}", [], None)

    def update(
        self, target: Target, row_ids: Sequence[str], predicate: Any, values: Mapping[str, Any]
    ) -> dict[str, bool]:
        spoken = [said(_code_of_new(value)) for value in values.values()]
        sets = ", ".join(f"{quote(name)} = {sql}" for name, (sql, _) in zip(values, spoken, strict=True))
        new = [value for _, some in spoken for value in some]
        return self._act(target, row_ids, predicate, f"UPDATE {target.sql} SET {sets}", new, values)

    def _act(
        self,
        target: Target,
        row_ids: Sequence[str],
        predicate: Any,
        verb: str,
        new: list[Any],
        values: Mapping[str, Any] | None,
    ) -> dict[str, bool]:
        """Change the rows that are as they were judged; by row id of what was changed, whether it took the change."""
        these, parameters = condition("sqlite", target.ids, row_ids)
        permitted, also = predicate or ("1", [])
        same = json.dumps([self._seen[row_id] for row_id in row_ids])
        ids = code_of([column.text for column in target.ids])
        statements = [
            Statement(
                f"{verb} WHERE {these} AND {_row_code(target)} IN (SELECT value FROM json_each(?)) AND {permitted} "
                f"RETURNING {ids} AS ids",
                [*new, *parameters, same, *also],
            ),
            self._look(target, row_ids, predicate),
            *([self._has(target, row_ids, values)] if values is not None else []),
        ]
        try:
            changed, left, *has = self._client.change(statements)
        except D1Unsure as error:
            self._client.settle(error)
            self._unsure |= dict.fromkeys(row_ids, str(error))
            there = self.has(target, row_ids, values) if values is not None else {}
            return {row_id: True for row_id, took in there.items() if took}
        rows = self._rows(target, row_ids, left)
        self._left |= {row_id: rows.get(row_id, []) for row_id in row_ids}
        asked = by_texts(row_ids, len(target.ids))
        done = [asked[texts] for (row,) in changed.rows if (texts := _texts(row, target)) in asked]
        took = self._took(target, row_ids, has[0]) if has else {}
        return {row_id: took.get(row_id, False) if has else True for row_id in done}

    def has(self, target: Target, row_ids: Sequence[str], values: Mapping[str, Any]) -> dict[str, bool]:
        (answer,) = self._client.read([self._has(target, row_ids, values)])
        return self._took(target, row_ids, answer)

    def _has(self, target: Target, row_ids: Sequence[str], values: Mapping[str, Any]) -> Statement:
        these, parameters = condition("sqlite", target.ids, row_ids)
        spoken = [said(_code_of_new(value)) for value in values.values()]
        took = " AND ".join(f"{quote(name)} IS {sql}" for name, (sql, _) in zip(values, spoken, strict=True))
        new = [value for _, some in spoken for value in some]
        ids = code_of([column.text for column in target.ids])
        return Statement(f"SELECT {ids} AS ids, {took} AS took FROM {target.sql} WHERE {these}", [*new, *parameters])

    def _took(self, target: Target, row_ids: Sequence[str], answer: Answer) -> dict[str, bool]:
        asked = by_texts(row_ids, len(target.ids))
        return {asked[texts]: bool(took) for row, took in answer.rows if (texts := _texts(row, target)) in asked}

    def insert(self, target: Target, image: RowImage) -> None:
        """The row as its image says, or nothing: the request fails as a whole when it became another one."""
        columns = [c.name for c in target.columns if c.name in image.columns]
        written = [c.name for c in target.columns if c.name in image.columns and not c.generated]
        coded = {name: _code_of(image.columns[name], image.types[name]) for name in columns}
        spoken = [said(coded[name]) for name in written]
        into = f"INSERT INTO {target.sql} ({', '.join(map(quote, written))})"
        these, parameters = condition("sqlite", target.ids, [image.row_id])
        same = f"{code_of([quote(name) for name in columns])} = ?"
        statements = [
            Statement(
                f"{into} VALUES ({', '.join(sql for sql, _ in spoken)})", [v for _, some in spoken for v in some]
            ),
            Statement(
                f"SELECT {NOT_SAME} FROM {target.sql} WHERE {these} AND {same}",
                [*parameters, "\n".join(coded[name] for name in columns)],
            ),
            self._look(target, [image.row_id], None),
        ]
        try:
            *_, left = self._client.change(statements)
        except D1Unsure as error:
            self._client.settle(error)
            self._unsure[image.row_id] = str(error)
            return
        except D1Refused as error:
            if "malformed JSON" not in error.words:
                raise
            raise RowError("the row would not be the same: a trigger or rule, or a changed type") from None
        self._left[image.row_id] = self._rows(target, [image.row_id], left).get(image.row_id, [])

    def value_of(self, image: RowImage, column: str) -> Any:
        return value_of(_code_of(image.columns[column], image.types[column]))

    def commit(self) -> tuple[str, str] | None:
        """Every request has committed itself."""
        return None

    def told(self, done: list[RowDone]) -> list[RowDone]:
        """What became of rows whose request was not answered: what was seen since, or that it is not known."""
        found = []
        for one in done:
            words = self._unsure.get(one.row_id)
            if words is not None and one.outcome in SUCCESS:
                one = RowDone(one.row_id, one.outcome, f"{words} It was, seen afterwards.", one.before, one.after)
            elif words is not None:
                one = RowDone(one.row_id, "unknown", words, one.before)
            found.append(one)
        return found


def _row_code(target: Target) -> str:
    return code_of([quote(column.name) for column in target.columns])


def _texts(row: Any, target: Target) -> tuple[str | None, ...]:
    """The id texts of a row, as row_ids knows them."""
    values = [value_of(code) for code in codes(row, len(target.ids))]
    return tuple(v.decode("utf-8", "surrogateescape") if isinstance(v, NotUtf8) else v for v in values)


def _exact(code: str) -> tuple[str | None, str]:
    """(text, type) of an image's column, as ActingSqlite writes it."""
    if code == "n":
        return None, f"{STORAGE}null"
    if code[0] in "ir":
        return code[1:], STORAGE + NAMES[code[0]]
    value = value_of(code)
    if isinstance(value, bytes):
        return value.hex(), f"{STORAGE}{'text/hex' if isinstance(value, NotUtf8) else 'blob'}"
    return value, f"{STORAGE}text"


def _code_of(text: str | None, kind: str) -> str:
    """The code of an image's column."""
    match kind.removeprefix(STORAGE):
        case _ if text is None:
            return "n"
        case "integer":
            return f"i{text}"
        case "real":
            return f"r{text}"
        case "text":
            return code_of_value(text)
        case "blob":
            return f"b{text.upper()}"
        case "text/hex":
            return f"x{text.upper()}"
        case other:
            raise RowError(f"the image holds a value stored as {other!r}, which SQLite does not know")


def _code(image: RowImage) -> str:
    return "\n".join(_code_of(text, image.types[name]) for name, text in image.columns.items())


def _code_of_new(value: Any) -> str:
    return code_of_value(stored(value))
