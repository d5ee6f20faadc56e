"""One shape for all months of a table, whatever its columns once were (H106, H108).

A column that was added is null before; integers, floats and decimals are widened where nothing is lost; enums,
domains and other text are text. What cannot be one type without loss stays apart: the newest keeps its name `c`,
the rows of version n have theirs in `c__v<n>`; so does a column that was dropped and came again. Nothing is ever
mixed in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from maintenance_defs.archive.rows.columns import COMPANION, Column
from maintenance_defs.archive.units.versions import JOINED

_DIGITS = {pa.int16(): 5, pa.int32(): 10, pa.int64(): 19}
_DUCKDB = {
    pa.bool_(): "BOOLEAN", pa.int16(): "SMALLINT", pa.int32(): "INTEGER", pa.int64(): "BIGINT", pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE", pa.string(): "VARCHAR", pa.binary(): "BLOB", pa.uuid(): "UUID", pa.date32(): "DATE",
    pa.time64("us"): "TIME", pa.timestamp("us"): "TIMESTAMP", pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A field of a file. `number` tells text that is a number (numeric without precision) from other text."""

    name: str
    type: pa.DataType
    number: bool = False
    of: str | None = None  # the column whose companion it is


@dataclass(frozen=True)
class Source:
    """Where a column of the whole comes from in one version: a field of its files, or None where they have none."""

    column: str
    field: str | None


@dataclass(frozen=True)
class Shape:
    """The columns of the whole, and where each version has them."""

    schema: pa.Schema
    versions: Mapping[int, tuple[Source, ...]]  # in the order of the schema

    def batch(self, version: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of one version's fields in the shape of the whole."""
        names = batch.schema.names
        arrays = []
        for target, source in zip(self.schema, self.versions[version], strict=True):
            if source.field is None:
                arrays.append(pa.nulls(batch.num_rows, target.type))
                continue
            array = batch.column(names.index(source.field))
            arrays.append(array if array.type == target.type else array.cast(target.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def file_fields(listed: Iterable[Mapping[str, Any]]) -> list[Field]:
    """The fields of the files of one schema version, in order. listed: see versions.catalogued."""
    known = {field.name for field in fields(Column)}
    found: list[Field] = []
    for entry in listed:
        if JOINED in entry:
            found.append(Field(str(entry["name"]), pa.string()))
        else:
            found += column_fields(Column(**{name: value for name, value in entry.items() if name in known}))
    return found


def column_fields(column: Column) -> list[Field]:
    first, *companion = column.fields()
    number = column.builtin == "numeric" and pa.types.is_string(first.type)
    return [Field(first.name, first.type, number), *(Field(c.name, c.type, of=column.name) for c in companion)]


def shape(versions: Mapping[int, Sequence[Field]]) -> Shape:
    """One shape for these versions, the last of which is the newest."""
    named: dict[str, tuple[pa.DataType, dict[int, str]]] = {}
    for name in _names(versions):
        runs = _runs(name, versions)
        for run in reversed(runs):
            column = name if run is runs[-1] else f"{name}__v{run.first}"
            while column in named:  # a column of the table may be called so
                column += "_"
            named[column] = (run.type, dict.fromkeys(run.versions, name))
            companions = {
                version: field.name for version in run.versions for field in versions[version] if field.of == name
            }
            if companions:
                named[column + COMPANION] = (pa.string(), companions)
    schema = pa.schema([pa.field(column, kind) for column, (kind, _) in named.items()])
    places = {
        version: tuple(Source(column, by_version.get(version)) for column, (_, by_version) in named.items())
        for version in versions
    }
    return Shape(schema, places)


def duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        return duckdb_type(kind.value_type) + "[]"
    return _DUCKDB[kind]


@dataclass
class _Run:
    """Versions in which a column is the same one."""

    first: int
    type: pa.DataType
    number: bool
    versions: list[int]
    last_place: int


def _names(versions: Mapping[int, Sequence[Field]]) -> list[str]:
    """Columns of the newest version first, then those that only older ones have."""
    newest_first = reversed(list(versions.values()))
    return list(dict.fromkeys(field.name for listed in newest_first for field in listed if field.of is None))


def _runs(name: str, versions: Mapping[int, Sequence[Field]]) -> list[_Run]:
    runs: list[_Run] = []
    for place, (version, listed) in enumerate(versions.items()):
        field = next((f for f in listed if f.name == name and f.of is None), None)
        if field is None:
            continue
        # A column that was absent in between is another one when it comes again.
        run = runs[-1] if runs and runs[-1].last_place + 1 == place else None
        wider = None if run is None or run.number != field.number else _exact(run.type, field.type)
        if run is None or wider is None:
            runs.append(_Run(version, field.type, field.number, [version], place))
        else:
            run.type, run.last_place = wider, place
            run.versions.append(version)
    return runs


def _exact(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds every value of both; None where there is none."""
    if one == other:
        return one
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = _exact(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return max(one, other, key=lambda kind: _DIGITS[kind])
    if pa.types.is_floating(one) and pa.types.is_floating(other):
        return pa.float64()
    for integer, floating in ((one, other), (other, one)):
        if pa.types.is_integer(integer) and pa.types.is_floating(floating):
            return pa.float64() if integer in (pa.int16(), pa.int32()) else None  # beyond 2^53 a double is not exact
    sizes = [_decimal(kind) for kind in (one, other)]
    if sizes[0] is None or sizes[1] is None:
        return None
    scale = max(sizes[0][1], sizes[1][1])
    precision = max(sizes[0][0], sizes[1][0]) + scale
    return pa.decimal128(precision, scale) if precision <= 38 else None


def _decimal(kind: pa.DataType) -> tuple[int, int] | None:
    """(digits before the point, behind it)."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return (_DIGITS[kind], 0) if kind in _DIGITS else None
