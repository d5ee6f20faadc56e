"""A file without the rows of some organisations: the same schema, order and settings, and a digest that adds up.

The old file is read by two programs at once: DuckDB says of each row whose it is and whether it is held, pyarrow
copies the rows that stay. What was left out is summed from the old file, what was written from the new one; only
when old = new + left out, for every organisation, is there a result (G87, G93).
An encrypted file is read in memory and its rows are written encrypted again, with a key of their own (V13).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.archive.encryption import FileEncryption
from maintenance_defs.archive.rows.digest import MODULUS, GroupStat
from maintenance_defs.archive.rows.export import CODECS
from maintenance_defs.archive.rows.kept import read_groups, reader
from maintenance_defs.archive.rows.opened import ROW, KeptFile
from maintenance_defs.archive.rows.writing import Roller, Settings, Written
from maintenance_defs.control.archive import Group
from maintenance_defs.core.errors import Mismatch
from maintenance_defs.reconcile.calculator import literal

BATCH_ROWS = 16_384
NO_LIMIT = 1 << 62  # one file stays one file


@dataclass(frozen=True)
class Rewritten:
    """written: the rest; None when nothing is left. left_out: the digest of what is not in it any more."""

    written: Written | None
    left_out: Mapping[str, GroupStat]


def rewrite(
    kept: KeptFile,
    folder: Path,
    *,
    label: str,
    groups: Collection[Group],
    drop: Collection[str],
    held: str = "false",
    level: int | None = None,
    encryption: FileEncryption | None = None,
) -> Rewritten:
    """The file again in `folder`, without the rows of the organisations `drop` that are not held.

    kept: fetched back and compared with its sha256. groups: what the catalogue says it holds.
    held: SQL over the names of KeptFile, see holding.held_rows. level: of the codec; its usual one where None.
    encryption: a fresh key, where the old file has one. Leaves no file behind when it fails.
    Raises Mismatch when old, new and left out do not add up.
    """
    if (kept.encryption is None) != (encryption is None):
        raise ValueError("what was encrypted stays encrypted, with a key of its own")
    listed = ", ".join(literal(name) for name in sorted(drop)) or "NULL"
    left_out = read_groups(
        kept.path, encryption=kept.encryption, where=f"coalesce({kept.owner} IN ({listed}) AND NOT ({held}), false)"
    )
    names = sorted(group.organisation for group in groups)
    folder.mkdir(parents=True, exist_ok=True)
    roller = Roller(folder, kept.schema, None, _settings(kept, level, encryption), [label], names)
    try:
        for batch in _staying(kept, names, list(drop), held):
            roller.take(batch)
        written = _one_file(roller.close())
        stays = read_groups(written.path, encryption=encryption) if written else {}
        _adds_up(groups, stays, left_out, drop)
    except BaseException:
        roller.abandon()
        raise
    return Rewritten(written, left_out)


def _staying(kept: KeptFile, names: list[str], drop: list[str], held: str) -> Iterator[pa.RecordBatch]:
    """Batches as Roller takes them: label, organisation (a place in `names`), fields…"""
    names_array, drop_array = pa.array(names, pa.string()), pa.array(drop, pa.string())
    with reader(kept) as con:
        con.execute("SET preserve_insertion_order = true")
        sql = f"SELECT {ROW}, {kept.owner} AS owner, coalesce({held}, true) AS held " \
              f"FROM {kept.source(con, numbered=True)}"  # fmt: skip
        verdicts = _Verdicts(iter(con.sql(sql).to_arrow_reader(BATCH_ROWS)))
        for batch in kept.batches():
            owner, is_held = verdicts.take(batch.num_rows)
            stays = pc.or_(pc.invert(pc.is_in(owner, drop_array)), is_held)
            place = pc.index_in(owner, names_array)
            if place.null_count:
                raise _not_recorded(kept)
            label = pa.repeat(pa.scalar(0, pa.int32()), batch.num_rows)
            columns = [label, place, *batch.columns]
            table = pa.RecordBatch.from_arrays(columns, names=[str(n) for n in range(len(columns))])
            yield table.filter(stays)
        verdicts.end()


class _Verdicts:
    """DuckDB's rows in pieces of the size asked for; in the order of the file, or an error."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._held: list[pa.RecordBatch] = []
        self._rows = 0
        self._next = 0

    def take(self, rows: int) -> tuple[pa.Array, pa.Array]:
        while self._rows < rows:
            batch = next(self._batches, None)
            if batch is None:
                raise _other_rows()
            counted = pa.array(range(self._next, self._next + batch.num_rows), pa.int64())
            if not batch.column(0).cast(pa.int64()).equals(counted):
                raise _other_rows()
            self._next += batch.num_rows
            self._rows += batch.num_rows
            self._held.append(batch)
        whole = pa.Table.from_batches(self._held).combine_chunks()
        self._held = whole.slice(rows).to_batches()
        self._rows -= rows
        taken = whole.slice(0, rows)
        return _one(taken.column("owner")), _one(taken.column("held"))

    def end(self) -> None:
        if self._rows or next(self._batches, None) is not None:
            raise _other_rows()


