"""The tables of a D1 database, made again without rows: SQLite itself then says what they are."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.d1_http import Answer, Statement
from maintenance_defs.databases.d1_values import code_of
from maintenance_defs.databases.statements import quote

# `_cf_…` are D1's own and may not be read. The copies have no triggers and no indexes beside those of their keys.
SCHEMA = Statement(
    "SELECT type, name, sql FROM sqlite_schema WHERE type IN ('table', 'view') AND sql IS NOT NULL "
    "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' ORDER BY type, name"
)
GENERATED = (2, 3)


@dataclass(frozen=True)
class Stored:
    """How a table's rows are read: in the order of what tells every row from every other."""

    name: str
    columns: tuple[str, ...]  # without generated ones
    key: tuple[str, ...]  # SQL, compared by bytes: what a collation finds equal may be two rows
    rowid: tuple[str, ...]  # the same where it is the rowid; else nothing

    @property
    def codes(self) -> str:
        """SQL for the code of a row."""
        return code_of([quote(column) for column in self.columns])


def make(connection: sqlite3.Connection, said: Answer) -> list[Stored]:
    """Make the tables and views that SCHEMA told of. Raises SourceUnavailable for what this SQLite cannot make."""
    found = []
    for kind, name, sql in said.rows:
        if kind == "table" and sql.lstrip().upper().startswith("CREATE VIRTUAL"):
            continue  # nothing can be read from it then; whoever names it is told that there is no such table
        try:
            connection.execute(sql)
        except sqlite3.Error as error:
            raise SourceUnavailable(
                f"{kind} {name!r} of the D1 database cannot be made again by SQLite {sqlite3.sqlite_version} here: "
                f"{error}. Nothing was read."
            ) from None
        if kind == "table":
            found.append(_stored(connection, name))
    return found


def _stored(connection: sqlite3.Connection, name: str) -> Stored:
    shown = connection.execute("SELECT name, hidden FROM pragma_table_xinfo(?) WHERE hidden <> 1", (name,)).fetchall()
    columns = tuple(_text(column) for column, hidden in shown if hidden not in GENERATED)
    taken = {_text(column).lower() for column, _ in shown}
    listed = connection.execute("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,))
    if listed.fetchone()[0]:
        keys = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (name,))
        return Stored(name, columns, tuple(f"{quote(_text(key))} COLLATE BINARY" for (key,) in keys), ())
    rowid = next((word for word in ("rowid", "_rowid_", "oid") if word not in taken), None)
    if rowid is None:
        raise SourceUnavailable(
            f"table {name!r} has columns named rowid, _rowid_ and oid, so its rows cannot be read page by page. "
            f"Nothing was read."
        )
    return Stored(name, columns, (rowid,), (rowid,))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
