"""Proof before removal: the bytes fetched back hold what the source holds (V1).

Three programs have to agree: PostgreSQL computed the digests of the source, pyarrow wrote the file, DuckDB reads
every value of it again. An equality count would not do: statistics can answer it, and damage in a page stays unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from maintenance_defs.archive.rows.columns import Column, Source
from maintenance_defs.archive.rows.digest import GroupStat, source_groups
from maintenance_defs.archive.rows.export import Exported
from maintenance_defs.archive.rows.kept import read_groups
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.archive.rows.part import Part
from maintenance_defs.archive.rows.writing import Counted, sha256
from maintenance_defs.core.errors import Mismatch

KEPT = "The rows were kept where they are."

Groups = Mapping[str, GroupStat]


@dataclass(frozen=True)
class Proof:
    """One file, read back whole. What it holds is known; whether that is all of the unit, prove() says."""

    sha256: str
    rows: int
    organisations: Groups


def prove_file(unit: str, file: Path, exported: Exported) -> Proof:
    """Read a file that was fetched back and compare it with what was written.

    unit: as people name it, for the message. Raises Mismatch: bytes, schema, page checksums, rows per organisation.
    """
    archive = f"archive of {unit}"
    if not file.is_file():
        raise Mismatch(f"{archive}: its file is not there. {KEPT} Run the archive again.", archived=None)
    found = sha256(file)
    if found != exported.sha256:
        size = file.stat().st_size
        raise Mismatch(
            f"{archive} came back from the store as other bytes: {size:,} with sha256 {found[:16]}…, written were "
            f"{exported.size_bytes:,} with {exported.sha256[:16]}…. {KEPT} Run the archive again.",
            archived=found,
            source=exported.sha256,
        )
    try:
        return _read(archive, file, exported, found)
    except (pa.ArrowException, duckdb.Error, OSError) as error:
        said = str(error).split("\n")[0][:300]
        raise Mismatch(f"{archive} cannot be read: {said}. {KEPT} Run the archive again.") from None


def _read(archive: str, file: Path, exported: Exported, digest: str) -> Proof:
    kept = KeptFile(file, exported.encryption)
    if not kept.schema.equals(exported.schema, check_metadata=True):
        raise Mismatch(f"{archive} has another schema than was written. {KEPT} Run the archive again.")
    rows = sum(batch.num_rows for batch in kept.batches())  # every page, so that every checksum is looked at
    if rows != exported.rows:
        raise Mismatch(
            f"{archive} holds {rows:,} rows, written were {exported.rows:,}. {KEPT} Run the archive again.",
            archived=rows,
            source=exported.rows,
        )
    groups = read_groups(file, encryption=exported.encryption)
    held = {name: Counted(group.rows, group.min_at, group.max_at) for name, group in groups.items()}
    for name in sorted({*held, *exported.organisations}):
        ours, written = held.get(name), exported.organisations.get(name)
        if ours != written:
            raise Mismatch(
                f"{archive}, organisation {name!r}, holds {_shown(ours)}, written were {_shown(written)}. "
                f"{KEPT} Run the archive again.",
                organisation=name,
                archived=ours,
                source=written,
            )
    return Proof(digest, rows, groups)


def _shown(group: Counted | None) -> str:
    return "no rows" if group is None else f"{group.rows:,} rows from {group.min_at} to {group.max_at}"


def total(proofs: Sequence[Proof]) -> dict[str, GroupStat]:
    """The groups of several files together: one organisation may be spread over them."""
    found: dict[str, GroupStat] = {}
    for proof in proofs:
        for name, group in proof.organisations.items():
            found[name] = found[name] + group if name in found else group
    return found


def prove(
    unit: str,
    source: Groups,
    archived: Groups,
    columns: Sequence[Column],
    culprits: Callable[[str], Sequence[str]] | None = None,
) -> None:
    """All of a unit: each organisation's rows in the source are those in its files, none is missing and none too many.

    source: source_groups(), without what was not to be exported. archived: total() of the files' proofs.
    culprits(organisation) names the columns that differ, see differing_columns().
    Raises Mismatch, which names organisation, column and both numbers.
    """
    archive = f"archive of {unit}"
    for name in sorted({*source, *archived}):
        ours, theirs = archived.get(name), source.get(name)
        if ours == theirs:
            continue
        whose = f"{archive}, organisation {name!r},"
        if ours is None or theirs is None or ours.rows != theirs.rows:
            held, there = (ours.rows if ours else 0), (theirs.rows if theirs else 0)
            raise Mismatch(
                f"{whose} holds {held:,} rows, the source {there:,}. {KEPT} Rows arrived late: run the archive again.",
                organisation=name,
                archived=held,
                source=there,
            )
        named = list(culprits(name)) if culprits is not None else []
        column = named[0] if named else None
        for place, known in enumerate(columns):
            if ours.nulls[place] != theirs.nulls[place]:
                raise Mismatch(
                    f"{whose} has {ours.nulls[place]:,} nulls in column {known.name!r}, the source "
                    f"{theirs.nulls[place]:,}, in {ours.rows:,} rows. {KEPT} Run the archive again.",
                    organisation=name,
                    column=known.name,
                    archived=ours.nulls[place],
                    source=theirs.nulls[place],
                )
        where = f" in column {', '.join(map(repr, named))}" if named else ""
        raise Mismatch(
            f"{whose} holds {ours.rows:,} rows as the source does, but with other values{where}: digest "
            f"{ours.hi:016x}{ours.lo:016x}, the source {theirs.hi:016x}{theirs.lo:016x}. {KEPT} Run the archive again.",
            organisation=name,
            column=column,
            archived=(ours.hi, ours.lo),
            source=(theirs.hi, theirs.lo),
        )


def differing_columns(
    source: Source, part: Part, columns: Sequence[Column], files: Sequence[KeptFile], organisation: str
) -> list[str]:
    """The columns whose values differ for one organisation; the source must still show what was archived."""
    found = []
    for column in columns:
        there = source_groups(source, part, columns, only=column.name).get(organisation)
        each = [read_groups(file.path, only=column.name, encryption=file.encryption) for file in files]
        ours = [groups[organisation] for groups in each if organisation in groups]
        if (sum(ours[1:], ours[0]) if ours else None) != there:
            found.append(column.name)
    return found
