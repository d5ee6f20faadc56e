"""One streaming query to sorted, hashed Parquet files: the rows of a part in one snapshot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from maintenance_defs.archive.encryption import FileEncryption
from maintenance_defs.archive.rows.columns import Column, described, fields_of
from maintenance_defs.archive.rows.kept import ORGANISATION, TIME_COLUMN
from maintenance_defs.archive.rows.part import ALL, UNKNOWN, Join, Part, check_join, organisation_of, settled, within
from maintenance_defs.archive.rows.writing import Roller, Settings, Written
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import as_literal
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import quote

ROW_GROUP_ROWS = 65_536  # one row group is what a look-up reads at most; larger ones save 3 % of size
BATCH_BYTES = 8 << 20  # of the driver's batches
BATCHES_WAITING = 4  # held while the writer is behind
# The level of each: zstd 1 is smaller here than 3 at 0.7 of its CPU, and 19 gains 12 % at 150 times as much.
CODECS = {"zstd": 1, "gzip": 6, "snappy": None}
HASH = "row_hash"

Exported = Written


def export(
    snapshot: PostgresSnapshot,
    part: Part,
    columns: Sequence[Column],
    scopes: Mapping[str, str],
    folder: Path,
    *,
    sort: Sequence[str] = (),
    codec: str = "zstd",
    level: int | None = None,
    row_group_rows: int = ROW_GROUP_ROWS,
    metadata: Mapping[str, str] | None = None,
    row_ids: Sequence[str] | None = None,
    encryption: Callable[[str], FileEncryption] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Exported]:
    """Write the part's rows to files in `folder`, sorted by organisation and then `sort`, and say what stands in them.

    columns: of read_columns() on the same snapshot.
    scopes: organisation -> label of its files; rows of other organisations are not exported. ALL is the organisation
        of a part without one, UNKNOWN that of rows whose organisation is null or gone.
    sort: columns; text is compared by its bytes. metadata: further facts for the file itself.
    row_ids: the columns of a unique key; each file then gets a sidecar with their texts and each row's hash.
    encryption: gives each new file of a label a key of its own; then nothing is written that is not encrypted but
        the sidecars, which hold ids and hashes.
    progress: called with the rows read so far.
    One label may get several files; a scope without rows gets none. Leaves no file behind when it fails.
    Raises Refused where rows could be multiplied or could not be named, SourceUnavailable when the part cannot be read.
    """
    if codec not in CODECS:
        raise Refused("unknown_codec", f"unknown codec {codec!r}. Known: {', '.join(CODECS)}. Nothing was archived.")
    check_join(snapshot, part)
    columns = settled(part, columns)
    by_name = {column.name: column for column in columns}
    for name in (*sort, *(row_ids or ())):
        if name not in by_name:
            raise Refused("no_such_column", f"{part} has no column {name!r}. Nothing was archived.")
    if not scopes:  # an empty part: no organisation has rows
        return []
    schema = _schema(part, columns, metadata or {})
    ids = None if row_ids is None else pa.schema([*((name, pa.string()) for name in row_ids), (HASH, pa.int64())])
    organisations = sorted(scopes, key=lambda name: (scopes[name].encode(), name.encode()))
    places = {label: place for place, label in enumerate(dict.fromkeys(scopes[name] for name in organisations))}
    label_of = pa.array([places[scopes[name]] for name in organisations], pa.int32())
    sql = _query(part, by_name, organisations, sort, row_ids)
    sorted_by = [name for name in sort if by_name[name].companion is None]
    settings = Settings(
        codec, CODECS[codec] if level is None else level, row_group_rows, part.time_column,
        # What the files are sorted by besides is one value or a place in a list, and no field.
        sorted_by if len(sorted_by) == len(sort) and len(scopes) == 1 else (),
        _with_statistics(columns, schema, sort), encryption=encryption,
    )  # fmt: skip
    kinds = [*schema.types, *(ids.types if ids is not None else ())]
    folder.mkdir(parents=True, exist_ok=True)
    roller = Roller(folder, schema, ids, settings, list(places), organisations)
    try:
        with ThreadPoolExecutor(1, "parquet") as thread:
            waiting: deque[Future[None]] = deque()
            rows = 0
            try:
                for batch in snapshot.stream(sql, batch_bytes=BATCH_BYTES):
                    waiting.append(thread.submit(_take, roller, batch, kinds, label_of))
                    rows += batch.num_rows
                    if progress is not None:
                        progress(rows)
                    if len(waiting) > BATCHES_WAITING:
                        waiting.popleft().result()
                while waiting:
                    waiting.popleft().result()
                return thread.submit(roller.close).result()
            finally:
                for future in waiting:
                    future.cancel()
    except BaseException:  # also when the run is cancelled
        roller.abandon()
        raise


def _take(roller: Roller, batch: pa.RecordBatch, kinds: Sequence[pa.DataType], label_of: pa.Array) -> None:
    columns = batch.columns
    # Each column costs the driver time, so the place of the only organisation is not asked for.
    alone = len(columns) == len(kinds)
    place = pa.repeat(pa.scalar(0, pa.int32()), batch.num_rows) if alone else columns.pop(0)
    arrays = [label_of.take(place), place, *(as_kept(a, kind) for a, kind in zip(columns, kinds, strict=True))]
    roller.take(pa.RecordBatch.from_arrays(arrays, names=[str(n) for n in range(len(arrays))]))


def as_kept(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The driver wraps what it has no own type for (numeric, json) around text."""
    if array.type == kind:
        return array
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    return array if array.type == kind else array.cast(kind)


