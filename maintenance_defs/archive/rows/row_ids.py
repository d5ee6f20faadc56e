"""Keys and hashes of rows that leave one by one: what goes is what was archived, or was to expire, unchanged (F78)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.archive.rows.columns import Column
from maintenance_defs.archive.rows.export import HASH
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.archive.rows.part import UNKNOWN, Part, selected_from, settled
from maintenance_defs.control.archive import UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase, as_literal
from maintenance_defs.databases.partitions import deleting
from maintenance_defs.databases.partitions.sql import ask
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import quote
from maintenance_defs.reconcile.calculator import literal

EXPIRED = "expired.parquet"


def write_expired(
    snapshot: PostgresSnapshot,
    part: Part,
    columns: Sequence[Column],
    key: Sequence[str],
    organisations: Sequence[str],
    target: Path,
) -> None:
    """The same list for rows that are not archived because their time is over."""
    columns = settled(part, columns)
    by_name = {column.name: column for column in columns}
    organisation, rows = selected_from(part, columns)
    listed = ", ".join(as_literal(name) for name in organisations)
    texts = ", ".join(f"{by_name[name].text('t')} AS k{n}" for n, name in enumerate(key))
    schema = pa.schema([*((name, pa.string()) for name in key), (HASH, pa.int64())])
    sql = (
        f"SELECT {texts}, hashtextextended(CAST(t.* AS text), 0) AS {HASH} {rows} "
        f"AND coalesce({organisation}, {as_literal(UNKNOWN)}) IN ({listed})"
    )
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in snapshot.stream(sql):
            arrays = [array.cast(field.type) for array, field in zip(batch.columns, schema, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def read_row_ids(home: Home, artefact_id: str | None, *, uncopied: bool) -> Iterator[pa.RecordBatch]:
    """The list in its one order, with the hash under the name that a deletion knows.

    uncopied: also the rows whose time is over, which are in no file and stand last.
    """
    if artefact_id is None:
        raise Refused("no_row_ids", "the unit has no list of its rows. Nothing was deleted; export it again.")
    artefact = home.control.get(artefact_id)
    folder = home.artefacts.local(artefact.uri or "", artefact.digest)
    for file in sorted(folder.glob("*.parquet"), key=lambda path: (path.name == EXPIRED, path.name)):
        if file.name == EXPIRED and not uncopied:
            continue
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(5000):
                names = [deleting.HASH if name == HASH else name for name in batch.schema.names]
                yield batch.rename_columns(names)


def write_kept(
    database: ArchiveDatabase, unit: UnitRow, columns: Sequence[Column], key: Sequence[str], target: Path
) -> None:
    """The keys of listed rows that were not deleted, in the canonical text of their columns, as k0, k1, …."""
    by_name = {column.name: column for column in columns}
    schema = pa.schema([(f"k{n}", pa.string()) for n in range(len(key))])
    lists = ", ".join(f"CAST(%(k{n})s AS text[])" for n in range(len(key)))
    names = ", ".join(f"k{n}" for n in range(len(key)))
    typed = ", ".join(f"CAST(u.k{n} AS {by_name[name].type_name}) AS {quote(name)}" for n, name in enumerate(key))
    texts = ", ".join(f"{by_name[name].canonical('t')} AS k{n}" for n, name in enumerate(key))
    sql = f"SELECT {texts} FROM (SELECT {typed} FROM unnest({lists}) AS u ({names}) OFFSET 0) t"
    with pq.ParquetWriter(target, schema) as writer, database.transaction() as connection:
        for batch in deleting.kept_rows(connection, unit.id):
            values = {f"k{n}": [row[n] for row in batch] for n in range(len(key))}
            writer.write_batch(pa.RecordBatch.from_pylist(ask(connection, sql, **values), schema=schema))


def not_among(kept: KeptFile, key: Sequence[str], keys: Path) -> str:
    """SQL that is true for rows of a file whose key is not in that list."""
    same = " AND ".join(f"x.k{n} = {kept.text(name)}" for n, name in enumerate(key))
    return f"NOT EXISTS (SELECT 1 FROM read_parquet({literal(keys)}) x WHERE {same})"
