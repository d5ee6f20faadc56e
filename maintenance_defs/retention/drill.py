"""The restore drill: can what was quarantined still be given back? (I2; nothing that is in use is touched.)

Of every store that a policy quarantines from: the entry that lies there longest is looked at, and a canary
of our own goes through a real restore, below .maintenance/, and is removed again.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import Entry
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import EnvironmentMissing, MaintenanceError, StoreUnavailable
from maintenance_defs.retention.planning import stores_of
from maintenance_defs.stores.acting import QUARANTINE, ActingStore, Seen, open_acting

CANARY = b"a canary of the restore drill; it may be removed\n"


@dataclass
class Drill:
    """store -> what was found, and what is wrong. An empty `problems` is a pass."""

    found: list[tuple[str, str, str]] = field(default_factory=list)  # store, what, result
    problems: list[str] = field(default_factory=list)

    def add(self, store: str, what: str, problem: str | None, good: str) -> None:
        self.found.append((store, what, problem or good))
        if problem:
            self.problems.append(f"{store}: {what}: {problem}")


def restore_drill(system: System, home: Home, *, name: str | None = None) -> Drill:
    """Look at one quarantined object a store, and restore a canary.

    name: of the canary; a random one where none is given.
    Whatever fails is a problem of the drill, never an exception: an optional store that is not set up is passed over.
    """
    drill = Drill()
    for store in drilled_stores(system):
        try:
            acting = open_acting(store, system.stores[store], home.value)
        except EnvironmentMissing as error:
            if not system.stores[store].may_be_absent:
                drill.add(store, "store", str(error), "")
            continue
        except MaintenanceError as error:
            drill.add(store, "store", str(error), "")
            continue
        entries = home.control.retention.quarantined(system.name, store=store)
        oldest = next((entry for entry in entries if entry.kind == "object"), None)
        if oldest is None:
            drill.found.append((store, "oldest quarantined object", "none is in quarantine"))
        else:
            drill.add(store, f"oldest quarantined object ({oldest.key})", *_look(acting, oldest))
        drill.add(store, "canary", canary_problem(acting, name or uuid.uuid4().hex), "restored and removed again")
    return drill


def drilled_stores(system: System) -> tuple[str, ...]:
    """The stores that some policy quarantines from."""
    named = {s for p in system.retention.values() if p.act.objects == "quarantine" for s in stores_of(system, p)}
    return tuple(store for store in system.stores if store in named)


def _look(acting: ActingStore, entry: Entry) -> tuple[str | None, str]:
    """(What is wrong with the copy, what to say when nothing is)."""
    undo = entry.undo or {}
    if undo.get("kind") != "copy":
        return None, "kept as an older version by the store itself"
    key = str(undo["key"])
    try:
        now = acting.look([key])[key]
    except MaintenanceError as error:
        return str(error), ""
    if now is None:
        return f"its copy {key} is gone, so it cannot be restored", ""
    if isinstance(now, StoreUnavailable):
        return f"the store does not say whether its copy is there ({now.reason})", ""
    if entry.size_bytes is not None and now.size_bytes != entry.size_bytes:
        return f"its copy has {now.size_bytes:,} bytes instead of {entry.size_bytes:,}", ""
    return None, f"its copy is there, {now.size_bytes or 0:,} bytes"


def canary_problem(acting: ActingStore, name: str) -> str | None:
    """Write a copy as a quarantine would, restore it beside, compare, remove. None when all of it worked."""
    key = f"{QUARANTINE}drill/{name}"  # the key that it comes back under is itself below the quarantine
    copy = f"{QUARANTINE}drill/{key}"
    undo = {"kind": "copy", "key": copy, "size_bytes": str(len(CANARY))}
    try:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "canary"
            file.write_bytes(CANARY)
            acting.reading.put_file(copy, file)
        done = acting.restore(key, undo)
        problem = None
        if done.outcome != "restored":
            problem = f"restoring it ended as {done.outcome}: {done.detail or ''}".strip()
        else:
            back = acting.look([key])[key]
            if back is None or isinstance(back, StoreUnavailable) or back.size_bytes != len(CANARY):
                problem = "it was restored, but is not there as it was"
        return _remove(acting, (key, copy)) or problem
    except MaintenanceError as error:
        return str(error)


def _remove(acting: ActingStore, copies: tuple[str, ...]) -> str | None:
    """Purge our own canaries, which lie below the quarantine."""
    for copy in copies:
        now = acting.look([copy])[copy]
        if now is None:
            continue
        if isinstance(now, StoreUnavailable):
            return f"{copy} could not be removed ({now.reason})"
        key = copy.removeprefix(f"{QUARANTINE}drill/")
        seen = Seen(key, now.size_bytes, now.modified_at, now.etag, now.version_id)
        done = acting.purge({"kind": "copy", "key": copy}, seen)
        if done.outcome not in ("purged", "already_absent"):
            return f"{copy} could not be removed: {done.detail or done.outcome}"
    return None
