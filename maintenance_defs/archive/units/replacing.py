"""One live file written again without some of its rows; readers get the new one in the same moment."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from maintenance_defs.archive.encryption import decryption_for, encryption_for
from maintenance_defs.archive.objects import announced, content_key, fetch, footer_sha256, open_archive_store, put_once
from maintenance_defs.archive.rows.indexing import read_index, write_index
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.archive.rows.proof import prove_file
from maintenance_defs.archive.rows.rewriting import rewrite
from maintenance_defs.archive.rows.writing import Written
from maintenance_defs.archive.units.exporting import Work, spool
from maintenance_defs.control.archive import FileRow, Group, UnitRow, file_id

LEASE_SECONDS = 900.0  # of one file: fetched, written again, stored, fetched back
WRITTEN_AGAIN = "written again"


def write_again(
    work: Work,
    unit: UnitRow,
    file: FileRow,
    *,
    drop: Collection[str],
    held: Callable[[KeptFile], str],
    why: str,
) -> int | None:
    """The file without the rows of the organisations `drop` that are not held; how many they were.

    held: SQL over the names of KeptFile, true for rows that stay. why: what went, with {n} for how many.
    0: every row stays; None: none would. Nothing was changed in either case. The old object goes with a later sweep.
    """
    state, archive = work.home.control.archive, work.archive
    lookup = unit.evidence.get("lookup", archive.lookup)  # all files of a unit are indexed by one column
    store = open_archive_store(work.system, file.store, work.home)
    with TemporaryDirectory(prefix="rewrite-", dir=spool(work.home)) as name:
        folder = Path(name)
        old = folder / "old.parquet"
        fetch(store.reading, file.key, old, file.sha256, size_bytes=file.size_bytes)
        kept = KeptFile(old, decryption_for(work.home, archive, file))
        fresh = None if kept.encryption is None else encryption_for(
            work.home, work.system.name, work.name, archive, file.label
        )  # fmt: skip
        result = rewrite(
            kept, folder / "new", label=file.label, groups=state.groups([file.id]), drop=drop, held=held(kept),
            level=archive.level, encryption=fresh,
        )  # fmt: skip
        gone = sum(group.rows for group in result.left_out.values())
        if not gone:
            return 0
        if result.written is None:
            return None
        new = _as_row(unit, file, result.written)
        with announced(work.home, new):
            stored = put_once(store, new.key, result.written.path, new.sha256)
        back = folder / "back.parquet"
        fetch(store.reading, new.key, back, new.sha256, size_bytes=new.size_bytes)
        proof = prove_file(unit.words(), back, result.written)
        entries = folder / "index.parquet"
        if lookup is not None:
            write_index(back, lookup, entries, encryption=result.written.encryption)
        state.renew_unit(unit.id, work.owner, LEASE_SECONDS)
        state.replace_file(
            file.id, replace(new, version_id=stored.version_id, created_at=work.home.control.now()),
            [Group(new.id, o, g.rows, g.hi, g.lo, g.min_at, g.max_at) for o, g in proof.organisations.items()],
            read_index([(new.id, entries)] if lookup is not None else []),
            f"{WRITTEN_AGAIN} without {why.format(n=f'{gone:,}')}",
        )  # fmt: skip
    return gone


def _as_row(unit: UnitRow, file: FileRow, written: Written) -> FileRow:
    key = content_key(file.key[: file.key.rindex("/") + 1], unit.part, written.sha256)
    instants = written.organisations.values()
    firsts, lasts = [g.min_at for g in instants], [g.max_at for g in instants]
    used = written.encryption
    return replace(
        file, id=file_id(file.system, file.store, key), key=key, sha256=written.sha256, size_bytes=written.size_bytes,
        footer_sha256=footer_sha256(written.path),
        rows=written.rows, first_at=None if None in firsts else min(f for f in firsts if f),
        last_at=None if None in lasts else max(x for x in lasts if x), row_groups=written.row_groups, state="stored",
        version_id=None, key_id=used.key_id if used else None, wrapped_key=used.wrapped if used else None,
    )  # fmt: skip
