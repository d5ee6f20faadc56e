"""Carrying out what was planned for values: stored, proven, slimmed; or expired. Every step can be repeated (V4).

Plan of the value on record -> object put once -> read back and compared -> proof on record -> row slimmed where it is
still the one that was read, catalogue with it -> on record. What is asked of a row is asked again here, on a
snapshot of its own; what a killed run left is seen in the row and in the store.
Source: S4-50, S4-51, S4-53, S4-55, A4-7; hazards F85, C36, C37, G93, G98, G103; V1, V2, V4, V5, V11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.objects import open_archive_store
from maintenance_defs.archive.units.cataloguing import Entry, require_catalogue
from maintenance_defs.archive.values.blobs import load_value, spool, store_value
from maintenance_defs.archive.values.expiring import expire
from maintenance_defs.archive.values.judging import CHECK, HELD, SLIM, Stay, judge
from maintenance_defs.archive.values.slimming import slim
from maintenance_defs.archive.values.source import Row, Source, checked_rows, open_source, place_of, read_rows
from maintenance_defs.control.archive import ValueRow, file_id
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.holds import Covering
from maintenance_defs.core.archive import ColumnArchive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError, ObjectDamaged, Refused, StoreUnavailable
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.stores.immutable import ImmutableStore

GROUP_ROWS, GROUP_BYTES = 500, 32 << 20  # whole values that are held at once
AT_ONCE = 8  # objects on their way


@dataclass(frozen=True)
class ValueDone:
    """What became of one item, in the ledger's words.

    outcome: set (the row is slim), deleted (the object is gone), already_absent, skipped_changed, skipped_held,
        skipped_kept, failed. Where it is none of the first three, the value is where it was.
    """

    row_id: str
    act: str
    outcome: str
    detail: str | None = None


@dataclass(frozen=True)
class Going:
    """A row whose value goes to `key` of `store`. before: what was recorded of it."""

    row: Row
    store: str
    key: str
    before: ValueRow | None

    @property
    def back(self) -> str:
        """The state it has again when its row surely kept its value."""
        state = self.before.state if self.before is not None else "planned"
        return "restored" if state == "slimmed" else state


@dataclass
class Work:
    """One call's doors."""

    system: System
    name: str
    archive: ColumnArchive
    home: Home
    as_of: datetime
    folder: Path
    done: dict[str, ValueDone] = field(default_factory=dict)
    stores: dict[str, ImmutableStore] = field(default_factory=dict)

    @cached_property
    def database(self) -> ArchiveDatabase:
        return archive_database(self.system, self.home, write=True)

    def store(self, name: str) -> ImmutableStore:
        """The declared one, or that which a value was archived into before. Opened once."""
        if name not in self.stores:
            self.stores[name] = open_archive_store(self.system, name, self.home)
        return self.stores[name]

    def note(self, row_id: str, outcome: str, detail: str | None = None) -> None:
        self.done[row_id] = ValueDone(row_id, "archive", outcome, detail)

    def hold(self, one: Going, covering: Covering) -> str | None:
        """The words of a hold on the row or its object."""
        found = covering.hold_on(
            self.name, store=one.store, key=one.key, table=self.archive.table, row_id=one.row.row_id
        )
        return found.words() if found is not None else None

    def mark(self, row_ids: Sequence[str], state: str) -> None:
        self.home.control.archive.mark_values(self.system.name, self.name, row_ids, state)


def carry_out(
    system: System, name: str, archive: ColumnArchive, home: Home, items: pa.RecordBatch, as_of: datetime
) -> list[ValueDone]:
    """Do a batch of a survey's ITEMS; what became of each, in their order. Repeating it does nothing twice.

    Raises Refused("migration_missing") before anything is done, SourceUnavailable and StoreUnavailable (transient)
    when a door does not answer: what was begun then is seen by the next call, and nothing is lost.
    """
    rows = items.to_pylist()
    with spool(home) as folder:
        work = Work(system, name, archive, home, as_of, folder)
        if archive.catalogue is not None:
            with work.database.transaction() as connection:
                require_catalogue(connection, archive.catalogue)
        _settle(work)
        for ids in _groups([row for row in rows if row["act"] == "archive"]):
            _archive(work, ids)
        gone = expire(
            system, name, archive, home, [row["row_id"] for row in rows if row["act"] == "expire"], as_of,
            work.database, work.store,
        )  # fmt: skip
    expired = {row_id: ValueDone(row_id, "expire", *said) for row_id, said in gone.items()}
    return [(expired if row["act"] == "expire" else work.done)[row["row_id"]] for row in rows]


def _groups(rows: Sequence[Mapping[str, int | str]]) -> Iterator[list[str]]:
    """Ids whose values fit into memory together; one alone may be larger."""
    ids: list[str] = []
    size = 0
    for row in rows:
        more = int(row["size_bytes"])
        if ids and (len(ids) == GROUP_ROWS or size + more > GROUP_BYTES):
            yield ids
            ids, size = [], 0
        ids.append(str(row["row_id"]))
        size += more
    if ids:
        yield ids


def _settle(work: Work) -> None:
    """A run that died between its proof and its record: the row tells whether it was slimmed. All such values."""
    state = work.home.control.archive
    for page in state.values(work.system.name, work.name, ("proven",)):
        with work.database.snapshot() as snapshot:
            source = open_source(snapshot, work.system, work.archive, work.home, work.as_of)
            rows = read_rows(snapshot, source, [one.row_id for one in page], whole=False)
            mine = [one for one in page if one.source == snapshot.evidence.identity and one.row_id in rows]
        work.mark([one.row_id for one in mine if rows[one.row_id].digest == one.slim_sha256], "slimmed")


