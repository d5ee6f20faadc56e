"""Damage switches a system's policies off: a declared check that `pauses` and fails (S1-35).

The pause stands until a person resumes it. What they resumed over is not paused for again; new damage is.
"""

from __future__ import annotations

from typing import Any

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import Pause
from maintenance_defs.core.declaration import System

NAMED = 3  # so many damaged rows are named in the reason


def pause_on_damage(system: System, home: Home) -> list[Pause]:
    """Pause the whole system for every failing check that says so, as the newest reconciliation saw it.

    A check that could not be asked pauses nothing: then there is no complete reconciliation to plan on either.
    """
    watching = {name: check for name, check in system.checks.items() if check.pauses}
    if not watching:
        return []
    found: dict[str, dict[str, Any]] = {}
    for kind in ("references", "orphan_diff"):
        artefact = home.control.latest(system.name, kind)
        found |= artefact.evidence.get("checks", {}) if artefact is not None else {}
    pauses = []
    for name, check in watching.items():
        said = found.get(name, {})
        if not said.get("count"):
            continue
        actor, reason = f"check {name}", f"{check.describe} {said['count']:,} rows{_named(check.id, said)}"
        if not home.control.retention.was_resumed(system.name, None, actor, reason):
            pauses.append(home.control.retention.pause(system.name, None, actor, reason))
    return pauses


def _named(id_columns: tuple[str, ...], said: dict[str, Any]) -> str:
    rows = [", ".join(str(row.get(name, "")) for name in id_columns) for row in said.get("sample", ())[:NAMED]]
    rows = [row for row in rows if row]
    return f": {'; '.join(rows)}{' …' if said['count'] > len(rows) else ''}" if rows else ""
