"""Files whose time is over: out of readers' sight first, then gone from the store, provably (V8, V11).

A file goes whole, or is written again without the rows that go: where other organisations' time is not over, or a
hold covers single rows. Then readers get the new file, and the old object goes once nobody can still be reading it.
Each step looks at what is true already, so that a killed run is simply run again (V4). What a lock or a hold keeps
is not called expired (G96).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from maintenance_defs.archive.cache import forget
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.holding import Holding, held_rows
from maintenance_defs.archive.objects import open_archive_store
from maintenance_defs.archive.plans.periods import period_of
from maintenance_defs.archive.plans.survey import Survey, survey
from maintenance_defs.archive.units.exporting import Work
from maintenance_defs.archive.units.registering import announce_unit
from maintenance_defs.archive.units.replacing import LEASE_SECONDS, WRITTEN_AGAIN, write_again
from maintenance_defs.control.archive import FileRow, Group, UnitRow
from maintenance_defs.control.archive.files import EXPIRED_ROWS
from maintenance_defs.core.errors import Busy, MaintenanceError, ObjectDamaged, Refused
from maintenance_defs.core.quantities import format_duration
from maintenance_defs.stores.immutable import ImmutableStore

READER_GRACE = timedelta(hours=1)  # the longest anybody reads one file, plus margin
GONE_FROM_TABLE = ("removed", "expired")  # states of a unit whose rows are nowhere but in the archive

Done = tuple[str, str | None]  # an outcome of the ledger, and words
Publish = Callable[[Work, UnitRow], None]  # makes other catalogues say what ours says of a unit; may be repeated


@dataclass
class Swept:
    """What a sweep came to. waiting and failed: (key, why)."""

    gone: list[str] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def expire_file(work: Work, lines: Sequence[Mapping[str, Any]], *, publish: Publish = announce_unit) -> Done:
    """Carry out the lines of one file: the rows of these organisations go, where their time is still over now.

    Outcomes: deleted (whole, and seen to be gone), set (written again without them; the old object goes with a later
    `sweep`), already_absent, skipped_held, skipped_kept (kept longer now, still in the table, waits_for_lock),
    skipped_changed. Raises Refused("another_database") in a fork (G103), Busy, ObjectDamaged, Mismatch,
    StoreUnavailable; what was done is true then, and the same call completes it.
    """
    file = work.home.control.archive.file(lines[0]["file_id"])
    if file is None:
        return "skipped_changed", f"archive file {lines[0]['file_id']} is not in the catalogue any more."
    with _held_unit(work, file) as unit:
        found = _look(work)
        _only_ours(work, unit, found)
        now = work.home.control.archive.file(file.id)
        if now is not None and now.state == "superseded" and (now.ended_why or "").startswith(WRITTEN_AGAIN):
            publish(work, unit)  # a killed run may not have come so far
            return "set", f"{file.key} was {now.ended_why}."
        if now is None or now.state not in ("live", "expired"):
            return "skipped_changed", f"{file.key} is not what readers see any more; plan again."
        store = open_archive_store(work.system, now.store, work.home)
        if now.state == "expired":
            if now.object_gone_at is not None:
                return "already_absent", None
            return _finish(work, unit, now, store, publish)
        if unit.state not in GONE_FROM_TABLE:
            return "skipped_kept", f"rows of {unit.words()} are still in its table or its detached partition."
        return _expire(work, unit, now, store, found, {line["organisation"] for line in lines}, publish)


def _expire(
    work: Work, unit: UnitRow, file: FileRow, store: ImmutableStore, found: Survey, planned: set[str], publish: Publish
) -> Done:
    groups = work.home.control.archive.groups([file.id])
    over = {group.organisation for group in groups if _is_over(work, unit, found, group)}
    due = over & planned
    if not due:
        return "skipped_kept", f"{', '.join(sorted(planned))}: kept longer now than when it was planned."
    holding = Holding(work.home, work.system.name, work.name, work.archive)
    if hold := holding.on_file(file):
        return "skipped_held", hold.words()
    if lock := store.lock(file.key):
        return "skipped_kept", f"waits_for_lock: the store holds {file.key} with {lock.words()}."
    if holding.rows or any(group.organisation not in due for group in groups):
        done = _rewrite(work, unit, file, found, due, holding, publish)
        if done is not None:
            return done
    words = ", ".join(sorted(due))
    work.home.control.archive.end_files([file.id], "expired", f"older than it was to be kept: {words}"[:1000])
    ended = work.home.control.archive.file(file.id)
    return _finish(work, unit, ended or file, store, publish)


def _is_over(work: Work, unit: UnitRow, found: Survey, group: Group) -> bool:
    before = found.periods.expired_before(period_of(unit, work.archive, group.organisation), work.as_of)
    return before is not None and unit.upper <= before


def _finish(work: Work, unit: UnitRow, file: FileRow, store: ImmutableStore, publish: Publish) -> Done:
    """Readers do not see the file any more: tell the other catalogues, remove the object, see that it is gone."""
    publish(work, unit)
    holding = Holding(work.home, work.system.name, work.name, work.archive)
    if hold := holding.on_file(file) or (file.ended_at and holding.placed_since(file.ended_at)):
        return "skipped_held", f"no reader sees {file.key} any more, but its object is kept: {hold.words()}"
    facts = store.reading.head(file.key)
    if facts is not None and facts.size_bytes != file.size_bytes:
        raise ObjectDamaged(
            "other_bytes", file.key,
            f"{file.key} should have expired, but {facts.size_bytes:,} bytes are under its key, stored were "
            f"{file.size_bytes:,}: it is not ours, and was kept. See who writes there, and remove it by hand.",
        )  # fmt: skip
    removed = store.remove(file.key)
    if removed.lock is not None:
        return "skipped_kept", f"waits_for_lock: the store holds {file.key} with {removed.lock.words()}."
    forget(work.home, [file.sha256])
    work.home.control.archive.mark_gone(file.id)
    _end_unit(work, unit)
    return ("deleted" if removed.taken else "already_absent"), f"{file.key}: {removed.proof}"


def _end_unit(work: Work, unit: UnitRow) -> None:
    """Once nothing of a unit is left anywhere, it is expired."""
    state = work.home.control.archive
    states = ("live", "stored", "superseded", "expired")
    files = state.files(work.system.name, work.name, states=states, unit_id=unit.id)
    if unit.state == "removed" and all(file.object_gone_at for file in files):
        state.advance(unit.id, work.owner, "expired")


# -- writing again


def _rewrite(
    work: Work, unit: UnitRow, file: FileRow, found: Survey, due: set[str], holding: Holding, publish: Publish
) -> Done | None:
    """The file without the rows that go, in its place. None where no row stays."""
    gone = write_again(
        work, unit, file, drop=due, why=f"{{n}} {EXPIRED_ROWS}",
        held=lambda kept: held_rows(kept, holding.rows, work.archive.lookup, found.key),
    )  # fmt: skip
    if gone is None:
        return None
    if not gone:
        return "skipped_held", f"holds cover every row of {', '.join(sorted(due))} in {file.key}."
    publish(work, unit)
    return "set", (
        f"{file.key} was {WRITTEN_AGAIN} without {gone:,} {EXPIRED_ROWS}; its old object goes in "
        f"{format_duration(READER_GRACE)}."
    )


# -- what was left over


def sweep(work: Work, *, grace: timedelta = READER_GRACE, publish: Publish = announce_unit) -> Swept:
    """Remove the objects of files that ended: superseded ones after `grace`, expired ones that a kill or a lock left,
    and those of a rewriting that was broken off. One that fails leaves the others to go on."""
    state, swept = work.home.control.archive, Swept()
    left_over = list(_left_over(work))
    found = _look(work) if left_over else None
    for file in left_over:
        try:
            with _held_unit(work, file) as unit:
                _only_ours(work, unit, found)
                now = state.file(file.id)
                if now is None or now.object_gone_at is not None or now.state == "live":
                    continue
                if now.state == "stored":
                    if unit.state in ("planned", "exported", "verified"):
                        continue  # it is on its way to be proven
                    state.end_files([now.id], "superseded", "a rewriting that was broken off")
                    now = state.file(now.id) or now
                elif now.state == "superseded" and now.ended_at and now.ended_at > work.home.control.now() - grace:
                    swept.waiting.append((now.key, f"readers may still read it, for {format_duration(grace)}"))
                    continue
                store = open_archive_store(work.system, now.store, work.home)
                outcome, why = _finish(work, unit, now, store, publish)
            if outcome in ("deleted", "already_absent"):
                swept.gone.append(file.key)
            else:
                swept.waiting.append((file.key, why or outcome))
        except Busy as error:
            swept.waiting.append((file.key, str(error)))
        except MaintenanceError as error:
            swept.failed.append((file.key, str(error)))
    return swept


def _left_over(work: Work) -> Iterator[FileRow]:
    states = ("stored", "superseded", "expired")
    for file in work.home.control.archive.files(work.system.name, work.name, states=states):
        if file.object_gone_at is None:
            yield file


# -- who may


@contextmanager
def _held_unit(work: Work, file: FileRow) -> Iterator[UnitRow]:
    """The file's unit, ours alone: nobody exports, rewrites or removes of it meanwhile. Raises Busy."""
    state = work.home.control.archive
    unit = state.take_unit(file.unit_id, work.owner, LEASE_SECONDS)
    try:
        yield unit
    finally:
        state.leave_unit(unit.id, work.owner, unit.message)


def _look(work: Work) -> Survey:
    """Which database this is, and how long rows are kept, at this moment."""
    with archive_database(work.system, work.home).snapshot() as snapshot:
        return survey(snapshot, work.archive, count=False)


def _only_ours(work: Work, unit: UnitRow, found: Survey | None) -> None:
    """Raises Refused in any other database than the unit's own (G103)."""
    if found is None or found.source != unit.source:
        raise Refused(
            "another_database",
            f"{unit.words()} was archived from another database than {work.system.name} has now (a copy of it, or one "
            f"restored from a backup). Nothing was removed: only the database that archived rows expires them.",
        )