def _archive(work: Work, ids: Sequence[str]) -> None:
    """One group: read, ask again, store, prove, slim, record."""
    system, name, archive = work.system.name, work.name, work.archive
    state = work.home.control.archive
    with work.database.snapshot() as snapshot:  # closed before anything is stored: it would hold back the vacuum
        source = open_source(snapshot, work.system, archive, work.home, work.as_of)
        rows = read_rows(snapshot, source, ids, whole=True)
        checked = checked_rows(snapshot, source, ids)
        identity = snapshot.evidence.identity
    known = state.values_of(system, name, ids)
    covering = work.home.control.retention.covering(system)
    going: dict[str, Going] = {}
    for row_id in ids:
        row, before = rows.get(row_id), known.get(row_id)
        if row is None:
            work.note(row_id, "already_absent", "there is no such row")
            continue
        stay = judge(row, before, archive, identity, work.as_of)
        if stay is None and row_id in checked:
            stay = Stay(CHECK, f"check {checked[row_id]} found it")
        one = Going(row, archive.store, place_of(archive, row_id, row.organisation), before)
        if before is not None and before.state != "planned":
            one = replace(one, store=before.store, key=before.key)  # the very same value, which `judge` saw to
        if stay is None and (hold := work.hold(one, covering)):
            stay = Stay(HELD, hold)
        if stay is None:
            going[row_id] = one
        elif stay.why == SLIM and before is not None and before.state == "slimmed":
            work.note(row_id, "set", "it was done before")
        else:
            work.note(row_id, "skipped_held" if stay.why == HELD else "skipped_kept", stay.words)
    _make_way(work, going)
    new = [_planned(work, one, identity) for one in going.values() if one.back == "planned"]
    state.plan_values(new)
    sizes = _store(work, going)
    state.prove_values(system, name, {i: (sizes[i], one.row.slim_sha256 or "") for i, one in going.items()})
    _slim(work, source, going)


def _planned(work: Work, one: Going, identity: str) -> ValueRow:
    row, now = one.row, datetime.now(UTC)
    return ValueRow(
        work.system.name, work.name, row.row_id, identity, row.organisation, one.store, one.key, row.digest, 0,
        row.size_bytes, row.dated_at, now, now,
    )  # fmt: skip


def _make_way(work: Work, going: dict[str, Going]) -> None:
    """Objects of values that their rows changed before they were slimmed: nothing ever referred to them (F85).

    Only what is exactly what was planned is removed; a row whose key is taken by anything else is left alone.
    """
    for row_id, one in list(going.items()):
        before = one.before
        if before is None or before.state != "planned" or (before.sha256, before.key) == (one.row.digest, one.key):
            continue
        try:
            load_value(work.store(before.store).reading, before, work.folder)
        except ObjectDamaged as error:
            if error.reason != "missing":
                work.note(row_id, "failed", f"{before.key} is taken by something else; the row keeps its value")
                del going[row_id]
            continue
        removed = work.store(before.store).remove(before.key)
        if removed.lock is not None:
            work.note(row_id, "skipped_kept", f"an earlier value lies under its key, with {removed.lock.words()} on it")
            del going[row_id]


def _store(work: Work, going: dict[str, Going]) -> dict[str, int]:
    """Row id -> bytes of its object; rows that failed are noted, and gone from `going`."""

    def store(one: Going, place: ImmutableStore) -> int | MaintenanceError:
        try:
            return store_value(place, one.key, (one.row.text or "").encode(), work.folder)
        except StoreUnavailable as error:
            if error.transient:
                raise
            return error
        except (Refused, ObjectDamaged) as error:
            return error

    with ThreadPoolExecutor(AT_ONCE, "storing") as threads:
        futures = {row_id: threads.submit(store, one, work.store(one.store)) for row_id, one in going.items()}
        try:
            results = {row_id: future.result() for row_id, future in futures.items()}
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    sizes = {}
    for row_id, result in results.items():
        if isinstance(result, int):
            sizes[row_id] = result
        else:
            work.note(row_id, "failed", f"{result} The row keeps its value.")
            del going[row_id]
    return sizes


def _slim(work: Work, source: Source, going: dict[str, Going]) -> None:
    state = work.home.control.archive
    covering = work.home.control.retention.covering(work.system.name)
    for row_id, one in going.items():
        if hold := work.hold(one, covering):  # placed meanwhile
            work.note(row_id, "skipped_held", hold)
    left = [one.row for row_id, one in going.items() if row_id not in work.done]
    proven = state.values_of(work.system.name, work.name, [row.row_id for row in left])
    entries = {row_id: _entry(work, known) for row_id, known in proven.items()}
    found = slim(work.database, source, left, work.archive.catalogue, entries)
    work.mark(sorted(found.done), "slimmed")
    kept: dict[str, list[str]] = {}
    for row_id, one in going.items():
        if row_id in found.done:
            made = found.registered[row_id]
            where = source.registering.table if source.registering is not None else ""
            work.note(row_id, "set", f"{made} rows were written to {where}" if made else None)
            continue
        kept.setdefault(one.back, []).append(row_id)  # it surely has its value
        if row_id in found.failed:
            work.note(row_id, "failed", found.failed[row_id])
        elif row_id not in work.done:
            work.note(
                row_id, "skipped_changed",
                "it changed since it was read, or another session has it locked; it keeps its value",
            )  # fmt: skip
    for back, ids in kept.items():
        work.mark(ids, back)


def _entry(work: Work, known: ValueRow) -> Entry:
    return Entry(
        file_id(work.system.name, known.store, known.key), known.row_id, known.organisation or "", known.key, 1,
        known.size_bytes, known.dated_at, known.dated_at, known.archived_at,
    )  # fmt: skip