def _one(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)


def _settings(kept: KeptFile, level: int | None, encryption: FileEncryption | None) -> Settings:
    """How the old file was written, read from its footer."""
    with kept.open() as parquet:
        whole = parquet.metadata
    first = whole.row_group(0)
    shown = [first.column(n) for n in range(first.num_columns)]
    fields = {field.name for field in kept.schema}
    codec = first.column(0).compression.lower()
    return Settings(
        codec,
        CODECS[codec] if level is None else level,
        max(whole.row_group(n).num_rows for n in range(whole.num_row_groups)),
        kept.time_column,
        [kept.schema.names[one.column_index] for one in first.sorting_columns],
        [one.path_in_schema for one in shown if one.is_stats_set and one.path_in_schema in fields],
        file_bytes=NO_LIMIT,
        encryption=(lambda _: encryption) if encryption is not None else None,
    )


def _one_file(written: Sequence[Written]) -> Written | None:
    if len(written) > 1:
        raise Mismatch(
            "an archive file became several when it was written again. None was kept; the old one is as it was."
        )
    return written[0] if written else None


def _adds_up(
    old: Collection[Group], new: Mapping[str, GroupStat], left_out: Mapping[str, GroupStat], drop: Collection[str]
) -> None:
    """Raises Mismatch unless each organisation's digest is that of what stayed and what was left out."""
    none = GroupStat(0, 0, 0)
    known = {group.organisation: group for group in old}
    for name in sorted({*known, *new, *left_out}):
        was, stays, gone = known.get(name), new.get(name, none), left_out.get(name, none)
        total = (stays.rows + gone.rows, (stays.hi + gone.hi) % MODULUS, (stays.lo + gone.lo) % MODULUS)
        if was is None or total != (was.rows, was.high, was.low) or (gone.rows and name not in drop):
            rows = 0 if was is None else was.rows
            raise Mismatch(
                f"rewriting an archive file: organisation {name!r} had {rows:,} rows, {stays.rows:,} stay and "
                f"{gone.rows:,} were left out, or their digests do not add up. The new file was thrown away and the "
                f"old one is as it was; look at the disk, then run it again.",
                organisation=name,
                archived=total,
                source=None if was is None else (was.rows, was.high, was.low),
            )


def _other_rows() -> Mismatch:
    return Mismatch(
        "two readers of an archive file do not see the same rows. The new file was thrown away and the old one is as "
        "it was; look at the disk, then run it again."
    )


def _not_recorded(kept: KeptFile) -> Mismatch:
    return Mismatch(
        f"{kept.path.name} holds rows of an organisation that the catalogue does not know of it. The new file was "
        f"thrown away and the old one is as it was."
    )