def _schema(part: Part, columns: Sequence[Column], metadata: Mapping[str, str]) -> pa.Schema:
    fields = fields_of(columns)
    organisation = part.organisation
    if isinstance(organisation, Join):
        found_in = f"{organisation.schema}.{organisation.name}.{organisation.column}"
        fields.append(pa.field(organisation.stored_as, pa.string(), metadata={"maintenance:joined": found_in}))
        organisation = organisation.stored_as
    facts = {ORGANISATION: (organisation or "").encode(), TIME_COLUMN: part.time_column.encode()}
    given = {name.encode(): value.encode() for name, value in metadata.items()}
    return pa.schema(fields, metadata=given | described(columns) | facts)


def _query(
    part: Part,
    columns: Mapping[str, Column],
    organisations: Sequence[str],
    sort: Sequence[str],
    row_ids: Sequence[str] | None,
) -> str:
    """The place of the row's organisation in the list, unless the part has none; the fields; what row_ids adds."""
    organisation, joined = organisation_of(part, tuple(columns.values()))
    selected = [expression for column in columns.values() for expression in column.selected("t")]
    if isinstance(part.organisation, Join):
        selected.append(organisation)
    if row_ids is not None:
        selected += [*(columns[name].text("t") for name in row_ids), "hashtextextended(CAST(t.* AS text), 0)"]
    order = [f"t.{quote(name)}{_bytewise(columns[name])}" for name in sort]
    source, where = f"FROM {part.sql} t{joined}", f"WHERE {within(part, tuple(columns.values()))}"
    if part.organisation is None:
        if list(organisations) != [ALL]:
            raise Refused("no_organisations", f"{part} has no organisations: its rows are all of {ALL!r}.")
    else:
        selected.insert(0, "scope.place")
        order.insert(0, "scope.place")
        places = ", ".join(f"({as_literal(name)}, {place})" for place, name in enumerate(organisations))
        source += f" JOIN (VALUES {places}) AS scope (organisation, place) "
        source += f'ON scope.organisation = coalesce({organisation}, {as_literal(UNKNOWN)}) COLLATE "C"'
    return f"SELECT {', '.join(selected)} {source} {where}" + (f" ORDER BY {', '.join(order)}" if order else "")


def _bytewise(column: Column) -> str:
    """Text by its bytes, as Parquet's statistics compare it."""
    is_text = column.collation is not None or column.builtin in ("text", "varchar", "bpchar", "name")
    return ' COLLATE "C"' if is_text else ""


def _with_statistics(columns: Sequence[Column], schema: pa.Schema, sort: Sequence[str]) -> list[str]:
    """Least and greatest values serve to skip; those of long texts only show what rows say (G105)."""
    texts = (pa.types.is_string, pa.types.is_binary, pa.types.is_nested)
    shown = {column.name for column in columns if not any(test(column.form.arrow) for test in texts)} | set(sort)
    return [name for name in schema.names if name in shown]
