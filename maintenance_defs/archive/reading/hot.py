"""Rows that are still in the table, in the form in which files keep them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from maintenance_defs.archive.reading.places import Place
from maintenance_defs.archive.reading.shapes import Field, column_fields
from maintenance_defs.archive.rows.columns import Column, fields_of
from maintenance_defs.archive.rows.export import as_kept
from maintenance_defs.archive.rows.part import UNKNOWN, Join, Part, organisation_of
from maintenance_defs.core.archive import Archive
from maintenance_defs.databases.archiving import as_literal
from maintenance_defs.databases.statements import name_parts

BATCH_BYTES = 8 << 20


def join_of(archive: Archive) -> Join | None:
    """Where the organisation of a row stands in another table; the file's field has that column's name."""
    said = archive.organisation
    if said is None or said.table is None:
        return None
    schema, name = name_parts(said.table)
    return Join(schema or "public", name, tuple(said.by.items()), said.column, said.column)


@dataclass(frozen=True)
class Hot:
    """The hot side of one archive."""

    place: Place
    archive: Archive

    @cached_property
    def fields(self) -> list[Field]:
        found = [field for column in self.place.columns for field in column_fields(column)]
        join = join_of(self.archive)
        return found if join is None else [*found, Field(join.stored_as, pa.string())]

    @cached_property
    def schema(self) -> pa.Schema:
        joined = [pa.field(field.name, field.type) for field in self.fields[len(fields_of(self.place.columns)) :]]
        return pa.schema([*fields_of(self.place.columns), *joined])

    def column(self, name: str) -> Column | None:
        return next((column for column in self.place.columns if column.name == name), None)

    def rows(self, where: str) -> Iterator[pa.RecordBatch]:
        """Rows `t` for which `where` holds, each once. Raises Moved before the first batch."""
        part = self._part
        organisation, joined = organisation_of(part, self.place.columns)
        selected = [expression for column in self.place.columns for expression in column.selected("t")]
        if isinstance(part.organisation, Join):
            selected.append(organisation)
        reader = self.place.stream(", ".join(selected), where, joined, batch_bytes=BATCH_BYTES)
        kinds = self.schema.types
        for batch in reader:
            arrays = [as_kept(array, kind) for array, kind in zip(batch.columns, kinds, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def of(self, organisation: str) -> str:
        """SQL: the row `t` is this organisation's."""
        said, _ = organisation_of(self._part, self.place.columns)
        return f"coalesce({said}, {as_literal(UNKNOWN)}) = {as_literal(organisation)}"

    @property
    def _part(self) -> Part:
        said = self.archive.organisation
        owner = join_of(self.archive) or (said.column if said is not None else None)
        return Part(self.place.oid, "", self.archive.table, self.archive.time, None, None, owner)
