"""Text that people type, as a value of a column: in PostgreSQL, in a file, and as the catalogue's index has it."""

from __future__ import annotations

import re
import uuid

import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.archive.rows.columns import Column
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import as_literal
from maintenance_defs.databases.statements import quote

_INTEGER = re.compile(r"[+-]?\d{1,19}")
_BITS = {"int2": 16, "int4": 32, "int8": 64}
TEXTS = ("text", "varchar", "name")


def canonical(column: Column, value: str) -> str | None:
    """The text that PostgreSQL writes for what was typed; None when no value of the column is written so.

    Raises Refused for a type by whose text nothing is looked up.
    """
    if "\0" in value:
        return None
    kind = column.builtin
    if kind in _BITS:
        if not _INTEGER.fullmatch(value.strip()):
            return None
        number = int(value)
        return str(number) if -(2 ** (_BITS[kind] - 1)) <= number < 2 ** (_BITS[kind] - 1) else None
    if kind == "uuid":
        try:
            return str(uuid.UUID(value.strip()))
        except ValueError:
            return None
    if kind == "bpchar":
        return value.ljust(column.typmod - 4) if column.typmod > 4 else value
    if kind in TEXTS or (not kind and pa.types.is_string(column.form.arrow)):
        return value
    raise Refused(
        "lookup_type",
        f"values of column {column.name!r} ({column.type_name}) cannot be looked up by text. Nothing was read; query "
        f"the archive instead.",
    )


def in_table(column: Column, text: str) -> str:
    """PostgreSQL: the column of row `t` has this canonical text; an index on the column serves."""
    value = f"t.{quote(column.name)}"
    if column.builtin == "" or column.builtin == "bpchar":  # an enum knows its labels only
        return f"{column.text('t')} = {as_literal(text)}"
    return f"{value} = CAST({as_literal(text)} AS {column.base_type})"


def in_file(array: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    """Which values of a file's field have this canonical text."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return pc.equal(array.cast(kind.storage_type), pa.scalar(uuid.UUID(text).bytes, kind.storage_type))
    if pa.types.is_integer(kind):
        return pc.equal(array, pa.scalar(int(text), pa.int64()))
    return pc.equal(array, pa.scalar(text, pa.string()))


def texts(batch: pa.RecordBatch, names: tuple[str, ...]) -> list[tuple[str | None, ...]]:
    """Rows of these columns as texts that PostgreSQL reads."""
    columns = [[None if value is None else _text(value) for value in batch.column(name).to_pylist()] for name in names]
    return list(zip(*columns, strict=True))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
