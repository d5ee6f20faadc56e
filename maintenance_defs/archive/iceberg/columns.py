"""Columns of the archive as columns of an Iceberg table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.update.schema import UpdateSchema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from maintenance_defs.core.errors import Refused

_TYPES: dict[pa.DataType, IcebergType] = {
    pa.bool_(): BooleanType(), pa.int16(): IntegerType(), pa.int32(): IntegerType(), pa.int64(): LongType(),
    pa.float32(): FloatType(), pa.float64(): DoubleType(), pa.string(): StringType(), pa.binary(): BinaryType(),
    pa.uuid(): UUIDType(), pa.date32(): DateType(), pa.time64("us"): TimeType(),
    pa.timestamp("us"): TimestampType(), pa.timestamp("us", tz="UTC"): TimestamptzType(),
}  # fmt: skip
_WIDER: dict[type[IcebergType], type[IcebergType]] = {IntegerType: LongType, FloatType: DoubleType}


def iceberg_type(kind: pa.DataType, ids: Iterator[int]) -> IcebergType:
    if pa.types.is_decimal(kind):
        return DecimalType(kind.precision, kind.scale)
    if pa.types.is_list(kind):
        return ListType(element_id=next(ids), element=iceberg_type(kind.value_type, ids), element_required=False)
    return _TYPES[kind]


def iceberg_schema(columns: pa.Schema) -> Schema:
    """All may be null. Ids are given by the catalogue when the table is made."""
    ids = count(1)
    return Schema(*(NestedField(next(ids), c.name, iceberg_type(c.type, ids), required=False) for c in columns))


def differs(now: Schema, columns: pa.Schema) -> bool:
    """Whether the table has other columns, in whatever order."""
    return _bare(now) != _bare(iceberg_schema(columns))


def _bare(schema: Schema) -> dict[str, str]:
    """Types without the ids in them."""
    return {field.name: _words(field.field_type) for field in schema.fields}


def _words(kind: IcebergType) -> str:
    return f"list<{_words(kind.element_type)}>" if isinstance(kind, ListType) else str(kind)


def evolve(update: UpdateSchema, now: Schema, columns: pa.Schema, time: str) -> None:
    """Add, widen and remove columns until the table has these.

    A column that became another one is removed and added again, with an id of its own: no file that has the old one
    stays in the table. Raises Refused("time_type") where that is the column by which the table is partitioned.
    """
    wanted = iceberg_schema(columns)
    have = {field.name: field.field_type for field in now.fields}
    again = [f.name for f in wanted.fields if f.name in have and not _widens(have[f.name], f.field_type)]
    gone = [name for name in have if name not in {field.name for field in wanted.fields}]
    if time in (*again, *gone):
        raise Refused(
            "time_type",
            f"column {time!r}, by which the Iceberg table is partitioned, has another type now. The table was left as "
            f"it is, and holds what it held; make it anew: maintain archive publish SYSTEM ARCHIVE --rebuild",
        )
    for name in (*again, *gone):
        update.delete_column((name,))
    for field in wanted.fields:
        if field.name not in have or field.name in again:
            update.add_column((field.name,), field.field_type)
        elif _words(have[field.name]) != _words(field.field_type):
            _widen(update, (field.name,), field.field_type)


def _widen(update: UpdateSchema, path: tuple[str, ...], kind: IcebergType) -> None:
    if isinstance(kind, ListType):
        _widen(update, (*path, "element"), kind.element_type)
    else:
        update.update_column(path, kind)


def _widens(one: IcebergType, other: IcebergType) -> bool:
    if isinstance(one, ListType) and isinstance(other, ListType):
        return _widens(one.element_type, other.element_type)
    if isinstance(one, DecimalType) and isinstance(other, DecimalType):
        return one.scale == other.scale and one.precision <= other.precision
    return one == other or _WIDER.get(type(one)) is type(other)
