"""One reconciliation from beginning to end: what the command runs, and what a Dagster job does in three steps."""

from __future__ import annotations

import uuid
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from maintenance_defs.reconcile.references import take_references


class Step(Protocol):
    """Told what begins, and how many items it has seen since the last call."""

    def __call__(self, what: str, items: int) -> None: ...


def _silent(what: str, items: int) -> None:
    return None


def reconcile(
    system: System,
    home: Home,
    *,
    folder: Path | None = None,
    as_of: datetime | None = None,
    run_id: str | None = None,
    step: Step = _silent,
) -> Artefact:
    """Inventory of every store, one snapshot of the database, then the diff: in this order (I4).

    as_of: the evaluation instant; the earliest clock that is read where none is given.
    Returns the artefact of the orphan diff. Its verdict says whether a plan may be built on it.
    Raises Busy while another process works on the system (M04), and AsOfInTheFuture; everything else
    that goes wrong is recorded in the artefacts.
    """
    run_id = run_id or uuid.uuid4().hex
    with home.control.alone(system.name):
        for store in system.stores:
            seen = partial(step, f"inventory of {store}")
            seen(0)
            take_inventory(system, store, home, run_id=run_id, as_of=as_of, progress=seen)
        seen = partial(step, "references")
        seen(0)
        take_references(system, home, folder=folder, run_id=run_id, as_of=as_of, progress=seen)
        seen = partial(step, "orphan diff")
        seen(0)
        return take_orphan_diff(system, home, run_id=run_id, progress=seen)  # as of the earliest of its inputs
