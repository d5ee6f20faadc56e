"""The plan of an archive: what would leave its table, expire or be dropped, and why the rest stays. Changes nothing.

It is recorded, approved and claimed as the plans of policies are. An item is one span of rows, one detached
partition or one file; its lines say whose rows they are.
Source: S4-43..S4-47, I121; V14; DESIGN 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from maintenance_defs.archive.declared import find_archive
from maintenance_defs.archive.plans.deciding import Lines, Only, decide
from maintenance_defs.archive.plans.recording import Facts, facts_of, lacking_of, record_plan
from maintenance_defs.archive.plans.survey import survey
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System
from maintenance_defs.databases.postgres import PostgresSnapshot


def take_plan(
    system: System,
    name: str,
    home: Home,
    *,
    run_id: str,
    as_of: datetime | None = None,
    only: Only | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> PlanRow:
    """Plan one archive on a fresh snapshot of its database; record the plan.

    as_of: not later than the clocks of this machine and of the database.
    only: plan what leaves the table, or what leaves the archive, so that each gets a consent of its own.
    Returns the plan's row: state 'planned', or 'done' where there is nothing to do.
    Raises Refused (also recorded, as an artefact without files) and whatever reading raises; then there is no plan.
    """
    archive = find_archive(system, name)

    def prepare(snapshot: PostgresSnapshot, at: datetime, _: Path) -> tuple[Lines, Facts]:
        found = survey(snapshot, archive, home.control.retention.holds(system.name), count=only != "expiry")
        lines = decide(system, name, home, replace(found, spans=()) if only == "expiry" else found, at)
        lines = lines.of(only) if only else lines
        facts = facts_of(system, name, archive, home, lines, found.periods, at, undated=found.undated)
        return lines, facts | {"only": only, "source": found.source, "lacking": lacking_of(snapshot, archive)}

    return record_plan(system, name, archive, home, prepare, run_id=run_id, as_of=as_of, clock=clock)
