"""Numbers that `alert_above` looks at, as one artefact recorded them."""

from __future__ import annotations

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.core.declaration import System


def orphans_of(diff: Artefact) -> int | None:
    """Orphan candidates of all stores; None where not everything was compared."""
    if diff.verdict != "complete" or "stores" not in diff.evidence:
        return None
    return sum(int(store.get("counts", {}).get("orphan_candidate", 0)) for store in diff.evidence["stores"].values())


def slow_queries(system: System, references: Artefact) -> list[tuple[str, float]]:
    """(what was asked, seconds) of references, checks and queries that took longer than they may; slowest first."""
    evidence = references.evidence
    asked = [(f"{one['table']}: {one['form']}", one.get("seconds")) for one in evidence.get("sources", ())]
    asked += [(f"check {name}", one.get("seconds")) for name, one in evidence.get("checks", {}).items()]
    asked += [(f"query {name}", one.get("seconds")) for name, one in evidence.get("queries", {}).items()]
    limit = system.alert_above.query.total_seconds()
    slow = [(what, seconds) for what, seconds in asked if seconds is not None and seconds > limit]
    return sorted(slow, key=lambda one: -one[1])
