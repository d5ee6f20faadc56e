"""Objects of values whose time is over: no reader sees them any more, then they go, in every version (V6, V11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from maintenance_defs.archive.plans.periods import read_periods
from maintenance_defs.archive.units.cataloguing import entry_id, remove_catalogue
from maintenance_defs.archive.values.judging import HELD
from maintenance_defs.archive.values.survey import due, kept
from maintenance_defs.control.archive import ValueRow, file_id
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import ColumnArchive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.stores.immutable import ImmutableStore, Lock

AT_ONCE = 8  # objects that are asked for or removed

Said = tuple[str, str | None]  # outcome, detail
Opened = Callable[[str], ImmutableStore]  # of a store's name


def expire(
    system: System, name: str, archive: ColumnArchive, home: Home, row_ids: Sequence[str], as_of: datetime,
    database: ArchiveDatabase, opened: Opened,
) -> dict[str, Said]:  # fmt: skip
    """Row id -> outcome. What is due is asked again; the slim value stays in the row.

    opened: the store of a value, which is not always the one that is declared for new ones.

    Raises SourceUnavailable, and StoreUnavailable (transient); the next call goes on where this one ended.
    """
    said: dict[str, Said] = {}
    if not row_ids:
        return said
    state = home.control.archive
    with database.snapshot() as snapshot:
        periods, identity = read_periods(snapshot, archive), snapshot.evidence.identity
    covering = home.control.retention.covering(system.name)
    known = state.values_of(system.name, name, row_ids)
    going: list[ValueRow] = []
    for row_id in row_ids:
        one = known.get(row_id)
        if one is None or one.state == "expired":
            said[row_id] = ("already_absent", None)
        elif one.state not in ("slimmed", "restored", "expiring") or due(one, periods, as_of) is None:
            said[row_id] = ("skipped_kept", "it is not to expire any more")
        elif stay := kept(one, name, archive, identity, covering):
            said[row_id] = ("skipped_held" if stay.why == HELD else "skipped_kept", stay.words)
        else:
            going.append(one)
    stores = {name: opened(name) for name in sorted({one.store for one in going})}
    with ThreadPoolExecutor(AT_ONCE, "expiring") as threads:
        locks = dict(zip(going, threads.map(lambda one: stores[one.store].lock(one.key), going), strict=True))
        said |= {one.row_id: _waits(one, lock) for one, lock in locks.items() if lock is not None}
        going = [one for one in going if locks[one] is None]
        state.mark_values(system.name, name, [one.row_id for one in going], "expiring")
        if archive.catalogue is not None and going:
            ids = [entry_id(file_id(system.name, one.store, one.key), one.row_id) for one in going]
            with database.transaction() as connection:
                remove_catalogue(connection, archive.catalogue, ids)
        gone, silent = _remove(going, stores, threads, said)
    state.mark_values(system.name, name, gone, "expired")
    if silent is not None:
        raise silent
    return said


def _remove(
    going: Sequence[ValueRow], stores: Mapping[str, ImmutableStore], threads: ThreadPoolExecutor, said: dict[str, Said]
) -> tuple[list[str], StoreUnavailable | None]:
    """The rows whose objects are gone; and the error of a store that does not answer, after which nothing is begun."""
    gone: list[str] = []
    silent: StoreUnavailable | None = None
    for one, result in {one: threads.submit(stores[one.store].remove, one.key) for one in going}.items():
        try:
            if silent is not None and result.cancel():
                continue
            found = result.result()
        except StoreUnavailable as error:
            silent = error if error.transient else silent
            said[one.row_id] = ("failed", str(error))
            continue
        if found.lock is not None:  # placed meanwhile
            said[one.row_id] = _waits(one, found.lock)
            continue
        gone.append(one.row_id)
        said[one.row_id] = ("deleted", found.proof)
    return gone, silent


def _waits(one: ValueRow, lock: Lock) -> Said:
    return "skipped_held", f"waits_for_lock: {lock.words()} is on {one.key}"
