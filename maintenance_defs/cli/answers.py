"""Rows on stdout: a table for people, CSV or JSON for programs. CSV and JSON are written as the rows come."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO
from uuid import UUID

import click

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 200  # rows of a table for people; CSV and JSON have all
SPECIAL = "__special"  # the companion of a column, for what its type cannot hold; hardly ever there
WIDEST = 60  # characters of one cell of it


def plain(value: Any) -> Any:
    """A value as JSON has it: instants in ISO 8601, exact numbers as text, bytes as `\\x…`, NaN by its name."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if isinstance(value, datetime):
        text = value.isoformat()
        return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | timedelta):
        return str(value)
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Iterable):
        return [plain(one) for one in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def rows_of(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        names = batch.schema.names
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield {name: plain(value) for name, value in zip(names, row, strict=True)}


def print_rows_json(before: Mapping[str, Any], batches: Iterable[pa.RecordBatch], out: TextIO | None = None) -> int:
    """One JSON object: what is in `before`, then "rows"; how many there were."""
    out = out or sys.stdout
    head = json.dumps(dict(before), ensure_ascii=False, indent=2)
    out.write(head[: -len("\n}")] if before else head[:-1])
    out.write(',\n  "rows": [' if before else '\n  "rows": [')
    number = 0
    for row in rows_of(batches):
        out.write(("," if number else "") + "\n    " + json.dumps(row, ensure_ascii=False))
        number += 1
    out.write("\n  ]\n}\n" if number else "]\n}\n")
    return number


def print_csv(names: Iterable[str], batches: Iterable[pa.RecordBatch], out: TextIO | None = None) -> int:
    """A header, then a line a row. Texts are quoted, NULL is an empty field; lists and objects are JSON."""
    out = out or sys.stdout
    out.write(",".join(map(_field, names)) + "\n")
    number = 0
    for row in rows_of(batches):
        out.write(",".join(_field(_cell(value)) for value in row.values()) + "\n")
        number += 1
    return number


def print_table(names: Iterable[str], batches: Iterable[pa.RecordBatch]) -> int:
    """The first rows, long texts cut; how many were shown. Companions of columns are told where they say something."""
    from maintenance_defs.reporting.text import Table, shown, text_table

    found = rows_of(batches)
    rows = list(islice(found, SHOWN))
    told = [n for n in dict.fromkeys(names) if not n.endswith(SPECIAL) or any(row[n] is not None for row in rows)]
    cells = [tuple(_cut(shown(_text(row[name]))) for name in told) for row in rows]
    if cells:
        click.echo(text_table(Table(tuple(shown(name) for name in told), cells)))
    if next(found, None) is not None:
        click.echo(f"  and more; --csv and --json give every row, whole (these are the first {SHOWN})")
    return len(cells)


def _field(value: Any) -> str:
    if value is None:
        return ""
    return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else str(value).lower()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _text(value: Any) -> str:
    return "" if value is None else str(_cell(value))


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
