"""Do the three agree that know where archived rows are: our catalogue, the store, the application's catalogue?

The store is known by the newest complete inventory of the system, unless a listing is handed in. It changes nothing.
Source: S4-42, S4-53; archive hazards C41, V6, V11.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from maintenance_defs.archive.declared import find_archive
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.units.cataloguing import count_catalogue, named_as
from maintenance_defs.archive.watching.health import Sign
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive, Catalogue
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import count
from maintenance_defs.reconcile.inventory import FILE

TOLD = 5  # problems in words; all are counted
AGREEMENT = {
    "store_agrees": "The store holds every live file of the archive, whole, and nothing that has expired.",
    "catalogue_agrees": "The application's own catalogue names what the archive holds, entry by entry.",
}


def agreement(system: System, name: str, home: Home) -> Iterator[Sign]:
    """All of AGREEMENT. Raises Refused (migration_missing), SourceUnavailable, ArtefactError."""
    archive = find_archive(system, name)
    state = home.control.archive
    known = state.files(system.name, name, states=("stored", "live", "superseded", "expired"))
    below = archive.path.split("{")[0]
    yield together(_store(system, *part, home) for part in by_store(archive, known))
    if archive.catalogue is None:
        yield Sign("catalogue_agrees", numbers={"entries": 0})
        return
    left = {unit.id for unit in state.units(system.name, name) if unit.left_at is not None}
    sizes = state.index_sizes(system.name, name) if archive.lookup is not None else None
    live = [file for file in known if file.state == "live"]
    with archive_database(system, home).snapshot() as snapshot:
        elsewhere = [file.key for file in live if not file.key.startswith(below)]
        named = count_catalogue(snapshot.connection, archive.catalogue, below, elsewhere)
    yield _catalogue(archive.catalogue, live, left, sizes, named)


def by_store(archive: Archive, known: list[FileRow]) -> Iterator[tuple[str, str | None, list[FileRow]]]:
    """(store, the archive's own folder there, files): what was stored before a change of `store` lies where it was."""
    for store in sorted({archive.store, *(file.store for file in known)}):
        below = archive.path.split("{")[0] if store == archive.store else None
        yield store, below, [file for file in known if file.store == store]


def together(signs: Iterable[Sign]) -> Sign:
    """One sign of what several stores say."""
    each = list(signs)
    numbers = dict(each[0].numbers)
    for sign in each[1:]:
        for name, number in sign.numbers.items():
            before = numbers.get(name)
            numbers[name] = before + number if isinstance(before, int) and isinstance(number, int) else number
    problems = tuple(problem for sign in each for problem in sign.problems)
    return Sign(each[0].name, problems, numbers, severe=any(sign.severe for sign in each))


def _store(system: System, store: str, below: str | None, known: list[FileRow], home: Home) -> Sign:
    inventory = home.control.latest(system.name, "inventory", store, verdict="complete")
    if inventory is None or inventory.uri is None:
        what = f"store {store} has not been listed yet, so nothing is known. Run: maintain reconcile {system.name}."
        return Sign("store_agrees", (what,) if known else (), {"files": len(known)}, severe=False)
    path = home.artefacts.local(inventory.uri, inventory.digest) / FILE
    return store_agrees(known, below, _listed(path), inventory.started_at)


def store_agrees(known: list[FileRow], below: str | None, listed: Iterable[Mapping[str, Any]], began: datetime) -> Sign:
    """Do the files of our catalogue and a listing of their store agree?

    known: every file that was ever stored here. below: the archive's own folder, where all is to be known; None where
    it has none here any more. listed: key and size_bytes of objects, in any order, those of other folders too. began:
    when the listing did; what happened later counts for nothing.
    """
    expected = {file.key: file for file in known}
    wrong: list[str] = []
    strangers: list[str] = []
    number = 0
    for row in listed:
        file = expected.pop(row["key"], None)
        if file is None:
            if below is None or not row["key"].startswith(below):
                continue
            number += 1  # what an export stores is announced before
            strangers += [row["key"]] if number <= TOLD else []
        elif file.state == "live" and row["size_bytes"] not in (None, file.size_bytes):
            wrong.append(f"{file.key} has {row['size_bytes']:,} bytes, {file.size_bytes:,} were archived.")
        elif file.state == "expired" and file.object_gone_at is not None and file.object_gone_at < began:
            wrong.append(f"{file.key} has expired and is there again.")
    gone = [file for file in expected.values() if file.state == "live" and file.created_at < began]
    wrong += [f"{file.key} is not there; its rows are in no other place once they left their table." for file in gone]
    problems = [f"{problem} Restore it from a copy of the store, then reconcile." for problem in wrong[:TOLD]]
    if number:
        who = ", ".join(strangers) + (", …" if number > len(strangers) else "")
        problems.append(
            f"{count(number, 'object')} below {below!r} in no catalogue of ours: {who}. Nothing reads them."
        )
    numbers: dict[str, int | float | str] = {
        "files": len(known), "wrong": len(wrong), "strangers": number,
        "listed": f"{began:%Y-%m-%d}",
    }  # fmt: skip
    return Sign("store_agrees", tuple(problems), numbers, severe=bool(wrong))


def _listed(path: Path) -> Iterator[dict[str, Any]]:
    """What the inventory has, a batch at a time."""
    for batch in pq.ParquetFile(path).iter_batches(columns=["key", "size_bytes"]):
        yield from batch.to_pylist()


def _catalogue(
    catalogue: Catalogue, live: list[FileRow], left: set[str], sizes: Mapping[str, int] | None,
    named: Mapping[str, int] | None,
) -> Sign:  # fmt: skip
    """Files of months that left are named by as many entries as values; no entry names what is not live."""
    if named is None:
        return Sign("catalogue_agrees", numbers={"entries": 0})
    rest = dict(named)
    problems = []
    for file in live:
        entries = rest.pop(named_as(catalogue, file.key), 0)
        expected = sizes.get(file.id, 0) if sizes is not None else 1
        if file.unit_id in left and entries != expected:
            problems.append(f"{catalogue.table} names {file.key} {entries:,} times instead of {expected:,}.")
    problems += [f"{catalogue.table} names {where}, which is not in the archive." for where in sorted(rest)]
    told = [f"{problem} Our own catalogue is the truth." for problem in problems]
    return Sign("catalogue_agrees", tuple(told[:TOLD]), {"entries": sum(named.values()), "wrong": len(problems)})
