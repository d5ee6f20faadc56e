"""When each problem was first and last seen (S2-26), and in how many complete runs (B13).

A finding is one claim about one object or row. Items that make the same claim share its history:
a young object that becomes an orphan candidate keeps the time since which it is unreferenced.
Items that only *may* become one (ambiguous, unrecognised) do not: while identity was undecided,
nothing was known to be unreferenced.

A finding that was not seen is resolved; seen again later, it begins anew, with one observation.
`first_seen_at` and `last_seen_at` are evaluation instants and can lie in the past by hand;
`first_recorded_at` and `last_recorded_at` are the real clock, which a later deletion must ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from itertools import islice
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.tables import finding
from maintenance_defs.core.schemas import UTC_US

BATCH_ROWS = 5000  # rows a statement; large enough that round trips do not count

ASPECTS = {
    "young": "unreferenced",
    "orphan_candidate": "unreferenced",
    "missing_candidate": "missing",
    "missing_confirmed": "missing",
}

FINDINGS = pa.schema(
    [
        pa.field("item", pa.string(), nullable=False),
        pa.field("store", pa.string(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("source", pa.string()),
        pa.field("row_id", pa.string()),
        pa.field("first_seen_at", UTC_US, nullable=False),
        pa.field("last_seen_at", UTC_US, nullable=False),
        pa.field("resolved_at", UTC_US),
        pa.field("observations", pa.int64(), nullable=False),
        pa.field("first_recorded_at", UTC_US, nullable=False),
        pa.field("last_recorded_at", UTC_US, nullable=False),
    ]
)


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """INSERT that knows ON CONFLICT, which both dialects spell alike but SQLAlchemy keeps apart."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def observe(
    connection: sa.Connection,
    system: str,
    store: str,
    seen_by: Artefact,
    batches: Iterable[pa.RecordBatch],
    now: datetime,
) -> None:
    """Everything that one diff saw in one store; what it did not see is resolved.

    batches: item, key, source, row_id strings, the last three may be null; any order.
    A refused diff, whose inputs were complete, notes and resolves, but its sight does not count
    as an observation (B15). The same artefact counts once, however often it is told.
    Raises ValueError for an incomplete one, which proves nothing about what it did not see.
    """
    if seen_by.verdict == "incomplete":
        raise ValueError(f"artefact {seen_by.id} is incomplete: it is no observation")
    seen.create(connection)
    rows = (row for batch in batches for row in _rows(batch))
    while chunk := list(islice(rows, BATCH_ROWS)):
        connection.execute(seen.insert(), chunk)
    connection.execute(_continue(connection, system, store, seen_by, now))
    seen.drop(connection)
    old = finding.c
    connection.execute(
        finding.update()
        .where(old.system == system, old.store == store, old.resolved_at.is_(None), old.artefact_id != seen_by.id)
        .values(resolved_at=sa.case((old.last_seen_at > seen_by.as_of, old.last_seen_at), else_=seen_by.as_of))
    )


# What one diff saw, on its way into `finding`: only what differs from row to row is sent for each.
seen = sa.Table(
    "seen",
    sa.MetaData(),
    *(sa.Column(name, sa.Text) for name in ("key_hash", "aspect", "row_hash", "item", "key", "source", "row_id")),
    prefixes=["TEMPORARY"],
)


def _continue(connection: sa.Connection, system: str, store: str, seen_by: Artefact, now: datetime) -> Any:
    """Insert, or continue the history of an open finding, or begin that of a resolved one anew."""
    fixed = {
        "system": system,
        "store": store,
        "first_seen_at": seen_by.as_of,
        "last_seen_at": seen_by.as_of,
        "first_recorded_at": now,
        "last_recorded_at": now,
        "observations": int(seen_by.verdict == "complete"),
        "artefact_id": seen_by.id,
    }
    identity = (seen.c.key_hash, seen.c.aspect, seen.c.row_hash)
    once = (  # PostgreSQL refuses to touch a row twice in one statement; in order of the primary key
        sa.select(*identity, *(sa.func.min(seen.c[name]) for name in ("item", "key", "source", "row_id")))
        .add_columns(*(sa.literal(value, finding.c[name].type) for name, value in fixed.items()))
        .where(sa.true())  # SQLite would take ON CONFLICT for a join condition
        .group_by(*identity)
        .order_by(*identity)
    )
    statement = insert(connection, finding).from_select([*seen.c.keys(), *fixed], once)
    new, old = statement.excluded, finding.c
    # One that no complete run has seen yet dates from the first that does.
    anew = sa.or_(old.resolved_at.is_not(None), sa.and_(old.observations == 0, new.observations > 0))
    return statement.on_conflict_do_update(
        index_elements=[column.name for column in finding.primary_key],
        set_={
            "item": new.item,
            "first_seen_at": sa.case((anew, new.first_seen_at), else_=old.first_seen_at),
            "first_recorded_at": sa.case((anew, new.first_recorded_at), else_=old.first_recorded_at),
            "last_seen_at": sa.case(
                (sa.or_(anew, new.last_seen_at > old.last_seen_at), new.last_seen_at), else_=old.last_seen_at
            ),
            "last_recorded_at": new.last_recorded_at,
            "resolved_at": sa.null(),
            "observations": sa.case(
                (anew, new.observations),
                (old.artefact_id == new.artefact_id, old.observations),
                else_=old.observations + new.observations,
            ),
            "artefact_id": new.artefact_id,
        },
    )


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    columns = [batch.column(name).to_pylist() for name in ("item", "key", "source", "row_id")]
    for item, key, source, row_id in zip(*columns, strict=True):
        yield {
            "key_hash": _hash(key),
            "aspect": ASPECTS.get(item, item),
            "row_hash": _hash(source, row_id),
            "item": item,
            "key": _storable(key),
            "source": source,
            "row_id": _storable(row_id),
        }


def _hash(*values: str | None) -> str:
    """Of the exact values; null is not the empty string, and no two lists run together."""
    text = "".join("-" if value is None else f"{len(value)}:{value}" for value in values)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _storable(value: str | None) -> str | None:
    """PostgreSQL keeps no NUL in text; identity is the hash of the exact value."""
    return value.replace("\0", "\N{SYMBOL FOR NULL}") if value else value


def read(
    connection: sa.Connection, system: str, store: str | None, key: str | None, open_only: bool
) -> Iterator[pa.RecordBatch]:
    """Batches of FINDINGS, streamed from the server."""
    query = sa.select(*(finding.c[name] for name in FINDINGS.names)).where(finding.c.system == system)
    if store is not None:
        query = query.where(finding.c.store == store)
    if key is not None:
        query = query.where(finding.c.key_hash == _hash(key))
    if open_only:
        query = query.where(finding.c.resolved_at.is_(None))
    result = connection.execution_options(yield_per=BATCH_ROWS).execute(query)
    for rows in result.partitions():
        columns = [
            pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), FINDINGS, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=FINDINGS)
