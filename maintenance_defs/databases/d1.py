"""Cloudflare D1, read over HTTP into a SQLite file of ours, and read as any SQLite file from there.

HTTP knows no snapshot over several requests, so a moment has to be proven. The statements of one request are one
transaction: the first request brings the beginning of every table, and a table that ends in it is of that moment. The
rest of longer tables comes page by page, in the order of the key, between two bookmarks (the word for where the
database stands). The same bookmark before the first page and after the last one: nothing was written in between, all
pages are of the first request's moment. Another one: they are thrown away. What cannot be proven is never handed out,
so that a reference that moves from row to row while we read hides from nobody.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import make_url

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases import d1_schema
from maintenance_defs.databases.base import DatabaseEvidence
from maintenance_defs.databases.d1_http import Answer, D1Client, Statement
from maintenance_defs.databases.d1_schema import Stored
from maintenance_defs.databases.d1_values import NotUtf8, code_of, codes, said, value_of
from maintenance_defs.databases.sqlite import SqliteSnapshot, text_of
from maintenance_defs.databases.statements import quote

PAGE_ROWS = 20_000
PAGE_BYTES = 16 * 2**20  # of one answer, as codes; one row more where it is larger
LEAST_BYTES = 2**16  # of one table in the first request, however many tables there are
ATTEMPTS = 5
CLOCK = Statement("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")


class D1Database:
    """One D1 database. Raises SourceUnavailable for a URL that is none, or has no token."""

    dialect = "sqlite"

    def __init__(self, url: str, *, page_rows: int = PAGE_ROWS) -> None:
        self.client = D1Client(make_url(url))
        self.display_url = self.client.display_url
        self._page_rows = page_rows

    def __repr__(self) -> str:
        return f"D1Database({self.display_url!r})"

    @contextmanager
    def snapshot(self) -> Iterator[D1Snapshot]:
        """See SourceDatabase. Its moment is that of the first statement; a later statement that needs more of a long
        table raises SourceUnavailable (transient) when the database was written to meanwhile.
        """
        clock, schema = self.client.read([CLOCK, d1_schema.SCHEMA])
        evidence = _evidence(self.client, clock)
        with TemporaryDirectory(prefix="maintain-d1-") as folder:
            file = Path(folder) / "copy.db"
            with closing(_open(file)) as writer, closing(_open(file)) as reader:
                with self._explained():
                    writer.execute("PRAGMA journal_mode = WAL")
                    writer.execute("PRAGMA synchronous = OFF")
                    writer.execute("PRAGMA ignore_check_constraints = ON")
                    tables = d1_schema.make(writer, schema)
                    reader.execute("PRAGMA query_only = ON")
                copy = _Copy(self.client, writer, tables, schema, self._page_rows)
                yield D1Snapshot(copy, reader, self._explained, evidence)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SourceUnavailable(
                f"{self.display_url} could not be read: {error}. Nothing was concluded from it."
            ) from None


def _evidence(client: D1Client, clock: Answer) -> DatabaseEvidence:
    try:
        taken_at = datetime.fromisoformat(str(clock.rows[0][0])).replace(tzinfo=UTC)
    except (ValueError, IndexError):
        raise SourceUnavailable(f"{client.display_url} does not tell the time. Nothing was read.") from None
    return DatabaseEvidence(
        identity=client.identity,
        version="Cloudflare D1, over HTTP",
        taken_at=taken_at,
        # D1 knows no transaction that stays open between two requests: what is not committed has not begun.
        oldest_transaction_at=None,
        oldest_transaction_known=True,
    )


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.text_factory = text_of
    return connection


class D1Snapshot(SqliteSnapshot):
    """See Snapshot. A table is copied when the first statement needs it."""

    def __init__(self, copy: _Copy, reader: sqlite3.Connection, explained: Any, evidence: DatabaseEvidence) -> None:
        super().__init__(reader, explained, evidence)
        self._copy = copy

    def _execute(self, statement: str, values: Any) -> sqlite3.Cursor:
        self._copy.bring(statement, values)
        return super()._execute(statement, values)


class _Copy:
    """The copy as far as it is made."""

    def __init__(
        self, client: D1Client, writer: sqlite3.Connection, tables: list[Stored], schema: Answer, page_rows: int
    ) -> None:
        self._client = client
        self._writer = writer
        self._tables = {table.name: table for table in tables}
        self._schema = schema
        self._page_rows = page_rows
        self._bookmark: str | None = None  # None: nothing was read yet
        self._after: dict[str, list[str]] = {}  # of tables that go on: the codes of the last key

    def bring(self, statement: str, values: Any) -> None:
        """Copy the tables that the statement reads, as far as they are not there."""
        needed = self._read_by(statement, values)
        if not needed:
            return
        if self._bookmark is None:
            self._begin(needed)
        elif more := needed & self._after.keys():
            self._rest(more)
            if not self._is_whole(more, self._bookmark):
                raise self._moved()

    def _read_by(self, statement: str, values: Any) -> set[str]:
        found: set[str] = set()

        def note(action: int, one: str | None, *_: Any) -> int:
            if action == sqlite3.SQLITE_READ and one in self._tables:
                found.add(one)
            return sqlite3.SQLITE_OK

        self._writer.set_authorizer(note)
        try:
            self._writer.execute(f"EXPLAIN {statement}", values).close()
        finally:
            self._writer.set_authorizer(None)
        return found

    def _begin(self, needed: set[str]) -> None:
        for _ in range(ATTEMPTS):
            bookmark = self._client.bookmark()
            self._first()
            more = needed & self._after.keys()
            self._rest(more)
            if not more or self._is_whole(more, bookmark):
                self._bookmark = bookmark
                return
        raise self._moved()

    def _first(self) -> None:
        """The beginning of every table, in one transaction."""
        tables = list(self._tables.values())
        room = max(LEAST_BYTES, PAGE_BYTES // max(1, len(tables)))
        schema, *pages = self._client.read([d1_schema.SCHEMA, *(self._page(t, None, room) for t in tables)])
        if schema.rows != self._schema.rows:
            raise SourceUnavailable(
                f"the tables of {self._client.display_url} were changed while it was read. Nothing was concluded.",
                transient=True,
            )
        self._after.clear()
        for table, page in zip(tables, pages, strict=True):
            self._writer.execute(f"DELETE FROM {quote(table.name)}")
            self._take(table, page)

    def _rest(self, names: set[str]) -> None:
        for name in sorted(names):
            while (after := self._after.get(name)) is not None:
                (page,) = self._client.read([self._page(self._tables[name], after, PAGE_BYTES)])
                self._take(self._tables[name], page)

    def _is_whole(self, names: set[str], bookmark: str) -> bool:
        """Whether these long tables are of the moment of the first request.

        Raises SourceUnavailable when nothing was written, and yet they hold other numbers of rows than came.
        """
        counts = [f"SELECT count(*) FROM {quote(name)}" for name in sorted(names)]
        held = self._client.read([Statement(sql) for sql in counts])
        if self._client.bookmark() != bookmark:
            return False
        for name, sql, one in zip(sorted(names), counts, held, strict=True):
            (came,) = self._writer.execute(sql).fetchone()
            if one.rows != [[came]]:
                raise SourceUnavailable(
                    f"table {name!r} of {self._client.display_url} holds {one.rows[0][0]} rows, and {came} were read. "
                    f"Nothing was concluded: something between here and there cuts answers short."
                )
        return True

    def _page(self, table: Stored, after: list[str] | None, room: int) -> Statement:
        """SQL for (code of the row, code of its key, rows that the page would have without `room`)."""
        named = [f"k{n}" for n in range(len(table.key))]
        keys = ", ".join(f"{key} AS {name}" for key, name in zip(table.key, named, strict=True))
        order = ", ".join(f"{name} COLLATE BINARY" for name in named)
        where, parameters = "", []
        if after is not None:
            spoken = [said(code) for code in after]
            where = f" WHERE ({', '.join(table.key)}) > ({', '.join(sql for sql, _ in spoken)})"
            parameters = [value for _, some in spoken for value in some]
        return Statement(
            f"SELECT code, {code_of(named)} AS last, n FROM (\n"
            f"SELECT *, count(*) OVER () AS n, sum(length(code)) OVER (ORDER BY {order} "
            f"ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - length(code) AS used FROM (\n"
            f"SELECT {table.codes} AS code, {keys} FROM {quote(table.name)}{where} "
            f"ORDER BY {', '.join(table.key)} LIMIT {self._page_rows}))\n"
            f"WHERE used < {room} ORDER BY {order}",
            parameters,
        )

    def _take(self, table: Stored, page: Answer) -> None:
        """Write a page; remember where to go on, or that the table ends here."""
        width = len(table.columns)
        columns = [*table.rowid, *map(quote, table.columns)]
        into = f"INSERT INTO {quote(table.name)} ({', '.join(columns)}) VALUES "
        rows = [
            [value_of(code) for code in (*codes(row[1], len(table.key))[: len(table.rowid)], *codes(row[0], width))]
            for row in page.rows
        ]
        odd = [any(isinstance(value, NotUtf8) for value in row) for row in rows]
        self._writer.execute("BEGIN")
        plain = (row for row, is_odd in zip(rows, odd, strict=True) if not is_odd)
        self._writer.executemany(f"{into}({', '.join('?' * len(columns))})", plain)
        for row in (row for row, is_odd in zip(rows, odd, strict=True) if is_odd):
            marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, NotUtf8) else "?" for value in row)
            self._writer.execute(f"{into}({marks})", row)
        self._writer.execute("COMMIT")
        if not page.rows or (page.rows[-1][2] == len(page.rows) and len(page.rows) < self._page_rows):
            self._after.pop(table.name, None)
        else:
            self._after[table.name] = codes(page.rows[-1][1], len(table.key))

    def _moved(self) -> SourceUnavailable:
        return SourceUnavailable(
            f"{self._client.display_url} was written to while its long tables were read, so that they are not of one "
            f"moment. Nothing was concluded; read it again when fewer rows are written.",
            transient=True,
        )
