"""Undoing: objects back under their keys, rows back as they were (I02, I11). It never overwrites anything.

Objects come back before their rows, rows in the reverse order of their going. A conflict is said and
leaves the entry in quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import Entry, Outcome
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError, Refused
from maintenance_defs.databases.acting import ActingDatabase
from maintenance_defs.retention.doors import open_database_for_acting, open_store_for_acting
from maintenance_defs.retention.images import read_image
from maintenance_defs.stores.acting import ActingStore, Done
from maintenance_defs.stores.base import ObjectFacts

PAGE = 500  # entries taken at a time


@dataclass
class Undone:
    """Outcome -> entries, and those of which something else became than was asked for."""

    aim: str = "restored"  # or "purged"
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)  # key or row, why

    def add(self, what: str, done: Done) -> None:
        self.counts[done.outcome] = self.counts.get(done.outcome, 0) + 1
        if done.outcome != self.aim and len(self.problems) < 20:
            self.problems.append((what, done.detail or done.outcome))


def restore(
    system: System,
    home: Home,
    *,
    actor: str,
    reason: str,
    plan_id: str | None = None,
    store: str | None = None,
    key: str | None = None,
    progress: Callable[[int], None] = lambda items: None,
) -> Undone:
    """Give back everything that a plan took, or everything that was taken from under one key.

    Raises Refused when neither is named, or nothing of it is in quarantine.
    """
    if plan_id is None and key is None:
        raise Refused("nothing_named", "name a plan or a key. Nothing was restored.")
    found = list(home.control.retention.quarantined(system.name, plan_id=plan_id, key=key, store=store))
    if not found:
        what = f"plan {plan_id[:8]}" if plan_id else f"{key!r}"
        raise Refused("not_quarantined", f"nothing of {what} is in quarantine or can be undone. Nothing was restored.")
    stores = Doors(system, home)
    undone = Undone()
    for entries in _in_order(found):
        for start in range(0, len(entries), PAGE):
            page = entries[start : start + PAGE]
            _restore(home, stores, page, actor, reason, undone)
            progress(len(page))
    return undone


def restore_object(
    system: System, home: Home, stores: Mapping[str, ActingStore], plan_id: str, store: str, key: str, actor: str,
    reason: str,
) -> Done:  # fmt: skip
    """Give back one object that this plan put away."""
    found = list(home.control.retention.quarantined(system.name, plan_id=plan_id, key=key, store=store))
    if not found:
        return Done(key, "failed", "it is not in quarantine")
    undone = Undone()
    _restore(home, stores, found[-1:], actor, reason, undone)
    if undone.counts.get("restored"):
        return Done(key, "restored")
    return Done(key, "failed", undone.problems[0][1] if undone.problems else None)


class Doors(Mapping[str, ActingStore]):
    """The stores of a system, opened when asked for; and its database."""

    def __init__(self, system: System, home: Home) -> None:
        self._system, self._home = system, home
        self._open: dict[str, ActingStore] = {}

    def __getitem__(self, name: str) -> ActingStore:
        if name not in self._open:
            self._open[name] = open_store_for_acting(self._system, name, self._home)
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._system.stores)

    def __len__(self) -> int:
        return len(self._system.stores)

    def database(self) -> ActingDatabase:
        return open_database_for_acting(self._system, self._home)


def _in_order(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Runs that may be undone together: all objects, then the rows, the last that went first."""
    found = list(entries)
    objects = [entry for entry in found if entry.kind == "object"]
    rows = sorted((e for e in found if e.kind == "row"), key=lambda e: -e.number)
    return [objects, *([row] for row in rows)]


def _restore(
    home: Home, stores: Mapping[str, ActingStore], entries: list[Entry], actor: str, reason: str, undone: Undone
) -> None:
    state = home.control.retention
    for plan_id in dict.fromkeys(entry.plan_id for entry in entries):
        mine = [entry for entry in entries if entry.plan_id == plan_id]
        seqs = state.begin_undo("restore", plan_id, [entry.seq for entry in mine], actor, reason)
        outcomes = []
        for seq, entry in zip(seqs, mine, strict=True):
            try:
                done = _give_back(home, stores, entry)
            except MaintenanceError as error:
                done = Done(entry.key or entry.row_id or "", "failed", str(error))
            outcomes.append(Outcome(seq, done.outcome, done.detail))
            undone.add(entry.key or f"{entry.table} {entry.row_id}", done)
        state.end_undo(plan_id, actor, outcomes)


def _give_back(home: Home, stores: Mapping[str, ActingStore], entry: Entry) -> Done:
    undo = entry.undo or {}
    if entry.kind == "object":
        store = stores[entry.store or ""]
        back = store.restore(entry.key or "", {k: str(v) for k, v in undo.items()})
        gone = back.outcome == "already_absent"
        if (gone or back.outcome == "failed") and entry.state == "restoring" and _is_back(store, entry):
            return Done(entry.key or "", "restored", "by an attempt that was interrupted")
        if gone and home.control.retention.purge_was_begun(entry.plan_id, entry.seq):
            return Done(entry.key or "", "purged", "what was kept is gone: by a purge that died before it could say so")
        return Done(entry.key or "", "failed", back.detail) if gone else back
    if not isinstance(stores, Doors):
        return Done(entry.row_id or "", "failed", "rows are restored by hand: maintain restore")
    before = read_image(home, str(undo["images"]), str(undo["image"]))
    database = stores.database()
    if undo.get("kind") == "row":
        done = database.restore([before])[0]
    else:
        after = read_image(home, str(undo["after_images"]), str(undo["after"])) if "after" in undo else None
        if after is None:
            return Done(entry.row_id or "", "failed", "the row as it was set is not known; compare it by hand")
        done = database.revert([before], [after])[0]
    return Done(entry.row_id or "", done.outcome, done.detail)


def _is_back(store: ActingStore, entry: Entry) -> bool:
    """Whether the very content is under its key, as a dead attempt may have left it; its time may be a new one."""
    key, etag = entry.key or "", entry.evidence.get("etag")
    now = store.look([key])[key]
    if not isinstance(now, ObjectFacts) or now.size_bytes != entry.size_bytes:
        return False
    if etag is not None:
        return bool(now.etag == etag)
    modified_at = entry.evidence.get("modified_at")
    return now.modified_at is not None and bool(modified_at == now.modified_at.isoformat(timespec="microseconds"))
