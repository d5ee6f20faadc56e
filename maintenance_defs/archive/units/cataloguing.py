"""Telling the application where archived rows are: its own catalogue table, as the declaration maps it.

Rows are written by an id made of file and value, so that writing again changes nothing and what is removed is ours.
Source: S4-45, S4-53; V4, V6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote as percent_encoded

from sqlalchemy import Connection

from maintenance_defs.core.archive import Catalogue
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.statements import name_parts, quote

PAGE = 5000  # entries of one statement
TYPES = {
    "id": "text", "value": "text", "organisation": "text", "url": "text", "key": "text", "rows": "bigint",
    "size_bytes": "bigint", "first_at": "timestamptz", "last_at": "timestamptz", "archived_at": "timestamptz",
}  # fmt: skip
COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relname = %(table)s AND (n.nspname = %(schema)s OR %(schema)s IS NULL AND n.nspname = 'public')
"""
Item = TypeVar("Item")


@dataclass(frozen=True)
class Entry:
    """One value of the lookup column (or one row's value) in one file. size_bytes: of the file."""

    file_id: str
    value: str
    organisation: str
    key: str
    rows: int
    size_bytes: int
    first_at: datetime | None
    last_at: datetime | None
    archived_at: datetime

    @property
    def id(self) -> str:
        return entry_id(self.file_id, self.value)


def entry_id(file_id: str, value: str) -> str:
    """The same for the same value in the same file, whoever writes it."""
    return hashlib.sha256(f"{file_id}\0{value}".encode()).hexdigest()[:32]


def require_catalogue(connection: Connection, catalogue: Catalogue) -> dict[str, str]:
    """Its columns and their types. Raises Refused that names the migration when the table or a column is missing."""
    schema, table = name_parts(catalogue.table)
    found = connection.exec_driver_sql(COLUMNS, {"table": table, "schema": schema}).mappings()
    types = {row["name"]: row["type"] for row in found}
    missing = [column for column in catalogue.columns if column not in types]
    if missing:
        what = f"column {', '.join(missing)} of {catalogue.table}" if types else f"table {catalogue.table}"
        how = f"apply migration {catalogue.migration}" if catalogue.migration else "create it"
        raise Refused(
            "migration_missing",
            f"{what}, which tells where archived rows are, does not exist. Nothing was archived: {how}.",
        )
    return types


def write_catalogue(connection: Connection, catalogue: Catalogue, entries: Iterable[Entry]) -> int:
    """Write the entries, any number of them, in the connection's transaction; how many.

    An entry that is there already is made equal. Raises Refused("migration_missing").
    """
    types = require_catalogue(connection, catalogue)
    id_column = next(column for column, word in catalogue.columns.items() if word == "id")
    words = list(dict.fromkeys(catalogue.columns.values()))
    names = {word: f"w{n}" for n, word in enumerate(words)}
    arrays = ", ".join(f"CAST(%({names[word]})s AS {TYPES[word]}[])" for word in words)
    columns = ", ".join(quote(column) for column in catalogue.columns)
    values = ", ".join(f"CAST(e.{names[word]} AS {types[column]})" for column, word in catalogue.columns.items())
    changed = ", ".join(
        f"{quote(column)} = excluded.{quote(column)}" for column in catalogue.columns if column != id_column
    )
    sql = (
        f"INSERT INTO {_table(catalogue)} ({columns}) SELECT {values} FROM unnest({arrays}) AS "
        f"e ({', '.join(names.values())}) ON CONFLICT ({quote(id_column)}) "
        f"DO {f'UPDATE SET {changed}' if changed else 'NOTHING'}"
    )
    count = 0
    for page in _pages(entries):
        parameters = {names[word]: [_value(catalogue, word, entry) for entry in page] for word in words}
        connection.exec_driver_sql(sql, parameters)
        count += len(page)
    return count


def remove_catalogue(connection: Connection, catalogue: Catalogue, ids: Iterable[str]) -> int:
    """Remove the entries with these ids (`entry_id`), any number of them; how many were there."""
    require_catalogue(connection, catalogue)
    id_column = next(column for column, word in catalogue.columns.items() if word == "id")
    sql = f"DELETE FROM {_table(catalogue)} WHERE CAST({quote(id_column)} AS text) = ANY(CAST(%(ids)s AS text[]))"
    return sum(connection.exec_driver_sql(sql, {"ids": list(page)}).rowcount for page in _pages(ids))


def count_catalogue(
    connection: Connection, catalogue: Catalogue, below: str, elsewhere: Sequence[str]
) -> dict[str, int] | None:
    """How many entries name each object whose key begins with `below`, or is one of `elsewhere`: what the column says
    -> entries.

    None where no column names the object. Raises Refused like `require_catalogue`.
    """
    require_catalogue(connection, catalogue)
    column = next((c for word in ("key", "url") for c, w in catalogue.columns.items() if w == word), None)
    if column is None:
        return None
    sql = (
        f"SELECT CAST({quote(column)} AS text) AS named, count(*) AS entries FROM {_table(catalogue)} "
        f"WHERE starts_with(CAST({quote(column)} AS text), %(begins)s) "
        f"OR CAST({quote(column)} AS text) = ANY(CAST(%(names)s AS text[])) GROUP BY 1"
    )
    said = {"begins": named_as(catalogue, below), "names": [named_as(catalogue, key) for key in elsewhere]}
    return {row.named: row.entries for row in connection.exec_driver_sql(sql, said)}


def named_as(catalogue: Catalogue, key: str) -> str:
    """How the catalogue's column names an object: by its key, or by the URL made of it."""
    return key if "key" in catalogue.columns.values() else _url(catalogue, key)


def _value(catalogue: Catalogue, word: str, entry: Entry) -> Any:
    return _url(catalogue, entry.key) if word == "url" else getattr(entry, word)


def _url(catalogue: Catalogue, key: str) -> str:
    return (catalogue.url or "").replace("{key}", percent_encoded(key, safe="/=-_.~"))


def _table(catalogue: Catalogue) -> str:
    schema, table = name_parts(catalogue.table)
    return f"{quote(schema or 'public')}.{quote(table)}"


def _pages(items: Iterable[Item]) -> Iterator[Sequence[Item]]:
    rest = iter(items)
    while page := list(islice(rest, PAGE)):
        yield page
