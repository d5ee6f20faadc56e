"""Which policies are in their first week, from the control database."""

from __future__ import annotations

from datetime import datetime

from maintenance_defs.control.home import Home
from maintenance_defs.core.burn_in import BurnIn, burn_in
from maintenance_defs.core.declaration import System


def burn_ins(system: System, home: Home, now: datetime) -> list[BurnIn]:
    """Every policy of a system. A reconciliation that is not complete validated nothing."""
    diffs = home.control.history(system.name, "orphan_diff")
    validated = max((diff.started_at for diff in diffs if diff.verdict == "complete"), default=None)
    return [
        burn_in(name, *home.control.retention.executed(system.name, name), validated, now) for name in system.retention
    ]
