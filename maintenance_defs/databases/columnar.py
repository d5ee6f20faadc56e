"""Rows of a DBAPI cursor as Arrow batches, for drivers that know no Arrow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.schemas import UTC_US

BATCH_ROWS = 16_384

# Drivers do not say of which type an expression is, and the first batch may be all NULL. So as_instant()
# marks its expression, and the column keeps its type: `… /*instant*/) AS dated_at`.
INSTANT = "/*instant*/"
_MARKED = re.compile(re.escape(INSTANT) + r'\)\s+AS\s+(?:"((?:[^"]|"")+)"|`([^`]+)`|\[([^\]]+)\]|(\w+))', re.IGNORECASE)


def instant_columns(sql: str) -> set[str]:
    """The result columns that are instants: the aliases of as_instant() expressions."""
    return {next(name for name in names if name).replace('""', '"') for names in _MARKED.findall(sql)}


def reader(
    names: Sequence[str], sql: str, fetch: Callable[[int], Sequence[Sequence[Any]]], done: Callable[[], None]
) -> pa.RecordBatchReader:
    """Stream rows as batches of BATCH_ROWS; a column's type is settled by the first batch.

    fetch(n) returns up to n rows, none at the end; done() is called once the stream ends, also early.
    Raises SourceUnavailable when later rows do not fit the type of the first ones.
    """
    instants = instant_columns(sql)
    first = fetch(BATCH_ROWS)
    columns = list(zip(*first, strict=True)) or [()] * len(names)
    schema = pa.schema([(name, _type(column, name in instants)) for name, column in zip(names, columns, strict=True)])

    def batches() -> Iterator[pa.RecordBatch]:
        rows = first
        try:
            while rows:
                arrays = [_array(column, field) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
                rows = fetch(BATCH_ROWS)
        finally:
            done()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _type(values: Sequence[Any], instant: bool) -> pa.DataType:
    kinds = {type(value) for value in values if value is not None}
    if instant or (kinds and kinds <= {datetime, date}):
        return UTC_US
    for kind, arrow in ((bool, pa.bool_()), (int, pa.int64())):
        if kinds == {kind}:
            return arrow
    if kinds and kinds <= {int, float, Decimal}:
        return pa.float64()
    return pa.string()


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    try:
        if field.type == UTC_US:
            return pa.array([_instant(value) for value in values], UTC_US)
        if field.type == pa.string():
            return pa.array(
                [value if value is None or isinstance(value, str) else _text(value) for value in values]
            ).cast(pa.string())
        if field.type == pa.float64():
            return pa.array([value if value is None else float(value) for value in values], field.type)
        return pa.array(values, field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise SourceUnavailable(
            f"column {field.name!r} began with {field.type} and goes on with something else ({error}); "
            f"cast it in the SQL. The snapshot was given up."
        ) from None


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "backslashreplace") if isinstance(value, bytes | memoryview) else str(value)


def _instant(value: Any) -> datetime | None:
    """A driver's value as aware UTC; naive values are UTC, what is no instant is None."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return None
