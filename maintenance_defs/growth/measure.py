"""One measurement of a system: its stores from their recorded listings, its tables from the database."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.cutoff import evaluation_instant, utc_now
from maintenance_defs.core.declaration import System, config_digest
from maintenance_defs.core.errors import AsOfInTheFuture, EnvironmentMissing, Refused, SourceUnavailable
from maintenance_defs.databases import open_database
from maintenance_defs.databases.sizes import database_size
from maintenance_defs.growth.rates import DAY, change, of_same_place
from maintenance_defs.growth.stores import measure_stores
from maintenance_defs.growth.tables import compare_tables, measure_tables

KIND = "growth"


def measure(
    system: System,
    home: Home,
    *,
    run_id: str,
    as_of: datetime | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Artefact:
    """Measure what a system's stores and tables hold, record it, and say how that changed. Changes nothing else.

    as_of: only listings of this instant or earlier count, and rows are new before it; min(this machine's clock, the
        database's) where none is given. A listing, like a measurement, counts at its own instant.
    The artefact has no files; its evidence has `stores` (growth/stores.py), `tables` (growth/tables.py), `database`
    (size_bytes, change) and `window_days`. It is `complete`, or `refused` with one word in `reason` and the sentence in
    evidence["message"] where the database could not be read: its stores are told all the same. Its inputs are the
    listings.
    Raises AsOfInTheFuture, and what our own control database raises.
    Source: S0-2, S0-15, S0-38, S1-42, S3-2, S3-6, S3-9, S4-1, S4-2; hazard K14.
    """
    artefact_id, started_at = uuid.uuid4().hex, clock()
    evidence: dict[str, Any] = {"window_days": system.growth.window / DAY, "database": {}, "tables": []}
    verdict, reason = "complete", None
    at = evaluation_instant(as_of, {"this machine": started_at})
    try:
        database = open_database(home.value(system.database.url_env, f"the database of {system.name}"))
        with database.snapshot() as snapshot:
            at = evaluation_instant(as_of, {"this machine": started_at, "the database": snapshot.evidence.taken_at})
            evidence["identity"] = snapshot.evidence.identity
            evidence["database"] = {
                "display_url": database.display_url,
                "version": snapshot.evidence.version,
                "size_bytes": database_size(snapshot),
                "change": None,
            }
            evidence["tables"] = measure_tables(snapshot, system, at)
        _compare(system, home, at, evidence)
    except AsOfInTheFuture:
        raise
    except EnvironmentMissing as error:
        verdict, reason = "refused", "environment_missing"
        evidence["message"] = str(error)
    except (SourceUnavailable, Refused) as error:
        verdict, reason = "refused", error.reason
        evidence |= {"message": str(error), "transient": error.transient}
    evidence["stores"], inputs = measure_stores(system, home, at)
    artefact = Artefact(
        artefact_id, system.name, KIND, "", run_id, at, started_at, max(clock(), started_at), verdict, reason,
        None, len(evidence["tables"]), 0, None, evidence, config_digest(system), tuple(a.id for a in inputs),
    )  # fmt: skip
    home.control.record(artefact)
    return artefact


def _compare(system: System, home: Home, at: datetime, evidence: dict[str, Any]) -> None:
    """How the database and its tables changed since the earliest measurement of the window that is a day older."""
    found = home.control.complete_between(system.name, KIND, "", at - system.growth.window, at - DAY)
    before = of_same_place(home, found, evidence["identity"])
    if before is None:
        return
    elapsed: timedelta = at - before.as_of
    evidence["database"]["change"] = change(evidence["database"], before.evidence["database"], elapsed)
    compare_tables(evidence["tables"], before.evidence["tables"], elapsed)
