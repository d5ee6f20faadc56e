"""SQL text as people write it: names of tables, markers of parameters, one reading statement at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maintenance_defs.core.errors import SourceUnavailable

# What a marker must not be looked for in, then the markers. A colon after a word or another colon is
# a slice or a cast, not a marker.
_PIECES = re.compile(
    r"""
      (?P<opaque> (?<!\w)[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*`
                | (?<!\w)(?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag) | --[^\n]* | /\*.*?\*/ )
    | (?<![:\w]):(?P<name>[A-Za-z_]\w*)
    | (?P<mark>\?)
    | (?P<end>;)
    | (?P<percent>%)
    """,
    re.VERBOSE | re.DOTALL,
)
_READS = re.compile(r"(?:SELECT|WITH|VALUES|TABLE)\b|\(", re.IGNORECASE)
_NAME_PARTS = re.compile(r'"((?:[^"]|"")+)"|([^."]+)')

Parameters = Sequence[Any] | Mapping[str, Any]


def for_driver(sql: str, parameters: Parameters, paramstyle: str) -> tuple[str, dict[str, Any] | tuple[Any, ...]]:
    """The statement and its parameters as a DBAPI driver of `paramstyle` takes them.

    parameters: a sequence for `?` markers, a mapping for `:name` markers; with an empty one `?` and
        `:name` stay as they are (`?` is also a JSON operator). Markers in literals and comments stay.
    Raises SourceUnavailable when it is not one reading statement, or markers and parameters do not meet.
    """
    named = isinstance(parameters, Mapping)
    values = dict(parameters) if named else {f"p{n}": value for n, value in enumerate(parameters)}
    if named and not any(found["name"] for found in _PIECES.finditer(sql)):
        values = {}  # parameters that nothing asks for: the driver then takes the text as it is
    order: list[str] = []
    positional = paramstyle in ("qmark", "format")
    marker = _MARKERS[paramstyle]

    def replace(found: re.Match[str]) -> str:
        text = found[0]
        if found["end"] and statement[found.end() :].strip():
            raise SourceUnavailable("the SQL holds more than one statement; write one SELECT. Nothing was read.")
        if found["end"]:
            return ""
        name = found["name"] if named else (f"p{len(order)}" if found["mark"] else None)
        if name is not None and values:
            if name not in values:
                raise SourceUnavailable(f"the SQL has a marker without a parameter: {text}. Nothing was read.")
            order.append(name)
            return marker(name)
        # The driver reads every % as a marker, also in literals and comments.
        return text.replace("%", "%%") if values and paramstyle in ("pyformat", "format") else text

    statement = sql.strip()
    if not _READS.match(_without_comments(statement)):
        raise SourceUnavailable("the SQL does not begin with SELECT, WITH, VALUES or TABLE. Nothing was read.")
    translated = _PIECES.sub(replace, statement)
    if not named and len(order) != len(values):
        raise SourceUnavailable(f"the SQL has {len(order)} `?` for {len(values)} parameters. Nothing was read.")
    if positional:
        return translated, tuple(values[name] for name in order)
    return translated, {name: values[name] for name in dict.fromkeys(order)}


_MARKERS: dict[str, Callable[[str], str]] = {
    "qmark": lambda name: "?",
    "format": lambda name: "%s",
    "named": lambda name: f":{name}",
    "pyformat": lambda name: f"%({name})s",
}


def _without_comments(sql: str) -> str:
    return re.sub(r"\A(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", "", sql, flags=re.DOTALL)


def name_parts(name: str) -> tuple[str | None, str]:
    """(schema or None, table), byte for byte: public.assets, assets, or with quotes "Odd.Schema"."Odd Table"."""
    parts = [(quoted.replace('""', '"') if quoted else plain) for quoted, plain in _NAME_PARTS.findall(name)]
    if _NAME_PARTS.sub("", name).strip(".") or len(parts) not in (1, 2) or name.count(".") < len(parts) - 1:
        raise SourceUnavailable(f'{name!r} is no table name; write table, schema.table or "Schema"."Table"')
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def quote(identifier: str) -> str:
    """The identifier in double quotes, as standard SQL, PostgreSQL and SQLite take it."""
    if "\0" in identifier:
        raise SourceUnavailable("an identifier holds a zero byte")
    return '"' + identifier.replace('"', '""') + '"'
