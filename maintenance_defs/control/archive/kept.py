"""Objects that archives keep in the stores: what a reconciliation must know of them, so that none looks unneeded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from maintenance_defs.control.archive.tables import file, unit, value
from maintenance_defs.control.retention.base import Part

PAGE = 5000
NEEDED = ("proven", "slimmed")  # of values: only the object holds it, or will in a moment
KEPT = pa.schema(
    [
        pa.field("store", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("row_id", pa.string(), nullable=False),  # 'file of archive phi_audit, unit 2025-03: <file name>'
        pa.field("dated_at", pa.timestamp("us", "UTC")),
        pa.field("size_bytes", pa.int64()),  # null where nobody proved it yet
        pa.field("needed", pa.bool_(), nullable=False),  # its absence is a finding; the others only may be there
    ]
)


class Kept(Part):
    def kept_objects(self, system: str, gone_since: datetime | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of KEPT, in no order: files and values of every archive, also of those not declared any more.

        All that may be in a store: live ones, those of an export under way, ended ones until their object was seen
        to be gone; and those seen so after `gone_since`, which a listing begun then may still show.
        """
        gone = sa.or_(file.c.object_gone_at.is_(None), *_since(file.c.object_gone_at, gone_since))
        files = (
            sa.select(file.c.store, file.c.key, file.c.created_at, file.c.size_bytes, file.c.state, file.c.archive,
                      unit.c.label)
            .join(unit, unit.c.id == file.c.unit_id, isouter=True)
            .where(file.c.system == system, gone)
        )  # fmt: skip
        there = sa.or_(value.c.state != "expired", *_since(value.c.changed_at, gone_since))
        values = sa.select(
            value.c.store, value.c.key, value.c.archived_at, value.c.size_bytes, value.c.state, value.c.archive,
            value.c.row_id,
        ).where(value.c.system == system, there)  # fmt: skip
        with self._engine.connect() as connection:
            for page in connection.execution_options(yield_per=PAGE).execute(files).partitions():
                yield _batch([(*row[:4], row[4] == "live", _file(row)) for row in page])
            for page in connection.execution_options(yield_per=PAGE).execute(values).partitions():
                yield _batch([(*row[:4], row[4] in NEEDED, _value(row)) for row in page])


def _since(column: sa.ColumnElement[Any], since: datetime | None) -> list[sa.ColumnElement[bool]]:
    return [] if since is None else [column >= since]


def _file(row: Any) -> str:
    """One name a file: of two in a unit, each may be missing."""
    return f"file of archive {row.archive}, unit {row.label or 'unknown'}: {row.key.rpartition('/')[2]}"


def _value(row: Any) -> str:
    return f"value of archive {row.archive}, row {row.row_id}"


def _batch(rows: list[tuple[str, str, datetime | None, int, bool, str]]) -> pa.RecordBatch:
    store, key, dated_at, size, needed, row_id = zip(*rows, strict=True)
    sizes = [bytes_ if is_needed else None for bytes_, is_needed in zip(size, needed, strict=True)]
    columns = zip((store, key, row_id, dated_at, sizes, needed), KEPT, strict=True)
    return pa.RecordBatch.from_arrays([pa.array(list(c), f.type) for c, f in columns], schema=KEPT)
