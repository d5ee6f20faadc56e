"""Which rows a list of row ids means, as SQL that an index can serve.

A row id is what a snapshot calls a row: the text of its one id column ('' where that is NULL), or a JSON
list of the texts of several. Text decides, byte for byte: an id in another spelling ('007', other case under
a collation without case) is another row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.base import Snapshot, Table

Texts = tuple[str | None, ...]

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
# PostgreSQL: the type to compare in, so that the column stays bare, and the texts that can be of it.
_INDEXED = {
    "uuid": ("uuid", _UUID),
    "smallint": ("bigint", _WHOLE),
    "integer": ("bigint", _WHOLE),
    "bigint": ("bigint", _WHOLE),
    "text": ("text", None),
    "character varying": ("text", None),
}


@dataclass(frozen=True)
class IdColumn:
    """One id column of a table, as the snapshot knows it."""

    name: str  # quoted
    type_name: str
    text: str  # SQL for its text: Snapshot.as_text


def row_filter(
    snapshot: Snapshot, table: Table, id_columns: Sequence[str], row_ids: Sequence[str]
) -> tuple[str, list[Any]]:
    """(condition with `?` markers, parameters): true for the rows of these ids and for no other.

    To stand after WHERE in `snapshot.read(sql, parameters)`, in brackets already; ids that no row can have
    are left out. Uses an index on the id columns for uuid, whole numbers and text; SQLite: on the first one.
    Raises SourceUnavailable when the table has no such column.
    """
    return condition(snapshot.dialect, id_columns_of(snapshot, table, id_columns), row_ids)


def id_columns_of(snapshot: Snapshot, table: Table, names: Sequence[str]) -> list[IdColumn]:
    """The id columns as they must stand in SQL. Raises SourceUnavailable for a name the table does not have."""
    found = []
    for name in names:
        column = next((c for c in table.columns if c == name), None)
        if column is None and snapshot.dialect == "sqlite":  # compares names without case
            column = next((c for c in table.columns if c.lower() == name.lower()), None)
        if column is None:
            raise SourceUnavailable(f"table {table} has no column {name!r}; it has {', '.join(table.columns)}.")
        quoted = snapshot.quote(column)
        found.append(IdColumn(quoted, table.columns[column], snapshot.as_text(quoted, table.columns[column])))
    return found


def condition(dialect: str, columns: Sequence[IdColumn], row_ids: Sequence[str]) -> tuple[str, list[Any]]:
    """See row_filter."""
    wanted = [texts for row_id in row_ids if (texts := texts_of(row_id, len(columns))) is not None]
    if not wanted or not columns:
        return "(1 = 0)", []
    if dialect == "postgresql":
        return _postgres(columns, wanted)
    return _sqlite(columns, wanted) if dialect == "sqlite" else _generic(columns, wanted)


def texts_of(row_id: str, width: int) -> Texts | None:
    """The texts of the id columns; None for an id that no row can have."""
    try:
        row_id.encode()
        texts = [row_id] if width == 1 else json.loads(row_id)
    except ValueError:  # also a text that is no UTF-8
        return None
    fits = isinstance(texts, list) and len(texts) == width and all(t is None or isinstance(t, str) for t in texts)
    return tuple(texts) if fits else None


def by_texts(row_ids: Sequence[str], width: int) -> dict[Texts, str]:
    """The row ids as they were asked for, by the texts that a row shows; NULL in a single id column is ''."""
    found = {texts: row_id for row_id in row_ids if (texts := texts_of(row_id, width)) is not None}
    if ("",) in found:
        found[(None,)] = found[("",)]
    return found


def _postgres(columns: Sequence[IdColumn], wanted: Sequence[Texts]) -> tuple[str, list[Any]]:
    kinds = [_INDEXED.get(re.sub(r"\(.*\)", "", column.type_name)) for column in columns]

    def indexed(texts: Texts) -> bool:
        return all(
            text is not None and (kind is None or kind[1] is None or kind[1].fullmatch(text) is not None)
            for text, kind in zip(texts, kinds, strict=True)
        )

    wanted = [texts for texts in wanted if not any("\0" in (text or "") for text in texts)]
    types = [kind[0] if kind else "text" for kind in kinds]
    bare = [column.name if kind else f"({column.text})" for column, kind in zip(columns, kinds, strict=True)]
    pairs = []
    for n, (side, type_name) in enumerate(zip(bare, types, strict=True)):
        pairs.append(f"{side} = w.c{n}")
        if type_name == "text":  # a collation may find 'ABC' equal to 'abc'
            pairs.append(f'{side} COLLATE "C" = w.c{n} COLLATE "C"')
    said: list[str] = []
    parameters: list[Any] = []
    if whole := [texts for texts in wanted if indexed(texts)]:
        names = ", ".join(f"c{n}" for n in range(len(columns)))
        arrays = ", ".join(f"CAST(? AS {type_name}[])" for type_name in types)
        if len(columns) == 1:
            said.append(f"{bare[0]} = ANY({arrays})")
            parameters.append([texts[0] for texts in whole])
            if types[0] == "text":
                said[0] = f'({said[0]} AND {bare[0]} COLLATE "C" = ANY({arrays}))'
                parameters.append(parameters[0])
        else:
            said.append(f"EXISTS (SELECT FROM unnest({arrays}) AS w ({names}) WHERE {' AND '.join(pairs)})")
            parameters.extend([list(values) for values in zip(*whole, strict=True)])
    for texts in wanted:
        if None in texts or texts == ("",):
            each = [
                f"{column.text} IS NULL" if text is None or texts == ("",) else f'{column.text} COLLATE "C" = ?'
                for column, text in zip(columns, texts, strict=True)
            ]
            said.append(f"({' AND '.join(each)})")
            parameters.extend([text for text in texts if text is not None and texts != ("",)])
    return f"({' OR '.join(said) or '1 = 0'})", parameters


def _sqlite(columns: Sequence[IdColumn], wanted: Sequence[Texts]) -> tuple[str, list[Any]]:
    """The index finds candidates of every storage class, their text decides; quote() keeps NULL and '' apart."""
    spelled = " || ',' || ".join(f"quote(CAST({column.name} AS TEXT))" for column in columns)
    exact = [",".join(_quoted(text) for text in texts) for texts in wanted]
    nothing = any(not texts[0] for texts in wanted)
    if nothing and len(columns) == 1:
        exact.append("NULL")
    said, parameters = f"{spelled} IN (SELECT value FROM json_each(?))", [_json(exact)]
    # The text of a fraction has 15 digits, too few to find it by.
    if not re.search("REAL|FLOA|DOUB", columns[0].type_name, re.IGNORECASE):
        firsts = _json(sorted({texts[0] or "" for texts in wanted}))
        value = "SELECT {} FROM json_each(?)"
        # The last one decides how the comparison is made: without a type, so that every index serves.
        among = " UNION ALL ".join(value.format(v) for v in ("CAST(value AS NUMERIC)", "CAST(value AS BLOB)", "value"))
        candidates = f"{columns[0].name} IN ({among})"
        if nothing:
            candidates = f"({candidates} OR {columns[0].name} IS NULL)"
        said, parameters = f"{candidates} AND {said}", [firsts] * 3 + parameters
    return f"({said})", parameters


def _quoted(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def _json(values: Sequence[str]) -> str:
    return json.dumps(list(values), ensure_ascii=False)


def _generic(columns: Sequence[IdColumn], wanted: Sequence[Texts]) -> tuple[str, list[Any]]:
    said, parameters = [], []
    for texts in wanted:
        each = []
        for column, text in zip(columns, texts, strict=True):
            each.append(f"{column.text} IS NULL" if text is None else f"{column.text} = ?")
            parameters.extend([text] if text is not None else [])
            if texts == ("",):
                each[-1] = f"({each[-1]} OR {column.text} IS NULL)"
        said.append(f"({' AND '.join(each)})")
    return f"({' OR '.join(said)})", parameters
